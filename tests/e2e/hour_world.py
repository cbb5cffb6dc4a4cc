"""A gateway, five vendors and two agents on one business clock that goes in steps: nobody is ever ahead of anybody else.

Chains, payment windows and SDKs stay in real time; every vendor's business clock and the gateway's are the wall clock and
one and the same push beyond it. A step is over when each of the gateway's loops has begun and ended a call after it.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hour_gateway import BusinessClock, DrivenGateway
from hour_hooks import Endpoint
from hour_vendors import NAMES

from gateway_client import GatewayClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    import aiohttp
    from e2e_gateway import GatewayHome
    from hour_vendors import Vendors

SWEPT_WITHIN_S = 60.0
# Loops that do nothing about a vendor's time, each with a pause of its own.
UNHURRIED = frozenset(
    {"read catalogues", "lift quarantine", "sync watermark", "recover answers", "read events", "send events"}
)
_AGE = re.compile(r'^gateway_loop_last_success_age_seconds\{loop="([^"]+)"\} ([0-9.]+)$', re.MULTILINE)
LOOPS_AT_LEAST = 10


@dataclass(slots=True)
class Owner:
    """One account with a key and an endpoint for webhooks."""

    account_id: str
    key: str
    endpoint: Endpoint = field(default_factory=Endpoint)
    events_from: str = ""  # the last event before it had its endpoint


class World:
    """Everything, from one coroutine's point of view. `client` speaks to whichever gateway process runs now."""

    def __init__(self, vendors: Vendors, home: GatewayHome, clock: Path, session: aiohttp.ClientSession) -> None:
        self.vendors, self.home, self._clock_path, self._session = vendors, home, clock, session
        self.clock = BusinessClock(clock)
        self.gateway = DrivenGateway(home, clock)

    async def start(self) -> None:
        """Wait until the gateway can pay, and knows what every vendor sells."""
        await asyncio.to_thread(self.gateway.wait_open)
        await asyncio.to_thread(self.gateway.wait_ready)

    async def open_account(self, name: str, credit: str) -> Owner:
        """Open an account with a key, and have every event sent to its endpoint."""
        operate = self.gateway.operate
        await asyncio.to_thread(operate, "account_open", account=name, name=name)
        await asyncio.to_thread(operate, "account_credit", account=name, amount=credit, reference=f"credit of {name}")
        key = (await asyncio.to_thread(operate, "key_new", account=name))["secret"]
        owner = Owner(name, str(key))
        owner.events_from = (await every(self.client(owner).events))[-1]["data"]["id"]
        hook = await self.client(owner).create_webhook(owner.endpoint.url, ["*"])
        owner.endpoint.secret = str(hook["secret"])
        return owner

    def client(self, owner: Owner) -> GatewayClient:
        """Return a client of the process that runs now."""
        return GatewayClient(self.gateway.base_url, owner.key, self._session)

    # time

    def now_ms(self) -> int:
        """Return business time."""
        return self.clock.now_ms()

    async def push(self, seconds: float) -> None:
        """Push everybody's business clock, at once."""
        pushes = [self._push(self.vendors.processes[name].admin_url, seconds) for name in NAMES]
        self.clock.advance(seconds)
        await asyncio.gather(*pushes)

    async def _push(self, admin_url: str, seconds: float) -> None:
        async with self._session.post(f"{admin_url}/admin/clock", json={"advance_s": seconds}) as answer:
            assert answer.status == 200, await answer.text()

    async def push_to(self, at_ms: int) -> None:
        """Push everybody's business clock to a time, however long the machine took for what came before."""
        await self.push(max(0, at_ms - self.now_ms()) / 1000)

    async def step_to(self, at_ms: int) -> None:
        """Push business time to a time, and let the gateway do what follows from that."""
        await self.push_to(at_ms)
        await self.swept()
        await self.swept()

    async def swept(self) -> None:
        """Wait until each of the gateway's loops has ended a call that was under way, or began, now."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + SWEPT_WITHIN_S:
            async with self._session.get(f"{self.gateway.base_url}/metrics") as answer:
                asked_s, ages = time.monotonic(), dict(_AGE.findall(await answer.text()))
            awaited = {name: float(age_s) for name, age_s in ages.items() if name not in UNHURRIED}
            assert len(awaited) >= LOOPS_AT_LEAST, sorted(ages)
            late = [name for name, age_s in awaited.items() if asked_s - age_s < began_s]
            if not late:
                return
            await asyncio.sleep(0.03)
        raise AssertionError(f"not swept within {SWEPT_WITHIN_S:g} s: {late}\n{self.home.log()[-4000:]}")

    # the end of the process

    async def kill(self) -> float:
        """`kill -9`; return when (wall clock)."""
        at_s = time.time()
        assert await asyncio.to_thread(self.gateway.kill) == -9
        return at_s

    async def restart(self) -> None:
        """Start it again on the same directory and the same clock."""
        self.gateway = DrivenGateway(self.home, self._clock_path)
        await self.start()

    def close(self) -> None:
        """Stop the gateway."""
        self.gateway.stop()
        self.clock.close()


async def every(
    page: Callable[..., Awaitable[Mapping[str, Any]]], after: str | None = None, **filters: Any
) -> list[Any]:
    """Return the entries of all pages of a list, after one of them or from the beginning."""
    entries: list[Any] = []
    while True:
        found = await page(after=after, limit=200, **filters)
        entries += found["entries"]
        after = found["next"]
        if after is None:
            return entries


async def until(what: str, probe: Callable[[], Awaitable[Any]], within_s: float = 90.0, pause_s: float = 0.1) -> Any:
    """Ask again and again until the answer is true, and return it."""
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        found = await probe()
        if found:
            return found
        await asyncio.sleep(pause_s)
    raise AssertionError(f"{what} did not happen within {within_s:g} s")
