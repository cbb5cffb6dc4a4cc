"""Random lives of the gateway: a fixed number of seeds, each judged by every promise; and proof that a seed replays."""

import os
import subprocess
import sys

import pytest

from tests.simulation.plan import Plan
from tests.simulation.run import run

SEEDS = 80


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_promise_holds(seed: int) -> None:
    """Whatever vendors, chain, agents, operator and the power supply do, no promise is broken."""
    report = run(Plan.random(seed), f"python -m tests.simulation --seed {seed} -v")
    assert not report.broken, str(report)


def test_a_seed_replays_to_the_last_line() -> None:
    """The record of a run depends on its seed alone, not on the process, its hash seed or its memory."""
    first, second = (_record("1"), _record("2"))
    assert len(first) > 20
    assert first == second


def _record(hash_seed: str) -> list[str]:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "8", "-v"]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.splitlines()[:-1]  # the last line is how long it took
