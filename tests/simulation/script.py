"""Which faults strike: by chance from a seed, or by name for each intent.

Theory: a fault is a word at a stage (the vendor's modules say what it means), so a written scenario and a random run use
the same vendors.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["FAULTS", "FixedScript", "RandomScript"]

FAULTS: Mapping[str, Mapping[str, float]] = {
    "wire": {"not_sent": 0.04, "lost": 0.03},
    "challenge": {
        "other_payee": 0.03,
        "other_asset": 0.02,
        "other_network": 0.02,
        "dearer": 0.02,
        "cheaper": 0.01,
    },
    "prices": {"raised": 0.01},
    "payment": {"refuse": 0.05, "refuse_and_settle": 0.03, "fail_and_settle": 0.03, "fail": 0.03},
    "reply": {"dropped": 0.08, "truncated": 0.04, "500": 0.04, "slow": 0.06},
    "again": {"second_box": 0.15, "refuse": 0.15},
    "box": {"never": 0.2, "late": 0.2},
    "settle": {"near_deadline": 0.12, "twice": 0.12, "never": 0.04},
    "renewal": {"never": 0.3},
    "provider": {"down": 0.1},
}
"""Each stage's faults with their chances in a run of full malice."""


@dataclass
class RandomScript:
    """Faults by chance; `malice` scales every chance, and 0 ends them all."""

    rng: random.Random
    malice: float

    def take(self, stage: str, server: str, intent: str) -> str:
        """Return the fault that strikes, or ''."""
        drawn = self.rng.random()
        for fault, chance in FAULTS[stage].items():
            drawn -= chance * self.malice
            if drawn < 0:
                return fault
        return ""

    def end(self) -> None:
        """From now on nothing goes wrong."""
        self.malice = 0.0


@dataclass
class FixedScript:
    """Faults by (stage, intent), each used up once, in order; '-' in a list spares one turn."""

    faults: Mapping[tuple[str, str], Sequence[str]]
    _taken: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, stage: str, server: str, intent: str) -> str:
        """Return the fault that is due, or ''."""
        planned = self.faults.get((stage, intent), ())
        turn = self._taken.get((stage, intent), 0)
        self._taken[stage, intent] = turn + 1
        fault = planned[turn] if turn < len(planned) else ""
        return "" if fault == "-" else fault

    def end(self) -> None:
        """What was written still holds: a box that never comes up does not come up at the end either."""
