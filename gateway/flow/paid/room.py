"""How many payments may be under way: of one account, of one bare wallet, and of all that no account stands for.

Must not know rails or rows' contents.  Theory: whoever has no account costs nothing to make, so bounds for each of them bound
nothing; all of them together get a share, and accounts are not held up by it. A place is taken before the row is written,
for many requests may look at the same free place at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.core.paid import TopUp, TopUpState
from gateway.core.problems import Problem
from gateway.ports import Store


@dataclass(frozen=True, slots=True)
class Places:
    """The most that may be under way at once: `each` of one account or bare wallet, `keyless` of all without an account."""

    each: int
    keyless: int


class Room:
    """Counts what is under way, claimed or about to be. One object for all rails."""

    def __init__(self, store: Store, places: Places) -> None:
        self._store, self._places = store, places
        self._claiming: dict[int, tuple[str, str | None, bytes]] = {}

    @contextmanager
    def place(self, order_id: str, account_id: str | None, payer: bytes) -> Iterator[None]:
        """Hold a place while a payment of an order is claimed. Raises Problem("too_many_open_payments") for none left.

        Orders are counted once however often they are being claimed: one of the claims will get it.
        """
        self._require(order_id, account_id, payer)
        ticket = max(self._claiming, default=0) + 1
        self._claiming[ticket] = (order_id, account_id, payer)
        try:
            yield
        finally:
            del self._claiming[ticket]

    def _require(self, order_id: str, account_id: str | None, payer: bytes) -> None:
        under_way = {each.id: (each.account_id, each.payer) for each in self._store.view.topups.values() if _pays(each)}
        under_way |= {claimed: (account, by) for claimed, account, by in self._claiming.values()}
        under_way.pop(order_id, None)
        whose = (account_id, payer)
        own = sum(1 for each in under_way.values() if _whose(*each) == _whose(*whose))
        if own >= self._places.each:
            raise Problem("too_many_open_payments", f"{own} top-ups are under way; nothing was taken")
        if account_id is None and sum(1 for owner, _ in under_way.values() if owner is None) >= self._places.keyless:
            detail = "too many top-ups without an account are under way; nothing was taken. Pay with a key, or wait"
            raise Problem("too_many_open_payments", detail)


def _pays(topup: TopUp) -> bool:
    return topup.state is TopUpState.PAYING


def _whose(account_id: str | None, payer: bytes | None) -> tuple[str | None, bytes | None]:
    return (account_id, payer if account_id is None else None)
