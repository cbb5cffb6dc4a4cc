"""A load generator that costs as little as Python can: keep-alive connections, one request at a time on each.

Must not know what it asks for.  Theory: it shares a core with the upstream, so every microsecond that it saves is load.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools
import uvloop

from tests.bench.figures import Run

OK = 200


def drive(host: str, port: int, request: Callable[[int], bytes], count: int, concurrency: int) -> Run:
    """Send `request(0)` to `request(count - 1)`, so many at a time. Raises RuntimeError for any answer but 200."""
    requests = [request(n) for n in range(count)]
    return uvloop.run(_drive(host, port, _Job(requests[::-1], count), concurrency))


def drive_judged(
    host: str, port: int, requests: list[bytes], concurrency: int, good: bytes, patience_s: float | None = None
) -> tuple[Run, list[bytes]]:
    """Send these requests, so many at a time; return the run and the bodies that do not hold `good`, whatever their status.

    With `patience_s`, leave after so long: the run then holds what was answered until then.
    """
    job = _Job(requests[::-1], len(requests), good)
    return uvloop.run(_drive(host, port, job, concurrency, patience_s)), job.failures


@dataclass(slots=True)
class _Job:
    waiting: list[bytes]
    left: int
    good: bytes | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    broken: Exception | None = None
    failures: list[bytes] = field(default_factory=list)
    latencies_us: list[float] = field(default_factory=list)

    def end(self, why: Exception | None = None) -> None:
        self.broken = self.broken or why
        self.done.set()


async def _drive(host: str, port: int, job: _Job, concurrency: int, patience_s: float | None = None) -> Run:
    loop = asyncio.get_running_loop()
    lanes = [
        (await loop.create_connection(lambda: _Lane(job), host, port))[1] for _ in range(min(concurrency, job.left))
    ]
    began = time.perf_counter()
    for lane in lanes:
        lane.send()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await job.done.wait()
    seconds = time.perf_counter() - began
    if job.broken is not None:
        raise job.broken
    job.left = 0  # what is answered from here on was too late
    for lane in lanes:
        lane.leave()
    return Run(len(job.latencies_us), seconds, job.latencies_us)


class _Lane(asyncio.Protocol):
    def __init__(self, job: _Job) -> None:
        self._job, self._sent_at, self._body = job, 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        if not self._job.waiting:
            self._transport.close()
            return
        self._parser, self._body = httptools.HttpResponseParser(self), b""
        self._sent_at = time.perf_counter()
        self._transport.write(self._job.waiting.pop())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def leave(self) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._job.left and self._job.waiting:
            self._job.end(RuntimeError(f"the connection was lost: {exc}"))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        job = self._job
        if not job.left:
            return
        job.latencies_us.append((time.perf_counter() - self._sent_at) * 1e6)
        self._judge(self._parser.get_status_code())
        job.left -= 1
        if not job.left:
            job.end()
        self.send()

    def _judge(self, status: int) -> None:
        if self._job.good is None:
            if status != OK:
                self._job.end(RuntimeError(f"answered {status}: {self._body[:500]!r}"))
        elif self._job.good not in self._body:
            self._job.failures.append(self._body)
