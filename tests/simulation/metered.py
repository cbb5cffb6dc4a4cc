"""The metered story: servers that are charged by the hour, ordered, lost, found, paid for, run dry and destroyed.

Short enough to be killed at every commit of a create, a bill and an end. Its promises compare the gateway's rows with the
vendor's own books: whatever happened to the process, nothing was made twice, and nothing ran for nobody.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING

from gateway.config import parse_config
from gateway.core.login import Credentials
from gateway.core.problems import Problem
from gateway.flow.call import AccountCall, Reply
from gateway.vendor_credentials import VendorSecrets
from tests.simulation.agents import Agent, Order
from tests.simulation.cryptovps import HOURLY_BASE, ScriptedCryptoVps
from tests.simulation.facts import Facts
from tests.simulation.plan import CONFIG, Plan
from tests.simulation.promises_money import p1_conserved, p2_no_overdraft
from tests.simulation.world import World
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.agents import Intent
    from tests.simulation.process import Process

__all__ = ["METERED", "MeteredStory", "broken_metered_promises"]

ORIGIN = "https://cryptovps.invalid"
ACCOUNT = f"""
[vendors.cryptovps]
kind = "cryptovps"
base_url = "{ORIGIN}"
ceiling = "1"
allow_private = true

[vendors.cryptovps.account]
period_s = 1200
warn_periods = 2
absent_after_s = 60
poll_s = 10
"""
PATIENT = 14

METERED = Plan(
    agents=2,
    downtime_s=2.0,
    operator=False,
    credit_base=20_000,
    faults={
        ("reply", "acc0.cut"): ["dropped"],
        ("reply", "acc0.broken"): ["500"],
        ("wire", "acc0.unheard"): ["lost"],
        ("reply", "acc0.good-delete"): ["dropped"],
    },
)


class MeteredAgent(Agent):
    """An agent of an account vendor."""

    async def _serve(self, intent: Intent, process: Process) -> Reply:
        """What the API does with a request before the flow."""
        side, order = process.ready().accounts, intent.order
        assert side is not None
        vendor = side.vendors[order.vendor]
        match = vendor.match(order.method, order.target)
        if match is None:
            raise Problem("route_not_declared", order.target)
        call = AccountCall(
            key=process.ready().parts.store.view.keys_by_id[self.key_id],
            request_id=self.world.next_id("req"),
            vendor=vendor,
            match=match,
            method=order.method,
            target=order.target,
            headers=(("Content-Type", "application/json"),),
            body=order.body,
            idempotency_key=f"idem-{intent.name}",
        )
        return await side.broker.run(call)

    async def make(self, name: str) -> str | None:
        """Want a server; return its id, None where there is none."""
        body = json.dumps({"label": name, "planId": "vc2-1c-1gb", "regionId": "ams"}).encode()
        how = Order("cryptovps", "POST", "/servers", body, attempts=PATIENT, pause_s=8.0)
        final = (await self.want(how, name)).final
        return None if final is None or final.status != 202 else str(json.loads(final.body)["server"]["id"])

    async def destroy(self, ref: str, name: str) -> None:
        """Want a server gone."""
        await self.want(
            Order("cryptovps", "DELETE", f"/servers/{ref}", attempts=PATIENT, pause_s=4.0), f"{name}-delete"
        )


class MeteredStory(World):
    """The world in which it happens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock_ms = 0
        self.made: dict[str, str | None] = {}
        text = CONFIG.read_text(encoding="utf-8").replace("poll_s = 2", "poll_s = 60")
        text = text.replace("WALLET", "0x" + self.wallet.hex()).replace("VPSAGENT_PAYEE", "0x" + self.first_payee.hex())
        text = text.replace("SELLER_PAYEE", "0x" + self.seller_payee.hex()) + ACCOUNT
        self.config = parse_config(text, {"SIMULATION": "x"}, directory=CONFIG.parent)
        self.vendor_secrets = {"cryptovps": VendorSecrets(Credentials("ops@example.com", Secret("a-password")))}

    def _build(self) -> None:
        super()._build()
        self.cryptovps = ScriptedCryptoVps(self.clock, self._chance["vendor"], self.script)
        self.servers[ORIGIN] = self.cryptovps

    async def _mine(self) -> None:
        """No money moves on the chain here: it stands still."""
        await asyncio.get_running_loop().create_future()

    async def story(self) -> None:
        """Play it: three orders at once, one that was never heard, one agent that runs out of money."""
        rich, poor = (
            MeteredAgent(self, agent.account_id, agent.key_id, random.Random(agent.account_id)) for agent in self.agents
        )
        await self.operator.credit("acc0", 1_000_000)
        names = ("acc0.good", "acc0.cut", "acc0.broken", "acc0.unheard")
        made = await asyncio.gather(*(rich.make(name) for name in names), poor.make("acc1.poor"))
        self.made |= dict(zip((*names, "acc1.poor"), made, strict=True))
        await asyncio.sleep(1300)  # past a period
        good = self.made["acc0.good"]
        if good is not None:
            await rich.destroy(good, "acc0.good")
        await asyncio.sleep(3000)  # past an hour: acc1 has money for one, and a part of the next
        for name in names[1:]:
            ref = self.made[name]
            if ref is not None:
                await rich.destroy(ref, name)

    def _is_settled(self) -> bool:
        self.clock_ms = self.clock.now_ms()
        return not self.gateway().parts.store.view.meters

    def disappointments(self) -> Iterator[str]:
        """Whoever ordered got a server, the one whose order the vendor never heard by asking again."""
        for name, ref in self.made.items():
            if ref is None:
                yield f"{name} never got its server"


def broken_metered_promises(world: World, _logs: list[str]) -> list[str]:
    """Return every broken promise of a finished run."""
    assert isinstance(world, MeteredStory)
    found = [*world.violations, *world.disappointments()]
    for promise in (p1_conserved, p2_no_overdraft):
        found += [f"{promise.__name__}: {broken}" for broken in promise(world, Facts(world))]
    for rule in (once, charged_or_lost, holds_outlive, ended, quiet):
        found += [f"{rule.__name__}: {broken}" for broken in rule(world)]
    return found


def once(world: MeteredStory) -> Iterator[str]:
    """P4: an order made at most one server, whatever was cut, repeated or killed."""
    for intent, times in Counter(box.intent for box in world.cryptovps.boxes.values()).items():
        if times > 1:
            yield f"{intent} was made {times} times"


def charged_or_lost(world: MeteredStory) -> Iterator[str]:
    """Every server is one meter's, and that cost what the vendor bills: a kill may cost one hour more, never less."""
    meters = {row["ref"]: row for row in world.rows("SELECT * FROM meters")}
    for box in world.cryptovps.boxes.values():
        meter, bill_base = meters.get(box.ref), box.bill_base(world.clock_ms)
        if meter is None:
            yield f"{box.intent} ran for nobody"
            continue
        over_base = meter["billed_base"] - bill_base
        if not 0 <= over_base <= (HOURLY_BASE if world.crashes else 0):
            yield f"{box.intent} is billed {bill_base}, its meter says {meter['billed_base']}"
        if box.intent.partition(".")[0] != meter["account_id"]:
            yield f"{box.intent} is charged to {meter['account_id']}"
        captured = world.rows("SELECT sum(captured_base) AS base FROM payments WHERE meter_id = ?", meter["id"])[0][
            "base"
        ]
        if captured + meter["lost_base"] != meter["billed_base"]:
            yield f"{box.intent}: {captured} captured and {meter['lost_base']} lost are not {meter['billed_base']}"
        if meter["account_id"] == "acc0" and meter["lost_base"]:
            yield f"{box.intent} cost the house {meter['lost_base']} although its agent had money"


def holds_outlive(world: MeteredStory) -> Iterator[str]:
    """P6: an order's hold went back only where the vendor made nothing."""
    made = {box.ref for box in world.cryptovps.boxes.values()}
    for row in world.rows("SELECT * FROM payments WHERE period = 1 AND charge = 'voided' AND delivery <> 'delivered'"):
        if row["resource_ref"] in made or _was_made(world, row["meter_id"]):
            yield f"{row['id']} went back, and its server exists"


def _was_made(world: MeteredStory, meter_id: str) -> bool:
    token = world.rows("SELECT token FROM meters WHERE id = ?", meter_id)[0]["token"]
    return any(token in box.label for box in world.cryptovps.boxes.values())


def ended(world: MeteredStory) -> Iterator[str]:
    """Liveness: everything is destroyed at the vendor, and nothing is held any more."""
    for box in world.cryptovps.boxes.values():
        if box.deleted_ms is None:
            yield f"{box.intent} still runs"
    for row in world.rows("SELECT id, state FROM meters WHERE state <> 'ended'"):
        yield f"{row['id']} is {row['state']}"
    for row in world.rows("SELECT id FROM payments WHERE charge = 'held'"):
        yield f"{row['id']} is still held"


def quiet(world: MeteredStory) -> Iterator[str]:
    """No task cries for a human."""
    for row in world.rows("SELECT kind, subject, detail FROM tasks"):
        yield f"task {row['kind']} on {row['subject']}: {row['detail']}"
