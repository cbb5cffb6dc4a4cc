"""Credentials in a target's query: found, exchanged and scrubbed on the raw text, every other byte left as it is.

Must not know a vendor.  Theory: a query that is decoded and encoded again is another query; and one that names the
credential twice means whatever its reader likes, so it is refused instead of read.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from gateway.core.problems import Problem

__all__ = ["SCRUBBED", "Parameter", "Scrubber", "exchange", "only_parameter"]

SCRUBBED: Final = "***"

_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter's value, decoded, and where its raw text stands in the target."""

    value: str
    start: int
    end: int


def only_parameter(target: str, name: str) -> Parameter | None:
    """Return the one parameter of this name (lower case), or None.

    Raises Problem("bad_request") if it occurs twice, under another spelling (`Token`, `token[]`), beside a raw `;`
    (which some servers read as `&`), or with a value that is not percent-encoded UTF-8.
    """
    mark = target.find("?")
    if mark < 0:
        return None
    found: list[tuple[str, int, int]] = []
    start = mark + 1
    for piece in target[start:].split("&"):
        raw_name, _, _ = piece.partition("=")
        if _base_name(raw_name) == name:
            found.append(
                (unquote_plus(raw_name), min(start + len(raw_name) + 1, start + len(piece)), start + len(piece))
            )
        start += len(piece) + 1
    if ";" in target[mark:] and name in unquote_plus(target[mark:]).lower():
        raise Problem("bad_request", f"write ; as %3B in a query that carries {name}", name)
    if not found:
        return None
    if len(found) > 1:
        raise Problem("bad_request", f"the query names {name} more than once", name)
    spelled, begin, end = found[0]
    if spelled != name:
        raise Problem("bad_request", f"the query parameter is spelled {name}", name)
    return Parameter(_decode(target[begin:end], name), begin, end)


def exchange(target: str, parameter: Parameter, value: str) -> str:
    """Return the target with the parameter's value replaced, percent-encoded; no other byte changes."""
    return target[: parameter.start] + quote(value, safe="") + target[parameter.end :]


class Scrubber:
    """Takes credentials out of targets that are recorded or logged."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        # Also where a parameter is no parameter of this query: in a path, or in another URL that a value carries.
        anywhere = "|".join(re.escape(name) for name in sorted(self._names, key=len, reverse=True))
        self._suspect = re.compile(anywhere, re.IGNORECASE)
        self._anywhere = re.compile(rf"((?:{anywhere})(?:=|%3d))[^&;#]*", re.IGNORECASE)

    def __call__(self, target: str) -> str:
        """Return the target with the value of every such parameter as ***, whatever the case or encoding of its name."""
        if "%" not in target and self._suspect.search(target) is None:  # nearly every target, at a tenth of the cost
            return target
        path, mark, query = target.partition("?")
        pieces = (self._piece(piece) for piece in re.split(r"([&;])", query))
        return self._anywhere.sub(rf"\1{SCRUBBED}", path + mark + "".join(pieces))

    def _piece(self, piece: str) -> str:
        name, equals, _ = piece.partition("=")
        return f"{name}={SCRUBBED}" if equals and _base_name(name) in self._names else piece


def _base_name(raw_name: str) -> str:
    # `token[]` and `token[0]` are the same parameter for servers that build lists.
    return unquote_plus(raw_name, errors="replace").lower().split("[")[0].strip()


def _decode(raw: str, name: str) -> str:
    broken = _BROKEN_ESCAPE.search(raw) is not None
    try:
        value = unquote_to_bytes(raw.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        broken = True
    if broken:
        raise Problem("bad_request", f"{name} is not percent-encoded UTF-8", name)
    return value
