"""How LiteVPS shows its records: money as JSON numbers in four decimals, times in UTC."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.noise import noisy
from sandbox.shared_vendor.timeline import MINUTE_MS, iso

if TYPE_CHECKING:
    from sandbox.litevps.records import AccessToken, Job, Machine, SshKey
    from sandbox.litevps.vendor import LiteVps
    from sandbox.shared_vendor.purse import Entry

FOUR_PLACES = Decimal("0.0001")


def number(vendor: LiteVps, amount: Decimal) -> Decimal:
    """An amount as it is written: rounded down to four decimals, with float noise where a fault says so."""
    return noisy(vendor.faults, amount.quantize(FOUR_PLACES, ROUND_FLOOR))


def machine_view(vendor: LiteVps, machine: Machine, route: str) -> dict[str, Any]:
    """A VPS; a `state` fault puts another state in."""
    fault = vendor.faults.take("state", route, of=machine.id)
    lapse_ms = None if machine.ttl_minutes is None else machine.created_ms + machine.ttl_minutes * MINUTE_MS
    return {
        "id": machine.id,
        "name": machine.name,
        "state": machine.state if fault is None else fault["value"],
        "plan_id": machine.plan_id,
        "template": machine.template,
        "vcpu": machine.vcpu,
        "memory_mb": machine.memory_mb,
        "disk_gb": machine.disk_gb,
        "ip_address": machine.ip,
        "price_hourly": number(vendor, machine.hourly),
        "ttl_minutes": machine.ttl_minutes,
        "expires_at": None if lapse_ms is None else iso(vendor.shown_ms(lapse_ms)),
        "created_at": iso(vendor.shown_ms(machine.created_ms)),
    }


def job_view(vendor: LiteVps, job: Job) -> dict[str, Any]:
    """A background job."""
    ended = job.ended_ms is not None and job.started_ms is not None
    return {
        "job_id": job.id,
        "status": job.status,
        "command": job.command,
        "timeout_seconds": job.timeout_s,
        "stdout": job.stdout,
        "stderr": job.stderr,
        "exit_code": job.exit_code,
        "duration_ms": (job.ended_ms or 0) - (job.started_ms or 0) if ended else None,
        "created_at": iso(vendor.shown_ms(job.created_ms)),
    }


def key_view(vendor: LiteVps, key: SshKey) -> dict[str, Any]:
    """An SSH key."""
    return {
        "id": key.id,
        "name": key.name,
        "public_key": key.public_key,
        "fingerprint": key.fingerprint,
        "created_at": iso(vendor.shown_ms(key.created_ms)),
    }


def token_view(vendor: LiteVps, token: AccessToken) -> dict[str, Any]:
    """An access token, without its text."""
    limit = token.spend_limit
    return {
        "id": token.id,
        "name": token.name,
        "spend_limit": None if limit is None else number(vendor, limit),
        "created_at": iso(vendor.shown_ms(token.created_ms)),
    }


def entry_view(vendor: LiteVps, entry: Entry) -> dict[str, Any]:
    """One line of the history."""
    return {
        "id": entry.id,
        "type": entry.kind,
        "amount": noisy(vendor.faults, entry.amount),
        "balance_after": noisy(vendor.faults, entry.balance),
        "vps_id": entry.ref or None,
        "created_at": iso(vendor.shown_ms(entry.at_ms)),
    }
