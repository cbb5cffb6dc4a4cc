"""LiteVPS's plans and templates, as data. Nano is the document's; the rest are the sandbox's."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.faults import positive_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_IDS = uuid.UUID("6f1c58f0-5c0b-4b0e-9f53-1c7e0a5d2b11")


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan."""

    id: str
    name: str
    vcpu: int
    memory_mb: int
    disk_gb: int
    hourly: Decimal


@dataclass(slots=True)
class Template:
    """One preset; `ttl_minutes` is when a machine made from it destroys itself."""

    slug: str
    name: str
    vcpu: int
    memory_mb: int
    disk_gb: int
    user_data: str
    ttl_minutes: int | None
    popularity: int

    def as_json(self) -> dict[str, Any]:
        """The document's entry for it."""
        return {name: getattr(self, name) for name in self.__slots__}


def _plan(name: str, vcpu: int, memory_mb: int, disk_gb: int, hourly: str) -> Plan:
    return Plan(str(uuid.uuid5(_IDS, name)), name, vcpu, memory_mb, disk_gb, Decimal(hourly))


PLANS = (
    _plan("Nano", 1, 512, 10, "0.0042"),
    _plan("Micro", 1, 1024, 20, "0.0084"),
    _plan("Small", 2, 2048, 40, "0.0167"),
    _plan("Medium", 2, 4096, 80, "0.0333"),
    _plan("Large", 4, 8192, 160, "0.0667"),
)


def plans(hourly_prices: Mapping[str, str]) -> dict[str, Plan]:
    """The plans by id with configured prices; raises ValueError for a name that does not exist."""
    table = {plan.name: plan for plan in PLANS}
    for name, price in hourly_prices.items():
        if name not in table:
            raise ValueError(f"hourly_prices: unknown plan: {name}")
        table[name] = replace(table[name], hourly=positive_decimal(price))
    return {plan.id: plan for plan in table.values()}


def templates() -> dict[str, Template]:
    """The templates by slug."""
    rows = (
        Template("ubuntu-22-small", "Ubuntu 22.04 small", 1, 1024, 20, "", None, 120),
        Template("agent-sandbox", "Agent sandbox, one hour", 1, 512, 10, "#cloud-config\n", 60, 80),
        Template("docker-host", "Docker host", 2, 4096, 80, "#cloud-config\npackages: [docker.io]\n", None, 45),
    )
    return {row.slug: row for row in rows}


def smallest(table: Iterable[Plan], vcpu: int, memory_mb: int, disk_gb: int) -> Plan | None:
    """The cheapest plan that holds so much; None when none does."""
    fits = [p for p in table if p.vcpu >= vcpu and p.memory_mb >= memory_mb and p.disk_gb >= disk_gb]
    return min(fits, key=lambda plan: plan.hourly, default=None)
