"""The order of deliveries, on real sockets: events about one record arrive as the journal has them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.server import HookDelivery, HookDeliveryState, ServerState
from tests.unit.gateway.flow.servers.telling_bed import (
    DrivenClock,
    Receiver,
    TellingBed,
    receiving,
    telling_bed,
)

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


async def begin(bed: TellingBed) -> None:
    """Read the journal on and begin what may begin; leave it time to arrive."""
    await bed.telling.sweep()
    await bed.telling.deliver()
    await asyncio.sleep(0.05)
    await bed.telling.deliver()


async def test_an_endpoint_that_answers_slowly_hears_of_one_record_in_order(bed: TellingBed, receiver: Receiver) -> None:
    """The next is not sent before the one before it was taken; another record's do not wait for it."""
    gate = receiver.gates["server.ordered"] = asyncio.Event()
    await bed.hook(receiver.url, "server.*")
    await live(bed)
    await bed.put(await bed.server("made"), "renewed") if False else None
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
        told.setdefault(each.data["server_id"], []).append(each.type)
    assert list(told.values()) == [LIFE] * 3
