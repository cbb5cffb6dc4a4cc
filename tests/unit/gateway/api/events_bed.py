"""The agents' side with events and webhooks: the bed's own server, and telling whose loops run in the background."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web

from gateway.api.deps import ApiSettings
from gateway.api.server import ApiServer, build_api
from gateway.core.commands import Done, Put
from gateway.core.server import Server, ServerState
from gateway.flow.servers.hooks import HookSettings
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.telling import Telling
from gateway.http.courier import Courier
from gateway.store.told import TellableJournal
from gateway.system import SystemClock, SystemEntropy
from tests.factories import make_server
from tests.unit.gateway.api.bed import Bed
from tests.unit.gateway.flow.servers.telling_bed import LOOPBACK

PAUSE_S = 0.02


@dataclass
class EventsBed:
    """Everything, running."""

    bed: Bed
    telling: Telling
    api: ApiServer
    keys: dict[str, str]
    made: int = 0

    async def server(self, event: str = "ordered", account_id: str = "acc_1", **detail: object) -> Server:
        """Keep a new server of an account."""
        self.made += 1
        key_id = next(k.id for k in self.bed.store.view.keys_by_id.values() if k.account_id == account_id)
        server = make_server(self.made, account_id=account_id, key_id=key_id)
        await self.put(server, event, **detail)
        return server

    async def put(self, record: Any, event: str, **detail: object) -> None:
        """Keep a record."""
        result = await self.bed.store.post(Put(record, event, SystemClock().now_ms(), detail))
        assert isinstance(result, Done), result

    async def move(self, server: Server, state: ServerState) -> Server:
        """Keep a server's next version."""
        after = replace(server, state=state, version=server.version + 1)
        await self.put(after, state.value)
        return after


@contextlib.asynccontextmanager
async def events_on(
    bed: Bed,
    settings: HookSettings | None = None,
    api_settings: ApiSettings | None = None,
    courier: Courier | None = None,
) -> AsyncIterator[EventsBed]:
    """Put events and webhooks on a running bed; its `url` is theirs from here on."""
    clock, entropy = SystemClock(), SystemEntropy()
    keeping = Keeping(bed.store, bed.sealer, clock, clock, entropy)
    posting = courier or Courier(LOOPBACK, allow_http=True)
    telling = Telling(keeping, TellableJournal(bed.store), posting, entropy, settings)
    neutral: Any = SimpleNamespace(keeping=keeping, telling=telling, servers={})
    deps = replace(bed.server.api.deps, neutral=neutral)
    api = build_api(deps if api_settings is None else replace(deps, settings=api_settings))
    runner = web.ServerRunner(api, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bed.url = "http://{}:{}".format(*runner.addresses[0][:2])
    loop = asyncio.create_task(_loops(telling))
    other = await bed.new_key("proxy", "read", account_id="acc_2")
    try:
        yield EventsBed(bed, telling, api, {"acc_1": bed.key, "acc_2": other})
    finally:
        api.refuse_new()
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await telling.close(1.0)
        await runner.cleanup()


async def _loops(telling: Telling) -> None:
    while True:
        await telling.sweep()
        await telling.deliver()
        await asyncio.sleep(PAUSE_S)


@dataclass
class Stream:
    """A client of server-sent events: reads what the specification's field lines say."""

    response: aiohttp.ClientResponse
    comments: list[str] = field(default_factory=list)
    retry: str = ""
    last_id: str = ""

    async def next(self, timeout_s: float = 40.0) -> dict[str, Any]:
        """Return the next event. Raises EOFError at the stream's end."""
        async with asyncio.timeout(timeout_s):
            fields: dict[str, str] = {}
            while True:
                line = (await self.response.content.readline()).decode()
                if not line:
                    raise EOFError
                line = line.rstrip("\n")
                if not line and "data" in fields:
                    document: dict[str, Any] = json.loads(fields["data"])
                    assert (fields["id"], fields["event"]) == (document["data"]["id"], document["type"])
                    self.last_id = fields["id"]
                    return document
                if line.startswith(":"):
                    self.comments.append(line)
                elif line.startswith("retry: "):
                    self.retry = line.removeprefix("retry: ")
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value

    async def types(self, count: int) -> list[str]:
        """Return the types of the next events."""
        return [str((await self.next())["type"]) for _ in range(count)]


@contextlib.asynccontextmanager
async def stream(bed: Bed, path: str = "/v1/events", key: str | None = None, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream."""
    wanted = {"Accept": "text/event-stream", **bed.auth(key), **{n.replace("_", "-"): v for n, v in headers.items()}}
    async with bed.client.get(bed.url + path, headers=wanted) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)
