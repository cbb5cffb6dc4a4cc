"""Orders of the neutral API at running vendors: what each really does with a lost answer, a refusal, a killed gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.commands import OpenAccount
from gateway.core.payment import Delivery
from gateway.core.records import AgentAccount
from gateway.core.server import ORDERED, ServerState
from tests.flows.broker_bed import ABSENT_S, ALL, CREDIT_BASE, Bed, Crash, Vendors, opened, restarted
from tests.flows.order_bed import Orders, orders_on
from tests.unit.gateway.flow.order_desk import advanced

POOR_BASE = 80_000  # five hours, and a part of one
POINTS_MIN = 40
POINTS_MAX = 120


@pytest.fixture
async def orders(broker_bed: Bed) -> AsyncIterator[Orders]:
    """Orders that go to CryptoVPS first, and to VRTX then."""
    async with orders_on(broker_bed, "cryptovps", "vrtx") as running:
        yield running


@pytest.mark.parametrize("kind", ALL)
async def test_a_servers_life_at_each_vendor(broker_bed: Bed, kind: str) -> None:
    """Ordered, running with an address, destroyed: one server at the vendor, and every hold has ended."""
    async with orders_on(broker_bed, kind) as orders:
        server = await orders.create()
        server = await orders.until(server.id, ServerState.RUNNING)
        assert server.address
        assert server.ready_at_ms is not None
        assert len(broker_bed.servers(kind)) == 1
        ended = await orders.destroy(server.id)
        assert ended.reason
        assert broker_bed.servers(kind) == []
        await orders.turn(120)
        assert broker_bed.open == []
        await broker_bed.sound()


async def test_a_vendor_that_refuses_loses_to_the_next_one(orders: Orders) -> None:
    """The first vendor makes nothing, for certain: the money is back at once, and the second one has the server."""
    bed = orders.bed
    bed.driver("cryptovps").fault("status", "create", status=503, times=9)
    server = await orders.create()
    server = await advanced(orders.ordering, server.id)
    if server.state in ORDERED:  # an answer of this kind leaves open what was done
        server = await orders.until(server.id, ServerState.PROVISIONING, ServerState.RUNNING, seconds=ABSENT_S / 4)
    assert (server.vendor, server.tried) == ("vrtx", 1)
    assert (len(bed.servers("cryptovps", gone=True)), len(bed.servers("vrtx"))) == (0, 1)
    assert "cryptovps" in server.reason or server.reason == ""
    await bed.sound()


async def test_a_lost_answer_is_found_and_nothing_is_bought_elsewhere(orders: Orders) -> None:
    """P4, P5: the first vendor has made it, and its list says so: one server stands at one vendor."""
    bed = orders.bed
    bed.driver("cryptovps").fault("cut", "create", when="after")
    server = await orders.create()
    server = await advanced(orders.ordering, server.id)
    assert server.state is ServerState.ORDER_UNKNOWN
    server = await orders.until(server.id, ServerState.RUNNING)
    assert server.vendor == "cryptovps"
    assert (len(bed.servers("cryptovps", gone=True)), len(bed.servers("vrtx", gone=True))) == (1, 0)
    assert len(bed.open) == 1
    await bed.sound()


async def test_an_order_that_was_never_made_goes_to_the_next_vendor_after_two_lists(orders: Orders) -> None:
    """P5: until two whole lists have not got it, far enough apart, the second vendor hears nothing."""
    bed = orders.bed
    bed.driver("cryptovps").fault("cut", "create", when="before")
    server = await orders.create()
    await orders.turn()
    await orders.turn(ABSENT_S - 60)
    assert (await orders.latest(server.id)).state is ServerState.ORDER_UNKNOWN
    assert bed.servers("vrtx") == []
    server = await orders.until(server.id, ServerState.RUNNING, seconds=61)
    assert (server.vendor, server.tried) == ("vrtx", 1)
    assert (bed.servers("cryptovps", gone=True), len(bed.servers("vrtx"))) == ([], 1)
    await bed.sound()


async def test_two_equal_orders_at_once_are_one_server(orders: Orders) -> None:
    """One token, sent twice at the same moment."""
    first, second = await asyncio.gather(orders.create(), orders.create())
    assert first.id == second.id
    await orders.until(first.id, ServerState.RUNNING)
    assert len(orders.bed.servers("cryptovps", gone=True)) == 1


async def test_an_agents_own_call_that_destroys_it_is_seen(broker_bed: Bed) -> None:
    """Through the proxy or here: there is one server, and its end is told with its reason."""
    async with orders_on(broker_bed, "cryptovps") as orders:
        server = await orders.until((await orders.create()).id, ServerState.RUNNING)
        await broker_bed.end("cryptovps", server.ref or "")
        server = await orders.until(server.id, ServerState.DESTROYED, ServerState.LOST, ServerState.LAPSED)
        assert (server.state, server.reason) == (ServerState.DESTROYED, "its agent destroyed it through the proxy")


async def test_a_server_that_the_balance_cannot_keep_lapses_with_why(broker_bed: Bed) -> None:
    """No agent learns of it by trying to log in: the state says that it lapsed, and that it was the balance."""
    bed, now_ms = broker_bed, broker_bed.clock.now_ms()
    await bed.store.post(OpenAccount(AgentAccount("acc_poor", "poor", now_ms)))
    await bed.credit("acc_poor", POOR_BASE)
    await bed.add_key("acc_poor")
    async with orders_on(bed, "cryptovps") as orders:
        server = await orders.create(account="acc_poor")
        await orders.until(server.id, ServerState.RUNNING)
        server = await orders.until(server.id, ServerState.LAPSED, ServerState.LOST, turns=100, seconds=300)
        assert (server.state, server.reason) == (ServerState.LAPSED, "balance")
        assert bed.servers("cryptovps") == []


# the process ends


async def live(orders: Orders) -> None:
    """Order until there is a running server, and destroy it."""
    server = await orders.create()
    if server.open and server.ready_at_ms is None:
        server = await orders.until(server.id, ServerState.RUNNING, seconds=ABSENT_S / 4)
    await orders.destroy(server.id)
    for seconds in (10, 60, ABSENT_S + 1, 61):
        await orders.turn(seconds)


async def live_until_crash(orders: Orders) -> bool:
    """Live; return whether the process ended in between."""
    crash = orders.bed.crash
    crash.armed = True
    living, dying = asyncio.create_task(live(orders)), asyncio.create_task(crash.dead.wait())
    await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED, timeout=300)
    ended = crash.dead.is_set()
    if not ended:
        await living
    for task in (living, dying):
        task.cancel()
    await asyncio.gather(living, dying, return_exceptions=True)
    return ended


@pytest.mark.parametrize("kind", ["cryptovps", "litevps"])
async def test_crash_at_every_step_of_an_orders_life(tmp_path: Path, account_vendors: Vendors, kind: str) -> None:
    """P12: whatever step the process ends at, one server was made by one purchase, and every hold has ended."""
    for at in range(1, POINTS_MAX):
        home = tmp_path / str(at)
        home.mkdir()
        async with opened(home, account_vendors, crash=Crash(at)) as bed, orders_on(bed, kind) as orders:
            crashed = await live_until_crash(orders)
        step = bed.crash.steps[-1]
        async with restarted(bed) as after, orders_on(after, kind) as orders:
            if crashed:
                await live(orders)
            (server,) = await orders.all()
            assert server.state is ServerState.DESTROYED, (at, step)
            assert len(after.servers(kind, gone=True)) == 1, (at, step)
            assert after.servers(kind) == [], (at, step)
            assert (after.meters, after.open) == ([], []), (at, step)
            bought = [p for p in await after.payments() if p["delivery"] == Delivery.DELIVERED and p["idempotency_key"]]
            assert len(bought) == 1, (at, step)
            available, held = after.balance()
            assert held == 0, (at, step)
            captured = sum(round(float(p["captured"]) * 1e6) for p in await after.payments())
            assert 0 < captured == CREDIT_BASE - available, (at, step)
            await after.sound()
        if not crashed:
            assert at > POINTS_MIN
            return
    pytest.fail("the story never came to its end")
