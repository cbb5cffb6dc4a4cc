"""LiteVPS in neutral words: what it does, what it costs, what is sent, and the sandbox vendor's own answers as heard."""

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
from gateway.server_ports import Action, Feature, JobSight, Order, ServerVendor
from gateway.vendors.litevps import LiteVps
from gateway.vendors.litevps.routes import PRICE_TARGET, TEMPLATE_TARGET
from gateway.vendors.litevps.servers import LiteVpsServers
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from tests.neutral_desk import Desk

TOKEN = "vtk_configured"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "accounts": [{"email": "ops@example.com", "password": "s3cr3t-long", "balance": "10.5", "tokens": [TOKEN]}],
}
TERMS = AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=60)
SERVERS: ServerVendor = LiteVpsServers(LiteVps("litevps", "http://vendor.invalid", TERMS))
ORDER = Order("p-1", "web-01")
ONE = "/api/vps/v-1"


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.litevps", CONFIG) as started:
        yield started


@pytest.fixture
def desk(process: SandboxProcess) -> Desk:
    """A vendor as after its start, entered with the operator's token."""
    driver = Driver(process, TOKEN)
    driver.admin("POST", "/reset")
    return Desk(driver, SERVERS)


def running(desk: Desk, **changes: Any) -> str:
    """A machine that runs."""
    nano = next(plan for plan in SERVERS.plans(desk.catalogue(), 1) if plan.name == "Nano")
    made = desk.order(dataclasses.replace(ORDER, plan=nano.id, **changes))
    assert made is not None
    assert (made.state, made.raw_state) == (ServerState.PROVISIONING, "creating")
    desk.driver.advance(20)
    return made.ref


def test_what_it_does() -> None:
    """Everything inside a machine, no password, no regions, snapshots where they were taken."""
    features = SERVERS.features
    no = {feature for feature in Feature if features.does[feature] == "no"}
    assert no == {Feature.RENEW, Feature.CREDENTIALS, Feature.REGIONS, Feature.RESTORE_TO_NEW}
    assert "unknown" not in features.does.values()
    assert (features.billing, features.unit_s, features.hold_max_s) == (Billing.PER_MINUTE, 60, 86_400)
    assert features.snapshots is not None
    rule = features.snapshots
    assert (rule.retention_s, rule.named_by_agent, rule.requires_stopped) == (None, True, True)
    assert "while it is stopped" in features.refundable


def test_plans_of_the_real_lists(desk: Desk) -> None:
    """Exact prices, sizes as they are, and the templates of exactly those sizes as images."""
    plans = {plan.name: plan for plan in SERVERS.plans(desk.catalogue(), 77)}
    nano = plans["Nano"]
    assert (nano.hourly, nano.monthly, nano.source, nano.as_of_ms) == ("0.0042", None, Source.API, 77)
    assert (nano.vcpu, nano.memory_mib, nano.disk_gib, nano.regions) == (1, 512, 10, ())
    assert nano.images == (Image("agent-sandbox", "Agent sandbox, one hour", 3600),)
    assert plans["Micro"].images == (Image("ubuntu-22-small", "Ubuntu 22.04 small", None),)
    assert plans["Small"].images == ()


def test_noise_in_a_float_is_no_price(desk: Desk) -> None:
    """What is added by the vendor's arithmetic past the eighteenth digit stays out, and nothing becomes a float."""
    exact = {plan.name: plan.hourly for plan in SERVERS.plans(desk.catalogue(), 1)}
    desk.driver.fault("noise", mode="exponent")
    assert {plan.name: plan.hourly for plan in SERVERS.plans(desk.catalogue(), 1)} == exact


def test_a_price_list_that_cannot_be_read() -> None:
    """It is an error, and no empty catalogue; templates that cannot be read are no images."""
    for body in (b"", b"{}", b"[]", b'[{"id":"p"}]', b'[{"id":"p","price_hourly":"1"}]'):
        with pytest.raises(ValueError, match="price list"):
            SERVERS.plans({PRICE_TARGET: body}, 1)
    (plan,) = SERVERS.plans({PRICE_TARGET: b'[{"id":"p","price_hourly":0.5}]', TEMPLATE_TARGET: b"<html>"}, 1)
    assert (plan.name, plan.hourly, plan.vcpu, plan.images) == ("p", "0.5", None, ())


def test_a_create_is_the_documents_own() -> None:
    """Only what is ordered stands in it."""
    assert json.loads(SERVERS.create(ORDER).body) == {"name": "web-01", "plan_id": "p-1"}
    whole = dataclasses.replace(ORDER, image="agent-sandbox", ssh_keys=("k-1",), user_data="#cloud-config")
    ask = SERVERS.create(whole)
    assert (ask.method, ask.target) == ("POST", "/api/vps")
    assert json.loads(ask.body) == {
        "name": "web-01",
        "plan_id": "p-1",
        "template": "agent-sandbox",
        "ssh_key_ids": ["k-1"],
        "user_data": "#cloud-config",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"region": "ams"}, "region"),
        ({"minutes": 5}, "minutes"),
        ({"snapshot": "s"}, "snapshot"),
        ({"plan": ""}, "plan"),
        ({"plan": "a/b"}, "plan"),
        ({"image": "a b"}, "image"),
        ({"ssh_keys": ("",)}, "ssh_keys"),
        ({"name": "under_score"}, "name"),
        ({"name": ""}, "name"),
    ],
)
def test_what_cannot_be_ordered_is_named(changes: dict[str, Any], field: str) -> None:
    """By the neutral field, not by the vendor's."""
    with pytest.raises(Problem) as refused:
        SERVERS.create(dataclasses.replace(ORDER, **changes))
    assert (refused.value.code, refused.value.field) == ("input_refused", field)


@pytest.mark.parametrize(
    ("action", "parameters", "sent"),
    [
        (Action.SHOW, {}, ("GET", ONE, b"")),
        (Action.DESTROY, {}, ("DELETE", ONE, b"")),
        (Action.REBOOT, {}, ("POST", f"{ONE}/restart", b"")),
        (Action.EXEC, {"command": "ls"}, ("POST", f"{ONE}/exec", b'{"command":"ls"}')),
        (
            Action.EXEC,
            {"command": "ls", "timeout_s": 9, "background": True},
            ("POST", f"{ONE}/exec", b'{"command":"ls","timeout_seconds":9,"background":true}'),
        ),
        (Action.JOB_SHOW, {"job": "j-1"}, ("GET", f"{ONE}/jobs/j-1", b"")),
        (Action.JOB_CANCEL, {"job": "j-1"}, ("DELETE", f"{ONE}/jobs/j-1", b"")),
        (Action.FILE_GET, {"path": "/a b?&é"}, ("GET", f"{ONE}/files?path=/a%20b%3F%26%C3%A9", b"")),
        (Action.FILE_PUT, {"path": "/a", "content": b"\x00"}, ("PUT", f"{ONE}/files?path=/a", b"\x00")),
        (Action.SNAPSHOT_CREATE, {"name": "before"}, ("POST", f"{ONE}/snapshots", b'{"name":"before"}')),
        (Action.SNAPSHOT_DELETE, {"snapshot": "a b"}, ("DELETE", f"{ONE}/snapshots/a%20b", b"")),
        (Action.RESTORE, {"snapshot": "before"}, ("POST", f"{ONE}/snapshots/before/restore", b"")),
        (Action.KEY_DELETE, {"key": "k-1"}, ("DELETE", "/api/keys/k-1", b"")),
    ],
)
def test_what_is_sent(action: Action, parameters: dict[str, Any], sent: tuple[str, str, bytes]) -> None:
    """The vendor's own requests."""
    ask = SERVERS.ask(action, "v-1", {}, parameters)
    assert (ask.method, ask.target, ask.body) == sent


def test_a_file_is_sent_as_bytes() -> None:
    """Also where its content goes beside the request: nobody takes it for JSON."""
    ask = SERVERS.ask(Action.FILE_PUT, "v-1", {}, {"path": "/a"})
    assert (ask.headers, ask.body) == ((("Content-Type", "application/octet-stream"),), b"")


@pytest.mark.parametrize(
    ("action", "parameters", "field"),
    [
        (Action.EXEC, {}, "command"),
        (Action.EXEC, {"command": "\ud800"}, "command"),
        (Action.EXEC, {"command": "ls", "timeout_s": 0}, "timeout_s"),
        (Action.EXEC, {"command": "ls", "background": "yes"}, "background"),
        (Action.JOB_SHOW, {"job": "a/b"}, "job"),
        (Action.FILE_GET, {"path": ""}, "path"),
        (Action.SNAPSHOT_CREATE, {"name": "a/b"}, "name"),
        (Action.RESTORE, {"snapshot": ".."}, "snapshot"),
        (Action.SNAPSHOT_DELETE, {"snapshot": None}, "snapshot"),
        (Action.KEY_ADD, {"name": "me", "public_key": "ssh-ed25519"}, "public_key"),
        (Action.KEY_DELETE, {"key": 5}, "key"),
    ],
)
def test_parameters_that_the_vendor_would_refuse(action: Action, parameters: dict[str, Any], field: str) -> None:
    """They are refused by name before anything is sent."""
    with pytest.raises(Problem) as refused:
        SERVERS.ask(action, "v-1", {}, parameters)
    assert (refused.value.code, refused.value.field) == ("input_refused", field)


def test_a_servers_life(desk: Desk) -> None:
    """Made, run, stopped, restored, started, destroyed, denied."""
    ref = running(desk)
    shown = desk.show(ref)
    assert (shown.state, shown.raw_state, shown.name) == (ServerState.RUNNING, "running", "web-01")
    assert (shown.address[:6], shown.image, shown.expires_at_ms, shown.ends_by_itself) == ("198.51", "", None, False)
    assert desk.listed() == (shown,)
    (taken,) = desk.do(Action.SNAPSHOT_CREATE, ref, name="before").snapshots
    assert (taken.ref, taken.state, taken.created_at_ms is not None) == ("before", "available", True)
    assert not desk.do(Action.RESTORE, ref, snapshot="before").ok  # it runs
    assert desk.do(Action.STOP, ref).ok
    desk.driver.advance(30)
    assert desk.show(ref).state is ServerState.STOPPED
    restored = desk.do(Action.RESTORE, ref, snapshot="before")
    assert restored.ok
    assert [each.ref for each in desk.do(Action.SNAPSHOT_LIST, ref).snapshots] == ["before"]
    assert desk.do(Action.SNAPSHOT_DELETE, ref, snapshot="before").ok
    assert desk.do(Action.SNAPSHOT_LIST, ref).snapshots == ()
    assert desk.do(Action.START, ref).ok
    desk.driver.advance(30)
    assert desk.do(Action.REBOOT, ref).ok
    assert desk.show(ref).state is ServerState.RUNNING
    gone = desk.do(Action.DESTROY, ref)
    assert (gone.ok, gone.server is not None and gone.server.state) == (True, ServerState.DESTROYING)
    denied = desk.do(Action.SHOW, ref)
    assert (denied.ok, denied.server is not None and denied.server.state) == (False, ServerState.LOST)
    again = desk.do(Action.DESTROY, ref)
    assert (again.ok, again.server is not None and again.server.state) == (True, ServerState.DESTROYED)


def test_what_is_made_of_a_template_that_ends(desk: Desk) -> None:
    """Its end is known from the first answer on, and that nothing keeps it."""
    nano = next(plan for plan in SERVERS.plans(desk.catalogue(), 1) if plan.name == "Nano")
    made = desk.order(Order(nano.id, "short", image=nano.images[0].id))
    assert made is not None
    began_ms = desk.driver.state()["business_ms"] // 1000 * 1000
    assert (made.image, made.expires_at_ms, made.ends_by_itself) == ("agent-sandbox", began_ms + 3_600_000, True)


def test_commands_and_jobs(desk: Desk) -> None:
    """At once, in the background, listed, shown and cancelled; what is forbidden is not done."""
    ref = running(desk)
    ran = desk.do(Action.EXEC, ref, command="echo hello")
    assert (ran.ok, [job.state for job in ran.jobs], ran.jobs[0].exit_code) == (True, ["done"], 0)
    assert (ran.jobs[0].id, ran.jobs[0].stdout) == ("", "hello\n")
    (begun,) = desk.do(Action.EXEC, ref, command="sleep 100", background=True, timeout_s=300).jobs
    assert (begun.state, begun.exit_code) == ("pending", None)
    desk.driver.advance(5)
    assert [(job.id, job.state) for job in desk.do(Action.JOB_LIST, ref).jobs] == [(begun.id, "running")]
    (cancelled,) = desk.do(Action.JOB_CANCEL, ref, job=begun.id).jobs
    assert (cancelled.id, cancelled.state) == (begun.id, "cancelled")
    assert desk.do(Action.JOB_SHOW, ref, job=begun.id).jobs == (cancelled,)
    denied = desk.do(Action.EXEC, ref, command="reboot")
    assert (denied.ok, denied.jobs) == (False, ())


def test_a_command_whose_answer_was_lost_may_have_run(desk: Desk) -> None:
    """Unknown is not failed (P5)."""
    ref = running(desk)
    desk.driver.fault("exec", mode="lost")
    lost = desk.do(Action.EXEC, ref, command="echo hello")
    assert (lost.ok, lost.jobs) == (False, (JobSight("", "unknown"),))
    assert lost.detail


def test_files(desk: Desk) -> None:
    """Bytes go in and come out."""
    ref = running(desk)
    assert desk.do(Action.FILE_PUT, ref, path="/root/a.bin", content=b"\x00{").ok
    assert desk.do(Action.FILE_GET, ref, path="/root/a.bin").ok
    assert desk.last is not None
    assert desk.last.raw == b"\x00{"
    assert not desk.do(Action.FILE_GET, ref, path="/root/none").ok


def test_keys(desk: Desk) -> None:
    """Added once, put onto a machine, deleted; one that is not there is deleted too."""
    added = desk.do(Action.KEY_ADD, "", name="me", public_key=KEY)
    assert added.ok
    assert added.key_ref
    running(desk, ssh_keys=(added.key_ref,))
    assert desk.do(Action.KEY_DELETE, "", key=added.key_ref).ok
    assert desk.do(Action.KEY_DELETE, "", key=added.key_ref).ok


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("error", ServerState.ERROR),
        ("hibernating", ServerState.UNKNOWN),
        ("Running", ServerState.UNKNOWN),
        ([], ServerState.UNKNOWN),
        (None, None),
    ],
)
def test_every_state(word: object, state: ServerState | None) -> None:
    """The document's words, whatever is none with the word as it was said, and nothing."""
    heard = SERVERS.hear(Action.SHOW, "v-1", 200, json.dumps({"id": "v-1", "state": word}).encode())
    assert heard.server is not None
    assert heard.server.state is state
    assert bool(heard.server.raw_state) == (word is not None)


def test_another_machines_answer_is_no_sight() -> None:
    """What is about another thing tells nothing of this one."""
    heard = SERVERS.hear(Action.SHOW, "v-1", 200, b'{"id":"v-2","state":"running"}')
    assert (heard.ok, heard.server) == (False, None)
