"""Sending a transaction of our own to a chain's endpoints, and looking whether one of them has it in a block.

Must not know what it pays. Theory: the bytes are signed and can be taken once, so they go to every endpoint, in any order,
as often as anybody likes; and an endpoint that refuses them may be refusing what another one has passed on to it already.
"""

import asyncio
from collections.abc import Sequence

import structlog

from contracts.codec import to_hex
from gateway.chains.node import Node
from gateway.chains.rpc import EndpointUnavailable, RpcEndpoint
from gateway.ports import ChainUnavailable

__all__ = ["RpcBroadcaster"]

log = structlog.get_logger()


class RpcBroadcaster:
    """One chain's endpoints; implements `gateway.ports.Broadcaster`. It does not close them."""

    def __init__(self, endpoints: Sequence[RpcEndpoint], chain_id: int) -> None:
        self._endpoints = tuple(endpoints)
        self._nodes = tuple(Node(endpoint, chain_id) for endpoint in endpoints)

    async def send_raw(self, raw: bytes) -> None:
        """Hand a signed transaction to every endpoint. Raises ChainUnavailable if none said that it took it."""
        outcomes = await asyncio.gather(*(_send(endpoint, raw) for endpoint in self._endpoints))
        refusals = [str(problem) for problem in outcomes if problem is not None]
        if len(refusals) == len(outcomes):
            raise ChainUnavailable(f"no endpoint took the transaction: {'; '.join(refusals)}")

    async def seen(self, tx_hash: bytes) -> int | None:
        """Return the receipt's status as the first endpoint with one says, None where none has it in a block."""
        for node in self._nodes:
            try:
                await node.verify_chain()
                receipt = await node.receipt(tx_hash)
            except EndpointUnavailable as problem:
                log.debug("broadcast.not_seen", endpoint=problem.name, why=problem.reason)
                continue
            if receipt is not None:
                return receipt.status
        return None


async def _send(endpoint: RpcEndpoint, raw: bytes) -> EndpointUnavailable | None:
    try:
        await endpoint.call("eth_sendRawTransaction", to_hex(raw))
    except EndpointUnavailable as problem:
        return problem
    return None
