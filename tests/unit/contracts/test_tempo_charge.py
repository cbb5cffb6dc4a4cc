"""The Tempo charge: its bytes are pytempo's and viem's, its bounds are checked, its fee is rounded up."""

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
from contracts.signature import address_of, load_key, recover_address, sign_digest
from contracts.tempo import TEMPO_FEE_MANAGER, TempoCharge, TempoError, TempoTerms, TempoTransfer
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, TEMPO_PATHUSD, TEMPO_USDCE
from tests.tempo_sponsor import complete

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/contracts/tempo.json").read_text())
KEY = load_key(parse_bytes32(VECTORS["wallet_key"]))
WALLET = address_of(KEY)
PAYEE = parse_address(VECTORS["payee"])
MEMO = parse_bytes32(VECTORS["memos"][0]["memo"])
PRIMARY = TempoTransfer(PAYEE, 10_000, MEMO)
SPLITS = tuple(
    TempoTransfer(parse_address(s["to"]), s["value_base"], parse_bytes32(s["memo"]) if s["memo"] else None)
    for s in VECTORS["splits"]
)
CHARGE = TempoCharge(MODERATO_PATHUSD, WALLET, (PRIMARY,), 1_767_225_600, 10**6, 40 * 10**9, 10**9, sponsored=False)


def charge_of(vector: dict[str, Any]) -> TempoCharge:
    """Return the charge that a vector describes."""
    transfers = (PRIMARY, *SPLITS) if vector["with_splits"] else (PRIMARY,)
    return dataclasses.replace(CHARGE, transfers=transfers, sponsored=vector["sponsored"])


@pytest.mark.parametrize("vector", VECTORS["charges"], ids=lambda vector: vector["name"])
def test_bytes_are_pinned(vector: dict[str, Any]) -> None:
    """Signing hash, bytes and hash are those of pytempo and viem; a sponsor completes them to the pinned transaction."""
    charge = charge_of(vector)
    assert to_hex(charge.signing_hash) == vector["signing_hash"]
    raw = charge.encode(sign_digest(KEY, charge.signing_hash))
    assert (len(raw), to_hex(keccak256(raw))) == (vector["bytes"], vector["keccak"])
    assert charge.tx_hash(raw) == (None if charge.sponsored else parse_bytes32(vector["keccak"]))
    if charge.sponsored:
        done = complete(raw, load_key(parse_bytes32(VECTORS["sponsor_key"])), MODERATO_PATHUSD.address)
        assert (len(done), to_hex(keccak256(done))) == (vector["completed_bytes"], vector["completed_keccak"])


def test_a_sponsored_batch_is_signed_whole() -> None:
    """The signing hash of a sponsored batch with splits is pytempo's too."""
    charge = dataclasses.replace(CHARGE, transfers=(PRIMARY, *SPLITS), sponsored=True)
    assert to_hex(charge.signing_hash) == VECTORS["sponsored_with_splits_signing_hash"]


@pytest.mark.parametrize("sponsored", [True, False])
def test_the_wire_form_field_by_field(sponsored: bool) -> None:  # noqa: FBT001 - a case
    """RLP's library reads back what was meant: expiring nonce, no access list, the fee token only where we pay."""
    charge = dataclasses.replace(CHARGE, transfers=(PRIMARY, *SPLITS), sponsored=sponsored)
    signature = sign_digest(KEY, charge.signing_hash)
    raw = charge.encode(signature)
    token = MODERATO_PATHUSD.address
    assert raw[0] == (0x78 if sponsored else 0x76)
    fields = rlp.decode(raw[1:])
    calls = [[token, b"", transfer.call_data] for transfer in charge.transfers]
    numbers = [value.to_bytes((value.bit_length() + 7) // 8, "big") for value in (42431, 10**9, 40 * 10**9, 10**6)]
    expiry = (1_767_225_600).to_bytes(4, "big")
    ends = [b"", WALLET] if sponsored else [token, b""]
    assert fields == [*numbers, calls, [], b"\xff" * 32, b"", expiry, b"", *ends, [], signature]
    assert recover_address(charge.signing_hash, fields[-1]) == WALLET


def test_each_field_is_signed() -> None:
    """Changing any one field changes what is signed; the wallet is bound by its signature."""
    changes: list[dict[str, Any]] = [
        {},
        {"token": TEMPO_PATHUSD},
        {"token": TEMPO_USDCE},
        {"transfers": (dataclasses.replace(PRIMARY, value_base=1),)},
        {"transfers": (dataclasses.replace(PRIMARY, to=WALLET),)},
        {"transfers": (dataclasses.replace(PRIMARY, memo=bytes(32)),)},
        {"transfers": (PRIMARY, *SPLITS)},
        {"transfers": (PRIMARY, *reversed(SPLITS))},
        {"valid_before": 1},
        {"gas": 1},
        {"max_fee_per_gas": 10**10},
        {"max_priority_fee_per_gas": 0},
        {"sponsored": True},
    ]
    assert len({dataclasses.replace(CHARGE, **change).signing_hash for change in changes}) == len(changes)


def test_amount_memo_and_terms() -> None:
    """The amount is what all payees get; the memo is the primary transfer's."""
    charge = dataclasses.replace(CHARGE, transfers=(PRIMARY, *SPLITS))
    assert charge.amount_base == charge.terms.amount_base == 10_012
    assert charge.memo == charge.terms.memo == MEMO
    assert charge.terms == TempoTerms(MODERATO_PATHUSD, WALLET, (PRIMARY, *SPLITS), 40_000)


@given(gas=st.integers(1, 2**40), price=st.integers(1, 2**40))
def test_p7_the_highest_fee_is_rounded_up(gas: int, price: int) -> None:
    """P7: never less than gas times price, by less than one base unit more; nothing where a sponsor pays."""
    charge = dataclasses.replace(CHARGE, gas=gas, max_fee_per_gas=price, max_priority_fee_per_gas=0)
    assert 0 <= charge.max_fee_base * 10**12 - gas * price < 10**12
    assert charge.terms.max_fee_base == charge.max_fee_base > 0
    assert dataclasses.replace(charge, sponsored=True).max_fee_base == 0


@pytest.mark.parametrize(
    "change",
    [
        {"token": BASE_USDC},
        {"wallet": b"\1" * 19},
        {"transfers": ()},
        {"transfers": (TempoTransfer(PAYEE, 1),)},
        {"transfers": (PRIMARY, *(TempoTransfer(PAYEE, 1) for _ in range(11)))},
        {"transfers": (PRIMARY, TempoTransfer(PAYEE, 1, MEMO))},
        {"transfers": (TempoTransfer(PAYEE, 2**128 - 1, MEMO), TempoTransfer(PAYEE, 1))},
        {"valid_before": 0},
        {"valid_before": 2**63},
        {"valid_before": 1.0},
        {"gas": 0},
        {"gas": -1},
        {"gas": 2**63},
        {"max_fee_per_gas": 0, "max_priority_fee_per_gas": 0},
        {"max_fee_per_gas": 2**63},
        {"max_priority_fee_per_gas": -1},
        {"max_priority_fee_per_gas": 40 * 10**9 + 1},
        {"sponsored": None},
        {"sponsored": 1},
    ],
)
def test_refuses_a_charge_that_is_none(change: dict[str, Any]) -> None:
    """Bounds, a missing or repeated memo, too many splits and another standard are refused when it is made."""
    with pytest.raises(ContractError):
        dataclasses.replace(CHARGE, **change)


def test_ten_splits_are_the_most() -> None:
    """The primary transfer and ten splits are taken."""
    assert dataclasses.replace(CHARGE, transfers=(PRIMARY, *[TempoTransfer(PAYEE, 1)] * 10)).amount_base == 10_010


@pytest.mark.parametrize(
    ("to", "value_base", "memo"),
    [
        (b"\1" * 21, 1, None),
        (PAYEE, 0, None),
        (PAYEE, -1, None),
        (PAYEE, 2**128, None),
        (PAYEE, True, None),
        (PAYEE, 1, b""),
        (PAYEE, 1, b"\1" * 31),
        (TEMPO_FEE_MANAGER, 1, None),
    ],
)
def test_refuses_a_transfer_that_is_none(to: Address, value_base: int, memo: bytes | None) -> None:
    """Nothing, too much, half a memo, and a payee whose transfers look like fees."""
    with pytest.raises(ContractError):
        TempoTransfer(to, value_base, memo)


@pytest.mark.parametrize("v", [0, 1, 26, 29])
def test_refuses_a_signature_that_the_node_would_rewrite(v: int) -> None:
    """With v of 0 or 1 the transaction would be on chain under another hash than ours."""
    signature = sign_digest(KEY, CHARGE.signing_hash)
    with pytest.raises(TempoError, match="27 or 28"):
        CHARGE.encode(signature[:64] + bytes((v,)))
    with pytest.raises(ContractError):
        CHARGE.encode(signature[:64])
