"""What may be asked of the book, and what it answers: one command, one decision, one group of rows in one commit.

Must not know how a command is decided or stored.  Theory: every change to money or rights is one of these values, so a
test, a simulation and the running service drive exactly the same decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.paid_commands import (
    BindWallet,
    BookIncoming,
    ClaimSettlement,
    LendTopUp,
    MoveRefund,
    MoveSettlements,
    MoveTillCursor,
    OpenRefund,
    PutSeller,
    PutTopUp,
    RecordMoved,
    ResolveIncoming,
    TakeNonce,
)
from gateway.core.payment import Charge, Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.records import (
    AgentAccount,
    Answer,
    ApiKey,
    Attempt,
    Evidence,
    Meter,
    Payment,
    Resource,
    Task,
    VendorEvent,
)
from gateway.core.server import HookDelivery, Kept


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
    """Caps that keep one account from starving others (design 6) and from using boxes that nobody collects for."""

    exposure_base: int
    open_payments_per_vendor: int
    calls_per_vendor: int
    unpaid_deliveries: int
    unpaid_window_ms: int
    metered_per_vendor: int = 10


@dataclass(frozen=True, slots=True)
class Purchase:
    """Claim, hold, terms and the sealed credential in one commit (P3).

    The payment arrives as PRESENTED; with a meter (the first period of a thing that an account vendor charges us for)
    as PREPARED: nothing is owed before the vendor says that the thing exists. The meter takes its period from the payment.
    """

    payment: Payment
    attempt: Attempt
    limits: AccountLimits
    at_ms: int
    meter: Meter | None = None
    challenge_id: str | None = None  # of a challenge that may be answered once only
    prescribed: bool = False  # the seller chose the name that the authorization has on chain


@dataclass(frozen=True, slots=True)
class MeterStart:
    """What a vendor's answer to a create says of the thing's charges: it exists.

    Rates are decimal texts that `tariff.rate_of` takes. `since_ms` (business time) is None while it is not charged yet,
    and is never taken to be before the order; the caller does not believe one that is yet to come. `accepted` is False
    for one that is dearer than was quoted: its hold goes back at once, it is to be ended, and the house bears what it
    costs until then.
    """

    hourly: str
    monthly: str | None
    kind: str
    since_ms: int | None
    accepted: bool = True


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """What the vendor answered to a presented credential, with what it created.

    `metered` counts for a thing with a meter: DELIVERED without it starts at what was quoted, from the order on; REFUSED
    with it means that something exists which the agent does not get, and which is to be ended at the house's cost.
    """

    payment_id: str
    delivery: Delivery
    fault: Fault
    vendor_status: int | None
    answer: Answer | None
    resource: Resource | None
    at_ms: int
    note: str = ""
    metered: MeterStart | None = None


@dataclass(frozen=True, slots=True)
class MarkAnswered:
    """The agent has the whole answer: an identical request from now on is a new purchase."""

    payment_id: str


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
class ResolveUnproven:
    """The operator says what left for a payment that is used at a final block and not proven, and who bears it.

    `evidence` (kind `resolved`) is that block, with the log of the collection where one is known; its `value_base` and
    `fee_base` are what was said, nothing where nothing left. `said_tx` is the transaction that the operator names, `words`
    how it is known. Refused `not_unproven` unless a task asks for it, and `bad_resolution` beyond what was promised.
    """

    payment_id: str
    charge: Charge
    evidence: Evidence
    said_tx: bytes | None
    words: str
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
    """A newer look at a vendor's resource. What it does not tell (None, an empty plan) stays as it was."""

    vendor: str
    ref: str
    state: str | None
    expires_at_ms: int | None
    at_ms: int
    plan: str = ""


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


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep the answer to an unpriced request that came with an idempotency key."""

    account_id: str
    idempotency_key: str
    fingerprint: bytes
    answer: Answer


@dataclass(frozen=True, slots=True)
class OpenPeriod:
    """Hold the next billing period of a meter. Refused with `insufficient_balance` when the account cannot cover it."""

    payment: Payment
    at_ms: int


@dataclass(frozen=True, slots=True)
class BillPeriod:
    """A held period is over by the business clock: settle it, and those before it, by the vendor's stated rule."""

    payment_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RunMeter:
    """The thing is charged from `since_ms` (business time) on (`running`), or no longer: started, stopped, going."""

    meter_id: str
    running: bool
    since_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class MarkEnding:
    """The thing's destruction is wanted, by its agent or because it cannot be paid for. Repeated until confirmed."""

    meter_id: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class EndMeter:
    """Its destruction is confirmed: settle what it cost until `ended_at_ms` (business time), give back what is beyond."""

    meter_id: str
    ended_at_ms: int
    how: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class WarnMeter:
    """The account's balance will not cover this thing for long: `unfunded` once the next period was refused."""

    meter_id: str
    unfunded: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class ObserveBalance:
    """What a vendor says is left on the operator's account there, below zero where it is owed.

    More than the books can explain is a deposit, less is a task.
    """

    vendor: str
    balance_base: int
    noise_base: int  # differences up to this are how the vendor rounds
    drift_base: int  # a shortfall against the books beyond this is a task
    task_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordProof:
    """A wallet proves its identity to a vendor: it costs nothing and grants control, so it is kept like money (P3, P13)."""

    wallet: bytes
    vendor: str
    route: str
    account_id: str
    key_id: str
    request_id: str
    challenge_id: str
    realm: str
    chain_id: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class TakeEvent:
    """A vendor's signed event has come. One that was taken before is no news, handled or not (P13)."""

    event: VendorEvent


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """The vendor was asked about what an event tells of, or need not be: it is done with."""

    vendor: str
    event_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Put:
    """Keep a record of the neutral API: a new one (version 1), or one that follows what is kept (its version plus one).

    `event` names what happened (`ordered`, `running`, ...): the journal row is "<record>.<event>" with `detail` in it.
    Refused with `changed_meanwhile` where another version is kept, and with `idempotency_conflict` where the client token
    of a new server or fleet stands for another order; the same order again is `Attached` with the id of the first one.
    """

    record: Kept
    event: str
    at_ms: int
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FanOut:
    """Every journal row up to `seq` was read for whom it concerns: these deliveries are due. A lower `seq` changes nothing."""

    seq: int
    deliveries: tuple[HookDelivery, ...]


@dataclass(frozen=True, slots=True)
class PutDelivery:
    """An endpoint was tried, or a delivery is to be made again. It leaves no journal row: no money and no right moves."""

    delivery: HookDelivery


@dataclass(frozen=True, slots=True)
class ForgetDeliveries:
    """What became of deliveries that were done before a time is not kept any longer: the oldest of them, at most so many."""

    done_before_ms: int
    at_most: int


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
    | ResolveUnproven
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
    | OpenPeriod
    | BillPeriod
    | RunMeter
    | MarkEnding
    | EndMeter
    | WarnMeter
    | ObserveBalance
    | RecordProof
    | TakeEvent
    | CloseEvent
    | Put
    | FanOut
    | PutDelivery
    | ForgetDeliveries
    | ClaimSettlement
    | MoveSettlements
    | PutTopUp
    | LendTopUp
    | BookIncoming
    | ResolveIncoming
    | OpenRefund
    | MoveRefund
    | RecordMoved
    | BindWallet
    | TakeNonce
    | PutSeller
    | MoveTillCursor
)


@dataclass(frozen=True, slots=True)
class Done:
    """The command is committed. `payment` is the record it left, where there is one; `changed` is False for a repeat."""

    payment: Payment | None = None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Attached:
    """An earlier record stands for this request: the payment of a purchase, for other commands what they make."""

    record_id: str


KEY_USED = "this Idempotency-Key was used for another request; take a new one"
"""What `idempotency_conflict` says wherever a key or client token stands for something else."""


def key_used() -> Problem:
    """Return the problem of a request whose Idempotency-Key stands for another one."""
    return Problem("idempotency_conflict", KEY_USED, "Idempotency-Key")


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed. `code` is a problem type of gateway.core.problems."""

    code: str
    detail: str


Result = Done | Attached | Refused
