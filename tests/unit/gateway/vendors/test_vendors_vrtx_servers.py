"""VRTX in neutral words: what it does, what it costs, what is sent, and the sandbox vendor's own answers as heard."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.account_ports import AccountTerms
from gateway.core.plan import Billing, Image, Source
from gateway.core.problems import Problem
from gateway.core.server import ServerState
from gateway.core.tariff import Rule
from gateway.server_ports import Action, Feature, Order, ServerVendor
from gateway.vendors.vrtx import Vrtx
from gateway.vendors.vrtx.routes import PRICE_TARGET, UNIT_S
from gateway.vendors.vrtx.servers import DEFAULT_IMAGE, VrtxServers
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from sandbox.vrtx.catalog import LOCATIONS, PLANS
from tests.neutral_desk import Desk

BASE = "/api/v2"
UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "sustained_per_min": 100_000,
    "burst_per_10s": 100_000,
    "password_after_s": 30.0,
    "accounts": [{"name": "ours", "tokens": ["tok"]}],
}
TERMS = AccountTerms(3600, 90_000_000, Rule.CAPPED, 2, suspend_first=False, grace_s=0)
MODULE = Vrtx("vrtx", "http://127.0.0.1", TERMS)
SERVERS: ServerVendor = VrtxServers(MODULE)
ORDER = Order("1", "app-01.example.com", region="sydney-au-6", image="debian-12")
PLAN = {"id": 1, "name": "1 vCPU", "cpu": 1, "memory": 3 << 30, "disk": 20 << 30, "hourly_price": 0.0053}


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process whose clock stands still."""
    with SandboxProcess.start("sandbox.vrtx", CONFIG) as started:
        yield started


@pytest.fixture
def desk(process: SandboxProcess) -> Desk:
    """The vendor as after its start, asked with its own token."""
    driver = Driver(process, "tok")
    driver.admin("POST", "/reset")
    return Desk(driver, SERVERS)


def lists(**changes: list[dict[str, Any]]) -> dict[str, bytes]:
    """Answers to the catalogue: two locations, of which the second lacks a template."""
    rows: dict[str, list[dict[str, Any]]] = {
        "plans": [{**PLAN, "monthly_price": 3.92}],
        "locations": [{"id": 6, "name": "Sydney, AU"}, {"id": 12, "name": "Hobart, AU"}],
        "six": [{"slug": "debian-12", "name": "Debian 12"}, {"slug": "windows-2022", "name": "Windows Server 2022"}],
        "twelve": [{"slug": "debian-12"}],
        **changes,
    }
    targets = {
        "plans": PRICE_TARGET,
        "locations": f"{BASE}/locations",
        "six": f"{BASE}/locations/6/templates",
        "twelve": f"{BASE}/locations/12/templates",
    }
    return {targets[name]: json.dumps({"data": found}).encode() for name, found in rows.items()}


def test_what_it_does() -> None:
    """Power and a password for certain; what is mentioned and not documented is unknown."""
    features = SERVERS.features
    told = {answer: {f for f in Feature if features.does[f] == answer} for answer in ("no", "unknown")}
    assert told["unknown"] == {
        Feature.SSH_KEYS,
        Feature.SNAPSHOTS,
        Feature.SNAPSHOT_DELETE,
        Feature.RESTORE_IN_PLACE,
        Feature.RESTORE_TO_NEW,
    }
    assert told["no"] == {Feature.RENEW, Feature.USER_DATA, Feature.EXEC, Feature.JOBS, Feature.FILES}
    assert (features.billing, features.unit_s, features.default_image) == (Billing.HOURLY, UNIT_S, DEFAULT_IMAGE)
    assert features.ready_pauses_s == (2.0, 4.0, 8.0, 16.0, 30.0)
    assert (features.followed, features.snapshots) == (True, None)


def test_a_month_that_has_begun_is_gone() -> None:
    """Under the rule that bills calendar months, the words and the billing model say so."""
    terms = dataclasses.replace(TERMS, rule=Rule.MONTHLY)
    features = VrtxServers(Vrtx("v", "http://127.0.0.1", terms)).features
    assert (features.billing, "calendar month" in features.refundable) == (Billing.MONTHLY, True)


def test_plans_of_the_real_lists(desk: Desk) -> None:
    """Exact prices, bytes as MiB and GiB, every location, and the images that all of them have."""
    plans = SERVERS.plans(desk.catalogue(), 9)
    for plan in plans:
        listed = PLANS[int(plan.id)]
        assert (plan.name, plan.hourly, plan.monthly) == (listed.name, str(listed.hourly), str(listed.monthly))
        assert (plan.vcpu, plan.memory_mib, plan.disk_gib) == (listed.cpu, listed.memory >> 20, listed.disk >> 30)
        assert (plan.source, plan.as_of_ms, plan.available) == (Source.API, 9, True)
    assert len(plans) == len(PLANS)
    assert len(plans[0].regions) == len(LOCATIONS)
    assert {"new-york-usa-1", "sydney-au-6"} < set(plans[0].regions)
    assert [image.id for image in plans[0].images] == ["ubuntu-24.04", "ubuntu-22.04", "debian-12", "almalinux-9"]
    desk.driver.fault("noise", mode="last_digits")
    assert [plan.hourly[:6] for plan in SERVERS.plans(desk.catalogue(), 9)] == [plan.hourly[:6] for plan in plans]


def test_images_are_those_of_every_region() -> None:
    """What one location lacks is not promised; a location that states no templates is no region."""
    (plan,) = SERVERS.plans(lists(), 1)
    assert (plan.regions, plan.images) == (("sydney-au-6", "hobart-au-12"), (Image("debian-12", "Debian 12"),))
    (narrow,) = SERVERS.plans(lists(twelve=[]), 1)
    assert (narrow.regions, len(narrow.images)) == (("sydney-au-6",), 2)
    (nameless,) = SERVERS.plans(lists(locations=[{"id": 6}]), 1)
    assert nameless.regions == ("6",)


def test_a_plan_whose_price_the_rule_needs_is_missing() -> None:
    """It is shown, and cannot be had: a capped bill needs the month's price."""
    (plan,) = SERVERS.plans(lists(plans=[PLAN]), 1)
    assert (plan.monthly, plan.available) == (None, False)


@pytest.mark.parametrize("changes", [{"plans": []}, {"locations": []}, {"six": [], "twelve": []}])
def test_lists_that_state_nothing(changes: dict[str, list[dict[str, Any]]]) -> None:
    """They are an error, and no empty catalogue."""
    with pytest.raises(ValueError, match="vrtx: no"):
        SERVERS.plans(lists(**changes), 1)


def test_a_create_is_the_documents_own() -> None:
    """Numbers where the vendor has numbers; without an image the one of its own examples."""
    ask = SERVERS.create(ORDER)
    assert (ask.method, ask.target) == ("POST", f"{BASE}/servers")
    body = {"plan_id": 1, "location_id": 6, "template_slug": "debian-12", "hostname": "app-01.example.com"}
    assert json.loads(ask.body) == body
    plain = SERVERS.create(dataclasses.replace(ORDER, region="6", image=""))
    assert json.loads(plain.body) == {**body, "template_slug": DEFAULT_IMAGE}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ssh_keys": ("k",)}, "ssh_keys"),
        ({"user_data": "#!"}, "user_data"),
        ({"minutes": 60}, "minutes"),
        ({"snapshot": "b"}, "snapshot"),
        ({"plan": "one"}, "plan"),
        ({"plan": "01"}, "plan"),
        ({"region": ""}, "region"),
        ({"region": "sydney"}, "region"),
        ({"image": "no image"}, "image"),
        ({"name": "under_score"}, "name"),
    ],
)
def test_what_cannot_be_ordered_is_named(changes: dict[str, Any], field: str) -> None:
    """By the neutral field, not by the vendor's."""
    with pytest.raises(Problem) as refused:
        SERVERS.create(dataclasses.replace(ORDER, **changes))
    assert (refused.value.code, refused.value.field) == ("input_refused", field)


def test_a_servers_life(desk: Desk) -> None:
    """Provisioning until its password is made, then what the hypervisor says; power, credentials, destruction."""
    made = desk.order(ORDER)
    assert made is not None
    assert (made.state, made.raw_state, made.image) == (ServerState.PROVISIONING, "installing", "Debian 12")
    assert (made.name, made.address.count("."), made.access) == ("app-01.example.com", 3, {})
    assert desk.show(made.ref) == made
    desk.driver.advance(60)
    waiting = desk.show(made.ref)
    assert (waiting.state, waiting.raw_state) == (ServerState.PROVISIONING, "password generating")
    early = desk.do(Action.CREDENTIALS, made.ref)
    assert (early.ok, early.access) == (True, {})
    desk.driver.advance(30)
    ready = desk.show(made.ref)
    assert (ready.state, ready.raw_state, ready.address) == (None, "", made.address)
    listed = desk.listed()
    assert listed is not None
    assert [(each.ref, each.state) for each in listed] == [(made.ref, None)]
    access = desk.do(Action.CREDENTIALS, made.ref).access
    assert access["username"].reveal() == "root"
    assert access["password"].reveal()
    for action, done in ((Action.STOP, "shutdown"), (Action.START, "start"), (Action.REBOOT, "restart")):
        assert desk.do(action, made.ref).ok
        desk.driver.advance(5)
        assert desk.driver.state()["servers"][made.ref]["done_actions"][-1] == done
    gone = desk.do(Action.DESTROY, made.ref)
    assert (gone.ok, gone.server is not None and gone.server.state) == (True, ServerState.DESTROYING)
    denied = desk.do(Action.SHOW, made.ref)
    assert (denied.ok, denied.server is not None and denied.server.state) == (False, ServerState.LOST)
    again = desk.do(Action.DESTROY, made.ref)
    assert (again.ok, again.server is not None and again.server.state) == (True, ServerState.DESTROYED)


def test_a_power_action_that_is_refused(desk: Desk) -> None:
    """It was not done, in the vendor's words."""
    made = desk.order(ORDER)
    assert made is not None
    refused = desk.do(Action.START, made.ref)
    assert (refused.ok, refused.detail) == (False, "Server is installing.")


@pytest.mark.parametrize(
    ("said", "state", "raw"),
    [
        ({"status": "suspended", "state": "running"}, ServerState.SUSPENDED, "suspended"),
        ({"status": None, "password_status": "ready", "state": "running"}, ServerState.RUNNING, "running"),
        ({"status": None, "password_status": "generating", "state": "running"}, ServerState.PROVISIONING, None),
        ({"status": None, "state": "stopped"}, ServerState.STOPPED, "stopped"),
        ({"status": None, "state": "paused"}, ServerState.UNKNOWN, "paused"),
        ({"status": "install_failed", "state": "stopped"}, ServerState.UNKNOWN, "install_failed"),
        ({"status": 7}, ServerState.UNKNOWN, "7"),
        ({"status": None}, None, ""),
        ({}, None, ""),
    ],
)
def test_every_state(said: dict[str, Any], state: ServerState | None, raw: str | None) -> None:
    """Ready is running, with nothing being installed and a password; a word that is none keeps its word."""
    heard = SERVERS.hear(Action.SHOW, UUID, 200, json.dumps({"data": {"uuid": UUID, **said}}).encode())
    assert heard.server is not None
    assert heard.server.state is state
    assert heard.server.raw_state == ("password generating" if raw is None else raw)


def test_a_list_that_goes_on_proves_nothing() -> None:
    """The one that is looked for may be on the next page."""
    rows = [{"uuid": UUID, "status": "installing"}]
    for last, whole in ((1, True), (2, False)):
        body = json.dumps({"data": rows, "meta": {"current_page": 1, "last_page": last}}).encode()
        assert (SERVERS.listed(body) is not None) is whole


def test_a_page_before_the_vendor_denies_nothing() -> None:
    """A 404 that is not the vendor's own says nothing of the server, whatever was asked."""
    for action in (Action.SHOW, Action.DESTROY):
        heard = SERVERS.hear(action, UUID, 404, b"<html>nginx</html>")
        assert (heard.ok, heard.server) == (False, None)


def test_whether_it_runs_is_asked_for_by_itself(desk: Desk) -> None:
    """Showing an installed server does not say so; the hypervisor's word does, also while an action is queued."""
    made = desk.order(ORDER)
    assert made is not None
    desk.driver.advance(3600)
    assert desk.show(made.ref).state is None
    told = desk.do(Action.STATE, made.ref).server
    assert told is not None
    assert (told.ref, told.state, told.raw_state) == (made.ref, ServerState.RUNNING, "running")
    assert desk.do(Action.STOP, made.ref).ok
    desk.driver.advance(60)
    told = desk.do(Action.STATE, made.ref).server
    assert told is not None
    assert told.state is ServerState.STOPPED
    assert desk.do(Action.STATE, UUID).server is None
