"""LiteVPS as its document has it: login, machines by the minute, power, snapshots, batches, keys, billing, tokens."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from sandbox.shared_vendor.driver import Answer, Driver

if TYPE_CHECKING:
    from collections.abc import Iterator

EMAIL, PASSWORD = "agent@example.com", "s3cr3t-long"
STANDING_TOKEN = "vtk_configured"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "login_per_min": 0,
    "turnstile_tokens": ["human"],
    "accounts": [
        {"email": EMAIL, "password": PASSWORD, "balance": "10.5", "tokens": [STANDING_TOKEN]},
        {"email": "other@example.com", "password": PASSWORD, "balance": "10.5"},
    ],
}
MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.litevps", CONFIG) as started:
        yield started


@pytest.fixture
def vendor(process: SandboxProcess) -> Driver:
    """A vendor as after its start, with the first account logged in."""
    driver = Driver(process)
    driver.admin("POST", "/reset")
    driver.token = login(driver)
    return driver


def login(vendor: Driver, email: str = EMAIL) -> str:
    """A fresh login token."""
    answer = vendor.post("/api/auth/login", {"email": email, "password": PASSWORD}, headers={"Authorization": ""})
    assert answer.status == 200, answer.raw
    return str(answer.json()["token"])


def plan(vendor: Driver, name: str = "Nano") -> Any:
    """A plan of the price list."""
    return next(entry for entry in vendor.get("/api/pricing").json() if entry["name"] == name)


def create(vendor: Driver, **changes: Any) -> Any:
    """What a creation answers."""
    body = {"name": "web-01", "plan_id": plan(vendor)["id"], **changes}
    answer = vendor.post("/api/vps", body)
    assert answer.status == 201, answer.raw
    return answer.json()


def running(vendor: Driver, **changes: Any) -> str:
    """The id of a machine that runs."""
    machine_id = create(vendor, **changes)["id"]
    vendor.advance(20)
    assert state(vendor, machine_id) == "running"
    return str(machine_id)


def state(vendor: Driver, machine_id: str) -> str:
    """A machine's state."""
    return str(vendor.get(f"/api/vps/{machine_id}").json()["state"])


def books(vendor: Driver) -> Any:
    """The first account's books."""
    return next(iter(vendor.state()["accounts"].values()))


def said(answer: Answer) -> tuple[int, Any]:
    """Status and body."""
    return answer.status, answer.json()


def test_the_documents_quick_start(vendor: Driver) -> None:
    """Log in, create, poll until running, execute: each answer has the document's shape."""
    assert vendor.token is not None
    assert vendor.token.startswith("eyJ")
    machine = create(vendor, name="my-vm")
    assert machine["state"] == "creating"
    vendor.advance(19)
    assert state(vendor, machine["id"]) == "creating"
    vendor.advance(1)
    assert state(vendor, machine["id"]) == "running"
    done = vendor.post(f"/api/vps/{machine['id']}/exec", {"command": "uname -a"}).json()
    assert set(done) == {"stdout", "stderr", "exit_code", "duration_ms"}
    assert done["stdout"].startswith("Linux my-vm ")
    assert [entry["id"] for entry in vendor.get("/api/vps").json()] == [machine["id"]]
    assert vendor.delete(f"/api/vps/{machine['id']}").status == 204
    assert said(vendor.get(f"/api/vps/{machine['id']}")) == (404, {"error": "vps not found"})


def test_open_routes(vendor: Driver) -> None:
    """Health, manifest, OpenAPI and prices need no token, and carry no balance."""
    vendor.token = None
    assert vendor.get("/health").json() == {"status": "ok"}
    assert vendor.get("/.well-known/agent.json").json()["max_batch_size"] == 10
    paths = vendor.get("/openapi.json").json()["paths"]
    assert set(paths["/api/vps/batch"]) == {"post", "delete"}
    answer = vendor.get("/api/pricing")
    assert "x-balance-remaining" not in answer.headers
    nano = answer.json()[0]
    assert {**nano, "id": ""} == {
        "id": "",
        "name": "Nano",
        "vcpu": 1,
        "memory_mb": 512,
        "disk_gb": 10,
        "price_hourly": 0.0042,
    }


def test_money_is_written_in_four_decimals(vendor: Driver) -> None:
    """The digits on the wire, the header on every authenticated answer, refusals included."""
    answer = vendor.get("/api/me")
    assert b'"balance": 10.5000' in answer.raw
    assert answer.headers["x-balance-remaining"] == "10.5000"
    assert vendor.get("/api/vps/none").headers["x-balance-remaining"] == "10.5000"
    assert vendor.get("/api/billing/balance").json() == {"balance": 10.5}
    vendor.admin("POST", "/balance", {"email": EMAIL, "set": "0.042"})
    refused = vendor.post("/api/vps", {"name": "web-01", "plan_id": plan(vendor, "Large")["id"]})
    assert refused.status == 402
    assert refused.raw == b'{"error": "insufficient balance", "balance": 0.0420, "required": 0.0667}'
    assert refused.headers["x-balance-remaining"] == "0.0420"


def test_nobody_registers_without_a_captcha(vendor: Driver) -> None:
    """Missing and made-up CAPTCHA tokens are 400; a real one works once."""
    sent = {"email": "new@example.com", "password": PASSWORD}
    for captcha in ({}, {"cf-turnstile-response": "robot"}):
        assert said(vendor.post("/api/auth/register", {**sent, **captcha})) == (
            400,
            {"error": "CAPTCHA verification failed"},
        )
    made = vendor.post("/api/auth/register", {**sent, "cf-turnstile-response": "human"})
    assert made.status == 201
    fresh = Driver(vendor.process, made.json()["token"])
    assert fresh.get("/api/me").json()["balance"] == 0
    again = vendor.post("/api/auth/register", {**sent, "email": "b@example.com", "cf-turnstile-response": "human"})
    assert again.status == 400


def test_credentials(vendor: Driver) -> None:
    """A JWT is good for a day, a vtk_ token until it is revoked, anything else not at all."""
    anonymous = Driver(vendor.process)
    assert anonymous.get("/api/me").status == 401
    assert anonymous.post("/api/auth/login", {"email": EMAIL, "password": "wrong"}).status == 401
    assert Driver(vendor.process, "vtk_made_up").get("/api/me").status == 401
    vendor.advance(DAY)
    assert vendor.get("/api/me").status == 401
    assert Driver(vendor.process, STANDING_TOKEN).get("/api/me").json()["email"] == EMAIL


def test_tokens_are_shown_once_and_revoked_at_once(vendor: Driver) -> None:
    """Only the creation shows the text; a revoked token is refused."""
    made = vendor.post("/api/tokens", {"name": "ci-deploy"})
    assert made.status == 201
    assert set(made.json()) == {"id", "name", "token"}
    text = made.json()["token"]
    assert text.startswith("vtk_")
    listed = vendor.get("/api/tokens")
    assert text.encode() not in listed.raw
    assert "ci-deploy" in {entry["name"] for entry in listed.json()}
    assert text not in str(vendor.state())
    by_token = Driver(vendor.process, text)
    assert by_token.get("/api/me").status == 200
    assert vendor.delete(f"/api/tokens/{made.json()['id']}").status == 204
    assert by_token.get("/api/me").status == 401
    assert vendor.delete(f"/api/tokens/{made.json()['id']}").status == 404


def test_a_tokens_spend_limit_stops_it(vendor: Driver) -> None:
    """What its machines cost counts against a token; the account itself may go on."""
    made = vendor.post("/api/tokens", {"name": "tight", "spend_limit": 0.005}).json()
    limited = Driver(vendor.process, made["token"])
    create(limited)
    vendor.advance(20 + HOUR)
    refused = limited.post("/api/vps", {"name": "web-02", "plan_id": plan(vendor)["id"]})
    assert (refused.status, refused.json()["error"]) == (402, "token spend limit exceeded")
    create(vendor)


def test_each_running_minute_is_charged_exactly(vendor: Driver) -> None:
    """A month costs hours times price within one micro-unit, although a minute is no round amount."""
    vendor.admin("POST", "/balance", {"email": EMAIL, "set": "100"})
    machine_id = running(vendor, plan_id=plan(vendor, "Medium")["id"])
    vendor.advance(30 * DAY - 1)
    owed = Decimal("0.0333") * 30 * 24
    assert Decimal(vendor.state()["machines"][machine_id]["charged"]) == owed
    assert Decimal(books(vendor)["balance"]) == 100 - owed
    assert vendor.state()["machines"][machine_id]["minutes"] == 30 * 24 * 60
    vendor.token = STANDING_TOKEN
    assert vendor.get("/api/me").json()["balance"] == pytest.approx(76.024)


def test_only_running_machines_are_charged(vendor: Driver) -> None:
    """Not while creating, not while stopped, not after DELETE; while stopping, yes."""
    machine_id = create(vendor)["id"]
    assert vendor.state()["machines"][machine_id]["minutes"] == 0
    vendor.advance(20)
    assert vendor.state()["machines"][machine_id]["minutes"] == 1
    vendor.advance(10 * MINUTE)
    assert vendor.post(f"/api/vps/{machine_id}/stop").json()["state"] == "running"
    vendor.advance(3)
    assert state(vendor, machine_id) == "stopped"
    vendor.advance(HOUR)
    assert vendor.state()["machines"][machine_id]["minutes"] == 11
    vendor.post(f"/api/vps/{machine_id}/start")
    vendor.advance(2)
    assert state(vendor, machine_id) == "running"
    vendor.delete(f"/api/vps/{machine_id}")
    vendor.advance(HOUR)
    assert vendor.state()["machines"][machine_id]["minutes"] == 12


def test_an_empty_balance_stops_machines_and_warns(vendor: Driver) -> None:
    """Below a dollar there is mail, once; at nothing the machine stops and may not start."""
    vendor.post("/api/billing/notify-emails", {"email": "ops@example.com"})
    machine_id = running(vendor)
    vendor.admin("POST", "/balance", {"email": EMAIL, "set": "0.001"})
    vendor.advance(HOUR)
    assert state(vendor, machine_id) == "stopped"
    assert [mail["to"] for mail in vendor.state()["mails"]] == ["ops@example.com"]
    refused = vendor.post(f"/api/vps/{machine_id}/start")
    assert (refused.status, refused.json()["required"]) == (402, 0.0042)


def test_power_needs_the_right_state(vendor: Driver) -> None:
    """Start what is stopped, stop and restart what is running; anything else is 409."""
    machine_id = create(vendor)["id"]
    for action in ("start", "stop", "restart"):
        assert vendor.post(f"/api/vps/{machine_id}/{action}").status == 409
    assert vendor.get(f"/api/vps/{machine_id}/vnc-port").status == 409
    vendor.advance(20)
    assert vendor.post(f"/api/vps/{machine_id}/start").status == 409
    assert vendor.post(f"/api/vps/{machine_id}/restart").json()["state"] == "running"
    assert vendor.get(f"/api/vps/{machine_id}/vnc-port").json() == {"port": 5900}


def test_only_the_name_can_be_changed(vendor: Driver) -> None:
    """PUT renames; a name that is no hostname is refused."""
    machine_id = create(vendor)["id"]
    assert vendor.put(f"/api/vps/{machine_id}", {"name": "web-02"}).json()["name"] == "web-02"
    assert vendor.put(f"/api/vps/{machine_id}", {"name": "not a host"}).status == 400


def test_snapshots_by_name_restore_a_stopped_machine(vendor: Driver) -> None:
    """What was on the disk comes back; a running machine and an unknown name are refused."""
    machine_id = running(vendor)
    one = f"/api/vps/{machine_id}"
    vendor.put(f"{one}/files?path=/root/note", raw=b"before")
    made = vendor.post(f"{one}/snapshots", {"name": "snap-1"})
    assert made.status == 201
    assert vendor.post(f"{one}/snapshots", {"name": "snap-1"}).status == 409
    assert vendor.post(f"{one}/snapshots", {"name": "../escape"}).status == 400
    assert vendor.get(f"{one}/snapshots").json() == [made.json()]
    vendor.put(f"{one}/files?path=/root/note", raw=b"after")
    assert vendor.post(f"{one}/snapshots/snap-1/restore").status == 409
    vendor.post(f"{one}/stop")
    vendor.advance(3)
    assert vendor.post(f"{one}/snapshots/nothing/restore").status == 404
    assert vendor.post(f"{one}/snapshots/snap-1/restore").status == 200
    vendor.post(f"{one}/start")
    vendor.advance(2)
    assert vendor.get(f"{one}/files?path=/root/note").raw == b"before"
    assert vendor.delete(f"{one}/snapshots/snap-1").status == 204
    assert vendor.get(f"{one}/snapshots").json() == []


def test_templates_give_defaults_and_a_lifetime(vendor: Driver) -> None:
    """Most popular first; fields of the request win; a ttl ends the machine by itself."""
    listed = vendor.get("/api/templates").json()
    assert [entry["slug"] for entry in listed] == ["ubuntu-22-small", "agent-sandbox", "docker-host"]
    assert vendor.get("/api/templates/agent-sandbox").json()["ttl_minutes"] == 60
    assert vendor.get("/api/templates/nothing").status == 404
    made = vendor.post("/api/vps", {"name": "agent-vm", "template": "agent-sandbox", "memory_mb": 1024}).json()
    assert (made["vcpu"], made["memory_mb"], made["ttl_minutes"]) == (1, 1024, 60)
    assert made["price_hourly"] == 0.0084
    vendor.advance(59 * MINUTE)
    assert state(vendor, made["id"]) == "running"
    vendor.advance(MINUTE)
    assert vendor.get(f"/api/vps/{made['id']}").status == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"name": "-bad"},
        {"plan_id": None},
        {"plan_id": "made-up"},
        {"template": "made-up"},
        {"ssh_key_ids": ["made-up"]},
        {"ssh_key_ids": "made-up"},
        {"vcpu": 0},
        {"ttl_minutes": "60"},
    ],
)
def test_a_bad_order_is_refused(vendor: Driver, changes: dict[str, Any]) -> None:
    """400 in one line of text, and nothing is made."""
    refused = vendor.post("/api/vps", {"name": "web-01", "plan_id": plan(vendor)["id"], **changes})
    assert refused.status == 400
    assert set(refused.json()) == {"error"}
    assert vendor.get("/api/vps").json() == []


def test_batches_tell_each_item_apart(vendor: Driver) -> None:
    """207 with one result an item: made, refused, destroyed, unknown."""
    made = vendor.post(
        "/api/vps/batch",
        {"vms": [{"name": "w1", "template": "ubuntu-22-small"}, {"name": "w 2", "template": "ubuntu-22-small"}, 7]},
    )
    assert made.status == 207
    first, second, third = made.json()["results"]
    assert (first["index"], first["vps"]["name"]) == (0, "w1")
    assert set(second) == set(third) == {"index", "error"}
    gone = vendor.delete("/api/vps/batch", {"ids": [first["vps"]["id"], "unknown"]})
    assert gone.status == 207
    assert [result["deleted"] for result in gone.json()["results"]] == [True, False]
    assert vendor.get("/api/vps").json() == []
    for wrong in ({}, {"vms": []}, {"vms": [{}] * 11}):
        assert vendor.post("/api/vps/batch", wrong).status == 400
    assert vendor.delete("/api/vps/batch").status == 400


def test_ssh_keys(vendor: Driver) -> None:
    """Uploaded, listed with fingerprint, injected, deleted; what is no key is refused."""
    made = vendor.post("/api/keys", {"name": "my-key", "public_key": KEY})
    assert made.status == 201
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", made.json()["fingerprint"])
    assert vendor.get("/api/keys").json() == [made.json()]
    machine_id = create(vendor, ssh_key_ids=[made.json()["id"]])["id"]
    assert vendor.delete(f"/api/keys/{made.json()['id']}").status == 204
    assert vendor.delete(f"/api/keys/{made.json()['id']}").status == 404
    assert vendor.state()["machines"][machine_id]["ssh_key_ids"] == [made.json()["id"]]
    for wrong in ("ssh-ed25519 !!!", "ssh-rsa " + KEY.split()[1], "hello"):
        assert vendor.post("/api/keys", {"name": "x", "public_key": wrong}).status == 400


def test_topping_up_needs_a_human(vendor: Driver) -> None:
    """A checkout page for $5 to $50; the money comes when somebody has paid there."""
    for amount in (4.99, 50.01, "10", None, True):
        assert vendor.post("/api/billing/add-funds", {"amount": amount}).status == 400
    url = vendor.post("/api/billing/add-funds", {"amount": 10}).json()["url"]
    assert url.startswith("https://checkout.stripe.com/")
    assert vendor.get("/api/billing/balance").json()["balance"] == 10.5
    vendor.admin("POST", f"/checkouts/{url.rsplit('/', 1)[1]}")
    assert vendor.get("/api/billing/balance").json()["balance"] == 20.5
    history = vendor.get("/api/billing/history?limit=1").json()
    assert (history["total"], history["transactions"][0]["type"], history["transactions"][0]["amount"]) == (
        2,
        "topup",
        10,
    )
    assert len(vendor.get("/api/billing/history?offset=1").json()["transactions"]) == 1
    assert vendor.get("/api/billing/history?limit=-1").status == 400


def test_notification_addresses(vendor: Driver) -> None:
    """Added, listed, removed."""
    made = vendor.post("/api/billing/notify-emails", {"email": "ops@example.com"})
    assert made.status == 201
    assert vendor.get("/api/billing/notify-emails").json() == [made.json()]
    assert vendor.delete(f"/api/billing/notify-emails/{made.json()['id']}").status == 204
    assert vendor.get("/api/billing/notify-emails").json() == []
    assert vendor.post("/api/billing/notify-emails", {"email": "nobody"}).status == 400


def test_what_belongs_to_another_is_not_found(vendor: Driver) -> None:
    """A stranger's machine is 404 on every route and in every batch, and in no list."""
    machine_id = running(vendor)
    key_id = vendor.post("/api/keys", {"name": "k", "public_key": KEY}).json()["id"]
    stranger = Driver(vendor.process, login(vendor, "other@example.com"))
    assert stranger.get("/api/vps").json() == []
    one = f"/api/vps/{machine_id}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", one, None),
        ("PUT", one, {"name": "mine"}),
        ("DELETE", one, None),
        *(("POST", f"{one}/{action}", None) for action in ("start", "stop", "restart")),
        ("GET", f"{one}/vnc-port", None),
        ("GET", f"{one}/snapshots", None),
        ("POST", f"{one}/snapshots", {"name": "s"}),
        ("GET", f"{one}/files?path=/etc/hostname", None),
        ("POST", f"{one}/exec", {"command": "id"}),
        ("GET", f"{one}/jobs", None),
        ("DELETE", f"/api/keys/{key_id}", None),
    ]
    assert {(path, stranger.call(method, path, body).status) for method, path, body in calls} == {
        (path, 404) for _, path, _ in calls
    }
    assert (
        stranger.post("/api/vps", {"name": "x", "plan_id": plan(vendor)["id"], "ssh_key_ids": [key_id]}).status == 400
    )
    results = stranger.delete("/api/vps/batch", {"ids": [machine_id]}).json()["results"]
    assert results == [{"id": machine_id, "deleted": False, "error": "vps not found"}]
    assert state(vendor, machine_id) == "running"


def test_logins_are_limited_by_address() -> None:
    """Ten logins a minute, and none of the other routes."""
    with SandboxProcess.start("sandbox.litevps", {**CONFIG, "login_per_min": 10}) as process:
        vendor = Driver(process)
        sent = {"email": EMAIL, "password": PASSWORD}
        assert [vendor.post("/api/auth/login", sent).status for _ in range(11)] == [200] * 10 + [429]
        vendor.token = STANDING_TOKEN
        assert {vendor.get("/api/me").status for _ in range(150)} == {200}
        vendor.advance(60)
        assert vendor.post("/api/auth/login", sent).status == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "unknown config keys: colour"),
        ({"hourly_prices": {"Giant": "1"}}, "unknown plan: Giant"),
        ({"accounts": [{"email": EMAIL, "password": PASSWORD, "tokens": ["abc"]}]}, "begins with vtk_"),
    ],
)
def test_bad_config_stops_the_start(change: dict[str, Any], says: str) -> None:
    """A wrong config ends the process with a message that names what is wrong."""
    with pytest.raises(SandboxError, match=says):
        SandboxProcess.start("sandbox.litevps", {**CONFIG, **change})
