"""Surrogates: the vendor's shape, another value, the same one each time."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.vendors.surrogate import digest, make_surrogate
from wallets.secret import Secret

KEY = Secret(b"k" * 32)
OTHER_KEY = Secret(b"o" * 32)


def shape(text: str) -> str:
    """The class of each character."""
    return "".join(
        "9" if c in "0123456789" else "a" if "a" <= c <= "z" else "A" if "A" <= c <= "Z" else c for c in text
    )


@given(st.text(min_size=1).filter(lambda text: re.search(r"[0-9A-Za-z]", text)))
def test_a_surrogate_differs_from_what_it_stands_for(real: str) -> None:
    """Of any credential that has a letter or digit: same length, same separators, never the same text."""
    surrogate = make_surrogate(KEY, "vpsagent", real)
    assert surrogate != real
    assert len(surrogate) == len(real)
    for mine, theirs in zip(surrogate, real, strict=True):
        assert mine == theirs or (theirs.isascii() and theirs.isalnum() and mine.isascii() and mine.isalnum())


@given(
    st.from_regex(r"[A-Za-z0-9_.~-]{8,64}", fullmatch=True).filter(
        lambda t: not re.fullmatch(r"[0-9a-f_.~-]*|[0-9A-F_.~-]*", t)
    )
)
def test_each_character_keeps_its_class(real: str) -> None:
    """Digits, lower and upper case and separators stand where they stood."""
    assert shape(make_surrogate(KEY, "vpsagent", real)) == shape(real)


@pytest.mark.parametrize(
    ("real", "grammar"),
    [
        ("0f" * 32, r"[0-9a-f]{64}"),
        ("0F" * 32, r"[0-9A-F]{64}"),
        ("1234567890", r"[0-9]{10}"),
        (str(uuid.UUID(int=2**127 + 0xABC)), r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        ("7", r"[0-9]"),
        ("a", r"[0-9a-f]"),
        ("z", r"[a-z]"),
    ],
)
def test_hex_stays_hex_and_digits_stay_digits(real: str, grammar: str) -> None:
    """What the vendor's format is, the surrogate's is too; even one character differs from its own."""
    for vendor in map(str, range(64)):  # enough for the rare draw that equals the real one
        surrogate = make_surrogate(KEY, vendor, real)
        assert re.fullmatch(grammar, surrogate, re.ASCII)
        assert surrogate != real


def test_the_same_three_give_the_same_surrogate() -> None:
    """A repeated answer carries the same one: pinned, because stored digests depend on it."""
    assert make_surrogate(KEY, "vpsagent", "tok_Abc123-xyz") == make_surrogate(KEY, "vpsagent", "tok_Abc123-xyz")
    assert make_surrogate(KEY, "vpsagent", "tok_Abc123-xyz") == "uto_Csc092-ydj"


def test_key_vendor_and_credential_each_change_it() -> None:
    """Another key, vendor or credential gives an unrelated surrogate."""
    real = "0123456789abcdef" * 4
    all_of_them = {
        make_surrogate(KEY, "vpsagent", real),
        make_surrogate(OTHER_KEY, "vpsagent", real),
        make_surrogate(KEY, "other", real),
        make_surrogate(KEY, "vpsagent", real[:-1] + "e"),
        make_surrogate(KEY, "vpsagent0", real[1:] + "f"),
    }
    assert len(all_of_them) == 5


@pytest.mark.parametrize("real", ["", "----", "…", "\u0660\u0661"])
def test_what_cannot_vary_is_refused(real: str) -> None:
    """A surrogate equal to the credential would hand it out; digits of other scripts count as separators."""
    with pytest.raises(ValueError, match="no surrogate"):
        make_surrogate(KEY, "vpsagent", real)


def test_a_short_key_is_refused() -> None:
    """Fewer than 32 bytes could be guessed."""
    with pytest.raises(ValueError, match="less than 32 bytes"):
        make_surrogate(Secret(b"k" * 31), "vpsagent", "abc")


def test_lone_surrogate_code_points_do_not_raise() -> None:
    """JSON can carry half of a UTF-16 pair; it is a separator like any other."""
    assert make_surrogate(KEY, "vpsagent", "\ud800a\ud800")[0] == "\ud800"


def test_the_digest_is_for_lookup() -> None:
    """32 bytes, stable, different for different surrogates, and not the plain hash of the text."""
    assert len(digest("abc")) == 32
    assert digest("abc") == digest("abc") != digest("abd")
    assert digest("abc").hex() == "bb1018478d0248d919fa12a4923aea737b7055d4a25a2f6ed33b0224b2407e1d"
