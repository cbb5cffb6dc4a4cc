"""CryptoVPS as its document has it: the happy path, every route, its limits, its money on a clock that tests drive."""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from sandbox.shared_vendor.driver import Answer, Driver

if TYPE_CHECKING:
    from collections.abc import Iterator

EMAIL, PASSWORD = "agent@example.com", "min-8-chars"
ORDER = {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "auth_per_min": 0,
    "rest_per_min": 0,
    "accounts": [
        {"email": EMAIL, "password": PASSWORD, "balance": "10.00"},
        {"email": "other@example.com", "password": PASSWORD, "balance": "10"},
    ],
}
MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.cryptovps", CONFIG) as started:
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
    answer = vendor.post("/auth/login", {"email": email, "password": PASSWORD}, headers={"Authorization": ""})
    assert answer.status == 200, answer.raw
    return str(answer.json()["accessToken"])


def deploy(vendor: Driver, **changes: Any) -> Any:
    """A server as its creation answers it."""
    answer = vendor.post("/servers", {**ORDER, **changes})
    assert answer.status == 202, answer.raw
    return answer.json()["server"]


def active(vendor: Driver, **changes: Any) -> str:
    """The id of a server that has come up."""
    server_id = deploy(vendor, **changes)["id"]
    vendor.advance(MINUTE)
    assert show(vendor, server_id)["status"] == "ACTIVE"
    return str(server_id)


def show(vendor: Driver, server_id: str) -> Any:
    """A server as the vendor shows it."""
    return vendor.get(f"/servers/{server_id}").json()["server"]


def balance(vendor: Driver) -> Decimal:
    """The balance as the vendor tells it."""
    return Decimal(vendor.get("/billing").json()["balance"])


def said(answer: Answer) -> tuple[int, Any]:
    """Status and body."""
    return answer.status, answer.json()


def test_the_documents_happy_path(vendor: Driver) -> None:
    """Register, look at the balance, deploy, poll, destroy: each answer has the document's shape."""
    vendor.token = None
    registered = vendor.post("/auth/register", {"email": "new@example.com", "password": PASSWORD})
    assert registered.status == 201
    user = registered.json()["user"]
    assert user == {"id": user["id"], "email": "new@example.com", "balance": "0.00"}
    vendor.token = registered.json()["accessToken"]
    assert said(vendor.get("/billing")) == (200, {"balance": "0.00", "hourlySpend": "0"})
    assert said(vendor.post("/servers", ORDER)) == (402, {"error": "insufficient balance"})
    vendor.admin("POST", "/balance", {"email": "new@example.com", "add": "10"})
    assert said(vendor.get("/billing")) == (200, {"balance": "10.00", "hourlySpend": "0"})

    server = deploy(vendor)
    names = ["id", "label", "status", "region", "plan", "ipv4", "hourlyPrice", "createdAt"]
    assert list(server) == names
    assert (server["status"], server["ipv4"], server["hourlyPrice"]) == ("PROVISIONING", None, "0.0137")
    vendor.advance(59)
    assert show(vendor, server["id"])["status"] == "PROVISIONING"
    vendor.advance(1)
    ready = show(vendor, server["id"])
    assert ready["status"] == "ACTIVE"
    assert re.fullmatch(r"203\.0\.113\.\d+", ready["ipv4"])
    assert vendor.get("/servers").json() == {"servers": [ready]}
    assert vendor.get("/auth/me").json() == {"user": {**user, "balance": "9.9863"}}
    assert vendor.get("/billing").json() == {"balance": "9.9863", "hourlySpend": "0.0137"}

    assert said(vendor.delete(f"/servers/{server['id']}")) == (202, {"ok": True})
    assert show(vendor, server["id"])["status"] == "DESTROYING"
    assert said(vendor.delete(f"/servers/{server['id']}")) == (409, {"error": "already being destroyed"})
    vendor.advance(5)
    assert show(vendor, server["id"])["status"] == "DESTROYED"
    assert vendor.get("/servers").json() == {"servers": []}


def test_guide_and_pages_are_open(vendor: Driver) -> None:
    """What the document links to is there, for everybody."""
    vendor.token = None
    assert vendor.process.base_url in vendor.get("/llms.txt").raw.decode()
    assert vendor.get("/docs").status == 200
    assert vendor.get("/docs/custom-requests").status == 200


def test_tokens_end_after_fifteen_minutes(vendor: Driver) -> None:
    """An access token says when it ends, and is refused from then on; a new login is good again."""
    assert vendor.token is not None
    claims = json.loads(base64.urlsafe_b64decode(vendor.token.split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 900
    vendor.advance(899)
    assert vendor.get("/servers").status == 200
    vendor.advance(1)
    assert said(vendor.get("/servers")) == (401, {"error": "token expired"})
    vendor.token = login(vendor)
    assert vendor.get("/servers").status == 200


def test_credentials_are_checked(vendor: Driver) -> None:
    """No token, a made-up one, a wrong password, an address that is taken, a malformed registration."""
    anonymous = Driver(vendor.process)
    assert anonymous.get("/billing").status == 401
    assert Driver(vendor.process, "made-up").get("/billing").status == 401
    assert anonymous.post("/auth/login", {"email": EMAIL, "password": "wrong-one"}).status == 401
    assert anonymous.post("/auth/register", {"email": EMAIL, "password": PASSWORD}).status == 409
    refused = anonymous.post("/auth/register", {"email": "nobody", "password": "short"})
    assert refused.status == 400
    assert [detail["field"] for detail in refused.json()["details"]] == ["email", "password"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"label": "has space"}, "label"),
        ({"label": "x" * 65}, "label"),
        ({"label": "ümlaut"}, "label"),
        ({"label": None}, "label"),
        ({"planId": "vc9"}, "planId"),
        ({"regionId": 3}, "regionId"),
        ({"regionId": "moon"}, "regionId"),
    ],
)
def test_a_bad_order_names_the_field(vendor: Driver, changes: dict[str, Any], field: str) -> None:
    """400 carries `details`, and nothing is made or charged."""
    refused = vendor.post("/servers", {**ORDER, **changes})
    assert refused.status == 400
    assert refused.json()["error"] == "validation failed"
    assert [detail["field"] for detail in refused.json()["details"]] == [field]
    assert (balance(vendor), vendor.state()["servers"]) == (10, {})


def test_bodies_that_are_no_json_objects(vendor: Driver) -> None:
    """Broken JSON and a list are 400, in the vendor's words."""
    assert vendor.post("/servers", raw=b"{").status == 400
    assert vendor.post("/servers", []).json()["error"] == "validation failed"
    assert said(vendor.get("/nowhere")) == (404, {"error": "not found"})
    assert vendor.put("/servers", {}).status == 405


def test_bulk_numbers_its_labels_and_is_all_or_nothing(vendor: Driver) -> None:
    """Ten servers in one call, the eleventh is over the limit, and what does not fit the balance makes none."""
    made = vendor.post("/servers/bulk", {**ORDER, "label": "fleet", "count": 10})
    assert made.status == 202
    assert [server["label"] for server in made.json()["servers"]] == [f"fleet-{number}" for number in range(1, 11)]
    assert {server["status"] for server in made.json()["servers"]} == {"PROVISIONING"}
    assert said(vendor.post("/servers", ORDER)) == (403, {"error": "server limit reached (10 active)"})
    for server in made.json()["servers"]:
        vendor.delete(f"/servers/{server['id']}")
    vendor.admin("POST", "/balance", {"email": EMAIL, "set": "0.02"})
    assert vendor.post("/servers/bulk", {**ORDER, "count": 2}).status == 402
    assert vendor.get("/billing").json() == {"balance": "0.02", "hourlySpend": "0"}
    for count in (0, 11, True, "2", None):
        assert vendor.post("/servers/bulk", {**ORDER, "count": count}).status == 400


def test_each_started_hour_is_charged_until_delete(vendor: Driver) -> None:
    """A month of a server costs its hours; DELETE ends it within the hour that has begun."""
    vendor.admin("POST", "/balance", {"email": EMAIL, "set": "100"})
    server_id = active(vendor, planId="vc2-2c-4gb")
    vendor.advance(30 * DAY - MINUTE)
    vendor.token = login(vendor)
    hours = 30 * 24 + 1
    assert balance(vendor) == 100 - Decimal("0.0466") * hours
    vendor.delete(f"/servers/{server_id}")
    vendor.advance(10 * DAY)
    vendor.token = login(vendor)
    assert balance(vendor) == 100 - Decimal("0.0466") * hours
    entries = next(iter(vendor.state()["accounts"].values()))["entries"]
    assert sum(entry["kind"] == "server_hour" for entry in entries) == hours


def test_an_empty_balance_suspends_and_money_brings_back(vendor: Driver) -> None:
    """SUSPENDED is off, not charged and recoverable."""
    server_id = active(vendor)
    vendor.admin("POST", "/balance", {"email": EMAIL, "set": "0.0137"})
    vendor.advance(3 * HOUR)
    vendor.token = login(vendor)
    assert show(vendor, server_id)["status"] == "SUSPENDED"
    assert vendor.get("/billing").json() == {"balance": "0.00", "hourlySpend": "0"}
    vendor.admin("POST", "/balance", {"email": EMAIL, "add": "1"})
    assert show(vendor, server_id)["status"] == "ACTIVE"
    assert balance(vendor) == Decimal(1) - Decimal("0.0137")


def test_suspension_has_two_meanings(vendor: Driver) -> None:
    """An abuse hold is no matter of money, and a suspended account may not deploy."""
    server_id = active(vendor)
    vendor.admin("POST", f"/servers/{server_id}", {"abuse": True})
    vendor.admin("POST", "/balance", {"email": EMAIL, "add": "5"})
    assert show(vendor, server_id)["status"] == "SUSPENDED"
    vendor.admin("POST", f"/servers/{server_id}", {"abuse": False})
    assert show(vendor, server_id)["status"] == "ACTIVE"
    vendor.admin("POST", f"/accounts/{EMAIL}", {"suspended": True})
    assert said(vendor.post("/servers", ORDER)) == (403, {"error": "account suspended"})


def test_backups_live_seven_days_and_restore_elsewhere(vendor: Driver) -> None:
    """PENDING, AVAILABLE, restored to a new server with a new address, EXPIRED."""
    server_id = active(vendor)
    taken = vendor.post("/backups", {"serverId": server_id})
    assert taken.status == 202
    backup = taken.json()["backup"]
    assert list(backup) == ["id", "label", "status", "region", "plan", "createdAt", "expiresAt"]
    assert (backup["status"], backup["label"]) == ("PENDING", "my-bot")
    assert vendor.post(f"/backups/{backup['id']}/restore").status == 409
    vendor.advance(180)
    assert vendor.get("/backups").json()["backups"][0]["status"] == "AVAILABLE"
    restored = vendor.post(f"/backups/{backup['id']}/restore")
    assert restored.status == 202
    copy = restored.json()["server"]
    assert (copy["plan"], copy["region"], copy["status"]) == (ORDER["planId"], ORDER["regionId"], "PROVISIONING")
    vendor.advance(MINUTE)
    assert show(vendor, copy["id"])["ipv4"] != show(vendor, server_id)["ipv4"]
    vendor.advance(7 * DAY)
    vendor.token = login(vendor)
    assert vendor.get("/backups").json()["backups"][0]["status"] == "EXPIRED"
    assert vendor.post(f"/backups/{backup['id']}/restore").status == 409


def test_a_backup_may_be_deleted_early_and_needs_a_running_server(vendor: Driver) -> None:
    """DELETE expires it; PROVISIONING servers and unknown ids have no backups."""
    server_id = active(vendor)
    backup_id = vendor.post("/backups", {"serverId": server_id}).json()["backup"]["id"]
    assert said(vendor.delete(f"/backups/{backup_id}")) == (202, {"ok": True})
    assert vendor.delete(f"/backups/{backup_id}").status == 409
    assert vendor.delete("/backups/nothing").status == 404
    assert vendor.post("/backups", {"serverId": deploy(vendor)["id"]}).status == 409
    assert vendor.post("/backups", {"serverId": "nothing"}).status == 404
    assert vendor.post("/backups", {}).status == 400


def test_what_belongs_to_another_is_not_found(vendor: Driver) -> None:
    """A stranger's server and backup are 404 on every route, and in no list."""
    server_id = active(vendor)
    backup_id = vendor.post("/backups", {"serverId": server_id}).json()["backup"]["id"]
    stranger = Driver(vendor.process, login(vendor, "other@example.com"))
    assert stranger.get("/servers").json() == {"servers": []}
    assert stranger.get("/backups").json() == {"backups": []}
    for answer in (
        stranger.get(f"/servers/{server_id}"),
        stranger.delete(f"/servers/{server_id}"),
        stranger.post("/backups", {"serverId": server_id}),
        stranger.post(f"/backups/{backup_id}/restore"),
        stranger.delete(f"/backups/{backup_id}"),
    ):
        assert answer.status == 404


def test_rate_limits_by_address_and_by_account() -> None:
    """Ten a minute on /auth/*, whoami included, a hundred a minute and account elsewhere; a minute later all is open."""
    with SandboxProcess.start("sandbox.cryptovps", {**CONFIG, "auth_per_min": 10, "rest_per_min": 100}) as process:
        vendor = Driver(process)
        vendor.token = login(vendor)
        assert [vendor.get("/auth/me").status for _ in range(10)] == [200] * 9 + [429]
        assert said(vendor.post("/auth/login", {"email": EMAIL, "password": PASSWORD})) == (
            429,
            {"error": "rate limited"},
        )
        assert {vendor.get("/billing").status for _ in range(100)} == {200}
        assert vendor.get("/billing").status == 429
        vendor.advance(60)
        assert vendor.get("/billing").status == 200
        other = Driver(process, login(vendor, "other@example.com"))
        assert {other.get("/billing").status for _ in range(100)} == {200}
        assert vendor.get("/billing").status == 200


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "unknown config keys: colour"),
        ({"server_limit": "ten"}, "server_limit: not"),
        ({"hourly_prices": {"vc9": "1"}}, "unknown plan: vc9"),
        ({"accounts": [{"email": EMAIL}]}, "accounts: missing keys: password"),
        ({"signup_balance": 1.5}, "signup_balance: not"),
        ({"clock_start": "2026-05-14"}, "needs its offset"),
        ({"faults": [{"kind": "gremlin"}]}, "unknown kind"),
    ],
)
def test_bad_config_stops_the_start(change: dict[str, Any], says: str) -> None:
    """A wrong config ends the process with a message that names what is wrong."""
    with pytest.raises(SandboxError, match=says):
        SandboxProcess.start("sandbox.cryptovps", {**CONFIG, **change})
