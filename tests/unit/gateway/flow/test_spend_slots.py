"""An account's share of a vendor's connections: taken before the vendor is asked, given back when the answer is read."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.http.port import NotSent
from tests.unit.gateway.flow.spend_bed import LIMITS, Bed, Chunks, Hanging, always, opened, respond, shop


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A shop at which an account may have two calls under way."""
    async with opened(tmp_path) as running:
        for name in ("shop", "other"):
            running.vendors[name] = shop(name, limits=replace(LIMITS, calls_per_vendor=2))
        yield running


async def test_a_third_call_at_once_is_refused_and_asks_nobody(bed: Bed) -> None:
    """One account must not starve the others; another account, another vendor and a call afterwards are served."""
    bed.line.first = hanging = Hanging()
    calls = [asyncio.create_task(bed.run(f"/free/{n}", "GET")) for n in range(2)]
    await hanging.began.wait()
    assert (await bed.refused("/free/3", "GET")).code == "too_many_calls"
    bed.line.first = always(respond())
    assert (await bed.run("/free/3", "GET", account="acc_2")).status == 200
    assert (await bed.run("/free/3", "GET", vendor="other")).status == 200
    hanging.gate.set()
    await asyncio.gather(*calls)
    assert (await bed.run("/free/3", "GET")).status == 200
    assert "/free/3" not in hanging.arrived


async def test_an_answer_that_is_still_being_read_keeps_its_place(bed: Bed) -> None:
    """Read to its end, or given up, it makes room."""
    bed.line.first = always(respond(200, b"a", rest=Chunks([b"b", b"c"])))
    first, second = await bed.run("/maybe/1", "GET"), await bed.run("/maybe/2", "GET")
    assert (await bed.refused("/maybe/3", "GET")).code == "too_many_calls"
    assert first.rest is not None
    assert second.rest is not None
    assert [chunk async for chunk in first.rest] == [b"b", b"c"]
    assert (await bed.run("/maybe/3", "GET")).rest is not None
    await second.rest.close()
    await second.rest.close()
    assert (await bed.run("/maybe/4", "GET")).rest is not None
    assert (await bed.refused("/maybe/5", "GET")).code == "too_many_calls"


async def test_a_call_that_fails_gives_its_place_back(bed: Bed) -> None:
    """Unreachable, refused or cancelled: the place is free."""
    bed.line.first = always(NotSent("connect_failed", "scripted"))
    for _ in range(5):
        assert (await bed.refused("/free/x", "GET")).code == "vendor_unreachable"
    for _ in range(5):
        assert (await bed.refused("/servers/none", "GET")).code == "not_found"
    bed.line.first = hanging = Hanging()
    for _ in range(5):
        hanging.began.clear()
        call = asyncio.create_task(bed.run("/free/x", "GET"))
        await hanging.began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    bed.line.first = always(respond())
    assert (await bed.run("/free/x", "GET")).status == 200


async def test_what_attaches_takes_no_place(bed: Bed) -> None:
    """An answer that is in the store asks no vendor."""
    await bed.run("/priced/x")
    bed.line.first = hanging = Hanging()
    calls = [asyncio.create_task(bed.run(f"/free/{n}", "GET")) for n in range(2)]
    await hanging.began.wait()
    assert (await bed.run("/priced/x")).replayed
    hanging.gate.set()
    await asyncio.gather(*calls)
