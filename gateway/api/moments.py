"""Times as agents write them: RFC 3339 with its zone, read in one way.

Must not know what a time is for.  Theory: a time without a zone means two moments, and whatever depends on it (until when
something is paid for) would be bought for the wrong one.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.api.needs import bad
from gateway.api.schemas import Schema

TIME_IN: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339 with its zone"}

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(members: Mapping[str, Any], name: str, after_ms: int) -> int | None:
    """Return a time in milliseconds since the epoch, None where it is not given or null.

    Raises Problem("bad_request") for what is no time with a zone, and for one that is not later than `after_ms`.
    """
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        raise bad(f'{name} is a time with its zone, such as "2030-01-31T12:00:00Z"', name)
    try:
        at_ms = (datetime.fromisoformat(value.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise bad(f"{name} names no moment that there is", name) from None
    if at_ms <= after_ms:
        raise bad(f"{name} has passed already", name)
    return at_ms
