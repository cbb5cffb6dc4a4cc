"""CryptoVPS's admin API, over the common one (`shared_vendor.admin`).

- POST /admin/accounts {email, password, balance}     an account made by hand -> {id}
- POST /admin/accounts/{email} {suspended}            suspends the account (deploys answer 403), or lifts it
- POST /admin/balance {email, add | set}              a deposit, or a balance outright; what was suspended comes back
- POST /admin/servers/{id} {abuse}                    an abuse hold on a server (SUSPENDED), or its end
- POST /admin/tokens {"expire": true}                 ends every token now -> {ended}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.shared_vendor.admin import admin_app
from sandbox.shared_vendor.config import money, only_keys
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.cryptovps.records import Account
    from sandbox.cryptovps.vendor import CryptoVps


class Admin:
    """Handlers over one vendor."""

    def __init__(self, vendor: CryptoVps) -> None:
        self._vendor = vendor

    async def add_account(self, request: web.Request) -> web.Response:
        """An account made by hand."""
        raw = await request.json()
        only_keys("account", raw, {"email", "password", "balance"}, {"email", "password"})
        try:
            account = self._vendor.register(raw["email"], raw["password"], money(raw.get("balance", "0")))
        except RefusedError as refused:
            raise ValueError(refused.message) from refused
        return web.json_response({"id": account.id})

    async def set_account(self, request: web.Request) -> web.Response:
        """Suspend or lift."""
        raw = await request.json()
        only_keys("account", raw, {"suspended"}, {"suspended"})
        account = self._account(request.match_info["email"])
        account.suspended = bool(raw["suspended"])
        return web.json_response(account.as_json())

    async def balance(self, request: web.Request) -> web.Response:
        """Deposit, or set outright."""
        raw = await request.json()
        only_keys("balance", raw, {"email", "add", "set"}, {"email"})
        account, now = self._account(raw["email"]), self._vendor.timeline.now_ms()
        if "add" in raw:
            account.purse.post("deposit", money(raw["add"]), at_ms=now)
        if "set" in raw:
            account.purse.set_to(money(raw["set"]), at_ms=now)
        self._vendor.resume(account, "balance")
        return web.json_response({"balance": str(account.purse.balance)})

    async def server(self, request: web.Request) -> web.Response:
        """Begin or end an abuse hold."""
        raw = await request.json()
        only_keys("server", raw, {"abuse"}, {"abuse"})
        server = self._vendor.servers[request.match_info["id"]]
        if raw["abuse"]:
            self._vendor.suspend(server, "abuse")
        else:
            self._vendor.resume(self._vendor.accounts[server.account_id], "abuse")
        return web.json_response(server.as_json())

    async def tokens(self, _request: web.Request) -> web.Response:
        """End every token."""
        return web.json_response({"ended": self._vendor.tokens.expire_all()})

    def _account(self, email: str) -> Account:
        account = self._vendor.account_by_email(email)
        if account is None:
            raise ValueError(f"no such account: {email}")
        return account


def admin(vendor: CryptoVps) -> web.Application:
    """The application on the admin port."""
    on = Admin(vendor)
    extra = (
        ("POST", "/admin/accounts", on.add_account),
        ("POST", "/admin/accounts/{email}", on.set_account),
        ("POST", "/admin/balance", on.balance),
        ("POST", "/admin/servers/{id}", on.server),
        ("POST", "/admin/tokens", on.tokens),
    )
    return admin_app(vendor, vendor, extra)
