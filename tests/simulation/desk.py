"""The operator: opens accounts, gives credit, answers tasks, freezes and releases; and remembers what was done.

Its memory is what the gateway's books are judged by: how much credit there is, which payees and prices were ever approved.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from gateway.core import commands as c
from gateway.core.payment import Charge
from gateway.core.records import AgentAccount, ApiKey
from gateway.store.queries import TASKS
from tests.simulation.process import Died
from tests.simulation.vpsagent import PRICES

if TYPE_CHECKING:
    import random

    from tests.simulation.world import World

__all__ = ["Operator"]

BY = "operator"


@dataclass
class Operator:
    """A human with the operator's tools, who tries again when the gateway is down."""

    world: World
    rng: random.Random
    references: dict[str, tuple[str, int]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    payees: dict[tuple[str, bytes], int] = field(default_factory=dict)  # approved since
    prices: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    async def do(self, command: c.Command) -> c.Result:
        """Post a command, again and again until there is an answer."""
        while True:
            process = self.world.process
            if process is not None:
                with contextlib.suppress(Died):
                    return await process.post(command)
            await asyncio.sleep(1.0)

    async def open(self, account_id: str, credit_base: int) -> str:
        """Open an account with a key and credit; return the key's id."""
        key_id = f"key-{account_id}"
        await self.do(c.OpenAccount(AgentAccount(account_id, account_id, self._now())))
        digest = sha256(key_id.encode()).digest()
        await self.do(c.AddKey(ApiKey(key_id, account_id, digest, key_id, ("spend", "read"), (), self._now())))
        await self.credit(account_id, credit_base)
        return key_id

    async def credit(self, account_id: str, amount_base: int) -> None:
        """Give credit, once."""
        reference = self.world.next_id("credit-")
        self.references[reference] = (account_id, amount_base)
        result = await self.do(c.CreditAccount(account_id, amount_base, reference, "", BY, self._now()))
        assert isinstance(result, c.Done), result
        self.acknowledged.add(reference)

    async def freeze(self, scope: str, *, frozen: bool) -> None:
        """Set or lift a freeze."""
        await self.do(c.SetFreeze(scope, frozen, "drill", BY, self._now()))

    async def live(self) -> None:
        """Do something now and then."""
        while True:
            await asyncio.sleep(self.rng.uniform(10, 40))
            draw = self.rng.random()
            accounts = [agent.account_id for agent in self.world.agents]
            if draw < 0.3:
                await self.credit(self.rng.choice(accounts), self.rng.randrange(1, 20_000_000))
            elif draw < 0.5:
                scope = self.rng.choice(["vendor:vpsagent", f"account:{accounts[0]}", "all"])
                await self.freeze(scope, frozen=True)
                await asyncio.sleep(self.rng.uniform(1, 15))
                await self.freeze(scope, frozen=False)
            else:
                await self.answer_tasks()

    async def answer_tasks(self) -> None:
        """Decide what waits for a human."""
        process = self.world.process
        if process is None:
            return
        try:
            store = process.ready().parts.store
            rows = await process.run(store.query(TASKS, {"open": 1, "before": "~", "limit": 100}))
        except Died:
            return
        for row in rows:
            kind, subject = str(row["kind"]), str(row["subject"])
            if kind == "dispute":
                charge = self.rng.choice([Charge.CAPTURED, Charge.REFUNDED])
                await self.do(c.ResolveDispute(subject, charge, BY, self._now()))
                await self.freeze("vendor:vpsagent", frozen=False)
                await self.freeze("vendor:seller", frozen=False)
            elif kind == "payee_unknown":
                await self._payee(subject)
            elif kind == "price_changed" and subject.startswith("vpsagent/"):
                await self._price(subject.partition("/")[2])
            elif kind in {"unknown_outflow", "float_missing"}:
                await self.freeze(f"wallet:0x{self.world.wallet.hex()}", frozen=False)
            elif kind == "database_quarantined" and not self.world.is_quarantined():
                pass
            else:
                continue
            await self.do(c.CloseTask(str(row["id"]), "done", BY, self._now()))

    async def _payee(self, subject: str) -> None:
        """Approve the vendor's second payee; anything else is a trap."""
        vendor, _, address = subject.split("/")
        pay_to = bytes.fromhex(address[2:])
        if pay_to != self.world.second_payee:
            return
        self.payees.setdefault((vendor, pay_to), self._now())
        await self.do(c.ApprovePayee(vendor, self.world.chain.chain_id, pay_to, BY, self._now()))
        process = self.world.process
        if process is not None and process.gateway is not None:
            process.gateway.refresh_guard()

    async def _price(self, item: str) -> None:
        """Approve what the vendor asks now."""
        price_base = self.world.vpsagent.prices.get(item, PRICES[item])
        self.prices.setdefault(("vpsagent", item), set()).add(price_base)
        await self.do(c.ApprovePrice("vpsagent", item, price_base, BY, self._now()))

    def _now(self) -> int:
        return self.world.clock.now_ms()
