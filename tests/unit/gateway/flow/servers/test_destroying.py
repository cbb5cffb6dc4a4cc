"""Destructions that are wanted, asked for beside a loop that no vendor can hold."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.problems import Problem
from gateway.core.server import Candidate, Server, Wanted
from gateway.flow.servers.destroying import AT_ONCE, PATIENCE_S, Destroying
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.runner import Runner
from gateway.http.port import UpstreamRequest, UpstreamResponse
from tests.unit.gateway.flow.lease_desk import HOUR_MS, SLOW, Lease
from tests.unit.gateway.flow.order_desk import Desk, desk_opened, told
from tests.unit.gateway.flow.spend_bed import PRICE_BASE, respond


class Hanging:
    """The shops' free answers: one shop never answers a destruction until it is let go."""

    def __init__(self, desk: Desk, shop: str) -> None:
        self._desk, self._shop, self._told = desk, shop, desk.bed.line.first
        self.go, self.asked = asyncio.Event(), list[str]()
        desk.bed.line.first = self

    async def __call__(self, request: UpstreamRequest) -> UpstreamResponse:
        """Answer, or hang."""
        ref = request.target.rpartition("/")[2]
        if not request.target.startswith("/free/destroy/"):
            assert self._told is not None
            return await self._told(request)
        self.asked.append(ref)
        if ref.startswith(self._shop):
            await self.go.wait()
        self._desk.shows(ref, respond(404, b"{}"))
        return told()


async def running(desk: Desk, shop: str, number: int) -> Server:
    """Return a server of a shop that runs and is paid."""
    ref = f"{shop}-{number}"
    shown = told(server=ref, state="running", address="192.0.2.1", expires_at_ms=desk.bed.clock.ms + HOUR_MS)
    desk.ways.candidates = (Candidate(shop, "small", "ams", 2 * PRICE_BASE),)
    desk.answers(shop, shown)
    desk.shows(ref, shown)
    server = await desk.order(f"token-{ref}")
    await desk.bed.settle(desk.payment)
    return await desk.now(server)


def destroying_on(desk: Desk) -> tuple[Destroying, Doing]:
    """Return the use case on a desk whose shops destroy, and what waits for it."""
    for name in desk.rentals:
        desk.rentals[name] = Lease(name, SLOW, destroys=True)
    doing = Doing(desk.keeping, Runner(desk.bed.spend, None, desk.bed.vendors, {}), desk.rentals)

    async def nothing(*_: Any) -> None:
        """No shop here has snapshots."""

    adopting: Any = SimpleNamespace(adopt=nothing, refresh_quietly=nothing)
    return Destroying(doing, desk.seeing, adopting), doing


async def test_a_vendor_that_hangs_holds_nobody_elses_destruction(tmp_path: Path) -> None:
    """More hang than may be asked at once: the other vendor's server is gone, and each sweep is over soon."""
    async with desk_opened(tmp_path) as desk:
        slow = [await running(desk, "shop", n) for n in range(AT_ONCE + 1)]
        other = await running(desk, "other", 1)
        destroying, doing = destroying_on(desk)
        hanging = Hanging(desk, "shop")
        for server in (*slow, other):
            await destroying.want(server.id, "its time is over")
        try:
            async with asyncio.timeout(3 * PATIENCE_S + 20):
                await destroying.sweep()
                await destroying.sweep()
        finally:
            hanging.go.set()
        assert not (await desk.keeping.latest(other.id)).open
        assert len(hanging.asked) == AT_ONCE + 1  # four of the slow one's, and nobody twice
        await doing.drain(5.0)
        await destroying.sweep()
        assert [(await desk.keeping.latest(server.id)).open for server in slow] == [False] * len(slow)
        assert len(hanging.asked) == len(slow) + 1


async def test_what_breaks_beside_the_loop_is_raised_in_it_once(tmp_path: Path) -> None:
    """A defect is not hidden by being nobody's: the next sweep tells it, and the one after goes on."""
    async with desk_opened(tmp_path) as desk:
        server = await running(desk, "shop", 1)
        destroying, _ = destroying_on(desk)
        await destroying.want(server.id, "its time is over")
        key = desk.keeping.view.keys_by_id.pop(server.key_id)
        with pytest.raises(KeyError):
            await destroying.sweep()
        desk.keeping.view.keys_by_id[server.key_id] = key
        await destroying.sweep()
        assert (await desk.keeping.latest(server.id)).wanted is Wanted.DESTROYED


async def test_a_server_that_nobody_can_destroy_says_how_it_ends(tmp_path: Path) -> None:
    """The 501 names the way: nothing extends it, and it ends at a time that is known."""
    async with desk_opened(tmp_path) as desk:
        server = await running(desk, "shop", 1)
        destroying, _ = destroying_on(desk)
        desk.rentals["shop"] = Lease("shop", SLOW, destroys=False)
        with pytest.raises(Problem, match="capability_missing") as caught:
            await destroying.destroy(desk.who(), replace(server), "its agent asked for it")
        assert '{"auto_renew": false, "keep_until": null}' in caught.value.detail
        assert "expires_at" in caught.value.detail


async def test_a_clock_that_is_set_back_does_not_stop_a_destruction(tmp_path: Path) -> None:
    """What was to be asked for in ten minutes by a clock that was wrong is asked for by the one that is right."""
    async with desk_opened(tmp_path) as desk:
        server = await running(desk, "shop", 1)
        destroying, _ = destroying_on(desk)
        asked = list[str]()

        async def accepts(request: UpstreamRequest) -> UpstreamResponse:
            asked.append(request.target)
            return told(server="shop-1", state="running") if request.method == "GET" else told()

        desk.bed.line.first = accepts
        await destroying.want(server.id, "its time is over")
        for later_ms, times in ((0, 1), (1_000, 1), (-600_000, 2)):
            desk.bed.clock.ms += later_ms
            await destroying.sweep()
            assert sum(target.startswith("/free/destroy/") for target in asked) == times
