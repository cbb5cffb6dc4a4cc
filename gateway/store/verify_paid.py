"""The proof that the rows of being paid are what the journal, the evidence and the ledger say they became.

Must not know how they change.  Theory: each version of a record is named by one journal row, each receipt and each closed
refund by one piece of evidence, and each promise of money by the ledger; so a row that nobody decided contradicts one of them.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from gateway.core import chart
from gateway.core.decide_seller import seller_content
from gateway.core.decide_settlement import gas_gwei
from gateway.core.ledger import Phase
from gateway.store.broken import BookBroken
from gateway.store.paid_columns import INCOMING, REFUNDS, RELAYS, SELLERS, SETTLEMENTS, TOPUPS
from gateway.store.side_by_side import side_by_side

TABLES = (SETTLEMENTS, RELAYS, TOPUPS, INCOMING, REFUNDS)
FAMILIES = ("settlement", "topup", "incoming", "refund")

RECORDS = " UNION ALL ".join(f"SELECT id, version, state FROM {table.name}" for table in TABLES) + " ORDER BY id"  # noqa: S608
_FAMILIES = ", ".join(f"'{family}'" for family in FAMILIES)
TOLD = (
    "SELECT r.key AS id, json_extract(r.value, '$[0]'), json_extract(r.value, '$[1]') FROM journal j, "  # noqa: S608 - ours
    "json_each(CAST(j.body AS TEXT), '$.records') r "
    f"WHERE substr(j.kind, 1, instr(j.kind, '.') - 1) IN ({_FAMILIES}) ORDER BY r.key, j.seq"
)
# Each finds the first row that contradicts another one, and says what is wrong with it.
_OWNER = (
    "SELECT o.id FROM {table} o LEFT JOIN authorizations a ON a.chain_id = o.chain_id AND a.token = o.token "
    "AND a.authorizer = o.{authorizer} AND a.nonce = o.nonce WHERE o.nonce IS NOT NULL AND {which} "
    "AND a.payment_id IS NOT o.id LIMIT 1"
)
_EVIDENCE = (
    "SELECT o.id FROM {table} o LEFT JOIN evidence e ON e.payment_id = o.id WHERE {which} AND (e.id IS NULL "
    "OR e.chain_id <> o.chain_id OR {wrong}) LIMIT 1"
)
CONTRADICTIONS = (
    ("has a payment that is another's", _OWNER.format(table="topups", authorizer="payer", which="1")),
    ("spends an authorization that is another's", _OWNER.format(table="refunds", authorizer="till", which="1")),
    (
        "is a seller's, and its authorization another's",
        _OWNER.format(
            table="settlements",
            authorizer="authorizer",
            # A seller may collect what a purchase of ours pays it: then the authorization stays the purchase's.
            which="o.account_id <> 'house' AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = a.payment_id "
            "AND p.pay_to = o.pay_to AND p.value_base = o.value_base)",
        ),
    ),
    (
        "was credited without the log that proves it",
        _EVIDENCE.format(
            table="incoming",
            which="1",
            wrong="e.kind <> 'received' OR e.tx_hash <> o.tx_hash OR e.log_index <> o.log_index",
        ),
    ),
    (
        "is settled without the log that proves it",
        _EVIDENCE.format(
            table="refunds", which="o.state = 'settled'", wrong="e.kind <> 'refunded' OR e.value_base <> o.value_base"
        ),
    ),
    (
        "is dead without proof",
        _EVIDENCE.format(
            table="refunds", which="o.state = 'dead'", wrong="e.kind NOT IN ('unused', 'canceled', 'failed')"
        ),
    ),
    (
        "is credited with another receipt than the one that names it",
        (
            "SELECT t.id FROM topups t LEFT JOIN incoming i ON i.id = t.receipt_id WHERE t.state = 'credited' "
            "AND (i.id IS NULL OR i.topup_id IS NOT t.id OR i.account_id IS NOT t.account_id "
            "OR i.amount_base <> t.credited_base) LIMIT 1"
        ),
    ),
    (
        "says another sum of refunds than these are",
        (
            "SELECT i.id FROM incoming i WHERE i.refundable = 1 AND i.refunded_base <> (SELECT COALESCE(SUM("
            "r.amount_base), 0) FROM refunds r WHERE r.receipt_id = i.id AND r.state <> 'dead') LIMIT 1"
        ),
    ),
    (
        "goes to another than the payer, or is another account's",
        (
            'SELECT r.id FROM refunds r JOIN incoming i ON i.id = r.receipt_id WHERE r."to" <> i.sender '
            "OR r.account_id IS NOT i.account_id OR r.asset <> i.asset LIMIT 1"
        ),
    ),
)
# (the ledger account, its balance on the debit side by the records)
SUMS = (
    (
        chart.HOUSE_UNCLAIMED,
        "SELECT -COALESCE(SUM(amount_base), 0) FROM incoming WHERE state = 'unclaimed'",
    ),
    (chart.HOUSE_RISK, "SELECT COALESCE(SUM(lent_base), 0) FROM topups"),
)
POSTED = "SELECT debits_posted - credits_posted FROM ledger_accounts WHERE code = ? AND asset = 'USD'"
FEES = (
    "SELECT CAST(substr(asset, 5) AS INTEGER), code, credits_posted - debits_posted FROM ledger_accounts "
    "WHERE code LIKE 'relayer:%' AND asset LIKE 'gas:%'"
)
FINAL_FEES = "SELECT chain_id, '0x' || lower(hex(relayer)), fee_wei FROM relays WHERE state = 'final'"
TERMS_TOLD = "SELECT kind, body FROM journal WHERE kind = 'seller.set' OR kind = 'seller.ended' ORDER BY seq"
AGENT_TRANSFERS = (
    "SELECT t.amount_base, d.code, c.code, t.payment_id IN (SELECT id FROM refunds) FROM transfers t "
    "JOIN ledger_accounts d ON d.id = t.debit_id JOIN ledger_accounts c ON c.id = t.credit_id "
    "WHERE t.agent_id IS NOT NULL AND t.phase IN (?, ?) ORDER BY t.id"
)


def verify_paid(db: sqlite3.Connection) -> None:
    """Compare every record of being paid with what proves it. Raises BookBroken naming the first contradiction."""
    _versions(db)
    for what, statement in CONTRADICTIONS:
        row = db.execute(statement).fetchone()
        if row is not None:
            raise BookBroken(f"{row[0]} {what}")
    for code, statement in SUMS:
        row, expected = db.execute(POSTED, (code,)).fetchone(), db.execute(statement).fetchone()[0]
        if (0 if row is None else row[0]) != expected:
            raise BookBroken(f"{code} is {row and row[0]}, and its records make {expected}")
    _fees(db)
    _grants(db)
    _sellers(db)


def _versions(db: sqlite3.Connection) -> None:
    """Each version of a record is in one row of the journal, the newest with the state that it has."""
    for record_id, kept, told in side_by_side(_kept(db), _told(db)):
        if kept is None:
            raise BookBroken(f"the journal tells of a record that is gone: {record_id}")
        count, newest = told or (0, None)
        if count != kept[0] or newest != kept:
            raise BookBroken(
                f"{record_id} is {kept[1]}, version {kept[0]}; the journal told {count} times, last {newest}"
            )


def _kept(db: sqlite3.Connection) -> Iterator[tuple[str, tuple[int, str]]]:
    for record_id, version, state in db.execute(RECORDS):
        yield record_id, (version, state)


def _told(db: sqlite3.Connection) -> Iterator[tuple[str, tuple[int, tuple[int, str]]]]:
    for record_id, rows in groupby(db.execute(TOLD), key=itemgetter(0)):
        versions = [(version, state) for _, version, state in rows]
        yield record_id, (len(versions), versions[-1])


def _fees(db: sqlite3.Connection) -> None:
    """What a relayer spent is what its final transactions cost."""
    spent: Counter[tuple[int, str]] = Counter()
    for chain_id, relayer, fee_wei in db.execute(FINAL_FEES):
        spent[chain_id, chart.relayer(relayer)] += gas_gwei(int(fee_wei))
    for chain_id, code, booked in db.execute(FEES):
        if booked != spent.pop((chain_id, code), 0):
            raise BookBroken(f"{code} spent {booked} gwei on chain {chain_id}, not what its transactions cost")
    if any(spent.values()):
        raise BookBroken(f"fees are not booked: {sorted(place for place, gwei in spent.items() if gwei)}")


def _grants(db: sqlite3.Connection) -> None:
    """What is left of the operator's credit is what the transfers leave of it, spent first."""
    left: dict[str, int] = {}
    for amount_base, debit, credit, refunds in db.execute(AGENT_TRANSFERS, (int(Phase.DIRECT), int(Phase.POST))):
        if debit == chart.HOUSE_CREDIT:
            account_id = credit.removeprefix("agent:")
            left[account_id] = left.get(account_id, 0) + amount_base
        elif debit.startswith("agent:") and not refunds and credit != chart.HOUSE_RISK:
            account_id = debit.removeprefix("agent:")
            left[account_id] = max(0, left.get(account_id, 0) - amount_base)
    kept = {row[0]: row[1] for row in db.execute("SELECT account_id, left_base FROM grants WHERE left_base > 0")}
    if kept != {account_id: base for account_id, base in left.items() if base}:
        raise BookBroken(f"operator's credit left is {kept}, and the transfers leave {left}")


def _sellers(db: sqlite3.Connection) -> None:
    """Each seller's terms are those that the operator set last, and there are as many versions of them as rows."""
    versions: Counter[str] = Counter()
    newest: dict[str, tuple[str, dict[str, object]]] = {}
    for kind, body in db.execute(TERMS_TOLD):
        told = json.loads(body)
        versions[told["account_id"]] += 1
        newest[told["account_id"]] = kind, told
    for row in db.execute(SELLERS.where("1")):
        terms = SELLERS.from_row(row)
        kind, told = newest.pop(terms.account_id, ("", {}))
        expected = {**told, **seller_content(terms)}
        ended = "seller.set" if terms.ended_at_ms is None else "seller.ended"
        if (kind, told, versions[terms.account_id]) != (ended, expected, terms.version):
            raise BookBroken(f"the terms of seller {terms.account_id} are not those that the journal tells: {told}")
    if newest:
        raise BookBroken(f"the journal tells of sellers that are gone: {sorted(newest)[:10]}")
