"""Header hygiene: allow-lists in both directions, and names that nothing can let through."""

import pytest

from gateway.http.egress import Origin
from gateway.http.headers import (
    NEVER_FORWARDED,
    NEVER_RETURNED,
    agent_location,
    request_headers,
    response_headers,
)

AGENTS_OWN = [
    "Authorization",
    "X-Api-Key",
    "Cookie",
    "X-Payment",
    "PAYMENT-SIGNATURE",
    "Idempotency-Key",
    "X-Max-Charge",
    "Prefer",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "X-Original-URL",
    "CF-Connecting-IP",
    "Via",
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Upgrade",
    "TE",
    "Expect",
    "Proxy-Authorization",
    "Accept-Encoding",
    "Referer",
    "User-Agent",
    "X-Anything",
]


@pytest.mark.parametrize("name", AGENTS_OWN)
def test_what_is_the_agents_or_the_hops_own_never_reaches_a_vendor(name: str) -> None:
    """Money, identity, addresses and framing stop here, in any case of letters."""
    for spelling in (name, name.lower(), name.upper()):
        assert request_headers([(spelling, "x")]) == ()


@pytest.mark.parametrize("name", [*sorted(NEVER_FORWARDED), "x-forwarded-proto", "x-payment-response", "payment-id"])
def test_configuration_cannot_forward_what_must_never_pass(name: str) -> None:
    """A vendor's own list is an addition to the allow-list, not a way around the ban."""
    assert request_headers([(name, "x")], frozenset({name})) == ()


def test_ordinary_request_headers_pass_in_order() -> None:
    """Content and conditions belong to the call; a vendor's own names pass when its configuration says so."""
    sent = [("Content-Type", "application/json"), ("ACCEPT", "*/*"), ("Range", "bytes=0-1"), ("X-Region", "EU")]
    assert request_headers(sent) == tuple(sent[:3])
    assert request_headers(sent, frozenset({"x-region"})) == tuple(sent)


def test_headers_that_connection_lists_are_dropped() -> None:
    """A header that its sender made hop-by-hop does not travel on."""
    sent = [("Accept", "*/*"), ("Connection", "close, Accept"), ("Content-Type", "text/plain")]
    assert request_headers(sent) == (("Content-Type", "text/plain"),)
    assert response_headers([("Connection", "ETag"), ("ETag", "x")]) == ()


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie",
        "PAYMENT-REQUIRED",
        "X-Payment-Required",
        "PAYMENT-RESPONSE",
        "X-Payment-Response",
        "WWW-Authenticate",
        "Server",
        "X-Balance-Remaining",
        "X-RateLimit-Remaining",
        "Location",
        "Connection",
        "Alt-Svc",
        "X-Powered-By",
    ],
)
def test_what_speaks_of_payment_or_the_shared_account_never_reaches_an_agent(name: str) -> None:
    """An agent is not invited to pay elsewhere, and sees no figures of an account that it shares."""
    assert response_headers([(name, "x")]) == ()


@pytest.mark.parametrize("name", sorted(NEVER_RETURNED))
def test_configuration_cannot_return_what_must_never_pass(name: str) -> None:
    """Nor can a vendor's configuration let it through."""
    assert response_headers([(name, "x")], frozenset({name})) == ()


def test_ordinary_response_headers_pass() -> None:
    """What describes the body passes, repeated ones in order, and a vendor's harmless ones by configuration."""
    got = [("Content-Type", "a/b"), ("Vary", "A"), ("vary", "B"), ("Retry-After", "5"), ("X-Sku", "s")]
    assert response_headers(got) == tuple(got[:4])
    assert response_headers(got, frozenset({"x-sku"})) == tuple(got)


def test_locations_are_rewritten_below_the_proxy() -> None:
    """A vendor's own redirect keeps the agent on the gateway; any other is not shown."""
    origin = Origin.parse("https://vendor.example")
    assert agent_location("/b?c=d", origin, "/a", "/proxy/v") == "/proxy/v/b?c=d"
    assert agent_location("https://vendor.example/b", origin, "/a", "/proxy/v") == "/proxy/v/b"
    assert agent_location("https://evil.example/b", origin, "/a", "/proxy/v") is None
