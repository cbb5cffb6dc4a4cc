"""Asks the contracts of one chain whether a signature is theirs (ERC-1271), in the newest state.

Must not know what was signed. Theory: a contract's code is a stranger's, so it gets a bound of gas, and whatever is not the
one word that means yes is no; a signature that brings its own contract along (ERC-6492) is none, for taking it would mean to
run any call that a stranger names.
"""

from contracts.codec import Address, ContractError
from contracts.eip1271 import decode_is_valid_signature, encode_is_valid_signature, is_erc6492
from gateway.chains.rpc import CallReverted
from gateway.paid_ports import RelayChain

__all__ = ["RelayContractWallets"]

GAS = 300_000


class RelayContractWallets:
    """Contract wallets as a chain that we send to shows them; implements `gateway.flow.paid.wallets.ContractWallets`."""

    def __init__(self, chain: RelayChain) -> None:
        self._chain = chain
        self.chain_id = chain.chain_id

    async def signed(self, address: Address, digest: bytes, signature: bytes) -> bool:
        """Say whether there is a contract at the address that calls the signature its own. Raises ChainUnavailable."""
        if is_erc6492(signature) or not await self._chain.has_code(address):
            return False
        try:
            question = encode_is_valid_signature(digest, signature)
            return decode_is_valid_signature(await self._chain.call(address, address, question, GAS))
        except (ContractError, CallReverted):
            return False
