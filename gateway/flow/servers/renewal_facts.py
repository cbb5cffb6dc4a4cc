"""What the renewal planner must know of one server, gathered from records, books, the catalogue and the vendor's features.

Must not decide anything.  Theory: the planner is a function of facts, so whatever can change a decision is read here anew
each time, from what is committed.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Protocol

from gateway.core.money import BASE_PER_UNIT
from gateway.core.plan import Billing, Plan
from gateway.core.reach import covered_until_ms
from gateway.core.records import Meter, Resource
from gateway.core.renewal import HORIZON_S, STOP_MARGIN_S, WARN_BEFORE_S, Extension, Facts
from gateway.core.renewal_claim import is_paid
from gateway.core.runway import Period, charged, runs_out_ms
from gateway.core.server import Server
from gateway.core.tariff import HOUR_S
from gateway.flow.servers.keeping import Keeping
from gateway.server_ports import Feature, RenewRule, ServerVendor

SHORTEST_TERM_S = HOUR_S
RENEWALS_MOST = 1_000  # of one server, newest first: enough for any guess


class Prices(Protocol):
    """The catalogue."""

    async def plan(self, key: str) -> Plan | None:
        """Return the plan that is called "vendor/plan", None while nobody states it."""
        ...


class Gathering:
    """Gathers facts for one server after another. `periods` says how things at each vendor account are held."""

    def __init__(
        self,
        *,
        keeping: Keeping,
        vendors: Mapping[str, ServerVendor],
        prices: Prices,
        periods: Mapping[str, Period],
        warn_before_s: tuple[int, ...] = WARN_BEFORE_S,
    ) -> None:
        self._keeping, self._vendors, self._prices = keeping, vendors, prices
        self._periods, self._warn_before_s = periods, warn_before_s

    async def facts(self, server: Server, *, failing: bool = False) -> Facts:
        """Return what the planner decides from. `failing`: the newest renewal that was begun did not come about."""
        view, features = self._keeping.view, self._vendors[server.vendor].features
        plan = await self._plan(server)
        now_ms = self._keeping.business.now_ms()
        resource = await self._resource(server)
        meter = None if resource is None or resource.meter_id is None else view.meters.get(resource.meter_id)
        key, balance = view.keys_by_id.get(server.key_id), view.balances.get(server.account_id)
        committed_base = 0 if server.max_total_base is None else await self.committed_base(server)
        other_open = resource is not None and resource.open_renewal is not None
        rule = await self._rule(server, plan)
        return Facts(
            now_ms=now_ms,
            state=server.state,
            expires_at_ms=server.expires_at_ms,
            until_reason=server.until_reason,
            keep_until_ms=server.keep_until_ms,
            auto_renew=server.auto_renew,
            max_total_base=server.max_total_base,
            committed_base=committed_base,
            available_base=0 if balance is None else balance.available_base,
            warned=server.warned,
            extension=_extension(rule, plan),
            can_destroy=features.can(Feature.DESTROY),
            key_valid=key is not None and key.revoked_at_ms is None,
            renewal_open=bool(server.renewal) or other_open,
            failing=failing,
            term_s=_term_s(server, rule, plan),
            runs_out_ms=self._runs_out_ms(server, meter),
            covered_until_ms=self._covered_until_ms(server, meter, now_ms),
            metered=meter is not None,
            warn_before_s=self._warn_before_s,
        )

    async def committed_base(self, server: Server) -> int:
        """Return what a server has cost and what is held for it: what `max_total` must cover."""
        cost = await self._keeping.store.server_cost(server)
        return cost.captured_base + cost.held_base

    def is_slow(self, server: Server) -> bool:
        """Say whether a renewal of a server is done only when its money has been collected."""
        rule = self._vendors[server.vendor].features.renew
        return rule is not None and rule.slow

    async def _rule(self, server: Server, plan: Plan | None) -> RenewRule | None:
        rule = self._vendors[server.vendor].features.renew
        if rule is None or rule.unit_s:
            return rule
        if plan is not None and plan.term_s is not None:
            return rule.of(plan.term_s)
        # No price list now: what it was bought for at first is the best guess at its term, and its price is the vendor's.
        renewals = await self._keeping.store.renewals(server, RENEWALS_MOST)
        terms = 1 + sum(is_paid(each, slow=True) for each in renewals)
        bought_s = ((server.expires_at_ms or 0) - server.created_at_ms) // 1000 // terms
        return rule.of(max(SHORTEST_TERM_S, bought_s))

    async def _plan(self, server: Server) -> Plan | None:
        return await self._prices.plan(f"{server.vendor}/{server.plan}")

    async def _resource(self, server: Server) -> Resource | None:
        return None if server.ref is None else await self._keeping.store.resource(server.vendor, server.ref)

    def _runs_out_ms(self, server: Server, meter: Meter | None) -> int | None:
        if meter is None or not charged(meter):
            return None
        view = self._keeping.view
        balance = view.balances.get(server.account_id)
        available_base = 0 if balance is None else balance.available_base
        meters = view.meters_of.get(server.account_id, {})
        return runs_out_ms(meters.values(), available_base, self._periods)

    def _covered_until_ms(self, server: Server, meter: Meter | None, now_ms: int) -> int | None:
        if meter is None or server.max_total_base is None:
            return None
        ahead_s = max((*self._warn_before_s, 0)) + 2 * STOP_MARGIN_S
        # What the house bore is in what it owes, and not in what it was charged.
        limit_base = server.max_total_base + meter.lost_base
        return covered_until_ms(meter, limit_base, now_ms, now_ms + ahead_s * 1000)


def _extension(rule: RenewRule | None, plan: Plan | None) -> Extension | None:
    if rule is None:
        return None
    return Extension(
        unit_s=rule.unit_s,
        min_units=rule.min_units,
        max_units=rule.max_units,
        lead_s=rule.lead_s,
        least_base=rule.least_base,
        slow=rule.slow,
        retry_before_s=rule.retry_before_s,
        grace_s=rule.grace_s or 0,
        rate=_rate(plan, rule.unit_s),
    )


def _term_s(server: Server, rule: RenewRule | None, plan: Plan | None) -> int | None:
    """Return for how long time is bought at once, as far as that is short enough to matter to warnings."""
    if server.until_reason and plan is not None:
        return next((image.ttl_s for image in plan.images if image.id == server.image), None)
    if rule is None:
        return None
    return rule.unit_s if rule.unit_s >= HOUR_S else HORIZON_S


def _rate(plan: Plan | None, unit_s: int) -> Fraction | None:
    """Return what a unit of paid time costs in USD base units, exactly; None while nobody states it."""
    if plan is None:
        return None
    if plan.billing is Billing.TERM:
        return None if plan.term_price is None else Fraction(plan.term_price) * BASE_PER_UNIT
    return plan.rate * BASE_PER_UNIT * unit_s / HOUR_S
