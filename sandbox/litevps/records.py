"""What LiteVPS keeps: accounts with their keys, tokens and addresses, machines, snapshots, jobs. Records only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from sandbox.shared_vendor.purse import Purse


@dataclass(slots=True, kw_only=True)
class AccessToken:
    """One vtk_ token; its text is shown once."""

    id: str
    name: str
    text: str = field(repr=False)
    created_ms: int
    spend_limit: Decimal | None = None
    spent: Decimal = Decimal(0)


@dataclass(slots=True, kw_only=True)
class SshKey:
    """One public key."""

    id: str
    name: str
    public_key: str
    fingerprint: str
    created_ms: int


@dataclass(slots=True, kw_only=True)
class Account:
    """One account."""

    id: str
    email: str
    password: str = field(repr=False)
    purse: Purse = field(default_factory=Purse)
    tokens: dict[str, AccessToken] = field(default_factory=dict)
    keys: dict[str, SshKey] = field(default_factory=dict)
    notify: dict[str, str] = field(default_factory=dict)
    checkouts: dict[str, Decimal] = field(default_factory=dict)
    """Top-ups that wait for a human, by checkout id."""
    warned: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the admin API; without password and token texts."""
        return {
            "id": self.id,
            "email": self.email,
            "tokens": {
                key: {"name": token.name, "spent": str(token.spent), "spend_limit": str(token.spend_limit)}
                for key, token in self.tokens.items()
            },
            "keys": {key: asdict(entry) for key, entry in self.keys.items()},
            "notify": self.notify,
            "checkouts": {key: str(amount) for key, amount in self.checkouts.items()},
            **self.purse.as_json(),
        }


@dataclass(slots=True, kw_only=True)
class Job:
    """One background command."""

    id: str
    command: str
    timeout_s: int
    created_ms: int
    status: str = "pending"
    started_ms: int | None = None
    ended_ms: int | None = None
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None


@dataclass(slots=True, kw_only=True)
class Machine:
    """One VPS; `hourly` is fixed when it is made."""

    id: str
    account_id: str
    token_id: str | None
    """The vtk_ token that made it, which its charges count against."""
    name: str
    plan_id: str
    template: str | None
    vcpu: int
    memory_mb: int
    disk_gb: int
    user_data: str
    ttl_minutes: int | None
    ssh_key_ids: list[str]
    hourly: Decimal
    created_ms: int
    ip: str
    vnc_port: int
    state: str = "creating"
    deleting: bool = False
    gone_ms: int | None = None
    minutes: int = 0
    """Minutes charged so far."""
    charged: Decimal = Decimal(0)
    running_round: int = 0
    """Counts stints of running, so that an event of an earlier one notices that it is over."""
    hidden_until_ms: int = 0
    hidden_from_get: bool = False
    snapshots: dict[str, int] = field(default_factory=dict)
    """Creation times by name."""
    jobs: dict[str, Job] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the admin API."""
        names = (
            *("id", "account_id", "token_id", "name", "plan_id", "template", "state", "deleting", "gone_ms", "minutes"),
            *("created_ms", "ttl_minutes", "snapshots", "ssh_key_ids", "ip"),
        )
        return {
            **{name: getattr(self, name) for name in names},
            "hourly": str(self.hourly),
            "charged": str(self.charged),
            "jobs": {key: asdict(job) for key, job in self.jobs.items()},
        }
