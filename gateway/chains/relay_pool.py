"""The endpoints of one chain as relayers use them: whichever answers, the one that answered last first.

Must not know what is asked. Theory: nothing here needs agreement, only an answer soon; so a question goes to one endpoint,
and to the next when that one has none, and an endpoint that hangs costs its patience once and not with each question.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from contracts.codec import ContractError
from gateway.chains.node import Node
from gateway.chains.rpc import CallReverted, EndpointUnavailable, RpcEndpoint
from gateway.ports import ChainUnavailable

__all__ = ["RelayPool"]

PATIENCE_S = 5.0

T = TypeVar("T")


class RelayPool:
    """Asks one endpoint after the other. It does not close them."""

    def __init__(self, endpoints: Sequence[RpcEndpoint], chain_id: int, patience_s: float = PATIENCE_S) -> None:
        if not endpoints:
            raise ValueError("endpoints: none")
        self.members = tuple((endpoint, Node(endpoint, chain_id)) for endpoint in endpoints)
        self._first = 0
        self._patience_s = patience_s

    async def ask(self, read: Callable[[Any], T], method: str, *params: object) -> T:
        """Return what `read` makes of the first usable answer. Raises CallReverted, or ChainUnavailable where none has one."""
        reasons: list[str] = []
        for turn in range(len(self.members)):
            index = (self._first + turn) % len(self.members)
            endpoint, node = self.members[index]
            try:
                async with asyncio.timeout(self._patience_s):
                    await node.verify_chain()
                    answer = read(await endpoint.call(method, *params))
            except CallReverted:
                self._first = index
                raise
            except TimeoutError:
                reasons.append(f"{endpoint.name}: no answer in time")
            except EndpointUnavailable as problem:
                reasons.append(str(problem))
            except ContractError as problem:
                reasons.append(f"{endpoint.name}: {method}: {problem}")
            else:
                self._first = index
                return answer
        raise ChainUnavailable("; ".join(reasons))

    async def ask_node(self, question: Callable[[Node], Any]) -> Any:  # noqa: ANN401 - the caller knows what it asked
        """Return what the first node that can answer says to a question of several calls. Raises ChainUnavailable."""
        reasons: list[str] = []
        for turn in range(len(self.members)):
            node = self.members[(self._first + turn) % len(self.members)][1]
            try:
                async with asyncio.timeout(self._patience_s):
                    await node.verify_chain()
                    return await question(node)
            except TimeoutError:
                reasons.append(f"{node.name}: no answer in time")
            except EndpointUnavailable as problem:
                reasons.append(str(problem))
        raise ChainUnavailable("; ".join(reasons))
