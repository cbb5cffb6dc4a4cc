"""What may be asked of the book, and what it answers: one command, one decision, one group of rows in one commit.

Must not know how a command is decided or stored.  Theory: every change to money or rights is one of these values, so a
test, a simulation and the running service drive exactly the same decisions.
"""

from dataclasses import dataclass

from gateway.core.payment import Charge, Delivery, Fault
from gateway.core.records import (
    AgentAccount,
    Answer,
    ApiKey,
    Attempt,
    Evidence,
    Payment,
    Resource,
    Task,
)


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """Open an agent's account."""

    account: AgentAccount


@dataclass(frozen=True, slots=True)
class CreditAccount:
    """Give an account operator credit. `reference` makes it once only: the same one again changes nothing."""

    account_id: str
    amount_base: int
    reference: str
    note: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AddKey:
    """Add an API key to an account."""

    key: ApiKey


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """Revoke a key; `account_id` limits it to that account's keys."""

    key_id: str
    account_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """Caps that keep one account from starving others (DESIGN 6) and from using boxes that nobody collects for."""

    exposure_base: int
    open_payments_per_vendor: int
    calls_per_vendor: int
    unpaid_deliveries: int
    unpaid_window_ms: int


@dataclass(frozen=True, slots=True)
class Purchase:
    """Claim, hold, terms and the sealed credential in one commit (P3). The payment arrives as PRESENTED."""

    payment: Payment
    attempt: Attempt
    limits: AccountLimits
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """What the vendor answered to a presented credential, with what it created."""

    payment_id: str
    delivery: Delivery
    fault: Fault
    vendor_status: int | None
    answer: Answer | None
    resource: Resource | None
    at_ms: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class MarkAnswered:
    """The agent has the whole answer: an identical request from now on is a new purchase."""

    payment_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordSettled:
    """A final block proves that the vendor collected."""

    payment_id: str
    evidence: Evidence
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordDead:
    """A final block proves that the vendor can never collect (P6)."""

    payment_id: str
    evidence: Evidence
    at_ms: int


@dataclass(frozen=True, slots=True)
class PassDeadline:
    """Collected, and the delivery was not found in time: apply the dispute rule."""

    payment_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ResolveDispute:
    """The operator decides a held dispute: CAPTURED (the agent pays) or REFUNDED (the house pays)."""

    payment_id: str
    charge: Charge
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ObserveFloat:
    """A wallet's token balance at a final block, all of whose settlements are booked."""

    wallet: bytes
    asset: str
    balance_base: int
    evidence: Evidence
    task_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordOutflow:
    """A wallet's authorization was collected that the book does not know: quarantine's catch, or a leaked key.

    `payment_id` names the payment that it contradicts: one that was proven dead, or collected by another log.
    """

    wallet: bytes
    asset: str
    evidence: Evidence
    task_id: str
    at_ms: int
    payment_id: str | None = None


@dataclass(frozen=True, slots=True)
class SetFreeze:
    """Stop or release a scope."""

    scope: str
    frozen: bool
    reason: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class OpenTask:
    """Ask a human; one that is open already for the same kind and subject stays as it is."""

    task: Task


@dataclass(frozen=True, slots=True)
class CloseTask:
    """A human is done with a task."""

    task_id: str
    resolution: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ApprovePayee:
    """Take a payee onto the list of those that may be paid (P8)."""

    vendor: str
    chain_id: int
    pay_to: bytes
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ObservePrice:
    """A vendor's own catalogue stated a price."""

    vendor: str
    item: str
    amount_base: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class ApprovePrice:
    """The operator accepts a new price: drift is measured from here on."""

    vendor: str
    item: str
    amount_base: int
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class UpdateResource:
    """A newer look at a vendor's resource."""

    vendor: str
    ref: str
    state: str
    expires_at_ms: int | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordResource:
    """A vendor's answer that cost nothing told of a new resource: it belongs to the account that asked."""

    resource: Resource
    at_ms: int


@dataclass(frozen=True, slots=True)
class MoveCursor:
    """Every log up to this final block is booked."""

    chain_id: int
    block_number: int
    block_hash: bytes
    block_time_s: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep the answer to an unpriced request that came with an idempotency key."""

    account_id: str
    idempotency_key: str
    fingerprint: bytes
    answer: Answer


Command = (
    OpenAccount
    | CreditAccount
    | AddKey
    | RevokeKey
    | Purchase
    | RecordOutcome
    | MarkAnswered
    | RecordSettled
    | RecordDead
    | PassDeadline
    | ResolveDispute
    | ObserveFloat
    | RecordOutflow
    | SetFreeze
    | OpenTask
    | CloseTask
    | ApprovePayee
    | ObservePrice
    | ApprovePrice
    | UpdateResource
    | RecordResource
    | MoveCursor
    | Remember
)


@dataclass(frozen=True, slots=True)
class Done:
    """The command is committed. `payment` is the record it left, where there is one; `changed` is False for a repeat."""

    payment: Payment | None = None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Attached:
    """An earlier purchase stands for this request: nothing new was reserved."""

    payment_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed. `code` is a problem type of gateway.core.problems."""

    code: str
    detail: str


Result = Done | Attached | Refused
