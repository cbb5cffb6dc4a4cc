"""Answers as aiohttp's objects: documents, problems, and the careful end of an answer that cost money.

Must not know routes.  Theory: a purchase is answered when its agent has the whole answer; the nearest that can be known
is that the socket took every byte while the connection stood, so that is waited for, and anything less leaves the answer
to be asked for again.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal

from aiohttp import web
from multidict import CIMultiDict

from gateway.api.exchange import Exchange
from gateway.core.problems import Problem
from gateway.ports import Store

PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = "application/json"
FLUSH_STEP_S = 0.005
GONE_STEP_S = 1.0  # how soon it is noticed that the reader of a stream is gone, while there is nothing to write
NO_STORE = ("Cache-Control", "no-store")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_UNAUTHORIZED, _UNAVAILABLE, _TOO_MANY = 401, 503, 429


def encode(document: object) -> bytes:
    """Return a document as JSON."""
    return _encode(document).encode("utf-8")


# What does not end by itself in a second; each try also reaches the vendor.
_RETRY_AFTER_S = {
    "frozen": 300,
    "billing_rule_unset": 300,
    "wallet_exhausted": 60,
    "vendor_account_empty": 60,
    "vendor_account_full": 60,
    "price_untold": 60,
    "exposure_capped": 30,
    "too_many_open_payments": 30,
    "till_short": 60,
    "inventory_capped": 60,
    "facilitator_unavailable": 5,
}


def answer(exchange: Exchange, store: Store, status: int, body: bytes, *headers: tuple[str, str]) -> web.Response:
    """Return an answer of our own; its Content-Type is among the headers, JSON if not."""
    all_headers = CIMultiDict([*exchange.own_headers(store), *headers])
    all_headers.setdefault("Content-Type", JSON_TYPE)
    return web.Response(status=status, headers=all_headers, body=body)


def stream_answer(exchange: Exchange, store: Store, status: int, *headers: tuple[str, str]) -> web.StreamResponse:
    """Return an answer of our own whose body is yet to come."""
    return web.StreamResponse(status=status, headers=CIMultiDict([*exchange.own_headers(store), *headers]))


def problem_answer(exchange: Exchange, store: Store, problem: Problem) -> web.Response:
    """Return the RFC 9457 document of a problem, with the headers that its status calls for."""
    document = {**problem.document(), "code": problem.code, "request_id": exchange.request_id}
    headers = [("Content-Type", PROBLEM_TYPE), NO_STORE]
    if problem.status == _UNAUTHORIZED:
        headers.append(("WWW-Authenticate", 'Bearer realm="gateway", Basic realm="gateway"'))
    if problem.status in {_UNAVAILABLE, _TOO_MANY}:
        wait_s = problem.extra.get("retry_after_s", _RETRY_AFTER_S.get(problem.code, 1))
        headers.append(("Retry-After", str(wait_s)))
    if "allow" in problem.extra:
        headers.append(("Allow", ", ".join(problem.extra["allow"])))
    payment_id = problem.extra.get("payment_id")
    if isinstance(payment_id, str):
        exchange.payment_id = payment_id
        headers.append(("X-Payment-Id", payment_id))
    return answer(exchange, store, problem.status, encode(document), *headers)


async def write_whole(request: web.BaseRequest, response: web.StreamResponse, flush_s: float) -> bool:
    """Write an answer to its end; False unless the socket took all of it in time while the connection stood."""
    try:
        await response.prepare(request)
        await response.write_eof()
        if _is_flushed(request):  # what is small goes out at once
            return True
        async with asyncio.timeout(flush_s):
            while (transport := request.transport) is not None and not transport.is_closing():
                if transport.get_write_buffer_size() == 0:
                    return True
                await asyncio.sleep(FLUSH_STEP_S)
    except (ConnectionError, TimeoutError):
        return False
    return False


def _is_flushed(request: web.BaseRequest) -> bool:
    """Say whether the socket has taken every byte while the connection stood."""
    transport = request.transport
    return transport is not None and not transport.is_closing() and transport.get_write_buffer_size() == 0


async def write_stream(
    request: web.BaseRequest,
    response: web.StreamResponse,
    pieces: AsyncIterator[bytes],
    stop: asyncio.Event,
    flush_s: float,
) -> bool:
    """Write an answer piece by piece until there are no more, or `stop` is set; False where its reader was cut off.

    A reader that takes nothing for `flush_s` is: what waits for it is never more than a socket's buffer and one piece.
    What the pieces raise is raised; they are closed in every case.
    """
    stopping = asyncio.ensure_future(stop.wait())
    try:
        async with contextlib.aclosing(_until(request, pieces, stopping)) as coming:
            await response.prepare(request)
            async for piece in coming:
                async with asyncio.timeout(flush_s):
                    await response.write(piece)
            await response.write_eof()
    except (ConnectionError, TimeoutError):
        cut_off(request)
        return False
    finally:
        stopping.cancel()
        await close_stream(pieces)
    return True


async def _until(
    request: web.BaseRequest, pieces: AsyncIterator[bytes], stopping: "asyncio.Future[Literal[True]]"
) -> AsyncGenerator[bytes]:
    """Yield the pieces until they end, or it is time to stop. Raises ConnectionError once the reader has hung up."""
    coming: asyncio.Future[bytes] | None = None
    try:
        while not stopping.done():
            coming = asyncio.ensure_future(anext(pieces))
            while not (coming.done() or stopping.done()):
                await asyncio.wait((coming, stopping), return_when=asyncio.FIRST_COMPLETED, timeout=GONE_STEP_S)
                if request.transport is None:
                    raise ConnectionResetError("the reader has hung up")
            if not coming.done():
                return
            try:
                piece = coming.result()
            except StopAsyncIteration:
                return
            yield piece
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await close_stream(pieces)  # before the answer is ended: pieces that are no whole without the rest raise here


async def close_stream(pieces: AsyncIterator[bytes]) -> None:
    """Let go of what the pieces would have come from; a generator that was not begun has nothing to let go of."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


def cut_off(request: web.BaseRequest) -> None:
    """Break the connection, so that nobody takes half an answer for a whole one."""
    if request.transport is not None:
        request.transport.abort()
