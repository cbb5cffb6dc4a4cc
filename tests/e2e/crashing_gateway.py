"""The real gateway in a process of its own, with points at which it kills itself.

Points are passed in the order in which they are given, and the process dies by SIGKILL at the last. Nothing else differs
from `python -m gateway serve`: the same loop, parts and graph, each part behind a wrapper that only counts. Processes are
forked from one that has imported everything, for the imports take longer than all the rest.

    sign.before/after              the wallet's signature of an authorization
    commit.<Command>.before        a group that holds the command is decided, nothing of it was written
    commit.<Command>.written       its rows are written, COMMIT was not sent
    commit.<Command>.after         COMMIT has returned, nobody was told
    mark.before/after              the signer's record of the journal's height
    send.before, send.after        a request to the vendor is about to leave; its answer has arrived
    answer.before/after            the agent's answer is about to be written; all of it was taken by the socket
    chain.<method>.before/after    a question to the chain by the tracker
    relay.send.before/after        a relayer's transaction goes to the chain
    broadcast.send.before/after    a transaction of a payer's, or of a wallet's, goes to the chain as it is
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvloop
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from e2e_gateway import READY_TIMEOUT_S, STOP_TIMEOUT_S, Gateway

from gateway.api import proxy
from gateway.app import Fittings
from gateway.config import load_config
from gateway.core.commands import MarkAnswered, Purchase, RecordDead, RecordOutcome, RecordSettled
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

COUNTED = (Purchase, RecordOutcome, MarkAnswered, RecordSettled, RecordDead)


class Fuse:
    """The points that are still to be passed. Threads pass points too: the store's, first of all."""

    def __init__(self, points: Sequence[str]) -> None:
        self._left = deque(points)
        self._lock = threading.Lock()

    def at(self, point: str) -> None:
        """Pass a point; do not return from the last."""
        with self._lock:
            if self._left and self._left[0] == point:
                self._left.popleft()
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)


def counting_core(fuse: Fuse) -> type[StoreCore]:
    """Return the store's core with points around each step of a commit."""

    class CountingCore(StoreCore):
        _names: tuple[str, ...] = ()

        def post(self, commands: Sequence[Command]) -> tuple[list[Result], Step]:
            kinds = {type(command) for command in commands}
            self._names = tuple(kind.__name__ for kind in COUNTED if kind in kinds)
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

    return CountingCore


class Counted:
    """Any part, with points before and after some of its methods."""

    def __init__(self, part: Any, fuse: Fuse, points: dict[str, str]) -> None:
        self._part, self._fuse, self._points = part, fuse, points

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        point = self._points.get(name)
        if point is None:
            return found
        fuse = self._fuse

        def call(*arguments: Any, **named: Any) -> Any:
            fuse.at(f"{point}.before")
            result = found(*arguments, **named)
            fuse.at(f"{point}.after")
            return result

        async def wait(*arguments: Any, **named: Any) -> Any:
            fuse.at(f"{point}.before")
            result = await found(*arguments, **named)
            fuse.at(f"{point}.after")
            return result

        return wait if asyncio.iscoroutinefunction(found) else call


def refit(fuse: Fuse, parts: Parts) -> Parts:
    """Return the parts, each behind its counter."""
    questions = {name: f"chain.{name}" for name in ("receipt", "authorization_used")}
    wrapped: dict[str, Any] = {
        "signers": {a: Counted(s, fuse, {"sign_authorization": "sign"}) for a, s in parts.signers.items()},
        "upstream": Counted(parts.upstream, fuse, {"send": "send"}),
        "watermark": Counted(parts.watermark, fuse, {"record": "mark"}),
        "chains": {chain_id: Counted(chain, fuse, questions) for chain_id, chain in parts.chains.items()},
        "relays": {chain_id: Counted(relay, fuse, {"send": "relay.send"}) for chain_id, relay in parts.relays.items()},
        "broadcasters": {
            chain_id: Counted(each, fuse, {"send_raw": "broadcast.send"})
            for chain_id, each in parts.broadcasters.items()
        },
    }
    return replace(parts, **wrapped)


def count_answers(fuse: Fuse) -> None:
    """Put points around the writing of answers that cost money."""
    write = proxy.write_whole

    async def counted(*arguments: Any) -> bool:
        fuse.at("answer.before")
        whole = await write(*arguments)
        fuse.at("answer.after")
        return whole

    proxy.write_whole = counted


def run(points: Sequence[str], config_path: Path, ready: Path, log: Path) -> None:
    """Serve until the fuse has burnt, or until told to stop; with the ready line and the log in these files."""
    for path, stream in ((ready, sys.stdout), (log, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    environ = {PASSPHRASE_VARIABLE: PASSPHRASE}
    fuse = Fuse(points)
    count_answers(fuse)
    fittings = Fittings(counting_core(fuse), lambda parts: refit(fuse, parts))
    config = load_config(config_path, environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(serve(config, environ, fittings)))


class CrashingGateway(Gateway):
    """One such process; without points it lives until it is told to stop."""

    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(["pytest", "uvloop", "gateway.serve"])
    # Starting a process asks after every other, and an exit code can be read only once: not from two threads.
    _asking = threading.Lock()

    def __init__(self, home: GatewayHome, points: Sequence[str] = ()) -> None:
        self._points = tuple(points)
        super().__init__(home)

    def _launch(self) -> None:
        home = self.home
        self._ready = home.directory / f"ready{time.monotonic_ns()}"
        arguments = (self._points, home.config, self._ready, home.log_path)
        self._forked = self._context.Process(target=run, args=arguments)
        with self._asking:
            self._forked.start()

    def _alive(self) -> bool:
        with self._asking:
            return self._forked.is_alive()

    def _ready_line(self) -> str:
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < give_up_at and self._alive():
            line = self._ready.read_text() if self._ready.exists() else ""
            if line.endswith("\n"):
                return line
            time.sleep(0.02)
        return ""

    def wait_end(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code, negative for a signal. Raises TimeoutError."""
        give_up_at = time.monotonic() + timeout_s
        while self._alive():
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"still alive:\n{self.home.log()[-4000:]}")
            time.sleep(0.02)
        with self._asking:
            return int(self._forked.exitcode or 0)

    def stop(self) -> int:
        """End it as a supervisor does, and return its exit code."""
        self._forked.terminate()
        try:
            return self.wait_end(STOP_TIMEOUT_S)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        """End it at once, wherever it is."""
        self._forked.kill()
        return self.wait_end(STOP_TIMEOUT_S)
