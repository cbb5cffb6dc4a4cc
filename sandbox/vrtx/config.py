"""VRTX's configuration. Amounts are decimal USD texts, times are business seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.shared_vendor.config import BaseConfig

BILLING_RULES = ("hourly", "hourly_capped", "monthly")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(BaseConfig):
    """Only `accounts` has no default: accounts and tokens are made in the console, which is this config."""

    accounts: list[dict[str, Any]]
    """{name, tokens, ip_allowlist, webhooks}; `webhooks` are {url, secret}; an empty allow-list lets everybody in."""
    billing_rule: str = "hourly"
    """hourly (each started hour), hourly_capped (at the monthly price a calendar month), or monthly (whole months)."""
    sustained_per_min: int = 120
    burst_per_10s: int = 30
    boot_s: float = 20.0
    """From create to `state` running; the installation goes on."""
    install_s: float = 60.0
    """From create to `status` null."""
    password_after_s: float = 0.0
    """From installed to `password_status` ready."""
    power_s: float = 3.0
    """How long a power action takes; the next one waits for it."""
    delete_s: float = 0.0
    idempotency_ttl_s: float = 86_400
    invoice_due_days: int = 7
    suspend_after_days: int = 7
    """So long after the due day of an unpaid invoice the account's servers are suspended."""
    webhook_timeout_s: float = 10.0
    """Real seconds that an endpoint has to answer."""
    webhook_retry_s: float = 5.0
    """Business seconds to the first retry; each further one waits twice as long, at most an hour."""
    webhook_give_up_s: float = 72 * 3600
    signature_prefix: str = ""
    """What stands before the hex digest in X-Vrtx-Signature: the document does not say; some vendors write sha256=."""
    stock: dict[str, list[int]] = field(default_factory=dict)
    """Plan ids to be had, by location id; a location that is not named has all."""
