"""`GET /v1/events`: what happened to an account's things, as pages or as a stream (server-sent events).

Must not know what is told or why.  Theory: a stream is the same list read on as it grows; every event carries the id from
which it goes on, so a connection that breaks, or that is cut because its reader was too slow, loses nothing.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from aiohttp import web

from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told
from gateway.api.exchange import Exchange, single_header
from gateway.api.plans import neutral_of
from gateway.api.schemas import TEXT, TIME, named, page, record
from gateway.core.apikeys import READ
from gateway.core.events import ID_TEXT, PATTERN_TEXT, Event, chosen, event_id, is_pattern, seq_of
from gateway.core.problems import Problem
from gateway.flow.servers.listening import Matches
from gateway.flow.servers.telling import PAGE_EVENTS

STREAM_TYPE: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0  # proxies close what is silent for longer than half a minute
MAX_TYPES: Final = 32
_RECONNECT: Final = b"retry: 2000\n\n"
_HEARTBEAT: Final = b": nothing new\n\n"
_EVERYTHING: Final = ("*",)

_EVENT = record(
    type=TEXT,
    timestamp=TIME,
    data={
        "type": "object",
        "description": "the event's `id`, and the ids and facts of what it is about",
        "properties": {"id": {**TEXT, "pattern": "^evt_[0-9]+$"}},
        "required": ["id"],
        "additionalProperties": True,
    },
)
TYPES_IN = {
    **TEXT,
    "pattern": f"^{PATTERN_TEXT}(,{PATTERN_TEXT}){{0,{MAX_TYPES - 1}}}$",
    "description": 'types, families ("server.*") or "*", with commas between them',
}
EVENT_ID_IN = {**TEXT, "pattern": f"^{ID_TEXT}$", "description": "the id of an event"}

EVENT = named("Event", _EVENT, examples.EVENT)


async def events(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's events, oldest first, or stream them where `Accept` asks for it. Raises Problem."""
    query = query_of(exchange.query, PAGE | {"types"})
    types = _types(query.get("types"))
    asked = page_of(query, deps.settings)
    if wants_stream(exchange.request):
        return stream_events(deps, exchange, lambda event: chosen(types, event.type), asked.after)
    after = 0 if asked.after is None else _seq(asked.after, "after")
    found, reached = await neutral_of(deps).telling.events(exchange.account_id, after, asked.limit)
    entries = [event.document() for event in found if chosen(types, event.type)]
    return Told({"entries": entries, "next": None if reached is None else event_id(reached)})


def wants_stream(request: web.BaseRequest) -> bool:
    """Say whether the request's `Accept` names server-sent events."""
    accepted = ",".join(request.headers.getall("Accept", []))
    return any(part.partition(";")[0].strip().lower() == STREAM_TYPE for part in accepted.split(","))


def stream_events(deps: ApiDeps, exchange: Exchange, matches: Matches, after: str | None = None) -> Told:
    """Return an answer that tells the account's events that match, as they happen, until the reader has enough.

    It begins after Last-Event-ID, or after the event with the id `after`, or now. Raises Problem: bad_request,
    too_many_calls.
    """
    given = single_header(exchange.request, "Last-Event-ID")
    seq = _seq(given, "Last-Event-ID") if given else None if after is None else _seq(after, "after")
    if exchange.request.method == "HEAD":
        return Told(b"", media_type=STREAM_TYPE)
    return Told(_Stream(deps, exchange, matches, seq), media_type=STREAM_TYPE)


class _Stream:
    """An account's events as pieces of a stream. It waits from the moment it is made, so nothing falls in between."""

    def __init__(self, deps: ApiDeps, exchange: Exchange, matches: Matches, after: int | None) -> None:
        self._deps, self._key_id, self._matches = deps, exchange.granted.id, matches
        self._account_id, self._telling = exchange.account_id, neutral_of(deps).telling
        self._after = deps.store.view.journal_seq if after is None else after
        self._listener = self._telling.listening.join(self._account_id, matches, self._telling.read_seq)
        self._pieces = self._run()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Stop waiting."""
        self._telling.listening.leave(self._listener)
        await self._pieces.aclose()

    async def _run(self) -> AsyncGenerator[bytes]:
        yield _RECONNECT
        async for piece in self._past(self._listener.since):
            yield piece
        last = max(self._after, self._listener.since)
        while not self._listener.over and self._may_read():
            event = await self._listener.next(HEARTBEAT_S)
            if event is None:
                yield _HEARTBEAT
            elif event.seq > last:
                yield _piece(event)

    async def _past(self, until: int) -> AsyncGenerator[bytes]:
        """Yield what was told before this stream began; a long stretch with nothing in it still shows that it lives."""
        at: int | None = self._after
        while at is not None and at < until and self._may_read():
            found, at = await self._telling.events(self._account_id, at, PAGE_EVENTS, until)
            pieces = [_piece(event) for event in found if self._matches(event)]
            yield b"".join(pieces) or _HEARTBEAT

    def _may_read(self) -> bool:
        """A revoked key ends its streams, at the next event or heartbeat."""
        key = self._deps.store.view.keys_by_id.get(self._key_id)
        return key is not None and key.revoked_at_ms is None


def _piece(event: Event) -> bytes:
    document: dict[str, Any] = event.document()
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)  # escapes every line break
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n".encode()


def _types(text: str | None) -> tuple[str, ...]:
    if text is None:
        return _EVERYTHING
    types = tuple(text.split(","))
    if len(types) > MAX_TYPES or not all(is_pattern(each) for each in types):
        detail = f'types are at most {MAX_TYPES} of "server.running", "server.*" or "*", with commas between them'
        raise Problem("bad_request", detail, "types")
    return types


def _seq(text: str, field: str) -> int:
    seq = seq_of(text)
    if seq is None:
        raise Problem("bad_request", f"{field} is the id of an event", field)
    return seq


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/events",
        "What happened, oldest first; a page may be short, or empty, and not the last. A stream with Accept: text/event-stream",
        events,
        page(EVENT),
        scope=READ,
        query=PAGE | {"types"},
        query_schemas={"types": TYPES_IN, "after": EVENT_ID_IN},
        problems=("too_many_calls",),
        streams=True,
    ),
)
