"""Who may pass at CryptoVPS: 10 a minute and address on /auth/*, 100 a minute and account elsewhere, Bearer tokens.

And how it words a refusal: `{"error": text}`, with `details` where the body was wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.tokens import TokenError, bearer
from sandbox.shared_vendor.transport import ACCOUNT
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.cryptovps.vendor import CryptoVps
    from sandbox.shared_vendor.limiter import Limit


def wording(refused: RefusedError) -> dict[str, Any]:
    """The body of an error."""
    if refused.details is not None:
        return {"error": "validation failed", "details": refused.details}
    return {"error": refused.message, **refused.extra}


class CryptoGate:
    """The gate of one vendor."""

    invalid_status = 400
    invalid_code: str | None = None

    def __init__(self, vendor: CryptoVps) -> None:
        self._vendor = vendor
        self._auth = vendor.limit(vendor.config.auth_per_min, 60)
        self._rest = vendor.limit(vendor.config.rest_per_min, 60)

    def admit(self, request: web.Request, *, is_open: bool) -> None:
        """Count the request and find its account."""
        on_auth = request.path.startswith("/auth/")
        if on_auth:
            self._count(self._auth, request.remote or "")
        if is_open:
            return
        token = bearer(request.headers.get("Authorization"))
        if token is None:
            raise RefusedError(401, "missing access token")
        try:
            account_id = self._vendor.tokens.account_of(token)
        except TokenError as error:
            raise RefusedError(401, str(error)) from error
        request[ACCOUNT] = account_id
        if not on_auth:
            self._count(self._rest, account_id)

    def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """No header of its own is documented."""

    def unauthorized(self) -> RefusedError:
        """401."""
        return RefusedError(401, "token expired")

    def limited(self, retry_after_s: int) -> RefusedError:  # noqa: ARG002 -- the document names no Retry-After
        """429."""
        return RefusedError(429, "rate limited")

    def _count(self, limit: Limit, key: str) -> None:
        standing = limit.admit(key)
        if standing.refused:
            raise self.limited(standing.resets_in_s)
