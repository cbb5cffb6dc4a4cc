"""Sealed values open for their context, whole and unaltered, or not at all."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallets.sealing import OVERHEAD_BYTES, Sealer, SealError, derive_key, key_id
from wallets.secret import Secret

KEY, OTHER = Secret(b"\1" * 32), Secret(b"\2" * 32)
SEALER = Sealer(KEY)


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_round_trip(plaintext: bytes, context: bytes) -> None:
    """What was sealed opens for the same context; the size grows by a constant."""
    sealed = SEALER.seal(plaintext, context)
    assert SEALER.open(sealed, context) == plaintext
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES


def test_a_value_moved_elsewhere_does_not_open() -> None:
    """The context is part of the seal."""
    sealed = SEALER.seal(b"root password", b"rental:1")
    with pytest.raises(SealError, match="another context"):
        SEALER.open(sealed, b"rental:2")


def test_any_altered_byte_is_noticed() -> None:
    """Version, key id, nonce, ciphertext and tag are all authenticated."""
    sealed = SEALER.seal(b"secret", b"c")
    for index in range(len(sealed)):
        altered = sealed[:index] + bytes((sealed[index] ^ 1,)) + sealed[index + 1 :]
        with pytest.raises(SealError):
            SEALER.open(altered, b"c")
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            SEALER.open(sealed[:length], b"c")


def test_nonces_are_fresh() -> None:
    """Sealing twice gives two texts."""
    assert SEALER.seal(b"same", b"c") != SEALER.seal(b"same", b"c")


def test_retired_keys_open_and_do_not_seal() -> None:
    """After a rotation old values open, new ones carry the new key, and the old sealer cannot read them."""
    old = SEALER.seal(b"x", b"c")
    rotated = Sealer(OTHER, KEY)
    assert rotated.open(old, b"c") == b"x"
    with pytest.raises(SealError, match="data key"):
        SEALER.open(rotated.seal(b"x", b"c"), b"c")


def test_randomness_comes_from_outside() -> None:
    """A seeded run seals reproducibly."""
    seeded = Sealer(KEY, random_bytes=lambda count: b"\5" * count)
    assert seeded.seal(b"x", b"c") == seeded.seal(b"x", b"c")


def test_derived_keys_are_separate() -> None:
    """Each purpose has its own key, and none is the data key."""
    purposes = [derive_key(KEY, purpose).reveal() for purpose in ("api-keys", "cursors")]
    assert len({*purposes, KEY.reveal()}) == 3
    assert derive_key(KEY, "api-keys").reveal() == purposes[0]


def test_p10_a_sealer_shows_no_key() -> None:
    """P10: no repr, no pickle; a wrong key length is refused."""
    assert "01" * 8 not in repr(SEALER)
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(SEALER)
    with pytest.raises(ValueError, match="32 bytes"):
        key_id(Secret(b"short"))
