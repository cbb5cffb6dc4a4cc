"""What VpsAgent's answers mean: delivered or not, the rental, its state, the catalogue's prices; and what of it to show.

Must not know money or records.  Theory: a status alone delivers nothing here; an answer counts only when it holds what
the document promises for it, and whatever falls short is unknown, never refused: the box may exist.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from gateway.core.money import AmountError, parse_amount
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match
from gateway.core.strict_json import Fraction, JsonError, parse_json
from gateway.http.port import UpstreamResponse
from gateway.ports import Created, Reading
from gateway.vendors.judge import judge
from gateway.vendors.redact import TooManyTokensError, is_token, redact_document, redact_unreadable
from gateway.vendors.vpsagent.routes import SKUS, UNKNOWN_KIND, state_of
from wallets.secret import Secret

__all__ = ["read"]

_OK: Final = 200
_TOKEN: Final = "root_token"  # noqa: S105 - the member's name
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
# Unix milliseconds of 2001 to 5138: a number of seconds is outside, and is not taken for a moment in 1970.
_MIN_TIME_MS: Final = 10**12
_MAX_TIME_MS: Final = 10**14


@dataclass(frozen=True, slots=True)
class _Opened:
    """An answer taken apart: the document (None where it is none), and the body that may be shown."""

    match: Match
    document: Any
    body: bytes


def read(match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
    """Judge an answer and make its body fit for the agent. Never raises; `surrogate` gets only well-formed tokens."""
    verdict = judge(answer)
    opened = _open(match, answer, surrogate)
    reader = _READERS.get(match.route.name)
    if verdict.delivery is not Delivery.DELIVERED or reader is None:
        return Reading(verdict.delivery, verdict.fault, opened.body)
    reading = reader(opened) if answer.status == _OK else None
    return reading or Reading(Delivery.UNKNOWN, Fault.NONE, opened.body)


def _open(match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> _Opened:
    if answer.headers.get("Content-Encoding", "").strip().lower() not in {"", "identity"}:
        # Nobody asked for a coding. What it may hide must not pass unread where answers hold secrets.
        return _Opened(match, None, b"" if match.route.secret else answer.body)
    try:
        document = parse_json(answer.body)
        text = redact_document(answer.body.decode("utf-8"), document, _TOKEN, surrogate)
    except JsonError:
        return _Opened(match, None, redact_unreadable(answer.body))
    except TooManyTokensError:
        return _Opened(match, None, b"")
    return _Opened(match, document, text.encode("utf-8"))


def _read_catalog(opened: _Opened) -> Reading | None:
    if not isinstance(opened.document, list):
        return None
    prices: dict[str, int | None] = {}
    for entry in opened.document:
        sku = entry.get("sku") if isinstance(entry, dict) else None
        if not isinstance(sku, str) or sku not in SKUS:
            continue
        # Two entries for one SKU are no price: an agent may read the one and the vendor ask the other.
        prices[sku] = None if sku in prices else _price_base(entry)
    known = tuple((sku, price_base) for sku, price_base in prices.items() if price_base is not None)
    return Reading(Delivery.DELIVERED, Fault.NONE, opened.body, prices=known)


def _price_base(entry: dict[str, Any]) -> int | None:
    price = entry.get("price_usdc")
    if entry.get("available") is not True:
        return None
    if type(price) is int:
        digits = str(price)
    elif isinstance(price, Fraction):
        digits = price.text
    else:
        return None
    try:
        return parse_amount(digits)
    except AmountError:
        return None


def _read_rent(opened: _Opened) -> Reading | None:
    document = opened.document
    if not isinstance(document, dict):
        return None
    rental_id, token, sku = document.get("rental_id"), document.get(_TOKEN), document.get("sku")
    if not _is_uuid(rental_id) or not is_token(token):
        return None
    created = Created(
        ref=rental_id,
        kind=sku if isinstance(sku, str) and sku in SKUS else UNKNOWN_KIND,
        state=state_of(document.get("status")),
        secret=Secret(token),
        expires_at_ms=_time_ms(document.get("expires_at")),
    )
    return Reading(Delivery.DELIVERED, Fault.NONE, opened.body, created=created)


def _read_renewal(opened: _Opened) -> Reading | None:
    if not _is_about_asked(opened) or opened.document.get("status") != "renewing":
        return None
    # `predicted_expires_at` is no promise: the term moves only when the renewal is collected.
    return _update(opened, "current_expires_at")


def _read_rental(opened: _Opened) -> Reading | None:
    return _update(opened, "expires_at") if _is_about_asked(opened) else None


def _update(opened: _Opened, expiry: str) -> Reading:
    document = opened.document
    return Reading(
        Delivery.DELIVERED,
        Fault.NONE,
        opened.body,
        state=state_of(document["status"]) if "status" in document else None,
        expires_at_ms=_time_ms(document.get(expiry)),
    )


def _is_about_asked(opened: _Opened) -> bool:
    document, asked = opened.document, opened.match.ref
    if not isinstance(document, dict) or asked is None:
        return False
    told = document.get("rental_id")
    return _is_uuid(told) and told.lower() == asked.lower()


def _is_uuid(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _time_ms(value: object) -> int | None:
    return value if type(value) is int and _MIN_TIME_MS <= value < _MAX_TIME_MS else None


_READERS: Final = MappingProxyType(
    {
        "catalog": _read_catalog,
        "rent": _read_rent,
        "rental": _read_rental,
        "renew": _read_renewal,
        "instance": _read_rental,
    }
)
