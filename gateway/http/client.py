"""`Upstream` on our own HTTP/1.1 connections: about half of aiohttp's cost, and nothing sent twice in silence.

It must not know prices, rails or agents. Theory: a request's fate is decided by one line, the first `write`: before it
every error is `NotSent`, after it every error is `SentUnknown`.

Why not aiohttp's `ClientSession` (3.14.5): it sends GET, HEAD, OPTIONS, TRACE, PUT and DELETE a second time without
telling, when a connection, fresh or kept, is lost before the answer; and bytes that a vendor sends on an idle
connection become the answer to the next request, which may be another agent's.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.http.egress import REDIRECTS, leaves_origin
from gateway.http.pool import Pool
from gateway.http.port import NotSent, RedirectRefused, SentUnknown, UpstreamResponse
from gateway.http.request import check_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable

    from gateway.http.connection import Connection
    from gateway.http.egress import EgressRule
    from gateway.http.port import UpstreamRequest

__all__ = ["HttpUpstream"]

_ALWAYS_WITH_LENGTH: Final = ("POST", "PUT", "PATCH")


class HttpUpstream:
    """`Upstream` for these rules. Connections are opened on first use, in the running loop, and live until `close`.

    `tls` replaces the system's certificate authorities, for sandboxes and private ones.
    """

    def __init__(self, rules: Iterable[EgressRule], *, tls: ssl.SSLContext | None = None) -> None:
        self._rules = {str(rule.origin): rule for rule in rules}
        if tls is None and any(rule.origin.scheme == "https" for rule in self._rules.values()):
            tls = ssl.create_default_context()
        self._pools = {origin: Pool(rule, tls) for origin, rule in self._rules.items()}

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """See `Upstream.send`."""
        rule = self._rules.get(origin)
        if rule is None:
            raise NotSent("origin_not_allowed", "no egress rule names this origin")
        check_request(request)
        pool = self._pools[origin]
        deadline = asyncio.get_running_loop().time() + rule.timeouts.total_s
        connection = await pool.acquire()
        try:
            if not await self._try_kept(connection, rule, request, deadline):
                pool.release(connection)
                connection = await _acquire_again(pool)
                await _exchange(connection, rule, request, deadline)
            _refuse_redirect(connection, rule, request)
        except BaseException:
            connection.abort()
            pool.release(connection)
            raise
        if not connection.complete:
            connection.extend(asyncio.get_running_loop().time() + rule.timeouts.stream_s)
        return _response(pool, connection)

    async def close(self) -> None:
        """See `Upstream.close`."""
        for pool in self._pools.values():
            pool.close()
        # Transports tell of their end in the loop's next turn.
        await asyncio.sleep(0)

    @staticmethod
    async def _try_kept(connection: Connection, rule: EgressRule, request: UpstreamRequest, deadline: float) -> bool:
        """The exchange, or False if its connection was dead before any answer and the request may be sent again."""
        kept = connection.exchanges > 0
        try:
            await _exchange(connection, rule, request, deadline)
        except SentUnknown as error:
            lost = error.code == "connection_lost" and kept and not connection.answered
            if not (lost and request.may_resend and isinstance(request.body, bytes)):
                raise
            return False
        return True


async def _acquire_again(pool: Pool) -> Connection:
    """A new connection for a second copy; that it cannot leave does not excuse the first, which may have arrived."""
    try:
        return await pool.acquire(fresh=True)
    except NotSent as error:
        raise SentUnknown("connection_lost", "the connection was lost, and could not be opened again") from error


async def _exchange(connection: Connection, rule: EgressRule, request: UpstreamRequest, deadline: float) -> None:
    """Write the request and wait for the answer's head, with as much of its body as was asked for."""
    connection.begin(request.method, request.buffer_bytes, rule.timeouts, deadline, live=request.live)
    if isinstance(request.body, bytes):
        connection.write(_head(rule, request, len(request.body)) + request.body)
        await connection.wait()
        return
    connection.write(_head(rule, request, None))
    pump = asyncio.ensure_future(_pump(connection, request.body))
    answer = asyncio.ensure_future(connection.wait())
    try:
        await asyncio.wait((pump, answer), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and pump.exception() is not None:
            raise SentUnknown("request_body_failed", "the request's body broke off") from pump.exception()
        await answer
    finally:
        if not pump.done():
            # Answered before the request's end: what was not sent will not be, so nothing may follow on this line.
            connection.leave_unfinished()
        for task in (pump, answer):
            task.cancel()
        await asyncio.gather(pump, answer, return_exceptions=True)


async def _pump(connection: Connection, body: AsyncIterable[bytes]) -> None:
    async for chunk in body:
        if chunk:
            connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await connection.writable()
    connection.write(b"0\r\n\r\n")


def _head(rule: EgressRule, request: UpstreamRequest, length: int | None) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1\r\nHost: {rule.origin.authority}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in request.headers]
    if length is None:
        lines.append("Transfer-Encoding: chunked\r\n")
    elif length or request.method in _ALWAYS_WITH_LENGTH:
        lines.append(f"Content-Length: {length}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def _refuse_redirect(connection: Connection, rule: EgressRule, request: UpstreamRequest) -> None:
    if connection.status not in REDIRECTS:
        return
    for name, value in connection.fields:
        if name.lower() == "location" and leaves_origin(rule.origin, request.target, connection.status, value):
            raise RedirectRefused(connection.status)


def _response(pool: Pool, connection: Connection) -> UpstreamResponse:
    """The answer as a record; the connection goes back unless there is more to read."""
    body = connection.take()
    response = UpstreamResponse(
        status=connection.status,
        headers=CIMultiDictProxy(CIMultiDict(connection.fields)),
        body=body,
        rest=None if connection.complete else _Rest(pool, connection),
        delimited=connection.delimited,
    )
    if response.rest is None:
        pool.release(connection)
    return response


class _Rest:
    """The part of a body that is still on its way; holds the connection until its end."""

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self._connection: Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while self._connection is not None and (chunk := await self._connection.more()) is not None:
                yield chunk
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the connection back; one with an unread rest is dropped."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)
