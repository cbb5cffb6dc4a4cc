"""What the gateway answers in LiteVPS's stead, in its exact shapes, with the agent's own figures (P9).

Must not know records or flows.  Theory: the vendor's own scripts log in and watch a balance before and while they work;
they must find there what is theirs, and nothing of the account that all agents share.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.account_ports import LocalAnswer, Own
from gateway.core.money import BASE_PER_UNIT
from gateway.core.routes import Match
from gateway.core.strict_json import Fraction
from gateway.core.times import utc_text

__all__ = ["BALANCE_HEADER", "local", "own_headers", "refusal", "usd_floor"]

BALANCE_HEADER: Final = "X-Balance-Remaining"

_OK: Final = 200
_CREATED: Final = 201
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401
_UNPROCESSABLE: Final = 422
_PLACES: Final = 4
_STEP_BASE: Final = BASE_PER_UNIT // 10**_PLACES
_COUNT: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_DEFAULT_LIMIT, _MAX_LIMIT = 20, 100


def local(match: Match, own: Own) -> LocalAnswer:
    """Return the answer of a local route. Raises ValueError for a route that is none of them."""
    name = match.route.name
    if name in {"login", "register"}:
        if own.token is None:
            return refusal(_UNAUTHORIZED, "invalid email or password")
        return LocalAnswer(_OK if name == "login" else _CREATED, {"token": own.token})
    if name == "me":
        return LocalAnswer(_OK, {"id": own.account_id, "email": own.email, "balance": _number(own.available_base)})
    if name == "balance":
        return LocalAnswer(_OK, {"balance": _number(own.available_base)})
    if name == "history":
        return _history(own)
    if name in {"notify_emails", "tokens"}:
        return LocalAnswer(_OK, [])  # there are none: the routes that would make them are closed
    raise ValueError(f"{name}: not answered here")


def refusal(status: int, detail: str) -> LocalAnswer:
    """Return a refusal in the vendor's error shape, `{"error": text}`; it knows no 422: what is wrong in a body is 400."""
    return LocalAnswer(_BAD_REQUEST if status == _UNPROCESSABLE else status, {"error": detail})


def own_headers(own: Own) -> tuple[tuple[str, str], ...]:
    """Return the agent's own available balance where every authenticated answer of the vendor tells the account's."""
    return ((BALANCE_HEADER, usd_floor(own.available_base)),)


def usd_floor(amount_base: int) -> str:
    """Return USD in four decimals as the vendor writes them, rounded down: nobody is told of money that is not there."""
    steps = amount_base // _STEP_BASE
    whole, decimals = divmod(abs(steps), 10**_PLACES)
    return f"{'-' if steps < 0 else ''}{whole}.{decimals:0{_PLACES}d}"


def _history(own: Own) -> LocalAnswer:
    query = own.query or {}
    limit, offset = _count(query, "limit", _DEFAULT_LIMIT), _count(query, "offset", 0)
    if limit is None or offset is None:
        return refusal(_BAD_REQUEST, f"{'limit' if limit is None else 'offset'}: must be a whole number")
    limit = min(limit, _MAX_LIMIT)
    page = [_entry(entry) for entry in own.entries[offset : offset + limit]]
    return LocalAnswer(_OK, {"transactions": page, "total": len(own.entries), "limit": limit, "offset": offset})


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "type": "usage",
        "amount": _exact(-entry["amount_base"]),
        "balance_after": None,  # the balance is spent at other vendors too
        "vps_id": entry["ref"],
        "created_at": utc_text(entry["at_ms"]),
    }


def _count(query: Mapping[str, str], name: str, default: int) -> int | None:
    text = query.get(name)
    if text is None:
        return default
    return int(text) if _COUNT.fullmatch(text) else None


def _number(amount_base: int) -> Fraction:
    return Fraction(usd_floor(amount_base))


def _exact(amount_base: int) -> Fraction:
    """A charge in all six decimals: rounded ones would not add up to the balance."""
    whole, millionths = divmod(abs(amount_base), BASE_PER_UNIT)
    return Fraction(f"{'-' if amount_base < 0 else ''}{whole}.{millionths:06d}")
