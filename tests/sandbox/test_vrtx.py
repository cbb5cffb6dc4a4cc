"""VRTX as its document has it: envelopes, pages, creation and polling, power, idempotency, limits, invoices."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from sandbox.shared_vendor.driver import Answer, Driver

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = "/api/v2"
SERVERS = f"{BASE}/servers"
ORDER = {"plan_id": 1, "location_id": 3, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"}
ACCOUNTS = [
    {"name": "ours", "tokens": ["tok-a", "tok-b"]},
    {"name": "theirs", "tokens": ["tok-c"]},
    {"name": "guarded", "tokens": ["tok-d"], "ip_allowlist": ["127.0.0.2"]},
]
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "clock_start": "2026-05-14T10:30:00+00:00",
    "sustained_per_min": 100_000,
    "burst_per_10s": 100_000,
    "accounts": ACCOUNTS,
    "stock": {"12": [1, 2]},
}
HOUR, DAY = 3600, 86_400


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.vrtx", CONFIG) as started:
        yield started


@pytest.fixture
def vendor(process: SandboxProcess) -> Driver:
    """The vendor as after its start."""
    driver = Driver(process, "tok-a")
    driver.admin("POST", "/reset")
    return driver


def fresh(**changes: Any) -> SandboxProcess:
    """A vendor process of its own, with these changes."""
    return SandboxProcess.start("sandbox.vrtx", {**CONFIG, **changes})


def create(vendor: Driver, **changes: Any) -> Any:
    """What a creation answers."""
    answer = vendor.post(SERVERS, {**ORDER, **changes})
    assert answer.status == 201, answer.raw
    return answer.json()["data"]


def installed(vendor: Driver, **changes: Any) -> str:
    """The uuid of a server that is ready."""
    identity = str(create(vendor, **changes)["uuid"])
    vendor.advance(60)
    assert status(vendor, identity) == ("running", None)
    return identity


def status(vendor: Driver, identity: str) -> tuple[str, str | None]:
    """(state, status) of a server."""
    data = vendor.get(f"{SERVERS}/{identity}/status").json()["data"]
    return data["state"], data["status"]


def code(answer: Answer) -> tuple[int, str]:
    """HTTP status and error code."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    return answer.status, error["code"]


def test_discovery(vendor: Driver) -> None:
    """Plans by price with meta, thirteen locations, templates by location, stock by location."""
    answer = vendor.get(f"{BASE}/plans")
    plans = answer.json()
    assert plans["data"][0] == {
        "id": 1,
        "name": "1 vCPU",
        "cpu": 1,
        "memory": 3221225472,
        "disk": 21474836480,
        "monthly_price": 3.92,
        "hourly_price": 0.0053,
    }
    assert b'"hourly_price": 0.0053' in answer.raw
    assert plans["meta"] == {"current_page": 1, "last_page": 1, "per_page": 25, "total": 8}
    prices = [plan["monthly_price"] for plan in plans["data"]]
    assert prices == sorted(prices)
    assert [plan["id"] for plan in vendor.get(f"{BASE}/plans?location_id=12").json()["data"]] == [1, 2]
    assert {"id": 6, "name": "Sydney, AU"} in vendor.get(f"{BASE}/locations").json()["data"]
    slugs = {row["slug"] for row in vendor.get(f"{BASE}/locations/1/templates").json()["data"]}
    assert slugs == {"ubuntu-24.04", "ubuntu-22.04", "debian-12", "almalinux-9", "windows-2022"}
    assert "windows-2022" not in str(vendor.get(f"{BASE}/locations/13/templates").json())
    assert code(vendor.get(f"{BASE}/locations/99/templates")) == (404, "NOT_FOUND")
    assert code(vendor.get(f"{BASE}/plans?location_id=99")) == (422, "VALIDATION_ERROR")


def test_the_documents_workflow(vendor: Driver) -> None:
    """Create, poll the status until it runs, fetch the password: null until then."""
    server = create(vendor)
    assert list(server) == [
        *("uuid", "uuid_short", "name", "status", "cpu", "memory", "disk", "password_status", "operating_system"),
        *("ip_addresses", "created_at"),
    ]
    assert server["uuid_short"] == server["uuid"][:8]
    assert (server["status"], server["password_status"]) == ("installing", "generating")
    assert server["operating_system"] == "Ubuntu 24.04 LTS"
    assert re.fullmatch(r"2026-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", server["created_at"])
    one = f"{SERVERS}/{server['uuid']}"
    secret = {"password_status": "generating", "root_password": None}
    assert vendor.get(f"{one}/credentials").json()["data"] == secret
    assert status(vendor, server["uuid"]) == ("stopped", "installing")
    vendor.advance(20)
    assert status(vendor, server["uuid"]) == ("running", "installing")
    assert vendor.get(f"{one}/credentials").json()["data"] == secret
    vendor.advance(40)
    assert vendor.get(f"{one}/status").json()["data"] == {"state": "running", "status": None, "uptime_seconds": 40}
    ready = vendor.get(f"{one}/credentials").json()["data"]
    assert ready["password_status"] == "ready"
    assert len(ready["root_password"]) >= 16
    assert vendor.get(f"{SERVERS}/{server['uuid_short']}").json()["data"]["uuid"] == server["uuid"]
    assert vendor.call("HEAD", one).raw == b""


def test_a_password_may_come_later_than_the_server() -> None:
    """Running and installed is not yet ready to log in."""
    with fresh(password_after_s=30) as process:
        vendor = Driver(process, "tok-a")
        one = f"{SERVERS}/{installed(vendor)}"
        assert vendor.get(f"{one}/credentials").json()["data"]["root_password"] is None
        vendor.advance(30)
        assert vendor.get(f"{one}/credentials").json()["data"]["root_password"]


def test_pages(vendor: Driver) -> None:
    """25 a page, at most 100, meta on each, every server once; a filter by status."""
    made = [create(vendor, hostname=f"s{number}")["uuid"] for number in range(34)]
    first, second = (vendor.get(f"{SERVERS}?page={page}").json() for page in (1, 2))
    assert first["meta"] == {"current_page": 1, "last_page": 2, "per_page": 25, "total": 34}
    assert [server["uuid"] for server in first["data"] + second["data"]] == made
    assert list(first["data"][0]) == ["uuid", "uuid_short", "name", "status", "cpu", "memory"]
    assert vendor.get(f"{SERVERS}?per_page=500").json()["meta"]["per_page"] == 100
    assert vendor.get(f"{SERVERS}?page=9").json()["data"] == []
    assert vendor.get(f"{SERVERS}?status=installing").json()["meta"]["total"] == 34
    assert vendor.get(f"{SERVERS}?status=suspended").json()["meta"] == {
        "current_page": 1,
        "last_page": 1,
        "per_page": 25,
        "total": 0,
    }
    for wrong in ("page=0", "page=x", "per_page=-1"):
        assert code(vendor.get(f"{SERVERS}?{wrong}")) == (422, "VALIDATION_ERROR")
    vendor.admin("POST", f"/servers/{made[0]}", {"backups": [{"uuid": "b1"}]})
    assert vendor.get(f"{SERVERS}/{made[0]}/backups").json()["data"] == [{"uuid": "b1"}]


def test_who_may_ask(vendor: Driver) -> None:
    """No header, a made-up token, an address that is not on the list; several tokens are one account."""
    assert code(vendor.get(SERVERS, headers={"Authorization": ""})) == (401, "UNAUTHENTICATED")
    assert code(vendor.get(SERVERS, headers={"Authorization": "Basic x"})) == (401, "UNAUTHENTICATED")
    assert code(Driver(vendor.process, "made-up").get(SERVERS)) == (401, "INVALID_TOKEN")
    guarded = Driver(vendor.process, "tok-d")
    assert code(guarded.get(SERVERS)) == (403, "IP_NOT_ALLOWED")
    assert guarded.get(SERVERS, source_ip="127.0.0.2").status == 200
    vendor.admin("POST", "/accounts/guarded", {"ip_allowlist": []})
    assert guarded.get(SERVERS).status == 200
    identity = create(vendor)["uuid"]
    assert Driver(vendor.process, "tok-b").get(f"{SERVERS}/{identity}").status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_id": None},
        {"plan_id": 9},
        {"plan_id": "1"},
        {"plan_id": True},
        {"location_id": 14},
        {"location_id": 12, "plan_id": 3},
        {"location_id": 12, "template_slug": "windows-2022"},
        {"template_slug": "arch"},
        {"hostname": "under_score"},
    ],
)
def test_a_bad_order_is_422(vendor: Driver, changes: dict[str, Any]) -> None:
    """Unknown, of the wrong type, out of stock or not to be had there."""
    assert code(vendor.post(SERVERS, {**ORDER, **changes})) == (422, "VALIDATION_ERROR")
    assert vendor.get(SERVERS).json()["data"] == []


def test_an_idempotency_key_makes_one_server_for_a_day(vendor: Driver) -> None:
    """The original 201 again, byte for byte; another account, another key or a day later make another server."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {name: ORDER[name] for name in ("plan_id", "location_id", "template_slug")}
    first = vendor.post(SERVERS, body, headers=key)
    vendor.advance(60)
    again = vendor.post(SERVERS, body, headers=key)
    assert (again.status, again.raw) == (201, first.raw)
    assert again.json()["data"]["status"] == "installing"
    other = Driver(vendor.process, "tok-c")
    assert other.post(SERVERS, body, headers=key).json()["data"]["uuid"] != first.json()["data"]["uuid"]
    vendor.advance(DAY - 61)
    assert vendor.post(SERVERS, body, headers=key).raw == first.raw
    vendor.advance(1)
    assert vendor.post(SERVERS, body, headers=key).json()["data"]["uuid"] != first.json()["data"]["uuid"]
    assert vendor.get(SERVERS).json()["meta"]["total"] == 2
    assert code(vendor.post(SERVERS, body, headers={"Idempotency-Key": "x" * 256})) == (422, "VALIDATION_ERROR")


def test_a_refused_create_leaves_its_key_free(vendor: Driver) -> None:
    """Only a 201 is remembered."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    assert vendor.post(SERVERS, {**ORDER, "plan_id": 9}, headers=key).status == 422
    assert vendor.post(SERVERS, ORDER, headers=key).status == 201


def test_power_actions_queue(vendor: Driver) -> None:
    """Each waits for the one before it; a repeated shutdown is done twice."""
    identity = create(vendor)["uuid"]
    power = f"{SERVERS}/{identity}/power"
    assert code(vendor.post(power, {"action": "restart"})) == (422, "VALIDATION_ERROR")
    vendor.advance(60)
    for action in ("shutdown", "start", "shutdown"):
        assert vendor.post(power, {"action": action}).status == 202
    seen = []
    for _ in range(3):
        vendor.advance(3)
        seen.append(status(vendor, identity)[0])
    assert seen == ["stopped", "running", "stopped"]
    for action in ("restart", "kill"):
        vendor.post(power, {"action": action})
    vendor.advance(3)
    assert vendor.get(f"{SERVERS}/{identity}/status").json()["data"]["uptime_seconds"] == 0
    assert status(vendor, identity)[0] == "running"
    vendor.advance(3)
    assert status(vendor, identity)[0] == "stopped"
    assert code(vendor.post(power, {"action": "explode"})) == (422, "VALIDATION_ERROR")


def test_delete_is_repeatable(vendor: Driver) -> None:
    """204, then 404 for everything."""
    identity = installed(vendor)
    assert vendor.delete(f"{SERVERS}/{identity}").status == 204
    assert code(vendor.delete(f"{SERVERS}/{identity}")) == (404, "NOT_FOUND")
    assert vendor.get(f"{SERVERS}/{identity}").status == 404
    assert vendor.get(SERVERS).json()["data"] == []


def test_what_belongs_to_another_is_not_found(vendor: Driver) -> None:
    """404 on every route, by long and short id, and in no list."""
    identity = installed(vendor)
    stranger = Driver(vendor.process, "tok-c")
    assert stranger.get(SERVERS).json()["data"] == []
    for name in (identity, identity[:8]):
        for path in ("", "/status", "/credentials", "/backups"):
            assert stranger.get(f"{SERVERS}/{name}{path}").status == 404
        assert stranger.post(f"{SERVERS}/{name}/power", {"action": "kill"}).status == 404
        assert stranger.delete(f"{SERVERS}/{name}").status == 404


def test_two_rate_windows_an_account() -> None:
    """30 in ten seconds and 120 in a minute, over all tokens, with headers that tell and Retry-After that holds."""
    with fresh(sustained_per_min=120, burst_per_10s=30) as process:
        first, second = Driver(process, "tok-a"), Driver(process, "tok-b")
        answer = first.get(SERVERS)
        assert (answer.headers["x-ratelimit-limit"], answer.headers["x-ratelimit-remaining"]) == ("120", "119")
        reset = int(answer.headers["x-ratelimit-reset"])
        assert 0 < reset - datetime.now(UTC).timestamp() <= 61
        assert {second.get(SERVERS).status for _ in range(29)} == {200}
        refused = first.get(SERVERS)
        assert code(refused) == (429, "RATE_LIMIT_EXCEEDED")
        assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("30", "0")
        wait = int(refused.headers["retry-after"])
        assert 1 <= wait <= 10
        assert refused.json()["error"]["message"] == f"Too many requests. Retry after {wait} seconds."
        assert Driver(process, "tok-c").get(SERVERS).status == 200
        for _ in range(3):
            first.advance(10)
            assert {first.get(SERVERS).status for _ in range(30)} == {200}
        first.advance(10)
        refused = first.get(SERVERS)
        assert (refused.status, refused.headers["x-ratelimit-limit"]) == (429, "120")
        first.advance(int(refused.headers["retry-after"]))
        assert first.get(SERVERS).status == 200


@pytest.mark.parametrize(
    ("rule", "may", "june"),
    [
        # From 14 May 10:30 on: 421.5 hours of May (422 start in it), 720 of June.
        ("hourly", Decimal("0.0053") * 422, Decimal("0.0053") * 720),
        ("hourly_capped", Decimal("0.0053") * 422, Decimal("0.0053") * 720),
        ("monthly", Decimal("3.92"), Decimal("3.92")),
    ],
)
def test_an_invoice_each_month(rule: str, may: Decimal, june: Decimal) -> None:
    """Issued at the month's end under the configured rule, to the cent; the lines are exact."""
    with fresh(billing_rule=rule) as process:
        vendor = Driver(process, "tok-a")
        identity = create(vendor)["uuid"]
        vendor.advance(48 * DAY)
        invoices = vendor.admin("GET", "/invoices")
        assert [Decimal(invoice["lines"][0]["amount"]) for invoice in invoices] == [may, june]
        assert [invoice["lines"][0]["uuid"] for invoice in invoices] == [identity] * 2
        assert [Decimal(invoice["amount"]) for invoice in invoices] == [round(may, 2), round(june, 2)]
        assert Decimal(vendor.state()["accrued"][identity]) >= may + june


def test_deletion_ends_the_bill(vendor: Driver) -> None:
    """The started hour is owed, and nothing after it."""
    identity = create(vendor)["uuid"]
    vendor.advance(2 * HOUR + 60)
    vendor.delete(f"{SERVERS}/{identity}")
    vendor.advance(90 * DAY)
    assert Decimal(vendor.state()["accrued"][identity]) == 3 * Decimal("0.0053")


def test_a_capped_month_costs_no_more_than_its_price() -> None:
    """744 hours of a long month are dearer than the monthly price."""
    with fresh(billing_rule="hourly_capped", clock_start="2026-07-01T00:00:00+00:00") as process:
        vendor = Driver(process, "tok-a")
        create(vendor)
        vendor.advance(31 * DAY)
        assert [invoice["amount"] for invoice in vendor.admin("GET", "/invoices")] == ["3.92"]


def test_an_overdue_invoice_stops_creates_and_then_servers(vendor: Driver) -> None:
    """402 OVERDUE_INVOICE on create only; a week later suspension; payment ends both."""
    identity = installed(vendor)
    invoice = vendor.admin("POST", "/invoices", {"account": "ours", "amount": "4.20", "due_in_s": HOUR})
    create(vendor)
    vendor.advance(HOUR)
    assert code(vendor.post(SERVERS, ORDER)) == (402, "OVERDUE_INVOICE")
    assert vendor.get(SERVERS).status == 200
    assert Driver(vendor.process, "tok-c").post(SERVERS, ORDER).status == 201
    vendor.advance(7 * DAY)
    assert status(vendor, identity) == ("stopped", "suspended")
    vendor.admin("POST", f"/invoices/{invoice['id']}", {"paid": True})
    assert status(vendor, identity) == ("running", None)
    assert vendor.post(SERVERS, ORDER).status == 201


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "unknown config keys: colour"),
        ({"billing_rule": "weekly"}, "billing_rule: must be one of"),
        ({"accounts": [{"name": "x"}]}, "accounts: missing keys: tokens"),
        (
            {"accounts": [{"name": "x", "tokens": [], "webhooks": [{"url": "http://127.0.0.1"}]}]},
            "missing keys: secret",
        ),
    ],
)
def test_bad_config_stops_the_start(change: dict[str, Any], says: str) -> None:
    """A wrong config ends the process with a message that names what is wrong."""
    with pytest.raises(SandboxError, match=says):
        fresh(**change)


def test_accounts_must_be_configured_and_sigterm_is_orderly() -> None:
    """Without accounts nobody could ask anything; SIGTERM ends it with status 0."""
    with pytest.raises(SandboxError, match="missing config keys: accounts"):
        SandboxProcess.start("sandbox.vrtx", {})
    process = fresh()
    assert process.stop() == 0
