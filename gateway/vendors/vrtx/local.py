"""What the gateway says in VRTX's stead: refusals in its envelope, and pages of an agent's own servers.

Must not know accounts or money.  Theory: totals and page counts speak of the whole account, so an agent's pages are cut
anew from what is its own, by the document's own rules for pages.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway.account_ports import LocalAnswer
from gateway.core.routes import Match
from gateway.vendors.vrtx.routes import DEFAULT_PER_PAGE, MAX_PER_PAGE, QUERIES

__all__ = ["Pages", "refusal"]

_OK: Final = 200
_UNPROCESSABLE: Final = 422
_SERVER_ERRORS: Final = 500
_WHOLE: Final = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
# The document's own, and for the rest names in its style.
_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "INVALID_TOKEN",
        402: "OVERDUE_INVOICE",
        403: "FORBIDDEN",
        404: "NOT_FOUND",
        405: "METHOD_NOT_ALLOWED",
        409: "CONFLICT",
        422: "VALIDATION_ERROR",
        429: "RATE_LIMIT_EXCEEDED",
        503: "SERVICE_UNAVAILABLE",
    }
)


def refusal(status: int, detail: str) -> LocalAnswer:
    """Return a refusal in the document's error envelope."""
    code = _CODES.get(status, "SERVER_ERROR" if status >= _SERVER_ERRORS else "ERROR")
    return LocalAnswer(status, {"error": {"code": code, "message": detail}})


class Pages:
    """Pages of GET /servers; implements gateway.account_ports.Pager."""

    def cut(self, match: Match, query: str, items: Sequence[Mapping[str, Any]]) -> LocalAnswer:
        """Return the page that `page`, `per_page` (at most 100) and `status` ask for, or the 422 for others than whole numbers.

        A parameter that is given twice has two readings, and is refused like one that cannot be read.
        """
        asked: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in QUERIES[match.route.name]:
                continue
            if name in asked:
                return refusal(_UNPROCESSABLE, f"{name} is given more than once.")
            asked[name] = value
        wanted = asked.get("status")
        shown = [item for item in items if wanted is None or item.get("status") == wanted]
        numbers: dict[str, int] = {}
        for name, default in (("page", 1), ("per_page", DEFAULT_PER_PAGE)):
            text = asked.get(name, str(default))
            if _WHOLE.fullmatch(text) is None:
                return refusal(_UNPROCESSABLE, f"{name} must be a positive whole number.")
            numbers[name] = int(text)
        page, per_page = numbers["page"], min(numbers["per_page"], MAX_PER_PAGE)
        meta = {
            "current_page": page,
            "last_page": max(1, -(-len(shown) // per_page)),
            "per_page": per_page,
            "total": len(shown),
        }
        return LocalAnswer(_OK, {"data": shown[(page - 1) * per_page : page * per_page], "meta": meta})
