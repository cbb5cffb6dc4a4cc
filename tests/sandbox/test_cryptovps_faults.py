"""CryptoVPS misbehaves exactly as it is told to: what is lost, late, dearer or unknown, and how it can be driven."""

from __future__ import annotations

import email.utils
import http.client
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

EMAIL, PASSWORD = "agent@example.com", "min-8-chars"
ORDER = {"label": "gw-7f3a", "planId": "vc2-1c-1gb", "regionId": "ams"}
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "auth_per_min": 0,
    "rest_per_min": 0,
    "accounts": [{"email": EMAIL, "password": PASSWORD, "balance": "10"}],
}


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.cryptovps", CONFIG) as started:
        yield started


@pytest.fixture
def vendor(process: SandboxProcess) -> Driver:
    """A vendor as after its start, with the account logged in."""
    driver = Driver(process)
    driver.admin("POST", "/reset")
    driver.token = login(driver)
    return driver


def login(vendor: Driver) -> str:
    """A fresh login token."""
    sent = {"email": EMAIL, "password": PASSWORD}
    return str(vendor.post("/auth/login", sent, headers={"Authorization": ""}).json()["accessToken"])


def labels(vendor: Driver) -> list[str]:
    """The labels of all listed servers."""
    return [server["label"] for server in vendor.get("/servers").json()["servers"]]


def test_reply_dropped_after_create_leaves_a_server(vendor: Driver) -> None:
    """The connection is cut, yet the server is there under its label, and charged."""
    vendor.fault("cut", "create", when="after")
    with pytest.raises(ConnectionError):
        vendor.post("/servers", ORDER)
    assert labels(vendor) == ["gw-7f3a"]
    assert vendor.get("/billing").json()["balance"] == "9.9863"
    assert vendor.state()["calls"]["create 499"] == 1


def test_cut_before_and_in_the_body(vendor: Driver) -> None:
    """Cut before handling makes nothing; cut in the body tells half of it."""
    vendor.fault("cut", "create", when="before")
    with pytest.raises(ConnectionError):
        vendor.post("/servers", ORDER)
    assert labels(vendor) == []
    vendor.fault("cut", "create", when="body")
    with pytest.raises(http.client.IncompleteRead):
        vendor.post("/servers", ORDER)
    assert labels(vendor) == ["gw-7f3a"]


@pytest.mark.parametrize(("when", "made"), [("before", []), ("after", ["gw-7f3a"])])
def test_5xx_hides_what_happened(vendor: Driver, when: str, made: list[str]) -> None:
    """A 503 in the vendor's own words, with or without a server behind it."""
    vendor.fault("status", "create", status=503, when=when)
    answer = vendor.post("/servers", ORDER)
    assert (answer.status, answer.json()) == (503, {"error": "internal server error"})
    assert labels(vendor) == made


def test_create_that_succeeds_and_times_out(vendor: Driver) -> None:
    """Slower than the client's patience is not failed."""
    vendor.fault("slow", "create", after_s=1.5)
    with pytest.raises(TimeoutError):
        vendor.post("/servers", ORDER, timeout_s=0.3)
    eventually(lambda: labels(vendor) == ["gw-7f3a"], what="the server")


def test_lists_lag_behind_creates(vendor: Driver) -> None:
    """For a while the list denies what was made; with `get` so does its id."""
    vendor.fault("lag", by_s=30)
    server_id = vendor.post("/servers", ORDER).json()["server"]["id"]
    assert labels(vendor) == []
    assert vendor.get(f"/servers/{server_id}").status == 200
    vendor.advance(30)
    assert labels(vendor) == ["gw-7f3a"]
    vendor.fault("lag", by_s=30, get=True)
    server_id = vendor.post("/servers", ORDER).json()["server"]["id"]
    assert vendor.get(f"/servers/{server_id}").status == 404
    vendor.advance(30)
    assert vendor.get(f"/servers/{server_id}").status == 200


def test_provisioning_fails_or_drags_on(vendor: Driver) -> None:
    """ERROR keeps its first hour and is not charged further; `late` and `never` are what they say."""
    vendor.fault("provision", mode="error")
    vendor.fault("provision", mode="late", after_s=600)
    vendor.fault("provision", mode="never")
    ids = [vendor.post("/servers", ORDER).json()["server"]["id"] for _ in range(3)]
    assert vendor.get("/billing").json()["hourlySpend"] == "0.0411"

    def statuses() -> list[str]:
        return [vendor.get(f"/servers/{one}").json()["server"]["status"] for one in ids]

    vendor.advance(60)
    assert statuses() == ["ERROR", "PROVISIONING", "PROVISIONING"]
    vendor.advance(600)
    assert statuses() == ["ERROR", "ACTIVE", "PROVISIONING"]
    vendor.advance(3600)
    vendor.token = login(vendor)
    billed = {server["id"]: server["billed_hours"] for server in vendor.state()["servers"].values()}
    assert [billed[one] for one in ids] == [1, 2, 2]


def test_dearer_than_the_catalogue_says(vendor: Driver) -> None:
    """A server may come at a price that no one quoted; it stays so, and others do not."""
    vendor.fault("price", factor="3", plan="vc2-1c-1gb")
    assert vendor.post("/servers", ORDER).json()["server"]["hourlyPrice"] == "0.0411"
    vendor.lift()
    assert vendor.post("/servers", ORDER).json()["server"]["hourlyPrice"] == "0.0137"
    assert Decimal(vendor.get("/billing").json()["hourlySpend"]) == Decimal("0.0548")


def test_tokens_end_early_or_all_at_once(vendor: Driver) -> None:
    """A token may be refused before its `exp`, and all of them in the middle of everything."""
    vendor.fault("token", after_s=5)
    vendor.token = login(vendor)
    assert vendor.get("/billing").status == 200
    vendor.advance(5)
    assert vendor.get("/billing").status == 401
    vendor.token = login(vendor)
    assert vendor.admin("POST", "/tokens", {"expire": True})["ended"] >= 1
    assert vendor.get("/billing").status == 401


def test_401_once_and_429_in_a_burst(vendor: Driver) -> None:
    """A good token is refused once; three requests in a row are too many; then all is well."""
    vendor.fault("unauthorized", "list")
    vendor.fault("limited", "billing", times=3)
    assert [vendor.get("/servers").status for _ in range(2)] == [401, 200]
    assert [vendor.get("/billing").status for _ in range(4)] == [429, 429, 429, 200]
    calls = vendor.state()["calls"]
    assert (calls["list 401"], calls["billing 429"]) == (1, 3)


def test_destroy_that_is_never_done(vendor: Driver) -> None:
    """202, then DESTROYING for ever: accepted, no longer charged, still there."""
    server_id = vendor.post("/servers", ORDER).json()["server"]["id"]
    vendor.fault("destroy", mode="never")
    assert vendor.delete(f"/servers/{server_id}").status == 202
    vendor.advance(800)
    assert vendor.get(f"/servers/{server_id}").json()["server"]["status"] == "DESTROYING"
    assert labels(vendor) == ["gw-7f3a"]


def test_unknown_status_and_partial_bulk_and_failed_backup(vendor: Driver) -> None:
    """Words that no document has, fewer servers than ordered, a backup that ends in ERROR."""
    server_id = vendor.post("/servers", ORDER).json()["server"]["id"]
    vendor.fault("state", "get", value="MIGRATING", of=server_id)
    seen = [vendor.get(f"/servers/{server_id}").json()["server"]["status"] for _ in range(2)]
    assert seen == ["MIGRATING", "PROVISIONING"]
    vendor.fault("partial_bulk", made=2)
    assert len(vendor.post("/servers/bulk", {**ORDER, "count": 5}).json()["servers"]) == 2
    vendor.advance(60)
    vendor.fault("backup", mode="error")
    vendor.post("/backups", {"serverId": server_id})
    vendor.advance(180)
    assert vendor.get("/backups").json()["backups"][0]["status"] == "ERROR"


def test_a_skewed_clock_shows_everywhere(vendor: Driver) -> None:
    """Date header and timestamps are off by the same hour."""
    server = vendor.post("/servers", ORDER).json()["server"]
    vendor.fault("skew", by_s=-3600)
    answer = vendor.get(f"/servers/{server['id']}")
    assert server["createdAt"] != answer.json()["server"]["createdAt"]
    seen = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    assert seen == pytest.approx(time.time() - 3600, abs=300)


def test_faults_are_read_strictly_and_can_be_lifted(vendor: Driver) -> None:
    """An unknown kind, route, key, mode or number is refused; a fault waits, and goes when it is deleted."""
    for wrong in (
        {"kind": "gremlin"},
        {"kind": "cut", "route": "rent"},
        {"kind": "cut", "after_s": 1},
        {"kind": "cut", "when": "later"},
        {"kind": "slow", "after_s": "1"},
        {"kind": "price", "factor": 2.5},
    ):
        with pytest.raises(ValueError, match="ValueError"):
            vendor.admin("POST", "/faults", wrong)
    number = vendor.fault("status", "billing", status=500, skip=1, times=None)
    assert [vendor.get("/billing").status for _ in range(3)] == [200, 500, 500]
    assert [fault["id"] for fault in vendor.admin("GET", "/faults")] == [number]
    vendor.admin("DELETE", f"/faults/{number}")
    assert vendor.get("/billing").status == 200


def test_redirect_and_slow_body(vendor: Driver) -> None:
    """To another origin; and a body that comes in two halves, whole."""
    vendor.fault("redirect", "billing", location="http://127.0.0.1:9/elsewhere", status=302)
    answer = vendor.get("/billing")
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:9/elsewhere")
    vendor.fault("slow", "billing", body_s=0.2)
    began = time.monotonic()
    assert vendor.get("/billing").json()["balance"] == "10.00"
    assert time.monotonic() - began >= 0.2


def test_the_clock_goes_forward_only_and_can_run(vendor: Driver) -> None:
    """It stands still at rate 0, runs at any other, and never goes back."""
    with pytest.raises(ValueError, match="only goes forward"):
        vendor.admin("POST", "/clock", {"advance_s": -1})
    before = vendor.admin("GET", "/clock")["business_ms"]
    assert vendor.admin("GET", "/clock")["business_ms"] == before
    vendor.admin("POST", "/clock", {"rate": 600})
    server_id = vendor.post("/servers", ORDER).json()["server"]["id"]
    eventually(
        lambda: vendor.state()["servers"][server_id]["status"] == "ACTIVE",
        what="a minute in a tenth of a second",
    )
    vendor.admin("POST", "/clock", {"rate": 0})


def test_what_was_asked_is_kept_without_credentials(vendor: Driver) -> None:
    """The record shows path, body and headers, but no token."""
    vendor.post("/servers", ORDER, headers={"X-Probe": "7"})
    last = vendor.admin("GET", "/requests")[-1]
    assert (last["route"], last["status"], last["headers"]["X-Probe"]) == ("create", 202, "7")
    assert "gw-7f3a" in last["body"]
    assert str(vendor.token) not in str(last)
    vendor.admin("DELETE", "/requests")
    assert vendor.admin("GET", "/requests") == []
