"""What relayers read of a node: blocks with their base fee, receipts with what they cost, and a node's word on a transaction.

Must not know who asks, nor other endpoints. Theory: all of it is a sighting of one node, never evidence; it is still read
completely or not at all, because half a receipt would be told to somebody as an outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.codec import ContractError, parse_bytes32, parse_quantity
from contracts.logs import NUMBER_BITS, Log, LogError, parse_log
from gateway.ports import Block

__all__ = ["Head", "Mined", "parse_head", "parse_mined", "refusal_of"]

_LOGS_MAX = 50_000
_FEE_BITS = 128
_TEXT_MAX_CHARS = 160
_KNOWN = ("already known", "already imported", "known transaction", "alreadyknown", "already in mempool")


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block and its base fee in wei."""

    block: Block
    base_fee_wei: int


@dataclass(frozen=True, slots=True)
class Mined:
    """A receipt as a node tells it; `fee_wei` is all that it cost, the L1 data fee included where the chain states one."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    logs: tuple[Log, ...]
    fee_wei: int


def parse_head(raw: object) -> Head:
    """Read a block of a chain with EIP-1559 fees. Raises ContractError."""
    if not isinstance(raw, Mapping):
        raise ContractError("block: expected an object")
    block = Block(
        number=parse_quantity(raw.get("number"), NUMBER_BITS, "block.number"),
        hash=parse_bytes32(raw.get("hash"), "block.hash"),
        time_s=parse_quantity(raw.get("timestamp"), NUMBER_BITS, "block.timestamp"),
    )
    return Head(block, parse_quantity(raw.get("baseFeePerGas"), _FEE_BITS, "block.baseFeePerGas"))


def parse_mined(raw: object) -> Mined:
    """Read a receipt with its logs and fee. Raises ContractError."""
    if not isinstance(raw, Mapping):
        raise ContractError("receipt: expected an object")
    tx_hash = parse_bytes32(raw.get("transactionHash"), "receipt.transactionHash")
    number = parse_quantity(raw.get("blockNumber"), NUMBER_BITS, "receipt.blockNumber")
    block_hash = parse_bytes32(raw.get("blockHash"), "receipt.blockHash")
    raw_logs = raw.get("logs")
    if not isinstance(raw_logs, list) or len(raw_logs) > _LOGS_MAX:
        raise LogError("receipt.logs: expected a list")
    logs = tuple(parse_log(log) for log in raw_logs)
    if any((log.block_number, log.block_hash, log.tx_hash) != (number, block_hash, tx_hash) for log in logs):
        raise LogError("receipt.logs: not all of this transaction and block")
    gas_used = parse_quantity(raw.get("gasUsed"), NUMBER_BITS, "receipt.gasUsed")
    price_wei = parse_quantity(raw.get("effectiveGasPrice"), _FEE_BITS, "receipt.effectiveGasPrice")
    # An OP-stack chain bills the bytes that it posts to its L1 beside the gas; elsewhere the field is not there.
    l1_fee_wei = 0 if raw.get("l1Fee") is None else parse_quantity(raw["l1Fee"], _FEE_BITS, "receipt.l1Fee")
    status = parse_quantity(raw.get("status"), 1, "receipt.status")
    return Mined(tx_hash, number, block_hash, status, logs, gas_used * price_wei + l1_fee_wei)


def refusal_of(answer: Mapping[str, Any]) -> str:
    """Return why a node did not take a transaction, in its own words in lower case; "" where it has it."""
    error = answer.get("error")
    if error is None:
        return ""
    message = error.get("message") if isinstance(error, Mapping) else None
    text = message.lower() if isinstance(message, str) else "an error without words"
    if any(word in text for word in _KNOWN):
        return ""
    # A stranger's text on its way to our log: nothing in it may end a line.
    return "".join(character if character.isprintable() else "?" for character in text)[:_TEXT_MAX_CHARS]
