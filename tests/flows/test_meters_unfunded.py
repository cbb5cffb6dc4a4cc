"""What happens when an agent's money runs out: warned, then stopped or destroyed, and what is beyond is the house's loss."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from sandbox.shared_vendor.driver import Driver
from tests.flows.meter_bed import DAY_S, HOUR_S, MINUTE_S, Bed, start_vendor, stop_all

KINDS = {"cryptovps": "cryptovps", "litevps": "litevps"}
ACCOUNTS: Mapping[str, Mapping[str, Any]] = {
    "cryptovps": {"warn_periods": 2, "absent_after_s": 60},
    "litevps": {"warn_periods": 2, "absent_after_s": 60, "when_unfunded": "suspend", "grace_s": DAY_S},
}
LITE_HOUR_BASE, CRYPTO_HOUR_BASE = 4_200, 13_700


@pytest.fixture(scope="module")
def processes() -> Iterator[Mapping[str, Driver]]:
    """Both vendors."""
    drivers = {name: start_vendor(kind) for name, kind in KINDS.items()}
    yield drivers
    stop_all(drivers.values())


@pytest.fixture
async def bed(tmp_path: Path, processes: Mapping[str, Driver]) -> AsyncIterator[Bed]:
    """A gateway in front of vendors that begin anew; its books are verified at the end."""
    for driver in processes.values():
        driver.admin("POST", "/reset")
        driver.lift()
    async with Bed(tmp_path, processes, KINDS, ACCOUNTS) as opened:
        yield opened


async def lite(bed: Bed, key: ApiKey) -> str:
    """Return a machine that has just begun to run: not to be at the beginning of a minute whenever something happens."""
    ref = await bed.made(key, "litevps")
    assert bed.running(ref).running_since_ms is not None
    return ref


async def test_a_server_is_warned_of_and_destroyed_before_it_costs_the_house(bed: Bed) -> None:
    """CryptoVPS has no stop: what cannot be held is destroyed within its last paid hour."""
    key = await bed.account("acc_poor", 80_000)  # five hours, and a part of one
    ref = await bed.server(key, "cryptovps")
    await bed.pass_time(3 * HOUR_S, 5 * MINUTE_S)
    assert "meter.warned" in bed.journal(ref)
    assert "meter.unfunded" not in bed.journal(ref)
    await bed.pass_time(3 * HOUR_S, 5 * MINUTE_S)
    kinds = [
        kind for kind in bed.journal(ref) if kind in {"meter.warned", "meter.unfunded", "meter.ending", "meter.ended"}
    ]
    assert kinds[-3:] == ["meter.unfunded", "meter.ending", "meter.ended"]
    assert kinds[0] == "meter.warned"
    charged = bed.charged(ref)
    assert (charged.captured_base, charged.lost_base) == (5 * CRYPTO_HOUR_BASE, 0)
    assert charged.total_base == bed.billed("cryptovps", ref)
    assert (bed.available("acc_poor"), bed.held("acc_poor")) == (80_000 - 5 * CRYPTO_HOUR_BASE, 0)
    assert bed.meter(ref)["reason"] == "unfunded"


async def test_credit_in_time_keeps_it_running_and_ends_the_warning(bed: Bed) -> None:
    """Every period that can be held again begins a new count; nothing is destroyed."""
    key = await bed.account("acc_late", 60_000)
    ref = await bed.server(key, "cryptovps")
    await bed.pass_time(3 * HOUR_S, 10 * MINUTE_S)
    assert bed.running(ref).warned_at_ms is not None
    await bed.credit("acc_late", 10_000_000)
    await bed.pass_time(5 * HOUR_S, 10 * MINUTE_S)
    meter = bed.running(ref)
    assert (meter.warned_at_ms, meter.unfunded_at_ms, meter.lost_base) == (None, None, 0)


async def test_the_house_bears_what_ran_while_nobody_looked(bed: Bed) -> None:
    """Three days at once and money for five hours: the agent pays these, the house the rest, and it is ended now."""
    key = await bed.account("acc_poor", 70_000)
    ref = await bed.server(key, "cryptovps")
    await bed.advance(3 * DAY_S + 0.5)
    await bed.sweep()
    await bed.pass_time(60, 6)
    charged = bed.charged(ref)
    assert bed.meter(ref)["state"] == "ended"
    assert (charged.captured_base, charged.lost_base) == (5 * CRYPTO_HOUR_BASE, 68 * CRYPTO_HOUR_BASE)
    assert charged.total_base == bed.billed("cryptovps", ref)
    assert bed.available("acc_poor") == 70_000 - 5 * CRYPTO_HOUR_BASE


async def test_one_agents_end_is_nothing_to_another(bed: Bed) -> None:
    """On the same vendor account the other's server runs on, held and paid."""
    poor, rich = await bed.account("acc_poor", 20_000), await bed.account("acc_rich")
    ended, kept = await bed.server(poor, "cryptovps"), await bed.server(rich, "cryptovps")
    await bed.pass_time(4 * HOUR_S, 10 * MINUTE_S)
    assert (bed.meter(ended)["state"], bed.meter(kept)["state"]) == ("ended", "running")
    assert bed.running(kept).held_until_ms > bed.business.at_ms
    assert bed.charged(kept).captured_base == 4 * CRYPTO_HOUR_BASE
    shown = bed.drivers["cryptovps"].state()["servers"]
    assert (shown[ended]["status"], shown[kept]["status"]) == ("DESTROYED", "ACTIVE")


async def test_a_machine_is_stopped_first_then_destroyed_after_the_grace(bed: Bed) -> None:
    """LiteVPS can stop: within the grace it costs nothing and is kept, then it is destroyed."""
    key = await bed.account("acc_poor", 10_000)  # two hours, and a part of one
    ref = await lite(bed, key)
    await bed.pass_time(3 * HOUR_S, 5 * MINUTE_S)
    await bed.pass_time(30, 6)
    machine = bed.drivers["litevps"].state()["machines"][ref]
    assert (machine["state"], machine["deleting"]) == ("stopped", False)
    meter = bed.running(ref)
    assert (meter.running_since_ms, meter.lost_base) == (None, 0)
    assert meter.unfunded_at_ms is not None
    await bed.pass_time(DAY_S - 6 * HOUR_S, HOUR_S)
    assert bed.running(ref).ref == ref
    await bed.pass_time(8 * HOUR_S, HOUR_S)
    assert bed.meter(ref)["state"] == "ended"
    assert bed.drivers["litevps"].state()["machines"][ref]["gone_ms"] is not None
    assert bed.charged(ref).lost_base == 0
    assert abs(bed.charged(ref).total_base - bed.billed("litevps", ref)) <= 1


async def test_money_within_the_grace_keeps_a_stopped_machine(bed: Bed) -> None:
    """It is held for again without being asked, is not destroyed, and starts when its agent says so."""
    key = await bed.account("acc_poor", 10_000)
    ref = await lite(bed, key)
    await bed.pass_time(3 * HOUR_S, 5 * MINUTE_S)
    await bed.pass_time(30, 6)
    await bed.credit("acc_poor", 10_000_000)
    await bed.pass_time(3 * DAY_S, 6 * HOUR_S)
    meter = bed.running(ref)
    assert (meter.unfunded_at_ms, meter.running_since_ms) == (None, None)
    before = bed.charged(ref).captured_base
    await bed.pass_time(1, 1)
    assert (await bed.act(key, "litevps", ref, "start")).status == 200
    await bed.pass_time(6, 6)
    await bed.pass_time(HOUR_S + 10, 10 * MINUTE_S)
    await bed.act(key, "litevps", ref)
    await bed.pass_time(120, 6)
    assert before < bed.charged(ref).captured_base
    assert abs(bed.charged(ref).total_base - bed.billed("litevps", ref)) <= 1


async def test_a_machine_that_does_not_stop_is_destroyed(bed: Bed) -> None:
    """The vendor says yes to the stop and does nothing: with its last paid hour over it is destroyed instead."""
    key = await bed.account("acc_poor", 10_000)
    ref = await lite(bed, key)
    bed.drivers["litevps"].fault("stop_fails", times=None)
    await bed.pass_time(2 * HOUR_S + 2 * MINUTE_S, MINUTE_S)
    await bed.pass_time(5 * MINUTE_S, 10)
    await bed.pass_time(3 * MINUTE_S, 30)
    assert bed.meter(ref)["state"] == "ended"
    charged = bed.charged(ref)
    assert abs(charged.total_base - bed.billed("litevps", ref)) <= 1
    assert charged.lost_base <= 5 * LITE_HOUR_BASE // 60  # a few minutes more than was paid


async def test_a_stopped_machine_does_not_start_without_money(bed: Bed) -> None:
    """An agent that cannot pay the next period is told so, and the vendor is not asked."""
    key = await bed.account("acc_poor", 10_000)
    ref = await lite(bed, key)
    await bed.pass_time(3 * HOUR_S, 5 * MINUTE_S)
    await bed.pass_time(30, 6)
    await bed.pass_time(2 * HOUR_S, HOUR_S)
    asked = bed.asked("litevps", "POST", "/start")
    with pytest.raises(Problem) as refused:
        await bed.act(key, "litevps", ref, "start")
    assert refused.value.code == "insufficient_balance"
    assert bed.asked("litevps", "POST", "/start") == asked


async def test_a_machine_that_its_agent_stopped_gets_the_grace_too(bed: Bed) -> None:
    """It costs nothing, so nothing presses: an empty balance destroys it only when the grace is over."""
    key = await bed.account("acc_poor", 8_600)
    ref = await lite(bed, key)
    await bed.pass_time(30 * MINUTE_S, MINUTE_S)
    await bed.act(key, "litevps", ref, "stop")
    await bed.pass_time(6, 6)
    other = await bed.server(key, "litevps")  # takes what is left
    await bed.pass_time(5 * HOUR_S, 10 * MINUTE_S)
    assert (bed.running(ref).unfunded_at_ms is None, bed.running(ref).running_since_ms) == (False, None)
    assert bed.charged(ref).lost_base == bed.charged(other).lost_base == 0


async def test_no_first_period_no_server(bed: Bed) -> None:
    """A create that the balance does not cover is refused before the vendor hears of it."""
    key = await bed.account("acc_none", 10_000)
    with pytest.raises(Problem) as refused:
        await bed.server(key, "cryptovps")
    assert refused.value.code == "insufficient_balance"
    assert bed.drivers["cryptovps"].state()["servers"] == {}
    assert bed.store.view.meters == {}
