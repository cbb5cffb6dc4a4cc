"""What the vendor remembers: rentals, the purchases that pay for them, and every settlement it tried.

Plain records that go to JSON and back; times are Unix milliseconds, `_ms` fields of purchases on the real clock. No
behaviour.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Rental:
    """One box and its lifecycle: pending_settlement, active, renewing, expired."""

    rental_id: str
    sku: str
    track: str
    region: str | None
    ipv4: str
    ipv4_from_ms: int
    box_up_at_ms: int | None
    """Real time at which the port opens; None: never."""
    box_destroyed: bool = False
    root_token: str = field(repr=False)
    root_password: str = field(repr=False)
    status: str = "pending_settlement"
    created_at: int
    expires_at: int
    grace_until: int | None = None
    settle_tx_hash: str | None = None
    renewal_count: int = 0
    last_renewal_tx_hash: str | None = None
    known_ipv4: str | None = None
    known_running: bool = False
    """What the upstream provider said of the box when it was last asked; all that is left to say while it is away."""


@dataclass(slots=True, kw_only=True)
class Purchase:
    """One verified payment and what it is for; state: open, settled, failed, lapsed, abandoned."""

    purchase_id: str
    route: str
    nonce: str
    payer: str
    amount_base: str
    valid_before_s: int
    accepted_at_ms: int
    payload: dict[str, Any] = field(repr=False)
    requirements: dict[str, Any]
    plan: dict[str, Any]
    """The settle fault that was in force when it was accepted, or {"mode": "normal"}."""
    rental_id: str | None = None
    periods: int = 0
    predicted_expires_at: int | None = None
    manual_at_ms: int | None = None
    """Real time at which a renewal's manual step is done; None: nobody has done it."""
    outlives: bool = False
    state: str = "open"
    tx_hash: str | None = None
    reason: str | None = None
    retry_at_ms: int = 0
    reply: dict[str, Any] | None = field(default=None, repr=False)
    """The body that was answered, for a payment that is presented again."""


@dataclass(slots=True, kw_only=True)
class Settlement:
    """One attempt to collect, as the SDK reported it."""

    purchase_id: str
    nonce: str
    at_ms: int
    ok: bool
    tx_hash: str
    reason: str | None


@dataclass(slots=True, kw_only=True)
class Seen:
    """How often a payment was presented, and with how many different headers."""

    count: int = 0
    headers: list[str] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Book:
    """Everything at once."""

    rentals: dict[str, Rental] = field(default_factory=dict)
    purchases: dict[str, Purchase] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    offset_ms: int = 0
    ssh_port: int = 0

    def with_nonce(self, nonce: str) -> list[Purchase]:
        """The purchases that one authorization was accepted for; more than one only where a fault made a second box."""
        return [purchase for purchase in self.purchases.values() if purchase.nonce == nonce]

    def open_renewal(self, rental_id: str) -> Purchase | None:
        """The renewal of a rental that is neither settled nor over."""
        for purchase in self.purchases.values():
            if purchase.route == "renew" and purchase.rental_id == rental_id and purchase.state == "open":
                return purchase
        return None

    def as_json(self) -> dict[str, Any]:
        """The whole book for the state file and the admin API."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Book:
        """The book that `as_json` gave."""
        return cls(
            rentals={key: Rental(**value) for key, value in raw["rentals"].items()},
            purchases={key: Purchase(**value) for key, value in raw["purchases"].items()},
            settlements=[Settlement(**value) for value in raw["settlements"]],
            seen={key: Seen(**value) for key, value in raw["seen"].items()},
            offset_ms=raw["offset_ms"],
            ssh_port=raw["ssh_port"],
        )
