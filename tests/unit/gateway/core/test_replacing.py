"""Replacing fields of a record: what the standard library's function returns, for every record that is replaced so."""

import dataclasses
from typing import Any

import pytest

from gateway.core.payment import Charge
from gateway.core.replacing import replace
from tests.factories import make_evidence, make_outcome, make_payment, make_resource

RECORDS: list[tuple[Any, dict[str, Any]]] = [
    (make_payment(1), {"answered": True, "captured_base": 5}),
    (make_payment(1), {}),
    (make_evidence(1), {"payment_id": "pay_0009"}),
    (make_outcome(1), {"answer": None, "note": "n"}),
    (make_resource(), {"open_renewal": "pay_0001"}),
]


@pytest.mark.parametrize(("record", "changes"), RECORDS)
def test_it_is_the_standard_function(record: Any, changes: dict[str, Any]) -> None:
    """The same type with the same fields, and the record itself untouched."""
    before = dataclasses.asdict(record)
    replaced = replace(record, **changes)
    assert replaced == dataclasses.replace(record, **changes)
    assert type(replaced) is type(record)
    assert dataclasses.asdict(record) == before


def test_a_field_that_is_none_is_an_error() -> None:
    """A slip of the pen never becomes a record without the change."""
    changes: dict[str, Any] = {"charge": Charge.VOIDED}
    with pytest.raises(TypeError, match="Payment has no field charge"):
        replace(make_payment(1), **changes)
