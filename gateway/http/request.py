"""What a request must be before any byte of it is written.

It must not know who sends it. Theory: a line break in a target or a header is a second request (request smuggling), so
the grammar is checked once, here, for every client, and a request that breaks it is proven not to have been sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gateway.http.port import NotSent

if TYPE_CHECKING:
    from gateway.http.port import UpstreamRequest

__all__ = ["MAX_TARGET_CHARS", "OWN_HEADERS", "check_request"]

MAX_TARGET_CHARS: Final = 16 * 1024

# These say how the message is framed and where it goes; two opinions about that are the attack.
OWN_HEADERS: Final = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)

_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
# Origin form, already encoded; a fragment never travels.
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")


def check_request(request: UpstreamRequest) -> None:
    """Raises NotSent `request_invalid` unless the request is well formed and leaves its framing to the client."""
    if _METHOD.fullmatch(request.method) is None or request.method == "CONNECT":
        raise _invalid("the method")
    if len(request.target) > MAX_TARGET_CHARS or _TARGET.fullmatch(request.target) is None:
        raise _invalid("the target")
    for name, value in request.headers:
        if not _may_be_set(name):
            raise _invalid("a header's name")
        # The first line is what nearly every value is, and costs a quarter of the expression.
        plain = value.isascii() and value.isprintable() and value.strip() == value
        if not plain and _VALUE.fullmatch(value) is None:
            raise _invalid("a header's value")


@lru_cache(maxsize=256)
def _may_be_set(name: str) -> bool:
    return name.lower() not in OWN_HEADERS and _NAME.fullmatch(name) is not None


def _invalid(what: str) -> NotSent:
    return NotSent("request_invalid", f"{what} is not well formed, or not the caller's to set")
