"""Which headers pass, agent to vendor and vendor to agent: allow-lists, both ways.

It must not know credentials: what a vendor's module or a rail adds is added after this. Theory: a header that
nobody understood is either useless or a channel, for one agent's money, identity or address to reach a vendor, or
for a shared account's figures to reach an agent; so what is not known to be harmless is dropped, whoever sends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.http.egress import resolve_location

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.http.egress import Origin

__all__ = ["agent_location", "request_headers", "response_headers"]

# The rest of a request is connection-level, the gateway's own vocabulary, or the agent's identity. `accept-encoding` stays
# here too: a compressed challenge could not be read.
_REQUEST_ALLOWED: Final = frozenset(
    {
        "accept",
        "accept-language",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-type",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
    }
)

# The agent is not invited to pay, to authenticate, or to keep state, anywhere but here; nor shown a shared account's figures.
_RESPONSE_ALLOWED: Final = frozenset(
    {
        "accept-ranges",
        "age",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-range",
        "content-type",
        "date",
        "deprecation",
        "etag",
        "expires",
        "last-modified",
        "retry-after",
        "sunset",
        "vary",
    }
)


def request_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """An agent's headers that may reach a vendor, in their order, less those that `Connection` lists."""
    return _filter(headers, _REQUEST_ALLOWED)


def response_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A vendor's headers that may reach an agent, in their order, less those that `Connection` lists.

    `Location` never passes as it is: see `agent_location`.
    """
    return _filter(headers, _RESPONSE_ALLOWED)


def agent_location(location: str, origin: Origin, target: str, prefix: str) -> str | None:
    """A vendor's Location as a path below `prefix` ("/proxy/<vendor>"), None if it leads away from that vendor."""
    path = resolve_location(origin, target, location)
    return None if path is None else prefix + path


def _filter(headers: Iterable[tuple[str, str]], allowed: frozenset[str]) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, str]] = []
    listed: set[str] = set()
    for field in headers:
        name = field[0].lower()
        if name in allowed:
            kept.append(field)
        elif name == "connection":
            listed.update(token.strip().lower() for token in field[1].split(","))
    return tuple([field for field in kept if field[0].lower() not in listed] if listed else kept)
