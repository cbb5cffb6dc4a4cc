"""The real gateway in a process of its own, on a business clock that a test drives, with points at which it can kill itself.

It is `crashing_gateway` with two differences. The time by which vendors bill is the wall clock and what a file says beyond
it, so it goes on over a `kill -9`. And a point is passed around the commit of every command, under the command's own name,
or for a record of the neutral API `Put.<Record>.<event>`: `commit.Put.Server.renewal_begun.after`, or for what is paid to
us `<Command>.<event>`: `commit.PutTopUp.paying.after`.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop
from crashing_gateway import CrashingGateway, Fuse, refit
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE

from gateway.app import Fittings
from gateway.config import load_config
from gateway.core.commands import Put
from gateway.core.paid_commands import MoveRefund, MoveSettlements, PutTopUp
from gateway.serve import serve
from gateway.store.core import StoreCore
from gateway.store.write import write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2e_gateway import GatewayHome

    from gateway.core.book import Rows
    from gateway.core.commands import Command, Result
    from gateway.core.view import Step
    from gateway.graph import Parts

_AHEAD = struct.Struct("<q")  # milliseconds; eight bytes are written and read whole


class BusinessClock:
    """The wall clock and the milliseconds that the file says. Every process that opens the file has the same time."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_AHEAD.pack(0))
        self._file = os.open(path, os.O_RDWR)

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self._ahead_ms()

    async def sleep(self, seconds: float) -> None:
        """Return after about that long in real time."""
        await asyncio.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Push it forward, for everybody."""
        os.pwrite(self._file, _AHEAD.pack(self._ahead_ms() + round(seconds * 1000)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _ahead_ms(self) -> int:
        return int(_AHEAD.unpack(os.pread(self._file, _AHEAD.size, 0))[0])


def naming_core(fuse: Fuse) -> type[StoreCore]:
    """Return the store's core with points around each step of the commit of every command."""

    class NamingCore(StoreCore):
        _names: tuple[str, ...] = ()

        def post(self, commands: Sequence[Command]) -> tuple[list[Result], Step]:
            self._names = tuple(dict.fromkeys(map(_name, commands)))
            return super().post(commands)

        def _commit(self, rows: Rows) -> None:
            self._pass("before")
            write_rows(self.db, rows)
            self._pass("written")
            self.db.execute("COMMIT")
            self._pass("after")

        def _pass(self, step: str) -> None:
            for name in self._names:
                fuse.at(f"commit.{name}.{step}")

    return NamingCore


def _name(command: Command) -> str:
    kind = type(command).__name__
    if isinstance(command, PutTopUp | MoveSettlements | MoveRefund):
        return f"{kind}.{command.event}"
    return f"{kind}.{type(command.record).__name__}.{command.event}" if isinstance(command, Put) else kind


def run(points: Sequence[str], clock: Path, config_path: Path, ready: Path, log: Path) -> None:
    """Serve until the fuse has burnt, or until told to stop; with the ready line and the log in these files."""
    for path, stream in ((ready, sys.stdout), (log, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    environ = {PASSPHRASE_VARIABLE: PASSPHRASE}
    fuse, business = Fuse(points), BusinessClock(clock)

    def driven(parts: Parts) -> Parts:
        return replace(refit(fuse, parts), business=business)

    config = load_config(config_path, environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(serve(config, environ, Fittings(naming_core(fuse), driven))))


class DrivenGateway(CrashingGateway):
    """One such process; without points it lives until it is told to stop."""

    def __init__(self, home: GatewayHome, clock: Path, points: Sequence[str] = ()) -> None:
        self._clock = clock
        super().__init__(home, points)

    def _launch(self) -> None:
        home = self.home
        self._ready = home.directory / f"ready{time.monotonic_ns()}"
        arguments = (self._points, self._clock, home.config, self._ready, home.log_path)
        self._forked = self._context.Process(target=run, args=arguments)
        with self._asking:
            self._forked.start()
