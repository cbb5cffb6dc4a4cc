"""What an order may cost at most before it is made: its price, the meter that it would run as, its first period's bound.

Must not know how orders are placed.  Theory (P8): an agent's cap, the operator's ceiling and the hold are all compared
with one figure, and what the vendor made dearer than that is not ordered again until the vendor had time to be asked.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gateway.account_ports import AccountVendor, Order, Price, Thing
from gateway.core.meter import next_hold_base
from gateway.core.money import format_amount
from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.core.records import Meter
from gateway.core.tariff import TariffError
from gateway.flow.broker.desk import Desk
from gateway.flow.broker.fence import Named
from gateway.flow.broker.prices import PriceBook
from gateway.flow.call import AccountCall, Reply
from gateway.flow.ids import Ids
from gateway.ports import Clock, Entropy

TOKEN_BYTES = 10  # 16 characters of base 32
DEAR_FOR_MS = 3_600_000
NOISE_USD = Fraction(1, 10**9)  # an hour; a hold is counted in millionths


@dataclass(frozen=True, slots=True)
class Bound:
    """What an order would run as: its meter, its price, and what its first period may cost at most."""

    meter: Meter
    price: Price
    hold_base: int
    lives_s: int | None = None


class Bounds:
    """Bounds of orders at every account vendor."""

    def __init__(self, prices: PriceBook, clock: Clock, business: Clock, entropy: Entropy) -> None:
        self._prices, self._clock, self._business, self._entropy = prices, clock, business, entropy
        self._ids = Ids(clock, entropy)
        self._dear_until_ms: dict[tuple[str, str], int] = {}

    async def of(self, call: AccountCall, desk: Desk, named: Named) -> Bound:
        """Return an order's bound. Raises Problem for what cannot be ordered here, or not now."""
        vendor = desk.vendor
        if vendor.account.rule is None:
            raise Problem("billing_rule_unset", f"the operator has not said how {vendor.name} bills; creates are off")
        order = vendor.order(call.match, call.body)
        source = None
        if order.from_ref is not None:
            source = next((r for r in named.by_ref.values() if r.ref == order.from_ref), None)
        order = await self._prices.filled(desk, order)
        price = await self._prices.bound(desk, order, source)
        dear_until_ms = self._dear_until_ms.get((vendor.name, price.kind), 0)
        if not is_over(dear_until_ms, self._clock.now_ms(), DEAR_FOR_MS):
            raise dearer_than(vendor.name, price)
        label = order.name or ("" if source is None else source.label)
        try:
            meter = self._meter(call, vendor, label, price)
            hold_base = next_hold_base(meter, meter.created_at_ms, meter.held_until_ms)
        except TariffError as error:
            detail = f"{vendor.name} states no price of this for the rule {vendor.account.rule.value}"
            raise Problem("price_untold", detail) from error
        return Bound(meter, price, hold_base, order.lives_s)

    async def lives_s(self, desk: Desk, order: Order) -> int | None:
        """Return how long the vendor lets an order's thing live, None for ever. Raises Problem for an unknown template."""
        return (await self._prices.filled(desk, order)).lives_s

    def was_dearer(self, vendor_name: str, price: Price) -> None:
        """Let no other of its kind be ordered for a while: each would cost the house another unit."""
        self._dear_until_ms[vendor_name, price.kind] = self._clock.now_ms() + DEAR_FOR_MS

    def _meter(self, call: AccountCall, vendor: AccountVendor, name: str, price: Price) -> Meter:
        now_ms, terms = self._business.now_ms(), vendor.account
        return Meter(
            id=self._ids.new("met"),
            vendor=vendor.name,
            account_id=call.account_id,
            key_id=call.key.id,
            kind=price.kind,
            token="g" + base64.b32encode(self._entropy.bytes(TOKEN_BYTES)).decode().lower(),
            label=name,
            hourly=price.hourly,
            monthly=price.monthly,
            unit_s=vendor.unit_s,
            rule="" if terms.rule is None else terms.rule.value,
            while_running=vendor.while_running,
            created_at_ms=now_ms,
            seq=1,
            held_until_ms=now_ms + terms.period_s * 1000,
            billed_until_ms=now_ms,
        )


def dearer(thing: Thing, price: Price) -> bool:
    """Say whether a thing that was made costs more than was agreed to; the noise of a float is no price."""
    for told, agreed in ((thing.hourly, price.hourly), (thing.monthly, price.monthly)):
        if told is not None and agreed is not None and Fraction(told) > Fraction(agreed) + NOISE_USD:
            return True
    return False


def dearer_than(vendor_name: str, price: Price) -> Problem:
    """Return the problem for a kind that the vendor makes dearer than it said."""
    detail = f"{vendor_name} makes {price.kind} dearer than {price.hourly} an hour; what it made so is destroyed again"
    return Problem("price_above_quote", detail)


def rate_agreed(told: str | None, agreed: str) -> str:
    """Return the rate to charge by: the vendor's own word, where it is not above what was agreed to."""
    return agreed if told is None or Fraction(told) > Fraction(agreed) else told


def require_within(call: AccountCall, hold_base: int) -> None:
    """Raise Problem("price_above_max_charge") where an agent's cap is below what may be charged at first."""
    if call.max_charge_base is not None and hold_base > call.max_charge_base:
        detail = f"the first period may cost {format_amount(hold_base)}, X-Max-Charge is less"
        raise Problem("price_above_max_charge", detail, "X-Max-Charge")


def require_ceiling(call: AccountCall, hold_base: int) -> None:
    """Raise Problem("price_above_ceiling") where the operator lets no thing cost so much in a period."""
    ceiling_base = call.match.route.ceiling_base or call.vendor.account.ceiling_base
    if hold_base > ceiling_base:
        detail = f"a period may cost {format_amount(hold_base)}, the ceiling is {format_amount(ceiling_base)}"
        raise Problem("price_above_ceiling", detail)


def quote_reply(call: AccountCall, vendor: AccountVendor, bounds: Sequence[Bound]) -> Reply:
    """Return what `Prefer: quote` gets: what the first period may cost, and of what; nothing was ordered."""
    items = [
        {
            "item": bound.price.kind,
            "quantity": 1,
            "price": format_amount(bound.hold_base),
            "hourly": bound.price.hourly,
            "monthly": bound.price.monthly,
        }
        for bound in bounds
    ]
    document: dict[str, object] = {
        "vendor": vendor.name,
        "route": call.match.route.name,
        "price": format_amount(sum(bound.hold_base for bound in bounds)),
        "period_s": vendor.account.period_s,
    }
    if len(items) == 1:
        (item,) = items
        document |= {"hourly": item["hourly"], "monthly": item["monthly"]}
        document["item"] = {"item": item["item"], "quantity": 1}
    elif items:
        document["items"] = items
    return Reply.of_json(200, document)
