"""Looks at servers: who is looked at when, that one look serves all, and what is taken over from it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.problems import Problem
from gateway.core.server import Server, ServerState
from gateway.flow.servers.seeing import CALM_LOOK_S, END_LOOK_S, LOST_AFTER_S, SETTLED, WAITS_PER_ACCOUNT
from gateway.http.port import SentUnknown
from tests.unit.gateway.flow.order_desk import Desk, desk_on, desk_opened, told
from tests.unit.gateway.flow.spend_bed import respond

S = ServerState
GONE = respond(404, b"{}")
LOST = SentUnknown("connection_lost", "scripted")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Two shops, and USD 100."""
    async with desk_opened(tmp_path) as running:
        yield running


async def server(desk: Desk, state: str = "provisioning", ref: str = "box-1", **said: object) -> Server:
    """Order a server which is answered with this."""
    desk.answers("shop", told(server=ref, state=state, **said))
    desk.shows(ref, told(server=ref, state=state, **said))
    return await desk.order(f"token of {ref}")


async def sweep(desk: Desk, seconds: float = 0.0) -> int:
    """Let time pass, let the loop turn once, and return how many requests looked."""
    desk.bed.clock.ms += round(seconds * 1000)
    before = len(desk.told.looks)
    await desk.seeing.sweep()
    await desk.seeing.drain(5.0)
    return len(desk.told.looks) - before


async def test_a_server_is_looked_at_until_it_runs(desk: Desk) -> None:
    """At the vendor's pauses: two seconds, four, eight; then it runs, with the address that the look showed."""
    made = await server(desk)
    assert [await sweep(desk, seconds) for seconds in (0, 2, 2, 2, 4, 4)] == [0, 1, 0, 1, 0, 1]
    desk.shows("box-1", told(server="box-1", state="running", address="192.0.2.1"))
    await sweep(desk, 16)
    now = await desk.now(made)
    assert (now.state, now.address) == (S.RUNNING, "192.0.2.1")
    assert now.ready_at_ms == desk.bed.clock.ms
    assert await desk.events(made) == ["ordered", "provisioning", "running"]


async def test_what_stays_as_it_is_is_hardly_looked_at(desk: Desk) -> None:
    """A running server that nobody waits for: once in a quarter of an hour, and no rows for what has not changed."""
    made = await server(desk, "running", address="192.0.2.1")
    await sweep(desk)
    looks = [await sweep(desk, 60) for _ in range(60)]
    assert 3 <= sum(looks) <= 5
    assert (await desk.now(made)).version == 2
    assert desk.seeing.as_of_ms(await desk.now(made)) > made.as_of_ms
    assert CALM_LOOK_S == 900


async def test_the_end_of_its_paid_time_is_watched(desk: Desk) -> None:
    """Around its end a server is looked at every minute, and its lapse is told with why."""
    ends_ms = desk.bed.clock.ms + 3_600_000
    made = await server(desk, "running", address="192.0.2.1", expires_at_ms=ends_ms)
    await sweep(desk)
    desk.bed.clock.ms = ends_ms - 100_000
    assert sum([await sweep(desk, END_LOOK_S) for _ in range(3)]) >= 2
    desk.shows("box-1", GONE)
    await sweep(desk, END_LOOK_S)
    now = await desk.now(made)
    assert (now.state, now.reason) == (S.LAPSED, "its paid time is over")


async def test_one_look_serves_everybody(desk: Desk) -> None:
    """Ten who ask at once are answered by one request."""
    made = await server(desk)
    desk.shows("box-1", told(server="box-1", state="running", address="192.0.2.1"))
    seen = await asyncio.gather(*(desk.seeing.look(made.id) for _ in range(10)))
    assert {each.state for each in seen} == {S.RUNNING}
    assert desk.told.looks == ["box-1"]


async def test_a_denial_is_a_loss_only_when_it_is_repeated_late_enough(desk: Desk) -> None:
    """P5: a vendor that does not know it now may know it in a minute; ten minutes later it is lost."""
    made = await server(desk, "running", address="192.0.2.1")
    desk.shows("box-1", GONE)
    assert (await desk.seeing.look(made.id)).state is S.RUNNING
    desk.bed.clock.ms += round(LOST_AFTER_S * 1000) - 1
    assert (await desk.seeing.look(made.id)).state is S.RUNNING
    desk.bed.clock.ms += 1
    lost = await desk.seeing.look(made.id)
    assert lost.state is S.LOST
    assert lost.ended_at_ms == desk.bed.clock.ms
    assert await desk.events(made) == ["ordered", "running", "lost"]


async def test_a_denial_that_is_taken_back_counts_for_nothing(desk: Desk) -> None:
    """Shown again in between: the ten minutes begin anew."""
    made = await server(desk, "running", address="192.0.2.1")
    desk.shows("box-1", GONE)
    await desk.seeing.look(made.id)
    desk.shows("box-1", told(server="box-1", state="running", address="192.0.2.1"))
    desk.bed.clock.ms += 300_000
    await desk.seeing.look(made.id)
    desk.shows("box-1", GONE)
    desk.bed.clock.ms += 400_000
    assert (await desk.seeing.look(made.id)).state is S.RUNNING


async def test_an_unknown_word_is_one_task_for_the_operator(desk: Desk) -> None:
    """However many servers and looks show it."""
    made = await server(desk, "running", address="192.0.2.1")
    desk.shows("box-1", told(server="box-1", state="unknown", word="hibernating"))
    for _ in range(3):
        await desk.seeing.look(made.id)
    assert (await desk.now(made)).state is S.UNKNOWN
    assert await desk.bed.tasks() == [("unknown_state", "shop/hibernating")]
    assert (await desk.events(made))[-1] == "unknown_state"


async def test_ways_in_are_added_and_none_is_forgotten(desk: Desk) -> None:
    """A look that shows another secret adds it, sealed; one that shows none takes none away."""
    made = await server(desk, "running", address="192.0.2.1", access={"password": "a"})
    desk.shows("box-1", told(server="box-1", state="running", access={"port": "2222"}))
    await desk.seeing.look(made.id)
    desk.shows("box-1", told(server="box-1", state="running"))
    now = await desk.seeing.look(made.id)
    assert now.sealed_access is not None
    assert desk.keeping.open("access", now.id, now.sealed_access) == {"password": "a", "port": "2222"}


async def test_a_vendor_that_does_not_answer_is_asked_ever_more_seldom(desk: Desk) -> None:
    """What failed is no state: the server stays what it was."""
    made = await server(desk)
    desk.shows("box-1", LOST)
    with pytest.raises(Problem):
        await desk.seeing.look(made.id)
    looks = [await sweep(desk, 5) for _ in range(24)]
    assert 2 <= sum(looks) <= 8
    assert (await desk.now(made)).state is S.PROVISIONING


async def test_several_are_looked_at_by_one_list(tmp_path: Path) -> None:
    """Three of one account at a vendor that lists: one request; what the list has not got is asked for by itself."""
    async with desk_opened(tmp_path, lists=True) as desk:
        made = [await server(desk, ref=f"box-{n}") for n in (1, 2, 3, 4)]
        shown = [{"server": f"box-{n}", "state": "running", "address": f"192.0.2.{n}"} for n in (1, 2, 3)]
        desk.shows("list", respond(200, told(all=shown).body.removeprefix(b'{"all": ').removesuffix(b"}")))
        await sweep(desk)
        await sweep(desk, 2)
        assert sorted(desk.told.looks) == ["box-4", "list"]
        states = [(await desk.now(each)).state for each in made]
        assert states == [S.RUNNING, S.RUNNING, S.RUNNING, S.PROVISIONING]


async def test_waiting_ends_when_it_is_there(desk: Desk) -> None:
    """A waiter is told as soon as a look shows it; it needs no look of its own."""
    made = await server(desk)
    waiting = asyncio.create_task(desk.seeing.wait("acc_1", made.id, "running", 30))
    await asyncio.sleep(0)
    desk.shows("box-1", told(server="box-1", state="running", address="192.0.2.1"))
    await sweep(desk)
    await sweep(desk, 2)
    seen, how = await waiting
    assert (seen.state, how) == (S.RUNNING, "reached")
    assert (await desk.seeing.wait("acc_1", made.id, SETTLED, 0))[1] == "reached"


async def test_waiting_ends_when_nothing_can_come_any_more(desk: Desk) -> None:
    """A server that ended otherwise never will run: whoever waits learns that now."""
    made = await server(desk)
    waiting = asyncio.create_task(desk.seeing.wait("acc_1", made.id, "running", 30))
    await asyncio.sleep(0)
    desk.shows("box-1", GONE)
    await desk.seeing.look(made.id)
    desk.bed.clock.ms += round(LOST_AFTER_S * 1000)
    await desk.seeing.look(made.id)
    seen, how = await waiting
    assert (seen.state, how) == (S.LOST, "ended")
    assert (await desk.seeing.wait("acc_1", made.id, "lost", 30))[1] == "reached"
    assert (await desk.seeing.wait("acc_1", made.id, "running", 30))[1] == "ended"


async def test_waiting_ends_when_the_time_is_over(desk: Desk) -> None:
    """And leaves nothing behind that hurries looks."""
    made = await server(desk)
    assert (await desk.seeing.wait("acc_1", made.id, "running", 0.01))[1] == "timeout"


async def test_another_accounts_server_cannot_be_waited_for(desk: Desk) -> None:
    """P9: it does not exist for it."""
    made = await server(desk)
    with pytest.raises(Problem) as caught:
        await desk.seeing.wait("acc_2", made.id, "running", 1)
    assert caught.value.code == "not_found"


async def test_a_waiter_pulls_a_calm_server_forward(desk: Desk) -> None:
    """Whoever waits for a stop is not made to wait a quarter of an hour for the look that shows it."""
    made = await server(desk, "running", address="192.0.2.1")
    await sweep(desk)
    await sweep(desk, CALM_LOOK_S)
    assert await sweep(desk, 60) == 0
    waiting = asyncio.create_task(desk.seeing.wait("acc_1", made.id, "stopped", 30))
    await asyncio.sleep(0)
    desk.shows("box-1", told(server="box-1", state="stopped"))
    await sweep(desk, 31)
    assert (await waiting)[1] == "reached"


async def test_news_in_the_book_is_looked_at_at_once(desk: Desk) -> None:
    """What an action hurries is looked at by the next turn."""
    made = await server(desk, "running", address="192.0.2.1")
    await sweep(desk)
    desk.seeing.hurry(made.id)
    assert await sweep(desk) == 1


async def test_the_next_process_looks_again(desk: Desk) -> None:
    """What is kept of paces is only kept in memory: a restart looks at what changes, soon."""
    made = await server(desk)
    again = desk_on(desk.bed)
    again.shows("box-1", told(server="box-1", state="running", address="192.0.2.1"))
    await sweep(again)
    await sweep(again, 2)
    assert (await again.now(made)).state is S.RUNNING


async def test_an_account_has_only_so_many_waiting_requests(desk: Desk) -> None:
    """One too many is refused at once, another account's are its own, and who has gone makes room."""
    made = await server(desk)
    waiting = [asyncio.create_task(desk.seeing.wait("acc_1", made.id, "running", 30)) for _ in range(WAITS_PER_ACCOUNT)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as caught:
        await desk.seeing.wait("acc_1", made.id, "running", 30)
    assert caught.value.code == "too_many_calls"
    assert (await desk.seeing.wait("acc_1", made.id, "provisioning", 30))[1] == "reached"  # waits for nothing
    desk.seeing.require_room("acc_2")
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert (await desk.seeing.wait("acc_1", made.id, "running", 0.01))[1] == "timeout"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    desk.seeing.require_room("acc_1")


async def test_a_clock_that_is_set_back_does_not_stop_the_looking(desk: Desk) -> None:
    """What was to be looked at tomorrow by a clock that was wrong is looked at by the one that is right."""
    await server(desk)
    assert [await sweep(desk, seconds) for seconds in (0, 2, -86_400, 0)] == [0, 1, 1, 0]


async def test_a_denial_before_the_clock_was_set_back_is_the_first_of_two(desk: Desk) -> None:
    """P5: neither at once, nor only when the clock is where it was."""
    made = await server(desk, "running", address="192.0.2.1")
    desk.shows("box-1", GONE)
    await desk.seeing.look(made.id)
    desk.bed.clock.ms -= 86_400_000
    assert (await desk.seeing.look(made.id)).state is S.RUNNING
    desk.bed.clock.ms += round(LOST_AFTER_S * 1000)
    assert (await desk.seeing.look(made.id)).state is S.LOST
