"""Showing a credential to the vendor and recording what came of it: once at first, and again until the answer is known.

Must not know prices or balances.  Theory (P4, P5): what is shown is the stored bytes, however often; no answer is not a
refusal, so an outcome that nobody saw stays unknown and the hold stays with it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import structlog

from contracts.codec import to_hex
from gateway.core.commands import Command, Done, ObservePrice, RecordOutcome, UpdateResource
from gateway.core.payment import Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.records import Answer, Payment, Resource
from gateway.core.routes import Match
from gateway.core.times import utc_text
from gateway.flow.pack import Headers, pack, unpack
from gateway.flow.promise import seal_context, split_raw
from gateway.flow.pushing import Pusher
from gateway.flow.sharing import update_of, with_plan
from gateway.http.egress import Origin
from gateway.http.headers import agent_location, response_headers
from gateway.http.port import NotSent, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse
from gateway.ports import Broadcaster, Clock, Created, Reading, Store, Vendor
from gateway.rails.receipts import read_any_transaction
from wallets.sealing import Sealer
from wallets.secret import Secret

CONNECT_ATTEMPTS = 3
CONNECT_PAUSE_S = 0.3
PAYMENT_REQUIRED = 402
MPP_HEADERS = ("Authorization", "Payment-Authorization")
PAID_ANSWER_MAX_BYTES = 16 * 1024 * 1024  # kept, sealed, for whoever asks again
PAID_ANSWER_READ_BYTES = 1024 * 1024 * 1024  # read to see that it arrived whole
NO_BROADCASTERS: Mapping[int, Broadcaster] = MappingProxyType({})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Surrogates:
    """Stand-ins for vendors' tokens: `make(vendor, real)` and `digest(surrogate)`."""

    make: Callable[[str, str], str]
    digest: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A presented credential's committed outcome, and the vendor's answer if there was one.

    `oversized`: it was delivered whole, and is larger than what can be kept. `problem`: what the agent is told instead.
    """

    payment: Payment
    status: int | None
    headers: Headers
    body: bytes
    oversized: bool = False
    problem: Problem | None = None


class Presenter:
    """Sends stored requests and commits outcomes."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        sealer: Sealer,
        surrogates: Surrogates,
        clock: Clock,
        broadcasters: Mapping[int, Broadcaster] = NO_BROADCASTERS,
    ) -> None:
        self._store, self._upstream, self._sealer = store, upstream, sealer
        self._surrogates, self._clock, self._pusher = surrogates, clock, Pusher(broadcasters, clock)
        self._never_left: set[str] = set()  # presented in vain: no byte was sent

    def can_send(self, chain_id: int) -> bool:
        """Say whether a transaction of this chain could be sent by ourselves."""
        return self._pusher.can_send(chain_id)

    async def present(
        self, vendor: Vendor, match: Match, payment: Payment, request: UpstreamRequest, raw: bytes | None = None
    ) -> Outcome:
        """Show the credential and commit what came of it. Never raises for what the vendor or the network did.

        `raw` is a transaction that must be on chain before its hash is shown.
        """
        if raw is not None and not await self._pusher.land(payment, raw):
            return await self._commit(payment, None, _unknown(), "not_on_chain")
        try:
            answer, oversized = await _whole(await self._send(vendor, request))
        except NotSent as error:
            if payment.axes.delivery is Delivery.NONE:
                self._never_left.add(payment.id)
            return await self._commit(payment, None, _unknown(), error.code)
        except UpstreamError as error:
            self._never_left.discard(payment.id)
            return await self._commit(payment, None, _unknown(), error.code)
        self._never_left.discard(payment.id)
        reading = vendor.read(match, answer, self.surrogate_for(vendor))
        reading = with_plan(vendor, match, request.body if isinstance(request.body, bytes) else b"", reading)
        note = ""
        if answer.status == PAYMENT_REQUIRED and _is_mpp(request):
            # P5: sellers ask again also when they were paid and could not see it, so this refuses nothing.
            reading, note = replace(reading, delivery=Delivery.UNKNOWN, fault=Fault.NONE), "asked_again"
        if oversized:
            outcome = await self._commit(payment, answer, reading, "oversized", vendor, keep=False)
            return replace(outcome, oversized=outcome.payment.axes.delivery is Delivery.DELIVERED)
        return await self._commit(payment, answer, reading, note, vendor)

    async def represent(self, vendor: Vendor, payment: Payment) -> Outcome | None:
        """Show the stored credential again where the route allows it; None where it does not.

        One that has provably never left this process is shown for the first time, whatever the route says of a second.
        """
        if payment.represent != "yes" and payment.id not in self._never_left:
            return None
        attempt = await self._store.attempt(payment.id)
        match = vendor.match(payment.method, payment.path.partition("?")[0])
        if attempt is None or match is None:
            return None
        opened = self._sealer.open(attempt.sealed_request, seal_context("attempt", payment.id))
        method, target, packed_headers, body = unpack(opened)
        headers, raw = split_raw(packed_headers)
        request = UpstreamRequest(method, target, headers, body)
        log.info("payment.represented", payment_id=payment.id, vendor=vendor.name, route=payment.route)
        return await self.present(vendor, match, payment, request, raw)

    async def _send(self, vendor: Vendor, request: UpstreamRequest) -> UpstreamResponse:
        for attempt in range(1, CONNECT_ATTEMPTS):
            try:
                return await self._upstream.send(vendor.origin, request)
            except NotSent:  # no byte has left, so trying again is not a second presentation
                await self._clock.sleep(CONNECT_PAUSE_S * attempt)
        return await self._upstream.send(vendor.origin, request)

    async def _commit(
        self,
        payment: Payment,
        answer: UpstreamResponse | None,
        reading: Reading,
        note: str,
        vendor: Vendor | None = None,
        *,
        keep: bool = True,
    ) -> Outcome:
        now_ms = self._clock.now_ms()
        status = None if answer is None else answer.status
        headers: Headers = ()
        if answer is not None and vendor is not None:
            headers = agent_headers(vendor, payment.path, answer)
            note = note or _receipt_note(answer)
        passed_on = reading.delivery is Delivery.DELIVERED or (
            reading.delivery is Delivery.REFUSED and reading.fault is Fault.AGENT
        )
        stored = None
        if keep and passed_on and status is not None:
            sealed = self._sealer.seal(pack("", "", headers, reading.body), seal_context("answer", payment.id))
            stored = Answer(payment.id, status, sealed, now_ms)
        command = RecordOutcome(
            payment_id=payment.id,
            delivery=reading.delivery,
            fault=reading.fault,
            vendor_status=status,
            answer=stored,
            resource=None
            if reading.created is None
            else self.resource_of(payment.vendor, payment.account_id, payment.id, reading.created, now_ms),
            at_ms=now_ms,
            note=note,
        )
        seen: list[Command] = [ObservePrice(payment.vendor, item, base, now_ms) for item, base in reading.prices]
        if reading.state is not None and payment.resource_ref is not None:
            ref, expires_at_ms = payment.resource_ref, reading.expires_at_ms
            seen.append(UpdateResource(payment.vendor, ref, reading.state, expires_at_ms, now_ms))
        seen += [update_of(payment.vendor, each, now_ms) for each in reading.seen]
        if seen:
            result, *_ = await asyncio.gather(self._store.post(command), *(self._store.post(look) for look in seen))
        else:
            result = await self._store.post(command)
        recorded = result.payment if isinstance(result, Done) and result.payment is not None else payment
        return Outcome(recorded, status, headers, reading.body)

    def resource_of(self, vendor: str, account_id: str, payment_id: str, created: Created, now_ms: int) -> Resource:
        """Return the record of what a vendor created for an account, its secret sealed, its surrogate known by digest."""
        surrogate_digest = sealed = None
        if created.secret is not None:
            surrogate = self._surrogates.make(vendor, created.secret.reveal())
            surrogate_digest = self._surrogates.digest(surrogate)
            context = seal_context("resource", f"{vendor}/{created.ref}")
            sealed = self._sealer.seal(created.secret.reveal().encode(), context)
        expires_at_ms = created.expires_at_ms
        if expires_at_ms is None and created.lasts_s is not None:
            expires_at_ms = now_ms + created.lasts_s * 1000
        return Resource(
            vendor=vendor,
            ref=created.ref,
            account_id=account_id,
            payment_id=payment_id,
            kind=created.kind,
            state=created.state,
            surrogate_digest=surrogate_digest,
            sealed_secret=sealed,
            expires_at_ms=expires_at_ms,
            as_of_ms=now_ms,
            plan=created.plan,
        )

    def surrogate_for(self, vendor: Vendor) -> Callable[[str], str]:
        """Return the function that turns this vendor's tokens into surrogates."""
        return lambda real: self._surrogates.make(vendor.name, real)

    def open_secret(self, resource: Resource) -> Secret[str] | None:
        """Return the vendor's own credential for a resource."""
        if resource.sealed_secret is None:
            return None
        context = seal_context("resource", f"{resource.vendor}/{resource.ref}")
        return Secret(self._sealer.open(resource.sealed_secret, context).decode())

    def owns(self, resource: Resource, surrogate: str) -> bool:
        """Say whether a surrogate is this resource's."""
        return resource.surrogate_digest == self._surrogates.digest(surrogate)


def agent_headers(vendor: Vendor, target: str, answer: UpstreamResponse) -> Headers:
    """Return the headers of a vendor's answer that an agent may have; a redirect within the vendor stays behind us."""
    headers = response_headers(answer.headers.items())
    location = answer.headers.get("Location")
    if location is None:
        return headers
    inside = agent_location(location, Origin.parse(vendor.origin), target, f"/proxy/{vendor.name}")
    return headers if inside is None else (*headers, ("Location", vendor.scrub(inside)))


def _receipt_note(answer: UpstreamResponse) -> str:
    """What the vendor's own receipt says, for the journal: a hint to look at, never evidence (P14)."""
    transaction = read_any_transaction(answer.headers)
    return "" if transaction is None else f"the vendor's receipt names {to_hex(transaction)}"


async def _whole(answer: UpstreamResponse) -> tuple[UpstreamResponse, bool]:
    """Read a paid answer to its end, for only a whole one is a delivery; say whether it was too large to keep."""
    if answer.rest is None:
        return answer, False
    parts, size = [answer.body], len(answer.body)
    try:
        async for chunk in answer.rest:
            size += len(chunk)
            if size <= PAID_ANSWER_MAX_BYTES:
                parts.append(chunk)
            else:
                parts.clear()
            if size > PAID_ANSWER_READ_BYTES:
                return replace(answer, body=b""), True
    finally:
        await answer.rest.close()
    oversized = size > PAID_ANSWER_MAX_BYTES
    return replace(answer, body=b"".join(parts), rest=None), oversized


def _is_mpp(request: UpstreamRequest) -> bool:
    """Say whether a request carries a credential of MPP."""
    return any(name in MPP_HEADERS and value.startswith("Payment ") for name, value in request.headers)


def _unknown() -> Reading:
    return Reading(Delivery.UNKNOWN, Fault.NONE, b"")


def refusal_of(payment: Payment) -> Problem:
    """Return what an agent is told about a payment that has no answer to pass on."""
    extra = {
        "payment_id": payment.id,
        "delivery": payment.axes.delivery.value,
        "transfer": payment.axes.transfer.value,
        "charge": payment.axes.charge.value,
        "vendor_status": payment.vendor_status,
    }
    if payment.authorization is not None:
        extra["collectable_until"] = utc_text(payment.authorization.valid_before_s * 1000)
    if payment.disputed and payment.closed_at_ms is None:
        detail = f"{payment.vendor} collected and did not deliver; the operator decides whether the hold goes back"
        return Problem("dispute_held", detail, extra=extra)
    if payment.axes.delivery is Delivery.REFUSED and payment.closed_at_ms is None:
        detail = (
            f"{payment.vendor} refused a payment that it may still collect; the hold goes back once the chain proves "
            "that it cannot"
        )
        return Problem("vendor_refused_payment", detail, extra=extra)
    if payment.closed_at_ms is not None:
        return Problem("idempotency_spent", f"the purchase ended as {payment.axes.charge.value}", extra=extra)
    if payment.axes.delivery is Delivery.DELIVERED:
        detail = f"{payment.vendor} delivered more than can be kept; the call is charged"
        return Problem("paid_answer_oversized", detail, extra=extra)
    return Problem("outcome_unknown", f"the money stays on hold until {payment.vendor}'s answer is found", extra=extra)
