"""API keys: their text, their digest, their scopes."""

from dataclasses import replace
from hashlib import sha256

import pytest

from gateway.core.apikeys import (
    SETTLE,
    SPEND,
    ScopeError,
    allows,
    check_scopes,
    digest_of,
    key_id_of,
    make_text,
    new_budget,
    new_key,
    stands_for,
    within,
)
from gateway.core.records import Budget
from tests.factories import make_key


def _chance(count: int) -> bytes:
    return bytes(range(count))


def test_text_is_id_and_secret_and_only_its_digest_is_kept() -> None:
    """A key reads gk_<id>_<43 characters>, and the record holds the SHA-256 of all of it, nothing else."""
    made = new_key("acc_1", "mine", ["read", "proxy", "read"], (), 1_800_000_000_000, _chance)
    text = made.text.reveal()
    assert text == f"gk_{made.key.id}_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert made.key.digest == sha256(text.encode()).digest() == digest_of(text)
    assert made.key.scopes == ("proxy", "read")
    assert text not in repr(made)


@pytest.mark.parametrize("secret", [b"\xff" * 32, b"\xfb" * 32, bytes(32)])
def test_id_is_found_whatever_the_secret_holds(secret: bytes) -> None:
    """Underscores and dashes of base64url do not blur where the id ends."""
    assert key_id_of(make_text("key_01", secret).reveal()) == "key_01"


@pytest.mark.parametrize("secret", [b"", b"\x01" * 31, b"\x01" * 33])
def test_secret_of_another_length_is_refused(secret: bytes) -> None:
    """A short secret never becomes a key."""
    with pytest.raises(ValueError, match="32 random bytes"):
        make_text("key_01", secret)


def test_id_that_would_not_be_read_back_is_refused() -> None:
    """An id with a blank never becomes a key."""
    with pytest.raises(ValueError, match="letters, digits"):
        make_text("key 1", bytes(32))


@pytest.mark.parametrize("text", ["", "gk_", "gk_a_b", "sk_key_" + "A" * 43, "gk_key_" + "A" * 42, "gk_ké_" + "A" * 43])
def test_other_texts_are_no_keys(text: str) -> None:
    """What does not have the grammar is no key, and is not hashed."""
    assert key_id_of(text) is None


def test_trailing_newline_is_no_key() -> None:
    """The grammar covers the whole text."""
    assert key_id_of(make_text("key_01", bytes(32)).reveal() + "\n") is None


@pytest.mark.parametrize("scopes", [[], ["spend"], ["proxy:"], ["proxy:UP"], ["proxy:a b"], ["proxy:*"], ["settle:x"]])
def test_scopes_that_do_not_exist_are_refused(scopes: list[str]) -> None:
    """No scope at all, and any unknown one, is an error."""
    with pytest.raises(ScopeError):
        check_scopes(scopes)


def test_proxy_includes_each_vendor_and_not_the_reverse() -> None:
    """A key for one vendor is not a key for all."""
    assert allows(["proxy"], "proxy:vpsagent")
    assert allows(["proxy:vpsagent"], "proxy:vpsagent")
    assert not allows(["proxy:vpsagent"], "proxy")
    assert not allows(["proxy:vpsagent"], "proxy:other")
    assert not allows(["proxy", "read"], "keys")


def test_only_the_scope_itself_lets_a_key_settle() -> None:
    """Collecting others' payments costs the house gas: neither a key that spends nor one that makes keys may do it."""
    assert check_scopes(["settle", "read"]) == ("read", "settle")
    assert allows(["settle"], SETTLE)
    assert not allows(["proxy", "read", "keys"], SETTLE)
    assert not any(allows(["settle"], other) for other in ("proxy", "proxy:a", "read", "keys", SPEND))
    assert not within(["settle"], ["proxy", "read", "keys"])


def test_within_is_about_every_scope() -> None:
    """Rights are narrower only if each of them is held."""
    assert within(["proxy:a", "read"], ["proxy", "read"])
    assert not within(["proxy:a", "keys"], ["proxy", "read"])


def test_a_key_stands_for_another_only_with_as_much_and_without_bounds_of_its_own() -> None:
    """What a key has ordered spends with that key: a narrower one must not reach through it."""
    ordering = make_key(1, scopes=("proxy:a", "read"))
    assert stands_for(ordering, ordering)
    assert stands_for(make_key(2, scopes=("proxy", "read")), ordering)
    assert not stands_for(make_key(2, scopes=("proxy:b", "read")), ordering)
    bounded = make_key(2, scopes=("proxy", "read"), budgets=(Budget("bud_1", 1, 60),))
    assert not stands_for(bounded, ordering)
    assert stands_for(replace(bounded, id="key_1"), ordering)
    assert not stands_for(make_key(2, scopes=("proxy", "read"), account_id="acc_2"), ordering)
    assert not stands_for(make_key(2), None)


def test_budget_has_an_id_of_its_own() -> None:
    """Two budgets never share a window by accident."""
    one = new_budget(5, 60, 1, lambda n: bytes(n), vendor=None, route=None)
    two = new_budget(5, 60, 2, lambda n: bytes(n), vendor="a", route="b")
    assert one.id != two.id
    assert (two.limit_base, two.window_s, two.vendor, two.route) == (5, 60, "a", "b")
