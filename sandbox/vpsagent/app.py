"""The vendor's public routes, as its OpenAPI document has them: order of checks, schemas, headers, status codes.

Whoever asks for what does not exist, is not theirs, is malformed or cannot be had now (404, 401, 400, 409 or 503, in that
order) is told so before any price, so that nobody pays for it. Money is `frontdesk`'s business.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.vpsagent import catalog, challenge, transport
from sandbox.vpsagent.challenge import Priced
from sandbox.vpsagent.frontdesk import FrontDesk

if TYPE_CHECKING:
    from sandbox.vpsagent.payments import Presented
    from sandbox.vpsagent.records import Rental
    from sandbox.vpsagent.vendor import Vendor

MAX_PERIODS = 12
RENT_NOTE = "Settlement is pending: the authorization is collected when the box answers on TCP :22."
MANUAL_STEP = "Operations revokes the cancellation on the upstream panel; settlement follows."
_SKU_NAMES = [sku.sku for sku in catalog.SKUS]
_CATALOG_SCHEMA = {"input": {"type": "http", "method": "GET"}, "output": {"type": "array"}}
_RENT_SCHEMA = {"input": {"type": "http", "method": "POST", "bodyType": "json"}, "output": {"type": "object"}}


class BadRequestError(Exception):
    """The body is not what the schema says; the text goes into `detail`."""


class Routes:
    """Handlers over one vendor."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._desk = FrontDesk(vendor)

    async def catalog(self, request: web.Request) -> web.Response:
        """GET /catalog: paid, settled inline."""
        priced = Priced("catalog", "/catalog", catalog.CATALOG_PRICE_BASE, "VpsAgent catalog", _CATALOG_SCHEMA)
        return await self._desk.serve(request, priced, self._sell_catalog)

    async def rent(self, request: web.Request) -> web.Response:
        """POST /rent: verified now, settled when the box is up."""
        vendor = self._vendor
        try:
            body = await _json_object(request)
            name, region = _rent_body(body)
        except BadRequestError as error:
            return _problem(400, str(error))
        sku = vendor.skus()[name]
        fault = vendor.faults.take("unavailable", "rent", paid=_paid(request), sku=name)
        if not sku.available or fault is not None:
            return _problem(503, f"{name} is advertised but not yet routable")
        priced = Priced("rent", "/rent", sku.price_base, sku.description, _RENT_SCHEMA)

        async def accept(payment: Presented, agreed: dict[str, Any]) -> web.Response:
            rental = vendor.provision(sku, region)
            purchase = vendor.open_purchase("rent", payment, agreed, rental_id=rental.rental_id)
            reply = self._created(rental)
            purchase.reply = {"body": reply, "headers": {}}
            return web.json_response(reply)

        return await self._desk.serve(request, priced, accept)

    async def rental(self, request: web.Request) -> web.Response:
        """GET /rentals/{rental_id}: public."""
        rental = self._vendor.book.rentals.get(request.match_info["rental_id"])
        if rental is None:
            return _problem(404, "Rental not found.")
        names = (
            *("rental_id", "sku", "track", "status", "created_at", "expires_at", "grace_until"),
            *("settle_tx_hash", "renewal_count", "last_renewal_tx_hash"),
        )
        return web.json_response({name: getattr(rental, name) for name in names})

    async def renew(self, request: web.Request) -> web.Response:
        """POST /rentals/{rental_id}/renew: token-gated, verified now, settled after the manual step."""
        vendor = self._vendor
        rental = vendor.book.rentals.get(request.match_info["rental_id"])
        if rental is None:
            return _problem(404, "Rental not found.")
        if not _has_token(request, rental):
            return _problem(401, "Missing or invalid token.")
        try:
            periods = _renew_body(await _json_object(request, empty_is={}))
        except BadRequestError as error:
            return _problem(400, str(error))
        if rental.status != "active" and not self._known_renewal(request, rental):
            return _problem(409, f"Rental is {rental.status}, not active.")
        sku = vendor.skus()[rental.sku]
        path = f"/rentals/{rental.rental_id}/renew"
        priced = Priced("renew", path, periods * sku.price_base, f"Renewal: {sku.description}", _RENT_SCHEMA)

        async def accept(payment: Presented, agreed: dict[str, Any]) -> web.Response:
            return self._begin_renewal(rental, periods, sku, payment, agreed)

        return await self._desk.serve(request, priced, accept)

    async def instance(self, request: web.Request) -> web.Response:
        """GET /instance/{rental_id}: token-gated live status; 502 with last-known fields when the provider is away."""
        vendor = self._vendor
        rental = vendor.book.rentals.get(request.match_info["rental_id"])
        if rental is None:
            return _problem(404, "Rental not found.")
        if not _has_token(request, rental):
            return _problem(401, "Missing or invalid token.")
        away = vendor.faults.take("upstream_down", "instance", paid=False) is not None
        if not away:
            vendor.look_at(rental)
        status = {
            "rental_id": rental.rental_id,
            "ipv4": rental.known_ipv4,
            "running": rental.known_running,
            "expires_at": rental.expires_at,
            "status": rental.status,
            "root_user": "root",
            "root_password": rental.root_password,
            "note": "Upstream provider unreachable; last-known fields." if away else "",
        }
        return web.json_response(status, status=502 if away else 200)

    async def healthz(self, _request: web.Request) -> web.Response:
        """GET /healthz."""
        return web.json_response({"ok": True})

    async def _sell_catalog(self, payment: Presented, agreed: dict[str, Any]) -> web.Response:
        vendor = self._vendor
        purchase = vendor.open_purchase("catalog", payment, agreed, plan={"mode": "inline"})
        purchase.state = "settling"  # the worker leaves it alone
        outcome = await vendor.collect(purchase)
        if not outcome.ok:
            purchase.state, purchase.reason = "failed", outcome.reason
            return challenge.payment_required(agreed, {"reason": outcome.reason, "message": "settlement failed"})
        vendor.close_settled(purchase, outcome.tx_hash)
        headers = {"X-Payment-Response": challenge.receipt_header(outcome.tx_hash, vendor.config.network)}
        body = [sku.as_json() for sku in vendor.skus().values()]
        purchase.reply = {"body": body, "headers": headers}
        return web.json_response(body, headers=headers)

    def _begin_renewal(
        self, rental: Rental, periods: int, sku: catalog.Sku, payment: Presented, agreed: dict[str, Any]
    ) -> web.Response:
        if rental.status != "active":  # another renewal was accepted while this one was verified
            return _problem(409, f"Rental is {rental.status}, not active.")
        vendor = self._vendor
        manual_at_ms, outlives = vendor.manual_step(rental)
        predicted = rental.expires_at + periods * sku.duration_minutes * 60_000
        purchase = vendor.open_purchase(
            "renew",
            payment,
            agreed,
            rental_id=rental.rental_id,
            periods=periods,
            predicted_expires_at=predicted,
            manual_at_ms=manual_at_ms,
            outlives=outlives,
        )
        rental.status = "renewing"
        body = {
            "rental_id": rental.rental_id,
            "status": "renewing",
            "current_expires_at": rental.expires_at,
            "predicted_expires_at": predicted,
            "manual_step": MANUAL_STEP if rental.track == "server" else "none",
        }
        purchase.reply = {"body": body, "headers": {}}
        return web.json_response(body)

    def _known_renewal(self, request: web.Request, rental: Rental) -> bool:
        """Whether this request presents again what began a renewal of this rental: then 409 would hide the answer."""
        header = request.headers.get("X-Payment", "")
        return any(
            purchase.rental_id == rental.rental_id and purchase.route == "renew"
            for purchase in self._vendor.purchases_of(header)
        )

    def _created(self, rental: Rental) -> dict[str, Any]:
        return {
            "rental_id": rental.rental_id,
            "sku": rental.sku,
            "ipv4": rental.known_ipv4,
            "expires_at": rental.expires_at,
            "root_token": rental.root_token,
            "root_user": "root",
            "root_password": rental.root_password,
            "status": "pending_settlement",
            "note": RENT_NOTE,
        }


def public_app(vendor: Vendor) -> web.Application:
    """The application on the public port; its middleware plays the faults of the wire."""
    routes = Routes(vendor)
    app = web.Application(middlewares=[transport.middleware(vendor.faults)])
    for method, path, handler, name in (
        ("GET", "/catalog", routes.catalog, "catalog"),
        ("POST", "/rent", routes.rent, "rent"),
        ("GET", "/rentals/{rental_id}", routes.rental, "rental"),
        ("POST", "/rentals/{rental_id}/renew", routes.renew, "renew"),
        ("GET", "/instance/{rental_id}", routes.instance, "instance"),
        ("GET", "/healthz", routes.healthz, "healthz"),
    ):
        app.router.add_resource(path, name=name).add_route(method, handler)
    return app


async def _json_object(request: web.Request, empty_is: dict[str, Any] | None = None) -> dict[str, Any]:
    text = await request.read()
    if not text and empty_is is not None:
        return empty_is
    try:
        body = json.loads(text)
    except ValueError as error:
        raise BadRequestError("body: not JSON") from error
    if not isinstance(body, dict):
        raise BadRequestError("body: not an object")
    return body


def _rent_body(body: dict[str, Any]) -> tuple[str, str | None]:
    name, region = body.get("sku"), body.get("region")
    if name not in _SKU_NAMES:
        raise BadRequestError(f"sku: must be one of {', '.join(_SKU_NAMES)}")
    if "region" in body and not isinstance(region, str):
        raise BadRequestError("region: must be a string")
    return str(name), region


def _renew_body(body: dict[str, Any]) -> int:
    periods = body.get("periods", 1)
    if type(periods) is not int or not 1 <= periods <= MAX_PERIODS:  # bool is an int
        raise BadRequestError(f"periods: must be an integer from 1 to {MAX_PERIODS}")
    return periods


def _has_token(request: web.Request, rental: Rental) -> bool:
    return secrets.compare_digest(request.query.get("token", "").encode(), rental.root_token.encode())


def _paid(request: web.Request) -> bool:
    return "X-Payment" in request.headers


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
