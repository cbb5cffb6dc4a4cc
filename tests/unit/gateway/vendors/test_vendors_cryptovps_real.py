"""CryptoVPS's module against the sandbox's CryptoVPS: every route asked as the broker asks it, every answer read."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, Own, PartAnswer, Told
from gateway.core.login import Credentials
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, Pricing
from gateway.core.tariff import Rule, rate_of
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.cryptovps.routes import PRICES, REGIONS
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from wallets.secret import Secret

EMAIL, PASSWORD = "ops@example.com", "min-8-chars"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "auth_per_min": 0,
    "rest_per_min": 0,
    "accounts": [{"email": EMAIL, "password": PASSWORD, "balance": "10.00"}],
}
TERMS = AccountTerms(3600, 1_000_000, Rule.STARTED_UNITS, 24, suspend_first=False, grace_s=0)
VENDOR = CryptoVps("cryptovps", "http://127.0.0.1", TERMS)
TOKEN = "gabcdefghij234567"
ORDER = {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}
WEEK_S = 7 * 86_400
MIN_ENDPOINTS = 12


@dataclass
class Asked:
    """A route, its answer, and what the module makes of it."""

    match: Match
    answer: UpstreamResponse
    told: Told


class Desk:
    """The vendor, asked with the operator's own credentials."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.log_in()

    def log_in(self) -> None:
        """Get a token; it lives for a quarter of an hour of the vendor's clock."""
        self.driver.token = None
        plan = VENDOR.login
        assert plan is not None
        token = plan.read(self.send(plan.request(Credentials(EMAIL, Secret(PASSWORD)))))
        assert token is not None
        assert token.lives_s in (None, plan.lives_s)
        self.driver.token = token.value.reveal()

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """One request of the module's, or of an agent's."""
        assert isinstance(request.body, bytes)
        reply = self.driver.call(
            request.method, request.target, headers=dict(request.headers), raw=request.body or None
        )
        return UpstreamResponse(reply.status, CIMultiDictProxy(CIMultiDict(reply.headers)), reply.raw)

    def ask(self, method: str, path: str, body: Any = None) -> Asked:
        """An agent's request on its way through the module."""
        match = VENDOR.match(method, path)
        assert match is not None
        raw = b"" if body is None else json.dumps(body).encode()
        VENDOR.check_input(match, raw)
        sent = VENDOR.marked(match, raw, TOKEN) if match.route.pricing is Pricing.METERED else raw
        answer = self.send(UpstreamRequest(method, path, VENDOR.headers_for(match, "key"), sent))
        return Asked(match, answer, VENDOR.read(match, answer))

    def deploy(self, **changes: Any) -> Asked:
        """A create."""
        return self.ask("POST", "/servers", {**ORDER, **changes})

    def active(self) -> str:
        """The id of a server that has come up."""
        made = self.deploy()
        (ref,) = made.told.created
        self.driver.advance(60)
        return ref


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.cryptovps", CONFIG) as started:
        yield started


@pytest.fixture
def desk(process: SandboxProcess) -> Desk:
    """A vendor as after its start, logged in to."""
    driver = Driver(process)
    driver.admin("POST", "/reset")
    return Desk(driver)


def test_a_servers_life(desk: Desk) -> None:
    """Made under its mark, shown, listed, and destroyed once and for all."""
    made = desk.deploy()
    assert (made.answer.status, made.told.delivery) == (202, Delivery.DELIVERED)
    (thing,) = made.told.things
    assert made.told.created == (thing.ref,)
    assert (thing.kind, thing.state, thing.charged) == ("server", "provisioning", True)
    assert (thing.name, thing.plan) == (f"my-bot-{TOKEN}", "vc2-1c-1gb")
    assert thing.created_at_ms is not None
    desk.driver.advance(60)
    shown = desk.ask("GET", f"/servers/{thing.ref}").told.things[0]
    assert (shown.state, shown.charged, shown.hourly) == ("running", True, thing.hourly)
    found = VENDOR.read_list(desk.send(list_of()))
    assert found is not None
    assert ([each.ref for each in found[0]], found[1]) == ([thing.ref], False)
    first, second = (desk.ask("DELETE", f"/servers/{thing.ref}") for _ in range(2))
    assert (first.answer.status, second.answer.status) == (202, 409)
    assert first.told.things == second.told.things
    assert second.told.delivery is Delivery.DELIVERED
    desk.driver.advance(60)
    assert VENDOR.read_list(desk.send(list_of())) == ((), False)
    (gone,) = desk.ask("GET", f"/servers/{thing.ref}").told.things
    assert (gone.state, gone.charged, gone.gone) == ("destroyed", False, True)


def list_of() -> UpstreamRequest:
    """The request for all servers."""
    request = VENDOR.list_request(1)
    assert request is not None
    return request


def test_a_lost_create_is_found_by_its_mark(desk: Desk) -> None:
    """It succeeds, its answer does not come; the list shows the mark, and the answer is made again."""
    made = desk.deploy()
    found = VENDOR.read_list(desk.send(list_of()))
    assert found is not None
    (ref,) = [thing.ref for thing in found[0] if thing.name.endswith(TOKEN)]
    again = VENDOR.created_answer(made.match, desk.send(VENDOR.show_request(ref)))
    assert again is not None
    assert (again[0], json.loads(again[1])) == (made.answer.status, json.loads(made.answer.body))


@pytest.mark.parametrize("price", PRICES, ids=lambda price: price.kind)
def test_every_plan_is_within_its_bound(desk: Desk, price: Any) -> None:
    """The vendor's own price of an hour is never above what is held for it."""
    desk.driver.admin("POST", "/balance", {"email": EMAIL, "set": "100"})
    thing = desk.deploy(planId=price.kind, regionId=REGIONS[-1]).told.things[0]
    assert thing.plan == price.kind
    assert thing.hourly is not None
    assert 0 < rate_of(thing.hourly) <= rate_of(price.hourly)


def test_a_dearer_answer_is_told_exactly(desk: Desk) -> None:
    """Its own price, beside the bound that it breaks."""
    desk.driver.fault("price", factor="2")
    thing = desk.deploy().told.things[0]
    assert thing.hourly is not None
    assert rate_of(thing.hourly) == Fraction("0.0274")
    assert rate_of(thing.hourly) > rate_of(PRICES[0].hourly)


def test_the_bill_is_what_the_rule_says(desk: Desk) -> None:
    """Each started hour from creation, and nothing after an accepted destruction."""
    ref = desk.active()
    desk.driver.advance(3 * 3600)
    assert desk.ask("GET", f"/servers/{ref}").answer.status == 401  # its token has ended
    desk.log_in()
    before = balance(desk)
    desk.ask("DELETE", f"/servers/{ref}")
    desk.driver.advance(2 * 3600)
    desk.log_in()
    assert 10_000_000 - before == 4 * 13_700
    assert balance(desk) == before


def balance(desk: Desk) -> int:
    """The operator's balance, as the module reads it."""
    request = VENDOR.balance_request()
    assert request is not None
    told = VENDOR.read_balance(desk.send(request))
    assert told is not None
    return told


def test_the_balance_is_read_wherever_it_is_told(desk: Desk) -> None:
    """GET /billing, GET /auth/me; not in what shows servers."""
    assert balance(desk) == 10_000_000
    assert VENDOR.read_balance(desk.send(UpstreamRequest("GET", "/auth/me"))) == 10_000_000
    assert VENDOR.read_balance(desk.deploy().answer) is None


def test_a_backups_life(desk: Desk) -> None:
    """Taken, available, restored to a new server, deleted; all of it read as what it is."""
    source = desk.active()
    taken = desk.ask("POST", "/backups", {"serverId": source})
    (thing,) = taken.told.things
    assert (thing.kind, thing.state, taken.told.created) == ("backup", "pending", (thing.ref,))
    assert thing.created_at_ms is not None
    assert thing.expires_at_ms == thing.created_at_ms + WEEK_S * 1000
    early = desk.ask("POST", f"/backups/{thing.ref}/restore")
    assert (early.answer.status, early.told.delivery, early.told.fault) == (409, Delivery.REFUSED, Fault.AGENT)
    desk.driver.advance(180)
    (ready,) = desk.ask("GET", "/backups").told.things
    assert (ready.ref, ready.state, ready.plan) == (thing.ref, "available", "vc2-1c-1gb")
    restored = desk.ask("POST", f"/backups/{thing.ref}/restore")
    (new,) = restored.told.things
    assert (restored.answer.status, restored.told.created) == (202, (new.ref,))
    assert new.ref != source
    assert (new.kind, new.charged, new.plan) == ("server", True, "vc2-1c-1gb")
    for status in (202, 409):
        deleted = desk.ask("DELETE", f"/backups/{thing.ref}")
        assert (deleted.answer.status, deleted.told.delivery) == (status, Delivery.DELIVERED)
        assert deleted.told.things[0].gone
    (expired,) = desk.ask("GET", "/backups").told.things
    assert (expired.state, expired.gone) == ("expired", True)


def test_a_bulk_is_made_one_by_one(desk: Desk) -> None:
    """Part by part, under the labels that the vendor's own bulk gives, joined to what its own bulk answers."""
    match = VENDOR.match("POST", "/servers/bulk")
    assert match is not None
    order = {**ORDER, "label": "fleet", "count": 3}
    theirs = desk.driver.post("/servers/bulk", order)
    answered = []
    for part in VENDOR.split(match, json.dumps(order).encode()):
        answer = desk.send(UpstreamRequest(part.method, part.target, body=part.body))
        answered.append(PartAnswer(part.index, answer.status, json.loads(answer.body)))
    ours = VENDOR.join(match, tuple(answered))
    assert (ours.status, set(ours.document)) == (theirs.status, set(theirs.json()))
    for mine, vendors in zip(ours.document["servers"], theirs.json()["servers"], strict=True):
        assert (mine["label"], mine["status"], set(mine)) == (vendors["label"], vendors["status"], set(vendors))


def test_its_refusals(desk: Desk) -> None:
    """What is the agent's, what is the account's, and which 403 is which."""
    missing = desk.ask("GET", "/servers/nowhere")
    assert (missing.answer.status, missing.told.delivery, missing.told.fault) == (
        404,
        Delivery.REFUSED,
        Fault.AGENT,
    )
    for _ in range(10):
        assert desk.deploy().told.delivery is Delivery.DELIVERED
    full = desk.deploy()
    assert (full.answer.status, full.told.problem) == (403, "vendor_account_full")
    assert not VENDOR.refuses_us(full.answer)
    desk.driver.admin("POST", f"/accounts/{EMAIL}", {"suspended": True})
    suspended = desk.deploy()
    assert (suspended.answer.status, suspended.told.problem, suspended.told.fault) == (403, None, Fault.NONE)
    assert VENDOR.refuses_us(suspended.answer)


def test_an_empty_balance_is_nobodys_fault(desk: Desk) -> None:
    """402: nothing was made, and it is no challenge."""
    desk.driver.admin("POST", "/balance", {"email": EMAIL, "set": "0.001"})
    refused = desk.deploy()
    assert (refused.answer.status, refused.told.delivery, refused.told.fault) == (402, Delivery.REFUSED, Fault.NONE)
    assert refused.told.created == ()


def test_a_server_that_fails_or_is_held_is_not_charged(desk: Desk) -> None:
    """ERROR and SUSPENDED, as the vendor shows them; a status that no document names is unknown."""
    desk.driver.fault("provision", mode="error")
    failed = desk.active()
    (thing,) = desk.ask("GET", f"/servers/{failed}").told.things
    assert (thing.state, thing.charged) == ("error", False)
    held = desk.active()
    desk.driver.admin("POST", f"/servers/{held}", {"abuse": True})
    (thing,) = desk.ask("GET", f"/servers/{held}").told.things
    assert (thing.state, thing.charged) == ("suspended", False)
    desk.driver.fault("state", value="MIGRATING")
    (thing,) = desk.ask("GET", f"/servers/{held}").told.things
    assert (thing.state, thing.charged) == ("unknown", None)


def test_public_pages_need_no_credential(desk: Desk) -> None:
    """The guide and the human pages are texts, and pass as they are."""
    desk.driver.token = None
    for path in ("/llms.txt", "/docs", "/docs/custom-requests"):
        page = desk.ask("GET", path)
        assert page.match.route.public
        assert (page.answer.status, page.told.delivery, page.told.document) == (200, Delivery.DELIVERED, None)


def test_the_guide_names_no_route_that_is_not_declared(desk: Desk) -> None:
    """Each method and path that the vendor's own guide speaks of matches a route of the table."""
    guide = desk.send(UpstreamRequest("GET", "/llms.txt")).body.decode()
    endpoints = set(re.findall(r"\b(GET|POST|DELETE)\s+(/[a-z/:<>*-]+[a-z>])", guide))
    declared = {(method, path) for method, path in endpoints if VENDOR.match(method, re.sub(r":id|<id>", "x", path))}
    assert len(declared) >= MIN_ENDPOINTS
    assert declared == endpoints


def test_what_the_gateway_answers_has_the_vendors_members(desk: Desk) -> None:
    """Login, registration, /auth/me and /billing: the same members as the vendor's own answers, and as texts."""
    own = Own(
        "acc_1",
        "Ann",
        available_base=9_960_000,
        hourly_base=13_700,
        email="a@example.com",
        now_ms=1,
        token="t0k",
    )
    credentials = {"email": "new@example.com", "password": PASSWORD}
    for method, path, body in (
        ("POST", "/auth/register", credentials),
        ("POST", "/auth/login", credentials),
        ("GET", "/auth/me", None),
        ("GET", "/billing", None),
    ):
        match = VENDOR.match(method, path)
        assert match is not None
        theirs, ours = desk.driver.call(method, path, body), VENDOR.local(match, b"", own)
        assert theirs.status == ours.status
        assert shape(theirs.json()) == shape(ours.document)


def shape(document: Any) -> Any:
    """A document with the types of its values in their place."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    return type(document)
