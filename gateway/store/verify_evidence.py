"""The proof that each piece of evidence is what the journal says was seen on a chain, and that none is beside it.

Must not know what evidence proves.  Theory: evidence is kept by the decision that tells of it, so the two stand in the same
order: walked side by side, the first that is not the other's is one that was removed, altered, or written by nobody. One too
many is as bad as one too few: a log that is evidence already will never be booked.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from gateway.core.decide_close import evidence_content
from gateway.core.records import Evidence
from gateway.store.broken import BookBroken

# Rows that tell of evidence, and which of their members names what it closes: none where no payment explains it.
SUBJECTS: Mapping[str, str | None] = {
    "payment.settled": "payment_id",
    "payment.dead": "payment_id",
    "payment.late_log": "payment_id",
    "outflow.unknown": None,
    "till.moved": None,
    "incoming.credited": "receipt_id",
    "incoming.unclaimed": "receipt_id",
    "incoming.capital": "receipt_id",
    "topup.credited": "receipt_id",
    "refund.settled": "refund_id",
    "refund.dead": "refund_id",
}
# These rows say what was ordered, or sent, where others say what was seen.
OTHERWISE: Mapping[str, frozenset[str]] = {
    "topup.credited": frozenset({"value_base"}),
    "refund.dead": frozenset({"value_base", "tx_hash"}),
}
_KINDS = ", ".join(f"'{kind}'" for kind in SUBJECTS)
TOLD = f"SELECT seq, kind, body FROM journal WHERE kind IN ({_KINDS}) ORDER BY seq"  # noqa: S608 - names are ours
EVIDENCE = (
    "SELECT kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, value_base, fee_base, "
    "witnesses FROM evidence ORDER BY id"
)


def verify_evidence(db: sqlite3.Connection) -> None:
    """Compare every piece of evidence with the row that tells of it. Raises BookBroken naming the first contradiction.

    Reads everything, one piece at a time.
    """
    for told, row in zip_longest(_told(db), db.execute(EVIDENCE)):
        if told is None:
            raise BookBroken(f"evidence of {row[7]} ({row[0]} at block {row[2]}) is in no row of the journal")
        seq, kind, body = told
        if row is None:
            raise BookBroken(f"journal row {seq} tells of evidence that is gone")
        evidence, subject = _evidence(row), SUBJECTS[kind]
        kept = {"subject": evidence.payment_id, **evidence_content(evidence)}
        body["subject"] = None if subject is None else body[subject]
        for name in sorted(kept.keys() - OTHERWISE.get(kind, frozenset())):
            if kept[name] != body[name]:
                raise BookBroken(
                    f"evidence of {row[7]}: its {name} is {kept[name]}, and journal row {seq} says {body[name]}"
                )


def _told(db: sqlite3.Connection) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for seq, kind, text in db.execute(TOLD):
        body = json.loads(text)
        if "evidence" in body:  # what an operator decides about a receipt later rests on nothing new
            yield seq, kind, body


def _evidence(row: tuple[Any, ...]) -> Evidence:
    kind, chain_id, number, block_hash, time_s, *what, witnesses = row
    return Evidence(kind, chain_id, number, block_hash, time_s, tuple(json.loads(witnesses)), *what)
