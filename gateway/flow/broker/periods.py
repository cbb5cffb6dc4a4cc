"""The money of what runs: every period is held before it begins and settled when it is over, whatever the vendor does.

Must not ask a vendor anything: what agents owe must not wait for an answer.  Theory (P2): what cannot be held is warned
of, then stopped or ended before its last period is over; what it costs beyond that is the house's.
"""

from collections.abc import Mapping

import structlog

from gateway.account_ports import AccountVendor
from gateway.core.commands import BillPeriod, Done, MarkEnding, OpenPeriod, Refused, WarnMeter
from gateway.core.meter import next_hold_base
from gateway.core.payment import Axes, Delivery, Transfer
from gateway.core.problems import Problem
from gateway.core.records import Meter, MeterState, Payment, PeriodTerms
from gateway.core.runway import Period
from gateway.flow.broker.watch import Watch

LEAD_SHARE, LEAD_MOST_S = 6, 600  # the next period is held a sixth of a period ahead, at most ten minutes
UNFUNDED = "unfunded"

log = structlog.get_logger()


def held_periods(vendors: Mapping[str, AccountVendor]) -> Mapping[str, Period]:
    """Return how things at each vendor account are held, by vendor."""
    spans = {name: vendor.account.period_s for name, vendor in vendors.items()}
    return {name: Period(s * 1000, min(s // LEAD_SHARE, LEAD_MOST_S) * 1000) for name, s in spans.items()}


class Periods:
    """Holds, settles and warns at every account vendor."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._next: dict[str, tuple[Meter, int]] = {}  # what the next period of this very meter is held at

    async def keep(self, vendor: AccountVendor) -> None:
        """Settle what is over, hold what comes, warn whom the money is running out."""
        self._next = {key: known for key, known in self._next.items() if key in self._watch.view.meters}
        await self._bill(self._watch.of(vendor.name))
        for meter in self._watch.of(vendor.name, MeterState.RUNNING):
            await self._keep_held(vendor, meter)
        await self._warn(vendor)

    async def ready_to_run(self, vendor: AccountVendor, meter: Meter) -> None:
        """Hold a period for a thing that is about to be charged again. Raises Problem("insufficient_balance")."""
        current = self._watch.current(meter)
        while current is not None and current.state is MeterState.RUNNING and self._is_unheld(current):
            result = await self._open_next(vendor, current)
            if isinstance(result, Refused):
                raise Problem(result.code, result.detail)
            await self._bill([current])
            current = self._watch.current(meter)

    def _is_unheld(self, meter: Meter) -> bool:
        return meter.held_until_ms <= self._watch.business.now_ms()

    async def _bill(self, meters: list[Meter]) -> None:
        """Settle every period that is over, in order: what it did not use is free for the next."""
        now_ms = self._watch.business.now_ms()
        for meter in meters:
            over = [p for p in self._watch.view.periods(meter.id) if _is_over(p, now_ms)]
            if over:  # those before it are settled with it
                await self._watch.store.post(BillPeriod(over[-1].id, self._watch.clock.now_ms()))

    async def _keep_held(self, vendor: AccountVendor, meter: Meter) -> None:
        lead_ms = min(vendor.account.period_s // LEAD_SHARE, LEAD_MOST_S) * 1000
        current = self._watch.current(meter)
        while current is not None and current.state is MeterState.RUNNING:
            if current.held_until_ms - lead_ms > self._watch.business.now_ms():
                return
            if isinstance(await self._open_next(vendor, current), Refused):
                await self._unfunded(vendor, current)
                return
            await self._bill([current])
            current = self._watch.current(meter)

    async def _open_next(self, vendor: AccountVendor, meter: Meter) -> Done | Refused:
        starts_ms, now_ms = meter.held_until_ms, self._watch.clock.now_ms()
        ends_ms = starts_ms + vendor.account.period_s * 1000
        hold_base = next_hold_base(meter, starts_ms, ends_ms)
        payment = Payment(
            id=self._watch.ids.new("pay"),
            account_id=meter.account_id,
            key_id=meter.key_id,
            request_id="",
            vendor=vendor.name,
            route="period",
            method="",
            path="",
            fingerprint=bytes(32),
            idempotency_key=None,
            represent="no",
            terms=PeriodTerms(vendor.name, meter.id, meter.seq + 1, hold_base, starts_ms, ends_ms),
            hold_base=hold_base,
            created_at_ms=now_ms,
            delivery_deadline_ms=now_ms,
            resource_ref=meter.ref,
            axes=Axes(Delivery.DELIVERED, Transfer.PRESENTED),
            answered=True,
        )
        result = await self._watch.store.post(OpenPeriod(payment, now_ms))
        return result if isinstance(result, Refused) else Done(changed=False)

    async def _unfunded(self, vendor: AccountVendor, meter: Meter) -> None:
        """The next period cannot be held: what can be stopped is stopped first (`Endings`), the rest is ended.

        What is not charged now costs nobody anything: it gets the grace, and is kept when there is money again.
        """
        now_ms, since_ms = self._watch.business.now_ms(), meter.unfunded_at_ms
        if since_ms is None:
            await self._watch.store.post(WarnMeter(meter.id, unfunded=True, at_ms=now_ms))
            log.warning("meter.unfunded", meter_id=meter.id, vendor=vendor.name, ref=meter.ref)
        if meter.running_since_ms is None:
            over = now_ms >= (now_ms if since_ms is None else since_ms) + vendor.account.grace_s * 1000
        else:
            over = not is_stopped_first(vendor, meter)
        if over:
            await self._watch.store.post(MarkEnding(meter.id, UNFUNDED, self._watch.clock.now_ms()))

    async def _warn(self, vendor: AccountVendor) -> None:
        """Tell an account whose balance covers less than `warn_periods` more of everything that it runs here."""
        period_ms, meters = vendor.account.period_s * 1000, self._watch.of(vendor.name, MeterState.RUNNING)
        need: dict[str, int] = {}
        for meter in meters:
            need[meter.account_id] = need.get(meter.account_id, 0) + self._next_hold(meter, period_ms)
        for meter in meters:
            balance = self._watch.view.balances.get(meter.account_id)
            available_base = 0 if balance is None else balance.available_base
            short = available_base < need[meter.account_id] * vendor.account.warn_periods
            if short and meter.warned_at_ms is None and meter.unfunded_at_ms is None:
                await self._watch.store.post(WarnMeter(meter.id, unfunded=False, at_ms=self._watch.business.now_ms()))
                log.warning("meter.warned", meter_id=meter.id, account_id=meter.account_id, vendor=vendor.name)

    def _next_hold(self, meter: Meter, period_ms: int) -> int:
        """Return what its next period is held at: exact arithmetic, done again only when the meter has changed."""
        known = self._next.get(meter.id)
        if known is None or known[0] is not meter:
            hold_base = next_hold_base(meter, meter.held_until_ms, meter.held_until_ms + period_ms)
            known = self._next[meter.id] = meter, hold_base
        return known[1]


def is_stopped_first(vendor: AccountVendor, meter: Meter) -> bool:
    """Say whether the operator wants a thing that cannot be paid for stopped, and the vendor can do that."""
    return vendor.account.suspend_first and meter.ref is not None and vendor.stop_request(meter.ref) is not None


def _is_over(payment: Payment, now_ms: int) -> bool:
    period = payment.period
    return period is not None and period.ends_at_ms <= now_ms and payment.axes.transfer is Transfer.PRESENTED
