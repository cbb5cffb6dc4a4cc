"""The newest block that each chain's tracker has seen: for windows and for telling an agent how far things are.

Must not know endpoints.  Theory: a window is measured from the later of our clock and the chain's (DESIGN 6), so the
hot path needs the chain's time without asking the chain.
"""

from gateway.ports import Block


class Heads:
    """Head and final block by chain id, moved forward by the trackers."""

    def __init__(self) -> None:
        self._heads: dict[int, Block] = {}
        self._finals: dict[int, Block] = {}

    def get(self, chain_id: int) -> Block | None:
        """Return the newest block seen, or None before the first poll."""
        return self._heads.get(chain_id)

    def final(self, chain_id: int) -> Block | None:
        """Return the newest final block seen, or None before the first poll."""
        return self._finals.get(chain_id)

    def saw(self, chain_id: int, head: Block, final: Block) -> None:
        """Take a poll's result."""
        known = self._heads.get(chain_id)
        if known is None or head.number > known.number:
            self._heads[chain_id] = head
        self._finals[chain_id] = final
