"""Reads which transaction a server names for a payment that it took, in any of three dialects.

It must not be asked whether money moved: a receipt is a server's word, never evidence (P14). Theory: the
reference SDK raises on an odd receipt after the money is gone, and its caller pays again; here nothing that a receipt
says can raise. The dialects: PAYMENT-RESPONSE (v2), X-PAYMENT-RESPONSE (v1), and `{tx, network}` in either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contracts.codec import CodecError, parse_bytes32
from gateway.rails.x402.wire import WireError, decode_base64, load_object

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["MAX_RECEIPT_CHARS", "read_transaction"]

MAX_RECEIPT_CHARS: Final = 16 * 1024
_HEADERS: Final = ("PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE")


def read_transaction(headers: MultiMapping[str]) -> bytes | None:
    """The 32 bytes that the first readable receipt in an answer's headers (case-insensitive) names: where to look first.

    None when there is no receipt, or it names none readably. Never raises.
    """
    document = _document(headers)
    try:
        return parse_bytes32(document.get("transaction") or document.get("tx"))
    except CodecError:
        return None


def _document(headers: MultiMapping[str]) -> dict[str, Any]:
    for name in _HEADERS:
        value = headers.get(name)
        if value is not None and len(value) <= MAX_RECEIPT_CHARS:
            try:
                return load_object(decode_base64(value.strip()))
            except WireError:
                continue
    return {}
