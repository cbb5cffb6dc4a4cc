"""The public application's shell: routes from a table, refusals in the vendor's words, and the gate before each route.

A gate knows who asks and how often they may; the shell knows neither. Order, from the wire inward: record, wire faults,
gate, handler.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from sandbox.shared_vendor.body import InvalidBodyError
from sandbox.shared_vendor.timeline import MS, real_ms
from sandbox.shared_vendor.transport import misbehaving, recording, route_name
from sandbox.shared_vendor.wire import RefusedError, answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Middleware

    from sandbox.shared_vendor.transport import Handler, Wording
    from sandbox.shared_vendor.vendor import SandboxVendor

BODY_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """One line of a vendor's document; `open` routes need no credential."""

    method: str
    path: str
    name: str
    handler: Handler
    open: bool = False


class Gate(Protocol):
    """Who may pass, and what every answer carries."""

    invalid_status: int
    """The status for a body that is not what the document says."""
    invalid_code: str | None

    def admit(self, request: web.Request, *, is_open: bool) -> None:
        """Let the request in, with its account noted on it; raises RefusedError."""

    def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that every answer carries."""

    def unauthorized(self) -> RefusedError:
        """What this vendor says when a good token is refused."""

    def limited(self, retry_after_s: int) -> RefusedError:
        """What this vendor says when there were too many requests."""


def public_app(vendor: SandboxVendor, gate: Gate, wording: Wording, routes: Iterable[Route]) -> web.Application:
    """The application on the public port."""
    table = list(routes)
    opened = {route.name for route in table if route.open}
    app = web.Application(
        middlewares=[recording(vendor), misbehaving(vendor, wording), _gated(vendor, gate, wording, opened)],
        client_max_size=BODY_LIMIT,
    )
    for route in table:
        resource = app.router.add_resource(route.path, name=route.name)
        resource.add_route(route.method, route.handler)
        if route.method == "GET":
            resource.add_route("HEAD", route.handler)
    return app


def _gated(vendor: SandboxVendor, gate: Gate, wording: Wording, opened: set[str]) -> Middleware:
    @web.middleware
    async def pass_gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        vendor.timeline.play()
        route = route_name(request)
        is_open = route in opened or not route
        try:
            _strike(vendor, gate, route, is_open=is_open)
            gate.admit(request, is_open=is_open)
            response = await handler(request)
        except RefusedError as refused:
            response = _say(wording, refused)
        except InvalidBodyError as invalid:
            response = _say(wording, _invalid(gate, invalid))
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed, web.HTTPRequestEntityTooLarge) as error:
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            response = _say(wording, RefusedError(error.status, error.reason.lower(), headers=allow))
        gate.dress(request, response)
        skew = vendor.faults.take("skew")
        if skew is not None:
            response.headers["Date"] = email.utils.formatdate(real_ms() / MS + skew["by_s"], usegmt=True)
        return response

    return pass_gate


def _strike(vendor: SandboxVendor, gate: Gate, route: str, *, is_open: bool) -> None:
    limited = vendor.faults.take("limited", route)
    if limited is not None:
        raise gate.limited(limited["retry_after_s"])
    if not is_open and vendor.faults.take("unauthorized", route) is not None:
        raise gate.unauthorized()


def _invalid(gate: Gate, error: InvalidBodyError) -> RefusedError:
    return RefusedError(gate.invalid_status, str(error), code=gate.invalid_code, details=error.details())


def _say(wording: Wording, refused: RefusedError) -> web.Response:
    body: dict[str, Any] = wording(refused)
    return answer(body, refused.status, refused.headers)
