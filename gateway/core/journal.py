r"""The journal: an append-only chain of records, each sealed by the hash of the one before.

Must not know where rows are kept.  Theory: a record's digest covers its sequence number, its predecessor's digest and
its canonical bytes, so removing, reordering or editing any row breaks every digest after it; anyone with an export can
check that offline.

Canonical bytes (pinned by tests/vectors/journal.json): JSON with keys sorted by code point, no white space, ASCII only
(`\\uXXXX` escapes), values limited to strings, integers, booleans, null, lists and objects of these; floats are refused.
digest = SHA-256("gateway-journal-v1" || seq as 8 bytes big-endian || previous digest (32 bytes) || canonical bytes).
"""

import json.encoder
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

TAG = b"gateway-journal-v1"
GENESIS = bytes(32)

_quoted = json.encoder.encode_basestring_ascii


class JournalError(ValueError):
    """A record is not canonical, or the chain does not hold."""


class Record(NamedTuple):
    """One journal row. `body` is the canonical bytes; `digest` seals it to everything before it."""

    seq: int
    at_ms: int
    kind: str
    payment_id: str | None
    body: bytes
    digest: bytes


def canonical(value: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of a record's content. Raises JournalError for floats and foreign types."""
    return _object(value).encode("ascii")


# One pass that checks each value where it writes it; the standard encoder would write what is refused here.


def _object(value: Mapping[str, object]) -> str:
    keys, text = _frame(tuple(value))
    return text % tuple([_PLAIN.get(type(item := value[key]), _text)(item) for key in keys])


@lru_cache(maxsize=1_024)
def _frame(names: tuple[str, ...]) -> tuple[list[str], str]:
    """Return an object's keys in order, and its text with a place for each value: the kinds of row are few."""
    for name in names:
        if not isinstance(name, str):
            raise JournalError(f"a journal key is text, not {name!r}")
    keys = sorted(names)
    return keys, "{" + ",".join(_quoted(key).replace("%", "%%") + ":%s" for key in keys) + "}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return int.__repr__(value)  # the number, also where its type prints a name
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join([_PLAIN.get(type(item), _text)(item) for item in value]) + "]"
    raise JournalError(f"a journal value is text, integer, boolean, null, list or object, not {type(value).__name__}")


_PLAIN: dict[type, Callable[[Any], str]] = {
    str: _quoted,
    int: int.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}


def digest(seq: int, previous: bytes, body: bytes) -> bytes:
    """Return the digest of the record with this sequence number, predecessor and canonical bytes."""
    return sha256(TAG + seq.to_bytes(8, "big") + previous + body).digest()


class Chain:
    """The growing end of the journal."""

    def __init__(self, seq: int = 0, head: bytes = GENESIS) -> None:
        self.seq, self.head = seq, head

    def append(self, at_ms: int, kind: str, payment_id: str | None, content: Mapping[str, object]) -> Record:
        """Return the next record. `content` must not hold `at_ms`, `kind` or `payment_id`: they are added here."""
        body = canonical({**content, "at_ms": at_ms, "kind": kind, "payment_id": payment_id})
        seq = self.seq + 1
        self.head = digest(seq, self.head, body)
        self.seq = seq
        return Record(seq, at_ms, kind, payment_id, body, self.head)


def verify(rows: Iterable[tuple[int, bytes, bytes]], seq: int = 0, head: bytes = GENESIS) -> tuple[int, bytes]:
    """Check (seq, body, digest) rows in order from a known point; return the end. Raises JournalError naming the row."""
    for row_seq, body, row_digest in rows:
        if row_seq != seq + 1:
            raise JournalError(f"row {seq + 1} is missing: found {row_seq}")
        head = digest(row_seq, head, body)
        if head != row_digest:
            raise JournalError(f"row {row_seq} was altered: its digest does not follow from the rows before it")
        seq = row_seq
    return seq, head
