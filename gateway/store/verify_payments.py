"""The proof that each payment's row is what the journal and the ledger say it became.

Must not know how payments change.  Theory: everything that an agent pays for, and everything that ends it, left a row in the
sealed journal; so a payment whose owner, terms, amounts or axes are not what its rows tell was changed by nobody who may.
Payments and what is told of them are walked side by side in the order of their ids: each row is read once, and no more than
one payment is in memory. The database sorts what is told, beyond its cache in a file of its own.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from gateway.core.decide_purchase import content_of
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.records import Payment
from gateway.store import columns as col
from gateway.store.broken import BookBroken
from gateway.store.side_by_side import matched

CLOSED = frozenset({Charge.CAPTURED, Charge.VOIDED, Charge.REFUNDED})
CLOSINGS = frozenset(f"payment.{charge.value}" for charge in CLOSED)
ENDS = frozenset({"payment.settled", "payment.dead"})
# Of what `payment.held` tells: what the journal adds to each row, and what an outcome tells anew.
NO_TERMS = frozenset({"at_ms", "kind", "payment_id", "resource_ref"})

PAYMENTS = f"SELECT {col.PAYMENT_COLUMNS} FROM payments ORDER BY id"  # noqa: S608 - column names are ours
_KINDS = ", ".join(
    f"'{kind}'" for kind in sorted({"payment.held", "payment.outcome", "unproven.resolved", *ENDS, *CLOSINGS})
)
TOLD = f"SELECT payment_id, kind, body FROM journal WHERE kind IN ({_KINDS}) ORDER BY payment_id, seq"  # noqa: S608 - ours
_MOVED = "coalesce((SELECT c.amount_base FROM transfers c WHERE c.phase = 2 AND c.pending_id = p.{}_transfer_id), 0)"
# Each finds the first row that contradicts another one, and says what is wrong with it.
CONTRADICTIONS = (
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
    for payment, told in matched("payment", map(col.payment_from, db.execute(PAYMENTS)), _told(db)):
        _compare(payment, told)


def _told(db: sqlite3.Connection) -> Iterator[tuple[str, Told]]:
    for payment_id, rows in groupby(db.execute(TOLD), key=itemgetter(0)):
        told = Told()
        for _, kind, body in rows:
            told.take(kind, body)
        yield payment_id, told


def _compare(payment: Payment, told: Told) -> None:
    if told.held is None:
        raise BookBroken(f"payment {payment.id} is in no row of the journal")
    terms = content_of(payment)
    sealed: dict[str, object] = {name: value for name, value in told.held.items() if name not in NO_TERMS}
    kept: dict[str, object] = {name: terms.get(name) for name in sealed}
    for name, is_kept, is_told in _life(payment, told):
        kept[name], sealed[name] = is_kept, is_told
    if kept != sealed:
        name = next(name for name in kept if kept[name] != sealed[name])
        raise BookBroken(f"payment {payment.id}: its {name} is {kept[name]}, and the journal says {sealed[name]}")


def _life(payment: Payment, told: Told) -> Iterator[tuple[str, object, object]]:
    """Yield what has become of it beside what is told of that, by name."""
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
    yield "resolution", told.resolved, sum(row["evidence"] == "resolved" for row in told.ends)
