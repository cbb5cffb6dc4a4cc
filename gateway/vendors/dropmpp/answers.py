"""What dropmpp's answers mean: delivered or not, what they made, what they show, and the prices that the catalogue states.

Must not know money's books or ownership.  Theory: the document names few members, so an answer counts only when it holds
what is named; whatever falls short of that is unknown, never refused, because the vendor charges before it works. What
cannot be read may show others' things, so it is not shown.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from gateway.core.money import AmountError, parse_amount
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match
from gateway.core.strict_json import dump_json
from gateway.http.port import UpstreamResponse
from gateway.ports import Created, Reading, Seen
from gateway.vendors.account import decimal_text, document_of, is_ref, time_ms
from gateway.vendors.dropmpp.routes import (
    FREE_HOURS,
    KEY,
    LISTS,
    RETENTION_ITEM,
    SERVER,
    SIZES,
    SNAPSHOT,
    create_item,
    hour_item,
    state_of,
)
from gateway.vendors.judge import judge

__all__ = ["entries_of", "read", "size_gb"]

_HOUR_S: Final = 3600
_MAX_HOURS: Final = 366 * 24
_ACTIVE: Final = "active"
_MISSING: Final = "missing"
_NO_SUCH_THING: Final = frozenset({404, 410})
_SHOWN: Final = MappingProxyType({"server_show": SERVER, "snapshot_show": SNAPSHOT})
_GONE: Final = MappingProxyType({SERVER: "destroyed", SNAPSHOT: "deleted", KEY: "deleted"})
_SIZE_GB: Final = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{1,9})?", re.ASCII)

_Reader = Callable[[Match, Any], Reading | None]


def read(match: Match, answer: UpstreamResponse) -> Reading:
    """Judge an answer; an answer whose things cannot be told has no body. Never raises."""
    verdict, document = judge(answer), document_of(answer)
    if verdict.delivery is not Delivery.DELIVERED:
        return Reading(verdict.delivery, verdict.fault, answer.body, seen=_missed(match, answer.status))
    reader = _READERS[match.route.name]
    reading = None if document is None else reader(match, document)
    if reading is not None:
        return reading if reading.body else replace(reading, body=answer.body)
    return Reading(Delivery.UNKNOWN, Fault.NONE, b"" if match.route.listings else answer.body)


def entries_of(document: Any, kind: str) -> list[dict[str, Any]] | None:  # noqa: ANN401 - JSON's own type
    """Return the entries of a list of things, or None for what is no such list."""
    entries = document.get(LISTS[kind]) if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        return None
    return entries


def size_gb(value: object) -> str:
    """Return a snapshot's size as plain decimal text, "" for what is none."""
    text = decimal_text(value) or ""
    return text if _SIZE_GB.fullmatch(text) is not None and text != "0" else ""


def _delivered(**told: Any) -> Reading:  # noqa: ANN401 - members of Reading
    return Reading(Delivery.DELIVERED, Fault.NONE, **{"body": b"", **told})


# lists and things


def _list_of(kind: str) -> _Reader:
    def read_list(_: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
        entries = entries_of(document, kind)
        if entries is None:
            return None
        # Only the things themselves are shown: a count or a total beside them would be of all agents'.
        shown = dump_json(entries if isinstance(document, list) else {LISTS[kind]: entries})
        return _delivered(body=shown, seen=tuple(_seen_all(kind, entries)))

    return read_list


def _one_of(kind: str) -> _Reader:
    def read_one(match: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
        if not _is_asked(match, document):
            return None
        return _delivered(seen=tuple(_seen_all(kind, [document])))

    return read_one


def _missed(match: Match, status: int) -> tuple[Seen, ...]:
    """The vendor denies a thing that we asked it to show: it is over, or was never there."""
    kind = _SHOWN.get(match.route.name)
    if kind is None or match.ref is None or status not in _NO_SUCH_THING:
        return ()
    return (Seen(match.ref, kind, _MISSING),)


def _seen_all(kind: str, entries: list[dict[str, Any]]) -> Iterator[Seen]:
    for entry in entries:
        ref = entry.get("id")
        if not is_ref(ref):
            continue
        if kind == SERVER:
            size = entry.get("size")
            plan = size if isinstance(size, str) and size in SIZES else ""
            yield Seen(ref, kind, _state_in(kind, entry), time_ms(entry.get("paid_until")), plan)
        elif kind == SNAPSHOT:
            source = entry.get("source_server")
            yield Seen(
                *(ref, kind, _state_in(kind, entry), time_ms(entry.get("expires_at")), size_gb(entry.get("size_gb"))),
                parent=source if is_ref(source) else None,
            )
        else:
            yield Seen(ref, kind)


def _state_in(kind: str, entry: dict[str, Any]) -> str | None:
    return state_of(kind, entry["status"]) if "status" in entry else None


def _is_asked(match: Match, document: Any) -> bool:  # noqa: ANN401 - JSON's own type
    return isinstance(document, dict) and match.ref is not None and document.get("id") == match.ref


# what calls make, change and end


def _made_server(_: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    if not isinstance(document, dict) or not is_ref(document.get("id")):
        return None
    expires_at_ms = time_ms(document.get("paid_until"))
    state = state_of(SERVER, document.get("status"))
    return _delivered(created=Created(document["id"], SERVER, state, None, expires_at_ms))


def _made_snapshot(_: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    created = _snapshot_in(document)
    return None if created is None else _delivered(created=created)


def _snapshot_in(document: Any) -> Created | None:  # noqa: ANN401 - JSON's own type
    if not isinstance(document, dict) or not is_ref(document.get("id")):
        return None
    hours = document.get("expires_in_hours")
    hours = hours if type(hours) is int and 0 < hours <= _MAX_HOURS else FREE_HOURS
    state = state_of(SNAPSHOT, document.get("status", "pending"))
    return Created(document["id"], SNAPSHOT, state, None, None, size_gb(document.get("size_gb")), hours * _HOUR_S)


def _made_key(_: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    if not isinstance(document, dict) or not is_ref(document.get("id")):
        return None
    return _delivered(created=Created(document["id"], KEY, _ACTIVE, None, None))


def _extended(kind: str, member: str) -> _Reader:
    def read_extended(match: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
        expires_at_ms = time_ms(document.get(member)) if _is_asked(match, document) else None
        if expires_at_ms is None or match.ref is None:
            return None
        return _delivered(seen=(Seen(match.ref, kind, expires_at_ms=expires_at_ms),))

    return read_extended


def _switched(match: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    """The document says nothing of these answers: any whole one is a delivery, unless it speaks of another thing."""
    if isinstance(document, dict) and "id" in document and not _is_asked(match, document):
        return None
    status = document.get("status") if isinstance(document, dict) else None
    if match.ref is None or status is None:
        return _delivered()
    return _delivered(seen=(Seen(match.ref, SERVER, state_of(SERVER, status)),))


def _ended(kind: str) -> _Reader:
    def read_ended(match: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
        if not isinstance(document, dict) or document.get("deleted", True) is not True or match.ref is None:
            return None
        created = _snapshot_in(document.get("snapshot")) if kind == SERVER else None
        return _delivered(created=created, seen=(Seen(match.ref, kind, _GONE[kind]),))

    return read_ended


# the catalogue


def _sizes(_: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    entries = document.get("sizes") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        return None
    prices: dict[str, int | None] = {}
    for entry in entries:
        slug = entry.get("slug") if isinstance(entry, dict) else None
        if not isinstance(slug, str) or slug not in SIZES:
            continue
        for name, member in ((create_item(slug), "create_fee"), (hour_item(slug), "hourly")):
            # Two entries for one size are no price: an agent may read the one and the vendor ask the other.
            prices[name] = None if name in prices else _rate_base(entry.get(member))
    return _delivered(prices=_known(prices))


def _retention(_: Match, document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    if not isinstance(document, dict):
        return None
    return _delivered(prices=_known({RETENTION_ITEM: _rate_base(document.get("rate_per_gb_day"))}))


def _plain(_match: Match, _document: Any) -> Reading | None:  # noqa: ANN401 - JSON's own type
    return _delivered()


def _known(prices: dict[str, int | None]) -> tuple[tuple[str, int], ...]:
    return tuple((name, price_base) for name, price_base in prices.items() if price_base is not None)


def _rate_base(value: object) -> int | None:
    """Return a rate in base units, None for what is none, or is finer than a base unit: nothing is rounded before the end."""
    try:
        return parse_amount(decimal_text(value))
    except AmountError:
        return None


_READERS: Final = MappingProxyType[str, _Reader](
    {
        "sizes": _sizes,
        "regions": _plain,
        "images": _plain,
        "snapshot_pricing": _retention,
        "server_create": _made_server,
        "server_list": _list_of(SERVER),
        "server_show": _one_of(SERVER),
        "server_extend": _extended(SERVER, "paid_until"),
        "server_snapshot": _made_snapshot,
        "server_delete": _ended(SERVER),
        "server_reboot": _switched,
        "server_power": _switched,
        "snapshot_list": _list_of(SNAPSHOT),
        "snapshot_show": _one_of(SNAPSHOT),
        "snapshot_extend": _extended(SNAPSHOT, "expires_at"),
        "snapshot_delete": _ended(SNAPSHOT),
        "key_create": _made_key,
        "key_list": _list_of(KEY),
        "key_delete": _ended(KEY),
    }
)
