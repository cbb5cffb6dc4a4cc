"""New identifiers come from the ports alone."""

import random

from gateway.core.ids import make_id
from gateway.flow.ids import Ids
from tests.fakes.clock import SeededEntropy
from tests.unit.gateway.flow.spend_bed import StillClock


def test_a_seeded_run_makes_the_same_ids_again() -> None:
    """The clock's time and the source's next ten bytes are all that an id is made of, and no two are alike."""
    clock, runs = StillClock(), [Ids(StillClock(), SeededEntropy(random.Random(7))) for _ in range(2)]
    first, second = ([ids.new("pay") for _ in range(3)] for ids in runs)
    entropy = SeededEntropy(random.Random(7))
    assert first == second == [make_id("pay", clock.now_ms(), entropy.bytes(10)) for _ in range(3)]
    assert len(set(first)) == 3
