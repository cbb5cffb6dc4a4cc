"""LiteVPS's configuration. Amounts are decimal USD texts, times are business seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.shared_vendor.config import BaseConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(BaseConfig):
    """Accounts come from here or from the admin API: registration over the API needs a CAPTCHA."""

    accounts: list[dict[str, Any]] = field(default_factory=list)
    """Accounts that exist from the start: {email, password, balance, tokens}; `tokens` are vtk_ texts."""
    turnstile_tokens: list[str] = field(default_factory=list)
    """CAPTCHA tokens that /api/auth/register takes, once each; without any it takes none."""
    token_ttl_s: int = 86_400
    login_per_min: int = 10
    """Requests a minute and address on login, and on register; 0: no limit."""
    rest_per_min: int = 0
    """Requests a minute and account elsewhere: the document names no limit."""
    create_s: float = 20.0
    """From creating to running."""
    start_s: float = 2.0
    stop_s: float = 3.0
    destroy_s: float = 0.0
    """From DELETE to 404; charges end at DELETE."""
    required_minutes: int = 60
    """So many minutes the balance must cover when a machine is made or started."""
    max_batch_size: int = 10
    exec_default_s: int = 30
    exec_max_s: int = 600
    job_start_s: float = 0.5
    """A background job is `pending` for so long."""
    low_balance: str = "1"
    """Below this balance the notification addresses get mail."""
    checkout_url: str = "https://checkout.stripe.com/c/pay/"
    hourly_prices: dict[str, str] = field(default_factory=dict)
    """Decimal USD an hour by plan name, over the built-in prices."""
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scripted commands: exact text -> {stdout, stderr, exit_code, duration_s}."""
