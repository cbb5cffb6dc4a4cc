"""The routes that a page of any origin may call: those where a wallet in a browser pays, signs in, or asks how it stands.

Must not know what the routes do.  Theory: a page is shown an answer, a refusal too, only where the answer itself allows it, so
the headers go with every answer of such a route. No cookie is ever read, so any origin may ask: a page knows no key that its
reader has not given it.
"""

from collections.abc import Iterable
from typing import Final

from gateway.api.endpoint import Endpoint, Handler

__all__ = ["NO_CONTENT", "allowing", "preflight", "readable"]

Headers = tuple[tuple[str, str], ...]

NO_CONTENT: Final = 204
_ORIGIN: Final = ("Access-Control-Allow-Origin", "*")
_EXPOSED_ALWAYS: Final = ("X-Request-Id", "X-Balance-Available", "X-Balance-Low", "Retry-After")
_ASKED_WITH: Final = ("Authorization", "X-Api-Key", "Idempotency-Key", "Content-Type")
# Stock clients send Access-Control-Expose-Headers itself with the paid retry, as if it were a request header.
_SENT_BY_MISTAKE: Final = ("Access-Control-Expose-Headers",)


def readable(*exposed: str) -> Headers:
    """Return what every answer of a route carries; `exposed` are the headers of its own that a page may read."""
    names = dict.fromkeys((*exposed, *_EXPOSED_ALWAYS))
    return (_ORIGIN, ("Access-Control-Expose-Headers", ", ".join(names)))


def allowing(methods: Iterable[str], takes: Iterable[str]) -> Headers:
    """Return what a path's preflight answers: the methods whose answers pages may read, and the headers besides the usual."""
    names = dict.fromkeys((*_ASKED_WITH, *takes, *_SENT_BY_MISTAKE))
    return (
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", ", ".join(names)),
        ("Access-Control-Max-Age", "600"),
    )


def preflight(path: str, summary: str, handler: Handler) -> Endpoint:
    """Return the row that answers a preflight; its handler says what is allowed."""
    return Endpoint("OPTIONS", path, summary, handler, {}, public=True, status=NO_CONTENT, always=(_ORIGIN,))
