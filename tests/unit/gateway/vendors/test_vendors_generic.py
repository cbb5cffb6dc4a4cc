"""The generic vendor: rules by prefix, the ceiling as the check, nothing taken for granted."""

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.commands import AccountLimits
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, Ownership, Pricing, Represent, Window
from gateway.http.port import UpstreamResponse
from gateway.ports import Reading, VendorTerms
from gateway.vendors.generic import DEFAULT_WINDOW, METHODS, GenericVendor, PathRule
from gateway.vendors.overrides import MAX_WINDOW_S

TERMS = VendorTerms(b"\1" * 20, (), frozenset(), 0, {}, 300, 3600, AccountLimits(1, 1, 1, 1, 1))
RULES = (
    PathRule("/v1", ceiling_base=200),
    PathRule("/v1/images", ceiling_base=900, window=Window(60, 600), represent=Represent.YES),
    PathRule("/v1/a b", represent=Represent.NO),
)


def vendor(*rules: PathRule, **options: object) -> GenericVendor:
    """A vendor with a ceiling of 100."""
    return GenericVendor("shop", "https://shop.example", TERMS, ceiling_base=100, rules=rules, **options)  # type: ignore[arg-type]


def matched(shop: GenericVendor, path: str, method: str = "GET") -> Match:
    """The match that must exist."""
    found = shop.match(method, path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "ceiling_base"),
    [
        ("/", 100),
        ("/v2", 100),
        ("/v10", 100),
        ("/v1x/images", 100),
        ("/v1", 200),
        ("/v1/", 200),
        ("/v1/text", 200),
        ("/v1/imagesx", 200),
        ("/%76%31/text", 200),
        ("/v1/images", 900),
        ("/v1/images/", 900),
        ("/v1/images/cat/large.png", 900),
    ],
)
def test_the_longest_prefix_of_whole_segments_decides(path: str, ceiling_base: int) -> None:
    """Order in the configuration does not matter, nor how the path is encoded."""
    for rules in (RULES, RULES[::-1]):
        assert matched(vendor(*rules), path).route.ceiling_base == ceiling_base


def test_a_rule_keeps_what_it_does_not_name() -> None:
    """Ceiling, window and represent each fall back to the vendor's."""
    shop = vendor(*RULES, window=Window(30, 40), represent=Represent.YES)
    spaced = matched(shop, "/v1/a%20b/c").route
    assert (spaced.ceiling_base, spaced.window, spaced.represent) == (100, Window(30, 40), Represent.NO)
    images = matched(shop, "/v1/images").route
    assert (images.window, images.represent) == (Window(60, 600), Represent.YES)
    assert matched(shop, "/v1").route.represent is Represent.YES


def test_the_defaults_take_nothing_for_granted() -> None:
    """Any method, maybe priced, owned by nobody, no second showing of a credential, the inline window."""
    route = matched(vendor(), "/x").route
    assert route.methods == METHODS
    assert (route.pricing, route.ownership) == (Pricing.MAYBE, Ownership.NONE)
    assert (route.represent, route.window, route.safe) == (Represent.UNKNOWN, DEFAULT_WINDOW, False)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "get", "PROPFIND", ""])
def test_other_methods_are_not_served(method: str) -> None:
    """Above all not TRACE, which sends credentials back."""
    assert vendor().match(method, "/x") is None


@pytest.mark.parametrize(
    "path", ["", "x", "/..", "/a/../b", "/%2e%2e/b", "/a%2fb", "/a%00", "/a\\b", "/a%250a", "/a%0a"]
)
def test_paths_that_a_router_could_read_otherwise_match_nothing(path: str) -> None:
    """Dot segments, hidden slashes, control characters, double encoding."""
    assert vendor(*RULES).match("GET", path) is None


@pytest.mark.parametrize(
    "rule",
    [
        PathRule(""),
        PathRule("/"),
        PathRule("v1"),
        PathRule("/v1/"),
        PathRule("//v1"),
        PathRule("/v1/*"),
        PathRule("/{id}"),
        PathRule("/a%20b"),
        PathRule("/a?b"),
        PathRule("/a/../b"),
        PathRule("/a\nb"),
        PathRule("/v1", ceiling_base=0),
        PathRule("/v1", ceiling_base=-1),
        PathRule("/v1", window=Window(0, 1)),
        PathRule("/v1", window=Window(2, 1)),
        PathRule("/v1", window=Window(1, MAX_WINDOW_S + 1)),
    ],
)
def test_a_rule_that_cannot_be_meant_stops_the_start(rule: PathRule) -> None:
    """Prefixes that would silently match nothing, numbers out of bounds."""
    with pytest.raises(ValueError, match="prefix" if rule.ceiling_base is None and rule.window is None else "/v1"):
        vendor(rule)


def test_two_rules_for_one_prefix_stop_the_start() -> None:
    """Which of the two was meant nobody can tell."""
    with pytest.raises(ValueError, match="/v1: a second rule"):
        vendor(PathRule("/v1", ceiling_base=1), PathRule("/v1", ceiling_base=2))


@pytest.mark.parametrize("ceiling_base", [0, -1, True, 10**15 + 1])
def test_the_vendors_own_ceiling_is_checked(ceiling_base: int) -> None:
    """There is no vendor without a ceiling."""
    with pytest.raises(ValueError, match="shop: the ceiling"):
        GenericVendor("shop", "https://shop.example", TERMS, ceiling_base=ceiling_base)


def test_nothing_is_bought_by_name_and_nothing_is_exchanged() -> None:
    """No price list, no input rules, no surrogates: the body and the target go as they came."""
    shop = vendor()
    match = matched(shop, "/x", "POST")
    shop.check_input(match, b"\xff not json")
    assert shop.item(match, b"", None) is None
    assert shop.surrogate_in(match, "/x?token=abc") is None
    assert shop.outgoing_target("/x?token=abc", None, None) == "/x?token=abc"


@pytest.mark.parametrize(
    ("status", "framing", "delivery", "fault"),
    [
        (200, {}, Delivery.DELIVERED, Fault.NONE),
        (200, {"delimited": False}, Delivery.DELIVERED, Fault.NONE),
        (302, {}, Delivery.DELIVERED, Fault.NONE),
        (422, {}, Delivery.REFUSED, Fault.AGENT),
        (404, {}, Delivery.REFUSED, Fault.VENDOR),
        (500, {}, Delivery.UNKNOWN, Fault.NONE),
    ],
)
def test_an_answer_is_read_as_a_strangers(
    status: int, framing: dict[str, Any], delivery: Delivery, fault: Fault
) -> None:
    """By status and framing alone, on any route; the body stays the vendor's own."""
    shop = vendor(*RULES)
    answer = UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), b"\xff body", **framing)
    for path in ("/x", "/v1/text", "/v1/images"):
        assert shop.read(matched(shop, path), answer, str.upper) == Reading(delivery, fault, b"\xff body")


@pytest.mark.parametrize(
    "name", ["token", "api_key", "Api-Key", "ACCESS_TOKEN", "password", "secret", "key", "%6bey", "signature"]
)
def test_what_is_called_like_a_credential_is_scrubbed(name: str) -> None:
    """Nobody told us this vendor's parameters, so the usual names are hidden."""
    assert vendor().scrub(f"/x?a=1&{name}=S3CRET&b=2") == f"/x?a=1&{name}=***&b=2"
