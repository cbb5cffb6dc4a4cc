"""A month of metered servers at five vendor accounts: what agents paid and the house bore is each vendor's own bill."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.core.records import ApiKey
from sandbox.shared_vendor.driver import Driver
from tests.flows.meter_bed import DAY_S, HOUR_S, MINUTE_S, Bed, start_vendor, stop_all

BILLING_RULES = {"hourly": "started_units", "hourly_capped": "hourly_capped", "monthly": "monthly"}
KINDS = {"cryptovps": "cryptovps", "litevps": "litevps"} | {f"vrtx_{rule}": "vrtx" for rule in BILLING_RULES}
ACCOUNTS: Mapping[str, Mapping[str, Any]] = {
    "cryptovps": {"period_s": HOUR_S, "absent_after_s": 60},
    "litevps": {"period_s": 6 * HOUR_S, "absent_after_s": 60, "when_unfunded": "suspend", "grace_s": 2 * DAY_S},
    **{
        f"vrtx_{rule}": {"period_s": DAY_S, "absent_after_s": 60, "billing_rule": ours}
        for rule, ours in BILLING_RULES.items()
    },
}
CRYPTO_PLANS = ("vc2-1c-1gb", "vc2-1c-2gb", "vc2-2c-4gb", "vc2-6c-16gb")
MONTH_S = 31 * DAY_S
AWAY_S = (12.3 * DAY_S, 15.3 * DAY_S)  # the gateway is not running
# No two of them are whole units apart: at the very moment at which a unit begins its beginning is anybody's guess.
OFFSETS_S = {"create": 0.5, "start": 0.25, "stop": 0.75, "destroy": 0.9}
SERVERS_PER_VENDOR = 4
LOOKS_BETWEEN = 30
# Enough for some days of the small plan, and of VRTX's month by month for two calendar months and not for three.
POOR_BASE = {"cryptovps": 3_000_000, "litevps": 1_000_000} | {
    "vrtx_hourly": 1_500_000,
    "vrtx_hourly_capped": 1_500_000,
    "vrtx_monthly": 9_000_000,
}
# What the vendors do by themselves after a call takes so long; the gateway looks at least so often meanwhile.
AFTER_S = (6, 20)


@pytest.fixture(scope="module")
def drivers() -> Iterator[Mapping[str, Driver]]:
    """Five vendor processes: VRTX once for each rule that its operator may have."""
    started = {name: start_vendor(name) for name in ("cryptovps", "litevps")}
    started |= {f"vrtx_{rule}": start_vendor("vrtx", billing_rule=rule) for rule in BILLING_RULES}
    yield started
    stop_all(started.values())


@dataclass
class Server:
    """One server's life as its agent wants it."""

    vendor: str
    key: ApiKey
    order: Mapping[str, Any]
    ref: str = ""
    log: list[str] = field(default_factory=list)


@dataclass
class Month:
    """What happens when, in seconds from the beginning."""

    bed: Bed
    rng: random.Random
    plan: dict[float, list[tuple[str, Server]]] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    now_s: float = 0.0

    def at(self, when_s: float, what: str, server: Server) -> None:
        """Plan an action."""
        self.plan.setdefault(round(when_s) + OFFSETS_S[what], []).append((what, server))

    def add(self, vendor: str, key: ApiKey, order: Mapping[str, Any], *, ends: bool = True) -> None:
        """Plan a life: made within two days, stopped and started where that can be, destroyed some time."""
        server = Server(vendor, key, order)
        self.servers.append(server)
        made_s = self.rng.uniform(0, 2 * DAY_S)
        short, long = made_s + self.rng.uniform(40, 3 * HOUR_S), self.rng.uniform(8 * DAY_S, MONTH_S)
        gone_s = short if len(self.servers) % 2 else long
        self.at(made_s, "create", server)
        if KINDS[vendor] == "litevps":
            on_s = made_s + 60
            while on_s < gone_s - 2 * HOUR_S and ends:
                on_s += self.rng.choice([self.rng.uniform(60, 900), self.rng.uniform(DAY_S, 8 * DAY_S)])
                off_s = on_s + self.rng.choice([self.rng.uniform(60, 900), self.rng.uniform(HOUR_S, 3 * DAY_S)])
                if off_s < gone_s - 60 and not self.is_away(on_s, off_s):
                    self.at(on_s, "stop", server)
                    self.at(off_s, "start", server)
                on_s = off_s
        if ends:
            self.at(gone_s + (AWAY_S[1] - AWAY_S[0] if self.is_away(gone_s, gone_s) else 0), "destroy", server)

    @staticmethod
    def is_away(from_s: float, until_s: float) -> bool:
        """Say whether the gateway is not running at some time between."""
        return from_s - 60 < AWAY_S[1] and until_s + 60 > AWAY_S[0]

    async def do(self, what: str, server: Server) -> None:
        """One call of an agent's."""
        server.log.append(f"{what} at {self.now_s:.1f}")
        if what == "create":
            server.ref = await self.bed.server(server.key, server.vendor, **server.order)
            return
        action = "" if what == "destroy" else what
        reply = await self.bed.act(server.key, server.vendor, server.ref, action)
        assert reply.status < 300, (server, reply)

    async def go_to(self, when_s: float) -> None:
        """Let time pass until then, with a sweep there."""
        await self.bed.advance(when_s - self.now_s)
        self.now_s = when_s
        await self.bed.sweep()

    async def live(self) -> None:
        """Play the plan in steps of seconds to days; the process is not running for three of them."""
        moments = sorted(self.plan)
        for _ in range(LOOKS_BETWEEN):  # around the boundaries of hours and days, and anywhere
            unit_s = self.rng.choice([MINUTE_S, HOUR_S, DAY_S])
            moments.append(round(self.rng.uniform(0, MONTH_S) / unit_s) * unit_s + self.rng.choice([-1, 0, 1]))
        for moment in sorted(set(moments)):
            if self.now_s < AWAY_S[0] <= moment:
                await self.be_away()
            if moment > self.now_s or moment in self.plan:
                await self.step_to(moment)

    async def step_to(self, moment: float) -> None:
        """Go there, do what is planned, and follow what comes of it."""
        if moment > self.now_s:
            await self.go_to(moment)
        for what, server in self.plan.pop(moment, ()):
            await self.do(what, server)
            await self.bed.sweep(server.vendor)
        for after_s in AFTER_S:
            if moment + after_s > self.now_s:
                await self.go_to(moment + after_s)

    async def be_away(self) -> None:
        """Stop, for days, and start again: the meters catch up."""
        if AWAY_S[0] > self.now_s:
            await self.go_to(AWAY_S[0])
        await self.bed.close()
        await self.bed.advance(AWAY_S[1] - self.now_s)
        self.now_s = AWAY_S[1]
        await self.bed.open()
        await self.step_to(self.now_s)


async def order_for(bed: Bed, key: ApiKey, vendor: str, pick: int) -> Mapping[str, Any]:
    """Return which of the vendor's plans to order, 0 for the smallest."""
    if KINDS[vendor] == "cryptovps":
        return {"planId": CRYPTO_PLANS[pick % len(CRYPTO_PLANS)]}
    if KINDS[vendor] == "litevps":
        plans = json.loads((await bed.call(key, vendor, "GET", "/api/pricing")).body)
        return {"plan_id": plans[pick % len(plans)]["id"]}
    return {"plan_id": pick % 8 + 1}


@pytest.mark.parametrize("seed", [7])
async def test_a_month_of_servers_costs_what_the_vendors_bill(
    tmp_path: Path, drivers: Mapping[str, Driver], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Captured charges and house losses add up to each vendor's own bill, to one base unit a server, whatever happened.

    CryptoVPS bills started hours, LiteVPS started minutes while a machine runs, VRTX by each of its three rules over the
    end of a calendar month. One agent runs out of money at every vendor; the gateway is away for three days.
    """
    async with Bed(tmp_path, drivers, KINDS, ACCOUNTS) as bed:
        await live_a_month(bed, random.Random(seed), capsys)


async def live_a_month(bed: Bed, rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    """The month, and its bill."""
    rich = [await bed.account(f"acc_{n}") for n in (1, 2)]
    month = Month(bed, rng)
    for vendor in KINDS:
        for number in range(SERVERS_PER_VENDOR):
            month.add(vendor, rich[number % 2], await order_for(bed, rich[0], vendor, rng.randrange(8)))
        poor = await bed.account(f"poor_{vendor}", POOR_BASE[vendor])
        month.add(vendor, poor, await order_for(bed, poor, vendor, 0), ends=False)

    await month.live()
    assert not month.plan
    await month.step_to(max(month.now_s, MONTH_S) + HOUR_S)
    for server in month.servers:
        meter = bed.meter(server.ref)
        if meter["state"] == "running":
            await month.do("destroy", server)
    for _ in range(8):
        await month.go_to(month.now_s + 71)
    assert not bed.store.view.meters

    lines, worst = [], Decimal(0)
    for server in month.servers:
        charged, billed = bed.charged(server.ref), bed.billed(server.vendor, server.ref)
        worst = max(worst, abs(charged.total_base - billed))
        lines.append(f"{server.vendor:20} {charged.captured_base:>10} {charged.lost_base:>8} {billed:>16.2f}")
        assert abs(charged.total_base - billed) <= 1, (server, charged, billed, bed.journal(server.ref))
    with capsys.disabled():
        print(*lines, f"worst difference: {worst}", sep="\n")
    assert bed.failures == []
    assert sum(bed.held(key.account_id) for key in rich) == 0
