"""Keccak-256, the hash of Ethereum. Must not know what is hashed.

Theory: Keccak with its original padding, which is not the SHA-3 of ``hashlib``. The C module ``sha3`` of safe-pysha3
(extra ``fast``) is about four times as fast as pycryptodome, which is always there; a test shows that they agree.
"""

from collections.abc import Callable

from Crypto.Hash import keccak as pycryptodome

try:
    import sha3
except ImportError:
    sha3 = None


def keccak256_portable(data: bytes) -> bytes:
    """Hash with pycryptodome."""
    return pycryptodome.new(digest_bits=256, data=data).digest()


def _keccak256_fast(data: bytes) -> bytes:
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


keccak256: Callable[[bytes], bytes] = keccak256_portable if sha3 is None else _keccak256_fast
"""Thirty-two bytes of Keccak-256 of ``data``, by the fastest implementation installed."""
