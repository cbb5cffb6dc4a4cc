"""Tokens: pinned domains, identity by place, strict descriptions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import ZERO_ADDRESS, ContractError, parse_address, to_hex
from contracts.tokens import BASE_USDC, KNOWN_TOKENS, MODERATO_PATHUSD, Token, find_token

_FOLDER = Path(__file__).parents[2] / "vectors/contracts"
VECTORS = json.loads((_FOLDER / "eip3009.json").read_text())
TIP20 = json.loads((_FOLDER / "tempo.json").read_text())["tokens"]


@pytest.mark.parametrize("vector", VECTORS["tokens"])
def test_known_tokens_have_the_pinned_domain(vector: dict[str, Any]) -> None:
    """Name, version and separator of each known token are those of Circle's contract."""
    token = find_token(vector["chain_id"], parse_address(vector["address"]))
    assert token is not None
    assert (token.name, token.version, token.decimals) == (vector["name"], vector["version"], 6)
    assert to_hex(token.domain_separator) == vector["domain_separator"]
    assert token.asset_id == vector["asset_id"]


@pytest.mark.parametrize("vector", TIP20)
def test_known_tip20_tokens_are_at_their_pinned_place(vector: dict[str, Any]) -> None:
    """A TIP-20 is known by place, has six decimals, and nothing that could be signed for it."""
    token = find_token(vector["chain_id"], parse_address(vector["address"]))
    assert token is not None
    assert (token.standard, token.symbol, token.decimals) == ("tip20", vector["symbol"], 6)
    assert (token.name, token.version, token.domain_separator, token.digest_prefix) == ("", "", b"", b"")
    assert token.asset_id == f"eip155:{vector['chain_id']}/erc20:{vector['address']}"


def test_every_known_token_has_a_vector() -> None:
    """No token enters the table without a pinned place."""
    pinned = {(vector["chain_id"], parse_address(vector["address"])) for vector in [*VECTORS["tokens"], *TIP20]}
    assert set(KNOWN_TOKENS) == pinned


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
        {"standard": "erc20"},
        {"standard": "tip20"},
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


@pytest.mark.parametrize("change", [{"name": "pathUSD"}, {"version": "1"}, {"decimals": 18}, {"symbol": ""}])
def test_refuses_a_tip20_that_is_none(change: dict[str, Any]) -> None:
    """A TIP-20 has no signing domain and six decimals."""
    with pytest.raises(ContractError):
        dataclasses.replace(MODERATO_PATHUSD, **change)


def test_tokens_are_eip3009_unless_they_say_otherwise() -> None:
    """Six arguments describe an EIP-3009 token."""
    assert Token(8453, BASE_USDC.address, "USDC", "USD Coin", "2", 6) == BASE_USDC
    assert BASE_USDC.standard == "eip3009"
