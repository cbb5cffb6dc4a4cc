"""Sealing of the secrets that the database must keep: signed bytes, vendor credentials, root passwords, stored answers.

Must not know tables or what is inside. Theory: AES-256-GCM under the keystore's data key; the *context* (table, row,
column) is authenticated with it, so a sealed value moved to another row does not open. A random 96-bit nonce is safe
for 2^32 seals of one key (NIST SP 800-38D 8.3). Layout: version ‖ key id ‖ nonce ‖ ciphertext and tag.
"""

import hashlib
import os
from collections.abc import Callable
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wallets.secret import Secret

KEY_BYTES = 32
VERSION = b"\x01"
KEY_ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
HEAD_BYTES = len(VERSION) + KEY_ID_BYTES
OVERHEAD_BYTES = HEAD_BYTES + NONCE_BYTES + TAG_BYTES

_KEY_ID_TAG = b"agent-payment-gateway/data-key-id/1\0"


class SealError(Exception):
    """A sealed value was altered, belongs to another context, or was sealed by a key that we do not have."""


def key_id(data_key: Secret[bytes]) -> bytes:
    """Return the four public bytes that tell which data key sealed a value. Raises ValueError for a wrong length."""
    if len(data_key.reveal()) != KEY_BYTES:
        raise ValueError("data key: expected 32 bytes")
    return hashlib.sha256(_KEY_ID_TAG + data_key.reveal()).digest()[:KEY_ID_BYTES]


def derive_key(data_key: Secret[bytes], purpose: str) -> Secret[bytes]:
    """Derive an independent 32-byte key for one purpose (HKDF-SHA256), for example the hashing of API keys."""
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"agent-payment-gateway/" + purpose.encode())
    return Secret(hkdf.derive(data_key.reveal()))


class Sealer:
    """Seals with one data key; opens what it, or a retired data key, sealed. Safe to share between threads."""

    __slots__ = ("_ciphers", "_head", "_random_bytes")

    def __init__(
        self,
        data_key: Secret[bytes],
        *retired: Secret[bytes],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._head = VERSION + key_id(data_key)
        self._ciphers = {VERSION + key_id(key): AESGCM(key.reveal()) for key in (*retired, data_key)}
        self._random_bytes = random_bytes

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt ``plaintext`` for this ``context`` only; the result is 33 bytes longer."""
        nonce = self._random_bytes(NONCE_BYTES)
        return self._head + nonce + self._ciphers[self._head].encrypt(nonce, plaintext, self._head + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return what was sealed for this ``context``. Raises SealError; no plaintext escapes unauthenticated."""
        if len(sealed) < OVERHEAD_BYTES:
            raise SealError("sealed value: cut short")
        head = sealed[:HEAD_BYTES]
        cipher = self._ciphers.get(head)
        if cipher is None:
            raise SealError("sealed value: unknown version or data key")
        nonce = sealed[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[HEAD_BYTES + NONCE_BYTES :], head + context)
        except InvalidTag:
            raise SealError("sealed value: altered, or of another context") from None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Sealer is never serialised")
