"""The parameters of an operator's call, read strictly: each by name and kind, whatever sent them.

Must not know what a call does.  Theory: the socket and the command line carry the same texts, so they are judged here
once; a parameter that is wrong changes nothing.
"""

import re
from collections.abc import Iterable, Mapping

from contracts.codec import CodecError, parse_bytes32
from gateway.core.money import AmountError, parse_amount
from gateway.core.problems import Problem

MAX_TEXT = 1_000
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Params:
    """One call's parameters. `by` is who asks, as the transport knows it; every reader raises Problem("bad_request")."""

    def __init__(self, raw: Mapping[str, object], by: str) -> None:
        self._raw, self.by = {name: value for name, value in raw.items() if value is not None}, by

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Refuse parameters that the call does not have: a mistyped one must not pass for its default."""
        unknown = sorted(self._raw.keys() - set(known))
        if unknown:
            raise Problem("bad_request", f"unknown parameter {unknown[0]}", unknown[0])

    def text(self, name: str) -> str:
        """Return a printable text that must be there."""
        found = self.optional_text(name)
        if found is None:
            raise Problem("bad_request", f"{name} is missing", name)
        return found

    def optional_text(self, name: str) -> str | None:
        """Return a printable text, or None if it was not given."""
        value = self._raw.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value or len(value) > MAX_TEXT or not value.isprintable():
            raise Problem("bad_request", f"{name} must be 1 to {MAX_TEXT} printable characters on one line", name)
        return value

    def identifier(self, name: str) -> str:
        """Return an id: letters, digits, - and _."""
        found = self.text(name)
        if _ID.fullmatch(found) is None:
            raise Problem("bad_request", f"{name} must be 1 to 64 of A-Z, a-z, 0-9, - and _", name)
        return found

    def optional_identifier(self, name: str) -> str | None:
        """Return an id, or None if it was not given."""
        return None if self._raw.get(name) is None else self.identifier(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; none if it was not given."""
        value = self._raw.get(name, [])
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise Problem("bad_request", f"{name} must be a list of texts", name)
        return tuple(value)

    def optional_hash(self, name: str) -> bytes | None:
        """Return 32 bytes that were given as hex, or None if they were not given."""
        value = self.optional_text(name)
        try:
            return None if value is None else parse_bytes32(value, name)
        except CodecError as error:
            raise Problem("bad_request", str(error), name) from None

    def amount(self, name: str, *, allow_zero: bool = False) -> int:
        """Return an amount in base units; of nothing only where that is an amount."""
        try:
            return parse_amount(self.text(name), allow_zero=allow_zero)
        except AmountError as error:
            raise Problem("bad_request", str(error), name) from None

    def flag(self, name: str) -> bool:
        """Return a truth value; false if it was not given."""
        value = self._raw.get(name, False)
        if not isinstance(value, bool):
            raise Problem("bad_request", f"{name} must be true or false", name)
        return value

    def number(self, name: str, default: int, high: int, *, low: int = 0) -> int:
        """Return a whole number from `low` to `high`."""
        value = self._raw.get(name, default)
        if type(value) is not int or not low <= value <= high:
            raise Problem("bad_request", f"{name} must be a whole number from {low} to {high}", name)
        return value
