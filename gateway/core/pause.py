"""When a pause is over, by a clock that may be set back.

Must not know a clock, nor what waits.  Theory: an end that is farther away than the pause ever was is of a time that the
clock has left behind; whoever waited for it would wait for as long as the clock was wrong.
"""


def is_over(end_ms: int, now_ms: int, pause_ms: int) -> bool:
    """Say whether a pause of at most `pause_ms` that ends at `end_ms` is over, as it also is where the clock was set back."""
    return not now_ms < end_ms <= now_ms + pause_ms


def has_passed(pause_ms: int, since_ms: int, now_ms: int) -> bool:
    """Say whether a pause that began at `since_ms` is over, as it also is where the clock was set back to before that."""
    return is_over(since_ms + pause_ms, now_ms, pause_ms)
