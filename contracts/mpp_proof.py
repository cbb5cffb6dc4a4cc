"""The zero-amount proof of MPP: typed data by which a wallet says that it is the one that answers a challenge.

Must not know keys, guards or HTTP. Theory: no money moves, but a vendor gives control of a server to whoever proves to
be its owner, so a proof is worth what the server is. Version 3 signs account, challenge and realm; version 2 leaves out
the account and version 1 the realm as well, so a site could relay a challenge of another site and use what comes back.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from contracts.attribution import challenge_bytes
from contracts.codec import ADDRESS_BYTES, Address, ContractError, require_bytes, require_uint
from contracts.keccak import keccak256
from contracts.networks import Network

ProofVersion = Literal[1, 2, 3]
PROOF_VERSION: ProofVersion = 3

_DOMAIN_TYPEHASH = keccak256(b"EIP712Domain(string name,string version,uint256 chainId)")
_NAME_HASH = keccak256(b"MPP")
_TYPEHASHES = MappingProxyType(
    {
        1: keccak256(b"Proof(string challengeId)"),
        2: keccak256(b"Proof(string challengeId,string realm)"),
        3: keccak256(b"Proof(address account,string challengeId,string realm)"),
    }
)


class ProofError(ContractError):
    """A proof is of a version that does not exist."""


@dataclass(frozen=True, slots=True)
class IdentityProof:
    """The statement of ``wallet`` that it answers one challenge of ``realm``; nothing is sent on ``chain_id``.

    Versions below 3 are for upstreams that take nothing else. Raises ContractError when a field is out of range.
    """

    wallet: Address
    chain_id: int
    challenge_id: str
    realm: str
    version: ProofVersion = PROOF_VERSION

    def __post_init__(self) -> None:
        require_bytes(self.wallet, ADDRESS_BYTES, "proof.wallet")
        Network(self.chain_id)
        challenge_bytes(self.challenge_id, "proof.challenge_id")
        challenge_bytes(self.realm, "proof.realm")
        if require_uint(self.version, 8, "proof.version") not in _TYPEHASHES:
            raise ProofError("proof.version: expected 1, 2 or 3")

    @property
    def digest(self) -> bytes:
        """The 32 bytes that the wallet signs (EIP-712)."""
        domain = keccak256(
            _DOMAIN_TYPEHASH + _NAME_HASH + keccak256(b"%d" % self.version) + self.chain_id.to_bytes(32, "big")
        )
        return keccak256(b"\x19\x01" + domain + keccak256(_TYPEHASHES[self.version] + self._words()))

    def _words(self) -> bytes:
        account = self.wallet.rjust(32, b"\0")
        challenge, realm = keccak256(self.challenge_id.encode()), keccak256(self.realm.encode())
        return (b"" if self.version < PROOF_VERSION else account) + challenge + (b"" if self.version == 1 else realm)
