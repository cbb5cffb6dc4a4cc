"""Requests' bodies: kept whole up to a limit, passed on as they come beyond it, never beyond the absolute one.

Must not know routes or vendors.  Theory: only a body that was kept can be sent a second time with a payment, so where
money may be asked for the small limit is the whole truth, and everywhere else memory is bounded by it.
"""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gateway.api.deps import ApiSettings
from gateway.core.problems import Problem

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HTTP_1_1 = (1, 1)


class LongBody:
    """The body of a request that is too long to be kept. It can be read once. `oversized` says why it broke off."""

    def __init__(self, request: web.BaseRequest, head: list[bytes], settings: ApiSettings) -> None:
        self._request, self._head, self._settings = request, head, settings
        self.oversized = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what has come already, then the rest. Raises Problem("body_oversized") at the absolute limit."""
        total = 0
        for chunk in self._head:
            total += len(chunk)
            yield chunk
        self._head = []
        while chunk := await _next(self._request, self._settings.body_silence_s):
            total += len(chunk)
            if total > self._settings.stream_bytes:
                self.oversized = True
                raise _oversized(self._settings.stream_bytes)
            yield chunk


async def read_body(request: web.BaseRequest, settings: ApiSettings) -> bytes | LongBody:
    """Return the whole body, or what is needed to pass on a long one.

    Raises Problem: body_oversized for a length above the absolute limit, bad_request for one that breaks off.
    """
    if not request.body_exists:
        return b""
    length = request.content_length
    if length is not None and length > settings.stream_bytes:
        raise _oversized(settings.stream_bytes)
    await _invite(request)
    if length is not None and length > settings.buffer_bytes:
        return LongBody(request, [], settings)
    chunks: list[bytes] = []
    total = 0
    while chunk := await _next(request, settings.body_silence_s):
        chunks.append(chunk)
        total += len(chunk)
        if total > settings.buffer_bytes:
            return LongBody(request, chunks, settings)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_small(request: web.BaseRequest, limit_bytes: int, silence_s: float) -> bytes:
    """Return the body of a request to our own API. Raises Problem("body_oversized") above the limit."""
    settings = ApiSettings(buffer_bytes=limit_bytes, stream_bytes=limit_bytes, body_silence_s=silence_s)
    body = await read_body(request, settings)
    if isinstance(body, LongBody):
        raise _oversized(limit_bytes)
    return body


async def _next(request: web.BaseRequest, silence_s: float) -> bytes:
    """Return the next piece, empty at the end."""
    try:
        async with asyncio.timeout(silence_s):
            return await request.content.readany()
    except TimeoutError:
        raise Problem("bad_request", f"the body fell silent for {silence_s:g} seconds") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Problem("bad_request", "the body broke off") from None


async def _invite(request: web.BaseRequest) -> None:
    """Answer `Expect: 100-continue`: the client waits with its body until then."""
    if request.version >= _HTTP_1_1 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # the answer itself has not begun


def _oversized(limit_bytes: int) -> Problem:
    return Problem("body_oversized", f"the body is larger than {limit_bytes} bytes", extra={"limit_bytes": limit_bytes})
