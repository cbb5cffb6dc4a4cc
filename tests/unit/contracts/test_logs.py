"""Logs are read completely or refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from contracts import logs
from contracts.codec import Address, ContractError, to_hex
from contracts.logs import (
    AuthorizationCanceled,
    AuthorizationUsed,
    LogError,
    Transfer,
    TransferWithMemo,
    parse_log,
    topic_address,
)

_FOLDER = Path(__file__).parents[2] / "vectors/contracts"
VECTORS = json.loads((_FOLDER / "eip3009.json").read_text())
TEMPO = json.loads((_FOLDER / "tempo.json").read_text())
PAYER, PAYEE = Address(b"\x11" * 20), Address(b"\x22" * 20)
NONCE = b"\x05" * 32


def raw_log(**change: Any) -> dict[str, Any]:
    """Return a node's AuthorizationUsed log, with any field changed."""
    return {
        "address": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
        "topics": [to_hex(logs.AUTHORIZATION_USED), to_hex(topic_address(PAYER)), to_hex(NONCE)],
        "data": "0x",
        "blockNumber": "0x10",
        "blockHash": "0x" + "aa" * 32,
        "transactionHash": "0x" + "bb" * 32,
        "transactionIndex": "0x0",
        "logIndex": "0x3",
        "removed": False,
    } | change


def transfer_log(value: int) -> dict[str, Any]:
    """Return a node's Transfer log."""
    topics = [to_hex(logs.TRANSFER), to_hex(topic_address(PAYER)), to_hex(topic_address(PAYEE))]
    return raw_log(topics=topics, data=to_hex(value.to_bytes(32, "big")))


@pytest.mark.parametrize(("name", "value"), [*VECTORS["topics"].items(), *TEMPO["topics"].items()])
def test_topics_are_pinned(name: str, value: str) -> None:
    """Each event's first topic is the contract's."""
    assert to_hex(getattr(logs, name)) == value


def test_reads_every_field() -> None:
    """Hex becomes bytes and integers."""
    log = parse_log(raw_log())
    assert (log.block_number, log.log_index, log.data) == (16, 3, b"")
    assert (log.block_hash, log.tx_hash) == (b"\xaa" * 32, b"\xbb" * 32)
    assert log.address.hex() == "833589fcd6edb6e08f4c7c32d4f71b54bda02913"
    assert parse_log({key: value for key, value in raw_log().items() if key != "removed"}) == log


@pytest.mark.parametrize(
    "change",
    [
        {"removed": True},
        {"removed": None},
        {"removed": "false"},
        {"blockNumber": None},
        {"blockHash": None},
        {"blockNumber": "0x010"},
        {"blockNumber": 16},
        {"logIndex": None},
        {"logIndex": "0x" + "f" * 17},
        {"transactionHash": "0x" + "bb" * 31},
        {"address": None},
        {"topics": None},
        {"topics": ["0x" + "00" * 32] * 5},
        {"topics": ["0x00"]},
        {"topics": [None]},
        {"data": None},
        {"data": "0x0"},
    ],
)
def test_refuses_half_a_log(change: dict[str, Any]) -> None:
    """Removed, pending, mistyped and oversized logs are no facts."""
    with pytest.raises(ContractError):
        parse_log(raw_log(**change))


@pytest.mark.parametrize("raw", [None, [], "0x", 1])
def test_refuses_what_is_no_log(raw: object) -> None:
    """Only an object can be a log."""
    with pytest.raises(LogError):
        parse_log(raw)


def test_reads_the_three_events() -> None:
    """Each decoder reads its own event and answers None to the others."""
    used = parse_log(raw_log())
    cancelled = dataclasses.replace(used, topics=(logs.AUTHORIZATION_CANCELED, *used.topics[1:]))
    moved = parse_log(transfer_log(2**256 - 1))
    decoders = (logs.decode_authorization_used, logs.decode_authorization_canceled, logs.decode_transfer)
    assert [decode(used) for decode in decoders] == [AuthorizationUsed(PAYER, NONCE), None, None]
    assert [decode(cancelled) for decode in decoders] == [None, AuthorizationCanceled(PAYER, NONCE), None]
    assert [decode(moved) for decode in decoders] == [None, None, Transfer(PAYER, PAYEE, 2**256 - 1)]
    assert [decode(dataclasses.replace(used, topics=())) for decode in decoders] == [None, None, None]


def test_refuses_an_event_of_another_shape() -> None:
    """An ERC-721 Transfer, dirty address bits, and missing or added data are refused."""
    moved, used = parse_log(transfer_log(1)), parse_log(raw_log())
    wrong = [
        (logs.decode_transfer, dataclasses.replace(moved, topics=(*moved.topics, bytes(32)), data=b"")),
        (logs.decode_transfer, dataclasses.replace(moved, data=moved.data + bytes(32))),
        (logs.decode_transfer, dataclasses.replace(moved, topics=(moved.topics[0], b"\1" * 32, moved.topics[2]))),
        (logs.decode_authorization_used, dataclasses.replace(used, data=bytes(32))),
        (logs.decode_authorization_used, dataclasses.replace(used, topics=used.topics[:2])),
    ]
    for decode, log in wrong:
        with pytest.raises(LogError):
            decode(log)  # type: ignore[operator]


def test_reads_a_transfer_with_memo() -> None:
    """TIP-20's event has the memo as its fourth topic; the plain Transfer is another event."""
    moved = parse_log(transfer_log(7))
    noted = dataclasses.replace(moved, topics=(logs.TRANSFER_WITH_MEMO, *moved.topics[1:], NONCE))
    assert logs.decode_transfer_with_memo(noted) == TransferWithMemo(PAYER, PAYEE, 7, NONCE)
    assert logs.decode_transfer_with_memo(moved) is None
    assert logs.decode_transfer(noted) is None
    for wrong in (
        dataclasses.replace(noted, topics=noted.topics[:3]),
        dataclasses.replace(noted, data=b""),
        dataclasses.replace(noted, topics=(noted.topics[0], NONCE, *noted.topics[2:])),
    ):
        with pytest.raises(LogError):
            logs.decode_transfer_with_memo(wrong)
