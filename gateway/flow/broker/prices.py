"""What a thing at an account vendor may cost at most, before it is ordered: the price list, asked for seldom.

Must not know balances or who orders.  Theory (P8): a create is held against a bound that we know ourselves, from the
vendor's document or its own list; what no list prices is not ordered.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import TypeVar

from gateway.account_ports import Order, Price, Template
from gateway.core.pause import has_passed
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Priority
from gateway.core.tariff import rate_of
from gateway.flow.broker.desk import Asking, Desk
from gateway.http.port import UpstreamError, UpstreamRequest, UpstreamResponse, is_success
from gateway.ports import Clock

FRESH_S = 300
KEPT_S = 86_400  # a list that is not answered for a day is no list any more
T = TypeVar("T")
_Kept = dict[str, tuple[int, tuple[T, ...]]]
"""What vendors said last, by vendor, and when."""
SHOPPING = Asking(priority=Priority.CREATE, max_wait_s=10.0)


class PriceBook:
    """The newest price list of each vendor. One question at a time, whoever orders."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lists: _Kept[Price] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._templates: _Kept[Template] = {}

    async def bound(self, desk: Desk, order: Order, source: Resource | None) -> Price:
        """Return the price that an order may have at most. `source` is what it is made of, if it is.

        Raises Problem: price_untold, vendor_unreachable, input_refused for a kind that the vendor does not have.
        """
        prices = await self.of(desk)
        kind = order.kind if order.kind is not None else None if source is None else source.plan or None
        if kind is not None:
            found = next((price for price in prices if price.kind == kind), None)
            if found is None and prices:
                raise Problem("input_refused", f"{desk.vendor.name} has no {kind} on its price list")
        else:
            found = cheapest_holding(prices, order.sizes or {})
        if found is None:
            raise Problem("price_untold", f"no price of this is known at {desk.vendor.name}")
        return found

    async def filled(self, desk: Desk, order: Order) -> Order:
        """Return an order with everything stated that its template states. Raises Problem for an unknown template."""
        target = desk.vendor.template_target
        if order.template is None or target is None:
            return order
        templates = await self._fresh(desk, target, self._templates, desk.vendor.read_templates)
        found = next((template for template in templates if template.name == order.template), None)
        if found is None and templates:
            raise Problem("input_refused", f"{desk.vendor.name} has no template of this name", "template")
        if found is None:
            raise Problem("price_untold", f"{desk.vendor.name} does not tell its templates now", "template")
        return found.fill(order)

    async def of(self, desk: Desk) -> tuple[Price, ...]:
        """Return the vendor's price list, asked for anew when it is old."""
        vendor = desk.vendor
        if vendor.price_target is None:
            return vendor.prices
        found = await self._fresh(desk, vendor.price_target, self._lists, vendor.read_prices)
        if found:
            return found
        known = self._lists.get(vendor.name)
        if known is not None and self._clock.now_ms() - known[0] < KEPT_S * 1000:
            return known[1]
        raise Problem("price_untold", f"{vendor.name} does not tell its prices now")

    async def _fresh(
        self, desk: Desk, target: str, kept: _Kept[T], read: Callable[[UpstreamResponse], tuple[T, ...]]
    ) -> tuple[T, ...]:
        """Return what is kept where it is fresh, else what the vendor says now; nothing where it says nothing."""
        name = desk.vendor.name
        async with self._asking.setdefault(name, asyncio.Lock()):
            known, now_ms = kept.get(name), self._clock.now_ms()
            if known is not None and not has_passed(FRESH_S * 1000, known[0], now_ms):
                return known[1]
            answer = await self._get(desk, target)
            found = () if answer is None else read(answer)
            if found:
                kept[name] = now_ms, found
            return found

    async def _get(self, desk: Desk, target: str) -> UpstreamResponse | None:
        try:
            answer = await desk.ask(UpstreamRequest("GET", target), SHOPPING)
        except UpstreamError:
            return None
        if answer.rest is not None:
            await answer.rest.close()
            return None
        return answer if is_success(answer.status) else None


def cheapest_holding(prices: Iterable[Price], sizes: Mapping[str, int]) -> Price | None:
    """Return the cheapest kind whose traits hold these sizes; the dearest of all where no size is known."""
    held = [p for p in prices if p.traits is not None and all(p.traits.get(k, 0) >= v for k, v in sizes.items())]
    if not sizes:
        return max(held, key=_rate, default=None)
    return min(held, key=_rate, default=None)


def _rate(price: Price) -> Fraction:
    return rate_of(price.hourly)
