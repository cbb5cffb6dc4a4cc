"""The records that the book keeps: plain frozen values, one per row of the store.

Must not know how rows are written or what decides their change.  Theory: a record is replaced, never edited, so what
was committed and what is in memory cannot drift apart half-way.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from gateway.core import chart
from gateway.core.payment import Axes, Charge, Delivery, Fault
from gateway.core.task_kinds import TaskKind


class TransferKind(StrEnum):
    """How money reaches the vendor, and so what proves that it did."""

    EIP3009 = "eip3009"  # a token authorization with a nonce of ours, or one that the rail prescribes
    TEMPO = "tempo"  # a Tempo transaction with an expiring nonce, known by its memo
    ACCOUNT = "account"  # the vendor's own account with us: one billing period, settled by its rule or bill


@lru_cache(maxsize=1_024)  # asked for several times a purchase, of few wallets
def _inventory(wallet: bytes) -> str:
    return chart.wallet("0x" + wallet.hex())


@dataclass(frozen=True, slots=True)
class AuthorizationTerms:
    """What a wallet promised on chain for one purchase; (chain, token, wallet, nonce) is its identity (P4, P13).

    For `tempo` the nonce is the memo. `value_base` is what payees get together, `splits` who gets what of it besides
    `pay_to`; `fee_base` is the most that the wallet itself may pay for the transaction, in the same token.
    """

    chain_id: int
    token: bytes
    asset: str
    wallet: bytes
    pay_to: bytes
    nonce: bytes
    value_base: int
    valid_before_s: int
    signed_at_block: int
    kind: TransferKind = TransferKind.EIP3009
    fee_base: int = 0
    splits: tuple[tuple[bytes, int], ...] = ()
    tx_hash: bytes | None = None  # of the transaction, where it is known before it is sent

    @property
    def reserve_base(self) -> int:
        """What the wallet must be able to lose for it (P7)."""
        return self.value_base + self.fee_base

    @property
    def source(self) -> str:
        """The ledger account that pays."""
        return _inventory(self.wallet)

    @property
    def identity(self) -> tuple[int, bytes, bytes, bytes]:
        """The authorization's identity on chain."""
        return self.chain_id, self.token, self.wallet, self.nonce


@dataclass(frozen=True, slots=True)
class PeriodTerms:
    """One billing period of a thing at a vendor that charges an account: at most `value_base` of `asset`."""

    vendor: str
    meter_id: str
    seq: int
    value_base: int
    starts_at_ms: int
    ends_at_ms: int

    @property
    def kind(self) -> TransferKind:
        """Always `account`."""
        return TransferKind.ACCOUNT

    @property
    def asset(self) -> str:
        """What the vendor is paid in."""
        return chart.vendor_asset(self.vendor)

    @property
    def reserve_base(self) -> int:
        """What the operator's account there must be able to lose for it."""
        return self.value_base

    @property
    def source(self) -> str:
        """The ledger account that pays."""
        return chart.vendor(self.vendor)


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
    terms: AuthorizationTerms | PeriodTerms
    hold_base: int
    created_at_ms: int
    delivery_deadline_ms: int
    """Once a chain proved the collection: until when its delivery is waited for. Before, nobody waits yet, and it is the
    creation and as long as will be waited; of a billing period it means nothing."""
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
    def authorization(self) -> AuthorizationTerms | None:
        """What a wallet promised on chain, None for a billing period."""
        return self.terms if isinstance(self.terms, AuthorizationTerms) else None

    @property
    def period(self) -> PeriodTerms | None:
        """The billing period that it pays, None for what is settled on chain."""
        return self.terms if isinstance(self.terms, PeriodTerms) else None

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

    kind: str  # settled | canceled | unused | failed | resolved | late | outflow; received | refunded | moved at tills
    chain_id: int
    block_number: int
    block_hash: bytes
    block_time_s: int
    witnesses: tuple[str, ...]
    tx_hash: bytes | None = None
    log_index: int | None = None
    payment_id: str | None = None
    value_base: int = 0
    fee_base: int = 0  # what the wallet itself paid for the transaction, in the same token


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
    label: str = ""  # the agent's own name for it, where the vendor was told another
    meter_id: str | None = None
    plan: str = ""  # which of the vendor's plans it is, or was made of


class MeterState(StrEnum):
    """Where a metered thing is, as far as its charges go."""

    ORDERED = "ordered"  # asked for; whether it exists is not known yet
    RUNNING = "running"  # it exists, and is charged by its tariff
    ENDING = "ending"  # its destruction is wanted, and not confirmed yet
    ENDED = "ended"  # confirmed: nothing more is charged


@dataclass(frozen=True, slots=True)
class Meter:
    """What one thing at an account vendor has cost so far, and up to when that is held.

    `hourly` and `monthly` are exact decimal texts in USD; `token` is our mark in the vendor's own name for it, by which
    a list finds it; `accrued` is the exact cost of stretches that are over, as "numerator/denominator", and
    `accrued_until_ms` the end of the newest of them. `billed_base` is what its periods were settled at and what the
    house bore, `lost_base` the house's part of it. Its times and its periods' are business time (design 5), never
    compared with the wall clock of the journal.
    """

    id: str
    vendor: str
    account_id: str
    key_id: str
    kind: str
    token: str
    label: str
    hourly: str
    monthly: str | None
    unit_s: int
    rule: str
    while_running: bool
    created_at_ms: int
    state: MeterState = MeterState.ORDERED
    ref: str | None = None
    running_since_ms: int | None = None
    accrued: str = "0"
    accrued_until_ms: int = 0
    billed_base: int = 0
    lost_base: int = 0
    seq: int = 0  # of the newest period
    held_until_ms: int = 0  # end of the newest period that could be held
    billed_until_ms: int = 0  # end of the newest period that is settled
    warned_at_ms: int | None = None
    unfunded_at_ms: int | None = None
    reason: str = ""  # why it is ending
    ended_at_ms: int | None = None


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
    kind: TaskKind
    subject: str
    detail: str
    opened_at_ms: int
    payment_id: str | None = None
    closed_at_ms: int | None = None
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class VendorEvent:
    """What an account vendor told us unasked: a reason to look at one of its things, never proof of anything.

    `created_at_ms` is the vendor's own time (business time), `received_at_ms` ours.
    """

    vendor: str
    event_id: str
    kind: str  # as the vendor names it
    ref: str
    state: str  # our word for the state that it tells of
    created_at_ms: int
    received_at_ms: int


HOUSE = "house"
"""The house's own account id, among the agents' and never one of theirs: whose settlements of top-ups and refunds are, and
for whom the gateway asks vendors on its own account."""

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
