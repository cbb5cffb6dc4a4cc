"""What every seller is configured with, read strictly: the chain, the relayer, the payee, the port."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from sandbox.process import child_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A seller's config; `rpc_url` and `relayer_key` are not needed where `facilitator_url` names another process."""

    rpc_url: str = ""
    relayer_key: str = field(default="", repr=False)
    pay_to: str = "0x8eCbd65228930060363C70854da7D37D57ffC358"
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    max_timeout_s: int = 300
    facilitator_url: str | None = None
    """v2 only: use the SDK's HTTP client against this facilitator instead of the one in process."""
    facilitator_key: str | None = field(default=None, repr=False)
    """v2 only: what that facilitator wants to see as Bearer."""
    log_level: str = "warning"


def settings_from_command_line() -> Settings:
    """Read `--config`, or end the process with a message that names what is wrong."""
    raw: dict[str, Any] = child_config()
    if unknown := sorted(set(raw) - {entry.name for entry in fields(Settings)}):
        raise SystemExit(f"config: unknown keys: {', '.join(unknown)}")
    settings = Settings(**raw)
    if settings.facilitator_url is None and not (settings.rpc_url and settings.relayer_key):
        raise SystemExit("config: rpc_url and relayer_key are needed to settle")
    return settings
