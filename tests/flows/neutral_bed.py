"""The whole gateway before all five sandbox vendors and both chains, in this process, and agents that ask it over HTTP.

Everything is what the service is made of: its configuration file, keystore, graph, loops and HTTP server. Business time is
the real time and what `advance` added, here and at every vendor.
"""

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from contracts.codec import checksum
from gateway.api.server import build_api
from gateway.app import Fittings, open_gateway
from gateway.config import Config, parse_config
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey, CreditAccount, Done, OpenAccount
from gateway.core.records import AgentAccount
from gateway.graph import Gateway, Parts
from gateway.serve import _deps
from gateway.system import SystemEntropy
from gateway.vendor_credentials import save
from sandbox.chain import LocalBase
from sandbox.demo.vendors import ACCOUNT, TEMPO
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from sandbox.tempo.chain import LocalTempo
from tests.flows.broker_bed import CONFIGS, SECRETS, DrivenClock, Got
from wallets.keystore import Keystore
from wallets.sealing import Sealer
from wallets.secret import Secret

PASSPHRASE = "correct horse battery staple"
SCRYPT_N = 2**14  # as weak as the keystore allows: what is tested here is not the cost of guessing
FLOAT_BASE = 1_000_000_000
CREDIT_BASE = 500_000_000
READY_S = 30.0
CHAINS = 2
RELAYER = 10  # of the local Base's accounts: pays VpsAgent's gas

# Small enough to wait for in real time.
SPANS: Mapping[str, dict[str, Any]] = {
    "cryptovps": {"provision_s": 1, "destroy_s": 0.5, "backup_s": 1, "rest_per_min": 0, "auth_per_min": 0},
    "litevps": {"create_s": 1, "start_s": 0.3, "stop_s": 0.3, "login_per_min": 0},
    "vrtx": {"boot_s": 0.5, "install_s": 1, "power_s": 0.3, "sustained_per_min": 9999, "burst_per_10s": 9999},
    "vpsagent": {"max_timeout_s": 30, "provision_s": 0.3, "worker_interval_s": 0.1, "manual_step_s": 0.5},
    "dropmpp": {"provision_s": 1, "snapshot_s": 1, "catalog": "proof"},
}
VENDORS = tuple(SPANS)
ITEMS: Mapping[str, Mapping[str, str]] = {
    "vpsagent": {
        "catalog": "0.01",
        "sandbox_1h": "0.50",
        "sandbox_6h": "2",
        "sandbox_24h": "5",
        "server_small_1mo": "9.99",
        "server_small_12mo": "89.99",
        "server_medium_1mo": "19.99",
        "server_medium_12mo": "179.99",
        "server_large_1mo": "39.99",
        "server_large_12mo": "359.99",
    },
    "dropmpp": {
        "small/create": "0.01",
        "small/hour": "0.0134",
        "medium/create": "0.02",
        "medium/hour": "0.0536",
        "large/create": "0.04",
        "large/hour": "0.1072",
        "power": "0.005",
        "key": "0.001",
        "snapshot": "0.01",
        "snapshot/gb-day": "0.00267",
    },
}
HEAD = """
data_dir = "{directory}"
[keystore]
passphrase = "env:PASSPHRASE"
[chains.base]
chain_id = {chain_id}
rpc = ["{rpc_url}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[tokens.base-usdc]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc", "moderato-pathusd"]
max_value = "1000"
[limits]
exposure_per_account = "100000"
open_payments_per_vendor = 1000
calls_per_vendor = 1000
metered_per_vendor = 1000
unpaid_deliveries = 100
[servers]
sweep_s = 0.1
"""
VPSAGENT = """
[vendors.vpsagent]
kind = "vpsagent"
base_url = "{url}"
wallet = "main"
tokens = ["base-usdc"]
payees = ["{payee}"]
ceiling = "400"
allow_private = true
allow_plain_http = true
[vendors.vpsagent.routes.rent]
window_min_s = 20
window_max_s = 60
[vendors.vpsagent.routes.renew]
window_min_s = 20
window_max_s = 60
[vendors.vpsagent.prices]
{prices}
"""


@dataclass
class Places:
    """The running chains and vendors; `ahead_s` is how far their business time is ahead of the real time."""

    base: LocalBase
    tempo: LocalTempo
    vendors: Mapping[str, Driver]
    ahead_s: float = 0.0

    def advance(self, seconds: float) -> None:
        """Push business time forward at every vendor."""
        for driver in self.vendors.values():
            driver.advance(seconds)
        self.ahead_s += seconds

    def call_it(self, vendor: str, ref: str, word: str) -> None:
        """Let a vendor call the state of a server something that its document does not name, from now on."""
        driver = self.vendors[vendor]
        if vendor == "dropmpp":
            driver.admin("POST", f"/servers/{ref}", {"status": word})
        elif vendor == "vpsagent":
            shown = {"rental_id": ref, "ipv4": None, "running": True, "status": word, "root_user": "root"}
            driver.fault("status", "instance", status=200, body=shown, times=None)
        else:
            driver.fault("state", value=word, of=ref, times=None)


@contextlib.contextmanager
def places() -> Iterator[Places]:
    """Start both chains and all five vendors."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(LocalBase.start(block_time_s=1))
        tempo = stack.enter_context(LocalTempo.start())
        chain = {
            "vpsagent": {"rpc_url": base.rpc_url, "relayer_key": base.dev_account(RELAYER)[1]},
            "dropmpp": {"rpc_url": tempo.rpc_url},
        }
        started = {
            name: SandboxProcess.start(f"sandbox.{name}", {**CONFIGS.get(name, {}), **chain.get(name, {}), **spans})
            for name, spans in SPANS.items()
        }
        for process in started.values():
            stack.callback(process.stop)
        yield Places(base, tempo, {name: Driver(process) for name, process in started.items()})


@dataclass
class Agent:
    """One account's key, and what its owner does with it."""

    url: str
    account_id: str
    key: str
    client: aiohttp.ClientSession
    tokens: Iterator[int] = field(default_factory=itertools.count)

    async def ask(self, method: str, path: str, document: Any = None, **options: Any) -> Got:
        """Ask the gateway. `token` is the Idempotency-Key, a new one for each POST; `raw` a body that is no document."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        if method == "POST":
            headers.setdefault("Idempotency-Key", options.pop("token", None) or f"token-{next(self.tokens)}")
        body = io.BytesIO(options.pop("raw")) if "raw" in options else None
        if document is not None:
            body = io.BytesIO(json.dumps(document).encode())
            headers.setdefault("Content-Type", "application/json")
        async with self.client.request(
            method, URL(self.url + path, encoded=True), headers=headers, data=body, allow_redirects=False, **options
        ) as answer:
            return Got(answer.status, answer.headers, await answer.read())

    async def good(self, method: str, path: str, document: Any = None, **options: Any) -> Any:
        """Ask for what must succeed; return its document."""
        got = await self.ask(method, path, document, **options)
        assert 200 <= got.status < 300, (method, path, got.status, got.body)
        return got.json if got.body else None

    async def until(self, path: str, done: Callable[[Any], bool], within_s: float = 60.0) -> Any:
        """Read a document until it is as wanted, and return it."""
        shown, until = None, asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < until:
            shown = await self.good("GET", path)
            if done(shown):
                return shown
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path} is still {shown}")

    async def all_of(self, path: str) -> list[Any]:
        """Return every entry of a list, page by page."""
        entries, after = list[Any](), ""
        joint = "&" if "?" in path else "?"
        while True:
            page = await self.good("GET", f"{path}{joint}limit=100{after}")
            entries += page["entries"]
            if page["next"] is None:
                return entries
            after = f"&after={page['next']}"


@dataclass
class NeutralBed:
    """A running gateway, its loops included."""

    places: Places
    business: DrivenClock
    gateway: Gateway
    url: str
    client: aiohttp.ClientSession
    broken: list[str]

    async def agent(
        self, account_id: str, *, credit_base: int = CREDIT_BASE, scopes: tuple[str, ...] = ("proxy", "read")
    ) -> Agent:
        """Open an account with credit and a key."""
        store, now_ms = self.gateway.parts.store, self.gateway.parts.clock.now_ms()
        made = new_key(account_id, "test", scopes, (), now_ms, SystemEntropy().bytes)
        for command in (
            OpenAccount(AgentAccount(account_id, account_id, now_ms)),
            CreditAccount(account_id, credit_base, f"credit {account_id}", "", "test", now_ms),
            AddKey(made.key),
        ):
            assert isinstance(await store.post(command), Done)
        return Agent(self.url, account_id, made.text.reveal(), self.client)

    def advance(self, seconds: float) -> None:
        """Push business time forward, here and at every vendor."""
        self.places.advance(seconds)
        self.business.ahead_ms = round(self.places.ahead_s * 1000)

    async def sound(self) -> None:
        """P1, P2: the books add up, no account is in debt, and the process could go on."""
        assert self.broken == []
        store = self.gateway.parts.store
        assert await store.contradiction() is None
        for balance in store.view.balances.values():
            assert min(balance.available_base, balance.held_base) >= 0


def config_text(here: Places, directory: Path, wallet: str) -> str:
    """Return the operator's configuration file."""
    parts = [HEAD.format(directory=directory, chain_id=8453, rpc_url=here.base.rpc_url, wallet=wallet)]
    for name, driver in here.vendors.items():
        said = {
            "name": name,
            "url": driver.process.base_url,
            "payee": driver.process.info.get("pay_to", ""),
            "prices": "\n".join(f'"{item}" = "{price}"' for item, price in ITEMS.get(name, {}).items()),
            "chain_id": here.tempo.chain_id,
            "rpc_url": here.tempo.rpc_url,
            "more": 'billing_rule = "started_units"',
        }
        parts.append({"vpsagent": VPSAGENT, "dropmpp": TEMPO}.get(name, ACCOUNT).format(**said))
    return "\n".join(parts)


@contextlib.asynccontextmanager
async def opened(here: Places, directory: Path) -> AsyncIterator[NeutralBed]:
    """Start a gateway on an empty directory; it can pay when it is yielded, and its books are checked at its end."""
    config = await asyncio.to_thread(_installed, here, directory)
    business, broken = DrivenClock(round(here.ahead_s * 1000)), list[str]()

    def on_broken() -> None:
        broken.append("stop")

    def refit(parts: Parts) -> Parts:
        return replace(parts, business=business)

    async with contextlib.AsyncExitStack() as stack:
        environ = {"PASSPHRASE": PASSPHRASE}
        gateway = await stack.enter_async_context(open_gateway(config, environ, Fittings(refit=refit)))
        await _until_it_can_pay(gateway)
        loops = gateway.loops(on_broken)
        loops.start()
        stack.push_async_callback(loops.stop, 5.0)
        stack.push_async_callback(gateway.recovery.drain, 5.0)
        stack.push_async_callback(gateway.answers.drain, 5.0)
        assert gateway.neutral is not None
        stack.push_async_callback(gateway.neutral.drain, 5.0)
        api = build_api(_deps(gateway, loops, on_broken))
        runner = web.ServerRunner(api, shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(api.drain, 5.0)
        stack.callback(api.refuse_new)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        client = await stack.enter_async_context(aiohttp.ClientSession())
        bed = NeutralBed(here, business, gateway, f"http://{host}:{port}", client, broken)
        yield bed
        await bed.sound()


def _installed(here: Places, directory: Path) -> Config:
    """Do what an operator does before the first start: the keystore, the wallet's money, the credentials, the file."""
    keystore, secret = Keystore(directory / "keystore"), Secret(PASSPHRASE)
    keystore.create(secret, scrypt_n=SCRYPT_N)
    wallet = checksum(keystore.new_wallet(secret))
    sealer = Sealer(keystore.unlock(secret).data_key)
    for vendor, secrets in SECRETS.items():
        save(directory / "keystore", vendor, secrets, sealer)
    here.base.mint(wallet, FLOAT_BASE)
    here.tempo.fund({wallet: FLOAT_BASE})
    return parse_config(config_text(here, directory, wallet), {"PASSPHRASE": PASSPHRASE}, directory=directory)


async def _until_it_can_pay(gateway: Gateway) -> None:
    """Read both chains, and what the wallet has there, before anything is bought."""
    wallets, until = gateway.parts.store.view.wallets, asyncio.get_running_loop().time() + READY_S
    while sum(each.available_base > 0 for each in wallets.values()) < CHAINS:
        assert asyncio.get_running_loop().time() < until, "the wallet's money was not seen"
        for tracker in gateway.trackers:
            await tracker.poll()
        await asyncio.sleep(0.1)
