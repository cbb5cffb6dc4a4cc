"""LiteVPS's routes of an account: profile, SSH keys, billing, access tokens, templates."""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.litevps.views import entry_view, key_view, number, token_view
from sandbox.shared_vendor.body import EMAIL, Body, InvalidBodyError
from sandbox.shared_vendor.shell import Route
from sandbox.shared_vendor.transport import ACCOUNT
from sandbox.shared_vendor.wire import RefusedError, answer

if TYPE_CHECKING:
    from sandbox.litevps.records import Account
    from sandbox.litevps.vendor import LiteVps

MIN_TOPUP, MAX_TOPUP = Decimal(5), Decimal(50)
KEY_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


class Handlers:
    """Handlers over one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor

    async def me(self, request: web.Request) -> web.Response:
        """GET /api/me."""
        account = self._account(request)
        balance = number(self._vendor, account.purse.balance)
        return answer({"id": account.id, "email": account.email, "balance": balance})

    async def keys(self, request: web.Request) -> web.Response:
        """GET /api/keys."""
        return answer([key_view(self._vendor, key) for key in self._account(request).keys.values()])

    async def add_key(self, request: web.Request) -> web.Response:
        """POST /api/keys."""
        body = await Body.read(request)
        name, public_key = body.text("name"), body.text("public_key", high=16_384)
        if public_key and not _is_key(public_key):
            body.wrong("public_key", "is not an SSH public key")
        body.done()
        return answer(key_view(self._vendor, self._vendor.add_key(self._account(request), name, public_key)), 201)

    async def delete_key(self, request: web.Request) -> web.Response:
        """DELETE /api/keys/:id."""
        return _dropped(self._account(request).keys.pop(request.match_info["id"], None), "key not found")

    async def balance(self, request: web.Request) -> web.Response:
        """GET /api/billing/balance."""
        return answer({"balance": number(self._vendor, self._account(request).purse.balance)})

    async def add_funds(self, request: web.Request) -> web.Response:
        """POST /api/billing/add-funds: a page for a human; the admin API stands in for the human."""
        body = await Body.read(request)
        amount = body.amount("amount", low=MIN_TOPUP, high=MAX_TOPUP)
        body.done()
        checkout = f"cs_test_{secrets.token_hex(16)}"
        self._account(request).checkouts[checkout] = amount
        return answer({"url": self._vendor.config.checkout_url + checkout})

    async def history(self, request: web.Request) -> web.Response:
        """GET /api/billing/history, newest first."""
        limit, offset = _count(request, "limit", 20), _count(request, "offset", 0)
        entries = list(reversed(self._account(request).purse.entries))
        page = [entry_view(self._vendor, entry) for entry in entries[offset : offset + limit]]
        return answer({"transactions": page, "total": len(entries), "limit": limit, "offset": offset})

    async def notify_emails(self, request: web.Request) -> web.Response:
        """GET /api/billing/notify-emails."""
        return answer([{"id": key, "email": email} for key, email in self._account(request).notify.items()])

    async def add_notify_email(self, request: web.Request) -> web.Response:
        """POST /api/billing/notify-emails."""
        body = await Body.read(request)
        email = body.text("email", pattern=EMAIL)
        body.done()
        key = str(uuid.uuid4())
        self._account(request).notify[key] = email
        return answer({"id": key, "email": email}, 201)

    async def delete_notify_email(self, request: web.Request) -> web.Response:
        """DELETE /api/billing/notify-emails/:id."""
        return _dropped(self._account(request).notify.pop(request.match_info["id"], None), "email not found")

    async def tokens(self, request: web.Request) -> web.Response:
        """GET /api/tokens."""
        return answer([token_view(self._vendor, token) for token in self._account(request).tokens.values()])

    async def add_token(self, request: web.Request) -> web.Response:
        """POST /api/tokens: the only answer that shows the token."""
        body = await Body.read(request)
        name, limit = body.text("name"), None
        if body.raw.get("spend_limit") is not None:
            limit = body.amount("spend_limit", low=Decimal("0.0001"), high=Decimal(1_000_000))
        body.done()
        token = self._vendor.issue_token(self._account(request), name, spend_limit=limit)
        return answer({"id": token.id, "name": token.name, "token": token.text}, 201)

    async def delete_token(self, request: web.Request) -> web.Response:
        """DELETE /api/tokens/:id."""
        return _dropped(self._account(request).tokens.pop(request.match_info["id"], None), "token not found")

    async def templates(self, _request: web.Request) -> web.Response:
        """GET /api/templates, most popular first."""
        rows = sorted(self._vendor.templates.values(), key=lambda row: -row.popularity)
        return answer([row.as_json() for row in rows])

    async def template(self, request: web.Request) -> web.Response:
        """GET /api/templates/:slug."""
        row = self._vendor.templates.get(request.match_info["slug"])
        if row is None:
            raise RefusedError(404, "template not found")
        return answer(row.as_json())

    def _account(self, request: web.Request) -> Account:
        return self._vendor.accounts[request[ACCOUNT]]


def account_routes(vendor: LiteVps) -> list[Route]:
    """The account's part of the document."""
    on = Handlers(vendor)
    return [
        Route("GET", "/api/me", "me", on.me),
        Route("GET", "/api/templates", "templates", on.templates),
        Route("GET", "/api/templates/{slug}", "template", on.template),
        Route("GET", "/api/keys", "keys", on.keys),
        Route("POST", "/api/keys", "add_key", on.add_key),
        Route("DELETE", "/api/keys/{id}", "delete_key", on.delete_key),
        Route("GET", "/api/billing/balance", "balance", on.balance),
        Route("POST", "/api/billing/add-funds", "add_funds", on.add_funds),
        Route("GET", "/api/billing/history", "history", on.history),
        Route("GET", "/api/billing/notify-emails", "notify_emails", on.notify_emails),
        Route("POST", "/api/billing/notify-emails", "add_notify_email", on.add_notify_email),
        Route("DELETE", "/api/billing/notify-emails/{id}", "delete_notify_email", on.delete_notify_email),
        Route("GET", "/api/tokens", "tokens", on.tokens),
        Route("POST", "/api/tokens", "add_token", on.add_token),
        Route("DELETE", "/api/tokens/{id}", "delete_token", on.delete_token),
    ]


def _dropped(found: object | None, missing: str) -> web.Response:
    if found is None:
        raise RefusedError(404, missing)
    return web.Response(status=204)


def _count(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise InvalidBodyError([(name, "must be a whole number")])
    return int(text)


def _is_key(text: str) -> bool:
    kind, _, rest = text.partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except binascii.Error:
        return False
    # Its own name stands at the front of the blob, length first.
    return kind in KEY_KINDS and blob[4 : 4 + len(kind)] == kind.encode()
