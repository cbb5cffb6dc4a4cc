"""The nine SKUs of the storefront, as data: track, price, term and spec floor.

Prices are integers in base units of USDC (1e-6); the JSON number of `price_usdc` is made at the edge, as the vendor's
document says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BASE_UNITS = 1_000_000
CATALOG_PRICE_BASE = 10_000
MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Sku:
    """One thing on sale."""

    sku: str
    track: str
    price_base: int
    duration_minutes: int
    vcpu: int
    memory_mb: int
    description: str
    available: bool = True

    def as_json(self) -> dict[str, Any]:
        """The storefront's entry for it."""
        return {
            "sku": self.sku,
            "track": self.track,
            "price_usdc": float(Decimal(self.price_base) / BASE_UNITS),
            "duration_minutes": self.duration_minutes,
            "spec_floor": {"vcpu": self.vcpu, "memory_mb": self.memory_mb},
            "available": self.available,
            "description": self.description,
        }


SKUS: tuple[Sku, ...] = (
    Sku("sandbox_1h", "sandbox", 500_000, 60, 1, 1024, "Ephemeral sandbox, one hour"),
    Sku("sandbox_6h", "sandbox", 2_000_000, 360, 1, 1024, "Ephemeral sandbox, six hours"),
    Sku("sandbox_24h", "sandbox", 5_000_000, 1440, 2, 2048, "Ephemeral sandbox, one day"),
    Sku("server_small_1mo", "server", 9_990_000, 30 * MINUTES_PER_DAY, 1, 2048, "Small server, 30 days"),
    Sku("server_small_12mo", "server", 89_990_000, 365 * MINUTES_PER_DAY, 1, 2048, "Small server, 365 days"),
    Sku("server_medium_1mo", "server", 19_990_000, 30 * MINUTES_PER_DAY, 2, 4096, "Medium server, 30 days"),
    Sku("server_medium_12mo", "server", 179_990_000, 365 * MINUTES_PER_DAY, 2, 4096, "Medium server, 365 days"),
    Sku("server_large_1mo", "server", 39_990_000, 30 * MINUTES_PER_DAY, 4, 8192, "Large server, 30 days"),
    Sku("server_large_12mo", "server", 359_990_000, 365 * MINUTES_PER_DAY, 4, 8192, "Large server, 365 days"),
)


def base_units(amount_usdc: str) -> int:
    """A decimal USDC text in base units; raises ValueError when it has more than six decimals or is negative."""
    try:
        scaled = Decimal(amount_usdc) * BASE_UNITS
    except InvalidOperation as error:
        raise ValueError(f"not an amount of USDC: {amount_usdc!r}") from error
    if scaled != scaled.to_integral_value() or scaled < 0:
        raise ValueError(f"not an amount of USDC: {amount_usdc}")
    return int(scaled)


def storefront(prices_usdc: Mapping[str, str], unavailable: Iterable[str]) -> dict[str, Sku]:
    """The SKUs with configured prices and availability; raises ValueError for a name that is not one of the nine."""
    table = {sku.sku: sku for sku in SKUS}
    for name, price in prices_usdc.items():
        if name not in table:
            raise ValueError(f"unknown sku: {name}")
        table[name] = replace(table[name], price_base=base_units(price))
    for name in unavailable:
        if name not in table:
            raise ValueError(f"unknown sku: {name}")
        table[name] = replace(table[name], available=False)
    return table
