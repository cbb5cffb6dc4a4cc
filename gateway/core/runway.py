"""When an account's balance runs out, by what it runs now: so that an agent hears of it before its things are ended.

Must not know vendors, or how a period is held.  Theory: each thing takes its rate from the balance from the end of what is
held for it; where the balance reaches zero, the whole periods that still fit end before, so the earliest of their ends is
told: a warning may come early, and never late.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from gateway.core.meter import tariff_of
from gateway.core.money import BASE_PER_UNIT
from gateway.core.records import Meter, MeterState
from gateway.core.tariff import HOUR_S, Rule, round_up
from gateway.core.times import next_month

_HOUR_MS = HOUR_S * 1000
_MONTH_MS = 28 * 86_400_000  # the shortest: no month takes its price faster
HORIZON_MS = 10 * 365 * 86_400_000
"""What would last for longer than ten years is not counted."""


@dataclass(frozen=True, slots=True)
class Period:
    """How one vendor's things are held: for how long each time, and how long before the held time is over."""

    period_ms: int
    lead_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Draw:
    """What one thing takes: so much a millisecond from `begin_ms` on, in steps of a period.

    `margin` is what a hold may need beyond that: a unit that is begun and not over, and a rounding up.
    """

    begin_ms: int
    period: Period
    rate: Fraction
    margin: Fraction = Fraction(0)


def charged(meter: Meter) -> bool:
    """Say whether a thing is charged now, and will be for its next period."""
    return meter.state is MeterState.RUNNING and meter.running_since_ms is not None


def hourly_base(meters: Iterable[Meter]) -> int:
    """Return what an hour of everything that is charged now costs, in USD base units, rounded up."""
    return round_up(sum((tariff_of(meter).hourly for meter in meters if charged(meter)), Fraction(0)))


def runs_out_ms(meters: Iterable[Meter], available_base: int, periods: Mapping[str, Period]) -> int | None:
    """Return when the first of an account's things can end for want of money, at the earliest; None if none does.

    `periods` is by vendor; a thing at any other is left out. A month's cap on an hourly price is not counted on.
    """
    known = [meter for meter in meters if meter.vendor in periods and meter.state is MeterState.RUNNING]
    draws = sorted((_draw(m, periods[m.vendor]) for m in known if charged(m)), key=lambda draw: draw.begin_ms)
    ends = [meter.held_until_ms for meter in known if meter.unfunded_at_ms is not None and charged(meter)]
    empty_ms = _empty_ms([draw for draw in draws if draw.rate], available_base)
    if empty_ms is not None:
        ends += [_last_step(draw, empty_ms) for draw in draws if draw.rate and draw.begin_ms <= empty_ms]
    return min(ends, default=None)


def _draw(meter: Meter, period: Period) -> _Draw:
    tariff, held_ms = tariff_of(meter), meter.held_until_ms
    if tariff.rule is not Rule.MONTHLY:
        rate = tariff.hourly * BASE_PER_UNIT / _HOUR_MS
        begun = int(tariff.while_running) + int(period.period_ms % (tariff.unit_s * 1000) != 0)
        rounded = (rate * period.period_ms).denominator != 1 or Fraction(meter.accrued) != 0
        return _Draw(held_ms, period, rate, begun * rate * tariff.unit_s * 1000 + int(rounded))
    month_ms = held_ms if next_month(held_ms - 1) == held_ms else next_month(held_ms)
    monthly = tariff.monthly or Fraction(0)
    return _Draw(month_ms, Period(_MONTH_MS, period.lead_ms), monthly * BASE_PER_UNIT / _MONTH_MS)


def _empty_ms(draws: list[_Draw], available_base: int) -> int | None:
    """Return when the balance is used up if every thing takes its rate from its beginning on."""
    left = max(Fraction(0), available_base - sum((draw.margin for draw in draws), Fraction(0)))
    rate = Fraction(0)
    for number, draw in enumerate(draws):
        rate += draw.rate
        until_ms = draws[number + 1].begin_ms if number + 1 < len(draws) else draw.begin_ms + HORIZON_MS
        if left < rate * (until_ms - draw.begin_ms):
            return draw.begin_ms + int(left / rate)
        left -= rate * (until_ms - draw.begin_ms)
    return None


def _last_step(draw: _Draw, empty_ms: int) -> int:
    whole = (empty_ms - draw.begin_ms) // draw.period.period_ms
    return draw.begin_ms + whole * draw.period.period_ms - draw.period.lead_ms
