"""Ordering a server: durable first, then bought from one vendor after the other until one has it, and never from two.

Must not know vendors' wires or payment rails.  Theory (P3, P4, P5, P12): an order is a record before anything leaves; each
try of it has one claim, so however often it is run and whenever the process dies there is one purchase behind it; what
became of a try is read from its payment, and the next one begins only when that proves that nothing was bought.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.core.records import Payment
from gateway.core.server import ORDERED, Server, ServerState, Wanted
from gateway.core.task_kinds import TaskKind
from gateway.core.view import Step
from gateway.flow.call import Reply
from gateway.flow.servers.fate import (
    REASON_MAX,
    RETRY_PAUSES_S,
    WAIT_PAUSES_S,
    Fate,
    fate_of,
    is_hopeless,
    is_ours,
    is_passing,
    wait_s,
    was_lost,
    words_of,
)
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.placing import Choosing, KeyRefs, NewServer, Placing, PlacingSettings, Plans
from gateway.flow.servers.runner import Runner, Who
from gateway.flow.servers.seeing import Seeing
from gateway.flow.servers.sights import Final
from gateway.http.port import is_success
from gateway.server_ports import ServerVendor, Sight

__all__ = ["CONFLICT", "UNREADABLE", "NewServer", "Ordering", "PlacingSettings", "claim_of"]

# Tasks: only a human can say what was made.
UNREADABLE: TaskKind = "delivery_unreadable"
CONFLICT: TaskKind = "order_conflict"
UNREADABLE_PAUSE_S = 300.0  # between looks for what a vendor delivered and did not name
FAILED_PAUSE_S = 5.0
LONGEST_PAUSE_MS = int(max(UNREADABLE_PAUSE_S, FAILED_PAUSE_S, *WAIT_PAUSES_S) * 1000)

log = structlog.get_logger()


class Replays(Protocol):
    """What was answered to purchases."""

    async def join(self, payment_id: str) -> Reply:
        """Return what was answered, waiting for it while it is under way. Raises Problem where there is no answer."""
        ...


class Ordering:
    """Creates servers. Each order is followed in a task of its own, which nobody who goes away cancels."""

    def __init__(
        self,
        *,
        keeping: Keeping,
        runner: Runner,
        replays: Replays,
        vendors: Mapping[str, ServerVendor],
        choosing: Choosing,
        plans: Plans,
        keys: KeyRefs,
        seeing: Seeing,
        settings: PlacingSettings | None = None,
    ) -> None:
        self._keeping, self._runner, self._replays, self._vendors = keeping, runner, replays, vendors
        self._seeing = seeing
        self._placing = Placing(
            keeping=keeping,
            vendors=vendors,
            choosing=choosing,
            plans=plans,
            keys=keys,
            settings=settings or PlacingSettings(),
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._awaited: dict[str, str] = {}  # the server whose fate an open payment decides
        self._due_ms: dict[str, int] = {}  # when a server of which nothing new is expected is looked into again
        self._waits: Counter[str] = Counter()  # how often in a row we have kept an order from being tried
        self._resting: set[str] = set()  # orders that only let time pass
        self._stopping = False
        keeping.view.listeners.add(self._hear)

    # ordering

    async def create(self, who: Who, new: NewServer) -> Server:
        """Keep an order and begin to fulfil it; return it as it is then. The same token again returns the same server.

        Nothing was bought where it raises Problem: idempotency_conflict, no_plan_fits, quote_expired, not_found,
        max_total_reached, capability_missing, bad_request, too_many_servers.
        """
        return (await self.place(who, new))[0]

    async def place(self, who: Who, new: NewServer) -> tuple[Server, bool]:
        """Do what `create` does, and say whether the order had been placed before."""
        server, replayed = await self._placing.place(who, new)
        if server.state in ORDERED:
            self.start(server.id)
        return server, replayed

    # following an order to its end

    def start(self, server_id: str) -> asyncio.Task[None]:
        """Go on with an order, unless somebody does, until it is fulfilled, has failed, waits, or hangs on a payment.

        Return the task that does.
        """
        task = self._tasks.get(server_id)
        if task is None:
            task = asyncio.create_task(self._advance(server_id), name=f"order {server_id}")
            self._tasks[server_id] = task
            task.add_done_callback(lambda done: self._ended(server_id, done))
        return task

    async def resume(self) -> None:
        """Go on with every order that nobody follows: after a start, after a failure, and where time had to pass.

        A loop's body.
        """
        if self._stopping:
            return
        now_ms, awaited = self._keeping.clock.now_ms(), set(self._awaited.values())
        for server in list(self._keeping.view.servers.values()):
            followed = server.id in self._tasks or server.id in awaited
            due = is_over(self._due_ms.get(server.id, 0), now_ms, LONGEST_PAUSE_MS)
            if server.state in ORDERED and due and not followed:
                self.start(server.id)
        for server_id in (self._due_ms.keys() | self._waits.keys()) - self._keeping.view.servers.keys():
            self._due_ms.pop(server_id, None)
            self._waits.pop(server_id, None)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is being ordered, at most that long; the rest goes on after the next start."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=timeout_s)

    def stop(self) -> None:
        """Begin nothing any more: no order, no next way of one. What a vendor is being asked is heard to its end."""
        self._stopping = True
        for server_id in self._resting & self._tasks.keys():
            self._tasks[server_id].cancel()

    async def close(self, timeout_s: float) -> None:
        """Stop, wait for what is being ordered, at most that long, and let go of the rest before the lines are closed.

        What is left goes on after the next start, from what is durable: that we stop is no vendor's failure.
        """
        self.stop()
        await self.drain(timeout_s)
        late = set(self._tasks.values())
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, server_id: str, done: asyncio.Task[None]) -> None:
        self._tasks.pop(server_id, None)
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._due_ms[server_id] = self._keeping.clock.now_ms() + int(FAILED_PAUSE_S * 1000)
            log.error("order.failed", server_id=server_id, error=type(error).__name__, detail=str(error)[:300])

    def _hear(self, step: Step) -> None:
        """A payment on which an order hangs has moved, or an order has been called off."""
        if self._stopping:
            return
        for server in step.rows.servers.values():
            if server.wanted is Wanted.DESTROYED:  # it need not wait for its turn to end
                self._due_ms.pop(server.id, None)
        for payment_id in step.rows.payments:
            server_id = self._awaited.pop(payment_id, None)
            if server_id is not None:
                self.start(server_id)

    async def _advance(self, server_id: str) -> None:
        server = await self._keeping.latest(server_id)
        while server.state in ORDERED and not self._stopping:
            going_on = await self._try(server)
            if not going_on:
                return
            server = await self._keeping.latest(server_id)

    async def _try(self, server: Server) -> bool:
        """Take one step; say whether another one can follow now."""
        claim = claim_of(server)
        claimed = await self._keeping.store.claimed(server.account_id, claim)
        outcome: Reply | Problem
        if claimed is not None and claimed.payment_id is not None:
            outcome = await self._replayed(claimed.payment_id)
        elif claimed is None and (over := self._over(server)) is not None:
            await self._end(server, over)
            return False
        else:
            outcome = await self._ask(server, claim)
            claimed = await self._keeping.store.claimed(server.account_id, claim)
        payment_id = None if claimed is None else claimed.payment_id
        payment = None if payment_id is None else await self._keeping.store.payment(payment_id)
        return await self._judge(server, outcome, payment)

    async def _replayed(self, payment_id: str) -> Reply | Problem:
        """Return what this purchase was answered: by its payment, so that no request has to be made anew for it."""
        try:
            return await self._replays.join(payment_id)
        except Problem as problem:
            return problem

    async def _ask(self, server: Server, claim: str) -> Reply | Problem:
        """Buy from the vendor whose turn it is. Its payment may be known to others before this returns."""
        view, candidate = self._keeping.view, server.candidates[server.tried]
        who = Who(view.keys_by_id[server.key_id], self._keeping.new_id("req"))
        most_base = candidate.first_charge_max_base
        if server.max_total_base is not None:
            most_base = min(most_base, server.max_total_base)
        vendor = self._vendors.get(server.vendor)
        if vendor is None:
            return Problem("vendor_unknown", f"there is no vendor {server.vendor} here any more")
        try:
            ask = vendor.create(await self._placing.order(who, server, vendor))
            return await self._runner.ask_whole(who, vendor.name, ask, claim=claim, max_charge_base=most_base)
        except Problem as problem:
            return problem

    # what came of it

    async def _judge(self, server: Server, outcome: Reply | Problem, payment: Payment | None) -> bool:
        vendor = self._vendors.get(server.vendor)
        if isinstance(outcome, Reply) and vendor is not None:
            sight = vendor.made(outcome.status, outcome.body)
            if sight is not None:
                return await self._made(server, sight, payment, outcome)
        if payment is None:
            return await self._not_bought(server, _problem_of(server, outcome))
        fate = fate_of(payment)
        if fate is Fate.OPEN:
            return await self._unknown(server, payment, _problem_of(server, outcome))
        if fate is Fate.MADE:
            return await self._unreadable(server, payment)
        if fate is Fate.SPENT:
            detail = f"{payment.vendor} was paid and made nothing: see payment {payment.id}"
            await self._end(server, Final(ServerState.FAILED, detail))
            return False
        problem = _problem_of(server, outcome)
        return await self._next(server, _why_nothing(payment, problem), again=was_lost(payment) or is_passing(problem))

    async def _made(self, server: Server, sight: Sight, payment: Payment | None, reply: Reply | None = None) -> bool:
        """It exists: what the answer shows of it is kept before the answer counts as told."""
        payment_id = None if payment is None else payment.id
        try:
            after = await self._seeing.take(server, sight, payment_id=payment_id)
        except Problem as problem:  # the book keeps one server for one thing (P9, P13)
            detail = f"{server.vendor} made {sight.ref} for {server.id}, which cannot be kept: {problem.detail}"
            await self._keeping.tasks.ask(CONFLICT, server.id, detail, payment_id)
            return self._later(server)
        if reply is not None and reply.delivered is not None:
            await reply.delivered()
        log.info("order.fulfilled", server_id=server.id, vendor=server.vendor, ref=after.ref, tried=server.tried)
        return False

    async def _unreadable(self, server: Server, payment: Payment) -> bool:
        """It was delivered, and its answer tells nothing that we can read: the book may know what it was."""
        ref = payment.resource_ref
        if ref is None:
            things = await self._keeping.store.things(server.account_id, server.vendor)
            ref = next((thing.ref for thing in things if thing.payment_id == payment.id), None)
        if ref is not None:
            return await self._made(server, Sight(ref), payment)
        detail = (
            f"{payment.vendor} delivered to {payment.id} what cannot be read: find out what it made for {server.id}"
        )
        await self._keeping.tasks.ask(UNREADABLE, payment.id, detail, payment.id)
        await self._hangs(server, payment, "delivered, and its vendor's answer cannot be read; the operator was told")
        return self._later(server)

    def _later(self, server: Server) -> bool:
        self._due_ms[server.id] = self._keeping.clock.now_ms() + int(UNREADABLE_PAUSE_S * 1000)
        return False

    async def _unknown(self, server: Server, payment: Payment, problem: Problem) -> bool:
        """It may exist, or may come to: the payment's next move says more. True: it has moved already."""
        await self._hangs(server, payment, words_of(problem))
        now = self._keeping.view.open_payments.get(payment.id)
        if now is None or now.axes != payment.axes:
            return True
        self._awaited[payment.id] = server.id
        return False

    async def _hangs(self, server: Server, payment: Payment, reason: str) -> None:
        def update(before: Server) -> Server | None:
            state = ServerState.ORDER_UNKNOWN
            if before.state not in ORDERED or (before.state, before.payment_id) == (state, payment.id):
                return None
            told = before.reason if before.wanted is Wanted.DESTROYED else reason
            return replace(before, state=state, payment_id=payment.id, reason=told)

        await self._keeping.change(server.id, update, ServerState.ORDER_UNKNOWN.value)

    async def _not_bought(self, server: Server, problem: Problem) -> bool:
        """No payment stands behind it, so nothing was bought."""
        if self._stopping:  # who knows whose fault it was
            return False
        if is_hopeless(problem, server.account_id, self._keeping.view.freezes):
            await self._end(server, Final(ServerState.FAILED, words_of(problem)))
            return False
        if is_ours(problem):
            return await self._wait(server, problem)
        return await self._next(server, words_of(problem), again=is_passing(problem))

    async def _wait(self, server: Server, problem: Problem) -> bool:
        """We did not let it be tried: later, the same way under the same claim, for no vendor has said no."""

        def update(before: Server) -> Server | None:
            stays = before.reason.startswith(f"{problem.code}: ") or before.wanted is Wanted.DESTROYED
            if stays or before.state not in ORDERED or before.tried != server.tried:
                return None
            return replace(before, reason=words_of(problem))

        pause_s = wait_s(problem, self._waits[server.id])
        self._waits[server.id] += 1
        self._due_ms[server.id] = self._keeping.clock.now_ms() + int(pause_s * 1000)
        await self._keeping.change(server.id, update, "changed")
        return False

    def _over(self, server: Server, reason: str = "") -> Final | None:
        """Return how an order ends for which nothing may be bought any more, None while something may."""
        if server.wanted is Wanted.DESTROYED:
            return Final(ServerState.DESTROYED, server.reason)
        keep_ms = server.keep_until_ms
        if keep_ms is None or self._keeping.business.now_ms() < keep_ms:
            return None
        why = reason or server.reason
        said = "keep_until: it had passed before anything was made"
        return Final(ServerState.FAILED, f"{said}; {why}"[:REASON_MAX] if why else said)

    async def _next(self, server: Server, reason: str, *, again: bool) -> bool:
        """Nothing was bought, for certain: go on to the next way, or once more to the last one, or give up."""
        if self._stopping:
            return False
        self._waits.pop(server.id, None)
        server = await self._keeping.latest(server.id)
        over = self._over(server, reason)
        if over is not None:
            await self._end(server, over)
            return False
        candidates, number = server.candidates, server.tried + 1
        if number == len(candidates):
            repeats = candidates.count(candidates[-1]) - 1
            if not again or repeats >= len(RETRY_PAUSES_S):
                await self._end(server, Final(ServerState.FAILED, reason))
                return False
            candidates = (*candidates, candidates[-1])
            if not await self._rest(server, RETRY_PAUSES_S[repeats]):
                return False
        chosen = candidates[number]

        def update(before: Server) -> Server | None:
            if before.state not in ORDERED or before.tried != server.tried or before.wanted is Wanted.DESTROYED:
                return None
            return replace(
                before,
                state=ServerState.ORDERING,
                candidates=candidates,
                tried=number,
                vendor=chosen.vendor,
                plan=chosen.plan,
                region=chosen.region,
                reason=reason,
            )

        await self._keeping.change(server.id, update, "reordered")
        log.info("order.next", server_id=server.id, vendor=chosen.vendor, tried=number, reason=reason)
        return True

    async def _rest(self, server: Server, pause_s: float) -> bool:
        """Let time pass; say whether to go on after it."""
        self._resting.add(server.id)
        try:
            await self._keeping.clock.sleep(pause_s)
        finally:
            self._resting.discard(server.id)
        return not self._stopping

    async def _end(self, server: Server, final: Final) -> None:
        await self._seeing.finish(server, final)
        log.info("order.ended", server_id=server.id, state=final.state.value, reason=final.reason)


def claim_of(server: Server) -> str:
    """Return the Idempotency-Key of an order's present try: one purchase stands behind it, whatever happens."""
    return f"create {server.id} {server.tried}"


def _why_nothing(payment: Payment, problem: Problem) -> str:
    if problem.code != "idempotency_spent":
        return words_of(problem)
    how = "its order got lost" if payment.vendor_status is None else f"it answered {payment.vendor_status}"
    return f"{payment.vendor} made nothing: {how}; see payment {payment.id}"


def _problem_of(server: Server, outcome: Reply | Problem) -> Problem:
    if isinstance(outcome, Problem):
        return outcome
    said = "shows nothing that was made" if is_success(outcome.status) else "refuses the order"
    return Problem("input_refused", f"{server.vendor} answered {outcome.status}, which {said}")
