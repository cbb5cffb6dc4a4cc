"""Forgetting: what became of deliveries is kept for a while, on real parts, and nothing that is still asked for goes."""

import time
from pathlib import Path

import pytest

from gateway.core.server import HookDeliveryState
from gateway.core.webhook import ATTEMPTS_MAX
from gateway.flow.servers import forgetting
from gateway.flow.servers.hooks import HookSettings
from gateway.store.load import first_contradiction
from tests.unit.gateway.flow.servers.telling_bed import DrivenClock, receiving, telling_bed

KEPT_S = 3_600
SETTINGS = HookSettings(deliveries_kept_s=KEPT_S)


@pytest.fixture
def clock() -> DrivenClock:
    """A clock that starts now."""
    return DrivenClock(time.time_ns() // 1_000_000)


async def test_old_deliveries_go_in_bounded_steps_and_their_events_stay(
    tmp_path: Path, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is shorter, the proof of the books holds, and each event can be sent again."""
    monkeypatch.setattr(forgetting, "AT_ONCE", 2)
    async with telling_bed(tmp_path, clock, SETTINGS) as bed, receiving() as receiver:
        hook, _ = await bed.hook(receiver.url, "server.*")
        for _ in range(3):
            await bed.server("ordered")
        await bed.run()
        first = (await bed.deliveries(hook))[0].event_seq
        clock.pass_s(KEPT_S - 1)
        last = await bed.server("ordered")
        await bed.run()
        assert len(await bed.deliveries(hook)) == 4
        clock.pass_s(forgetting.PAUSE_MS / 1000)
        assert [len(await bed.deliveries(hook)) for _ in range(4) if await bed.telling.deliver() is None] == [
            2,
            1,
            1,
            1,
        ]
        (left,) = await bed.deliveries(hook)
        assert (await bed.events())[-1].seq == left.event_seq
        assert await bed.telling.deliveries("acc_1", hook.id, left.event_seq, 10) == ([], None)
        again = await bed.telling.replay("acc_1", hook.id, first)
        await bed.attempt()
        assert (receiver.got[-1].id, last.id in receiver.got[-1].body) == (f"evt_{again.event_seq}", False)
        assert [each.event_seq for each in await bed.deliveries(hook)] == [first, left.event_seq]
    assert first_contradiction(tmp_path / "gateway.db") is None


async def test_deliveries_to_a_deleted_endpoint_go_too(tmp_path: Path, clock: DrivenClock) -> None:
    """Nobody can list them any more."""
    async with telling_bed(tmp_path, clock, SETTINGS) as bed, receiving() as receiver:
        hook, _ = await bed.hook(receiver.url, "server.*")
        await bed.server("ordered")
        await bed.run()
        await bed.telling.hooks.delete("acc_1", hook.id)
        clock.pass_s(KEPT_S + forgetting.PAUSE_MS / 1000)
        await bed.telling.deliver()
        assert await bed.deliveries(hook) == []


async def test_what_judges_an_endpoint_stays(tmp_path: Path, clock: DrivenClock) -> None:
    """An event that is tried for days is given up alone where others were taken meanwhile, however short their rows are kept."""
    async with telling_bed(tmp_path, clock, SETTINGS) as bed, receiving(500) as receiver:
        hook, _ = await bed.hook(receiver.url, "server.*")
        await bed.server("ordered")
        await bed.run()
        receiver.status = 200
        await bed.server("ordered")
        clock.pass_s(2)
        await bed.run()
        receiver.status = 500
        while (first := (await bed.deliveries(hook))[0]).state is HookDeliveryState.PENDING:
            clock.at_ms = first.due_at_ms
            await bed.attempt()
        assert first.attempts == ATTEMPTS_MAX
        assert not bed.telling.hooks.one("acc_1", hook.id).disabled_reason
        await bed.telling.deliver()
        assert [each.event_seq for each in await bed.deliveries(hook)] == [first.event_seq]


async def test_an_endpoint_is_judged_before_what_judges_it_may_go(tmp_path: Path, clock: DrivenClock) -> None:
    """Rows may be forgotten at the very moment when the last attempt has failed: what was taken since still speaks for it."""
    async with telling_bed(tmp_path, clock, SETTINGS) as bed, receiving(500) as receiver:
        hook, _ = await bed.hook(receiver.url, "server.*")
        await bed.server("ordered")
        await bed.run()
        receiver.status = 200
        await bed.server("ordered")
        clock.pass_s(2)
        await bed.run()
        receiver.status = 500
        seen, forget = bed.history.taken_since, forgetting.Forgetting(bed.keeping, bed.history, KEPT_S)

        async def taken_since(hook_id: str, since_ms: int) -> bool:
            await forget.step()
            return await seen(hook_id, since_ms)

        bed.history.taken_since = taken_since  # type: ignore[method-assign]
        while (first := (await bed.deliveries(hook))[0]).state is HookDeliveryState.PENDING:
            clock.at_ms = first.due_at_ms
            await bed.attempt()
        assert not bed.telling.hooks.one("acc_1", hook.id).disabled_reason


async def test_what_is_pending_stays_and_looks_are_rare(tmp_path: Path, clock: DrivenClock) -> None:
    """However old it is; and the store is not asked at every turn of the loop, nor told to do nothing."""
    async with telling_bed(tmp_path, clock, SETTINGS) as bed, receiving(500) as receiver:
        hook, _ = await bed.hook(receiver.url, "server.*")
        await bed.server("ordered")
        await bed.run()
        clock.pass_s(30 * 86_400)
        receiver.gate.clear()
        await bed.telling.deliver()
        (pending,) = await bed.deliveries(hook)
        assert pending.state is HookDeliveryState.PENDING
        looked: list[int] = []
        seen = bed.history.done_before

        async def done_before(before_ms: int) -> bool:
            looked.append(before_ms)
            return await seen(before_ms)

        bed.history.done_before = done_before  # type: ignore[method-assign]
        for seconds in (0, 59, 1, 0):
            clock.pass_s(seconds)
            await bed.telling.deliver()
        assert looked == [pending.created_at_ms]
        receiver.gate.set()
        await bed.attempt()
