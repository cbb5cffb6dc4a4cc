"""The book: everything that decides about money and rights, in memory, with the rows that each decision leaves.

Must not know SQL, clocks or the network.  Theory: one owner decides one command after another, so no two decisions can
spend the same cent (P2); what they leave is collected in `Rows` and committed as one group before anyone is told (P3).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gateway.core import chart
from gateway.core.inventory import InventoryCap, TokenPlace
from gateway.core.journal import Chain, Record
from gateway.core.kept import FLEET, HOOK, QUOTE, SERVER, SNAPSHOT, SSH_KEY, Order, is_over, kind_of, order_of
from gateway.core.ledger import Account, Ledger, Phase, Transfer
from gateway.core.money import USD
from gateway.core.paid_book import PaidBook, PaidReader, PaidRows
from gateway.core.payment import Charge, Delivery
from gateway.core.payment import Transfer as PaymentTransfer
from gateway.core.records import (
    EVERYTHING,
    AgentAccount,
    Answer,
    ApiKey,
    Attempt,
    Budget,
    BudgetUse,
    Evidence,
    Freeze,
    Meter,
    MeterState,
    Payment,
    Resource,
    Task,
    VendorEvent,
)
from gateway.core.server import Fleet, Hook, HookDelivery, HookDeliveryState, Kept, Quote, Server, Snapshot, SshKey
from gateway.core.unanswered import Unanswered

DAY_MS = 86_400_000
OPEN_KINDS = frozenset({SERVER, FLEET, HOOK})  # whose open records are in memory


class Reader(PaidReader, Protocol):
    """What the book asks of rows that it does not keep in memory. Answers are as of the last commit."""

    def claim(self, account_id: str, idempotency_key: str) -> "Claim | None":
        """Return the claim on an account's idempotency key."""

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment."""

    def resource(self, vendor: str, ref: str) -> Resource | None:
        """Return a vendor's resource."""

    def open_task(self, kind: str, subject: str) -> Task | None:
        """Return the open task of this kind on this subject."""

    def task(self, task_id: str) -> Task | None:
        """Return a task."""

    def has_answer(self, payment_id: str) -> bool:
        """Say whether the payment's answer is kept."""

    def credit(self, reference: str) -> tuple[str, int] | None:
        """Return account and amount of the credit with this reference."""

    def has_evidence(self, chain_id: int, tx_hash: bytes, log_index: int | None) -> bool:
        """Say whether this log was booked, or without an index this failed transaction."""

    def proofs(self, payment_id: str) -> list[tuple[str, bool]]:
        """Return the kind of each piece of evidence of a payment, and whether it names a log."""

    def has_challenge(self, vendor: str, challenge_id: str) -> bool:
        """Say whether a challenge of this vendor was answered before."""

    def has_event(self, vendor: str, event_id: str) -> bool:
        """Say whether an event of this vendor was taken before."""

    def unpaid_deliveries(self, account_id: str, since_ms: int) -> int:
        """Count the account's payments that were delivered and died since then."""

    def refunded_base(self, vendor: str, account_id: str, since_ms: int) -> int:
        """Sum what the house bore for this vendor and account since then."""

    def kept(self, kind: str, record_id: str) -> Kept | None:
        """Return a record of the neutral API, of one of the kinds of gateway.core.kept."""

    def order(self, account_id: str, client_token: str) -> Order | None:
        """Return what an account ordered with this client token."""

    def claim_or_order(self, account_id: str, idempotency_key: str) -> "Claim | Order | None":
        """Return what an account's idempotency key stands for, whichever of the two."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key in use: by a purchase, or (payment_id None) by an answer that cost nothing."""

    fingerprint: bytes
    payment_id: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class PriceView:
    """What is known of one item's price: last stated by the vendor, last approved by the operator."""

    observed_base: int | None = None
    observed_at_ms: int | None = None
    approved_base: int | None = None


@dataclass(frozen=True, slots=True)
class BookRules:
    """The operator's rules that decisions need. Vendors that are not named have a dispute cap of 0.

    `refund_min_base` is USD: less than that goes back only as the rest of a payment. A token without an inventory cap has none.
    """

    dispute_cap_base: Mapping[str, int] = field(default_factory=dict)
    refund_min_base: int = 0
    inventory_caps: Mapping[TokenPlace, InventoryCap] = field(default_factory=dict)


_KEPT_ROWS = {
    SERVER: "servers",
    QUOTE: "quotes",
    SNAPSHOT: "snapshots",
    SSH_KEY: "ssh_keys",
    FLEET: "fleets",
    HOOK: "hooks",
}


@dataclass(slots=True)
class Rows:
    """What a group of decisions leaves for the store, later values of the same row replacing earlier ones."""

    accounts: dict[int, Account] = field(default_factory=dict)
    new_accounts: set[int] = field(default_factory=set)
    transfers: list[tuple[Transfer, str | None, int, str | None]] = field(default_factory=list)
    journal: list[Record] = field(default_factory=list)
    payments: dict[str, Payment] = field(default_factory=dict)
    new_payments: set[str] = field(default_factory=set)
    attempts: list[Attempt] = field(default_factory=list)
    claims: dict[tuple[str, str], Claim] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    remembered: dict[tuple[str, str], Answer] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)
    logs: set[tuple[int, bytes | None, int | None]] = field(default_factory=set)  # of that evidence
    losses: dict[str, None] = field(default_factory=dict)  # payments of this group that count to a limit on losses
    resources: dict[tuple[str, str], Resource] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    references: dict[str, tuple[str, int]] = field(default_factory=dict)
    agent_accounts: list[AgentAccount] = field(default_factory=list)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    budget_uses: dict[str, BudgetUse] = field(default_factory=dict)
    freezes: dict[str, Freeze | None] = field(default_factory=dict)
    payees: list[tuple[str, int, bytes, int]] = field(default_factory=list)
    prices: dict[tuple[str, str], PriceView] = field(default_factory=dict)
    cursors: dict[int, tuple[int, bytes, int]] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict)
    vendor_balances: dict[str, tuple[int, int]] = field(default_factory=dict)
    challenges: dict[tuple[str, str], int] = field(default_factory=dict)
    events: dict[tuple[str, str], VendorEvent] = field(default_factory=dict)  # new ones
    closed_events: dict[tuple[str, str], int] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    ssh_keys: dict[str, SshKey] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    orders: dict[tuple[str, str], Order] = field(default_factory=dict)  # client tokens of new servers and fleets
    freed_refs: dict[str, None] = field(default_factory=dict)  # servers that gave their vendor's thing up in this group
    deliveries: dict[tuple[str, int], HookDelivery] = field(default_factory=dict)
    forgotten_deliveries: tuple[int, int] | None = None  # done before this time, at most so many
    told_seq: int | None = None
    paid: PaidRows = field(default_factory=PaidRows)

    def kept(self, kind: str) -> dict[str, Any]:
        """Return the rows of one of the kinds of gateway.core.kept."""
        rows: dict[str, Any] = getattr(self, _KEPT_ROWS[kind])
        return rows


def _owner(account: Account) -> str | None:
    """Return whose balance it is, None for an account that is no agent's."""
    return account.code[6:] if account.code.startswith("agent:") else None


def _unpaid(payment: Payment) -> bool:
    dead = payment.axes.delivery is Delivery.DELIVERED and payment.axes.transfer is PaymentTransfer.DEAD
    return dead and payment.authorization is not None


def _refunded(payment: Payment) -> bool:
    return payment.axes.charge is Charge.REFUNDED


class Book:
    """State and the means to change it. `gateway.core.decide.apply` is the only caller of the changing methods."""

    def __init__(self, reader: Reader, rules: BookRules | None = None) -> None:
        self.reader, self.rules = reader, rules or BookRules()
        self.ledger, self.chain = Ledger(), Chain()
        self.agent_accounts: dict[str, AgentAccount] = {}
        self.keys: dict[str, ApiKey] = {}
        self.keys_by_digest: dict[bytes, ApiKey] = {}
        self.freezes: dict[str, Freeze] = {}
        self.budget_uses: dict[str, BudgetUse] = {}
        self.open_payments: dict[str, Payment] = {}
        self.answers_kept: set[str] = set()  # open payments whose answer is kept
        self.unpaid_accounts: set[str] = set()  # that ever had a delivery which the vendor never collected for
        self.unanswered = Unanswered()
        self.open_count: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.exposure_base: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.payees: set[tuple[str, int, bytes]] = set()
        self.prices: dict[tuple[str, str], PriceView] = {}
        self.cursors: dict[int, tuple[int, bytes, int]] = {}
        self.meters: dict[str, Meter] = {}  # those that have not ended
        self.metered_count: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.open_periods: dict[str, dict[int, Payment]] = {}  # by meter and number, those of open payments
        self.vendor_balances: dict[str, tuple[int, int]] = {}
        self.pending_events: dict[tuple[str, str], VendorEvent] = {}
        self.servers: dict[str, Server] = {}  # open ones
        self.server_refs: dict[tuple[str, str], str] = {}  # of these: the vendor's thing of each
        self.fleets: dict[str, Fleet] = {}  # those that have not ended
        self.hooks: dict[str, Hook] = {}  # those that were not deleted
        self.deliveries: dict[tuple[str, int], HookDelivery] = {}  # pending ones
        self.told_seq = 0
        self.rows = Rows()
        self.paid = PaidBook(reader, self.rows.paid)

    # reading

    def payment(self, payment_id: str) -> Payment | None:
        """Return a payment as it stands after the decisions so far, committed or not."""
        found = self.open_payments.get(payment_id) or self.rows.payments.get(payment_id)
        return found if found is not None else self.reader.payment(payment_id)

    def claim(self, account_id: str, idempotency_key: str) -> Claim | None:
        """Return the claim on an idempotency key."""
        return self.rows.claims.get((account_id, idempotency_key)) or self.reader.claim(account_id, idempotency_key)

    def claim_or_order(self, account_id: str, idempotency_key: str) -> Claim | Order | None:
        """Return what an idempotency key stands for, committed or not: every purchase asks, so in one look-up."""
        place = (account_id, idempotency_key)
        fresh = self.rows.claims.get(place) or self.rows.orders.get(place) or self.rows.paid.orders.get(place)
        return fresh or self.reader.claim_or_order(account_id, idempotency_key)

    def task(self, task_id: str) -> Task | None:
        """Return a task."""
        return self.rows.tasks.get(task_id) or self.reader.task(task_id)

    def resource(self, vendor: str, ref: str) -> Resource | None:
        """Return a resource."""
        return self.rows.resources.get((vendor, ref)) or self.reader.resource(vendor, ref)

    def has_answer(self, payment_id: str) -> bool:
        """Say whether the payment's answer is kept, committed or not."""
        if payment_id in self.open_payments:
            return payment_id in self.answers_kept
        return payment_id in self.rows.answers or self.reader.has_answer(payment_id)

    def has_evidence(self, evidence: Evidence) -> bool:
        """Say whether this log or failed transaction was booked, committed or not. Other evidence is never the same twice."""
        if evidence.tx_hash is None:
            return False
        place = (evidence.chain_id, evidence.tx_hash, evidence.log_index)
        return place in self.rows.logs or self.reader.has_evidence(*place)

    def lacks_its_log(self, payment_id: str) -> bool:
        """Say whether a payment was ended as the operator said, before any log of it was known, and none has turned up."""
        fresh = [(e.kind, e.log_index is not None) for e in self.rows.evidence if e.payment_id == payment_id]
        return [*self.reader.proofs(payment_id), *fresh] == [("resolved", False)]

    def has_challenge(self, vendor: str, challenge_id: str) -> bool:
        """Say whether a challenge was answered before, committed or not."""
        place = (vendor, challenge_id)
        return place in self.rows.challenges or self.reader.has_challenge(*place)

    def has_authorization(self, identity: tuple[int, bytes, bytes, bytes]) -> bool:
        """Say whether an authorization with this identity on chain is anybody's, committed or not."""
        return self.paid.owner_of(identity) is not None

    def unpaid_deliveries(self, account_id: str, since_ms: int) -> int:
        """Count the account's payments that were delivered and died since then, committed or not."""
        if account_id not in self.unpaid_accounts:
            return 0
        fresh = sum(1 for p in self._fresh(_unpaid) if p.account_id == account_id and (p.closed_at_ms or 0) >= since_ms)
        return fresh + self.reader.unpaid_deliveries(account_id, since_ms)

    def refunded_base(self, vendor: str, account_id: str, since_ms: int) -> int:
        """Sum what the house bore for this vendor and account since then, committed or not."""
        place = (vendor, account_id)
        fresh = sum(
            p.hold_base
            for p in self._fresh(_refunded)
            if (p.vendor, p.account_id) == place and (p.closed_at_ms or 0) >= since_ms
        )
        return fresh + self.reader.refunded_base(vendor, account_id, since_ms)

    def _fresh(self, is_so: Callable[[Payment], bool]) -> Iterator[Payment]:
        """Yield the payments of which this is so now and was not at the last commit: the reader counts the others."""
        for payment_id in self.rows.losses:
            payment = self.rows.payments[payment_id]
            if is_so(payment):
                committed = self.reader.payment(payment.id)
                if committed is None or not is_so(committed):
                    yield payment

    def kept(self, kind: str, record_id: str) -> Kept | None:
        """Return a record of the neutral API as it stands after the decisions so far, committed or not."""
        found: Kept | None = self.rows.kept(kind).get(record_id) or self._open_of(kind).get(record_id)
        return found if found is not None else self.reader.kept(kind, record_id)

    def order(self, account_id: str, client_token: str) -> Order | None:
        """Return what an account ordered with this client token, committed or not."""
        place = (account_id, client_token)
        fresh = self.rows.orders.get(place) or self.rows.paid.orders.get(place)
        return fresh or self.reader.order(account_id, client_token)

    def frozen(self, scopes: Iterable[str]) -> Freeze | None:
        """Return the first freeze that covers one of the scopes, or everything."""
        if not self.freezes:
            return None
        return next((self.freezes[s] for s in (*EVERYTHING, *scopes) if s in self.freezes), None)

    def budget_use(self, budget: Budget, at_ms: int) -> BudgetUse:
        """Return the use of the budget's window that `at_ms` falls in: windows follow one another from the first use."""
        use = self.budget_uses.get(budget.id)
        if use is None or at_ms >= use.window_started_at_ms + budget.window_s * 1000:
            return BudgetUse(budget.id, at_ms, 0)
        return use

    # changing

    def journal(self, at_ms: int, kind: str, payment_id: str | None, content: Mapping[str, object]) -> int:
        """Append a record; return its sequence number."""
        record = self.chain.append(at_ms, kind, payment_id, content)
        self.rows.journal.append(record)
        return record.seq

    def account(self, code: str, asset: str = USD) -> Account:
        """Return a ledger account, opening it if the chart allows."""
        found = self.ledger.find(code, asset)
        if found is None:
            found = chart.ensure(self.ledger, code, asset)
            self.rows.new_accounts.add(found.id)
            self.rows.accounts[found.id] = found
        return found

    def book(self, transfer: Transfer, subject: str | None, *, returns: bool = False) -> Transfer:
        """Note a transfer that the ledger has applied, with the journal row that explains it (the next one).

        `subject` is the payment, the top-up, the receipt or the refund that it belongs to. What an account spends is spent
        of the operator's credit first, unless it only goes back where it came from (`returns`).
        """
        debit, credit = self.ledger.by_id(transfer.debit_id), self.ledger.by_id(transfer.credit_id)
        if (transfer.phase is Phase.DIRECT or transfer.phase is Phase.POST) and not returns:
            self._count_grant(debit, credit, transfer.amount_base)
        self.rows.accounts[debit.id] = debit
        self.rows.accounts[credit.id] = credit
        owner = _owner(debit) or _owner(credit)
        self.rows.transfers.append((transfer, subject, self.chain.seq + 1, owner))
        return transfer

    def _count_grant(self, debit: Account, credit: Account, amount_base: int) -> None:
        if debit.code == chart.HOUSE_CREDIT:
            self.paid.grant(credit.code.removeprefix("agent:"), amount_base)
        elif self.paid.grants and debit.code.startswith("agent:") and self.paid.grants.get(debit.code[6:]):
            self.paid.grant(debit.code[6:], -amount_base)

    def put_payment(self, payment: Payment, *, new: bool = False) -> None:
        """Replace a payment, keeping the counts by account that the caps need."""
        if new:
            self.rows.new_payments.add(payment.id)
            self._count(payment, +1)
            if payment.authorization is not None:
                self.paid.claim(payment.authorization.identity, payment.id)
        self.rows.payments[payment.id] = payment
        if _unpaid(payment):
            self.unpaid_accounts.add(payment.account_id)
            self.rows.losses[payment.id] = None
        elif _refunded(payment):
            self.rows.losses[payment.id] = None
        if payment.axes.charge is Charge.HELD:
            self._open(payment)
        elif self.open_payments.pop(payment.id, None) is not None:
            self.answers_kept.discard(payment.id)
            self._count(payment, -1)
            self._close_period(payment)
        self.unanswered.put(payment)

    def put_answer(self, payment_id: str, answer: Answer) -> None:
        """Keep what the agent is told about a payment, in place of what was kept."""
        self.rows.answers[payment_id] = answer
        if payment_id in self.open_payments:
            self.answers_kept.add(payment_id)

    def _open(self, payment: Payment) -> None:
        self.open_payments[payment.id] = payment
        if payment.period is not None:
            self.open_periods.setdefault(payment.period.meter_id, {})[payment.period.seq] = payment

    def _close_period(self, payment: Payment) -> None:
        period = payment.period
        if period is not None:
            left = self.open_periods[period.meter_id]
            del left[period.seq]
            if not left:
                del self.open_periods[period.meter_id]

    def _count(self, payment: Payment, sign: int) -> None:
        if payment.period is None:  # periods are not the agent's to open: its things are counted instead
            self.open_count[payment.account_id, payment.vendor] += sign
        self.exposure_base[payment.account_id, payment.terms.source, payment.terms.asset] += sign * payment.hold_base

    def put_meter(self, meter: Meter) -> Meter:
        """Add or replace a meter; one that has ended leaves the memory."""
        self.rows.meters[meter.id] = meter
        before = self.meters.pop(meter.id, None) is not None
        after = meter.state is not MeterState.ENDED
        if after:
            self.meters[meter.id] = meter
        self.metered_count[meter.account_id, meter.vendor] += after - before
        return meter

    def meter_count(self, account_id: str, vendor: str) -> int:
        """Count an account's things at an account vendor that have not ended."""
        return self.metered_count.get((account_id, vendor), 0)

    def held_periods(self, meter_id: str) -> list[Payment]:
        """Return a meter's periods that are not settled yet, oldest first."""
        held = self.open_periods.get(meter_id, {})
        return [held[seq] for seq in sorted(held)]

    def load_payment(self, payment: Payment) -> None:
        """Take an open or unanswered payment from the store."""
        if payment.axes.charge is Charge.HELD:
            self._open(payment)
            self._count(payment, +1)
        self.unanswered.put(payment)

    def put_kept(self, record: Kept) -> None:
        """Add or replace a record of the neutral API; one that is over leaves the memory."""
        kind, order = kind_of(record), order_of(record)
        if isinstance(record, Server):
            self._move_ref(record)
        if order is not None and isinstance(record, Server | Fleet) and record.version == 1:
            self.rows.orders[record.account_id, record.client_token] = order
        self.rows.kept(kind)[record.id] = record
        if is_over(record):
            self._open_of(kind).pop(record.id, None)
        elif kind in OPEN_KINDS:
            self._open_of(kind)[record.id] = record

    def _open_of(self, kind: str) -> dict[str, Any]:
        tables: dict[str, dict[str, Any]] = {SERVER: self.servers, FLEET: self.fleets, HOOK: self.hooks}
        return tables.get(kind, {})

    def _move_ref(self, server: Server) -> None:
        before = self.servers.get(server.id)
        held = None if before is None or before.ref is None else (before.vendor, before.ref)
        holds = None if server.ref is None or not server.open else (server.vendor, server.ref)
        if held is not None and held != holds:
            del self.server_refs[held]
            self.rows.freed_refs[server.id] = None
        if holds is not None:
            self.server_refs[holds] = server.id

    def put_delivery(self, delivery: HookDelivery) -> None:
        """Add or replace a delivery; one that is done leaves the memory."""
        place = (delivery.hook_id, delivery.event_seq)
        self.rows.deliveries[place] = delivery
        if delivery.state is HookDeliveryState.PENDING:
            self.deliveries[place] = delivery
        else:
            self.deliveries.pop(place, None)

    def put_told(self, seq: int) -> None:
        """Move the cursor of what was read for whom it concerns."""
        self.told_seq = self.rows.told_seq = seq

    def put_evidence(self, evidence: Evidence) -> None:
        """Add evidence; the caller has asked `has_evidence` first."""
        self.rows.evidence.append(evidence)
        self.rows.logs.add((evidence.chain_id, evidence.tx_hash, evidence.log_index))

    def put_key(self, key: ApiKey) -> None:
        """Add or replace an API key."""
        self.keys[key.id] = key
        self.keys_by_digest[key.digest] = key
        self.rows.keys[key.id] = key

    def put_budget_use(self, use: BudgetUse) -> None:
        """Replace a budget's use."""
        self.budget_uses[use.budget_id] = use
        self.rows.budget_uses[use.budget_id] = use

    def put_task(self, task: Task) -> bool:
        """Open a task unless one is open for the same kind and subject; say whether it was opened."""
        if self.task(task.id) is not None or self.open_task(task.kind, task.subject) is not None:
            return False
        self.rows.tasks[task.id] = task
        content = {"task_id": task.id, "task": task.kind, "subject": task.subject, "detail": task.detail}
        self.journal(task.opened_at_ms, "task.opened", task.payment_id, content)
        return True

    def close_task(self, task: Task, resolution: str, by: str, at_ms: int) -> None:
        """Close an open task, with who said what became of it."""
        self.rows.tasks[task.id] = replace(task, closed_at_ms=at_ms, resolution=resolution)
        content = {"task_id": task.id, "resolution": resolution, "by": by}
        self.journal(at_ms, "task.closed", task.payment_id, content)

    def open_task(self, kind: str, subject: str) -> Task | None:
        """Return the open task of this kind on this subject, committed or not."""
        for task in self.rows.tasks.values():
            if (task.kind, task.subject, task.closed_at_ms) == (kind, subject, None):
                return task
        committed = self.reader.open_task(kind, subject)
        return None if committed is None or committed.id in self.rows.tasks else committed

    def take_rows(self) -> Rows:
        """Hand over what the decisions since the last call left, for one commit."""
        rows, self.rows = self.rows, Rows()
        self.paid.rows = self.rows.paid
        return rows
