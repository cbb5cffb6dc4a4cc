"""Pending snapshots are looked at beside a loop that no vendor can hold."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.core.server import Snapshot
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.runner import Runner
from gateway.flow.servers.snapshots import AT_ONCE, PATIENCE_S, Snapshots
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.server_ports import Action, Ask, Feature, Heard, SnapshotRule, SnapshotSight
from tests.unit.gateway.flow.lease_desk import SLOW, Lease
from tests.unit.gateway.flow.order_desk import NOTHING, Desk, desk_opened
from tests.unit.gateway.flow.servers.test_destroying import running
from tests.unit.gateway.flow.spend_bed import respond
from wallets.secret import Secret


class Keeper(Lease):
    """A shop that keeps one snapshot of each server, and lists it at /free/kept/{ref}."""

    def __init__(self, name: str) -> None:
        super().__init__(name, SLOW, destroys=True)
        does: dict[Feature, Any] = {**self.features.does, Feature.SNAPSHOTS: "yes"}
        self.features = replace(self.features, does=does, snapshots=SnapshotRule(None, named_by_agent=True))

    def ask(
        self, action: Action, ref: str, access: Mapping[str, Secret[str]], parameters: Mapping[str, Any] = NOTHING
    ) -> Ask:
        """The request that lists."""
        return Ask("GET", f"/free/kept/{ref}")

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """It is there."""
        return Heard(True, snapshots=(SnapshotSight(f"of-{ref}", "mine", "available"),))


async def pending(desk: Desk, shop: str, number: int) -> Snapshot:
    """Keep a snapshot that is pending, of a new server of a shop."""
    server, now_ms = await running(desk, shop, number), desk.bed.clock.ms
    ref = f"of-{server.ref}"
    snapshot = Snapshot(
        id=desk.keeping.new_id("snp"),
        account_id=server.account_id,
        server_id=server.id,
        vendor=shop,
        ref=ref,
        name="mine",
        state="pending",
        created_at_ms=now_ms,
        as_of_ms=now_ms,
    )
    assert await desk.keeping.put(snapshot, "created", name="mine")
    return snapshot


async def test_a_vendor_that_hangs_holds_nobody_elses_snapshots(tmp_path: Path) -> None:
    """More hang than may be asked at once: the other vendor's snapshot is seen to be there, and the sweep is over soon."""
    async with desk_opened(tmp_path) as desk:
        slow = [await pending(desk, "shop", n) for n in range(AT_ONCE + 1)]
        other = await pending(desk, "other", 1)
        for name in desk.rentals:
            desk.rentals[name] = Keeper(name)
        doing = Doing(desk.keeping, Runner(desk.bed.spend, None, desk.bed.vendors, {}), desk.rentals)
        ordering: Any = desk.ordering
        snapshots, go, asked = Snapshots(doing, desk.seeing, ordering), asyncio.Event(), list[str]()

        async def answer(request: UpstreamRequest) -> UpstreamResponse:
            asked.append(request.target)
            if "/shop-" in request.target:
                await go.wait()
            return respond(200, b"[]")

        desk.bed.line.first = answer
        try:
            async with asyncio.timeout(3 * PATIENCE_S + 20):
                await snapshots.sweep()
        finally:
            go.set()
        seen = await desk.keeping.store.record("snapshot", other.id)
        assert isinstance(seen, Snapshot)
        assert seen.state == "available"
        assert len(asked) == AT_ONCE + 1
        await doing.drain(5.0)
        for each in slow:
            seen = await desk.keeping.store.record("snapshot", each.id)
            assert isinstance(seen, Snapshot)
            assert seen.state == "available"


async def test_a_clock_that_is_set_back_does_not_stop_the_looking(tmp_path: Path) -> None:
    """What was to be read from the book in an hour by a clock that was wrong is read by the one that is right."""
    async with desk_opened(tmp_path) as desk:
        ordering: Any = desk.ordering
        doing = Doing(desk.keeping, Runner(desk.bed.spend, None, desk.bed.vendors, {}), desk.rentals)
        snapshots = Snapshots(doing, desk.seeing, ordering)
        await snapshots.sweep()
        kept = await pending(desk, "shop", 1)
        desk.rentals["shop"] = Keeper("shop")

        async def answer(_request: UpstreamRequest) -> UpstreamResponse:
            return respond(200, b"[]")

        desk.bed.line.first = answer
        for later_ms, state in ((0, "pending"), (-600_000, "available")):
            desk.bed.clock.ms += later_ms
            await snapshots.sweep()
            seen = await desk.keeping.store.record("snapshot", kept.id)
            assert isinstance(seen, Snapshot)
            assert seen.state == state
