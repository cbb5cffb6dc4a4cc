"""Surrogates: what an agent holds instead of a vendor's own credential, of the same shape, worthless at the vendor.

Must not know who holds one, or how it is kept.  Theory: derived with a key instead of drawn, so a repeated answer of the
vendor (re-presented after a crash) carries the same surrogate again, and nobody without the key can go either way.
"""

import hashlib
import hmac
import string
from typing import Final

from wallets.secret import Secret

__all__ = ["MIN_KEY_BYTES", "digest", "make_surrogate"]

MIN_KEY_BYTES: Final = 32

_CHAR_BYTES: Final = 8  # of keystream per character: the modulo's bias is below 2^-58
_LOWER_HEX: Final = string.digits + "abcdef"
_UPPER_HEX: Final = string.digits + "ABCDEF"
_CLASSES: Final = (string.digits, string.ascii_lowercase, string.ascii_uppercase)


def make_surrogate(secret_key: Secret[bytes], vendor: str, real: str) -> str:
    """Return the surrogate of a vendor's credential: same length, each character of the same class, never `real`.

    The same key, vendor and credential give the same surrogate always. Digits stay digits, lower and upper case
    letters stay such (hex stays hex where all of it is), anything else stays as it is. Raises ValueError for a key
    of less than MIN_KEY_BYTES and for a credential without a letter or digit, which has nothing to vary.
    """
    if len(secret_key.reveal()) < MIN_KEY_BYTES:
        raise ValueError(f"the surrogate key has less than {MIN_KEY_BYTES} bytes")
    alphabets = _alphabets(real)
    if not any(alphabets):
        raise ValueError("a credential without letters or digits has no surrogate")
    round_number = 0
    while True:
        surrogate = _draw(secret_key, vendor, real, alphabets, round_number)
        if surrogate != real:
            return surrogate
        round_number += 1


def digest(surrogate: str) -> bytes:
    """Return the 32 bytes under which a surrogate is kept and looked up; it does not give the surrogate away."""
    return hashlib.sha256(b"gateway-surrogate-digest-v1\0" + _encode(surrogate)).digest()


def _alphabets(real: str) -> list[str]:
    varied = {char for char in real if char.isascii() and char.isalnum()}
    if varied and not varied <= set(string.digits):
        for alphabet in (_LOWER_HEX, _UPPER_HEX):
            if varied <= set(alphabet):
                return [alphabet if char in varied else "" for char in real]
    return [next((alphabet for alphabet in _CLASSES if char in alphabet), "") for char in real]


def _draw(secret_key: Secret[bytes], vendor: str, real: str, alphabets: list[str], round_number: int) -> str:
    seed = hmac.new(secret_key.reveal(), b"gateway-surrogate-v1", hashlib.sha256)
    for part in (_encode(vendor), _encode(real), round_number.to_bytes(4, "big")):
        seed.update(len(part).to_bytes(8, "big"))
        seed.update(part)
    stream = hashlib.shake_256(seed.digest()).digest(_CHAR_BYTES * len(real))
    chars = []
    for index, (char, alphabet) in enumerate(zip(real, alphabets, strict=True)):
        number = int.from_bytes(stream[index * _CHAR_BYTES : (index + 1) * _CHAR_BYTES], "big")
        chars.append(alphabet[number % len(alphabet)] if alphabet else char)
    return "".join(chars)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
