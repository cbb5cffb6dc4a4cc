"""Sending our own transaction to real endpoints: taken by any is taken, and what is seen is a sighting of one of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from chain_beds import FAST

from contracts.attribution import attribution_memo
from contracts.codec import Address, parse_bytes32, to_hex
from contracts.signature import address_of, load_key, sign_digest
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import MODERATO_PATHUSD
from gateway.chains.broadcast import RpcBroadcaster
from gateway.chains.rpc import RpcEndpoint
from gateway.ports import Broadcaster, ChainUnavailable
from sandbox.tempo.chain import LocalTempo
from sandbox.tempo.shim import Shim

CHAIN = MODERATO_PATHUSD.chain_id


@pytest.fixture(scope="module")
def tempo() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture
def shims(tempo: LocalTempo) -> list[Shim]:
    """Two endpoints."""
    return [tempo.another_endpoint() for _ in range(2)]


@pytest.fixture
async def broadcaster(shims: list[Shim]) -> AsyncIterator[Broadcaster]:
    """The real thing over them."""
    endpoints = [RpcEndpoint(shim.url, FAST) for shim in shims]
    yield RpcBroadcaster(endpoints, CHAIN)
    for endpoint in endpoints:
        await endpoint.close()


def signed(tempo: LocalTempo, *, gas: int = 1_000_000) -> tuple[bytes, bytes]:
    """Return a raw payment of a rich account, and its hash."""
    key = load_key(parse_bytes32(tempo.dev_account(0)[1]))
    memo = attribution_memo("api.example.com", f"push-{time.time_ns()}")
    payee = Address(time.time_ns().to_bytes(20, "big"))
    charge = TempoCharge(
        *(MODERATO_PATHUSD, address_of(key), (TempoTransfer(payee, 5, memo),), int(time.time()) + 20),
        *(gas, 40 * 10**9, 10**9),
        sponsored=False,
    )
    raw = charge.encode(sign_digest(key, charge.signing_hash))
    tx_hash = charge.tx_hash(raw)
    assert tx_hash is not None
    return raw, tx_hash


async def seen(broadcaster: Broadcaster, tx_hash: bytes) -> int | None:
    """Wait until it is seen, half a minute at most."""
    for _ in range(300):
        status = await broadcaster.seen(tx_hash)
        if status is not None:
            return status
        await asyncio.sleep(0.1)
    return None


async def test_it_is_sent_to_all_and_moves_money_once(
    tempo: LocalTempo, broadcaster: Broadcaster, shims: list[Shim]
) -> None:
    """Both endpoints are asked, twice over; the chain takes it once."""
    raw, tx_hash = signed(tempo)
    assert await broadcaster.seen(tx_hash) is None
    await broadcaster.send_raw(raw)
    assert await seen(broadcaster, tx_hash) == 1
    with contextlib.suppress(ChainUnavailable):  # nodes differ in what they say to bytes that are on chain already
        await broadcaster.send_raw(raw)
    assert [
        len(tempo.memo_transfers(log.memo)) for log in tempo.memo_transfers() if log.tx_hash == to_hex(tx_hash)
    ] == [1]
    for shim in shims:
        assert any("eth_sendRawTransaction" in str(entry) for entry in shim.log)


async def test_one_endpoint_that_takes_it_is_enough(
    tempo: LocalTempo, broadcaster: Broadcaster, shims: list[Shim]
) -> None:
    """The other one refuses it and knows no receipt either."""
    for method in ("eth_sendRawTransaction", "eth_getTransactionReceipt"):
        shims[0].faults.add({"method": method, "mode": "error", "left": None})
    raw, tx_hash = signed(tempo)
    await broadcaster.send_raw(raw)
    assert await seen(broadcaster, tx_hash) == 1


async def test_p5_nobody_said_yes_and_it_is_there(
    tempo: LocalTempo, broadcaster: Broadcaster, shims: list[Shim]
) -> None:
    """P5: the error says nothing about the money; the sighting does."""
    for shim in shims:
        shim.faults.add({"method": "eth_sendRawTransaction", "mode": "drop_after", "left": None})
    raw, tx_hash = signed(tempo)
    with pytest.raises(ChainUnavailable):
        await broadcaster.send_raw(raw)
    assert await seen(broadcaster, tx_hash) == 1


async def test_a_failed_transaction_is_seen_as_failed(tempo: LocalTempo, broadcaster: Broadcaster) -> None:
    """On chain, and paid nobody."""
    raw, tx_hash = signed(tempo, gas=100_000)
    await broadcaster.send_raw(raw)
    assert await seen(broadcaster, tx_hash) == 0


async def test_an_endpoint_of_another_chain_sees_nothing(tempo: LocalTempo, shims: list[Shim]) -> None:
    """Its receipts are of something else."""
    raw, tx_hash = signed(tempo)
    tempo.rpc("eth_sendRawTransaction", to_hex(raw))
    tempo.receipt(to_hex(tx_hash))
    endpoint = RpcEndpoint(shims[0].url, FAST)
    assert await RpcBroadcaster([endpoint], 4217).seen(tx_hash) is None
    assert await RpcBroadcaster([endpoint], CHAIN).seen(tx_hash) == 1
    await endpoint.close()
