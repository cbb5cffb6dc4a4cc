"""A vendor account's pace: every request to it waits here for its turn, whoever asked for it (design 7).

Must not know what is asked of the vendor.  Theory: a vendor counts the account and not our agents, so there is one queue
for all; whoever cannot be served in time is told at once, because an answer that is late and empty helps nobody.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.core.problems import Problem
from gateway.core.rates import Lane, Rate, Windows
from gateway.core.routes import Priority
from gateway.flow.limit_headers import LONGEST_MS, rate_limit, retry_after_ms
from gateway.flow.lineup import Place, line_up, plan
from gateway.ports import Clock

TOO_MANY_REQUESTS = 429
FIRST_STOP_MS = 1_000
LONGEST_GUESS_MS = 60_000
AGENTS_REMEMBERED = 1_024


@dataclass(slots=True)
class _Waiter(Place):
    turn: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    left_ms: int | None = None


class Pace:
    """Lets requests to one vendor account leave within its rates, the urgent first, the agents in turn.

    `slack_s` is how much closer together requests may arrive than they left. At most `max_waiting` requests wait.
    """

    def __init__(
        self,
        vendor: str,
        rates: Iterable[Rate],
        clock: Clock,
        *,
        max_wait_s: float = 30.0,
        slack_s: float = 0.5,
        max_waiting: int = 500,
    ) -> None:
        self._vendor, self._clock = vendor, clock
        self._windows = Windows(rates, round(slack_s * 1000))
        self._max_wait_s, self._max_waiting = max_wait_s, max_waiting
        self._waiting: dict[int, _Waiter] = {}
        self._arrivals = self._departures = 0
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._refusals: dict[str, int] = {}
        self._timer: asyncio.Task[None] | None = None
        self._rings_ms = 0
        self._last_ms = self._behind_ms = 0

    async def acquire(
        self, scope: str, priority: Priority, account_id: str, *, max_wait_s: float | None = None
    ) -> None:
        """Return when a request of this scope may leave, and count it as having left. Tell `saw` of its answer.

        Raises Problem("vendor_busy") with `retry_after_s` as soon as it is known that this would take longer than
        `max_wait_s`: at once, or when a refusal of the vendor or more urgent requests come in between. A caller that is
        cancelled while it waits takes nothing.
        """
        now_ms, lane = self._now_ms(), Lane.of(scope, priority)
        if not self._waiting and self._windows.ready_ms(lane, now_ms) <= now_ms:
            self._leave(lane, account_id, now_ms)
            return
        wait_s = self._max_wait_s if max_wait_s is None else max_wait_s
        if len(self._waiting) >= self._max_waiting:
            raise self._busy(round(wait_s * 1000))
        self._arrivals += 1
        deadline_ms = now_ms + round(wait_s * 1000)
        waiter = _Waiter(self._arrivals, scope, priority, account_id, now_ms, deadline_ms)
        self._waiting[waiter.number] = waiter
        self._serve()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise

    def saw(self, status: int, headers: Mapping[str, str], scope: str) -> None:
        """Learn from the vendor's answer to a request of this scope. `headers` find names in any case.

        A 429 stops everything until its `Retry-After`, or for a doubling while where it states none; of a vendor that
        counts scopes apart, only `scope`. `X-RateLimit-Remaining` and `-Reset` bound what may leave before the reset:
        others may be using up the same account.
        """
        now_ms = self._now_ms()
        self._windows.answered(scope, now_ms)
        reach = self._windows.reach(scope)
        if not self._windows.stopped(scope, now_ms):  # else it left before the stop: it neither adds to it nor ends it
            self._refusals[reach] = self._refusals.get(reach, 0) + 1 if status == TOO_MANY_REQUESTS else 0
        if status == TOO_MANY_REQUESTS:
            guess_ms = min(FIRST_STOP_MS << min(max(self._refusals.get(reach, 0) - 1, 0), 10), LONGEST_GUESS_MS)
            self._windows.stop(scope, now_ms + (retry_after_ms(headers, now_ms) or guess_ms))
        said = rate_limit(headers, now_ms)
        if said is not None:
            span_ms = min(said.for_ms, self._windows.longest_ms or LONGEST_MS)
            self._windows.allow(scope, said.limit, said.left, now_ms + span_ms)
        self._serve()

    async def close(self) -> None:
        """Refuse whoever waits, and stop the timer."""
        for waiter in list(self._waiting.values()):
            self._refuse(waiter, FIRST_STOP_MS)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            await asyncio.wait([timer])

    def _serve(self) -> None:
        """Let go whoever may leave now, refuse whoever would leave too late, and set the timer for the next."""
        if not self._waiting:
            self._set_timer(None, 0)
            return
        now_ms, next_ms = self._now_ms(), None
        order = line_up((w for w in self._waiting.values() if not w.turn.done()), self._turns)
        for at_ms, waiter in plan(order, self._windows, now_ms):
            if at_ms <= now_ms:
                self._leave(waiter.lane, waiter.account_id, now_ms)
                waiter.left_ms = now_ms
                waiter.turn.set_result(None)
                del self._waiting[waiter.number]
            elif at_ms > waiter.deadline_ms:
                self._refuse(waiter, at_ms - now_ms)
            elif next_ms is None:
                next_ms = at_ms
        self._set_timer(next_ms, now_ms)

    def _leave(self, lane: Lane, account_id: str, now_ms: int) -> None:
        self._windows.take(lane, now_ms)
        self._departures += 1
        self._turns[account_id] = self._departures
        self._turns.move_to_end(account_id)
        if len(self._turns) > AGENTS_REMEMBERED:
            self._turns.popitem(last=False)

    def _refuse(self, waiter: _Waiter, wait_ms: int) -> None:
        del self._waiting[waiter.number]
        if not waiter.turn.done():
            waiter.turn.set_exception(self._busy(wait_ms))

    def _busy(self, wait_ms: int) -> Problem:
        retry_after_s = max(1, -(-wait_ms // 1000))
        detail = f"the rate limit of {self._vendor} leaves no room for this call for about {retry_after_s} s"
        return Problem("vendor_busy", detail, extra={"retry_after_s": retry_after_s})

    def _give_up(self, waiter: _Waiter) -> None:
        self._waiting.pop(waiter.number, None)
        if waiter.left_ms is not None:  # its turn came in the moment in which it was cancelled
            self._windows.give_back(waiter.lane, waiter.left_ms)
        elif waiter.turn.done() and not waiter.turn.cancelled():
            waiter.turn.exception()  # refused in that moment: nobody is left to be told
        self._serve()

    def _set_timer(self, at_ms: int | None, now_ms: int) -> None:
        if at_ms is not None and self._timer is not None and self._rings_ms <= at_ms:
            return  # it looks again when it rings
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_ms is not None:
            self._rings_ms = at_ms
            self._timer = asyncio.create_task(self._ring((at_ms - now_ms) / 1000), name=f"pace {self._vendor}")

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timer = None
        self._serve()

    def _now_ms(self) -> int:
        """The clock's time, never before what it said last: a clock set back must not stop the vendor for as long."""
        now_ms = self._clock.now_ms() + self._behind_ms
        if now_ms < self._last_ms:
            self._behind_ms += self._last_ms - now_ms
            now_ms = self._last_ms
        self._last_ms = now_ms
        return now_ms
