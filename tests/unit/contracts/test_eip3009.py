"""Typed data by hand equals eth-account's, and the purchase's nonce is pinned."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from contracts import eip3009
from contracts.codec import Address, ContractError, checksum, parse_address, to_hex
from contracts.eip3009 import Authorization, mpp_evm_nonce, purchase_nonce
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, Token

_FOLDER = Path(__file__).parents[2] / "vectors/contracts"
VECTORS = json.loads((_FOLDER / "eip3009.json").read_text())
TEMPO = json.loads((_FOLDER / "tempo.json").read_text())
PAYER, PAYEE = Address(b"\x11" * 20), Address(b"\x22" * 20)

addresses = st.binary(min_size=20, max_size=20).filter(any).map(Address)
words = st.binary(min_size=32, max_size=32)
uints = st.integers(min_value=0, max_value=2**256 - 1)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
tokens = st.builds(
    Token,
    chain_id=st.integers(min_value=1, max_value=2**63 - 1),
    address=addresses,
    symbol=st.just("T"),
    name=names,
    version=names,
    decimals=st.just(6),
)


def authorization(**change: Any) -> Authorization:
    """Return valid terms, with any field changed."""
    terms = Authorization(BASE_USDC, PAYER, PAYEE, 9_990_000, 0, 1_800_000_000, b"\x05" * 32)
    return dataclasses.replace(terms, **change)


def eth_account_digest(token: Token, kind: str, fields: list[tuple[str, str]], message: dict[str, Any]) -> bytes:
    """Hash typed data with eth-account, which shares no code with ours."""
    domain = {
        "name": token.name,
        "version": token.version,
        "chainId": token.chain_id,
        "verifyingContract": checksum(token.address),
    }
    types = {kind: [{"type": type_, "name": name} for type_, name in fields]}
    return bytes(_hash_eip191_message(encode_typed_data(domain, types, message)))


@given(token=tokens, payer=addresses, payee=addresses, value=uints, times=st.tuples(uints, uints), nonce=words)
def test_digest_equals_eth_account(
    token: Token, payer: Address, payee: Address, value: int, times: tuple[int, int], nonce: bytes
) -> None:
    """Any token and any terms hash to eth-account's digest."""
    after, before = sorted(times)
    if before - after < 2:
        after, before = 0, 2
    auth = Authorization(token, payer, payee, value, after, before, nonce)
    fields = [
        ("address", "from"),
        ("address", "to"),
        ("uint256", "value"),
        ("uint256", "validAfter"),
        ("uint256", "validBefore"),
        ("bytes32", "nonce"),
    ]
    message = {
        "from": checksum(payer),
        "to": checksum(payee),
        "value": value,
        "validAfter": after,
        "validBefore": before,
        "nonce": nonce,
    }
    assert auth.digest == eth_account_digest(token, "TransferWithAuthorization", fields, message)


@pytest.mark.parametrize(("name", "value"), VECTORS["typehashes"].items())
def test_typehashes_are_circles(name: str, value: str) -> None:
    """The typehash is the contract's constant."""
    assert to_hex(getattr(eip3009, name)) == value


@pytest.mark.parametrize(
    "change",
    [
        {"authorizer": b"\x11" * 19},
        {"pay_to": "0x" + "22" * 20},
        {"value_base": -1},
        {"value_base": 2**256},
        {"value_base": 1.0},
        {"value_base": True},
        {"valid_after": -1},
        {"valid_before": 2**256},
        {"nonce": b"\x05" * 31},
        {"nonce": bytearray(32)},
        {"valid_after": 1_800_000_000},
        {"valid_after": 1_799_999_999},
        {"token": MODERATO_PATHUSD},
    ],
)
def test_refuses_terms_that_no_block_could_honour(change: dict[str, Any]) -> None:
    """Lengths, types, ranges and an empty window are refused when the terms are made."""
    with pytest.raises(ContractError):
        authorization(**change)


def test_each_field_is_in_the_digest() -> None:
    """Changing any one field changes what is signed."""
    other = dataclasses.replace(BASE_USDC, chain_id=84532)
    changes: list[dict[str, Any]] = [
        {},
        {"token": other},
        {"authorizer": PAYEE},
        {"pay_to": PAYER},
        {"value_base": 1},
        {"valid_after": 1},
        {"valid_before": 5},
        {"nonce": bytes(32)},
    ]
    assert len({authorization(**change).digest for change in changes}) == len(changes)


def test_p4_every_authorization_of_a_purchase_has_one_key() -> None:
    """P4: another price, payee or window leaves (chain, token, authorizer, nonce) as it was."""
    assert authorization(value_base=1, pay_to=PAYER, valid_before=99).key == authorization().key


@pytest.mark.parametrize("vector", VECTORS["purchase_nonces"])
def test_p4_purchase_nonce_is_pinned(vector: dict[str, Any]) -> None:
    """P4: the derivation never changes; text and its ASCII bytes are one id."""
    place = (vector["chain_id"], parse_address(vector["token"]), parse_address(vector["wallet"]))
    assert to_hex(purchase_nonce(*place, vector["purchase_id"])) == vector["nonce"]
    assert to_hex(purchase_nonce(*place, vector["purchase_id"].encode())) == vector["nonce"]


def test_p4_purchase_nonce_depends_on_every_input() -> None:
    """P4: chain, token, wallet and purchase each make another nonce; swapped addresses do too."""
    inputs: list[tuple[int, Address, Address, bytes | str]] = [
        (8453, PAYER, PAYEE, "a"),
        (8454, PAYER, PAYEE, "a"),
        (8453, PAYEE, PAYER, "a"),
        (8453, PAYER, PAYER, "a"),
        (8453, PAYER, PAYEE, "b"),
        (8453, PAYER, PAYEE, "a\0"),
    ]
    assert len({purchase_nonce(*each) for each in inputs}) == len(inputs)


@pytest.mark.parametrize("purchase_id", ["", b"", "é", "x" * 129, b"x" * 129])
def test_refuses_ambiguous_purchase_ids(purchase_id: bytes | str) -> None:
    """Nothing, non-ASCII text (which has several byte forms) and over-long ids name no purchase."""
    with pytest.raises(ContractError, match="purchase_id"):
        purchase_nonce(8453, PAYER, PAYEE, purchase_id)


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("chain_id", (8453.0, PAYER, PAYEE)),
        ("chain_id", (True, PAYER, PAYEE)),
        ("token", (8453, bytearray(PAYER), PAYEE)),
        ("wallet", (8453, PAYER, bytearray(PAYEE))),
        ("wallet", (8453, PAYER, PAYEE[:19])),
    ],
)
def test_refuses_a_purchase_at_no_place(field: str, place: Any) -> None:
    """What only equals a chain id or an address is none, also where the real one was given just before."""
    for chain_id in (1, 8453):
        purchase_nonce(chain_id, PAYER, PAYEE, "a")
    with pytest.raises(ContractError, match=field):
        purchase_nonce(*place, "a")


def test_the_nonce_of_an_mpp_challenge_is_mppxs() -> None:
    """MPP's evm charge prescribes keccak(id, realm); both texts count, and neither may be missing."""
    challenge_id, realm = TEMPO["challenge"]["id"], TEMPO["challenge"]["realm"]
    assert to_hex(mpp_evm_nonce(challenge_id, realm)) == TEMPO["evm_nonce"]
    assert len({mpp_evm_nonce("a", "b"), mpp_evm_nonce("b", "a"), mpp_evm_nonce("a", "c")}) == 3
    for wrong in (("", realm), (challenge_id, ""), (challenge_id, "\ud800")):
        with pytest.raises(ContractError):
            mpp_evm_nonce(*wrong)
