"""Somebody's authorization on its way into a block: who may submit it, and what is written down of the way.

Must not know chains or gas.  Theory: an authorization is claimed once, before anything leaves, and its claim carries a fence;
whoever works for an older fence or an older version changes nothing, so two workers can never both believe that it is theirs.
"""

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Attached, Done, Refused, Result
from gateway.core.decide_refund import stop_of
from gateway.core.money import MAX_AMOUNT_BASE, WEI_PER_GWEI
from gateway.core.paid import Relay, RelayState, Settlement, SettlementState
from gateway.core.paid_book import OPEN_RELAYS
from gateway.core.paid_commands import ClaimSettlement, MoveSettlements
from gateway.core.paid_facts import claim_facts, relay_facts, settlement_facts, told, value_refusal
from gateway.core.records import HOUSE, TransferKind
from gateway.core.replacing import replace

EVENTS = frozenset({"sent", "replaced", "mined", "final", "failed", "reorged", "lost"})
_CHANGED = "another change of {} came first; read it again"


def decide_claim(book: Book, command: ClaimSettlement) -> Result:
    """Make an authorization ours alone to submit, or name the settlement that it has, or refuse another's (P13)."""
    settlement = command.settlement
    refusal = value_refusal(settlement)
    if refusal is not None:
        return refusal
    kept = book.paid.settlement_of(settlement.identity)
    if kept is not None:
        if kept.terms != settlement.terms:
            return Refused("duplicate_settlement", "another payload with this authorization's nonce was taken before")
        again = kept.state is SettlementState.FAILED and kept.ended_at_ms is None and settlement.id == kept.id
        if again and settlement.account_id != kept.account_id and HOUSE in {settlement.account_id, kept.account_id}:
            return Refused("duplicate_settlement", "this authorization pays for something else already")
        if not again or (settlement.version, settlement.fence) != (kept.version + 1, kept.fence + 1):
            return Attached(kept.id)
    elif _is_anothers(book, settlement):
        return Refused("duplicate_settlement", "this authorization pays for something else already")
    elif (settlement.version, settlement.fence) != (1, 1) or book.paid.settlement(settlement.id) is not None:
        return Refused("changed_meanwhile", _CHANGED.format(settlement.id))
    if settlement.state is not SettlementState.CLAIMED or settlement.ended_at_ms is not None:
        raise ValueError(f"{settlement.id} is claimed as {settlement.state}")
    if kept is None and settlement.account_id != HOUSE and book.paid.owner_of(settlement.identity) is None:
        book.paid.claim(settlement.identity, settlement.id)
    book.paid.put_settlement(settlement)
    content = {**claim_facts(settlement), **told(settlement)}
    book.journal(command.at_ms, "settlement.claimed", settlement.id, content)
    return Done()


def decide_moves(book: Book, command: MoveSettlements) -> Result:
    """Write down what happened to settlements and their transaction: all of it, or nothing where any is out of date.

    Refused with `frozen` where a refund of ours is among what is to leave, and the operator says stop: what was claimed has
    not left yet. Raises ValueError for an unknown event, or a change of what never changes: a bug of the caller's.
    """
    if command.event not in EVENTS:
        raise ValueError(f"no settlement is {command.event}")
    relay = None if command.relay is None else _ended_relay(command.relay, command.at_ms)
    moved = tuple(_ended(each, command.at_ms) for each in command.settlements)
    for record in (*moved, *(() if relay is None else (relay,))):
        refusal = value_refusal(record)
        if refusal is not None:
            return refusal
    stale = next((each.id for each in moved if not _follows(book, each)), None)
    if relay is not None and not _relay_follows(book, relay):
        stale = relay.id
    if stale is not None:
        return Refused("changed_meanwhile", _CHANGED.format(stale))
    if len({each.id for each in moved}) != len(moved):
        raise ValueError("a settlement moves once in one command")
    stopped = _stop_of_any(book, moved) if command.event == "sent" and book.freezes else None
    if stopped is not None:
        return stopped
    if not moved and relay is None:
        return Done(changed=False)
    content: dict[str, object] = {"settlements": settlement_facts(moved)}
    if relay is not None:
        known = book.paid.relay(relay.id)
        content |= {"relay": relay_facts(relay), "fee_gwei": 0}
        if relay.state is RelayState.FINAL and (known is None or known.state is not RelayState.FINAL):
            content["fee_gwei"] = _book_fee(book, relay)
        book.paid.put_relay(relay)
    for each in moved:
        book.paid.put_settlement(each)
    content |= told(*moved, *(() if relay is None else (relay,)))
    subject = relay.id if relay is not None else moved[0].id
    book.journal(command.at_ms, f"settlement.{command.event}", subject, content)
    return Done()


def _stop_of_any(book: Book, moved: tuple[Settlement, ...]) -> Refused | None:
    """A freeze that was durable before what leaves is written down stops it, however far the refund had come (P8)."""
    owners = [book.paid.owner_of(each.identity) for each in moved if each.account_id == HOUSE]
    refunds = [None if owner is None else book.paid.refund(owner) for owner in owners]
    return next((stop for stop in (stop_of(book, each) for each in refunds if each is not None) if stop), None)


def gas_gwei(fee_wei: int) -> int:
    """Return a fee as the ledger counts it: in gwei, rounded up, and no more than it can count, whatever a node says."""
    return min(-(-fee_wei // WEI_PER_GWEI), MAX_AMOUNT_BASE)


def _is_anothers(book: Book, settlement: Settlement) -> bool:
    """Say whether the authorization is for something else: the house settles what is its own, a seller nobody else's.

    An agent of this gateway may buy at a seller who settles here: then the payment keeps its authorization, and the seller
    collects exactly what it pays.
    """
    owner = book.paid.owner_of(settlement.identity)
    if owner is None:
        return False
    payment = book.payment(owner)
    terms = None if payment is None else payment.authorization
    if terms is not None:
        same = (terms.kind, terms.pay_to, terms.value_base, terms.valid_before_s) == (
            TransferKind.EIP3009,
            settlement.pay_to,
            settlement.value_base,
            settlement.valid_before_s,
        )
        return settlement.account_id == HOUSE or not same
    ours = book.paid.topup(owner) is not None or book.paid.refund(owner) is not None
    return settlement.account_id != HOUSE or not ours


def _ended(settlement: Settlement, at_ms: int) -> Settlement:
    final = settlement.state is SettlementState.FINAL and settlement.ended_at_ms is None
    return replace(settlement, ended_at_ms=at_ms) if final else settlement


def _ended_relay(relay: Relay, at_ms: int) -> Relay:
    over = relay.state not in OPEN_RELAYS
    return replace(relay, ended_at_ms=at_ms) if over and relay.ended_at_ms is None else relay


def _follows(book: Book, settlement: Settlement) -> bool:
    kept = book.paid.settlement(settlement.id)
    if kept is None:
        return False
    if settlement.terms != kept.terms:
        raise ValueError(f"the terms of {kept.id} never change")
    if (settlement.version, settlement.fence) != (kept.version + 1, kept.fence):
        return False  # also where another account has claimed it again meanwhile
    fixed = (settlement.account_id, settlement.created_at_ms, settlement.contract_wallet)
    if fixed != (kept.account_id, kept.created_at_ms, kept.contract_wallet):
        raise ValueError(f"what was claimed with {kept.id} never changes but by another claim")
    over = settlement.state in {SettlementState.FINAL, SettlementState.FAILED}
    if settlement.ended_at_ms is not None and not over:
        raise ValueError(f"{kept.id} is {settlement.state} and has ended")
    if kept.state is SettlementState.FINAL:
        return False
    # What has failed for good is followed only where a block says that it was collected all the same.
    collected = settlement.state in {SettlementState.MINED, SettlementState.FINAL}
    return kept.ended_at_ms is None or collected


def _relay_follows(book: Book, relay: Relay) -> bool:
    kept = book.paid.relay(relay.id)
    place = (relay.chain_id, relay.relayer, relay.account_nonce)
    if relay.ended_at_ms is not None and relay.state in OPEN_RELAYS:
        raise ValueError(f"{relay.id} is {relay.state} and has ended")
    if kept is None:
        return relay.version == 1 and book.paid.relay_at(place) is None
    if place != (kept.chain_id, kept.relayer, kept.account_nonce):
        raise ValueError(f"the account nonce of {kept.id} never changes")
    return kept.state in OPEN_RELAYS and relay.version == kept.version + 1


def _book_fee(book: Book, relay: Relay) -> int:
    """P7: what a relayer paid for a transaction, also for one that failed, is the house's; in gwei, rounded up."""
    fee_gwei = gas_gwei(relay.fee_wei)
    if fee_gwei:
        asset = chart.gas_asset(relay.chain_id)
        payer = book.account(chart.relayer("0x" + relay.relayer.hex()), asset)
        book.book(book.ledger.move(book.account(chart.HOUSE_FEES, asset), payer, fee_gwei), relay.id)
    return fee_gwei
