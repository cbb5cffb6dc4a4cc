"""What an answer's headers say about rate limits, as spans of our own time.

Must not know what is done about it.  Theory: vendors state instants by their own clock; less the answer's own `Date` they
are spans, which a clock that is wrong by an hour states as well as any other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

LONGEST_MS = 3_600_000
"""No header stops us for longer: after an hour the vendor is asked again, and may say it again."""

_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)
_DATE_MAX = 64
_AN_INSTANT_S = 1_000_000_000  # a smaller number is a span


@dataclass(frozen=True, slots=True)
class Said:
    """`X-RateLimit-*`: so many requests of the window of `limit` are left for the next `for_ms`."""

    limit: int
    left: int
    for_ms: int


def retry_after_ms(headers: Mapping[str, str], now_ms: int) -> int | None:
    """Return how long `Retry-After` (RFC 9110 10.2.3: seconds, or a date) asks to wait; None if it cannot be read."""
    text = headers.get("Retry-After", "").strip()
    if _NUMBER.fullmatch(text):
        return min(int(text) * 1000, LONGEST_MS)
    at_ms = _date_ms(text)
    return None if at_ms is None else _span_ms(at_ms, headers, now_ms)


def rate_limit(headers: Mapping[str, str], now_ms: int) -> Said | None:
    """Return what `X-RateLimit-Remaining` and `-Reset` say together; None unless both can be read."""
    limit, left, reset = (_number(headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset"))
    if left is None or reset is None:
        return None
    for_ms = _span_ms(reset * 1000, headers, now_ms) if reset >= _AN_INSTANT_S else min(reset * 1000, LONGEST_MS)
    return Said(limit or 0, left, for_ms)


def _span_ms(at_ms: int, headers: Mapping[str, str], now_ms: int) -> int:
    """Until an instant of the vendor's clock; a second more, for its dates are whole seconds."""
    vendor_now_ms = _date_ms(headers.get("Date", ""))
    span_ms = at_ms - (now_ms if vendor_now_ms is None else vendor_now_ms) + 1000
    return max(0, min(span_ms, LONGEST_MS))


def _number(text: str | None) -> int | None:
    text = "" if text is None else text.strip()
    return int(text) if _NUMBER.fullmatch(text) else None


def _date_ms(text: str) -> int | None:
    parts = parsedate_tz(text) if len(text) <= _DATE_MAX else None
    if parts is None:
        return None
    try:
        return mktime_tz(parts) * 1000
    except (ValueError, OverflowError):
        return None
