"""The admin API: what tests and the demo drive the vendor with, on a port of its own.

Nothing here is part of the vendor's document.

- GET  /admin/state                       rentals, purchases, settlements, seen payments by nonce, both clocks, ssh_port,
                                          the boxes that are up and how often each was connected to
- GET  /admin/faults                      the faults in force; POST adds one object or a list -> {"ids"}
- DELETE /admin/faults, /admin/faults/{id}
- POST /admin/clock {advance_s}           pushes business time forward (payment windows stay on the real clock)
- POST /admin/renewals/{rental_id}/complete   does the manual step of the open renewal
- POST /admin/boxes/{rental_id} {up}      opens or closes a box's port
- POST /admin/worker {paused}             stops and resumes settling
- POST /admin/reset                       forgets faults, rentals and payments
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.vpsagent.vendor import MS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.vpsagent.vendor import Vendor

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin:
    """Handlers over one vendor."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    async def state(self, _request: web.Request) -> web.Response:
        """Everything that the vendor knows."""
        vendor = self._vendor
        return web.json_response(
            {
                **vendor.book.as_json(),
                "real_ms": vendor.clock.real_ms(),
                "business_ms": vendor.clock.business_ms(),
                "boxes_up": [r.rental_id for r in vendor.book.rentals.values() if vendor.boxes.is_up(r.ipv4)],
                "box_connects": {r.rental_id: vendor.boxes.connects[r.ipv4] for r in vendor.book.rentals.values()},
                "relayer": vendor.payments.relayer,
            }
        )

    async def list_faults(self, _request: web.Request) -> web.Response:
        """The faults in force."""
        return web.json_response(self._vendor.faults.active())

    async def add_faults(self, request: web.Request) -> web.Response:
        """One fault or several."""
        raw = await request.json()
        entries = raw if isinstance(raw, list) else [raw]
        return web.json_response({"ids": [self._vendor.faults.add(entry) for entry in entries]})

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Lift one fault, or all."""
        number = request.match_info.get("id")
        self._vendor.faults.clear(None if number is None else int(number))
        return web.json_response({})

    async def advance(self, request: web.Request) -> web.Response:
        """Push business time forward."""
        vendor = self._vendor
        vendor.clock.advance(round((await request.json())["advance_s"] * MS))
        vendor.save()
        return web.json_response({"real_ms": vendor.clock.real_ms(), "business_ms": vendor.clock.business_ms()})

    async def complete_renewal(self, request: web.Request) -> web.Response:
        """Do the manual step."""
        purchase = self._vendor.book.open_renewal(request.match_info["rental_id"])
        if purchase is None:
            raise web.HTTPNotFound(text="no open renewal")
        purchase.manual_at_ms = self._vendor.clock.real_ms()
        self._vendor.save()
        return web.json_response({"purchase_id": purchase.purchase_id})

    async def set_box(self, request: web.Request) -> web.Response:
        """Open or close a box's port by hand."""
        vendor = self._vendor
        rental = vendor.book.rentals.get(request.match_info["rental_id"])
        if rental is None:
            raise web.HTTPNotFound(text="no such rental")
        if (await request.json())["up"]:
            rental.box_up_at_ms = vendor.clock.real_ms()
            await vendor.boxes.bring_up(rental.ipv4)
        else:
            rental.box_up_at_ms = None
            vendor.boxes.take_down(rental.ipv4)
        vendor.save()
        return web.json_response({"ipv4": rental.ipv4, "ssh_port": vendor.boxes.ssh_port})

    async def set_worker(self, request: web.Request) -> web.Response:
        """Stop or resume settling; boxes and expiry go on."""
        self._vendor.worker_paused = bool((await request.json())["paused"])
        return web.json_response({"paused": self._vendor.worker_paused})

    async def reset(self, _request: web.Request) -> web.Response:
        """Begin anew."""
        self._vendor.reset()
        return web.json_response({})


def admin_app(vendor: Vendor) -> web.Application:
    """The application on the admin port; a bad request is 400 with the reason."""
    admin = Admin(vendor)
    app = web.Application(middlewares=[_explain])
    app.router.add_get("/admin/state", admin.state)
    app.router.add_get("/admin/faults", admin.list_faults)
    app.router.add_post("/admin/faults", admin.add_faults)
    app.router.add_delete("/admin/faults", admin.clear_faults)
    app.router.add_delete(r"/admin/faults/{id:\d+}", admin.clear_faults)
    app.router.add_post("/admin/clock", admin.advance)
    app.router.add_post("/admin/renewals/{rental_id}/complete", admin.complete_renewal)
    app.router.add_post("/admin/boxes/{rental_id}", admin.set_box)
    app.router.add_post("/admin/worker", admin.set_worker)
    app.router.add_post("/admin/reset", admin.reset)
    return app


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail: dict[str, Any] = {"detail": f"{type(error).__name__}: {error}"}
        return web.json_response(detail, status=400)
