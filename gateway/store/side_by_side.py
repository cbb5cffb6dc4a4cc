"""Two sequences in the order of one name, walked as one.

Must not know what is compared.  Theory: what the database has sorted is met in step, so a proof of any number of rows holds
one of each in memory.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from gateway.store.broken import BookBroken


class Named(Protocol):
    """A record with an id."""

    @property
    def id(self) -> str:
        """Its id."""
        ...


_Record = TypeVar("_Record", bound=Named)
_Kept = TypeVar("_Kept")
_Told = TypeVar("_Told")


def side_by_side(
    kept: Iterable[tuple[str, _Kept]], told: Iterable[tuple[str, _Told]]
) -> Iterator[tuple[str, _Kept | None, _Told | None]]:
    """Yield each name once, in order, with what is kept and what is told of it; None where there is nothing.

    Both must name each thing once, in ascending order: the code points', which is the database's own order of text.
    """
    rows, tales = iter(kept), iter(told)
    row, tale = next(rows, None), next(tales, None)
    while row is not None or tale is not None:
        if row is not None and (tale is None or row[0] < tale[0]):
            yield row[0], row[1], None
            row = next(rows, None)
        elif tale is not None and (row is None or tale[0] < row[0]):
            yield tale[0], None, tale[1]
            tale = next(tales, None)
        elif row is not None and tale is not None:
            yield row[0], row[1], tale[1]
            row, tale = next(rows, None), next(tales, None)


def matched(what: str, kept: Iterable[_Record], told: Iterable[tuple[str, _Told]]) -> Iterator[tuple[_Record, _Told]]:
    """Yield each record with what is told of it. Raises BookBroken at the first that has no other; both in the order of ids."""
    for record_id, record, tale in side_by_side(((each.id, each) for each in kept), told):
        if record is None:
            raise BookBroken(f"{what} {record_id} is told of, and has no row")
        if tale is None:
            raise BookBroken(f"{what} {record_id} is in no row of the journal")
        yield record, tale
