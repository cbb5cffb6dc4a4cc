"""T2: a paid call through the gateway (402, durable hold, signature, durable outcome) against PyPI `x402`'s own client.

Theory: both pay the same server the same price with the same key; the client under test is pinned to one core, and what
counts is its CPU: the gateway's includes the agent's HTTP, the ledger and the journal, the other's is the client's alone.
Two more contestants show where it goes: a front that keeps nothing, and the same one with the store's two commits.
"""

import itertools
from collections.abc import Mapping
from contextlib import ExitStack

from sandbox.process import sandbox_python
from tests.bench.figures import Contest, Measure, Ratio, Run, Section
from tests.bench.load import drive
from tests.bench.processes import TEST_CORE, Child
from tests.bench.rig import HOST, Rig, rig

CPU_TARGET, P50_TARGET = 1 / 15, 0.6
OFFICIAL, GATEWAY = "official client", "gateway"
BARE, STORING = "front that keeps nothing", "same front, two commits"
LOADED = 16
LEVELS = {1: (150, 300), 16: (300, 1_600), 64: (300, 1_600)}


def measure(rounds: int, scale: float) -> Section:
    """Run the section."""
    section = Section(
        "T2", "paid call, full 402 flow: gateway with a durable ledger against the official client paying itself"
    )
    numbers = itertools.count(1)
    levels = {level: tuple(max(32, int(count * scale)) for count in counts) for level, counts in LEVELS.items()}
    calls = sum(ours for _, ours in levels.values()) * (rounds + 1)
    with ExitStack() as stack:
        it = stack.enter_context(rig())
        url = f"http://{HOST}:{it.seller.info['port']}/paid"
        official = stack.enter_context(
            Child.start(
                ["-m", "tests.bench.official_client"],
                core=TEST_CORE,
                log=it.directory / "official.log",
                python=sandbox_python(),
                config={"private_key": it.private_key, "url": url},
            )
        )
        bare = stack.enter_context(_bare(it, {}))
        storing = stack.enter_context(_bare(it, {"database": str(it.directory / "bare.db"), "calls": calls}))
        for concurrency, (theirs, ours) in levels.items():
            contest = Contest(rounds)
            contest.add(OFFICIAL, _official(official, numbers, theirs, concurrency))
            contest.add(GATEWAY, _calls(it, it.gateway, it.gateway_port, numbers, ours, concurrency))
            contest.add(BARE, _calls(it, bare, bare.info["port"], numbers, ours, concurrency))
            contest.add(STORING, _calls(it, storing, storing.info["port"], numbers, ours, concurrency))
            contest.run()
            _note(section, contest, concurrency)
    section.notes.append(
        "the gateway's CPU has the agent's side, ledger, journal and sealing in it; following the settlement is in RSS"
    )
    return section


def _bare(it: Rig, more: Mapping[str, object]) -> Child:
    config = {"private_key": it.private_key, "upstream_port": it.seller.info["port"], **more}
    return Child.start(["-m", "tests.bench.bare_payer"], core=TEST_CORE, log=it.directory / "bare.log", config=config)


def _note(section: Section, contest: Contest, concurrency: int) -> None:
    section.rows |= {f"{name}, c={concurrency}": row for name, row in contest.rows().items()}
    cpu = contest.ratio(GATEWAY, OFFICIAL, "CPU us each")
    cpu_target = CPU_TARGET if concurrency == LOADED else None
    section.ratios.append(Ratio(f"CPU per paid call, c={concurrency}", cpu, cpu_target))
    for part in (BARE, STORING):
        share = contest.ratio(part, OFFICIAL, "CPU us each")
        section.ratios.append(Ratio(f"CPU of the {part} / {OFFICIAL}, c={concurrency}", share))
    p50 = contest.ratio(GATEWAY, OFFICIAL, "p50 us")
    section.ratios.append(Ratio(f"p50, c={concurrency}", p50, P50_TARGET if concurrency == 1 else None))


def _calls(it: Rig, child: Child, port: int, numbers: "itertools.count[int]", count: int, concurrency: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        before = child.cpu_s()
        found = drive(HOST, port, lambda _: it.paid(next(numbers)), count, concurrency)
        return found.figures(child.cpu_s() - before)

    return run


def _official(child: Child, numbers: "itertools.count[int]", count: int, concurrency: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        before = child.cpu_s()
        answer = child.ask({"start": next(numbers) * 1_000_000, "count": count, "concurrency": concurrency})
        found = Run(count, answer["seconds"], answer["latencies_us"])
        return found.figures(child.cpu_s() - before)

    return run
