"""The gateway's side of account vendors over real vendor processes and a real database, on a clock that a test drives.

The graph is the product's own (`assemble_accounts`); a restart is a new graph on the same file. Business time stands still
but for `advance`, which pushes the gateway's and every vendor's by the same; the wall clock goes with it and never stands.
"""

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from gateway.account_graph import AccountSide, assemble_accounts
from gateway.config import Config, parse_config
from gateway.core import commands as c
from gateway.core.ledger import imbalance
from gateway.core.login import Credentials
from gateway.core.problems import Problem
from gateway.core.records import AgentAccount, ApiKey, Meter
from gateway.core.vendor_tokens import VendorTokens
from gateway.flow.answers import Answers
from gateway.flow.call import AccountCall, Reply
from gateway.http.client import HttpUpstream
from gateway.http.port import UpstreamError
from gateway.store.load import verify_book
from gateway.store.sqlite import SqliteStore
from gateway.vendor_credentials import VendorSecrets
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from tests.fakes.clock import SeededEntropy
from wallets.sealing import Sealer
from wallets.secret import Secret
from wallets.watermark import Watermark

EMAIL, PASSWORD = "operator@example.com", "a-long-password"
TOKEN = "vrtx-token-0123456789"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
SOON_S = 6
START = "2026-01-29T10:17:23.456Z"
PATHS = {"cryptovps": "/servers", "litevps": "/api/vps", "vrtx": "/api/v2/servers"}
ORDERS: Mapping[str, Mapping[str, Any]] = {
    "cryptovps": {"label": "box", "planId": "vc2-1c-1gb", "regionId": "ams"},
    "litevps": {"name": "box"},
    "vrtx": {"plan_id": 1, "location_id": 1, "template_slug": "debian-12"},
}
CREDIT_BASE = 2_000_000_000


def vendor_config(kind: str, **more: Any) -> dict[str, Any]:
    """Return a vendor process's configuration: a clock that stands still, an account of ours, no limits."""
    common: dict[str, Any] = {"clock_rate": 0, "clock_start": START}
    account: dict[str, Any] = {"email": EMAIL, "password": PASSWORD, "balance": "5000"}
    if kind == "cryptovps":
        common |= {"accounts": [account], "auth_per_min": 0, "rest_per_min": 0, "server_limit": 100}
    elif kind == "litevps":
        # What the vendor does by itself takes longer than the gateway's pause between two lists.
        common |= {"accounts": [account], "login_per_min": 0, "start_s": 6, "stop_s": 6}
    else:
        account = {"name": "us", "tokens": [TOKEN]}
        common |= {"accounts": [account], "sustained_per_min": 9999, "burst_per_10s": 9999, "suspend_after_days": 999}
    return common | more


def start_vendor(kind: str, **more: Any) -> Driver:
    """Start a vendor process; its `process` is the caller's to stop."""
    return Driver(SandboxProcess.start(f"sandbox.{kind}", vendor_config(kind, **more)))


class BusinessClock:
    """Time by which vendors bill: it moves when it is told to."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self.at_ms

    async def sleep(self, seconds: float) -> None:
        """Refuse: nothing in the gateway waits for business time."""
        raise AssertionError(f"{seconds} s of business time would be waited for")


class WallClock:
    """Business time and what has really passed since: waits take as long as they take."""

    def __init__(self, business: BusinessClock) -> None:
        self._business, self._from_s = business, time.monotonic()

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self._business.at_ms + round((time.monotonic() - self._from_s) * 1000)

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self._from_s -= seconds
        await asyncio.sleep(0)


@dataclass
class Charged:
    """What one server cost, by the gateway's own rows."""

    captured_base: int
    lost_base: int

    @property
    def total_base(self) -> int:
        """What the agent and the house bore together."""
        return self.captured_base + self.lost_base


@dataclass
class Bed:
    """One gateway. `drivers` are the vendor processes by the names that the configuration gives them."""

    folder: Path
    drivers: Mapping[str, Driver]
    kinds: Mapping[str, str]
    accounts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 1

    def __post_init__(self) -> None:
        self.business = BusinessClock(self._align())
        self.clock = WallClock(self.business)
        self.entropy = SeededEntropy(random.Random(f"bed {self.seed}"))
        self.config = self._config()
        self.upstream = HttpUpstream(self.config.egress_rules())
        self.sealer = Sealer(Secret(bytes(range(32))))
        Watermark.create(self.folder / "signer.mark").close()
        self.requests = 0
        self.failures: list[str] = []

    def _align(self) -> int:
        """Bring every vendor to the time of the one that is furthest, and return it."""
        clocks = {name: driver.admin("GET", "/clock")["business_ms"] for name, driver in self.drivers.items()}
        newest_ms = int(max(clocks.values()))
        for name, driver in self.drivers.items():
            driver.advance((newest_ms - clocks[name]) / 1000)
        return newest_ms

    def _config(self) -> Config:
        lines = ['[keystore]\npassphrase = "env:PASSPHRASE"\n[limits]\nmetered_per_vendor = 100\n']
        lines.append('exposure_per_account = "100000"\n')
        for name, driver in self.drivers.items():
            lines.append(f'[vendors.{name}]\nkind = "{self.kinds[name]}"\nbase_url = "{driver.process.base_url}"\n')
            lines.append('ceiling = "500"\nallow_private = true\nallow_plain_http = true\n')
            lines.append(f"[vendors.{name}.account]\n")
            lines += [f"{key} = {json.dumps(value)}\n" for key, value in self.accounts.get(name, {}).items()]
        return parse_config("".join(lines), {"PASSPHRASE": "x"}, directory=self.folder)

    # life

    async def open(self) -> None:
        """Start the gateway."""
        self.store = await SqliteStore.open(self.folder / "gateway.db", self.config.book_rules())
        self.watermark = Watermark.open(self.folder / "signer.mark")
        self.answers = Answers(store=self.store, sealer=self.sealer, watermark=self.watermark, clock=self.clock)
        credentials = Credentials(EMAIL, Secret(PASSWORD))
        secrets = {
            name: VendorSecrets(Credentials("", Secret(TOKEN)) if kind == "vrtx" else credentials)
            for name, kind in self.kinds.items()
        }
        side = assemble_accounts(
            self.config,
            secrets=secrets,
            store=self.store,
            upstream=self.upstream,
            answers=self.answers,
            sealer=self.sealer,
            tokens=VendorTokens(Secret(bytes(32))),
            clock=self.clock,
            business=self.business,
            entropy=self.entropy,
        )
        assert side is not None
        self.side: AccountSide = side

    async def close(self) -> None:
        """Stop the gateway."""
        await self.answers.drain(10.0)
        await self.side.close()
        await self.store.close()
        self.watermark.close()

    async def restart(self) -> None:
        """Stop, and start again on the same database: whatever was only in memory is gone."""
        await self.close()
        await self.open()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close everything; after a good end the whole book is verified."""
        contradiction = None if kind is not None else await self.store.contradiction()
        await self.close()
        await self.upstream.close()
        if kind is None:
            assert contradiction is None
            with closing(self.rows()) as db:
                verify_book(db)

    # what happens

    async def account(self, name: str, credit_base: int = CREDIT_BASE) -> ApiKey:
        """Open an agent's account with a key and credit."""
        now_ms = self.clock.now_ms()
        await self.store.post(c.OpenAccount(AgentAccount(name, name, now_ms)))
        key = ApiKey(f"key_{name}", name, name.encode().ljust(32, b"-"), name, ("spend", "read"), (), now_ms)
        await self.store.post(c.AddKey(key))
        await self.credit(name, credit_base)
        return key

    async def credit(self, name: str, amount_base: int) -> None:
        """Give an account credit."""
        self.requests += 1
        reference = f"credit {self.requests}"
        result = await self.store.post(
            c.CreditAccount(name, amount_base, reference, "", "operator", self.clock.now_ms())
        )
        assert isinstance(result, c.Done), result

    async def call(
        self, key: ApiKey, vendor: str, method: str, target: str, document: Mapping[str, Any] | None = None
    ) -> Reply:
        """Call a vendor's route as the proxy does. Raises Problem."""
        module = self.side.vendors[vendor]
        match = module.match(method, target.partition("?")[0])
        assert match is not None, target
        self.requests += 1
        body = b"" if document is None else json.dumps(document).encode()
        headers = () if document is None else (("Content-Type", "application/json"),)
        call = AccountCall(
            key=key,
            request_id=f"req_{self.requests}",
            vendor=module,
            match=match,
            method=method,
            target=target,
            headers=headers,
            body=body,
            idempotency_key=f"idem-{self.requests}",
        )
        reply = await self.side.broker.run(call)
        if reply.delivered is not None:
            await reply.delivered()
        await self.answers.drain(10.0)
        return reply

    async def server(self, key: ApiKey, vendor: str, **order: Any) -> str:
        """Have an agent create a server, the smallest there is but for what `order` says; return its id."""
        kind = self.kinds[vendor]
        if kind == "litevps" and "template" not in order and "plan_id" not in order:
            plans = json.loads((await self.call(key, vendor, "GET", "/api/pricing")).body)
            order = {"plan_id": plans[0]["id"]} | order
        reply = await self.call(key, vendor, "POST", PATHS[kind], {**ORDERS[kind], **order})
        document = json.loads(reply.body)
        shown = document.get("server") or document.get("data") or document
        return str(shown["uuid" if kind == "vrtx" else "id"])

    async def made(self, key: ApiKey, vendor: str, **order: Any) -> str:
        """Have an agent create a server and let its first 20 s pass: a machine of LiteVPS's runs from then on.

        A moment more, so that what comes next is at no beginning of a minute.
        """
        ref = await self.server(key, vendor, **order)
        await self.sweep()
        await self.advance(20)
        await self.sweep()
        await self.advance(0.7)
        return ref

    async def act(self, key: ApiKey, vendor: str, ref: str, action: str = "") -> Reply:
        """Have an agent destroy its server, or do another action with it."""
        path = f"{PATHS[self.kinds[vendor]]}/{ref}"
        return await self.call(key, vendor, "POST" if action else "DELETE", f"{path}/{action}" if action else path)

    async def advance(self, seconds: float) -> None:
        """Let business time pass, here and at every vendor."""
        self.business.at_ms += round(seconds * 1000)
        for driver in self.drivers.values():
            driver.advance(seconds)

    async def sweep(self, *vendors: str) -> None:
        """Do once what is due at these vendors, or at all; note which of them did not answer. Then P1 and P2."""
        for name in vendors or self.drivers:
            try:
                await self.side.meters.sweep(name)
            except (UpstreamError, Problem) as error:
                self.failures.append(f"{name}: {error}")
        self.check()

    async def pass_time(self, seconds: float, every_s: float) -> None:
        """Let time pass in steps with a sweep after each, and another soon after that: a gateway looks every 5 s."""
        steps = [min(every_s, seconds - done) for done in range(0, round(seconds), round(every_s))]
        for step_s in steps:
            for part_s in (step_s - SOON_S, SOON_S) if step_s > 2 * SOON_S else (step_s,):
                await self.advance(part_s)
                await self.sweep()

    # what is

    def check(self) -> None:
        """P1 and P2 now."""
        accounts = list(self.store._core.book.ledger.accounts())
        assert imbalance(accounts) == {}
        for account in accounts:
            if account.code.startswith("agent:"):
                assert account.available_base >= 0, account
                assert account.reserved_base >= 0, account

    def rows(self) -> sqlite3.Connection:
        """Return a connection to the database."""
        db = sqlite3.connect(self.folder / "gateway.db")
        db.row_factory = sqlite3.Row
        return db

    def select(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        """Return rows of the database as committed."""
        with closing(self.rows()) as db:
            return db.execute(sql, parameters).fetchall()

    def meter(self, ref: str) -> sqlite3.Row:
        """Return the meter of a server, ended or not."""
        return self.select("SELECT * FROM meters WHERE ref = ?", ref)[0]

    def running(self, ref: str) -> Meter:
        """Return the meter of a server that has not ended."""
        return next(m for m in self.store.view.meters.values() if m.ref == ref)

    def charged(self, ref: str) -> Charged:
        """Return what a server cost; what is on hold is not charged yet."""
        meter = self.meter(ref)
        captured = self.select("SELECT sum(captured_base) AS base FROM payments WHERE meter_id = ?", meter["id"])[0]
        return Charged(captured["base"] or 0, meter["lost_base"])

    def available(self, account: str) -> int:
        """Return an account's available balance."""
        return self.store.view.balances[account].available_base

    def held(self, account: str) -> int:
        """Return what is held of an account's balance."""
        return self.store.view.balances[account].held_base

    def tasks(self) -> dict[str, str]:
        """Return the open tasks: subject by kind."""
        return {row["kind"]: row["subject"] for row in self.select("SELECT * FROM tasks WHERE closed_at_ms IS NULL")}

    def billed(self, vendor: str, ref: str) -> Decimal:
        """Return what the vendor itself says that a server cost, in base units."""
        state, kind = self.drivers[vendor].state(), self.kinds[vendor]
        if kind == "cryptovps":
            entries = [entry for account in state["accounts"].values() for entry in account["entries"]]
            usd = -sum((Decimal(entry["amount"]) for entry in entries if entry["ref"] == ref), Decimal(0))
        else:
            usd = Decimal(state["machines"][ref]["charged"] if kind == "litevps" else state["accrued"][ref])
        return usd * 1_000_000

    def asked(self, vendor: str, method: str, ending: str = "") -> int:
        """Count the newest requests of a method at a vendor, those to a path with this ending."""
        requests = self.drivers[vendor].admin("GET", "/requests")
        return sum(r["method"] == method and r["path"].endswith(ending) for r in requests)

    def journal(self, ref: str) -> list[str]:
        """Return the kinds of the journal's rows about a server's meter, in order."""
        meter_id, rows = self.meter(ref)["id"], self.select("SELECT kind, body FROM journal ORDER BY seq")
        return [row["kind"] for row in rows if json.loads(row["body"]).get("meter_id") == meter_id]


def stop_all(drivers: Iterable[Driver]) -> None:
    """End vendor processes."""
    for driver in drivers:
        driver.process.stop()
