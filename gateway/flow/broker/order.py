"""Creating a thing that our account is charged for: priced, held, marked, sent once, and found again if the answer is lost.

Must not know a vendor.  Theory (P3, P4): the hold, the meter and the sealed request are one commit before anything leaves;
the mark in the thing's name is the purchase's own, so whatever the vendor made of it can be found and is never ordered
twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountVendor, Price, Thing, Told
from gateway.core.commands import (
    AccountLimits,
    Attached,
    Done,
    MeterStart,
    Purchase,
    RecordOutcome,
    Refused,
)
from gateway.core.payment import Axes, Delivery, Fault, Transfer
from gateway.core.problems import Problem
from gateway.core.records import Answer, Attempt, Meter, Payment, PeriodTerms, Resource
from gateway.core.routes import Match, Priority, Retry
from gateway.flow.answers import Answers
from gateway.flow.asking import unanswered
from gateway.flow.broker.bound import (
    Bound,
    Bounds,
    dearer,
    dearer_than,
    quote_reply,
    rate_agreed,
    require_ceiling,
    require_within,
)
from gateway.flow.broker.desk import Asking, Desk
from gateway.flow.broker.fence import Named
from gateway.flow.broker.showing import Showing, Shown
from gateway.flow.call import AccountCall, Reply
from gateway.flow.ids import Ids
from gateway.flow.limit_headers import retry_after_ms
from gateway.flow.pack import Headers, pack, unpack
from gateway.flow.present import Outcome
from gateway.flow.promise import purchase_key, seal_context
from gateway.http.port import NotSent, UpstreamError, UpstreamRequest, UpstreamResponse
from gateway.ports import Clock, Entropy, Store
from wallets.sealing import Sealer

CLOCKS_APART_MS = 60_000
BUFFER_BYTES = 1024 * 1024
TOO_MANY_REQUESTS = 429

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Placed:
    """An order on its way: what was agreed to, and what leaves."""

    payment: Payment
    meter: Meter
    price: Price
    request: UpstreamRequest
    lives_s: int | None = None  # the vendor destroys it so long after its creation


class Orders:
    """Creates at every account vendor."""

    def __init__(
        self,
        *,
        store: Store,
        answers: Answers,
        bounds: Bounds,
        showing: Showing,
        sealer: Sealer,
        limits: Mapping[str, AccountLimits],
        clock: Clock,
        business: Clock,
        entropy: Entropy,
    ) -> None:
        self._store, self._answers, self._bounds, self._showing = store, answers, bounds, showing
        self._sealer, self._limits = sealer, limits
        self._clock, self._business, self._ids = clock, business, Ids(clock, entropy)

    async def create(self, call: AccountCall, desk: Desk, named: Named) -> Reply:
        """Order one thing for the agent. Raises Problem; then nothing was made unless the problem names a payment."""
        vendor = desk.vendor
        bound = await self._bounds.of(call, desk, named)
        if call.quote_only:
            return quote_reply(call, vendor, (bound,))
        require_within(call, bound.hold_base)
        require_ceiling(call, bound.hold_base)
        placed = self._order(call, vendor, bound)
        return await self._answers.buy(placed.payment.id, self._place(call, desk, placed))

    def _order(self, call: AccountCall, vendor: AccountVendor, bound: Bound) -> Placed:
        now_ms, meter, hold_base = self._clock.now_ms(), bound.meter, bound.hold_base
        payment_id = self._ids.new("pay")
        period = PeriodTerms(vendor.name, meter.id, 1, hold_base, meter.created_at_ms, meter.held_until_ms)
        payment = Payment(
            id=payment_id,
            account_id=call.account_id,
            key_id=call.key.id,
            request_id=call.request_id,
            vendor=vendor.name,
            route=call.match.route.name,
            method=call.method,
            path=vendor.scrub(call.target),
            fingerprint=call.fingerprint,
            idempotency_key=call.idempotency_key,
            represent="no",
            terms=period,
            hold_base=hold_base,
            created_at_ms=now_ms,
            delivery_deadline_ms=now_ms,
            axes=Axes(transfer=Transfer.PREPARED),
        )
        key = purchase_key(payment_id)
        headers = merged(call.headers, vendor.headers_for(call.match, key))
        body = vendor.marked(call.match, call.body, meter.token)
        request = UpstreamRequest(call.method, call.target, headers, body, BUFFER_BYTES)
        return Placed(payment, meter, bound.price, request, bound.lives_s)

    async def _place(self, call: AccountCall, desk: Desk, placed: Placed) -> Outcome | Attached | Refused:
        payment, request = placed.payment, placed.request
        body = request.body if isinstance(request.body, bytes) else b""
        packed = pack(request.method, request.target, request.headers, body)
        sealed = self._sealer.seal(packed, seal_context("attempt", payment.id))
        ends_s = -(-placed.meter.held_until_ms // 1000)
        attempt = Attempt(payment.id, 1, payment.terms.value_base, ends_s, sealed, payment.created_at_ms)
        limits = self._limits[desk.vendor.name]
        held = await self._answers.hold(Purchase(payment, attempt, limits, self._clock.now_ms(), placed.meter))
        if isinstance(held, Attached | Refused):
            return held
        placed = replace(placed, payment=held)
        how = Asking(call.account_id, Priority.CREATE, call.match.route.scope, _resent(call.match))
        try:
            answer = await desk.ask(request, how)
        except NotSent as error:
            return await self._nothing(placed, unanswered(desk.vendor.name, error))
        except UpstreamError as error:
            return await self._unknown(placed, error.code)
        except Problem as problem:  # the desk says so only where nothing was made
            return await self._nothing(placed, problem)
        return await self.told(desk, call.match, placed, answer)

    async def found(self, desk: Desk, payment: Payment, meter: Meter, shown: UpstreamResponse) -> None:
        """Commit an order whose answer was lost and whose thing a list has shown, as if it had been answered now."""
        match = desk.vendor.match(payment.method, payment.path.partition("?")[0])
        made = None if match is None or shown.rest is not None else desk.vendor.created_answer(match, shown)
        if match is None or made is None:
            log.warning("order.not_shown", payment_id=payment.id, vendor=desk.vendor.name, status=shown.status)
            return
        price = Price(meter.kind, meter.hourly, meter.monthly)
        lives_s = await self._lives_s(desk, match, payment)
        placed = Placed(payment, meter, price, UpstreamRequest(payment.method, payment.path), lives_s)
        headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"}))
        outcome = await self.told(desk, match, placed, UpstreamResponse(made[0], headers, made[1]))
        log.info("order.found", payment_id=payment.id, delivery=outcome.payment.axes.delivery.value)

    async def _lives_s(self, desk: Desk, match: Match, payment: Payment) -> int | None:
        """Read from the stored request how long its thing was ordered for; None where nothing tells that now."""
        attempt = await self._store.attempt(payment.id)
        if attempt is None:
            return None
        _, _, _, body = unpack(self._sealer.open(attempt.sealed_request, seal_context("attempt", payment.id)))
        try:
            return await self._bounds.lives_s(desk, desk.vendor.order(match, body))
        except Problem as problem:  # templates that are not told now, or not any more
            log.info("order.life_unknown", payment_id=payment.id, code=problem.code)
            return None

    async def told(self, desk: Desk, match: Match, placed: Placed, answer: UpstreamResponse) -> Outcome:
        """Commit what the vendor answered to an order, now or when it was found again."""
        vendor, payment = desk.vendor, placed.payment
        if answer.rest is not None:
            await answer.rest.close()
            return await self._unknown(placed, "oversized")
        told = vendor.read(match, answer)
        if told.delivery is not Delivery.DELIVERED:
            return await self._commit(desk, placed, answer, told, None)
        thing = next((t for t in told.things if t.ref in told.created and t.kind == "server"), None)
        if thing is None:  # it says that it made something, and not what: a list will tell
            return await self._unknown(placed, "unreadable")
        resource = self._resource(placed, thing)
        owner = await self._store.resource(vendor.name, thing.ref)
        if (
            owner is not None and owner.account_id != payment.account_id
        ):  # P9: the book takes none of it, and asks a human
            return await self._commit(desk, placed, answer, told, (thing, resource, Shown((), b"")))
        if dearer(thing, placed.price):
            return await self._dearer(desk, placed, answer, thing, resource)
        try:
            shown = await self._showing.show(vendor, match, payment.account_id, answer, told, (resource,))
        except Problem:
            return await self._unknown(placed, "unreadable")
        return await self._commit(desk, placed, answer, told, (thing, resource, shown))

    async def _commit(
        self,
        desk: Desk,
        placed: Placed,
        answer: UpstreamResponse,
        told: Told,
        made: tuple[Thing, Resource, Shown] | None,
    ) -> Outcome:
        payment, now_ms = placed.payment, self._clock.now_ms()
        headers, body = self._showing.refused(desk.vendor, answer, payment.account_id)
        if made is not None:
            headers, body = made[2].headers, made[2].body
        kept = None
        if made is not None or told.fault is Fault.AGENT:
            sealed = self._sealer.seal(pack("", "", headers, body), seal_context("answer", payment.id))
            kept = Answer(payment.id, answer.status, sealed, now_ms)
        command = RecordOutcome(
            payment_id=payment.id,
            delivery=told.delivery,
            fault=told.fault,
            vendor_status=answer.status,
            answer=kept,
            resource=None if made is None else made[1],
            at_ms=now_ms,
            metered=None if made is None else self._start(placed, made[0]),
        )
        payment = await self._post(command, payment)
        problem = await self._refusal(desk, payment, answer, told)
        return Outcome(payment, answer.status, headers, body, problem=problem)

    async def _refusal(self, desk: Desk, payment: Payment, answer: UpstreamResponse, told: Told) -> Problem | None:
        """Return what the agent is told where the vendor made nothing for a reason that is not the agent's."""
        if payment.axes.delivery is not Delivery.REFUSED or (told.fault is Fault.AGENT and told.problem is None):
            return None
        extra = {"payment_id": payment.id, "charge": payment.axes.charge.value}
        detail = f"{payment.vendor} made nothing"
        if told.problem is not None:
            return Problem(told.problem, detail, extra=extra)
        if answer.status == TOO_MANY_REQUESTS:
            wait_ms = retry_after_ms(answer.headers, self._clock.now_ms()) or 1000
            return Problem("vendor_busy", detail, extra={**extra, "retry_after_s": -(-wait_ms // 1000)})
        await desk.tasks.ask(
            "vendor_refuses_us", payment.vendor, f"{payment.vendor} answered {answer.status} to an order"
        )
        return Problem("vendor_refuses_us", detail, extra=extra)

    async def _dearer(
        self, desk: Desk, placed: Placed, answer: UpstreamResponse, thing: Thing, resource: Resource
    ) -> Outcome:
        """P8: what costs more than was agreed to is not the agent's: it is destroyed at once, and the house pays for it.

        No other of its kind is ordered for a while, for each would cost the house another unit.
        """
        command = RecordOutcome(
            payment_id=placed.payment.id,
            delivery=Delivery.REFUSED,
            fault=Fault.VENDOR,
            vendor_status=answer.status,
            answer=None,
            resource=resource,
            at_ms=self._clock.now_ms(),
            note=f"dearer than quoted: {thing.hourly} an hour",
            metered=replace(self._start(placed, thing), accepted=False),
        )
        payment, price = await self._post(command, placed.payment), placed.price
        log.error("order.dearer", payment_id=payment.id, vendor=payment.vendor, ref=thing.ref)
        self._bounds.was_dearer(payment.vendor, price)
        detail = f"it asks more than {price.hourly} an hour for {price.kind}: see what it costs now"
        await desk.tasks.ask("price_above_quote", f"{payment.vendor}/{price.kind}", detail)
        problem = dearer_than(payment.vendor, price)
        problem.extra |= {"payment_id": payment.id, "charge": payment.axes.charge.value}
        return Outcome(payment, answer.status, (), b"", problem=problem)

    async def _nothing(self, placed: Placed, problem: Problem) -> Outcome:
        """Nothing was made, for certain: the hold goes back now."""
        command = RecordOutcome(
            placed.payment.id, Delivery.REFUSED, Fault.NONE, None, None, None, self._clock.now_ms(), problem.code
        )
        payment = await self._post(command, placed.payment)
        return Outcome(payment, None, (), b"", problem=problem)

    async def _unknown(self, placed: Placed, note: str) -> Outcome:
        """P5: it may have been made. The hold stays until a list of the vendor's shows it, or twice that it does not exist."""
        command = RecordOutcome(
            placed.payment.id, Delivery.UNKNOWN, Fault.NONE, None, None, None, self._clock.now_ms(), note
        )
        return Outcome(await self._post(command, placed.payment), None, (), b"")

    async def _post(self, command: RecordOutcome, payment: Payment) -> Payment:
        result = await self._store.post(command)
        return result.payment if isinstance(result, Done) and result.payment is not None else payment

    def _start(self, placed: Placed, thing: Thing) -> MeterStart:
        running = not placed.meter.while_running or thing.charged is True
        return MeterStart(
            hourly=rate_agreed(thing.hourly, placed.price.hourly),
            monthly=thing.monthly or placed.price.monthly,
            kind=thing.plan or placed.price.kind,
            since_ms=self._since_ms(placed.meter, thing) if running else None,
        )

    def _since_ms(self, meter: Meter, thing: Thing) -> int:
        """The vendor's own time of creation, where its clock and ours agree; else the moment of its answer."""
        now_ms, said_ms = self._business.now_ms(), thing.created_at_ms
        plausible = said_ms is not None and meter.created_at_ms <= said_ms <= now_ms + CLOCKS_APART_MS
        return said_ms if said_ms is not None and plausible else now_ms

    def _resource(self, placed: Placed, thing: Thing) -> Resource:
        payment, meter, expires_at_ms = placed.payment, placed.meter, thing.expires_at_ms
        if expires_at_ms is None and placed.lives_s is not None:
            expires_at_ms = self._since_ms(meter, thing) + placed.lives_s * 1000
        return Resource(
            vendor=payment.vendor,
            ref=thing.ref,
            account_id=payment.account_id,
            payment_id=payment.id,
            kind=thing.kind,
            state=thing.state,
            surrogate_digest=None,
            sealed_secret=None,
            expires_at_ms=expires_at_ms,
            as_of_ms=self._clock.now_ms(),
            label=meter.label,
            meter_id=meter.id,
            plan=thing.plan or meter.kind,
        )


def merged(headers: Headers, ours: Headers) -> Headers:
    """Return an agent's headers with ours in their place where both say something."""
    said = {name.lower() for name, _ in ours}
    return (*(pair for pair in headers if pair[0].lower() not in said), *ours)


def _resent(match: Match) -> Retry:
    """Only what the vendor itself recognises by a key may leave twice; the rest is looked for."""
    return Retry.KEYED if match.route.retry is Retry.KEYED else Retry.NEVER
