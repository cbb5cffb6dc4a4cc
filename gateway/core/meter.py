"""What a metered thing owes at a time, and what its next period may cost at most.

Must not know balances or vendors.  Theory: the debt is a function of the tariff and of the stretches in which the thing
was charged, rounded up once; a period's charge is the difference of two such debts, so nothing is charged twice and
rounding never adds up.
"""

from dataclasses import replace
from fractions import Fraction

from gateway.core.records import Meter
from gateway.core.tariff import Rule, Tariff, rate_of, round_up


def tariff_of(meter: Meter) -> Tariff:
    """Return a meter's tariff. Raises TariffError for one that cannot be meant."""
    monthly = None if meter.monthly is None else rate_of(meter.monthly)
    return Tariff(rate_of(meter.hourly), meter.unit_s, Rule(meter.rule), monthly, meter.while_running)


def owed_base(meter: Meter, until_ms: int) -> int:
    """Return everything that it has cost until then, in USD base units, rounded up once."""
    return round_up(Fraction(meter.accrued) + _current(meter, until_ms))


def next_hold_base(meter: Meter, starts_at_ms: int, ends_at_ms: int) -> int:
    """Return the most that the period [starts, ends) can add if it runs through, in USD base units, at least one.

    A thing that pauses and starts more than once in a period may cost more: that is the house's loss.
    """
    accrued = Fraction(meter.accrued)
    since_ms = starts_at_ms if meter.running_since_ms is None else meter.running_since_ms
    tariff = tariff_of(meter)
    before = round_up(accrued + tariff.cost(since_ms, starts_at_ms))
    # One unit more than fits: a pause and a new start begin another, and one that starts later than we think may carry a
    # unit over into the next month, out of reach of this month's cap.
    late = tariff.rule is Rule.CAPPED and meter.running_since_ms is None
    spare = tariff.cost(starts_at_ms, starts_at_ms + 1) if tariff.while_running or late else Fraction(0)
    return max(1, round_up(accrued + tariff.cost(since_ms, ends_at_ms) + spare) - before)


def run(meter: Meter, at_ms: int) -> Meter:
    """Return it as charged from `at_ms` on; one that is charged already is left as it is. No time is charged twice."""
    if meter.running_since_ms is not None:
        return meter
    return replace(meter, running_since_ms=max(at_ms, meter.accrued_until_ms))


def pause(meter: Meter, at_ms: int) -> Meter:
    """Return it with the stretch that ends at `at_ms` added up, charged no further."""
    if meter.running_since_ms is None:
        return meter
    accrued = Fraction(meter.accrued) + _current(meter, at_ms)
    until_ms = max(at_ms, meter.running_since_ms)
    return replace(meter, running_since_ms=None, accrued=str(accrued), accrued_until_ms=until_ms)


def _current(meter: Meter, until_ms: int) -> Fraction:
    if meter.running_since_ms is None:
        return Fraction(0)
    return tariff_of(meter).cost(meter.running_since_ms, until_ms)
