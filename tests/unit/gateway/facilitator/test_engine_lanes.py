"""Lanes give each account nonce out once, in order and without gaps, and price a replacement so that nodes take it."""

import pytest

from contracts.codec import Address
from gateway.core.paid import RelayAttempt
from gateway.facilitator.desk import Relayer, Rules
from gateway.facilitator.lanes import PAUSE_MS, Fees, Lane, raised


class Keyless:
    """A signer that is only looked at."""

    address = Address(b"\x01" * 20)


def lane(balance_wei: int = 10) -> Lane:
    """Return a lane that has not asked the chain."""
    made = Lane(Relayer(Keyless(), 5, 2), 8453)  # type: ignore[arg-type]
    made.balance_wei = balance_wei
    return made


def test_a_lane_that_has_not_asked_the_chain_sends_nothing() -> None:
    """Without the chain's count there is no nonce, and no room."""
    fresh = lane()
    assert fresh.free(Rules(), 0) == 0
    with pytest.raises(ValueError, match="not open"):
        fresh.allocate()


def test_nonces_begin_after_the_chain_and_the_book() -> None:
    """The first nonce is beyond what is in blocks and beyond what was signed; what lies between unused is a hole."""
    one = lane()
    one.counted(4, [6])
    assert [one.allocate() for _ in range(4)] == [4, 5, 7, 8]


def test_a_nonce_under_which_nothing_was_written_is_given_out_again() -> None:
    """The last one simply goes back; one in the middle becomes the next hole."""
    one = lane()
    one.counted(0, [])
    first, second, third = (one.allocate() for _ in range(3))
    one.give_back(third)
    assert one.allocate() == third
    one.give_back(first)
    assert [one.allocate(), one.allocate()] == [first, third + 1]
    assert second == 1


def test_what_is_being_written_down_is_no_hole() -> None:
    """A nonce between its allocation and its commit belongs to somebody."""
    one = lane()
    one.counted(0, [])
    one.allocate()
    one.allocate()
    one.counted(0, [])
    assert one.holes == set()
    assert one.allocate() == 2


def test_what_nobody_uses_at_the_end_is_no_hole_but_the_next_one() -> None:
    """Nothing waits behind the last nonce, so nothing is spent to fill it."""
    one = lane()
    one.counted(3, [])
    one.given.discard(one.allocate())
    one.counted(3, [])
    assert (one.holes, one.next_nonce) == (set(), 3)


def test_nonces_that_another_process_used_are_passed_over() -> None:
    """When the chain has counted more than we sent, the lane goes on behind that."""
    one = lane()
    one.counted(0, [])
    one.counted(9, [])
    assert one.allocate() == 9


def test_room_ends_with_the_most_in_flight_and_below_the_floor() -> None:
    """A lane is full at its bound, paused while told so, and shut while its relayer is poor."""
    one = lane()
    one.counted(0, [])
    rules = Rules(in_flight_max=2)
    one.sent[0] = "rly_1"
    assert one.free(rules, 0) == 1
    one.reserved = 1
    assert one.free(rules, 0) == 0
    one.reserved, one.paused_until_ms = 0, 5_000
    assert (one.free(rules, 4_999), one.free(rules, 5_000)) == (0, 1)
    one.paused_until_ms = 5_000 + PAUSE_MS  # by a clock that was set back since
    assert one.free(rules, 4_999) == 1
    one.balance_wei = 1
    assert one.free(rules, 5_000) == 0


@pytest.mark.parametrize("old", [(8, 1), (1_000_000_007, 3), (10**9, 10**9)])
def test_a_replacement_pays_an_eighth_more_in_both_fees(old: tuple[int, int]) -> None:
    """Neither fee rises by less, whatever the market asks; and never beyond the cap."""
    attempt = RelayAttempt(b"", b"", old[0], old[1], 0)
    fees = raised(attempt, Fees(1, 1), 10**18)
    assert fees is not None
    assert fees.max_wei * 8 >= old[0] * 9
    assert fees.priority_wei * 8 >= old[1] * 9
    assert fees.priority_wei <= fees.max_wei
    assert raised(attempt, Fees(1, 1), old[0]) is None
    assert raised(attempt, Fees(5 * 10**9, 7), 10**18) == Fees(max(5 * 10**9, fees.max_wei), max(7, fees.priority_wei))
