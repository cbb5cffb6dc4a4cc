"""Short-lived tokens of ours for one vendor: what an agent gets where the vendor's own scripts log in first.

Must not know headers, the store or a clock.  Theory: a token is a name and a date under our seal, and no right of its own:
each use looks up the API key that it names, so whatever becomes of the key becomes of the token, and nothing is stored.

The text is `gwv_` and base64url without padding of: version (1 byte), expiry (8 bytes, ms), length of the key's id (1 byte),
the id, the e-mail address, HMAC-SHA256 (32 bytes) over all of that and the vendor's name.
"""

import base64
import binascii
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from wallets.secret import Secret

PREFIX: Final = "gwv_"
MAX_LIVES_S: Final = 86_400
MAX_EMAIL_CHARS: Final = 254
MAX_CHARS: Final = 512

_VERSION: Final = b"\x01"
_PURPOSE: Final = b"gateway-vendor-token\x00"
_MAC_BYTES: Final = 32
_HEAD_BYTES: Final = 10  # version, expiry, length of the key's id
_MIN_KEY_BYTES: Final = 32
_MAX_TIME_MS: Final = 2**63 - 1

_TEXT: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{1,{MAX_CHARS - len(PREFIX)}}}", re.ASCII)
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_VENDOR: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says: whose key it stands for, and under which address its agent logged in ("" for none)."""

    key_id: str
    email: str = field(repr=False)
    expires_at_ms: int


def is_email(text: str) -> bool:
    """Say whether a text is an e-mail address as HTML forms take them: ASCII, at most 254 characters."""
    return len(text) <= MAX_EMAIL_CHARS and _EMAIL.fullmatch(text) is not None


class VendorTokens:
    """Makes and reads them under one key of ours (32 bytes or more, for this purpose alone)."""

    __slots__ = ("_key",)

    def __init__(self, key: Secret[bytes]) -> None:
        if len(key.reveal()) < _MIN_KEY_BYTES:
            raise ValueError(f"vendor tokens need a key of at least {_MIN_KEY_BYTES} bytes")
        self._key = key

    def make(self, key_id: str, vendor: str, email: str, issued_ms: int, lives_s: int) -> str:
        """Return a token that is good at this vendor alone, for `lives_s` seconds from `issued_ms`.

        Raises ValueError for what would not be read back, and for a life of more than MAX_LIVES_S.
        """
        if _KEY_ID.fullmatch(key_id) is None or _VENDOR.fullmatch(vendor) is None:
            raise ValueError("a vendor token names an API key's id and a vendor")
        if email and not is_email(email):
            raise ValueError("this is no e-mail address")
        expires_at_ms = issued_ms + lives_s * 1000
        if not 1 <= lives_s <= MAX_LIVES_S or not 0 <= issued_ms <= expires_at_ms <= _MAX_TIME_MS:
            raise ValueError(f"a vendor token lives for 1 to {MAX_LIVES_S} seconds")
        head = _VERSION + expires_at_ms.to_bytes(8, "big") + len(key_id).to_bytes(1, "big")
        said = head + key_id.encode("ascii") + email.encode("ascii")
        return PREFIX + _encode(said + self._mac(vendor, said))

    def read(self, text: str, vendor: str, now_ms: int) -> Claims | None:
        """Return what a token says; None unless it is ours, whole, for this vendor, and alive by our clock."""
        if _TEXT.fullmatch(text) is None:
            return None
        try:
            raw = base64.b64decode(text[len(PREFIX) :] + "==", altchars=b"-_")
        except binascii.Error:
            return None
        if PREFIX + _encode(raw) != text:  # one token has one spelling
            return None
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(vendor, said)):
            return None
        expires_at_ms = int.from_bytes(said[1:9], "big")
        if said[:1] != _VERSION or expires_at_ms <= now_ms:
            return None
        end = _HEAD_BYTES + said[9]
        return Claims(said[_HEAD_BYTES:end].decode("ascii"), said[end:].decode("ascii"), expires_at_ms)

    def _mac(self, vendor: str, said: bytes) -> bytes:
        name = vendor.encode("utf-8")
        return hmac.digest(self._key.reveal(), _PURPOSE + len(name).to_bytes(4, "big") + name + said, "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
