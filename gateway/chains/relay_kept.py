"""Receipts that were read once, kept for as long as their block may still be looked at.

Must not know who asks, nor ask a node itself. Theory: a block's hash commits to all that is in it, so a receipt of a block that
is still on the chain under the same hash cannot have changed; who follows transactions looks at the same ones every second
until they are final, and a batch's receipt is the largest thing that a node is ever asked for here.
"""

from collections import OrderedDict
from collections.abc import Iterable

from gateway.chains.relay_reading import Mined

__all__ = ["KeptReceipts"]

LOGS_MAX = 20_000
RECEIPTS_MAX = 1_000


class KeptReceipts:
    """The receipts that were read or used last; bounded by their number and by their logs altogether."""

    def __init__(self, receipts_max: int = RECEIPTS_MAX, logs_max: int = LOGS_MAX) -> None:
        self._receipts_max, self._logs_max = receipts_max, logs_max
        self._kept: OrderedDict[bytes, Mined] = OrderedDict()
        self._logs = 0

    def of(self, tx_hashes: Iterable[bytes]) -> list[Mined]:
        """Return what is kept of these transactions. Whether its block is still on the chain is for the caller to ask."""
        found = [self._kept[tx_hash] for tx_hash in tx_hashes if tx_hash in self._kept]
        for receipt in found:
            self._kept.move_to_end(receipt.tx_hash)
        return found

    def keep(self, receipts: Iterable[Mined]) -> None:
        """Keep receipts, in the place of older ones of the same transactions."""
        for receipt in receipts:
            self.drop(receipt)
            self._kept[receipt.tx_hash] = receipt
            self._logs += len(receipt.logs)
        while self._kept and (len(self._kept) > self._receipts_max or self._logs > self._logs_max):
            self.drop(next(iter(self._kept.values())))

    def drop(self, receipt: Mined) -> None:
        """Forget what is kept of a receipt's transaction."""
        known = self._kept.pop(receipt.tx_hash, None)
        if known is not None:
            self._logs -= len(known.logs)
