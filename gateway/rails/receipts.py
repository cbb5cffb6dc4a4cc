"""Reads the receipt of an answer, whichever rail it is of.

It must not be asked whether money moved. Theory: what a caller wants of a receipt is one thing, the transaction to
look at first, so both rails' receipts have it under one name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.rails.mpp.receipt import MppReceipt, read_mpp_receipt
from gateway.rails.x402.receipt import ReceiptHint, read_receipt

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["AnyReceipt", "read_any_receipt"]

AnyReceipt = MppReceipt | ReceiptHint


def read_any_receipt(headers: MultiMapping[str]) -> AnyReceipt | None:
    """The receipt in an answer's headers, before others one that names a transaction. Never raises.

    Both kinds have `success`, `transaction` and `chain_id`.
    """
    found = [receipt for receipt in (read_mpp_receipt(headers), read_receipt(headers)) if receipt is not None]
    return next((receipt for receipt in found if receipt.transaction is not None), found[0] if found else None)
