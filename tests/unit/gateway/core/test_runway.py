"""When a balance runs out: never told late, compared with holding period by period as the gateway does it."""

import heapq
import random
from dataclasses import replace

import pytest

from gateway.core.meter import next_hold_base
from gateway.core.records import Meter, MeterState
from gateway.core.runway import Period, charged, hourly_base, runs_out_ms
from tests.factories import HOUR_MS, METERED, NOW_MS, make_meter

HOURLY = {METERED: Period(HOUR_MS)}
START_MS = NOW_MS - NOW_MS % HOUR_MS


def running(n: int = 1, **changes: object) -> Meter:
    """Return a thing that runs and is held for its first hour; USD 0.01 an hour."""
    fields = {"hourly": "0.01", "state": MeterState.RUNNING, "running_since_ms": START_MS, **changes}
    return replace(make_meter(n), held_until_ms=START_MS + HOUR_MS, **fields)  # type: ignore[arg-type]


def in_hours(meters: list[Meter], available_base: int, periods: dict[str, Period] = HOURLY) -> float | None:
    """Return the hours from the start until the first thing can end."""
    found = runs_out_ms(meters, available_base, periods)
    return None if found is None else (found - START_MS) / HOUR_MS


def test_one_thing_ends_after_the_last_hour_that_is_paid() -> None:
    """The hour that is held, and as many more as the balance has in whole hours."""
    assert in_hours([running()], 0) == 1
    assert in_hours([running()], 9_999) == 1
    assert in_hours([running()], 30_000) == 4
    assert in_hours([running()], 39_999) == 4


def test_several_things_share_the_balance() -> None:
    """The one whose next period comes first with no money left is what is warned of."""
    later = replace(running(2), held_until_ms=START_MS + 3 * HOUR_MS)
    assert in_hours([running(), later], 20_000) == 3
    assert in_hours([running(), running(2)], 30_000) == 2


def test_nothing_that_costs_runs_never_out() -> None:
    """No thing, one that is stopped, ordered or ending, one for nothing, and a vendor that is no more."""
    assert runs_out_ms([], 0, HOURLY) is None
    stopped = running(running_since_ms=None, while_running=True)
    assert runs_out_ms([stopped], 0, HOURLY) is None
    for state in (MeterState.ORDERED, MeterState.ENDING):
        assert runs_out_ms([running(state=state)], 0, HOURLY) is None
    assert runs_out_ms([running(hourly="0")], 0, HOURLY) is None
    assert runs_out_ms([running()], 0, {}) is None
    assert runs_out_ms([running()], 10**15, HOURLY) is None


def test_what_could_not_be_held_ends_with_what_is_held() -> None:
    """Also where another account's money would have lasted: the vendor's next period was refused."""
    assert in_hours([running(unfunded_at_ms=START_MS)], 10**9) == 1


def test_the_lead_is_told_too() -> None:
    """The next period is held ahead, so it is refused ahead."""
    assert in_hours([running()], 0, {METERED: Period(HOUR_MS, HOUR_MS // 6)}) == pytest.approx(5 / 6)


def test_a_month_is_taken_whole_at_its_beginning() -> None:
    """2027-01-15: the month that is begun is owed, the next begins on 1 February."""
    monthly = running(rule="monthly", monthly="10")
    found = runs_out_ms([monthly], 9_000_000, HOURLY)
    assert found == 1_801_440_000_000  # 2027-02-01T00:00:00Z
    assert (runs_out_ms([monthly], 10_000_000, HOURLY) or 0) > found


def test_an_hour_of_everything_is_rounded_up_once() -> None:
    """Only what is charged counts."""
    meters = [running(n, hourly="0.0000004") for n in (1, 2)] + [running(3, state=MeterState.ENDING)]
    assert [charged(meter) for meter in meters] == [True, True, False]
    assert hourly_base(meters) == 1


@pytest.mark.parametrize("seed", range(60))
def test_it_is_never_told_late(seed: int) -> None:
    """Against holds as they are really opened: rates with many decimals, units, periods, pauses and any balance."""
    rng = random.Random(seed)
    period_ms = rng.choice([600_000, HOUR_MS, 90 * 60_000])
    meters = [
        replace(
            running(n),
            hourly=f"0.0{rng.randrange(1, 10**5)}",
            unit_s=rng.choice([60, 3600]),
            while_running=rng.random() < 0.5,
            accrued=f"{rng.randrange(10**6)}/{rng.randrange(1, 10**6)}",
            held_until_ms=START_MS + rng.randrange(1, 5) * period_ms,
        )
        for n in range(1, rng.randrange(2, 6))
    ]
    available_base = rng.randrange(0, 3_000_000)
    told = runs_out_ms(meters, available_base, {METERED: Period(period_ms)})
    really = first_refused_ms(meters, available_base, period_ms)
    assert told is not None
    assert told <= really
    assert really - told <= 4 * max(period_ms, HOUR_MS), "nor needlessly early"


def first_refused_ms(meters: list[Meter], available_base: int, period_ms: int) -> int:
    """Hold period after period as each comes due, and return the beginning of the first that cannot be held."""
    due = [(meter.held_until_ms, meter.id) for meter in meters]
    heapq.heapify(due)
    by_id, spent = {meter.id: meter for meter in meters}, 0
    while True:
        starts_ms, meter_id = heapq.heappop(due)
        meter = by_id[meter_id]
        hold_base = next_hold_base(meter, starts_ms, starts_ms + period_ms)
        if spent + hold_base > available_base:
            return starts_ms
        # Billed at its end: what the hold had too much comes back.
        spare = replace(meter, while_running=False)
        spent += next_hold_base(spare, starts_ms, starts_ms + period_ms)
        heapq.heappush(due, (starts_ms + period_ms, meter_id))
