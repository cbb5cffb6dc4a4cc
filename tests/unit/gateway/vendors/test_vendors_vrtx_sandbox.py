"""VRTX's module on real answers: every route of the sandbox vendor asked directly, with the requests the module makes."""

import dataclasses
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, Told
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match
from gateway.core.tariff import Rule, rate_of
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.vrtx import Vrtx
from gateway.vendors.vrtx.routes import ROUTES
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from sandbox.vrtx.catalog import PLANS
from sandbox.vrtx.table import ROUTES as SANDBOX_ROUTES
from tests.factories import unmark

BASE = "/api/v2"
SERVERS = f"{BASE}/servers"
TOKEN = "gabcdefgh234567zz"
ORDER = {"plan_id": 1, "location_id": 6, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"}
TERMS = AccountTerms(3600, 90_000_000, Rule.STARTED_UNITS, 2, suspend_first=False, grace_s=0)
MODULE = Vrtx("vrtx", "http://127.0.0.1", TERMS)
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "clock_start": "2026-05-14T10:30:00+00:00",
    "sustained_per_min": 100_000,
    "burst_per_10s": 100_000,
    "accounts": [
        {"name": "ours", "tokens": ["tok"]},
        {"name": "guarded", "tokens": ["tok-d"], "ip_allowlist": ["127.0.0.2"]},
    ],
}


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process whose clock stands still."""
    with SandboxProcess.start("sandbox.vrtx", CONFIG) as started:
        yield started


@pytest.fixture
def vendor(process: SandboxProcess) -> Driver:
    """The vendor as after its start, asked with its own token."""
    driver = Driver(process, "tok")
    driver.admin("POST", "/reset")
    return driver


def ask(vendor: Driver, request: UpstreamRequest) -> UpstreamResponse:
    """Send a request of the module's and return the answer as the client would."""
    assert isinstance(request.body, bytes)
    reply = vendor.call(request.method, request.target, headers=dict(request.headers), raw=request.body or None)
    return UpstreamResponse(reply.status, CIMultiDictProxy(CIMultiDict(reply.headers)), reply.raw)


def tell(vendor: Driver, method: str, path: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> Told:
    """Match, check, send and read one call, as the broker does."""
    match = MODULE.match(method, path.partition("?")[0])
    assert match is not None
    MODULE.check_input(match, body)
    sent = (("Content-Type", "application/json"), *headers) if body else headers
    return MODULE.read(match, ask(vendor, UpstreamRequest(method, path, sent, body)))


def create_match() -> Match:
    """The create."""
    match = MODULE.match("POST", SERVERS)
    assert match is not None
    return match


def made(vendor: Driver, key: str | None = None, **changes: Any) -> Told:
    """What a marked create is told."""
    body = json.dumps({name: value for name, value in {**ORDER, **changes}.items() if value is not None}).encode()
    headers = MODULE.headers_for(create_match(), key or str(uuid.uuid4()))
    return tell(vendor, "POST", SERVERS, MODULE.marked(create_match(), body, TOKEN), headers)


def test_every_route_that_the_sandbox_has_is_declared() -> None:
    """The two tables were written from one document by different hands."""
    named = {"list": "servers", "get": "server"}
    assert {named.get(name, name) for name in SANDBOX_ROUTES} == {route.name for route in ROUTES}


def test_a_servers_life(vendor: Driver) -> None:
    """Create, poll, credentials, power, backups, delete, and the 404 that confirms it; charged until then."""
    told = made(vendor)
    (ref,) = told.created
    (thing,) = told.things
    assert (told.delivery, thing.state, thing.charged) == (Delivery.DELIVERED, "provisioning", True)
    assert thing.name == f"app-01-{TOKEN}.example.com"
    assert unmark(thing.name.partition(".")[0]) == ("app-01", TOKEN)
    assert thing.created_at_ms == vendor.state()["business_ms"]
    one = f"{SERVERS}/{ref}"
    waiting = tell(vendor, "GET", f"{one}/credentials")
    assert waiting.document == {"data": {"password_status": "generating", "root_password": None}}
    assert [thing.state for thing in tell(vendor, "GET", f"{one}/status").things] == ["provisioning"]
    vendor.advance(20)
    assert [thing.state for thing in tell(vendor, "GET", f"{one}/status").things] == ["provisioning"]
    vendor.advance(40)
    assert tell(vendor, "GET", f"{one}/status").things[0] == dataclasses.replace(
        thing, state="running", name="", created_at_ms=None
    )
    assert tell(vendor, "GET", f"{one}/credentials").document["data"]["root_password"]
    assert tell(vendor, "POST", f"{one}/power", b'{"action":"shutdown"}').delivery is Delivery.DELIVERED
    vendor.advance(3)
    assert [thing.state for thing in tell(vendor, "GET", f"{one}/status").things] == ["stopped"]
    vendor.admin("POST", f"/servers/{ref}", {"backups": [{"uuid": "b1"}]})
    backups = tell(vendor, "GET", f"{one}/backups?page=1&per_page=5")
    assert (backups.delivery, backups.document["data"]) == (Delivery.DELIVERED, [{"uuid": "b1"}])
    vendor.admin("POST", f"/servers/{ref}", {"suspend": True})
    suspended = tell(vendor, "GET", one).things[0]
    assert (suspended.state, suspended.charged) == ("suspended", True)
    destroying = MODULE.read(MODULE.match("DELETE", one) or create_match(), ask(vendor, MODULE.destroy_request(ref)))
    assert (destroying.delivery, destroying.things[0].state) == (Delivery.DELIVERED, "destroying")
    again = tell(vendor, "DELETE", one)
    assert (again.delivery, again.fault, again.things[0].gone) == (Delivery.REFUSED, Fault.AGENT, True)
    shown = MODULE.read(MODULE.match("GET", one) or create_match(), ask(vendor, MODULE.show_request(ref)))
    assert [thing.gone for thing in shown.things] == [True]


def test_a_server_without_a_name_is_found_by_ours(vendor: Driver) -> None:
    """The vendor would have made one up, without our mark."""
    assert made(vendor, hostname=None).things[0].name == f"vps-{TOKEN}"


def test_discovery_and_prices(vendor: Driver) -> None:
    """Plans, locations and templates pass; prices are exact also where the vendor's floats are noisy or exponents."""
    for path in ("/plans?location_id=6", "/locations", "/locations/6/templates"):
        assert tell(vendor, "GET", BASE + path).delivery is Delivery.DELIVERED
    assert MODULE.price_target is not None
    request = UpstreamRequest("GET", MODULE.price_target)
    exact = MODULE.read_prices(ask(vendor, request))
    for price in exact:
        plan = PLANS[int(price.kind)]
        assert (price.hourly, price.monthly) == (str(plan.hourly), str(plan.monthly))
        assert price.traits == {"vcpu": plan.cpu, "memory_mib": plan.memory >> 20, "disk_gib": plan.disk >> 30}
    assert [price.kind for price in exact] == ["1", "2", "3", "4", "5", "6", "7", "8"]
    vendor.fault("noise", mode="exponent")
    assert MODULE.read_prices(ask(vendor, request)) == exact
    vendor.lift()
    vendor.fault("noise")
    for noisy, price in zip(MODULE.read_prices(ask(vendor, request)), exact, strict=True):
        assert 0 < rate_of(noisy.hourly) - rate_of(price.hourly) < rate_of("0.000000001")


def test_all_pages_are_walked_and_cut_anew(vendor: Driver) -> None:
    """130 servers of the account on two pages; an agent that owns every third sees its own pages alone."""
    refs = [made(vendor, hostname=f"s{number}").created[0] for number in range(130)]
    rows: list[dict[str, Any]] = []
    page, more = 0, True
    while more:
        page += 1
        request = MODULE.list_request(page)
        assert request is not None
        answer = ask(vendor, request)
        listed = MODULE.read_list(answer)
        assert listed is not None
        things, more = listed
        match = MODULE.match("GET", SERVERS)
        assert match is not None
        told = MODULE.read(match, answer)
        assert told.things == things
        rows += told.document["data"]
    assert (page, [row["uuid"] for row in rows]) == (2, refs)
    own = [row for row in rows if row["uuid"] in refs[::3]]
    assert MODULE.pager is not None
    for query in ("", "page=2", "per_page=10&page=5", "status=installing&page=2", "page=9", "per_page=500", "status=x"):
        cut = MODULE.pager.cut(match, query, own)
        whole = MODULE.pager.cut(match, query, rows)
        assert (cut.status, cut.document["meta"]["total"]) == (200, 0 if query == "status=x" else 44)
        # Cut from everything, it is byte for byte what the vendor itself answers.
        assert whole.document == vendor.get(f"{SERVERS}?{query}").json()
    for query in ("page=0", "page=x", "per_page=-1"):
        refused, theirs = MODULE.pager.cut(match, query, own), vendor.get(f"{SERVERS}?{query}")
        assert (refused.status, refused.document["error"]["code"]) == (theirs.status, theirs.json()["error"]["code"])


def test_a_short_id_never_reaches_another_agents_server(vendor: Driver) -> None:
    """The vendor shows the older of two behind the same eight characters; the module means the agent's own."""
    (theirs,) = made(vendor).created
    vendor.fault("short_collision")
    (mine,) = made(vendor).created
    assert vendor.get(f"{SERVERS}/{mine[:8]}").json()["data"]["uuid"] == theirs
    assert MODULE.canonical("server", mine[:8], {mine}) == mine
    shown = tell(vendor, "GET", f"{SERVERS}/{MODULE.canonical('server', mine[:8], {mine})}")
    assert (shown.delivery, shown.things[0].ref) == (Delivery.DELIVERED, mine)


@pytest.mark.parametrize("lost", [{"kind": "status", "status": 502}, {"kind": "status", "status": 504}])
def test_a_lost_create_is_asked_again_with_its_key(vendor: Driver, lost: dict[str, Any]) -> None:
    """Unknown first; the same key gets the same server, and after a day the mark in the list is what finds it."""
    key = str(uuid.uuid4())
    vendor.fault(lost["kind"], "create", when="after", status=lost["status"])
    unknown = made(vendor, key)
    assert (unknown.delivery, unknown.created) == (Delivery.UNKNOWN, ())
    (ref,) = made(vendor, key).created
    vendor.advance(86_400)
    request = MODULE.list_request(1)
    assert request is not None
    listed = MODULE.read_list(ask(vendor, request))
    assert listed is not None
    assert [thing.ref for thing in listed[0] if TOKEN in thing.name] == [ref]
    answered = MODULE.created_answer(create_match(), ask(vendor, MODULE.show_request(ref)))
    assert answered is not None
    original = json.loads(answered[1])["data"]
    assert (answered[0], original["uuid"], original["name"]) == (201, ref, f"app-01-{TOKEN}.example.com")


def test_an_overdue_invoice_is_the_operators(vendor: Driver) -> None:
    """402 on creates alone: certainly nothing was made, and it is no agent's doing."""
    vendor.admin("POST", "/invoices", {"account": "ours", "amount": "4.20"})
    told = made(vendor)
    assert (told.delivery, told.fault, told.created) == (Delivery.REFUSED, Fault.NONE, ())
    assert told.document["error"]["code"] == "OVERDUE_INVOICE"
    assert MODULE.speaks == {"overdue_invoice"}


def test_who_is_not_let_in(vendor: Driver) -> None:
    """A wrong token and a full window are ours; an address off the list is the operator's, whatever the token."""
    request = UpstreamRequest("GET", SERVERS)
    for driver, status, about_us in (
        (Driver(vendor.process, "x"), 401, False),
        (Driver(vendor.process, "tok-d"), 403, True),
    ):
        answer = ask(driver, request)
        assert (answer.status, MODULE.refuses_us(answer)) == (status, about_us)
        assert tell(driver, "GET", SERVERS).fault is Fault.NONE
    vendor.fault("limited", "list", retry_after_s=42)
    limited = tell(vendor, "GET", SERVERS)
    assert (limited.delivery, limited.fault) == (Delivery.REFUSED, Fault.NONE)


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_id": 9},
        {"location_id": 14},
        {"template_slug": "arch"},
        {"location_id": 12, "template_slug": "windows-2022"},
    ],
)
def test_what_the_vendor_refuses_made_nothing(vendor: Driver, changes: dict[str, Any]) -> None:
    """422 is the agent's own doing."""
    told = made(vendor, **changes)
    assert (told.delivery, told.fault) == (Delivery.REFUSED, Fault.AGENT)
    assert vendor.get(SERVERS).json()["meta"]["total"] == 0


def test_strange_states_and_lists_that_lag(vendor: Driver) -> None:
    """Unknown words are unknown, also those of a failed installation; a list that lags is still a list that was read."""
    vendor.fault("provision", mode="error")
    vendor.fault("lag", by_s=40)
    (ref,) = made(vendor).created
    request = MODULE.list_request(1)
    assert request is not None
    assert MODULE.read_list(ask(vendor, request)) == ((), False)
    assert [thing.gone for thing in tell(vendor, "GET", f"{SERVERS}/{ref}").things] == [False]
    vendor.advance(60)
    assert [thing.state for thing in tell(vendor, "GET", f"{SERVERS}/{ref}/status").things] == ["unknown"]
    vendor.fault("state", "status", value="migrating", of=ref)
    vendor.fault("hypervisor", value="paused", of=ref)
    (thing,) = tell(vendor, "GET", f"{SERVERS}/{ref}/status").things
    assert (thing.state, thing.charged) == ("unknown", True)
