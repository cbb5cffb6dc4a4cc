"""T7: hold and capture, with every row that the product writes, grouped against one transaction per operation.

A cycle is three durable commands: the purchase (claim, hold, exposure, terms, sealed attempt, journal), the vendor's
answer (sealed, journal) and the proof of settlement, which captures (evidence, transfers, journal). Commands are made
before the clock starts; the same kind goes to every shape of the store.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping

import uvloop

from gateway.core import chart
from gateway.core.book import Claim
from gateway.core.commands import Done
from gateway.core.money import USD
from gateway.store.core import StoreCore, connect
from gateway.store.sqlite import SqliteStore
from tests.bench.cycles import CREDIT_BASE, VALUE_BASE, Cycle, Cycles, fsyncs, seed
from tests.bench.figures import Contest, Measure, Ratio, Run, Section, Stopwatch
from tests.bench.naive import NaiveLedger
from tests.bench.rig import work_directory
from tests.factories import NOW_MS

ACCOUNTS = 10_000
IN_FLIGHT = 100
SPREAD_TARGET, HOT_TARGET = 10, 18
GROUPED, SINGLE, NAIVE, FSYNC = "grouped", "one tx per command", "naive, ledger only", "bare fsync"
LEDGER = "our ledger only, grouped"


def measure(rounds: int, scale: float) -> Section:
    """Run the section."""
    section = Section("T7", f"hold + delivery + capture, all rows of the product, {IN_FLIGHT} in flight")
    with work_directory() as directory, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for path in ("grouped.db", "single.db"):
            seed(directory / path, ACCOUNTS)
        store = runner.run(SqliteStore.open(directory / "grouped.db"))
        single = StoreCore(connect(directory / "single.db"))
        seed(directory / "ledger.db", ACCOUNTS)
        ledger = StoreCore(connect(directory / "ledger.db"))
        naive = NaiveLedger(directory / "naive.db", [f"acc_{n}" for n in range(1, ACCOUNTS + 1)], CREDIT_BASE)
        try:
            for accounts, target in ((ACCOUNTS, SPREAD_TARGET), (1, HOT_TARGET)):
                cycles = Cycles(accounts)
                contest = Contest(rounds)
                contest.add(GROUPED, _grouped(runner, store, cycles, int(2_000 * scale)))
                contest.add(SINGLE, _single(single, cycles, int(200 * scale)))
                contest.add(NAIVE, _naive(naive, cycles, int(400 * scale)))
                contest.add(LEDGER, _ledger_only(ledger, cycles, int(2_000 * scale)))
                contest.add(FSYNC, fsyncs(directory / "fsync", int(400 * scale)))
                contest.run()
                _note(section, contest, f"{accounts} account{'s' if accounts > 1 else ''}", target)
        finally:
            naive.close()
            ledger.close()
            single.close()
            runner.run(store.close())
    section.notes.append(
        "p50 is the hold's own; the ledgers alone write transfers, balances and the unique key, and none of what makes"
    )
    section.notes.append("a hold a payment: no terms, claim, sealed request, sealed answer, evidence or journal")
    return section


def _note(section: Section, contest: Contest, accounts: str, target: float) -> None:
    section.rows |= {f"{name}, {accounts}": row for name, row in contest.rows().items()}
    like = contest.ratio(LEDGER, NAIVE, "per s")
    section.ratios.append(Ratio(f"cycles/s, {LEDGER} / {NAIVE}, {accounts}", like, target, at_most=False))
    for other, wanted in ((SINGLE, None), (NAIVE, None), (FSYNC, None)):
        ratio = contest.ratio(GROUPED, other, "per s")
        section.ratios.append(Ratio(f"cycles/s, grouped / {other}, {accounts}", ratio, wanted, at_most=False))
    cpu = contest.ratio(GROUPED, SINGLE, "CPU us each")
    section.ratios.append(Ratio(f"CPU a cycle, {GROUPED} / {SINGLE}, {accounts}", cpu))


def _grouped(runner: asyncio.Runner, store: SqliteStore, cycles: Cycles, count: int) -> Measure:
    async def lane(left: Iterator[Cycle]) -> list[float]:
        holds_us = []
        for purchase, *rest in left:
            began = time.perf_counter()
            assert isinstance(await store.post(purchase), Done)
            holds_us.append((time.perf_counter() - began) * 1e6)
            for command in rest:
                assert isinstance(await store.post(command), Done)
        return holds_us

    async def all_lanes(left: Iterator[Cycle]) -> list[float]:
        lanes = await asyncio.gather(*(lane(left) for _ in range(IN_FLIGHT)))
        return [us for holds_us in lanes for us in holds_us]

    def run(_number: int) -> Mapping[str, float]:
        left = iter(cycles.take(count))
        with Stopwatch() as watch:
            holds_us = runner.run(all_lanes(left))
        return Run(count, watch.seconds, holds_us).figures(watch.cpu_s)

    return run


def _single(core: StoreCore, cycles: Cycles, count: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        made, holds_us = cycles.take(count), []
        with Stopwatch() as watch:
            for purchase, *rest in made:
                began = time.perf_counter()
                results, _ = core.post([purchase])
                holds_us.append((time.perf_counter() - began) * 1e6)
                for command in rest:
                    results += core.post([command])[0]
                assert all(isinstance(result, Done) for result in results)
        return Run(count, watch.seconds, holds_us).figures(watch.cpu_s)

    return run


def _ledger_only(core: StoreCore, cycles: Cycles, count: int) -> Measure:
    """The ledger alone: hold and capture with their idempotency key, in groups, and no payment."""
    book = core.book
    fx = book.account(chart.fx(USD))

    def run(_number: int) -> Mapping[str, float]:
        made, holds_us = [purchase.payment for purchase, *_ in cycles.take(count)], []
        with Stopwatch() as watch:
            for first in range(0, count, IN_FLIGHT):
                began = time.perf_counter()
                core.db.execute("BEGIN IMMEDIATE")
                held = []
                for payment in made[first : first + IN_FLIGHT]:
                    key = payment.idempotency_key or ""
                    assert book.claim(payment.account_id, key) is None
                    book.rows.claims[payment.account_id, key] = Claim(payment.fingerprint, payment.id, NOW_MS)
                    agent = book.account(chart.agent(payment.account_id))
                    held.append(book.book(book.ledger.reserve(agent, fx, VALUE_BASE), payment.id).id)
                core._commit(book.take_rows())
                holds_us += [(time.perf_counter() - began) * 1e6] * len(held)
                core.db.execute("BEGIN IMMEDIATE")
                for transfer_id in held:
                    book.book(book.ledger.post(transfer_id), None)
                core._commit(book.take_rows())
        return Run(count, watch.seconds, holds_us).figures(watch.cpu_s)

    return run


def _naive(ledger: NaiveLedger, cycles: Cycles, count: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        made, holds_us = [purchase.payment for purchase, *_ in cycles.take(count)], []
        with Stopwatch() as watch:
            for payment in made:
                began = time.perf_counter()
                ledger.reserve(payment.id, payment.fingerprint, payment.account_id, VALUE_BASE)
                holds_us.append((time.perf_counter() - began) * 1e6)
                ledger.capture(payment.id)
        return Run(count, watch.seconds, holds_us).figures(watch.cpu_s)

    return run
