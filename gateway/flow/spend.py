"""Spending an agent's money at a vendor, from the first request to the answer. It reads top to bottom as DESIGN section 4.

Must not know HTTP servers, chains or SQL.  Theory: a purchase is one commit that claims, holds and binds its terms, and
everything before it is free to fail while everything after it is free to be repeated.
"""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace

import structlog

from gateway.core.commands import (
    Attached,
    Done,
    MarkAnswered,
    OpenTask,
    Purchase,
    RecordResource,
    Refused,
    Remember,
    Result,
    UpdateResource,
)
from gateway.core.money import format_amount
from gateway.core.payment import Charge, Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.records import Answer, Payment, Resource
from gateway.core.routes import Ownership, Pricing
from gateway.flow.call import Call, Reply
from gateway.flow.pack import pack
from gateway.flow.present import Outcome, Presenter, agent_headers, refusal_of
from gateway.flow.promise import Promise, Promiser, seal_context
from gateway.flow.quote import Quote, Quoter, Refusal
from gateway.flow.slots import Slots, SlottedStream
from gateway.http.port import (
    BodyStream,
    NotSent,
    RedirectRefused,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from gateway.ports import Clock, Entropy, Reading, Store
from gateway.rails.offer import Challenge
from gateway.rails.problems import ChallengeError
from gateway.rails.x402.challenge import parse_challenge
from wallets.sealing import Sealer
from wallets.watermark import Watermark

PAYMENT_REQUIRED = 402
SUCCESS_CLASS = 2
BUFFER_BYTES = 1024 * 1024
MARK_AFTER_S = 0.05
SAFE_METHODS = frozenset({"GET", "HEAD"})  # their free answers are not kept under an Idempotency-Key

log = structlog.get_logger()


class Spend:
    """The use case. One object serves every call; what is in flight lives in tasks that no disconnect cancels."""

    def __init__(
        self,
        *,
        store: Store,
        upstream: Upstream,
        quoter: Quoter,
        promiser: Promiser,
        presenter: Presenter,
        watermark: Watermark,
        sealer: Sealer,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store, self._upstream, self._sealer = store, upstream, sealer
        self._quoter, self._promiser, self._presenter = quoter, promiser, presenter
        self._watermark, self._clock, self._entropy = watermark, clock, entropy
        self._presenting: dict[str, asyncio.Task[Outcome | Attached | Refused]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._slots = Slots()
        self._answered: set[str] = set()  # told, and not yet marked so in the store
        self._marking: set[str] = set()  # of these, on their way there
        self._mark_due = False

    async def run(self, call: Call) -> Reply:
        """Serve one call. Raises Problem; then nothing was charged unless the problem names a payment."""
        earlier = await self._earlier(call)
        if earlier is not None:
            return earlier
        slot = self._slots.take(call.account_id, call.vendor.name, call.vendor.terms.limits.calls_per_vendor)
        rest: BodyStream | None = None
        try:
            reply = await self._ask_and_buy(call)
            rest = reply.rest
        finally:
            if rest is None:
                slot.give_back()
        return reply if rest is None else replace(reply, rest=SlottedStream(rest, slot))

    async def _ask_and_buy(self, call: Call) -> Reply:
        resource, request = await self._admit(call)
        if call.quote_only and call.match.route.pricing is Pricing.FREE:
            return _quote_reply(call, None)
        answer = await self._ask(call, request)
        if answer.status != PAYMENT_REQUIRED:
            return await self._pass_on(call, answer)
        challenge = await self._challenge(call, answer)
        quote = await self._judge(call, challenge, resource)
        if call.quote_only:
            return _quote_reply(call, quote)
        if call.max_charge_base is not None and quote.hold_base > call.max_charge_base:
            detail = f"it costs {format_amount(quote.hold_base)}, X-Max-Charge is {format_amount(call.max_charge_base)}"
            raise Problem("price_above_max_charge", detail, "X-Max-Charge")
        resource_ref = None if resource is None else resource.ref
        promise = self._promiser.make(call, quote, challenge, request, resource_ref)
        return await self._buy(call, promise)

    # admit

    async def _earlier(self, call: Call) -> Reply | None:
        """An identical call that was not fully answered, or the same Idempotency-Key, stands for this one."""
        free = call.match.route.pricing is Pricing.FREE
        if call.quote_only or call.stream is not None or (free and call.method in SAFE_METHODS):
            return None
        if call.idempotency_key is not None:
            claimed = await self._store.claimed(call.account_id, call.idempotency_key)
            if claimed is not None and claimed.fingerprint != call.fingerprint:
                raise Problem("idempotency_conflict", "this key was used for another request", "Idempotency-Key")
            if claimed is not None and claimed.answer is not None:
                return self._kept(call, claimed.answer)
            if claimed is not None and claimed.payment_id is not None:
                payment = await self._store.payment(claimed.payment_id)
                if payment is None or not payment.reclaimable:
                    return await self._join(claimed.payment_id)
        if free:
            return None
        waiting = self._store.view.unanswered.find(
            call.account_id, call.fingerprint, call.idempotency_key, self._clock.now_ms()
        )
        return None if waiting is None or waiting in self._answered else await self._join(waiting)

    async def _admit(self, call: Call) -> tuple[Resource | None, UpstreamRequest]:
        route, vendor = call.match.route, call.vendor
        if call.quote_only and route.pricing is Pricing.MAYBE and call.method not in SAFE_METHODS:
            detail = (
                f"asking {vendor.name} for a price would carry out a {call.method} that costs nothing; use X-Max-Charge"
            )
            raise Problem("bad_request", detail, "Prefer")
        if route.pricing is not Pricing.FREE and call.stream is None:
            vendor.check_input(call.match, call.body)
        resource, target = None, call.target
        if route.ownership is Ownership.OWNER:
            resource, target = await self._owned(call)
        body = call.stream if call.stream is not None else call.body
        kept = call.idempotency_key is not None and call.method not in SAFE_METHODS
        return resource, UpstreamRequest(
            call.method,
            target,
            call.headers,
            body,
            BUFFER_BYTES,
            may_resend=route.safe and call.stream is None,
            live=route.pricing is Pricing.MAYBE and not kept,
        )

    async def _owned(self, call: Call) -> tuple[Resource, str]:
        """P9: what the account did not buy does not exist, whatever token comes with it."""
        ref, vendor = call.match.ref or "", call.vendor
        resource = await self._store.resource(vendor.name, ref)
        if resource is None or resource.account_id != call.account_id:
            raise Problem("not_found", f"there is no {call.match.route.ref_parameter} {ref} of yours")
        surrogate = vendor.surrogate_in(call.match, call.target)
        if surrogate is None:
            return resource, call.target
        if not self._presenter.owns(resource, surrogate):
            raise Problem("not_found", f"there is no {call.match.route.ref_parameter} {ref} with this token")
        return resource, vendor.outgoing_target(call.target, surrogate, self._presenter.open_secret(resource))

    # the vendor's first answer

    async def _ask(self, call: Call, request: UpstreamRequest) -> UpstreamResponse:
        try:
            return await self._upstream.send(call.vendor.origin, request)
        except NotSent as error:
            raise Problem("vendor_unreachable", f"{call.vendor.name}: {error.message}") from error
        except RedirectRefused as error:
            raise Problem("redirect_refused", f"{call.vendor.name}: {error.message}") from error
        except UpstreamError as error:
            raise Problem("vendor_timeout", f"{call.vendor.name}: {error.message}") from error

    async def _pass_on(self, call: Call, answer: UpstreamResponse) -> Reply:
        """Not a challenge: no money moves."""
        if call.quote_only and answer.status // 100 == SUCCESS_CLASS:
            if answer.rest is not None:
                await answer.rest.close()
            return _quote_reply(call, None)
        headers = agent_headers(call.vendor, call.target, answer)
        if call.match.route.pricing is Pricing.MAYBE:
            reply = Reply(answer.status, headers, answer.body, answer.rest)
        elif answer.rest is not None:  # the module judges whole answers only: in a cut one a token could hide
            await answer.rest.close()
            raise Problem("vendor_answer_oversized", f"{call.vendor.name} answered more than {BUFFER_BYTES} bytes")
        else:
            make = self._presenter.surrogate_for(call.vendor)
            reading = call.vendor.read(call.match, answer, make)
            reply = Reply(answer.status, headers, reading.body)
            await self._note(call, reading)
        if call.idempotency_key is not None and call.method not in SAFE_METHODS:
            await self._remember(call, reply)
        return reply

    async def _note(self, call: Call, reading: Reading) -> None:
        """Take over what a free answer tells: a resource that cost nothing has an owner all the same (P9)."""
        now_ms = self._clock.now_ms()
        if reading.created is not None:
            resource = self._presenter.resource_of(call.vendor.name, call.account_id, "", reading.created, now_ms)
            await self._store.post(RecordResource(resource, now_ms))
            owner = await self._store.resource(resource.vendor, resource.ref)
            if owner is None or owner.account_id != call.account_id:
                raise Problem("answer_withheld", f"{call.vendor.name} answered with a thing that is not yours")
        ref = call.match.ref
        if ref is not None and reading.state is not None:
            seen = UpdateResource(call.vendor.name, ref, reading.state, reading.expires_at_ms, now_ms)
            self._later(self._post_quietly(seen))

    async def _remember(self, call: Call, reply: Reply) -> None:
        """Keep a good answer to an unpriced request under its key; a failure may be tried again."""
        if reply.rest is not None or reply.status // 100 != SUCCESS_CLASS:
            return
        context = seal_context("kept", f"{call.account_id}/{call.idempotency_key}")
        sealed = self._sealer.seal(pack("", "", reply.headers, reply.body), context)
        answer = Answer("", reply.status, sealed, self._clock.now_ms())
        await self._store.post(Remember(call.account_id, call.idempotency_key or "", call.fingerprint, answer))

    def _kept(self, call: Call, answer: Answer) -> Reply:
        context = seal_context("kept", f"{call.account_id}/{call.idempotency_key}")
        headers, body = self._presenter.open_packed(answer.sealed, context)
        return Reply(answer.status, headers, body, replayed=True)

    # challenge, quote

    async def _challenge(self, call: Call, answer: UpstreamResponse) -> Challenge:
        if answer.rest is not None:
            await answer.rest.close()
        if call.stream is not None:
            raise Problem("body_not_replayable", f"{call.vendor.name} asks for a payment for a body too large to keep")
        try:
            challenge = parse_challenge(answer.status, answer.headers, answer.body)
        except ChallengeError as error:
            raise Problem(error.code.value, error.message, error.field or None) from error
        if challenge is None:
            raise Problem("foreign_402", f"{call.vendor.name} answered 402 without a challenge that we can pay")
        return challenge

    async def _judge(self, call: Call, challenge: Challenge, resource: Resource | None) -> Quote:
        try:
            return self._quoter.judge(call, challenge, resource)
        except Refusal as refusal:
            if refusal.task is not None:
                await self._store.post(OpenTask(refusal.task))
                log.warning("task.opened", kind=refusal.task.kind, subject=refusal.task.subject)
            raise refusal.problem from refusal

    # hold, present

    async def _buy(self, call: Call, promise: Promise) -> Reply:
        """Hold and present in a task that no disconnect cancels: money that is held is also spent.

        The task stands before the commit, so whoever sees the payment sees that it is under way: an identical call
        would else be told that nobody knows the outcome, and recovery would present it a second time.
        """
        payment_id = promise.payment.id
        presenting = asyncio.create_task(self._present(call, promise), name=f"present {payment_id}")
        self._presenting[payment_id] = presenting
        presenting.add_done_callback(lambda _: self._presenting.pop(payment_id, None))
        done = await asyncio.shield(presenting)
        if isinstance(done, Refused):
            raise Problem(done.code, done.detail)
        if isinstance(done, Attached):
            return await self._join(done.payment_id)
        return self._reply(done)

    async def _present(self, call: Call, promise: Promise) -> Outcome | Attached | Refused:
        placed = await self._hold(call, promise)
        if isinstance(placed, Attached | Refused):
            return placed
        return await self._presenter.present(call.vendor, call.match, placed, promise.request)

    async def _hold(self, call: Call, promise: Promise) -> Payment | Attached | Refused:
        limits = call.vendor.terms.limits
        purchase = Purchase(promise.payment, promise.attempt, limits, self._clock.now_ms())
        # Marks go first in the queue: the store, too, must know that an equal purchase is answered.
        *_, result = await self._post_all(*self._take_marks(), purchase)
        if not isinstance(result, Done):
            return result
        view = self._store.view
        # P12: the signer's own record of how far the book had come, before any signature of it leaves.
        self._watermark.record(view.journal_seq, view.journal_head)
        return result.payment if result.payment is not None else promise.payment

    async def _join(self, payment_id: str) -> Reply:
        """Answer from a purchase that was made already, waiting for it if it is under way."""
        presenting = self._presenting.get(payment_id)
        if presenting is not None:
            done = await asyncio.shield(presenting)
            if isinstance(done, Outcome):  # as it always is: what another call can name was held
                return self._reply(done, replayed=True)
        payment = await self._store.payment(payment_id)
        stored = await self._store.answer(payment_id)
        if payment is None or stored is None:
            raise refusal_of(payment) if payment is not None else Problem("not_found", "there is no such payment")
        headers, body = self._presenter.open_answer(stored)
        return self._finish(Outcome(payment, stored.status, headers, body), replayed=True)

    def _reply(self, outcome: Outcome, *, replayed: bool = False) -> Reply:
        axes = outcome.payment.axes
        passed_on = axes.delivery is Delivery.DELIVERED or (
            axes.delivery is Delivery.REFUSED and outcome.payment.fault is Fault.AGENT
        )
        if outcome.oversized:
            self._told(outcome.payment.id)
            detail = f"{outcome.payment.vendor} delivered more than can be kept; the call is charged"
            raise Problem("paid_answer_oversized", detail, extra={"payment_id": outcome.payment.id})
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

    # behind the answer

    @property
    def presenting(self) -> frozenset[str]:
        """Payments whose credential is being presented now; nobody else may present them."""
        return frozenset(self._presenting)

    def _told(self, payment_id: str) -> None:
        """The agent has its answer: from this moment on the same request is a new purchase.

        The mark rides with the next hold's commit, or goes alone after a moment: it is worth no fsync of its own.
        """
        self._answered.add(payment_id)
        if not self._mark_due:
            self._mark_due = True
            self._later(self._mark_soon())

    async def _mark_soon(self) -> None:
        await self._clock.sleep(MARK_AFTER_S)
        self._mark_due = False
        await self._mark()

    def _take_marks(self) -> list[MarkAnswered]:
        taken, now_ms = sorted(self._answered - self._marking), self._clock.now_ms()
        self._marking.update(taken)
        return [MarkAnswered(payment_id, now_ms) for payment_id in taken]

    async def _mark(self) -> None:
        await self._post_all(*self._take_marks())

    async def _post_all(self, *commands: MarkAnswered | Purchase) -> list[Result]:
        """Post in this order, wait once; what was marked is then known to the view."""
        if len(commands) == 1:
            results = [await self._store.post(commands[0])]
        else:
            results = await asyncio.gather(*(self._store.post(command) for command in commands))
        marked = {command.payment_id for command in commands if isinstance(command, MarkAnswered)}
        self._answered -= marked
        self._marking -= marked
        return results

    async def _post_quietly(self, command: UpdateResource) -> None:
        result = await self._store.post(command)
        if not isinstance(result, Done):
            log.warning("command.refused", command=type(command).__name__)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is being presented and recorded, at most that long; the rest is found again at the next start."""
        await self._mark()
        pending = {*self._presenting.values(), *self._background}
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)


def _charge(payment: Payment) -> int:
    """Return what is held or was taken for a payment, refused or not: a refusal may be collected until it is dead."""
    if payment.axes.charge is Charge.HELD:
        return payment.hold_base
    return payment.captured_base


def _quote_reply(call: Call, quote: Quote | None) -> Reply:
    price_base = 0 if quote is None else quote.hold_base
    document: dict[str, object] = {
        "vendor": call.vendor.name,
        "route": call.match.route.name,
        "price": format_amount(price_base),
        "collectable_for_s": 0,
        "item": None,
    }
    if quote is not None:
        document["collectable_for_s"] = call.match.route.window.clamp(quote.offer.max_timeout_s)
        if quote.item is not None:
            document["item"] = {"item": quote.item.item, "quantity": quote.item.quantity}
    return Reply(200, (("Content-Type", "application/json"),), json.dumps(document).encode())
