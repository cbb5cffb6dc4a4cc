"""What the running service may read without asking the store: the committed state that hot paths need.

Must not know about decisions in flight.  Theory: decisions happen where the store is written; this view is moved forward
only when a group of rows is durable, so whatever it shows has survived (P3), and only one thread ever touches it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from gateway.core.book import Book, PriceView, Rows
from gateway.core.kept import is_over
from gateway.core.ledger import Account
from gateway.core.money import USD
from gateway.core.paid import Refund, Relay, SellerTerms, Settlement, TillPlace, TopUp
from gateway.core.paid_book import PaidRows, is_funder, is_open
from gateway.core.payment import Charge
from gateway.core.records import (
    HOUSE,
    AgentAccount,
    ApiKey,
    BudgetUse,
    Freeze,
    Meter,
    MeterState,
    Payment,
    VendorEvent,
)
from gateway.core.server import Fleet, Hook, HookDelivery, HookDeliveryState, Server
from gateway.core.unanswered import Unanswered

_R = TypeVar("_R", Server, Fleet, Hook)
_P = TypeVar("_P", Settlement, Relay, TopUp, Refund)


class Balance(NamedTuple):
    """An agent's balance in USD base units."""

    available_base: int = 0
    held_base: int = 0


Listener = Callable[["Step"], None]


class Listeners:
    """Who is called with each step once the view shows it: a set that keeps its order, so that a run can be repeated.

    The store calls them, each by itself, so that one that raises stops neither the others nor the committer.
    """

    def __init__(self) -> None:
        self._all: dict[Listener, None] = {}

    def add(self, listener: Listener) -> None:
        """Call it from the next step on."""
        self._all[listener] = None

    def discard(self, listener: Listener) -> None:
        """Call it no more; one that is not called is fine."""
        self._all.pop(listener, None)

    def __iter__(self) -> Iterator[Listener]:
        return iter(tuple(self._all))

    def __contains__(self, listener: object) -> bool:
        return listener in self._all

    def __len__(self) -> int:
        return len(self._all)


@dataclass(slots=True)
class View:
    """Committed state, by the keys that requests come with."""

    keys_by_digest: dict[bytes, ApiKey] = field(default_factory=dict)
    keys_by_id: dict[str, ApiKey] = field(default_factory=dict)
    live_keys: dict[str, dict[str, ApiKey]] = field(default_factory=dict)  # not revoked, by account and id
    agent_accounts: dict[str, AgentAccount] = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)
    wallets: dict[tuple[str, str], Balance] = field(default_factory=dict)
    freezes: dict[str, Freeze] = field(default_factory=dict)
    budget_uses: dict[str, BudgetUse] = field(default_factory=dict)
    open_payments: dict[str, Payment] = field(default_factory=dict)
    open_periods: dict[str, dict[int, Payment]] = field(default_factory=dict)  # of these, by meter and number
    unanswered: Unanswered = field(default_factory=Unanswered)
    payees: set[tuple[str, int, bytes]] = field(default_factory=set)
    prices: dict[tuple[str, str], PriceView] = field(default_factory=dict)
    cursors: dict[int, tuple[int, bytes, int]] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict)
    meters_of: dict[str, dict[str, Meter]] = field(default_factory=dict)
    vendor_balances: dict[str, tuple[int, int]] = field(default_factory=dict)
    events: dict[str, dict[str, VendorEvent]] = field(default_factory=dict)  # pending, by vendor and id
    servers: dict[str, Server] = field(default_factory=dict)  # open ones
    fleets: dict[str, Fleet] = field(default_factory=dict)  # those that have not ended
    hooks: dict[str, Hook] = field(default_factory=dict)  # those that were not deleted
    deliveries: dict[tuple[str, int], HookDelivery] = field(default_factory=dict)  # pending ones
    settlements: dict[str, Settlement] = field(default_factory=dict)  # claimed, sent or mined
    relays: dict[str, Relay] = field(default_factory=dict)  # sent or mined
    topups: dict[str, TopUp] = field(default_factory=dict)  # those that have not ended
    refunds: dict[str, Refund] = field(default_factory=dict)  # those that have not ended
    sellers: dict[str, SellerTerms] = field(default_factory=dict)  # whose terms have not ended, by account
    wallet_accounts: dict[bytes, str] = field(default_factory=dict)
    funders: set[bytes] = field(default_factory=set)  # addresses that signed a payment that funded an account
    till_cursors: dict[TillPlace, tuple[int, bytes]] = field(default_factory=dict)
    told_seq: int = 0
    journal_seq: int = 0
    journal_head: bytes = bytes(32)
    listeners: Listeners = field(default_factory=Listeners, compare=False)

    def load(self, book: Book) -> None:
        """Take everything from a book that was just loaded."""
        for key in book.keys.values():
            self._key(key)
        self.agent_accounts, self.freezes = dict(book.agent_accounts), dict(book.freezes)
        self.budget_uses, self.open_payments = dict(book.budget_uses), dict(book.open_payments)
        self.open_periods = {meter_id: dict(held) for meter_id, held in book.open_periods.items()}
        self.unanswered, self.payees = book.unanswered.copy(), set(book.payees)
        self.prices, self.cursors = dict(book.prices), dict(book.cursors)
        self.vendor_balances = dict(book.vendor_balances)
        for meter in book.meters.values():
            self._meter(meter)
        for event in book.pending_events.values():
            self._event(event)
        self.servers, self.fleets, self.hooks = dict(book.servers), dict(book.fleets), dict(book.hooks)
        self.deliveries, self.told_seq = dict(book.deliveries), book.told_seq
        paid = book.paid
        self.settlements, self.relays = dict(paid.settlements), dict(paid.relays)
        self.topups, self.refunds, self.sellers = dict(paid.topups), dict(paid.refunds), dict(paid.sellers)
        self.wallet_accounts, self.funders = dict(paid.wallet_accounts), set(paid.funders)
        self.till_cursors = dict(paid.till_cursors)
        self.journal_seq, self.journal_head = book.chain.seq, book.chain.head
        for account in book.ledger.accounts():
            self._balance(*_totals(account))

    def advance(self, step: "Step") -> None:
        """Move forward by one committed group."""
        rows = step.rows
        for totals in step.totals:
            self._balance(*totals)
        for account in rows.agent_accounts:
            self.agent_accounts[account.id] = account
        for key in rows.keys.values():
            self._key(key)
        for scope, freeze in rows.freezes.items():
            if freeze is None:
                self.freezes.pop(scope, None)
            else:
                self.freezes[scope] = freeze
        for payment in rows.payments.values():
            self._payment(payment)
        self.budget_uses.update(rows.budget_uses)
        self.payees.update((vendor, chain_id, pay_to) for vendor, chain_id, pay_to, _ in rows.payees)
        self.prices.update(rows.prices)
        self.cursors.update(rows.cursors)
        self.vendor_balances.update(rows.vendor_balances)
        for meter in rows.meters.values():
            self._meter(meter)
        for event in rows.events.values():
            self._event(event)
        for vendor, event_id in rows.closed_events:
            self._close_event(vendor, event_id)
        _replace(self.servers, rows.servers)
        _replace(self.fleets, rows.fleets)
        _replace(self.hooks, rows.hooks)
        self._deliveries(rows)
        self._paid(rows.paid)
        if rows.journal:
            self.journal_seq, self.journal_head = rows.journal[-1].seq, rows.journal[-1].digest

    def periods(self, meter_id: str) -> list[Payment]:
        """Return a meter's periods that are not settled yet, oldest first."""
        held = self.open_periods.get(meter_id, {})
        return [held[seq] for seq in sorted(held)]

    def _key(self, key: ApiKey) -> None:
        self.keys_by_id[key.id] = key
        if key.account_id != HOUSE:  # an older version's agent account of that name: its bearer would be the house
            self.keys_by_digest[key.digest] = key
        if key.revoked_at_ms is None:
            self.live_keys.setdefault(key.account_id, {})[key.id] = key
        elif key.account_id in self.live_keys:
            live = self.live_keys[key.account_id]
            live.pop(key.id, None)
            if not live:
                del self.live_keys[key.account_id]

    def _meter(self, meter: Meter) -> None:
        own = self.meters_of.setdefault(meter.account_id, {})
        if meter.state is not MeterState.ENDED:
            self.meters[meter.id] = own[meter.id] = meter
            return
        self.meters.pop(meter.id, None)
        own.pop(meter.id, None)
        if not own:
            del self.meters_of[meter.account_id]

    def _event(self, event: VendorEvent) -> None:
        self.events.setdefault(event.vendor, {})[event.event_id] = event

    def _close_event(self, vendor: str, event_id: str) -> None:
        pending = self.events[vendor]
        del pending[event_id]
        if not pending:
            del self.events[vendor]

    def _deliveries(self, rows: Rows) -> None:
        for place, delivery in rows.deliveries.items():
            if delivery.state is HookDeliveryState.PENDING:
                self.deliveries[place] = delivery
            else:
                self.deliveries.pop(place, None)
        if rows.told_seq is not None:
            self.told_seq = rows.told_seq

    def _paid(self, rows: PaidRows) -> None:
        _replace_paid(self.settlements, rows.settlements)
        _replace_paid(self.relays, rows.relays)
        _replace_paid(self.topups, rows.topups)
        _replace_paid(self.refunds, rows.refunds)
        for terms in rows.sellers.values():
            if terms.ended_at_ms is None:
                self.sellers[terms.account_id] = terms
            else:
                self.sellers.pop(terms.account_id, None)
        self.wallet_accounts.update((wallet.address, wallet.account_id) for wallet in rows.wallets.values())
        self.funders.update(incoming.sender for incoming in rows.incoming.values() if is_funder(incoming))
        self.till_cursors.update(rows.till_cursors)

    def _payment(self, payment: Payment) -> None:
        if payment.axes.charge is Charge.HELD:
            self.open_payments[payment.id] = payment
        else:
            self.open_payments.pop(payment.id, None)
        self._period(payment)
        self.unanswered.put(payment)

    def _period(self, payment: Payment) -> None:
        period = payment.period
        if period is None:
            return
        held = self.open_periods.setdefault(period.meter_id, {})
        if payment.axes.charge is Charge.HELD:
            held[period.seq] = payment
        else:
            held.pop(period.seq, None)
        if not held:
            del self.open_periods[period.meter_id]

    def _balance(self, code: str, asset: str, balance: Balance) -> None:
        kind, _, name = code.partition(":")
        if kind == "agent" and asset == USD:
            self.balances[name] = balance
        elif kind == "wallet":
            self.wallets[name, asset] = balance


def _replace(open_ones: dict[str, _R], changed: Mapping[str, _R]) -> None:
    for record in changed.values():
        if is_over(record):
            open_ones.pop(record.id, None)
        else:
            open_ones[record.id] = record


def _replace_paid(open_ones: dict[str, _P], changed: Mapping[str, _P]) -> None:
    for record in changed.values():
        if is_open(record):
            open_ones[record.id] = record
        else:
            open_ones.pop(record.id, None)


@dataclass(frozen=True, slots=True)
class Step:
    """One committed group of rows with the balances it left, copied where they were decided."""

    rows: Rows
    totals: tuple[tuple[str, str, Balance], ...]


def step_of(rows: Rows) -> Step:
    """Return the step that a group of rows makes; call it before the next decision."""
    return Step(rows, tuple(_totals(account) for account in rows.accounts.values()))


def _totals(account: Account) -> tuple[str, str, Balance]:
    return account.code, account.asset, Balance(account.available_base, account.reserved_base)
