"""Times as people read them: RFC 3339 in UTC, from milliseconds since the epoch.

Must not know a clock.  Theory: in the books a time is an integer; text is made at the edges, in one spelling.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_text(at_ms: int) -> str:
    """Return a time with its milliseconds: 1700000000123 -> "2023-11-14T22:13:20.123Z"."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def next_month(at_ms: int) -> int:
    """Return the beginning (ms) of the calendar month (UTC) after the one that holds a time."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)  # noqa: PLR2004 - December
    return round(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
