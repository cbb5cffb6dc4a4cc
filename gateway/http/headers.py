"""Which headers pass, agent to vendor and vendor to agent: allow-lists, both ways.

It must not know credentials: what a vendor's module or a rail adds is added after this. Theory: a header that
nobody understood is either useless or a channel, for one agent's money, identity or address to reach a vendor, or
for a shared account's figures to reach an agent; so the unknown is dropped, and names that must never pass cannot
be allowed by mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.http.egress import resolve_location

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.http.egress import Origin

__all__ = ["NEVER_FORWARDED", "NEVER_RETURNED", "agent_location", "request_headers", "response_headers"]

# Connection-level: they speak of one hop (RFC 9110, 7.6.1), and smuggle requests when they are passed on.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

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

# The gateway's own vocabulary and the agent's identity. `accept-encoding`: a compressed challenge could not be read.
NEVER_FORWARDED: Final = _HOP_BY_HOP | {
    "accept-encoding",
    "access-control-expose-headers",
    "authorization",
    "cookie",
    "forwarded",
    "idempotency-key",
    "origin",
    "payment-signature",
    "prefer",
    "referer",
    "sign-in-with-x",
    "via",
    "x-api-key",
    "x-max-charge",
    "x-payment",
    "x-real-ip",
}
_NEVER_FORWARDED_PREFIXES: Final = ("x-forwarded-", "x-original-", "x-payment-", "payment-", "cf-", "proxy-")

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

# The agent must not be invited to pay, to authenticate, or to keep state, anywhere but here.
NEVER_RETURNED: Final = _HOP_BY_HOP | {
    "alt-svc",
    "clear-site-data",
    "location",
    "payment-required",
    "payment-response",
    "set-cookie",
    "strict-transport-security",
    "www-authenticate",
    "x-payment-required",
    "x-payment-response",
}
_NO_PREFIXES: Final[tuple[str, ...]] = ()


def request_headers(
    headers: Iterable[tuple[str, str]], also: frozenset[str] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """An agent's headers that may reach a vendor, in their order; `also` (lower case) are the vendor's own names.

    Names in NEVER_FORWARDED, and those that `Connection` lists, are dropped whatever `also` says.
    """
    return _filter(headers, _REQUEST_ALLOWED, also, NEVER_FORWARDED, _NEVER_FORWARDED_PREFIXES)


def response_headers(
    headers: Iterable[tuple[str, str]], also: frozenset[str] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """A vendor's headers that may reach an agent, in their order; `also` (lower case) are that vendor's harmless ones.

    `Location` never passes as it is: see `agent_location`.
    """
    return _filter(headers, _RESPONSE_ALLOWED, also, NEVER_RETURNED, _NO_PREFIXES)


def agent_location(location: str, origin: Origin, target: str, prefix: str) -> str | None:
    """A vendor's Location as a path below `prefix` ("/proxy/<vendor>"), None if it leads away from that vendor."""
    path = resolve_location(origin, target, location)
    return None if path is None else prefix + path


def _filter(
    headers: Iterable[tuple[str, str]],
    allowed: frozenset[str],
    also: frozenset[str],
    never: frozenset[str],
    never_prefixes: tuple[str, ...],
) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, str, str]] = []
    listed: set[str] = set()
    for name, value in headers:
        lower = name.lower()
        if lower in allowed or (lower in also and lower not in never and not lower.startswith(never_prefixes)):
            kept.append((lower, name, value))
        elif lower == "connection":
            listed.update(token.strip().lower() for token in value.split(","))
    return tuple((name, value) for lower, name, value in kept if lower not in listed)
