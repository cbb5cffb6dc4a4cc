"""Repeats under one Idempotency-Key that come while the first is under way: what changes something happens once."""

import asyncio
import contextlib

from tests.unit.gateway.api.bed import Bed

KEYED = {"Idempotency-Key": "one"}


async def test_repeats_at_once_under_a_key_are_one_request(bed: Bed) -> None:
    """A change that costs nothing happens once, also where it is asked for again before its answer is there."""
    bed.shop.held = True
    asked = [asyncio.create_task(bed.ask("POST", "/proxy/shop/free/make", data=b"x", headers=KEYED)) for _ in range(3)]
    await bed.shop.asked.wait()
    other = await bed.ask("POST", "/proxy/shop/free/make", data=b"y", headers=KEYED)
    assert (other.status, other.code) == (409, "idempotency_conflict")
    bed.shop.gate.set()
    answers = await asyncio.gather(*asked)
    assert [got.body for got in answers] == [b"x"] * 3
    assert sorted("Idempotent-Replayed" in got.headers for got in answers) == [False, True, True]
    assert len(bed.shop.seen) == 1


async def test_repeat_after_a_hang_up_waits_for_the_first(bed: Bed) -> None:
    """Whoever gives up waiting and asks again gets the answer of what is still being done, not a second deed."""
    bed.shop.held = True
    first = asyncio.create_task(bed.ask("POST", "/proxy/shop/free/make", data=b"x", headers=KEYED))
    await bed.shop.asked.wait()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    again = asyncio.create_task(bed.ask("POST", "/proxy/shop/free/make", data=b"x", headers=KEYED))
    await asyncio.sleep(0.1)
    bed.shop.gate.set()
    assert (await again).headers["Idempotent-Replayed"] == "true"
    assert len(bed.shop.seen) == 1


async def test_a_failed_first_leaves_its_key_to_the_repeat(bed: Bed) -> None:
    """What was refused was not done, so whoever waited behind it asks anew."""
    bed.shop.held, bed.shop.status = True, 500
    asked = [asyncio.create_task(bed.ask("POST", "/proxy/shop/free/make", data=b"x", headers=KEYED)) for _ in range(2)]
    await bed.shop.asked.wait()
    bed.shop.gate.set()
    assert [got.status for got in await asyncio.gather(*asked)] == [500, 500]
    assert len(bed.shop.seen) == 2
    other = await bed.ask("POST", "/proxy/shop/free/make", data=b"y", headers=KEYED)
    assert (other.status, other.body) == (500, b"y")
