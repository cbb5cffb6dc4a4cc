"""The door for vendors' webhooks: nobody is believed without a signature, and 2xx means durable."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.api import hooks as door
from gateway.api.attempts import MAX_FAILURES
from gateway.api.deps import Webhooks
from gateway.api.lines import Value
from gateway.core.commands import TakeEvent
from gateway.core.records import VendorEvent
from gateway.store.core import StoreBroken
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock
from gateway.vendor_hooks import Hook
from gateway.vendors.vrtx.webhooks import MAX_BODY_BYTES, MAX_FUTURE_MS, MAX_PAST_MS
from tests.unit.gateway.api.bed import Bed, Got, opened
from wallets.secret import Secret

NEW, OLD, OLDEST = (Secret(f"webhook-secret-{n}") for n in range(3))
PATH = "/hooks/vrtx/vps"
UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
HOUR_S = 3_600


class BusinessClock:
    """The time by which the vendor dates its events: set by the tests, far from the wall clock."""

    now = 1_778_754_912_000

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Refuse: nobody waits for it."""
        raise AssertionError(seconds)


class Rig:
    """A running gateway with the door of the vendor `vps`, and what it logged of its requests."""

    def __init__(self, bed: Bed, clock: BusinessClock, lines: list[dict[str, Value]]) -> None:
        self.bed, self.clock, self.lines = bed, clock, lines

    @property
    def store(self) -> SqliteStore:
        """The gateway's."""
        return self.bed.store

    def event(self, n: int = 1, *, age_s: float = 0, **changes: Any) -> bytes:
        """Return the body of event n about the server UUID, so old."""
        created = datetime.fromtimestamp(self.clock.now / 1000 - age_s, UTC).isoformat()
        data = {"uuid": UUID, "uuid_short": UUID[:8], "name": "app-01", "status": None, "state": "running"}
        return json.dumps(
            {"id": f"evt_{n:016}", "type": "server.running", "created_at": created, "data": data, **changes}
        ).encode()

    async def send(
        self, body: bytes, secret: Secret[str] | None = NEW, path: str = PATH, *, signed: str | None = None
    ) -> Got:
        """Deliver a body, signed with a secret, else with `signed` where that is given."""
        told = signed if secret is None else signature(body, secret)
        return await self.bed.bare("POST", path, data=body, headers={} if told is None else {"X-Vrtx-Signature": told})

    async def rows(self) -> Sequence[Mapping[str, Any]]:
        """Return every event in the database."""
        return await self.store.query(
            "SELECT event_id, received_at_ms, handled_at_ms FROM vendor_events ORDER BY event_id"
        )


def signature(body: bytes, secret: Secret[str]) -> str:
    """Return a body's signature, made by the standard library alone."""
    return hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """The gateway with one door, whose three secrets are being changed."""
    clock, lines = BusinessClock(), list[dict[str, Value]]()
    webhooks = Webhooks({"vps": Hook("vps", (NEW, OLD, OLDEST))}, clock)
    async with opened(tmp_path, request_log=lambda line: lines.append(dict(line)), webhooks=webhooks) as bed:
        yield Rig(bed, clock, lines)


async def test_a_signed_event_is_durable_when_it_is_answered(rig: Rig) -> None:
    """202, and the row is on disk: received by our clock, created by the vendor's, pending."""
    before_ms = SystemClock().now_ms()
    got = await rig.send(rig.event(age_s=60))
    assert (got.status, got.json) == (202, {"taken": True})
    (row,) = await rig.rows()
    assert (row["event_id"], row["handled_at_ms"]) == ("evt_0000000000000001", None)
    assert before_ms <= row["received_at_ms"] <= SystemClock().now_ms()
    event = rig.store.view.events["vps"]["evt_0000000000000001"]
    created_ms = rig.clock.now - 60_000
    assert event == VendorEvent(
        "vps", event.event_id, "server.running", UUID, "running", created_ms, row["received_at_ms"]
    )


async def test_an_event_is_taken_once_however_often_it_is_delivered(rig: Rig) -> None:
    """P13: at once or later, re-signed with another secret, or told differently under the same id."""
    body = rig.event()
    many = await asyncio.gather(*(rig.send(body) for _ in range(8)))
    assert sorted(got.json["taken"] for got in many) == [False] * 7 + [True]
    assert {got.status for got in many} == {202}
    for again in (rig.send(body, OLD), rig.send(rig.event(type="server.deleted"))):
        got = await again
        assert (got.status, got.json) == (202, {"taken": False})
    assert len(await rig.rows()) == 1
    assert rig.store.view.events["vps"]["evt_0000000000000001"].kind == "server.running"


@pytest.mark.parametrize("secret", [NEW, OLD, OLDEST])
async def test_each_of_three_secrets_opens(rig: Rig, secret: Secret[str]) -> None:
    """Secrets are changed without a gap."""
    assert (await rig.send(rig.event(), secret)).status == 202


async def test_a_wrong_signature_is_refused_without_a_reason(rig: Rig) -> None:
    """None, another's, one of other bytes, one of the parsed document, or two of them: always the same answer."""
    body = rig.event()
    right = signature(body, NEW)
    wrong = [
        await rig.send(body, None),
        await rig.send(body, Secret("another-secret-0")),
        await rig.send(body + b" ", None, signed=right),
        await rig.send(json.dumps(json.loads(body), indent=1).encode(), None, signed=right),
        await rig.send(body, None, signed=right[:-1]),
        await rig.send(body, None, signed=""),
        await rig.bed.bare("POST", PATH, data=body, headers=[("X-Vrtx-Signature", right)] * 2),
    ]
    assert {(got.status, got.code, got.json["detail"]) for got in wrong} == {
        (401, "signature_invalid", "this delivery is not signed by the vendor")
    }
    assert await rig.rows() == []
    assert (await rig.send(body, None, signed=f"sha256={right.upper()}")).status == 202


async def test_an_api_key_opens_nothing_here(rig: Rig) -> None:
    """The door asks for a signature, whoever knocks."""
    got = await rig.bed.ask("POST", PATH, data=rig.event())
    assert (got.status, got.code) == (401, "signature_invalid")
    assert "X-Balance-Available" not in got.headers


async def test_wrong_signatures_are_bounded_by_address_and_right_ones_are_not(rig: Rig) -> None:
    """After too many failures a minute 429 with Retry-After; the vendor behind the same address is heard all the same."""
    right = [await rig.send(rig.event()) for _ in range(MAX_FAILURES)]
    assert {got.status for got in right} == {202}
    failed = [await rig.send(rig.event(), None) for _ in range(MAX_FAILURES)]
    assert {got.status for got in failed} == {401}
    beyond = await rig.send(rig.event(), None)
    assert (beyond.status, beyond.code) == (429, "too_many_failures")
    assert 1 <= int(beyond.headers["Retry-After"]) <= 60
    assert (await rig.send(rig.event(2))).json == {"taken": True}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"not json", b'{"type": "server.running"}', b'{"id": "evt_1", "id": "evt_2"}', b"\xff\xfe"],
)
async def test_what_is_signed_and_no_event_is_malformed(rig: Rig, body: bytes) -> None:
    """400, and nothing is kept of it."""
    got = await rig.send(body)
    assert (got.status, got.code) == (400, "bad_request")
    assert await rig.rows() == []


@pytest.mark.parametrize("age_ms", [MAX_PAST_MS + 1_000, -MAX_FUTURE_MS - 1_000])
async def test_an_event_from_outside_the_window_is_not_taken(rig: Rig, age_ms: int) -> None:
    """Replayed after days, even one that was taken and handled, or dated ahead: by the vendor's clock, not by ours."""
    got = await rig.send(rig.event(age_s=age_ms / 1000))
    assert (got.status, got.code) == (400, "bad_request")
    assert (await rig.send(rig.event(age_s=72 * HOUR_S))).status == 202
    body = rig.event(2)
    assert (await rig.send(body)).json == {"taken": True}
    rig.clock.now += MAX_PAST_MS + 1_000
    assert (await rig.send(body)).code == "bad_request"


async def test_a_type_that_the_document_does_not_have_is_accepted_and_means_nothing(rig: Rig) -> None:
    """The vendor need not send it again for three days."""
    got = await rig.send(rig.event(type="server.migrated"))
    assert (got.status, got.json) == (202, {"taken": False})
    assert await rig.rows() == []


@pytest.mark.parametrize(
    "path",
    [
        "/hooks/vrtx/other",
        "/hooks/other/vps",
        "/hooks/vrtx/",
        "/hooks/vrtx",
        "/hooks/",
        "/hooks/vrtx/vps/",
        "/hooks/vrtx/%76ps",
    ],
)
async def test_a_vendor_without_a_door_does_not_exist(rig: Rig, path: str) -> None:
    """Unknown, of another kind, or without a secret: 404, signed or not, and its body is not read."""
    for secret in (NEW, None):
        got = await rig.send(rig.event(), secret, path)
        assert (got.status, got.code) == (404, "not_found")


async def test_without_webhooks_there_is_no_door(bed: Bed) -> None:
    """A gateway whose vendors send none has none."""
    got = await bed.bare("POST", PATH, data=b"{}")
    assert (got.status, got.code) == (404, "not_found")


async def test_only_post_is_taken(rig: Rig) -> None:
    """The door tells nothing."""
    for method in ("GET", "PUT", "DELETE"):
        got = await rig.bed.bare(method, PATH)
        assert (got.status, got.headers["Allow"]) == (405, "POST")
    assert (await rig.bed.bare("HEAD", PATH)).status == 405


async def test_a_body_is_bounded_before_anything_is_believed(rig: Rig) -> None:
    """One byte more than an event may have is refused, declared or chunked, signed or not; the most is taken."""
    filled = rig.event()
    filled += b" " * (MAX_BODY_BYTES - len(filled))
    assert (await rig.send(filled)).json == {"taken": True}
    assert (await rig.send(filled + b" ")).code == "body_oversized"

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 2):
            yield b" " * 1024

    got = await rig.bed.bare("POST", PATH, data=chunks())
    assert (got.status, got.code) == (413, "body_oversized")


async def test_a_body_that_drips_is_not_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The span is for the whole body, however lively it comes."""
    monkeypatch.setattr(door, "MAX_BODY_S", 0.3)

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" "
            await asyncio.sleep(0.05)

    started = asyncio.get_running_loop().time()
    got = await rig.bed.bare("POST", PATH, data=drip())
    assert (got.status, got.code) == (400, "bad_request")
    assert asyncio.get_running_loop().time() - started < 20


async def test_bodies_that_are_held_open_hold_up_only_each_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many deliveries are read at once; agents are served meanwhile, and the next delivery after them."""
    monkeypatch.setattr(door, "MAX_AT_ONCE", 2)
    release = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        yield b"{"
        await release.wait()

    holding = [asyncio.create_task(rig.bed.bare("POST", PATH, data=held())) for _ in range(2)]
    while rig.bed.server.api.hooks._reading < 2:  # noqa: ASYNC110 - the door tells nobody how many it serves
        await asyncio.sleep(0.01)
    got = await rig.send(rig.event())
    assert (got.status, got.code) == (503, "overloaded")
    assert (await rig.bed.ask("GET", "/v1/balance")).status == 200
    release.set()
    assert {got.status for got in await asyncio.gather(*holding)} == {401}
    assert (await rig.send(rig.event())).status == 202


async def test_a_flood_of_events_waits_at_the_vendor(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has looked into yet is bounded: beyond it the vendor keeps its events and sends them later."""
    monkeypatch.setattr(door, "MAX_PENDING", 2)
    for n in (1, 2):
        assert (await rig.send(rig.event(n))).status == 202
    got = await rig.send(rig.event(3))
    assert (got.status, got.code, got.headers["Retry-After"]) == (503, "overloaded", "1")
    assert len(await rig.rows()) == 2


async def test_a_commit_that_fails_is_never_answered_with_2xx(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor must not forget what is not durable."""

    async def fail(command: object) -> None:
        assert isinstance(command, TakeEvent)
        raise StoreBroken("no disk")

    monkeypatch.setattr(rig.store, "post", fail)
    assert (await rig.send(rig.event())).status == 503
    assert rig.bed.broken == ["stop"]


async def test_the_log_has_the_route_and_the_vendor_and_nothing_of_the_body(
    rig: Rig, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """P10: neither body, signature, query nor an unknown vendor's name reach any log."""
    marked = rig.event(2, type="server.running", data={"uuid": "nonsense-mark"})
    await rig.send(rig.event(), path=PATH + "?token=query-mark")
    await rig.send(marked)
    await rig.send(b'{"body-mark": ', None)
    await rig.send(b"{}", None, "/hooks/vrtx/name-mark")
    shown = [(line["path"], line.get("vendor"), line["status"]) for line in rig.lines]
    assert shown == [("hooks", "vps", 202), ("hooks", "vps", 400), ("hooks", "vps", 401), ("hooks", None, 404)]
    said = json.dumps(rig.lines, default=str) + caplog.text + "".join(capsys.readouterr())
    for secret in ("mark", signature(rig.event(), NEW), NEW.reveal(), "evt_"):
        assert secret not in said
    metrics = (await rig.bed.bare("GET", "/metrics")).body.decode()
    assert 'route="hooks"' in metrics


async def test_it_is_no_route_of_agents(rig: Rig) -> None:
    """What agents read does not name it."""
    page = (await rig.bed.bare("GET", "/openapi.json")).json
    assert [path for path in page["paths"] if path.startswith("/hooks")] == []
