"""A JSON-RPC node on loopback that answers as a test wants: from a script, or a real node's answers with faults put in."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientSession, web

__all__ = ["FaultyNode", "NodeError", "RawAnswer", "RpcServer"]


class NodeError(Exception):
    """Answered as a JSON-RPC error."""

    def __init__(self, code: int, message: str = "refused") -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class RawAnswer:
    """Answered as it stands."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class RpcServer:
    """Serves ``answer(method, params)``: a result, a RawAnswer, or NodeError raised. ``calls`` keeps what was asked."""

    def __init__(self, answer: Callable[[str, list[Any]], Awaitable[Any]]) -> None:
        self.answer = answer
        self.calls: list[tuple[str, list[Any]]] = []
        self.url = ""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def asked(self, method: str) -> int:
        """Return how often a method was asked."""
        return sum(name == method for name, _ in self.calls)

    async def _serve(self, request: web.Request) -> web.Response:
        call = await request.json()
        self.calls.append((call["method"], call["params"]))
        head = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            result = await self.answer(call["method"], call["params"])
        except NodeError as error:
            return web.json_response(head | {"error": {"code": error.code, "message": error.message}})
        if isinstance(result, RawAnswer):
            return web.Response(body=result.body, status=result.status, headers=dict(result.headers))
        return web.json_response(head | {"result": result})


class FaultyNode(RpcServer):
    """A real node behind a fault: ``rewrite(method, params, result)`` changes its answers, ``lag`` hides its newest blocks.

    While it lags it does as nodes do: no error for a range that it has only half, an empty or shorter list instead.
    """

    def __init__(self, target_url: str) -> None:
        super().__init__(self._forward)
        self.rewrite: Callable[[str, list[Any], Any], Any] | None = None
        self.lag = 0
        self.hang = False
        self.down = False
        self._target_url = target_url
        self._session: ClientSession | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, at)
        if self._session is not None:
            await self._session.close()

    async def real(self, method: str, *params: Any) -> Any:
        """Return the real node's result; raise NodeError for its error."""
        if self._session is None:
            self._session = ClientSession()
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with self._session.post(self._target_url, json=call) as response:
            answer = await response.json()
        if "error" in answer:
            raise NodeError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    async def _forward(self, method: str, params: list[Any]) -> Any:
        if self.hang:
            await asyncio.sleep(3600)
        if self.down:
            return RawAnswer(b"down for maintenance", 503)
        result = await (self._lagging(method, params) if self.lag else self.real(method, *params))
        return self.rewrite(method, params, result) if self.rewrite is not None else result

    async def _lagging(self, method: str, params: list[Any]) -> Any:
        head = int(await self.real("eth_blockNumber"), 16) - self.lag
        if method == "eth_getBlockByNumber":
            number = {"latest": head, "finalized": max(0, head - 2)}.get(params[0])
            number = int(params[0], 16) if number is None else number
            return await self.real(method, hex(number), params[1]) if number <= head else None
        if method in {"eth_call", "eth_getCode"}:
            at = await self._number_of(params[-1])
            if at is None or at > head:
                raise NodeError(-32001, "header not found")
            return await self.real(method, *params)
        result = await self.real(method, *params)
        if method == "eth_getLogs":
            return [log for log in result if int(log["blockNumber"], 16) <= head]
        if method == "eth_getTransactionReceipt" and result is not None:
            return result if int(result["blockNumber"], 16) <= head else None
        return result

    async def _number_of(self, block: Any) -> int | None:
        if isinstance(block, str):
            return int(block, 16)
        found = await self.real("eth_getBlockByHash", block["blockHash"], False)
        return int(found["number"], 16) if found else None
