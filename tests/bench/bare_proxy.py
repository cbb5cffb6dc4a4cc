"""The reference of T1: a reverse proxy on aiohttp, one application and one ClientSession, and nothing else. Run by the bench."""

import asyncio
import json
import sys

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade", "host"}


async def main(upstream: str) -> None:
    """Serve until killed."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=128), auto_decompress=False, skip_auto_headers=("User-Agent",)
    ) as session:

        async def relay(request: web.Request) -> web.Response:
            headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _HOP)
            body = await request.read() if request.body_exists else None
            async with session.request(
                request.method, upstream + request.path_qs, headers=headers, data=body, allow_redirects=False
            ) as answer:
                kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in _HOP)
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", relay)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.stdin.readline())["upstream"]))
