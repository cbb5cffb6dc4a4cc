"""Orders for credit: at most one payment each, and what the house lends on one before it is final.

Must not know rails.  Theory: an order's row begins when a payment is claimed for it, and a payment is claimed by its identity
on chain, so neither can two payments be taken for one order nor one payment for two (P13); nothing here credits anybody.
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import KEY_USED, Attached, Done, Refused, Result
from gateway.core.decide_inventory import cap_refusal
from gateway.core.money import USD, format_amount
from gateway.core.paid import Identity, TopUp, TopUpState
from gateway.core.paid_book import TOPUP
from gateway.core.paid_commands import LendTopUp, PutTopUp
from gateway.core.paid_facts import told, topup_facts, value_refusal
from gateway.core.records import HOUSE, Task

EVENTS = frozenset({"ordered", "paying", "seen", "failed", "expired", "reopened"})
PAID = frozenset({TopUpState.PAYING, TopUpState.SEEN, TopUpState.CREDITED})
LENDABLE = frozenset({TopUpState.PAYING, TopUpState.SEEN})
ENDS = frozenset({TopUpState.FAILED, TopUpState.EXPIRED})
_FIXED = ("amount_base", "pack", "client_token", "fingerprint", "created_at_ms")


def decide_topup(book: Book, command: PutTopUp) -> Result:
    """Keep an order: a new one, or its next version. A payment is claimed where it is named first.

    Raises ValueError for an unknown event, a credit, a change of what never changes, or an end or a loan that cannot be: a
    bug of the caller's, not an answer.
    """
    topup = command.topup
    if command.event not in EVENTS or topup.state is TopUpState.CREDITED:
        raise ValueError(f"{topup.id} is {topup.state} by {command.event}")
    kept = book.paid.topup(topup.id)
    refusal = value_refusal(topup) or _account_refusal(book, topup)
    if refusal is not None:
        return refusal
    earlier = _new_answer(book, topup) if kept is None else _repeat_answer(kept, topup)
    if earlier is not None:
        return earlier
    taken = payment_refusal(book, kept, topup)
    if taken is not None:
        return taken
    if topup.version != (0 if kept is None else kept.version) + 1 or (
        kept is not None and kept.ended_at_ms is not None
    ):
        return Refused("changed_meanwhile", f"another change of {topup.id} came first; read it again")
    _check(kept, topup)
    capped = cap_refusal(book, kept, topup)
    if capped is not None:
        return capped
    topup = _unlent(book, topup, command.at_ms)
    claim_payment(book, topup)
    book.paid.put_topup(topup)
    content = {**topup_facts(topup), **told(topup)}
    book.journal(command.at_ms, f"topup.{command.event}", topup.id, content)
    return Done()


def decide_loan(book: Book, command: LendTopUp) -> Result:
    """Credit an order whose payment is in a block ahead of finality, within the house's caps. A second time changes nothing."""
    topup = book.paid.topup(command.topup_id)
    if topup is None:
        return Refused("not_found", "there is no such top-up")
    if topup.lent_base:
        return Done(changed=False)
    if topup.state is not TopUpState.SEEN or topup.account_id is None:
        return Refused("changed_meanwhile", f"{topup.id} is {topup.state.value}: nothing is lent on it")
    frozen = book.frozen((f"account:{topup.account_id}",))
    if frozen is not None:
        return Refused("frozen", f"the operator has frozen this {frozen.scope.partition(':')[0]}")
    lent_base, own_base = book.paid.lent_base(), book.paid.lent.get(topup.account_id, 0)
    if lent_base + topup.amount_base > command.cap_base or own_base + topup.amount_base > command.account_cap_base:
        return Refused("risk_cap", "the house lends no more ahead of finality; the credit comes with the final block")
    agent, risk = book.account(chart.agent(topup.account_id)), book.account(chart.HOUSE_RISK)
    book.book(book.ledger.move(risk, agent, topup.amount_base), topup.id)
    topup = replace(topup, lent_base=topup.amount_base, version=topup.version + 1)
    book.paid.put_topup(topup)
    book.journal(command.at_ms, "topup.lent", topup.id, {**topup_facts(topup), **told(topup)})
    return Done()


def payment_refusal(book: Book, kept: TopUp | None, topup: TopUp) -> Refused | None:
    """P13: refuse a payment for an order that has one, and a payment that is anything else's."""
    identity, known = topup.identity, None if kept is None else kept.identity
    if identity is None or identity == known:
        return None
    if kept is not None and known is not None and kept.state in PAID:
        return Refused("topup_taken", f"{topup.id} has a payment already; ask for a new one")
    owner = book.paid.owner_of(identity)
    if owner == topup.id:
        return None
    if owner is not None or _settles_otherwise(book, identity, topup):
        return Refused("payment_reused", "this payment was taken for something else before")
    return None


def claim_payment(book: Book, topup: TopUp) -> None:
    """Make the order's payment its own for ever; the caller has asked `payment_refusal`."""
    identity = topup.identity
    if identity is not None and book.paid.owner_of(identity) is None:
        book.paid.claim(identity, topup.id)


def recover(book: Book, topup: TopUp, owed_base: int) -> None:
    """Take back what was lent and will not come: what the account has available, the rest is the house's loss (P2).

    The caller writes the journal row that explains it.
    """
    if topup.account_id is None or not owed_base:
        return
    agent, risk = book.account(chart.agent(topup.account_id)), book.account(chart.HOUSE_RISK)
    returned = min(owed_base, agent.available_base)
    if returned:
        book.book(book.ledger.move(agent, risk, returned), topup.id, returns=True)
    lost = owed_base - returned
    if lost:
        book.book(book.ledger.move(book.account(chart.HOUSE_LOSS), risk, lost), topup.id)


def ask_about_loss(book: Book, topup: TopUp, lost_base: int, at_ms: int) -> None:
    """Open a task about a loan that was spent and did not come in."""
    if lost_base:
        detail = f"{format_amount(lost_base)} lent to {topup.account_id} on {topup.id} was spent and never came in"
        book.put_task(Task(f"task_{topup.id}_loan", "loan_lost", topup.id, detail, at_ms))


def _account_refusal(book: Book, topup: TopUp) -> Refused | None:
    if topup.account_id is not None and topup.account_id not in book.agent_accounts:
        return Refused("not_found", "there is no such account")
    return None


def _new_answer(book: Book, topup: TopUp) -> Result | None:
    """A client token of an account is used once; so is one of nobody's."""
    if not topup.client_token:
        return None
    owner = topup.account_id or ""
    order = book.order(owner, topup.client_token)
    if order is not None and (order.kind, order.fingerprint) == (TOPUP, topup.fingerprint):
        return Attached(order.record_id)
    if order is not None or book.claim(owner, topup.client_token) is not None:
        return Refused("idempotency_conflict", KEY_USED)
    return None


def _repeat_answer(kept: TopUp, topup: TopUp) -> Result | None:
    """A first version of what exists: the same payment or the same unpaid order again."""
    if topup.version != 1:
        return None
    same = (topup.account_id, topup.amount_base, topup.pack, topup.fingerprint)
    if topup.identity == kept.identity and same == (kept.account_id, kept.amount_base, kept.pack, kept.fingerprint):
        return Attached(kept.id)
    return None


def _settles_otherwise(book: Book, identity: Identity, topup: TopUp) -> bool:
    settlement = book.paid.settlement_of(identity)
    return settlement is not None and (settlement.account_id != HOUSE or settlement.id != topup.settlement_id)


def _check(kept: TopUp | None, topup: TopUp) -> None:
    if topup.state in LENDABLE and topup.identity is None:
        raise ValueError(f"{topup.id} is {topup.state} without a payment")
    if topup.ended_at_ms is not None and topup.state not in ENDS:
        raise ValueError(f"{topup.id} is {topup.state} and has ended")
    lent = 0 if kept is None else kept.lent_base
    if topup.lent_base != lent or topup.credited_base or topup.receipt_id is not None:
        raise ValueError(f"nobody credits or lends on {topup.id} by keeping it")
    if kept is None:
        return
    for name in _FIXED:
        if getattr(kept, name) != getattr(topup, name):
            raise ValueError(f"{name} of {topup.id} never changes")
    if kept.account_id is not None and kept.account_id != topup.account_id:
        raise ValueError(f"{topup.id} is {kept.account_id}'s and stays so")


def _unlent(book: Book, topup: TopUp, at_ms: int) -> TopUp:
    """What was lent on a payment that will not come is taken back."""
    if not topup.lent_base or topup.state in LENDABLE:
        return topup
    agent = book.ledger.find(chart.agent(topup.account_id or ""), USD)
    lost = topup.lent_base - min(topup.lent_base, 0 if agent is None else agent.available_base)
    recover(book, topup, topup.lent_base)
    unlent = {**topup_facts(topup), "lost_base": lost}
    book.journal(at_ms, "topup.unlent", topup.id, unlent)
    ask_about_loss(book, topup, lost, at_ms)
    return replace(topup, lent_base=0)
