"""The two keccaks are one function."""

import pytest
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from contracts.keccak import keccak256, keccak256_portable


@given(st.binary(max_size=600))
def test_agrees_with_eth_utils(data: bytes) -> None:
    """Whichever implementation is in use, and the portable one, hash as Ethereum does."""
    assert keccak256(data) == keccak256_portable(data) == keccak(data)


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_is_keccak_and_not_sha3(data: bytes, digest: str) -> None:
    """The original padding, pinned."""
    assert keccak256(data).hex() == digest
