"""Amounts: what text becomes money, and what does not."""

import re

import pytest

from gateway.core.money import MAX_AMOUNT_BASE, AmountError, check_amount, format_amount, parse_amount, to_usd

GOOD = """
    9.99             9990000
    0.000001               1
    0.10              100000
    1                1000000
    1.000000         1000000
    1000000000    1000000000000000
"""

BAD: tuple[object, ...] = (
    "",
    " ",
    "1 ",
    " 1",
    "1\n",
    "+1",
    "-1",
    "01",
    "00",
    "1.",
    ".5",
    "1.0000001",
    "1e3",
    "1E3",
    "1_000",
    "1,000",
    "1,5",
    "0x10",
    "$1",
    "1 USD",
    "NaN",
    "Infinity",
    "\u0661",  # Arabic-Indic one: a digit to str.isdigit and to int()
    "\uff11",  # full-width one
    "\u00b2",
    "9" * 78,
    "0." + "0" * 78,
    "1000000000.000001",
    "9999999999",
    "0",
    "0.000000",
    1,
    1.5,
    None,
    True,
    b"1",
    ["1"],
)


@pytest.mark.parametrize("line", GOOD.strip().splitlines())
def test_parse_amount_counts_base_units(line: str) -> None:
    """A decimal string becomes exactly its number of millionths, and prints as it was."""
    text, amount_base = line.split()
    assert parse_amount(text) == int(amount_base)
    assert parse_amount(format_amount(int(amount_base))) == int(amount_base)


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_parse_amount_refuses_everything_else(text: object) -> None:
    """Signs, exponents, separators, foreign digits, too many places, zero and what is no text are not amounts."""
    with pytest.raises(AmountError):
        parse_amount(text)


def test_zero_is_an_amount_only_where_it_is_allowed() -> None:
    """Zero parses when the caller says so, in either spelling."""
    assert parse_amount("0", allow_zero=True) == 0
    assert parse_amount("0.00", allow_zero=True) == 0


def test_format_amount_always_writes_six_decimals() -> None:
    """The API's text has six decimals and a sign only below zero."""
    assert [format_amount(n) for n in (0, 1, 9_990_000, -1, -12_500_000)] == [
        "0.000000",
        "0.000001",
        "9.990000",
        "-0.000001",
        "-12.500000",
    ]


def test_messages_name_the_limit() -> None:
    """Whoever asks for too much is told how much there may be."""
    with pytest.raises(AmountError, match=re.escape("1000000000.000000")):
        parse_amount("1000000000.5")


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT_BASE + 1, True, 1.0, "1", None], ids=repr)
def test_check_amount_takes_positive_integers_only(amount: object) -> None:
    """A balance is never moved by zero, by a negative number, by a float or by a boolean."""
    with pytest.raises(AmountError):
        check_amount(amount)  # type: ignore[arg-type]


def test_check_amount_returns_the_bounds() -> None:
    """The smallest and the largest amount pass."""
    assert (check_amount(1), check_amount(MAX_AMOUNT_BASE)) == (1, MAX_AMOUNT_BASE)


def test_to_usd_rounds_up() -> None:
    """A fraction of a base unit is the account's to pay, never the house's."""
    assert to_usd(9_000_000, 1_000_000) == 9_000_000
    assert to_usd(1, 1) == 1
    assert to_usd(3, 1_500_000) == 5
    assert to_usd(1_000_000, 1_000_001) == 1_000_001
    assert to_usd(0, 1_000_000) == 0
