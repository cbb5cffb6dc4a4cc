"""Tokens: pinned domains, identity by place, strict descriptions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import ZERO_ADDRESS, ContractError, parse_address, to_hex
from contracts.tokens import BASE_USDC, KNOWN_TOKENS, Token, find_token

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/contracts/eip3009.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["tokens"])
def test_known_tokens_have_the_pinned_domain(vector: dict[str, Any]) -> None:
    """Name, version and separator of each known token are those of Circle's contract."""
    token = find_token(vector["chain_id"], parse_address(vector["address"]))
    assert token is not None
    assert (token.name, token.version, token.decimals) == (vector["name"], vector["version"], 6)
    assert to_hex(token.domain_separator) == vector["domain_separator"]
    assert token.asset_id == vector["asset_id"]


def test_every_known_token_has_a_vector() -> None:
    """No token enters the table without a pinned separator."""
    assert {key[0] for key in KNOWN_TOKENS} == {vector["chain_id"] for vector in VECTORS["tokens"]}
    assert len(KNOWN_TOKENS) == len(VECTORS["tokens"])


def test_the_same_address_on_another_chain_is_unknown() -> None:
    """A token is identified by chain and address together."""
    assert find_token(1, BASE_USDC.address) is None


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 0},
        {"address": b"\1" * 19},
        {"address": ZERO_ADDRESS},
        {"symbol": ""},
        {"name": ""},
        {"version": ""},
        {"decimals": 37},
        {"decimals": -1},
        {"decimals": True},
    ],
)
def test_refuses_incomplete_descriptions(change: dict[str, Any]) -> None:
    """Every field is checked when the token is made."""
    with pytest.raises(ContractError):
        dataclasses.replace(BASE_USDC, **change)


def test_the_domain_decides_the_separator() -> None:
    """The testnet's name on the mainnet contract is another domain (and would sign for nothing)."""
    wrong = dataclasses.replace(BASE_USDC, name="USDC")
    assert isinstance(wrong, Token)
    assert wrong.domain_separator != BASE_USDC.domain_separator
