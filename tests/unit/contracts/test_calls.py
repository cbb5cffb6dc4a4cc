"""Call data equals eth-abi's; answers are read exactly or refused."""

import json
from pathlib import Path

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from contracts import calls
from contracts.calls import CallError
from contracts.codec import Address, ContractError, to_hex
from contracts.eip3009 import Authorization
from contracts.tokens import BASE_USDC

_FOLDER = Path(__file__).parents[2] / "vectors/contracts"
VECTORS = json.loads((_FOLDER / "eip3009.json").read_text())
TEMPO = json.loads((_FOLDER / "tempo.json").read_text())
PAYER, PAYEE = Address(b"\x11" * 20), Address(b"\x22" * 20)
AUTH = Authorization(BASE_USDC, PAYER, PAYEE, 7, 1, 2**40, b"\x05" * 32)
WORDS = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]
VALUES = [PAYER, PAYEE, 7, 1, 2**40, b"\x05" * 32]


@pytest.mark.parametrize(("name", "value"), [*VECTORS["selectors"].items(), *TEMPO["selectors"].items()])
def test_selectors_are_pinned(name: str, value: str) -> None:
    """Each selector is the one of Circle's contract, or of TIP-20."""
    assert to_hex(getattr(calls, name)) == value


@given(st.binary(min_size=65, max_size=65))
def test_vrs_overloads_equal_eth_abi(signature: bytes) -> None:
    """The signature is split as v, r, s in that order."""
    split = [signature[64], signature[:32], signature[32:64]]
    assert calls.encode_transfer_vrs(AUTH, signature) == calls.TRANSFER_VRS + encode(
        [*WORDS, "uint8", "bytes32", "bytes32"], [*VALUES, *split]
    )


@given(st.binary(max_size=200))
def test_bytes_overloads_equal_eth_abi(signature: bytes) -> None:
    """A signature of any length is a padded tail."""
    assert calls.encode_transfer_bytes(AUTH, signature) == calls.TRANSFER_BYTES + encode(
        [*WORDS, "bytes"], [*VALUES, signature]
    )


def test_plain_transfers_equal_eth_abi() -> None:
    """Payee, value and memo are one word each; a memo of another length is refused."""
    assert calls.encode_transfer(PAYEE, 2**128) == calls.TRANSFER + encode(["address", "uint256"], [PAYEE, 2**128])
    assert calls.encode_transfer_with_memo(PAYEE, 7, AUTH.nonce) == calls.TRANSFER_WITH_MEMO + encode(
        ["address", "uint256", "bytes32"], [PAYEE, 7, AUTH.nonce]
    )
    with pytest.raises(ContractError, match="memo"):
        calls.encode_transfer_with_memo(PAYEE, 7, b"")


def test_reads_equal_eth_abi() -> None:
    """The view calls carry their arguments as words."""
    assert calls.encode_authorization_state(PAYER, AUTH.nonce) == calls.AUTHORIZATION_STATE + encode(
        ["address", "bytes32"], [PAYER, AUTH.nonce]
    )
    assert calls.encode_balance_of(PAYER) == calls.BALANCE_OF + encode(["address"], [PAYER])
    assert calls.encode_is_blacklisted(PAYER) == calls.IS_BLACKLISTED + encode(["address"], [PAYER])
    assert (calls.encode_name(), calls.encode_version()) == (calls.NAME, calls.VERSION)
    assert calls.encode_domain_separator() == calls.DOMAIN_SEPARATOR
    assert (calls.encode_decimals(), calls.encode_paused()) == (calls.DECIMALS, calls.PAUSED)


@pytest.mark.parametrize("signature", [b"", b"\1" * 64, b"\1" * 66])
def test_vrs_needs_65_bytes(signature: bytes) -> None:
    """Another length cannot be split."""
    with pytest.raises(ContractError, match="signature"):
        calls.encode_transfer_vrs(AUTH, signature)


def test_signatures_have_a_limit() -> None:
    """Call data from outside stays bounded."""
    with pytest.raises(CallError):
        calls.encode_transfer_bytes(AUTH, bytes(calls.SIGNATURE_MAX_BYTES + 1))


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_reads_uints(number: int) -> None:
    """A word is its number."""
    assert calls.decode_uint(encode(["uint256"], [number])) == number


@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_reads_strings(text: str) -> None:
    """A string reads back as eth-abi wrote it."""
    assert calls.decode_string(encode(["string"], [text])) == text


def test_reads_bools() -> None:
    """Zero is false and one is true."""
    assert calls.decode_bool(bytes(32)) is False
    assert calls.decode_bool(bytes(31) + b"\1") is True


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33), bytes(64), bytes(31) + b"\2", b"\1" + bytes(31)])
def test_refuses_what_is_no_bool(data: bytes) -> None:
    """An empty answer (no contract there) is not false, and two is not true."""
    with pytest.raises(CallError):
        calls.decode_bool(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(32),
        encode(["string"], ["USDC"])[:-1],
        encode(["string"], ["USDC"]) + bytes(32),
        encode(["string"], ["USDC"])[:-1] + b"\1",
        encode(["bytes"], [b"\xff\xfe"]),
        (64).to_bytes(32, "big") + encode(["string"], ["USDC"])[32:],
        (32).to_bytes(32, "big") + (2**255).to_bytes(32, "big"),
        encode(["string"], ["x" * 1025]),
        b"USDC".ljust(32, b"\0"),
    ],
)
def test_refuses_loose_strings(data: bytes) -> None:
    """Cut, trailed, badly padded, over-long, non-UTF-8 and bytes32 strings are refused."""
    with pytest.raises(CallError):
        calls.decode_string(data)
