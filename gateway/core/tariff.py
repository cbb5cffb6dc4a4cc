"""What a vendor that charges an account asks for a stretch of time, exactly, by the rule that it states.

Must not know meters, balances or clocks.  Theory: rates such as 0.0053 an hour have no whole number of millionths a
minute, so cost is a fraction until the very end, and is rounded up once over the whole life of a thing: many small
charges then cost what one large one does.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from gateway.core.money import BASE_PER_UNIT
from gateway.core.times import next_month

HOUR_S = 3600
MS = 1000
MAX_RATE_USD = 100_000
"""No hour and no month of a server costs more: a bill at a nonsense rate would be more than the ledger can count."""

_RATE = re.compile(r"(0|[1-9][0-9]{0,5})(?:\.([0-9]{1,18}))?", re.ASCII)


class Rule(StrEnum):
    """How time becomes money."""

    STARTED_UNITS = "started_units"  # each unit is owed whole once it has started
    CAPPED = "hourly_capped"  # started units, at most the monthly price in one calendar month (UTC)
    MONTHLY = "monthly"  # each calendar month (UTC) that is touched is owed whole


class TariffError(ValueError):
    """The tariff cannot be meant: a rate, a unit or a monthly price is missing or out of range."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price per hour (USD), the unit in which it is counted, and the rule. `monthly` is needed by two of the rules.

    `while_running`: only time in which the thing runs is charged, not all time until its destruction.
    """

    hourly: Fraction
    unit_s: int = HOUR_S
    rule: Rule = Rule.STARTED_UNITS
    monthly: Fraction | None = None
    while_running: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.hourly <= MAX_RATE_USD or self.unit_s < 1:
            raise TariffError(f"a tariff needs a rate from 0 to {MAX_RATE_USD} and a unit of at least a second")
        if self.monthly is not None and not 0 <= self.monthly <= MAX_RATE_USD:
            raise TariffError(f"a monthly price is from 0 to {MAX_RATE_USD}")
        if self.rule is not Rule.STARTED_UNITS and self.monthly is None:
            raise TariffError(f"the rule {self.rule.value} needs a monthly price")
        if self.rule is not Rule.STARTED_UNITS and self.while_running:
            raise TariffError("a month's price covers its pauses: it cannot be charged only while the thing runs")

    def cost(self, from_ms: int, until_ms: int) -> Fraction:
        """Return the USD owed for one unbroken stretch [from, until), exactly; nothing for an empty one."""
        if until_ms <= from_ms:
            return Fraction(0)
        if self.rule is Rule.STARTED_UNITS:
            return self._units(from_ms, until_ms) * self._unit_price
        total, monthly = Fraction(0), self.monthly or Fraction(0)
        begin_ms = from_ms
        while begin_ms < until_ms:
            next_ms = next_month(begin_ms)
            if self.rule is Rule.MONTHLY:
                total += monthly
            else:
                # A unit belongs to the month in which it starts, so units are counted from the stretch's beginning.
                until_now, before = min(next_ms, until_ms), max(begin_ms, from_ms)
                units = self._units(from_ms, until_now) - self._units(from_ms, before)
                total += min(units * self._unit_price, monthly)
            begin_ms = next_ms
        return total

    @property
    def _unit_price(self) -> Fraction:
        return self.hourly * self.unit_s / HOUR_S

    def _units(self, from_ms: int, until_ms: int) -> int:
        return -((from_ms - until_ms) // (self.unit_s * MS))


def round_up(usd: Fraction) -> int:
    """Return USD as base units, rounded up."""
    scaled = usd * BASE_PER_UNIT
    return -((-scaled.numerator) // scaled.denominator)


def rate_of(text: str) -> Fraction:
    """Return a decimal text (never a float) as an exact rate. Raises TariffError for anything else, or below zero."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise TariffError(f"not a decimal price: {text[:40]!r}")
    whole, decimals = match.group(1), match.group(2) or ""
    return Fraction(int(whole + decimals), 10 ** len(decimals))
