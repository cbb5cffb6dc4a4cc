"""Decimal amounts to base units (1e-6) and back, as integers: the demo checks sums to the last unit, so never as floats.

Must not know whose money it is.
"""

import re

DECIMALS = 6
_ONE = 10**DECIMALS
_AMOUNT = re.compile(r"(-?)(0|[1-9][0-9]*)\.([0-9]{6})", re.ASCII)


def units(text: str) -> int:
    """Return the base units of a decimal text with exactly six decimals; raise ValueError for anything else."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"not an amount with six decimals: {text!r}")
    value = int(match[2]) * _ONE + int(match[3])
    return -value if match[1] else value


def usd(amount_base: int) -> str:
    """Return base units as a decimal text with six decimals."""
    whole, part = divmod(abs(amount_base), _ONE)
    return f"{'-' if amount_base < 0 else ''}{whole}.{part:06d}"
