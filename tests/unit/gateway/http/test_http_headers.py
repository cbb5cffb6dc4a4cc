"""Header hygiene: allow-lists in both directions, and the names for which they are there."""

import pytest

from gateway.http.egress import Origin
from gateway.http.headers import (
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
    "Access-Control-Expose-Headers",
    "Connection",
    "HTTP2-Settings",
    "Keep-Alive",
    "Origin",
    "Payment-Id",
    "Proxy-Authenticate",
    "Proxy-Connection",
    "Referer",
    "Sign-In-With-X",
    "Trailer",
    "User-Agent",
    "X-Forwarded-Proto",
    "X-Payment-Response",
    "X-Anything",
]


@pytest.mark.parametrize("name", AGENTS_OWN)
def test_what_is_the_agents_or_the_hops_own_never_reaches_a_vendor(name: str) -> None:
    """Money, identity, addresses and framing stop here, in any case of letters."""
    for spelling in (name, name.lower(), name.upper()):
        assert request_headers([(spelling, "x")]) == ()


def test_ordinary_request_headers_pass_in_order() -> None:
    """Content and conditions belong to the call; what is unknown is dropped."""
    sent = [("Content-Type", "application/json"), ("ACCEPT", "*/*"), ("Range", "bytes=0-1"), ("X-Region", "EU")]
    assert request_headers(sent) == tuple(sent[:3])


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
        "Content-Length",
        "Transfer-Encoding",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Trailer",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Alt-Svc",
        "X-Powered-By",
    ],
)
def test_what_speaks_of_payment_or_the_shared_account_never_reaches_an_agent(name: str) -> None:
    """An agent is not invited to pay elsewhere, and sees no figures of an account that it shares."""
    for spelling in (name, name.lower(), name.upper()):
        assert response_headers([(spelling, "x")]) == ()


def test_ordinary_response_headers_pass() -> None:
    """What describes the body passes, repeated ones in order; what is unknown is dropped."""
    got = [("Content-Type", "a/b"), ("Vary", "A"), ("vary", "B"), ("Retry-After", "5"), ("X-Sku", "s")]
    assert response_headers(got) == tuple(got[:4])


def test_locations_are_rewritten_below_the_proxy() -> None:
    """A vendor's own redirect keeps the agent on the gateway; any other is not shown."""
    origin = Origin.parse("https://vendor.example")
    assert agent_location("/b?c=d", origin, "/a", "/proxy/v") == "/proxy/v/b?c=d"
    assert agent_location("https://vendor.example/b", origin, "/a", "/proxy/v") == "/proxy/v/b"
    assert agent_location("https://evil.example/b", origin, "/a", "/proxy/v") is None
