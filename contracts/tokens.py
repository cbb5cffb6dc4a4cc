"""Tokens that can be paid with: by EIP-3009, with the EIP-712 domain of each, or by Tempo's TIP-20 transfers.

Must not know balances, prices, or which tokens the operator allows. Theory: the signing domain (name, version, chain,
contract) decides whether a signature means anything, and a vendor's ``extra`` is only a hint about it; so known tokens
come from the table below, and others from configuration checked against the contract's own DOMAIN_SEPARATOR. A TIP-20
is moved by transactions alone: it has no domain here, so that nothing can be signed for it by mistake.
"""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from contracts.codec import (
    ADDRESS_BYTES,
    ZERO_ADDRESS,
    Address,
    ContractError,
    checksum,
    parse_address,
    require_bytes,
    require_uint,
)
from contracts.keccak import keccak256
from contracts.networks import Network

DOMAIN_TYPEHASH = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
MAX_DECIMALS = 36
TIP20_DECIMALS = 6
"""TIP-20 fixes them."""

TokenStandard = Literal["eip3009", "tip20"]

TokenKey = tuple[int, Address]
"""(chain id, contract address): what identifies a token; a symbol never does."""


class TokenError(ContractError):
    """A token's description is incomplete or out of range."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token contract on one chain; ``name`` and ``version`` are those of its EIP-712 domain.

    A TIP-20 has neither: both are empty, as are ``domain_separator`` and ``digest_prefix``.
    """

    chain_id: int
    address: Address
    symbol: str
    name: str
    version: str
    decimals: int
    standard: TokenStandard = "eip3009"
    domain_separator: bytes = field(init=False, repr=False, compare=False)
    digest_prefix: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        Network(self.chain_id)
        require_bytes(self.address, ADDRESS_BYTES, "token.address")
        if self.address == ZERO_ADDRESS:
            raise TokenError("token.address: must not be the zero address")
        if not self.symbol:
            raise TokenError("token.symbol: must be non-empty text")
        if require_uint(self.decimals, 8, "token.decimals") > MAX_DECIMALS:
            raise TokenError(f"token.decimals: more than {MAX_DECIMALS}")
        separator = self._separator()
        object.__setattr__(self, "domain_separator", separator)
        object.__setattr__(self, "digest_prefix", b"\x19\x01" + separator if separator else b"")

    def _separator(self) -> bytes:
        if self.standard == "tip20":
            if self.name or self.version:
                raise TokenError("token: a TIP-20 has no signing domain, name and version must be empty")
            if self.decimals != TIP20_DECIMALS:
                raise TokenError(f"token.decimals: a TIP-20 has {TIP20_DECIMALS}")
            return b""
        if self.standard != "eip3009":
            raise TokenError("token.standard: expected eip3009 or tip20")
        for label, text in (("name", self.name), ("version", self.version)):
            if not text:
                raise TokenError(f"token.{label}: must be non-empty text")
        return domain_separator(self.name, self.version, self.chain_id, self.address)

    @property
    def key(self) -> TokenKey:
        """The (chain id, address) pair that identifies this token."""
        return (self.chain_id, self.address)

    @property
    def network(self) -> Network:
        """The chain that the contract lives on."""
        return Network(self.chain_id)

    @property
    def asset_id(self) -> str:
        """The CAIP-19 id, for example ``eip155:8453/erc20:0x8335…`` with a checksummed address."""
        return f"eip155:{self.chain_id}/erc20:{checksum(self.address)}"


def domain_separator(name: str, version: str, chain_id: int, address: Address) -> bytes:
    """Compute the EIP-712 domain separator of a token contract from its parts."""
    return keccak256(
        DOMAIN_TYPEHASH
        + keccak256(name.encode())
        + keccak256(version.encode())
        + chain_id.to_bytes(32, "big")
        + address.rjust(32, b"\0")
    )


def _tip20(chain_id: int, address: str, symbol: str) -> Token:
    return Token(chain_id, parse_address(address), symbol, "", "", TIP20_DECIMALS, "tip20")


BASE_USDC = Token(
    chain_id=8453,
    address=parse_address("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
    symbol="USDC",
    name="USD Coin",
    version="2",
    decimals=6,
)
BASE_SEPOLIA_USDC = Token(
    chain_id=84532,
    address=parse_address("0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
    symbol="USDC",
    name="USDC",
    version="2",
    decimals=6,
)
TEMPO_PATHUSD = _tip20(4217, "0x20c0000000000000000000000000000000000000", "pathUSD")
TEMPO_USDCE = _tip20(4217, "0x20C000000000000000000000b9537d11c60E8b50", "USDC.e")
MODERATO_PATHUSD = _tip20(42431, "0x20c0000000000000000000000000000000000000", "pathUSD")

KNOWN_TOKENS = MappingProxyType(
    {token.key: token for token in (BASE_USDC, BASE_SEPOLIA_USDC, TEMPO_PATHUSD, TEMPO_USDCE, MODERATO_PATHUSD)}
)
"""Tokens whose place, and where they have one the domain separator, is pinned by a vector; any other comes from
configuration."""


def find_token(chain_id: int, address: Address) -> Token | None:
    """Return the known token at this place, or None. Knowing a token is not permission to pay with it."""
    return KNOWN_TOKENS.get((chain_id, address))
