"""The connections to one vendor: opened where its rule allows, kept, bounded, and handed to who waits longest.

It must not know requests. Theory: everything here happens before a request is written, so every error is `NotSent`; and
the bound per vendor keeps a slow one from taking the sockets of the others.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.http.connection import Connection
from gateway.http.egress import address_allowed
from gateway.http.port import NotSent

if TYPE_CHECKING:
    from gateway.http.egress import EgressRule

__all__ = ["KEEPALIVE_S", "Pool", "resolve"]

KEEPALIVE_S: Final = 15.0
"""Idle time after which a connection is not used again: many servers drop theirs soon after, and in silence."""

MAX_ADDRESSES: Final = 6


class Pool:
    """Connections for one egress rule. `acquire`, then `release` exactly once."""

    def __init__(self, rule: EgressRule, tls: ssl.SSLContext | None) -> None:
        self._rule = rule
        self._tls = tls
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._dialing = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """A connection that nothing is under way on; with `fresh`, a new one. Raises NotSent within `connect_s`."""
        if self._closed:
            raise NotSent("closed", "the client is closed")
        if not fresh and (kept := self._pop_idle()) is not None:
            return kept
        try:
            async with asyncio.timeout(self._rule.timeouts.connect_s):
                return await self._next(fresh=fresh)
        except TimeoutError as error:
            raise NotSent("connect_timeout", "no free connection to the vendor in time") from error

    def release(self, connection: Connection) -> None:
        """Take a connection back after its exchange; it is kept if it may be."""
        if not connection.end():
            self._forget(connection)
        elif self._closed:
            connection.close_idle()
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Drop every connection, and turn away who waits."""
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(NotSent("closed", "the client is closed"))
        for connection in tuple(self._open):
            connection.abort()

    def _pop_idle(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - KEEPALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.idle_since > oldest and connection.is_quiet():
                return connection
            connection.close_idle()
            self._forget(connection)
        return None

    async def _next(self, *, fresh: bool) -> Connection:
        """A new connection where there is room, else the first that becomes free."""
        waited = False
        while len(self._open) + self._dialing >= self._rule.max_connections:
            if fresh and self._idle:
                unwanted = self._idle.pop()
                unwanted.close_idle()
                self._forget(unwanted)
                continue
            handed = await self._wait(first=waited)
            waited = True
            if handed is not None and not fresh and handed.is_open:
                return handed
            if handed is not None:
                handed.close_idle()
                self._forget(handed)
        self._dialing += 1
        try:
            connection = await self._dial()
        except BaseException:
            self._dialing -= 1
            self._let_in()
            raise
        self._dialing -= 1
        if self._closed:
            connection.abort()
            raise NotSent("closed", "the client is closed")
        self._open.add(connection)
        return connection

    async def _wait(self, *, first: bool) -> Connection | None:
        """A connection that was handed over, or None: there may be room for a new one. `first` keeps an earlier place."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(waiter)
        else:
            self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Handed over at the moment of giving up: it goes to the next in the queue.
                handed = waiter.result()
                if handed is None:
                    self._let_in()
                else:
                    self._hand_on(handed)
            raise

    def _hand_on(self, connection: Connection) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _let_in(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)

    def _forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._let_in()

    def _on_lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._forget(connection)

    async def _dial(self) -> Connection:
        """Connect to the first address that answers, of those that the rule allows."""
        addresses = await resolve(self._rule)
        limit = asyncio.get_running_loop().time() + self._rule.timeouts.connect_s
        last: NotSent | None = None
        for index, address in enumerate(addresses):
            share = (limit - asyncio.get_running_loop().time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout(share):
                    return await self._connect(address)
            except TimeoutError:
                last = NotSent("connect_timeout", "no connection to the vendor in time")
            except (ssl.SSLError, ssl.CertificateError) as error:
                raise NotSent("tls_failed", "no TLS connection to the vendor") from error
            except OSError:
                last = NotSent("connect_failed", "no connection to the vendor")
        raise last if last is not None else NotSent("connect_failed", "the vendor's name has no address")

    async def _connect(self, address: str) -> Connection:
        loop = asyncio.get_running_loop()
        origin = self._rule.origin
        secure: dict[str, Any] = {}
        if origin.scheme == "https":
            secure = {"ssl": self._tls, "server_hostname": origin.connect_host}
        _, connection = await loop.create_connection(
            lambda: Connection(loop, self._on_lost), host=address, port=origin.port, **secure
        )
        return connection


async def resolve(rule: EgressRule) -> list[str]:
    """Return the addresses that the rule's origin means now, of those that it allows. Raises NotSent.

    The address that is checked is the address that is connected to: no second look-up can differ (DNS rebinding).
    """
    origin = rule.origin
    loop = asyncio.get_running_loop()
    try:
        if rule.resolver is None:
            found = await loop.getaddrinfo(origin.connect_host, origin.port, type=socket.SOCK_STREAM)
        else:
            look_up = partial(socket.getaddrinfo, origin.connect_host, origin.port, type=socket.SOCK_STREAM)
            found = await loop.run_in_executor(rule.resolver, look_up)
    except (OSError, UnicodeError) as error:
        raise NotSent("connect_failed", "the vendor's name does not resolve") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    allowed = [address for address in addresses if address_allowed(rule, address)]
    if addresses and not allowed:
        raise NotSent("address_refused", "the vendor's name leads to an address that is not public")
    return allowed[:MAX_ADDRESSES]
