"""The journal: canonical bytes, digests, and what a verifier notices."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.journal import GENESIS, Chain, JournalError, Record, canonical, digest, verify
from gateway.core.payment import Charge

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "journal.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = VECTORS["rows"]


def grown(count: int = 5) -> list[Record]:
    """Return a journal of some rows."""
    chain = Chain()
    return [chain.append(1_000 + n, "kind", None if n % 2 else f"pay_{n}", {"n": n}) for n in range(count)]


def triples(records: list[Record]) -> list[tuple[int, bytes, bytes]]:
    """Return what an export holds."""
    return [(r.seq, r.body, r.digest) for r in records]


def test_rows_are_the_pinned_bytes() -> None:
    """Sequence numbers, canonical bytes and digests are those of the vectors, to the last bit."""
    chain = Chain()
    for row in ROWS:
        record = chain.append(row["at_ms"], row["kind"], row["payment_id"], row["content"])
        assert record.body == row["body"].encode("ascii")
        assert (record.seq, record.digest.hex()) == (row["seq"], row["digest"])
        assert (record.at_ms, record.kind, record.payment_id) == (row["at_ms"], row["kind"], row["payment_id"])
    assert (chain.seq, chain.head.hex()) == (len(ROWS), ROWS[-1]["digest"])


def test_an_export_of_the_vectors_verifies() -> None:
    """Whoever has the export alone finds the same end."""
    export = [(row["seq"], row["body"].encode(), bytes.fromhex(row["digest"])) for row in ROWS]
    assert verify(export) == (len(ROWS), bytes.fromhex(ROWS[-1]["digest"]))


def test_the_chain_starts_from_zero() -> None:
    """The first row follows 32 zero bytes, and so say the vectors."""
    assert bytes.fromhex(VECTORS["genesis"]) == GENESIS == bytes(32)
    assert verify([]) == (0, GENESIS)


@pytest.mark.parametrize("value", [1.0, float("nan"), b"x", {1}, object()], ids=repr)
def test_floats_and_foreign_types_are_refused(value: object) -> None:
    """What has no single spelling never gets into the journal, however deep it hides, and the chain stays as it was."""
    chain = Chain()
    for content in ({"x": value}, {"x": [value]}, {"x": {"y": (1, value)}}):
        with pytest.raises(JournalError, match="a journal value is"):
            chain.append(1, "kind", None, content)
    assert (chain.seq, chain.head) == (0, GENESIS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(Charge),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=9), VALUES, max_size=4))
def test_canonical_bytes_are_what_a_json_library_writes(content: dict[str, Any]) -> None:
    """Whoever checks an export needs no code of ours: sorted keys, no white space, ASCII."""
    written = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert canonical(content) == written.encode("ascii")


def test_keys_are_text() -> None:
    """JSON would quietly turn other keys into text, so they are refused."""
    with pytest.raises(JournalError, match="a journal key is text"):
        canonical({"x": {1: "one"}})


def test_order_of_keys_does_not_matter_and_enums_are_their_text() -> None:
    """The same content has the same bytes however it was put together."""
    assert canonical({"b": 1, "a": Charge.HELD}) == canonical({"a": "held", "b": 1}) == b'{"a":"held","b":1}'


def test_content_cannot_forge_the_columns() -> None:
    """Time, kind and payment of a row are the journal's own, whatever the content says."""
    record = Chain().append(7, "real", "pay_1", {"at_ms": 1, "kind": "forged", "payment_id": "pay_2"})
    assert json.loads(record.body) == {"at_ms": 7, "kind": "real", "payment_id": "pay_1"}


def test_an_edit_is_noticed() -> None:
    """Changing one byte of any row names that row."""
    for at in range(5):
        records = grown()
        records[at] = records[at]._replace(body=records[at].body.replace(b'"kind":"kind"', b'"kind":"kinD"'))
        with pytest.raises(JournalError, match=f"row {at + 1} was altered"):
            verify(triples(records))


def test_an_edit_with_a_recomputed_digest_is_noticed_one_row_later() -> None:
    """Mending the edited row's own digest breaks the next one."""
    records = grown()
    body = b'{"n":99}'
    records[2] = records[2]._replace(body=body, digest=digest(3, records[1].digest, body))
    with pytest.raises(JournalError, match="row 4 was altered"):
        verify(triples(records))


def test_a_removal_is_noticed() -> None:
    """A missing row is missed, at the start and in between; a missing end shows in the end's number and digest."""
    records = grown()
    for at in range(4):
        with pytest.raises(JournalError, match=f"row {at + 1} is missing: found {at + 2}"):
            verify(triples(records[:at] + records[at + 1 :]))
    assert verify(triples(records[:-1])) != verify(triples(records))


def test_a_removal_with_renumbering_is_noticed() -> None:
    """Closing the gap does not help: the digest covers the number and the predecessor."""
    records = grown()
    closed = [*records[:2], *(r._replace(seq=r.seq - 1) for r in records[3:])]
    with pytest.raises(JournalError, match="row 3 was altered"):
        verify(triples(closed))


def test_reordering_is_noticed() -> None:
    """Two rows that change places break the chain, with or without their numbers."""
    records = grown()
    swapped = [records[0], records[2], records[1], *records[3:]]
    with pytest.raises(JournalError, match="row 2 is missing"):
        verify(triples(swapped))
    renumbered = [r._replace(seq=n) for n, r in enumerate(swapped, 1)]
    with pytest.raises(JournalError, match="row 2 was altered"):
        verify(triples(renumbered))


def test_an_insertion_is_noticed() -> None:
    """A row that was slipped in, even one that follows from those before it, breaks those after it."""
    records = grown()
    body = b'{"n":42}'
    forged = Record(3, 1, "kind", None, body, digest(3, records[1].digest, body))
    with pytest.raises(JournalError, match="row 4 is missing: found 3"):
        verify(triples([*records[:2], forged, *records[2:]]))
    shifted = [*records[:2], forged, *(r._replace(seq=r.seq + 1) for r in records[2:])]
    with pytest.raises(JournalError, match="row 4 was altered"):
        verify(triples(shifted))


def test_verification_can_start_from_a_known_point() -> None:
    """An auditor who trusts row 2 checks what came after it."""
    records = grown()
    assert verify(triples(records[2:]), seq=2, head=records[1].digest) == verify(triples(records))
    with pytest.raises(JournalError, match="row 3 was altered"):
        verify(triples(records[2:]), seq=2, head=records[0].digest)
