"""Turns: events about one record one after another, records side by side, and nothing that waits is forgotten."""

import random
from dataclasses import replace

import pytest

from gateway.core.server import HookDelivery
from gateway.core.webhook import PAUSES_S
from gateway.flow.servers.turns import HELD_UP_MS, Turns
from tests.factories import NOW_MS, make_delivery

HOOK_ID = "hook_0001"


class Line:
    """An endpoint's turns, and the store that they are of."""

    def __init__(self) -> None:
        self.pending = dict[tuple[str, int], HookDelivery]()
        self.turns = Turns(HOOK_ID, self.pending)

    def due(self, seq: int, subject: str = "server 1", due_at_ms: int = NOW_MS) -> None:
        """Keep a delivery as pending and take it up."""
        self.pending[HOOK_ID, seq] = make_delivery(seq, subject=subject, due_at_ms=due_at_ms)
        self.turns.put(seq)

    def begin(self, now_ms: int = NOW_MS) -> list[int]:
        """Begin all that may begin now."""
        begun = []
        while (delivery := self.turns.begin(now_ms)) is not None:
            begun.append(delivery.event_seq)
        return begun

    def taken(self, seq: int) -> None:
        """The endpoint has taken it."""
        del self.pending[HOOK_ID, seq]
        self.turns.landed(seq)

    def failed(self, seq: int, due_at_ms: int) -> None:
        """The endpoint has not taken it: it is tried again then."""
        before = self.pending[HOOK_ID, seq]
        self.pending[HOOK_ID, seq] = replace(before, attempts=before.attempts + 1, due_at_ms=due_at_ms)
        self.turns.landed(seq)


@pytest.fixture
def line() -> Line:
    """An endpoint that nothing is due to."""
    return Line()


def test_events_about_one_record_go_one_after_another_and_records_side_by_side(line: Line) -> None:
    """Each begins when the one before it was taken, in the journal's order."""
    for seq in (3, 1, 4, 2):
        line.due(seq, "server 1" if seq % 2 else "server 2")
    assert line.begin() == [1, 2]
    assert line.begin() == []
    line.taken(2)
    assert line.begin() == [4]
    line.taken(1)
    assert line.begin() == [3]
    line.taken(4)
    line.taken(3)
    assert (line.begin(), len(line.turns), line.turns.flying) == ([], 0, 0)


def test_first_retry_goes_before_what_follows_it_and_later_ones_hold_up_nobody(line: Line) -> None:
    """A blip changes no order; an endpoint that does not take one event hears of the next within seconds, not hours."""
    first_ms, second_ms = (NOW_MS + 1_100 * pause_s for pause_s in PAUSES_S[:2])  # with all the jitter there may be
    assert first_ms <= NOW_MS + HELD_UP_MS < second_ms
    line.due(1)
    line.due(2)
    line.due(3)
    assert line.begin() == [1]
    line.failed(1, first_ms)
    assert line.begin() == []
    assert line.begin(first_ms) == [1]
    line.failed(1, second_ms)
    assert line.begin(first_ms) == [2]
    line.taken(2)
    assert line.begin(first_ms) == [3]
    assert line.begin(second_ms) == [1]  # the later one is under way, and does not hold up the earlier
    line.due(4, due_at_ms=second_ms)
    line.taken(1)
    assert line.begin(second_ms) == []
    line.taken(3)
    assert line.begin(second_ms) == [4]


def test_what_is_sent_again_goes_before_what_follows_it(line: Line) -> None:
    """Also an event that was taken long ago; asking twice sends once."""
    line.due(7)
    line.due(2)
    line.due(2)
    line.due(9)
    assert line.begin() == [2]
    line.failed(2, NOW_MS + 300_000)
    line.due(2, due_at_ms=NOW_MS + 1)
    assert line.begin() == []
    assert line.begin(NOW_MS + 1) == [2]
    line.taken(2)
    assert line.begin() == [7]
    line.taken(7)
    assert line.begin() == [9]


def test_clearing_leaves_what_is_under_way(line: Line) -> None:
    """What comes after it is as new."""
    for seq in (1, 2, 3):
        line.due(seq, "server 2" if seq == 3 else "server 1")
    line.begin()
    line.due(4, "server 3")
    assert sorted(line.turns.clear()) == [2, 4]
    assert (len(line.turns), line.turns.is_flying(1), line.turns.is_flying(2)) == (2, True, False)
    line.taken(1)
    line.taken(3)
    line.due(2)
    assert line.begin() == [2]


def test_what_left_the_store_holds_up_nobody(line: Line) -> None:
    """An endpoint's deletion gives up what was due; whoever still asks finds nothing of it."""
    line.due(1)
    line.due(2)
    line.due(3)
    del line.pending[HOOK_ID, 1]
    assert line.begin() == [2]
    del line.pending[HOOK_ID, 3]
    line.taken(2)
    assert line.begin() == []


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_order_holds_and_nothing_is_stuck(seed: int) -> None:
    """No event begins while an earlier one of its record is under way or about to be, and all are taken in the end."""
    chance, line, now_ms = random.Random(seed), Line(), NOW_MS
    flying: list[int] = []
    for _ in range(400):
        what = chance.choice(("due", "end", "pass", "begin"))
        if what == "due":
            seq = chance.choice([each for each in range(60) if each not in flying])
            line.due(seq, f"server {seq % 4}", now_ms)
        elif what == "end" and flying:
            seq = flying.pop(chance.randrange(len(flying)))
            if chance.random() < 0.5:
                line.taken(seq)
            else:
                line.failed(seq, now_ms + chance.choice((0, 5_000, 300_000)))
        elif what == "pass":
            now_ms += chance.choice((1, 1_000, 5_000, 100_000))
        elif (delivery := line.turns.begin(now_ms)) is not None:
            earlier = [each for each in line.pending.values() if each.event_seq < delivery.event_seq]
            own = [each for each in earlier if each.subject == delivery.subject]
            assert not [each for each in own if each.event_seq in flying or each.due_at_ms <= now_ms + HELD_UP_MS]
            assert delivery.event_seq not in flying
            flying.append(delivery.event_seq)
    for _ in range(60):
        for seq in flying:
            line.taken(seq)
        now_ms += 10_000
        flying = line.begin(now_ms)
    assert (line.pending, len(line.turns), line.turns.flying) == ({}, 0, 0)
