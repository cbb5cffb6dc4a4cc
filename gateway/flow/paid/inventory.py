"""Which tokens may be asked for: those whose inventory has room left below the operator's cap, as far as it is committed.

Must not know rails or endpoints.  Theory: what is asked for here and claimed later is judged again by the book, with all that
was claimed meanwhile (gateway/core/decide_inventory.py); so this look need not be exact, only never ask for what would be
refused as things stand.
"""

from collections.abc import Callable, Mapping

from contracts.tokens import Token
from gateway.core.inventory import InventoryCap, TokenPlace
from gateway.ports import Store

Takes = Callable[[Token, int], bool]
"""Says whether so many base units of a token may be asked for."""


def takes_all(_token: Token, _value_base: int) -> bool:
    """There is no cap on anything."""
    return True


class Inventory:
    """Looks at committed state. `caps` are by token; a token without one is always asked for."""

    def __init__(self, store: Store, caps: Mapping[TokenPlace, InventoryCap]) -> None:
        self._store, self._caps = store, caps

    def takes(self, token: Token, value_base: int) -> bool:
        """Say whether so many base units of a token may be asked for, with everything that is held and under way."""
        cap = self._caps.get(token.key)
        if cap is None:
            return True
        view = self._store.view
        held_base = sum(b.available_base + b.held_base for (_, asset), b in view.wallets.items() if asset == cap.asset)
        return value_base <= cap.room_base(held_base, view.topups.values())
