"""The seam to vendors: what is asked of them, what they answered, and what is known when no answer came.

It knows no client library. Theory: for money, an error says one thing only: whether the request may have reached
the vendor. `NotSent` proves that it did not; everything else is `SentUnknown`, and unknown is not failed (P5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from multidict import CIMultiDictProxy

__all__ = [
    "BodyStream",
    "NotSent",
    "RedirectRefused",
    "SentUnknown",
    "Upstream",
    "UpstreamError",
    "UpstreamRequest",
    "UpstreamResponse",
]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request to a vendor.

    `target` is path and query exactly as they go on the wire, already encoded, starting with "/". `headers` are
    sent as they are, but for Host, Content-Length, Transfer-Encoding and Connection, which belong to the client. A
    `body` that is not bytes is streamed once. Up to `buffer_bytes` of the answer's body are read before `send`
    returns.

    `may_resend` says that the vendor may see this request twice: then, and only then, it is sent once more when a
    kept-alive connection proves to be dead before any byte of an answer. False for whatever carries a credential.

    `live` says that somebody waits for every piece: a good answer whose length is not stated (events, a log) is
    returned as soon as its head is there.

    Target, headers and body hold credentials, and so are in no repr (P10).
    """

    method: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | AsyncIterable[bytes] = field(default=b"", repr=False)
    buffer_bytes: int = 1024 * 1024
    may_resend: bool = False
    live: bool = False


class BodyStream(Protocol):
    """The part of an answer's body that `send` did not wait for. Iterate it to its end, or close it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Chunks in order; raises SentUnknown if the body breaks off or takes too long."""
        ...

    async def close(self) -> None:
        """Give up the rest, and the connection with it. Closing twice does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A vendor's answer. `body` is whole when `rest` is None; else `rest` goes on where it ends.

    `delimited` is False when only the closing of the connection marked the body's end: it may have been cut off
    unnoticed. The body is as the vendor encoded it; like the headers it may hold passwords and tokens, and so is in no
    repr (P10).
    """

    status: int
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes = field(repr=False)
    rest: BodyStream | None = None
    delimited: bool = True


def is_success(status: int) -> bool:
    """Say whether an answer's status is one of the successes (RFC 9110 15.3)."""
    return 200 <= status < 300  # noqa: PLR2004 - the class is its first digit


class UpstreamError(Exception):
    """No usable answer. `code` is stable; the message names no target, header or body, for they hold tokens."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class NotSent(UpstreamError):  # noqa: N818 - it is a fact about a request, the one that callers decide by
    """No byte of the request has left this process.

    Codes: `origin_not_allowed`, `address_refused`, `request_invalid`, `connect_failed`,
    `connect_timeout`, `tls_failed`, `closed`.
    """


class SentUnknown(UpstreamError):  # noqa: N818 - the opposite fact
    """The vendor may have got the request, and may have acted on it.

    Codes: `connection_lost`, `first_byte_timeout`, `body_timeout`, `total_timeout`, `truncated_body`,
    `malformed_answer`, `request_body_failed`, `redirect_refused`.
    """


class RedirectRefused(SentUnknown):
    """The vendor answered with a redirect to another origin; nothing was sent there."""

    def __init__(self, status: int) -> None:
        super().__init__("redirect_refused", f"the vendor answered {status} with a redirect to another origin")
        self.status = status


class Upstream(Protocol):
    """Sends requests to vendors, by the origin that their egress rule names."""

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """The vendor's answer, whatever its status. Never follows a redirect, keeps no cookie, decodes nothing.

        Raises NotSent or SentUnknown. Cancelling it leaves the request's fate unknown, like SentUnknown.
        """
        ...

    async def close(self) -> None:
        """Close every connection. Requests under way end with SentUnknown, later ones with NotSent."""
        ...
