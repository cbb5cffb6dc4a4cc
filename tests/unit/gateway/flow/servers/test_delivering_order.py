"""The order of deliveries, on real sockets: events about one record arrive as the journal has them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.server import Hook, HookDeliveryState, ServerState
from gateway.core.webhook import PAUSES_S
from gateway.flow.servers import telling
from tests.unit.gateway.flow.servers.telling_bed import DrivenClock, Receiver, TellingBed, receiving, telling_bed

STATES = (ServerState.PROVISIONING, ServerState.RUNNING, ServerState.STOPPED)
LIFE = ["server.ordered", "server.provisioning", "server.running", "server.stopped"]


@pytest.fixture
def clock() -> DrivenClock:
    """A clock that starts now."""
    return DrivenClock(time.time_ns() // 1_000_000)


@pytest.fixture
async def bed(tmp_path: Path, clock: DrivenClock) -> AsyncIterator[TellingBed]:
    """A process with an empty store."""
    async with telling_bed(tmp_path, clock) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint that takes everything."""
    async with receiving() as running:
        yield running


async def live(bed: TellingBed) -> str:
    """Let a server be ordered and move through its states; return its id."""
    server = await bed.server("ordered")
    for state in STATES:
        server = await bed.move(server, state)
    return server.id


async def states(bed: TellingBed, hook: Hook) -> list[HookDeliveryState]:
    """Return what became of an endpoint's deliveries, the oldest event first."""
    return [each.state for each in await bed.deliveries(hook)]


async def begin(bed: TellingBed) -> None:
    """Read the journal on and begin what may begin; leave it time to arrive."""
    await bed.telling.sweep()
    await bed.telling.deliver()
    await asyncio.sleep(0.05)
    await bed.telling.deliver()


async def test_an_endpoint_that_answers_slowly_hears_of_one_record_in_order(
    bed: TellingBed, receiver: Receiver
) -> None:
    """The next is not sent before the one before it was taken; another record's do not wait for it."""
    gate = receiver.gates["server.ordered"] = asyncio.Event()
    await bed.hook(receiver.url, "server.*")
    await live(bed)
    await begin(bed)
    assert receiver.types == ["server.ordered"]
    gate.set()
    await bed.attempt()
    assert receiver.types == LIFE
    assert receiver.most_at_once == 1


async def test_records_go_side_by_side(bed: TellingBed, receiver: Receiver) -> None:
    """As many as may be under way at one endpoint, each record's own in order."""
    receiver.gate.clear()
    await bed.hook(receiver.url, "server.*")
    for _ in range(3):
        await live(bed)
    await begin(bed)
    await receiver.until(3)
    assert receiver.types == ["server.ordered"] * 3
    receiver.gate.set()
    await bed.attempt()
    told: dict[str, list[str]] = {}
    for each in receiver.got:
        told.setdefault(json.loads(each.body)["data"]["server_id"], []).append(each.type)
    assert list(told.values()) == [LIFE] * 3


async def test_one_failure_changes_no_order(bed: TellingBed, receiver: Receiver) -> None:
    """An endpoint that is away for a moment: the event that it did not take comes again before what follows it."""
    receiver.answers["server.provisioning"] = [503]
    hook, _ = await bed.hook(receiver.url, "server.*")
    await live(bed)
    await bed.run()
    assert receiver.types == LIFE[:2]
    bed.clock.pass_s(1.1 * PAUSES_S[0])
    await bed.attempt()
    assert receiver.types == [*LIFE[:2], *LIFE[1:]]
    assert await states(bed, hook) == [HookDeliveryState.DELIVERED] * 4


async def test_event_that_is_not_taken_twice_holds_up_nothing_any_more(bed: TellingBed, receiver: Receiver) -> None:
    """What follows it comes within seconds, and it comes again when its time has come."""
    receiver.answers["server.ordered"] = [500, 500]
    hook, _ = await bed.hook(receiver.url, "server.*")
    await live(bed)
    await bed.run()
    for _ in range(3):
        bed.clock.pass_s(1.1 * PAUSES_S[0])
        await bed.attempt()
    assert receiver.types == ["server.ordered", *LIFE]
    done = HookDeliveryState.DELIVERED
    assert await states(bed, hook) == [HookDeliveryState.PENDING, done, done, done]
    bed.clock.pass_s(1.1 * PAUSES_S[1])
    await bed.attempt()
    assert receiver.types[5:] == ["server.ordered"]
    assert await states(bed, hook) == [done] * 4


async def test_order_holds_after_a_restart(tmp_path: Path, clock: DrivenClock, receiver: Receiver) -> None:
    """P12: what was under way when the process ended is sent again before what follows it, and one at a time."""
    gate = receiver.gates["server.ordered"] = asyncio.Event()
    async with telling_bed(tmp_path, clock) as before:
        await before.hook(receiver.url, "server.*")
        await live(before)
        await begin(before)
        assert receiver.types == ["server.ordered"]
        before.telling._outbox._closing = True  # the process ends here: nothing more begins
        for task in before.telling._outbox._tasks:
            task.cancel()
    async with telling_bed(tmp_path, clock) as after:
        await begin(after)
        assert receiver.types == ["server.ordered"] * 2
        gate.set()
        await after.attempt()
    assert receiver.types == ["server.ordered", *LIFE]


async def test_event_that_is_sent_again_goes_before_what_follows_it(bed: TellingBed, receiver: Receiver) -> None:
    """A replay stands in its record's line as any other delivery."""
    hook, _ = await bed.hook(receiver.url, "server.*")
    server = await bed.server("ordered")
    await bed.run()
    gate = receiver.gates["server.ordered"] = asyncio.Event()
    (taken,) = await bed.deliveries(hook)
    await bed.telling.replay("acc_1", hook.id, taken.event_seq)
    await bed.move(server, ServerState.RUNNING)
    await begin(bed)
    assert receiver.types == ["server.ordered"] * 2
    gate.set()
    await bed.attempt()
    assert receiver.types == ["server.ordered", "server.ordered", "server.running"]


async def test_waiting_in_lines_does_not_hide_that_too_much_waits(
    bed: TellingBed, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an endpoint has not taken is counted once, wherever it waits."""
    monkeypatch.setattr(telling, "PENDING_MAX", 4)
    receiver.gate.clear()
    hook, _ = await bed.hook(receiver.url, "server.*")
    server_id = await live(bed)
    await begin(bed)
    assert not bed.telling.hooks.one("acc_1", hook.id).disabled_reason
    assert receiver.types == ["server.ordered"]
    await bed.server("ordered")
    await begin(bed)
    assert bed.telling.hooks.one("acc_1", hook.id).disabled_reason == telling.PENDING_REASON
    assert server_id in receiver.got[0].body
    receiver.gate.set()
    await bed.attempt()
    given_up, done = HookDeliveryState.GIVEN_UP, HookDeliveryState.DELIVERED
    assert await states(bed, hook) == [done, *[given_up] * 4]
    assert not bed.store.view.deliveries
