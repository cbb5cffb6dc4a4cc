"""The smaller decisions: accounts, keys, credit, freezes, tasks, approvals, and what was seen at vendors.

Must not know who asks or through which door.  Theory: rights are recorded like money, so each of these leaves a journal
row, and doing one twice is the same as doing it once.
"""

from dataclasses import replace

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.book import Book, Claim, PriceView
from gateway.core.commands import Done, Refused, Result
from gateway.core.pause import is_over
from gateway.core.records import HOUSE, ApiKey, BudgetUse, Freeze

LATE_LOOK_MS = 60_000


def decide_account(book: Book, command: c.OpenAccount) -> Result:
    """Open an account; its id must be new, and not the house's: what the house settles has neither payees nor a budget."""
    account = command.account
    if account.id == HOUSE:
        return Refused("bad_request", f"account {HOUSE} is the house's own; take another id")
    if account.id in book.agent_accounts:
        return Refused("account_exists", f"account {account.id} exists")
    book.agent_accounts[account.id] = account
    book.rows.agent_accounts.append(account)
    book.account(chart.agent(account.id))
    book.journal(account.created_at_ms, "account.opened", None, {"account_id": account.id, "name": account.name})
    return Done()


def decide_credit(book: Book, command: c.CreditAccount) -> Result:
    """Give operator credit once per reference."""
    if command.account_id not in book.agent_accounts:
        return Refused("not_found", f"there is no account {command.account_id}")
    booked = book.rows.references.get(command.reference) or book.reader.credit(command.reference)
    credit = (command.account_id, command.amount_base)
    if booked is not None and booked != credit:
        return Refused("reference_conflict", f"reference {command.reference} was booked for another account or amount")
    if booked is not None:
        return Done(changed=False)
    book.rows.references[command.reference] = credit
    agent = book.account(chart.agent(command.account_id))
    book.book(book.ledger.move(book.account(chart.HOUSE_CREDIT), agent, command.amount_base), None)
    content = {
        "account_id": command.account_id,
        "amount_base": command.amount_base,
        "reference": command.reference,
        "note": command.note,
        "by": command.by,
    }
    book.journal(command.at_ms, "account.credited", None, content)
    return Done()


def decide_key(book: Book, command: c.AddKey) -> Result:
    """Add a key to an existing account."""
    key = command.key
    if key.account_id not in book.agent_accounts:
        return Refused("not_found", f"there is no account {key.account_id}")
    if key.account_id == HOUSE:  # an older version let an agent's account have this name; see View
        return Refused("bad_request", f"account {HOUSE} is the house's own: a key of it would open nothing")
    if key.id in book.keys or key.digest in book.keys_by_digest:
        return Refused("key_exists", f"key {key.id} exists")
    book.put_key(key)
    for budget in key.budgets:
        book.put_budget_use(BudgetUse(budget.id, key.created_at_ms, 0))
    book.journal(key.created_at_ms, "key.added", None, key_content(key))
    return Done()


def key_content(key: ApiKey) -> dict[str, object]:
    """Return a new key as the journal writes it: with the digest that it is known by, so that no other text may stand for it.

    The digest is of 256 random bits: it opens nothing. Versions before wrote the first four members only.
    """
    budgets = [
        {"limit_base": b.limit_base, "window_s": b.window_s, "vendor": b.vendor, "route": b.route} for b in key.budgets
    ]
    return {
        "account_id": key.account_id,
        "key_id": key.id,
        "scopes": list(key.scopes),
        "budgets": budgets,
        "budget_ids": [b.id for b in key.budgets],
        "name": key.name,
        "digest": "0x" + key.digest.hex(),
    }


def decide_revoke(book: Book, command: c.RevokeKey) -> Result:
    """Revoke an account's key."""
    key = book.keys.get(command.key_id)
    if key is None or key.account_id != command.account_id:
        return Refused("not_found", "there is no such key")
    if key.revoked_at_ms is not None:
        return Done(changed=False)
    book.put_key(replace(key, revoked_at_ms=command.at_ms))
    book.journal(command.at_ms, "key.revoked", None, {"account_id": key.account_id, "key_id": key.id})
    return Done()


def decide_answered(book: Book, command: c.MarkAnswered) -> Result:
    """Note that the agent has its answer."""
    payment = book.payment(command.payment_id)
    if payment is None or payment.answered:
        return Done(changed=False)
    payment = replace(payment, answered=True)
    book.put_payment(payment)
    return Done(payment)


def decide_freeze(book: Book, command: c.SetFreeze) -> Result:
    """Set or lift a freeze."""
    if command.frozen == (command.scope in book.freezes):
        return Done(changed=False)
    if command.frozen:
        freeze = Freeze(command.scope, command.reason, command.at_ms, command.by)
        book.freezes[command.scope] = book.rows.freezes[command.scope] = freeze
    else:
        del book.freezes[command.scope]
        book.rows.freezes[command.scope] = None
    kind = "freeze.set" if command.frozen else "freeze.lifted"
    content = {"scope": command.scope, "reason": command.reason, "by": command.by}
    book.journal(command.at_ms, kind, None, content)
    return Done()


def decide_task(book: Book, command: c.OpenTask) -> Result:
    """Open a task unless its like is open."""
    return Done(changed=book.put_task(command.task))


def decide_close_task(book: Book, command: c.CloseTask) -> Result:
    """Close an open task."""
    task = book.task(command.task_id)
    if task is None:
        return Refused("not_found", f"there is no task {command.task_id}")
    if task.closed_at_ms is not None:
        return Done(changed=False)
    book.close_task(task, command.resolution, command.by, command.at_ms)
    return Done()


def decide_payee(book: Book, command: c.ApprovePayee) -> Result:
    """Allow a payee."""
    payee = (command.vendor, command.chain_id, command.pay_to)
    if payee in book.payees:
        return Done(changed=False)
    book.payees.add(payee)
    book.rows.payees.append((*payee, command.at_ms))
    content = {
        "vendor": command.vendor,
        "chain_id": command.chain_id,
        "pay_to": "0x" + command.pay_to.hex(),
        "by": command.by,
    }
    book.journal(command.at_ms, "payee.approved", None, content)
    return Done()


def decide_observed_price(book: Book, command: c.ObservePrice) -> Result:
    """Note a price that the vendor's catalogue stated; it becomes what we expect to be asked. An older look is no news.

    Two looks pass each other by seconds; one that is older by more is newer, of a clock that was set back.
    """
    known = book.prices.get((command.vendor, command.item), PriceView())
    if known.observed_at_ms is not None and not is_over(known.observed_at_ms, command.at_ms, LATE_LOOK_MS):
        return Done(changed=False)
    view = replace(known, observed_base=command.amount_base, observed_at_ms=command.at_ms)
    book.prices[command.vendor, command.item] = book.rows.prices[command.vendor, command.item] = view
    return Done()


def decide_price(book: Book, command: c.ApprovePrice) -> Result:
    """Accept a price: drift counts from here."""
    known = book.prices.get((command.vendor, command.item), PriceView())
    if known.approved_base == command.amount_base:
        return Done(changed=False)
    view = replace(known, approved_base=command.amount_base)
    book.prices[command.vendor, command.item] = book.rows.prices[command.vendor, command.item] = view
    content = {"vendor": command.vendor, "item": command.item, "amount_base": command.amount_base, "by": command.by}
    book.journal(command.at_ms, "price.approved", None, content)
    return Done()


def decide_resource(book: Book, command: c.UpdateResource) -> Result:
    """Take a newer look at a resource; an older one, or one of a thing that nobody owns, changes nothing."""
    known = book.resource(command.vendor, command.ref)
    if known is None or known.as_of_ms > command.at_ms:
        return Done(changed=False)
    seen = replace(
        known,
        state=known.state if command.state is None else command.state,
        expires_at_ms=known.expires_at_ms if command.expires_at_ms is None else command.expires_at_ms,
        plan=command.plan or known.plan,
        as_of_ms=command.at_ms,
    )
    book.rows.resources[command.vendor, command.ref] = seen
    if (seen.state, seen.expires_at_ms) != (known.state, known.expires_at_ms):
        content = {
            "vendor": seen.vendor,
            "ref": seen.ref,
            "state": seen.state,
            "expires_at_ms": seen.expires_at_ms,
        }
        book.journal(command.at_ms, "resource.changed", seen.payment_id or None, content)
    return Done()


def decide_new_resource(book: Book, command: c.RecordResource) -> Result:
    """Take over a resource that cost nothing; one that is known already stays whose it is."""
    resource = command.resource
    if book.resource(resource.vendor, resource.ref) is not None:
        return Done(changed=False)
    book.rows.resources[resource.vendor, resource.ref] = resource
    place = {"account_id": resource.account_id, "vendor": resource.vendor, "ref": resource.ref}
    content = {**place, "resource_kind": resource.kind}  # `kind` is the journal's own word for the row
    book.journal(command.at_ms, "resource.created", None, content)
    return Done()


def decide_cursor(book: Book, command: c.MoveCursor) -> Result:
    """Move the chain's cursor forward; it never goes back."""
    known = book.cursors.get(command.chain_id)
    if known is not None and known[0] >= command.block_number:
        return Done(changed=False)
    cursor = (command.block_number, command.block_hash, command.block_time_s)
    book.cursors[command.chain_id] = book.rows.cursors[command.chain_id] = cursor
    return Done()


def decide_remember(book: Book, command: c.Remember) -> Result:
    """Keep the answer to an unpriced request under its key; the first one stays, and an order's key is the order's."""
    if book.claim(command.account_id, command.idempotency_key) is not None:
        return Done(changed=False)
    if book.order(command.account_id, command.idempotency_key) is not None:
        return Refused("idempotency_conflict", "this Idempotency-Key ordered a server or a fleet; take a new one")
    place = (command.account_id, command.idempotency_key)
    book.rows.claims[place] = Claim(command.fingerprint, None, command.answer.at_ms)
    book.rows.remembered[place] = command.answer
    return Done()
