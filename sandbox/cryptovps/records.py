"""What CryptoVPS keeps: accounts, servers, backups. Records only; what happens to them is in `vendor` and `backups`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.purse import Purse

if TYPE_CHECKING:
    from decimal import Decimal

LIVE = ("PROVISIONING", "ACTIVE", "SUSPENDED")
"""Statuses that count to the limit of active servers."""


@dataclass(slots=True, kw_only=True)
class Account:
    """One registration."""

    id: str
    email: str
    password: str = field(repr=False)
    purse: Purse = field(default_factory=Purse)
    suspended: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the admin API; without the password."""
        return {"id": self.id, "email": self.email, "suspended": self.suspended, **self.purse.as_json()}


@dataclass(slots=True, kw_only=True)
class Server:
    """One server; `hourly` is fixed when it is made."""

    id: str
    account_id: str
    label: str
    plan: str
    region: str
    hourly: Decimal
    created_ms: int
    ipv4: str
    """Its address, shown only while it is ACTIVE or SUSPENDED."""
    status: str = "PROVISIONING"
    suspended_for: str | None = None
    """balance or abuse."""
    billed_hours: int = 0
    billing_round: int = 0
    """Counts billing schedules, so that a charge of an earlier one notices that it is over."""
    hidden_until_ms: int = 0
    hidden_from_get: bool = False
    destroyed_ms: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For the admin API."""
        names = (
            *("id", "account_id", "label", "plan", "region", "created_ms", "ipv4", "status", "suspended_for"),
            *("billed_hours", "destroyed_ms"),
        )
        return {**{name: getattr(self, name) for name in names}, "hourly": str(self.hourly)}


@dataclass(slots=True, kw_only=True)
class Backup:
    """One full-disk snapshot."""

    id: str
    account_id: str
    label: str
    plan: str
    region: str
    created_ms: int
    expires_ms: int
    status: str = "PENDING"
