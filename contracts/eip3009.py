"""EIP-3009 typed data: the authorization that a wallet signs, and the nonce of a purchase.

Must not know keys, guards or HTTP. Theory: an EIP-712 digest is ``keccak(0x1901 ‖ domain ‖ keccak(typehash ‖ words))``;
every field here is one 32-byte word, so the digest is one concatenation and two hashes (about 2 us, where a general
encoder takes 100 times that). Cross-checked in tests against eth-account and the vectors of Circle's contract.
"""

from dataclasses import dataclass

from contracts.attribution import challenge_bytes
from contracts.codec import ADDRESS_BYTES, WORD_BYTES, Address, ContractError, require_bytes, require_uint
from contracts.keccak import keccak256
from contracts.networks import CHAIN_ID_BITS
from contracts.tokens import Token

TRANSFER_TYPEHASH = keccak256(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)

PURCHASE_NONCE_TAG = keccak256(b"agent-payment-gateway/purchase-nonce/v1")
"""Separates our nonces from every other use of keccak; a new encoding takes a new version, never a new meaning."""

PURCHASE_ID_MAX_BYTES = 128

_PAD = bytes(WORD_BYTES - ADDRESS_BYTES)
_TRANSFER_HEAD = TRANSFER_TYPEHASH + _PAD


class AuthorizationError(ContractError):
    """The terms of an authorization are not ones that could ever be collected."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """A wallet's permission to move ``value_base`` of a token to ``pay_to`` once, before ``valid_before``.

    Times are Unix seconds of block time; on chain both bounds are exclusive.
    Raises ContractError when a field is out of range or the window is empty.
    """

    token: Token
    authorizer: Address
    pay_to: Address
    value_base: int
    valid_after: int
    valid_before: int
    nonce: bytes

    def __post_init__(self) -> None:
        if self.token.standard != "eip3009":
            raise AuthorizationError("token: not one that takes EIP-3009 authorizations")
        require_bytes(self.authorizer, ADDRESS_BYTES, "authorization.authorizer")
        require_bytes(self.pay_to, ADDRESS_BYTES, "authorization.pay_to")
        require_uint(self.value_base, 256, "authorization.value_base")
        require_uint(self.valid_after, 256, "authorization.valid_after")
        require_uint(self.valid_before, 256, "authorization.valid_before")
        require_bytes(self.nonce, WORD_BYTES, "authorization.nonce")
        if self.valid_before - self.valid_after < 2:  # noqa: PLR2004 - both bounds are exclusive
            raise AuthorizationError("authorization: no block time lies inside the window")

    @property
    def key(self) -> tuple[int, Address, Address, bytes]:
        """The identity (chain, token, authorizer, nonce): the contract lets each be used at most once."""
        return (self.token.chain_id, self.token.address, self.authorizer, self.nonce)

    @property
    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct of TransferWithAuthorization."""
        return keccak256(
            b"".join(
                (
                    _TRANSFER_HEAD,
                    self.authorizer,
                    _PAD,
                    self.pay_to,
                    self.value_base.to_bytes(32, "big"),
                    self.valid_after.to_bytes(32, "big"),
                    self.valid_before.to_bytes(32, "big"),
                    self.nonce,
                )
            )
        )

    @property
    def digest(self) -> bytes:
        """The 32 bytes that the wallet signs."""
        return keccak256(self.token.digest_prefix + self.struct_hash)


def purchase_nonce(chain_id: int, token: Address, wallet: Address, purchase_id: bytes | str) -> bytes:
    """Derive the one nonce of a purchase (P4), so that the chain itself allows at most one collection for it.

    The encoding is five fixed words: tag, chain, token, wallet, keccak(purchase id); no two inputs share it. Text and
    its ASCII bytes are the same id, and a purchase must always be named in one form: a UUID's text is not its 16 bytes.
    Raises ContractError for an empty, over-long or non-ASCII id, and for what is no chain id or address.
    """
    if isinstance(purchase_id, str):
        if not purchase_id.isascii():
            raise AuthorizationError("purchase_id: text must be ASCII")
        purchase_id = purchase_id.encode("ascii")
    if not 0 < len(purchase_id) <= PURCHASE_ID_MAX_BYTES:
        raise AuthorizationError(f"purchase_id: expected 1 to {PURCHASE_ID_MAX_BYTES} bytes")
    return keccak256(
        b"".join(
            (
                PURCHASE_NONCE_TAG,
                require_uint(chain_id, CHAIN_ID_BITS, "chain_id").to_bytes(32, "big"),
                _PAD,
                require_bytes(token, ADDRESS_BYTES, "token"),
                _PAD,
                require_bytes(wallet, ADDRESS_BYTES, "wallet"),
                keccak256(purchase_id),
            )
        )
    )


def mpp_evm_nonce(challenge_id: str, realm: str) -> bytes:
    """Return the nonce that MPP's evm charge prescribes for one challenge: keccak(utf8(id) ‖ utf8(realm)).

    It is the challenge's and not the purchase's: another challenge for the same purchase makes another nonce, so only
    one authorization may live at a time (P4). Raises ContractError for an empty or over-long text.
    """
    return keccak256(challenge_bytes(challenge_id, "challenge_id") + challenge_bytes(realm, "realm"))
