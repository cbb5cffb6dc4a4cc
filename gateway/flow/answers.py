"""What an agent is told, once and again: purchases under way, kept answers, and which request repeats which purchase.

Must not know how anything is paid for.  Theory: an identical request, or the same Idempotency-Key, stands for the
purchase that it repeats until its agent has the whole answer; so a purchase outlives whoever asked for it, and is never
made twice because an answer got lost.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.core.commands import Attached, Done, MarkAnswered, Purchase, Refused, Remember, Result, key_used
from gateway.core.payment import Charge, Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.records import Answer, Payment
from gateway.core.routes import Pricing
from gateway.flow.call import AnyCall, Reply
from gateway.flow.pack import Headers, pack, unpack
from gateway.flow.present import Outcome, refusal_of
from gateway.flow.promise import seal_context
from gateway.http.port import is_success
from gateway.ports import Clock, Store
from wallets.sealing import Sealer
from wallets.watermark import Watermark

MARK_AFTER_S = 0.05
SAFE_METHODS = frozenset({"GET", "HEAD"})  # their free answers are not kept under an Idempotency-Key
UNPAID = frozenset({Pricing.FREE, Pricing.LOCAL, Pricing.CLOSED})


class Answers:
    """One object serves every flow that buys; what is in flight lives in tasks that no disconnect cancels."""

    def __init__(self, *, store: Store, sealer: Sealer, watermark: Watermark, clock: Clock) -> None:
        self._store, self._sealer, self._watermark, self._clock = store, sealer, watermark, clock
        self.presenting: dict[str, asyncio.Task[Outcome | Attached | Refused]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._answered: set[str] = set()  # told, and not yet marked so in the store
        self._marking: set[str] = set()  # of these, on their way there
        self._mark_due = False

    # before: does this request repeat another

    async def earlier(self, call: AnyCall) -> Reply | None:
        """An identical call that was not fully answered, or the same Idempotency-Key, stands for this one."""
        free = call.match.route.pricing in UNPAID
        if call.quote_only or call.stream is not None or (free and call.method in SAFE_METHODS):
            return None
        if call.idempotency_key is not None:
            claimed = await self._store.claimed(call.account_id, call.idempotency_key)
            if claimed is not None and claimed.fingerprint != call.fingerprint:
                raise key_used()
            if claimed is not None and claimed.answer is not None:
                return self._kept(call, claimed.answer)
            if claimed is not None and claimed.payment_id is not None:
                payment = await self._store.payment(claimed.payment_id)
                if payment is None or not payment.reclaimable:
                    return await self.join(claimed.payment_id)
        unanswered = self._store.view.unanswered
        if free or not unanswered.any_of(call.account_id):  # most often: then the fingerprint is not needed
            return None
        waiting = unanswered.find(call.account_id, call.fingerprint, call.idempotency_key, self._clock.now_ms())
        return None if waiting is None or waiting in self._answered else await self.join(waiting)

    # the purchase

    async def buy(self, payment_id: str, work: Coroutine[Any, Any, Outcome | Attached | Refused]) -> Reply:
        """Hold and present in a task that no disconnect cancels: money that is held is also spent.

        The task stands before the commit, so whoever sees the payment sees that it is under way: an identical call
        would else be told that nobody knows the outcome, and recovery would present it a second time.
        """
        presenting = asyncio.create_task(work, name=f"present {payment_id}")
        self.presenting[payment_id] = presenting
        presenting.add_done_callback(lambda _: self.presenting.pop(payment_id, None))
        done = await asyncio.shield(presenting)
        if isinstance(done, Refused):
            raise Problem(done.code, done.detail)
        if isinstance(done, Attached):
            return await self.join(done.record_id)
        return self.reply(done)

    async def hold(self, purchase: Purchase) -> Payment | Attached | Refused:
        """Commit a purchase; return it as placed, or what stands against it."""
        result = await self._post_purchase(purchase)
        if not isinstance(result, Done):
            return result
        view = self._store.view
        # P12: the signer's own record of how far the book had come, before any signature of it leaves.
        self._watermark.record(view.journal_seq, view.journal_head)
        return result.payment if result.payment is not None else purchase.payment

    async def join(self, payment_id: str) -> Reply:
        """Answer from a purchase that was made already, waiting for it if it is under way."""
        presenting = self.presenting.get(payment_id)
        if presenting is not None:
            done = await asyncio.shield(presenting)
            if isinstance(done, Outcome):  # as it always is: what another call can name was held
                return self.reply(done, replayed=True)
        payment = await self._store.payment(payment_id)
        stored = await self._store.answer(payment_id)
        if payment is None or stored is None:
            raise refusal_of(payment) if payment is not None else Problem("not_found", "there is no such payment")
        headers, body = open_sealed(self._sealer, stored.sealed, seal_context("answer", payment_id))
        return self._finish(Outcome(payment, stored.status, headers, body), replayed=True)

    def reply(self, outcome: Outcome, *, replayed: bool = False) -> Reply:
        """Return what the agent is told of an outcome. Raises Problem where there is nothing to pass on."""
        axes = outcome.payment.axes
        passed_on = axes.delivery is Delivery.DELIVERED or (
            axes.delivery is Delivery.REFUSED and outcome.payment.fault is Fault.AGENT
        )
        if outcome.oversized:
            self._told(outcome.payment.id)
            detail = f"{outcome.payment.vendor} delivered more than can be kept; the call is charged"
            raise Problem("paid_answer_oversized", detail, extra={"payment_id": outcome.payment.id})
        if outcome.problem is not None:
            self._told(outcome.payment.id)
            raise outcome.problem
        if not passed_on or outcome.status is None:
            raise refusal_of(outcome.payment)
        return self._finish(outcome, replayed=replayed)

    def _finish(self, outcome: Outcome, *, replayed: bool) -> Reply:
        payment_id = outcome.payment.id

        async def delivered() -> None:
            self._told(payment_id)

        return Reply(
            outcome.status or 0,
            outcome.headers,
            outcome.body,
            payment_id=payment_id,
            charge_base=_charge(outcome.payment),
            replayed=replayed,
            delivered=delivered,
        )

    # unpriced answers under a key

    async def remember(self, call: AnyCall, reply: Reply) -> None:
        """Keep a good answer to an unpriced request under its Idempotency-Key, if it has one; a failure may be tried again."""
        if call.idempotency_key is None or call.method in SAFE_METHODS:
            return
        if reply.rest is not None or not is_success(reply.status):
            return
        context = seal_context("kept", f"{call.account_id}/{call.idempotency_key}")
        sealed = self._sealer.seal(pack("", "", reply.headers, reply.body), context)
        answer = Answer("", reply.status, sealed, self._clock.now_ms())
        await self._store.post(Remember(call.account_id, call.idempotency_key, call.fingerprint, answer))

    def _kept(self, call: AnyCall, answer: Answer) -> Reply:
        context = seal_context("kept", f"{call.account_id}/{call.idempotency_key}")
        headers, body = open_sealed(self._sealer, answer.sealed, context)
        return Reply(answer.status, headers, body, replayed=True)

    # behind the answer

    def _told(self, payment_id: str) -> None:
        """The agent has its answer: from this moment on the same request is a new purchase.

        Marks wait for company, since one is worth no fsync of its own; an equal purchase takes them with it.
        """
        self._answered.add(payment_id)
        if not self._mark_due:
            self._mark_due = True
            self.later(self._mark_soon())

    async def _mark_soon(self) -> None:
        await self._clock.sleep(MARK_AFTER_S)
        self._mark_due = False
        await self._mark()

    def _take_marks(self) -> list[MarkAnswered]:
        taken = sorted(self._answered - self._marking)
        self._marking.update(taken)
        return [MarkAnswered(payment_id) for payment_id in taken]

    async def _mark(self) -> None:
        await self._post_all(*self._take_marks())

    async def _post_purchase(self, purchase: Purchase) -> Result:
        """Post a purchase: behind the marks, if it may repeat one that is told, or the store would attach it to that."""
        payment, unanswered = purchase.payment, self._store.view.unanswered
        if self._answered:
            place = payment.account_id, payment.fingerprint, payment.idempotency_key
            if not self._answered.isdisjoint(unanswered.all_of(*place, self._clock.now_ms())):
                *_, result = await self._post_all(*self._take_marks(), purchase)
                return result
        return await self._store.post(purchase)

    async def _post_all(self, *commands: MarkAnswered | Purchase) -> list[Result]:
        """Post in this order, wait once; what was marked is then known to the view.

        Marks that are on their way already are in tasks made earlier, which run earlier.
        """
        results = await asyncio.gather(*(self._store.post(command) for command in commands))
        marked = {command.payment_id for command in commands if isinstance(command, MarkAnswered)}
        self._answered -= marked
        self._marking -= marked
        return results

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Do something that no answer waits for; `drain` waits for it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is being presented and recorded, at most that long; the rest is found again at the next start."""
        await self._mark()
        pending = {*self.presenting.values(), *self._background}
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)


def _charge(payment: Payment) -> int:
    """Return what is held or was taken for a payment, refused or not: a refusal may be collected until it is dead."""
    if payment.axes.charge is Charge.HELD:
        return payment.hold_base
    return payment.captured_base


def open_sealed(sealer: Sealer, sealed: bytes, context: bytes) -> tuple[Headers, bytes]:
    """Return headers and body that were packed and sealed in a context. Raises what the sealer raises."""
    _, _, headers, body = unpack(sealer.open(sealed, context))
    return headers, body
