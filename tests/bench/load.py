"""A load generator that costs as little as Python can: keep-alive connections, one request at a time on each.

Must not know what it asks for.  Theory: it shares a core with the upstream, so every microsecond that it saves is load.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools
import uvloop

from tests.bench.figures import Run

OK = 200


def drive(host: str, port: int, request: Callable[[int], bytes], count: int, concurrency: int) -> Run:
    """Send `request(0)` to `request(count - 1)`, so many at a time. Raises RuntimeError for any answer but 200."""
    return uvloop.run(_drive(host, port, [request(n) for n in range(count)], concurrency))


@dataclass(slots=True)
class _Job:
    waiting: list[bytes]
    left: int
    done: asyncio.Future[None]
    latencies_us: list[float] = field(default_factory=list)


async def _drive(host: str, port: int, requests: list[bytes], concurrency: int) -> Run:
    loop = asyncio.get_running_loop()
    count = len(requests)
    job = _Job(requests[::-1], count, loop.create_future())
    lanes = [(await loop.create_connection(lambda: _Lane(job), host, port))[1] for _ in range(min(concurrency, count))]
    began = time.perf_counter()
    for lane in lanes:
        lane.send()
    await job.done
    seconds = time.perf_counter() - began
    return Run(count, seconds, job.latencies_us)


class _Lane(asyncio.Protocol):
    def __init__(self, job: _Job) -> None:
        self._job, self._sent_at, self._body = job, 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        if not self._job.waiting:
            self._transport.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = time.perf_counter()
        self._transport.write(self._job.waiting.pop())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._job.left and not self._job.done.done() and self._job.waiting:
            self._job.done.set_exception(RuntimeError(f"the connection was lost: {exc}"))

    def on_body(self, body: bytes) -> None:
        self._body = body

    def on_message_complete(self) -> None:
        job = self._job
        job.latencies_us.append((time.perf_counter() - self._sent_at) * 1e6)
        status = self._parser.get_status_code()
        if status != OK and not job.done.done():
            job.done.set_exception(RuntimeError(f"answered {status}: {self._body[:500]!r}"))
            return
        job.left -= 1
        if not job.left and not job.done.done():
            job.done.set_result(None)
        self.send()
