"""A book from the rows on disk, with the checks that say whether it may be trusted.

Must not know how it will be changed.  Theory: balances are kept, not summed, so loading reads one row per account and
only what is still open; the full proof is `verify_book`, which an operator or a test may run at any time.
"""

import sqlite3

from gateway.core.book import Book, PriceView
from gateway.core.journal import verify
from gateway.core.ledger import Account, Reservation, Side, imbalance
from gateway.core.records import AgentAccount, BudgetUse, Freeze
from gateway.store import columns as col


class BookBroken(RuntimeError):  # noqa: N818 - named for what the operator reads
    """The rows on disk contradict each other. Nothing may be decided on them."""


OPEN_TRANSFERS = (
    "SELECT t.id, t.debit_id, t.credit_id, t.amount_base FROM payments p JOIN transfers t "
    "ON t.id IN (p.hold_transfer_id, p.exposure_transfer_id) WHERE p.charge = 'held' "
    "AND NOT EXISTS (SELECT 1 FROM transfers c WHERE c.pending_id = t.id)"
)
OPEN_PAYMENTS = f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE charge = 'held' OR answered = 0 ORDER BY id"  # noqa: S608


def load_book(db: sqlite3.Connection, book: Book) -> None:
    """Fill an empty book. Raises BookBroken if balances, reservations and journal do not agree."""
    for row in db.execute("SELECT * FROM ledger_accounts ORDER BY id"):
        book.ledger.load(Account(row[0], row[1], row[2], Side(row[3]), bool(row[4]), *row[5:9]))
    for row in db.execute(OPEN_TRANSFERS):
        book.ledger.load_open(Reservation(*row))
    book.ledger.start_after(db.execute("SELECT COALESCE(MAX(id), 0) FROM transfers").fetchone()[0])
    last = db.execute("SELECT seq, digest FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    if last is not None:
        book.chain.seq, book.chain.head = last
    for row in db.execute("SELECT id, name, created_at_ms FROM agent_accounts"):
        book.agent_accounts[row[0]] = AgentAccount(*row)
    for row in db.execute(f"SELECT {col.KEY_COLUMNS} FROM api_keys"):  # noqa: S608 - column names are ours
        book.put_key(col.key_from(row))
    for row in db.execute("SELECT * FROM budget_uses"):
        book.budget_uses[row[0]] = BudgetUse(*row)
    for row in db.execute("SELECT scope, reason, at_ms, by_whom FROM freezes"):
        book.freezes[row[0]] = Freeze(*row)
    for row in db.execute("SELECT vendor, chain_id, pay_to FROM payees"):
        book.payees.add(tuple(row))
    for row in db.execute("SELECT * FROM prices"):
        book.prices[row[0], row[1]] = PriceView(*row[2:5])
    for row in db.execute("SELECT * FROM cursors"):
        book.cursors[row[0]] = (row[1], row[2])
    for row in db.execute(OPEN_PAYMENTS):
        book.load_payment(col.payment_from(row))
    book.take_rows()
    _check_open(book)


def _check_open(book: Book) -> None:
    off = imbalance(book.ledger.accounts())
    if off:
        raise BookBroken(f"debits and credits differ: {off}")
    pending: dict[int, int] = {}
    for payment in book.open_payments.values():
        for transfer_id in (payment.hold_transfer_id, payment.exposure_transfer_id):
            held = book.ledger.reservation(transfer_id)
            if held is not None:
                pending[held.debit_id] = pending.get(held.debit_id, 0) + held.amount_base
    for account in book.ledger.accounts():
        if account.debits_pending != pending.get(account.id, 0):
            raise BookBroken(f"{account.code} has {account.debits_pending} pending, its open payments {pending}")


def verify_book(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Recompute every balance from every transfer and every digest of the journal; return the journal's end.

    Raises BookBroken or JournalError naming the first contradiction. Reads everything: for audits, not for start-up.
    """
    totals: dict[int, list[int]] = {}
    for phase, debit, credit, amount, pending_id in db.execute(
        "SELECT phase, debit_id, credit_id, amount_base, pending_id FROM transfers ORDER BY id"
    ):
        d, c = totals.setdefault(debit, [0, 0, 0, 0]), totals.setdefault(credit, [0, 0, 0, 0])
        if phase == 1:
            d[0] += amount
            c[2] += amount
            continue
        if pending_id is not None:
            reserved = db.execute("SELECT amount_base FROM transfers WHERE id = ?", (pending_id,)).fetchone()[0]
            d[0] -= reserved
            c[2] -= reserved
        if phase in {0, 2}:
            d[1] += amount
            c[3] += amount
    for row in db.execute(
        "SELECT id, code, debits_pending, debits_posted, credits_pending, credits_posted FROM ledger_accounts"
    ):
        if list(row[2:]) != totals.get(row[0], [0, 0, 0, 0]):
            raise BookBroken(f"{row[1]}: kept {list(row[2:])}, summed {totals.get(row[0])}")
    return verify(db.execute("SELECT seq, body, digest FROM journal ORDER BY seq"))
