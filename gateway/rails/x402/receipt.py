"""Reads what a server says of a payment that it took, in any of three dialects.

It must not be asked whether money moved: a receipt is a server's word, never evidence (DESIGN P14). Theory: the
reference SDK raises on an odd receipt after the money is gone, and its caller pays again; here nothing that a receipt
says can raise. The dialects: PAYMENT-RESPONSE (v2), X-PAYMENT-RESPONSE (v1), and `{tx, network}` in either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from contracts.codec import parse_address, parse_bytes32
from contracts.networks import parse_network
from gateway.rails.x402.wire import WireError, clean_text, decode_base64, load_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import MultiMapping

    from contracts.codec import Address

__all__ = ["MAX_RECEIPT_CHARS", "ReceiptHint", "read_receipt", "read_transaction"]

_Parsed = TypeVar("_Parsed")

MAX_RECEIPT_CHARS: Final = 16 * 1024
_MAX_REASON_CHARS: Final = 200
_HEADERS: Final[tuple[tuple[str, Literal["header", "legacy_header"]], ...]] = (
    ("PAYMENT-RESPONSE", "header"),
    ("X-PAYMENT-RESPONSE", "legacy_header"),
)


@dataclass(frozen=True, slots=True)
class ReceiptHint:
    """What a server claims. None is "it does not say, or not readably"; `reason` is '' then.

    `transaction` is 32 bytes: where to look first on chain, no more.
    """

    success: bool | None
    transaction: bytes | None
    chain_id: int | None
    payer: Address | None
    reason: str
    source: Literal["header", "legacy_header"]


def read_receipt(headers: MultiMapping[str]) -> ReceiptHint | None:
    """The receipt in an answer's headers (case-insensitive), None when none can be decoded. Never raises."""
    found = _document(headers)
    return None if found is None else _hint(*found)


def read_transaction(headers: MultiMapping[str]) -> bytes | None:
    """The `transaction` of `read_receipt`, at half its cost. Never raises."""
    found = _document(headers)
    return None if found is None else _transaction(found[0])


def _document(headers: MultiMapping[str]) -> tuple[dict[str, Any], Literal["header", "legacy_header"]] | None:
    for name, source in _HEADERS:
        value = headers.get(name)
        if value is not None and len(value) <= MAX_RECEIPT_CHARS:
            try:
                return load_object(decode_base64(value.strip())), source
            except WireError:
                continue
    return None


def _transaction(document: dict[str, Any]) -> bytes | None:
    return _or_none(parse_bytes32, document.get("transaction") or document.get("tx"))


def _hint(document: dict[str, Any], source: Literal["header", "legacy_header"]) -> ReceiptHint:
    success = document.get("success")
    network = _or_none(parse_network, document.get("network"))
    return ReceiptHint(
        success=success if isinstance(success, bool) else None,
        transaction=_transaction(document),
        chain_id=network.chain_id if network is not None else None,
        payer=_or_none(parse_address, document.get("payer")),
        reason=clean_text(document.get("errorReason") or document.get("errorMessage"), _MAX_REASON_CHARS),
        source=source,
    )


def _or_none(parse: Callable[[str], _Parsed], value: object) -> _Parsed | None:
    if not isinstance(value, str):
        return None
    try:
        return parse(value)
    except ValueError:
        return None
