"""The boxes on rent: real listening sockets on loopback addresses of their own, all on one SSH port.

A box that is up accepts TCP and greets like an SSH server; one that is down refuses. It knows nothing of rentals or
money.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections import Counter
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BANNER = b"SSH-2.0-VpsAgentBox_1.0\r\n"


class Boxes:
    """Gives out addresses and opens and closes the sockets behind them."""

    def __init__(self, ssh_port: int) -> None:
        # A random start keeps several vendors on one machine apart.
        self._next = ipaddress.IPv4Address("127.16.0.0") + random.randrange(200 << 16)
        self._servers: dict[str, asyncio.Server] = {}
        self.connects: Counter[str] = Counter()
        """How often somebody got through to a box, by address: the proof that it was really probed."""
        self.ssh_port = ssh_port or _free_port()

    def allocate(self) -> str:
        """A loopback address that no other box of this vendor has."""
        self._next += 1
        return str(self._next)

    def is_up(self, address: str) -> bool:
        """Whether the box's socket is open."""
        return address in self._servers

    async def bring_up(self, address: str) -> None:
        """Open the box's port; does nothing when it is open."""
        if address not in self._servers:
            greet = partial(self._greet, address)
            self._servers[address] = await asyncio.start_server(greet, address, self.ssh_port)

    def take_down(self, address: str) -> None:
        """Close the box's port; does nothing when it is closed."""
        server = self._servers.pop(address, None)
        if server is not None:
            server.close()

    def take_down_all(self, but: Iterable[str] = ()) -> None:
        """Close every box that is not in `but`."""
        for address in set(self._servers) - set(but):
            self.take_down(address)

    async def reachable(self, address: str, timeout_s: float) -> bool:
        """A real TCP connect to the box's port."""
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(address, self.ssh_port)
        except OSError:  # TimeoutError is one
            return False
        writer.close()
        return True

    async def _greet(self, address: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects[address] += 1
        writer.write(_BANNER)
        try:
            await writer.drain()
        except ConnectionError:
            return  # whoever probed the port has gone, which is what probes do
        finally:
            writer.close()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
