"""Plans and regions of the document, as data. The hourly prices are the sandbox's: the document gives only months.

An hour is a month's price over 730, rounded up to four decimals: below the month/672 that a careful buyer reckons with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING

from sandbox.shared_vendor.faults import positive_decimal

if TYPE_CHECKING:
    from collections.abc import Mapping

HOURS_A_MONTH = 730
FOUR_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan."""

    id: str
    name: str
    vcpu: int
    memory_gb: int
    disk_gb: int
    monthly: Decimal
    hourly: Decimal


def _plan(id_: str, name: str, vcpu: int, memory_gb: int, disk_gb: int, monthly: int) -> Plan:
    hourly = (Decimal(monthly) / HOURS_A_MONTH).quantize(FOUR_PLACES, ROUND_UP)
    return Plan(id_, name, vcpu, memory_gb, disk_gb, Decimal(monthly), hourly)


PLANS = {
    plan.id: plan
    for plan in (
        _plan("vc2-1c-1gb", "Micro", 1, 1, 25, 10),
        _plan("vc2-1c-2gb", "Starter", 1, 2, 55, 18),
        _plan("vc2-2c-4gb", "Standard", 2, 4, 80, 34),
        _plan("vc2-4c-8gb", "Pro", 4, 8, 160, 62),
        _plan("vc2-6c-16gb", "Beast", 6, 16, 320, 120),
    )
}
REGIONS = (
    *("ams", "fra", "par", "lon", "mad", "waw", "sto"),
    *("ewr", "ord", "dfw", "atl", "mia", "sea", "lax", "sjc", "yto", "mex"),
    *("sao", "scl", "nrt", "icn", "sgp", "blr", "bom", "del", "syd", "mel", "jnb", "tlv"),
)


def plans(hourly_prices: Mapping[str, str]) -> dict[str, Plan]:
    """The plans with configured prices; raises ValueError for a plan that does not exist."""
    table = dict(PLANS)
    for name, price in hourly_prices.items():
        if name not in table:
            raise ValueError(f"hourly_prices: unknown plan: {name}")
        table[name] = replace(table[name], hourly=positive_decimal(price))
    return table
