"""A stock MPP seller in Python: PyPI `pympp`'s server side on aiohttp. `python -m sandbox.sellers.pympp_seller --config …`.

It needs the environment of dropmpp/requirements-pympp.txt. Config: rpc_url, pay_to, chain_id (42431), ttl_s (28),
rpc_timeout_s (30), port (0). Paid: GET /weather, and POST /echo whose challenge is bound to the body by its digest. Free:
GET /free. Prints `{base_url, pay_to}` when ready. Nothing is changed in the SDK; HTTP in and out is all that is here.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web
from mpp.methods.tempo import server as tempo
from mpp.server import Mpp, PaymentRequired, Request, Response

from sandbox.process import announce_ready, child_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mpp.server import ComposedHandler

HOST = "127.0.0.1"
HEADER_LIMIT = 65_536  # aiohttp's 8190 would refuse a long credential before a handler sees it
BODY_LIMIT = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The seller's config; times are seconds."""

    rpc_url: str
    pay_to: str = "0x8eCbd65228930060363C70854da7D37D57ffC358"
    chain_id: int = 42431
    currency: str = "0x20c0000000000000000000000000000000000000"
    ttl_s: int = 28
    """Of a challenge. A payer that signs for as long must stay below the 30 s that a chain before hard fork T11 takes."""
    rpc_timeout_s: float = 30
    """Of one RPC call, and of the search for a payment whose sending was not answered."""
    port: int = 0


def settings_from_command_line() -> Settings:
    """Read `--config`, or end the process with a message that names what is wrong."""
    raw: dict[str, Any] = child_config()
    if unknown := sorted(set(raw) - {entry.name for entry in fields(Settings)}):
        raise SystemExit(f"config: unknown keys: {', '.join(unknown)}")
    if "rpc_url" not in raw:
        raise SystemExit("config: rpc_url is needed to collect")
    return Settings(**raw)


def application(settings: Settings) -> web.Application:
    """The seller."""
    methods = tempo.charge(
        recipient=settings.pay_to,
        chain_id=settings.chain_id,
        rpc_url=settings.rpc_url,
        currencies=[settings.currency],
        timeout=settings.rpc_timeout_s,
        confirmation_timeout=settings.rpc_timeout_s,
    )
    till = Mpp(methods=methods, realm=HOST, secret_key=secrets.token_hex(32))
    terms = {"expires_in": timedelta(seconds=settings.ttl_s)}
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_get("/weather", _charging(till.charge(amount="0.001", **terms), _weather))
    app.router.add_post("/echo", _charging(till.charge(amount="0.01", body=_whole_body, **terms), _echo))
    app.router.add_get("/free", _free)
    return app


def _charging(
    charge: ComposedHandler, goods: Callable[[Request], Response]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(incoming: web.Request) -> web.Response:
        body = await incoming.read() or None
        request = Request(incoming.method, str(incoming.url), list(incoming.headers.items()), body)
        result = await charge(request)
        if isinstance(result, PaymentRequired):
            return _outgoing(result.challenge)
        return _outgoing(result.with_receipt(goods(request)))

    return handler


def _outgoing(response: Response) -> web.Response:
    outgoing = web.Response(status=response.status, body=response.body)
    for name, value in response.headers.multi_items():
        outgoing.headers.add(name, value)
    return outgoing


def _whole_body(request: Request) -> bytes:
    return request.body or b""


def _weather(request: Request) -> Response:
    return Response.json({"weather": "sunny", "asked": request.url.partition("?")[2]})


def _echo(request: Request) -> Response:
    kind = request.headers.get("content-type", "application/octet-stream")
    return Response(headers={"content-type": kind}, body=request.body)


async def _free(_: web.Request) -> web.Response:
    return web.Response(text="free")


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = web.AppRunner(
        application(settings), access_log=None, max_line_size=HEADER_LIMIT, max_field_size=HEADER_LIMIT
    )
    await runner.setup()
    await web.TCPSite(runner, HOST, settings.port).start()
    announce_ready(base_url=f"http://{HOST}:{runner.addresses[0][1]}", pay_to=settings.pay_to)
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    """Read the config and serve."""
    asyncio.run(serve(settings_from_command_line()))


if __name__ == "__main__":
    main()
