"""Failed logins: counted by address, for a minute, in bounded memory."""

from gateway.api.attempts import MAX_ADDRESSES, MAX_FAILURES, WINDOW_MS, Attempts

NOW_MS = 1_800_000_000_000


def _exhausted(address: str | None) -> Attempts:
    attempts = Attempts()
    for n in range(MAX_FAILURES):
        assert attempts.failed(address, NOW_MS + n) == 0
    return attempts


def test_only_so_many_fail_in_a_window() -> None:
    """After ten failures the next waits until the first of them is a minute old; refused ones do not prolong it."""
    attempts = _exhausted("192.0.2.1")
    assert attempts.failed("192.0.2.1", NOW_MS + 20_000) == 40
    assert attempts.failed("192.0.2.1", NOW_MS + WINDOW_MS - 1) == 1
    assert attempts.failed("192.0.2.1", NOW_MS + WINDOW_MS) == 0
    assert attempts.failed("192.0.2.1", NOW_MS + WINDOW_MS) == 1


def test_addresses_do_not_pay_for_each_other() -> None:
    """One address that is exhausted leaves the next its own ten."""
    attempts = _exhausted("192.0.2.1")
    assert attempts.failed("192.0.2.2", NOW_MS) == 0


def test_one_network_of_ipv6_is_one_address() -> None:
    """Whoever has one IPv6 address has a whole /64 of them; a mapped IPv4 address is the IPv4 address."""
    attempts = _exhausted("2001:db8:0:1::1")
    assert attempts.failed("2001:db8:0:1:ffff::9", NOW_MS) > 0
    assert attempts.failed("2001:db8:0:2::1", NOW_MS) == 0
    mapped = _exhausted("192.0.2.1")
    assert mapped.failed("::ffff:192.0.2.1", NOW_MS) > 0
    assert mapped.failed("::ffff:192.0.2.2", NOW_MS) == 0


def test_peers_without_address_are_one() -> None:
    """A socket file's peer has no address, and is limited all the same."""
    assert _exhausted(None).failed("", NOW_MS) > 0


def test_memory_is_bounded() -> None:
    """However many addresses fail, only so many are remembered: those that failed last."""
    attempts = Attempts()
    for n in range(MAX_ADDRESSES + 50):
        attempts.failed(f"10.0.{n // 256}.{n % 256}", NOW_MS)
    assert len(attempts) == MAX_ADDRESSES


def test_clock_that_was_set_back_locks_nobody_out() -> None:
    """Failures from the future are forgotten, not waited for."""
    attempts = _exhausted("192.0.2.1")
    assert attempts.failed("192.0.2.1", NOW_MS - 3_600_000) == 0
