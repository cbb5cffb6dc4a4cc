"""Account vendors on real parts: their sandbox processes, the HTTP client, a SqliteStore, the assembled graph, its API.

Business time is driven: the gateway's clock and the vendors' are pushed forward together. `Crash` stops the gateway at
one of its steps (a commit, or a request to a vendor) as `kill -9` does; a bed on the same directory is its next start.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import structlog
from aiohttp import web
from structlog.testing import LogCapture
from yarl import URL

from gateway.account_graph import AccountSide, assemble_accounts
from gateway.api.deps import Accounts, ApiDeps, Webhooks
from gateway.api.server import ApiServer, build_api
from gateway.config import parse_config
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey, Command, CreditAccount, OpenAccount, Result
from gateway.core.login import Credentials
from gateway.core.records import AgentAccount, Budget, Meter, MeterState, Payment
from gateway.core.vendor_tokens import VendorTokens
from gateway.flow.answers import Answers
from gateway.flow.heads import Heads
from gateway.http.client import HttpUpstream
from gateway.http.port import Upstream, UpstreamRequest, UpstreamResponse
from gateway.ports import Store
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemEntropy
from gateway.vendor_credentials import VendorSecrets
from gateway.vendor_hooks import hooks_of
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from wallets.sealing import Sealer, derive_key
from wallets.secret import Secret
from wallets.watermark import Watermark

if TYPE_CHECKING:
    from gateway.flow.spend import Spend

EMAIL, PASSWORD, TOKEN = "ops@example.com", "operator-pass-1", "vrtx-operator-token"
WEBHOOK_SECRET = "vrtx-webhook-secret"
CREDIT_BASE = 100_000_000
DATA_KEY = Secret(b"\x22" * 32)
ABSENT_S = 600
ALL = ("cryptovps", "litevps", "vrtx")

_OURS = {"email": EMAIL, "password": PASSWORD, "balance": "1000"}
CONFIGS: Mapping[str, dict[str, Any]] = {
    "cryptovps": {"accounts": [_OURS], "server_limit": 60, "provision_s": 60, "destroy_s": 5},
    "litevps": {"accounts": [_OURS], "max_batch_size": 60, "create_s": 20},
    "vrtx": {"accounts": [{"name": "ours", "tokens": [TOKEN]}], "install_s": 60, "boot_s": 20},
}
SECRETS: Mapping[str, VendorSecrets] = {
    "cryptovps": VendorSecrets(Credentials(EMAIL, Secret(PASSWORD))),
    "litevps": VendorSecrets(Credentials(EMAIL, Secret(PASSWORD))),
    "vrtx": VendorSecrets(Credentials("", Secret(TOKEN)), (Secret(WEBHOOK_SECRET),)),
}
CREATES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "cryptovps": ("/servers", {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}),
    "litevps": ("/api/vps", {"name": "my-vm", "template": "ubuntu-22-small"}),
    "vrtx": (
        "/api/v2/servers",
        {"plan_id": 1, "location_id": 6, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"},
    ),
}


class Vendors:
    """The running vendor processes, by kind."""

    def __init__(self, processes: Mapping[str, SandboxProcess]) -> None:
        self.drivers = {kind: Driver(process, TOKEN if kind == "vrtx" else None) for kind, process in processes.items()}

    def reset(self) -> int:
        """Begin anew at all of them, on one clock; return how far it is ahead of the real time (ms)."""
        for driver in self.drivers.values():
            driver.admin("POST", "/reset")
        clocks = {kind: driver.admin("GET", "/clock") for kind, driver in self.drivers.items()}
        ahead = {kind: clock["business_ms"] - clock["real_ms"] for kind, clock in clocks.items()}
        furthest_ms = max(ahead.values())
        for kind, driver in self.drivers.items():
            driver.advance((furthest_ms - ahead[kind]) / 1000)
        return int(furthest_ms)


class DrivenClock:
    """The Clock port: the real time and so much more."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    async def sleep(self, seconds: float) -> None:
        """Return after so long in real time, or a twentieth of it: pauses are not what is tested."""
        await asyncio.sleep(seconds / 20)


@dataclass
class Crash:
    """Stops a gateway for good at its n-th step, counted from 1 since `armed`; everything after that never happens."""

    at: int | None = None
    armed: bool = False
    steps: list[str] = field(default_factory=list)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self, what: str) -> None:
        """Go on, or never."""
        if self.dead.is_set():
            await asyncio.Event().wait()
        if not self.armed:
            return
        self.steps.append(what)
        if len(self.steps) == self.at:
            self.dead.set()
            await asyncio.Event().wait()


class FrailStore:
    """A store whose process may end before or after any commit."""

    def __init__(self, store: SqliteStore, crash: Crash) -> None:
        self._store, self._crash = store, crash

    def __getattr__(self, name: str) -> Any:
        """Everything but commits is the store's own."""
        return getattr(self._store, name)

    async def post(self, command: Command) -> Result:
        """Commit, unless the process has ended by then."""
        name = type(command).__name__
        await self._crash.step(f"before {name}")
        result = await self._store.post(command)
        await self._crash.step(f"after {name}")
        return result


class FrailUpstream:
    """A client whose process may end before or after any request. `seen` are the requests of this process."""

    def __init__(self, upstream: Upstream, crash: Crash) -> None:
        self._upstream, self._crash = upstream, crash
        self.seen: list[UpstreamRequest] = []

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """Send, unless the process has ended by then."""
        await self._crash.step(f"before {request.method}")
        self.seen.append(request)
        answer = await self._upstream.send(origin, request)
        await self._crash.step(f"after {request.method}")
        return answer

    async def close(self) -> None:
        """Close the client."""
        await self._upstream.close()


@dataclass(frozen=True)
class Got:
    """An answer of the gateway to an agent."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The code of a problem document."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        return str(self.json["code"])


@dataclass
class Bed:
    """A running gateway; `acc_1` and `acc_2` have USD 100 and a key each."""

    directory: Path
    vendors: Vendors
    clock: DrivenClock
    store: SqliteStore
    upstream: FrailUpstream
    answers: Answers
    side: AccountSide
    api: ApiServer
    url: str
    client: aiohttp.ClientSession
    keys: dict[str, str]
    logs: LogCapture
    crash: Crash

    async def ask(self, method: str, path: str, document: Any = None, *, account: str = "acc_1", **options: Any) -> Got:
        """Ask the gateway as an agent; `path` begins with the vendor's name. `raw` is a body that is no document."""
        key = options.pop("key", None) or self.keys[account]
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        body = options.pop("raw", None)
        if document is not None:
            body = json.dumps(document).encode()
            headers.setdefault("Content-Type", "application/json")
        url = URL(f"{self.url}/proxy/{path}", encoded=True)
        async with self.client.request(method, url, headers=headers, data=body, allow_redirects=False) as answer:
            return Got(answer.status, answer.headers, await answer.read())

    async def create(self, kind: str, *, account: str = "acc_1", headers: Any = None, **changes: Any) -> Got:
        """Ask for the server that CREATES names."""
        path, body = CREATES[kind]
        return await self.ask("POST", kind + path, {**body, **changes}, account=account, headers=headers or {})

    async def server(self, kind: str, *, account: str = "acc_1", **changes: Any) -> str:
        """Create a server, which must work, and return its ref."""
        got = await self.create(kind, account=account, **changes)
        assert got.status in (201, 202), got.body
        return ref_in(kind, got.json)

    async def running(self, kind: str, *, account: str = "acc_1", **changes: Any) -> str:
        """Create a server, and let the time pass until it runs."""
        ref = await self.server(kind, account=account, **changes)
        await self.later(kind, 70)
        return ref

    def driver(self, kind: str) -> Driver:
        """The vendor's process."""
        return self.vendors.drivers[kind]

    def advance(self, seconds: float) -> None:
        """Let time pass, here and at every vendor."""
        self.clock.ahead_ms += round(seconds * 1000)
        for driver in self.vendors.drivers.values():
            driver.advance(seconds)

    async def later(self, kind: str, seconds: float) -> None:
        """Let time pass, and do then what is due."""
        self.advance(seconds)
        await self.sweep(kind)

    async def sweep(self, kind: str) -> None:
        """Do what is due at a vendor, and let what was started in the background end."""
        await self.side.meters.sweep(kind)
        await self.settled()

    async def settled(self) -> None:
        """Let what was started in the background end."""
        await self.answers.drain(5.0)

    async def end(self, kind: str, ref: str, *, account: str = "acc_1") -> Got:
        """Destroy a server, and follow it until that is confirmed."""
        got = await self.ask("DELETE", f"{server_path(kind, ref)}", account=account)
        await self.settled()
        for _ in range(3):
            await self.later(kind, 10)
        return got

    def servers(self, kind: str, *, gone: bool = False) -> list[Any]:
        """What the vendor itself says that our account has."""
        state = self.driver(kind).state()
        if kind == "vrtx":
            found = [s for s in state["servers"].values() if gone or s.get("deleted_ms") is None]
        elif kind == "litevps":
            found = [m for m in state["machines"].values() if gone or not m["deleting"]]
        else:
            found = [s for s in state["servers"].values() if gone or s["status"] not in ("DESTROYING", "DESTROYED")]
        return found

    @property
    def meters(self) -> list[Meter]:
        """What has not ended."""
        return [m for m in self.store.view.meters.values() if m.state is not MeterState.ENDED]

    @property
    def open(self) -> list[Payment]:
        """Open payments, the oldest first."""
        return list(self.store.view.open_payments.values())

    async def payments(self, account: str = "acc_1") -> list[Any]:
        """Every payment of an account as its agent sees it."""
        headers = {"Authorization": f"Bearer {self.keys[account]}"}
        async with self.client.get(f"{self.url}/v1/payments", headers=headers) as answer:
            document = await answer.json()
        return list(document["entries"])

    def balance(self, account: str = "acc_1") -> tuple[int, int]:
        """(available, held) in base units."""
        balance = self.store.view.balances[account]
        return balance.available_base, balance.held_base

    async def tasks(self) -> list[tuple[str, str]]:
        """Kind and subject of every task."""
        return [(row["kind"], row["subject"]) for row in await self.store.query("SELECT kind, subject FROM tasks")]

    async def add_key(self, account: str, *, budgets: tuple[Budget, ...] = ()) -> str:
        """Make a key, and return its text."""
        made = new_key(account, "test", ("proxy", "read"), budgets, self.clock.now_ms(), SystemEntropy().bytes)
        await self.store.post(AddKey(made.key))
        return made.text.reveal()

    async def credit(self, account: str, amount_base: int) -> None:
        """Give an account more."""
        now_ms = self.clock.now_ms()
        await self.store.post(CreditAccount(account, amount_base, f"more {account} {now_ms}", "", "test", now_ms))

    async def sound(self) -> None:
        """P1, P2: the books add up, and nobody is in debt."""
        assert await self.store.contradiction() is None
        for account in ("acc_1", "acc_2"):
            available, held = self.balance(account)
            assert available >= 0
            assert held >= 0


def server_path(kind: str, ref: str) -> str:
    """Return the route of one server."""
    return f"{kind}{CREATES[kind][0]}/{ref}"


def ref_in(kind: str, document: Any) -> str:
    """Return the id of the server that a create's answer shows."""
    if kind == "cryptovps":
        return str(document["server"]["id"])
    return str(document["id"] if kind == "litevps" else document["data"]["uuid"])


def config_text(vendors: Vendors, extra: Mapping[str, str]) -> str:
    """Return the configuration of a gateway before these vendors; `extra` are lines of an account's table."""
    parts = ['[keystore]\npassphrase = "env:UNUSED"\n[limits]\nmetered_per_vendor = 1000\ncalls_per_vendor = 1000\n']
    for kind, driver in vendors.drivers.items():
        rule = 'billing_rule = "started_units"' if "billing_rule" not in extra.get(kind, "") else ""
        parts.append(
            f'[vendors.{kind}]\nkind = "{kind}"\nbase_url = "{driver.process.base_url}"\nceiling = "1"\n'
            "allow_private = true\nallow_plain_http = true\nfirst_byte_timeout_s = 2\nbody_timeout_s = 2\n"
            f"[vendors.{kind}.account]\n{rule}\nmax_wait_s = 2\n{extra.get(kind, '')}\n"
        )
    return "\n".join(parts)


@contextlib.asynccontextmanager
async def opened(
    directory: Path,
    vendors: Vendors,
    *,
    extra: Mapping[str, str] | None = None,
    ahead_ms: int | None = None,
    port: int = 0,
    keys: dict[str, str] | None = None,
    crash: Crash | None = None,
) -> AsyncIterator[Bed]:
    """Start a gateway on a directory. `ahead_ms` and `keys` are those of the process that ran there before."""
    clock = DrivenClock(vendors.reset() if ahead_ms is None else ahead_ms)
    crash, logs = crash or Crash(), LogCapture()
    config = parse_config(config_text(vendors, extra or {}), {"UNUSED": "not opened here"}, directory=directory)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(structlog.configure, processors=structlog.get_config()["processors"])
        structlog.configure(processors=[structlog.processors.format_exc_info, logs])
        store = await SqliteStore.open(directory / "gateway.db", config.book_rules())
        stack.push_async_callback(store.close)
        path = directory / "watermark"
        watermark = Watermark.open(path) if path.exists() else Watermark.create(path)
        stack.callback(watermark.close)
        upstream = FrailUpstream(HttpUpstream(config.egress_rules()), crash)
        stack.push_async_callback(upstream.close)
        frail = FrailStore(store, crash)
        sealer = Sealer(DATA_KEY)
        answers = Answers(store=frail, sealer=sealer, watermark=watermark, clock=clock)
        side = assemble_accounts(
            config,
            secrets=SECRETS,
            store=frail,
            upstream=upstream,
            answers=answers,
            sealer=sealer,
            tokens=VendorTokens(derive_key(DATA_KEY, "vendor tokens")),
            clock=clock,
            business=clock,
            entropy=SystemEntropy(),
        )
        assert side is not None
        stack.push_async_callback(side.close)
        api = build_api(_deps(frail, side, sealer, clock, Webhooks(hooks_of(config, SECRETS), clock)))
        runner = web.ServerRunner(api, shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, port = runner.addresses[0][:2]
        client = await stack.enter_async_context(aiohttp.ClientSession())
        bed = Bed(
            directory,
            vendors,
            clock,
            store,
            upstream,
            answers,
            side,
            api,
            f"http://{host}:{port}",
            client,
            keys or {},
            logs,
            crash,
        )
        if keys is None:
            await _open_accounts(bed)
        yield bed
        if crash.dead.is_set():
            await _bury()
        else:
            await api.drain(5.0)
            await answers.drain(5.0)


async def _bury() -> None:
    """Nothing of a process that has ended goes on."""
    here = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not here and _is_ours(task)]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _is_ours(task: "asyncio.Task[Any]") -> bool:
    names = ("present ", "call ", "login ")
    return task.get_name().startswith(names) or "gateway" in repr(task.get_coro())


def _deps(store: Store, side: AccountSide, sealer: Sealer, clock: DrivenClock, webhooks: Webhooks) -> ApiDeps:
    return ApiDeps(
        store=store,
        spend=cast("Spend", None),  # no vendor here asks for its money with a 402
        vendors={},
        heads=Heads(),
        sealer=sealer,
        clock=clock,
        entropy=SystemEntropy(),
        sightings=lambda _: None,
        ready=list,
        on_broken=os.abort,
        accounts=Accounts(side.vendors, side.broker, side.tokens),
        webhooks=webhooks,
    )


async def _open_accounts(bed: Bed) -> None:
    now_ms = bed.clock.now_ms()
    for account in ("acc_1", "acc_2"):
        await bed.store.post(OpenAccount(AgentAccount(account, account, now_ms)))
        await bed.store.post(CreditAccount(account, CREDIT_BASE, f"credit {account}", "", "test", now_ms))
        bed.keys[account] = await bed.add_key(account)


Restart = Callable[[Bed], contextlib.AbstractAsyncContextManager[Bed]]


def restarted(bed: Bed, **options: Any) -> contextlib.AbstractAsyncContextManager[Bed]:
    """Start the next process on a bed's directory; the bed itself must have ended."""
    return opened(bed.directory, bed.vendors, ahead_ms=bed.clock.ahead_ms, keys=bed.keys, **options)
