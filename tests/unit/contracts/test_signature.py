"""Signatures: eth-account's bytes, and the chain's own strictness when reading them."""

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from contracts.signature import (
    HALF_ORDER,
    ORDER,
    SignatureError,
    address_of,
    load_key,
    normalise_v,
    recover_address,
    sign_digest,
)

digests = st.binary(min_size=32, max_size=32)
secrets = st.integers(min_value=1, max_value=ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
KEY = load_key(b"\x07" * 32)
DIGEST = b"\x09" * 32


@given(secrets, digests)
def test_equals_eth_account(secret: bytes, digest: bytes) -> None:
    """Same key and digest, same 65 bytes and address as eth-account."""
    key, account = load_key(secret), Account.from_key(secret)
    assert sign_digest(key, digest) == bytes(account.unsafe_sign_hash(digest).signature)
    assert address_of(key) == bytes.fromhex(account.address[2:])


@given(secrets, digests)
def test_is_low_s_and_recovers(secret: bytes, digest: bytes) -> None:
    """Every signature has low s, v 27 or 28, and recovers to its signer."""
    key = load_key(secret)
    signature = sign_digest(key, digest)
    assert int.from_bytes(signature[32:64], "big") <= HALF_ORDER
    assert signature[64] in (27, 28)
    assert recover_address(digest, signature) == address_of(key)


def test_the_malleable_twin_is_refused() -> None:
    """(r, n-s) recovers to the same signer in plain ECDSA, so it must be refused."""
    signature = sign_digest(KEY, DIGEST)
    twin_s = ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + twin_s.to_bytes(32, "big") + bytes((55 - signature[64],))
    with pytest.raises(SignatureError, match="upper half"):
        recover_address(DIGEST, twin)


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 37, 255])
def test_v_is_27_or_28(v: int) -> None:
    """Other recovery ids are refused, as the token refuses them."""
    with pytest.raises(SignatureError, match="v must"):
        recover_address(DIGEST, sign_digest(KEY, DIGEST)[:64] + bytes((v,)))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (ORDER, 1), (2**256 - 1, 1), (1, 0), (1, ORDER), (5, 1)])
def test_impossible_points_are_refused(r: int, s: int) -> None:
    """Zero, out-of-range and off-curve values raise SignatureError and nothing else."""
    with pytest.raises(SignatureError):
        recover_address(DIGEST, r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x1b")


@pytest.mark.parametrize("length", [0, 64, 66])
def test_lengths_are_exact(length: int) -> None:
    """Only 65 bytes are a signature, only 32 a digest."""
    with pytest.raises(SignatureError):
        recover_address(DIGEST, bytes(length))
    with pytest.raises(SignatureError):
        sign_digest(KEY, bytes(length))
    with pytest.raises(SignatureError):
        recover_address(bytes(length), sign_digest(KEY, DIGEST))


@pytest.mark.parametrize("secret", [b"", bytes(32), b"\1" * 31, ORDER.to_bytes(32, "big")])
def test_refuses_what_is_no_key(secret: bytes) -> None:
    """Zero, the order and other lengths are no keys, and the error does not repeat them."""
    with pytest.raises(SignatureError) as caught:
        load_key(secret)
    assert repr(secret) not in str(caught.value) or not secret


def test_normalises_v_of_stock_wallets() -> None:
    """0 and 1 become 27 and 28; all else stays."""
    signature = sign_digest(KEY, DIGEST)
    raw = signature[:64] + bytes((signature[64] - 27,))
    assert normalise_v(raw) == normalise_v(signature) == signature
    assert normalise_v(b"\0" * 64) == b"\0" * 64
