"""What goes over the wire: JSON whose numbers are written digit by digit as the vendor writes them, and refusals.

Python's encoder would turn `0.0420` into `0.042`; vendors print money in four decimals, or with noise in the last
digits. A Decimal in a body is written as it stands. It must not know what the numbers mean.
"""

from __future__ import annotations

import json
import re
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

# Random, so that no text that a client sends can pass for a number.
_MARK = secrets.token_hex(12)
_MARKED = re.compile(rf'"{_MARK}:([^"]+)"')


class RefusedError(Exception):
    """The vendor says no: what status, which code, which words. The vendor's wording makes the body of it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: list[dict[str, str]] | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.details = details
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


def dumps(body: Any) -> str:
    """JSON text with every Decimal as a bare number in its own digits."""
    return _MARKED.sub(r"\1", json.dumps(body, default=_mark))


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response."""
    return web.json_response(body, status=status, headers=headers, dumps=dumps)


def plain(decimal: Decimal) -> str:
    """A decimal without exponent and without trailing zeros: `0.012`, `0`."""
    text = format(decimal, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _mark(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{_MARK}:{value!s}"  # a subclass may write itself in its own way
    raise TypeError(f"not JSON: {type(value).__name__}")
