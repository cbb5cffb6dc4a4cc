"""Open payments that a configuration would strand."""

from dataclasses import replace

from gateway.core.payment import Axes, Charge, Transfer
from gateway.core.records import PeriodTerms
from gateway.core.view import View
from gateway.flow.stranded import stranded
from tests.factories import make_payment, make_terms


def view(*payments: object) -> View:
    """Return a view with these open payments."""
    return View(open_payments={p.id: p for p in payments})  # type: ignore[attr-defined]


def test_a_missing_chain_and_a_missing_vendor_are_named_with_their_payments() -> None:
    """M10: the start is refused with what to put back, and why."""
    moved = make_payment(3, vendor="other", terms=make_terms(3, chain_id=10))
    found = stranded(view(make_payment(1), make_payment(2), moved), {8453}, {"other"})
    assert found == [
        "chain 10 is not configured, and 1 open payment needs it: configure it again until they have ended",
        "vendor vpsagent is not configured, and 2 open payments need it: configure it again until they have ended",
    ]


def test_a_payment_that_was_collected_and_waits_for_delivery_counts() -> None:
    """Its hold is open: only the vendor can find the answer."""
    collected = replace(make_payment(1), axes=Axes(transfer=Transfer.SETTLED, charge=Charge.HELD))
    assert len(stranded(view(collected), {8453}, set())) == 1


def test_a_wallet_or_token_that_left_strands_nothing() -> None:
    """The tracker follows them from the payment's own terms."""
    gone = make_payment(1, terms=make_terms(1, token=b"\x0c" * 20, wallet=b"\x0d" * 20))
    assert stranded(view(gone), {8453}, {"vpsagent"}) == []


def test_a_billing_period_needs_its_vendor_and_no_chain() -> None:
    """What a vendor's account settles has no chain that could be missing."""
    period = make_payment(1, vendor="vrtx", terms=PeriodTerms("vrtx", "mtr_1", 0, 5, 0, 1))
    assert stranded(view(period), set(), {"vrtx"}) == []
    assert len(stranded(view(period), set(), set())) == 1
