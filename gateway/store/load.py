"""A book from the rows on disk, with the checks that say whether it may be trusted.

Must not know how it will be changed.  Theory: balances are kept, not summed, so loading reads one row per account and
only what is still open. The full proof is `verify_rows` and the journal's digests: an operator's `journal verify` reads
those page by page and leaves the rest to `first_contradiction`, `verify_book` is both at once.
"""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from gateway.core.book import Book, PriceView
from gateway.core.journal import verify
from gateway.core.kept import FLEET
from gateway.core.ledger import Account, Phase, Side, Transfer, imbalance
from gateway.core.records import AgentAccount, BudgetUse, Freeze
from gateway.store import columns as col
from gateway.store import kept_columns as kept
from gateway.store.broken import BookBroken
from gateway.store.load_paid import load_paid
from gateway.store.verify_evidence import verify_evidence
from gateway.store.verify_kept import verify_kept
from gateway.store.verify_keys import verify_keys
from gateway.store.verify_meters import verify_meters
from gateway.store.verify_named import verify_named
from gateway.store.verify_paid import verify_paid
from gateway.store.verify_payments import verify_payments
from gateway.store.verify_rights import verify_rights
from gateway.store.verify_tasks import verify_tasks

__all__ = ["BookBroken", "first_contradiction", "load_book", "verify_book", "verify_rows"]


STEPS_BETWEEN_QUESTIONS = 100_000  # of the database's machine: some milliseconds
OPEN_TRANSFERS = (
    "SELECT t.id, t.debit_id, t.credit_id, t.amount_base FROM payments p JOIN transfers t "
    "ON t.id IN (p.hold_transfer_id, p.exposure_transfer_id) WHERE p.charge = 'held' "
    "AND NOT EXISTS (SELECT 1 FROM transfers c WHERE c.pending_id = t.id) "
    "UNION ALL SELECT t.id, t.debit_id, t.credit_id, t.amount_base FROM refunds r JOIN transfers t "
    "ON t.id IN (r.hold_transfer_id, r.exposure_transfer_id) WHERE r.ended_at_ms IS NULL"
)
# In the order in which they were decided: the oldest of several unanswered purchases is the one that a repeat attaches to.
OPEN_PAYMENTS = (
    f"SELECT {col.PAYMENT_COLUMNS} FROM payments WHERE charge = 'held' OR answered = 0 "  # noqa: S608
    "ORDER BY hold_transfer_id"
)

ANSWERS_OF_OPEN = (
    "SELECT a.payment_id FROM payments p JOIN answers a ON a.hold_id = p.hold_transfer_id WHERE p.charge = 'held'"
)
UNPAID_ACCOUNTS = (
    "SELECT DISTINCT account_id FROM payments WHERE delivery = 'delivered' AND transfer = 'dead' AND kind <> 'account'"
)

OPEN_METERS = f"SELECT {col.METER_COLUMNS} FROM meters WHERE state <> 'ended' ORDER BY id"  # noqa: S608
OPEN_SERVERS = f"SELECT {kept.SERVER_COLUMNS} FROM servers WHERE ended_at_ms IS NULL ORDER BY id"  # noqa: S608
OPEN_FLEETS = f"SELECT {kept.FLEET_COLUMNS} FROM fleets WHERE ended_at_ms IS NULL ORDER BY id"  # noqa: S608
OPEN_HOOKS = f"SELECT {kept.HOOK_COLUMNS} FROM hooks WHERE deleted_at_ms IS NULL ORDER BY id"  # noqa: S608
PENDING_DELIVERIES = (
    f"SELECT {kept.DELIVERY_COLUMNS} FROM hook_deliveries WHERE state = 'pending' ORDER BY hook_id, event_seq"  # noqa: S608
)
PENDING_EVENTS = f"SELECT {col.EVENT_COLUMNS} FROM vendor_events WHERE handled_at_ms IS NULL"  # noqa: S608


def load_book(db: sqlite3.Connection, book: Book) -> None:
    """Fill an empty book. Raises BookBroken if balances, reservations and journal do not agree."""
    for row in db.execute("SELECT * FROM ledger_accounts ORDER BY id"):
        book.ledger.load(Account(row[0], row[1], row[2], Side(row[3]), bool(row[4]), *row[5:9]))
    for transfer_id, debit_id, credit_id, amount_base in db.execute(OPEN_TRANSFERS):
        book.ledger.load_open(Transfer(transfer_id, Phase.PENDING, debit_id, credit_id, amount_base))
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
        book.cursors[row[0]] = (row[1], row[2], row[3])
    _load_vendor_accounts(db, book)
    _load_kept(db, book)
    load_paid(db, book.paid)
    for row in db.execute(OPEN_PAYMENTS):
        book.load_payment(col.payment_from(row))
    book.answers_kept.update(row[0] for row in db.execute(ANSWERS_OF_OPEN))
    book.unpaid_accounts.update(row[0] for row in db.execute(UNPAID_ACCOUNTS))
    book.take_rows()
    _check_open(book)
    _check_kept(book)


def _load_vendor_accounts(db: sqlite3.Connection, book: Book) -> None:
    for row in db.execute(OPEN_METERS):
        book.put_meter(col.meter_from(row))
    for row in db.execute("SELECT vendor, balance_base, at_ms FROM vendor_balances"):
        book.vendor_balances[row[0]] = (row[1], row[2])
    for row in db.execute(PENDING_EVENTS):
        event = col.event_from(row)
        book.pending_events[event.vendor, event.event_id] = event


def _load_kept(db: sqlite3.Connection, book: Book) -> None:
    for row in db.execute(OPEN_FLEETS):
        book.put_kept(kept.fleet_from(row))
    for row in db.execute(OPEN_SERVERS):
        book.put_kept(kept.server_from(row))
    for row in db.execute(OPEN_HOOKS):
        book.put_kept(kept.hook_from(row))
    for row in db.execute(PENDING_DELIVERIES):
        book.put_delivery(kept.delivery_from(row))
    told = db.execute("SELECT seq FROM told").fetchone()
    book.told_seq = 0 if told is None else told[0]


def _check_kept(book: Book) -> None:
    if book.told_seq > book.chain.seq:
        raise BookBroken(f"events were told up to journal row {book.told_seq}, and it ends at {book.chain.seq}")
    for hook_id, seq in book.deliveries:
        if hook_id not in book.hooks:
            raise BookBroken(f"event {seq} is due to {hook_id}, which was deleted or never was")
    for server in book.servers.values():
        fleet = None if server.fleet_id is None else book.kept(FLEET, server.fleet_id)
        if fleet is not None and fleet.account_id != server.account_id:
            raise BookBroken(f"{server.id} of {server.account_id} is in {fleet.id} of {fleet.account_id}")


def _check_open(book: Book) -> None:
    off = imbalance(book.ledger.accounts())
    if off:
        raise BookBroken(f"debits and credits differ: {off}")
    for meter_id in book.open_periods:
        if meter_id not in book.meters:
            raise BookBroken(f"a period of {meter_id} is held, which has ended or never was")
    for payment in book.open_payments.values():
        hold, exposure = (book.ledger.reservation(i) for i in (payment.hold_transfer_id, payment.exposure_transfer_id))
        reserved = (hold and hold.amount_base, exposure and exposure.amount_base)
        named = (payment.hold_base, None if payment.settled_base else payment.terms.reserve_base)
        if reserved != named:
            raise BookBroken(f"{payment.id} names {named} on hold and exposed, and {reserved} is reserved for it")
    pending: dict[int, list[int]] = {}
    reservations = [(p.hold_transfer_id, p.exposure_transfer_id) for p in book.open_payments.values()]
    reservations += [(r.hold_transfer_id, r.exposure_transfer_id) for r in book.paid.refunds.values()]
    for transfer_ids in reservations:
        for transfer_id in transfer_ids:
            held = book.ledger.reservation(transfer_id)
            if held is not None:
                pending.setdefault(held.debit_id, [0, 0])[0] += held.amount_base
                pending.setdefault(held.credit_id, [0, 0])[1] += held.amount_base
    for account in book.ledger.accounts():
        kept, summed = [account.debits_pending, account.credits_pending], pending.get(account.id, [0, 0])
        if kept != summed:
            raise BookBroken(f"{account.code} has {kept} pending, its open payments and refunds {summed}")


def _verify_ledger(db: sqlite3.Connection) -> None:
    totals = _replay(db)
    for row in db.execute(
        "SELECT id, code, debits_pending, debits_posted, credits_pending, credits_posted FROM ledger_accounts"
    ):
        if list(row[2:]) != totals.pop(row[0], [0, 0, 0, 0]):
            raise BookBroken(f"{row[1]}: the kept totals {list(row[2:])} are not the sum of its transfers")
    if totals:
        raise BookBroken(f"transfers name accounts that do not exist: {sorted(totals)}")


def verify_book(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Prove every row, and recompute every digest of the journal; return the journal's end.

    Raises BookBroken or JournalError naming the first contradiction. Reads everything: for audits, not for start-up.
    """
    verify_rows(db)
    return verify(db.execute("SELECT seq, body, digest FROM journal ORDER BY seq"))


def verify_rows(db: sqlite3.Connection) -> None:
    """Recompute every balance from every transfer, and hold every record against the journal's bodies as they stand.

    Raises BookBroken naming the first contradiction. Whether the bodies are those that were written, the digests say.
    """
    for proof in PROOFS:
        try:
            proof(db)
        except (
            ValueError,
            LookupError,
            TypeError,
        ) as error:  # text for a number, a word that is no state, half a document
            raise BookBroken(f"a row says what this program never writes: {error!r}") from error


def _verify_columns(db: sqlite3.Connection) -> None:
    """Questions go by the journal's columns, and only its bodies are sealed."""
    for seq, at_ms, kind, payment_id, body in db.execute("SELECT seq, at_ms, kind, payment_id, body FROM journal"):
        sealed = json.loads(body)
        if (at_ms, kind, payment_id) != (sealed["at_ms"], sealed["kind"], sealed["payment_id"]):
            raise BookBroken(f"journal row {seq}: its columns do not say what its sealed body says")


def _replay(db: sqlite3.Connection) -> dict[int, list[int]]:
    """Return each account's [debits pending, debits posted, credits pending, credits posted] by its transfers."""
    totals: dict[int, list[int]] = {}
    reserved: dict[int, Transfer] = {}
    for transfer_id, phase, debit_id, credit_id, amount_base, pending_id in db.execute(
        "SELECT id, phase, debit_id, credit_id, amount_base, pending_id FROM transfers ORDER BY id"
    ):
        debit, credit = totals.setdefault(debit_id, [0, 0, 0, 0]), totals.setdefault(credit_id, [0, 0, 0, 0])
        if phase == Phase.PENDING:
            reserved[transfer_id] = Transfer(transfer_id, Phase.PENDING, debit_id, credit_id, amount_base)
            debit[0] += amount_base
            credit[2] += amount_base
            continue
        if phase in {Phase.POST, Phase.VOID}:
            held = reserved.pop(pending_id, None)
            fits = held is not None and (held.debit_id, held.credit_id) == (debit_id, credit_id)
            if held is None or not fits or amount_base > held.amount_base:
                raise BookBroken(f"transfer {transfer_id} closes reservation {pending_id}, which it does not fit")
            debit[0] -= held.amount_base
            credit[2] -= held.amount_base
        if phase in {Phase.DIRECT, Phase.POST}:
            debit[1] += amount_base
            credit[3] += amount_base
    return totals


PROOFS = (
    _verify_ledger,
    _verify_columns,
    verify_named,
    verify_payments,
    verify_evidence,
    verify_meters,
    verify_keys,
    verify_rights,
    verify_kept,
    verify_paid,
    verify_tasks,
)


def first_contradiction(path: Path, called_off: Callable[[], bool] | None = None) -> str | None:
    """Run `verify_rows` on a database as it stood at one moment; return what is wrong with it, or None.

    Raises sqlite3.OperationalError soon after `called_off` says so: it is asked between steps of the database.
    """
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    db.set_progress_handler(called_off, STEPS_BETWEEN_QUESTIONS)
    try:
        db.execute("BEGIN")
        verify_rows(db)
    except BookBroken as broken:
        return str(broken)
    finally:
        db.close()
    return None
