"""Plays the faults of the wire around every public route: slow, cut, other status, redirect.

It knows nothing of what is answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.vpsagent.faults import Faults

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def middleware(faults: Faults) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """An aiohttp middleware over these faults."""

    @web.middleware
    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route, paid = (resource.name if resource else None) or "", "X-Payment" in request.headers
        slow = faults.take("slow", route, paid=paid) or {"before_s": 0, "after_s": 0, "body_s": 0}
        cut = faults.take("cut", route, paid=paid) or {"when": None}
        status = faults.take("status", route, paid=paid) or {"when": None}
        redirect = faults.take("redirect", route, paid=paid)
        await asyncio.sleep(slow["before_s"])
        if cut["when"] == "before":
            return _hang_up(request)
        if redirect is not None:
            return web.Response(status=redirect["status"], headers={"Location": redirect["location"]})
        answer = _scripted(status) if status["when"] == "before" else await handler(request)
        if status["when"] == "after":
            answer = _scripted(status)
        await asyncio.sleep(slow["after_s"])
        if cut["when"] == "after":
            return _hang_up(request)
        if isinstance(answer, web.Response) and (slow["body_s"] or cut["when"] == "body"):
            return await _in_halves(request, answer, pause_s=slow["body_s"], cut=cut["when"] == "body")
        return answer

    return play


def _scripted(fault: dict[str, Any]) -> web.Response:
    return web.json_response(fault["body"], status=fault["status"], headers=fault["headers"])


def _hang_up(request: web.Request) -> web.Response:
    """Cut the connection; the response that aiohttp wants goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _in_halves(request: web.Request, whole: web.Response, *, pause_s: float, cut: bool) -> web.StreamResponse:
    """Send half of the body under the full Content-Length, then pause, then the rest or nothing."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    answer = web.StreamResponse(status=whole.status, headers=whole.headers)
    answer.content_length = len(body)
    await answer.prepare(request)
    middle = len(body) // 2
    await answer.write(body[:middle])
    await asyncio.sleep(pause_s)
    if cut:
        if request.transport is not None:
            request.transport.close()
        return answer
    await answer.write(body[middle:])
    await answer.write_eof()
    return answer
