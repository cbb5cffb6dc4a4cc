"""Tokens for one vendor: made by us alone, good there alone, and not for long."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.apikeys import key_id_of
from gateway.core.vendor_tokens import MAX_CHARS, MAX_LIVES_S, PREFIX, Claims, VendorTokens, is_email
from wallets.secret import Secret

NOW_MS = 1_800_000_000_000
TOKENS = VendorTokens(Secret(b"\x31" * 32))

key_ids = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
vendors = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,31}\Z")
emails = st.just("") | st.from_regex(
    r"\A[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]{1,60}(\.[A-Za-z0-9]{1,60}){0,2}\Z"
)


def _made(vendor: str = "cloud", lives_s: int = 900) -> str:
    return TOKENS.make("key_01", vendor, "agent@example.com", NOW_MS, lives_s)


@given(
    key_id=key_ids,
    vendor=vendors,
    email=emails,
    lives_s=st.integers(1, MAX_LIVES_S),
    issued_ms=st.integers(0, 2**62),
)
def test_what_was_made_is_read(key_id: str, vendor: str, email: str, lives_s: int, issued_ms: int) -> None:
    """Whatever a token says comes back to the last millisecond of its life, and its text is bounded and visible ASCII."""
    text = TOKENS.make(key_id, vendor, email, issued_ms, lives_s)
    ends_ms = issued_ms + lives_s * 1000
    assert TOKENS.read(text, vendor, ends_ms - 1) == Claims(key_id, email, ends_ms)
    assert TOKENS.read(text, vendor, ends_ms) is None
    assert text.startswith(PREFIX)
    assert len(text) <= MAX_CHARS
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text


@given(data=st.data())
def test_no_other_text_is_a_token(data: st.DataObject) -> None:
    """One changed, missing or added character, anywhere, and a token is nothing: the spelling of its last bits included."""
    text = _made()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda c: c != text[at]))
    for changed in (text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]):
        assert TOKENS.read(changed, "cloud", NOW_MS) is None


def test_every_bit_is_sealed() -> None:
    """No bit of what a token says, and none of its seal, can be another."""
    raw = base64.urlsafe_b64decode(_made()[len(PREFIX) :] + "==")
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        text = PREFIX + base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode()
        assert TOKENS.read(text, "cloud", NOW_MS) is None


@given(one=vendors, other=vendors)
def test_token_is_nothing_at_another_vendor(one: str, other: str) -> None:
    """A token that was made for one vendor opens that one alone."""
    assert (TOKENS.read(_made(one), other, NOW_MS) is not None) == (one == other)


def test_vendor_and_content_do_not_run_into_each_other() -> None:
    """Moving the border between the vendor's name and what follows makes another token."""
    raw = base64.urlsafe_b64decode(_made("cloud")[len(PREFIX) :] + "==")
    moved = PREFIX + base64.urlsafe_b64encode(b"d" + raw).rstrip(b"=").decode()
    assert TOKENS.read(moved, "clou", NOW_MS) is None


def test_token_of_another_key_is_nothing() -> None:
    """Whoever does not have our key cannot make one."""
    forged = VendorTokens(Secret(b"\x32" * 32)).make("key_01", "cloud", "", NOW_MS, 900)
    assert TOKENS.read(forged, "cloud", NOW_MS) is None


@pytest.mark.parametrize(
    "text",
    ["", PREFIX, PREFIX + "A", PREFIX + "A" * 43, PREFIX + "A" * MAX_CHARS, "gk_key_01_" + "A" * 43, PREFIX + "é" * 60],
)
def test_any_other_text_is_no_token(text: str) -> None:
    """Short, long and foreign texts are read as nothing, without an error."""
    assert TOKENS.read(text, "cloud", NOW_MS) is None


def test_newline_at_the_end_is_no_token() -> None:
    """The grammar covers the whole text."""
    assert TOKENS.read(_made() + "\n", "cloud", NOW_MS) is None


def test_token_is_no_api_key_and_holds_none() -> None:
    """A token does not have the grammar of a key, and shows neither a digest nor a secret: an id, an address, a date."""
    text = _made()
    assert key_id_of(text) is None
    raw = base64.urlsafe_b64decode(text[len(PREFIX) :] + "==")
    assert raw[10:-32] == b"key_01agent@example.com"


@pytest.mark.parametrize(
    ("key_id", "vendor", "email", "issued_ms", "lives_s"),
    [
        ("", "cloud", "", NOW_MS, 900),
        ("key 1", "cloud", "", NOW_MS, 900),
        ("k" * 65, "cloud", "", NOW_MS, 900),
        ("key_01", "", "", NOW_MS, 900),
        ("key_01", "Cloud", "", NOW_MS, 900),
        ("key_01", "cloud", "nobody", NOW_MS, 900),
        ("key_01", "cloud", "a@b\n", NOW_MS, 900),
        ("key_01", "cloud", "", NOW_MS, 0),
        ("key_01", "cloud", "", NOW_MS, -1),
        ("key_01", "cloud", "", NOW_MS, MAX_LIVES_S + 1),
        ("key_01", "cloud", "", -1, 900),
        ("key_01", "cloud", "", 2**63, 900),
    ],
)
def test_what_would_not_be_read_back_is_never_made(
    key_id: str, vendor: str, email: str, issued_ms: int, lives_s: int
) -> None:
    """An id, a vendor, an address or a life outside of the grammar never becomes a token."""
    with pytest.raises(ValueError, match=r"token|address"):
        TOKENS.make(key_id, vendor, email, issued_ms, lives_s)


def test_short_key_seals_nothing() -> None:
    """Fewer than 32 bytes are no key."""
    with pytest.raises(ValueError, match="32 bytes"):
        VendorTokens(Secret(b"\x01" * 31))


@pytest.mark.parametrize("text", ["agent@example.com", "a+b@x", "o'hara_1@mail.example.co", "a" * 64 + "@x.example"])
def test_addresses_are_taken(text: str) -> None:
    """Plain addresses are addresses."""
    assert is_email(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "agent",
        "@example.com",
        "agent@",
        "a@b@c",
        "a b@example.com",
        "a@-x.example",
        "a@x..example",
        "a@x.example\n",
        "ä@example.com",
        "a@exämple.com",
        '"<script>"@x.example',
        "a" * 65 + "@x.example",
        "a@" + "x" * 253,
        "a@x\x00",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Control characters, markup, other alphabets and long texts never become part of a token."""
    assert not is_email(text)


def test_nothing_is_shown_of_key_or_address() -> None:
    """P10: neither our key nor an agent's address stands in a repr."""
    claims = TOKENS.read(_made(), "cloud", NOW_MS)
    assert "example.com" not in repr(claims)
    assert repr(TOKENS._key) == "<secret>"
