"""x402 receipts: every dialect's transaction is found, and none can raise."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.rails.x402.receipt import MAX_RECEIPT_CHARS, read_transaction

SDK = json.loads((Path(__file__).parents[4] / "vectors/x402/sdk.json").read_text())
TX = "0x" + "ab" * 32


def b64(document: object) -> str:
    """Base64 of the JSON of a document."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_the_sdks_receipt_is_read() -> None:
    """The hash of a reference receipt."""
    assert read_transaction(CIMultiDict({"Payment-Response": SDK["receipt_settled"]})) == bytes.fromhex(TX[2:])


def test_a_failed_receipt_names_no_transaction() -> None:
    """An empty transaction is none."""
    assert read_transaction(CIMultiDict({"X-PAYMENT-RESPONSE": SDK["receipt_failed"]})) is None


def test_the_vpsagent_dialect_is_read() -> None:
    """`{tx, network}` in the older header."""
    headers = CIMultiDict({"x-payment-response": b64({"tx": TX, "network": "base"})})
    assert read_transaction(headers) == bytes.fromhex(TX[2:])


def test_an_undecodable_header_does_not_hide_the_other() -> None:
    """Where one of two receipts is garbage the other is read; of two that are good the newer header's counts."""
    older = {"X-PAYMENT-RESPONSE": b64({"tx": TX})}
    assert read_transaction(CIMultiDict({"PAYMENT-RESPONSE": "%%%"} | older)) == bytes.fromhex(TX[2:])
    newer = {"PAYMENT-RESPONSE": b64({"transaction": "0x" + "cd" * 32})}
    assert read_transaction(CIMultiDict(newer | older)) == b"\xcd" * 32


@pytest.mark.parametrize(
    "value", ["", "%%%", "e30", "bnVsbA==", b64([]), b64("x"), "A" * (MAX_RECEIPT_CHARS + 1), b64({"tx": TX})[:-6], "é"]
)
def test_garbage_names_no_transaction(value: str) -> None:
    """What cannot be read claims nothing."""
    assert read_transaction(CIMultiDict({"PAYMENT-RESPONSE": value})) is None


@pytest.mark.parametrize("wrong", [1, "true", None, [], {}, "0x12", TX + "00", "0X" + "ab" * 32])
def test_a_transaction_of_the_wrong_form_is_unknown(wrong: object) -> None:
    """One that is odd is none, in either dialect."""
    for name in ("transaction", "tx"):
        assert read_transaction(CIMultiDict({"PAYMENT-RESPONSE": b64({name: wrong, "success": True})})) is None


def test_no_header_no_receipt() -> None:
    """A missing receipt is unknown, not unpaid."""
    assert read_transaction(CIMultiDict({"X-Payment": "e30="})) is None


@given(noise=st.binary(max_size=120))
def test_no_bytes_can_raise(noise: bytes) -> None:
    """The SDK raises after the money is gone; this reader cannot."""
    for value in (noise.decode("latin-1"), base64.b64encode(noise).decode()):
        assert read_transaction(CIMultiDict({"PAYMENT-RESPONSE": value})) is None
