"""One sealed file of the keystore: its JSON form, and the encryption of the 32 bytes inside.

Must not know directories or which wallets exist. Theory: scrypt turns the passphrase into a key (cost in the file,
bounded when read, so that a planted file cannot eat the machine's memory), AES-256-GCM seals the secret and
authenticates kind and name with it, so that a file renamed or swapped for another does not open.
"""

import base64
import binascii
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from wallets.secret import Secret

FORMAT = 1
SECRET_BYTES = 32
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
MAX_FILE_BYTES = 4096

MIN_N = 2**14
MAX_N = 2**20
MAX_R = 16
MAX_P = 4
MAX_MEMORY_BYTES = 2**30


class KeystoreError(Exception):
    """The keystore cannot be used as it stands; the message names the file and never holds a secret."""


class WrongPassphraseError(KeystoreError):
    """The passphrase is wrong, or the file was altered: authenticated encryption cannot tell which."""


class Kind(StrEnum):
    """What a file of the keystore holds."""

    WALLET = "wallet"
    WATCH = "watch"
    DATA_KEY = "data-key"


@dataclass(frozen=True, slots=True)
class ScryptParams:
    """Cost and salt of the passphrase's derivation; N = 2^17 takes about 128 MiB and a third of a second."""

    salt: bytes
    n: int = 2**17
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        if not MIN_N <= self.n <= MAX_N or self.n & (self.n - 1):
            raise KeystoreError(f"scrypt: n must be a power of two from {MIN_N} to {MAX_N}")
        if not 1 <= self.r <= MAX_R or not 1 <= self.p <= MAX_P or 128 * self.n * self.r > MAX_MEMORY_BYTES:
            raise KeystoreError("scrypt: r, p or the memory they need is out of bounds")
        if len(self.salt) != SALT_BYTES:
            raise KeystoreError("scrypt: the salt must be 16 bytes")


class KeyDerivation:
    """Derives keys from one passphrase, each set of parameters once: files that share a salt cost one scrypt."""

    def __init__(self, passphrase: Secret[str]) -> None:
        self._passphrase = passphrase
        self._derived: dict[ScryptParams, Secret[bytes]] = {}

    def key(self, params: ScryptParams) -> Secret[bytes]:
        """Return the 32-byte key for these parameters."""
        if params not in self._derived:
            scrypt = Scrypt(salt=params.salt, length=32, n=params.n, r=params.r, p=params.p)
            self._derived[params] = Secret(scrypt.derive(self._passphrase.reveal().encode("utf-8")))
        return self._derived[params]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The content of one file; ``sealed`` is None for a watch-only wallet, which has an address and no key."""

    kind: Kind
    name: str
    sealed: "SealedSecret | None"

    def to_json(self) -> bytes:
        """Write the file's bytes."""
        body: dict[str, Any] = {"format": FORMAT, "kind": self.kind.value, "name": self.name}
        if self.sealed is not None:
            body |= self.sealed.to_fields()
        return json.dumps(body, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes, source: str) -> "KeyFile":
        """Read a file's bytes; ``source`` names it in errors. Raises KeystoreError."""
        if len(raw) > MAX_FILE_BYTES:
            raise KeystoreError(f"{source}: larger than {MAX_FILE_BYTES} bytes")
        try:
            body = json.loads(raw)
        except ValueError:
            raise KeystoreError(f"{source}: not JSON") from None
        if not isinstance(body, dict) or body.get("format") != FORMAT or body.get("kind") not in list(Kind):
            raise KeystoreError(f"{source}: not a keystore file of format {FORMAT}")
        kind, name = Kind(body["kind"]), body.get("name")
        if not isinstance(name, str):
            raise KeystoreError(f"{source}: no name")
        if kind is Kind.WATCH:
            return cls(kind, name, None)
        try:
            return cls(kind, name, SealedSecret.from_fields(body))
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise KeystoreError(f"{source}: field missing or malformed ({type(error).__name__})") from None


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """Thirty-two encrypted bytes with all that is needed, except the passphrase, to open them."""

    scrypt: ScryptParams
    nonce: bytes
    ciphertext: bytes

    def to_fields(self) -> dict[str, Any]:
        """Write the JSON fields."""
        cost = {"n": self.scrypt.n, "r": self.scrypt.r, "p": self.scrypt.p}
        return {
            "kdf": {"name": "scrypt", **cost, "salt": _b64(self.scrypt.salt)},
            "cipher": {"name": "aes-256-gcm", "nonce": _b64(self.nonce), "ciphertext": _b64(self.ciphertext)},
        }

    @classmethod
    def from_fields(cls, body: dict[str, Any]) -> "SealedSecret":
        """Read the JSON fields. Raises KeyError, TypeError, AttributeError, binascii.Error or KeystoreError."""
        kdf, cipher = body["kdf"], body["cipher"]
        if kdf["name"] != "scrypt" or cipher["name"] != "aes-256-gcm":
            raise KeystoreError("keystore file: unknown derivation or cipher")
        if any(type(kdf[label]) is not int for label in "nrp"):
            raise TypeError("scrypt cost")
        nonce, ciphertext = _unb64(cipher["nonce"]), _unb64(cipher["ciphertext"])
        if len(nonce) != NONCE_BYTES or len(ciphertext) != SECRET_BYTES + TAG_BYTES:
            raise TypeError("sealed lengths")
        return cls(ScryptParams(_unb64(kdf["salt"]), kdf["n"], kdf["r"], kdf["p"]), nonce, ciphertext)


def seal_file(
    kind: Kind,
    name: str,
    secret: Secret[bytes],
    derivation: KeyDerivation,
    params: ScryptParams,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> KeyFile:
    """Seal 32 secret bytes under a kind and a name. Raises KeystoreError for another length."""
    if len(secret.reveal()) != SECRET_BYTES:
        raise KeystoreError(f"{name}: expected 32 secret bytes")
    nonce = random_bytes(NONCE_BYTES)
    cipher = AESGCM(derivation.key(params).reveal())
    return KeyFile(kind, name, SealedSecret(params, nonce, cipher.encrypt(nonce, secret.reveal(), _aad(kind, name))))


def open_file(file: KeyFile, derivation: KeyDerivation) -> Secret[bytes]:
    """Return the sealed bytes. Raises WrongPassphraseError, or KeystoreError for a watch-only file."""
    if file.sealed is None:
        raise KeystoreError(f"{file.name}: watch-only, there is no key to open")
    cipher = AESGCM(derivation.key(file.sealed.scrypt).reveal())
    try:
        return Secret(cipher.decrypt(file.sealed.nonce, file.sealed.ciphertext, _aad(file.kind, file.name)))
    except InvalidTag:
        raise WrongPassphraseError(f"{file.name}: wrong passphrase, or the file was altered") from None


def _aad(kind: Kind, name: str) -> bytes:
    return b"\0".join((b"agent-payment-gateway/keystore", str(FORMAT).encode(), kind.encode(), name.encode()))


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii", "replace"), validate=True)
