"""What an agent may ask for beside the request itself: a cap, a quote, an idempotency key, a page.

Must not know routes or the store.  Theory: each has one strict grammar, and what does not fit is refused before anything
is done, for a cap that was misread is no cap.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.api.deps import ApiSettings
from gateway.api.exchange import single_header
from gateway.core.money import AmountError, parse_amount
from gateway.core.problems import Problem

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_LIMIT = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_CURSOR = re.compile(r"[\x21-\x7e]{1,512}", re.ASCII)
_PREFERENCE = re.compile(r"[;=]")  # where a preference's name ends
_AFTER_EVERY_ID = "~"


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: at most `limit` entries after the one that `after` names (None: from the start)."""

    after: str | None
    limit: int

    @property
    def before(self) -> str:
        """The id that ids of a list with the newest first are below."""
        return self.after or _AFTER_EVERY_ID


def max_charge(request: web.BaseRequest) -> int | None:
    """Return X-Max-Charge in USD base units. Raises Problem("bad_request")."""
    text = single_header(request, "X-Max-Charge")
    if text is None:
        return None
    try:
        return parse_amount(text, allow_zero=True)
    except AmountError as error:
        raise Problem("bad_request", f"X-Max-Charge: {error}", "X-Max-Charge") from None


def wants_quote(request: web.BaseRequest) -> bool:
    """Say whether `Prefer: quote` was given (RFC 7240), alone or among other preferences.

    Whatever value it has: who writes `quote=true` or `quote=""` does not want to buy.
    """
    if "Prefer" not in request.headers:
        return False
    given = ",".join(request.headers.getall("Prefer"))
    preferences = (_PREFERENCE.split(part, 1)[0].strip().lower() for part in given.split(","))
    return "quote" in preferences


def idempotency_key(request: web.BaseRequest) -> str | None:
    """Return the Idempotency-Key: 1 to 255 visible ASCII characters. Raises Problem("bad_request")."""
    text = single_header(request, "Idempotency-Key")
    if text is not None and _IDEMPOTENCY_KEY.fullmatch(text) is None:
        raise Problem("bad_request", "an Idempotency-Key is 1 to 255 visible ASCII characters", "Idempotency-Key")
    return text


def query_of(text: str, allowed: frozenset[str]) -> dict[str, str]:
    """Return a query's parameters. Raises Problem("bad_request") for one that is unknown, repeated or malformed."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=16)
    except (ValueError, UnicodeError):
        raise Problem("bad_request", "the query cannot be read; write it as name=value&name=value") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise Problem("bad_request", f"a query parameter is unknown here; known are: {known}", "query")
        if name in found:
            raise Problem("bad_request", f"{name} was given twice", name)
        found[name] = value
    return found


def page_of(query: dict[str, str], settings: ApiSettings) -> Page:
    """Return the page that `after` and `limit` ask for. Raises Problem("bad_request")."""
    after, limit = query.get("after"), query.get("limit")
    if after is not None and _CURSOR.fullmatch(after) is None:
        raise Problem("bad_request", "after is the `next` of an earlier page", "after")
    if limit is None:
        return Page(after, settings.page_default)
    if _LIMIT.fullmatch(limit) is None or int(limit) > settings.page_max:
        raise Problem("bad_request", f"limit is a number from 1 to {settings.page_max}", "limit")
    return Page(after, int(limit))
