"""A login as CryptoVPS documents it, for what tests of sessions ask: the plan alone, without its vendor's module."""

import base64
import json
from dataclasses import dataclass

from gateway.core.login import AccessToken, Credentials
from gateway.http.port import UpstreamRequest, UpstreamResponse
from wallets.secret import Secret

__all__ = ["EMAIL", "PASSWORD", "JsonLogin"]

EMAIL, PASSWORD = "agent@example.com", "min-8-chars"


@dataclass(frozen=True)
class JsonLogin:
    """POST /auth/login with e-mail and password; the span of a token is its JWT's `exp` less `iat`, where it is one."""

    lives_s: int = 900
    refresh_after_s: int = 720

    def request(self, credentials: Credentials) -> UpstreamRequest:
        """Return the request that logs in."""
        body = json.dumps({"email": credentials.login, "password": credentials.secret.reveal()}).encode()
        return UpstreamRequest("POST", "/auth/login", (("Content-Type", "application/json"),), body)

    def read(self, answer: UpstreamResponse) -> AccessToken | None:
        """Return the token, None if there is none."""
        try:
            text = json.loads(answer.body)["accessToken"]
        except (ValueError, KeyError, TypeError):
            return None
        return AccessToken(Secret(text), _span_s(text)) if isinstance(text, str) else None


def _span_s(text: str) -> int | None:
    try:
        part = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return int(claims["exp"]) - int(claims["iat"])
    except (ValueError, KeyError, TypeError, IndexError):
        return None
