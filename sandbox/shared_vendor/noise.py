"""The `noise` fault: money as JSON numbers that a careless vendor's floats make of it.

It must not touch what is charged: only how it is written.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sandbox.shared_vendor.faults import Kind

if TYPE_CHECKING:
    from sandbox.shared_vendor.faults import Faults

# {mode}: `last_digits` adds 2e-15, `exponent` writes 4.2E-3 for 0.0042.
NOISE = {"noise": Kind({"mode": "last_digits"}, {"mode": ("last_digits", "exponent")}, standing=True)}


def noisy(faults: Faults, amount: Decimal) -> Decimal:
    """The amount as it shall be written; itself when no fault is in force."""
    fault = faults.take("noise")
    if fault is None:
        return amount
    if fault["mode"] == "exponent":
        return Exponent(amount)
    return amount + Decimal("2E-15")


class Exponent(Decimal):
    """A decimal that writes itself with an exponent."""

    def __str__(self) -> str:
        return format(self, "E")
