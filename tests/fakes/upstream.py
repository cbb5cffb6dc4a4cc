"""The Upstream port in one process: requests go to scripted servers, over a wire that a script may break.

Nothing here knows what is sold. The server goes on whatever becomes of the caller, as a real one does: a caller that is
cancelled, killed or out of patience has still been heard.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.http.port import NotSent, SentUnknown, UpstreamRequest, UpstreamResponse

__all__ = ["CREDENTIAL_HEADERS", "PATIENCE_S", "Script", "ScriptedUpstream", "Server", "Wire", "credential_of"]

PATIENCE_S = 20.0
CREDENTIAL_HEADERS = ("x-payment", "payment-signature")


@dataclass(frozen=True)
class Wire:
    """What a server puts on the wire; with `cut`, the code of the error that its caller sees instead."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: str = ""


class Script(Protocol):
    """Decides which fault strikes."""

    def take(self, stage: str, server: str, intent: str) -> str:
        """Return the fault that strikes at this stage of serving this intent, '' for none."""
        ...


class Server(Protocol):
    """Who answers at an origin."""

    name: str

    async def serve(self, request: UpstreamRequest, sender: int) -> Wire:
        """Answer one request of the process with this number."""
        ...

    def intent_of(self, request: UpstreamRequest) -> str:
        """Return what the request is for, in the words of the script."""
        ...


def credential_of(request: UpstreamRequest) -> str | None:
    """Return the payment header's value."""
    return next((value for name, value in request.headers if name.lower() in CREDENTIAL_HEADERS), None)


class ScriptedUpstream:
    """The port for the process with number `sender`.

    `spawn` runs the server's side outside of that process; `point` is awaited with "send" before the bytes leave and with
    "answer" after the server has acted, so that a scheduler can delay or kill there. `doubled` is called when one process
    shows a credential while it still waits for the answer to the same one.
    """

    def __init__(
        self,
        servers: Mapping[str, Server],
        script: Script,
        *,
        sender: int,
        spawn: Callable[[Coroutine[Any, Any, Wire]], "asyncio.Task[Wire]"],
        point: Callable[[str], Awaitable[None]],
        doubled: Callable[[str], None],
    ) -> None:
        self._servers, self._script, self._sender = servers, script, sender
        self._spawn, self._point, self._doubled = spawn, point, doubled
        self._under_way: set[str] = set()

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """The server's answer; NotSent or SentUnknown where the script breaks the wire."""
        credential = credential_of(request)
        if credential is None:
            return await self._send(origin, request)
        if credential in self._under_way:
            self._doubled(origin)
        self._under_way.add(credential)
        try:
            return await self._send(origin, request)
        finally:
            self._under_way.discard(credential)

    async def _send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        server = self._servers[origin]
        fault = self._script.take("wire", server.name, server.intent_of(request))
        if fault == "not_sent":
            await asyncio.sleep(0.1)
            raise NotSent("connect_failed", "scripted")
        await self._point("send")
        if fault == "lost":
            await asyncio.sleep(1.0)
            raise SentUnknown("connection_lost", "scripted")
        serving = self._spawn(server.serve(request, self._sender))
        try:
            wire = await asyncio.wait_for(asyncio.shield(serving), PATIENCE_S)
        except TimeoutError:
            raise SentUnknown("first_byte_timeout", "scripted") from None
        await self._point("answer")
        if wire.cut:
            raise SentUnknown(wire.cut, "scripted")
        return UpstreamResponse(wire.status, CIMultiDictProxy(CIMultiDict(wire.headers)), wire.body)

    async def close(self) -> None:
        """Nothing is open."""
