"""Readiness in words that anybody may read."""

import pytest

from gateway.flow.heads import Heads
from gateway.flow.readiness import STALE_AFTER_POLLS, STALE_AT_LEAST_S, limits, unread_chains
from gateway.ports import Block

NOW_MS = 1_800_000_000_000


def heads(age_s: float | None) -> Heads:
    """Return what is known of a chain whose head was seen now and that was read whole so long ago."""
    made = Heads()
    made.saw(8453, Block(9, b"\x01" * 32, 1), Block(5, b"\x02" * 32, 1))
    if age_s is not None:
        made.read(8453, NOW_MS - int(age_s * 1000))
    return made


@pytest.mark.parametrize(
    ("age_s", "poll_s", "reasons"),
    [
        (None, 2.0, ["chain 8453 was not read yet"]),
        (0, 2.0, []),
        (STALE_AT_LEAST_S, 2.0, []),
        (35, 2.0, ["chain 8453 was not read for 35 s"]),
        (35, 10.0, []),
        (STALE_AFTER_POLLS * 10 + 1, 10.0, ["chain 8453 was not read for 101 s"]),
    ],
)
def test_a_chain_that_is_not_read_is_a_reason(age_s: float | None, poll_s: float, reasons: list[str]) -> None:
    """M11: seeing its head is not enough; a slow poll has more time, a quick one has half a minute."""
    assert unread_chains(heads(age_s), {8453: poll_s}, NOW_MS) == reasons


def test_each_chain_counts() -> None:
    """One that is read does not hide one that is not."""
    assert unread_chains(heads(0), {8453: 2.0, 1: 2.0}, NOW_MS) == ["chain 1 was not read yet"]


def test_limits_name_nobody() -> None:
    """P10: what stops everybody is told; whose account, wallet or vendor is frozen is not."""
    assert limits({"all": object(), "account:acc_1": object(), "wallet:0xab": object()}) == ["frozen by the operator"]
    assert limits({"database": object()}) == ["database quarantined"]
    assert limits({}) == []
