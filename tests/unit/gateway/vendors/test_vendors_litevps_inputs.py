"""What agents send to LiteVPS: what the document allows and no more, marks in names, and batches taken apart."""

import json
from typing import Any

import pytest

from gateway.account_ports import AccountTerms, Order, Part, Template
from gateway.core.problems import Problem
from gateway.core.routes import Match
from gateway.core.tariff import Rule
from gateway.vendors.litevps import LiteVps
from gateway.vendors.litevps.inputs import MAX_BATCH
from tests.factories import unmark

VENDOR = LiteVps(
    "litevps",
    "https://l.example",
    AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=60),
)
TOKEN = "gabcdefgh2345672a"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent@host"
CREATE = {"name": "web-01", "plan_id": "p-1"}
ONE = "/api/vps/v-1"


def matched(method: str, path: str) -> Match:
    """The match that must exist."""
    found = VENDOR.match(method, path)
    assert found is not None
    return found


def raw(document: Any) -> bytes:
    """A document as an agent sends it."""
    return json.dumps(document).encode()


def refusal(match: Match, body: bytes) -> Problem:
    """The refusal that a body must meet."""
    with pytest.raises(Problem) as caught:
        VENDOR.check_input(match, body)
    assert caught.value.code == "input_refused"
    return caught.value


@pytest.mark.parametrize(
    "document",
    [
        CREATE,
        {"name": "a", "plan_id": "p-1", "ssh_key_ids": ["k-1", "k-2"]},
        {"name": "web.example.com", "plan_id": "p-1", "ssh_key_ids": []},
        {"name": "agent-vm", "template": "ubuntu-22-small"},
        {"name": "agent-vm", "template": "t", "vcpu": 2, "memory_mb": 4096, "disk_gb": 80},
        {"name": "agent-vm", "template": "t", "plan_id": "p-1", "user_data": "#cloud-config\n", "ttl_minutes": 60},
        {"name": "A" * 63, "plan_id": "p-1"},
    ],
)
def test_documented_creates_pass(document: dict[str, Any]) -> None:
    """By plan or by template, with the fields that the document lets one override."""
    VENDOR.check_input(matched("POST", "/api/vps"), raw(document))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": None}, "name"),
        ({"name": "-bad"}, "name"),
        ({"name": "bad-"}, "name"),
        ({"name": "not a host"}, "name"),
        ({"name": "a..b"}, "name"),
        ({"name": "a" * 64}, "name"),
        ({"name": "web-01\n"}, "name"),
        ({"name": "wéb"}, "name"),
        ({"plan_id": None}, "plan_id"),
        ({"plan_id": 7}, "plan_id"),
        ({"plan_id": ""}, "plan_id"),
        ({"plan_id": "../keys"}, "plan_id"),
        ({"template": None}, "template"),
        ({"template": ["t"]}, "template"),
        ({"ssh_key_ids": "k-1"}, "ssh_key_ids"),
        ({"ssh_key_ids": None}, "ssh_key_ids"),
        ({"ssh_key_ids": [1]}, "ssh_key_ids"),
        ({"ssh_key_ids": ["k"] * 101}, "ssh_key_ids"),
        ({"vcpu": 2}, "vcpu"),
        ({"ttl_minutes": 0}, "ttl_minutes"),
        ({"ttl_minutes": True}, "ttl_minutes"),
        ({"ttl_minutes": "60"}, "ttl_minutes"),
        ({"user_data": {"a": 1}}, "user_data"),
        ({"count": 5}, "body"),
        ({"Plan_ID": "p-2"}, "plan_id"),
    ],
)
def test_a_create_with_another_reading_is_refused(changes: dict[str, Any], field: str) -> None:
    """Names that are no host names, values of another type, sizes beside a plan, members that the document has not."""
    assert refusal(matched("POST", "/api/vps"), raw({**CREATE, **changes})).field == field


@pytest.mark.parametrize(
    "document",
    [
        {"name": "web-01"},
        {"name": "web-01", "vcpu": 1, "memory_mb": 512, "disk_gb": 10},
        {"name": "web-01", "template": "t", "vcpu": 0},
        {"name": "web-01", "template": "t", "memory_mb": -1},
        {"name": "web-01", "template": "t", "disk_gb": 1.5},
        [CREATE],
        "web-01",
    ],
)
def test_an_order_of_nothing_that_has_a_price_is_refused(document: Any) -> None:
    """Neither a plan nor a template, or sizes that no machine has."""
    refusal(matched("POST", "/api/vps"), raw(document))


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"name":"a","name":"b","plan_id":"p"}', b'{"name":"a","plan_id":"p"}{}', b"\xff{}"]
)
def test_a_body_with_two_readings_is_refused(body: bytes) -> None:
    """No JSON, a member twice, more than one text."""
    refusal(matched("POST", "/api/vps"), body)


def test_orders() -> None:
    """A plan is a kind; a template's order carries what overrides it; the agent's own name goes along."""
    create = matched("POST", "/api/vps")
    assert VENDOR.order(create, raw(CREATE)) == Order("p-1", "web-01")
    asked = VENDOR.order(create, raw({"name": "vm", "template": "t", "memory_mb": 1024, "ttl_minutes": 90}))
    assert asked == Order(None, "vm", sizes={"memory_mib": 1024}, template="t", lives_s=5400)
    with pytest.raises(ValueError, match="create"):
        VENDOR.order(matched("GET", ONE), b"")


def test_a_template_fills_what_an_order_leaves_open() -> None:
    """Explicit fields override it, and a plan that is named is the price."""
    template = Template("t", {"vcpu": 1, "memory_mib": 512, "disk_gib": 10}, lives_s=3600)
    asked = Order(None, "vm", sizes={"memory_mib": 1024}, template="t")
    filled = template.fill(asked)
    assert filled == Order(None, "vm", sizes={"vcpu": 1, "memory_mib": 1024, "disk_gib": 10}, lives_s=3600)
    assert template.fill(Order(None, "vm", template="t", lives_s=60)).lives_s == 60
    assert template.fill(Order("p-1", "vm", template="t")) == Order("p-1", "vm", lives_s=3600)


def test_marks_stand_in_the_names_of_creates_and_renamings() -> None:
    """Within a host name, at its end; everything else of the body stays."""
    create, update = matched("POST", "/api/vps"), matched("PUT", ONE)
    body = json.loads(VENDOR.marked(create, raw({**CREATE, "ssh_key_ids": ["k-1"]}), TOKEN))
    assert body == {"name": f"web-01-{TOKEN}", "plan_id": "p-1", "ssh_key_ids": ["k-1"]}
    assert json.loads(VENDOR.marked(update, raw({"name": "web-02"}), TOKEN)) == {"name": f"web-02-{TOKEN}"}
    for name in ("a" * 63, "a" * 44 + "-" + "b" * 18, "long.name." + "a" * 53):
        marked = json.loads(VENDOR.marked(update, raw({"name": name}), TOKEN))["name"]
        VENDOR.check_input(update, raw({"name": marked}))
        found = unmark(marked)
        assert found is not None
        assert found[1] == TOKEN
        assert name.startswith(found[0])


def test_what_carries_no_name_of_a_server_is_not_marked() -> None:
    """Snapshots and keys keep their names: they belong to a server, or are known by id."""
    for match, document in (
        (matched("POST", f"{ONE}/snapshots"), {"name": "snap-1"}),
        (matched("POST", "/api/keys"), {"name": "my-key", "public_key": KEY}),
    ):
        VENDOR.check_input(match, raw(document))
        assert VENDOR.marked(match, raw(document), TOKEN) == raw(document)


def test_a_marked_body_is_refused_like_any_other() -> None:
    """Whoever asks for a mark before the check gets the same refusal."""
    with pytest.raises(Problem):
        VENDOR.marked(matched("PUT", ONE), raw({"name": "not a host"}), TOKEN)


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("PUT", ONE, {"name": "web-02"}),
        ("POST", f"{ONE}/snapshots", {"name": "before upgrade"}),
        ("POST", f"{ONE}/exec", {"command": "df -h /", "timeout_seconds": 30}),
        ("POST", f"{ONE}/exec", {"command": "line one\nline two", "timeout_seconds": 300, "background": True}),
        ("POST", "/api/keys", {"name": "my-key", "public_key": KEY + "\n"}),
        ("POST", "/api/keys", {"name": "my-key", "public_key": KEY.rpartition(" ")[0]}),
    ],
)
def test_the_documents_own_bodies_pass(method: str, path: str, document: Any) -> None:
    """As its examples write them."""
    VENDOR.check_input(matched(method, path), raw(document))


@pytest.mark.parametrize(
    ("method", "path", "document", "field"),
    [
        ("PUT", ONE, {"name": "web-02", "plan_id": "p-2"}, "body"),
        ("PUT", ONE, {}, "name"),
        ("POST", f"{ONE}/snapshots", {"name": "../v-2/snap"}, "name"),
        ("POST", f"{ONE}/snapshots", {"name": ".."}, "name"),
        ("POST", f"{ONE}/snapshots", {"name": "a%2Fb"}, "name"),
        ("POST", f"{ONE}/snapshots", {"name": "a\u200bb"}, "name"),
        ("POST", f"{ONE}/snapshots", {"name": ""}, "name"),
        ("POST", f"{ONE}/exec", {"command": ""}, "command"),
        ("POST", f"{ONE}/exec", {}, "command"),
        ("POST", f"{ONE}/exec", {"command": ["ls"]}, "command"),
        ("POST", f"{ONE}/exec", {"command": "ls", "timeout_seconds": 0}, "timeout_seconds"),
        ("POST", f"{ONE}/exec", {"command": "ls", "background": "true"}, "background"),
        ("POST", f"{ONE}/exec", {"command": "ls", "vps_id": "v-2"}, "body"),
        ("POST", "/api/keys", {"name": "k", "public_key": KEY + "\n" + KEY}, "public_key"),
        ("POST", "/api/keys", {"name": "k", "public_key": "hello"}, "public_key"),
        ("POST", "/api/keys", {"public_key": KEY}, "name"),
        ("POST", f"{ONE}/start", {"id": "v-2"}, "body"),
        ("DELETE", ONE, {"ids": ["v-2"]}, "body"),
        ("GET", "/api/vps", {"all": True}, "body"),
    ],
)
def test_other_bodies_are_refused(method: str, path: str, document: Any, field: str) -> None:
    """Another type, another member, a name that no path could carry, a body where there is none."""
    assert refusal(matched(method, path), raw(document)).field == field


def test_bodies_that_are_not_ours_to_read() -> None:
    """A file's bytes pass as they are; an empty body or object is no body."""
    VENDOR.check_input(matched("PUT", f"{ONE}/files"), b'\x00\xff{"two": 1, "two": 2}')
    for body in (b"", b"{}", b" {} "):
        VENDOR.check_input(matched("POST", f"{ONE}/stop"), body)


def test_every_snapshot_name_that_passes_can_be_named_again() -> None:
    """Else the agent could make what it can neither restore nor delete."""
    for name in ("snap-1", "before upgrade", "ünï", "a?b#c", "...", "-x"):
        VENDOR.check_input(matched("POST", f"{ONE}/snapshots"), raw({"name": name}))
        path = f"{ONE}/snapshots/{VENDOR.show_request(name).target.rpartition('/')[2]}"
        assert matched("DELETE", path).parameters["name"] == name


def test_json_is_sent_as_json() -> None:
    """`curl -d` names another media type: what we read as JSON, the vendor must; a file keeps its own."""
    for method, path in (("POST", "/api/vps"), ("PUT", ONE), ("POST", f"{ONE}/exec"), ("POST", "/api/keys")):
        assert VENDOR.headers_for(matched(method, path), "uuid") == (("Content-Type", "application/json"),)
    assert VENDOR.headers_for(matched("PUT", f"{ONE}/files"), "uuid") == ()
    assert VENDOR.headers_for(matched("POST", f"{ONE}/stop"), "uuid") == ()


def test_a_batch_of_creates_is_its_orders() -> None:
    """In order, each as it was written; what is wrong in one is that one's refusal."""
    batch = matched("POST", "/api/vps/batch")
    items = [{"name": "w1", "template": "t"}, {"name": "w 2", "template": "t"}, 7]
    VENDOR.check_input(batch, raw({"vms": items}))
    parts = VENDOR.split(batch, raw({"vms": items}))
    assert [(part.index, part.method, part.target, part.ref) for part in parts] == [
        (index, "POST", "/api/vps", "") for index in range(3)
    ]
    assert [json.loads(part.body) for part in parts] == items
    create = matched(parts[0].method, parts[0].target)
    VENDOR.check_input(create, parts[0].body)
    for wrong in parts[1:]:
        refusal(create, wrong.body)


def test_batches_about_servers_name_them_one_by_one() -> None:
    """The ids stand in paths, where each is checked; a command goes along with each, and no list of ids does."""
    delete, execute = matched("DELETE", "/api/vps/batch"), matched("POST", "/api/vps/batch/exec")
    assert VENDOR.split(delete, raw({"ids": ["v-1", "v-2"]})) == (
        Part(0, "DELETE", "/api/vps/v-1", b"", "v-1"),
        Part(1, "DELETE", "/api/vps/v-2", b"", "v-2"),
    )
    command = {"command": "uptime", "timeout_seconds": 10, "background": True}
    parts = VENDOR.split(execute, raw({"ids": ["v-1", "v-2"], **command}))
    assert [(part.target, part.ref, json.loads(part.body)) for part in parts] == [
        ("/api/vps/v-1/exec", "v-1", command),
        ("/api/vps/v-2/exec", "v-2", command),
    ]
    for part in parts:
        VENDOR.check_input(matched(part.method, part.target), part.body)
    with pytest.raises(ValueError, match="batch"):
        VENDOR.split(matched("POST", "/api/vps"), raw(CREATE))


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "/api/vps/batch", {}),
        ("POST", "/api/vps/batch", {"vms": []}),
        ("POST", "/api/vps/batch", {"vms": [CREATE] * (MAX_BATCH + 1)}),
        ("POST", "/api/vps/batch", {"vms": [CREATE], "ids": []}),
        ("DELETE", "/api/vps/batch", {"ids": []}),
        ("DELETE", "/api/vps/batch", {"ids": "v-1"}),
        ("DELETE", "/api/vps/batch", {"ids": ["v-1"] * (MAX_BATCH + 1)}),
        ("DELETE", "/api/vps/batch", {"ids": ["batch"]}),
        ("DELETE", "/api/vps/batch", {"ids": ["../keys/k-1"]}),
        ("DELETE", "/api/vps/batch", {"ids": [None]}),
        ("POST", "/api/vps/batch/exec", {"ids": ["v-1"]}),
        ("POST", "/api/vps/batch/exec", {"ids": ["batch"], "command": "ls"}),
        ("POST", "/api/vps/batch/exec", {"command": "ls"}),
    ],
)
def test_batches_of_nothing_too_much_or_other_routes_are_refused(method: str, path: str, document: Any) -> None:
    """A part is a call of its own, never another batch or another kind of thing."""
    match = matched(method, path)
    refusal(match, raw(document))
    with pytest.raises(Problem):
        VENDOR.split(match, raw(document))


def test_passwords() -> None:
    """Of a login and of a registration, whatever the CAPTCHA; of nothing else."""
    body = raw({"email": "agent@example.com", "password": "key", "cf-turnstile-response": "robot"})
    for path in ("/api/auth/login", "/api/auth/register"):
        assert VENDOR.password_in(matched("POST", path), body) == ("agent@example.com", "key")
    assert VENDOR.password_in(matched("POST", "/api/keys"), body) is None
    login = matched("POST", "/api/auth/login")
    for wrong in (
        b"",
        b"[]",
        raw({"email": "a@b.c"}),
        raw({"email": 1, "password": "k"}),
        b'{"password":"a","password":"b"}',
    ):
        assert VENDOR.password_in(login, wrong) is None
