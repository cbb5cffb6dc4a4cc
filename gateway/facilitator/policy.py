"""What a relayer's key may sign: the calls that collect others' authorizations, its own empty transaction, nothing else.

Must not know who holds the key. Theory: a relayer owns ether for gas and no tokens, so its guard allows three functions
that move no money of its own, without ether, at a bounded fee; whoever takes over everything above it can burn its gas
and that is all (DESIGN P8).
"""

from collections.abc import Iterable
from types import MappingProxyType

from contracts.batch import SETTLE, deployment, gas_limit
from contracts.calls import SELECTOR_BYTES, TRANSFER_BYTES, TRANSFER_VRS
from contracts.codec import Address
from contracts.tokens import Token
from gateway.facilitator.desk import Rules
from wallets.guard import CallKey, WalletPolicy

__all__ = ["relayer_policy"]


def relayer_policy(relayer: Address, tokens: Iterable[Token], batch: Address, rules: Rules) -> WalletPolicy:
    """Return the policy of a relayer that collects these tokens, on their chains."""
    served = tuple(tokens)
    chain_ids = frozenset(token.chain_id for token in served)
    deployer, creation = deployment()
    calls = {
        CallKey(token.chain_id, token.address, each): 0 for token in served for each in (TRANSFER_VRS, TRANSFER_BYTES)
    }
    for chain_id in chain_ids:
        calls[CallKey(chain_id, batch, SETTLE)] = 0
        calls[CallKey(chain_id, relayer, b"")] = 0
        calls[CallKey(chain_id, deployer, creation[:SELECTOR_BYTES])] = 0
    gas = max(rules.max_gas_single, gas_limit(rules.batch_size, rules.item_gas))
    return WalletPolicy(
        chain_ids=chain_ids,
        max_value_base=MappingProxyType({}),
        payees=frozenset(),
        max_window_s=0,
        calls=MappingProxyType(calls),
        max_fee_wei=gas * rules.fee_cap_wei,
    )
