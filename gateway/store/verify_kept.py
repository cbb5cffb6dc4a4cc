"""The proof that the neutral API's rows are what the journal says they became.

Must not know how they change.  Theory: each version of a record left one journal row, and the journal is sealed row by row;
so a record whose version is not the count of its rows, or whose state is not the last one told, was written by nobody.
"""

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from gateway.core.kept import QUOTE
from gateway.store.broken import BookBroken
from gateway.store.kept_columns import TABLES
from gateway.store.side_by_side import side_by_side

STATED = frozenset({"servers", "snapshots", "fleets"})
_KINDS = ", ".join(f"'{kind}'" for kind in TABLES)
TOLD = (
    "SELECT family || ' ' || json_extract(text, '$.' || family || '_id') AS name, json_extract(text, '$.state') FROM ("  # noqa: S608
    "SELECT seq, substr(kind, 1, instr(kind, '.') - 1) AS family, CAST(body AS TEXT) AS text FROM journal) "
    f"WHERE family IN ({_KINDS}) ORDER BY name, seq"
)
TWICE = "SELECT s.client_token FROM {one} s JOIN {other} o ON o.account_id = s.account_id AND o.{token} = s.client_token LIMIT 1"
CLAIMED_TWICE = tuple(
    TWICE.format(one=one, other=other, token=token)
    for one, other, token in (
        ("servers", "claims", "idempotency_key"),
        ("fleets", "claims", "idempotency_key"),
        ("servers", "fleets", "client_token"),
    )
)
FOREIGN = (
    "SELECT s.id FROM servers s JOIN resources r ON r.vendor = s.vendor AND r.ref = s.ref "
    "WHERE s.ended_at_ms IS NULL AND r.account_id <> s.account_id LIMIT 1"
)


def verify_kept(db: sqlite3.Connection) -> None:
    """Compare every record with its journal rows. Raises BookBroken naming the first contradiction. Reads everything."""
    for name, kept, told in side_by_side(_kept(db), _told(db)):
        record_id = name.partition(" ")[2]
        if kept is None:
            raise BookBroken(f"the journal tells of a record that is gone: {record_id}")
        count, state = told or (0, None)
        if count != kept[0]:
            raise BookBroken(f"{record_id} is version {kept[0]}, and the journal tells of {count} changes")
        if kept[1] and kept[1] != state:
            raise BookBroken(f"{record_id} is {kept[1]}, and the journal says {state}")
    for statement in CLAIMED_TWICE:
        row = db.execute(statement).fetchone()
        if row is not None:
            raise BookBroken(f"the Idempotency-Key {row[0]!r} stands for two requests of one account")
    row = db.execute(FOREIGN).fetchone()
    if row is not None:
        raise BookBroken(f"the thing of server {row[0]} belongs to another account")


def _kept(db: sqlite3.Connection) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yield each record's version and state ("" for those without), by kind and id."""
    for kind, table in sorted(TABLES.items()):
        version = "1" if kind == QUOTE else "version"
        state = "state" if table.name in STATED else "''"
        for record_id, *stands in db.execute(f"SELECT id, {version}, {state} FROM {table.name} ORDER BY id"):  # noqa: S608
            yield f"{kind} {record_id}", (stands[0], stands[1])


def _told(db: sqlite3.Connection) -> Iterator[tuple[str, tuple[int, str | None]]]:
    """Yield how often the journal tells of each record, and the state that it told last, by kind and id."""
    for name, rows in groupby(db.execute(TOLD), key=itemgetter(0)):
        states = [state for _, state in rows]
        yield name, (len(states), states[-1])
