"""The seam to vendors: one suite for every client behind `Upstream`, against servers that misbehave in all the known ways.

What it holds each client to: bytes arrive as they were given, nothing is sent twice in silence, and an error says truly
whether the request may have left.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.http.client import HttpUpstream
from gateway.http.egress import EgressRule, Origin, Timeouts
from gateway.http.port import NotSent, RedirectRefused, SentUnknown, Upstream, UpstreamRequest

CLIENTS: dict[str, Any] = {"http": HttpUpstream}
QUICK = Timeouts(connect_s=10.0, first_byte_s=20.0, body_s=20.0, total_s=40.0)
PATIENCE_S = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = "t0psecret"

Script = Callable[["Wire", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest) -> Any:
    """Each class that stands behind the seam."""
    return CLIENTS[request.param]


@dataclass
class Wire:
    """A server on a raw socket: keeps what it got, and does what its script says."""

    script: Script
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    origin: str = ""

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """One whole request, with its body, as it came."""
        raw = await reader.readuntil(b"\r\n\r\n")
        head = raw.lower()
        if b"content-length:" in head:
            raw += await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        elif b"transfer-encoding: chunked" in head:
            raw += await reader.readuntil(b"0\r\n\r\n")
        self.requests.append(raw)
        return raw

    async def asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.requests) < count:  # noqa: ASYNC110 - scripts read as they like, and tell nobody
                await asyncio.sleep(0.01)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the script on one connection."""
        self.connections += 1
        try:
            await self.script(self, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def wire(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Serve a script on loopback."""
    server = Wire(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, limit=2**20)
    server.origin = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


@asynccontextmanager
async def connected(
    client: Any, origin: str, *, tls: ssl.SSLContext | None = None, **rule: Any
) -> AsyncIterator[Upstream]:
    """A client with a rule for one sandbox origin."""
    settings = {"allow_private": True, "allow_plain_http": True, "timeouts": QUICK} | rule
    upstream = client([EgressRule(Origin.parse(origin), **settings)], tls=tls)
    try:
        yield upstream
    finally:
        await upstream.close()


def answers(*raw: bytes, close: bool = False) -> Script:
    """A script that answers the nth request on any connection with the nth text, the last one again and again."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            writer.write(raw[min(len(server.requests), len(raw)) - 1])
            await writer.drain()
            if close:
                return

    return script


def get(target: str = "/", **fields: Any) -> UpstreamRequest:
    """A GET that carries a credential."""
    return UpstreamRequest("GET", target, (("X-Payment", SECRET),), **fields)


async def failure(upstream: Upstream, origin: str, request: UpstreamRequest) -> NotSent | SentUnknown:
    """How a request fails; the error names no secret."""
    with pytest.raises((NotSent, SentUnknown)) as caught:
        await upstream.send(origin, request)
    assert SECRET not in str(caught.value)
    return caught.value


async def failure_of(client: Any, script: Script, request: UpstreamRequest | None = None, **rule: Any) -> SentUnknown:
    """How a request to a scripted server fails; it must have arrived exactly once."""
    async with wire(script) as server, connected(client, server.origin, **rule) as upstream:
        error = await failure(upstream, server.origin, request or get())
        assert len(server.requests) == 1
    assert isinstance(error, SentUnknown)
    return error


@pytest.mark.parametrize(
    "target",
    ["/", "/a//b/../c", "/%7Ea/%2f%2F;p=1", "/x?q=%20+&q=%C3%A9&token=a%3D=b", "//evil.example/x", "/?u=http://x/"],
)
async def test_a_request_arrives_byte_for_byte(client: Any, target: str) -> None:
    """Path and query are not touched, and only the client's own framing headers are added."""
    headers = (("Content-Type", "application/json"), ("X-Payment", "abc="), ("x-payment-twice", "1"))
    async with wire(answers(OK)) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, UpstreamRequest("POST", target, headers, b'{"sku":"x"}'))
    assert (response.status, response.body, response.rest) == (200, b"ok", None)
    (raw,) = server.requests
    head, body = raw.split(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"POST {target} HTTP/1.1"
    assert body == b'{"sku":"x"}'
    sent = {line.split(": ")[0].lower(): line.split(": ")[1] for line in lines[1:]}
    assert sent == {
        "host": server.origin.removeprefix("http://"),
        "content-type": "application/json",
        "x-payment": "abc=",
        "x-payment-twice": "1",
        "content-length": "11",
    }


@pytest.mark.parametrize(
    "bad",
    [
        UpstreamRequest("GET", "/a b"),
        UpstreamRequest("GET", "/a\r\nX: y"),
        UpstreamRequest("GET", "http://evil.example/"),
        UpstreamRequest("GET", "/a#b"),
        UpstreamRequest("GET", "/é"),
        UpstreamRequest("GET", ""),
        UpstreamRequest("get", "/"),
        UpstreamRequest("CONNECT", "/"),
        UpstreamRequest("GET", "/", (("X", "a\r\nb: c"),)),
        UpstreamRequest("GET", "/", (("X", "a\nb"),)),
        UpstreamRequest("GET", "/", (("X", "a\0"),)),
        UpstreamRequest("GET", "/", (("X", "\u2028"),)),
        UpstreamRequest("GET", "/", (("X:", "a"),)),
        UpstreamRequest("GET", "/", (("", "a"),)),
        UpstreamRequest("GET", "/", (("Host", "evil.example"),)),
        UpstreamRequest("POST", "/", (("Content-Length", "5"),), b"abc"),
        UpstreamRequest("POST", "/", (("Transfer-Encoding", "chunked"),), b"abc"),
        UpstreamRequest("GET", "/" + "a" * 20_000),
    ],
    ids=repr,
)
async def test_a_request_that_could_be_read_as_two_is_not_sent(client: Any, bad: UpstreamRequest) -> None:
    """Line breaks, foreign origins and a second opinion on framing are refused before a byte is written."""
    async with wire(answers(OK)) as server, connected(client, server.origin) as upstream:
        error = await failure(upstream, server.origin, bad)
        assert (type(error), error.code, server.connections) == (NotSent, "request_invalid", 0)


async def test_only_configured_origins_are_reached(client: Any) -> None:
    """There is no default route: an origin without a rule is not sent to."""
    async with wire(answers(OK)) as server, connected(client, "http://127.0.0.1:1") as upstream:
        error = await failure(upstream, server.origin, get())
        assert (type(error), error.code, server.connections) == (NotSent, "origin_not_allowed", 0)


async def test_a_name_that_leads_inside_is_not_connected_to(client: Any) -> None:
    """A public name that resolves to a private address is refused at the moment of connecting."""
    async with wire(answers(OK)) as server:
        origin = server.origin.replace("127.0.0.1", "localhost")
        async with connected(client, origin, allow_private=False) as upstream:
            error = await failure(upstream, origin, get())
        assert (type(error), error.code, server.connections) == (NotSent, "address_refused", 0)


async def test_nothing_listens(client: Any) -> None:
    """A refused connection proves that nothing was sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with connected(client, origin) as upstream:
        error = await failure(upstream, origin, get())
    assert (type(error), error.code) == (NotSent, "connect_failed")


async def test_a_name_that_does_not_resolve(client: Any) -> None:
    """Nor does an unknown name let anything leave."""
    origin = "http://nowhere.invalid:80"
    async with connected(client, origin) as upstream:
        error = await failure(upstream, str(Origin.parse(origin)), get())
    assert (type(error), error.code) == (NotSent, "connect_failed")


async def test_a_full_pool_is_not_sent(client: Any) -> None:
    """A request that waits for a connection in vain has not left, and the one that holds it is not disturbed."""
    release = asyncio.Event()

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await release.wait()
        writer.write(OK)
        await writer.drain()

    timeouts = Timeouts(connect_s=1.0, first_byte_s=20, body_s=20, total_s=40)
    async with (
        wire(script) as server,
        connected(client, server.origin, max_connections=1, timeouts=timeouts) as upstream,
    ):
        first = asyncio.create_task(upstream.send(server.origin, get()))
        await server.asked(1)
        error = await failure(upstream, server.origin, get())
        assert (type(error), error.code, len(server.requests)) == (NotSent, "connect_timeout", 1)
        release.set()
        assert (await first).body == b"ok"


async def test_connections_are_kept_and_bounded(client: Any) -> None:
    """Many requests at once share at most the allowed connections, and later ones use those again."""
    async with wire(answers(OK)) as server, connected(client, server.origin, max_connections=4) as upstream:
        for _ in range(3):
            results = await asyncio.gather(*(upstream.send(server.origin, get()) for _ in range(40)))
            assert all(result.body == b"ok" for result in results)
        assert len(server.requests) == 120
        assert server.connections <= 4


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"])
@pytest.mark.parametrize("kept", [False, True])
async def test_nothing_is_sent_twice_in_silence(client: Any, method: str, kept: bool) -> None:  # noqa: FBT001 - a parameter
    """A connection lost before the answer, fresh or kept alive, is an unknown fate and never a second copy."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kept:
            await server.read(reader)
            writer.write(OK)
            await writer.drain()
        await server.read(reader)

    body = b"" if method in {"GET", "OPTIONS"} else b"x"
    async with wire(script) as server, connected(client, server.origin) as upstream:
        if kept:
            await upstream.send(server.origin, get())
        error = await failure(upstream, server.origin, UpstreamRequest(method, "/pay", (("X-Payment", SECRET),), body))
        assert (type(error), error.code) == (SentUnknown, "connection_lost")
        assert len([raw for raw in server.requests if b" /pay " in raw]) == 1


async def test_a_request_that_may_be_seen_twice_is_sent_again_once(client: Any) -> None:
    """Where the caller allows it, a dead kept-alive connection costs one more copy."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(OK)
        await writer.drain()
        if server.connections == 1:
            await server.read(reader)

    async with wire(script) as server, connected(client, server.origin) as upstream:
        await upstream.send(server.origin, get())
        response = await upstream.send(server.origin, get("/again", may_resend=True))
        assert response.body == b"ok"
        assert len([raw for raw in server.requests if b" /again " in raw]) == 2


async def test_a_second_copy_that_cannot_leave_does_not_excuse_the_first(client: Any) -> None:
    """Lost, then refused: the vendor may have the first copy, so the fate is unknown."""
    holder: list[asyncio.Server] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")
        holder[0].close()
        writer.close()

    holder.append(await asyncio.start_server(serve, "127.0.0.1", 0))
    origin = f"http://127.0.0.1:{holder[0].sockets[0].getsockname()[1]}"
    async with connected(client, origin) as upstream:
        await upstream.send(origin, get())
        error = await failure(upstream, origin, get(may_resend=True))
    assert (type(error), error.code) == (SentUnknown, "connection_lost")


async def test_a_silent_vendor_is_unknown(client: Any) -> None:
    """No answer in time: the request has left."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await reader.read()

    timeouts = Timeouts(connect_s=5, first_byte_s=0.2, body_s=5, total_s=20)
    assert (await failure_of(client, script, timeouts=timeouts)).code == "first_byte_timeout"


async def test_limits_are_each_exchanges_own_on_a_kept_connection(client: Any) -> None:
    """The second answer may take as long as the first could, counted from its own beginning; the third is too late."""
    pauses_s = iter((0.0, 1.0, 30.0))

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pause_s in pauses_s:
            await server.read(reader)
            with contextlib.suppress(TimeoutError):  # until the client gives up
                async with asyncio.timeout(pause_s):
                    await reader.read()
            writer.write(OK)
            await writer.drain()

    timeouts = Timeouts(connect_s=5.0, first_byte_s=3.0, body_s=3.0, total_s=20)
    async with wire(script) as server, connected(client, server.origin, timeouts=timeouts) as upstream:
        assert (await upstream.send(server.origin, get())).status == 200
        await asyncio.sleep(2.5)  # so that the first one's limit lies in the middle of the second
        assert (await upstream.send(server.origin, get())).status == 200
        assert (await failure(upstream, server.origin, get())).code == "first_byte_timeout"
        assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_body_that_falls_silent_is_unknown(client: Any) -> None:
    """An answer that stops in the middle ends at the limit on silence."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await reader.read()

    timeouts = Timeouts(connect_s=5, first_byte_s=10, body_s=0.2, total_s=20)
    assert (await failure_of(client, script, timeouts=timeouts)).code == "body_timeout"


async def test_a_body_that_drips_for_ever_is_unknown(client: Any) -> None:
    """A vendor cannot hold a connection, and a purchase, by sending a byte now and then."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    timeouts = Timeouts(connect_s=1.5, first_byte_s=2, body_s=5, total_s=2)
    assert (await failure_of(client, script, timeouts=timeouts)).code == "total_timeout"


async def test_a_head_that_drips_for_ever_is_unknown(client: Any) -> None:
    """The first byte alone does not stop the clock: a head must be complete."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    timeouts = Timeouts(connect_s=5, first_byte_s=0.3, body_s=5, total_s=20)
    assert (await failure_of(client, script, timeouts=timeouts)).code in {"first_byte_timeout", "malformed_answer"}


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
    ],
)
async def test_a_cut_body_is_unknown(client: Any, raw: bytes) -> None:
    """A 200 whose body breaks off is no delivery."""
    assert (await failure_of(client, answers(raw, close=True))).code == "truncated_body"


async def test_a_reset_in_the_body_is_unknown(client: Any) -> None:
    """A reset is a cut, by another name."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(0.05)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    assert (await failure_of(client, script)).code in {"truncated_body", "connection_lost"}


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: a\r\n" * 500 + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=lambda raw: repr(raw[:60]),
)
async def test_an_answer_that_is_no_http_is_unknown(client: Any, raw: bytes) -> None:
    """Malformed, oversized or ambiguously framed answers are never half understood."""
    assert (await failure_of(client, answers(raw, close=True))).code in {"malformed_answer", "truncated_body"}


async def test_a_header_of_sixty_kilobytes_is_read(client: Any) -> None:
    """Challenges with schemas are long, and aiohttp's default of 8 KB would break payments."""
    raw = b"HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: " + b"a" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"
    async with wire(answers(raw)) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, get())
    assert response.status == 402
    assert response.headers["payment-required"] == "a" * 60_000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://evil.example/x", "//evil.example/", "https://127.0.0.1/", "http:///x", "\\\\evil.example"]
)
async def test_a_redirect_to_another_origin_is_refused(client: Any, status: int, location: str) -> None:
    """A vendor cannot send our credential, or an agent, somewhere else."""
    raw = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    error = await failure_of(client, answers(raw))
    assert isinstance(error, RedirectRefused)
    assert (error.code, error.status) == ("redirect_refused", status)


@pytest.mark.parametrize("location", ["/next", "next?x=1", "{origin}/next"])
async def test_a_redirect_within_the_origin_is_handed_back(client: Any, location: str) -> None:
    """It is not followed either: the caller decides."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        there = location.format(origin=server.origin)
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode())
        await reader.read()

    async with wire(script) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, get("/start"))
        assert (response.status, len(server.requests)) == (302, 1)


async def test_interim_answers_are_skipped(client: Any) -> None:
    """100 and 103 are not the answer."""
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    async with wire(answers(raw, OK)) as server, connected(client, server.origin) as upstream:
        for _ in range(2):
            response = await upstream.send(server.origin, get())
            assert (response.status, response.body) == (200, b"ok")
        assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_at_once(client: Any, method: str, raw: bytes) -> None:
    """Their connection is used again, and they are whole."""
    async with wire(answers(raw)) as server, connected(client, server.origin) as upstream:
        for _ in range(2):
            response = await upstream.send(server.origin, UpstreamRequest(method, "/"))
            assert (response.body, response.rest, response.delimited) == (b"", None, True)
        assert server.connections == 1


async def test_a_body_that_only_the_close_ends_is_not_delimited(client: Any) -> None:
    """It may have been cut off unnoticed, and the answer says so."""
    for version in (b"1.0", b"1.1"):
        raw = b"HTTP/" + version + b" 200 OK\r\n\r\nuntil the end"
        async with wire(answers(raw, close=True)) as server, connected(client, server.origin) as upstream:
            response = await upstream.send(server.origin, get())
            assert (response.body, response.delimited) == (b"until the end", False)


async def test_chunks_are_put_together(client: Any) -> None:
    """Chunk extensions and trailers are framing, not content."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    async with wire(answers(raw, OK)) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, get())
        assert (response.body, response.delimited) == (b"abcde", True)
        assert (await upstream.send(server.origin, get())).body == b"ok"
        assert server.connections == 1


async def test_a_connection_that_the_vendor_closes_is_not_used_again(client: Any) -> None:
    """`Connection: close` is believed, in both versions of HTTP."""
    for raw in (OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), OK.replace(b"1.1", b"1.0")):
        async with wire(answers(raw)) as server, connected(client, server.origin) as upstream:
            for _ in range(2):
                assert (await upstream.send(server.origin, get())).body == b"ok"
            assert server.connections == 2


async def test_an_unasked_answer_never_answers_the_next_request(client: Any) -> None:
    """A vendor that sends two answers to one request cannot place the second under somebody else's call."""
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    async with wire(answers(OK + poison, OK)) as server, connected(client, server.origin) as upstream:
        outcomes: list[bytes] = []
        for _ in range(3):
            try:
                outcomes.append((await upstream.send(server.origin, get())).body)
            except SentUnknown:
                outcomes.append(b"refused")
            await asyncio.sleep(0.05)
    assert b"poison" not in outcomes
    assert outcomes[-1] == b"ok"


async def test_late_bytes_on_an_idle_connection_never_answer_the_next_request(client: Any) -> None:
    """The same, sent while the connection waits."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(OK)
        await writer.drain()
        if server.connections == 1:
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            await writer.drain()
        await reader.read()

    async with wire(script) as server, connected(client, server.origin) as upstream:
        assert (await upstream.send(server.origin, get())).body == b"ok"
        await asyncio.sleep(0.15)
        assert (await upstream.send(server.origin, get())).body == b"ok"
        assert server.connections == 2


async def test_bytes_that_the_loop_has_not_seen_yet_never_answer_the_next_request(client: Any) -> None:
    """The same, waiting unread in the kernel when the connection is about to be used again."""
    listener = socket.create_server(("127.0.0.1", 0))
    poisoned = threading.Event()

    def serve() -> None:
        first, _ = listener.accept()
        first.recv(65536)
        first.sendall(OK)
        time.sleep(0.1)
        first.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        poisoned.set()
        second, _ = listener.accept()
        second.recv(65536)
        second.sendall(OK)
        first.close()
        second.close()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with connected(client, origin) as upstream:
        assert (await upstream.send(origin, get())).body == b"ok"
        assert poisoned.wait(PATIENCE_S)  # blocks the loop, on purpose
        assert (await upstream.send(origin, get())).body == b"ok"
    server.join(5)
    listener.close()


async def test_an_answer_before_the_requests_end_is_taken(client: Any) -> None:
    """A vendor may refuse a large upload without reading it."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        await reader.read()

    async with wire(script) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, UpstreamRequest("POST", "/", (), b"x" * 100_000))
        assert (response.status, response.body) == (413, b"no")


async def test_nothing_is_decoded_or_remembered(client: Any) -> None:
    """Content encodings pass as they are, and cookies are not kept."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nSet-Cookie: a=b\r\nContent-Length: 3\r\n\r\n\x1f\x8bx"
    async with wire(answers(raw)) as server, connected(client, server.origin) as upstream:
        for _ in range(2):
            assert (await upstream.send(server.origin, get())).body == b"\x1f\x8bx"
        assert all(b"ookie" not in request for request in server.requests)


async def test_repeated_headers_are_all_there(client: Any) -> None:
    """Names are case-insensitive, and a repeated one keeps its values in order."""
    raw = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nX-Latin: \xe9\r\nContent-Length: 0\r\n\r\n"
    async with wire(answers(raw)) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, get())
    assert response.headers.getall("X-a") == ["1", "2"]


def large(size: int) -> bytes:
    """An answer with a body of this size."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"z" * size


async def test_a_long_body_goes_on_as_a_stream(client: Any) -> None:
    """`body` holds what was waited for, `rest` the remainder, and the connection lives on."""
    async with wire(answers(large(3_000_000))) as server, connected(client, server.origin) as upstream:
        for _ in range(2):
            response = await upstream.send(server.origin, get(buffer_bytes=1000))
            assert len(response.body) >= 1000
            assert response.rest is not None
            size = len(response.body)
            async for chunk in response.rest:
                size += len(chunk)
            assert size == 3_000_000
        assert server.connections == 1


async def test_a_slow_reader_holds_the_vendor_back(client: Any) -> None:
    """Memory stays bounded while nobody reads the stream."""
    written = 0

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await server.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
        for _ in range(200):
            writer.write(b"z" * 1_000_000)
            await writer.drain()
            written += 1_000_000

    async with wire(script) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, get(buffer_bytes=1000))
        await asyncio.sleep(0.3)
        assert written < 50_000_000
        assert response.rest is not None
        await response.rest.close()
        await response.rest.close()


async def test_a_stream_that_breaks_off_says_so(client: Any) -> None:
    """The reader of a stream learns that it is not whole."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"z" * 50_000
    async with wire(answers(raw, close=True)) as server, connected(client, server.origin) as upstream:
        try:
            response = await upstream.send(server.origin, get(buffer_bytes=10))
        except SentUnknown as error:
            caught = error
        else:
            assert response.rest is not None
            with pytest.raises(SentUnknown) as raised:
                [chunk async for chunk in response.rest]
            caught = raised.value
    assert caught.code == "truncated_body"


async def test_a_body_can_be_streamed_to_the_vendor(client: Any) -> None:
    """Uploads go out in chunks, without being held in memory."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"abc"

    async with wire(answers(OK)) as server, connected(client, server.origin) as upstream:
        response = await upstream.send(server.origin, UpstreamRequest("PUT", "/file", (), chunks()))
    assert response.status == 200
    head, body = server.requests[0].split(b"\r\n\r\n", 1)
    assert b"transfer-encoding: chunked" in head.lower()
    assert b"content-length" not in head.lower()
    assert body.replace(b"\r\n", b"|") == b"3|abc|3|abc|3|abc|0||"


async def test_cancelling_leaves_the_client_whole(client: Any) -> None:
    """A cancelled request gives its place in the pool back, and its late answer reaches nobody."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        if len(server.requests) == 1:
            await asyncio.sleep(0.2)
            writer.write(OK.replace(b"ok", b"no"))
        else:
            writer.write(OK)
        await writer.drain()
        await reader.read()

    async with wire(script) as server, connected(client, server.origin, max_connections=1) as upstream:
        first = asyncio.create_task(upstream.send(server.origin, get()))
        await server.asked(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await upstream.send(server.origin, get())).body == b"ok"


async def test_the_pool_survives_a_storm(client: Any) -> None:
    """Cancellations, lost connections and waits at random leak no place: afterwards every connection is free again."""
    chance = random.Random(7)

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            await asyncio.sleep(chance.random() * 0.004)
            if chance.random() < 0.2:
                return
            writer.write(OK)
            await writer.drain()

    async def one(upstream: Upstream, origin: str) -> None:
        with contextlib.suppress(TimeoutError, SentUnknown):
            async with asyncio.timeout(chance.random() * 0.05):
                await upstream.send(origin, get(may_resend=chance.random() < 0.5))

    async with wire(script) as server, connected(client, server.origin, max_connections=4) as upstream:
        await asyncio.gather(*(one(upstream, server.origin) for _ in range(400)))
        done = await asyncio.gather(
            *(upstream.send(server.origin, get(may_resend=True)) for _ in range(4)), return_exceptions=True
        )
        assert all(not isinstance(result, NotSent) for result in done)
        (pool,) = upstream._pools.values()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE_S):  # a place that leaked stays lost
            while (pool._dialing, len(pool._waiting)) != (0, 0) or set(pool._idle) != pool._open:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)


async def test_closing_ends_requests_with_an_unknown_fate(client: Any) -> None:
    """What is under way when the gateway stops may have arrived; what comes later has not."""

    async def script(server: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await reader.read()

    async with wire(script) as server, connected(client, server.origin) as upstream:
        under_way = asyncio.create_task(failure(upstream, server.origin, get()))
        await server.asked(1)
        await upstream.close()
        assert isinstance(await under_way, SentUnknown)
        later = await failure(upstream, server.origin, get())
        assert (type(later), later.code) == (NotSent, "closed")


async def test_against_a_real_aiohttp_server(client: Any) -> None:
    """Echo, chunked answers and uploads on a full server, many at once."""

    async def echo(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.query_string == "stream":
            response = web.StreamResponse()
            await response.prepare(request)
            for start in range(0, len(body), 1000):
                await response.write(body[start : start + 1000])
            await response.write_eof()
            return response
        return web.Response(body=body, headers={"X-Path": request.raw_path})

    app = web.Application(client_max_size=2**22)
    app.router.add_route("*", "/{tail:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    body = bytes(range(256)) * 2000
    try:
        async with connected(client, origin, max_connections=8) as upstream:
            plain = await asyncio.gather(
                *(upstream.send(origin, UpstreamRequest("POST", f"/n/{n}", (), body)) for n in range(30))
            )
            assert [answer.headers["X-Path"] for answer in plain] == [f"/n/{n}" for n in range(30)]
            assert all(answer.body == body for answer in plain)
            streamed = await upstream.send(origin, UpstreamRequest("POST", "/n?stream", (), body))
            assert (streamed.body, streamed.delimited) == (body, True)
    finally:
        await runner.cleanup()


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a self-signed certificate for 127.0.0.1, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trusting = ssl.create_default_context(cafile=str(pem))
    return server, trusting


async def test_tls_is_checked_before_anything_is_sent(client: Any, tmp_path: Path) -> None:
    """A trusted certificate is used; an unknown one, or no TLS at all, proves that nothing left."""
    server_tls, trusting = certificate(tmp_path)
    async with wire(answers(OK), server_tls) as server:
        async with connected(client, server.origin, tls=trusting) as upstream:
            for _ in range(2):
                assert (await upstream.send(server.origin, get())).body == b"ok"
            assert server.connections == 1
        async with connected(client, server.origin) as upstream:
            error = await failure(upstream, server.origin, get())
            assert (type(error), error.code) == (NotSent, "tls_failed")
        assert len(server.requests) == 2
    async with wire(answers(b"no tls here")) as server:
        origin = server.origin.replace("http:", "https:")
        async with connected(client, origin, timeouts=Timeouts(connect_s=1.0)) as upstream:
            error = await failure(upstream, origin, get())
            assert isinstance(error, NotSent)
