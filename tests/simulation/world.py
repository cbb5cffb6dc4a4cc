"""Everything outside of the gateway's process: chain, vendors, disk, people, time; and the lives of the process in it.

Theory: one seed decides every delay, fault, choice and death, each from a stream of its own, so a run replays exactly and
its record of what happened is the same to the last line.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from contracts.signature import address_of, load_key
from contracts.tokens import BASE_USDC
from gateway.store.core import StoreCore
from tests.fakes.chain import ScriptedChain
from tests.fakes.clock import SeededEntropy, SkewedClock, VirtualClock
from tests.fakes.store import copy_of, memory_database
from tests.fakes.vendor import BLOCK_S, Shown, Till
from tests.simulation.agents import Agent
from tests.simulation.desk import Operator
from tests.simulation.plan import Plan, load_config
from tests.simulation.process import OWNER, Died, Process, task_factory
from tests.simulation.script import FixedScript, RandomScript
from tests.simulation.seller import ScriptedSeller
from tests.simulation.vpsagent import ScriptedVpsAgent
from wallets.secret import Secret
from wallets.watermark import Watermark

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from contracts.codec import Address
    from contracts.eip3009 import Authorization
    from gateway.graph import Gateway
    from gateway.vendor_credentials import VendorSecrets

__all__ = ["World"]

FINAL_LAG = 3
SETTLE_STEP_S = 15.0
SETTLE_STEPS = 200
LIFETIME_S = 20_000.0


@dataclass
class Restored:
    """A restore of an older copy: the last process before it, and the authorizations that the copy knows."""

    process: int
    known: frozenset[bytes]


@dataclass
class World:
    """One run. Use `play` on a virtual loop."""

    plan: Plan
    watermark_path: Path
    trace: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    crashes: int = 0
    restored: Restored | None = None
    process: Process | None = None
    processes: int = 0
    signatures: list[tuple[Authorization, bytes]] = field(default_factory=list)
    unwritten: list[Shown] = field(default_factory=list)
    heard: dict[str, list[bytes]] = field(default_factory=dict)
    agents: list[Agent] = field(default_factory=list)
    over: bool = False
    lifetime_s: float = LIFETIME_S

    def __post_init__(self) -> None:
        plan = self.plan
        self.clock = VirtualClock()
        self.wallet_key = Secret(sha256(b"simulation wallet").digest())
        self.wallet = address_of(load_key(self.wallet_key.reveal()))
        self.data_key = Secret(sha256(b"simulation data key").digest())
        self.first_payee, self.second_payee = (_address(f"vpsagent {n}") for n in (1, 2))
        self.seller_payee = _address("seller")
        self.config = load_config(self.wallet, self.first_payee, self.seller_payee)
        self._chance = {
            name: random.Random(f"{name} {plan.seed}")
            for name in ("delay", "crash", "chain", "vendor", "ids", "events")
        }
        self.entropy = SeededEntropy(self._chance["ids"])
        self.vendor_secrets: Mapping[str, VendorSecrets] = {}
        self._ids = 0
        self.db = memory_database()
        self.disks = [self.db]
        self.operator = Operator(self, random.Random(f"operator {plan.seed}"))
        self._world_context = contextvars.copy_context()
        self._world_context.run(OWNER.set, None)
        self._spawned: list[asyncio.Task[Any]] = []
        Watermark.create(self.watermark_path).close()
        faults = plan.faults
        self.script: RandomScript | FixedScript = (
            RandomScript(random.Random(f"script {plan.seed}"), plan.malice) if faults is None else FixedScript(faults)
        )

    def _build(self) -> None:
        """What needs the running loop's clock."""
        plan = self.plan
        self.chain = ScriptedChain(
            SkewedClock(self.clock, plan.skew_s),
            final_lag=FINAL_LAG,
            balances={(BASE_USDC, self.wallet): plan.capital_base},
            seed=str(plan.seed).encode(),
        )
        self.chain.mine()
        self.vpsagent = ScriptedVpsAgent(
            self._till("vpsagent", self.first_payee, self.second_payee), self.clock, self._chance["vendor"]
        )
        self.seller = ScriptedSeller(
            self._till("seller", self.seller_payee, _address("stranger")), self.clock, self._chance["vendor"]
        )
        self.tills = (self.vpsagent.till, self.seller.till)
        self.servers = {
            str(self.config.vendors["vpsagent"].base_url): self.vpsagent,
            str(self.config.vendors["seller"].base_url): self.seller,
        }

    def _till(self, name: str, pay_to: Address, other: Address) -> Till:
        return Till(
            name=name,
            pay_to=pay_to,
            other_payee=other,
            chain=self.chain,
            clock=self.clock,
            script=self.script,
            rng=self._chance["vendor"],
            spawn=self.spawn,
            on_shown=self._on_shown,
        )

    # what the process asks of its world

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run work outside of every process."""
        task = asyncio.get_running_loop().create_task(work, context=self._world_context.copy())
        self._spawned.append(task)
        return task

    def next_id(self, prefix: str) -> str:
        """Return a name that was not used before."""
        self._ids += 1
        return f"{prefix}{self._ids}"

    def delay_s(self) -> float | None:
        """Return how long the next port call waits; None is not at all."""
        drawn = self._chance["delay"].random()
        if drawn < 0.5:
            return None
        return 0.0 if drawn < 0.75 else (drawn - 0.75) * 0.04

    def chain_trouble(self) -> str:
        """Return how the chain's line fails now, '' for not."""
        drawn = self._chance["chain"].random()
        if drawn >= self.plan.chain_trouble or self.over:
            return ""
        return "disagreement" if drawn < self.plan.chain_trouble / 3 else "unavailable"

    def kills_at(self, kind: str, what: str) -> bool:
        """Note a point at which a process may be killed, and say whether it is."""
        self.points.append(f"{kind} {what}")
        if self.plan.crash_at is not None:
            return len(self.points) == self.plan.crash_at
        if self.over or self.crashes >= self.plan.crashes_max:
            return False
        # What happens around money is worth more deaths than the many quiet commits.
        chance = self.plan.crash_chance * (1 if kind in {"commit", "committed"} else 3)
        return self._chance["crash"].random() < chance

    def signed(self, authorization: Authorization, signature: bytes) -> None:
        """Remember what was signed."""
        self.signatures.append((authorization, signature))

    def seen_by(self, account_id: str, body: bytes) -> None:
        """Remember what an account was told."""
        self.heard.setdefault(account_id, []).append(body)

    def note(self, text: str) -> None:
        """Write a line of the record."""
        self.trace.append(f"{asyncio.get_running_loop().time():9.3f} {text}")

    def violation(self, text: str) -> None:
        """Write down a broken promise."""
        self.violations.append(text)
        self.note(f"VIOLATION {text}")

    def _on_shown(self, shown: Shown) -> None:
        """P3, at the moment at which bytes arrive: whatever left the process is on disk already."""
        nonce = shown.authorization.nonce
        self.note(f"{shown.till} {shown.route} {shown.intent} is shown {nonce.hex()[:8]} by process {shown.sender}")
        sql = "SELECT j.seq FROM authorizations a JOIN journal j USING (payment_id) WHERE a.nonce = ? AND j.kind = 'payment.held'"
        row = self.db.execute(sql, (nonce,)).fetchone()
        # A dead process's last words may arrive after its database was replaced by an older copy.
        if row is None and (self.restored is None or shown.sender > self.restored.process):
            self.violation(f"P3: {nonce.hex()[:8]} reached {shown.till} before it was durable")
        process = self.process
        if row is not None and process is not None and process.number == shown.sender:
            height = process.watermark.read().height
            if height < row[0] and not self.is_quarantined():
                self.violation(f"P12: {nonce.hex()[:8]} left at journal row {row[0]}, the signer remembers {height}")

    # the run

    async def play(self) -> None:
        """Live, settle, stop."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(cast("Any", task_factory))
        loop.set_exception_handler(lambda _, context: self.violation(f"unhandled: {_unhandled(context)}"))
        self._build()
        acting = self.spawn(self._act())
        engines = [acting, self.spawn(self._mine()), self.spawn(self._keep_alive())]
        try:
            done, _ = await asyncio.wait(engines, timeout=self.lifetime_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done:
                self.violation(f"liveness: still not done after {self.lifetime_s} s")
        finally:
            self.over = True
            if self.process is not None:
                await self.process.bury()
            await _end(self._spawned)

    async def _act(self) -> None:
        await self.live()
        await self.settle()

    async def live(self) -> None:
        """Let everybody do what they do until the agents are done."""
        plan = self.plan
        self.operator.payees = {
            ("vpsagent", self.first_payee): 0,
            ("seller", self.seller_payee): 0,
        }
        for vendor, config in self.config.vendors.items():
            self.operator.prices |= {(vendor, item): {price} for item, price in config.prices.items()}
        for number in range(plan.agents):
            account_id = f"acc{number}"
            key_id = await self.operator.open(account_id, plan.credit_base)
            self.agents.append(Agent(self, account_id, key_id, random.Random(f"agent {number} {plan.seed}")))
        meanwhile = [self.spawn(self._events())]
        if plan.operator:
            meanwhile.append(self.spawn(self.operator.live()))
        await self.story()
        await _end(meanwhile)

    async def story(self) -> None:
        """What the agents do."""
        await asyncio.gather(*(agent.live(self.plan.things) for agent in self.agents))

    async def settle(self) -> None:
        """Let every window, deadline and quarantine pass, in big steps, with nothing going wrong any more."""
        self.note("SETTLE")
        self.over = True
        self.script.end()
        for _ in range(SETTLE_STEPS):
            await asyncio.sleep(SETTLE_STEP_S)
            try:
                await self.operator.answer_tasks()
                for scope in self._freezes():
                    await self.operator.freeze(scope, frozen=False)
                if self._is_settled():
                    break
            except Died:
                continue
        else:
            self.violation("liveness: not everything was settled in time")
        for _ in range(6):  # the wallet's balance is compared once a minute
            await asyncio.sleep(SETTLE_STEP_S)

    def disappointments(self) -> Iterator[str]:
        """Say what people should have got and did not; only a written story can know."""
        yield from ()

    def gateway(self) -> Gateway:
        """Return the running gateway. Raises Died."""
        if self.process is None:
            raise Died
        return self.process.ready()

    def _freezes(self) -> list[str]:
        freezes = self.gateway().parts.store.view.freezes
        return [scope for scope, freeze in freezes.items() if freeze.by != "quarantine"]

    def _is_settled(self) -> bool:
        view = self.gateway().parts.store.view
        longest_s = max((shown.authorization.valid_before for till in self.tills for shown in till.shown), default=0)
        finished = not view.open_payments and not view.freezes and not any(till.busy for till in self.tills)
        final_s = self.chain._chain[max(0, len(self.chain._chain) - 1 - FINAL_LAG)].block.time_s
        cursor = view.cursors.get(self.chain.chain_id, (0, b""))
        return finished and final_s > longest_s and cursor[0] > 0

    def is_quarantined(self) -> bool:
        """Say whether the process holds its database for an old copy."""
        gateway = None if self.process is None else self.process.gateway
        freeze = None if gateway is None else gateway.parts.store.view.freezes.get("database")
        return freeze is not None and freeze.by == "quarantine"

    async def _mine(self) -> None:
        while True:
            await asyncio.sleep(BLOCK_S)
            self.chain.mine()
            if (
                self.plan.reorgs
                and not self.over
                and self.chain.newest.number > FINAL_LAG
                and self._chance["events"].random() < 0.03
            ):
                depth = self._chance["events"].randint(1, FINAL_LAG)
                resend = self._chance["events"].random() < 0.5
                self.note(f"REORG of {depth} blocks, {'with' if resend else 'without'} their transactions")
                self.chain.reorg(depth, resend=resend)

    async def _keep_alive(self) -> None:
        """Start the gateway again whenever it is gone."""
        while True:
            self.processes += 1
            process = Process(self, self.processes)
            self.note(f"PROCESS {process.number} starts")
            try:
                self.process = process
                await process.start()
                await asyncio.shield(process.death)
            except Died:
                pass
            self.process = None
            self.crashes += 1
            await process.bury()
            await asyncio.sleep(self._chance["events"].uniform(0.1, self.plan.downtime_s))

    async def _events(self) -> None:
        """What befalls the machine: clean restarts, and a restore of an older copy of the disk."""
        rng = self._chance["events"]
        if self.plan.graceful:
            self.spawn(self._restart(rng.uniform(20, 90)))
        if not self.plan.restore:
            return
        await asyncio.sleep(rng.uniform(5, 60))
        # An older copy knows nothing of the chain, so nothing to go on from.
        await self.until(lambda: bool(self.rows("SELECT 1 FROM cursors")))
        copy = copy_of(self.db)
        self.note("BACKUP")
        await asyncio.sleep(rng.uniform(5, 60))
        await self.restore(copy)

    async def _restart(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if self.process is not None:
            self.note("SIGTERM")
            await self.process.stop()

    async def restore(self, copy: sqlite3.Connection) -> None:
        """Put an older copy of the database in place of the one in use."""
        await self.until(lambda: self.process is not None)
        assert self.process is not None
        self.process.kill("to restore an older copy")
        self.db = copy
        self.disks.append(copy)
        known = frozenset(bytes(row[0]) for row in copy.execute("SELECT nonce FROM authorizations"))
        self.restored = Restored(self.processes, known)
        self.note(f"RESTORE of a copy that knows {len(known)} authorizations")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so: the world does not announce what happens in it."""
        for _ in range(int(LIFETIME_S)):
            if holds():
                return
            await asyncio.sleep(0.5)

    def rows(self, sql: str, *parameters: object) -> list[Any]:
        """Return rows of the database in use."""
        return self.db.execute(sql, parameters).fetchall()

    def core(self) -> StoreCore:
        """Return a core over the database, as an auditor opens it."""
        return StoreCore(self.db, self.config.book_rules())


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _address(name: str) -> Any:
    return sha256(name.encode()).digest()[:20]


def _unhandled(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}: {error!r}"
