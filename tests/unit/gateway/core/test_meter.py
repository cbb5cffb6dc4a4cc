"""What a metered thing owes, and what its next period may cost."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.meter import next_hold_base, owed_base, pause, run, tariff_of
from gateway.core.records import Meter
from gateway.core.tariff import Rule, TariffError, round_up
from tests.factories import HOUR_MS, NOW_MS, make_meter

MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS
HOURLY = make_meter()
MINUTES = make_meter(hourly="0.0053", unit_s=60, while_running=True)
CAPPED = make_meter(hourly="0.0053", monthly="3.92", rule="hourly_capped")
MONTHLY = make_meter(hourly="0.0053", monthly="3.92", rule="monthly")
METERS = st.sampled_from([HOURLY, MINUTES, CAPPED, MONTHLY, make_meter(hourly="0.0042", unit_s=60)])
STEPS = st.lists(st.integers(1, 3 * DAY_MS), min_size=1, max_size=12)


def test_a_meters_tariff_is_what_its_texts_say() -> None:
    """Rates are exact, and a month's price is there only where it is stated."""
    tariff = tariff_of(CAPPED)
    assert (tariff.hourly, tariff.monthly, tariff.rule) == (Fraction("0.0053"), Fraction("3.92"), Rule.CAPPED)
    assert (tariff_of(MINUTES).monthly, tariff_of(MINUTES).unit_s) == (None, 60)
    assert tariff_of(MINUTES).while_running


@pytest.mark.parametrize("changes", [{"hourly": "-1"}, {"monthly": "x"}, {"rule": "monthly"}, {"rule": "free"}])
def test_a_meter_that_cannot_be_meant_is_an_error(changes: dict[str, str]) -> None:
    """Rates that are none and rules that nobody knows are never a price of nothing."""
    with pytest.raises(ValueError) as caught:
        tariff_of(make_meter(**changes))
    assert isinstance(caught.value, TariffError) or changes == {"rule": "free"}


def test_nothing_is_owed_before_it_runs() -> None:
    """A thing that was only ordered costs nothing, however long ago."""
    assert owed_base(HOURLY, NOW_MS + 99 * DAY_MS) == 0
    assert pause(HOURLY, NOW_MS) == HOURLY


def test_the_stretch_that_lasts_is_owed_up_to_now() -> None:
    """Three hours and a minute are four started hours; the fraction of a unit is rounded up at the very end."""
    running = run(HOURLY, NOW_MS)
    assert owed_base(running, NOW_MS + 3 * HOUR_MS + MINUTE_MS) == 4 * 14_700
    assert owed_base(run(MINUTES, NOW_MS), NOW_MS + 1) == 89  # 88.33 millionths


def test_stretches_add_up_exactly_and_are_rounded_once() -> None:
    """Sixty single minutes with pauses between them cost what one hour does, not sixty roundings."""
    meter = MINUTES
    for n in range(60):
        meter = pause(run(meter, NOW_MS + 2 * n * MINUTE_MS), NOW_MS + (2 * n + 1) * MINUTE_MS)
    assert owed_base(meter, NOW_MS + DAY_MS) == 5300
    assert Fraction(meter.accrued) == Fraction("0.0053")


def test_starting_and_stopping_twice_changes_nothing() -> None:
    """A second start does not move the first, a second stop adds nothing."""
    running = run(MINUTES, NOW_MS)
    assert run(running, NOW_MS + 5) == running
    paused = pause(running, NOW_MS + MINUTE_MS)
    assert pause(paused, NOW_MS + DAY_MS) == paused


def test_no_time_is_charged_twice() -> None:
    """A start that is told for a time before the last stop counts from that stop."""
    paused = pause(run(MINUTES, NOW_MS), NOW_MS + 10 * MINUTE_MS)
    again = run(paused, NOW_MS + 4 * MINUTE_MS)
    assert again.running_since_ms == NOW_MS + 10 * MINUTE_MS
    assert owed_base(again, NOW_MS + 20 * MINUTE_MS) == round_up(20 * Fraction("0.0053") / 60)


def test_a_stop_before_the_start_costs_nothing() -> None:
    """Clocks differ: a stretch that ends before it began is empty, and the next begins no earlier."""
    paused = pause(run(MINUTES, NOW_MS + 50), NOW_MS)
    assert owed_base(paused, NOW_MS + DAY_MS) == 0
    assert run(paused, NOW_MS).running_since_ms == NOW_MS + 50


@given(METERS, STEPS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_debt_never_shrinks(meter: Meter, steps: list[int], toggles: list[bool]) -> None:
    """Whatever starts and stops, what is owed at a later time is no less."""
    meter, now_ms, before = run(meter, NOW_MS), NOW_MS, 0
    for step, toggle in zip(steps, toggles, strict=False):
        now_ms += step
        if toggle and meter.while_running:
            meter = run(meter, now_ms) if meter.running_since_ms is None else pause(meter, now_ms)
        owed = owed_base(meter, now_ms)
        assert owed >= before
        before = owed


@given(METERS, STEPS)
def test_periods_add_up_to_the_debt_whatever_they_are(meter: Meter, steps: list[int]) -> None:
    """The sum of the periods' charges is what one bill for the whole life would be, to the base unit."""
    meter, now_ms, charged = run(meter, NOW_MS), NOW_MS, 0
    for step in steps:
        hold = next_hold_base(meter, now_ms, now_ms + step)
        now_ms += step
        charge = owed_base(meter, now_ms) - charged
        # A thing that runs through costs what was held; one that may pause has a unit to spare; nothing holds a unit.
        assert charge <= hold
        assert meter.while_running or hold == max(1, charge)
        charged += charge
    assert charged == owed_base(meter, now_ms) == round_up(tariff_of(meter).cost(NOW_MS, now_ms))


@given(METERS, st.integers(0, DAY_MS), st.integers(1, 60 * DAY_MS))
def test_the_first_hold_covers_a_late_start(meter: Meter, late_ms: int, length_ms: int) -> None:
    """Between the order and the vendor's answer time passes: a later beginning never costs more than was held."""
    ends_ms = NOW_MS + length_ms
    hold = next_hold_base(meter, NOW_MS, ends_ms)
    assert owed_base(run(meter, NOW_MS + late_ms), ends_ms) <= hold


@given(st.integers(1, 600), st.integers(0, 600), st.integers(1, 600))
def test_the_hold_of_minutes_covers_one_pause(run_s: int, idle_s: int, more_s: int) -> None:
    """A pause begins another unit: the hold has it to spare."""
    ends_ms = NOW_MS + (run_s + idle_s + more_s) * 1000
    hold = next_hold_base(run(MINUTES, NOW_MS), NOW_MS, ends_ms)
    paused = pause(run(MINUTES, NOW_MS), NOW_MS + run_s * 1000)
    again = run(paused, NOW_MS + (run_s + idle_s) * 1000)
    assert owed_base(again, ends_ms) <= hold


def test_a_cap_that_is_reached_still_holds_a_unit() -> None:
    """Nothing more is owed this month, and a hold of nothing is not one."""
    running = run(CAPPED, NOW_MS)
    border = 1_801_440_000_000 + 28 * DAY_MS  # 2027-02-01 and its 28 days
    month = replace(running, running_since_ms=1_801_440_000_000)
    assert next_hold_base(month, border - HOUR_MS, border) == 5300
    dear = replace(month, monthly="1")
    assert next_hold_base(dear, border - HOUR_MS, border) == 1
