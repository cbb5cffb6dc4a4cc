"""New identifiers, made of the time and of randomness that come in through ports.

Must not know what they name.  Theory: ids that nobody can foretell, and that a seeded run makes again, are made in one
place (design 5, determinism).
"""

from gateway.core.ids import RANDOM_BYTES, make_id
from gateway.ports import Clock, Entropy


class Ids:
    """Makes ids that sort by this clock."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock, self._entropy = clock, entropy

    def new(self, prefix: str) -> str:
        """Return an id that was never given before: the prefix says what it names."""
        return make_id(prefix, self._clock.now_ms(), self._entropy.bytes(RANDOM_BYTES))
