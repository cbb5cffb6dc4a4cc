"""A plan as an agent reads it: one shape in the catalogue, in quotes and wherever a plan is shown.

Must not know who reads.  Theory: a price by the hour is shown as exactly as it is known, for nobody is charged by a
rounded one; what is charged at once is an amount like every other.
"""

from fractions import Fraction
from typing import Any

from gateway.core.money import format_amount
from gateway.core.plan import Plan
from gateway.core.tariff import round_up
from gateway.core.times import utc_text


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON's types; null is what the vendor does not state, or what does not apply."""
    return {
        "id": plan.key,
        "vendor": plan.vendor,
        "plan": plan.id,
        "name": plan.name,
        "vcpu": plan.vcpu,
        "memory_mib": plan.memory_mib,
        "disk_gib": plan.disk_gib,
        "regions": list(plan.regions),
        "images": [{"id": image.id, "name": image.name, "ttl_s": image.ttl_s} for image in plan.images],
        "billing": plan.billing.value,
        "price": {
            "hourly": plan.hourly,
            "monthly": usd_text(plan.monthly),
            "setup": usd_text(plan.setup),
            "term": usd_text(plan.term_price),
            "term_s": plan.term_s,
            "currency": "USD",
            "as_of": None if plan.as_of_ms is None else utc_text(plan.as_of_ms),
            "source": plan.source.value,
        },
        "sandbox": plan.sandbox,
        "available": plan.available,
    }


def usd_text(price: str | None) -> str | None:
    """Return an exact price as an amount of the API, rounded up; None for none."""
    return None if price is None else format_amount(round_up(Fraction(price)))
