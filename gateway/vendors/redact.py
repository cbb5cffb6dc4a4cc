"""A vendor's answer made fit for its agent: the vendor's own credential replaced by the surrogate wherever it stands.

Must not know routes or statuses.  Theory: what the agent never had it cannot leak or use behind the gateway's back; so
every string of a document is searched after decoding, and what cannot be read is searched as bytes and loses the value.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeGuard
from urllib.parse import quote

from gateway.core.strict_json import map_strings
from gateway.vendors.query import SCRUBBED

__all__ = [
    "MAX_TOKENS",
    "MAX_TOKEN_CHARS",
    "MIN_TOKEN_ALPHANUMERICS",
    "TooManyTokensError",
    "is_token",
    "redact_document",
    "redact_unreadable",
]

MIN_TOKEN_ALPHANUMERICS: Final = 8  # fewer would occur by chance in other strings, and have too few surrogates
MAX_TOKEN_CHARS: Final = 1024
MAX_TOKENS: Final = 16

_PRINTABLE: Final = re.compile(rf"[!-~]{{1,{MAX_TOKEN_CHARS}}}", re.ASCII)
_VARIED: Final = re.compile(rf"(?:[^0-9A-Za-z]*+[0-9A-Za-z]){{{MIN_TOKEN_ALPHANUMERICS}}}", re.ASCII)
_IN_URL: Final = re.compile(r"(token(?:=|%3d))([^\s&;#\"'<>\\]+)", re.IGNORECASE)
_MEMBER_BYTES: Final = re.compile(rb'("root_token"\s*+:\s*+")(?:[^"\\]++|\\.)*+', re.DOTALL)
_IN_URL_BYTES: Final = re.compile(rb"(token(?:=|%3d))[^\s&;#\"'<>\\]+", re.IGNORECASE)


class TooManyTokensError(ValueError):
    """A document tells more credentials than any answer has; the message names none."""


def is_token(value: object) -> TypeGuard[str]:
    """Tell whether a value can serve as a credential that has a surrogate: printable ASCII, no space, long enough."""
    return isinstance(value, str) and _PRINTABLE.fullmatch(value) is not None and _VARIED.match(value) is not None


def redact_document(text: str, document: object, member: str, surrogate: Callable[[str], str]) -> str:
    """Return a parsed JSON text with the value of every `member` replaced by its surrogate, also inside other strings.

    A value that is no token becomes ***, and so does what a URL in any string carries as its `token`. Raises
    TooManyTokensError for more than MAX_TOKENS: searching every string for each would be a way to stop the gateway.
    """
    tokens = set(_values(document, member)) - {""}
    if len(tokens) > MAX_TOKENS:
        raise TooManyTokensError(f"more than {MAX_TOKENS} tokens in one document")
    shown = {value: surrogate(value) if is_token(value) else SCRUBBED for value in tokens}
    # The longer first: no half of one that begins with another is left.
    reals = sorted(filter(is_token, tokens), key=len, reverse=True)
    swaps = [swap for real in reals for swap in _spellings(real, shown[real])]
    surrogates = tuple({put for _, put in swaps})

    def in_url(found: re.Match[str]) -> str:
        kept = bool(surrogates) and found.group(2).startswith(surrogates)
        return found.group() if kept else found.group(1) + SCRUBBED

    def change(value: str) -> str:
        if value in shown:
            return shown[value]
        for find, put in swaps:
            value = value.replace(find, put)
        return _IN_URL.sub(in_url, value)

    return map_strings(text, change)


def redact_unreadable(raw: bytes) -> bytes:
    """Return bytes that are no JSON (an error page, a body cut off) without a root token's value or a URL's token."""
    replacement = rb"\1" + SCRUBBED.encode()
    return _IN_URL_BYTES.sub(replacement, _MEMBER_BYTES.sub(replacement, raw))


def _spellings(real: str, put: str) -> Iterator[tuple[str, str]]:
    yield real, put
    encoded = quote(real, safe="")
    if encoded != real:
        yield encoded, quote(put, safe="")


def _values(document: Any, member: str) -> Iterator[str]:  # noqa: ANN401 - JSON's own type
    if isinstance(document, dict):
        for name, value in document.items():
            if name == member and isinstance(value, str):
                yield value
            yield from _values(value, member)
    elif isinstance(document, list):
        for value in document:
            yield from _values(value, member)
