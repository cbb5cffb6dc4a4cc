"""LiteVPS's admin API, over the common one (`shared_vendor.admin`).

- POST /admin/accounts {email, password, balance}     an account, as the portal makes it -> {id}
- POST /admin/balance {email, add | set}              a top-up, or a balance outright
- POST /admin/checkouts/{id}                          the human pays that checkout
- POST /admin/commands {command: {stdout, stderr, exit_code, duration_s}}   scripts exact command lines
- POST /admin/tokens {"expire": true}                 ends every JWT now -> {ended}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.litevps.guest_shell import Result
from sandbox.shared_vendor.admin import admin_app
from sandbox.shared_vendor.config import money, only_keys
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.litevps.vendor import LiteVps


class Admin:
    """Handlers over one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
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

    async def balance(self, request: web.Request) -> web.Response:
        """Top up, or set outright."""
        raw = await request.json()
        only_keys("balance", raw, {"email", "add", "set"}, {"email"})
        account, now = self._vendor.account_by_email(raw["email"]), self._vendor.timeline.now_ms()
        if account is None:
            raise ValueError(f"no such account: {raw['email']}")
        if "add" in raw:
            account.purse.post("topup", money(raw["add"]), at_ms=now)
        if "set" in raw:
            account.purse.set_to(money(raw["set"]), at_ms=now)
        return web.json_response({"balance": str(account.purse.balance)})

    async def checkout(self, request: web.Request) -> web.Response:
        """The human pays."""
        number = request.match_info["id"]
        for account in self._vendor.accounts.values():
            amount = account.checkouts.pop(number, None)
            if amount is not None:
                account.purse.post("topup", amount, at_ms=self._vendor.timeline.now_ms(), note=number)
                return web.json_response({"balance": str(account.purse.balance)})
        raise ValueError(f"no such checkout: {number}")

    async def commands(self, request: web.Request) -> web.Response:
        """Script command lines."""
        scripts = {text: Result(**script) for text, script in (await request.json()).items()}
        self._vendor.shell.scripts.update(scripts)
        return web.json_response({})

    async def tokens(self, _request: web.Request) -> web.Response:
        """End every JWT."""
        return web.json_response({"ended": self._vendor.logins.expire_all()})


def admin(vendor: LiteVps) -> web.Application:
    """The application on the admin port."""
    on = Admin(vendor)
    extra = (
        ("POST", "/admin/accounts", on.add_account),
        ("POST", "/admin/balance", on.balance),
        ("POST", "/admin/checkouts/{id}", on.checkout),
        ("POST", "/admin/commands", on.commands),
        ("POST", "/admin/tokens", on.tokens),
    )
    return admin_app(vendor, vendor, extra)
