"""`/v1/events`: pages and streams of what happened, to its account only, without gap or repeat."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.api import events as events_api
from gateway.api.deps import ApiSettings
from gateway.api.endpoint import Told
from gateway.core.apikeys import key_id_of
from gateway.core.commands import RevokeKey
from gateway.core.problems import Problem
from gateway.core.server import ServerState
from gateway.flow.servers import listening, telling
from gateway.flow.servers.hooks import HookSettings
from gateway.system import SystemClock
from tests.unit.gateway.api.bed import Bed, opened
from tests.unit.gateway.api.events_bed import EventsBed, Stream, events_on, stream
from tests.unit.gateway.api.shape import check


@pytest.fixture
async def on(bed: Bed) -> AsyncIterator[EventsBed]:
    """Events and webhooks on the bed."""
    async with events_on(bed) as running:
        yield running


async def test_pages_hold_the_accounts_events_in_order(on: EventsBed) -> None:
    """Oldest first, without gap or repeat, and none of another account's (P9)."""
    for n in range(5):
        await on.server("ordered", "acc_2" if n % 2 else "acc_1")
    seen, path = [], "/v1/events?limit=2"
    while path:
        got = (await on.bed.ask("GET", path)).json
        check(got, events_api.ENDPOINTS[0].answer)
        seen += got["entries"]
        path = got["next"] and f"/v1/events?limit=2&after={got['next']}"
    assert [each["type"] for each in seen] == ["balance.credited", "key.added", *["server.ordered"] * 3]
    ids = [int(each["data"]["id"].removeprefix("evt_")) for each in seen]
    assert ids == sorted(set(ids))
    assert "acc_2" not in str(seen)


async def test_types_choose_events(on: EventsBed) -> None:
    """By type and by family; a page that has none of them still leads on."""
    await on.move(await on.server(), ServerState.RUNNING)
    got = (await on.bed.ask("GET", "/v1/events?types=server.running,balance.*")).json
    assert [each["type"] for each in got["entries"]] == ["balance.credited", "server.running"]
    first = (await on.bed.ask("GET", "/v1/events?types=server.*&limit=1")).json
    assert (first["entries"], first["next"]) == ([], "evt_2")


async def test_list_goes_on_from_any_event(on: EventsBed) -> None:
    """What an agent read last is where it goes on, also when it was told that there is no more yet."""
    await on.server()
    before = (await on.bed.ask("GET", "/v1/events")).json
    assert before["next"] is None
    await on.server("provisioning")
    after = (await on.bed.ask("GET", f"/v1/events?after={before['entries'][-1]['data']['id']}")).json
    assert [each["type"] for each in after["entries"]] == ["server.provisioning"]


@pytest.mark.parametrize(
    "query",
    [
        "after=5",
        "after=evt_x",
        "after=evt_-1",
        "types=",
        "types=server",
        "types=task.opened",
        "limit=0",
        "other=1",
        "types=" + ",".join(["*"] * 33),
    ],
)
async def test_malformed_questions_are_refused(on: EventsBed, query: str) -> None:
    """For pages and for streams alike."""
    for headers in ({}, {"Accept": "text/event-stream"}):
        got = await on.bed.ask("GET", f"/v1/events?{query}", headers=headers)
        assert (got.status, got.code) == (400, "bad_request")


async def test_reading_events_takes_the_scope_read(on: EventsBed) -> None:
    """A key that may only spend hears nothing."""
    key = await on.bed.new_key("proxy")
    assert (await on.bed.ask("GET", "/v1/events", key)).code == "scope_missing"


async def test_stream_tells_events_as_they_happen(on: EventsBed) -> None:
    """From now on, in order, with the headers that every answer has; nothing of another account (P9)."""
    await on.server()
    async with stream(on.bed) as mine, stream(on.bed, key=on.keys["acc_2"]) as others:
        assert mine.response.headers["Content-Type"] == "text/event-stream"
        assert mine.response.headers["Cache-Control"] == "no-store"
        assert mine.response.headers["X-Balance-Available"] == "10.000000"
        assert "X-Request-Id" in mine.response.headers
        server = await on.move(await on.server(), ServerState.PROVISIONING)
        await on.server("ordered", "acc_2")
        await on.move(server, ServerState.RUNNING)
        assert await mine.types(3) == ["server.ordered", "server.provisioning", "server.running"]
        assert mine.retry == "2000"
        assert await others.types(1) == ["server.ordered"]
        with pytest.raises(TimeoutError):
            await others.next(0.2)


async def test_stream_resumes_after_the_last_event(on: EventsBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last-Event-ID wins over `after`; what was missed comes first, then what happens, each once."""
    monkeypatch.setattr(events_api, "PAGE_EVENTS", 2)
    async with stream(on.bed, "/v1/events?types=server.*") as first:
        await on.server()
        await first.next()
    for _ in range(5):
        await on.server("provisioning")
    async with stream(on.bed, "/v1/events?types=server.*&after=evt_1", Last_Event_ID=first.last_id) as again:
        await on.server("running")
        assert await again.types(6) == [*["server.provisioning"] * 5, "server.running"]
    async with stream(on.bed, "/v1/events?after=evt_1&types=server.*") as whole:
        assert await whole.types(7) == ["server.ordered", *["server.provisioning"] * 5, "server.running"]


async def test_streams_that_begin_while_events_happen_miss_nothing(on: EventsBed) -> None:
    """The seam between what was and what comes is neither a gap nor a repeat."""
    await on.server()

    async def happen() -> None:
        for _ in range(30):
            await on.server("provisioning")

    async def read(client: Stream) -> list[str]:
        return [(await client.next())["data"]["server_id"] for _ in range(31)]

    writing = asyncio.create_task(happen())
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(4):
            clients.append(await stack.enter_async_context(stream(on.bed, "/v1/events?types=server.*&after=evt_0")))
            await asyncio.sleep(0.01)
        told = await asyncio.gather(*(read(client) for client in clients))
    await writing
    for ids in told:
        assert ids == [f"srv_{n:04}" for n in range(1, 32)]


async def test_stream_shows_that_it_lives(on: EventsBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment comes while nothing happens, so that no proxy closes it."""
    monkeypatch.setattr(events_api, "HEARTBEAT_S", 0.05)
    async with stream(on.bed) as quiet:
        with pytest.raises(TimeoutError):
            await quiet.next(1.0)
        assert len(quiet.comments) >= 2


async def test_revoked_key_ends_its_streams(on: EventsBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next event or heartbeat."""
    monkeypatch.setattr(events_api, "HEARTBEAT_S", 0.05)
    key = await on.bed.new_key("read")
    async with stream(on.bed, "/v1/events?types=server.*", key) as cut:
        await on.bed.store.post(RevokeKey(str(key_id_of(key)), "acc_1", SystemClock().now_ms()))
        with pytest.raises(EOFError):
            await cut.next()


async def test_streams_of_an_account_are_bounded(bed: Bed) -> None:
    """One more is refused before it begins; one that ends leaves room, however it ends."""
    async with events_on(bed, HookSettings(streams_per_account=2)) as on:
        async with stream(bed), stream(bed):
            got = await bed.ask("GET", "/v1/events", headers={"Accept": "text/event-stream"})
            assert (got.status, got.code) == (429, "too_many_calls")
            async with stream(bed, key=on.keys["acc_2"]):
                pass
        for _ in range(600):  # that a reader has hung up is noticed although there is nothing to write to it
            if not on.telling.listening.anybody:
                break
            await asyncio.sleep(0.05)
        assert not on.telling.listening.anybody
        async with stream(bed), stream(bed):
            pass


async def test_head_opens_no_stream(on: EventsBed) -> None:
    """It is answered with the stream's headers, and holds nothing."""
    got = await on.bed.ask("HEAD", "/v1/events", headers={"Accept": "text/event-stream"})
    assert (got.status, got.headers["Content-Type"], got.body) == (200, "text/event-stream", b"")
    assert not on.telling.listening.anybody


async def test_slow_reader_is_dropped_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by a queue and a socket's buffer; the reader goes on from its last event."""
    usual, count = listening.QUEUE_MAX, 200
    monkeypatch.setattr(listening, "QUEUE_MAX", 4)
    async with opened(tmp_path) as bed, events_on(bed, api_settings=ApiSettings(flush_s=0.3)) as on:
        host, _, port = bed.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(
            f"GET /v1/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: {bed.key}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        first = await on.server("running", said="x" * 900)
        for _ in range(count - 1):
            await on.server("running", said="x" * 900)
        for _ in range(200):
            if not on.telling.listening.anybody:
                break
            await asyncio.sleep(0.05)
        assert not on.telling.listening.anybody
        writer.close()
        monkeypatch.setattr(
            listening, "QUEUE_MAX", usual
        )  # what is still being read may come in larger pieces than four
        async with stream(bed, "/v1/events?types=server.*&after=evt_0") as again:
            told = [(await again.next())["data"]["server_id"] for _ in range(count)]
        assert told[0] == first.id
        assert len(set(told)) == count


async def test_stopping_ends_streams(on: EventsBed) -> None:
    """A gateway that is about to stop waits for no reader: the stream ends well, and can be resumed elsewhere."""
    async with stream(on.bed, "/v1/events?types=server.*") as open_one:
        await on.server()
        await open_one.next()
        on.api.refuse_new()
        with pytest.raises(EOFError):
            await open_one.next()
    assert not on.telling.listening.anybody


async def test_answer_that_breaks_off_is_no_whole_answer(on: EventsBed) -> None:
    """Where the pieces of a stream end in a problem, the connection is cut, so that nobody takes it for the end."""
    closed = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b": begun\n\n"
            raise Problem("internal", "it broke")
        finally:
            closed.append(True)

    async def handler(*_: object) -> Told:
        return Told(pieces(), media_type="text/event-stream")

    endpoint = on.api.api.table.find("/v1/events")
    assert endpoint is not None
    object.__setattr__(endpoint.by_method["GET"], "handler", handler)
    try:
        raw = await on.bed.get_raw("/v1/events")
    finally:
        object.__setattr__(endpoint.by_method["GET"], "handler", events_api.events)
    assert b": begun" in raw
    assert not raw.endswith(b"0\r\n\r\n")
    assert closed == [True]


def test_sizes_fit_each_other() -> None:
    """A page of what was missed may be longer than the queue; the queue is longer than a loop's turn can fill."""
    assert listening.QUEUE_MAX >= telling.PAGE_EVENTS
    assert all(a < b for a, b in itertools.pairwise([telling.PAGE_EVENTS, telling.WINDOW_ROWS, telling.LAG_ROWS]))
