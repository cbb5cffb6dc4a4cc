"""The Tempo transaction (type 0x76) with which a wallet pays one MPP challenge, and its hand-over to a sponsor (0x78).

Must not know keys, HTTP or RPC. Theory: one batch of TIP-20 transfers under an expiring nonce (nonceKey 2^256-1, nonce
0): the chain takes the signed fields at most once and only before ``valid_before``, so nothing has to be counted and
what was not collected dies by itself. A transaction that pays its own fee has a hash known before it is sent; one that
a sponsor completes is found by the memo of its first transfer.
"""

from dataclasses import dataclass, field

from contracts.calls import encode_transfer, encode_transfer_with_memo
from contracts.codec import ADDRESS_BYTES, UINT256_MAX, WORD_BYTES, Address, ContractError, require_bytes, require_uint
from contracts.keccak import keccak256
from contracts.rlp import rlp_bytes, rlp_list, rlp_uint
from contracts.signature import SIGNATURE_BYTES, V_OFFSET
from contracts.tokens import TIP20_DECIMALS, Token

TEMPO_FEE_MANAGER = Address(bytes.fromhex("feec" + "00" * 18))
"""Takes every network fee, by a Transfer of the fee token."""

TYPE_TEMPO = b"\x76"
TYPE_HAND_OVER = b"\x78"
MAX_SPLITS = 10
AMOUNT_BITS = 128
"""TIP-20 caps a token's supply at uint128."""

ATTO_PER_BASE = 10 ** (18 - TIP20_DECIMALS)
"""Gas is priced in atto-dollars, and its fee is paid in the token."""

_EMPTY = rlp_bytes(b"")
_EMPTY_LIST = rlp_list()
_EXPIRING_NONCE_KEY = rlp_uint(UINT256_MAX)
_SPONSOR_TO_COME = rlp_bytes(b"\x00")


class TempoError(ContractError):
    """A charge is not one that Tempo could take, or that could be told from another on chain."""


@dataclass(frozen=True, slots=True)
class TempoTransfer:
    """One TIP-20 transfer of a batch; with a memo (32 bytes) it is a transferWithMemo."""

    to: Address
    value_base: int
    memo: bytes | None = None

    def __post_init__(self) -> None:
        require_bytes(self.to, ADDRESS_BYTES, "transfer.to")
        if require_uint(self.value_base, AMOUNT_BITS, "transfer.value_base") == 0:
            raise TempoError("transfer.value_base: must not be 0")
        if self.memo is not None:
            require_bytes(self.memo, WORD_BYTES, "transfer.memo")
        if self.to == TEMPO_FEE_MANAGER:
            raise TempoError("transfer.to: the fee manager; the payment could not be told from a fee")

    @property
    def call_data(self) -> bytes:
        """The call of the token that makes this transfer."""
        if self.memo is None:
            return encode_transfer(self.to, self.value_base)
        return encode_transfer_with_memo(self.to, self.value_base, self.memo)


@dataclass(frozen=True, slots=True)
class TempoTerms:
    """What of a charge can be seen on chain, and is enough to prove it: who moves how much of which token to whom.

    The first transfer is the primary one and bears the memo that names the charge; the others are its splits.
    ``max_fee_base`` is the most that the wallet itself pays the network, in the token; 0 means that a sponsor pays.
    Raises ContractError when a field is out of range.
    """

    token: Token
    wallet: Address
    transfers: tuple[TempoTransfer, ...]
    max_fee_base: int

    def __post_init__(self) -> None:
        if self.token.standard != "tip20":
            raise TempoError("charge.token: not a TIP-20 token")
        require_bytes(self.wallet, ADDRESS_BYTES, "charge.wallet")
        if not 0 < len(self.transfers) <= 1 + MAX_SPLITS:
            raise TempoError(f"charge.transfers: expected 1 to {1 + MAX_SPLITS}")
        if self.transfers[0].memo is None:
            raise TempoError("charge.transfers: the first has no memo, nothing would name the charge on chain")
        if any(split.memo == self.transfers[0].memo for split in self.transfers[1:]):
            raise TempoError("charge.transfers: a split has the memo of the charge")
        require_uint(self.amount_base, AMOUNT_BITS, "charge.amount_base")
        require_uint(self.max_fee_base, AMOUNT_BITS, "charge.max_fee_base")

    @property
    def amount_base(self) -> int:
        """The sum of all transfers."""
        return sum(transfer.value_base for transfer in self.transfers)

    @property
    def memo(self) -> bytes:
        """The memo of the primary transfer: what names the charge on chain."""
        return self.transfers[0].memo or b""


@dataclass(frozen=True, slots=True)
class TempoCharge:
    """One payment as the wallet signs it. Prices are atto-USD (1e-18) per gas; times are Unix seconds of block time.

    ``valid_before`` is exclusive. Raises ContractError when a field is out of range.
    """

    token: Token
    wallet: Address
    transfers: tuple[TempoTransfer, ...]
    valid_before: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    sponsored: bool
    terms: TempoTerms = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for label, value, bits in (
            ("valid_before", self.valid_before, 63),
            ("gas", self.gas, 63),
            ("max_fee_per_gas", self.max_fee_per_gas, 63),
        ):
            if require_uint(value, bits, f"charge.{label}") == 0:
                raise TempoError(f"charge.{label}: must not be 0")
        if require_uint(self.max_priority_fee_per_gas, 63, "charge.max_priority_fee_per_gas") > self.max_fee_per_gas:
            raise TempoError("charge.max_priority_fee_per_gas: above max_fee_per_gas")
        if type(self.sponsored) is not bool:
            raise TempoError("charge.sponsored: expected a boolean")
        terms = TempoTerms(self.token, self.wallet, self.transfers, self.max_fee_base)
        object.__setattr__(self, "terms", terms)

    @property
    def amount_base(self) -> int:
        """What the payees get together, in base units of the token."""
        return self.terms.amount_base

    @property
    def max_fee_base(self) -> int:
        """The highest network fee for the wallet, in base units of the token, rounded up; 0 when a sponsor pays."""
        return 0 if self.sponsored else -(-self.gas * self.max_fee_per_gas // ATTO_PER_BASE)

    @property
    def memo(self) -> bytes:
        """The memo of the primary transfer: what names the charge on chain."""
        return self.terms.memo

    @property
    def signing_hash(self) -> bytes:
        """The 32 bytes that the wallet signs."""
        slot = _SPONSOR_TO_COME if self.sponsored else _EMPTY
        return keccak256(TYPE_TEMPO + rlp_list(*self._head(), slot, _EMPTY_LIST))

    def encode(self, signature: bytes) -> bytes:
        """Return what the payee is given: the raw transaction, or the hand-over that its sponsor completes.

        ``signature`` is r ‖ s ‖ v over ``signing_hash``. Raises ContractError unless v is 27 or 28: a node rewrites
        other forms, and the transaction would be on chain under another hash than ours.
        """
        require_bytes(signature, SIGNATURE_BYTES, "signature")
        if signature[64] - V_OFFSET not in (0, 1):
            raise TempoError("signature: v must be 27 or 28")
        slot = rlp_bytes(self.wallet) if self.sponsored else _EMPTY
        body = rlp_list(*self._head(), slot, _EMPTY_LIST, rlp_bytes(signature))
        return (TYPE_HAND_OVER if self.sponsored else TYPE_TEMPO) + body

    def tx_hash(self, raw: bytes) -> bytes | None:
        """Return the hash under which ``encode``'s bytes will be on chain; None when a sponsor has yet to sign."""
        return None if self.sponsored else keccak256(raw)

    def _head(self) -> tuple[bytes, ...]:
        """Return the encoded fields from chainId to feeToken."""
        token = rlp_bytes(self.token.address)
        calls = (rlp_list(token, _EMPTY, rlp_bytes(transfer.call_data)) for transfer in self.transfers)
        return (
            rlp_uint(self.token.chain_id),
            rlp_uint(self.max_priority_fee_per_gas),
            rlp_uint(self.max_fee_per_gas),
            rlp_uint(self.gas),
            rlp_list(*calls),
            _EMPTY_LIST,
            _EXPIRING_NONCE_KEY,
            _EMPTY,
            rlp_uint(self.valid_before),
            _EMPTY,
            # Named, or the node picks another token of the wallet's for the fee; a sponsor names its own.
            _EMPTY if self.sponsored else token,
        )
