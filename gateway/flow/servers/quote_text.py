"""A quote as its agent reads it: what is taken at once, what the server costs from then on, and why no other was chosen.

Must not know how it was chosen.  Theory: the lines add up to the first charge, which is the vendor's own word; what an
agent needs in order to decide (what comes back, how long money is held) stands beside the price.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.core.money import format_amount
from gateway.core.plan import Billing, Plan
from gateway.core.plan_text import plan_document, usd_text
from gateway.core.ranking import Lost
from gateway.core.tariff import round_up
from gateway.core.times import utc_text
from gateway.server_ports import Features, Order


@dataclass(frozen=True, slots=True)
class Priced:
    """An order at one vendor with the first charge that binds (USD base units), `keys` (id, price) included."""

    plan: Plan
    order: Order
    first_base: int
    features: Features
    keys: tuple[tuple[str, int], ...] = ()


def quote_document(quote_id: str, priced: Priced, expires_at_ms: int, losers: Iterable[Lost]) -> dict[str, Any]:
    """Return a quote as JSON's types. An empty region or image was left to the vendor and is null."""
    plan, order, features = priced.plan, priced.order, priced.features
    return {
        "id": quote_id,
        "vendor": plan.vendor,
        "plan": plan_document(plan),
        "region": order.region or None,
        "image": order.image or None,
        "minutes": order.minutes,
        "lines": lines(priced),
        "first_charge": format_amount(priced.first_base),
        "running_cost": {"hourly": plan.hourly, "monthly": usd_text(plan.monthly)},
        "refundable": features.refundable,
        "hold_max_s": features.hold_max_s,
        "pays": features.pays,
        "expires_at": utc_text(expires_at_ms),
        "candidates_lost": [lost_document(each) for each in losers],
    }


def lost_document(lost: Lost) -> dict[str, Any]:
    """Return why a plan was not chosen, as JSON's types."""
    return {"plan": lost.plan, "reason": lost.reason, "detail": lost.detail}


def lines(priced: Priced) -> list[dict[str, str]]:
    """Return what the first charge is made of; the amounts add up to it."""
    setup_base = round_up(Fraction(priced.plan.setup))
    made_base = priced.first_base - sum(price_base for _, price_base in priced.keys)
    once = {"setup": setup_base} if 0 < setup_base < made_base else {}
    found = [(f"{what}, once", base) for what, base in once.items()]
    found.append((_time(priced), made_base - sum(once.values())))
    found += [(f"SSH key {key_id} registered, once", base) for key_id, base in priced.keys]
    return [{"what": what, "amount": format_amount(base)} for what, base in found]


def _time(priced: Priced) -> str:
    plan = priced.plan
    if plan.billing is Billing.TERM:
        return f"one term of {plan.term_s} s"
    if plan.billing is Billing.MINUTES:
        return f"{priced.order.minutes} minutes in advance, at {plan.hourly} an hour"
    return f"held for the first period; used at {plan.hourly} an hour"
