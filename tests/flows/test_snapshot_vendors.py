"""Snapshots at LiteVPS (by name, restored in place) and CryptoVPS (backups, restored to a new server)."""

from typing import Any

import pytest

from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.server import ORDERED, Server, ServerState, Snapshot
from gateway.core.spec import ServerSpec
from gateway.flow.servers.placing import NewServer
from gateway.server_ports import Action
from tests.flows.acting_bed import AccountActs, acts_on
from tests.flows.broker_bed import Bed

DAY_S = 86_400


async def refused(work: Any) -> Problem:
    """Await what must end in a problem."""
    with pytest.raises(Problem) as caught:
        await work
    return caught.value


async def available(acts: AccountActs, snapshot: Snapshot) -> Snapshot:
    """Let time pass, and the background do its work, until a snapshot is there."""
    for _ in range(20):
        acts.bed.advance(61)
        await acts.snapshots.sweep()
        shown = await acts.keeping.store.record("snapshot", snapshot.id)
        assert isinstance(shown, Snapshot)
        if shown.state == "available":
            return shown
    raise AssertionError(shown)


def order(token: str = "restore-1") -> NewServer:
    """Return an order of a new server, but for what it is made of."""
    return NewServer(token, token.encode().ljust(32, b"."), name="again")


async def test_a_snapshot_is_restored_where_it_was_taken_once_that_is_stopped(broker_bed: Bed) -> None:
    """LiteVPS: the problem names the state that is needed; what was written since is gone."""
    async with acts_on(broker_bed, "litevps") as acts:
        server, guest, who = await acts.running(), acts.acting.guest, acts.who()
        await guest.write_file(who, server.id, "/root/state", b"before")
        taken = await acts.snapshots.create(who, server.id, "mine")
        snapshot = await available(acts, taken.snapshot) if taken.snapshot.state == "pending" else taken.snapshot
        await guest.write_file(who, server.id, "/root/state", b"after")
        problem = await refused(acts.snapshots.restore(who, snapshot.id, None))
        assert problem.code == "server_not_ready"
        assert "stopped" in problem.detail
        assert f'POST /v1/servers/{server.id}/actions {{"action":"stop"}}' in problem.detail
        await acts.acting.power(who, server.id, Action.STOP)
        await acts.orders.until(server.id, ServerState.STOPPED)
        restored = await acts.snapshots.restore(who, snapshot.id, None)
        assert restored.server.id == server.id
        await acts.acting.power(who, server.id, Action.START)
        await acts.orders.until(server.id, ServerState.RUNNING)
        assert (await guest.read_file(who, server.id, "/root/state")).body == b"before"
        problem = await refused(acts.snapshots.restore(who, snapshot.id, order()))
        assert (problem.code, problem.extra["capability"]) == ("capability_missing", "restore_to_new")


async def test_a_name_can_be_used_again_once_it_is_free(broker_bed: Bed) -> None:
    """LiteVPS knows snapshots by name: the deleted one and its successor are two records."""
    async with acts_on(broker_bed, "litevps") as acts:
        server, who = await acts.running(), acts.who()
        first = (await acts.snapshots.create(who, server.id, "mine")).snapshot
        assert (await acts.snapshots.delete(who, first.id)).state == "deleted"
        second = (await acts.snapshots.create(who, server.id, "mine")).snapshot
        assert (second.id != first.id, second.ref) == (True, first.ref)
        assert (await acts.snapshots.get(who, first.id)).state == "deleted"
        assert (await acts.snapshots.delete(who, first.id)).state == "deleted"
        assert (await acts.snapshots.get(who, second.id)).state == "available"


async def test_a_backup_becomes_a_new_server(broker_bed: Bed) -> None:
    """CryptoVPS: pending, available, then an order that is made of it, once for its token."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server, who = await acts.running(), acts.who()
        taken = (await acts.snapshots.create(who, server.id, "mine")).snapshot
        assert (taken.state, taken.name) == ("pending", "mine")
        problem = await refused(acts.snapshots.restore(who, taken.id, order()))
        assert (problem.code, problem.extra["state"]) == ("server_not_ready", "pending")
        snapshot = await available(acts, taken)
        restored = await acts.snapshots.restore(who, snapshot.id, order())
        again = await acts.snapshots.restore(who, snapshot.id, order())
        assert (restored.server.id == server.id, again.server.id, again.replayed) == (False, restored.server.id, True)
        made = await acts.orders.until(restored.server.id, ServerState.RUNNING)
        assert (made.plan, made.vendor, made.name) == (server.plan, "cryptovps", "again")
        assert len(broker_bed.servers("cryptovps")) == 2


async def test_a_backup_stays_while_a_server_is_being_made_of_it(broker_bed: Bed) -> None:
    """CryptoVPS: the order is on its way, and deleting what it is made of would let it be paid for and made of nothing."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server, who = await acts.running(), acts.who()
        snapshot = await available(acts, (await acts.snapshots.create(who, server.id, "mine")).snapshot)
        broker_bed.driver("cryptovps").fault("status", "restore", status=503, times=None)
        restored = await acts.snapshots.restore(who, snapshot.id, order())
        assert (await acts.latest(restored.server)).state in ORDERED
        problem = await refused(acts.snapshots.delete(who, snapshot.id))
        assert (problem.code, problem.extra["server"]) == ("server_not_ready", restored.server.id)
        assert restored.server.id in problem.detail
        broker_bed.driver("cryptovps").lift()
        await acts.orders.until(restored.server.id, ServerState.RUNNING, ServerState.FAILED)
        assert (await acts.snapshots.delete(who, snapshot.id)).state == "deleted"
        again = await acts.snapshots.restore(who, snapshot.id, order())
        assert (again.server.id, again.replayed) == (restored.server.id, True)


async def test_a_backups_end_is_known_and_shown(broker_bed: Bed) -> None:
    """Seven days, then it is over: by the vendor's word, or by the time that was known."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server, who = await acts.running(), acts.who()
        snapshot = await available(acts, (await acts.snapshots.create(who, server.id, None)).snapshot)
        assert snapshot.expires_at_ms is not None
        left_s = (snapshot.expires_at_ms - broker_bed.clock.now_ms()) / 1000
        assert 6 * DAY_S < left_s <= 7 * DAY_S
        broker_bed.driver("cryptovps").fault("status", status=503, times=None)  # it tells nothing any more
        broker_bed.clock.ahead_ms += 8 * DAY_S * 1000
        await acts.snapshots.sweep()
        assert (await acts.keeping.store.record("snapshot", snapshot.id)).state == "expired"  # type: ignore[union-attr]
        problem = await refused(acts.snapshots.restore(who, snapshot.id, order()))
        assert problem.code == "server_not_ready"


async def test_a_backup_outlives_its_server(broker_bed: Bed) -> None:
    """The server is destroyed while its backup is pending: it is followed, and restored."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server, who = await acts.running(), acts.who()
        taken = (await acts.snapshots.create(who, server.id, "mine")).snapshot
        snapshot = await available(acts, taken)
        await acts.acting.destroy(who, server.id)
        await acts.orders.until(server.id, ServerState.DESTROYED)
        restored = await acts.snapshots.restore(who, snapshot.id, order())
        assert (await acts.orders.until(restored.server.id, ServerState.RUNNING)).vendor == "cryptovps"


async def test_what_is_pending_is_followed_after_a_restart(broker_bed: Bed) -> None:
    """P12: the next process asks for it without being told to."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server = await acts.running()
        taken = (await acts.snapshots.create(acts.who(), server.id, "mine")).snapshot
    async with acts_on(broker_bed, "cryptovps") as after:
        assert (await available(after, taken)).id == taken.id


async def test_nobody_elses_snapshot_exists(broker_bed: Bed) -> None:
    """P9: not to show, delete, restore, or order with."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server: Server = await acts.running()
        snapshot = await available(acts, (await acts.snapshots.create(acts.who(), server.id, "mine")).snapshot)
        other = acts.who("acc_2")
        spec = ServerSpec(Need(), snapshot=snapshot.id)
        for work in (
            acts.snapshots.get(other, snapshot.id),
            acts.snapshots.delete(other, snapshot.id),
            acts.snapshots.restore(other, snapshot.id, order()),
            acts.snapshots.restore(other, snapshot.id, None),
            acts.orders.ordering.place(other, NewServer("theirs", bytes(32), spec)),
        ):
            assert (await refused(work)).code == "not_found"
