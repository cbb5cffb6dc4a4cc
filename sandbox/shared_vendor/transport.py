"""Plays the faults of the wire around every public route: slow, cut, other status, redirect; and keeps the record.

It knows nothing of what is answered, except that a scripted status without a body is said in the vendor's words.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.shared_vendor.timeline import real_ms
from sandbox.shared_vendor.vendor import Asked
from sandbox.shared_vendor.wire import RefusedError, answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Middleware

    from sandbox.shared_vendor.vendor import SandboxVendor

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Wording = Callable[[RefusedError], dict[str, Any]]

ACCOUNT = web.RequestKey("account", str)
"""The id of the account that a request was made for, once it is known."""
_SECRET_HEADERS = ("authorization", "cookie")
_BODY_KEPT = 4096


def route_name(request: web.Request) -> str:
    """The name that the vendor's route table gives this request's route; empty for what is not in it."""
    resource = request.match_info.route.resource
    return (resource.name if resource else None) or ""


def recording(vendor: SandboxVendor) -> Middleware:
    """The outermost middleware: keeps each request with the status that it was answered with."""

    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        body = await request.read()
        response = await handler(request)
        kept = {
            name: "(hidden)" if name.lower() in _SECRET_HEADERS else value for name, value in request.headers.items()
        }
        asked = Asked(
            at_real_ms=real_ms(),
            at_ms=vendor.timeline.now_ms(),
            route=route_name(request),
            method=request.method,
            path=request.path_qs,
            headers=kept,
            body=body[:_BODY_KEPT].decode(errors="replace"),
            account=request.get(ACCOUNT),
            status=response.status,
        )
        vendor.note(asked)
        return response

    return record


def misbehaving(vendor: SandboxVendor, wording: Wording) -> Middleware:
    """The middleware that plays what the wire does."""
    faults = vendor.faults

    @web.middleware
    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_name(request)
        slow = faults.take("slow", route) or {"before_s": 0, "after_s": 0, "body_s": 0}
        cut = faults.take("cut", route) or {"when": None}
        status = faults.take("status", route) or {"when": None}
        redirect = faults.take("redirect", route)
        await asyncio.sleep(slow["before_s"])
        if cut["when"] == "before":
            return _hang_up(request)
        if redirect is not None:
            return web.Response(status=redirect["status"], headers={"Location": redirect["location"]})
        response = _scripted(status, wording) if status["when"] == "before" else await handler(request)
        if status["when"] == "after":
            response = _scripted(status, wording)
        await asyncio.sleep(slow["after_s"])
        if cut["when"] == "after":
            return _hang_up(request)
        if isinstance(response, web.Response) and (slow["body_s"] or cut["when"] == "body"):
            return await _in_halves(request, response, pause_s=slow["body_s"], cut=cut["when"] == "body")
        return response

    return play


def _scripted(fault: dict[str, Any], wording: Wording) -> web.Response:
    body = fault["body"]
    if body is None:
        body = wording(RefusedError(fault["status"], "internal server error" if fault["status"] >= 500 else "refused"))
    return answer(body, fault["status"], fault["headers"])


def _hang_up(request: web.Request) -> web.Response:
    """Cut the connection; the response that aiohttp wants goes nowhere, and is recorded as 499."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)


async def _in_halves(request: web.Request, whole: web.Response, *, pause_s: float, cut: bool) -> web.StreamResponse:
    """Send half of the body under the full Content-Length, then pause, then the rest or nothing."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = len(body)
    await response.prepare(request)
    middle = len(body) // 2
    await response.write(body[:middle])
    await asyncio.sleep(pause_s)
    if cut:
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write(body[middle:])
    await response.write_eof()
    return response
