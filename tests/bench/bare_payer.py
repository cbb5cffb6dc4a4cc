"""The floor of T2: what a paid call costs where nothing is asked of it but the wire, and then the store's two commits as well.

Run by the bench. An aiohttp application and the smallest HTTP client answer the 402 with a real authorization; they check
nothing, remember nothing, log nothing.  Theory: between this and the gateway lies what the promises cost, and a store
that commits ready-made commands beside it tells how much of that is writing and how much is deciding.
"""

import asyncio
import base64
import gc
import json
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import coincurve
import httptools
import uvloop
from aiohttp import web

from contracts.codec import checksum
from contracts.eip3009 import Authorization
from contracts.signature import address_of, load_key
from contracts.tokens import BASE_USDC
from gateway.core.commands import Done
from gateway.store.sqlite import SqliteStore
from tests.bench.cycles import Cycle, Cycles, seed

HOST = "127.0.0.1"
OK, PAYMENT_REQUIRED = 200, 402
ACCOUNTS = 500
PREFIX = "/proxy/seller"  # so that the same requests can be sent to it as to the gateway


class _Lane(asyncio.Protocol):
    """One connection to the seller, one exchange at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._answer.set_result((self._parser.get_status_code(), self._headers, self._body))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, dict[bytes, bytes], bytes]]:
        """Send it; the future has status, headers and body."""
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer


class BarePayer:
    """Pays whatever it is asked for."""

    def __init__(self, port: int, key: coincurve.PrivateKey) -> None:
        self._port, self._key = port, key
        self._payer = address_of(key)
        self._idle: list[_Lane] = []
        self.store: SqliteStore | None = None
        self.cycles: deque[Cycle] = deque()

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one call with what the seller sells."""
        head = f"GET {request.rel_url.raw_path_qs.removeprefix(PREFIX)} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n"
        status, headers, body = await self._ask(head.encode() + b"\r\n")
        if status == PAYMENT_REQUIRED:
            payment = self._pay(json.loads(base64.b64decode(headers[b"payment-required"])))
            cycle = self.cycles.popleft() if self.store is not None else None
            await self._commit(cycle, 0)
            status, headers, body = await self._ask(head.encode() + b"PAYMENT-SIGNATURE: " + payment + b"\r\n\r\n")
            await self._commit(cycle, 1)
        return web.Response(status=status, body=body, content_type="application/json")

    async def _ask(self, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        if self._idle:
            lane = self._idle.pop()
        else:
            _, lane = await asyncio.get_running_loop().create_connection(_Lane, HOST, self._port)
        answer = await lane.ask(request)
        self._idle.append(lane)
        return answer

    def _pay(self, challenge: dict[str, Any]) -> bytes:
        accepted = challenge["accepts"][0]
        authorization = Authorization(
            token=BASE_USDC,
            authorizer=self._payer,
            pay_to=bytes.fromhex(accepted["payTo"][2:]),
            value_base=int(accepted["amount"]),
            valid_after=0,
            valid_before=int(time.time()) + accepted["maxTimeoutSeconds"],
            nonce=os.urandom(32),
        )
        signature = self._key.sign_recoverable(authorization.digest, hasher=None)
        fields = {
            "from": checksum(authorization.authorizer),
            "to": accepted["payTo"],
            "value": accepted["amount"],
            "validAfter": "0",
            "validBefore": str(authorization.valid_before),
            "nonce": "0x" + authorization.nonce.hex(),
        }
        signed = "0x" + signature[:64].hex() + f"{signature[64] + 27:02x}"
        payload = {"signature": signed, "authorization": fields}
        document = {"x402Version": 2, "accepted": accepted, "resource": challenge["resource"], "payload": payload}
        return base64.b64encode(json.dumps(document).encode())

    async def _commit(self, cycle: Cycle | None, step: int) -> None:
        if cycle is not None and self.store is not None:
            result = await self.store.post(cycle[step])
            assert isinstance(result, Done), result


async def main(config: dict[str, Any]) -> None:
    """Serve until killed. With `database`, every call commits a purchase and its outcome, both made before the ready line."""
    payer = BarePayer(config["upstream_port"], load_key(bytes.fromhex(config["private_key"].removeprefix("0x"))))
    if config.get("database"):
        path = Path(config["database"])
        seed(path, ACCOUNTS)
        payer.store = await SqliteStore.open(path)
        payer.cycles.extend(Cycles(ACCOUNTS).take(config["calls"]))
        gc.freeze()  # what was made ahead is not what a collection of the gateway's would look at
    app = web.Application()
    app.router.add_route("GET", PREFIX + "/{path:.*}", payer.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.stdin.readline())))
