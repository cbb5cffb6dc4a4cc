"""The seam to vendors' modules: one suite for each module behind `Vendor`.

What it holds each to: its table cannot be misread by the flow, nothing that a vendor sends makes it raise or deliver
what was not seen whole, and no credential is left where records are made.
"""

import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.commands import AccountLimits
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.payment import Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.routes import Match, Ownership, Pricing, Represent, Window
from gateway.http.port import UpstreamResponse
from gateway.ports import Reading, Vendor, VendorTerms
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.generic import GenericVendor, PathRule
from gateway.vendors.judge import AGENT_FAULTS, INPUT_FAULTS
from gateway.vendors.surrogate import make_surrogate
from gateway.vendors.vpsagent import VpsAgent
from wallets.secret import Secret

TERMS = VendorTerms(b"\1" * 20, (), frozenset(), 0, {}, 300, 3600, AccountLimits(1, 1, 1, 1, 1))
KEY = Secret(b"k" * 32)
VENDORS: dict[str, Vendor] = {
    "vpsagent": VpsAgent("vpsagent", "https://vps.example", TERMS),
    "dropmpp": DropMpp("dropmpp", "https://drop.example", TERMS),
    "generic": GenericVendor(
        "generic",
        "https://shop.example",
        TERMS,
        ceiling_base=10_000,
        rules=(PathRule("/v1/images", 50_000, Window(60, 600), Represent.YES),),
    ),
}
BODIES = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff\x00",
    b"<html>",
    b'{"a":1,"a":2}',
    b"[" * 20_000,
    b'{"rental_id":{"a":[]},"root_token":{"b":1},"status":[],"expires_at":{}}',
    b'{"root_token":"\\ud800\\ud800\\ud800\\ud800abcdefgh"}',
    b'[{"sku":"sandbox_1h","price_usdc":1e999999999,"available":true}]',
    b'[{"sku":"sandbox_1h","price_usdc":' + b"9" * 5000 + b',"available":true}]',
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["root_token", "renewing"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rental_id", "root_token", "status", "sku", "price_usdc", "x"]), inner, max_size=5
        )
    ),
    max_leaves=8,
)


class More:
    """A body that goes on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the rest."""
        yield b"more"

    async def close(self) -> None:
        """Give it up."""


@pytest.fixture(params=sorted(VENDORS), scope="module")
def vendor(request: pytest.FixtureRequest) -> Vendor:
    """Each module that stands behind the seam."""
    return VENDORS[request.param]


def matches(vendor: Vendor) -> list[Match]:
    """A match of every route, through a path that fits it."""
    found = []
    for route in vendor.routes:
        path = "/" + "/".join("some-id" if segment.startswith("{") else segment for segment in route.segments)
        match = vendor.match(route.methods[0], path)
        assert match is not None
        found.append(match)
    return found


def is_stranger(vendor: Vendor) -> bool:
    """Whether nobody described this vendor: then less is taken for granted, and less laid at the agent's door."""
    return isinstance(vendor, GenericVendor)


def read(vendor: Vendor, match: Match, status: int, body: bytes, **framing: Any) -> Reading:
    """The vendor's reading of an answer."""
    answer = UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), body, **framing)
    return vendor.read(match, answer, lambda real: make_surrogate(KEY, vendor.name, real))


def test_it_is_what_the_port_says(vendor: Vendor) -> None:
    """Every member of the port is there, with its parameters; and nothing of it waits."""
    for name, member in inspect.getmembers(Vendor, inspect.isfunction):
        if name.startswith("_"):
            continue
        mine = getattr(type(vendor), name)
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(member).parameters)
        assert not inspect.iscoroutinefunction(mine)
    for name in ("name", "origin", "terms", "routes"):
        assert hasattr(vendor, name)


def test_each_route_is_reached_and_none_hides_another(vendor: Vendor) -> None:
    """A path made from a route's own segments matches that route."""
    assert [match.route for match in matches(vendor)] == list(vendor.routes)


def test_the_table_is_sound(vendor: Vendor) -> None:
    """Free routes have no ceiling, the others have one and a window; owned routes name their resource."""
    for route in vendor.routes:
        assert route.methods
        if route.pricing is Pricing.FREE:
            assert route.ceiling_base == 0
            assert not route.renews
        else:
            assert 0 < route.ceiling_base <= MAX_AMOUNT_BASE
            assert 0 < route.window.min_s <= route.window.max_s <= 48 * 3600
        assert (route.ownership is Ownership.OWNER) == (route.ref_parameter is not None)
        assert not route.safe or set(route.methods) <= {"GET", "HEAD"}


def test_owned_routes_tell_whose_they_are(vendor: Vendor) -> None:
    """The reference comes from the path."""
    for match in matches(vendor):
        assert match.ref == ("some-id" if match.route.ownership is Ownership.OWNER else None)


@pytest.mark.parametrize("path", ["", "relative", "/..", "/a/%2e%2e", "/a%2Fb", "/a%00", "/a%0d%0a", "/a\\b", "/%252e"])
def test_ambiguous_paths_match_nothing(vendor: Vendor, path: str) -> None:
    """No method makes them a route."""
    assert all(vendor.match(method, path) is None for method in ("GET", "POST", "DELETE"))


def says_nothing(result: Reading) -> bool:
    """Whether no state, price or resource came out of a reading."""
    return (result.created, result.prices, result.state, result.expires_at_ms) == (None, (), None, None)


@pytest.mark.parametrize("status", [0, 100, 101, 199, *range(500, 600, 7), 600, 999])
def test_what_says_nothing_is_unknown(vendor: Vendor, status: int) -> None:
    """Server errors and numbers that are no status, whatever the body."""
    for match in matches(vendor):
        for body in BODIES:
            result = read(vendor, match, status, body)
            assert (result.delivery, result.fault) == (Delivery.UNKNOWN, Fault.NONE)
            assert says_nothing(result)


@pytest.mark.parametrize("status", range(300, 400, 7))
def test_a_redirect_is_a_delivery_only_where_nobody_said_what_is(vendor: Vendor, status: int) -> None:
    """A documented vendor answers no redirects; a stranger may sell one, as the reference servers do."""
    expected = Delivery.DELIVERED if is_stranger(vendor) else Delivery.UNKNOWN
    for match in matches(vendor):
        for body in BODIES:
            result = read(vendor, match, status, body)
            assert (result.delivery, result.fault) == (expected, Fault.NONE)
            assert says_nothing(result)


@pytest.mark.parametrize("status", range(400, 500))
def test_refusals_are_laid_at_the_same_door(vendor: Vendor, status: int) -> None:
    """One table for every documented vendor, a shorter one for strangers: the agent's input, or not the agent's doing."""
    fault = Fault.AGENT if status in (INPUT_FAULTS if is_stranger(vendor) else AGENT_FAULTS) else Fault.VENDOR
    for match in matches(vendor):
        result = read(vendor, match, status, b'{"detail":"no"}')
        assert (result.delivery, result.fault, result.body) == (Delivery.REFUSED, fault, b'{"detail":"no"}')


@pytest.mark.parametrize("framing", [{"rest": More()}, {"rest": More(), "delimited": False}])
def test_nothing_is_delivered_of_which_more_is_to_come(vendor: Vendor, framing: dict[str, Any]) -> None:
    """Whatever the route and the body."""
    for match in matches(vendor):
        for body in BODIES:
            result = read(vendor, match, 200, body, **framing)
            assert (result.delivery, result.fault, result.created) == (Delivery.UNKNOWN, Fault.NONE, None)


def test_an_end_that_only_the_connection_marked_is_a_strangers_way(vendor: Vendor) -> None:
    """From a documented vendor it may be a cut answer; a seller that nobody described may have no other way to end."""
    expected = Delivery.DELIVERED if is_stranger(vendor) else Delivery.UNKNOWN
    for match in matches(vendor):
        for body in BODIES:
            result = read(vendor, match, 200, body, delimited=False)
            assert (result.delivery, result.fault, result.created) == (expected, Fault.NONE, None)


@given(JSON, st.sampled_from([200, 201, 204, 400, 402, 500]))
def test_reading_never_raises(document: object, status: int) -> None:
    """Any JSON (Python's NaN included), cut or whole; a delivery is never a vendor's or an agent's fault."""
    raw = json.dumps(document).encode()
    for vendor in VENDORS.values():
        for match in matches(vendor):
            for body in (raw, raw[: len(raw) // 2]):
                result = read(vendor, match, status, body)
                assert result.delivery is not Delivery.NONE
                assert (result.fault is Fault.NONE) == (result.delivery is not Delivery.REFUSED)
                assert result.created is None or result.delivery is Delivery.DELIVERED


@pytest.mark.parametrize("body", BODIES)
def test_hostile_bodies_are_read_without_raising(vendor: Vendor, body: bytes) -> None:
    """Depth, broken text, halves of characters, numbers without end."""
    for match in matches(vendor):
        assert read(vendor, match, 200, body).created is None


def refusal(vendor: Vendor, match: Match, body: bytes) -> Problem | None:
    """What the vendor's module says against this input."""
    try:
        vendor.check_input(match, body)
    except Problem as problem:
        return problem
    return None


@given(st.binary(max_size=60))
def test_input_is_taken_or_refused_by_name(body: bytes) -> None:
    """Nothing but a Problem comes out; what is taken buys the same thing each time."""
    for vendor in VENDORS.values():
        for match in matches(vendor):
            problem = refusal(vendor, match, body)
            if problem is not None:
                assert problem.code == "input_refused"
                assert problem.field
            elif not match.route.renews:
                assert vendor.item(match, body, None) == vendor.item(match, body, None)


def test_a_target_without_a_credential_goes_as_it_came(vendor: Vendor) -> None:
    """No byte is normalised."""
    for target in ("/a", "/a?", "/a%41?b=%zz&&c=+;d", "/a?x=/y?z"):
        assert vendor.outgoing_target(target, None, None) == target


@given(
    st.text(max_size=40),
    st.sampled_from(["token", "TOKEN", "%74oken"]),
    st.from_regex(r"[A-Za-z0-9]{6,12}", fullmatch=True),
)
def test_no_token_is_left_in_a_scrubbed_target(before: str, name: str, token: str) -> None:
    """Whatever stands before it; and scrubbing twice changes nothing."""
    for vendor in VENDORS.values():
        clean = vendor.scrub(f"/a?{before}&{name}=S3CRET{token}")
        assert f"S3CRET{token}" not in clean
        assert vendor.scrub(clean) == clean


def test_a_surrogate_goes_out_as_the_credential(vendor: Vendor) -> None:
    """Where a route takes one, what is sent carries the vendor's own, and what is recorded carries neither."""
    real = Secret("Re4l-cr3dential")
    for match in matches(vendor):
        target = "/a?token=5urr0gate"
        surrogate = vendor.surrogate_in(match, target)
        sent = vendor.outgoing_target(target, surrogate, real)
        assert sent == (target if surrogate is None else f"/a?token={real.reveal()}")
        assert vendor.scrub(sent) == "/a?token=***"
