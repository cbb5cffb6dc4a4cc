"""Repeats under one Idempotency-Key that come while the first is under way: what changes something happens once.

And whoever waits for that waits alone: nothing is begun for those who have gone, nor while the server stops, and nobody
fills the line.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.api.turns import WAITING_PER_ACCOUNT, WAITING_PER_KEY, Turns
from gateway.core.problems import Problem
from tests.unit.gateway.api.bed import Bed, Got, opened

KEYED = {"Idempotency-Key": "one"}
MAKE = "/proxy/shop/free/make"
PATIENCE_S = 40.0


def _make(bed: Bed, key: str = "one", body: bytes = b"x") -> asyncio.Task[Got]:
    return asyncio.create_task(bed.ask("POST", MAKE, data=body, headers={"Idempotency-Key": key}))


def _waiting(bed: Bed) -> int:
    """How many stand in line in the gateway."""
    return bed.server.api.proxy._turns._waiting.total()


async def _until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not said():  # noqa: ASYNC110 - neither the line nor the shop tells how many are there
            await asyncio.sleep(0.01)


async def _until_waiting(bed: Bed, number: int) -> None:
    await _until(lambda: _waiting(bed) == number)


async def _until_seen(bed: Bed, number: int) -> None:
    """Wait until the vendor has had so many requests."""
    await _until(lambda: len(bed.shop.seen) == number)


async def _in_line(bed: Bed, number: int, key: str = "one") -> list[asyncio.Task[Got]]:
    """Send repeats, one after another; return once they wait for their turn."""
    asked = []
    for _ in range(number):
        before = _waiting(bed)
        asked.append(_make(bed, key))
        await _until_waiting(bed, before + 1)
    return asked


async def _raw(bed: Bed, path: str, key: str) -> asyncio.StreamWriter:
    """Send a request whose agent can hang up; no client repeats it."""
    host, _, port = bed.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {bed.key}\r\nIdempotency-Key: {key}\r\nContent-Length: 1\r\n"
    writer.write(f"{head}\r\nx".encode())
    return writer


async def test_repeats_at_once_under_a_key_are_one_request(bed: Bed) -> None:
    """A change that costs nothing happens once, also where it is asked for again before its answer is there."""
    bed.shop.held = True
    asked = [asyncio.create_task(bed.ask("POST", MAKE, data=b"x", headers=KEYED)) for _ in range(3)]
    await bed.shop.asked.wait()
    other = await bed.ask("POST", MAKE, data=b"y", headers=KEYED)
    assert (other.status, other.code) == (409, "idempotency_conflict")
    bed.shop.gate.set()
    answers = await asyncio.gather(*asked)
    assert [got.body for got in answers] == [b"x"] * 3
    assert sorted("Idempotent-Replayed" in got.headers for got in answers) == [False, True, True]
    assert len(bed.shop.seen) == 1


async def test_repeat_after_a_hang_up_waits_for_the_first(bed: Bed) -> None:
    """Whoever gives up waiting and asks again gets the answer of what is still being done, not a second deed."""
    bed.shop.held = True
    first = asyncio.create_task(bed.ask("POST", MAKE, data=b"x", headers=KEYED))
    await bed.shop.asked.wait()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    again = asyncio.create_task(bed.ask("POST", MAKE, data=b"x", headers=KEYED))
    await asyncio.sleep(0.1)
    bed.shop.gate.set()
    assert (await again).headers["Idempotent-Replayed"] == "true"
    assert len(bed.shop.seen) == 1


async def test_a_failed_first_leaves_its_key_to_the_repeat(bed: Bed) -> None:
    """What was refused was not done, so whoever waited behind it asks anew."""
    bed.shop.held, bed.shop.status = True, 500
    asked = [asyncio.create_task(bed.ask("POST", MAKE, data=b"x", headers=KEYED)) for _ in range(2)]
    await bed.shop.asked.wait()
    bed.shop.gate.set()
    assert [got.status for got in await asyncio.gather(*asked)] == [500, 500]
    assert len(bed.shop.seen) == 2
    other = await bed.ask("POST", MAKE, data=b"y", headers=KEYED)
    assert (other.status, other.body) == (500, b"y")


async def test_who_hung_up_in_line_asks_nobody(bed: Bed) -> None:
    """Repeats whose agents have gone leave the line, and at the latest their turn begins nothing; the next has it then."""
    bed.shop.held, bed.shop.status = True, 500
    first = _make(bed)
    await bed.shop.asked.wait()
    gone = []
    for number in range(5):
        gone.append(await _raw(bed, MAKE, "one"))
        await _until_waiting(bed, number + 1)
    [last] = await _in_line(bed, 1)
    for writer in gone[:4]:
        writer.transport.abort()
    await _until_waiting(bed, 2)  # while the vendor still works
    gone[4].transport.abort()
    await asyncio.sleep(0.05)
    bed.shop.gate.set()
    assert [(await first).status, (await last).status] == [500, 500]
    assert len(bed.shop.seen) == 2
    assert not bed.server.api.proxy._turns._lines


async def test_a_hang_up_in_line_is_logged_as_one(tmp_path: Path) -> None:
    """Nobody reads an answer to it; the log tells it from what was served and from what failed."""
    lines: list[Mapping[str, object]] = []
    async with opened(tmp_path, request_log=lines.append) as bed:
        bed.key = await bed.new_key("proxy")
        bed.shop.held = True
        first = _make(bed)
        await bed.shop.asked.wait()
        gone = await _raw(bed, MAKE, "one")
        await _until_waiting(bed, 1)
        gone.transport.abort()
        await _until(lambda: bool(lines))
        assert (lines[0]["status"], lines[0]["cut"], lines[0]["vendor"]) == (499, True, "shop")
        bed.shop.gate.set()
        assert (await first).status == 200
    assert [line["status"] for line in lines] == [499, 200]


@pytest.mark.parametrize("pricing", ["free/make", "maybe/slow"])
async def test_one_whose_agent_has_gone_keeps_its_turn_to_its_end(bed: Bed, pricing: str) -> None:
    """What has begun goes on for nobody, and its key is taken as long: who repeats it gets its answer."""
    path = f"/proxy/shop/{pricing}"
    bed.shop.held = True
    writer = await _raw(bed, path, "one")
    await (bed.shop.paid if "maybe" in path else bed.shop.asked).wait()
    writer.transport.abort()
    again = asyncio.create_task(bed.ask("POST", path, data=b"x", headers=KEYED))
    await _until_waiting(bed, 1)
    assert not again.done()
    seen = len(bed.shop.seen)
    bed.shop.gate.set()
    got = await again
    assert (got.status, got.headers["Idempotent-Replayed"]) == (200, "true")
    assert len(bed.shop.seen) == seen
    held = (await bed.ask("GET", "/v1/balance")).json["held"]
    assert (bed.shop.sold, held) == ((1, "0.250000") if "maybe" in path else (0, "0.000000"))


async def test_a_server_that_stops_begins_nothing_for_those_in_line(bed: Bed) -> None:
    """They are refused as new requests are, also while the first still works; that one ends as if nothing were."""
    bed.shop.held, bed.shop.status = True, 500
    first = _make(bed)
    await bed.shop.asked.wait()
    waited = await _in_line(bed, 3)
    bed.server.refuse_new()
    draining = asyncio.create_task(bed.server.drain(PATIENCE_S))
    async with asyncio.timeout(PATIENCE_S):
        early = await asyncio.gather(*waited)
    assert [(got.status, got.code) for got in early] == [(503, "shutting_down")] * 3
    assert all(got.headers["Retry-After"] == "1" for got in early)
    assert not draining.done()
    bed.shop.gate.set()
    await draining
    assert (await first).status == 500
    assert len(bed.shop.seen) == 1


async def test_a_turn_that_comes_while_the_server_stops_is_not_taken(bed: Bed) -> None:
    """The first may end before anybody behind it has noticed that the server stops."""
    bed.shop.held, bed.shop.status = True, 500
    first = _make(bed)
    await bed.shop.asked.wait()
    waited = await _in_line(bed, 2)
    bed.server.refuse_new()
    bed.shop.gate.set()
    await bed.server.drain(PATIENCE_S)
    assert [got.code for got in await asyncio.gather(*waited)] == ["shutting_down"] * 2
    assert (await first).status == 500
    assert len(bed.shop.seen) == 1


async def test_a_line_is_short(bed: Bed) -> None:
    """Who would stand behind too many is told to wait outside; those in line are served all the same."""
    bed.shop.held = True
    first = _make(bed)
    await bed.shop.asked.wait()
    waited = await _in_line(bed, WAITING_PER_KEY)
    over = await _make(bed)
    assert (over.status, over.code, over.headers["Retry-After"]) == (429, "too_many_calls", "1")
    bed.shop.gate.set()
    answers = await asyncio.gather(first, *waited)
    assert Counter("Idempotent-Replayed" in got.headers for got in answers) == {False: 1, True: WAITING_PER_KEY}
    assert len(bed.shop.seen) == 1


async def test_an_account_waits_in_so_many_places(bed: Bed) -> None:
    """All lines of an account together have a bound, whatever its keys are; another account's have their own."""
    lines = WAITING_PER_ACCOUNT // WAITING_PER_KEY
    bed.shop.held = True
    begun = []
    for number in range(lines + 1):
        begun.append(_make(bed, f"k{number}"))
        await _until_seen(bed, number + 1)
    waited = [asked for number in range(lines) for asked in await _in_line(bed, WAITING_PER_KEY, f"k{number}")]
    over = await _make(bed, f"k{lines}")
    assert (over.status, over.code, over.headers["Retry-After"]) == (429, "too_many_calls", "1")
    fresh = _make(bed, "fresh")  # waits for nobody
    await _until_seen(bed, lines + 2)
    other = await bed.new_key("proxy", account_id="acc_2")
    theirs = [asyncio.create_task(bed.ask("POST", MAKE, other, data=b"x", headers=KEYED)) for _ in range(2)]
    await _until_waiting(bed, WAITING_PER_ACCOUNT + 1)
    bed.shop.gate.set()
    answers = await asyncio.gather(*begun, *waited, fresh, *theirs)
    assert {got.status for got in answers} == {200}
    assert len(bed.shop.seen) == lines + 3
    assert not _waiting(bed)


async def test_waiting_takes_no_slot_of_the_vendors(bed: Bed) -> None:
    """Those in line are no calls to the vendor: an account's share of these is what it was."""
    vendor = bed.server.api.deps.vendors["shop"]
    limits = dataclasses.replace(vendor.terms.limits, calls_per_vendor=2)
    vendor.terms = dataclasses.replace(vendor.terms, limits=limits)
    bed.shop.held = True
    first = _make(bed)
    await bed.shop.asked.wait()
    waited = await _in_line(bed, 4)
    second = _make(bed, "two")
    await _until_seen(bed, 2)
    assert (await _make(bed, "three")).code == "too_many_calls"
    bed.shop.gate.set()
    assert {got.status for got in await asyncio.gather(first, second, *waited)} == {200}
    assert len(bed.shop.seen) == 2


async def test_priced_calls_stand_in_no_line(bed: Bed) -> None:
    """Purchases under one key meet in the book: more than a line would hold are one purchase, and none is turned away."""
    asked = (bed.ask("POST", "/proxy/shop/priced", data=b"x", headers=KEYED) for _ in range(3 * WAITING_PER_KEY))
    answers = await asyncio.gather(*asked)
    assert {got.status for got in answers} == {200}
    assert len({got.headers["X-Payment-Id"] for got in answers}) == 1
    assert bed.shop.sold == 1
    assert (await bed.ask("GET", "/v1/balance")).json["held"] == "0.250000"


async def test_priced_repeats_after_hang_ups_are_one_purchase(bed: Bed) -> None:
    """Agents that gave up and repeated, each before an answer was there, have bought once, at once and not later."""
    for _ in range(5):
        writer = await _raw(bed, "/proxy/shop/priced", "one")
        await asyncio.sleep(0.01)
        writer.transport.abort()
    again = await bed.ask("POST", "/proxy/shop/priced", data=b"x", headers=KEYED)
    assert again.status == 200
    await bed.server.drain(PATIENCE_S)
    assert bed.shop.sold == 1
    assert (await bed.ask("GET", "/v1/balance")).json["held"] == "0.250000"


@pytest.mark.parametrize("path", ["/proxy/shop/free/make", "/proxy/shop/maybe/slow"])
async def test_a_place_in_line_outlives_no_cancelled_handler(bed: Bed, path: str) -> None:
    """A server that has no more time cancels its handlers: who waited has left, and nothing is begun for them."""
    bed.shop.held = True
    first = asyncio.create_task(bed.ask("POST", path, data=b"x", headers=KEYED))
    await (bed.shop.paid if "maybe" in path else bed.shop.asked).wait()
    before = set(bed.server.connections)
    waiting = await _raw(bed, path, "one")
    await _until_waiting(bed, 1)
    for connection in set(bed.server.connections) - before:
        assert connection._task_handler is not None
        connection._task_handler.cancel()
    await _until_waiting(bed, 0)
    seen = len(bed.shop.seen)
    bed.shop.gate.set()
    assert (await first).status == 200
    assert len(bed.shop.seen) == seen
    waiting.close()


def test_the_page_names_the_bounds() -> None:
    """An agent learns from docs/api.md how many of its repeats may wait."""
    page = (Path(__file__).parents[4] / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"{WAITING_PER_KEY} wait under one key, {WAITING_PER_ACCOUNT} of one account" in page


async def test_lines_forget_whoever_left() -> None:
    """In whatever order places are given up, the first of those left has the turn, and nothing stays behind."""
    turns = Turns()
    first, second, third = (turns.join("acc", "k", b"f") for _ in range(3))
    assert [place.turn.done() for place in (first, second, third)] == [True, False, False]
    turns.leave(second)
    assert not third.turn.done()
    turns.leave(first)
    assert third.turn.done()
    with pytest.raises(Problem, match="Idempotency-Key") as refused:
        turns.join("acc", "k", b"g")
    assert refused.value.code == "idempotency_conflict"
    assert turns.join("other", "k", b"g").turn.done()
    turns.leave(third)
    assert turns.join("acc", "k", b"g").turn.done()
    assert not turns._waiting
