"""Amounts of money as integers in base units (1e-6), and the strict grammar that lets them in.

Must not know who owns the money or why it moves.  Theory: an amount is a count of indivisible units of one asset; text
becomes a count in exactly one place, and rounding always names its direction.
"""

import re

USD = "USD"
DECIMALS = 6
BASE_PER_UNIT = 1_000_000
MAX_AMOUNT_BASE = 1_000_000_000_000_000  # design 5: nine thousand of them still fit SQLite's signed 64 bits
RATE_ONE_PPM = 1_000_000
WEI_PER_GWEI = 1_000_000_000  # and atto-dollars, which a chain like Tempo prices its gas in

_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,6}))?", re.ASCII)


class AmountError(ValueError):
    """The text or number is not an amount that we take; the message says what to write instead."""


def parse_amount(text: object, *, allow_zero: bool = False) -> int:
    """Return the base units of a decimal string such as "9.99" (at most six decimals, no sign, no exponent).

    Raises AmountError for anything else, for zero unless allowed, and above MAX_AMOUNT_BASE.
    """
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise AmountError('write the amount as a decimal string with at most six decimals, such as "9.99"')
    whole, fraction = match.group(1), match.group(2) or ""
    amount_base = int(whole) * BASE_PER_UNIT + int(fraction.ljust(DECIMALS, "0"))
    if amount_base > MAX_AMOUNT_BASE:
        raise AmountError(f"the amount is above the limit of {format_amount(MAX_AMOUNT_BASE)}")
    if amount_base == 0 and not allow_zero:
        raise AmountError("the amount must be more than zero")
    return amount_base


def format_amount(amount_base: int) -> str:
    """Return base units as the decimal string of the API, always with six decimals: 9990000 -> "9.990000"."""
    sign = "-" if amount_base < 0 else ""
    whole, fraction = divmod(abs(amount_base), BASE_PER_UNIT)
    return f"{sign}{whole}.{fraction:06d}"


def check_amount(amount_base: int) -> int:
    """Return the amount if it is an integer in 1..MAX_AMOUNT_BASE, else raise AmountError."""
    if type(amount_base) is not int or not 0 < amount_base <= MAX_AMOUNT_BASE:
        raise AmountError(f"an amount is an integer from 1 to {MAX_AMOUNT_BASE} base units, not {amount_base!r}")
    return amount_base


def to_usd(token_base: int, rate_ppm: int) -> int:
    """Return what a token amount costs an account in USD base units, rounded up: the house never funds the rounding."""
    return -(-token_base * rate_ppm // RATE_ONE_PPM)
