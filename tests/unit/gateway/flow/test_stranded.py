"""Open payments that a configuration would strand."""

from dataclasses import replace

from gateway.core.paid import Refund, TopUp, TopUpState
from gateway.core.payment import Axes, Charge, Transfer
from gateway.core.records import PeriodTerms
from gateway.core.view import View
from gateway.flow.stranded import stranded, stranded_at_tills
from tests.factories import CHAIN_ID, TOKEN, make_payment, make_terms
from tests.paid_factories import TILL, make_refund, make_topup, paying


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


# tills

HERE, THERE = (CHAIN_ID, TILL, TOKEN), (CHAIN_ID, b"\x12" * 20, TOKEN)


def at_tills(*records: TopUp | Refund, **read_to: int) -> View:
    """Return a view with these open orders and refunds, whose tills were read so far."""
    cursors = {{"here": HERE, "there": THERE}[name]: (block, bytes(32)) for name, block in read_to.items()}
    return View(
        topups={r.id: r for r in records if isinstance(r, TopUp)},
        refunds={r.id: r for r in records if isinstance(r, Refund)},
        till_cursors=cursors,
    )


def test_a_till_that_an_open_order_may_be_paid_to_must_stay() -> None:
    """M5: which of the tills that were read until now it is paid to, nobody knows; one that left long ago is none."""
    payable = (paying(1), paying(2, state=TopUpState.SEEN), make_topup(3), paying(4, state=TopUpState.FAILED))
    (found,) = stranded_at_tills(at_tills(*payable, here=70, there=70), {THERE})
    assert found == (
        f"till 0x{TILL.hex()} with token 0x{TOKEN.hex()} on chain {CHAIN_ID} is not configured, and 2 open orders or "
        "refunds need it: configure it again until they have ended"
    )
    assert stranded_at_tills(at_tills(*payable, here=70, there=70), {HERE, THERE}) == []
    assert stranded_at_tills(at_tills(*payable, here=60, there=70), {THERE}) == []
    assert stranded_at_tills(at_tills(*payable[2:], here=70, there=70), {THERE}) == []


def test_a_till_that_a_refund_leaves_must_stay() -> None:
    """M5: also one that was not read for long: its end is seen nowhere else."""
    (found,) = stranded_at_tills(at_tills(make_refund(1), here=60, there=70), {THERE})
    assert f"till 0x{TILL.hex()}" in found
    assert "1 open order or refund needs it" in found
    assert stranded_at_tills(at_tills(make_refund(1), here=60, there=70), {HERE}) == []


def test_a_token_that_an_order_is_paid_in_must_stay_before_anything_was_read() -> None:
    """M5: there is no cursor yet that would tell of its till."""
    (found,) = stranded_at_tills(at_tills(paying(1)), {(CHAIN_ID, TILL, b"\x0c" * 20)})
    assert f"no till takes token 0x{TOKEN.hex()} on chain {CHAIN_ID}, and 1 open order is paid in it" in found
    assert stranded_at_tills(at_tills(paying(1)), {HERE}) == []
