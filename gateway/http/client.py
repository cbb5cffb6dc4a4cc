"""`Upstream` on aiohttp: one long-lived session per vendor, and no request sent twice in silence.

It must not know prices, rails or agents. Theory: a session is a pool of connections, so one vendor's slowness
cannot take another's; and every way in which aiohttp fails is translated into the one question that money asks,
whether the request may have left.

What was found in aiohttp 3.14.5: `ClientSession` sends GET, HEAD, OPTIONS, TRACE, PUT and DELETE a second time,
without telling, when the connection is lost (ClientOSError, ServerDisconnectedError) before an answer, on a fresh
connection as on a kept-alive one. `_no_silent_resend` ends that: it turns those errors into ours below the retry
loop, through the public middleware interface. Sending again is then our decision, made only where
`UpstreamRequest.may_resend` allows it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.http.egress import leaves_origin
from gateway.http.port import NotSent, RedirectRefused, SentUnknown, UpstreamError, UpstreamResponse
from gateway.http.request import check_request
from gateway.http.connect import AddressRefusedError, socket_factory

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable

    from gateway.http.egress import EgressRule
    from gateway.http.port import UpstreamRequest

__all__ = ["AiohttpUpstream"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""One header field of an answer: a challenge travels in one, and aiohttp's default of 8 190 breaks payments."""

MAX_ANSWER_HEADERS: Final = 128
KEEPALIVE_S: Final = 15.0
_FIRST_FINAL_STATUS: Final = 200
_BODILESS: Final = (204, 304)
_OWN_DEFAULTS: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class AiohttpUpstream:
    """`Upstream` over aiohttp. Sessions are opened on first use, in the running loop, and live until `close`."""

    def __init__(self, rules: Iterable[EgressRule], *, tls: ssl.SSLContext | None = None) -> None:
        self._rules = {str(rule.origin): rule for rule in rules}
        self._tls: ssl.SSLContext | Literal[True] = tls if tls is not None else True
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._closed = False

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """See `Upstream.send`."""
        rule = self._rules.get(origin)
        if rule is None:
            raise NotSent("origin_not_allowed", "no egress rule names this origin")
        check_request(request)
        url = URL(f"{origin}{request.target}", encoded=True)
        if url.raw_path_qs != request.target:
            raise NotSent("request_invalid", "the target would not arrive byte for byte")
        deadline = asyncio.get_running_loop().time() + rule.timeouts.total_s
        answer, sends = await self._send_head(rule, url, request, deadline)
        try:
            return await _read(answer, request, rule, deadline, sends)
        except BaseException:
            answer.close()
            raise

    async def close(self) -> None:
        """See `Upstream.close`."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()

    async def _send_head(
        self, rule: EgressRule, url: URL, request: UpstreamRequest, deadline: float
    ) -> tuple[aiohttp.ClientResponse, int]:
        """The answer's head, and how often the request left for it."""
        try:
            return await self._attempt(rule, url, request, deadline), 1
        except SentUnknown as error:
            if error.code != "connection_lost" or not request.may_resend or not isinstance(request.body, bytes):
                raise
        try:
            return await self._attempt(rule, url, request, deadline), 2
        except NotSent as error:
            # The second copy did not leave, but the first may have.
            raise SentUnknown("connection_lost", "the connection was lost, and could not be opened again") from error

    async def _attempt(
        self, rule: EgressRule, url: URL, request: UpstreamRequest, deadline: float
    ) -> aiohttp.ClientResponse:
        session = self._session(rule)
        limit = asyncio.get_running_loop().time() + rule.timeouts.connect_s + rule.timeouts.first_byte_s
        try:
            async with asyncio.timeout_at(min(limit, deadline)):
                return await session.request(
                    request.method,
                    url,
                    headers=CIMultiDict(request.headers),
                    data=request.body or None,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _translate(error, "first_byte_timeout" if limit < deadline else "total_timeout") from error

    def _session(self, rule: EgressRule) -> aiohttp.ClientSession:
        if self._closed:
            raise NotSent("closed", "the client is closed")
        key = str(rule.origin)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _open_session(rule, self._tls)
        return session


def _open_session(rule: EgressRule, tls: ssl.SSLContext | Literal[True]) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=rule.max_connections,
        keepalive_timeout=KEEPALIVE_S,
        socket_factory=socket_factory(rule),
        ssl=tls,
    )
    return aiohttp.ClientSession(
        connector=connector,
        # Only the connecting is aiohttp's to bound: its error then proves that nothing was sent.
        timeout=aiohttp.ClientTimeout(connect=rule.timeouts.connect_s, sock_connect=rule.timeouts.connect_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_field_size=MAX_HEAD_BYTES,
        max_line_size=MAX_HEAD_BYTES,
        max_headers=MAX_ANSWER_HEADERS,
        skip_auto_headers=_OWN_DEFAULTS,
        middlewares=(_no_silent_resend,),
    )


async def _no_silent_resend(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Raise what aiohttp would answer with a second sending as ours, which it does not retry."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise SentUnknown("connection_lost", "the connection was lost before the answer") from error


async def _read(
    answer: aiohttp.ClientResponse, request: UpstreamRequest, rule: EgressRule, deadline: float, sends: int
) -> UpstreamResponse:
    if answer.status < _FIRST_FINAL_STATUS:
        raise SentUnknown("malformed_answer", "the vendor switched protocols unasked")
    if leaves_origin(rule.origin, request.target, answer.status, answer.headers.get("Location")):
        raise RedirectRefused(answer.status)
    stream = _Body(answer, rule.timeouts.body_s, deadline)
    chunks: list[bytes] = []
    missing = request.buffer_bytes
    rest: _Body | None = None
    while (chunk := await stream.next()) is not None:
        missing -= len(chunk)
        chunks.append(chunk)
        if missing <= 0:
            rest = stream
            break
    return UpstreamResponse(
        status=answer.status,
        headers=answer.headers,
        body=b"".join(chunks),
        rest=rest,
        delimited=_is_delimited(request.method, answer),
        sends=sends,
    )


def _is_delimited(method: str, answer: aiohttp.ClientResponse) -> bool:
    if method == "HEAD" or answer.status in _BODILESS:
        return True
    return "Content-Length" in answer.headers or "chunked" in answer.headers.get("Transfer-Encoding", "").lower()


class _Body:
    """An answer's body, read with a limit on silence and one on the whole."""

    def __init__(self, answer: aiohttp.ClientResponse, silence_s: float, deadline: float) -> None:
        self._answer = answer
        self._silence_s = silence_s
        self._deadline = deadline

    async def next(self) -> bytes | None:
        """The next bytes, None at the body's true end. Raises SentUnknown if it breaks off."""
        limit = asyncio.get_running_loop().time() + self._silence_s
        try:
            async with asyncio.timeout_at(min(limit, self._deadline)):
                return await self._answer.content.readany() or None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._answer.close()
            raise _translate(error, "body_timeout" if limit < self._deadline else "total_timeout") from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self.next()) is not None:
            yield chunk

    async def close(self) -> None:
        self._answer.close()


def _translate(error: aiohttp.ClientError | OSError, timeout_code: str) -> UpstreamError:
    """What an error of aiohttp says about the request's fate. Messages are ours: aiohttp's repeat URLs and headers."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return NotSent("tls_failed", "no TLS connection to the vendor")
        case aiohttp.ConnectionTimeoutError():
            return NotSent("connect_timeout", "no free connection to the vendor in time")
        case aiohttp.ClientConnectorError():
            if isinstance(error.os_error, AddressRefusedError):
                return NotSent("address_refused", "the vendor's name leads to an address that is not public")
            return NotSent("connect_failed", "no connection to the vendor")
        case TimeoutError():
            return SentUnknown(timeout_code, "the vendor did not answer in time")
        case aiohttp.ClientPayloadError():
            return SentUnknown("truncated_body", "the answer's body broke off")
        case aiohttp.ClientResponseError():
            return SentUnknown("malformed_answer", "the answer is not well-formed HTTP, or its head is too large")
    return SentUnknown("connection_lost", "the connection was lost before the answer was complete")
