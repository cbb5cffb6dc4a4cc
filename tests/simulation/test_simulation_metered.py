"""The metered story, killed around commits and sends of create, bill and end; all points: `python -m tests.simulation`."""

from collections import defaultdict
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation.metered import METERED, MeteredStory, broken_metered_promises
from tests.simulation.run import Report, run

KINDS = {
    *("Purchase", "RecordOutcome", "OpenPeriod", "BillPeriod", "RunMeter"),
    *("WarnMeter", "MarkEnding", "EndMeter", "UpdateResource"),
}


def play(crash_at: int | None = None) -> Report:
    """Run the story, killed at a point if one is named."""
    replay = "python -m tests.simulation --metered -v" + (f" --crash {crash_at}" if crash_at else "")
    return run(replace(METERED, crash_at=crash_at), replay, MeteredStory, broken_metered_promises)


@cache
def undisturbed() -> Report:
    """Return the story as it goes when nobody is killed."""
    return play()


def points() -> list[int]:
    """Return a point before the first and one after a later commit of every kind, and the first requests' answers."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for number, point in enumerate(undisturbed().points, 1):
        if point.partition(" ")[2] in KINDS or point == "answer ":
            places[point].append(number)
    chosen = {at[len(at) // 2 if point.startswith("committed") else 0] for point, at in places.items()}
    return sorted(chosen | set(places["answer "][1:6]))


def test_the_metered_story_ends_well() -> None:
    """Undisturbed, every server costs exactly what the vendor bills, and every kind of commit is in it."""
    report = undisturbed()
    assert not report.broken, str(report)
    assert {point.partition(" ")[2] for point in report.points} >= KINDS


@pytest.mark.parametrize("batch", range(4))
def test_a_kill_leaves_no_second_server_and_none_free(batch: int) -> None:
    """P4, P6, P12: one order one server, each charged or lost, holds until the vendor made nothing."""
    for point in points()[batch::4]:
        report = play(point)
        assert not report.broken, f"{undisturbed().points[point - 1]}: {report}"
        assert report.world.crashes == 1
