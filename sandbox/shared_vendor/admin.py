"""The admin API that all account vendors have: what tests and the demo drive a vendor with, on a port of its own.

Nothing here is part of a vendor's document.

- GET  /admin/state                 the vendor's books, clocks, faults, `calls` counted by route and status
- GET  /admin/requests              the last 500 public requests, credentials hidden; DELETE forgets them
- GET  /admin/faults                the faults in force; POST adds one object or a list -> {"ids"}
- DELETE /admin/faults, /admin/faults/{id}
- GET  /admin/clock                 {real_ms, business_ms}
- POST /admin/clock {advance_s, rate}   pushes business time forward, and / or sets its speed (0: stands still)
- POST /admin/limits                opens all rate-limit windows
- POST /admin/reset                 as after the start: accounts of the config, no servers, no faults; time stays

A bad request is 400 with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from sandbox.shared_vendor.config import only_keys
from sandbox.shared_vendor.timeline import MS, real_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.shared_vendor.transport import Handler
    from sandbox.shared_vendor.vendor import SandboxVendor


class Driven(Protocol):
    """What the admin API needs of a vendor beyond the common parts."""

    def state(self) -> dict[str, Any]:
        """Everything that the vendor knows, amounts as texts."""

    def reset(self) -> None:
        """Begin anew."""


class CommonAdmin:
    """Handlers over one vendor."""

    def __init__(self, vendor: SandboxVendor, driven: Driven) -> None:
        self._vendor = vendor
        self._driven = driven

    async def state(self, _request: web.Request) -> web.Response:
        """Everything that the vendor knows."""
        return web.json_response({**self._vendor.common_state(), **self._driven.state()})

    async def requests(self, _request: web.Request) -> web.Response:
        """What was asked of it."""
        return web.json_response(self._vendor.asked())

    async def forget_requests(self, _request: web.Request) -> web.Response:
        """Forget what was asked of it."""
        self._vendor.requests.clear()
        self._vendor.calls.clear()
        return web.json_response({})

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

    async def clock(self, _request: web.Request) -> web.Response:
        """Both clocks."""
        return web.json_response({"real_ms": real_ms(), "business_ms": self._vendor.timeline.now_ms()})

    async def set_clock(self, request: web.Request) -> web.Response:
        """Push business time forward; set its speed."""
        raw = await request.json()
        only_keys("clock", raw, {"advance_s", "rate"})
        if "rate" in raw:
            self._vendor.timeline.set_rate(float(raw["rate"]))
        if "advance_s" in raw:
            self._vendor.timeline.advance(round(raw["advance_s"] * MS))
        return await self.clock(request)

    async def open_windows(self, _request: web.Request) -> web.Response:
        """Forget what the rate limits counted."""
        self._vendor.open_windows()
        return web.json_response({})

    async def reset(self, _request: web.Request) -> web.Response:
        """Begin anew."""
        self._vendor.reset_common()
        self._driven.reset()
        return web.json_response({})


def admin_app(vendor: SandboxVendor, driven: Driven, extra: Iterable[tuple[str, str, Handler]]) -> web.Application:
    """The application on the admin port; `extra` are the vendor's own (method, path, handler)."""
    admin = CommonAdmin(vendor, driven)
    app = web.Application(middlewares=[_explain])
    for method, path, handler in (
        ("GET", "/admin/state", admin.state),
        ("GET", "/admin/requests", admin.requests),
        ("DELETE", "/admin/requests", admin.forget_requests),
        ("GET", "/admin/faults", admin.list_faults),
        ("POST", "/admin/faults", admin.add_faults),
        ("DELETE", "/admin/faults", admin.clear_faults),
        ("DELETE", r"/admin/faults/{id:\d+}", admin.clear_faults),
        ("GET", "/admin/clock", admin.clock),
        ("POST", "/admin/clock", admin.set_clock),
        ("POST", "/admin/limits", admin.open_windows),
        ("POST", "/admin/reset", admin.reset),
        *extra,
    ):
        app.router.add_route(method, path, handler)
    return app


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail: dict[str, Any] = {"detail": f"{type(error).__name__}: {error}"}
        return web.json_response(detail, status=400)
