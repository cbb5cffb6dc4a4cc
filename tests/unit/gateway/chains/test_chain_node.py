"""One endpoint's answers, read completely or not at all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contracts.codec import Address
from contracts.tokens import BASE_USDC
from gateway.chains.logs import LOG_REQUESTS_MAX, payment_logs_of
from gateway.chains.node import Node, WrongChain
from gateway.chains.rpc import CallReverted, EndpointUnavailable, RpcEndpoint
from gateway.ports import Block
from tests.fakes.rpc_server import NodeError, RpcServer

HASH, FORK = "0x" + "05" * 32, "0x" + "66" * 32
AT = Block(5, bytes.fromhex(HASH[2:]), 50)
TOKEN = Address(b"\x01" * 20)


def block(number: int = 5, block_hash: str = HASH) -> dict[str, Any]:
    """Return a block as a node writes it."""
    return {"number": hex(number), "hash": block_hash, "timestamp": hex(50)}


@asynccontextmanager
async def node(**answers: list[Any]) -> AsyncIterator[tuple[Node, RpcServer]]:
    """Run a node that gives each method's answers in turn, the last one for ever."""

    async def answer(method: str, params: list[Any]) -> Any:
        left = answers[method]
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    async with RpcServer(answer) as server:
        endpoint = RpcEndpoint(server.url)
        try:
            yield Node(endpoint, 8453), server
        finally:
            await endpoint.close()


async def test_the_chain_is_asked_for_until_it_was_right_once() -> None:
    """A wrong chain is refused each time; a right one is remembered."""
    async with node(eth_chainId=["0x1", "0x2105"]) as (subject, server):
        with pytest.raises(WrongChain, match="serves chain 1, configured is 8453"):
            await subject.verify_chain()
        await subject.verify_chain()
        await subject.verify_chain()
        assert server.asked("eth_chainId") == 2


@pytest.mark.parametrize(
    "answer",
    [None, [], "0x5", block(6), block() | {"hash": None}, block() | {"number": 5}, block() | {"timestamp": "50"}, {}],
    ids=range(8),
)
async def test_a_block_that_is_not_the_one_asked_for_is_none(answer: object) -> None:
    """Nothing, another height, a pending block and other shapes are unavailable."""
    async with node(eth_getBlockByNumber=[answer]) as (subject, _):
        with pytest.raises(EndpointUnavailable):
            await subject.block(5)


async def test_state_by_number_counts_between_two_sights_of_the_block() -> None:
    """Without EIP-1898 the block is looked at before and after, and either sight of another fork refuses the state."""
    refused = NodeError(-32602, "hex string expected")
    answer = "0x" + "00" * 31 + "01"
    for sights in ([block(), block()], [block(5, FORK), block()], [block(), block(5, FORK)]):
        forked = any(sight["hash"] == FORK for sight in sights)
        async with node(eth_call=[refused, answer], eth_getBlockByNumber=sights) as (subject, server):
            if forked:
                with pytest.raises(EndpointUnavailable, match="holds another block 5"):
                    await subject.call_at(TOKEN, b"", AT)
            else:
                assert await subject.call_at(TOKEN, b"", AT) == b"\0" * 31 + b"\x01"
                assert [method for method, _ in server.calls[1:]] == [
                    "eth_getBlockByNumber",
                    "eth_call",
                    "eth_getBlockByNumber",
                ]


async def test_a_revert_is_an_answer_and_not_asked_again_by_number() -> None:
    """The contract has spoken at this very block."""
    async with node(eth_call=[NodeError(3, "execution reverted")]) as (subject, server):
        with pytest.raises(CallReverted):
            await subject.call_at(TOKEN, b"", AT)
        assert server.asked("eth_call") == 1


async def test_a_log_query_without_wallets_is_a_mistake() -> None:
    """An empty list in a filter means everybody."""
    async with node() as (subject, server):
        with pytest.raises(ValueError, match="means any"):
            await payment_logs_of(subject, BASE_USDC, [], 0, 5)
        assert server.calls == []


async def test_a_wide_range_is_asked_for_in_bounded_steps() -> None:
    """Every block is asked for exactly once, and one question has a bounded number of requests."""
    async with node(eth_getBlockByNumber=[block(5_000)], eth_getLogs=[[]]) as (subject, server):
        assert (await payment_logs_of(subject, BASE_USDC, [b"\x02" * 20], 1, 5_000))[1] == ()
        ranges = [(p[0]["fromBlock"], p[0]["toBlock"]) for method, p in server.calls if method == "eth_getLogs"]
        assert ranges == [(hex(1), hex(2000)), (hex(2001), hex(4000)), (hex(4001), hex(5000))]


async def test_a_node_that_serves_one_block_at_a_time_has_its_bound() -> None:
    """A question that would take for ever is unknown, and the caller asks for less."""
    refusals = [NodeError(-32005)] * 10  # from 2000 blocks down to one

    async with node(eth_getBlockByNumber=[block(9_999)], eth_getLogs=[*refusals, []]) as (subject, server):
        with pytest.raises(EndpointUnavailable, match="more than 1000 requests"):
            await payment_logs_of(subject, BASE_USDC, [b"\x02" * 20], 0, 9_999)
        assert server.asked("eth_getLogs") == LOG_REQUESTS_MAX
