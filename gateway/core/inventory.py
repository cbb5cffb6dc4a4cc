"""How much of a token the house holds and is about to take in, against the most that its operator wants of it (P1).

Must not know who asks, or whether what it is told is committed.  Theory: the book decides by its own state and offers are
made by the committed one, so both hand their numbers to the same sum; what is in a wallet counts until it is proven to have
left, and a payment that was claimed counts as come, for from then on nobody can call it off.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core import chart
from gateway.core.ledger import Ledger
from gateway.core.paid import TopUp, TopUpState

TokenPlace = tuple[int, bytes]
"""(chain id, contract): what identifies a token."""

CAPPED = "inventory_capped"
"""The problem of a payment that would take in more than the operator wants."""

UNDER_WAY = frozenset({TopUpState.PAYING, TopUpState.SEEN})

_WALLETS = chart.wallet("")


@dataclass(frozen=True, slots=True)
class InventoryCap:
    """The most of one token, in its base units, that the house wants at its wallets and tills together."""

    place: TokenPlace
    asset: str  # the same token as the ledger names it
    cap_base: int

    def room_base(self, held_base: int, topups: Iterable[TopUp]) -> int:
        """Return how much more may be asked for, below zero where there is too much already.

        Every payment of these orders that may land counts as come.
        """
        return self.cap_base - held_base - sum(topup.value_base or 0 for topup in topups if self._awaits(topup))

    def _awaits(self, topup: TopUp) -> bool:
        return topup.state in UNDER_WAY and (topup.chain_id, topup.token) == self.place


def held_base(ledger: Ledger, asset: str) -> int:
    """Return what wallets and tills hold of an asset, in its base units, with what they have promised and not yet paid."""
    return sum(account.posted_base for account in ledger.in_asset(asset) if account.code.startswith(_WALLETS))
