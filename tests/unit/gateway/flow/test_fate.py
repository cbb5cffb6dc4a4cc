"""What kept a way from being bought: whose word it was, and whether it ends by itself."""

import pytest

from gateway.core.problems import TYPES, Problem
from gateway.flow.servers.fate import WAIT_PAUSES_S, is_hopeless, is_ours, is_passing, wait_s

OURS = {
    "changed_meanwhile",
    "exposure_capped",
    "not_ready",
    "overloaded",
    "payment_deferred",
    "shutting_down",
    "too_many_calls",
    "too_many_open_payments",
}


@pytest.mark.parametrize("code", sorted(TYPES))
def test_only_our_own_passing_refusals_are_waited_for(code: str) -> None:
    """They say nothing of a vendor and end by themselves; all others are a vendor's, or do not pass."""
    problem = Problem(code, "x")
    assert is_ours(problem) is (code in OURS)
    assert not (is_ours(problem) and is_hopeless(problem, "acc_1", ()))
    assert is_passing(problem) or code not in OURS


def test_a_wait_grows_and_is_never_shorter_than_what_was_said() -> None:
    """At most a minute, so that nothing which has passed is slept through."""
    plain, said = Problem("too_many_calls", "x"), Problem("payment_deferred", "x", extra={"retry_after_s": 30})
    assert [wait_s(plain, waits) for waits in range(6)] == [*WAIT_PAUSES_S, WAIT_PAUSES_S[-1], WAIT_PAUSES_S[-1]]
    assert (wait_s(said, 0), wait_s(said, 5)) == (30.0, 60.0)
    assert wait_s(Problem("payment_deferred", "x", extra={"retry_after_s": 9_999}), 0) == 60.0
