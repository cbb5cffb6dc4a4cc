"""A gateway's HTTP side that answers as a test tells it to, on loopback, and remembers what it was asked."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass
class OddGateway:
    """Answers with what `script` holds, one entry a request, and with the last one for good."""

    url: str = ""
    script: list[Answering] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.raw_path, headers, await request.content.read()))
        answering = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answering(request)


@contextlib.asynccontextmanager
async def odd_gateway(*script: Answering) -> AsyncIterator[OddGateway]:
    """Run one with a script."""
    gateway = OddGateway(script=list(script))
    runner = web.ServerRunner(web.Server(gateway.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        gateway.url = f"http://{host}:{port}"
        yield gateway
    finally:
        await runner.cleanup()


def say(status: int, document: Any = None, **headers: str) -> Answering:
    """Answer with a JSON document; header names with _ for -."""

    async def answering(_request: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(document if document is not None else {}, status=status, headers=named)

    return answering


def refuse(status: int, code: str, *, retry_after: str | None = None, **extra: Any) -> Answering:
    """Answer with a problem document."""
    document = {
        "type": f"urn:gateway:problem:{code}",
        "title": "A title",
        "status": status,
        "detail": "a detail",
        "remedy": "a remedy",
        "code": code,
        "request_id": "req-1",
        **extra,
    }
    headers = {} if retry_after is None else {"Retry-After": retry_after}

    async def answering(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(document, status=status, content_type="application/problem+json", headers=headers)

    return answering


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def break_off(request: web.BaseRequest) -> web.StreamResponse:
    """Begin an answer and break the connection within it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"id": "srv_')
    assert request.transport is not None
    request.transport.abort()
    return response


def stream(*pieces: bytes) -> Answering:
    """Send server-sent events, piece by piece as they are cut here."""

    async def answering(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return answering
