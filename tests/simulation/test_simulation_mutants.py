"""The simulation can fail: a gateway with one promise taken out is told from the real one, by the promise that it breaks."""

from collections.abc import Callable

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import Plan
from tests.simulation.run import run
from tests.simulation.story import STORY, Story
from tests.simulation.world import World

SEEDS = range(1, 41)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_gateway_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few runs, the promise that the mutant breaks is named."""
    mutant(monkeypatch)
    seen = set()
    for plan, make in [(STORY, Story), *((Plan.random(seed), World) for seed in SEEDS)]:
        broken = run(plan, "", make).broken
        seen |= {line.partition(":")[0] for line in broken}
        if MUTANTS[mutant] in seen:
            return
    pytest.fail(f"{MUTANTS[mutant]} was not found broken, only {sorted(seen)}")
