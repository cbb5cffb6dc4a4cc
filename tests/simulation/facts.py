"""What really happened, by the books of the chain and of the vendors alone: the other side of every promise.

Must not read the gateway's database. Theory: a promise is checked by computing its outcome a second time from facts that
the gateway did not write.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from contracts.codec import Address
from contracts.logs import decode_authorization_used, decode_transfer
from contracts.tokens import BASE_USDC

if TYPE_CHECKING:
    from gateway.ports import Block
    from tests.fakes.vendor import Sale, Shown
    from tests.simulation.agents import Intent
    from tests.simulation.vpsagent import Rental
    from tests.simulation.world import World

__all__ = ["Collected", "Facts", "account_of"]


@dataclass(frozen=True)
class Collected:
    """A collection from our wallet, as the chain has it."""

    nonce: bytes
    block: Block
    tx_hash: bytes
    log_index: int
    pay_to: Address
    value_base: int


def account_of(intent: str) -> str:
    """Return whose intent it is: names start with the account."""
    return intent.partition(".")[0]


class Facts:
    """The world's own books, read after a run."""

    def __init__(self, world: World) -> None:
        self.world = world

    @cached_property
    def collected(self) -> dict[bytes, Collected]:
        """Every collection from our wallet, by nonce."""
        found: dict[bytes, Collected] = {}
        for mined in self.world.chain._chain:
            for receipt in mined.receipts:
                for position, entry in enumerate(receipt.logs):
                    used = decode_authorization_used(entry)
                    if used is None or used.authorizer != self.world.wallet:
                        continue
                    moved = decode_transfer(receipt.logs[position + 1])
                    assert moved is not None
                    assert used.nonce not in found
                    found[used.nonce] = Collected(
                        used.nonce, mined.block, receipt.tx_hash, entry.log_index, moved.recipient, moved.value_base
                    )
        return found

    @cached_property
    def shown(self) -> list[Shown]:
        """Everything that ever reached a vendor, in order."""
        return sorted((s for till in self.world.tills for s in till.shown), key=lambda s: s.at_ms)

    @cached_property
    def first_shown(self) -> dict[bytes, Shown]:
        """Each authorization's first arrival."""
        first: dict[bytes, Shown] = {}
        for shown in self.shown:
            first.setdefault(shown.authorization.nonce, shown)
        return first

    @cached_property
    def sales(self) -> dict[bytes, Sale]:
        """The vendors' sales by nonce."""
        return {nonce: sale for till in self.world.tills for nonce, sale in till.sales.items()}

    @cached_property
    def intents(self) -> dict[str, Intent]:
        """The agents' intents by name."""
        return {intent.name: intent for agent in self.world.agents for intent in agent.intents}

    @cached_property
    def rentals(self) -> list[Rental]:
        """The boxes that exist."""
        return list(self.world.vpsagent.rentals.values())

    def final_at(self, at_ms: int) -> Block:
        """Return the block that was final at that time."""
        chain_s = at_ms // 1000 + self.world.plan.skew_s
        chain = self.world.chain._chain
        newest = max(i for i, mined in enumerate(chain) if i == 0 or mined.block.time_s <= chain_s)
        return chain[max(0, newest - self.world.chain._final_lag)].block

    def balance(self) -> int:
        """Return the tokens that the wallet holds at the end."""
        return self.world.chain._chain[-1].state.balances.get((BASE_USDC.address, Address(self.world.wallet)), 0)

    def is_lost(self, shown: Shown) -> bool:
        """Say whether this was shown before a restore, by a process whose database is gone."""
        restored = self.world.restored
        if restored is None:
            return False
        return shown.sender <= restored.process and shown.authorization.nonce not in restored.known
