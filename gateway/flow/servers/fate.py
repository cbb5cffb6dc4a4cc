"""What became of a create, read from its payment; and whether something else may be tried for the same order.

Must not know vendors or how anything is asked.  Theory (P4, P5): an exception says how a call ended, a payment says what
it may have bought; so nothing is bought again before the payment, and nothing but the payment, proves that nothing was.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from gateway.core.payment import Charge, Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.records import EVERYTHING, Payment

REASON_MAX: Final = 500
RETRY_PAUSES_S: Final = (1.0, 5.0, 20.0, 60.0)
"""Before the last way to fulfil an order is tried again; as many pauses, as many times."""
WAIT_PAUSES_S: Final = (1.0, 5.0, 20.0, 60.0)
"""Before a way is tried again that was not tried at all, for we did not let it; the last one for ever."""

# No other vendor will do either: the account, its key, or the gateway itself may not buy anything.
_HOPELESS: Final = frozenset({"key_revoked", "unpaid_delivery_limit", "idempotency_conflict"})
# Our own word and not the vendor's, and it ends by itself: what was chosen is bought then, and nothing dearer now.
_OURS: Final = frozenset(
    {
        "changed_meanwhile",
        "exposure_capped",
        "not_ready",
        "overloaded",
        "payment_deferred",
        "shutting_down",
        "too_many_calls",
        "too_many_open_payments",
    }
)
# What ends by itself, and soon: the same way may be tried again where there is no other.
_PASSING: Final = frozenset(
    {
        "challenge_expired",
        "challenge_repeated",
        "price_untold",
        "vendor_answer_malformed",
        "vendor_busy",
        "vendor_login_failed",
        "vendor_timeout",
        "vendor_unreachable",
    }
)


class Fate(StrEnum):
    """What a create's payment says of it."""

    OPEN = "open"  # it may have made something, or may yet: nothing else is bought
    MADE = "made"
    NOTHING = "nothing"  # proven, and the money is back: something else may be bought
    SPENT = "spent"  # the vendor was paid, by the rules or by a human's word, and made nothing


def fate_of(payment: Payment) -> Fate:
    """Return what a payment says of the create that it pays for."""
    if payment.axes.delivery is Delivery.DELIVERED:
        return Fate.MADE
    if payment.axes.charge is Charge.HELD:
        return Fate.OPEN
    return Fate.SPENT if payment.axes.charge is Charge.CAPTURED else Fate.NOTHING


def was_lost(payment: Payment) -> bool:
    """Say whether a create that made nothing was never refused: it got lost, so the same may be ordered once more."""
    return payment.fault is not Fault.AGENT and payment.vendor_status is None


def is_hopeless(problem: Problem, account_id: str, frozen: Collection[str]) -> bool:
    """Say whether what kept one vendor from being paid keeps all of them. `frozen` are the scopes that are stopped."""
    if problem.code == "frozen":
        return not {*EVERYTHING, f"account:{account_id}"}.isdisjoint(frozen)
    return problem.code in _HOPELESS


def is_passing(problem: Problem) -> bool:
    """Say whether a problem that cost nothing ends by itself soon."""
    return problem.code in _PASSING or is_ours(problem)


def is_ours(problem: Problem) -> bool:
    """Say whether we have kept a way from being tried: that says nothing of its vendor, and no other one is better."""
    return problem.code in _OURS


def wait_s(problem: Problem, waits: int) -> float:
    """Return how long to wait before a way is tried that we have kept from being tried so many times before."""
    said_s = problem.extra.get("retry_after_s", 0)
    least_s = min(float(said_s), WAIT_PAUSES_S[-1]) if isinstance(said_s, int | float) else 0.0
    return max(WAIT_PAUSES_S[min(waits, len(WAIT_PAUSES_S) - 1)], least_s)


def words_of(problem: Problem) -> str:
    """Return a problem as the reason of a server's state."""
    return f"{problem.code}: {problem.detail}"[:REASON_MAX]
