"""Who may pass at LiteVPS: a JWT or a vtk_ token; 10 a minute and address on login and register.

Every answer to an authenticated request carries `X-Balance-Remaining`, refusals included. Errors are `{"error": text}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.litevps.views import number
from sandbox.shared_vendor.tokens import TokenError, bearer
from sandbox.shared_vendor.transport import ACCOUNT, route_name
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.litevps.vendor import LiteVps

TOKEN_ID = "token_id"
"""Where a request keeps the id of the vtk_ token that it came with."""


def wording(refused: RefusedError) -> dict[str, Any]:
    """The body of an error."""
    return {"error": refused.message, **refused.extra}


class LiteGate:
    """The gate of one vendor."""

    invalid_status = 400
    invalid_code: str | None = None

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor
        config = vendor.config
        self._by_address = {name: vendor.limit(config.login_per_min, 60) for name in ("login", "register")}
        self._rest = vendor.limit(config.rest_per_min, 60)

    def admit(self, request: web.Request, *, is_open: bool) -> None:
        """Count the request and find its account."""
        limit = self._by_address.get(route_name(request))
        if limit is not None and limit.admit(request.remote or "").refused:
            raise self.limited(0)
        if is_open:
            return
        token = bearer(request.headers.get("Authorization"))
        if token is None:
            raise RefusedError(401, "missing authorization")
        request[ACCOUNT] = self._account_of(request, token)
        if self._rest.admit(request[ACCOUNT]).refused:
            raise self.limited(0)

    def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell the balance to whoever is known."""
        account = self._vendor.accounts.get(request.get(ACCOUNT, ""))
        if account is not None:
            response.headers["X-Balance-Remaining"] = str(number(self._vendor, account.purse.balance))

    def unauthorized(self) -> RefusedError:
        """401."""
        return RefusedError(401, "invalid or expired token")

    def limited(self, retry_after_s: int) -> RefusedError:  # noqa: ARG002 -- the document names no Retry-After
        """429."""
        return RefusedError(429, "rate limit exceeded")

    def _account_of(self, request: web.Request, token: str) -> str:
        if token.startswith("vtk_"):
            for account in self._vendor.accounts.values():
                for entry in account.tokens.values():
                    if entry.text == token:
                        request[TOKEN_ID] = entry.id
                        return account.id
            raise self.unauthorized()
        try:
            return self._vendor.logins.account_of(token)
        except TokenError as error:
            raise self.unauthorized() from error
