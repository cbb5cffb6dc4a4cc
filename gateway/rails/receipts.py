"""Reads the receipt of an answer, whichever rail it is of.

It must not be asked whether money moved. Theory: what a caller wants of a receipt is one thing, the transaction to
look at first; every paid answer is asked for it, so nothing else of the receipt is read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.rails.mpp.receipt import read_mpp_transaction
from gateway.rails.x402.receipt import read_transaction

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["read_any_transaction"]


def read_any_transaction(headers: MultiMapping[str]) -> bytes | None:
    """The 32 bytes that a receipt in an answer's headers calls the transaction, MPP's before x402's. Never raises."""
    return read_mpp_transaction(headers) or read_transaction(headers)
