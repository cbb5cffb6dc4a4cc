"""Networks: x402 v1 names and CAIP-2 ids for one integer, the EVM chain id.

Must not know RPC endpoints, nor which chains the operator allows. Theory: inside, a network is its chain id; both
spellings are read at the edge, and whoever answers a vendor repeats the vendor's own spelling.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

from contracts.codec import ContractError, require_uint

CHAIN_ID_BITS = 63
"""Chain ids stay inside a signed 64-bit column (EIP-2294 bounds them likewise)."""

CHAIN_ID_BY_V1_NAME = MappingProxyType(
    {
        "base": 8453,
        "base-sepolia": 84532,
        "ethereum": 1,
        "polygon": 137,
        "polygon-amoy": 80002,
        "avalanche": 43114,
        "avalanche-fuji": 43113,
        "sei": 1329,
        "sei-testnet": 1328,
        "iotex": 4689,
        "abstract": 2741,
        "abstract-testnet": 11124,
        "peaq": 3338,
        "story": 1513,
        "educhain": 656476,
        "celo": 42220,
        "monad": 143,
        "monad-testnet": 10143,
        "megaeth": 4326,
        "stable": 988,
        "stable-testnet": 2201,
        "skale-base-sepolia": 1444673419,
    }
)
"""The names of x402 version 1 (their spelling is the protocol's; version 2 uses CAIP-2)."""

V1_NAME_BY_CHAIN_ID = MappingProxyType({chain_id: name for name, chain_id in CHAIN_ID_BY_V1_NAME.items()})

_CAIP2 = re.compile(r"eip155:([1-9][0-9]{0,18})", re.ASCII)


class NetworkError(ContractError):
    """A network name is neither an x402 v1 name nor ``eip155:<chain id>``."""


@dataclass(frozen=True, slots=True)
class Network:
    """One EVM chain."""

    chain_id: int

    def __post_init__(self) -> None:
        if require_uint(self.chain_id, CHAIN_ID_BITS, "chain_id") == 0:
            raise NetworkError("chain_id: must not be 0")

    @property
    def caip2(self) -> str:
        """The CAIP-2 spelling, as x402 v2 uses it."""
        return f"eip155:{self.chain_id}"

    @property
    def v1_name(self) -> str | None:
        """The x402 v1 name, or None where version 1 has none."""
        return V1_NAME_BY_CHAIN_ID.get(self.chain_id)


def parse_network(text: object, field: str = "network") -> Network:
    """Read an x402 v1 name or a CAIP-2 id of the eip155 namespace, exactly as spelled. Raises NetworkError.

    Knowing a network is not permission to pay on it.
    """
    if not isinstance(text, str):
        raise NetworkError(f"{field}: expected text, got {type(text).__name__}")
    chain_id = CHAIN_ID_BY_V1_NAME.get(text)
    if chain_id is not None:
        return Network(chain_id)
    match = _CAIP2.fullmatch(text)
    if match is None or int(match[1]) >> CHAIN_ID_BITS:
        raise NetworkError(f"{field}: neither an x402 v1 name nor eip155:<chain id>")
    return Network(int(match[1]))
