"""The written story, killed at every commit and at every send, before and after: each time the people get what is theirs."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation.run import Report, run
from tests.simulation.story import STORY, Story

REPEATED = ("MoveCursor", "ObserveFloat")
"""Commits that happen at every look at the chain: the first few of them stand for the rest."""
BATCHES = 8


@cache
def _undisturbed() -> Report:
    return run(STORY, "python -m tests.simulation --story -v", Story)


def _points() -> list[int]:
    seen: Counter[str] = Counter()
    chosen = []
    for number, point in enumerate(_undisturbed().points, 1):
        seen[point] += 1
        if seen[point] <= 3 or not point.endswith(REPEATED):
            chosen.append(number)
    return chosen


def test_the_story_ends_well_and_is_worth_killing() -> None:
    """Undisturbed, everybody gets what is theirs, and the story has every kind of commit that a purchase makes."""
    report = _undisturbed()
    assert not report.broken, str(report)
    kinds = {point.partition(" ")[2] for point in report.points}
    assert {"Purchase", "RecordOutcome", "MarkAnswered", "RecordSettled", "RecordDead", "MoveCursor"} <= kinds
    assert len(_points()) >= 100


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_kill_at_any_point_breaks_nothing(batch: int) -> None:
    """P12: before a commit, after it and before anyone knows, before bytes leave, after the vendor acted."""
    for point in _points()[batch::BATCHES]:
        replay = f"python -m tests.simulation --story --crash {point} -v"
        report = run(replace(STORY, crash_at=point), replay, Story)
        assert not report.broken, f"{report.points[point - 1]}: {report}"
        assert any("KILLED" in line for line in report.trace)
