"""Receipts that were read once: not read again while their block stands, and read again when it does not."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from contracts.codec import parse_bytes32
from contracts.keccak import keccak256
from contracts.tokens import BASE_USDC
from gateway.chains.relay import RpcRelayChain
from gateway.chains.relay_kept import KeptReceipts
from gateway.chains.relay_reading import Mined, parse_mined
from gateway.chains.rpc import RpcEndpoint
from sandbox.chain import LocalBase
from tests.fakes.rpc_server import FaultyNode

RECEIPTS = ("eth_getTransactionReceipt", "eth_getBlockReceipts")
PAUSE = "0x8456cb59"


@pytest.fixture
async def node(automine_base: LocalBase) -> AsyncIterator[FaultyNode]:
    """A node that counts what it is asked."""
    async with FaultyNode(automine_base.rpc_url) as faulty:
        yield faulty


@pytest.fixture
async def relay(node: FaultyNode) -> AsyncIterator[RpcRelayChain]:
    """The relay chain over it."""
    endpoint = RpcEndpoint(node.url)
    yield RpcRelayChain([endpoint], BASE_USDC.chain_id)
    await endpoint.close()


@pytest.mark.parametrize("others", [0, 40])
async def test_a_receipt_is_read_once_while_its_block_stands(
    automine_base: LocalBase, node: FaultyNode, relay: RpcRelayChain, others: int
) -> None:
    """Alone or found by whole blocks, the second look asks for the block only, and says the same."""
    raw = automine_base.act(automine_base.token_address, PAUSE)
    tx_hash = parse_bytes32(raw["transactionHash"])
    unknown = [keccak256(b"%d" % number) for number in range(others)]
    first = await relay.mined([tx_hash, *unknown], 0)
    asked = sum(map(node.asked, RECEIPTS))
    assert asked
    assert first.keys() == {tx_hash}
    assert await relay.mined([tx_hash], 0) == first
    assert sum(map(node.asked, RECEIPTS)) == asked


async def test_a_receipt_of_a_block_that_is_gone_is_read_again(automine_base: LocalBase, relay: RpcRelayChain) -> None:
    """After a reorganisation another block has its number: the transaction is in none."""
    raw = automine_base.act(automine_base.token_address, PAUSE)
    tx_hash = parse_bytes32(raw["transactionHash"])
    assert (await relay.mined([tx_hash], 0)).keys() == {tx_hash}
    automine_base.reorg(1)
    assert automine_base.head()["number"] >= int(raw["blockNumber"], 16)
    assert await relay.mined([tx_hash], 0) == {}


async def test_a_chain_that_became_shorter_is_no_fault(automine_base: LocalBase, relay: RpcRelayChain) -> None:
    """Where the kept receipt's block number does not exist any more the transaction is looked for anew."""
    before = automine_base.snapshot()
    raw = automine_base.act(automine_base.token_address, PAUSE)
    tx_hash = parse_bytes32(raw["transactionHash"])
    assert (await relay.mined([tx_hash], 0)).keys() == {tx_hash}
    automine_base.restore(before)
    assert await relay.mined([tx_hash], 0) == {}


def test_what_is_kept_is_bounded_by_receipts_and_by_their_logs(automine_base: LocalBase) -> None:
    """The one used longest ago goes first; one of more logs than all may have together is not kept."""
    receipt = parse_mined(automine_base.act(automine_base.token_address, PAUSE))
    assert receipt.logs

    def numbered(number: int, logs: int = 1) -> Mined:
        return replace(receipt, tx_hash=keccak256(b"%d" % number), logs=receipt.logs[:1] * logs)

    kept = KeptReceipts(receipts_max=2, logs_max=3)
    first, second, third = numbered(1), numbered(2), numbered(3)
    kept.keep([first, second])
    assert kept.of([first.tx_hash]) == [first]
    kept.keep([third])
    assert kept.of([first.tx_hash, second.tx_hash, third.tx_hash]) == [first, third]
    kept.keep([numbered(1, 2)])
    assert kept.of([first.tx_hash, third.tx_hash]) == [numbered(1, 2), third]
    kept.keep([numbered(4, 4)])
    assert kept.of([keccak256(b"4")]) == []
