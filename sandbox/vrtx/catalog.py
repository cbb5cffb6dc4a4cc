"""Plans, locations and templates of the document, as data; memory and disk in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Plan:
    """One tier."""

    id: int
    name: str
    cpu: int
    memory: int
    disk: int
    monthly: Decimal
    hourly: Decimal


def _plan(id_: int, name: str, cpu: int, memory_gib: int, disk_gib: int, monthly: str, hourly: str) -> Plan:
    return Plan(id_, name, cpu, memory_gib * GIB, disk_gib * GIB, Decimal(monthly), Decimal(hourly))


PLANS = {
    plan.id: plan
    for plan in (
        _plan(1, "1 vCPU", 1, 3, 20, "3.92", "0.0053"),
        _plan(2, "2 vCPU", 2, 4, 30, "5.23", "0.0073"),
        _plan(3, "3 vCPU", 3, 6, 40, "7.85", "0.0109"),
        _plan(4, "4 vCPU", 4, 8, 40, "10.46", "0.0153"),
        _plan(5, "8 vCPU · 16 GB", 8, 16, 60, "20.93", "0.0294"),
        _plan(6, "8 vCPU · 24 GB", 8, 24, 60, "31.39", "0.0436"),
        _plan(7, "10 vCPU", 10, 32, 140, "41.86", "0.0589"),
        _plan(8, "16 vCPU", 16, 64, 200, "85.89", "0.1188"),
    )
}
LOCATIONS = {
    1: "New York, USA",
    2: "San Francisco, USA",
    3: "London, UK",
    4: "Frankfurt, DE",
    5: "Singapore, SG",
    6: "Sydney, AU",
    7: "Hong Kong, HK",
    8: "Tokyo, JP",
    9: "Mumbai, IN",
    10: "Seattle, USA",
    11: "Melbourne, AU",
    12: "Hobart, AU",
    13: "Perth, AU",
}
TEMPLATES = {
    "ubuntu-24.04": "Ubuntu 24.04 LTS",
    "ubuntu-22.04": "Ubuntu 22.04 LTS",
    "debian-12": "Debian 12",
    "almalinux-9": "AlmaLinux 9",
    "windows-2022": "Windows Server 2022",
}
_WITHOUT_WINDOWS = (12, 13)


def templates(location_id: int) -> dict[str, str]:
    """Slug to name of what a location has: availability varies by region."""
    return {
        slug: name
        for slug, name in TEMPLATES.items()
        if not (slug.startswith("windows") and location_id in _WITHOUT_WINDOWS)
    }
