"""Egress rules: where requests may go, and what leads away."""

import pytest

from gateway.http.egress import EgressRule, Origin, Timeouts, address_allowed, leaves_origin, resolve_location

VENDOR = Origin.parse("https://vendor.example")


@pytest.mark.parametrize(
    ("text", "canonical", "authority"),
    [
        ("https://Vendor.Example", "https://vendor.example:443", "vendor.example"),
        ("https://vendor.example:443/", "https://vendor.example:443", "vendor.example"),
        ("https://vendor.example:8443", "https://vendor.example:8443", "vendor.example:8443"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("http://[::1]:9000", "http://[::1]:9000", "[::1]:9000"),
    ],
)
def test_origins_are_read_and_written_back(text: str, canonical: str, authority: str) -> None:
    """One origin has one spelling, whose Host names the port only where it must."""
    origin = Origin.parse(text)
    assert str(origin) == (canonical.removesuffix(":443") if canonical.startswith("https") else canonical)
    assert origin.authority == authority
    assert Origin.parse(str(origin)) == origin


@pytest.mark.parametrize(
    "text",
    [
        "ftp://vendor.example",
        "vendor.example",
        "https://",
        "https://user@vendor.example",
        "https://vendor.example/path",
        "https://vendor.example?x",
        "https://vendor.example/?",
        "https://vendor.example#",
        "https://vendor.example:0",
        "https://vendor.example:99999",
        "https://vendor.example:abc",
        "https://ven dor.example",
        "https://vendör.example",
        "https://-x.example",
        "https://vendor.example\r\nx",
    ],
)
def test_what_is_more_or_less_than_an_origin_is_refused(text: str) -> None:
    """An origin is scheme, host and port; nothing else can ride along."""
    with pytest.raises(ValueError):
        Origin.parse(text)


def test_rules_are_strict_unless_told_otherwise() -> None:
    """Plain http and addresses inside must be allowed by name."""
    EgressRule(VENDOR)
    with pytest.raises(ValueError, match="allow_plain_http"):
        EgressRule(Origin.parse("http://vendor.example"))
    with pytest.raises(ValueError, match="allow_private"):
        EgressRule(Origin.parse("https://127.0.0.1"))
    with pytest.raises(ValueError, match="allow_private"):
        EgressRule(Origin.parse("https://[::ffff:169.254.169.254]"))
    with pytest.raises(ValueError, match="max_connections"):
        EgressRule(VENDOR, max_connections=0)
    EgressRule(Origin.parse("http://127.0.0.1:1"), allow_private=True, allow_plain_http=True)


@pytest.mark.parametrize(
    "fields",
    [{"connect_s": 0}, {"connect_s": 200}, {"first_byte_s": 0}, {"first_byte_s": 200}, {"body_s": 0}, {"stream_s": 0}],
    ids=str,
)
def test_timeouts_that_would_blur_the_fate_of_a_request_are_refused(fields: dict[str, float]) -> None:
    """Connecting must end before the whole does, or an error could not say what it means."""
    with pytest.raises(ValueError, match="time-outs"):
        Timeouts(**fields)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    """The internet is where vendors are."""
    assert address_allowed(EgressRule(VENDOR), address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "not an address",
        "",
    ],
)
def test_addresses_inside_are_refused(address: str) -> None:
    """Loopback, private, link-local, metadata, and IPv6 spellings of them."""
    assert not address_allowed(EgressRule(VENDOR), address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1"])
def test_a_sandbox_rule_allows_them(address: str) -> None:
    """The sandbox vendors live on loopback."""
    assert address_allowed(EgressRule(VENDOR, allow_private=True), address)


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/a?b=c", "/a?b=c"),
        ("next", "/x/next"),
        ("../up", "/up"),
        ("https://vendor.example/y", "/y"),
        ("https://VENDOR.example:443", "/"),
        ("//vendor.example/z", "/z"),
        ("?q", "/x/start?q"),
        ("", "/x/start"),
    ],
)
def test_locations_within_the_origin_become_paths(location: str, path: str) -> None:
    """Relative and absolute forms of the vendor's own places."""
    assert resolve_location(VENDOR, "/x/start", location) == path
    assert not leaves_origin(VENDOR, "/x/start", 302, location)


@pytest.mark.parametrize(
    "location",
    [
        "http://vendor.example/",
        "https://vendor.example:444/",
        "https://vendor.example.evil/",
        "https://evil.example/",
        "https://vendor.example@evil.example/",
        "https://user@vendor.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        " //evil.example",
        "https:evil.example",
        "https:///evil.example",
        "javascript:alert(1)",
        "https://[::1",
        "https://vendor.example//evil.example/",
    ],
)
def test_locations_that_any_client_would_follow_elsewhere_lead_away(location: str) -> None:
    """Where readers disagree, the worst reading counts."""
    assert resolve_location(VENDOR, "/x", location) is None
    assert leaves_origin(VENDOR, "/x", 307, location)


def test_only_redirects_redirect() -> None:
    """A Location beside a 201 is information, and a redirect without one goes nowhere."""
    assert not leaves_origin(VENDOR, "/", 201, "https://evil.example/")
    assert not leaves_origin(VENDOR, "/", 302, None)
