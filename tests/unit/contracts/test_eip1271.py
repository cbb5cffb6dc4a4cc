"""Asking contract wallets: the bytes are eth-abi's, real wallets answer, and everything but the magic word is no."""

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import ContractError, parse_bytes32, to_hex
from contracts.eip1271 import (
    ERC6492_SUFFIX,
    IS_VALID_SIGNATURE,
    MAGIC,
    decode_is_valid_signature,
    encode_is_valid_signature,
    is_erc6492,
)
from contracts.signature import load_key, sign_digest
from sandbox.chain import LocalBase

WALLET = "0x" + "5a" * 20


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_call_data_equals_eth_abi(digest: bytes, signature: bytes) -> None:
    """A signature of any length is a padded tail, under the selector that is the magic word."""
    assert encode_is_valid_signature(digest, signature) == bytes.fromhex("1626ba7e") + encode(
        ["bytes32", "bytes"], [digest, signature]
    )


def test_over_long_and_odd_arguments_are_refused() -> None:
    """Call data from outside stays bounded, and a digest is 32 bytes."""
    with pytest.raises(ContractError):
        encode_is_valid_signature(bytes(32), bytes(8193))
    with pytest.raises(ContractError):
        encode_is_valid_signature(bytes(31), b"")


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        (MAGIC, True),
        (MAGIC + b"more", True),
        (b"", False),
        (IS_VALID_SIGNATURE, False),
        (MAGIC[:31], False),
        (MAGIC[:31] + b"\1", False),
        (b"\xff" * 4 + bytes(28), False),
        (bytes(28) + IS_VALID_SIGNATURE, False),
        (bytes(31) + b"\1", False),
    ],
)
def test_only_the_magic_word_means_yes(answer: bytes, valid: bool) -> None:  # noqa: FBT001 - a data row
    """As the token reads it: no answer, a short one, a boolean, or the word on its other side are all no."""
    assert decode_is_valid_signature(answer) is valid


def test_a_real_wallet_knows_its_owners_signature(shared_automine_base: LocalBase) -> None:
    """Yes to the owner's signature of this digest, no to another's or another digest; an account without code says nothing."""
    owner, secret = shared_automine_base.dev_account(3)
    shared_automine_base.place_contract_wallet(WALLET, owner)
    good = sign_digest(load_key(parse_bytes32(secret)), b"\x01" * 32)
    other = sign_digest(load_key(b"\x09" * 32), b"\x01" * 32)

    def asked(at: str, digest: bytes, signature: bytes) -> bool:
        answer = shared_automine_base.call(at, to_hex(encode_is_valid_signature(digest, signature)))
        return decode_is_valid_signature(answer)

    assert asked(WALLET, b"\x01" * 32, good)
    assert not asked(WALLET, b"\x02" * 32, good)
    assert not asked(WALLET, b"\x01" * 32, other)
    assert not asked(WALLET, b"\x01" * 32, good[:64])
    assert not asked("0x" + "5b" * 20, b"\x01" * 32, good)


def test_signatures_of_undeployed_wallets_are_known_by_their_end() -> None:
    """ERC-6492's 32 bytes at the very end and nowhere else."""
    assert len(ERC6492_SUFFIX) == 32
    assert is_erc6492(b"x" * 65 + ERC6492_SUFFIX)
    assert not is_erc6492(ERC6492_SUFFIX + b"x")
    assert not is_erc6492(b"\1" * 65)
