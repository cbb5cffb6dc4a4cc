"""Event logs: the strict reading of one log of a JSON-RPC node, and the four events that matter here.

Must not know endpoints or finality. Theory: a log is a claim by one node; it is read completely or refused, because a
half-read log (pending, removed by a reorg, of another shape) could be taken for money.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.codec import (
    ADDRESS_BYTES,
    WORD_BYTES,
    Address,
    ContractError,
    parse_address,
    parse_bytes32,
    parse_hex,
    parse_quantity,
)
from contracts.keccak import keccak256

AUTHORIZATION_USED = keccak256(b"AuthorizationUsed(address,bytes32)")
AUTHORIZATION_CANCELED = keccak256(b"AuthorizationCanceled(address,bytes32)")
TRANSFER = keccak256(b"Transfer(address,address,uint256)")
TRANSFER_WITH_MEMO = keccak256(b"TransferWithMemo(address,address,uint256,bytes32)")

MAX_TOPICS = 4
MAX_DATA_BYTES = 128 * 1024
NUMBER_BITS = 63

_ADDRESS_PAD = bytes(WORD_BYTES - ADDRESS_BYTES)


class LogError(ContractError):
    """A log is incomplete, removed, or not of the shape of its event."""


@dataclass(frozen=True, slots=True)
class Log:
    """One log of one mined transaction, as one node tells it."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class AuthorizationUsed:
    """The token consumed ``nonce`` of ``authorizer`` in a transfer."""

    authorizer: Address
    nonce: bytes


@dataclass(frozen=True, slots=True)
class AuthorizationCanceled:
    """The token made ``nonce`` of ``authorizer`` unusable; nothing was paid."""

    authorizer: Address
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Transfer:
    """The token moved ``value_base`` from ``sender`` to ``recipient``."""

    sender: Address
    recipient: Address
    value_base: int


@dataclass(frozen=True, slots=True)
class TransferWithMemo:
    """The TIP-20 token moved ``value_base`` from ``sender`` to ``recipient`` under ``memo``, beside its Transfer."""

    sender: Address
    recipient: Address
    value_base: int
    memo: bytes


def parse_log(raw: object) -> Log:
    """Read one log object of eth_getLogs or of a receipt. Raises ContractError.

    Refused: ``removed: true`` (the block left the chain), null block fields (the log is pending), a fifth topic.
    """
    if not isinstance(raw, Mapping):
        raise LogError("log: expected an object")
    if raw.get("removed", False) is not False:
        raise LogError("log: removed by a reorganisation")
    topics = raw.get("topics")
    if not isinstance(topics, list) or len(topics) > MAX_TOPICS:
        raise LogError("log.topics: expected a list of at most four")
    return Log(
        address=parse_address(raw.get("address"), "log.address"),
        topics=tuple(parse_bytes32(topic, "log.topics") for topic in topics),
        data=parse_hex(raw.get("data"), MAX_DATA_BYTES, "log.data"),
        block_number=parse_quantity(raw.get("blockNumber"), NUMBER_BITS, "log.blockNumber"),
        block_hash=parse_bytes32(raw.get("blockHash"), "log.blockHash"),
        tx_hash=parse_bytes32(raw.get("transactionHash"), "log.transactionHash"),
        log_index=parse_quantity(raw.get("logIndex"), NUMBER_BITS, "log.logIndex"),
    )


def topic_address(address: Address) -> bytes:
    """Write an address as an indexed topic, for log filters."""
    return _ADDRESS_PAD + address


def _is_event(log: Log, topic0: bytes) -> bool:
    return bool(log.topics) and log.topics[0] == topic0


def _address_in(topic: bytes) -> Address:
    if topic[: len(_ADDRESS_PAD)] != _ADDRESS_PAD:
        raise LogError("log.topics: not an address")
    return Address(topic[len(_ADDRESS_PAD) :])


def _require_shape(log: Log, topics: int, data_bytes: int) -> None:
    if len(log.topics) != topics or len(log.data) != data_bytes:
        raise LogError("log: topics or data are not those of the event")


def decode_authorization_used(log: Log) -> AuthorizationUsed | None:
    """Return the event, or None if the log is another event. Raises LogError when its shape is not the event's."""
    if not _is_event(log, AUTHORIZATION_USED):
        return None
    _require_shape(log, 3, 0)
    return AuthorizationUsed(authorizer=_address_in(log.topics[1]), nonce=log.topics[2])


def decode_authorization_canceled(log: Log) -> AuthorizationCanceled | None:
    """Return the event, or None if the log is another event. Raises LogError when its shape is not the event's."""
    if not _is_event(log, AUTHORIZATION_CANCELED):
        return None
    _require_shape(log, 3, 0)
    return AuthorizationCanceled(authorizer=_address_in(log.topics[1]), nonce=log.topics[2])


def decode_transfer(log: Log) -> Transfer | None:
    """Return the ERC-20 event, or None if the log is another event. Raises LogError when its shape is not the event's.

    An ERC-721 Transfer shares the first topic and has four: read only logs whose ``address`` is the token.
    """
    if not _is_event(log, TRANSFER):
        return None
    _require_shape(log, 3, WORD_BYTES)
    return Transfer(
        sender=_address_in(log.topics[1]),
        recipient=_address_in(log.topics[2]),
        value_base=int.from_bytes(log.data, "big"),
    )


def decode_transfer_with_memo(log: Log) -> TransferWithMemo | None:
    """Return the TIP-20 event, or None if the log is another event. Raises LogError when its shape is not the event's.

    On Tempo a Transfer of the same money stands directly before it.
    """
    if not _is_event(log, TRANSFER_WITH_MEMO):
        return None
    _require_shape(log, 4, WORD_BYTES)
    return TransferWithMemo(
        sender=_address_in(log.topics[1]),
        recipient=_address_in(log.topics[2]),
        value_base=int.from_bytes(log.data, "big"),
        memo=log.topics[3],
    )
