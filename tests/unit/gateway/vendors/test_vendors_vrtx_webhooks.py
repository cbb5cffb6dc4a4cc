"""VRTX's deliveries: signatures, strict events, the window against replays; and what the sandbox vendor really sends."""

import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway.vendors.vrtx.webhooks import (
    EVENTS,
    MAX_BODY_BYTES,
    MAX_FUTURE_MS,
    MAX_PAST_MS,
    SIGNATURE_HEADER,
    Event,
    EventError,
    parse,
    verify,
)
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from wallets.secret import Secret

UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
CREATED_AT_MS = 1_778_754_912_000
SECRET = Secret("whsec")
RETIRED = Secret("whsec-old")
EVENT: dict[str, Any] = {
    "id": "evt_01j2k3m4n5p6q7r8",
    "type": "server.running",
    "created_at": "2026-05-14T10:35:12+00:00",
    "data": {
        "uuid": UUID,
        "uuid_short": "a1b2c3d4",
        "name": "app-01.example.com",
        "status": None,
        "state": "running",
    },
}
ORDER = {"plan_id": 1, "location_id": 3, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"}
SERVERS = "/api/v2/servers"
WITHIN_S = 10


def raw(**changes: Any) -> bytes:
    """The document's example with changes."""
    return json.dumps({**EVENT, **changes}).encode()


def signed(body: bytes, secret: Secret[str] = SECRET) -> str:
    """The signature of a body, made by the standard library alone."""
    return hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


def test_a_body_is_genuine_when_one_of_the_secrets_signed_it() -> None:
    """Two secrets at once let the operator change them; the order is of no matter."""
    body = raw()
    for secret in (SECRET, RETIRED):
        assert verify(body, signed(body, secret), (SECRET, RETIRED))
        assert verify(body, signed(body, secret), (RETIRED, SECRET))
    assert not verify(body, signed(body, RETIRED), (SECRET,))
    assert not verify(body, signed(body), ())


def test_the_signature_is_over_the_raw_bytes() -> None:
    """The same document in other bytes is another message."""
    body = raw()
    for other in (body + b" ", body.replace(b" ", b""), body[:-1], b"", raw(type="server.deleted")):
        assert not verify(other, signed(body), (SECRET,))


@pytest.mark.parametrize("form", ["{}", "sha256={}", " {} "])
def test_both_usual_forms_of_a_signature_are_read(form: str) -> None:
    """The document shows none: hex alone, or with the name of the hash before it; the case of its digits is nothing."""
    body = raw()
    assert verify(body, form.format(signed(body)), (SECRET,))
    assert verify(body, form.format(signed(body).upper()), (SECRET,))


@pytest.mark.parametrize(
    "header",
    [
        *[None, "", "sha256=", "0" * 64, "x" * 64, "sha1={}", "sha256= {}", "{}0", "{},{}", "t=1,v1={}", "SHA256={}"],
        "\u0660" * 64,
    ],
)
def test_another_signature_is_none(header: str | None) -> None:
    """Absent, of another form, or of another body."""
    body = raw()
    assert not verify(body, header and header.replace("{}", signed(body)), (SECRET,))


def test_an_empty_secret_fits_nothing() -> None:
    """Everybody knows it; beside a real one it lets nobody in."""
    body, empty = raw(), Secret("")
    assert not verify(body, signed(body, empty), (empty,))
    assert not verify(body, signed(body, empty), (SECRET, empty))
    assert verify(body, signed(body), (empty, SECRET))


def test_a_body_over_the_bound_is_not_hashed() -> None:
    """Whoever signed it; the bound itself passes."""
    body = raw(padding="x" * (MAX_BODY_BYTES - len(raw(padding=""))))
    assert len(body) == MAX_BODY_BYTES
    assert verify(body, signed(body), (SECRET,))
    assert not verify(body + b" ", signed(body + b" "), (SECRET,))
    with pytest.raises(EventError, match="large"):
        parse(body + b" ", CREATED_AT_MS)


def test_the_documents_example_is_read() -> None:
    """Id, type, server, state in our words, time in milliseconds."""
    event = parse(raw(), CREATED_AT_MS)
    assert event == Event("evt_01j2k3m4n5p6q7r8", "server.running", UUID, "running", CREATED_AT_MS)


@pytest.mark.parametrize(("kind", "state"), EVENTS.items())
def test_each_event_of_the_document_has_a_state(kind: str, state: str) -> None:
    """The type tells it, whatever the data says beside it."""
    event = parse(raw(type=kind), CREATED_AT_MS)
    assert event is not None
    assert (event.type, event.state) == (kind, state)


@pytest.mark.parametrize("kind", ["server.failed", "invoice.created", "", "SERVER.RUNNING"])
def test_other_events_are_ignored(kind: str) -> None:
    """A vendor may add events; to fail them would make it send each for three days."""
    assert parse(raw(type=kind, data=None, id=7), CREATED_AT_MS) is None


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"[]", b"null", b"{", b"\xff", b'"server.running"', b"{}"],
        raw().replace(b'"type"', b'"type": "server.deleted", "type"'),
        *[raw(type=value) for value in (None, 7, ["server.running"])],
        *[raw(id=value) for value in (None, 7, "", "evt_", "evt_short", "e01j2k3m4n5p6q7r8", "evt_" + "a" * 65)],
        *[raw(id=value) for value in ("evt_01j2k3m4n5p6q7r8\n", "evt_01j2k3m4/../q7r8", "evt_01j2k3m4n5p6q7r\u0668")],
        *[raw(created_at=value) for value in (None, 1_778_754_912, "2026-05-14", "2026-05-14T10:35:12", "yesterday")],
        *[raw(created_at=value) for value in ("2026-02-30T10:35:12+00:00", "2026-05-14T25:35:12+00:00")],
        *[raw(data=value) for value in (None, [], UUID, {}, {"uuid": "a1b2c3d4"}, {"uuid": 7}, {"uuid": f"{UUID} "})],
    ],
)
def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    """Also one that is signed: two readings, no id to know it again by, no server, no time."""
    with pytest.raises(EventError) as refused:
        parse(body, CREATED_AT_MS)
    assert "a1b2c3d4" not in str(refused.value)


@pytest.mark.parametrize(
    ("age_ms", "taken"),
    [
        (0, True),
        (72 * 3_600_000, True),
        (MAX_PAST_MS, True),
        (MAX_PAST_MS + 1, False),
        (-MAX_FUTURE_MS, True),
        (-MAX_FUTURE_MS - 1, False),
    ],
)
def test_an_event_counts_within_its_window(age_ms: int, taken: bool) -> None:  # noqa: FBT001 - a table's column
    """As long as the vendor retries, and an hour; a recorded delivery is worth nothing after that."""
    if taken:
        assert parse(raw(), CREATED_AT_MS + age_ms) is not None
    else:
        with pytest.raises(EventError, match="window"):
            parse(raw(), CREATED_AT_MS + age_ms)


def test_no_secret_is_shown_by_an_error_or_a_repr() -> None:
    """Neither the secrets nor what an event's body holds."""
    assert "whsec" not in repr((SECRET, parse(raw(), CREATED_AT_MS)))
    with pytest.raises(EventError) as refused:
        parse(b'{"whsec', CREATED_AT_MS)
    assert "whsec" not in str(refused.value)


# What the sandbox vendor sends


class Door:
    """An endpoint that keeps the raw bytes and the signature of what it gets."""

    def __init__(self) -> None:
        got: queue.Queue[tuple[bytes, str | None]] = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.put((self.rfile.read(int(self.headers["Content-Length"])), self.headers[SIGNATURE_HEADER]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"
        self._got = got
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def next(self) -> tuple[bytes, str | None]:
        """The next delivery."""
        return self._got.get(timeout=WITHIN_S)

    def event(self, now_ms: int) -> Event:
        """The next delivery as an event, its signature checked."""
        body, signature = self.next()
        assert verify(body, signature, (SECRET,))
        event = parse(body, now_ms)
        assert event is not None
        return event


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process whose clock stands still."""
    config: dict[str, Any] = {
        "clock_rate": 0,
        "clock_start": "2026-05-14T10:30:00+00:00",
        "accounts": [{"name": "ours", "tokens": ["tok"]}],
    }
    with SandboxProcess.start("sandbox.vrtx", config) as started:
        yield started


@pytest.fixture
def door() -> Iterator[Door]:
    """An endpoint that listens."""
    made = Door()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def vendor(process: SandboxProcess, door: Door) -> Driver:
    """The vendor as after its start, with the endpoint registered."""
    driver = Driver(process, "tok")
    driver.admin("POST", "/reset")
    driver.admin("POST", "/accounts/ours", {"webhooks": [{"url": door.url, "secret": SECRET.reveal()}]})
    return driver


def clock_ms(vendor: Driver) -> int:
    """The vendor's business time."""
    return int(vendor.state()["business_ms"])


def create(vendor: Driver) -> str:
    """The uuid of a new server."""
    return str(vendor.post(SERVERS, ORDER).json()["data"]["uuid"])


def test_a_servers_life_arrives_as_events(vendor: Driver, door: Door) -> None:
    """installing, running, suspended, deleted: each about the server, at the vendor's time."""
    uuid = create(vendor)
    events = [door.event(clock_ms(vendor))]
    vendor.advance(60)
    events.append(door.event(clock_ms(vendor)))
    vendor.admin("POST", f"/servers/{uuid}", {"suspend": True})
    events.append(door.event(clock_ms(vendor)))
    vendor.delete(f"{SERVERS}/{uuid}")
    events.append(door.event(clock_ms(vendor)))
    assert [event.state for event in events] == ["provisioning", "running", "suspended", "destroyed"]
    assert {event.uuid for event in events} == {uuid}
    assert events[1].created_at_ms - events[0].created_at_ms == 60_000


def test_an_event_that_comes_twice_has_one_id(vendor: Driver, door: Door) -> None:
    """Sent in duplicate, and again by hand a day later: equal records, so a queue keeps one."""
    vendor.fault("webhook", mode="duplicate")
    create(vendor)
    first, second = door.event(clock_ms(vendor)), door.event(clock_ms(vendor))
    vendor.admin("POST", f"/webhooks/{first.id}")
    assert {first, second, door.event(clock_ms(vendor) + 86_400_000)} == {first}


def test_events_out_of_order_are_put_right_by_their_time(vendor: Driver, door: Door) -> None:
    """A late `installing` arrives after `running`, and is older."""
    vendor.fault("webhook", mode="late", event="server.installing", after_s=90)
    create(vendor)
    vendor.advance(60)
    arrived = [door.event(clock_ms(vendor))]
    vendor.advance(30)
    arrived.append(door.event(clock_ms(vendor)))
    assert [event.state for event in arrived] == ["running", "provisioning"]
    assert max(arrived, key=lambda event: event.created_at_ms).state == "running"


@pytest.mark.parametrize("mode", ["forge", "tamper"])
def test_a_delivery_with_a_wrong_signature_is_not_read(vendor: Driver, door: Door, mode: str) -> None:
    """Signed with another secret, or changed after it was signed."""
    vendor.fault("webhook", mode=mode)
    create(vendor)
    body, signature = door.next()
    assert signature is not None
    assert not verify(body, signature, (SECRET, RETIRED))


def test_a_recorded_delivery_is_worth_nothing_after_the_window(vendor: Driver, door: Door) -> None:
    """The signature still holds; the time does not."""
    create(vendor)
    body, signature = door.next()
    assert verify(body, signature, (SECRET,))
    assert parse(body, clock_ms(vendor) + MAX_PAST_MS) is not None
    with pytest.raises(EventError):
        parse(body, clock_ms(vendor) + MAX_PAST_MS + 1000)
