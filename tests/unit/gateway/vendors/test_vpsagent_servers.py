"""VpsAgent in neutral words, by answers of the real sandbox vendor: what is asked is sent to it, what it says is read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest

from gateway.core.commands import AccountLimits
from gateway.core.plan import Billing, Source
from gateway.core.problems import Problem
from gateway.core.routes import Window
from gateway.core.server import ServerState
from gateway.ports import VendorTerms
from gateway.server_ports import Action, Ask, Feature, Heard, Order, Sight
from gateway.vendors.overrides import RouteOverride
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vpsagent.servers import VpsAgentServers
from sandbox.chain import LocalBase
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Answer, Driver, eventually
from tests.sandbox.sandbox_payer import pay
from wallets.secret import Secret

TERMS = VendorTerms(b"\1" * 20, (), frozenset(), 0, {}, 300, 3600, AccountLimits(1, 1, 1, 1, 1))
MODULE = VpsAgent("vps", "https://vps.example", TERMS)
SERVERS = VpsAgentServers(MODULE)
DAY_S = 86_400
NOW_MS = 1_790_000_000_000
PLAN = "server_small_1mo"
ORDER = Order(PLAN, "box")
GONE = "00000000-0000-4000-8000-000000000000"

RUNNING, STOPPED = ServerState.RUNNING, ServerState.STOPPED


@dataclass
class Desk:
    """One vendor process and an account that can pay it."""

    driver: Driver
    key: str

    def send(self, ask: Ask) -> Answer:
        """Send a request, with what it costs."""
        first = self._call(ask, {})
        if first.status != 402:
            return first
        return self._call(ask, pay(self.key, first.json()["accepts"][0]).headers)

    def _call(self, ask: Ask, headers: Mapping[str, str]) -> Answer:
        sent = {"Content-Type": "application/json"} if ask.body else {}
        return self.driver.call(ask.method, ask.target, raw=ask.body or None, headers={**sent, **headers})

    def hear(self, action: Action, sight: Sight, access: Mapping[str, Secret[str]] | None = None, **more: Any) -> Heard:
        """Ask for an action and hear the answer."""
        answer = self.send(SERVERS.ask(action, sight.ref, sight.access if access is None else access, more))
        return SERVERS.hear(action, sight.ref, answer.status, answer.raw)

    def seen(self, sight: Sight, access: Mapping[str, Secret[str]] | None = None) -> ServerState | None:
        """Return the state that a look shows now."""
        heard = self.hear(Action.SHOW, sight, access)
        return None if heard.server is None else heard.server.state

    def turns(self, sight: Sight, state: ServerState, word: str) -> Sight:
        """Wait until a look shows this state under this word, and return it."""

        def look() -> Sight | None:
            found = self.hear(Action.SHOW, sight).server
            return found if found is not None and (found.state, found.raw_state) == (state, word) else None

        found: Sight = eventually(look, what=f"{state} as {word}")
        return found


@pytest.fixture(scope="module")
def desk(shared_local_base: LocalBase) -> Iterator[Desk]:
    """The vendor: boxes come up at once, and a renewal waits for a step by hand."""
    address, key = shared_local_base.dev_account(0)
    shared_local_base.fund({address: 10_000_000_000})
    config = {
        "rpc_url": shared_local_base.rpc_url,
        "relayer_key": shared_local_base.dev_account(10)[1],
        "max_timeout_s": 60,
        "provision_s": 0.2,
        "worker_interval_s": 0.05,
        "grace_s": DAY_S,
    }
    with SandboxProcess.start("sandbox.vpsagent", config) as process:
        yield Desk(Driver(process), key)


def rented(desk: Desk, order: Order = ORDER) -> Sight:
    """Rent a box as ordered."""
    answer = desk.send(SERVERS.create(order))
    sight = SERVERS.made(answer.status, answer.raw)
    assert sight is not None, answer
    return sight


# plans


def test_the_catalogues_skus_are_plans_with_exact_prices(desk: Desk) -> None:
    """Sizes, terms and prices as the paid answer and the document state them; a price by the hour is never too low."""
    (asked,) = SERVERS.catalogue
    assert asked.paid
    answer = desk.send(Ask("GET", asked.target))
    plans = {plan.id: plan for plan in SERVERS.plans({asked.target: answer.raw}, NOW_MS)}
    assert len(plans) == 9
    small = plans[PLAN]
    assert (small.key, small.billing, small.source, small.as_of_ms) == (f"vps/{PLAN}", Billing.TERM, Source.API, NOW_MS)
    assert (small.vcpu, small.memory_mib, small.disk_gib, small.regions) == (1, 2048, None, ())
    assert (small.term_price, small.term_s, small.hourly, small.sandbox) == ("9.99", 30 * DAY_S, "0.013875", False)
    year = plans["server_large_12mo"]
    assert (year.term_price, year.term_s, year.hourly) == ("359.99", 365 * DAY_S, "0.041094748859")
    assert (plans["sandbox_1h"].term_s, plans["sandbox_1h"].hourly, plans["sandbox_1h"].sandbox) == (3600, "0.5", True)
    for plan in plans.values():
        entry = next(entry for entry in answer.json() if entry["sku"] == plan.id)
        assert plan.term_s == entry["duration_minutes"] * 60
        assert 0 <= plan.rate * plan.term_s / 3600 - Fraction(str(entry["price_usdc"])) < Fraction(1, 10**6)


def test_what_is_not_available_or_has_two_prices_is_no_plan(desk: Desk) -> None:
    """An agent may read the one and the vendor ask the other; and what cannot be read lists nothing."""
    target = SERVERS.catalogue[0].target
    entries = desk.send(Ask("GET", target)).json()
    entries[0]["available"] = False
    entries[1]["spec_floor"] = "big"
    body = json.dumps([*entries, entries[2]]).encode()
    plans = {plan.id: plan for plan in SERVERS.plans({target: body}, NOW_MS)}
    assert {"sandbox_1h", "sandbox_24h"} & plans.keys() == set()
    assert (plans["sandbox_6h"].vcpu, plans["sandbox_6h"].memory_mib) == (None, None)
    for unreadable in (b"", b"{}", b"<html>"):
        with pytest.raises(ValueError, match="cannot be read"):
            SERVERS.plans({target: unreadable}, NOW_MS)
    with pytest.raises(ValueError, match="cannot be read"):
        SERVERS.plans({}, NOW_MS)


# features


def test_features_are_what_the_document_states() -> None:
    """A term is bought and renewed, and the way in is shown; there is no route to end or to switch a box."""
    features = SERVERS.features
    assert {feature for feature, answer in features.does.items() if answer == "yes"} == {"renew", "credentials"}
    assert features.does[Feature.REGIONS] == "unknown"
    assert (features.pays, features.hold_max_s) == ("on_success", 3600 + 1800)
    assert features.renew is not None
    assert (features.renew.unit_s, features.renew.max_units, features.renew.slow) == (0, 12, True)
    month = features.renew.of(30 * DAY_S)
    assert (month.unit_s, month.lead_s, month.window_s, month.retry_before_s) == (
        30 * DAY_S,
        5 * DAY_S,
        2 * DAY_S,
        DAY_S,
    )
    hour = features.renew.of(3600)
    assert (hour.unit_s, hour.lead_s, hour.retry_before_s) == (3600, 1800, 600)
    assert SERVERS.list_ask() is None
    assert SERVERS.listed(b"[]") is None


def test_a_hold_lasts_as_long_as_the_operator_lets_an_authorization_live() -> None:
    """The window is the operator's to change."""
    narrowed = VpsAgent("vps", "https://vps.example", TERMS, {"rent": RouteOverride(window=Window(900, 1200))})
    assert VpsAgentServers(narrowed).features.hold_max_s == 1200 + 1800


# a rental's life


def test_a_rentals_life(desk: Desk) -> None:
    """Ordered, up before it is paid, down, renewed, in its grace, and over: each as the vendor says it."""
    desk.driver.admin("POST", "/worker", {"paused": True})
    made = rented(desk, replace(ORDER, region="EU"))
    assert (made.state, made.raw_state, made.payment) == (ServerState.PROVISIONING, *["pending_settlement"] * 2)
    assert made.plan == PLAN
    assert set(made.access) == {"username", "password", "port", "root_token"}
    assert (made.access["username"].reveal(), made.access["port"].reveal()) == ("root", "22")
    up = desk.turns(made, RUNNING, "pending_settlement")
    assert desk.driver.state()["rentals"][made.ref]["region"] == "EU"
    assert (up.address, up.expires_at_ms) == (made.address, made.expires_at_ms)
    desk.driver.admin("POST", "/worker", {"paused": False})
    assert desk.turns(made, RUNNING, "active").payment == ""
    desk.driver.admin("POST", f"/boxes/{made.ref}", {"up": False})
    assert desk.seen(made) is STOPPED
    desk.driver.admin("POST", f"/boxes/{made.ref}", {"up": True})
    renewed = desk.hear(Action.RENEW, made, units=2)
    assert renewed.ok
    assert renewed.server is not None
    assert (renewed.server.state, renewed.server.expires_at_ms) == (None, made.expires_at_ms)  # until it is collected
    assert desk.turns(made, RUNNING, "renewing").payment == "renewing"
    again = desk.hear(Action.RENEW, made, units=1)
    assert (again.ok, again.server, again.detail) == (False, None, "Rental is renewing, not active.")
    desk.driver.admin("POST", f"/renewals/{made.ref}/complete")
    longer = desk.turns(made, RUNNING, "active")
    assert (longer.expires_at_ms or 0) - (made.expires_at_ms or 0) == 60 * DAY_S * 1000
    desk.driver.advance(90 * DAY_S)
    desk.turns(made, ServerState.GRACE, "expired")
    assert desk.seen(made, {}) is ServerState.GRACE
    desk.driver.advance(2 * DAY_S)
    desk.turns(made, ServerState.LAPSED, "expired")


def test_the_way_in_is_shown_again(desk: Desk) -> None:
    """Credentials are asked for whenever they are wanted."""
    made = rented(desk)
    heard = desk.hear(Action.CREDENTIALS, made)
    assert heard.ok
    assert {name: secret.reveal() for name, secret in heard.access.items()} == {
        name: secret.reveal() for name, secret in made.access.items() if name != "root_token"
    }
    assert desk.hear(Action.SHOW, made).access == {}


def test_without_its_token_only_the_public_record_is_read(desk: Desk) -> None:
    """What was kept of a server's secrets may be lost; what is public is not."""
    made = rented(desk)
    assert desk.seen(made, {}) is ServerState.PROVISIONING
    desk.turns(made, RUNNING, "active")
    assert desk.seen(made, {}) is RUNNING
    for action in (Action.CREDENTIALS, Action.RENEW):
        with pytest.raises(Problem) as caught:
            SERVERS.ask(action, made.ref, {}, {"units": 1})
        assert (caught.value.code, caught.value.field) == ("input_refused", "root_token")


def test_a_sandbox_has_no_grace(desk: Desk) -> None:
    """It is over when its hour is."""
    made = rented(desk, Order("sandbox_1h", "try"))
    desk.turns(made, RUNNING, "active")
    desk.driver.advance(3601)
    desk.turns(made, ServerState.LAPSED, "expired")
    assert desk.seen(made, {}) is ServerState.LAPSED


def test_refusals_say_nothing_of_the_box(desk: Desk) -> None:
    """A wrong token, an upstream that is away, a rental that is not there: only the last says anything, that it is gone."""
    made = rented(desk)
    wrong = desk.hear(Action.SHOW, made, {"root_token": Secret("not-the-token-at-all")})
    assert (wrong.ok, wrong.server, wrong.detail) == (False, None, "Missing or invalid token.")
    desk.driver.fault("upstream_down", "instance")
    away = desk.hear(Action.SHOW, made)
    assert (away.ok, away.server) == (False, None)
    gone = desk.hear(Action.SHOW, replace(made, ref=GONE))
    assert (gone.ok, gone.server) == (False, Sight(GONE, ServerState.LOST))


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"status": "reticulating"}, ServerState.UNKNOWN),
        ({"status": None}, ServerState.UNKNOWN),
        ({"status": "active", "running": None}, RUNNING),
        ({"status": "expired", "running": "yes"}, ServerState.LAPSED),
    ],
)
def test_other_words_and_types_are_taken_for_what_they_are(
    desk: Desk, change: dict[str, Any], state: ServerState
) -> None:
    """A word that the document does not name is unknown, whatever else the answer says."""
    made = rented(desk)
    shown = desk.send(SERVERS.ask(Action.SHOW, made.ref, made.access)).json()
    heard = SERVERS.hear(Action.SHOW, made.ref, 200, json.dumps({**shown, **change}).encode())
    assert heard.server is not None
    assert heard.server.state is state


def test_an_answer_about_another_rental_is_not_taken(desk: Desk) -> None:
    """P9, P5: what is not about the asked rental says nothing, and neither does what cannot be read."""
    made, other = rented(desk), rented(desk)
    answer = desk.send(SERVERS.ask(Action.SHOW, other.ref, other.access))
    for body in (answer.raw, b"", b"<html>", b"[]", answer.raw[:-2]):
        heard = SERVERS.hear(Action.SHOW, made.ref, 200, body)
        assert (heard.ok, heard.server) == (False, None)
        assert SERVERS.made(200, body) is None


# what is refused


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"plan": "server_huge"}, "plan"),
        ({"plan": ""}, "plan"),
        ({"image": "debian-12"}, "image"),
        ({"ssh_keys": ("k",)}, "ssh_keys"),
        ({"user_data": "#!/bin/sh"}, "user_data"),
        ({"minutes": 60}, "minutes"),
        ({"snapshot": "snap_1"}, "snapshot"),
    ],
)
def test_what_nobody_can_have_is_refused_in_neutral_words(change: dict[str, Any], field: str) -> None:
    """Before it costs anything; the name is not the vendor's business, and is let be."""
    with pytest.raises(Problem) as caught:
        SERVERS.create(replace(ORDER, **change))
    assert (caught.value.code, caught.value.field) == ("input_refused", field)


@pytest.mark.parametrize("units", [0, 13, None, "1", True])
def test_periods_out_of_range_are_refused(units: object) -> None:
    """One to twelve at once."""
    with pytest.raises(Problem) as caught:
        SERVERS.ask(Action.RENEW, GONE, {"root_token": Secret("a-token-of-the-rental")}, {"units": units})
    assert (caught.value.code, caught.value.field) == ("input_refused", "units")


def test_a_token_stands_in_the_query_as_one_value() -> None:
    """What it holds cannot begin another parameter, and a request's repr does not show it (P10)."""
    ask = SERVERS.ask(Action.SHOW, GONE, {"root_token": Secret("a&token=b#c")})
    assert ask.target == f"/instance/{GONE}?token=a%26token%3Db%23c"
    assert "a%26" not in repr(ask)


@pytest.mark.parametrize("action", [Action.DESTROY, Action.STOP, Action.EXEC, Action.SNAPSHOT_LIST, Action.KEY_ADD])
def test_what_it_does_not_have_is_a_mistake_of_ours(action: Action) -> None:
    """The features said so before."""
    with pytest.raises(ValueError, match="cannot"):
        SERVERS.ask(action, GONE, {"root_token": Secret("a-token-of-the-rental")})
