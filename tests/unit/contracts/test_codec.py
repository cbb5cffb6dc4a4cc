"""Grammars of text: what is read, and everything that Python would read and we do not."""

import pytest
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import (
    Address,
    CodecError,
    checksum,
    parse_address,
    parse_bytes32,
    parse_hex,
    parse_quantity,
    parse_uint,
    to_hex,
)

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


@pytest.mark.parametrize("text", ["0", "1", "10", "999", str(2**256 - 1)])
def test_reads_plain_decimals(text: str) -> None:
    """A plain decimal up to 2^256-1 is its number."""
    assert parse_uint(text) == int(text)


@pytest.mark.parametrize(
    "text",
    ["", " 10", "10 ", "10\n", "+10", "-1", "1_0", "010", "00", "1.0", "1e3", "0x10", "\uff11\uff10", "\u0663", "10\0"],
)
def test_refuses_what_python_would_read(text: str) -> None:
    """Signs, blanks, underscores, leading zeros, exponents and foreign digits are not amounts."""
    with pytest.raises(CodecError, match="amount"):
        parse_uint(text, field="amount")


@pytest.mark.parametrize("value", [10, 10.0, True, None, b"10", ["10"]])
def test_refuses_what_is_not_text(value: object) -> None:
    """A JSON number, boolean or list never becomes an amount."""
    with pytest.raises(CodecError, match="expected text"):
        parse_uint(value)


@pytest.mark.parametrize("text", [str(2**256), "9" * 78, "1" * 79, "9" * 5000])
def test_refuses_numbers_beyond_uint256(text: str) -> None:
    """Seventy-eight nines fit the grammar and not the type; longer text is refused before int() sees it."""
    with pytest.raises(CodecError):
        parse_uint(text)


def test_honours_narrower_types() -> None:
    """The bit width is the bound."""
    assert parse_uint("255", bits=8) == 255
    with pytest.raises(CodecError, match="uint8"):
        parse_uint("256", bits=8)


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_decimal_and_quantity_round_trip(number: int) -> None:
    """Both notations of any uint256 read back as the number."""
    assert parse_uint(str(number)) == number
    assert parse_quantity(hex(number)) == number


@pytest.mark.parametrize("text", ["", "0x", "0x00", "0x01", "1", "0X1", "0x1 ", "0x-1", "0x" + "f" * 65, 1, None])
def test_refuses_loose_quantities(text: object) -> None:
    """A JSON-RPC quantity has no leading zeros and is text."""
    with pytest.raises(CodecError):
        parse_quantity(text)


@given(st.binary(min_size=20, max_size=20))
def test_checksum_agrees_with_eth_utils(raw: bytes) -> None:
    """EIP-55 as eth-utils writes it, and every honest spelling reads back."""
    text = checksum(Address(raw))
    assert text == to_checksum_address(raw)
    assert parse_address(text) == parse_address(text.lower()) == parse_address("0x" + text[2:].upper()) == raw


def test_refuses_a_wrong_checksum() -> None:
    """One letter in the wrong case is a typing error that costs money."""
    with pytest.raises(CodecError, match="payTo: mixed-case"):
        parse_address(USDC.replace("f", "F", 1), "payTo")


@pytest.mark.parametrize(
    "text", ["", USDC[2:], USDC[:-1], USDC + "0", " " + USDC, USDC + "\n", "0X" + USDC[2:], None, 5]
)
def test_refuses_what_is_no_address(text: object) -> None:
    """Length, prefix and surroundings are exact."""
    with pytest.raises(CodecError):
        parse_address(text)


@given(st.binary(max_size=64))
def test_hex_round_trip(raw: bytes) -> None:
    """Bytes survive the trip through hex."""
    assert parse_hex(to_hex(raw), 64) == raw


@pytest.mark.parametrize("text", ["", "00", "0x0", "0x0g", "0x 00", "0x00 ", "0x00\n", "0x" + "00" * 5])
def test_refuses_loose_hex(text: str) -> None:
    """Odd digits, blanks and anything over the limit are refused."""
    with pytest.raises(CodecError):
        parse_hex(text, 4)


@pytest.mark.parametrize("text", ["0x" + "00" * 31, "0x" + "00" * 33, "0x"])
def test_bytes32_has_one_length(text: str) -> None:
    """A nonce or hash is 32 bytes."""
    with pytest.raises(CodecError):
        parse_bytes32(text)


def test_errors_do_not_repeat_the_input() -> None:
    """Text from outside does not reach logs through an error."""
    with pytest.raises(CodecError) as caught:
        parse_uint("hunter2")
    assert "hunter2" not in str(caught.value)
