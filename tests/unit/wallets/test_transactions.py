"""Transaction requests are read strictly, and hashed and encoded as eth-account does."""

from typing import Any

import pytest
from eth_account import Account

from contracts.codec import Address, ContractError, to_hex
from contracts.signature import address_of, load_key, sign_digest
from wallets.transactions import parse_transaction

KEY = load_key(b"\x07" * 32)
WALLET = address_of(KEY)
TO = Address(b"\x22" * 20)


def request(**change: Any) -> dict[str, Any]:
    """Return a request in web3's field names, with any field changed."""
    return {
        "type": 2,
        "chainId": 8453,
        "nonce": 3,
        "to": to_hex(TO),
        "value": 0,
        "data": "0xe3ee160e" + "00" * 32,
        "gas": 100_000,
        "maxFeePerGas": 10**9,
        "maxPriorityFeePerGas": 10**6,
    } | change


@pytest.mark.parametrize("change", [{}, {"value": 5, "data": "0x"}, {"nonce": 0}, {"type": "0x2", "to": bytes(TO)}])
def test_equals_eth_account(change: dict[str, Any]) -> None:
    """Our signature over our hash gives eth-account's raw transaction."""
    tx = parse_transaction(request(**change), WALLET)
    raw = tx.encode_signed(sign_digest(KEY, tx.hash))
    expected = Account.sign_transaction(request(**change), b"\x07" * 32)
    assert raw == bytes(expected.raw_transaction)
    assert Account.recover_transaction(raw) == Account.from_key(b"\x07" * 32).address


@pytest.mark.parametrize(
    "change",
    [
        {"type": 0},
        {"type": 3},
        {"gasPrice": 1},
        {"accessList": [{"address": "0x" + "22" * 20, "storageKeys": []}]},
        {"authorizationList": []},
        {"blobVersionedHashes": []},
        {"to": None},
        {"to": ""},
        {"to": "0x" + "22" * 19},
        {"to": b"\x22" * 21},
        {"from": "0x" + "22" * 20},
        {"chainId": "0x2105"},
        {"chainId": True},
        {"nonce": -1},
        {"gas": 1.5},
        {"value": "1"},
        {"value": -1},
        {"data": "0xe3ee16"},
        {"data": "e3ee160e"},
        {"data": b"\0" * (128 * 1024 + 1)},
        {"data": None},
        {"maxPriorityFeePerGas": 10**9 + 1},
    ],
)
def test_refuses_what_we_do_not_sign(change: dict[str, Any]) -> None:
    """Other types, lists, contract creation, another sender and loose values are refused."""
    with pytest.raises(ContractError):
        parse_transaction(request(**change), WALLET)


@pytest.mark.parametrize("field", ["chainId", "nonce", "to", "gas", "maxFeePerGas", "maxPriorityFeePerGas"])
def test_nothing_is_filled_in(field: str) -> None:
    """A missing field is an error: a default chain or price is somebody else's choice."""
    with pytest.raises(ContractError, match=field):
        parse_transaction({key: value for key, value in request().items() if key != field}, WALLET)


def test_its_own_sender_may_be_named() -> None:
    """web3 fills in ``from``; it must be the signer."""
    tx = parse_transaction(request(**{"from": to_hex(WALLET)}), WALLET)
    assert (tx.selector, tx.max_fee_wei) == (b"\xe3\xee\x16\x0e", 100_000 * 10**9)
