"""T10: how long one hold takes to be durable when nothing else happens, against what the disk alone takes."""

import asyncio
import time
from collections.abc import Mapping

import uvloop

from gateway.core.commands import Done, Purchase
from gateway.store.core import StoreCore, connect
from gateway.store.sqlite import SqliteStore
from tests.bench.cycles import Cycles, fsyncs, seed
from tests.bench.figures import Contest, Measure, Ratio, Run, Section, Stopwatch
from tests.bench.rig import work_directory

TARGET = 2.0
ACCOUNTS = 500
POST, INLINE, FSYNC = "store.post", "core.post, no threads", "bare fsync"


def measure(rounds: int, scale: float) -> Section:
    """Run the section."""
    section = Section("T10", "one durable hold at a time, nothing else going on, against a bare fsync of 4 KiB")
    count = max(50, int(200 * scale))
    with work_directory() as directory, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for path in ("store.db", "inline.db"):
            seed(directory / path, ACCOUNTS)
        store = runner.run(SqliteStore.open(directory / "store.db"))
        core = StoreCore(connect(directory / "inline.db"))
        cycles, contest = Cycles(ACCOUNTS), Contest(rounds)
        contest.add(FSYNC, fsyncs(directory / "fsync", count))
        contest.add(POST, _posts(runner, store, cycles, count))
        contest.add(INLINE, _inline(core, cycles, count))
        try:
            contest.run()
        finally:
            core.close()
            runner.run(store.close())
    section.rows = contest.rows()
    section.ratios = [
        Ratio("p50, durable hold / bare fsync", contest.ratio(POST, FSYNC, "p50 us"), TARGET),
        Ratio("p50, the same without threads / bare fsync", contest.ratio(INLINE, FSYNC, "p50 us")),
    ]
    return section


def _posts(runner: asyncio.Runner, store: SqliteStore, cycles: Cycles, count: int) -> Measure:
    async def one_by_one(holds: list[Purchase]) -> list[float]:
        each_us = []
        for hold in holds:
            began = time.perf_counter()
            result = await store.post(hold)
            each_us.append((time.perf_counter() - began) * 1e6)
            assert isinstance(result, Done)
        return each_us

    def run(_number: int) -> Mapping[str, float]:
        holds = [purchase for purchase, *_ in cycles.take(count)]
        with Stopwatch() as watch:
            each_us = runner.run(one_by_one(holds))
        return Run(count, watch.seconds, each_us).figures(watch.cpu_s)

    return run


def _inline(core: StoreCore, cycles: Cycles, count: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        holds, each_us = [purchase for purchase, *_ in cycles.take(count)], []
        with Stopwatch() as watch:
            for hold in holds:
                began = time.perf_counter()
                results, _ = core.post([hold])
                each_us.append((time.perf_counter() - began) * 1e6)
                assert isinstance(results[0], Done)
        return Run(count, watch.seconds, each_us).figures(watch.cpu_s)

    return run
