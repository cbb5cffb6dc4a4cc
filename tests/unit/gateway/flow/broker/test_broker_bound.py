"""What counts as dearer than agreed, and by which rate is charged."""

import pytest

from gateway.account_ports import Price, Thing
from gateway.flow.broker.bound import dearer, rate_agreed


@pytest.mark.parametrize(
    ("told", "monthly", "is_dearer"),
    [
        (None, None, False),
        ("0.0053", "3.92", False),
        ("0.0052", None, False),
        ("0.005300000000000001", None, False),  # a float's last digits
        ("0.005300002", None, True),
        ("0.0054", None, True),
        ("0.0053", "3.93", True),
    ],
)
def test_dearer(told: str | None, monthly: str | None, *, is_dearer: bool) -> None:
    """An hour or a month above what was agreed to, beyond noise."""
    thing = Thing("a", "server", hourly=told, monthly=monthly)
    assert dearer(thing, Price("1", "0.0053", "3.92")) is is_dearer


@pytest.mark.parametrize(("told", "rate"), [(None, "0.0053"), ("0.005", "0.005"), ("0.005300000000000001", "0.0053")])
def test_rate_is_the_vendors_up_to_what_was_agreed(told: str | None, rate: str) -> None:
    """Cheaper is taken over, noise above is not."""
    assert rate_agreed(told, "0.0053") == rate
