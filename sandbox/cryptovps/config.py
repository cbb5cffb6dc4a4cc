"""CryptoVPS's configuration. Amounts are decimal USD texts, times are business seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.shared_vendor.config import BaseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(BaseConfig):
    """Everything has a default: the vendor takes registrations from anybody."""

    accounts: list[dict[str, Any]] = field(default_factory=list)
    """Accounts that exist from the start: {email, password, balance}."""
    signup_balance: str = "0"
    """What a fresh registration finds on its balance."""
    token_ttl_s: int = 900
    auth_per_min: int = 10
    """Requests a minute and address on /auth/*; 0: no limit."""
    rest_per_min: int = 100
    """Requests a minute and account on everything else; 0: no limit."""
    server_limit: int = 10
    provision_s: float = 60.0
    destroy_s: float = 5.0
    backup_s: float = 180.0
    backup_ttl_s: float = 7 * 86_400
    hourly_prices: dict[str, str] = field(default_factory=dict)
    """Decimal USD an hour by plan, over the built-in prices."""
