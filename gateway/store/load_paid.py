"""The book of being paid from the rows on disk.

Must not know how it will be changed.  Theory: what is over stays over, so loading reads what is open and what is asked for
by every request, each by an index of its own, and never the whole of what ever came in.
"""

import sqlite3

from gateway.core.paid_book import PaidBook
from gateway.store.paid_columns import REFUNDS, RELAYS, SELLERS, SETTLEMENTS, TOPUPS

OPEN_SETTLEMENTS = SETTLEMENTS.where("state = 'claimed' OR state = 'sent' OR state = 'mined' ORDER BY id")
OPEN_RELAYS = RELAYS.where("state = 'sent' OR state = 'mined' ORDER BY id")
OPEN_TOPUPS = TOPUPS.where("ended_at_ms IS NULL ORDER BY id")
OPEN_REFUNDS = REFUNDS.where("ended_at_ms IS NULL ORDER BY id")
OPEN_SELLERS = SELLERS.where("ended_at_ms IS NULL ORDER BY account_id")
FUNDERS = "SELECT DISTINCT sender FROM incoming WHERE refundable = 1 AND state = 'credited'"


def load_paid(db: sqlite3.Connection, paid: PaidBook) -> None:
    """Fill an empty book of being paid."""
    for row in db.execute(OPEN_SETTLEMENTS):
        settlement = SETTLEMENTS.from_row(row)
        paid.settlements[settlement.id] = settlement
    for row in db.execute(OPEN_RELAYS):
        relay = RELAYS.from_row(row)
        paid.relays[relay.id] = relay
    for row in db.execute(OPEN_TOPUPS):
        paid.load_topup(TOPUPS.from_row(row))
    for row in db.execute(OPEN_REFUNDS):
        paid.load_refund(REFUNDS.from_row(row))
    for row in db.execute(OPEN_SELLERS):
        terms = SELLERS.from_row(row)
        paid.sellers[terms.account_id] = terms
    for row in db.execute("SELECT address, account_id FROM wallet_accounts"):
        paid.wallet_accounts[row[0]] = row[1]
    paid.funders.update(row[0] for row in db.execute(FUNDERS))
    for row in db.execute("SELECT chain_id, till, token, block_number, block_hash FROM till_cursors"):
        paid.till_cursors[row[0], row[1], row[2]] = (row[3], row[4])
    for row in db.execute("SELECT account_id, left_base FROM grants WHERE left_base > 0"):
        paid.grants[row[0]] = row[1]
