"""Times as agents write them: RFC 3339 with its zone, read in one way.

Must not know what a time is for.  Theory: a time without a zone means two moments, and whatever depends on it (until when
something is paid for) would be bought for the wrong one.
"""

from collections.abc import Mapping
from typing import Any

from gateway.api.needs import bad
from gateway.api.schemas import Schema
from gateway.core.times import parse_time_ms

TIME_IN: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339 with its zone"}


def parse_time(members: Mapping[str, Any], name: str, after_ms: int) -> int | None:
    """Return a time in milliseconds since the epoch, None where it is not given or null.

    Raises Problem("bad_request") for what is no time with a zone, and for one that is not later than `after_ms`.
    """
    value = members.get(name)
    if value is None:
        return None
    try:
        at_ms = parse_time_ms(value if isinstance(value, str) else "")
    except ValueError as error:
        raise bad(f'{name} is a time with its zone, such as "2030-01-31T12:00:00Z": {error}', name) from None
    if at_ms <= after_ms:
        raise bad(f"{name} has passed already", name)
    return at_ms
