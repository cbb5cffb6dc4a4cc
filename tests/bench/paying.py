"""T2: a paid call through the gateway (402, durable hold, signature, durable outcome) against PyPI `x402`'s own client.

Theory: both pay the same server the same price with the same key; the client under test is pinned to one core, and what
counts is its CPU: the gateway's includes the agent's HTTP, the ledger and the journal, the other's is the client's alone.
"""

import itertools
from collections.abc import Mapping

from sandbox.process import sandbox_python
from tests.bench.figures import Contest, Measure, Ratio, Run, Section
from tests.bench.load import drive
from tests.bench.processes import TEST_CORE, Child
from tests.bench.rig import HOST, Rig, rig

CPU_TARGET, P50_TARGET = 1 / 15, 0.6
LOADED = 16
LEVELS = {1: (150, 300), 16: (300, 1_600), 64: (300, 1_600)}


def measure(rounds: int, scale: float) -> Section:
    """Run the section."""
    section = Section(
        "T2", "paid call, full 402 flow: gateway with a durable ledger against the official client paying itself"
    )
    numbers = itertools.count(1)
    with rig() as it:
        url = f"http://{HOST}:{it.seller.info['port']}/paid"
        with Child.start(
            ["-m", "tests.bench.official_client"],
            core=TEST_CORE,
            log=it.directory / "official.log",
            python=sandbox_python(),
            config={"private_key": it.private_key, "url": url},
        ) as official:
            for concurrency, counts in LEVELS.items():
                theirs, ours = (max(32, int(count * scale)) for count in counts)
                contest = Contest(rounds)
                contest.add("official client", _official(official, numbers, theirs, concurrency))
                contest.add("gateway", _gateway(it, numbers, ours, concurrency))
                contest.run()
                _note(section, contest, concurrency)
    section.notes.append(
        "the gateway's CPU has the agent's side, ledger, journal and sealing in it; following the settlement is in RSS"
    )
    return section


def _note(section: Section, contest: Contest, concurrency: int) -> None:
    section.rows |= {f"{name}, c={concurrency}": row for name, row in contest.rows().items()}
    cpu = contest.ratio("gateway", "official client", "CPU us each")
    cpu_target = CPU_TARGET if concurrency == LOADED else None
    section.ratios.append(Ratio(f"CPU per paid call, c={concurrency}", cpu, cpu_target))
    p50 = contest.ratio("gateway", "official client", "p50 us")
    section.ratios.append(Ratio(f"p50, c={concurrency}", p50, P50_TARGET if concurrency == 1 else None))


def _gateway(it: Rig, numbers: "itertools.count[int]", count: int, concurrency: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        before = it.gateway.cpu_s()
        found = drive(HOST, it.gateway_port, lambda _: it.paid(next(numbers)), count, concurrency)
        return found.figures(it.gateway.cpu_s() - before)

    return run


def _official(child: Child, numbers: "itertools.count[int]", count: int, concurrency: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        before = child.cpu_s()
        answer = child.ask({"start": next(numbers) * 1_000_000, "count": count, "concurrency": concurrency})
        found = Run(count, answer["seconds"], answer["latencies_us"])
        return found.figures(child.cpu_s() - before)

    return run
