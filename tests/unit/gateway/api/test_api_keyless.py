"""Callers without a key: what one address may ask in a minute, and what all of them may."""

import pytest

from gateway.api.keyless import Keyless
from gateway.core.problems import Problem

NOW_MS = 1_767_225_600_000


def asks(keyless: Keyless, address: str | None, at_s: int = 0) -> int:
    """Ask once; return the seconds to wait, 0 for none."""
    try:
        keyless.count(address, NOW_MS + at_s * 1000)
    except Problem as problem:
        return int(problem.extra["retry_after_s"]) if problem.code == "too_many_calls" else -1
    return 0


def test_an_address_has_a_part_and_what_it_is_refused_counts_for_nobody() -> None:
    """One that asks too often does not use up what the others share."""
    keyless = Keyless(per_site=2, for_all=4)
    assert [asks(keyless, "192.0.2.1") for _ in range(9)] == [0, 0, *[30] * 7]
    assert [asks(keyless, "192.0.2.2") for _ in range(2)] == [0, 0]
    assert asks(keyless, "192.0.2.3") == 15
    assert asks(keyless, "192.0.2.1", 30) == 0


def test_all_together_are_bounded_however_many_they_are() -> None:
    """Addresses cost little: a new one each time gets no further than the bucket that all share."""
    keyless = Keyless(per_site=5, for_all=10)
    waits = [asks(keyless, f"198.51.100.{n}") for n in range(20)]
    assert waits == [0] * 10 + [6] * 10
    assert asks(keyless, "203.0.113.9", 6) == 0


@pytest.mark.parametrize(
    ("one", "other"), [("2001:db8::1", "2001:db8::2"), ("192.0.2.1", "::ffff:192.0.2.1"), (None, "no address")]
)
def test_one_caller_is_one_however_its_address_is_written(one: str | None, other: str | None) -> None:
    """Whoever has an IPv6 network has all of it."""
    keyless = Keyless(per_site=1)
    assert (asks(keyless, one), asks(keyless, other)) == (0, 60)
