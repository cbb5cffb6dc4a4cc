"""Telling on real parts: a store on disk, a courier on real sockets, receivers that are aiohttp servers on loopback.

Only the clock is driven, so that days of retries pass at once; reopening the bed is a restart of the process.
"""

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.core.commands import AddKey, CreditAccount, Done, OpenAccount, Put
from gateway.core.events import Event, event_id
from gateway.core.records import AgentAccount
from gateway.core.server import Hook, HookDelivery, Server, ServerState
from gateway.flow.servers.hooks import Asked, HookSettings
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.telling import Telling
from gateway.http.courier import Courier, timeouts_of
from gateway.store.sqlite import SqliteStore
from gateway.store.told import TellableJournal
from gateway.system import SystemEntropy
from tests.factories import make_key, make_server
from wallets.sealing import Sealer
from wallets.secret import Secret

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@dataclass
class DrivenClock:
    """A wall clock that moves when it is told to. It starts now, for the reference library reads the real one."""

    at_ms: int

    def now_ms(self) -> int:
        return self.at_ms

    async def sleep(self, seconds: float) -> None:
        self.at_ms += int(seconds * 1000)
        await asyncio.sleep(0)

    def pass_s(self, seconds: float) -> None:
        self.at_ms += int(seconds * 1000)


@dataclass
class Received:
    """One delivery as it came."""

    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])


@dataclass
class Receiver:
    """An endpoint: answers with `status` and `headers`, after `gate` opens where it is shut.

    Types of events can have a gate of their own (`gates`), and statuses that come first (`answers`).
    """

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    got: list[Received] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, (await request.read()).decode())
        self.got.append(received)
        self.came.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gates.get(received.type, self.gate).wait()
        finally:
            self.at_once -= 1
        first = self.answers.get(received.type)
        return web.Response(
            status=first.pop(0) if first else self.status, headers=self.headers, body=b"secret of the receiver"
        )

    async def until(self, count: int) -> None:
        """Wait until that many deliveries have come."""
        async with asyncio.timeout(40.0):
            while len(self.got) < count:
                self.came.clear()
                await self.came.wait()

    @property
    def types(self) -> list[str]:
        return [each.type for each in self.got]


@contextlib.asynccontextmanager
async def receiving(status: int = 200, **headers: str) -> AsyncIterator[Receiver]:
    """Run an endpoint on a port of its own."""
    receiver = Receiver(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    receiver.gate.set()
    runner = web.ServerRunner(web.Server(receiver.handle, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = "http://{}:{}/hook?from=gateway".format(*runner.addresses[0][:2])
    try:
        yield receiver
    finally:
        for gate in (receiver.gate, *receiver.gates.values()):
            gate.set()
        await runner.cleanup()


def written(directory: Path) -> bytes:
    """Return everything that a store has on disk."""
    return b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())


@dataclass
class TellingBed:
    """A process: everything that telling stands on. `acc_1` and `acc_2` have a key each."""

    store: SqliteStore
    clock: DrivenClock
    keeping: Keeping
    history: TellableJournal
    telling: Telling
    made: int = 0

    async def run(self) -> None:
        """Read the journal on, and make every attempt that is due, to its end."""
        await self.telling.sweep()
        await self.attempt()

    async def attempt(self) -> None:
        """Make every attempt that is due, to its end."""
        outbox = self.telling._outbox
        await outbox.deliver()
        while outbox._tasks:
            await asyncio.wait(outbox._tasks, timeout=20.0)
            await outbox.deliver()

    async def server(self, event: str = "ordered", account_id: str = "acc_1", **detail: object) -> Server:
        """Keep a new server: one event of the account's."""
        self.made += 1
        number = self.made
        key_id = "key_1" if account_id == "acc_1" else "key_2"
        server = make_server(number, account_id=account_id, key_id=key_id, created_at_ms=self.clock.now_ms())
        await self.put(server, event, **detail)
        return server

    async def put(self, record: Any, event: str, **detail: object) -> None:
        """Keep a record."""
        assert isinstance(await self.store.post(Put(record, event, self.clock.now_ms(), detail)), Done)

    async def move(self, server: Server, state: ServerState) -> Server:
        """Keep a server's next version."""
        after = replace(server, state=state, version=server.version + 1)
        await self.put(after, state.value)
        return after

    async def hook(self, url: str, *events: str, account_id: str = "acc_1") -> tuple[Hook, Secret[str]]:
        """Make an endpoint."""
        hooks = self.telling.hooks
        hook_id, secret = hooks.new_id(), hooks.new_secret()
        await hooks.check_new(account_id, url)
        await hooks.create(hook_id, account_id, Asked(url, events or ("*",), ""), secret, self.clock.now_ms())
        return hooks.one(account_id, hook_id), secret

    async def deliveries(self, hook: Hook) -> list[HookDelivery]:
        """Return what became of events at an endpoint, the oldest first."""
        return list(reversed(await self.history.deliveries(hook.id, None, 100)))

    async def events(self, account_id: str = "acc_1") -> list[Event]:
        """Return all of an account's events."""
        return (await self.telling.events(account_id, 0, 1_000))[0]

    async def last_id(self) -> str:
        """Return the id of the newest event of acc_1."""
        return event_id((await self.events())[-1].seq)


@contextlib.asynccontextmanager
async def telling_bed(
    directory: Path, clock: DrivenClock, settings: HookSettings | None = None, *, courier: Courier | None = None
) -> AsyncIterator[TellingBed]:
    """Start a process over a directory: an empty one, or one where an earlier process ended."""
    store = await SqliteStore.open(directory / "gateway.db")
    entropy = SystemEntropy()
    keeping = Keeping(store, Sealer(Secret(b"\x22" * 32)), clock, clock, entropy)
    history = TellableJournal(store)
    courier = courier or Courier(LOOPBACK, allow_http=True, timeouts=timeouts_of(2.0))
    telling = Telling(keeping, history, courier, entropy, settings)
    if not store.view.agent_accounts:
        for number in (1, 2):
            account_id = f"acc_{number}"
            await store.post(OpenAccount(AgentAccount(account_id, account_id, clock.now_ms())))
            await store.post(AddKey(make_key(number, account_id=account_id)))
            await store.post(CreditAccount(account_id, 10_000_000, f"credit {number}", "", "test", clock.now_ms()))
    try:
        yield TellingBed(store, clock, keeping, history, telling, made=len(store.view.servers))
    finally:
        if not store.broken:
            await telling.close(2.0)
        await store.close()
