"""The sliding window: so many in any span for each key, in bounded memory."""

import pytest

from gateway.core.window import SlidingWindow

SPAN_MS = 60_000
NOW_MS = 1_800_000_000_000


def _full(limit: int = 3) -> SlidingWindow:
    window = SlidingWindow(limit, SPAN_MS)
    for n in range(limit):
        assert window.wait_s(b"a", NOW_MS + n * 1_000) == 0
        window.count(b"a", NOW_MS + n * 1_000)
    return window


def test_only_so_many_are_within_a_span() -> None:
    """Who has counted its limit waits, in whole seconds rounded up, until the first of them is a span old."""
    window = _full()
    assert window.wait_s(b"a", NOW_MS + 20_000) == 40
    assert window.wait_s(b"a", NOW_MS + SPAN_MS - 1) == 1
    assert window.wait_s(b"a", NOW_MS + SPAN_MS) == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit: int) -> None:
    """Nothing at all is no limit of a window: its first would be let through."""
    with pytest.raises(ValueError, match="lets nothing through"):
        SlidingWindow(limit, SPAN_MS)


def test_no_edge_lets_twice_as_many_through() -> None:
    """Of those that are counted when the first is over, the next still waits for the second."""
    window = _full()
    window.count(b"a", NOW_MS + SPAN_MS)
    assert window.wait_s(b"a", NOW_MS + SPAN_MS) == 1
    assert window.wait_s(b"a", NOW_MS + SPAN_MS + 1_000) == 0


def test_asking_counts_nothing() -> None:
    """However often it is asked, only what was counted fills the window."""
    window = SlidingWindow(1, SPAN_MS)
    assert [window.wait_s(b"a", NOW_MS) for _ in range(5)] == [0] * 5
    assert len(window) == 0


def test_keys_do_not_pay_for_each_other() -> None:
    """One key that is full leaves the next its own."""
    assert _full().wait_s(b"b", NOW_MS) == 0


def test_the_last_one_can_be_taken_back() -> None:
    """What was counted and then not done makes room again; where nothing was counted nothing is taken back."""
    window = _full()
    window.uncount(b"a")
    window.uncount(b"b")
    assert window.wait_s(b"a", NOW_MS + 3_000) == 0
    window.count(b"a", NOW_MS + 3_000)
    assert window.wait_s(b"a", NOW_MS + 3_000) == 57


def test_who_was_quiet_for_longest_is_forgotten() -> None:
    """Memory is bounded whoever counts."""
    window = SlidingWindow(1, SPAN_MS, max_keys=2)
    for n in range(3):
        window.count(b"%d" % n, NOW_MS)
    assert len(window) == 2
    assert [window.wait_s(b"%d" % n, NOW_MS) for n in range(3)] == [0, 60, 60]


def test_who_goes_on_asking_is_not_quiet() -> None:
    """A key that is refused again and again is not forgotten for others that come in between: that would let it in."""
    window = SlidingWindow(1, SPAN_MS, max_keys=2)
    window.count(b"a", NOW_MS)
    for n in range(5):
        window.count(b"%d" % n, NOW_MS)
        assert window.wait_s(b"a", NOW_MS) == 60


def test_clock_that_was_set_back_locks_nobody_out() -> None:
    """Times from the future are forgotten, not waited for."""
    assert _full().wait_s(b"a", NOW_MS - 3_600_000) == 0
