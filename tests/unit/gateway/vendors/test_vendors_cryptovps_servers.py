"""CryptoVPS in neutral words: what it does, what it costs, what is sent, and the sandbox vendor's own answers as heard."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.account_ports import AccountTerms
from gateway.core.plan import Billing, Source
from gateway.core.problems import Problem
from gateway.core.server import ServerState
from gateway.core.tariff import Rule
from gateway.server_ports import Action, Feature, Order, ServerVendor
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.cryptovps.routes import PRICES, REGIONS
from gateway.vendors.cryptovps.servers import CryptoVpsServers
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from tests.neutral_desk import Desk

EMAIL, PASSWORD = "ops@example.com", "min-8-chars"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "auth_per_min": 0,
    "rest_per_min": 0,
    "accounts": [{"email": EMAIL, "password": PASSWORD, "balance": "10.00"}],
}
TERMS = AccountTerms(7200, 1_000_000, Rule.STARTED_UNITS, 24, suspend_first=False, grace_s=0)
SERVERS: ServerVendor = CryptoVpsServers(CryptoVps("cryptovps", "http://127.0.0.1", TERMS))
ORDER = Order("vc2-1c-1gb", "my-bot", region="ams")
WEEK_MS = 7 * 86_400_000


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
    driver.token = driver.post("/auth/login", {"email": EMAIL, "password": PASSWORD}).json()["accessToken"]
    return Desk(driver, SERVERS)


def test_what_it_does() -> None:
    """The document's answers, and unknown where it leaves a question open."""
    features = SERVERS.features
    told = {answer: {f for f in Feature if features.does[f] == answer} for answer in ("yes", "unknown")}
    assert told["yes"] == {
        Feature.LIST,
        Feature.DESTROY,
        Feature.REGIONS,
        Feature.SNAPSHOTS,
        Feature.SNAPSHOT_DELETE,
        Feature.RESTORE_TO_NEW,
    }
    assert told["unknown"] == {Feature.CREDENTIALS, Feature.SSH_KEYS}
    assert (features.billing, features.unit_s, features.pays, features.hold_max_s) == (
        Billing.HOURLY,
        3600,
        "by_time",
        7200,
    )
    assert (features.followed, features.renew) == (True, None)
    assert features.snapshots is not None
    assert (features.snapshots.retention_s, features.snapshots.named_by_agent) == (604_800, False)
    assert "hour" in features.refundable


def test_the_documents_plans_are_bounds_in_every_region() -> None:
    """A month's price by the hours of the shortest month: no hour that adds up to a month costs more."""
    plans = SERVERS.plans({}, 5)
    assert [plan.id for plan in plans] == [price.kind for price in PRICES]
    micro = plans[0]
    assert (micro.key, micro.name, micro.hourly, micro.monthly) == ("cryptovps/vc2-1c-1gb", "Micro", "0.014881", "10")
    assert (micro.vcpu, micro.memory_mib, micro.disk_gib) == (1, 1024, 25)
    assert (micro.regions, micro.images, micro.source, micro.as_of_ms) == (REGIONS, (), Source.DOCUMENT, None)
    assert all(plan.available and plan.name != plan.id for plan in plans)


def test_without_a_rule_nothing_can_be_ordered() -> None:
    """The operator has not said how the vendor bills: creates are off, and the plans say so."""
    off = CryptoVpsServers(CryptoVps("c", "http://127.0.0.1", dataclasses.replace(TERMS, rule=None)))
    assert not any(plan.available for plan in off.plans({}, 0))


def test_a_create_is_the_documents_own() -> None:
    """Label, plan and region; a backup is restored, and brings all three."""
    ask = SERVERS.create(ORDER)
    assert (ask.method, ask.target) == ("POST", "/servers")
    assert json.loads(ask.body) == {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}
    restored = SERVERS.create(dataclasses.replace(ORDER, snapshot="b-1"))
    assert (restored.method, restored.target, restored.body) == ("POST", "/backups/b-1/restore", b"")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": "debian"}, "image"),
        ({"ssh_keys": ("k",)}, "ssh_keys"),
        ({"user_data": "#!"}, "user_data"),
        ({"minutes": 60}, "minutes"),
        ({"region": ""}, "region"),
        ({"region": "moon"}, "region"),
        ({"plan": "vc9"}, "plan"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"snapshot": "../servers"}, "snapshot"),
    ],
)
def test_what_cannot_be_ordered_is_named(changes: dict[str, Any], field: str) -> None:
    """By the neutral field, not by the vendor's."""
    with pytest.raises(Problem) as refused:
        SERVERS.create(dataclasses.replace(ORDER, **changes))
    assert (refused.value.code, refused.value.field) == ("input_refused", field)


def test_a_servers_life(desk: Desk) -> None:
    """Ordered, seen, listed, destroyed; a second destruction is as good, and what nobody has is lost."""
    made = desk.order(ORDER)
    assert made is not None
    assert (made.state, made.raw_state, made.address) == (ServerState.PROVISIONING, "PROVISIONING", "")
    assert (made.name, made.plan, made.region) == ("my-bot", "vc2-1c-1gb", "ams")
    desk.driver.advance(60)
    shown = desk.show(made.ref)
    assert (shown.state, shown.raw_state) == (ServerState.RUNNING, "ACTIVE")
    assert shown.address.count(".") == 3
    assert desk.listed() == (shown,)
    desk.driver.fault("destroy", mode="never")
    gone = desk.do(Action.DESTROY, made.ref)
    assert gone.ok
    assert gone.server is not None
    assert gone.server.state is ServerState.DESTROYING
    again = desk.do(Action.DESTROY, made.ref)
    assert desk.last is not None
    assert (desk.last.status, again.ok) == (409, True)
    missing = desk.do(Action.SHOW, "6a2f41a3-c54c-fce8-32d2-0324e1c32e22")
    assert (missing.ok, missing.server is not None and missing.server.state) == (False, ServerState.LOST)
    destroyed = desk.do(Action.DESTROY, "6a2f41a3-c54c-fce8-32d2-0324e1c32e22")
    assert (destroyed.ok, destroyed.server is not None and destroyed.server.state) == (True, ServerState.DESTROYED)


def test_backups(desk: Desk) -> None:
    """Taken, listed, restored to a new server, deleted; kept for a week."""
    made = desk.order(ORDER)
    assert made is not None
    desk.driver.advance(60)
    (taken,) = desk.do(Action.SNAPSHOT_CREATE, made.ref).snapshots
    assert (taken.state, taken.gone) == ("pending", False)
    assert taken.created_at_ms is not None
    assert taken.expires_at_ms == taken.created_at_ms + WEEK_MS
    desk.driver.advance(600)
    (listed,) = desk.do(Action.SNAPSHOT_LIST, made.ref).snapshots
    assert (listed.ref, listed.state, listed.name) == (taken.ref, "available", "my-bot")
    second = desk.order(dataclasses.replace(ORDER, snapshot=taken.ref))
    assert second is not None
    assert (second.state, second.ref != made.ref) == (ServerState.PROVISIONING, True)
    assert desk.do(Action.SNAPSHOT_DELETE, made.ref, snapshot=taken.ref).ok
    assert [each.gone for each in desk.do(Action.SNAPSHOT_LIST, made.ref).snapshots] == [True]
    assert desk.do(Action.SNAPSHOT_DELETE, made.ref, snapshot="b-0").ok


def test_a_word_that_the_document_does_not_have(desk: Desk) -> None:
    """It becomes unknown, with the word, and never an error."""
    made = desk.order(ORDER)
    assert made is not None
    desk.driver.fault("state", value="MIGRATING")
    shown = desk.show(made.ref)
    assert (shown.state, shown.raw_state) == (ServerState.UNKNOWN, "MIGRATING")


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("SUSPENDED", ServerState.SUSPENDED),
        ("ERROR", ServerState.ERROR),
        ("DESTROYING", ServerState.DESTROYING),
        ("DESTROYED", ServerState.DESTROYED),
        ("active", ServerState.UNKNOWN),
        (7, ServerState.UNKNOWN),
        (None, None),
    ],
)
def test_every_state(word: object, state: ServerState | None) -> None:
    """The document's words, whatever is none, and nothing."""
    heard = SERVERS.hear(Action.SHOW, "s-1", 200, json.dumps({"server": {"id": "s-1", "status": word}}).encode())
    assert heard.server is not None
    assert heard.server.state is state
    assert heard.server.raw_state == ("" if word is None else str(word))


def test_refusals_keep_the_vendors_words() -> None:
    """Nothing was made where a create is refused; an answer that shows nothing makes nothing either."""
    refused = SERVERS.hear(Action.SNAPSHOT_CREATE, "s-1", 409, b'{"error":"server is PROVISIONING, not ACTIVE"}')
    assert (refused.ok, refused.detail) == (False, "server is PROVISIONING, not ACTIVE")
    assert SERVERS.made(402, b'{"error":"insufficient balance"}') is None
    assert SERVERS.made(202, b'{"ok":true}') is None
    assert SERVERS.listed(b'{"servers":[{"id":5}]}') is None
