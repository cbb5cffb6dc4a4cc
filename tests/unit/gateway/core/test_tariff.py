"""What a stretch of time costs, exactly, by the vendor's stated rule."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tariff import MAX_RATE_USD, Rule, Tariff, TariffError, next_month, rate_of, round_up
from tests.factories import HOUR_MS

MINUTE_MS = 60_000
CRYPTOVPS = Tariff(rate_of("0.0147"))
LITEVPS = Tariff(rate_of("0.0042"), unit_s=60, while_running=True)
VRTX = Tariff(rate_of("0.0053"), rule=Rule.CAPPED, monthly=rate_of("3.92"))
VRTX_MONTHLY = Tariff(rate_of("0.0053"), rule=Rule.MONTHLY, monthly=rate_of("3.92"))
TARIFFS = st.sampled_from([CRYPTOVPS, LITEVPS, VRTX, VRTX_MONTHLY])


def at(text: str) -> int:
    """Return a time in UTC as milliseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("length_ms", "hours"),
    [(0, 0), (-5, 0), (1, 1), (HOUR_MS - 1, 1), (HOUR_MS, 1), (HOUR_MS + 1, 2), (744 * HOUR_MS, 744)],
)
def test_an_hour_is_owed_once_it_has_started(length_ms: int, hours: int) -> None:
    """CryptoVPS: whole hours, counted from the beginning of the stretch, to the millisecond."""
    began = at("2027-03-01T10:17:31.123")
    assert CRYPTOVPS.cost(began, began + length_ms) == hours * Fraction("0.0147")


def test_minutes_of_a_rate_that_millionths_cannot_hold_stay_exact() -> None:
    """LiteVPS: USD 0.0042 an hour is 0.00007 a minute, 0.0053 is not whole in millionths: sixty of them are the hour."""
    assert LITEVPS.cost(0, MINUTE_MS) == Fraction("0.00007")
    odd = Tariff(rate_of("0.0053"), unit_s=60)
    assert odd.cost(0, MINUTE_MS) == Fraction(53, 600_000)
    assert odd.cost(0, MINUTE_MS + 1) == 2 * Fraction(53, 600_000)
    assert odd.cost(0, HOUR_MS) == Fraction("0.0053")
    assert sum((odd.cost(n * MINUTE_MS, (n + 1) * MINUTE_MS) for n in range(60)), Fraction(0)) == Fraction("0.0053")


@pytest.mark.parametrize(
    ("begin", "end", "cost"),
    [
        ("2027-01-01T00:00", "2027-02-01T00:00", "3.92"),  # 744 hours would be 3.9432
        ("2027-02-01T00:00", "2027-03-01T00:00", "3.5616"),  # 672 hours
        ("2028-02-01T00:00", "2028-03-01T00:00", "3.6888"),  # 696 hours of a leap year
        ("2027-01-01T00:00", "2027-02-01T01:00", "3.9253"),  # the cap, and one hour of the next month
        ("2027-01-31T23:30", "2027-02-01T00:30", "0.0053"),  # the hour belongs to the month in which it starts
        ("2027-01-31T23:30", "2027-02-01T00:31", "0.0106"),
        ("2026-12-01T00:00", "2027-02-01T00:00", "7.84"),  # over the new year
    ],
)
def test_hours_are_capped_in_each_calendar_month(begin: str, end: str, cost: str) -> None:
    """VRTX hourly_capped: never more than the monthly price in one month of UTC, and each month by itself."""
    assert VRTX.cost(at(begin), at(end)) == Fraction(cost)


@pytest.mark.parametrize(
    ("begin", "end", "months"),
    [
        ("2027-01-15T00:00", "2027-01-15T00:00", 0),
        ("2027-01-15T00:00", "2027-01-15T00:01", 1),
        ("2027-01-31T23:59", "2027-02-01T00:00", 1),
        ("2027-01-31T23:59", "2027-02-01T00:01", 2),
        ("2027-11-30T00:00", "2028-03-01T00:00", 4),
    ],
)
def test_a_month_that_is_touched_is_owed_whole(begin: str, end: str, months: int) -> None:
    """VRTX monthly: the price of every calendar month in which it existed."""
    assert VRTX_MONTHLY.cost(at(begin), at(end)) == months * Fraction("3.92")


@pytest.mark.parametrize(
    ("moment", "next_one"),
    [
        ("2027-01-01T00:00", "2027-02-01T00:00"),
        ("2027-01-31T23:59:59.999", "2027-02-01T00:00"),
        ("2028-02-29T12:00", "2028-03-01T00:00"),
        ("2027-12-31T00:00", "2028-01-01T00:00"),
    ],
)
def test_the_next_month_begins_at_midnight_utc(moment: str, next_one: str) -> None:
    """Also from a leap day and over the end of the year."""
    assert next_month(at(moment)) == at(next_one)


@given(TARIFFS, st.integers(0, 40 * 24 * 60), st.integers(0, 90 * 24 * 60), st.integers(0, 90 * 24 * 60))
def test_a_longer_stretch_never_costs_less(tariff: Tariff, begin: int, first: int, more: int) -> None:
    """Cost is monotone in the end of a stretch, so a bill never has to give anything back."""
    begin_ms = at("2027-01-10T00:00") + begin * MINUTE_MS
    end_ms = begin_ms + first * MINUTE_MS
    assert tariff.cost(begin_ms, end_ms) <= tariff.cost(begin_ms, end_ms + more * MINUTE_MS + 1)


@given(st.integers(1, 60 * 24 * 60), st.integers(0, 60 * 24))
def test_the_cap_never_makes_it_dearer(minutes: int, begin: int) -> None:
    """A capped stretch costs at most its hours, and at most the monthly price for each month that it touches."""
    begin_ms = at("2027-01-20T00:00") + begin * MINUTE_MS
    end_ms = begin_ms + minutes * MINUTE_MS
    capped = VRTX.cost(begin_ms, end_ms)
    assert capped <= Tariff(VRTX.hourly).cost(begin_ms, end_ms)
    assert capped <= VRTX_MONTHLY.cost(begin_ms, end_ms)


@pytest.mark.parametrize(("usd", "base"), [("0", 0), ("0.0053", 5300), ("0.0000001", 1), ("1.0000010", 1_000_001)])
def test_usd_is_rounded_up_once(usd: str, base: int) -> None:
    """A fraction of a base unit is a whole one."""
    assert round_up(Fraction(usd)) == base


def test_a_third_is_rounded_up() -> None:
    """Also what no decimal can write."""
    assert round_up(Fraction(1, 3)) == 333_334


@pytest.mark.parametrize(("text", "rate"), [("0", "0"), ("0.0053", "0.0053"), ("12", "12"), ("100000.5", "100000.5")])
def test_a_rate_is_read_exactly(text: str, rate: str) -> None:
    """Decimal texts are fractions, never floats."""
    assert rate_of(text) == Fraction(rate)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", ".5", "5.", "-1", "+1", "1e3", "1_0", " 1", "1\n", "01", "1.2.3", "1/3", "NaN", "\u0661"),
        *("9" * 7, "0." + "0" * 19),
    ],
)
def test_what_is_no_decimal_is_no_rate(text: str) -> None:
    """Signs, exponents, blanks, other digits and endless texts are refused."""
    with pytest.raises(TariffError):
        rate_of(text)


@pytest.mark.parametrize(
    ("hourly", "fields"),
    [
        (-1, {}),
        (MAX_RATE_USD + 1, {}),
        (1, {"unit_s": 0}),
        (1, {"rule": Rule.CAPPED}),
        (1, {"rule": Rule.MONTHLY}),
        (1, {"monthly": Fraction(-1)}),
        (1, {"monthly": Fraction(MAX_RATE_USD + 1)}),
        (1, {"rule": Rule.CAPPED, "monthly": Fraction(1), "while_running": True}),
    ],
)
def test_a_tariff_that_cannot_be_meant_is_refused(hourly: int, fields: dict[str, object]) -> None:
    """Below zero, beyond what the ledger counts, without a unit or without the month's price."""
    with pytest.raises(TariffError):
        Tariff(Fraction(hourly), **fields)
