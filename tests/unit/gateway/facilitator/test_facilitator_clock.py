"""What the facilitator keeps for a moment is not kept for a day where the clock was set back."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from gateway.core.paid import RelayState
from gateway.core.records import HOUSE
from gateway.facilitator import upkeep
from gateway.facilitator.burning import KEPT_MS, Burning
from gateway.facilitator.desk import Rules
from gateway.facilitator.inclusion import LOOK_ALL_EVERY_MS, Follower
from gateway.facilitator.lanes import Lanes
from gateway.facilitator.submit import UNBATCHED_MS, Submitter
from gateway.facilitator.verify import MAX_SKEW_S, SKEW_TOLD_EVERY_MS, Verifier
from tests.unit.gateway.flow.spend_bed import StillClock

DAY_MS = 86_400_000


async def test_what_was_burnt_is_asked_for_again() -> None:
    """A second's knowledge, for a seller and for payers of the house: the budgets hold whatever the clock does."""
    clock, asked = StillClock(), list[str]()

    async def gas_burnt_wei(account_id: str, _since_ms: int) -> int:
        asked.append(account_id)
        return len(asked)

    async def burnt() -> tuple[int, dict[bytes, int]]:
        asked.append("payers")
        return 0, {}

    store: Any = SimpleNamespace(gas_burnt_wei=gas_burnt_wei)
    rules: Any = SimpleNamespace(house_gas_budget_wei=1)
    burning = Burning(store, rules, clock)
    burning._burnt = burnt  # type: ignore[method-assign]
    terms: Any = SimpleNamespace(account_id="acc_1", window_s=60)
    desk: Any = None
    claim: Any = SimpleNamespace(account_id=HOUSE, contract_wallet=False, authorizer=b"payer")
    for later_ms, times in ((0, 1), (KEPT_MS // 2, 1), (KEPT_MS, 2), (-DAY_MS, 3)):
        clock.ms += later_ms
        await burning.seller_wei(terms)
        assert await burning.refusal(desk, claim) is None
        assert (asked.count("acc_1"), asked.count("payers")) == (times, times)


def test_clocks_that_differ_are_told_again() -> None:
    """Once a minute; and a clock that was set back is told at once, for that may be why they differ."""
    clock = StillClock()
    verifier = Verifier({}, {}, lambda _: None, clock, gas=1)
    with structlog.testing.capture_logs() as lines:
        for later_ms, times in ((0, 1), (SKEW_TOLD_EVERY_MS - 1, 1), (1, 2), (-DAY_MS, 3)):
            clock.ms += later_ms
            verifier._tell_skew(8453, MAX_SKEW_S + 1)
            assert len(lines) == times


async def test_batches_are_tried_again() -> None:
    """A minute after they went unanswered, and at once where the clock was set back."""
    clock = StillClock()

    async def has_code(_address: bytes) -> bool:
        return True

    relay, parts = SimpleNamespace(has_code=has_code), SimpleNamespace(batch=b"")
    desk = SimpleNamespace(rules=Rules(batch_size=2), clock=clock, relay=relay, parts=parts)
    way: Any = SimpleNamespace(_desk=desk, _unbatched_until_ms=clock.ms + UNBATCHED_MS)
    for later_ms, batched in ((0, False), (UNBATCHED_MS, True), (-DAY_MS, True)):
        clock.ms += later_ms
        assert await Submitter._is_batched(way) is batched


async def test_a_relayers_balance_is_read_again() -> None:
    """At its pace before, at once after."""
    clock, reads = StillClock(), list[int]()

    async def ether_wei(_address: bytes) -> int:
        reads.append(clock.ms)
        return 10

    desk = SimpleNamespace(rules=Rules(balance_every_s=60.0), clock=clock, relay=SimpleNamespace(ether_wei=ether_wei))
    lanes: Any = SimpleNamespace(_desk=desk)
    relayer = SimpleNamespace(low_wei=1)
    lane: Any = SimpleNamespace(address=b"", balance_wei=None, balance_at_ms=0, relayer=relayer)
    for later_ms, times in ((0, 1), (59_999, 1), (1, 2), (-DAY_MS, 3)):
        clock.ms += later_ms
        await Lanes.look_at_balance(lanes, lane)
        assert len(reads) == times


async def test_all_blocks_are_looked_back_at_again() -> None:
    """Every half minute, and at once where the clock was set back."""
    clock = StillClock()

    async def head() -> Any:
        return SimpleNamespace(number=1_000_000)

    async def commit(undone: Iterable[object], _relay: None, _why: str) -> None:
        assert list(undone) == []

    desk = SimpleNamespace(clock=clock, relay=SimpleNamespace(head=head), relays=list, commit=commit)
    follower: Any = SimpleNamespace(_desk=desk, _looked_at_all_ms=0, moving=asyncio.Lock(), _by_others=list)
    looked = list[int]()
    for later_ms in (0, LOOK_ALL_EVERY_MS - 1, 1, -DAY_MS):
        clock.ms += later_ms
        await Follower.look_back(follower)
        looked.append(clock.ms - follower._looked_at_all_ms)
    assert looked == [0, LOOK_ALL_EVERY_MS - 1, 0, 0]


async def test_a_transaction_that_is_not_mined_is_looked_after_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before its patience is over; and at once where the clock was set back since it was sent."""
    clock, handed = StillClock(), list[object]()

    async def answer(*_: object) -> tuple[int, int]:
        return 1, 1

    async def hand_back(relay: object) -> None:
        handed.append(relay)

    monkeypatch.setattr(upkeep, "fees_now", answer)
    sent = SimpleNamespace(
        relayer=b"", state=RelayState.SENT, account_nonce=7, attempts=[SimpleNamespace(sent_at_ms=clock.ms)]
    )
    relay = SimpleNamespace(head=answer, fees=answer)
    desk = SimpleNamespace(rules=Rules(replace_after_s=15.0), clock=clock, relay=relay, relays=lambda: [sent])
    keeper: Any = SimpleNamespace(_desk=desk, _hand_back=hand_back)
    lane: Any = SimpleNamespace(address=b"", balance_wei=0, relayer=SimpleNamespace(floor_wei=1))
    for later_ms, times in ((14_999, 0), (1, 1), (-DAY_MS, 2)):
        clock.ms += later_ms
        await upkeep.Upkeep._follow_nonces(keeper, lane, 7)
        assert len(handed) == times
