"""What VRTX keeps: accounts, servers, invoices. Records only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(slots=True, kw_only=True)
class Account:
    """One customer; `name` is what config and admin API call it."""

    name: str
    tokens: list[str] = field(repr=False)
    ip_allowlist: list[str] = field(default_factory=list)
    webhooks: list[dict[str, str]] = field(default_factory=list, repr=False)

    def as_json(self) -> dict[str, Any]:
        """For the admin API; without tokens and secrets."""
        return {"name": self.name, "ip_allowlist": self.ip_allowlist, "webhooks": [w["url"] for w in self.webhooks]}


@dataclass(slots=True, kw_only=True)
class Server:
    """One server; its prices are fixed when it is made."""

    uuid: str
    account: str
    name: str
    plan_id: int
    location_id: int
    template: str
    cpu: int
    memory: int
    disk: int
    hourly: Decimal
    monthly: Decimal
    ip: str
    created_ms: int
    root_password: str = field(repr=False)
    state: str = "stopped"
    status: str | None = "installing"
    password_status: str = "generating"
    up_since_ms: int | None = None
    queue: list[str] = field(default_factory=list)
    """Power actions that wait or are under way."""
    done_actions: list[str] = field(default_factory=list)
    deleting: bool = False
    deleted_ms: int | None = None
    hidden_until_ms: int = 0
    hidden_from_get: bool = False
    backups: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the admin API; without the password."""
        names = (
            *("uuid", "account", "name", "plan_id", "location_id", "template", "created_ms", "state", "status"),
            *("password_status", "queue", "done_actions", "deleting", "deleted_ms"),
        )
        return {
            **{name: getattr(self, name) for name in names},
            "hourly": str(self.hourly),
            "monthly": str(self.monthly),
        }


@dataclass(slots=True, kw_only=True)
class Invoice:
    """One bill."""

    id: str
    account: str
    amount: Decimal
    issued_ms: int
    due_ms: int
    lines: list[dict[str, str]] = field(default_factory=list)
    paid_ms: int | None = None

    def overdue(self, now_ms: int) -> bool:
        """Whether it should have been paid by now."""
        return self.paid_ms is None and now_ms >= self.due_ms

    def as_json(self, now_ms: int) -> dict[str, Any]:
        """For the admin API."""
        return {
            "id": self.id,
            "account": self.account,
            "amount": str(self.amount),
            "issued_ms": self.issued_ms,
            "due_ms": self.due_ms,
            "paid_ms": self.paid_ms,
            "overdue": self.overdue(now_ms),
            "lines": self.lines,
        }
