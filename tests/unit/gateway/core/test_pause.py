"""When a pause is over."""

from gateway.core.pause import has_passed, is_over


def test_a_pause_ends_when_its_time_has_come() -> None:
    """At its end and after it, and not before."""
    assert not is_over(1_060, 1_000, 60)
    assert not is_over(1_060, 1_059, 60)
    assert is_over(1_060, 1_060, 60)
    assert is_over(0, 1_000, 60)


def test_a_clock_that_was_set_back_ends_every_pause() -> None:
    """An end farther away than the pause is long was set by a clock that was wrong."""
    assert is_over(1_061, 1_000, 60)
    assert is_over(3_600_000, 1_000, 60)


def test_a_pause_may_be_told_by_its_beginning() -> None:
    """The same pause, whichever of its ends is kept."""
    for now_ms, passed in ((1_000, False), (1_099, False), (1_100, True), (999, True)):
        assert has_passed(100, 1_000, now_ms) is passed is is_over(1_100, now_ms, 100)
