"""OpenSSH public keys, read strictly: the type, a blob that is of this very type, and its fingerprint.

Must not know accounts or vendors.  Theory: a key line may carry options, a private key has nearly the same look, and a
blob may be of another type than the word before it says; whatever is not exactly one public key is refused before it is
kept or sent, for what ends up in an `authorized_keys` file opens a door.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final

__all__ = ["MAX_LINE_CHARS", "PublicKey", "PublicKeyError", "parse_public_key"]

MAX_LINE_CHARS: Final = 8 * 1024
MAX_COMMENT_CHARS: Final = 255
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 16384

_ED25519_BYTES: Final = 32
_POINT_BYTES: Final = MappingProxyType({"nistp256": 65, "nistp384": 97, "nistp521": 133})
_UNCOMPRESSED: Final = 4
_LENGTH_BYTES: Final = 4
_SIGN_BIT: Final = 0x80
_MAX_EXPONENT_BITS: Final = 64
_LEAST_EXPONENT: Final = 3
_APPLICATION: Final = re.compile(r"ssh:[\x21-\x7e]{0,255}", re.ASCII)
_WORD: Final = re.compile(r"[a-z][a-z0-9@.-]{0,63}", re.ASCII)
_BLOB: Final = re.compile(r"[A-Za-z0-9+/]{16,8000}={0,2}", re.ASCII)


class PublicKeyError(ValueError):
    """The text is not one public key. The message names nothing of it: it may be a private one."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key. `line` is how it is kept and sent; `fingerprint` is what `ssh-keygen -l` prints."""

    type: str
    blob: bytes
    comment: str

    @property
    def line(self) -> str:
        """The key as one line of an `authorized_keys` file."""
        text = f"{self.type} {base64.b64encode(self.blob).decode('ascii')}"
        return f"{text} {self.comment}" if self.comment else text

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the blob, in base64 without padding."""
        return "SHA256:" + base64.b64encode(sha256(self.blob).digest()).rstrip(b"=").decode("ascii")


def parse_public_key(text: str) -> PublicKey:
    """Return the key of a line as ssh-keygen writes it to `.pub` files (RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4).

    Raises PublicKeyError for anything else: private keys, several lines, options before the key, certificates, DSA, RSA
    below 2048 bits, a blob that is of another type or has more in it than its type has.
    """
    if "PRIVATE KEY" in text:
        raise PublicKeyError("this is a private key: keep it to yourself, and send the .pub file")
    if len(text) > MAX_LINE_CHARS:
        raise PublicKeyError(f"a public key has at most {MAX_LINE_CHARS} characters")
    line = text.removesuffix("\n").removesuffix("\r").strip(" ")
    word, _, rest = line.partition(" ")
    encoded, _, comment = rest.lstrip(" ").partition(" ")
    comment = comment.strip(" ")
    if not line.isprintable() or len(comment) > MAX_COMMENT_CHARS:
        raise PublicKeyError(f"a public key is one line; its comment has at most {MAX_COMMENT_CHARS} characters")
    read = _READERS.get(word)
    if read is None:
        known = ", ".join(_READERS)
        if _WORD.fullmatch(word) and "-cert-" in word:
            raise PublicKeyError("certificates are not served; send the key itself")
        raise PublicKeyError(f"the line must begin with the key's type, without options; known are {known}")
    blob = _decoded(encoded)
    fields = _Fields(blob)
    if fields.text() != word:
        raise PublicKeyError("the key's data is of another type than its first word says")
    read(word, fields)
    if fields.left:
        raise PublicKeyError("the key's data goes on where it should end")
    return PublicKey(word, blob, comment)


def _decoded(encoded: str) -> bytes:
    if _BLOB.fullmatch(encoded) is None:
        raise PublicKeyError("the key's second word is not base64")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise PublicKeyError("the key's second word is not base64") from None
    if base64.b64encode(blob).decode("ascii") != encoded:  # other texts for the same key: two readings of one line
        raise PublicKeyError("the key's second word is not base64 as ssh-keygen writes it")
    return blob


class _Fields:
    """The fields of a blob: each a length of four bytes and so many more (RFC 4251 5)."""

    def __init__(self, blob: bytes) -> None:
        self._blob, self._at = blob, 0

    @property
    def left(self) -> bool:
        return self._at < len(self._blob)

    def next(self) -> bytes:
        start = self._at + _LENGTH_BYTES
        end = start + int.from_bytes(self._blob[self._at : start], "big")
        if start > len(self._blob) or end > len(self._blob):
            raise PublicKeyError("the key's data is cut off")
        self._at = end
        return self._blob[start:end]

    def text(self) -> str:
        try:
            return self.next().decode("ascii")
        except UnicodeDecodeError:
            raise PublicKeyError("the key's data holds a name that is not ASCII") from None

    def number(self) -> int:
        """A positive number, as short as it can be written."""
        raw = self.next()
        negative = bool(raw) and raw[0] & _SIGN_BIT
        padded = len(raw) > 1 and raw[0] == 0 and not raw[1] & _SIGN_BIT
        if not raw or negative or padded or raw == b"\0":
            raise PublicKeyError("the key's data holds a number that is not written as it should be")
        return int.from_bytes(raw, "big")


def _ed25519(_: str, fields: _Fields) -> None:
    if len(fields.next()) != _ED25519_BYTES:
        raise PublicKeyError(f"an Ed25519 key has {_ED25519_BYTES} bytes")


def _rsa(_: str, fields: _Fields) -> None:
    exponent, modulus = fields.number(), fields.number()
    if exponent < _LEAST_EXPONENT or exponent % 2 == 0 or exponent.bit_length() > _MAX_EXPONENT_BITS:
        raise PublicKeyError("the RSA key's exponent is not one that keys have")
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS or modulus % 2 == 0:
        raise PublicKeyError(f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")


def _ecdsa(word: str, fields: _Fields) -> None:
    curve = fields.text()
    if curve not in _POINT_BYTES or not word.partition("@")[0].endswith(f"-{curve}"):
        raise PublicKeyError("the key's curve is another than its type says")
    point = fields.next()
    if len(point) != _POINT_BYTES[curve] or point[0] != _UNCOMPRESSED:
        raise PublicKeyError("the key's point is not one of its curve")


def _hardware(of: Callable[[str, _Fields], None]) -> Callable[[str, _Fields], None]:
    """Read a key that lives in a security key: a key, and the application that it is for."""

    def read(word: str, fields: _Fields) -> None:
        of(word, fields)
        if _APPLICATION.fullmatch(fields.text()) is None:
            raise PublicKeyError("a security key's application begins with ssh:")

    return read


_READERS: Final[Mapping[str, Callable[[str, _Fields], None]]] = MappingProxyType(
    {
        "ssh-ed25519": _ed25519,
        "ecdsa-sha2-nistp256": _ecdsa,
        "ecdsa-sha2-nistp384": _ecdsa,
        "ecdsa-sha2-nistp521": _ecdsa,
        "ssh-rsa": _rsa,
        "sk-ssh-ed25519@openssh.com": _hardware(_ed25519),
        "sk-ecdsa-sha2-nistp256@openssh.com": _hardware(_ecdsa),
    }
)
