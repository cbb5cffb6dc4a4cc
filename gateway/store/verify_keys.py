"""The proof that each API key is the one that was added: whose it is, which text opens it, what it may do and spend.

Must not know how a key is checked.  Theory: the row that added a key says everything about it but its secret, and the row that
revoked it is the only other one; so a key whose digest was exchanged for that of another text contradicts its own row. A row
of an older version says less: what it does not say is not held against the key.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from gateway.core.decide_operator import key_content
from gateway.store import columns as col
from gateway.store.broken import BookBroken

Content = Mapping[str, Any]

TOLD = "SELECT kind, body FROM journal WHERE kind = 'key.added' OR kind = 'key.revoked' ORDER BY seq"
KEYS = f"SELECT {col.KEY_COLUMNS} FROM api_keys"  # noqa: S608 - column names are ours


def verify_keys(db: sqlite3.Connection) -> None:
    """Compare every key with its journal rows. Raises BookBroken naming the first contradiction. Reads everything."""
    added: dict[str, Content] = {}
    revoked: dict[str, int] = {}
    for kind, body in db.execute(TOLD):
        told = json.loads(body)
        if kind == "key.added":
            added[told["key_id"]] = told
        else:
            revoked[told["key_id"]] = told["at_ms"]
    for row in db.execute(KEYS):
        key = col.key_from(row)
        told = added.pop(key.id, None)
        if told is None:
            raise BookBroken(f"key {key.id} was added by nobody: no row of the journal tells of it")
        kept = {**key_content(key), "at_ms": key.created_at_ms}
        for name in sorted(told.keys() & kept.keys()):
            if kept[name] != told[name]:
                raise BookBroken(f"key {key.id}: its {name} is {kept[name]}, and the journal says {told[name]}")
        if key.revoked_at_ms != revoked.get(key.id):
            at_ms = revoked.get(key.id)
            raise BookBroken(f"key {key.id} is revoked at {key.revoked_at_ms}, and the journal says {at_ms}")
    if added:
        raise BookBroken(f"the journal tells of keys that are gone: {sorted(added)[:10]}")
