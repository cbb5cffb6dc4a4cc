"""Networks: both spellings, and nothing in between."""

import pytest

from contracts.codec import ContractError
from contracts.networks import CHAIN_ID_BY_V1_NAME, Network, NetworkError, parse_network


def test_every_v1_name_is_its_caip2_id() -> None:
    """A v1 name and its CAIP-2 id read as the same network, and each is written back."""
    assert len(CHAIN_ID_BY_V1_NAME) == 22
    for name, chain_id in CHAIN_ID_BY_V1_NAME.items():
        network = parse_network(name)
        assert network == parse_network(network.caip2) == Network(chain_id)
        assert network.v1_name == name


def test_a_network_without_a_v1_name() -> None:
    """CAIP-2 names any chain."""
    network = parse_network("eip155:42161")
    assert network.chain_id == 42161
    assert network.v1_name is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Base",
        "base ",
        "eip155:",
        "eip155:0",
        "eip155:08453",
        "eip155:+8453",
        "eip155:8453\n",
        "eip155:*",
        "EIP155:8453",
        "eip155:\uff18453",
        f"eip155:{2**63}",
        "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
        8453,
        None,
    ],
)
def test_refuses_other_spellings(text: object) -> None:
    """Case, blanks, wildcards, zeros, other namespaces and numbers are refused."""
    with pytest.raises(NetworkError):
        parse_network(text)


@pytest.mark.parametrize("chain_id", [0, -1, 2**63, True, 8453.0])
def test_a_chain_id_is_a_positive_integer(chain_id: object) -> None:
    """A network cannot be made of anything else."""
    with pytest.raises(ContractError):
        Network(chain_id)  # type: ignore[arg-type]
