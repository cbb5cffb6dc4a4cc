"""The routes that both sellers offer. What each costs is data here; how it is charged is the seller's version.

Paid: GET /weather, POST /echo, GET /big?size=. Free: GET /free, POST /free/echo, GET /free/stream?chunks=&interval_s=.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

# Base units of USDC (1e-6) by route.
PRICES_BASE = {"GET /weather": 1_000, "POST /echo": 10_000, "GET /big": 1_000}
BIG_BYTES = 2 * 1024 * 1024


def offer(app: FastAPI) -> None:
    """Add the routes to a seller's application."""
    app.add_api_route("/weather", weather, methods=["GET"])
    app.add_api_route("/echo", echo, methods=["POST"])
    app.add_api_route("/big", big, methods=["GET"])
    app.add_api_route("/free", free, methods=["GET"])
    app.add_api_route("/free/echo", echo, methods=["POST"])
    app.add_api_route("/free/stream", stream, methods=["GET"])


async def weather(city: str = "Lisbon") -> JSONResponse:
    """A small answer."""
    return JSONResponse({"city": city, "weather": "sunny", "temperature_c": 21, "at": time.time_ns()})


async def echo(request: Request) -> Response:
    """The request's body and type, as they came."""
    kind = request.headers.get("content-type", "application/octet-stream")
    return Response(await request.body(), media_type=kind)


async def big(size: int = BIG_BYTES) -> Response:
    """An answer larger than anybody should buffer."""
    return Response(b"x" * size, media_type="application/octet-stream")


async def free() -> PlainTextResponse:
    """An answer that costs nothing."""
    return PlainTextResponse("free")


async def stream(chunks: int = 5, interval_s: float = 0.05) -> StreamingResponse:
    """Lines that come one by one."""

    async def lines() -> AsyncIterator[str]:
        for number in range(chunks):
            yield f"line {number}\n"
            await asyncio.sleep(interval_s)

    return StreamingResponse(lines(), media_type="text/plain")
