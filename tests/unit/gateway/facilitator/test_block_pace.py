"""How often the newest block is asked for."""

import pytest

from gateway.facilitator.pacing import GAP_MAX_S, BlockPace

POLL_S = 0.1


class Time:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.s


@pytest.fixture
def time() -> Time:
    """A clock."""
    return Time()


def steady(time: Time, gap_s: float = 2.0, blocks: int = 4) -> BlockPace:
    """Return the pace of a chain that made some blocks, each so long after the one before."""
    pace = BlockPace(POLL_S, time)
    for number in range(1, blocks + 1):
        pace.saw(number, waited=number > 1)
        time.s += gap_s
    time.s -= gap_s
    return pace


def test_a_steady_chain_is_left_alone_until_a_block_is_near(time: Time) -> None:
    """Seven tenths of the gap after the last block; from then on as often as wanted, also when the block is late."""
    pace = steady(time)
    assert pace.pause_s() == pytest.approx(1.4)
    time.s += 1.0
    pace.saw(4, waited=True)
    assert pace.pause_s() == pytest.approx(0.4)
    time.s += 0.4
    assert pace.pause_s() == POLL_S
    time.s += 60.0
    assert pace.pause_s() == POLL_S


def test_a_chain_is_unknown_until_two_gaps_were_alike(time: Time) -> None:
    """One block, or one gap, promises nothing."""
    assert BlockPace(POLL_S, time).pause_s() == POLL_S
    assert steady(time, blocks=3).pause_s() == POLL_S
    assert steady(time, blocks=4).pause_s() > POLL_S


@pytest.mark.parametrize("gap_s", [0.5, 5.0])
def test_a_chain_that_changes_its_pace_is_looked_at_often_again(time: Time, gap_s: float) -> None:
    """A gap of less than half, or more than twice, the one before is no pace."""
    pace = steady(time)
    time.s += gap_s
    pace.saw(5, waited=True)
    assert pace.pause_s() == POLL_S


def test_what_was_not_watched_is_no_gap_and_the_pace_is_kept(time: Time) -> None:
    """After a time without looks, or a jump, when the newest block was made is not known: looks are frequent until the next."""
    pace = steady(time)
    time.s += 600
    pace.saw(300, waited=False)
    assert pace.pause_s() == POLL_S
    time.s += 0.3
    pace.saw(301, waited=True)
    assert pace.pause_s() == pytest.approx(1.4)
    time.s += 6.0
    pace.saw(304, waited=True)
    assert pace.pause_s() == POLL_S


def test_a_pace_that_has_become_too_slow_is_unlearnt(time: Time) -> None:
    """Blocks that come faster than the rest between looks are skipped by it: then it is learnt anew, and holds again."""
    pace, number, made_s = steady(time, gap_s=12.0), 4, time.s
    late = []
    for _ in range(200):
        time.s += pace.pause_s()
        newest = 4 + int((time.s - made_s) / 2.0)
        if newest != number:
            late.append((time.s - made_s) % 2.0)
        number = newest
        pace.saw(number, waited=True)
    assert max(late[8:]) <= 2 * POLL_S
    assert pace.pause_s() <= 2.0


def test_blocks_far_apart_are_no_pace(time: Time) -> None:
    """A chain that sleeps for minutes may wake at any moment."""
    assert steady(time, gap_s=GAP_MAX_S + 1).pause_s() == POLL_S


def test_instant_blocks_are_looked_for_as_often_as_wanted(time: Time) -> None:
    """A gap shorter than the pause changes nothing."""
    assert steady(time, gap_s=0.05).pause_s() == POLL_S
