"""The proof that each payment's row is what the journal, its evidence and the ledger say it became.

Must not know how payments change.  Theory: everything that an agent pays for, and everything that ends it, left a row in the
sealed journal; so a payment whose owner, terms, amounts or axes are not what its rows tell was changed by nobody who may.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.decide_close import evidence_content
from gateway.core.decide_purchase import content_of
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.records import Evidence, Payment
from gateway.store import columns as col
from gateway.store.broken import BookBroken
from gateway.store.queries import JOURNAL_OF_PAYMENT

CLOSED = frozenset({Charge.CAPTURED, Charge.VOIDED, Charge.REFUNDED})
CLOSINGS = frozenset(f"payment.{charge.value}" for charge in CLOSED)
ENDS = frozenset({"payment.settled", "payment.dead"})
MOVES = frozenset({"resource_ref"})  # of what `payment.held` tells: an outcome tells it anew
SEALED = frozenset({"at_ms", "kind", "payment_id"})  # what the journal adds to each row

PAYMENTS = f"SELECT {col.PAYMENT_COLUMNS} FROM payments"  # noqa: S608 - column names are ours
EVIDENCE = (
    "SELECT kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, value_base, fee_base, "
    "witnesses FROM evidence WHERE payment_id = ? AND (kind = 'late') = ?"
)
_MOVED = "coalesce((SELECT c.amount_base FROM transfers c WHERE c.phase = 2 AND c.pending_id = p.{}_transfer_id), 0)"
# Each finds the first row that contradicts another one, and says what is wrong with it.
CONTRADICTIONS = (
    (
        "was held, and has no row",
        (
            "SELECT j.payment_id FROM journal j LEFT JOIN payments p ON p.id = j.payment_id "
            "WHERE j.kind = 'payment.held' AND p.id IS NULL LIMIT 1"
        ),
    ),
    (
        "reserves other amounts than it names",
        (
            "SELECT p.id FROM payments p JOIN transfers h ON h.id = p.hold_transfer_id "
            "JOIN transfers e ON e.id = p.exposure_transfer_id "
            "WHERE h.amount_base <> p.hold_base OR e.amount_base <> p.value_base + coalesce(p.fee_base, 0) LIMIT 1"
        ),
    ),
    (
        "says that another amount was captured or collected than was moved",
        (
            f"SELECT p.id FROM payments p WHERE {_MOVED.format('hold')} <> p.captured_base "  # noqa: S608 - ours
            f"OR {_MOVED.format('exposure')} <> p.settled_base LIMIT 1"
        ),
    ),
    (
        "does not own its authorization",
        (
            "SELECT p.id FROM payments p LEFT JOIN authorizations a ON a.chain_id = p.chain_id AND a.token = p.token "
            "AND a.authorizer = p.wallet AND a.nonce = p.nonce WHERE p.kind <> 'account' AND a.payment_id IS NOT p.id LIMIT 1"
        ),
    ),
)


@dataclass(slots=True)
class Told:
    """What the journal tells of one payment, row after row."""

    held: Mapping[str, Any] | None = None
    delivery: str = ""
    resource_ref: str | None = None
    resolved: int = 0  # how often the operator said what left for it
    late: Mapping[str, Any] | None = None  # the log that turned up after that
    ends: list[Mapping[str, Any]] = field(default_factory=list)  # by evidence: settled or dead
    closings: list[Mapping[str, Any]] = field(default_factory=list)

    def take(self, kind: str, body: bytes) -> None:
        """Read the next row."""
        if kind == "payment.held":
            self.held = json.loads(body)
            self.resource_ref = self.held["resource_ref"]
        elif kind == "payment.outcome":
            outcome = json.loads(body)
            self.delivery, self.resource_ref = outcome["delivery"], outcome["resource_ref"]
        elif kind == "unproven.resolved":
            self.resolved += 1
        elif kind == "payment.late_log":
            self.late = json.loads(body)
        elif kind in ENDS:
            self.ends.append(json.loads(body))
        elif kind in CLOSINGS:
            self.closings.append(json.loads(body))


def verify_payments(db: sqlite3.Connection) -> None:
    """Compare every payment with what the journal tells of it. Raises BookBroken naming the first contradiction.

    Reads everything, one payment at a time.
    """
    for what, statement in CONTRADICTIONS:
        row = db.execute(statement).fetchone()
        if row is not None:
            raise BookBroken(f"payment {row[0]} {what}")
    for row in db.execute(PAYMENTS):
        payment = col.payment_from(row)
        told = Told()
        for _, _, kind, body, _ in db.execute(JOURNAL_OF_PAYMENT, {"payment_id": payment.id}):
            told.take(kind, body)
        end, late = _evidence_of(db, payment, late=False), _evidence_of(db, payment, late=True)
        for name, kept, sealed in _compared(payment, told, end, late):
            if kept != sealed:
                raise BookBroken(f"payment {payment.id}: its {name} is {kept}, and the journal says {sealed}")


def _compared(
    payment: Payment, told: Told, evidence: Mapping[str, object] | None, late: Mapping[str, object] | None
) -> Iterator[tuple[str, object, object]]:
    """Yield what is kept beside what is told, by name."""
    if told.held is None:
        raise BookBroken(f"payment {payment.id} is in no row of the journal")
    terms = content_of(payment)
    for name in told.held.keys() - MOVES - SEALED:
        yield name, terms.get(name), told.held[name]
    axes, later = payment.axes, payment.period is not None and payment.period.seq > 1
    yield "delivery", axes.delivery.value, told.delivery or (Delivery.DELIVERED if later else Delivery.NONE).value
    yield "thing", payment.resource_ref, told.resource_ref
    charges = [row["kind"].removeprefix("payment.") for row in told.closings]
    yield "charge", [axes.charge.value] if axes.charge in CLOSED else [], charges
    yield "captured amount", payment.captured_base, sum(row["captured_base"] for row in told.closings)
    yield "end", payment.closed_at_ms, told.closings[0]["at_ms"] if told.closings else None
    if payment.authorization is None:
        return  # a period's transfer is settled by its meter, and moves with the charge
    ended = [axes.transfer.value] if axes.transfer in {Transfer.SETTLED, Transfer.DEAD} else []
    yield "transfer", ended, [row["kind"].removeprefix("payment.") for row in told.ends]
    yield "evidence", evidence, _unsealed(*told.ends) or None
    yield "late log", late, None if told.late is None else _unsealed(told.late)
    yield "resolution", told.resolved, int(evidence is not None and evidence["evidence"] == "resolved")


def _unsealed(*rows: Mapping[str, Any]) -> Mapping[str, object]:
    return {name: value for row in rows for name, value in row.items() if name not in SEALED}


def _evidence_of(db: sqlite3.Connection, payment: Payment, *, late: bool) -> Mapping[str, object] | None:
    row = db.execute(EVIDENCE, (payment.id, late)).fetchone()
    if row is None:
        return None
    kind, chain_id, number, block_hash, time_s, *what, witnesses = row
    return evidence_content(Evidence(kind, chain_id, number, block_hash, time_s, tuple(json.loads(witnesses)), *what))
