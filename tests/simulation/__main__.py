"""See a run again: `python -m tests.simulation --seed N [--crash K] [-v]`; `--seeds A:B` for many.

`--story` for the written story, `--metered` for that of servers which are charged by the hour, `--month N` for thirty days
of a mixed fleet.
"""

import argparse
import sys
import time
from dataclasses import replace

from tests.simulation.metered import METERED, MeteredStory, broken_metered_promises
from tests.simulation.month import MonthWorld, month_plan
from tests.simulation.plan import Plan
from tests.simulation.promises import broken_promises
from tests.simulation.promises_month import broken_month_promises
from tests.simulation.run import Report, run
from tests.simulation.story import STORY, Story
from tests.simulation.world import World

MONTH_DAYS = 30


def main() -> int:
    """Run what the arguments say; 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one random run")
    which.add_argument("--seeds", help="the random runs from A up to B", metavar="A:B")
    which.add_argument("--story", action="store_true", help="the written story")
    which.add_argument("--metered", action="store_true", help="the story of servers that are charged by the hour")
    which.add_argument("--month", type=int, metavar="N", help="thirty days of a mixed fleet, by this seed")
    parser.add_argument("--days", type=int, default=30, metavar="D", help="with --month: another number of days")
    parser.add_argument("--crash", type=int, metavar="K", help="kill the process at point K, and only there")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what happened, line by line")
    arguments = parser.parse_args()
    first, _, end = (arguments.seeds or f"{arguments.seed}:").partition(":")
    once = arguments.story or arguments.metered or arguments.month is not None
    seeds = [0] if once else range(int(first), int(end) if end else int(first) + 1)
    started, failed = time.monotonic(), 0
    for seed in seeds:
        report = _run(seed, arguments)
        failed += bool(report.broken)
        if arguments.verbose:
            print(*report.trace, report.plan, sep="\n")
        if report.broken or arguments.verbose:
            print(report)
    print(f"{len(seeds)} runs, {failed} failed, {time.monotonic() - started:.1f} s")
    return 1 if failed else 0


def _run(seed: int, arguments: argparse.Namespace) -> Report:
    make: type[World]
    judge = broken_metered_promises if arguments.metered else broken_promises
    if arguments.month is not None:
        plan, make, which = month_plan(arguments.month, arguments.days), MonthWorld, f"--month {arguments.month}"
        judge = broken_month_promises
        which += "" if arguments.days == MONTH_DAYS else f" --days {arguments.days}"
    elif arguments.metered:
        plan, make, which = METERED, MeteredStory, "--metered"
    elif arguments.story:
        plan, make, which = STORY, Story, "--story"
    else:
        plan, make, which = Plan.random(seed), World, f"--seed {seed}"
    replay = f"python -m tests.simulation {which}"
    if arguments.crash is not None:
        plan, replay = replace(plan, crash_at=arguments.crash), f"{replay} --crash {arguments.crash}"
    return run(plan, f"{replay} -v", make, judge)


if __name__ == "__main__":
    sys.exit(main())
