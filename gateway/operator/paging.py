"""Lists of the operator's calls, a page at a time.

Must not know what is listed.  Theory: a list grows while it is read, so a page is named by the id that it goes on from and
never by an offset.
"""

from collections.abc import Sequence
from typing import Any

from gateway.operator.params import Params

PAGE_MAX = 1_000
LAST = "~"  # sorts after every id


def before_of(params: Params) -> str:
    """Return the id that a list with the newest first goes on from. Raises Problem("bad_request")."""
    return params.optional_identifier("before") or LAST


def at_vendors(params: Params) -> dict[str, Any]:
    """Return what a list of things at vendors is asked with, of all accounts and vendors or of one.

    Without `all` only what is not over. Raises Problem("bad_request").
    """
    return {
        "open": int(not params.flag("all")),
        "before": before_of(params),
        "account_id": params.optional_identifier("account") or "",
        "vendor": params.optional_identifier("vendor") or "",
        "limit": params.number("limit", 100, PAGE_MAX, low=1),
    }


def listed(name: str, entries: Sequence[Any], limit: int) -> dict[str, Any]:
    """Return one page; `next` is the last entry's id where the page is full, so that there may be more."""
    return {name: entries, "next": entries[-1]["id"] if entries and len(entries) == limit else None}
