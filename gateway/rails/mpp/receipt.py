"""Reads which transaction a server names for an MPP payment that it took: `Payment-Receipt`.

It must not be asked whether money moved: a receipt is a server's word, never evidence (P14). Theory: a missing
or garbled receipt means "look at the chain", not "unpaid", so nothing that it says can raise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.rails.x402.wire import WireError, decode_base64, load_object

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["MAX_RECEIPT_CHARS", "read_mpp_transaction"]

MAX_RECEIPT_CHARS: Final = 16 * 1024
_HEADER: Final = "Payment-Receipt"
# mpp-go took one hash in two spellings for two payments: to us case and prefix mean nothing.
_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})", re.ASCII)


def read_mpp_transaction(headers: MultiMapping[str]) -> bytes | None:
    """The 32 bytes of a reference in an answer's headers (case-insensitive) that is a transaction's hash: where to look first.

    None when there is no receipt, it cannot be read, or its reference is something else. Never raises.
    """
    value = headers.get(_HEADER)
    if value is None or len(value) > MAX_RECEIPT_CHARS:
        return None
    try:
        reference = load_object(decode_base64(value.strip())).get("reference")
    except WireError:
        return None
    digits = _HASH.fullmatch(reference) if isinstance(reference, str) else None
    return None if digits is None else bytes.fromhex(digits[1])
