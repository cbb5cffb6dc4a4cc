"""What one endpoint says, read completely or not at all: blocks, receipts, and contract calls at an exact block.

Must not know other endpoints. Theory: a null, a short or a foreign answer of a node means that this node does not know,
which is EndpointUnavailable; it never means zero, empty or no.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from contracts.codec import (
    Address,
    ContractError,
    parse_bytes32,
    parse_hex,
    parse_quantity,
    to_hex,
)
from contracts.logs import NUMBER_BITS, Log, LogError, parse_log
from contracts.networks import CHAIN_ID_BITS
from gateway.chains.finality import Finality
from gateway.chains.rpc import CallRefused, CallReverted, EndpointUnavailable, RpcEndpoint
from gateway.ports import Block, Receipt

__all__ = ["Node", "WrongChain"]

_CALL_MAX_BYTES = 64 * 1024
_CODE_MAX_BYTES = 64 * 1024
_LOGS_MAX = 50_000


class WrongChain(EndpointUnavailable):
    """The endpoint serves another chain than the configured one."""


class Node:
    """One endpoint of one chain. Every method raises EndpointUnavailable where it has no answer that makes sense."""

    def __init__(self, endpoint: RpcEndpoint, chain_id: int) -> None:
        self._endpoint = endpoint
        self._chain_id = chain_id
        self._verified = False
        self.name = endpoint.name

    async def verify_chain(self) -> None:
        """Ask once which chain this is. Raises WrongChain; until it succeeded, nothing of this endpoint counts."""
        if self._verified:
            return
        with self._reading("eth_chainId"):
            found = parse_quantity(await self._endpoint.call("eth_chainId"), CHAIN_ID_BITS, "chainId")
        if found != self._chain_id:
            raise WrongChain(self.name, f"serves chain {found}, configured is {self._chain_id}")
        self._verified = True

    async def newest(self) -> Block:
        """Return the endpoint's newest block."""
        return await self._block("latest")

    async def final(self, finality: Finality) -> Block:
        """Return the newest block that this endpoint holds final under the rule."""
        if finality.confirmations is None:
            return await self._block("finalized")
        head = await self.newest()
        return await self.block(max(0, head.number - finality.confirmations))

    async def block(self, number: int) -> Block:
        """Return the block at this height of its chain; a node that has not got there yet is unavailable."""
        block = await self._block(hex(number))
        if block.number != number:
            raise EndpointUnavailable(self.name, f"answered with block {block.number} when asked for {number}")
        return block

    async def require_block(self, expected: Block) -> None:
        """Return when this very block is on the endpoint's chain; any other answer is unavailable."""
        found = await self.block(expected.number)
        if found.hash != expected.hash:
            raise EndpointUnavailable(self.name, f"holds another block {expected.number} than {to_hex(expected.hash)}")

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """Return the receipt with its block, which must be on the endpoint's chain; None if it knows no receipt."""
        raw = await self._endpoint.call("eth_getTransactionReceipt", to_hex(tx_hash))
        if raw is None:
            return None
        with self._reading("eth_getTransactionReceipt"):
            found_hash, number, block_hash, status, logs = _parse_receipt(raw)
        if found_hash != tx_hash:
            raise EndpointUnavailable(self.name, "answered with the receipt of another transaction")
        block = await self.block(number)
        if block.hash != block_hash:
            raise EndpointUnavailable(self.name, "its receipt names a block that is not on its chain")
        return Receipt(tx_hash=tx_hash, status=status, block=block, logs=logs)

    async def logs(
        self, address: Address, topics: Sequence[Sequence[bytes] | None], from_block: int, to_block: int
    ) -> list[Log]:
        """Return eth_getLogs as the node gives it; only the shape of each log is checked here. A topic of None is any."""
        query = {
            "address": to_hex(address),
            "topics": [None if any_of is None else [to_hex(topic) for topic in any_of] for any_of in topics],
            "fromBlock": hex(from_block),
            "toBlock": hex(to_block),
        }
        raw = await self._endpoint.call("eth_getLogs", query)
        with self._reading("eth_getLogs"):
            if not isinstance(raw, list) or len(raw) > _LOGS_MAX:
                raise LogError("logs: expected a list")
            return [parse_log(log) for log in raw]

    async def call_at(self, to: Address, data: bytes, at: Block) -> bytes:
        """Return what a view answers at exactly this block. Raises CallReverted when the contract reverts."""
        request = {"to": to_hex(to), "data": to_hex(data)}
        return await self._at("eth_call", request, at, _CALL_MAX_BYTES)

    async def code_at(self, address: Address, at: Block) -> bytes:
        """Return the code of an account at exactly this block, empty where there is none."""
        return await self._at("eth_getCode", to_hex(address), at, _CODE_MAX_BYTES)

    async def _at(self, method: str, subject: object, at: Block, max_bytes: int) -> bytes:
        try:
            # EIP-1898: a node that lags or follows another fork has no such block and says so, where by number it
            # would answer from its own.
            raw = await self._endpoint.call(method, subject, {"blockHash": to_hex(at.hash), "requireCanonical": True})
        except CallReverted:
            raise
        except CallRefused:
            raw = await self._at_number(method, subject, at)
        with self._reading(method):
            return parse_hex(raw, max_bytes, "answer")

    async def _at_number(self, method: str, subject: object, at: Block) -> Any:  # noqa: ANN401 - JSON, read by `_at`
        await self.require_block(at)
        raw = await self._endpoint.call(method, subject, hex(at.number))
        await self.require_block(at)
        return raw

    async def _block(self, tag: str) -> Block:
        raw = await self._endpoint.call("eth_getBlockByNumber", tag, False)
        if raw is None:
            raise EndpointUnavailable(self.name, f"has no block {tag} yet")
        with self._reading("eth_getBlockByNumber"):
            if not isinstance(raw, Mapping):
                raise ContractError("block: expected an object")
            return Block(
                number=parse_quantity(raw.get("number"), NUMBER_BITS, "block.number"),
                hash=parse_bytes32(raw.get("hash"), "block.hash"),
                time_s=parse_quantity(raw.get("timestamp"), NUMBER_BITS, "block.timestamp"),
            )

    @contextmanager
    def _reading(self, method: str) -> Iterator[None]:
        try:
            yield
        except ContractError as error:
            raise EndpointUnavailable(self.name, f"{method}: {error}") from None


def _parse_receipt(raw: object) -> tuple[bytes, int, bytes, int, tuple[Log, ...]]:
    if not isinstance(raw, Mapping):
        raise ContractError("receipt: expected an object")
    tx_hash = parse_bytes32(raw.get("transactionHash"), "receipt.transactionHash")
    number = parse_quantity(raw.get("blockNumber"), NUMBER_BITS, "receipt.blockNumber")
    block_hash = parse_bytes32(raw.get("blockHash"), "receipt.blockHash")
    status = parse_quantity(raw.get("status"), 1, "receipt.status")
    raw_logs = raw.get("logs")
    if not isinstance(raw_logs, list) or len(raw_logs) > _LOGS_MAX:
        raise LogError("receipt.logs: expected a list")
    logs = tuple(parse_log(log) for log in raw_logs)
    if any((log.block_number, log.block_hash, log.tx_hash) != (number, block_hash, tx_hash) for log in logs):
        raise LogError("receipt.logs: not all of this transaction and block")
    return tx_hash, number, block_hash, status, logs
