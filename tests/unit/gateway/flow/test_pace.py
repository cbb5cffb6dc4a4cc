"""A vendor account's pace: never over its limits, urgent first, agents in turn, and nobody waits in vain."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.core.problems import Problem
from gateway.core.rates import ANY, AUTH, CALLS, Rate
from gateway.core.routes import Priority
from gateway.flow.pace import Pace
from tests.fakes.clock import EPOCH_MS, VirtualClock
from tests.fakes.loop import run_virtual

CRYPTOVPS = (Rate(100, 60, CALLS), Rate(10, 60, AUTH))
LITEVPS = (Rate(10, 60, AUTH),)
VRTX = (Rate(120, 60), Rate(30, 10))
SMALL = (Rate(3, 2), Rate(5, 7, CALLS), Rate(2, 4, AUTH))
ONE = (Rate(3, 4),)
JITTER_S = 0.5
NO_HEADERS: Mapping[str, str] = CIMultiDict()


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test on the virtual loop."""

    def run() -> None:
        run_virtual(test)

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


def pace_of(*rates: Rate, **options: Any) -> Pace:
    """A pace without slack, so that times are round."""
    return Pace("vendor", rates, VirtualClock(), **{"slack_s": 0.0, "max_wait_s": 600.0, **options})


def seconds() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


class Crowd:
    """Starts requests and notes who left when."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.left: list[tuple[float, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, name: str, priority: Priority = Priority.CALL, agent: str = "a", scope: str = CALLS) -> None:
        """One request, on its way when the loop next runs."""
        self.tasks.append(asyncio.create_task(self._one(name, priority, agent, scope)))

    async def _one(self, name: str, priority: Priority, agent: str, scope: str) -> None:
        await self.pace.acquire(scope, priority, agent)
        self.left.append((seconds(), name))

    async def all(self) -> list[str]:
        """Wait for all; their names in the order in which they left."""
        await asyncio.gather(*self.tasks)
        return [name for _, name in self.left]


async def refusal(pace: Pace, *, max_wait_s: float | None = None, scope: str = CALLS) -> int:
    """Ask, be refused without a moment's wait, and return the seconds to retry after."""
    before = seconds()
    with pytest.raises(Problem) as refused:
        await pace.acquire(scope, Priority.CALL, "a", max_wait_s=max_wait_s)
    assert seconds() == before
    assert (refused.value.code, refused.value.status) == ("vendor_busy", 429)
    return int(refused.value.extra["retry_after_s"])


@dataclass(frozen=True)
class Ask:
    """One generated request."""

    after_ms: int
    scope: str
    priority: Priority
    agent: str
    on_the_way_ms: int
    patience_ms: int
    cancel_after_ms: int | None


ASKS = st.lists(
    st.builds(
        Ask,
        after_ms=st.sampled_from((0, 0, 0, 100, 700, 1_300, 2_600)),
        scope=st.sampled_from((AUTH, CALLS)),
        priority=st.sampled_from(Priority),
        agent=st.sampled_from("abc"),
        on_the_way_ms=st.integers(0, 500),
        patience_ms=st.sampled_from((0, 3_000, 20_000, 10**7)),
        cancel_after_ms=st.none() | st.integers(0, 5_000),
    ),
    min_size=1,
    max_size=60,
)
# What the vendor answers to some of them: how long to stay away.
REFUSALS = st.dictionaries(st.integers(0, 59), st.integers(0, 9), max_size=4)


@settings(max_examples=120, deadline=None)
@given(asks=ASKS, refusals=REFUSALS, rates=st.sampled_from((SMALL, ONE, VRTX[1:], LITEVPS)))
def test_no_window_ever_holds_more_than_the_limit(
    asks: list[Ask], refusals: dict[int, int], rates: tuple[Rate, ...]
) -> None:
    """Whatever is asked, cancelled, refused or late on the way, no sliding window at the vendor sees too many requests.

    And every request ends, within its patience: it left, or it was told that it would not.
    """
    arrived: list[tuple[int, str]] = []
    ended: list[str] = []
    hints: list[int] = []

    async def one(number: int, ask: Ask, pace: Pace) -> None:
        began = VirtualClock().now_ms()
        try:
            await pace.acquire(ask.scope, ask.priority, ask.agent, max_wait_s=ask.patience_ms / 1000)
        except Problem as problem:
            ended.append(problem.code)
            hints.append(problem.extra["retry_after_s"])
            return
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        now = VirtualClock().now_ms()
        assert now - began <= ask.patience_ms + 1
        arrived.append((now + ask.on_the_way_ms, ask.scope))
        ended.append("left")
        await asyncio.sleep(ask.on_the_way_ms / 1000)
        if number in refusals:
            pace.saw(429, CIMultiDict({"retry-after": str(refusals[number])}), ask.scope)
        else:
            pace.saw(200, NO_HEADERS, ask.scope)

    async def scenario() -> None:
        pace = Pace("vendor", rates, VirtualClock(), slack_s=JITTER_S)
        loop, tasks = asyncio.get_running_loop(), []
        for number, ask in enumerate(asks):
            await asyncio.sleep(ask.after_ms / 1000)
            task = asyncio.create_task(one(number, ask, pace))
            tasks.append(task)
            if ask.cancel_after_ms is not None:
                loop.call_later(ask.cancel_after_ms / 1000, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task for task in tasks if not task.cancelled() and task.exception()] == []
        assert asyncio.all_tasks() == {asyncio.current_task()}, "no timer outlives the queue"

    run_virtual(scenario)
    for rate in rates:
        times = sorted(at for at, scope in arrived if rate.scope in (scope, ANY))
        spans = [later - first for first, later in zip(times, times[rate.limit :], strict=False)]
        assert min(spans, default=10**9) >= rate.window_s * 1000
    assert min(hints, default=1) >= 1
    # One cancelled before it began, or on the way, leaves no word or two.
    assert len(ended) >= sum(ask.cancel_after_ms is None for ask in asks)


@virtually
async def test_the_limit_is_used_to_the_full() -> None:
    """Waiting requests leave as soon as the oldest one falls out of the window, not later."""
    crowd = Crowd(pace_of(Rate(4, 10)))
    for number in range(10):
        crowd.ask(str(number))
    await crowd.all()
    assert [round(at, 2) for at, _ in crowd.left] == [0, 0, 0, 0, 10, 10, 10, 10, 20, 20]


@virtually
async def test_scopes_with_limits_of_their_own_do_not_wait_for_each_other() -> None:
    """CryptoVPS counts logins apart: full logins stop no call, and a vendor without a stated limit makes none wait."""
    crowd = Crowd(pace_of(*CRYPTOVPS))
    for number in range(12):
        crowd.ask(f"login {number}", Priority.RENEW, scope=AUTH)
    for number in range(90):
        crowd.ask(f"call {number}")
    await asyncio.sleep(1)
    assert sorted(name for _, name in crowd.left) == sorted(
        [f"login {n}" for n in range(10)] + [f"call {n}" for n in range(90)]
    )
    await crowd.all()
    open_ended = Crowd(pace_of(*LITEVPS))
    for number in range(400):
        open_ended.ask(str(number))
    began = seconds()
    await open_ended.all()
    assert seconds() == began


@virtually
async def test_both_windows_of_one_account_hold() -> None:
    """VRTX: 30 in ten seconds, and no more than 120 in a minute."""
    crowd = Crowd(pace_of(*VRTX))
    for number in range(150):
        crowd.ask(str(number), Priority.CREATE)
    await crowd.all()
    counts = {at: sum(1 for t, _ in crowd.left if round(t) == at) for at in (0, 10, 20, 30, 40, 50, 60)}
    assert counts == {0: 30, 10: 30, 20: 30, 30: 30, 40: 0, 50: 0, 60: 30}


@virtually
async def test_the_more_urgent_goes_first() -> None:
    """Renew before destroy before create before call before poll, in whatever order they came."""
    crowd = Crowd(pace_of(Rate(1, 1)))
    crowd.ask("first")
    await asyncio.sleep(0.1)
    for priority in (Priority.POLL, Priority.CREATE, Priority.RENEW, Priority.CALL, Priority.DESTROY):
        crowd.ask(priority.name, priority)
    assert await crowd.all() == ["first", "RENEW", "DESTROY", "CREATE", "CALL", "POLL"]


@virtually
async def test_polls_leave_room_for_what_is_urgent() -> None:
    """A burst of polls does not take the whole window: a destruction just after it leaves at once."""
    crowd = Crowd(pace_of(Rate(100, 60, CALLS)))
    for number in range(120):
        crowd.ask(f"poll {number}", Priority.POLL)
    await asyncio.sleep(1)
    assert len(crowd.left) == 90
    for number in range(10):
        crowd.ask(f"destroy {number}", Priority.DESTROY)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [name for _, name in crowd.left[90:]] == [f"destroy {number}" for number in range(10)]


@virtually
async def test_agents_take_turns() -> None:
    """One agent's fifty requests do not stand before another's two, also where it was alone before."""
    crowd = Crowd(pace_of(Rate(1, 1)))
    for number in range(50):
        crowd.ask(f"greedy {number}", agent="greedy")
    await asyncio.sleep(3.5)
    for agent in ("x", "y"):
        for number in range(2):
            crowd.ask(f"{agent} {number}", agent=agent)
    left = await crowd.all()
    assert left[4:10] == ["x 0", "y 0", "greedy 4", "x 1", "y 1", "greedy 5"]


@virtually
async def test_a_poll_is_not_starved() -> None:
    """A flood of renewals that never ends lets an old poll through in the end."""
    crowd = Crowd(pace_of(Rate(1, 1)))
    crowd.ask("poll", Priority.POLL)
    crowd.tasks.pop().cancel()  # and a cancelled one before it changes nothing
    crowd.ask("taken", Priority.RENEW)
    await asyncio.sleep(0)
    crowd.ask("poll", Priority.POLL, agent="p")
    for number in range(60):
        crowd.ask(f"renew {number}", Priority.RENEW, agent="r")
        await asyncio.sleep(0.9)
    await crowd.all()
    at = next(at for at, name in crowd.left if name == "poll")
    assert 15 < at < 30


@virtually
async def test_what_would_wait_too_long_is_refused_at_once() -> None:
    """429 with the time after which it would have gone; what fits its patience waits."""
    pace = pace_of(Rate(2, 60), max_wait_s=30.0)
    crowd = Crowd(pace)
    crowd.ask("1")
    crowd.ask("2")
    await crowd.all()
    await asyncio.sleep(10)
    assert await refusal(pace) == 50
    assert await refusal(pace, max_wait_s=49) == 50
    await pace.acquire(CALLS, Priority.CALL, "a", max_wait_s=50)
    assert seconds() == pytest.approx(60, abs=0.01)


@virtually
async def test_who_is_pushed_back_too_far_is_told_then() -> None:
    """More urgent requests that come later make a waiting one late: it is told at that moment, not at its deadline."""
    pace = pace_of(Rate(1, 10), max_wait_s=25.0)
    crowd = Crowd(pace)
    for name in ("now", "poll", "later poll"):
        crowd.ask(name, Priority.POLL)
    await asyncio.sleep(1)
    poll = crowd.tasks[2]
    crowd.ask("renew", Priority.RENEW)
    await asyncio.sleep(0.001)
    assert isinstance(poll.exception(), Problem)
    crowd.tasks.remove(poll)
    assert await crowd.all() == ["now", "renew", "poll"]


@virtually
async def test_who_has_to_be_told_is_shared_fairly_too() -> None:
    """Room for two more: it goes to one request of each agent, and not to the two of either."""
    pace = pace_of(Rate(1, 10), max_wait_s=25.0)
    crowd = Crowd(pace)
    for name in ("now", "a 1", "a 2"):
        crowd.ask(name, agent="a")
    await asyncio.sleep(1)
    for name in ("b 1", "b 2"):
        crowd.ask(name, agent="b")
    outcomes = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert [isinstance(outcome, Problem) for outcome in outcomes] == [False, False, True, False, True]
    assert [name for _, name in crowd.left] == ["now", "b 1", "a 1"]


@virtually
async def test_a_nearer_turn_sets_the_timer_anew() -> None:
    """A login waits for a minute; a call that comes later and may leave in ten seconds does not wait for its bell."""
    crowd = Crowd(pace_of(Rate(1, 60, AUTH), Rate(1, 10, CALLS)))
    crowd.ask("login 1", scope=AUTH)
    crowd.ask("login 2", scope=AUTH)
    crowd.ask("call 1")
    await asyncio.sleep(1)
    crowd.ask("call 2")
    await crowd.all()
    assert [(round(at), name) for at, name in crowd.left] == [
        (0, "login 1"),
        (0, "call 1"),
        (10, "call 2"),
        (60, "login 2"),
    ]


@virtually
async def test_the_queue_has_an_end() -> None:
    """However patient callers are, only so many wait; one that goes makes room for another."""
    pace = pace_of(Rate(1, 1), max_waiting=5)
    crowd = Crowd(pace)
    for number in range(6):
        crowd.ask(str(number))
    await asyncio.sleep(0)
    assert await refusal(pace) == 600
    crowd.tasks.pop().cancel()
    await asyncio.sleep(0)
    crowd.ask("in its place")
    assert (await crowd.all())[-1] == "in its place"


@virtually
async def test_retry_after_stops_everything() -> None:
    """After a 429 nothing leaves before its Retry-After; who cannot wait so long is told at once."""
    pace = pace_of(*VRTX, max_wait_s=30.0)
    crowd = Crowd(pace)
    for number in range(31):
        crowd.ask(str(number), Priority.CREATE)
    await asyncio.sleep(2)
    assert len(crowd.left) == 30
    pace.saw(429, CIMultiDict({"Retry-After": "42"}), CALLS)
    await asyncio.sleep(0)
    assert isinstance(crowd.tasks.pop().exception(), Problem), "it waited for ten seconds, and would for 44"
    assert await refusal(pace, scope=AUTH) == 42
    await asyncio.sleep(12)
    await pace.acquire(AUTH, Priority.CALL, "a")
    assert seconds() == pytest.approx(44, abs=0.01)


@virtually
async def test_a_429_of_a_scope_counted_apart_stops_that_scope_alone() -> None:
    """CryptoVPS refuses a login: calls go on, logins wait."""
    pace = pace_of(*CRYPTOVPS)
    pace.saw(429, CIMultiDict({"Retry-After": "20"}), AUTH)
    await pace.acquire(CALLS, Priority.CALL, "a")
    assert seconds() == 0
    await pace.acquire(AUTH, Priority.CALL, "a")
    assert seconds() == pytest.approx(20, abs=0.01)


@virtually
async def test_a_429_that_states_no_time_stops_twice_as_long_each_time() -> None:
    """One second, two, four; a burst of refusals counts once; a good answer starts anew."""
    pace = pace_of(*CRYPTOVPS)
    waits = []
    for burst in (1, 20, 1):
        for _ in range(burst):
            pace.saw(429, NO_HEADERS, CALLS)
        began = seconds()
        await pace.acquire(CALLS, Priority.CALL, "a")
        waits.append(round(seconds() - began))
    assert waits == [1, 2, 4]
    pace.saw(200, NO_HEADERS, CALLS)
    pace.saw(429, CIMultiDict({"Retry-After": "soon"}), CALLS)
    began = seconds()
    await pace.acquire(CALLS, Priority.CALL, "a")
    assert round(seconds() - began) == 1


@virtually
async def test_what_others_use_up_of_the_account_is_ours_no_more() -> None:
    """X-RateLimit-Remaining bounds what may leave before the reset, less what is on its way and not counted yet."""
    pace = pace_of(*VRTX)
    for _ in range(4):
        await pace.acquire(CALLS, Priority.CALL, "a")
    now_s = EPOCH_MS // 1000

    def said(left: int, in_s: int) -> Mapping[str, str]:
        text = {"X-RateLimit-Limit": "120", "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(now_s + in_s)}
        return CIMultiDict(text)

    pace.saw(200, said(5, 40), CALLS)  # three more are on their way: two are left
    pace.saw(200, said(50, 40), CALLS)  # an older figure that comes late
    crowd = Crowd(pace)
    for number in range(4):
        crowd.ask(str(number))
    await crowd.all()
    assert [round(at) for at, _ in crowd.left] == [0, 0, 41, 41]


@virtually
async def test_a_cancelled_waiter_gives_its_place_back() -> None:
    """Whoever waits behind it moves up; and a place that was given in the very moment of cancelling is not lost."""
    pace = pace_of(Rate(1, 10))
    crowd = Crowd(pace)
    for name in ("now", "gone", "next"):
        crowd.ask(name)
    await asyncio.sleep(1)
    crowd.tasks.pop(1).cancel()
    await crowd.all()
    assert [round(at) for at, _ in crowd.left] == [0, 10]


@virtually
async def test_a_place_given_in_the_moment_of_cancelling_is_not_lost() -> None:
    """Its turn has come, it has not run yet, and it is cancelled: the next one leaves at that time."""
    pace = pace_of(Rate(1, 10))
    crowd = Crowd(pace)
    for name in ("now", "gone", "next"):
        crowd.ask(name)
    await asyncio.sleep(1)
    gone = crowd.tasks.pop(1)
    serve = pace._serve

    def serve_then_cancel() -> None:
        waiting = len(pace._waiting)
        serve()
        if len(pace._waiting) < waiting:
            pace._serve = serve  # type: ignore[method-assign]
            gone.cancel()

    pace._serve = serve_then_cancel  # type: ignore[method-assign]
    await crowd.all()
    assert gone.cancelled()
    assert [(round(at), name) for at, name in crowd.left] == [(0, "now"), (10, "next")]


@virtually
async def test_a_clock_set_back_stops_nothing() -> None:
    """Windows are counted on: an hour back on the wall is not an hour's wait."""

    class SetBack(VirtualClock):
        back_ms = 0

        def now_ms(self) -> int:
            return super().now_ms() - self.back_ms

    clock = SetBack()
    pace = Pace("vendor", (Rate(1, 10),), clock, slack_s=0.0)
    await pace.acquire(CALLS, Priority.CALL, "a")
    await asyncio.sleep(4)
    clock.back_ms = 3_600_000
    await pace.acquire(CALLS, Priority.CALL, "a")
    assert seconds() <= 14.1


@virtually
async def test_one_timer_serves_them_all() -> None:
    """A hundred waiters are one timer, and closing refuses them and leaves nothing behind."""
    pace = pace_of(Rate(1, 5))
    crowd = Crowd(pace)
    for number in range(100):
        crowd.ask(str(number))
    await asyncio.sleep(1)
    assert sum(task.get_name() == "pace vendor" for task in asyncio.all_tasks()) == 1
    await pace.close()
    outcomes = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert sum(isinstance(outcome, Problem) for outcome in outcomes) == 99
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_rate_lets_something_through() -> None:
    """A limit or window of nothing is a mistake in the data."""
    for limit, window_s in ((0, 60), (10, 0)):
        with pytest.raises(ValueError, match="at least one"):
            Rate(limit, window_s)
