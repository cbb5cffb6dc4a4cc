"""What the book knows of being paid: what is open, who owns which authorization, and the rows that decisions leave.

Must not know how anything is decided or stored.  Theory: what is over stays over, so only what is open is in memory; an
authorization's identity has one owner for ever, whichever kind of record it pays for (P13).
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from gateway.core.kept import Order
from gateway.core.paid import (
    Identity,
    Incoming,
    ReceiptState,
    Refund,
    Relay,
    RelayState,
    SellerTerms,
    Settlement,
    SettlementState,
    TillPlace,
    TopUp,
    WalletAccount,
)

_R = TypeVar("_R")
_V = TypeVar("_V", Settlement, Relay, TopUp, Incoming, Refund)

TOPUP = "topup"
REFUND = "refund"
"""The kinds of what a client token orders here, beside those of gateway.core.kept."""

OPEN_SETTLEMENTS = frozenset({SettlementState.CLAIMED, SettlementState.SENT, SettlementState.MINED})
OPEN_RELAYS = frozenset({RelayState.SENT, RelayState.MINED})

RelayPlace = tuple[int, bytes, int]
"""(chain id, relayer, account nonce)."""


class PaidReader(Protocol):
    """What the book asks of committed rows about being paid."""

    def identity_owner(self, identity: Identity) -> str | None:
        """Return the id of the payment, top-up, refund or seller's settlement that an authorization belongs to."""

    def settlement(self, settlement_id: str) -> Settlement | None:
        """Return a settlement."""

    def settlement_of(self, identity: Identity) -> Settlement | None:
        """Return the settlement of an authorization."""

    def relay(self, relay_id: str) -> Relay | None:
        """Return a relayer's transaction."""

    def relay_at(self, place: RelayPlace) -> Relay | None:
        """Return what used an account nonce of a relayer."""

    def topup(self, topup_id: str) -> TopUp | None:
        """Return an order for credit."""

    def incoming(self, receipt_id: str) -> Incoming | None:
        """Return what came in."""

    def refund(self, refund_id: str) -> Refund | None:
        """Return a refund."""

    def refund_count(self, receipt_id: str) -> int:
        """Return how many refunds of a receipt were ever opened."""

    def seller(self, account_id: str) -> SellerTerms | None:
        """Return the newest terms of a seller, ended or not."""


@dataclass(slots=True)
class PaidRows:
    """What a group of decisions leaves about being paid, later values of the same row replacing earlier ones."""

    settlements: dict[str, Settlement] = field(default_factory=dict)
    relays: dict[str, Relay] = field(default_factory=dict)
    topups: dict[str, TopUp] = field(default_factory=dict)
    incoming: dict[str, Incoming] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    sellers: dict[str, SellerTerms] = field(default_factory=dict)
    wallets: dict[bytes, WalletAccount] = field(default_factory=dict)
    identities: dict[Identity, str] = field(default_factory=dict)  # new ones, payments' too, with their owners
    settled: dict[Identity, str] = field(default_factory=dict)  # the settlements of this group
    places: dict[RelayPlace, str] = field(default_factory=dict)  # the transactions of this group
    orders: dict[tuple[str, str], Order] = field(default_factory=dict)  # client tokens of new top-ups and refunds
    token_owners: dict[str, str] = field(default_factory=dict)  # of new top-ups: whose token, "" for nobody's
    new: set[str] = field(default_factory=set)  # ids whose first version is in this group
    till_cursors: dict[TillPlace, tuple[int, bytes]] = field(default_factory=dict)
    grants: dict[str, int] = field(default_factory=dict)


def is_open(record: Settlement | Relay | TopUp | Refund) -> bool:
    """Say whether somebody still works on it. A settlement that failed is not open, also where it may be claimed again."""
    if isinstance(record, Settlement):
        return record.state in OPEN_SETTLEMENTS
    if isinstance(record, Relay):
        return record.state in OPEN_RELAYS
    return record.ended_at_ms is None


def is_funder(incoming: Incoming) -> bool:
    """Say whether the sender signed a payment that funded an account: an address that a refund may go to."""
    return incoming.refundable and incoming.state is ReceiptState.CREDITED


class PaidBook:
    """State of being paid. The decisions of `gateway.core.decide_*` are the only callers of the changing methods."""

    def __init__(self, reader: PaidReader, rows: PaidRows) -> None:
        self.reader, self.rows = reader, rows
        self.settlements: dict[str, Settlement] = {}  # open ones
        self.relays: dict[str, Relay] = {}  # open ones
        self.topups: dict[str, TopUp] = {}  # open ones
        self.refunds: dict[str, Refund] = {}  # open ones
        self.sellers: dict[str, SellerTerms] = {}  # whose terms have not ended
        self.wallet_accounts: dict[bytes, str] = {}
        self.funders: set[bytes] = set()
        self.till_cursors: dict[TillPlace, tuple[int, bytes]] = {}
        self.grants: dict[str, int] = {}  # operator's credit that is not spent yet, by account
        self.lent: defaultdict[str, int] = defaultdict(int)  # by account, of open top-ups
        self.returning: defaultdict[str, int] = defaultdict(int)  # by account, of open refunds

    # reading

    def settlement(self, settlement_id: str) -> Settlement | None:
        """Return a settlement as it stands after the decisions so far, committed or not."""
        found = self.rows.settlements.get(settlement_id) or self.settlements.get(settlement_id)
        return found or self.reader.settlement(settlement_id)

    def settlement_of(self, identity: Identity) -> Settlement | None:
        """Return the settlement of an authorization, committed or not."""
        fresh = self.rows.settled.get(identity)
        return self.rows.settlements[fresh] if fresh is not None else self.reader.settlement_of(identity)

    def relay(self, relay_id: str) -> Relay | None:
        """Return a relayer's transaction, committed or not."""
        return self.rows.relays.get(relay_id) or self.relays.get(relay_id) or self.reader.relay(relay_id)

    def relay_at(self, place: RelayPlace) -> Relay | None:
        """Return what used an account nonce of a relayer, committed or not."""
        fresh = self.rows.places.get(place)
        return self.rows.relays[fresh] if fresh is not None else self.reader.relay_at(place)

    def owner_of(self, identity: Identity) -> str | None:
        """Return whose an authorization is, committed or not: a payment's, top-up's, refund's or seller's settlement's id."""
        return self.rows.identities.get(identity) or self.reader.identity_owner(identity)

    def topup(self, topup_id: str) -> TopUp | None:
        """Return an order for credit, committed or not."""
        return self.rows.topups.get(topup_id) or self.topups.get(topup_id) or self.reader.topup(topup_id)

    def incoming(self, receipt_id: str) -> Incoming | None:
        """Return what came in, committed or not."""
        return self.rows.incoming.get(receipt_id) or self.reader.incoming(receipt_id)

    def refund(self, refund_id: str) -> Refund | None:
        """Return a refund, committed or not."""
        return self.rows.refunds.get(refund_id) or self.refunds.get(refund_id) or self.reader.refund(refund_id)

    def refund_count(self, receipt_id: str) -> int:
        """Return how many refunds of a receipt were ever opened, whatever became of them, committed or not."""
        fresh = sum(r.receipt_id == receipt_id for r in self.rows.refunds.values() if r.id in self.rows.new)
        return fresh + self.reader.refund_count(receipt_id)

    def seller(self, account_id: str) -> SellerTerms | None:
        """Return the newest terms of a seller, ended or not, committed or not."""
        return self.rows.sellers.get(account_id) or self.sellers.get(account_id) or self.reader.seller(account_id)

    def lent_base(self) -> int:
        """Return what the house has lent on open top-ups altogether."""
        return sum(self.lent.values())

    # changing

    def put_settlement(self, settlement: Settlement) -> None:
        """Add or replace a settlement; one that is over leaves the memory."""
        self._note(self.rows.settlements, settlement)
        self.rows.settled[settlement.identity] = settlement.id
        _keep(self.settlements, settlement.id, settlement, still=is_open(settlement))

    def put_relay(self, relay: Relay) -> None:
        """Add or replace a relayer's transaction."""
        self._note(self.rows.relays, relay)
        self.rows.places[relay.chain_id, relay.relayer, relay.account_nonce] = relay.id
        _keep(self.relays, relay.id, relay, still=is_open(relay))

    def put_topup(self, topup: TopUp) -> None:
        """Add or replace an order for credit, counting what is lent on it."""
        before = self.topup(topup.id)
        if before is None:
            self.rows.token_owners[topup.id] = topup.account_id or ""
            if topup.client_token:
                place = (topup.account_id or "", topup.client_token)
                self.rows.orders[place] = Order(TOPUP, topup.id, topup.fingerprint)
        self._lent(before, -1)
        self._lent(topup, +1)
        self._note(self.rows.topups, topup)
        _keep(self.topups, topup.id, topup, still=is_open(topup))

    def put_incoming(self, incoming: Incoming) -> None:
        """Add or replace what came in."""
        self._note(self.rows.incoming, incoming)
        if is_funder(incoming):
            self.funders.add(incoming.sender)

    def put_refund(self, refund: Refund) -> None:
        """Add or replace a refund; one that is over leaves the memory."""
        if refund.version == 1:
            self.rows.orders[refund.account_id, refund.client_token] = Order(REFUND, refund.id, refund.fingerprint)
        if refund.id in self.refunds:
            _count(self.returning, refund.account_id, -refund.amount_base)
        if is_open(refund):
            _count(self.returning, refund.account_id, refund.amount_base)
        self._note(self.rows.refunds, refund)
        _keep(self.refunds, refund.id, refund, still=is_open(refund))

    def put_seller(self, terms: SellerTerms) -> None:
        """Add or replace a seller's terms."""
        if terms.version == 1:
            self.rows.new.add(terms.account_id)
        self.rows.sellers[terms.account_id] = terms
        _keep(self.sellers, terms.account_id, terms, still=terms.ended_at_ms is None)

    def put_wallet(self, wallet: WalletAccount) -> None:
        """Bind a wallet to the account that it opened; the caller has asked that it has none."""
        self.rows.wallets[wallet.address] = wallet
        self.wallet_accounts[wallet.address] = wallet.account_id

    def put_till_cursor(self, place: TillPlace, cursor: tuple[int, bytes]) -> None:
        """Move the cursor of what is booked of one token at one till."""
        self.till_cursors[place] = self.rows.till_cursors[place] = cursor

    def claim(self, identity: Identity, owner: str) -> None:
        """Make an authorization somebody's for ever; the caller has asked whose it is."""
        self.rows.identities[identity] = owner

    def grant(self, account_id: str, change_base: int) -> None:
        """Count operator's credit that came or was spent: what is spent is spent of it first."""
        left = max(0, self.grants.get(account_id, 0) + change_base)
        self.grants[account_id] = self.rows.grants[account_id] = left

    def load_topup(self, topup: TopUp) -> None:
        """Take an open order from the store."""
        self.topups[topup.id] = topup
        self._lent(topup, +1)

    def load_refund(self, refund: Refund) -> None:
        """Take an open refund from the store."""
        self.refunds[refund.id] = refund
        _count(self.returning, refund.account_id, refund.amount_base)

    def _lent(self, topup: TopUp | None, sign: int) -> None:
        if topup is not None and topup.account_id is not None and topup.lent_base:
            _count(self.lent, topup.account_id, sign * topup.lent_base)

    def _note(self, rows: dict[str, _V], record: _V) -> None:
        if record.version == 1:
            self.rows.new.add(record.id)
        rows[record.id] = record


def _count(sums: dict[str, int], account_id: str, change_base: int) -> None:
    sums[account_id] += change_base
    if not sums[account_id]:
        del sums[account_id]


def _keep(open_ones: dict[str, _R], place: str, record: _R, *, still: bool) -> None:
    if still:
        open_ones[place] = record
    else:
        open_ones.pop(place, None)
