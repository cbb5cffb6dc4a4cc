"""Spending an agent's money at a vendor, from the first request to the answer. It reads top to bottom as design 4.

Must not know HTTP servers, chains or SQL.  Theory: a purchase is one commit that claims, holds and binds its terms, and
everything before it is free to fail while everything after it is free to be repeated.
"""

import json
from dataclasses import replace

import structlog

from gateway.core.commands import (
    Attached,
    Done,
    Purchase,
    RecordResource,
    Refused,
    UpdateResource,
)
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Ownership, Pricing
from gateway.flow.answers import Answers
from gateway.flow.asking import ask_vendor
from gateway.flow.call import Call, Reply
from gateway.flow.house import House
from gateway.flow.meaning import asks_who, classify_at
from gateway.flow.present import PAYMENT_REQUIRED, Outcome, Presenter, agent_headers
from gateway.flow.promise import Promise, Promiser, purchase_key
from gateway.flow.prove import Prover
from gateway.flow.quote import Quote, Quoter, Refusal, item_document
from gateway.flow.refusing import refusal_to_sign
from gateway.flow.sharing import Sharing, with_plan
from gateway.flow.slots import Slots, SlottedStream
from gateway.flow.tasks import Tasks
from gateway.http.port import BodyStream, Upstream, UpstreamRequest, UpstreamResponse, is_success
from gateway.ports import Clock, Reading, Store
from gateway.rails.asked import Asked
from gateway.rails.offer import MppOffer
from wallets.guard import SigningRefused

BUFFER_BYTES = 1024 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD"})  # their free answers are not kept under an Idempotency-Key
LONGEST_WAIT_S = 3600

log = structlog.get_logger()


class Spend:
    """The use case. One object serves every call."""

    def __init__(
        self,
        *,
        store: Store,
        upstream: Upstream,
        quoter: Quoter,
        promiser: Promiser,
        presenter: Presenter,
        prover: Prover,
        answers: Answers,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._store, self._upstream, self._answers = store, upstream, answers
        self._quoter, self._promiser, self._presenter, self._prover = quoter, promiser, presenter, prover
        self._tasks, self._clock, self._slots = tasks, clock, Slots()
        self._sharing = Sharing(store, clock)
        self._house = House(store=store, upstream=upstream, prover=prover, clock=clock)

    async def run(self, call: Call) -> Reply:
        """Serve one call. Raises Problem; then nothing was charged unless the problem names a payment."""
        earlier = await self._answers.earlier(call)
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
        fenced_off = await self._sharing.admit(call)
        if fenced_off is not None:
            return fenced_off
        resource, request, payment_id = await self._admit(call)
        if call.quote_only and call.match.route.pricing is Pricing.FREE:
            return self._quote_reply(call, None)
        answer = await ask_vendor(self._upstream, call, request)
        if answer.status != PAYMENT_REQUIRED:
            return await self._pass_on(call, answer)
        asked = await self._asked(call, answer)
        if asks_who(call.match.route, asked):
            _require_no_wait(call, asked)
            return await self._pass_on(call, await self._prover.answer(call, asked, request))
        quote = await self._judge(call, asked, resource)
        if call.quote_only:
            return self._quote_reply(call, quote)
        if call.max_charge_base is not None and quote.hold_base > call.max_charge_base:
            detail = f"it costs {format_amount(quote.hold_base)}, X-Max-Charge is {format_amount(call.max_charge_base)}"
            raise Problem("price_above_max_charge", detail, "X-Max-Charge")
        _require_no_wait(call, asked)
        self._require_way(quote)
        resource_ref = None if resource is None else resource.ref
        try:
            promise = self._promiser.make(
                call, quote, asked, request, resource_ref, payment_id or self._promiser.new_id()
            )
        except SigningRefused as refused:
            raise await refusal_to_sign(self._tasks, call.vendor.terms.wallet, refused) from refused
        return await self._answers.buy(promise.payment.id, self._present(call, promise))

    # admit

    async def _admit(self, call: Call) -> tuple[Resource | None, UpstreamRequest, str | None]:
        """Return the thing that a call is about, the request that pays nothing, and the payment's id where it has one yet."""
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
        headers, payment_id = call.headers, None
        if "mpp" in vendor.terms.rails and call.method not in SAFE_METHODS:
            # Sent twice by the rail's design: a vendor that works on the unpaid request can tell that it is the same.
            payment_id = self._promiser.new_id()
            headers = (*headers, ("Idempotency-Key", purchase_key(payment_id)))
        request = UpstreamRequest(
            call.method,
            target,
            headers,
            body,
            BUFFER_BYTES,
            may_resend=route.safe and call.stream is None,
            live=route.pricing is Pricing.MAYBE and not kept,
        )
        return resource, request, payment_id

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

    async def _pass_on(self, call: Call, answer: UpstreamResponse) -> Reply:
        """Not a challenge: no money moves."""
        if call.quote_only and is_success(answer.status):
            if answer.rest is not None:
                await answer.rest.close()
            return self._quote_reply(call, None)
        headers = agent_headers(call.vendor, call.target, answer)
        if call.match.route.pricing is Pricing.MAYBE:
            reply = Reply(answer.status, headers, answer.body, answer.rest)
        elif answer.rest is not None:  # the module judges whole answers only: in a cut one a token could hide
            await answer.rest.close()
            raise Problem("vendor_answer_oversized", f"{call.vendor.name} answered more than {BUFFER_BYTES} bytes")
        else:
            make = self._presenter.surrogate_for(call.vendor)
            reading = with_plan(call.vendor, call.match, call.body, call.vendor.read(call.match, answer, make))
            await self._note(call, reading)
            await self._sharing.take(call, reading)
            reply = Reply(answer.status, *await self._sharing.shown(call, answer.status, headers, reading))
        await self._answers.remember(call, reply)
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
            self._answers.later(self._post_quietly(seen))

    # challenge, quote

    async def _asked(self, call: Call, answer: UpstreamResponse) -> Asked:
        """Return what a 402 asks for, if it means that: the default is not to pay (P8)."""
        if answer.rest is not None:
            await answer.rest.close()
        if call.stream is not None:
            raise Problem("body_not_replayable", f"{call.vendor.name} asks for a payment for a body too large to keep")
        said = answer.status, answer.headers, answer.body
        found = classify_at(call.vendor, call.match.route, self._store.view, said, self._clock.now_ms())
        if found.asked is None:
            raise found.refusal()
        return found.asked

    async def _judge(self, call: Call, asked: Asked, resource: Resource | None) -> Quote:
        resource = await self._house.ready(call, resource)
        try:
            return self._quoter.judge(call, asked, resource)
        except Refusal as refusal:
            question = refusal.task
            if question is not None:
                await self._tasks.ask(question.kind, question.subject, question.detail)
            raise refusal.problem from refusal

    # hold, present

    def _require_way(self, quote: Quote) -> None:
        offer = quote.offer
        if isinstance(offer, MppOffer) and offer.push_only and not self._presenter.can_send(offer.chain_id):
            raise Problem("push_not_allowed", f"transactions of chain {offer.chain_id} cannot be sent from here")

    async def _present(self, call: Call, promise: Promise) -> Outcome | Attached | Refused:
        limits = call.vendor.terms.limits
        purchase = Purchase(
            promise.payment,
            promise.attempt,
            limits,
            self._clock.now_ms(),
            challenge_id=promise.challenge_id,
            prescribed=promise.prescribed,
        )
        placed = await self._answers.hold(purchase)
        if isinstance(placed, Attached | Refused):
            return placed
        return await self._presenter.present(call.vendor, call.match, placed, promise.request, promise.raw)

    async def _post_quietly(self, command: UpdateResource) -> None:
        result = await self._store.post(command)
        if not isinstance(result, Done):
            log.warning("command.refused", command=type(command).__name__)

    def _quote_reply(self, call: Call, quote: Quote | None) -> Reply:
        price_base = 0 if quote is None else quote.hold_base
        document: dict[str, object] = {
            "vendor": call.vendor.name,
            "route": call.match.route.name,
            "price": format_amount(price_base),
            "collectable_for_s": 0,
            "item": None,
        }
        if quote is not None:
            document["collectable_for_s"] = self._promiser.collectable_for_s(call, quote.offer)
            document["item"] = item_document(quote.item)
        return Reply(200, (("Content-Type", "application/json"),), json.dumps(document).encode())


def _require_no_wait(call: Call, asked: Asked) -> None:
    """A vendor may name the time before which it is not to be paid; it is passed on, and nobody waits here."""
    if asked.retry_after_s:
        wait_s = min(asked.retry_after_s, LONGEST_WAIT_S)
        detail = f"{call.vendor.name} asks not to be paid before {wait_s} s from now"
        raise Problem("payment_deferred", detail, extra={"retry_after_s": wait_s})
