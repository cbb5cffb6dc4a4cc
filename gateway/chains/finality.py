"""When a block counts as final, and the memory that finality never goes back.

Must not know endpoints. Theory: money moves on final blocks only (P5, P6), so the newest final block is a ratchet:
a lower answer comes from a node that lags and changes nothing, but another hash at a height that was once called final
means that the chain or the endpoints lied, and nothing may be decided until a human has looked.
"""

import re
from dataclasses import dataclass
from typing import Self

from contracts.codec import to_hex
from gateway.ports import Block, ChainDisagreement

__all__ = ["FinalMark", "Finality"]

_CONFIRMATIONS = re.compile(r"confirmations:([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Finality:
    """The operator's rule: the chain's own ``finalized`` tag, or a number of blocks on top (``confirmations``)."""

    confirmations: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "finalized" or "confirmations:N", N from 1 to 999999. Raises ValueError."""
        if text == "finalized":
            return cls()
        match = _CONFIRMATIONS.fullmatch(text)
        if match is None:
            raise ValueError('finality: expected "finalized" or "confirmations:N"')
        return cls(int(match[1]))

    def __str__(self) -> str:
        return "finalized" if self.confirmations is None else f"confirmations:{self.confirmations}"


class FinalMark:
    """The newest block ever called final; ``block`` is None before the first."""

    def __init__(self, block: Block | None = None) -> None:
        self.block = block

    def advance(self, candidate: Block) -> Block:
        """Return the newer of the mark and the candidate, and keep it. Raises ChainDisagreement as `require`."""
        self.require(candidate)
        if self.block is None or candidate.number > self.block.number:
            self.block = candidate
        return self.block

    def require(self, claim: Block) -> None:
        """Raise ChainDisagreement when the claim is another block at the mark's height: a final block was undone."""
        mark = self.block
        if mark is not None and claim.number == mark.number and claim != mark:
            raise ChainDisagreement(
                f"final block {mark.number} changed", {"before": to_hex(mark.hash), "now": to_hex(claim.hash)}
            )
