"""Receipts: every dialect is read, and none can raise."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from contracts.codec import parse_address
from gateway.rails.x402.receipt import MAX_RECEIPT_CHARS, ReceiptHint, read_receipt

SDK = json.loads((Path(__file__).parents[4] / "vectors/x402/sdk.json").read_text())
TX = "0x" + "ab" * 32


def b64(document: object) -> str:
    """Base64 of the JSON of a document."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_the_sdks_receipt_is_read() -> None:
    """Success, hash, network and payer of a reference receipt."""
    assert read_receipt(CIMultiDict({"Payment-Response": SDK["receipt_settled"]})) == ReceiptHint(
        success=True,
        transaction=bytes.fromhex(TX[2:]),
        chain_id=8453,
        payer=parse_address("0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"),
        reason="",
        source="header",
    )


def test_a_failed_receipt_keeps_its_reason() -> None:
    """An empty transaction is none, and the reason is the server's."""
    hint = read_receipt(CIMultiDict({"X-PAYMENT-RESPONSE": SDK["receipt_failed"]}))
    assert hint == ReceiptHint(
        success=False, transaction=None, chain_id=8453, payer=None, reason="insufficient_funds", source="legacy_header"
    )


def test_the_vpsagent_dialect_is_read() -> None:
    """`{tx, network}` says nothing about success, and we do not make that up."""
    hint = read_receipt(CIMultiDict({"x-payment-response": b64({"tx": TX, "network": "base"})}))
    assert hint is not None
    assert (hint.success, hint.transaction, hint.chain_id) == (None, bytes.fromhex(TX[2:]), 8453)


def test_an_undecodable_header_does_not_hide_the_other() -> None:
    """Where one of two receipts is garbage the other is read."""
    headers = CIMultiDict({"PAYMENT-RESPONSE": "%%%", "X-PAYMENT-RESPONSE": SDK["receipt_failed"]})
    hint = read_receipt(headers)
    assert hint is not None
    assert hint.source == "legacy_header"


@pytest.mark.parametrize(
    "value", ["", "%%%", "e30", "bnVsbA==", b64([]), b64("x"), "A" * (MAX_RECEIPT_CHARS + 1), b64({"tx": TX})[:-6], "é"]
)
def test_garbage_is_no_receipt_or_an_empty_one(value: str) -> None:
    """What cannot be read claims nothing."""
    hint = read_receipt(CIMultiDict({"PAYMENT-RESPONSE": value}))
    assert hint is None or (hint.success, hint.transaction, hint.chain_id, hint.payer) == (None, None, None, None)


@pytest.mark.parametrize("wrong", [1, "true", None, [], {}, "0x12", TX + "00", "0X" + "ab" * 32])
def test_fields_of_the_wrong_form_are_unknown(wrong: object) -> None:
    """Each field is read alone: one that is odd is None."""
    document = {"success": wrong, "transaction": wrong, "network": wrong, "payer": wrong, "errorReason": wrong}
    hint = read_receipt(CIMultiDict({"PAYMENT-RESPONSE": b64(document)}))
    assert hint is not None
    assert (hint.success, hint.transaction, hint.chain_id, hint.payer) == (None, None, None, None)


def test_no_header_no_receipt() -> None:
    """A missing receipt is unknown, not unpaid."""
    assert read_receipt(CIMultiDict({"X-Payment": "e30="})) is None


@given(noise=st.binary(max_size=120))
def test_no_bytes_can_raise(noise: bytes) -> None:
    """The SDK raises after the money is gone; this reader cannot."""
    for value in (noise.decode("latin-1"), base64.b64encode(noise).decode()):
        hint = read_receipt(CIMultiDict({"PAYMENT-RESPONSE": value}))
        assert hint is None or isinstance(hint, ReceiptHint)
