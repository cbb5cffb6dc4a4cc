"""VRTX's admin API, over the common one (`shared_vendor.admin`).

- POST /admin/accounts/{name} {tokens, ip_allowlist, webhooks}   replaces what is named: the console
- GET  /admin/invoices                                           all invoices
- POST /admin/invoices {account, amount, due_in_s}               a bill by hand; due_in_s 0 or less: overdue now
- POST /admin/invoices/{id} {"paid": true}                       pays it; suspended servers come back
- POST /admin/servers/{uuid} {suspend, backups}                  suspends it; sets what its backups route lists
- POST /admin/webhooks/{event_id}                                sends an event again -> {endpoints}
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.shared_vendor.admin import admin_app
from sandbox.shared_vendor.config import money, only_keys
from sandbox.shared_vendor.timeline import MS

if TYPE_CHECKING:
    from sandbox.vrtx.vendor import Vrtx


class Admin:
    """Handlers over one vendor."""

    def __init__(self, vendor: Vrtx) -> None:
        self._vendor = vendor

    async def set_account(self, request: web.Request) -> web.Response:
        """What the console does."""
        raw = await request.json()
        only_keys("account", raw, {"tokens", "ip_allowlist", "webhooks"})
        account = self._vendor.accounts[request.match_info["name"]]
        for hook in raw.get("webhooks", []):
            only_keys("webhooks", hook, {"url", "secret"}, {"url", "secret"})
        for name, value in raw.items():
            setattr(account, name, list(value))
        return web.json_response(account.as_json())

    async def invoices(self, _request: web.Request) -> web.Response:
        """All invoices."""
        now = self._vendor.timeline.now_ms()
        return web.json_response([invoice.as_json(now) for invoice in self._vendor.billing.invoices.values()])

    async def add_invoice(self, request: web.Request) -> web.Response:
        """A bill by hand."""
        raw = await request.json()
        only_keys("invoice", raw, {"account", "amount", "due_in_s"}, {"account", "amount"})
        now = self._vendor.timeline.now_ms()
        account = self._vendor.accounts[raw["account"]].name
        due_ms = now + round(raw.get("due_in_s", 0) * MS)
        invoice = self._vendor.billing.issue(account, money(raw["amount"]), due_ms, [])
        return web.json_response(invoice.as_json(now))

    async def pay_invoice(self, request: web.Request) -> web.Response:
        """Pay a bill."""
        raw = await request.json()
        only_keys("invoice", raw, {"paid"}, {"paid"})
        if raw["paid"] is not True:
            raise ValueError("paid: only true")
        invoice = self._vendor.billing.invoices[request.match_info["id"]]
        self._vendor.billing.pay(invoice)
        return web.json_response(invoice.as_json(self._vendor.timeline.now_ms()))

    async def server(self, request: web.Request) -> web.Response:
        """Suspend a server, or set its backups."""
        raw = await request.json()
        only_keys("server", raw, {"suspend", "backups"})
        server = self._vendor.servers[request.match_info["uuid"]]
        if raw.get("suspend"):
            self._vendor.suspend(server)
        if "backups" in raw:
            server.backups = list(raw["backups"])
        return web.json_response(server.as_json())

    async def replay(self, request: web.Request) -> web.Response:
        """Send an event again."""
        sent = self._vendor.webhooks.replay(request.match_info["event_id"])
        self._vendor.timeline.play()
        return web.json_response({"endpoints": sent})


def admin(vendor: Vrtx) -> web.Application:
    """The application on the admin port."""
    on = Admin(vendor)
    extra = (
        ("POST", "/admin/accounts/{name}", on.set_account),
        ("GET", "/admin/invoices", on.invoices),
        ("POST", "/admin/invoices", on.add_invoice),
        ("POST", "/admin/invoices/{id}", on.pay_invoice),
        ("POST", "/admin/servers/{uuid}", on.server),
        ("POST", "/admin/webhooks/{event_id}", on.replay),
    )
    return admin_app(vendor, vendor, extra)
