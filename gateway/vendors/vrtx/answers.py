"""What VRTX's answers mean: what it did, the servers that they show, prices, and one page of all servers.

Must not know money or records.  Theory: an answer counts only when it holds what the document promises for it; what
falls short is unknown, never refused, for a server may exist. Only the vendor's own 404 about a server says that it is
gone, which proves nothing of one that was just made: lists and single servers may lag behind its creation.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import Price, Thing, Told
from gateway.core.payment import Delivery
from gateway.core.routes import Match
from gateway.core.strict_json import dump_json
from gateway.http.port import UpstreamResponse
from gateway.vendors.account import decimal_text, document_of, judge_account, time_ms
from gateway.vendors.judge import UNKNOWN
from gateway.vendors.vrtx.inputs import is_uuid
from gateway.vendors.vrtx.routes import SERVER, state_of

__all__ = ["created_answer", "read", "read_list", "read_prices", "refuses_us"]

_OK: Final = 200
_CREATED: Final = 201
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_TRAITS: Final = (("vcpu", "cpu", 1), ("memory_mib", "memory", _MIB), ("disk_gib", "disk", _GIB))
_ABOUT_ONE: Final = frozenset({"server", "delete"})  # a 404 of its other routes may speak of a part of it
_Found = tuple[Thing, ...]


def read(match: Match, answer: UpstreamResponse) -> Told:
    """Judge an answer and read the servers in it. Never raises."""
    verdict = judge_account(answer)
    name = match.route.name
    if name == "create" and answer.status == _CONFLICT:
        # Not in the document; elsewhere it says that a first request under this key is still at work.
        verdict = UNKNOWN
    document = document_of(answer)
    if verdict.delivery is not Delivery.DELIVERED:
        return Told(verdict.delivery, verdict.fault, document, _gone(match, answer.status, document))
    found = _READERS[name](match, document)
    if found is None:
        # The document stays: the broker takes out of it what is not the agent's, which it cannot in bare bytes.
        return Told(UNKNOWN.delivery, UNKNOWN.fault, document, _things(document))
    created = tuple(thing.ref for thing in found) if name == "create" else ()
    return Told(verdict.delivery, verdict.fault, document, found, created)


def read_list(answer: UpstreamResponse) -> tuple[_Found, bool] | None:
    """Return the servers of a page and whether another follows; None for an answer that proves nothing.

    One entry that cannot be read makes the whole page worthless: it may be the server that is looked for.
    """
    document = document_of(answer)
    if answer.status != _OK or not isinstance(document, dict):
        return None
    things = _listed(document)
    meta = document.get("meta")
    if things is None or not isinstance(meta, dict):
        return None
    current, last = meta.get("current_page"), meta.get("last_page")
    if type(current) is not int or type(last) is not int or current < 1 or last < 1:
        return None
    return things, current < last


def read_prices(answer: UpstreamResponse) -> tuple[Price, ...]:
    """Return what the plans of an answer cost; a plan that is named twice, or whose price cannot be read, has none."""
    document = document_of(answer)
    rows = document.get("data") if answer.status == _OK and isinstance(document, dict) else None
    prices: dict[str, Price | None] = {}
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict) or type(row.get("id")) is not int:
            continue
        kind = str(row["id"])
        prices[kind] = None if kind in prices else _price(kind, row)
    return tuple(price for price in prices.values() if price is not None)


def created_answer(shown: UpstreamResponse) -> tuple[int, bytes] | None:
    """Return the 201 that a create would have got, from an answer to GET /servers/{uuid}; None if it shows no server."""
    document = document_of(shown)
    if shown.status != _OK or not isinstance(document, dict) or _thing(document.get("data")) is None:
        return None
    return _CREATED, dump_json({"data": document["data"]})


def refuses_us(answer: UpstreamResponse) -> bool:
    """Say whether a 403 speaks of the address that asks (IP_NOT_ALLOWED), or is not the vendor's own at all."""
    if answer.status != _FORBIDDEN:
        return False
    code = _error_code(document_of(answer))
    return code is None or code == "IP_NOT_ALLOWED"


def _price(kind: str, row: Mapping[str, Any]) -> Price | None:
    hourly, monthly = decimal_text(row.get("hourly_price")), decimal_text(row.get("monthly_price"))
    if hourly is None:
        return None
    # Cut, never rounded up: a plan must hold what is ordered.
    traits = {ours: row[theirs] // unit for ours, theirs, unit in _TRAITS if type(row.get(theirs)) is int}
    return Price(kind, hourly, monthly, MappingProxyType(traits))


def _thing(told: object) -> Thing | None:
    if not isinstance(told, dict) or not is_uuid(told.get("uuid")):
        return None
    name = told.get("name")
    return Thing(
        ref=told["uuid"],
        kind=SERVER,
        state=state_of(told),
        name=name if isinstance(name, str) else "",
        charged=True,  # from creation to deletion: the document ties the bill to no state
        created_at_ms=time_ms(told.get("created_at")),
    )


def _things(document: object) -> _Found:
    """Whatever servers an answer that is not as promised shows all the same."""
    data = document.get("data") if isinstance(document, dict) else None
    rows = data if isinstance(data, list) else [data]
    return tuple(thing for thing in map(_thing, rows) if thing is not None)


def _gone(match: Match, status: int, document: object) -> _Found:
    if match.route.name not in _ABOUT_ONE or status != _NOT_FOUND or _error_code(document) is None:
        return ()
    return tuple(Thing(ref, SERVER, "destroyed", charged=False, gone=True) for ref in _asked(match))


def _error_code(document: object) -> str | None:
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def _asked(match: Match) -> tuple[str, ...]:
    # Eight characters name no server for sure, so nothing is told of the one that they name.
    return (match.ref,) if match.ref is not None and is_uuid(match.ref) else ()


def _created(_match: Match, document: object) -> _Found | None:
    thing = _thing(document.get("data")) if isinstance(document, dict) else None
    return None if thing is None else (thing,)


def _shown(match: Match, document: object) -> _Found | None:
    found = _created(match, document)
    asked = (match.ref or "").lower()
    told = found[0].ref.lower() if found else ""
    return found if found and (told == asked or told.startswith(asked + "-")) else None


def _servers(_match: Match, document: object) -> _Found | None:
    return _listed(document)


def _listed(document: object) -> _Found | None:
    rows = document.get("data") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        return None
    things = tuple(thing for thing in map(_thing, rows) if thing is not None)
    return things if len(things) == len(rows) else None


def _status(match: Match, document: object) -> _Found | None:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict) or not {"state", "status"} <= data.keys():
        return None
    return tuple(Thing(ref, SERVER, state_of(data), charged=True) for ref in _asked(match))


def _credentials(_match: Match, document: object) -> _Found | None:
    data = document.get("data") if isinstance(document, dict) else None
    return () if isinstance(data, dict) and "password_status" in data else None


def _rows(_match: Match, document: object) -> _Found | None:
    return () if isinstance(document, dict) and isinstance(document.get("data"), list) else None


def _accepted(_match: Match, _document: object) -> _Found | None:
    return ()  # the document does not show what a power action answers


def _deleted(match: Match, _document: object) -> _Found | None:
    return tuple(Thing(ref, SERVER, "destroying", charged=True) for ref in _asked(match))


_READERS: Final = MappingProxyType(
    {
        "plans": _rows,
        "locations": _rows,
        "templates": _rows,
        "create": _created,
        "servers": _servers,
        "server": _shown,
        "status": _status,
        "credentials": _credentials,
        "power": _accepted,
        "delete": _deleted,
        "backups": _rows,
    }
)
