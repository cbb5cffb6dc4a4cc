"""How CryptoVPS shows its records: money as texts, times with milliseconds, the address once there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.timeline import iso
from sandbox.shared_vendor.wire import plain

if TYPE_CHECKING:
    from decimal import Decimal

    from sandbox.cryptovps.records import Account, Backup, Server
    from sandbox.cryptovps.vendor import CryptoVps


def amount(value: Decimal) -> str:
    """A balance: at least two decimals, and as many as it has."""
    text = plain(value)
    return text if len(text.partition(".")[2]) >= 2 else f"{value:.2f}"


def account_view(account: Account) -> dict[str, Any]:
    """`user` of the document."""
    return {"id": account.id, "email": account.email, "balance": amount(account.purse.balance)}


def server_view(vendor: CryptoVps, server: Server, route: str) -> dict[str, Any]:
    """`server` of the document; a `state` fault puts another status in."""
    fault = vendor.faults.take("state", route, of=server.id)
    return {
        "id": server.id,
        "label": server.label,
        "status": server.status if fault is None else fault["value"],
        "region": server.region,
        "plan": server.plan,
        "ipv4": server.ipv4 if server.status in ("ACTIVE", "SUSPENDED") else None,
        "hourlyPrice": plain(server.hourly),
        "createdAt": iso(vendor.shown_ms(server.created_ms), millis=True),
    }


def backup_view(vendor: CryptoVps, backup: Backup) -> dict[str, Any]:
    """`backup` of the document."""
    return {
        "id": backup.id,
        "label": backup.label,
        "status": backup.status,
        "region": backup.region,
        "plan": backup.plan,
        "createdAt": iso(vendor.shown_ms(backup.created_ms), millis=True),
        "expiresAt": iso(vendor.shown_ms(backup.expires_ms), millis=True),
    }
