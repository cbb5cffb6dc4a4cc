"""VRTX's webhooks as a receiver meets them: signed, retried, doubled, forged, missing, late; and VRTX's other faults."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = "/api/v2/servers"
ORDER = {"plan_id": 1, "location_id": 3, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"}
SECRET = "whsec"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "sustained_per_min": 100_000,
    "burst_per_10s": 100_000,
    "webhook_timeout_s": 1,
    "accounts": [{"name": "ours", "tokens": ["tok"]}],
}
WITHIN_S = 30


class Receiver:
    """An endpoint that keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        got: queue.Queue[tuple[bytes, str]] = queue.Queue()
        answers: list[int] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(answers.pop(0) if answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                got.put((body, self.headers["X-Vrtx-Signature"]))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class names it
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"
        self.answers = answers
        self._got = got
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self) -> tuple[dict[str, Any], bool]:
        """The next event and whether its signature is right over the raw body."""
        body, signature = self._got.get(timeout=WITHIN_S)
        wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        return json.loads(body), hmac.compare_digest(wanted, signature)

    def types(self, count: int) -> list[str]:
        """The types of the next events."""
        return [self.next()[0]["type"] for _ in range(count)]

    def quiet(self) -> bool:
        """Whether nothing more came."""
        return self._got.empty()


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.vrtx", CONFIG) as started:
        yield started


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An endpoint that listens."""
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def vendor(process: SandboxProcess, receiver: Receiver) -> Driver:
    """A vendor as after its start, with one endpoint registered."""
    driver = Driver(process, "tok")
    driver.admin("POST", "/reset")
    driver.admin("POST", "/accounts/ours", {"webhooks": [{"url": receiver.url, "secret": SECRET}]})
    return driver


def create(vendor: Driver) -> str:
    """The uuid of a new server."""
    return str(vendor.post(SERVERS, ORDER).json()["data"]["uuid"])


def settled(vendor: Driver, count: int) -> Any:
    """All deliveries, once so many are over."""
    return eventually(
        lambda: (
            (found := vendor.state()["deliveries"])
            and sum(entry["state"] != "waiting" for entry in found) >= count
            and found
        ),
        within_s=WITHIN_S,
        what=f"{count} deliveries",
    )


def test_a_servers_life_in_signed_events(vendor: Driver, receiver: Receiver) -> None:
    """installing, running, suspended, deleted, each in the document's shape and signed over its raw bytes."""
    identity = create(vendor)
    event, signed = receiver.next()
    assert signed
    assert event["id"].startswith("evt_")
    assert event["type"] == "server.installing"
    assert event["data"] == {
        "uuid": identity,
        "uuid_short": identity[:8],
        "name": "app-01.example.com",
        "status": "installing",
        "state": "stopped",
    }
    assert event["created_at"].endswith("+00:00")
    vendor.advance(60)
    event, signed = receiver.next()
    assert (event["type"], event["data"]["status"], event["data"]["state"]) == ("server.running", None, "running")
    vendor.admin("POST", f"/servers/{identity}", {"suspend": True})
    assert receiver.types(1) == ["server.suspended"]  # two under way at once may come in any order
    vendor.delete(f"{SERVERS}/{identity}")
    assert receiver.types(1) == ["server.deleted"]
    assert [entry["state"] for entry in settled(vendor, 4)] == ["delivered"] * 4


def test_refused_deliveries_are_retried_with_growing_waits(vendor: Driver, receiver: Receiver) -> None:
    """A 500 and a redirect are no success; the same event comes again, later each time."""
    receiver.answers[:] = [500, 302]
    create(vendor)
    first, _ = receiver.next()
    eventually(lambda: len(vendor.state()["deliveries"][0]["attempts"]) == 1, within_s=WITHIN_S)
    vendor.advance(4)
    assert receiver.quiet()
    vendor.advance(1)
    assert receiver.next() == (first, True)
    eventually(lambda: len(vendor.state()["deliveries"][0]["attempts"]) == 2, within_s=WITHIN_S)
    vendor.advance(9)
    assert receiver.quiet()
    vendor.advance(1)
    assert receiver.next() == (first, True)
    (delivery,) = settled(vendor, 1)
    assert (delivery["state"], [attempt["outcome"] for attempt in delivery["attempts"]]) == (
        "delivered",
        [500, 302, 200],
    )


def test_delivery_is_given_up_after_72_hours(vendor: Driver, receiver: Receiver) -> None:
    """Nobody listens: attempts go on for three days and end; the event can be sent again by hand."""
    vendor.admin("POST", "/accounts/ours", {"webhooks": [{"url": "http://127.0.0.1:9/", "secret": SECRET}]})
    vendor.fault("provision", mode="never")
    create(vendor)
    eventually(lambda: vendor.state()["deliveries"][0]["attempts"], within_s=WITHIN_S)
    vendor.advance(72 * 3600)
    (delivery,) = settled(vendor, 1)
    assert delivery["state"] == "given_up"
    vendor.admin("POST", "/accounts/ours", {"webhooks": [{"url": receiver.url, "secret": SECRET}]})
    vendor.admin("POST", f"/webhooks/{delivery['event_id']}")
    event, signed = receiver.next()
    assert (event["id"], signed) == (delivery["event_id"], True)


def test_events_come_twice_forged_changed_or_not_at_all(vendor: Driver, receiver: Receiver) -> None:
    """What a receiver must survive: the same id twice, a wrong signature, changed bytes, silence."""
    vendor.fault("webhook", mode="duplicate")
    create(vendor)
    (first, _), (second, _) = receiver.next(), receiver.next()
    assert first == second
    for mode in ("forge", "tamper"):
        vendor.fault("webhook", mode=mode)
        create(vendor)
        assert receiver.next()[1] is False
    vendor.fault("webhook", mode="drop", event="server.running", times=3)
    vendor.advance(60)
    vendor.delete(f"{SERVERS}/{first['data']['uuid']}")
    assert receiver.types(1) == ["server.deleted"]
    kinds = [event["type"] for event in vendor.state()["events"]]
    assert kinds.count("server.running") == 3


def test_events_come_out_of_order(vendor: Driver, receiver: Receiver) -> None:
    """A late `installing` arrives after `running`, with its own older time."""
    vendor.fault("webhook", mode="late", event="server.installing", after_s=90)
    create(vendor)
    vendor.advance(60)
    running, _ = receiver.next()
    vendor.advance(30)
    installing, signed = receiver.next()
    assert (running["type"], installing["type"], signed) == ("server.running", "server.installing", True)
    assert installing["created_at"] < running["created_at"]


def test_a_failed_installation_has_no_event(vendor: Driver, receiver: Receiver) -> None:
    """Only polling sees it."""
    vendor.fault("provision", mode="error")
    identity = create(vendor)
    assert receiver.types(1) == ["server.installing"]
    vendor.advance(3600)
    data = vendor.get(f"{SERVERS}/{identity}/status").json()["data"]
    assert (data["status"], data["state"]) == ("install_failed", "stopped")
    assert len(vendor.state()["events"]) == 1
    vendor.fault("provision", mode="never")
    stuck = create(vendor)
    vendor.advance(86_400)
    assert vendor.get(f"{SERVERS}/{stuck}/status").json()["data"]["status"] == "installing"


def test_a_lost_reply_is_found_by_its_key(vendor: Driver) -> None:
    """Dropped or 5xx after the create: the same key gets the server, without it there would be two."""
    for number, fault in enumerate(({"kind": "cut"}, {"kind": "status", "status": 502})):
        key = {"Idempotency-Key": f"key-{number}"}
        vendor.fault(fault.pop("kind"), "create", when="after", **fault)
        if number == 0:
            with pytest.raises(ConnectionError):
                vendor.post(SERVERS, ORDER, headers=key)
        else:
            lost = vendor.post(SERVERS, ORDER, headers=key)
            assert (lost.status, lost.json()["error"]["code"]) == (502, "SERVER_ERROR")
        assert vendor.post(SERVERS, ORDER, headers=key).status == 201
        assert vendor.get(SERVERS).json()["meta"]["total"] == number + 1


def test_lag_unknown_words_and_short_ids_that_collide(vendor: Driver) -> None:
    """A list that denies, states that no document has, two servers behind one short id."""
    vendor.fault("lag", by_s=40)
    first = create(vendor)
    assert vendor.get(SERVERS).json()["meta"]["total"] == 0
    vendor.advance(60)
    assert vendor.get(SERVERS).json()["meta"]["total"] == 1
    vendor.fault("state", "status", value="migrating", of=first)
    vendor.fault("hypervisor", value="paused", of=first)
    data = [vendor.get(f"{SERVERS}/{first}/status").json()["data"] for _ in range(2)]
    assert [(one["state"], one["status"]) for one in data] == [("paused", "migrating"), ("running", None)]
    vendor.fault("short_collision")
    second = create(vendor)
    assert (first[:8], first) != (second[:8], second)
    assert first[:8] == second[:8]
    assert vendor.get(f"{SERVERS}/{first[:8]}").json()["data"]["uuid"] == first


def test_prices_limits_tokens_and_destruction_misbehave(vendor: Driver) -> None:
    """A bill dearer than the list, noisy floats, 429 and 401 in the vendor's words, a deletion that is never done."""
    vendor.fault("price", factor="2.5")
    identity = create(vendor)
    assert vendor.get("/api/v2/plans").json()["data"][0]["hourly_price"] == 0.0053
    vendor.advance(3600)
    assert vendor.state()["accrued"][identity] == "0.01325"
    vendor.lift()
    vendor.fault("price", factor="2.5", shown=True)
    vendor.fault("noise")
    assert b"0.013250000000002" in vendor.get("/api/v2/plans").raw
    vendor.lift()
    vendor.fault("limited", "list", retry_after_s=42)
    refused = vendor.get(SERVERS)
    assert (refused.status, refused.headers["retry-after"], refused.headers["x-ratelimit-remaining"]) == (
        429,
        "42",
        "0",
    )
    vendor.fault("unauthorized", "list")
    assert vendor.get(SERVERS).json()["error"]["code"] == "INVALID_TOKEN"
    vendor.fault("destroy", mode="never")
    assert vendor.delete(f"{SERVERS}/{identity}").status == 204
    vendor.advance(3600)
    assert vendor.get(f"{SERVERS}/{identity}").status == 200
