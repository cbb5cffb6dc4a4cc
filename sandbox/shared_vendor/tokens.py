"""Login tokens: signed JWTs (HS256) that end on the business clock, and can end earlier than they say.

The `token` fault shortens the next token's life without changing its `exp`. A token is valid because it is in the
table; the signature is there so that clients that decode it find what they expect.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.faults import Kind
from sandbox.shared_vendor.timeline import MS

if TYPE_CHECKING:
    from sandbox.shared_vendor.faults import Faults
    from sandbox.shared_vendor.timeline import Timeline

TOKEN = {"token": Kind({"after_s": 1})}


class TokenError(Exception):
    """The token is not one of ours, or its time is over (`expired`)."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__("token expired" if expired else "invalid token")
        self.expired = expired


@dataclass(slots=True)
class _Issued:
    account_id: str
    ends_at_ms: int


class Tokens:
    """Issues and checks the tokens of one vendor; each lives `ttl_s`."""

    def __init__(self, timeline: Timeline, faults: Faults, ttl_s: int) -> None:
        self._timeline = timeline
        self._faults = faults
        self._ttl_s = ttl_s
        self._secret = secrets.token_bytes(32)
        self._issued: dict[str, _Issued] = {}

    def issue(self, account_id: str) -> str:
        """A new token for an account; earlier ones stay good until they end."""
        now_s = self._timeline.now_ms() // MS
        claims = {"sub": account_id, "iat": now_s, "exp": now_s + self._ttl_s, "jti": secrets.token_hex(8)}
        signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        text = f"{signed}.{_b64(hmac.new(self._secret, signed.encode(), hashlib.sha256).digest())}"
        fault = self._faults.take("token")
        life_s = self._ttl_s if fault is None else fault["after_s"]
        self._issued[text] = _Issued(account_id, self._timeline.now_ms() + round(life_s * MS))
        return text

    def account_of(self, text: str) -> str:
        """The account that a token speaks for; raises TokenError."""
        issued = self._issued.get(text)
        if issued is None:
            raise TokenError(expired=False)
        if self._timeline.now_ms() >= issued.ends_at_ms:
            raise TokenError(expired=True)
        return issued.account_id

    def expire_all(self) -> int:
        """End every token now and return how many were still good."""
        now, ended = self._timeline.now_ms(), 0
        for issued in self._issued.values():
            if issued.ends_at_ms > now:
                issued.ends_at_ms, ended = now, ended + 1
        return ended

    def forget(self) -> None:
        """Know no token any more."""
        self._issued.clear()


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header; None when there is none or it is of another scheme."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _part(claims: dict[str, Any]) -> str:
    return _b64(json.dumps(claims, separators=(",", ":")).encode())


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
