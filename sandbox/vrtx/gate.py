"""Who may pass at VRTX: a token of an account, from an allowed address, within both rate windows of the account.

Errors are `{"error": {"code", "message"}}`. Every answer to a known account carries the sustained window's
`X-RateLimit-*`; a 429 those of the window that is full, with `Retry-After`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.timeline import MS, real_ms
from sandbox.shared_vendor.tokens import bearer
from sandbox.shared_vendor.transport import ACCOUNT
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.shared_vendor.limiter import Standing
    from sandbox.vrtx.vendor import Vrtx

_CODES = {
    401: "INVALID_TOKEN",
    402: "OVERDUE_INVOICE",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMIT_EXCEEDED",
}


def wording(refused: RefusedError) -> dict[str, Any]:
    """The body of an error."""
    code = refused.code or _CODES.get(refused.status, "SERVER_ERROR" if refused.status >= 500 else "ERROR")
    return {"error": {"code": code, "message": refused.message}}


class VrtxGate:
    """The gate of one vendor."""

    invalid_status = 422
    invalid_code: str | None = "VALIDATION_ERROR"

    def __init__(self, vendor: Vrtx) -> None:
        self._vendor = vendor
        self._sustained = vendor.limit(vendor.config.sustained_per_min, 60)
        self._burst = vendor.limit(vendor.config.burst_per_10s, 10)

    def admit(self, request: web.Request, *, is_open: bool) -> None:
        """Find the account, check the address, count the request."""
        if is_open:
            return
        token = bearer(request.headers.get("Authorization"))
        if token is None:
            raise RefusedError(401, "Missing or invalid Authorization header.", code="UNAUTHENTICATED")
        account = self._vendor.account_by_token(token)
        if account is None:
            raise self.unauthorized()
        if account.ip_allowlist and request.remote not in account.ip_allowlist:
            raise RefusedError(403, "Request IP is not on your API whitelist.", code="IP_NOT_ALLOWED")
        request[ACCOUNT] = account.name
        for limit in (self._sustained, self._burst):
            standing = limit.look(account.name)
            if standing.refused:
                raise self._refusal(standing.limit, standing.resets_in_s)
        for limit in (self._sustained, self._burst):
            limit.count(account.name)

    def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell where the account stands, unless a refusal already does."""
        account = request.get(ACCOUNT)
        if account is not None and "X-RateLimit-Limit" not in response.headers:
            response.headers.update(self._headers(self._sustained.look(account)))

    def unauthorized(self) -> RefusedError:
        """401."""
        return RefusedError(401, "API token does not match any account.", code="INVALID_TOKEN")

    def limited(self, retry_after_s: int) -> RefusedError:
        """429."""
        return self._refusal(self._vendor.config.sustained_per_min, retry_after_s)

    def _refusal(self, limit: int, retry_after_s: int) -> RefusedError:
        return RefusedError(
            429,
            f"Too many requests. Retry after {retry_after_s} seconds.",
            code="RATE_LIMIT_EXCEEDED",
            headers={
                "X-RateLimit-Limit": str(limit),
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(self._reset(retry_after_s)),
                "Retry-After": str(retry_after_s),
            },
        )

    def _headers(self, standing: Standing) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(standing.limit),
            "X-RateLimit-Remaining": str(standing.remaining),
            "X-RateLimit-Reset": str(self._reset(standing.resets_in_s)),
        }

    def _reset(self, in_s: int) -> int:
        return self._vendor.shown_ms(real_ms()) // MS + in_s
