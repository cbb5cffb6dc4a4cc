"""The assembled gateway before four vendors on one scripted line, with catalogues that cost money, are free, or stand still.

VpsAgent's is paid, those of LiteVPS and VRTX are free (VRTX's with parts that may be missing), CryptoVPS's stands in its
document. Everything is what the service is made of but the network, the chain and the clock. A bed on the same directory
is the next start of the same gateway.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.codec import checksum
from gateway.config import parse_config
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey, Command, CreditAccount, ObserveFloat, OpenAccount, Result
from gateway.core.login import Credentials
from gateway.core.records import AgentAccount, ApiKey, Evidence
from gateway.flow.call import Reply
from gateway.flow.servers.catalogue import Catalogue
from gateway.flow.servers.quoting import Quoting
from gateway.flow.servers.runner import Who
from gateway.graph import Gateway, Parts, assemble
from gateway.http.courier import Courier
from gateway.http.port import NotSent, UpstreamRequest, UpstreamResponse
from gateway.ports import Block
from gateway.server_ports import Ask
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemEntropy
from gateway.vendor_credentials import VendorSecrets
from tests.factories import never_frozen
from tests.unit.gateway.flow.spend_bed import (
    BASE_USDC,
    NOW_MS,
    PAYEE,
    WALLET,
    WALLET_KEY,
    StillClock,
    challenge,
    paid,
    respond,
)
from wallets.guard import Guard
from wallets.secret import Secret
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

CHAIN, CATALOG_BASE = 8453, 10_000
SMALL_BASE, CREDIT_BASE = 9_990_000, 100_000_000
VPSAGENT, LITEVPS, VRTX = "https://vpsagent.test", "https://litevps.test", "https://vrtx.test"
CATALOG = [
    {
        "sku": "sandbox_1h",
        "price_usdc": 0.5,
        "available": True,
        "description": "An hour",
        "spec_floor": {"vcpu": 1, "memory_mb": 1024},
    },
    {
        "sku": "server_small_1mo",
        "price_usdc": 9.99,
        "available": True,
        "description": "A month",
        "spec_floor": {"vcpu": 2, "memory_mb": 4096},
    },
]
PRICING = [
    {"id": "small", "name": "Small", "vcpu": 1, "memory_mb": 1024, "disk_gb": 10, "price_hourly": 0.0042},
    {"id": "large", "name": "Large", "vcpu": 4, "memory_mb": 8192, "disk_gb": 80, "price_hourly": 0.0336},
]
TEMPLATES = [
    {"slug": "ubuntu", "name": "Ubuntu", "vcpu": 1, "memory_mb": 1024, "disk_gb": 10, "ttl_minutes": None},
    {"slug": "trial", "name": "Trial", "vcpu": 1, "memory_mb": 1024, "disk_gb": 10, "ttl_minutes": 60},
]
GIB = 1024**3
PLANS = [
    {
        "id": 7,
        "name": "Vee",
        "cpu": 2,
        "memory": 4 * GIB,
        "disk": 80 * GIB,
        "hourly_price": 0.02,
        "monthly_price": 10.0,
    }
]
LOCATIONS = [{"id": 1, "name": "Sydney"}, {"id": 6, "name": "Frankfurt"}]
CONFIG = """
data_dir = "{directory}"
[keystore]
passphrase = "env:UNUSED"
[chains.base]
chain_id = 8453
rpc = ["https://rpc.test"]
evidence_quorum = 1
[tokens.base-usdc]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc"]
max_value = "1000"
[limits]
exposure_per_account = "1000"
calls_per_vendor = 64
{settings}
[vendors.vpsagent]
kind = "vpsagent"
base_url = "https://vpsagent.test"
wallet = "main"
tokens = ["base-usdc"]
payees = ["{payee}"]
ceiling = "400"
[vendors.vpsagent.prices]
catalog = "0.01"
sandbox_1h = "0.50"
server_small_1mo = "9.99"
[vendors.litevps]
kind = "litevps"
base_url = "https://litevps.test"
ceiling = "5"
[vendors.litevps.account]
billing_rule = "started_units"
[vendors.cryptovps]
kind = "cryptovps"
base_url = "https://cryptovps.test"
ceiling = "5"
[vendors.vrtx]
kind = "vrtx"
base_url = "https://vrtx.test"
ceiling = "5"
[vendors.vrtx.account]
{vrtx}
"""
SECRETS = {
    "litevps": VendorSecrets(Credentials("ops@test", Secret("vtk_standing"))),
    "cryptovps": VendorSecrets(Credentials("ops@test", Secret("password"))),
    "vrtx": VendorSecrets(Credentials("", Secret("token")), (Secret("hook"),)),
}


@dataclass
class Line:
    """The vendors on the wire: what was sent, what they answer, and what goes wrong. `sold` counts what VpsAgent sold."""

    seen: list[tuple[str, UpstreamRequest]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    catalog: Any = field(default_factory=lambda: list(CATALOG))
    catalog_base: int = CATALOG_BASE
    rent: tuple[int, int] = (402, SMALL_BASE)  # status, and the price that a 402 names
    pricing: Any = field(default_factory=lambda: list(PRICING))
    templates_at: set[int] = field(default_factory=lambda: {1, 6})  # VRTX's locations that have templates
    broken_at: set[int] = field(default_factory=set)  # those whose templates it cannot tell now
    sold: int = 0

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """Answer as the vendor at this origin would."""
        self.seen.append((origin, request))
        if origin in self.down:
            raise NotSent("connect_failed", "it is down")
        path = request.target.partition("?")[0]
        if origin == LITEVPS:
            return _json({"/api/pricing": self.pricing, "/api/templates": TEMPLATES}[path])
        if origin == VRTX:
            return self._vrtx(path)
        assert origin == VPSAGENT, request
        if path == "/rent":
            status, price_base = self.rent
            return _json(challenge(maxAmountRequired=str(price_base), maxTimeoutSeconds=1800), status)
        if not paid(request):
            return _json(challenge(maxAmountRequired=str(self.catalog_base)), 402)
        self.sold += 1
        return _json(self.catalog)

    def _vrtx(self, path: str) -> UpstreamResponse:
        lists = {"/api/v2/plans": PLANS, "/api/v2/locations": LOCATIONS}
        if path in lists:
            return _json({"data": lists[path], "meta": {"current_page": 1, "last_page": 1}})
        if int(path.split("/")[4]) in self.broken_at:
            return _json({"error": {"code": "INTERNAL", "message": "sorry"}}, 500)
        if int(path.split("/")[4]) not in self.templates_at:
            return _json({"error": {"code": "NOT_FOUND", "message": "no such location"}}, 404)
        return _json({"data": [{"slug": "ubuntu-24.04", "name": "Ubuntu"}]})

    async def close(self) -> None:
        """Nothing is open."""

    def count(self, origin: str, path: str = "") -> int:
        """Return how many requests a vendor saw."""
        return sum(o == origin and r.target.startswith(path) for o, r in self.seen)


@dataclass
class Home:
    """A gateway at work. `who` is acc_1 with USD 100, which may spend everywhere."""

    directory: Path
    gateway: Gateway
    store: SqliteStore
    line: Line
    clock: StillClock
    who: Who

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue."""
        return self.gateway.neutral.catalogue

    @property
    def quoting(self) -> Quoting:
        """The quotes."""
        return self.gateway.neutral.quoting

    def pass_s(self, seconds: int) -> None:
        """Let time pass; the chain is read meanwhile."""
        self.clock.ms += seconds * 1000
        self.saw_chain()

    def saw_chain(self) -> None:
        """Let the chain be read now."""
        now_ms, heads = self.clock.ms, self.gateway.heads
        heads.saw(CHAIN, Block(110, b"\x01" * 32, now_ms // 1000), Block(100, b"\x02" * 32, 1))
        heads.read(CHAIN, now_ms)

    async def keys_of(self, vendor: str) -> list[str]:
        """Return the ids of a vendor's plans, read if that is due."""
        await self.catalogue.refresh()
        return [plan.id for plan in await self.catalogue.plans() if plan.vendor == vendor]

    async def asking(self, *scopes: str, credit_base: int = CREDIT_BASE) -> Who:
        """Return another account's key with these scopes."""
        account_id = f"acc_x{len(self.store.view.agent_accounts)}"
        return Who(await open_account(self.store, account_id, scopes, credit_base), "req_2")

    async def agent_buys(self, target: str) -> Reply:
        """Let acc_1 buy something from VpsAgent through the proxy's own machines."""
        runner = self.gateway.neutral.doing.runner
        reply = await runner.ask_whole(self.who, "vpsagent", Ask("GET", target))
        assert reply.delivered is not None
        await reply.delivered()
        return reply

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return what a statement reads."""
        return [dict(row) for row in await self.store.query(sql)]

    async def tasks(self) -> list[tuple[str, str]]:
        """Return kind and subject of every task."""
        return [(row["kind"], row["subject"]) for row in await self.rows("SELECT kind, subject FROM tasks")]

    async def house_payments(self) -> list[dict[str, Any]]:
        """Return what the house has paid for."""
        return await self.rows(
            "SELECT vendor, hold_base, idempotency_key FROM payments WHERE account_id = 'acc_house_catalogue' ORDER BY id"
        )


class Dying(SqliteStore):
    """A store whose process ends at a command: nothing is committed from then on, and whoever waits is not told."""

    ends_at: str = ""
    ended: bool = False

    async def post(self, command: Command) -> Result:
        """Commit, or end."""
        self.ended = self.ended or type(command).__name__ == self.ends_at
        if self.ended:
            raise ProcessEndedError
        return await super().post(command)


class ProcessEndedError(Exception):
    """The process is gone."""


async def open_account(store: SqliteStore, account_id: str, scopes: tuple[str, ...], credit_base: int) -> ApiKey:
    """Open an account with credit and a key; return the key."""
    made = new_key(account_id, "test", scopes, (), NOW_MS, SystemEntropy().bytes)
    await store.post(OpenAccount(AgentAccount(account_id, account_id, NOW_MS)))
    if credit_base:
        await store.post(CreditAccount(account_id, credit_base, f"credit {account_id}", "", "test", NOW_MS))
    await store.post(AddKey(made.key))
    return made.key


@contextlib.asynccontextmanager
async def started(
    directory: Path,
    line: Line | None = None,
    *,
    clock: StillClock | None = None,
    settings: str = "",
    vrtx: str = 'billing_rule = "started_units"',
    ends_at: str = "",
) -> AsyncIterator[Home]:
    """Start a gateway on a directory. `settings` are further tables of its configuration."""
    line, clock, entropy = line or Line(), clock or StillClock(), SystemEntropy()
    names = {"directory": directory, "wallet": checksum(WALLET), "payee": checksum(PAYEE)}
    text = CONFIG.format(settings=settings, vrtx=vrtx, **names)
    config = parse_config(text, {"UNUSED": "not opened"}, directory=directory)
    async with contextlib.AsyncExitStack() as stack:
        store = await Dying.open(directory / "gateway.db", config.book_rules())
        assert isinstance(store, Dying)
        stack.push_async_callback(store.close)
        path = directory / "watermark"
        watermark = Watermark.open(path) if path.exists() else Watermark.create(path)
        stack.callback(watermark.close)
        guard = Guard(config.guard_policy(store.view.payees, config.own_addresses()), never_frozen)
        signer = LocalSigner(WALLET, Secret(WALLET_KEY), guard, watermark, lambda: clock.ms // 1000)
        parts = Parts(
            store=store,
            upstream=line,
            chains={},
            signers={bytes(WALLET): signer},
            guard=guard,
            data_key=Secret(b"\x22" * 32),
            watermark=watermark,
            clock=clock,
            entropy=entropy,
            own_addresses=config.own_addresses(),
            business=clock,
            vendor_secrets=SECRETS,
            broadcasters={},
            posting=Courier(),
        )
        gateway = assemble(config, parts)
        stack.push_async_callback(gateway.neutral.drain, 5.0)
        stack.push_async_callback(gateway.answers.drain, 5.0)
        await gateway.prepare()
        key = await open_account(store, "acc_1", ("proxy", "read"), CREDIT_BASE)
        seen = Evidence("balance", CHAIN, 90, b"\x03" * 32, NOW_MS // 1000, ("one",), value_base=10**9)
        await store.post(ObserveFloat(WALLET, BASE_USDC.asset_id, 10**9, seen, "task_1", NOW_MS))
        home = Home(directory, gateway, store, line, clock, Who(key, "req_1"))
        home.saw_chain()
        store.ends_at = ends_at
        yield home


def _json(document: Any, status: int = 200) -> UpstreamResponse:
    return respond(status, json.dumps(document).encode())
