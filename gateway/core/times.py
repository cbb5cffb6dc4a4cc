"""Times as people and other programs write them: RFC 3339, from and to milliseconds since the epoch.

Must not know a clock.  Theory: in the books a time is an integer; text is made at the edges, in one spelling, and read there by
one reader, so that no two doors take one text for two moments.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MAX_MINUTE = 59


def parse_time_ms(text: str) -> int:
    """Return the milliseconds since the epoch of an RFC 3339 time, cut below the millisecond. Raises ValueError.

    Its zone is written in it: without one it is two moments. A leap second is refused: it names no instant of ours.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(digits) for digits in match.groups()[:6])
    microsecond = int((match[7] or "0").ljust(6, "0")[:6])
    try:
        zone = UTC if match[8] is None else _zone(match[8], int(match[9]), int(match[10]))
        at = datetime(year, month, day, hour, minute, second, microsecond, zone)
    except ValueError as error:
        raise ValueError("not a time that exists") from error
    return (at - _EPOCH) // _MS


def _zone(sign: str, hours: int, minutes: int) -> timezone:
    if minutes > _MAX_MINUTE:
        raise ValueError("an offset of more than 59 minutes")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if sign == "-" else offset)


def utc_text(at_ms: int) -> str:
    """Return a time with its milliseconds: 1700000000123 -> "2023-11-14T22:13:20.123Z"."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def next_month(at_ms: int) -> int:
    """Return the beginning (ms) of the calendar month (UTC) after the one that holds a time."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)  # noqa: PLR2004 - December
    return round(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
