"""Reads what a server says of an MPP payment that it took: `Payment-Receipt` (mpp.md 3.5).

It must not be asked whether money moved: a receipt is a server's word, never evidence (DESIGN P14). Theory: a missing
or garbled receipt means "look at the chain", not "unpaid", so nothing that it says can raise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contracts.networks import CHAIN_ID_BITS
from gateway.rails.mpp.text import parse_rfc3339_ms
from gateway.rails.x402.wire import WireError, clean_text, decode_base64, load_object

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["MAX_RECEIPT_CHARS", "MppReceipt", "read_mpp_receipt"]

MAX_RECEIPT_CHARS: Final = 16 * 1024
_MAX_TEXT_CHARS: Final = 256
_HEADER: Final = "Payment-Receipt"
# mpp-go took one hash in two spellings for two payments: to us case and prefix mean nothing.
_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class MppReceipt:
    """What a server claims; None or '' is "it does not say, or not readably".

    `transaction` is the 32 bytes of a reference that is a transaction's hash: where to look first on chain, no more.
    """

    success: bool | None
    transaction: bytes | None
    chain_id: int | None
    method: str
    reference: str
    challenge_id: str
    external_id: str
    settled_at_ms: int | None


def read_mpp_receipt(headers: MultiMapping[str]) -> MppReceipt | None:
    """The receipt in an answer's headers (case-insensitive), None when none can be decoded. Never raises."""
    value = headers.get(_HEADER)
    if value is None or len(value) > MAX_RECEIPT_CHARS:
        return None
    try:
        return _receipt(load_object(decode_base64(value.strip())))
    except WireError:
        return None


def _receipt(document: dict[str, Any]) -> MppReceipt:
    status = document.get("status")
    reference = _text(document, "reference")
    digits = _HASH.fullmatch(reference)
    chain_id = document.get("chainId")
    return MppReceipt(
        success=status == "success" if isinstance(status, str) else None,
        transaction=bytes.fromhex(digits[1]) if digits is not None else None,
        chain_id=chain_id if type(chain_id) is int and 0 < chain_id < 1 << CHAIN_ID_BITS else None,
        method=_text(document, "method"),
        reference=reference,
        challenge_id=_text(document, "challengeId"),
        external_id=_text(document, "externalId"),
        settled_at_ms=_time(document.get("timestamp")),
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return clean_text(value, _MAX_TEXT_CHARS) if isinstance(value, str) else ""


def _time(value: object) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_rfc3339_ms(value)
    except WireError:
        return None
