"""VRTX's public routes, as its document has them: envelopes, pages, status codes. What they do is in `vendor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.shared_vendor.body import HOSTNAME, Body, InvalidBodyError
from sandbox.shared_vendor.shell import Route
from sandbox.shared_vendor.transport import ACCOUNT, route_name
from sandbox.shared_vendor.wire import RefusedError, answer
from sandbox.vrtx import catalog
from sandbox.vrtx.vendor import POWER_ACTIONS, Order
from sandbox.vrtx.views import brief_view, credentials_view, full_view, plan_view, status_view

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.vrtx.records import Server
    from sandbox.vrtx.vendor import Vrtx

BASE = "/api/v2"
PER_PAGE, MOST_PER_PAGE = 25, 100
KEY_LENGTH = 255


class Handlers:
    """Handlers over one vendor."""

    def __init__(self, vendor: Vrtx) -> None:
        self._vendor = vendor

    async def plans(self, request: web.Request) -> web.Response:
        """GET /plans: by monthly price; with location_id, what that location has."""
        location = _whole(request, "location_id", None)
        if location is not None and location not in catalog.LOCATIONS:
            raise InvalidBodyError([("location_id", "unknown location")])
        found = sorted(catalog.PLANS.values(), key=lambda plan: plan.monthly)
        if location is not None:
            found = [plan for plan in found if self._vendor.in_stock(plan.id, location)]
        return _paged(request, found, lambda plan: plan_view(self._vendor, plan))

    async def locations(self, _request: web.Request) -> web.Response:
        """GET /locations."""
        return answer({"data": [{"id": id_, "name": name} for id_, name in catalog.LOCATIONS.items()]})

    async def templates(self, request: web.Request) -> web.Response:
        """GET /locations/{id}/templates."""
        text = request.match_info["id"]
        if text not in map(str, catalog.LOCATIONS):
            raise RefusedError(404, "Location not found.")
        rows = catalog.templates(int(text)).items()
        return answer({"data": [{"slug": slug, "name": name} for slug, name in rows]})

    async def list(self, request: web.Request) -> web.Response:
        """GET /servers."""
        found = self._vendor.listed(request[ACCOUNT])
        wanted = request.query.get("status")
        if wanted is not None:
            found = [server for server in found if server.status == wanted]
        return _paged(request, found, lambda server: brief_view(self._vendor, server, route_name(request)))

    async def create(self, request: web.Request) -> web.Response:
        """POST /servers; the same Idempotency-Key gets the original answer."""
        key = request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= KEY_LENGTH:
            raise InvalidBodyError([("Idempotency-Key", f"must have 1 to {KEY_LENGTH} characters")])
        original = None if key is None else self._vendor.original(request[ACCOUNT], key)
        if original is not None:
            return answer(original, 201)
        order = self._order(await Body.read(request))
        server = self._vendor.create(request[ACCOUNT], order)
        body = {"data": full_view(self._vendor, server, route_name(request))}
        if key is not None:
            self._vendor.remember(request[ACCOUNT], key, body)
        return answer(body, 201)

    async def get(self, request: web.Request) -> web.Response:
        """GET /servers/{uuid}."""
        return answer({"data": full_view(self._vendor, self._server(request), route_name(request))})

    async def status(self, request: web.Request) -> web.Response:
        """GET /servers/{uuid}/status."""
        return answer({"data": status_view(self._vendor, self._server(request), route_name(request))})

    async def credentials(self, request: web.Request) -> web.Response:
        """GET /servers/{uuid}/credentials."""
        return answer({"data": credentials_view(self._server(request))})

    async def power(self, request: web.Request) -> web.Response:
        """POST /servers/{uuid}/power: queued behind what is under way."""
        body = await Body.read(request)
        action = body.text("action")
        if action and action not in POWER_ACTIONS:
            body.wrong("action", f"must be one of {', '.join(POWER_ACTIONS)}")
        body.done()
        self._vendor.queue_power(self._server(request), action)
        return answer({"data": {"action": action, "status": "queued"}}, 202)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /servers/{uuid}."""
        self._vendor.delete(self._server(request))
        return web.Response(status=204)

    async def backups(self, request: web.Request) -> web.Response:
        """GET /servers/{uuid}/backups: what the admin API put there."""
        return _paged(request, self._server(request).backups, lambda backup: backup)

    def _server(self, request: web.Request) -> Server:
        return self._vendor.owned(request[ACCOUNT], request.match_info["uuid"])

    def _order(self, body: Body) -> Order:
        plan_id = body.integer("plan_id", low=1, high=10**6)
        location_id = body.integer("location_id", low=1, high=10**6)
        slug = body.text("template_slug")
        hostname = body.optional_text("hostname", pattern=HOSTNAME, high=253)
        body.done()
        plan = catalog.PLANS.get(plan_id)
        if plan is None:
            body.wrong("plan_id", "unknown plan")
        elif not self._vendor.in_stock(plan_id, location_id):
            body.wrong("plan_id", "out of stock at this location")
        if location_id not in catalog.LOCATIONS:
            body.wrong("location_id", "unknown location")
        elif slug not in catalog.templates(location_id):
            body.wrong("template_slug", "not available at this location")
        body.done()
        assert plan is not None
        return Order(plan, location_id, slug, hostname)


def routes(vendor: Vrtx) -> list[Route]:
    """The document's routes."""
    on = Handlers(vendor)
    one = f"{BASE}/servers/{{uuid}}"
    return [
        Route("GET", f"{BASE}/plans", "plans", on.plans),
        Route("GET", f"{BASE}/locations", "locations", on.locations),
        Route("GET", f"{BASE}/locations/{{id}}/templates", "templates", on.templates),
        Route("GET", f"{BASE}/servers", "list", on.list),
        Route("POST", f"{BASE}/servers", "create", on.create),
        Route("GET", one, "get", on.get),
        Route("DELETE", one, "delete", on.delete),
        Route("GET", f"{one}/status", "status", on.status),
        Route("GET", f"{one}/credentials", "credentials", on.credentials),
        Route("POST", f"{one}/power", "power", on.power),
        Route("GET", f"{one}/backups", "backups", on.backups),
    ]


def _paged(request: web.Request, items: Sequence[Any], view: Callable[[Any], dict[str, Any]]) -> web.Response:
    page = _whole(request, "page", 1)
    asked = _whole(request, "per_page", PER_PAGE)
    assert page is not None
    assert asked is not None
    per_page = min(asked, MOST_PER_PAGE)
    shown = items[(page - 1) * per_page : page * per_page]
    meta = {
        "current_page": page,
        "last_page": max(1, -(-len(items) // per_page)),
        "per_page": per_page,
        "total": len(items),
    }
    return answer({"data": [view(item) for item in shown], "meta": meta})


def _whole(request: web.Request, name: str, default: int | None) -> int | None:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) > 0):
        raise InvalidBodyError([(name, "must be a positive whole number")])
    return int(text)
