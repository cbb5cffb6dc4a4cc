"""Which authorizations go together in one transaction, and when. Pure: it is told the time and does nothing itself.

Must not know chains, keys or rows. Theory: company makes a transaction cheaper for each and waiting makes it later, so what
waits goes as soon as there is a full load, or as its seller's patience ends, or before its own window closes; and only what
one token's contract can take in a row goes together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from contracts.codec import Address
from contracts.eip3009 import Authorization
from gateway.core.paid import Settlement

__all__ = ["Item", "Waiting"]


@dataclass(frozen=True, slots=True)
class Item:
    """One claimed authorization that waits for a transaction. Times are Unix seconds, fractions included.

    `alone`: it cannot share one. `due_s` is when it goes whatever the load, `not_before_s` when it may be tried again.
    """

    settlement: Settlement
    authorization: Authorization
    alone: bool
    due_s: float
    not_before_s: float = 0.0

    @property
    def payer(self) -> tuple[Address, Address]:
        """Whose tokens it moves: (token, authorizer)."""
        return self.authorization.token.address, self.authorization.authorizer


class Waiting:
    """What is claimed and not in a transaction yet, in the order in which it came."""

    def __init__(self, size: int) -> None:
        """`size` is the most that goes together."""
        self._size = size
        self._alone: dict[str, Item] = {}
        self._groups: dict[Address, dict[str, Item]] = {}
        self._now_s = 0.0

    def __len__(self) -> int:
        return len(self._alone) + sum(map(len, self._groups.values()))

    def __contains__(self, settlement_id: str) -> bool:
        return any(settlement_id in group for group in self._all())

    def put(self, item: Item) -> None:
        """Take an item in, in the place of an older version of it."""
        group = self._alone if item.alone else self._groups.setdefault(item.authorization.token.address, {})
        group[item.settlement.id] = item

    def put_back(self, items: Iterable[Item], not_before_s: float) -> None:
        """Let items wait on: they could not go for a reason that is not theirs."""
        for item in items:
            self.put(replace(item, not_before_s=not_before_s))

    def take(self, now_s: float, *, together: bool) -> list[Item]:
        """Return, and let go, what may go in one transaction now; nothing where all of it can wait.

        Without `together` each item goes alone.
        """
        self._is_now(now_s)
        for group in self._all():
            ready = [item for item in group.values() if item.not_before_s <= now_s]
            if not ready:
                continue
            single = group is self._alone or not together
            if single:
                load = [item for item in ready if item.due_s <= now_s][:1]
            elif len(ready) >= self._size or any(item.due_s <= now_s for item in ready):
                load = ready[: self._size]
            else:
                load = []
            for item in load:
                del group[item.settlement.id]
            if load:
                return load
        return []

    def wait_s(self, now_s: float) -> float | None:
        """Return how long nothing of what waits is due; None where nothing waits."""
        self._is_now(now_s)
        moments = [max(item.due_s, item.not_before_s) for group in self._all() for item in group.values()]
        return max(0.0, min(moments) - now_s) if moments else None

    def _is_now(self, now_s: float) -> None:
        """Take what waits along where the clock was set back: nothing waits for longer than it was to."""
        back_s, self._now_s = self._now_s - now_s, now_s
        if back_s <= 0:
            return
        for group in self._all():
            for name, item in group.items():
                group[name] = replace(item, due_s=item.due_s - back_s, not_before_s=item.not_before_s - back_s)

    def _all(self) -> Iterator[dict[str, Item]]:
        yield self._alone
        yield from self._groups.values()
