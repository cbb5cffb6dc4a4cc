"""MPP receipts, and the receipt of either rail: hints that never raise."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.rails.mpp.receipt import MAX_RECEIPT_CHARS, MppReceipt, read_mpp_receipt
from gateway.rails.receipts import read_any_transaction
from gateway.rails.x402.receipt import read_receipt
from tests.unit.gateway.rails.mpp.mpp_bed import MPPX, PYMPP, b64url

X402 = json.loads((Path(__file__).parents[4] / "vectors/x402/sdk.json").read_text())
TX = "cd" * 32


def read(value: str) -> MppReceipt | None:
    """The receipt in this header value."""
    return read_mpp_receipt(CIMultiDict({"payment-receipt": value}))


def receipt(**fields: Any) -> MppReceipt:
    """The receipt of these fields."""
    found = read(b64url(fields))
    assert found is not None
    return found


def test_mppxs_receipt_is_read() -> None:
    """Hash, ids, chain and time."""
    assert read(MPPX["receipt"]) == MppReceipt(
        success=True,
        transaction=bytes.fromhex(TX),
        chain_id=42431,
        method="tempo",
        reference="0x" + TX,
        challenge_id="abc",
        external_id="order-1",
        settled_at_ms=1_767_700_740_123,
    )


def test_pympps_receipt_is_read() -> None:
    """It says less, and that is none or empty."""
    found = read(PYMPP["receipt"])
    assert found is not None
    assert (found.transaction, found.external_id) == (bytes.fromhex(TX), "order-1")
    assert (found.chain_id, found.challenge_id) == (None, "")


@pytest.mark.parametrize("reference", ["0x" + TX, "0X" + TX.upper(), TX, "0x" + TX.upper()])
def test_a_hash_is_one_in_every_spelling(reference: str) -> None:
    """Case and prefix mean nothing."""
    assert receipt(reference=reference).transaction == bytes.fromhex(TX)


@pytest.mark.parametrize("reference", ["challenge-1", "0x" + TX[1:], "0x" + TX + "00", "", 7, None, ["0x" + TX]])
def test_another_reference_is_no_transaction(reference: object) -> None:
    """A proof's receipt refers to its challenge."""
    assert receipt(reference=reference).transaction is None


@pytest.mark.parametrize(("status", "success"), [("success", True), ("pending", False), (True, None), (None, None)])
def test_success_is_only_what_says_so(status: object, success: bool | None) -> None:  # noqa: FBT001 - a parameter of the test
    """Anything else is not, or does not say."""
    assert receipt(status=status).success is success


def test_odd_fields_are_nothing() -> None:
    """Wrong types, times and chains are none; texts are bounded and clean."""
    found = receipt(chainId="1", timestamp="yesterday", method=["x"], challengeId="a\x00b" * 999)
    assert (found.chain_id, found.settled_at_ms, found.method) == (None, None, "")
    assert len(found.challenge_id) == 256
    assert "\x00" not in found.challenge_id
    assert (receipt(chainId=True).chain_id, receipt(chainId=2**63).chain_id, receipt(timestamp=1).settled_at_ms) == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize("value", ["", "!!", "e30==", b64url([]), b64url("{"), "A" * (MAX_RECEIPT_CHARS + 4)])
def test_a_garbled_receipt_is_none(value: str) -> None:
    """It means "look at the chain", and never raises."""
    assert read(value) is None
    assert read_any_transaction(CIMultiDict({"Payment-Receipt": value})) is None


def test_a_padded_receipt_is_read() -> None:
    """Here nothing hangs on the spelling."""
    padded = base64.b64encode(json.dumps({"reference": "0x" + TX}).encode()).decode()
    found = read(padded)
    assert found is not None
    assert found.transaction == bytes.fromhex(TX)


def test_either_rails_transaction_is_found() -> None:
    """Whichever is there; of two receipts that of the one that names it."""
    mpp = read_mpp_receipt(CIMultiDict({"Payment-Receipt": MPPX["receipt"]}))
    x402 = read_receipt(CIMultiDict({"PAYMENT-RESPONSE": X402["receipt_settled"]}))
    assert mpp is not None
    assert x402 is not None
    assert None not in (mpp.transaction, x402.transaction)
    both = {"Payment-Receipt": MPPX["receipt"], "PAYMENT-RESPONSE": X402["receipt_settled"]}
    assert read_any_transaction(CIMultiDict(both)) == mpp.transaction
    assert (
        read_any_transaction(CIMultiDict(both | {"Payment-Receipt": b64url({"status": "success"})})) == x402.transaction
    )
    assert read_any_transaction(CIMultiDict({"X-PAYMENT-RESPONSE": X402["receipt_settled"]})) == x402.transaction
    silent = {"Payment-Receipt": b64url({"status": "success"}), "PAYMENT-RESPONSE": X402["receipt_failed"]}
    assert read_any_transaction(CIMultiDict(silent)) is None
    assert read_any_transaction(CIMultiDict()) is None


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_raises(value: str) -> None:
    """After the money is gone an exception would be a second payment."""
    read_any_transaction(CIMultiDict({"Payment-Receipt": value, "PAYMENT-RESPONSE": value}))
