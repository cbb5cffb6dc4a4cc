"""The logs of payments of one endpoint over any range, whole, in order, and each in a block that the node stands by.

Must not know other endpoints or finality. Theory: nodes refuse wide ranges, each with its own limit and error, so a
refused range is halved until it is served; and a node's log index is another database than its chain (orphaned blocks
have been served from it), so the block of every log is looked up.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from contracts.codec import Address
from contracts.logs import (
    AUTHORIZATION_CANCELED,
    AUTHORIZATION_USED,
    TRANSFER,
    TRANSFER_WITH_MEMO,
    Log,
    topic_address,
)
from contracts.tokens import Token
from gateway.chains.node import Node
from gateway.chains.rpc import CallRefused, EndpointUnavailable
from gateway.ports import Block

__all__ = ["LOG_RANGE_MAX", "LOG_REQUESTS_MAX", "incoming_logs_of", "outgoing_logs_of", "payment_logs_of"]

LOG_RANGE_MAX = 2_000
"""Blocks in one eth_getLogs: what public Base endpoints serve without complaint."""

LOG_REQUESTS_MAX = 1_000
"""Requests in one question; beyond it the caller asks for less at a time."""

_LOOKUPS_AT_ONCE = 8

Topics = Sequence[Sequence[bytes] | None]
"""For each topic of a log those that it may be; None is any."""

_EVENTS: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {"eip3009": (AUTHORIZATION_USED, AUTHORIZATION_CANCELED), "tip20": (TRANSFER_WITH_MEMO,)}
)
_BEFORE_NONCE: Mapping[str, Topics] = MappingProxyType({"eip3009": (), "tip20": (None,)})
"""The topics between wallet and nonce: TransferWithMemo has the payee there."""


async def payment_logs_of(
    node: Node, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int, nonce: bytes | None = None
) -> tuple[Block, tuple[Log, ...]]:
    """Return the logs that tell of payments by these wallets in [from_block, to_block], of one nonce if named, in order.

    AuthorizationUsed and AuthorizationCanceled of an EIP-3009 token, TransferWithMemo of a TIP-20. With them the node's
    own block ``to_block``: what it says of the logs is worth as much as that is right.

    Raises EndpointUnavailable when the node refuses, has not got there, or contradicts itself.
    """
    topics: list[Sequence[bytes] | None] = [_EVENTS[token.standard], _any_of(wallets)]
    if nonce is not None:
        topics += [*_BEFORE_NONCE[token.standard], [nonce]]
    return await _logs_of(node, token, topics, from_block, to_block)


async def incoming_logs_of(
    node: Node, token: Token, payees: Sequence[bytes], from_block: int, to_block: int
) -> tuple[Block, tuple[Log, ...]]:
    """Return the Transfer logs of a token to these payees in [from_block, to_block], as `payment_logs_of` does."""
    return await _logs_of(node, token, [[TRANSFER], None, _any_of(payees)], from_block, to_block)


async def outgoing_logs_of(
    node: Node, token: Token, payers: Sequence[bytes], from_block: int, to_block: int
) -> tuple[Block, tuple[Log, ...]]:
    """Return the Transfer logs of a token from these payers in [from_block, to_block], as `payment_logs_of` does."""
    return await _logs_of(node, token, [[TRANSFER], _any_of(payers)], from_block, to_block)


def _any_of(addresses: Sequence[bytes]) -> list[bytes]:
    if not addresses:
        raise ValueError("addresses: an empty list in a filter means any")
    return [topic_address(Address(address)) for address in addresses]


async def _logs_of(
    node: Node, token: Token, topics: Topics, from_block: int, to_block: int
) -> tuple[Block, tuple[Log, ...]]:
    # A node that has not the last block yet would answer with the logs that it has, which looks like "none".
    last = await node.block(to_block)
    logs = await _collect(node, token.address, topics, from_block, to_block)
    _check(node, logs, token.address, topics)
    await _check_blocks(node, logs)
    await node.require_block(last)  # else the range was read across a reorganisation
    return last, tuple(logs)


async def _collect(node: Node, token: Address, topics: Topics, from_block: int, to_block: int) -> list[Log]:
    logs: list[Log] = []
    start, width = from_block, LOG_RANGE_MAX
    for _ in range(LOG_REQUESTS_MAX):
        if start > to_block:
            return logs
        end = min(start + width - 1, to_block)
        try:
            part = await node.logs(token, topics, start, end)
        except CallRefused:
            if end == start:
                raise
            width = (end - start + 1) // 2
            continue
        if any(not start <= log.block_number <= end for log in part):
            raise EndpointUnavailable(node.name, "eth_getLogs: a log outside the range")
        # Order within an answer is the node's habit, not its promise.
        logs += sorted(part, key=_place)
        start = end + 1
    raise EndpointUnavailable(node.name, f"eth_getLogs: more than {LOG_REQUESTS_MAX} requests for one question")


def _place(log: Log) -> tuple[int, int]:
    return log.block_number, log.log_index


def _check(node: Node, logs: Sequence[Log], token: Address, topics: Topics) -> None:
    for log in logs:
        matches = all(any_of is None or topic in any_of for topic, any_of in zip(log.topics, topics, strict=False))
        if log.address != token or len(log.topics) < len(topics) or not matches:
            raise EndpointUnavailable(node.name, "eth_getLogs: a log that was not asked for")
    if any(_place(a) == _place(b) for a, b in itertools.pairwise(logs)):
        raise EndpointUnavailable(node.name, "eth_getLogs: one log twice")


async def _check_blocks(node: Node, logs: Sequence[Log]) -> None:
    claims = sorted({(log.block_number, log.block_hash) for log in logs})
    for start in range(0, len(claims), _LOOKUPS_AT_ONCE):
        batch = claims[start : start + _LOOKUPS_AT_ONCE]
        blocks = await asyncio.gather(*(node.block(number) for number, _ in batch))
        if any(block.hash != claimed for block, (_, claimed) in zip(blocks, batch, strict=True)):
            raise EndpointUnavailable(node.name, "eth_getLogs: a log of a block that is not on its chain")
