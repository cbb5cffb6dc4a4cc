"""Finding what a paid call made when its answer was lost and its credential is good only once.

Must not know any vendor: its module says which list to look in and what there could be the call's.  Theory (P5, P9): the
vendor takes no mark of ours, so a thing is a call's only if it is the one thing that fits and nobody owns, and the call
is the only one that it fits; a guess would hand one agent another's server. Everything else is left to a human, or to the
dispute rule when the time is over.
"""

import structlog

from gateway.core.commands import Done, RecordOutcome
from gateway.core.payment import Delivery, Fault, Transfer
from gateway.core.records import Answer, Payment
from gateway.flow.house import House
from gateway.flow.pack import pack, unpack
from gateway.flow.present import Presenter
from gateway.flow.promise import seal_context
from gateway.flow.tasks import Tasks
from gateway.http.port import UpstreamResponse
from gateway.ports import Clock, Entropy, Found, Lost, Store, Vendor
from wallets.sealing import Sealer

SKEW_MS = 60_000  # the vendor's clock and ours differ
LATE_MS = 600_000  # what was collected in time may be made a while later
UNDECIDED = (Delivery.NONE, Delivery.UNKNOWN)

log = structlog.get_logger()


class Finder:
    """Looks for lost deliveries. Looking twice finds the same, or nothing new."""

    def __init__(
        self, *, store: Store, house: House, presenter: Presenter, sealer: Sealer, clock: Clock, entropy: Entropy
    ) -> None:
        self._store, self._house, self._presenter = store, house, presenter
        self._sealer, self._clock, self._tasks = sealer, clock, Tasks(store, clock, entropy)

    async def find(self, vendor: Vendor, payment: Payment) -> bool:
        """Look for what a collected payment made; record it and say so if it is certain. Opens a task if it never can be."""
        match = vendor.match(payment.method, payment.path.partition("?")[0])
        target = None if vendor.shared is None or match is None else vendor.shared.search_target(match)
        lost = await self._lost(vendor, payment)
        if target is None or lost is None or payment.axes.transfer is not Transfer.SETTLED:
            return False
        answer = await self._house.ask(vendor, target, payment.request_id)
        if answer is None:
            return False
        found = [each for each in self._fitting(vendor, lost, answer) if await self._is_free(payment, each)]
        if not found:
            return False
        rivals = await self._rivals(vendor, payment, answer, {each.created.ref for each in found})
        if len(found) == 1 and not rivals:
            return await self._record(vendor, payment, found[0])
        if all(rival.axes.transfer is Transfer.SETTLED for rival in rivals):  # the others may still prove dead
            await self._ask(payment, found, rivals)
        return False

    async def _lost(self, vendor: Vendor, payment: Payment) -> Lost | None:
        match = vendor.match(payment.method, payment.path.partition("?")[0])
        attempt = await self._store.attempt(payment.id)
        if match is None or attempt is None or payment.authorization is None:
            return None
        _, _, _, body = unpack(self._sealer.open(attempt.sealed_request, seal_context("attempt", payment.id)))
        until_ms = payment.authorization.valid_before_s * 1000 + LATE_MS
        return Lost(match, body, payment.created_at_ms - SKEW_MS, until_ms, payment.settled_base)

    @staticmethod
    def _fitting(vendor: Vendor, lost: Lost, answer: UpstreamResponse) -> tuple[Found, ...]:
        found = None if vendor.shared is None else vendor.shared.found(lost, answer)
        return () if found is None else found

    async def _is_free(self, payment: Payment, found: Found) -> bool:
        """Nobody's, or the account's own by what it was made of, without a payment that it is the delivery of."""
        known = await self._store.resource(payment.vendor, found.created.ref)
        return known is None or (known.account_id == payment.account_id and not known.payment_id)

    async def _rivals(
        self, vendor: Vendor, payment: Payment, answer: UpstreamResponse, refs: set[str]
    ) -> list[Payment]:
        """Return the other purchases, under way or lost, that may have made one of these things."""
        rivals = []
        for other in list(self._store.view.open_payments.values()):
            same = (other.vendor, other.route) == (payment.vendor, payment.route) and other.id != payment.id
            if not same or other.axes.delivery not in UNDECIDED or other.axes.transfer is Transfer.DEAD:
                continue
            lost = await self._lost(vendor, other)
            if lost is None or refs & {each.created.ref for each in self._fitting(vendor, lost, answer)}:
                rivals.append(other)
        return rivals

    async def _record(self, vendor: Vendor, payment: Payment, found: Found) -> bool:
        now_ms = self._clock.now_ms()
        headers = (("Content-Type", "application/json"),)
        sealed = self._sealer.seal(pack("", "", headers, found.body), seal_context("answer", payment.id))
        resource = self._presenter.resource_of(payment.vendor, payment.account_id, payment.id, found.created, now_ms)
        command = RecordOutcome(
            payment_id=payment.id,
            delivery=Delivery.DELIVERED,
            fault=Fault.NONE,
            vendor_status=found.status,
            answer=Answer(payment.id, found.status, sealed, now_ms),
            resource=resource,
            at_ms=now_ms,
            note="found in the vendor's list after its answer was lost",
        )
        result = await self._store.post(command)
        recorded = isinstance(result, Done) and result.payment is not None
        if recorded:
            log.info("delivery.found", payment_id=payment.id, vendor=vendor.name, ref=found.created.ref)
        return recorded

    async def _ask(self, payment: Payment, found: list[Found], rivals: list[Payment]) -> None:
        refs = ", ".join(sorted(each.created.ref for each in found))
        others = ", ".join(sorted(rival.id for rival in rivals))
        detail = f"{payment.vendor} made {refs} for nobody we know" + (
            f"; {others} may have bought it as well" if others else ""
        )
        await self._tasks.ask("delivery_ambiguous", payment.id, detail, payment.id)
