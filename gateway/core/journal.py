r"""The journal: an append-only chain of records, each sealed by the hash of the one before.

Must not know where rows are kept.  Theory: a record's digest covers its sequence number, its predecessor's digest and
its canonical bytes, so removing, reordering or editing any row breaks every digest after it; anyone with an export can
check that offline.

Canonical bytes (pinned by tests/vectors/journal.json): JSON with keys sorted by code point, no white space, ASCII only
(`\\uXXXX` escapes), values limited to strings, integers, booleans, null, lists and objects of these; floats are refused.
digest = SHA-256("gateway-journal-v1" || seq as 8 bytes big-endian || previous digest (32 bytes) || canonical bytes).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

TAG = b"gateway-journal-v1"
GENESIS = bytes(32)

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


class JournalError(ValueError):
    """A record is not canonical, or the chain does not hold."""


@dataclass(frozen=True, slots=True)
class Record:
    """One journal row. `body` is the canonical bytes; `digest` seals it to everything before it."""

    seq: int
    at_ms: int
    kind: str
    payment_id: str | None
    body: bytes
    digest: bytes


def canonical(value: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of a record's content. Raises JournalError for floats and foreign types."""
    _check(value)
    return _encode(value).encode("ascii")


_PLAIN = frozenset({str, int, bool, type(None)})


def _check(value: object) -> None:
    if type(value) in _PLAIN or isinstance(value, str | int):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise JournalError(f"a journal key is text, not {key!r}")
            if type(item) not in _PLAIN:
                _check(item)
        return
    if isinstance(value, list | tuple):
        for item in value:
            _check(item)
        return
    raise JournalError(f"a journal value is text, integer, boolean, null, list or object, not {type(value).__name__}")


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
