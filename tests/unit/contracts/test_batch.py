"""Batches as bytes: call data equals eth-abi's, answers are read exactly or refused, gas and addresses are computed."""

import dataclasses
from typing import Any

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from contracts import batch
from contracts.batch import BatchError, Outcome
from contracts.codec import Address, ContractError, checksum
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC

AUTH = Authorization(BASE_USDC, Address(b"\x11" * 20), Address(b"\x22" * 20), 7, 1, 2**40, b"\x05" * 32)
SIGNATURE = b"\x0a" * 32 + b"\x0b" * 32 + b"\x1c"
TOKEN = BASE_USDC.address

authorizations = st.builds(
    lambda who, to, value, after, window, nonce: Authorization(
        BASE_USDC, Address(who), Address(to), value, after, after + window, nonce
    ),
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=20, max_size=20),
    st.integers(0, 2**96 - 1),
    st.integers(0, 2**40 - 1),
    st.integers(2, 2**47),
    st.binary(min_size=32, max_size=32),
)
items_strategy = st.lists(st.tuples(authorizations, st.binary(min_size=65, max_size=65)), min_size=1, max_size=5)


def words(auth: Authorization, signature: bytes) -> list[bytes]:
    """Write an item as the contract's documentation describes it."""
    return [
        auth.authorizer + auth.value_base.to_bytes(12, "big"),
        auth.pay_to + auth.valid_after.to_bytes(5, "big") + auth.valid_before.to_bytes(6, "big") + signature[64:],
        auth.nonce,
        signature[:32],
        signature[32:64],
    ]


@given(items_strategy, st.integers(0, 2**32 - 1))
def test_call_data_equals_eth_abi(items: list[tuple[Authorization, bytes]], item_gas: int) -> None:
    """Both functions take (address, uint256, bytes32[5][])."""
    arguments = encode(["address", "uint256", "bytes32[5][]"], [TOKEN, item_gas, [words(*item) for item in items]])
    assert batch.encode_batch(TOKEN, items, item_gas) == batch.SETTLE + arguments
    assert batch.encode_simulation(TOKEN, items, item_gas) == batch.SIMULATE + arguments


@pytest.mark.parametrize(
    ("auth", "signature"),
    [
        (dataclasses.replace(AUTH, value_base=2**96), SIGNATURE),
        (dataclasses.replace(AUTH, valid_before=2**48), SIGNATURE),
        (dataclasses.replace(AUTH, valid_after=2**40, valid_before=2**41), SIGNATURE),
        (AUTH, SIGNATURE[:64]),
        (AUTH, SIGNATURE * 2),
        (AUTH, b""),
    ],
)
def test_what_does_not_fit_is_said_and_refused(auth: Authorization, signature: bytes) -> None:
    """A wider number or another signature than 65 bytes is never cut to fit: such an authorization goes alone."""
    assert not batch.fits(auth, signature)
    with pytest.raises(BatchError, match="fit"):
        batch.encode_batch(TOKEN, [(auth, signature)], 100_000)


def test_the_widest_that_fits_fits() -> None:
    """The bounds are exclusive."""
    widest = dataclasses.replace(AUTH, value_base=2**96 - 1, valid_after=2**40 - 1, valid_before=2**48 - 1)
    assert batch.fits(widest, SIGNATURE)
    assert len(batch.encode_batch(TOKEN, [(widest, SIGNATURE)], 1)) == 132 + 160


def test_a_batch_has_one_token_of_one_chain_and_a_sane_size() -> None:
    """Items of another token or chain, none at all, too many, and gas that is no number are refused."""
    elsewhere = dataclasses.replace(AUTH, token=BASE_SEPOLIA_USDC)
    same_place = dataclasses.replace(BASE_USDC, chain_id=1)
    wrong: list[tuple[Any, Any, Any]] = [
        (TOKEN, [(elsewhere, SIGNATURE)], 1),
        (TOKEN, [(AUTH, SIGNATURE), (dataclasses.replace(AUTH, token=same_place), SIGNATURE)], 1),
        (TOKEN[1:], [(AUTH, SIGNATURE)], 1),
        (TOKEN, [], 1),
        (TOKEN, [(AUTH, SIGNATURE)] * (batch.MAX_ITEMS + 1), 1),
        (TOKEN, [(AUTH, SIGNATURE)], -1),
        (TOKEN, [(AUTH, SIGNATURE)], 2**32),
        (TOKEN, [(AUTH, SIGNATURE)], 1.0),
        (TOKEN, [(AUTH, SIGNATURE)], True),
    ]
    for token, items, item_gas in wrong:
        with pytest.raises(ContractError):
            batch.encode_batch(token, items, item_gas)


def error(text: str) -> bytes:
    """Return the revert data of a failed require."""
    return keccak256(b"Error(string)")[:4] + encode(["string"], [text])


def wire(outcomes: list[bytes | bool | None]) -> bytes:
    """Write an answer: True taken, None not tried, bytes reverted with these."""
    body = b"".join(
        b"\1" if one is True else b"\2" if one is None else b"\0" + bytes([len(one)]) + one  # type: ignore[arg-type]
        for one in outcomes
    )
    return encode(["bytes"], [body])


def test_outcomes_are_read_in_their_order() -> None:
    """Taken, reverted with a text, reverted silently and not tried keep their places."""
    answer = wire([True, error("ERC20: transfer amount exceeds balance"), b"", None, True])
    assert batch.decode_outcomes(answer, 5) == (
        Outcome(ok=True),
        Outcome(ok=False, reason_text="ERC20: transfer amount exceeds balance"),
        Outcome(ok=False, reason_text="reverted without a reason"),
        Outcome(ok=False, reason_text="not tried: too little gas", tried=False),
        Outcome(ok=True),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_outcomes_is_refused(count: int) -> None:
    """An answer to another question is no answer."""
    with pytest.raises(BatchError, match="outcomes"):
        batch.decode_outcomes(wire([True, True]), count)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(32),
        bytes(64),
        wire([True])[:-1],
        wire([True]) + bytes(32),
        wire([True])[:-1] + b"\1",
        b"\1" + wire([True])[1:],
        encode(["bytes"], [b"\3"]),
        encode(["bytes"], [b"\0"]),
        encode(["bytes"], [b"\0\2a"]),
        encode(["bytes"], [b"\0\xe5" + bytes(229)]),
        encode(["uint256"], [32]) + encode(["uint256"], [2**255]),
    ],
)
def test_loose_answers_are_refused(data: bytes) -> None:
    """Empty (no contract there), cut, trailed, badly padded, of an unknown kind or over-long: none is read half."""
    with pytest.raises(BatchError):
        batch.decode_outcomes(data, 1)


@given(st.binary(max_size=300), st.integers(0, 4))
def test_any_bytes_are_read_or_refused(data: bytes, count: int) -> None:
    """A lying node cannot raise anything but BatchError."""
    for answer in (data, encode(["bytes"], [data])):
        try:
            assert len(batch.decode_outcomes(answer, count)) == count
        except BatchError:
            continue


def test_the_address_is_pinned() -> None:
    """What is deployed and configured depends on it: new code is a new address, knowingly."""
    assert checksum(batch.batch_address()) == PINNED
    to, data = batch.deployment()
    assert checksum(to) == "0x4e59b44847b379578588920cA78FbF26c0B4956C"
    assert data == batch.SALT + batch.init_code()
    assert batch.init_code().endswith(batch.runtime_code())


PINNED = "0x8DDeE44CF3c3E454aa9A180D343710B0a22A4A6d"


@pytest.mark.parametrize("item_gas", [1, 60_000, 150_000, 2_000_000])
def test_most_items_is_the_other_side_of_gas_limit(item_gas: int) -> None:
    """One more would not fit; nothing fits into nothing."""
    for gas in (0, 30_000, 200_000, 1_000_000, batch.TRANSACTION_GAS_MAX, 2**40):
        most = batch.most_items(gas, item_gas)
        assert most == 0 or batch.gas_limit(most, item_gas) <= gas
        assert most == batch.MAX_ITEMS or batch.gas_limit(most + 1, item_gas) > gas
    assert batch.most_items(0, item_gas) == 0


def test_gas_has_bounds() -> None:
    """A hundred ordinary items fit into one transaction; counts out of range are refused."""
    assert batch.gas_limit(100, 150_000) < batch.TRANSACTION_GAS_MAX
    for count in (0, -1, batch.MAX_ITEMS + 1, 1.0):
        with pytest.raises(ContractError):
            batch.gas_limit(count, 100_000)  # type: ignore[arg-type]
