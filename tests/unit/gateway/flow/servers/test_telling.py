"""Telling: who hears of what, in which order, and where the reading of the journal goes on after a crash."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.commands import CreditAccount, RevokeKey
from gateway.core.problems import Problem
from gateway.core.server import HookDeliveryState, ServerState
from gateway.flow.servers import listening, telling
from gateway.flow.servers.hooks import Asked, HookSettings
from tests.unit.gateway.flow.servers.telling_bed import DrivenClock, Receiver, TellingBed, receiving, telling_bed


@pytest.fixture
def clock() -> DrivenClock:
    """A clock that starts now."""
    return DrivenClock(time.time_ns() // 1_000_000)


@pytest.fixture
async def bed(tmp_path: Path, clock: DrivenClock) -> AsyncIterator[TellingBed]:
    """A process with an empty store."""
    async with telling_bed(tmp_path, clock) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint that takes everything."""
    async with receiving() as running:
        yield running


async def test_account_hears_of_its_own_and_of_nothing_else(bed: TellingBed, receiver: Receiver) -> None:
    """P9: another account's server, payment or key is not told, whatever the endpoint asks for."""
    await bed.hook(receiver.url, "*")
    await bed.server("ordered", "acc_2")
    mine = await bed.server("ordered")
    await bed.store.post(RevokeKey("key_2", "acc_2", bed.clock.now_ms()))
    await bed.run()
    assert receiver.types == ["server.ordered"]
    assert mine.id in receiver.got[0].body


async def test_endpoint_hears_what_it_asked_for(bed: TellingBed, receiver: Receiver) -> None:
    """A type, a family, or everything; several endpoints of an account each by themselves."""
    async with receiving() as other:
        await bed.hook(receiver.url, "server.running", "balance.*")
        await bed.hook(other.url, "server.*")
        await bed.move(await bed.server("ordered"), ServerState.RUNNING)
        await bed.store.post(CreditAccount("acc_1", 1_000_000, "more", "", "test", bed.clock.now_ms()))
        await bed.run()
        assert sorted(receiver.types) == ["balance.credited", "server.running"]
        assert sorted(other.types) == ["server.ordered", "server.running"]


async def test_endpoint_hears_of_what_follows_it_only(bed: TellingBed, receiver: Receiver) -> None:
    """What happened before it was made stays untold, also where the reading is behind."""
    await bed.server("ordered")
    await bed.hook(receiver.url, "server.*")
    await bed.server("provisioning")
    await bed.run()
    assert receiver.types == ["server.provisioning"]


async def test_endpoint_hears_from_its_making_on_after_a_restart(
    tmp_path: Path, clock: DrivenClock, receiver: Receiver
) -> None:
    """A process that died before it had read anything finds in the journal from where each endpoint hears."""
    async with telling_bed(tmp_path, clock) as before:
        await before.hook("http://127.0.0.1:1/", "balance.*")
        await before.server("ordered")
        await before.hook(receiver.url, "server.*")
        await before.server("provisioning")
        assert before.store.view.told_seq == 0
    async with telling_bed(tmp_path, clock) as after:
        await after.run()
    assert receiver.types == ["server.provisioning"]


async def test_quiet_rows_cost_no_commits(bed: TellingBed, receiver: Receiver) -> None:
    """The cursor moves with deliveries; rows that tell nobody anything are read, and not written about."""
    await bed.hook(receiver.url, "fleet.*")
    for _ in range(5):
        await bed.server("ordered")
        await bed.run()
    assert bed.store.view.told_seq == 0
    assert bed.telling.read_seq == bed.store.view.journal_seq


async def test_cursor_follows_when_it_lags_too_far(
    bed: TellingBed, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a restart reads a bounded stretch again, with endpoints or without."""
    monkeypatch.setattr(telling, "LAG_ROWS", 4)
    for _ in range(5):
        await bed.server("ordered")
    await bed.run()
    assert bed.store.view.told_seq == bed.store.view.journal_seq
    assert receiver.got == []


async def test_a_clean_end_keeps_the_cursor(tmp_path: Path, clock: DrivenClock) -> None:
    """What was read is not read again after a stop in good order."""
    async with telling_bed(tmp_path, clock) as before:
        await before.hook("http://127.0.0.1:1/", "fleet.*")
        await before.server("ordered")
        await before.run()
        seq = before.store.view.journal_seq
    async with telling_bed(tmp_path, clock) as after:
        assert after.store.view.told_seq == seq


async def test_long_journal_is_read_in_pages(
    bed: TellingBed, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost or repeated at the seams of pages and windows, whatever their sizes."""
    await bed.hook(receiver.url, "server.*")
    servers = [await bed.server("ordered") for _ in range(7)]
    monkeypatch.setattr(telling, "WINDOW_ROWS", 3)
    monkeypatch.setattr(telling, "PAGE_EVENTS", 2)
    await bed.run()
    told = {each.id: each.type for each in receiver.got}
    assert list(told.values()) == ["server.ordered"] * len(servers)
    assert len(receiver.got) == len(servers)


async def test_events_of_an_account_page_on_through_others(bed: TellingBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at a bounded stretch: it may be empty and still say where to go on."""
    monkeypatch.setattr(telling, "ACCOUNT_WINDOW_ROWS", 2)
    monkeypatch.setattr(telling, "WINDOWS_OF_A_PAGE", 2)
    for n in range(20):
        await bed.server("ordered", "acc_2" if n % 10 else "acc_1")
    found, pages, at = [], [], 0
    while at is not None:
        events, at = await bed.telling.events("acc_1", at, 2)
        found += events
        pages.append(len(events))
    assert [event.type for event in found] == ["key.added", "balance.credited", "server.ordered", "server.ordered"]
    assert 0 in pages  # nothing for as far as a page looks
    assert (
        len(pages) < bed.store.view.journal_seq / telling.ACCOUNT_WINDOW_ROWS
    )  # and it looks on where there is nothing
    assert [event.seq for event in found] == sorted({event.seq for event in found})


async def test_listener_hears_events_in_order_as_they_happen(bed: TellingBed) -> None:
    """Those of its account that match, once each."""
    listener = bed.telling.listening.join("acc_1", lambda event: event.type.startswith("server."), bed.telling.read_seq)
    await bed.server("ordered", "acc_2")
    server = await bed.move(await bed.server("ordered"), ServerState.PROVISIONING)
    await bed.move(server, ServerState.RUNNING)
    await bed.telling.sweep()
    heard = [await listener.next(0.1) for _ in range(4)]
    assert [event and event.type for event in heard] == [
        "server.ordered",
        "server.provisioning",
        "server.running",
        None,
    ]
    bed.telling.listening.leave(listener)
    assert not bed.telling.listening.anybody


async def test_slow_listener_is_let_go(bed: TellingBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is bounded: it gets what is in it, and then its end."""
    monkeypatch.setattr(listening, "QUEUE_MAX", 2)
    slow = bed.telling.listening.join("acc_1", lambda _: True, bed.telling.read_seq)
    for _ in range(4):
        await bed.server("ordered")
    await bed.telling.sweep()
    assert [await slow.next(0.1) is not None for _ in range(3)] == [True, True, False]
    assert slow.over


async def test_listeners_of_an_account_are_bounded(tmp_path: Path, clock: DrivenClock) -> None:
    """Ten streams held open by one account leave room for others."""
    async with telling_bed(tmp_path, clock, HookSettings(streams_per_account=2)) as bed:
        joined = [bed.telling.listening.join("acc_1", lambda _: True, 0) for _ in range(2)]
        with pytest.raises(Problem, match="at most 2 event streams"):
            bed.telling.listening.join("acc_1", lambda _: True, 0)
        bed.telling.listening.join("acc_2", lambda _: True, 0)
        bed.telling.listening.leave(joined[0])
        bed.telling.listening.join("acc_1", lambda _: True, 0)


async def test_closing_lets_listeners_go(bed: TellingBed) -> None:
    """And nobody in."""
    waiting = bed.telling.listening.join("acc_1", lambda _: True, 0)
    asked = asyncio.create_task(waiting.next(30.0))
    await asyncio.sleep(0)
    await bed.telling.close(1.0)
    assert await asked is None
    assert waiting.over
    with pytest.raises(Problem, match="about to stop"):
        bed.telling.listening.join("acc_1", lambda _: True, 0)


async def test_test_event_goes_to_one_endpoint_whatever_it_asked_for(bed: TellingBed, receiver: Receiver) -> None:
    """Others of the account do not get it; the account's list shows it."""
    async with receiving() as other:
        hook, _ = await bed.hook(receiver.url, "fleet.*")
        await bed.hook(other.url, "*")
        told = await bed.telling.test("acc_1", hook.id)
        await bed.run()
        assert (receiver.types, receiver.got[0].id) == (["webhook.test"], told)
        assert other.got == []
        assert await bed.last_id() == told


async def test_disabled_endpoint_is_told_nothing_and_can_be_enabled_again(bed: TellingBed, receiver: Receiver) -> None:
    """What happened meanwhile is not sent by itself, and can be replayed."""
    hook, _ = await bed.hook(receiver.url, "server.*")
    await bed.telling.hooks.change("acc_1", hook.id, Asked(disabled=True))
    await bed.server("ordered")
    missed = await bed.last_id()
    await bed.run()
    with pytest.raises(Problem, match="disabled"):
        await bed.telling.replay("acc_1", hook.id, int(missed.removeprefix("evt_")))
    await bed.telling.hooks.change("acc_1", hook.id, Asked(disabled=False))
    await bed.server("provisioning")
    await bed.run()
    assert receiver.types == ["server.provisioning"]
    await bed.telling.replay("acc_1", hook.id, int(missed.removeprefix("evt_")))
    await bed.attempt()
    assert receiver.types == ["server.provisioning", "server.ordered"]
    assert {each.state for each in await bed.deliveries(hook)} == {HookDeliveryState.DELIVERED}


async def test_only_own_events_are_replayed_to_own_endpoints(bed: TellingBed, receiver: Receiver) -> None:
    """P9: neither another's event to one's own endpoint, nor one's own to another's."""
    hook, _ = await bed.hook(receiver.url)
    await bed.server("ordered", "acc_2")
    for account_id, seq in (("acc_1", bed.store.view.journal_seq), ("acc_2", 1), ("acc_1", 10_000), ("acc_1", 1)):
        with pytest.raises(Problem) as refused:
            await bed.telling.replay(account_id, hook.id, seq)
        assert refused.value.code == "not_found"
    assert await bed.deliveries(hook) == []
