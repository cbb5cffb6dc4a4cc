"""P12 for orders that are paid for on chain: the process ends at every step of one, and the next goes on with it."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.core.commands import Command, Result
from gateway.core.payment import Charge
from gateway.core.server import Server, ServerState
from gateway.http.port import UpstreamRequest, UpstreamResponse
from tests.unit.gateway.flow.order_desk import Desk, desk_on, told
from tests.unit.gateway.flow.spend_bed import Bed, opened

POINTS_MIN, POINTS_MAX = 12, 40


@dataclass
class Crash:
    """Stops a process at its n-th step; nothing that it would have done later happens."""

    bed: Bed
    at: int
    steps: list[str] = field(default_factory=list)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    def arm(self) -> None:
        """Count the steps of this process: what is committed, and what is sent."""
        self._post, self._send = self.bed.store.post, self.bed.line.send
        self.bed.store.post, self.bed.line.send = self._committed, self._sent  # type: ignore[method-assign]

    def disarm(self) -> None:
        """Begin the next process."""
        self.bed.store.post, self.bed.line.send = self._post, self._send  # type: ignore[method-assign]

    async def _step(self, what: str) -> None:
        self.steps.append(what)
        if self.dead.is_set() or len(self.steps) == self.at:
            self.dead.set()
            await asyncio.Event().wait()

    async def _committed(self, command: Command) -> Result:
        await self._step(f"before {type(command).__name__}")
        result = await self._post(command)
        await self._step(f"after {type(command).__name__}")
        return result

    async def _sent(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        await self._step(f"before {request.method} {request.target}")
        answer = await self._send(origin, request)
        await self._step(f"after {request.method} {request.target}")
        return answer


class HonestShop:
    """Makes one box for one credential, however often that is shown."""

    def __init__(self) -> None:
        self.boxes: dict[str, str] = {}

    def sell(self, request: UpstreamRequest) -> UpstreamResponse:
        """The box of this credential."""
        credential = next(value for name, value in request.headers if name.lower() == "x-payment")
        box = self.boxes.setdefault(credential, f"box-{len(self.boxes) + 1}")
        return told(server=box, state="running", address="192.0.2.1")


def process(bed: Bed, shop: HonestShop) -> Desk:
    """Return the use cases of a new process, whose only vendor is the shop."""
    desk = desk_on(bed)
    desk.ways.candidates = desk.ways.candidates[:1]
    desk.told.orders["shop"] = shop.sell
    return desk


async def bury() -> None:
    """Nothing of a process that has ended goes on."""
    here = asyncio.current_task()
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks() if task is not here}
    left = [task for task, code in codes.items() if code is not None and "gateway/flow/" in code.co_filename]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def live(desk: Desk) -> Server:
    """Order until the server runs."""
    server = await desk.ordering.create(desk.who(), desk.new())
    for _ in range(50):
        await desk.ordering.resume()
        await desk.ordering.drain(5.0)
        await desk.bed.sweep()
        server = await desk.keeping.latest(server.id)
        if server.state is ServerState.RUNNING or not server.open:
            await desk.bed.answers.drain(5.0)
            return server
        desk.bed.clock.ms += 1_000
    raise AssertionError(f"{server} never ran")


async def live_until_crash(crash: Crash, desk: Desk) -> bool:
    """Live; return whether the process ended in between."""
    living, dying = asyncio.create_task(live(desk)), asyncio.create_task(crash.dead.wait())
    await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    if not crash.dead.is_set():
        await living
    for task in (living, dying):
        task.cancel()
    await asyncio.gather(living, dying, return_exceptions=True)
    return crash.dead.is_set()


async def test_crash_at_every_step_of_a_paid_order(tmp_path: Path) -> None:
    """One server, one credential, one hold; the books hold it once, and the agent's order is the one that it was."""
    for at in range(1, POINTS_MAX):
        home, shop = tmp_path / str(at), HonestShop()
        home.mkdir()
        async with opened(home) as bed:
            crash = Crash(bed, at)
            crash.arm()
            crashed = await live_until_crash(crash, process(bed, shop))
            if crashed:
                await bury()
            crash.disarm()
            step = crash.steps[-1]
            if crashed:
                await live(process(bed, shop))
            rows: Any = await bed.store.query("SELECT id, state, ref, payment_id FROM servers")
            assert [(row["state"], row["ref"]) for row in rows] == [("running", "box-1")], (at, step)
            assert len(shop.boxes) == 1, (at, step)
            (payment,) = bed.open
            assert payment.id == rows[0]["payment_id"], (at, step)
            assert payment.axes.charge is Charge.HELD
            await bed.settle(payment)
            assert bed.store.view.balances["acc_1"].held_base == 0
            assert await bed.store.contradiction() is None
        if not crashed:
            assert at > POINTS_MIN, crash.steps
            return
    pytest.fail("the story never came to its end")
