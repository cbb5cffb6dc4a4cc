"""Reads a JSON object field by field and gathers what is wrong with it, so that a vendor can answer with all of it.

It must not know statuses or wording: `done` raises InvalidBodyError and the vendor says it in its own way.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import web

HOSTNAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9-]{1,63})*", re.ASCII)
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}\.[^@\s.]{2,63}", re.ASCII)


class InvalidBodyError(Exception):
    """The body is not what the document says; `problems` names each field."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {what}" if name else what for name, what in problems))
        self.problems = problems

    def details(self) -> list[dict[str, str]]:
        """The problems as a list of objects."""
        return [{"field": name, "message": what} for name, what in self.problems]


class Body:
    """One JSON object under validation."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self._problems: list[tuple[str, str]] = []

    @classmethod
    async def read(cls, request: web.Request, *, empty: bool = False) -> Body:
        """The request's JSON object; raises InvalidBodyError. With `empty`, no body is an empty object."""
        text = await request.read()
        if not text and empty:
            return cls({})
        try:
            raw = json.loads(text, parse_float=Decimal)
        except ValueError as error:
            raise InvalidBodyError([("", "body is not JSON")]) from error
        return cls.of(raw)

    @classmethod
    def of(cls, raw: Any) -> Body:
        """A JSON value that must be an object; raises InvalidBodyError."""
        if not isinstance(raw, dict):
            raise InvalidBodyError([("", "body is not an object")])
        return cls(raw)

    def wrong(self, name: str, what: str) -> None:
        """Note a problem that only the vendor can see."""
        self._problems.append((name, what))

    def text(self, name: str, *, pattern: re.Pattern[str] | None = None, low: int = 1, high: int = 255) -> str:
        """A required text of so many characters; an empty text in its place when it is wrong."""
        value = self.raw.get(name)
        if value is None:
            self.wrong(name, "is required")
        elif not isinstance(value, str):
            self.wrong(name, "must be a string")
        elif not low <= len(value) <= high:
            self.wrong(name, f"must have {low} to {high} characters")
        elif pattern is not None and not pattern.fullmatch(value):
            self.wrong(name, "has a wrong format")
        else:
            return value
        return ""

    def optional_text(self, name: str, *, pattern: re.Pattern[str] | None = None, high: int = 255) -> str | None:
        """A text, or None where it is absent or null."""
        return None if self.raw.get(name) is None else self.text(name, pattern=pattern, high=high)

    def integer(self, name: str, *, low: int, high: int, default: int | None = None) -> int:
        """An integer within bounds; `default` where it is absent and a default exists."""
        value = self.raw.get(name, default)
        if value is None:
            self.wrong(name, "is required")
        elif type(value) is not int:  # bool is an int
            self.wrong(name, "must be an integer")
        elif not low <= value <= high:
            self.wrong(name, f"must be between {low} and {high}")
        else:
            return value
        return low

    def flag(self, name: str) -> bool:
        """A boolean; false where it is absent."""
        value = self.raw.get(name, False)
        if not isinstance(value, bool):
            self.wrong(name, "must be a boolean")
            return False
        return value

    def texts(self, name: str, *, required: bool = True, high: int = 1000) -> list[str]:
        """A list of texts."""
        value = self.raw.get(name)
        if value is None:
            if required:
                self.wrong(name, "is required")
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.wrong(name, "must be an array of strings")
            return []
        if not value and required:
            self.wrong(name, "must not be empty")
        if len(value) > high:
            self.wrong(name, f"must have at most {high} items")
        return value

    def amount(self, name: str, *, low: Decimal, high: Decimal) -> Decimal:
        """A JSON number within bounds."""
        value = self.raw.get(name)
        if type(value) is int:
            value = Decimal(value)
        if not isinstance(value, Decimal) or not value.is_finite() or not low <= value <= high:
            self.wrong(name, f"must be between {low} and {high}")
            return low
        return value

    def done(self) -> None:
        """Raise InvalidBodyError when anything was wrong."""
        if self._problems:
            raise InvalidBodyError(self._problems)
