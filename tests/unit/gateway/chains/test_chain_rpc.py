"""One endpoint: bounds, retries, a strict envelope, and no word of its URL anywhere."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from web3 import AsyncWeb3

from gateway.chains.rpc import CallRefused, CallReverted, EndpointUnavailable, Limits, RpcEndpoint
from tests.fakes.rpc_server import NodeError, RawAnswer, RpcServer

FAST = Limits(connect_s=5.0, attempt_s=5.0, call_s=20.0, attempts=3, backoff_s=0.001, answer_max_bytes=10_000)


@asynccontextmanager
async def endpoint(
    answer: Callable[[str, list[Any]], Awaitable[Any]], limits: Limits = FAST
) -> AsyncIterator[tuple[RpcEndpoint, RpcServer]]:
    """Run a node with this script and an endpoint for it."""
    async with RpcServer(answer) as server:
        rpc = RpcEndpoint(server.url, limits)
        try:
            yield rpc, server
        finally:
            await rpc.close()


def script(*answers: Any) -> Callable[[str, list[Any]], Awaitable[Any]]:
    """Return a script: these answers in turn, the last one for ever."""
    left = list(answers)

    async def answer(method: str, params: list[Any]) -> Any:
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    return answer


async def test_the_result_of_a_call_is_returned() -> None:
    """Method and parameters arrive as given, and null is a result."""
    async with endpoint(script("0x2105", None)) as (rpc, server):
        assert await rpc.call("eth_chainId") == "0x2105"
        assert await rpc.call("eth_getBlockByNumber", "0x1", False) is None
        assert server.calls == [("eth_chainId", []), ("eth_getBlockByNumber", ["0x1", False])]


async def test_web3_works_over_the_endpoint() -> None:
    """The endpoint is a web3 provider, so relaying and treasury run inside the same bounds."""
    async with endpoint(script("0x10")) as (rpc, _):
        assert await AsyncWeb3(rpc).eth.block_number == 16
        with pytest.raises(TypeError):
            await rpc.make_batch_request([])


async def test_connections_are_kept() -> None:
    """Many calls share few connections: polling must not pay a TLS handshake each time."""
    async with endpoint(script("0x1"), replace(FAST, connections=2)) as (rpc, _):
        await asyncio.gather(*(rpc.call("eth_blockNumber") for _ in range(20)))
        connector = rpc._session.connector if rpc._session else None
        assert connector is not None
        assert sum(len(pool) for pool in connector._conns.values()) <= 2


async def test_the_nodes_own_error_is_refused_and_not_retried() -> None:
    """Its code is told; its text, which may quote the key, is not."""
    async with endpoint(script(NodeError(-32005, "app key SECRET over limit"))) as (rpc, server):
        with pytest.raises(CallRefused, match=r"refused eth_getLogs \(code -32005\)") as caught:
            await rpc.call("eth_getLogs")
        assert "SECRET" not in str(caught.value)
        assert caught.value.code == -32005
        assert len(server.calls) == 1


@pytest.mark.parametrize("error", [NodeError(3, "reverted"), NodeError(-32000, "execution reverted: Pausable: paused")])
async def test_a_revert_is_told_apart_from_other_refusals(error: NodeError) -> None:
    """Nodes spell it with code 3 or only in the text."""
    async with endpoint(script(error)) as (rpc, _):
        with pytest.raises(CallReverted):
            await rpc.call("eth_call")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_transient_failure_is_tried_again(status: int) -> None:
    """An overloaded node gets another chance."""
    async with endpoint(script(RawAnswer(b"busy", status), RawAnswer(b"busy", status), "0x1")) as (rpc, server):
        assert await rpc.call("eth_blockNumber") == "0x1"
        assert len(server.calls) == 3


async def test_attempts_are_bounded_and_spread() -> None:
    """After the last attempt the endpoint is unavailable; the pauses between attempts are random and grow."""
    jitters: list[float] = []

    def jitter() -> float:
        jitters.append(0.5)
        return 0.5

    async with RpcServer(script(RawAnswer(b"busy", 503))) as server:
        rpc = RpcEndpoint(server.url, FAST, jitter=jitter)
        with pytest.raises(EndpointUnavailable, match="HTTP 503"):
            await rpc.call("eth_blockNumber")
        assert (len(server.calls), len(jitters)) == (3, 2)
        await rpc.close()


async def test_sending_is_never_repeated() -> None:
    """Whether a transaction that got no answer went out is for the sender to find out."""
    async with endpoint(script(RawAnswer(b"busy", 503))) as (rpc, server):
        with pytest.raises(EndpointUnavailable):
            await rpc.call("eth_sendRawTransaction", "0x00")
        assert len(server.calls) == 1


async def test_a_node_that_hangs_is_given_up_within_the_calls_time() -> None:
    """The time of the whole call is bounded, not only that of an attempt."""

    async def hang(method: str, params: list[Any]) -> Any:
        await asyncio.sleep(3600)

    started = asyncio.get_running_loop().time()
    async with endpoint(hang, replace(FAST, attempt_s=0.2, call_s=1.0, attempts=1000)) as (rpc, _):
        with pytest.raises(EndpointUnavailable):
            await rpc.call("eth_blockNumber")
    assert asyncio.get_running_loop().time() - started < 20


@pytest.mark.parametrize("status", [401, 403, 404, 302])
async def test_other_statuses_are_no_answer(status: int) -> None:
    """Redirects are not followed, and a refused key is not tried again."""
    answer = RawAnswer(b"", status, (("Location", "http://127.0.0.1:9/"),))
    async with endpoint(script(answer)) as (rpc, server):
        with pytest.raises(EndpointUnavailable, match=f"HTTP {status}"):
            await rpc.call("eth_blockNumber")
        assert len(server.calls) == 1


async def test_a_refusal_by_status_is_a_refusal() -> None:
    """Some providers refuse a range of logs with 400, with or without a JSON-RPC error in the body."""
    error = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32600,"message":"range"}}'
    async with endpoint(script(RawAnswer(b"no", 400), RawAnswer(error, 400))) as (rpc, _):
        for code in (400, -32600):
            with pytest.raises(CallRefused) as caught:
                await rpc.call("eth_getLogs")
            assert caught.value.code == code


async def test_an_answer_too_large_is_refused_unread() -> None:
    """The bound also holds for what a compressed answer grows to; log ranges are split on it."""
    async with endpoint(script("0x" + "00" * 10_000)) as (rpc, _):
        with pytest.raises(CallRefused, match="413"):
            await rpc.call("eth_getLogs")


BAD_ENVELOPES = [
    b"",
    b"null",
    b"[]",
    b"<html>",
    b"\xff\xfe",
    b"[" * 9000,
    b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"1.0","id":1,"result":"0x1"}',
    b'{"id":1,"result":"0x1"}',
    b'{"jsonrpc":"2.0","result":"0x1"}',
    b'{"jsonrpc":"2.0","id":2,"result":"0x1"}',
    b'{"jsonrpc":"2.0","id":"1","result":"0x1"}',
    b'{"jsonrpc":"2.0","id":true,"result":"0x1"}',
    b'{"jsonrpc":"2.0","id":1,"result":"0x1","result":"0x2"}',
    b'{"jsonrpc":"2.0","id":1,"result":"0x1","error":{"code":1,"message":""}}',
    b'{"jsonrpc":"2.0","id":1,"result":NaN}',
    b'{"jsonrpc":"2.0","id":1,"error":"no"}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":""}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}',
    b'{"jsonrpc":"2.0","id":1,"result":' + b"1" * 5000 + b"}",
]


@pytest.mark.parametrize("body", BAD_ENVELOPES, ids=range(len(BAD_ENVELOPES)))
async def test_a_bad_envelope_is_no_answer(body: bytes) -> None:
    """Anything but one result or one error for this request is refused."""
    async with endpoint(script(RawAnswer(body))) as (rpc, _):
        with pytest.raises(EndpointUnavailable, match="not a JSON-RPC answer"):
            await rpc.call("eth_blockNumber")


async def test_a_null_error_beside_a_result_is_a_result() -> None:
    """Several nodes write both."""
    body = b'{"jsonrpc":"2.0","id":1,"result":"0x1","error":null}'
    async with endpoint(script(RawAnswer(body))) as (rpc, _):
        assert await rpc.call("eth_blockNumber") == "0x1"


async def test_nothing_of_the_url_but_its_host_is_ever_seen(caplog: pytest.LogCaptureFixture) -> None:
    """Providers put keys into path, query and user part; neither errors, causes, names nor debug logs show them."""
    caplog.set_level(logging.DEBUG)
    async with RpcServer(script("0x1", RawAnswer(b"", 403))) as server:
        host = server.url.removeprefix("http://")
        rpc = RpcEndpoint(f"http://USERKEY:PASSKEY@{host}/v2/PATHKEY?k=QUERYKEY", FAST)
        await rpc.call("eth_blockNumber")
        with pytest.raises(EndpointUnavailable) as refused:
            await rpc.call("eth_blockNumber")
    with pytest.raises(EndpointUnavailable) as down:
        await rpc.call("eth_blockNumber")
    await rpc.close()
    seen = [rpc.name, repr(rpc), str(rpc), str(rpc.endpoint_uri), caplog.text]
    for caught in (refused, down):
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        seen.append(f"{caught.value}")
    assert "KEY" not in " ".join(seen)
    assert rpc.name == host


@pytest.mark.parametrize(
    "url", ["", "rpc.example", "ftp://rpc.example", "http://", "https://h:99999/KEY", "http://h/#KEY"]
)
def test_a_bad_url_is_refused_without_repeating_it(url: str) -> None:
    """A mistyped URL may still hold the key."""
    with pytest.raises(ValueError, match="endpoint") as caught:
        RpcEndpoint(url)
    assert "KEY" not in str(caught.value)


async def test_a_closed_endpoint_answers_no_more() -> None:
    """Closing twice is safe; no session comes back to life."""
    async with endpoint(script("0x1")) as (rpc, server):
        await rpc.call("eth_blockNumber")
        await rpc.disconnect()
        await rpc.close()
        with pytest.raises(EndpointUnavailable, match="closed"):
            await rpc.call("eth_blockNumber")
        assert len(server.calls) == 1
