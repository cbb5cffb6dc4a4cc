"""dropmpp in neutral words, by answers of the real sandbox vendor: what is asked is sent to it, what it says is read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.core.commands import AccountLimits
from gateway.core.plan import Billing, Image, Source
from gateway.core.problems import Problem
from gateway.core.server import ServerState
from gateway.ports import VendorTerms
from gateway.server_ports import Action, Ask, Feature, Heard, Order, Sight, SnapshotSight
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.dropmpp.routes import MAX_MINUTES
from gateway.vendors.dropmpp.servers import DEFAULT_MINUTES, DropMppServers
from sandbox.dropmpp.payer import MppxPayer
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from sandbox.tempo.chain import LocalTempo

TERMS = VendorTerms(b"\1" * 20, (), frozenset(), 0, {}, 300, 3600, AccountLimits(1, 1, 1, 1, 1))
SERVERS = DropMppServers(DropMpp("drop", "https://drop.example", TERMS))
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
ORDER = Order("small", "box", "nyc1", minutes=60)
GONE = "srv_0000000000000000"


@dataclass
class Desk:
    """One vendor process and an account that can pay it, as mppx pays."""

    driver: Driver
    payer: MppxPayer
    key: str

    def send(self, ask: Ask) -> tuple[int, bytes]:
        """Send a request, with the payment or the proof that it asks for."""
        document = json.loads(ask.body) if ask.body else None
        url = self.driver.process.base_url + ask.target
        answer = self.payer.fetch(self.key, ask.method, url, document, retries=1)
        return answer.status, answer.body.encode()

    def hear(self, action: Action, ref: str, **parameters: Any) -> Heard:
        """Ask for an action and hear the answer."""
        return SERVERS.hear(action, ref, *self.send(SERVERS.ask(action, ref, {}, parameters)))

    def seen(self, ref: str) -> Sight:
        """Return what a look shows of a server."""
        heard = self.hear(Action.SHOW, ref)
        assert heard.server is not None
        return heard.server

    def made(self, order: Order = ORDER) -> Sight:
        """Order a server that is up soon, and return what its create's answer shows."""
        sight = SERVERS.made(*self.send(SERVERS.create(order)))
        assert sight is not None
        return sight

    def up(self, order: Order = ORDER) -> Sight:
        """Order a server, let it come up, and return what is seen of it then."""
        made = self.made(order)
        self.driver.advance(2)
        return self.seen(made.ref)

    def catalogue(self) -> dict[str, bytes]:
        """Return the answers that state plans."""
        return {asked.target: self.send(Ask("GET", asked.target))[1] for asked in SERVERS.catalogue}


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[SandboxProcess, MppxPayer, str]]:
    """A chain, the vendor on it, and mppx's client."""
    with LocalTempo.start() as tempo, MppxPayer(tempo.rpc_url, tempo.chain_id) as payer:
        config = {"rpc_url": tempo.rpc_url, "catalog": "proof"}
        with SandboxProcess.start("sandbox.dropmpp", config) as started:
            yield started, payer, tempo.dev_account(0)[1]


@pytest.fixture
def desk(process: tuple[SandboxProcess, MppxPayer, str]) -> Desk:
    """The vendor with an empty book."""
    started, payer, key = process
    driver = Driver(started)
    driver.admin("POST", "/reset")
    return Desk(driver, payer, key)


# plans


def test_sizes_regions_and_images_are_plans_with_exact_prices(desk: Desk) -> None:
    """Each size in each region with each image; the hour and the create fee as the vendor states them."""
    plans = {plan.id: plan for plan in SERVERS.plans(desk.catalogue(), NOW_MS)}
    assert set(plans) == {"small", "medium", "large"}
    medium = plans["medium"]
    assert (medium.key, medium.billing, medium.source) == ("drop/medium", Billing.MINUTES, Source.API)
    assert (medium.vcpu, medium.memory_mib, medium.disk_gib, medium.as_of_ms) == (2, 4096, 80, NOW_MS)
    assert medium.regions == ("nyc1", "sfo3", "ams3")
    debian = Image("debian-12-x64", "Debian 12")
    assert medium.images == (Image(SERVERS.features.default_image, "Ubuntu 24.04 LTS"), debian)
    prices = {name: (plan.hourly, plan.setup) for name, plan in plans.items()}
    assert prices == {"small": ("0.0134", "0.01"), "medium": ("0.0536", "0.02"), "large": ("0.1072", "0.04")}
    assert {(plan.term_s, plan.term_price, plan.monthly, plan.sandbox) for plan in plans.values()} == {
        (None, None, None, False)
    }


def test_what_cannot_be_paid_or_ordered_is_no_plan(desk: Desk) -> None:
    """A size with no price, and a region that the document does not have; a list that cannot be read lists nothing."""
    answers = desk.catalogue()
    sizes, regions, images = (asked.target for asked in SERVERS.catalogue)
    changed = json.loads(answers[sizes])
    changed["sizes"][0]["hourly"] = "0.01340001"  # finer than a base unit: it is on no price list of ours
    changed["sizes"].append({**changed["sizes"][1], "slug": "huge"})
    changed["sizes"][2]["vcpus"] = "4"
    more = {**json.loads(answers[regions]), "regions": [{"slug": "nyc1"}, {"slug": "fra1", "name": "Frankfurt"}]}
    odd = {**answers, sizes: json.dumps(changed).encode(), regions: json.dumps(more).encode()}
    plans = {plan.id: plan for plan in SERVERS.plans(odd, NOW_MS)}
    assert set(plans) == {"medium", "large"}
    assert (plans["large"].vcpu, plans["large"].regions) == (None, ("nyc1",))
    for target in (sizes, regions, images):
        for unreadable in (b"", b"[1]", b'{"other":[]}', b"<html>"):
            with pytest.raises(ValueError, match="cannot be read"):
                SERVERS.plans({**answers, target: unreadable}, NOW_MS)


# features


def test_features_are_what_the_document_states() -> None:
    """All but commands, files and restoring in place; minutes are bought, at least a cent's worth."""
    features = SERVERS.features
    assert {feature for feature, answer in features.does.items() if answer != "yes"} == {
        *(Feature.EXEC, Feature.JOBS, Feature.FILES, Feature.RESTORE_IN_PLACE)
    }
    assert set(features.does.values()) == {"yes", "no"}
    assert (features.billing, features.unit_s, features.pays, features.followed) == (
        "prepaid_minutes",
        60,
        "at_once",
        False,
    )
    assert features.renew is not None
    assert features.renew.of(None) == features.renew
    assert (features.renew.unit_s, features.renew.max_units, features.renew.least_base) == (60, MAX_MINUTES, 10_000)
    assert not features.renew.slow
    assert features.snapshots is not None
    assert (features.snapshots.retention_s, features.snapshots.requires_stopped) == (72 * 3600, False)


# a server's life


def test_a_servers_life(desk: Desk) -> None:
    """Ordered, up, listed, off, on, rebooted, extended and destroyed with a snapshot left: each as the vendor says it."""
    made = desk.made()
    assert (made.state, made.raw_state, made.access) == (ServerState.PROVISIONING, "provisioning", {})
    assert desk.seen(made.ref).state is ServerState.PROVISIONING
    desk.driver.advance(2)
    up = desk.seen(made.ref)
    assert (up.state, up.raw_state, up.plan, up.region) == (ServerState.RUNNING, "active", "small", "nyc1")
    assert up.image == SERVERS.features.default_image
    assert up.address.startswith("198.")
    assert up.expires_at_ms == made.expires_at_ms
    asked = SERVERS.list_ask()
    assert asked is not None
    listed = SERVERS.listed(desk.send(asked)[1])
    assert listed == (replace(up, access={}),)
    for action, state, shown in (
        (Action.STOP, ServerState.STOPPED, ServerState.STOPPED),
        (Action.START, ServerState.RUNNING, ServerState.RUNNING),
        (Action.REBOOT, ServerState.REBOOTING, ServerState.RUNNING),
    ):
        heard = desk.hear(action, made.ref)
        assert heard.ok
        assert heard.server is not None
        assert (heard.server.state, desk.seen(made.ref).state) == (state, shown)
    renewed = desk.hear(Action.RENEW, made.ref, units=90)
    assert renewed.server == Sight(made.ref, expires_at_ms=(made.expires_at_ms or 0) + 90 * 60_000)
    ended = desk.hear(Action.DESTROY, made.ref)
    assert ended.server == Sight(made.ref, ServerState.DESTROYED)
    (left,) = ended.snapshots
    assert (left.state, left.ref) == ("pending", desk.hear(Action.SNAPSHOT_LIST, made.ref).snapshots[0].ref)
    assert desk.hear(Action.SHOW, made.ref).server == Sight(made.ref, ServerState.LOST)
    again = desk.hear(Action.DESTROY, made.ref)
    assert (again.ok, again.server) == (True, Sight(made.ref, ServerState.DESTROYED))


def test_what_is_ordered_reaches_the_vendor(desk: Desk) -> None:
    """Image, keys, user data and minutes; minutes are always sent, for the vendor's own default is one."""
    key = desk.hear(Action.KEY_ADD, "", name="me", public_key=PUBLIC_KEY).key_ref
    made = desk.made(replace(ORDER, image="debian-12-x64", ssh_keys=(key,), user_data="#!/bin/sh", minutes=None))
    kept = desk.driver.state()["servers"][made.ref]
    assert (kept["image"], kept["ssh_key_ids"], kept["has_user_data"]) == ("debian-12-x64", [key], True)
    assert kept["minutes_purchased"] == DEFAULT_MINUTES


def test_the_root_password_is_readable_at_any_time(desk: Desk) -> None:
    """With every look, and on demand."""
    up = desk.up()
    heard = desk.hear(Action.CREDENTIALS, up.ref)
    assert heard.ok
    shown = {name: secret.reveal() for name, secret in heard.access.items()}
    assert shown == {"username": "root", "password": desk.driver.state()["servers"][up.ref]["root_password"]}
    assert shown == {name: secret.reveal() for name, secret in up.access.items()}


def test_snapshots_are_taken_kept_restored_and_deleted(desk: Desk) -> None:
    """A list of one server's holds its own alone; a snapshot makes a new server, with another address."""
    up, other = desk.up(), desk.up()
    taken = desk.hear(Action.SNAPSHOT_CREATE, up.ref, name="mine")
    unnamed = desk.hear(Action.SNAPSHOT_CREATE, other.ref)
    assert (taken.ok, unnamed.ok) == (True, True)
    (one,) = taken.snapshots
    assert one.state == "pending"
    desk.driver.advance(2)
    (found,) = desk.hear(Action.SNAPSHOT_LIST, up.ref).snapshots
    assert (found.ref, found.name, found.state, found.size_gib) == (one.ref, "mine", "available", "1.87")
    assert (found.expires_at_ms or 0) - (found.created_at_ms or 0) == 72 * HOUR_MS
    assert len(desk.hear(Action.SNAPSHOT_LIST, "").snapshots) == 2
    restored = desk.up(replace(ORDER, snapshot=one.ref))
    assert restored.address not in {"", up.address}
    assert desk.driver.state()["servers"][restored.ref]["snapshot_id"] == one.ref
    for _ in range(2):  # what is not there is deleted
        assert desk.hear(Action.SNAPSHOT_DELETE, up.ref, snapshot=one.ref).ok
    assert desk.hear(Action.SNAPSHOT_LIST, up.ref).snapshots == ()


def test_a_key_is_added_and_removed(desk: Desk) -> None:
    """Removing it twice is no failure."""
    added = desk.hear(Action.KEY_ADD, "", name="me", public_key=PUBLIC_KEY)
    assert added.ok
    assert added.key_ref in desk.driver.state()["keys"]
    for _ in range(2):
        assert desk.hear(Action.KEY_DELETE, "", key=added.key_ref).ok
    assert desk.driver.state()["keys"] == {}


def test_prepaid_time_that_ran_out_leaves_no_server(desk: Desk) -> None:
    """The vendor knows it no more: whether it has lapsed is for whoever knows until when it was paid."""
    made = desk.made()
    desk.driver.advance(3601)
    assert desk.hear(Action.SHOW, made.ref).server == Sight(made.ref, ServerState.LOST)


def test_a_refusal_says_why_and_nothing_of_the_server(desk: Desk) -> None:
    """What is still being made cannot be rebooted; what broke says nothing of what is there."""
    made = desk.made()
    heard = desk.hear(Action.REBOOT, made.ref)
    assert (heard.ok, heard.server) == (False, None)
    assert "still being created" in heard.detail
    for status, body in ((500, b'{"error":"oops"}'), (404, b"<html>proxy</html>"), (200, b"<html>")):
        broken = SERVERS.hear(Action.SHOW, made.ref, status, body)
        assert (broken.ok, broken.server) == (False, None)
        assert SERVERS.made(status, body) is None
    assert SERVERS.hear(Action.DESTROY, made.ref, 404, b"<html>proxy</html>").ok is False
    assert SERVERS.hear(Action.KEY_DELETE, "", 500, b"{}").ok is False


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("new", ServerState.PROVISIONING),
        ("active", ServerState.RUNNING),
        ("stopped", ServerState.STOPPED),
        ("expired", ServerState.LAPSED),
        ("deleted", ServerState.DESTROYED),
        ("reticulating", ServerState.UNKNOWN),
        (7, ServerState.UNKNOWN),
        (None, ServerState.UNKNOWN),
    ],
)
def test_every_word_becomes_a_state(desk: Desk, status: object, state: ServerState) -> None:
    """What nobody knows is unknown, with the vendor's own word beside it; no word at all says nothing."""
    made = desk.made()
    shown = json.loads(desk.send(SERVERS.ask(Action.SHOW, made.ref, {}))[1])
    heard = SERVERS.hear(Action.SHOW, made.ref, 200, json.dumps({**shown, "status": status}).encode())
    assert heard.server is not None
    assert heard.server.state is state
    assert heard.server.raw_state == ("" if status is None else str(status))
    silent = {name: value for name, value in shown.items() if name != "status"}
    heard = SERVERS.hear(Action.SHOW, made.ref, 200, json.dumps(silent).encode())
    assert heard.server is not None
    assert heard.server.state is None


def test_an_answer_about_another_server_is_not_taken(desk: Desk) -> None:
    """P9: a look that shows another's says nothing; neither does a list that is none."""
    made, other = desk.made(), desk.made()
    answer = desk.send(SERVERS.ask(Action.SHOW, other.ref, {}))
    heard = SERVERS.hear(Action.SHOW, made.ref, *answer)
    assert (heard.ok, heard.server) == (False, None)
    assert SERVERS.listed(b'{"error":"no"}') is None
    assert SERVERS.listed(b"<html>") is None
    assert SERVERS.listed(b'{"servers":[]}') == ()


def test_a_destruction_without_a_snapshot_leaves_none() -> None:
    """Only what the answer shows is kept."""
    heard = SERVERS.hear(Action.DESTROY, GONE, 200, b'{"deleted":true}')
    assert (heard.ok, heard.snapshots) == (True, ())
    told = SERVERS.hear(Action.DESTROY, GONE, 200, b'{"deleted":true,"snapshot":{"id":"snap_1","expires_in_hours":72}}')
    assert told.snapshots == (SnapshotSight("snap_1", state="pending"),)


# what is refused


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"plan": "huge"}, "plan"),
        ({"region": ""}, "region"),
        ({"region": "fra1"}, "region"),
        ({"image": "Not A Slug"}, "image"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": MAX_MINUTES + 1}, "minutes"),
        ({"ssh_keys": ("../x",)}, "ssh_keys"),
        ({"snapshot": "../x"}, "snapshot"),
        ({"user_data": "x" * 65_537}, "user_data"),
    ],
)
def test_what_the_vendor_would_refuse_is_refused_in_neutral_words(change: dict[str, Any], field: str) -> None:
    """Before it costs anything."""
    with pytest.raises(Problem) as caught:
        SERVERS.create(replace(ORDER, **change))
    assert (caught.value.code, caught.value.field) == ("input_refused", field)


@pytest.mark.parametrize(
    ("action", "parameters", "field"),
    [
        (Action.RENEW, {}, "units"),
        (Action.RENEW, {"units": 0}, "units"),
        (Action.RENEW, {"units": True}, "units"),
        (Action.SNAPSHOT_CREATE, {"name": "a\nb"}, "name"),
        (Action.SNAPSHOT_DELETE, {}, "snapshot"),
        (Action.SNAPSHOT_DELETE, {"snapshot": "../servers/srv_1"}, "snapshot"),
        (Action.KEY_ADD, {"name": "", "public_key": PUBLIC_KEY}, "name"),
        (Action.KEY_ADD, {"name": "me", "public_key": "AAAA"}, "public_key"),
        (Action.KEY_DELETE, {"key": ""}, "key"),
    ],
)
def test_parameters_that_the_vendor_would_refuse_are_refused(
    action: Action, parameters: dict[str, Any], field: str
) -> None:
    """Naming the neutral field, before it costs anything."""
    with pytest.raises(Problem) as caught:
        SERVERS.ask(action, GONE, {}, parameters)
    assert (caught.value.code, caught.value.field) == ("input_refused", field)


@pytest.mark.parametrize("action", [Action.EXEC, Action.FILE_GET, Action.JOB_LIST, Action.RESTORE])
def test_what_it_does_not_have_is_a_mistake_of_ours(action: Action) -> None:
    """The features said so before."""
    with pytest.raises(ValueError, match="has no"):
        SERVERS.ask(action, GONE, {})
