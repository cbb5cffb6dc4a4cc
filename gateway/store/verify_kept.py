"""The proof that the neutral API's rows are what the journal says they became.

Must not know how they change.  Theory: each version of a record left one journal row, and the journal is sealed row by row;
so a record whose version is not the count of its rows, or whose state is not the last one told, was written by nobody.
"""

import json
import sqlite3
from collections import Counter

from gateway.core.kept import QUOTE
from gateway.store.broken import BookBroken
from gateway.store.kept_columns import TABLES

STATED = frozenset({"servers", "snapshots", "fleets"})
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
    rows, state = _journalled(db)
    for kind, table in TABLES.items():
        version = "1" if kind == QUOTE else "version"
        told = "state" if table.name in STATED else "''"
        for record_id, kept_version, kept_state in db.execute(f"SELECT id, {version}, {told} FROM {table.name}"):  # noqa: S608
            place = (kind, record_id)
            count = rows.pop(place, 0)
            if count != kept_version:
                raise BookBroken(f"{record_id} is version {kept_version}, and the journal tells of {count} changes")
            if kept_state and state[place] != kept_state:
                raise BookBroken(f"{record_id} is {kept_state}, and the journal says {state[place]}")
    if rows:
        raise BookBroken(f"the journal tells of records that are gone: {sorted(rows)[:10]}")
    for statement in CLAIMED_TWICE:
        row = db.execute(statement).fetchone()
        if row is not None:
            raise BookBroken(f"the Idempotency-Key {row[0]!r} stands for two requests of one account")
    row = db.execute(FOREIGN).fetchone()
    if row is not None:
        raise BookBroken(f"the thing of server {row[0]} belongs to another account")


def _journalled(db: sqlite3.Connection) -> tuple[Counter[tuple[str, str]], dict[tuple[str, str], str]]:
    """Return how often the journal tells of each record, and the state that it told last."""
    rows: Counter[tuple[str, str]] = Counter()
    state: dict[tuple[str, str], str] = {}
    for name, body in db.execute("SELECT kind, body FROM journal ORDER BY seq"):
        kind = name.partition(".")[0]
        if kind in TABLES:
            told = json.loads(body)
            place = (kind, told[f"{kind}_id"])
            rows[place] += 1
            state[place] = told.get("state", "")
    return rows, state
