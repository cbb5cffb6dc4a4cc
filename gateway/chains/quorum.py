"""The Chain port over independent JSON-RPC endpoints: an answer is what at least ``quorum`` of them say alike.

Must not know payments or what the evidence is for. Theory: a node may lag, lie, or be one of many behind a balancer, so
each endpoint answers a question whole (its logs together with its hash of the last block, its state by block hash), and
only whole answers are compared; then an endpoint that is behind is silent and can never look like "nothing happened".
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from contracts.calls import (
    CallError,
    decode_bool,
    decode_uint,
    encode_authorization_state,
    encode_balance_of,
)
from contracts.codec import Address
from contracts.logs import Log
from contracts.tokens import Token
from gateway.chains.agreement import answers_of, ask_all, decide, unavailable
from gateway.chains.finality import Finality, FinalMark
from gateway.chains.logs import incoming_logs_of, outgoing_logs_of, payment_logs_of
from gateway.chains.node import Node, WrongChain
from gateway.chains.rpc import CallReverted, EndpointUnavailable, RpcEndpoint
from gateway.ports import Block, ChainUnavailable, Receipt

__all__ = ["QuorumChain", "WrongChainError"]

T = TypeVar("T")

_HEAD_STRAGGLER_S = 1.0
"""How long one endpoint's head waits for the others': a purchase is waiting, and needs no quorum."""


class WrongChainError(Exception):
    """A configured endpoint serves another chain: the gateway must not start."""


class QuorumChain:
    """One chain through its endpoints; implements `gateway.ports.Chain` and reads the token for the startup check.

    ``known_final`` is the final block of an earlier run, so that finality does not go back over a restart. Takes over the
    endpoints and closes them. Raises ValueError when they cannot make a quorum: too few, or two on one host and port,
    which are one witness.
    """

    def __init__(
        self,
        endpoints: Sequence[RpcEndpoint],
        *,
        chain_id: int,
        finality: Finality,
        quorum: int = 2,
        known_final: Block | None = None,
    ) -> None:
        if not 1 <= quorum <= len(endpoints):
            raise ValueError(f"evidence_quorum {quorum} needs at least as many endpoints, {len(endpoints)} configured")
        if len({endpoint.name for endpoint in endpoints}) != len(endpoints):
            raise ValueError("endpoints: two on one host are one witness")
        self.chain_id = chain_id
        self._endpoints = tuple(endpoints)
        self._nodes = tuple(Node(endpoint, chain_id) for endpoint in endpoints)
        self._quorum = quorum
        self._finality = finality
        self._mark = FinalMark(known_final)
        self._witnesses: tuple[str, ...] = ()

    async def start(self) -> None:
        """Check every endpoint's chain id. Raises WrongChainError for any wrong one, ChainUnavailable for too few.

        An endpoint that is down now is checked before its first answer counts.
        """
        outcomes = await asyncio.gather(*(self._verified(node) for node in self._nodes))
        wrong = [str(outcome) for outcome in outcomes if isinstance(outcome, WrongChain)]
        if wrong:
            raise WrongChainError("; ".join(wrong))
        votes: dict[str, object] = {node.name: outcome for node, outcome in zip(self._nodes, outcomes, strict=True)}
        if sum(outcome is None for outcome in outcomes) < self._quorum:
            raise unavailable("chain id", votes, self._quorum)

    async def close(self) -> None:
        """Close the endpoints. Safe to repeat."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except (WrongChainError, ChainUnavailable):
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def witnesses(self) -> tuple[str, ...]:
        """Names of the endpoints that gave the last agreed answer."""
        return self._witnesses

    async def head(self) -> Block:
        """Return the newest block that a quorum claims to have reached, from as many endpoints as answer.

        No evidence, but it sets windows: one endpoint alone cannot move the time forward while another answers.
        """
        votes = await ask_all(self._nodes, Node.newest, 1, _HEAD_STRAGGLER_S)
        blocks = _newest_first(answers_of(votes))
        if not blocks:
            raise unavailable("head", votes, 1)
        return blocks[min(self._quorum, len(blocks)) - 1]

    async def final(self) -> Block:
        """Return the newest block that a quorum holds final, its hash agreed; never older than the last one.

        Raises ChainDisagreement also when a block that was called final has another hash now.
        """
        finality = self._finality
        votes = await ask_all(self._nodes, lambda node: node.final(finality), self._quorum)
        claims = _newest_first(answers_of(votes))
        if len(claims) < self._quorum:
            raise unavailable("final block", votes, self._quorum)
        # The quorum-th highest claim: that many endpoints hold it final, whatever a laggard or a boaster says.
        number = claims[self._quorum - 1].number
        mark = self._mark.block
        agreed = await self._agree(f"final block {number}", lambda node: node.block(number))
        if mark is not None and number > mark.number:
            self._mark.require(await self._agree(f"final block {mark.number}", lambda node: node.block(mark.number)))
        return self._mark.advance(agreed)

    async def block(self, number: int) -> Block:
        """Return the agreed block at this height. Raises ChainDisagreement also when it was final with another hash."""
        agreed = await self._agree(f"block {number}", lambda node: node.block(number))
        self._mark.require(agreed)
        return agreed

    async def payment_logs(
        self, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int, nonce: bytes | None = None
    ) -> tuple[Log, ...]:
        """Return the agreed logs of payments by these wallets in [from_block, to_block], of one nonce if named, in order.

        Every endpoint's hash of ``to_block`` is part of its answer. No wallets or an empty range: no logs.
        """
        if not wallets or from_block > to_block:
            return ()
        what = f"payment logs {from_block} to {to_block}"
        last, logs = await self._agree(
            what, lambda node: payment_logs_of(node, token, wallets, from_block, to_block, nonce)
        )
        self._mark.require(last)
        return logs

    async def incoming_logs(
        self, token: Token, payees: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        """Return the agreed Transfer logs of the token to these payees in [from_block, to_block], in order.

        As with `payment_logs` every endpoint's hash of ``to_block`` is part of its answer.
        """
        if not payees or from_block > to_block:
            return ()
        what = f"incoming logs {from_block} to {to_block}"
        last, logs = await self._agree(what, lambda node: incoming_logs_of(node, token, payees, from_block, to_block))
        self._mark.require(last)
        return logs

    async def outgoing_logs(
        self, token: Token, payers: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        """Return the agreed Transfer logs of the token from these payers in [from_block, to_block], in order."""
        if not payers or from_block > to_block:
            return ()
        what = f"outgoing logs {from_block} to {to_block}"
        last, logs = await self._agree(what, lambda node: outgoing_logs_of(node, token, payers, from_block, to_block))
        self._mark.require(last)
        return logs

    async def sightings(self, token: Token, wallets: Sequence[bytes], from_block: int) -> tuple[Log, ...]:
        """Return the same logs up to the newest block of the first endpoint that answers; never evidence."""
        votes: dict[str, object] = {}
        for node in self._nodes:
            try:
                await node.verify_chain()
                head = await node.newest()
                if not wallets or from_block > head.number:
                    return ()
                return (await payment_logs_of(node, token, wallets, from_block, head.number))[1]
            except EndpointUnavailable as problem:
                votes[node.name] = problem
        raise unavailable("sightings", votes, 1)

    async def receipt(self, tx_hash: bytes, at: Block | None = None) -> Receipt | None:
        """Return the agreed receipt, or None if no endpoint knows one; with ``at`` only those count that hold this block.

        An endpoint that knows none although it has the block of the others' receipt contradicts them; one that has not
        the block yet is unavailable.
        """

        async def ask(node: Node) -> Receipt | None:
            if at is None:
                return await node.receipt(tx_hash)
            # A node that has not got there knows no receipt either, and must not look like "none".
            await node.require_block(at)
            receipt = await node.receipt(tx_hash)
            await node.require_block(at)
            return receipt

        votes = await ask_all(self._nodes, ask, self._quorum)
        found = next((receipt for receipt in answers_of(votes).values() if receipt is not None), None)
        if found is not None:
            late = [node for node in self._nodes if votes[node.name] is None]
            block = found.block

            async def again(node: Node) -> Receipt | None:
                await node.block(block.number)
                return await node.receipt(tx_hash)

            votes |= await ask_all(late, again, len(late))
        return self._decide(f"receipt 0x{tx_hash.hex()}", votes)

    async def authorization_used(self, token: Token, wallet: bytes, nonce: bytes, at: Block) -> bool:
        """Return authorizationState at exactly this block: true if used or cancelled."""
        data = encode_authorization_state(Address(wallet), nonce)
        what = f"authorizationState of nonce 0x{nonce.hex()} at {at.number}"
        return await self._agree(what, lambda node: _view(node, token.address, data, at, decode_bool))

    async def token_balance(self, token: Token, owner: bytes, at: Block) -> int:
        """Return the token balance in base units at exactly this block."""
        data = encode_balance_of(Address(owner))
        what = f"balance of 0x{owner.hex()} at {at.number}"
        return await self._agree(what, lambda node: _view(node, token.address, data, at, decode_uint))

    async def view(self, to: Address, data: bytes, at: Block) -> bytes | None:
        """Return what a contract's view answers at exactly this block, undecoded; None when the contract reverts."""

        async def ask(node: Node) -> bytes | None:
            try:
                return await node.call_at(to, data, at)
            except CallReverted:
                return None

        return await self._agree(f"call of 0x{to.hex()} at {at.number}", ask)

    async def code(self, address: Address, at: Block) -> bytes:
        """Return an account's code at exactly this block; empty when it has none."""
        return await self._agree(f"code of 0x{address.hex()} at {at.number}", lambda node: node.code_at(address, at))

    async def _agree(self, what: str, ask: Callable[[Node], Awaitable[T]]) -> T:
        return self._decide(what, await ask_all(self._nodes, ask, self._quorum))

    def _decide(self, what: str, votes: Mapping[str, T | EndpointUnavailable]) -> T:
        answer, self._witnesses = decide(what, votes, self._quorum)
        return answer

    @staticmethod
    async def _verified(node: Node) -> EndpointUnavailable | None:
        try:
            await node.verify_chain()
        except EndpointUnavailable as problem:
            return problem
        return None


async def _view(node: Node, to: Address, data: bytes, at: Block, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(await node.call_at(to, data, at))
    except CallError as error:
        raise EndpointUnavailable(node.name, f"eth_call: {error}") from None


def _newest_first(blocks: Mapping[str, Block]) -> list[Block]:
    return sorted(blocks.values(), key=lambda block: block.number, reverse=True)
