"""T4 and T5: payments verified and settled by the gateway's facilitator and by the official ones, on one chain, in turns.

Theory: verifying is CPU and questions to a node, so requests per second and CPU of each say it; settling waits for blocks,
so what counts is how many authorizations the chain shows as collected in the time, how many blocks that took, and what each
cost the facilitator in CPU. The chain's word is taken for what was collected, never a contestant's.
"""

import itertools
import time
from collections.abc import Mapping
from contextlib import ExitStack

from contracts.codec import checksum
from tests.bench.facilitators import PRICE_BASE, Contestant, Facilitators, facilitators
from tests.bench.figures import Contest, Measure, Ratio, Section
from tests.bench.load import drive_judged
from tests.bench.rig import HOST

OURS, PYTHON, TYPESCRIPT, TUNED = "gateway", "official python", "official typescript", "official typescript, tuned"
VALID, SETTLED = b'"isValid":true', b'"success":true'

VERIFY_LEVELS = {1: (40, 200), 16: (96, 800), 64: (128, 1_600)}
VERIFY_TARGET, VERIFY_AT = 25.0, 64

SETTLE_ROUNDS_MAX = 3
MANY, ALL = 64, 512
SETTLE_TARGET, ALL_TARGET, CPU_TARGET = 50.0, 5.0, 1 / 10
PATIENCE_S = 8.0
FINAL_S = 4.0
"""After so long what was settled is final here, and the gateway has closed it: that is its work too."""


def measure_verify(rounds: int, scale: float) -> Section:
    """Run T4."""
    section = Section("T4", "/verify with signature and simulation: gateway against the official facilitators")
    with facilitators() as it, ExitStack() as stack:
        others = {
            PYTHON: stack.enter_context(it.python()),
            TYPESCRIPT: stack.enter_context(it.typescript(tuned=False)),
        }
        for concurrency, counts in VERIFY_LEVELS.items():
            theirs, ours = (max(concurrency, int(count * scale)) for count in counts)
            contest = Contest(rounds)
            for name, other in others.items():
                contest.add(name, _verifying(it, other, theirs, concurrency))
            contest.add(OURS, _verifying(it, it.ours, ours, concurrency))
            contest.run()
            section.rows |= {f"{name}, c={concurrency}": row for name, row in contest.rows().items()}
            for name in others:
                target = VERIFY_TARGET if (name, concurrency) == (PYTHON, VERIFY_AT) else None
                ratio = contest.ratio(OURS, name, "per s")
                section.ratios.append(Ratio(f"per s, gateway / {name}, c={concurrency}", ratio, target, at_most=False))
                cpu = contest.ratio(OURS, name, "CPU us each")
                section.ratios.append(Ratio(f"CPU each, gateway / {name}, c={concurrency}", cpu))
    section.notes.append(
        "python with coincurve, which it does not install itself; every payment has a nonce of its own"
    )
    return section


def measure_settle(rounds: int, scale: float) -> Section:
    """Run T5. Nobody settles faster than the chain makes blocks, so the rounds are few and long."""
    section = Section("T5", "/settle in blocks of 1 s: gateway against the official facilitators")
    rounds = min(rounds, SETTLE_ROUNDS_MAX)
    with facilitators() as it, it.typescript(tuned=True) as tuned:
        counts = {MANY: max(MANY, int(4 * MANY * scale)), ALL: max(ALL, int(2 * ALL * scale))}
        contests = {}
        for concurrency, count in counts.items():
            contest = contests[concurrency] = Contest(rounds)
            if concurrency == MANY:
                contest.add(PYTHON, _settling_python(it, concurrency))
            contest.add(TUNED, _settling(it, tuned, count, concurrency))
            contest.add(OURS, _settling(it, it.ours, count, concurrency, after_s=FINAL_S))
            contest.run()
            section.rows |= {f"{name}, c={concurrency}": row for name, row in contest.rows().items()}
        with it.typescript(tuned=False) as shipped:
            section.rows[f"{TYPESCRIPT}, c={MANY}"] = dict(_settle(it, shipped, 2 * MANY, MANY, patience_s=PATIENCE_S))
    many, everything = contests[MANY], contests[ALL]
    failed = max(each["failures"] for each in (*many.found[OURS], *everything.found[OURS]))
    section.ratios += [
        _rate(f"per s, gateway / {PYTHON}, c={MANY}", many, PYTHON, SETTLE_TARGET),
        _rate(f"per s, gateway / {TUNED}, c={MANY}", many, TUNED, None),
        _rate(f"per s, gateway / {TUNED}, c={ALL}", everything, TUNED, ALL_TARGET),
        Ratio(f"CPU each, gateway / {PYTHON}, c={MANY}", many.ratio(OURS, PYTHON, "CPU us each")),
        Ratio(f"CPU each, gateway / {TUNED}, c={MANY}", many.ratio(OURS, TUNED, "CPU us each"), CPU_TARGET),
        Ratio(f"CPU each, gateway / {TUNED}, c={ALL}", everything.ratio(OURS, TUNED, "CPU us each"), CPU_TARGET),
        Ratio("the gateway's failures in its worst round", failed, 0),
    ]
    section.notes += [
        f"the gateway's CPU has ledger, journal and everything until final in it; {PYTHON} is left after {PATIENCE_S:g} s",
        "per s is what the chain shows as collected; c is also the most that a block can bring of c waiting requests",
    ]
    return section


def _rate(name: str, contest: Contest, other: str, target: float | None) -> Ratio:
    return Ratio(name, contest.ratio(OURS, other, "per s"), target, at_most=False)


def _verifying(it: Facilitators, whom: Contestant, count: int, concurrency: int) -> Measure:
    def run(_number: int) -> Mapping[str, float]:
        requests = [whom.request("verify", it.payments.body(whom.payee)) for _ in range(count)]
        before_s = whom.child.cpu_s()
        found, failures = drive_judged(HOST, whom.port, requests, concurrency, VALID)
        if failures:
            raise RuntimeError(f"{len(failures)} of {count} were not valid: {failures[0]!r}")
        return found.figures(whom.child.cpu_s() - before_s)

    return run


def _settling(it: Facilitators, whom: Contestant, count: int, concurrency: int, after_s: float = 0) -> Measure:
    def run(number: int) -> Mapping[str, float]:
        return _settle(it, whom, count if number else concurrency, concurrency, after_s=after_s)

    return run


def _settling_python(it: Facilitators, concurrency: int) -> Measure:
    """Settle in a process of its own each round: one that was left with requests would go on with them."""

    def run(number: int) -> Mapping[str, float]:
        with it.python() as whom:
            count = concurrency if number else 1
            return _settle(it, whom, count, concurrency, patience_s=PATIENCE_S)

    return run


def _settle(
    it: Facilitators,
    whom: Contestant,
    count: int,
    concurrency: int,
    *,
    patience_s: float | None = None,
    after_s: float = 0,
) -> Mapping[str, float]:
    requests = [whom.request("settle", it.payments.body(whom.payee)) for _ in range(count)]
    payee, first = checksum(whom.payee), it.base.head()["number"]
    before_base, before_s = it.base.balance_of(payee), whom.child.cpu_s()
    found, failures = drive_judged(HOST, whom.port, requests, concurrency, SETTLED, patience_s)
    collected = (it.base.balance_of(payee) - before_base) // PRICE_BASE
    blocks = _blocks(it, payee, first)
    time.sleep(after_s)
    told = found.count - len(failures)
    if patience_s is None and collected != told:
        raise RuntimeError(f"{told} told as settled, {collected} collected: {failures[:1]!r}")
    return {
        "per s": collected / found.seconds,
        "p50 us": sorted(found.each_us)[len(found.each_us) // 2] if found.each_us else found.seconds * 1e6,
        "CPU us each": (whom.child.cpu_s() - before_s) / max(1, collected) * 1e6,
        "asked": count,
        "failures": len(failures),
        "unanswered": count - found.count,
        "blocks": len(blocks),
        "most in one": max(blocks, default=0),
    }


def _blocks(it: Facilitators, payee: str, first: int) -> list[int]:
    """Return how many transfers to a payee each block holds that holds any."""
    topic = "0x" + payee.removeprefix("0x").lower().rjust(64, "0")
    wanted = {"address": it.base.token_address, "fromBlock": hex(first), "topics": [None, None, topic]}
    logs = sorted(int(log["blockNumber"], 16) for log in it.base.rpc("eth_getLogs", wanted))
    return [len(list(group)) for _, group in itertools.groupby(logs)]
