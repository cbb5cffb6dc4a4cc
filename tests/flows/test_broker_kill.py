"""P12: the gateway ends at every single step of a server's life, and the next start neither loses nor doubles anything."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.flows.broker_bed import (
    ABSENT_S,
    ALL,
    CREDIT_BASE,
    Bed,
    Crash,
    Vendors,
    opened,
    ref_in,
    restarted,
    server_path,
)

POINTS_MIN = 12
POINTS_MAX = 80


async def find_what_was_lost(bed: Bed, kind: str) -> None:
    """Look twice, far enough apart."""
    await bed.sweep(kind)
    await bed.later(kind, ABSENT_S + 1)
    await bed.later(kind, 61)


async def live(bed: Bed, kind: str, told: dict[str, Any]) -> None:
    """An agent's day: create until there is an answer, use, destroy until there is an answer. `told` is what it knows."""
    while "ref" not in told:
        got = await bed.create(kind)
        if got.status in (201, 202):
            told["ref"] = ref_in(kind, got.json)
        else:
            assert got.problem == "outcome_unknown"
            await find_what_was_lost(bed, kind)
    await bed.settled()
    await bed.later(kind, 70)
    assert (await bed.ask("GET", server_path(kind, told["ref"]))).status == 200 or "asked_to_end" in told
    while "ended" not in told:
        told["asked_to_end"] = True
        got = await bed.ask("DELETE", server_path(kind, told["ref"]))
        if got.status in (202, 204, 404, 409):
            told["ended"] = True
    await bed.settled()
    for seconds in (10, 60, ABSENT_S + 1, 61):
        await bed.later(kind, seconds)


async def live_until_crash(bed: Bed, kind: str, told: dict[str, Any]) -> bool:
    """Live; return whether the process ended in between."""
    bed.crash.armed = True
    living = asyncio.create_task(live(bed, kind, told))
    dying = asyncio.create_task(bed.crash.dead.wait())
    await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED, timeout=300)
    ended = bed.crash.dead.is_set()
    if not ended:
        await living
    for task in (living, dying):
        task.cancel()
    await asyncio.gather(living, dying, return_exceptions=True)
    return ended


@pytest.mark.parametrize("kind", ALL)
async def test_crash_at_every_step_of_a_servers_life(tmp_path: Path, account_vendors: Vendors, kind: str) -> None:
    """Whatever step the process ends at: one server was ever made, it is gone, every hold has ended, the books add up."""
    for at in range(1, POINTS_MAX):
        home, told = tmp_path / str(at), dict[str, Any]()
        home.mkdir()
        async with opened(home, account_vendors, crash=Crash(at)) as bed:
            crashed = await live_until_crash(bed, kind, told)
        step = bed.crash.steps[-1]
        async with restarted(bed) as after:
            if crashed:
                await live(after, kind, told)
            assert len(after.servers(kind, gone=True)) == 1, (at, step)
            assert after.servers(kind) == [], (at, step)
            assert (after.meters, after.open) == ([], []), (at, step)
            available, held = after.balance()
            assert held == 0, (at, step)
            captured = sum(round(float(p["captured"]) * 1e6) for p in await after.payments())
            assert 0 < captured == CREDIT_BASE - available, (at, step)
            await after.sound()
        if not crashed:
            assert at > POINTS_MIN
            return
    pytest.fail("the story never came to its end")
