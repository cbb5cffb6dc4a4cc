"""The proof that each meter has measured what the journal says happened to its thing.

Must not know when anything is charged.  Theory: what a meter says follows from the rows that moved it (its periods, the rates
that it started with, each pause, each bill, each loss), so it is run again from them by the same arithmetic; a rate, a cost
or a bill that differs was written by nobody. What was ordered and has not begun yet has only said whose it is.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from gateway.core.meter import pause, run
from gateway.core.records import Meter, MeterState
from gateway.store import columns as col
from gateway.store.broken import BookBroken
from gateway.store.side_by_side import matched

Content = Mapping[str, Any]

METERS = f"SELECT {col.METER_COLUMNS} FROM meters ORDER BY id"  # noqa: S608 - column names are ours
NEVER_TOLD = frozenset({"token", "label"})
TOLD_AT_START = frozenset({"kind", "hourly", "monthly", "unit_s", "rule", "while_running", "reason"})


@dataclass(slots=True)
class Told:
    """A meter as its rows make it, one after another."""

    meter: Meter
    billed_ends_ms: list[int]  # where the first period begins, and each that was billed ends
    ends_at_ms: dict[str, int] = field(default_factory=dict)  # of each period that is held, by its payment
    started: bool = False

    def take(self, kind: str, told: Content) -> None:
        """Read the next row."""
        self.meter = READERS[kind](self, self.meter, told)


def _held(told_so_far: Told, meter: Meter, told: Content) -> Meter:
    told_so_far.ends_at_ms[told["payment_id"]] = told["ends_at_ms"]
    return replace(meter, seq=told["period"], held_until_ms=told["ends_at_ms"], warned_at_ms=None, unfunded_at_ms=None)


def _started(told_so_far: Told, meter: Meter, told: Content) -> Meter:
    told_so_far.started = True
    state = MeterState(told["state"])
    return replace(
        meter,
        state=state,
        ref=told["ref"],
        kind=told["meter_kind"],
        hourly=told["hourly"],
        monthly=told["monthly"],
        rule=told["rule"],
        unit_s=told["unit_s"],
        while_running=told["while_running"],
        running_since_ms=told["since_ms"],
        reason=told["reason"],
        held_until_ms=meter.held_until_ms if state is MeterState.RUNNING else 0,  # what nobody agreed to holds nothing
    )


def _never_began(_so_far: Told, meter: Meter, told: Content) -> Meter:
    return replace(meter, state=MeterState.ENDED, ended_at_ms=told["at_ms"])


def _changed(_so_far: Told, meter: Meter, told: Content) -> Meter:
    return (run if told["running"] else pause)(meter, told["since_ms"])


def _billed(told_so_far: Told, meter: Meter, told: Content) -> Meter:
    ends_at_ms = told_so_far.ends_at_ms.pop(told["payment_id"])
    told_so_far.billed_ends_ms.append(ends_at_ms)
    return replace(meter, billed_base=meter.billed_base + told["charged_base"], billed_until_ms=ends_at_ms)


def _lost(_so_far: Told, meter: Meter, told: Content) -> Meter:
    amount_base = told["amount_base"]
    return replace(meter, billed_base=meter.billed_base + amount_base, lost_base=meter.lost_base + amount_base)


def _warned(_so_far: Told, meter: Meter, told: Content) -> Meter:
    return replace(meter, warned_at_ms=told["at_ms"])


def _unfunded(_so_far: Told, meter: Meter, told: Content) -> Meter:
    return replace(meter, unfunded_at_ms=told["at_ms"])


def _ending(_so_far: Told, meter: Meter, told: Content) -> Meter:
    return replace(meter, state=MeterState.ENDING, reason=told["reason"])


def _ended(told_so_far: Told, meter: Meter, told: Content) -> Meter:
    """The end settles also what was held beyond it: such a period is billed, and time is billed no further than the end."""
    ended_at_ms = told["ended_at_ms"]
    until_ms = max(end for end in told_so_far.billed_ends_ms if end <= ended_at_ms)
    ended = replace(
        meter, state=MeterState.ENDED, ended_at_ms=ended_at_ms, billed_until_ms=until_ms, reason=told["reason"]
    )
    return pause(ended, ended_at_ms)


READERS: Mapping[str, Callable[[Told, Meter, Content], Meter]] = {
    "payment.held": _held,
    "meter.started": _started,
    "meter.never_began": _never_began,
    "meter.changed": _changed,
    "meter.billed": _billed,
    "meter.lost": _lost,
    "meter.warned": _warned,
    "meter.unfunded": _unfunded,
    "meter.ending": _ending,
    "meter.ended": _ended,
}
_KINDS = ", ".join(f"'{kind}'" for kind in READERS)
TOLD = (
    "SELECT json_extract(CAST(body AS TEXT), '$.meter_id') AS meter_id, kind, body FROM journal "  # noqa: S608 - ours
    f"WHERE kind IN ({_KINDS}) AND meter_id IS NOT NULL ORDER BY meter_id, seq"
)


def verify_meters(db: sqlite3.Connection) -> None:
    """Compare every meter with what the journal tells of it. Raises BookBroken naming the first contradiction.

    Reads everything, one meter at a time.
    """
    for meter, told in matched("meter", map(col.meter_from, db.execute(METERS)), _told(db)):
        for each in fields(Meter):
            kept, sealed = getattr(meter, each.name), getattr(told.meter, each.name)
            is_told = each.name not in NEVER_TOLD and (told.started or each.name not in TOLD_AT_START)
            if is_told and kept != sealed:
                raise BookBroken(f"meter {meter.id}: its {each.name} is {kept}, and the journal says {sealed}")


def _told(db: sqlite3.Connection) -> Iterator[tuple[str, Told]]:
    for meter_id, rows in groupby(db.execute(TOLD), key=itemgetter(0)):
        told: Told | None = None
        for _, kind, body in rows:
            content = json.loads(body)
            if told is None:
                meter = _ordered(meter_id, kind, content)
                told = Told(meter, [meter.billed_until_ms])
            told.take(kind, content)
        if told is not None:
            yield meter_id, told


def _ordered(meter_id: str, kind: str, told: Content) -> Meter:
    """Return a meter as its first period says that it was ordered: whose it is and since when, and no more."""
    if kind != "payment.held":
        raise BookBroken(f"meter {meter_id}: the journal tells of it before its first period")
    return Meter(
        id=meter_id,
        vendor=told["vendor"],
        account_id=told["account_id"],
        key_id=told["key_id"],
        kind="",
        token="",
        label="",
        hourly="0",
        monthly=None,
        unit_s=1,
        rule="",
        while_running=False,
        created_at_ms=told["starts_at_ms"],
        billed_until_ms=told["starts_at_ms"],
    )
