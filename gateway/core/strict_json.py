"""JSON from agents and vendors, read in the one way that no two parsers disagree on.

Must not know what the documents mean.  Theory: where a text can be read in two ways (a key twice, NaN, a number past
what a double holds) the payer and the payee may each read another; such a text is refused, and a fraction keeps its
digits, so that money never passes through a float.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

__all__ = ["MAX_DEPTH", "MAX_NUMBER_CHARS", "Fraction", "JsonError", "dump_json", "map_strings", "parse_json"]

MAX_DEPTH: Final = 32
MAX_NUMBER_CHARS: Final = 40

# Possessive: a hostile text is scanned once. In a text that was parsed, this finds exactly its string literals.
_LITERAL: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class JsonError(ValueError):
    """The text is not JSON that has one meaning. The message names no content: it may hold secrets."""


@dataclass(frozen=True, slots=True)
class Fraction:
    """A number that was not written as an integer, as its digits: never a float."""

    text: str


def parse_json(raw: bytes) -> Any:  # noqa: ANN401 - JSON's own type; every caller checks what it takes
    """Return the document; integers are int, other numbers Fraction.

    Raises JsonError for anything but one JSON text in UTF-8 (RFC 8259) without duplicate keys, NaN or infinities, at
    most MAX_DEPTH deep and with numbers of at most MAX_NUMBER_CHARS characters.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    _check_depth(text)
    try:
        return _READER.decode(text)
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} at character {error.pos}") from None


def dump_json(document: Any) -> bytes:  # noqa: ANN401 - what parse_json returned, or was made of its parts
    """Return a document as compact JSON in UTF-8; a Fraction keeps its digits."""
    return _dump(document).encode("utf-8")


def _dump(value: Any) -> str:  # noqa: ANN401 - JSON's own type
    if isinstance(value, Fraction):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_dump(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_dump, value)) + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def map_strings(text: str, change: Callable[[str], str]) -> str:
    """Return a JSON text that parse_json took with `change` applied to every string, member names included.

    Each literal is decoded first, so no escape hides what `change` looks for; a literal that it leaves alone, and
    everything between literals, stays byte for byte.
    """

    def swap(found: re.Match[str]) -> str:
        literal = found.group()
        value = json.loads(literal) if "\\" in literal else literal[1:-1]
        changed = change(value)
        return literal if changed == value else json.dumps(changed)

    return _LITERAL.sub(swap, text)


def _check_depth(text: str) -> None:
    # json's own RecursionError would depend on the caller's stack.
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for found in _STRUCTURE.finditer(text):
        mark = found.group()
        if mark in {"{", "["}:
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonError(f"nested deeper than {MAX_DEPTH}")
        elif mark in {"}", "]"}:
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonError("a member occurs twice in one object")
    return members


def _bounded(digits: str) -> str:
    if len(digits) > MAX_NUMBER_CHARS:
        raise JsonError(f"a number of more than {MAX_NUMBER_CHARS} characters")
    return digits


def _integer(digits: str) -> int:
    return int(_bounded(digits))


def _fraction(digits: str) -> Fraction:
    return Fraction(_bounded(digits))


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON")


_READER: Final = json.JSONDecoder(  # one for all: making it costs as much as reading a small text
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_fraction, parse_constant=_no_constant
)
