"""The records that the book keeps: plain frozen values, one per row of the store.

Must not know how rows are written or what decides their change.  Theory: a record is replaced, never edited, so what
was committed and what is in memory cannot drift apart half-way.
"""

from dataclasses import dataclass, field

from gateway.core.payment import Axes, Charge, Delivery, Fault


@dataclass(frozen=True, slots=True)
class AuthorizationTerms:
    """What a wallet promised on chain for one purchase; (chain, token, wallet, nonce) is its identity (P4, P13)."""

    chain_id: int
    token: bytes
    asset: str
    wallet: bytes
    pay_to: bytes
    nonce: bytes
    value_base: int
    valid_before_s: int
    signed_at_block: int

    @property
    def identity(self) -> tuple[int, bytes, bytes, bytes]:
        """The authorization's identity on chain."""
        return self.chain_id, self.token, self.wallet, self.nonce


@dataclass(frozen=True, slots=True)
class Payment:
    """Our record of paying for one purchase. `hold_base` is USD, `terms.value_base` is in the token."""

    id: str
    account_id: str
    key_id: str
    request_id: str
    vendor: str
    route: str
    method: str
    path: str  # as the agent wrote it, secrets scrubbed
    fingerprint: bytes
    idempotency_key: str | None
    represent: str
    terms: AuthorizationTerms
    hold_base: int
    created_at_ms: int
    delivery_deadline_ms: int
    resource_ref: str | None = None
    renews: bool = False
    axes: Axes = field(default_factory=Axes)
    fault: Fault = Fault.NONE
    vendor_status: int | None = None
    settled_base: int = 0  # in the token, what the chain says was collected
    captured_base: int = 0
    hold_transfer_id: int = 0
    exposure_transfer_id: int = 0
    answered: bool = False
    disputed: bool = False
    closed_at_ms: int | None = None

    @property
    def reclaimable(self) -> bool:
        """Whether its Idempotency-Key may buy again: proven dead, nothing delivered, and not for the agent's own input."""
        return (
            self.axes.charge is Charge.VOIDED
            and self.axes.delivery is not Delivery.DELIVERED
            and self.fault is not Fault.AGENT
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed credential of a purchase and the request that carries it, both sealed, re-read for every retry (P4)."""

    payment_id: str
    seq: int
    value_base: int
    valid_before_s: int
    sealed_request: bytes
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent is told, sealed: served again to whoever asks with the same claim."""

    payment_id: str
    status: int
    sealed: bytes
    at_ms: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """A chain fact that closes a payment (or, without one, a task): what was seen, at which block, by whom (P14)."""

    kind: str  # settled | canceled | unused | outflow
    chain_id: int
    block_number: int
    block_hash: bytes
    block_time_s: int
    witnesses: tuple[str, ...]
    tx_hash: bytes | None = None
    log_index: int | None = None
    payment_id: str | None = None
    value_base: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """A vendor's thing that an account owns. Its state is the vendor's, never mixed with the money's."""

    vendor: str
    ref: str
    account_id: str
    payment_id: str
    kind: str
    state: str
    surrogate_digest: bytes | None
    sealed_secret: bytes | None
    expires_at_ms: int | None
    as_of_ms: int
    open_renewal: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """A key's spending limit. `vendor` and `route` narrow it; None means any."""

    id: str
    limit_base: int
    window_s: int
    vendor: str | None = None
    route: str | None = None

    def covers(self, vendor: str, route: str) -> bool:
        """Say whether a purchase on this vendor's route counts here."""
        return self.vendor in (None, vendor) and self.route in (None, route)


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of a budget's current window is spent or held."""

    budget_id: str
    window_started_at_ms: int
    used_base: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An account's API key: only the SHA-256 of its secret is kept."""

    id: str
    account_id: str
    digest: bytes
    name: str
    scopes: tuple[str, ...]
    budgets: tuple[Budget, ...]
    created_at_ms: int
    revoked_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AgentAccount:
    """An agent's account."""

    id: str
    name: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Task:
    """Something a human must do. At most one task of a (kind, subject) is open."""

    id: str
    kind: str
    subject: str
    detail: str
    opened_at_ms: int
    payment_id: str | None = None
    closed_at_ms: int | None = None
    resolution: str | None = None


EVERYTHING = ("all", "database")
"""Scopes that stop every purchase: the operator's own, and the quarantine of an older database, which ends by itself.

They are two, so that lifting the one never lifts the other.
"""


@dataclass(frozen=True, slots=True)
class Freeze:
    """A stop on a scope: `all`, `database`, `vendor:<name>`, `wallet:<address>`, `account:<id>` or `asset:<id>`."""

    scope: str
    reason: str
    at_ms: int
    by: str
