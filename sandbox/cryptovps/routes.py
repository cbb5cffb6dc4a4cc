"""CryptoVPS's public routes, as its document has them: schemas and status codes. What they do is in `vendor`."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.cryptovps import catalog
from sandbox.cryptovps.guide import GUIDE
from sandbox.cryptovps.views import account_view, amount, backup_view, server_view
from sandbox.shared_vendor.body import EMAIL, Body
from sandbox.shared_vendor.config import money
from sandbox.shared_vendor.shell import Route
from sandbox.shared_vendor.transport import ACCOUNT, route_name
from sandbox.shared_vendor.wire import RefusedError, answer, plain

if TYPE_CHECKING:
    from sandbox.cryptovps.records import Account
    from sandbox.cryptovps.vendor import CryptoVps

LABEL = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
LABEL_LENGTH = 64
BULK_LIMIT = 10


class Handlers:
    """Handlers over one vendor."""

    def __init__(self, vendor: CryptoVps) -> None:
        self._vendor = vendor

    async def register(self, request: web.Request) -> web.Response:
        """POST /auth/register."""
        email, password = await self._credentials(request)
        account = self._vendor.register(email, password, money(self._vendor.config.signup_balance))
        return self._session(account, 201)

    async def login(self, request: web.Request) -> web.Response:
        """POST /auth/login."""
        email, password = await self._credentials(request)
        account = self._vendor.account_by_email(email)
        known = account.password if account else secrets.token_hex(8)
        if account is None or not secrets.compare_digest(known.encode(), password.encode()):
            raise RefusedError(401, "invalid email or password")
        return self._session(account, 200)

    async def me(self, request: web.Request) -> web.Response:
        """GET /auth/me."""
        return answer({"user": account_view(self._account(request))})

    async def billing(self, request: web.Request) -> web.Response:
        """GET /billing."""
        account = self._account(request)
        spend = self._vendor.hourly_spend(account.id)
        return answer({"balance": amount(account.purse.balance), "hourlySpend": plain(spend)})

    async def list(self, request: web.Request) -> web.Response:
        """GET /servers."""
        return self._servers(request, 200, self._vendor.listed(self._account(request).id))

    async def get(self, request: web.Request) -> web.Response:
        """GET /servers/:id."""
        server = self._vendor.owned(self._account(request).id, request.match_info["id"])
        return answer({"server": server_view(self._vendor, server, route_name(request))})

    async def create(self, request: web.Request) -> web.Response:
        """POST /servers."""
        body = await Body.read(request)
        label = body.text("label", pattern=LABEL, high=LABEL_LENGTH)
        plan, region = self._where(body)
        body.done()
        (server,) = self._vendor.deploy(self._account(request), [label], plan, region)
        return answer({"server": server_view(self._vendor, server, route_name(request))}, 202)

    async def bulk(self, request: web.Request) -> web.Response:
        """POST /servers/bulk."""
        body = await Body.read(request)
        label = body.text("label", pattern=LABEL, high=LABEL_LENGTH)
        count = body.integer("count", low=1, high=BULK_LIMIT)
        if len(f"{label}-{count}") > LABEL_LENGTH:
            body.wrong("label", "is too long with its suffix")
        plan, region = self._where(body)
        body.done()
        fault = self._vendor.faults.take("partial_bulk")
        made = count if fault is None else min(count, fault["made"])
        labels = [f"{label}-{number}" for number in range(1, made + 1)]
        return self._servers(request, 202, self._vendor.deploy(self._account(request), labels, plan, region))

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /servers/:id."""
        self._vendor.destroy(self._vendor.owned(self._account(request).id, request.match_info["id"]))
        return answer({"ok": True}, 202)

    async def backups(self, request: web.Request) -> web.Response:
        """GET /backups."""
        found = self._vendor.backups.of(self._account(request).id)
        return answer({"backups": [backup_view(self._vendor, backup) for backup in found]})

    async def backup(self, request: web.Request) -> web.Response:
        """POST /backups."""
        body = await Body.read(request)
        server_id = body.text("serverId")
        body.done()
        server = self._vendor.owned(self._account(request).id, server_id)
        return answer({"backup": backup_view(self._vendor, self._vendor.backups.take(server))}, 202)

    async def restore(self, request: web.Request) -> web.Response:
        """POST /backups/:id/restore."""
        account = self._account(request)
        backup = self._vendor.backups.owned(account.id, request.match_info["id"])
        server = self._vendor.backups.restore(account, backup)
        return answer({"server": server_view(self._vendor, server, route_name(request))}, 202)

    async def delete_backup(self, request: web.Request) -> web.Response:
        """DELETE /backups/:id."""
        account_id = self._account(request).id
        self._vendor.backups.delete(self._vendor.backups.owned(account_id, request.match_info["id"]))
        return answer({"ok": True}, 202)

    async def guide(self, _request: web.Request) -> web.Response:
        """GET /llms.txt."""
        return web.Response(text=GUIDE.format(origin=self._vendor.origin))

    async def page(self, request: web.Request) -> web.Response:
        """The human pages that the document names."""
        return web.Response(text=f"<h1>CryptoVPS {request.path}</h1>", content_type="text/html")

    def _account(self, request: web.Request) -> Account:
        return self._vendor.accounts[request[ACCOUNT]]

    def _session(self, account: Account, status: int) -> web.Response:
        return answer({"accessToken": self._vendor.tokens.issue(account.id), "user": account_view(account)}, status)

    def _servers(self, request: web.Request, status: int, servers: Any) -> web.Response:
        route = route_name(request)
        return answer({"servers": [server_view(self._vendor, server, route) for server in servers]}, status)

    def _where(self, body: Body) -> tuple[str, str]:
        plan, region = body.text("planId"), body.text("regionId")
        if plan and plan not in self._vendor.plans:
            body.wrong("planId", "unknown plan")
        if region and region not in catalog.REGIONS:
            body.wrong("regionId", "unknown region")
        return plan, region

    @staticmethod
    async def _credentials(request: web.Request) -> tuple[str, str]:
        body = await Body.read(request)
        email, password = body.text("email", pattern=EMAIL), body.text("password", low=8)
        body.done()
        return email, password


def routes(vendor: CryptoVps) -> list[Route]:
    """The document's routes."""
    on = Handlers(vendor)
    return [
        Route("POST", "/auth/register", "register", on.register, open=True),
        Route("POST", "/auth/login", "login", on.login, open=True),
        Route("GET", "/auth/me", "me", on.me),
        Route("GET", "/billing", "billing", on.billing),
        Route("GET", "/servers", "list", on.list),
        Route("POST", "/servers", "create", on.create),
        Route("POST", "/servers/bulk", "bulk", on.bulk),
        Route("GET", "/servers/{id}", "get", on.get),
        Route("DELETE", "/servers/{id}", "delete", on.delete),
        Route("GET", "/backups", "backups", on.backups),
        Route("POST", "/backups", "backup", on.backup),
        Route("POST", "/backups/{id}/restore", "restore", on.restore),
        Route("DELETE", "/backups/{id}", "delete_backup", on.delete_backup),
        Route("GET", "/llms.txt", "guide", on.guide, open=True),
        Route("GET", "/docs", "docs", on.page, open=True),
        Route("GET", "/docs/custom-requests", "custom_requests", on.page, open=True),
    ]
