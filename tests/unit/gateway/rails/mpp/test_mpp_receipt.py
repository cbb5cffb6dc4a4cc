"""MPP receipts, and the receipt of either rail: hints that never raise."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.rails.mpp.receipt import MAX_RECEIPT_CHARS, read_mpp_transaction
from gateway.rails.receipts import read_any_transaction
from tests.unit.gateway.rails.mpp.mpp_bed import MPPX, PYMPP, b64url

X402 = json.loads((Path(__file__).parents[4] / "vectors/x402/sdk.json").read_text())
TX = "cd" * 32


def read(value: str) -> bytes | None:
    """The transaction in this header value."""
    return read_mpp_transaction(CIMultiDict({"payment-receipt": value}))


@pytest.mark.parametrize("peer", [MPPX, PYMPP], ids=["mppx", "pympp"])
def test_both_sdks_receipts_are_read(peer: dict[str, str]) -> None:
    """The hash, whatever else is said."""
    assert read(peer["receipt"]) == bytes.fromhex(TX)


@pytest.mark.parametrize("reference", ["0x" + TX, "0X" + TX.upper(), TX, "0x" + TX.upper()])
def test_a_hash_is_one_in_every_spelling(reference: str) -> None:
    """Case and prefix mean nothing."""
    assert read(b64url({"reference": reference})) == bytes.fromhex(TX)


@pytest.mark.parametrize("reference", ["challenge-1", "0x" + TX[1:], "0x" + TX + "00", "", 7, None, ["0x" + TX]])
def test_another_reference_is_no_transaction(reference: object) -> None:
    """A proof's receipt refers to its challenge."""
    assert read(b64url({"reference": reference, "status": "success"})) is None


@pytest.mark.parametrize("value", ["", "!!", "e30==", b64url([]), b64url("{"), "A" * (MAX_RECEIPT_CHARS + 4)])
def test_a_garbled_receipt_is_none(value: str) -> None:
    """It means "look at the chain", and never raises."""
    assert read(value) is None
    assert read_any_transaction(CIMultiDict({"Payment-Receipt": value})) is None


def test_a_padded_receipt_is_read() -> None:
    """Here nothing hangs on the spelling."""
    padded = base64.b64encode(json.dumps({"reference": "0x" + TX}).encode()).decode()
    assert read(padded) == bytes.fromhex(TX)


def test_either_rails_transaction_is_found() -> None:
    """Whichever is there; of two receipts that of the one that names it, and MPP's before x402's."""
    both = {"Payment-Receipt": MPPX["receipt"], "PAYMENT-RESPONSE": X402["receipt_settled"]}
    assert read_any_transaction(CIMultiDict(both)) == bytes.fromhex(TX)
    settled = b"\xab" * 32
    assert read_any_transaction(CIMultiDict(both | {"Payment-Receipt": b64url({"status": "success"})})) == settled
    assert read_any_transaction(CIMultiDict({"X-PAYMENT-RESPONSE": X402["receipt_settled"]})) == settled
    silent = {"Payment-Receipt": b64url({"status": "success"}), "PAYMENT-RESPONSE": X402["receipt_failed"]}
    assert read_any_transaction(CIMultiDict(silent)) is None
    assert read_any_transaction(CIMultiDict()) is None


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_raises(value: str) -> None:
    """After the money is gone an exception would be a second payment."""
    read_any_transaction(CIMultiDict({"Payment-Receipt": value, "PAYMENT-RESPONSE": value}))
