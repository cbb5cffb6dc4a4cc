"""Our own routes as data: what each takes, who may ask, what it answers; the dispatcher and the OpenAPI page read it.

Must not know what any handler does.  Theory: the description that agents read is made from the same rows that serve
them, so the two cannot drift apart.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from gateway.api.deps import ApiDeps
from gateway.api.exchange import Exchange
from gateway.api.respond import JSON_TYPE

Schema = Mapping[str, Any]
PAGE = frozenset({"after", "limit"})


@dataclass(frozen=True, slots=True)
class Told:
    """What a handler answers. `body` is a document for JSON, bytes as they are, or an async iterator of bytes.

    Pieces of an iterator are written as they come, and it is closed at the end; where it raises, or the reader does not
    keep up, the connection is cut off. `media_type` stands for the endpoint's own where the answer has another.
    """

    body: object
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str | None = None

    @property
    def stream(self) -> AsyncIterator[bytes] | None:
        """The body as pieces that come, None for one that is there."""
        return self.body if isinstance(self.body, AsyncIterator) else None


def listed(entries: Sequence[Mapping[str, Any]], *, more: bool) -> Told:
    """Return one page of a list. `more`: it goes on after the last of these entries, which is then `next` by its id."""
    return Told({"entries": entries, "next": entries[-1]["id"] if more else None})


Handler = Callable[[ApiDeps, Exchange], Awaitable[Told]]


@dataclass(frozen=True, slots=True)
class Demand:
    """The 402 of a route that is answered only once something was paid, or proved: why, and the headers that say how.

    `offers` are those of discovery's `x-payment-info` (MPP discovery). They are advice: what counts is the 402 itself.
    """

    why: str
    tells: tuple[str, ...]
    takes: tuple[str, ...]  # the headers of the request that may hold what was demanded, but for Authorization
    offers: tuple[Mapping[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. `scope` is what the key must have; `public` needs no key. Problems of every route are not repeated.

    `query_schemas` describe what `query` allows, `query_needed` of it must be given. `also` are statuses of success beside
    `status`, `tells` the names of headers that an answer may have beside those of every answer. `key_needed`: there must be
    an Idempotency-Key. `capped`: it honours X-Max-Charge. `asks_vendor`: it may end as any call of a vendor's own API does.
    `streams`: it answers as server-sent events where Accept asks for them. `path_schemas` describe the path's parameters.
    `demand`: it answers 402 until that is met. `always` are headers of every answer of it, problems included.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Schema
    scope: str | None = None
    public: bool = False
    status: int = 200
    query: frozenset[str] = frozenset()
    body: Schema | None = None
    problems: tuple[str, ...] = ()
    media_type: str = JSON_TYPE
    idempotent_key: bool = False
    query_schemas: Mapping[str, Schema] = field(default_factory=dict)
    query_needed: frozenset[str] = frozenset()
    body_type: str = JSON_TYPE
    body_needed: bool = True
    also: tuple[int, ...] = ()
    tells: tuple[str, ...] = ()
    key_needed: bool = False
    capped: bool = False
    asks_vendor: bool = False
    streams: bool = False
    path_schemas: Mapping[str, Schema] = field(default_factory=dict)
    demand: Demand | None = None
    always: tuple[tuple[str, str], ...] = ()
    segments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.path[1:].split("/")))


@dataclass(frozen=True, slots=True)
class Found:
    """The endpoints of a path by method, with the path's parameters."""

    by_method: Mapping[str, Endpoint]
    parameters: Mapping[str, str]

    @property
    def always(self) -> tuple[tuple[str, str], ...]:
        """What every answer of the path carries, as far as one of its methods says so."""
        return max((endpoint.always for endpoint in self.by_method.values()), key=len)


class Table:
    """The routes, found by path."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.endpoints = endpoints
        self._by_path: dict[tuple[str, ...], dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            self._by_path.setdefault(endpoint.segments, {})[endpoint.method] = endpoint

    def find(self, path: str) -> Found | None:
        """Return what serves a raw path. Segments are split before they are decoded."""
        parts = tuple(path[1:].split("/"))
        exact = self._by_path.get(parts)
        if exact is not None:
            return Found(exact, {})
        for segments, by_method in self._by_path.items():
            if len(segments) != len(parts):
                continue
            parameters = _fit(segments, parts)
            if parameters:
                return Found(by_method, parameters)
        return None


def _fit(segments: tuple[str, ...], parts: tuple[str, ...]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{"):
            if not part:
                return None
            found[segment[1:-1]] = unquote(part)
        elif segment != part:
            return None
    return found
