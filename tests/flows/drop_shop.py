"""The paying flow with dropmpp's own module, for two accounts that share the wallet."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from tempo_desk import Desk, tempo_desk

from gateway.core import commands as c
from gateway.core.apikeys import new_key
from gateway.core.records import AgentAccount, ApiKey, Resource
from gateway.flow.call import Reply
from gateway.flow.finding import Finder
from gateway.flow.house import House
from gateway.flow.recover import Recovery
from gateway.system import SystemClock, SystemEntropy
from gateway.vendors.dropmpp import DropMpp
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo

VENDOR = "drop"
APPROVED = {
    "small/create": 10_000,
    "small/hour": 13_400,
    "medium/create": 20_000,
    "medium/hour": 53_600,
    "large/create": 40_000,
    "large/hour": 107_200,
    "power": 5_000,
    "key": 1_000,
    "snapshot": 10_000,
    "snapshot/gb-day": 2_670,
}
SMALL = {"size": "small", "region": "nyc1", "minutes": 60}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"


@dataclass
class Shop:
    """A desk at the vendor; `keys` are of acc_1 and acc_2."""

    desk: Desk
    keys: dict[str, ApiKey]

    async def run(self, method: str, path: str, account: str = "acc_1", /, **members: Any) -> Reply:
        """Run a call of an account, whose answer reaches it; `members` are of its body."""
        body = json.dumps(members).encode() if members else b""
        return await self.desk.run(method, path, body, key=self.keys[account])

    async def good(self, method: str, path: str, account: str = "acc_1", /, **members: Any) -> Any:
        """Run a call that succeeds; return its document."""
        reply = await self.run(method, path, account, **members)
        assert 200 <= reply.status < 300, reply.body
        return json.loads(reply.body)

    async def price(self, method: str, path: str, **members: Any) -> int:
        """Return what a call would be charged, in base units, after its challenge was held against our quote."""
        body = json.dumps(members).encode()
        reply = await self.desk.run(method, path, body, quote_only=True)
        whole, _, decimals = json.loads(reply.body)["price"].partition(".")
        return int(whole + decimals)

    async def server(self, account: str = "acc_1", /, **changes: Any) -> str:
        """Return the id of a new server that is up."""
        made = await self.good("POST", "/v1/servers", account, **{**SMALL, **changes})
        self.advance(2)
        return str(made["id"])

    async def thing(self, ref: str) -> Resource:
        """Return a thing as the gateway knows it."""
        found = await self.desk.store.resource(VENDOR, ref)
        assert found is not None
        return found

    def advance(self, seconds: float) -> None:
        """Push the vendor's business time forward."""
        self._admin("/admin/clock", {"advance_s": seconds})

    def reset(self) -> None:
        """Let the vendor begin anew."""
        self._admin("/admin/reset", {})

    def _admin(self, path: str, body: Any) -> None:
        requests.post(self.desk.process.admin_url + path, json=body, timeout=10).raise_for_status()

    def proofs(self) -> list[tuple[str, str]]:
        """Return account and route of every proof on record, oldest first."""
        rows = self.desk.rows("SELECT body FROM journal WHERE kind = 'proof.signed' ORDER BY seq")
        return [(found["account_id"], found["route"]) for found in (json.loads(row["body"]) for row in rows)]


@contextlib.asynccontextmanager
async def drop_shop(tempo: LocalTempo, process: SandboxProcess, directory: Path, **terms: Any) -> AsyncIterator[Shop]:
    """Start everything; the vendor's book is empty and all its prices are approved."""
    async with tempo_desk(tempo, process, directory, **terms) as desk:
        clock, now_ms = SystemClock(), SystemClock().now_ms()
        desk.vendor = DropMpp(VENDOR, process.base_url, desk.vendor.terms)  # type: ignore[assignment]
        other = new_key("acc_2", "test", ("proxy",), (), now_ms, SystemEntropy().bytes).key
        commands: tuple[c.Command, ...] = (
            c.OpenAccount(AgentAccount("acc_2", "acc_2", now_ms)),
            c.CreditAccount("acc_2", 100_000_000, "credit 2", "", "test", now_ms),
            c.AddKey(other),
            *(c.ApprovePrice(VENDOR, item, base, "test", now_ms) for item, base in APPROVED.items()),
        )
        for command in commands:
            assert isinstance(await desk.store.post(command), c.Done)
        presenter, prover = desk.spend._presenter, desk.spend._prover
        house = House(store=desk.store, upstream=desk.wire, prover=prover, clock=clock)
        desk.recovery = Recovery(
            store=desk.store,
            answers=desk.answers,
            presenter=presenter,
            vendors={VENDOR: desk.vendor},
            heads=desk.recovery._heads,
            clock=clock,
            finder=Finder(
                store=desk.store,
                house=house,
                presenter=presenter,
                sealer=presenter._sealer,
                clock=clock,
                entropy=SystemEntropy(),
            ),
        )
        shop = Shop(desk, {"acc_1": desk.key, "acc_2": other})
        shop.reset()
        yield shop
        await desk.recovery.drain(5.0)


def ids(document: Any) -> set[str]:
    """Return every id of a thing that a document names anywhere."""
    return set(re.findall(r"\b(?:srv|snap|key)_[0-9a-f]{16}\b", json.dumps(document)))
