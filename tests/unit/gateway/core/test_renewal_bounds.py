"""The renewal planner where money could be lost: paid for nothing, an order past its time, a thing that is charged on."""

from dataclasses import replace

import pytest

from gateway.core.renewal import (
    NOT_APPLIED,
    OVERDUE,
    OVERDUE_S,
    Destroy,
    Lapse,
    Overdue,
    Renew,
    Wait,
    Warn,
    Why,
    decide,
    lapse_reason,
)
from gateway.core.renewal_claim import RenewalClaim, key_of
from gateway.core.server import ORDERED, ServerState
from tests.factories import make_server
from tests.unit.gateway.core.test_renewal import DAY_S, facts, in_s


def test_a_term_that_was_paid_for_and_did_not_come_is_never_bought_again_unasked() -> None:
    """Its agent is told, and it lapses as failed; without the mark it would be bought."""
    assert isinstance(decide(facts(left_s=2 * DAY_S)), Renew)
    marked = facts(left_s=2 * DAY_S, warned=(NOT_APPLIED,))
    warned = decide(marked)
    assert isinstance(warned, Warn)
    assert warned.why is Why.FAILED
    assert isinstance(decide(replace(marked, warned=(NOT_APPLIED, warned.kind))), Wait)
    assert decide(facts(left_s=-1, warned=(NOT_APPLIED,))) == Lapse(Why.FAILED)
    assert lapse_reason(make_server(warned=(NOT_APPLIED,))) == Why.FAILED


@pytest.mark.parametrize("state", sorted(ORDERED))
def test_an_order_that_is_wanted_no_longer_is_called_off_wherever_it_is(state: ServerState) -> None:
    """A vendor that destroys nothing may still be about to make it."""
    known = facts(None, state=state, can_destroy=False, keep_until_ms=in_s(-1))
    assert decide(known) == Destroy(Why.KEEP_UNTIL)
    assert isinstance(decide(replace(known, keep_until_ms=in_s(1))), Wait)


def test_what_is_charged_has_not_lapsed_whatever_its_end_says() -> None:
    """The meter's end is awaited; a human is asked after an hour, once; without a meter it has lapsed."""
    known = facts(None, expires_at_ms=in_s(-1), until_reason="template", metered=True)
    assert isinstance(decide(known), Wait)
    late = replace(known, expires_at_ms=in_s(-OVERDUE_S))
    assert decide(late) == Overdue(in_s(-OVERDUE_S))
    assert isinstance(decide(replace(late, warned=(OVERDUE,))), Wait)
    assert decide(replace(late, metered=False)) == Lapse(Why.TEMPLATE)
    assert decide(replace(late, keep_until_ms=in_s(-1), can_destroy=True)) == Destroy(Why.KEEP_UNTIL)


def test_a_number_buys_under_one_key_whatever_is_asked_for_under_it() -> None:
    """Units and ends differ from try to try; the Idempotency-Key does not."""
    keys = {RenewalClaim("srv_1", 7, units, ends_ms).key for units, ends_ms in ((1, 10), (2, 10), (1, 20))}
    assert keys == {key_of("srv_1", 7)}
