"""A payer's Tempo transaction is read back as it was meant, in one spelling, and nothing slips through in it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import Address, ContractError, parse_address, parse_bytes32, to_hex
from contracts.keccak import keccak256
from contracts.signature import ORDER, address_of, load_key, sign_digest
from contracts.tempo import TEMPO_FEE_MANAGER, TempoCharge, TempoTransfer
from contracts.tempo_decode import MAX_RAW_BYTES, TempoCall, decode_tempo, read_transfer
from contracts.tokens import MODERATO_PATHUSD
from tests.tempo_sponsor import complete

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/contracts/tempo.json").read_text())
KEY = load_key(parse_bytes32(VECTORS["wallet_key"]))
PAYEE = parse_address(VECTORS["payee"])
MEMO = parse_bytes32(VECTORS["memos"][0]["memo"])
PRIMARY = TempoTransfer(PAYEE, 10_000, MEMO)
CHARGE = TempoCharge(
    *(MODERATO_PATHUSD, address_of(KEY), (PRIMARY,), 1_767_225_600, 10**6, 40 * 10**9, 10**9), sponsored=False
)
RAW = CHARGE.encode(sign_digest(KEY, CHARGE.signing_hash))


def rewritten(index: int, value: Any) -> bytes:
    """Return the transaction with one field replaced, signed again."""
    fields = rlp.decode(RAW[1:])
    fields[index] = value
    signature = sign_digest(KEY, keccak256(b"\x76" + rlp.encode(fields[:-1])))
    raw: bytes = b"\x76" + rlp.encode([*fields[:-1], signature])
    return raw


def resigned(signature: bytes) -> bytes:
    """Return the transaction with another signature."""
    raw: bytes = b"\x76" + rlp.encode([*rlp.decode(RAW[1:])[:-1], signature])
    return raw


def test_the_pinned_transaction_is_read() -> None:
    """The vector of pytempo and viem: hash, sender and every field."""
    read = decode_tempo(RAW)
    assert to_hex(read.tx_hash) == "0x2d6cf9debb084773d48128cc31b70013096b4259963461f2b876528a5b604640"
    assert (read.raw, read.sender, read.chain_id) == (RAW, address_of(KEY), 42431)
    assert (read.gas, read.max_fee_per_gas, read.max_priority_fee_per_gas) == (10**6, 40 * 10**9, 10**9)
    assert (read.expiring, read.nonce, read.valid_before, read.valid_after) == (True, 0, 1_767_225_600, None)
    assert read.fee_token == MODERATO_PATHUSD.address
    assert [(call.to, read_transfer(call)) for call in read.calls] == [(MODERATO_PATHUSD.address, PRIMARY)]


@given(
    value_base=st.integers(1, 2**127),
    memo=st.none() | st.binary(min_size=32, max_size=32),
    valid_before=st.integers(1, 2**63 - 1),
    gas=st.integers(1, 2**63 - 1),
)
def test_reading_undoes_writing(value_base: int, memo: bytes | None, valid_before: int, gas: int) -> None:
    """Whatever our own wallet would sign is read back."""
    transfers = (TempoTransfer(PAYEE, value_base, memo or MEMO), TempoTransfer(PAYEE, 7))
    charge = dataclasses.replace(CHARGE, transfers=transfers, valid_before=valid_before, gas=gas)
    raw = charge.encode(sign_digest(KEY, charge.signing_hash))
    read = decode_tempo(raw)
    assert (read.tx_hash, read.valid_before, read.gas) == (charge.tx_hash(raw), valid_before, gas)
    assert tuple(map(read_transfer, read.calls)) == transfers


def test_the_recovery_id_is_canonical_before_the_hash() -> None:
    """A node writes 0 and 1 as 27 and 28: both spellings are one transaction, under the hash that it will have."""
    signature = sign_digest(KEY, CHARGE.signing_hash)
    short = resigned(signature[:64] + bytes([signature[64] - 27]))
    assert short != RAW
    assert (decode_tempo(short).raw, decode_tempo(short).tx_hash) == (RAW, keccak256(RAW))


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, b"\0\x01"),
        (1, b"\xff" * 8),
        (4, b""),
        (4, [[bytes(MODERATO_PATHUSD.address), b"\x01", b""]]),
        (4, [[bytes(19), b"", b""]]),
        (4, [[bytes(20), b""]]),
        (5, [[bytes(20), []]]),
        (6, b"\0"),
        (7, b"\xff" * 9),
        (8, b"\xff" * 9),
        (10, bytes(19)),
        (11, b"\0"),
        (11, [b"\x01", b"\x02", b"\x03"]),
        (12, [[b"\x01"]]),
    ],
)
def test_a_field_that_says_more_is_refused(index: int, value: Any) -> None:
    """A value, an access list, an authorisation, a sponsor, a wrong length: signed or not, it is not read."""
    with pytest.raises(ContractError):
        decode_tempo(rewritten(index, value))


def test_what_is_no_such_transaction_is_refused() -> None:
    """Another type, a hand-over, a completed sponsorship, one field more or less, bytes after the end, too long."""
    sponsored = dataclasses.replace(CHARGE, sponsored=True)
    hand_over = sponsored.encode(sign_digest(KEY, sponsored.signing_hash))
    completed = complete(hand_over, load_key(parse_bytes32(VECTORS["sponsor_key"])), MODERATO_PATHUSD.address)
    fields = rlp.decode(RAW[1:])
    more = b"\x76" + rlp.encode([*fields[:-1], b"", fields[-1]])
    less = b"\x76" + rlp.encode(fields[1:])
    long = rewritten(4, [[bytes(20), b"", bytes(MAX_RAW_BYTES)]])
    wrongs = (b"", b"\x76", b"\x02" + RAW[1:], hand_over, completed, more, less, RAW + b"\0", RAW[:-1], long, RAW[1:])
    for wrong in wrongs:
        with pytest.raises(ContractError):
            decode_tempo(wrong)


def test_a_second_signature_form_is_refused() -> None:
    """The upper s, another v, another length, a point that does not exist: one payment has one hash."""
    signature = sign_digest(KEY, CHARGE.signing_hash)
    twin = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    other_v = bytes([55 - signature[64]])
    for wrong in (
        signature[:32] + twin + other_v,
        signature[:64] + b"\x1d",
        signature[:64],
        signature + b"\0",
        bytes(65),
        b"\xff" * 65,
    ):
        with pytest.raises(ContractError):
            decode_tempo(resigned(wrong))


@given(st.binary(max_size=400), st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_no_bytes_break_the_reader(data: bytes, at: int, flip: int) -> None:
    """Random bytes and a flipped byte are refused by type, or are another sender's transaction with one spelling."""
    flipped = RAW[:at] + bytes([RAW[at] ^ flip]) + RAW[at + 1 :]
    for raw in (data, b"\x76" + data, flipped):
        try:
            read = decode_tempo(raw)
        except ContractError:
            continue
        assert read.tx_hash == keccak256(read.raw)
        assert decode_tempo(read.raw) == read
        assert (read.sender, read.raw) != (address_of(KEY), RAW) or raw == RAW or raw[-1] in (0, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes.fromhex("095ea7b3") + bytes(64),
        PRIMARY.call_data[:-1],
        PRIMARY.call_data + bytes(1),
        TempoTransfer(PAYEE, 5).call_data + bytes(32),
        PRIMARY.call_data[:4] + b"\x01" + PRIMARY.call_data[5:],
        PRIMARY.call_data[:36] + bytes(32) + MEMO,
        PRIMARY.call_data[:36] + (2**128).to_bytes(32, "big") + MEMO,
        PRIMARY.call_data[:16] + TEMPO_FEE_MANAGER + PRIMARY.call_data[36:],
    ],
)
def test_a_call_that_is_no_transfer_is_refused(data: bytes) -> None:
    """Another function, a cut or trailed argument, a dirty address, nothing, more than a token has, the fee manager."""
    with pytest.raises(ContractError):
        read_transfer(TempoCall(Address(bytes(20)), data))
