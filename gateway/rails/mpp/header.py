"""Finds the Payment challenges in `WWW-Authenticate` (RFC 9110, 11.6.1).

It must not know what their parameters mean. Theory: several field lines, or one that a proxy has joined, are one list
in which commas separate both challenges and parameters, and a quoted string may hold either; so each line is read
once, token by token, and what does not fit the grammar is refused, for another parser may see another price in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.rails.codes import Problem
from gateway.rails.problems import ChallengeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_CHALLENGES", "MAX_FIELD_CHARS", "MAX_PARAMS", "PaymentParams", "read_payment_params"]

MAX_FIELD_CHARS: Final = 64 * 1024
MAX_CHALLENGES: Final = 16
MAX_PARAMS: Final = 32

_NAME: Final = "WWW-Authenticate"
_SCHEME: Final = "payment"
_TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# What is not a control character, as the transport gives it: bytes above ASCII are Latin-1.
_QUOTED: Final = r'"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+)"'

_GAP = re.compile(r"[ \t,]*+")
# An unquoted value may hold more than a token: other schemes put URLs there, and ours are checked by their own grammar.
_PARAM = re.compile(rf'({_TCHAR}++)[ \t]*+=[ \t]*+(?:{_QUOTED}|([^\s,"\\=][^\s,"\\]*+))[ \t]*+(?=,|$)', re.ASCII)
_NEXT_SCHEME = re.compile(rf"({_TCHAR}++)(?=[ \t,]|$)", re.ASCII)
_TOKEN68 = re.compile(r"[ \t]++[A-Za-z0-9._~+/-]++=*+[ \t]*+(?=,|$)", re.ASCII)
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})++|\\.", re.ASCII | re.DOTALL)
_MAY_BE_OURS = re.compile(rf"(?<!{_TCHAR})payment(?!{_TCHAR})", re.IGNORECASE | re.ASCII)
_ASCII: Final = 0x80


@dataclass(slots=True)
class PaymentParams:
    """The parameters of one Payment challenge by lower-case name. `repeated` is a name that occurs twice, or ''."""

    values: dict[str, str] = field(default_factory=dict)
    repeated: str = ""


class _GrammarError(ValueError):
    """The line does not follow the grammar; says where."""


def read_payment_params(lines: Sequence[str]) -> tuple[PaymentParams, ...]:
    r"""The Payment challenges of all field lines in their order; other schemes (Bearer, Basic) are passed over.

    Quoted strings are unescaped, the SDKs' `\uXXXX` included. Raises ChallengeError: `challenge_oversized` over one
    of the limits above, `challenge_malformed` for a line that speaks of Payment and does not follow the grammar. A
    malformed line of other schemes alone is none of our business.
    """
    if sum(map(len, lines)) > MAX_FIELD_CHARS:
        raise ChallengeError(Problem.CHALLENGE_OVERSIZED, f"the header is over {MAX_FIELD_CHARS} characters", _NAME)
    found: list[PaymentParams] = []
    for line in lines:
        try:
            found += _read_line(line)
        except _GrammarError as error:
            if _MAY_BE_OURS.search(line) is not None:
                raise ChallengeError(Problem.CHALLENGE_MALFORMED, str(error), _NAME) from error
    if len(found) > MAX_CHALLENGES:
        raise ChallengeError(Problem.CHALLENGE_OVERSIZED, f"more than {MAX_CHALLENGES} challenges", _NAME)
    return tuple(found)


def _read_line(line: str) -> list[PaymentParams]:
    found: list[PaymentParams] = []
    current: PaymentParams | None = None
    at = 0
    while True:
        gap = _GAP.match(line, at)
        assert gap is not None  # it matches the empty text too
        separated = at == 0 or "," in gap.group()
        at = gap.end()
        if at == len(line):
            return found
        param = _PARAM.match(line, at)
        if param is not None and current is not None:
            _take(current, param)
            at = param.end()
            continue
        scheme = _NEXT_SCHEME.match(line, at)
        if param is not None or scheme is None or not separated:
            raise _GrammarError(f"neither a scheme nor a parameter at character {at}")
        current = PaymentParams()
        if scheme[1].lower() == _SCHEME:
            found.append(current)
        token68 = _TOKEN68.match(line, scheme.end())
        at = scheme.end() if token68 is None else token68.end()


def _take(challenge: PaymentParams, param: re.Match[str]) -> None:
    name = param[1].lower()
    if name in challenge.values:
        challenge.repeated = challenge.repeated or name
    if len(challenge.values) >= MAX_PARAMS:
        raise _GrammarError(f"a challenge has more than {MAX_PARAMS} parameters")
    challenge.values[name] = param[3] if param[2] is None else _ESCAPE.sub(_unescape, param[2])


def _unescape(found: re.Match[str]) -> str:
    r"""A quoted pair's character; a run of `\uXXXX` is UTF-16, which is how SDKs carry what is beyond Latin-1."""
    text = found.group()
    if not text.startswith("\\u") or len(text) == len("\\u"):
        return text[1:]
    units = bytes.fromhex(text.replace("\\u", ""))
    try:
        decoded = units.decode("utf-16-be")
    except UnicodeDecodeError:
        raise _GrammarError("an escape names half a character") from None
    if any(ord(char) < _ASCII for char in decoded):
        # RFC 9110 reads `\u0041` as "u0041", the SDKs as "A": no SDK writes it, so somebody wants two readings.
        raise _GrammarError("an escape that can be read in two ways")
    return decoded
