"""Thirty days of a mixed fleet at five vendors: a few seeds, each judged by every promise; and proof that the judge can tell."""

from dataclasses import replace

import pytest

from gateway.flow.servers.renewing import Renewing
from tests.simulation.month import MonthWorld, month_plan
from tests.simulation.promises_month import broken_month_promises
from tests.simulation.run import Report, run

MONTHS = (2,)
WEEKS = (3, 4, 5)
WEEK_DAYS = 7


def play(seed: int, days: int = 30, crash_chance: float = 0.0001) -> Report:
    """Run a month, or a part of one."""
    replay = f"python -m tests.simulation --month {seed} --days {days} -v"
    plan = replace(month_plan(seed, days), crash_chance=crash_chance)
    return run(plan, replay, MonthWorld, broken_month_promises)


@pytest.mark.parametrize("seed", MONTHS)
def test_a_month_keeps_every_promise(seed: int) -> None:
    """No server lapses while its owner can pay and wants it, none outlives its keep_until, every cent is in the statement."""
    report = play(seed)
    assert not report.broken, str(report)
    assert report.world.crashes
    world = report.world
    assert isinstance(world, MonthWorld)
    told = world.told
    assert {"server.renewed", "server.warning", "server.lapsed", "server.destroyed", "fleet.ended"} <= told.keys()
    assert told["server.renewed"] >= 20
    assert {vendor for vendor, _ in world.ended} == {"vpsagent", "dropmpp", "cryptovps", "litevps", "vrtx"}


@pytest.mark.parametrize("seed", WEEKS)
def test_a_week_with_ten_times_the_deaths_keeps_them_too(seed: int) -> None:
    """Killed around commits and sends again and again, it goes on where it was."""
    report = play(seed, WEEK_DAYS, crash_chance=0.001)
    assert not report.broken, str(report).replace(" -v", f" -v (with crash_chance 0.001 in month_plan({seed}))")
    assert report.world.crashes >= 5


async def _nothing(*_: object, **__: object) -> None:
    """Stand for a part that does not do its work."""


@pytest.mark.parametrize("rule", ["no_lapse", "none_outlives"])
def test_a_gateway_that_keeps_nothing_is_found(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the month promises is not kept by chance: with the planner taken out, the judge says so."""
    monkeypatch.setattr(Renewing, "sweep", _nothing)
    seen = set[str]()
    for seed in range(1, 9):
        seen |= {line.partition(":")[0] for line in play(seed, 4, crash_chance=0.0).broken}
        if rule in seen:
            return
    pytest.fail(f"{rule} was not found broken, only {sorted(seen)}")
