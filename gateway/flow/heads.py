"""The newest block that each chain's tracker has seen: for windows and for telling an agent how far things are.

Must not know endpoints.  Theory: a window is measured from the later of our clock and the chain's (design 6), so the
hot path needs the chain's time without asking the chain; and a chain counts as read only when everything up to its final
block is booked, whatever its head says.
"""

from gateway.ports import Block


class Heads:
    """Head, final block and time of the last complete reading by chain id, as the trackers' newest polls have them."""

    def __init__(self) -> None:
        self._heads: dict[int, Block] = {}
        self._finals: dict[int, Block] = {}
        self._read_at_ms: dict[int, int] = {}

    def get(self, chain_id: int) -> Block | None:
        """Return the head as of the newest poll, or None before the first."""
        return self._heads.get(chain_id)

    def final(self, chain_id: int) -> Block | None:
        """Return the newest final block seen, or None before the first poll."""
        return self._finals.get(chain_id)

    def read_at_ms(self, chain_id: int) -> int | None:
        """Return when everything up to the final block was last known to be booked, or None before that."""
        return self._read_at_ms.get(chain_id)

    def saw(self, chain_id: int, head: Block, final: Block) -> None:
        """Take a poll's result.

        A head may go back, never behind the final block: one that a single endpoint boasted of while the others were silent
        would else set every window, and stop every purchase, for as long as this process lives.
        """
        self._heads[chain_id] = max(head, final, key=lambda block: block.number)
        self._finals[chain_id] = final

    def read(self, chain_id: int, at_ms: int) -> None:
        """Note that a poll has booked everything up to its final block."""
        self._read_at_ms[chain_id] = at_ms
