"""What a final block proves to have come in: whose it becomes, and what an operator decides about what is nobody's.

Must not know what proves a transfer: evidence arrives judged.  Theory: one command credits, once per log (P13, P14), and it
never fails for a reason of the payer's: money that has come in is booked, if not to an account then to whoever claims it.
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core.book import Book
from gateway.core.commands import Done, OpenAccount, Refused, Result
from gateway.core.decide_close import evidence_content
from gateway.core.decide_inventory import ask_about_inventory
from gateway.core.decide_operator import decide_account
from gateway.core.decide_topup import ask_about_loss, claim_payment, payment_refusal, recover
from gateway.core.money import MAX_AMOUNT_BASE, format_amount
from gateway.core.paid import Incoming, ReceiptState, TopUp, TopUpState, WalletAccount
from gateway.core.paid_commands import BindWallet, BookIncoming, ResolveIncoming
from gateway.core.paid_facts import incoming_facts, told, topup_facts, value_refusal
from gateway.core.records import AgentAccount, Task
from gateway.core.task_kinds import TaskKind

TASK: TaskKind = "incoming_unclaimed"


def decide_incoming(book: Book, command: BookIncoming) -> Result:
    """Book what came in, once per log, and credit whoever it belongs to; neither a freeze nor a cap stops a credit.

    Refused `changed_meanwhile` or `payment_reused` where `topup` is not the next version of an order that this can pay: the
    caller judges again. Raises ValueError for evidence of something else: a bug of the caller's, not an answer.
    """
    evidence = replace(command.evidence, payment_id=command.incoming.id)
    place = (evidence.chain_id, evidence.tx_hash, evidence.log_index)
    incoming = _bounded(command.incoming)
    if evidence.kind != "received" or place != (incoming.chain_id, incoming.tx_hash, incoming.log_index):
        raise ValueError(f"{evidence.kind} evidence at {place} is not of {incoming.id}")
    if book.has_evidence(evidence) or not incoming.value_base:
        return Done(changed=False)
    refusal = value_refusal(incoming) or (None if command.topup is None else value_refusal(command.topup))
    if refusal is not None:
        return refusal
    if book.paid.incoming(incoming.id) is not None or incoming.version != 1 or incoming.refunded_base:
        raise ValueError(f"{incoming.id} is not new")
    topup = None if command.topup is None else _next_topup(book, command.topup)
    if isinstance(topup, Refused):
        return topup
    account_id = _account_of(book, command)
    state = incoming.state if account_id is None else ReceiptState.CREDITED
    if account_id is None and state is not ReceiptState.CAPITAL:
        state, topup = ReceiptState.UNCLAIMED, None  # nobody's yet, whatever it was to pay for
    topup_id = incoming.topup_id if topup is None else topup.id
    incoming = replace(incoming, state=state, account_id=account_id, topup_id=topup_id)
    book.put_evidence(replace(evidence, value_base=min(evidence.value_base, MAX_AMOUNT_BASE)))
    _book_tokens(book, incoming)
    content = {**evidence_content(evidence), **incoming_facts(incoming), "value_base": incoming.value_base}
    book.paid.put_incoming(incoming)
    if topup is not None:
        _credit_topup(book, incoming, topup, content, command.at_ms)
    else:
        _credit(book, incoming)
        book.journal(command.at_ms, f"incoming.{state.value}", incoming.id, {**content, **told(incoming)})
    if state is ReceiptState.UNCLAIMED:
        _ask(book, incoming, command)
    ask_about_inventory(book, incoming.asset, f"{command.task_id}_cap", command.at_ms)
    return Done()


def decide_resolve(book: Book, command: ResolveIncoming) -> Result:
    """Give what is nobody's to an account, or to the house as its capital. The same decision again changes nothing."""
    incoming = book.paid.incoming(command.receipt_id)
    if incoming is None:
        return Refused("not_found", f"there is no receipt {command.receipt_id}")
    if command.account_id is not None and command.account_id not in book.agent_accounts:
        return Refused("not_found", f"there is no account {command.account_id}")
    state = ReceiptState.CAPITAL if command.account_id is None else ReceiptState.CREDITED
    if (incoming.state, incoming.account_id) == (state, command.account_id):
        return Done(changed=False)
    if incoming.state is not ReceiptState.UNCLAIMED:
        return Refused("changed_meanwhile", f"{incoming.id} is {incoming.state.value} already")
    resolved = replace(
        incoming, state=state, account_id=command.account_id, note=command.note, version=incoming.version + 1
    )
    refusal = value_refusal(resolved)
    if refusal is not None:
        return refusal
    unclaimed = book.account(chart.HOUSE_UNCLAIMED)
    if command.account_id is None:
        tokens, usd = book.account(chart.fx(incoming.asset), incoming.asset), book.account(chart.fx(incoming.asset))
        capital = book.account(chart.HOUSE_CAPITAL, incoming.asset)
        book.book(book.ledger.move(tokens, capital, incoming.value_base), incoming.id)
        _move(book, (unclaimed.code, usd.code), incoming.amount_base, incoming.id)
    else:
        _move(book, (unclaimed.code, chart.agent(command.account_id)), incoming.amount_base, incoming.id)
    book.paid.put_incoming(resolved)
    content = {**incoming_facts(resolved), "by": command.by, **told(resolved)}
    kind = "incoming.claimed" if command.account_id is not None else "incoming.capital"
    book.journal(command.at_ms, kind, incoming.id, content)
    _close_task(book, resolved, command)
    return Done()


def bind_wallet(book: Book, wallet: WalletAccount, name: str, at_ms: int) -> Result:
    """Open the account of a wallet that has none."""
    opened = decide_account(book, OpenAccount(AgentAccount(wallet.account_id, name, at_ms)))
    if isinstance(opened, Refused):
        return opened
    book.paid.put_wallet(wallet)
    content = {"account_id": wallet.account_id, "address": "0x" + wallet.address.hex()}
    book.journal(at_ms, "wallet.bound", None, content)
    return opened


def wallet_refusal(wallet: BindWallet) -> Refused | None:
    """Refuse what no row can hold."""
    if len(wallet.wallet.address) != 20:  # noqa: PLR2004 - an address
        return Refused("bad_request", "address has a wrong length")
    return None


def _bounded(incoming: Incoming) -> Incoming:
    """No amount may stop the store: more than the ledger can count is booked up to that."""
    value_base, amount_base = min(incoming.value_base, MAX_AMOUNT_BASE), min(incoming.amount_base, MAX_AMOUNT_BASE)
    return replace(incoming, value_base=value_base, amount_base=amount_base)


def _next_topup(book: Book, topup: TopUp) -> TopUp | Refused:
    kept = book.paid.topup(topup.id)
    version = 0 if kept is None else kept.version
    if topup.version != version + 1 or (kept is not None and kept.state is TopUpState.CREDITED):
        return Refused("changed_meanwhile", f"another change of {topup.id} came first; read it again")
    if kept is not None and kept.account_id is not None and kept.account_id != topup.account_id:
        raise ValueError(f"{topup.id} is {kept.account_id}'s and stays so")
    return payment_refusal(book, kept, topup) or replace(topup, lent_base=0 if kept is None else kept.lent_base)


def _account_of(book: Book, command: BookIncoming) -> str | None:
    """Return whose it is, opening the payer's account where it has none; an account that does not exist is nobody."""
    wanted = command.incoming.account_id if command.topup is None else command.topup.account_id
    wallet = command.wallet
    if wallet is not None and wanted in {None, wallet.account_id}:
        known = book.paid.wallet_accounts.get(wallet.address)
        if known is not None:
            return known
        bind_wallet(book, wallet, command.account_name, command.at_ms)
        return book.paid.wallet_accounts.get(wallet.address)
    return wanted if wanted in book.agent_accounts else None


def _book_tokens(book: Book, incoming: Incoming) -> None:
    till = book.account(chart.wallet("0x" + incoming.till.hex()), incoming.asset)
    capital = incoming.state is ReceiptState.CAPITAL
    from_code = chart.HOUSE_CAPITAL if capital else chart.fx(incoming.asset)
    book.book(book.ledger.move(till, book.account(from_code, incoming.asset), incoming.value_base), incoming.id)


def _credit(book: Book, incoming: Incoming) -> None:
    if incoming.state is ReceiptState.CAPITAL:
        return
    owed_to = chart.HOUSE_UNCLAIMED if incoming.account_id is None else chart.agent(incoming.account_id)
    _move(book, (chart.fx(incoming.asset), owed_to), incoming.amount_base, incoming.id)


def _credit_topup(book: Book, incoming: Incoming, topup: TopUp, content: dict[str, object], at_ms: int) -> None:
    """Repay the house first what it lent on the order; the account gets the rest."""
    lent_base, repaid = topup.lent_base, min(topup.lent_base, incoming.amount_base)
    _move(book, (chart.fx(incoming.asset), chart.HOUSE_RISK), repaid, incoming.id)
    _move(
        book,
        (chart.fx(incoming.asset), chart.agent(incoming.account_id or "")),
        incoming.amount_base - repaid,
        incoming.id,
    )
    topup = replace(topup, account_id=incoming.account_id)
    agent = book.account(chart.agent(incoming.account_id or ""))
    lost = max(0, lent_base - repaid - agent.available_base)
    recover(book, topup, lent_base - repaid)
    topup = replace(
        topup,
        state=TopUpState.CREDITED,
        receipt_id=incoming.id,
        tx_hash=incoming.tx_hash,
        credited_base=incoming.amount_base,
        lent_base=0,
        ended_at_ms=at_ms,
    )
    claim_payment(book, topup)
    book.paid.put_topup(topup)
    facts = {**content, **topup_facts(topup), "repaid_base": repaid, "lost_base": lost}
    book.journal(at_ms, "topup.credited", topup.id, {**facts, **told(incoming, topup)})
    ask_about_loss(book, topup, lost, at_ms)


def _move(book: Book, codes: tuple[str, str], amount_base: int, subject: str) -> None:
    """Move USD from the first account (debit) to the second (credit); dust that is worth nothing moves nothing."""
    if amount_base:
        debit, credit = map(book.account, codes)
        book.book(book.ledger.move(debit, credit, amount_base), subject)


def _ask(book: Book, incoming: Incoming, command: BookIncoming) -> None:
    detail = (
        f"{incoming.value_base} base units of {incoming.asset} (USD {format_amount(incoming.amount_base)}) came in from "
        f"0x{incoming.sender.hex()} and match no order: resolve {incoming.id}"
    )
    book.put_task(Task(command.task_id, TASK, incoming.id, detail, command.at_ms))


def _close_task(book: Book, incoming: Incoming, command: ResolveIncoming) -> None:
    task = book.open_task(TASK, incoming.id)
    if task is not None:
        book.close_task(task, f"{incoming.state.value}: {command.note}", command.by, command.at_ms)
