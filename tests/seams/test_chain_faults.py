"""The quorum over a real anvil whose endpoints lag, lie, break or are slow: never more than unknown comes of it (P14)."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from chain_beds import FAST, AnvilBed, anvil_bed, authorization

from contracts.codec import Address, to_hex
from contracts.tokens import BASE_USDC, Token
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain, WrongChainError
from gateway.chains.rpc import RpcEndpoint
from gateway.chains.startup import TokenMismatch, verify_tokens
from gateway.ports import Block, ChainDisagreement, ChainUnavailable
from sandbox.chain import LocalBase
from tests.fakes.rpc_server import FaultyNode, NodeError, RawAnswer

NONCE = b"\x0a" * 32
Rewrite = Callable[[str, list[Any], Any], Any]


@pytest.fixture
async def two(automine_base: LocalBase) -> AsyncIterator[AnvilBed]:
    """Two endpoints, both needed."""
    async with anvil_bed(automine_base) as bed:
        yield bed


@pytest.fixture
async def three(automine_base: LocalBase) -> AsyncIterator[AnvilBed]:
    """Three endpoints, two needed."""
    async with anvil_bed(automine_base, endpoints=3) as bed:
        yield bed


def only(method: str, change: Callable[[Any], Any]) -> Rewrite:
    """Return a rewrite of one method's results."""
    return lambda asked, params, result: change(result) if asked == method else result


async def settled(bed: AnvilBed) -> tuple[bytes, Block]:
    """Settle and make it final; return the transaction's hash and the final block."""
    tx_hash = bed.settle(authorization(bed, NONCE))
    bed.mine(2)
    return tx_hash, await bed.chain.final()


async def logs(bed: AnvilBed, to_block: int) -> int:
    """Return how many logs are agreed on."""
    return len(await bed.chain.payment_logs(BASE_USDC, bed.wallets, 0, to_block))


# ---- lag -------------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_lags_is_silent_and_not_a_witness_of_nothing(two: AnvilBed) -> None:
    """Its short list of logs, missing receipt and missing block make the answers unknown, never empty."""
    tx_hash, final = await settled(two)
    two.nodes[1].lag = 4
    with pytest.raises(ChainUnavailable, match="has no block"):
        await logs(two, final.number)
    with pytest.raises(ChainUnavailable, match="has no block"):
        await two.chain.receipt(tx_hash)
    with pytest.raises(ChainUnavailable):
        await two.chain.authorization_used(BASE_USDC, two.wallets[0], NONCE, final)
    assert await two.chain.final() == final


async def test_two_lagging_endpoints_cannot_agree_on_nothing(two: AnvilBed) -> None:
    """Even when every endpoint lags alike, a range that they have only half is unknown."""
    _, final = await settled(two)
    for node in two.nodes:
        node.lag = 4
    with pytest.raises(ChainUnavailable):
        await logs(two, final.number)


async def test_the_others_decide_without_the_one_that_lags(three: AnvilBed) -> None:
    """Two of three are a quorum: its finality, logs, receipt and state; and the witnesses are those two."""
    three.nodes[0].lag = 4
    tx_hash, final = await settled(three)
    assert final.number == three.base.final()["number"]
    assert await logs(three, final.number) == 1
    assert three.chain.witnesses == (three.endpoints[1].name, three.endpoints[2].name)
    receipt = await three.chain.receipt(tx_hash)
    assert receipt is not None
    assert receipt.status == 1
    assert await three.chain.authorization_used(BASE_USDC, three.wallets[0], NONCE, final)


async def test_finality_never_goes_back(two: AnvilBed) -> None:
    """When both endpoints fall behind, the newest block once called final stays so."""
    _, final = await settled(two)
    for node in two.nodes:
        node.lag = 3
    assert await two.chain.final() == final


async def test_finality_known_from_an_earlier_run_is_kept(two: AnvilBed) -> None:
    """After a restart another block at the known final height is a disagreement."""
    final = await two.chain.final()
    endpoints = [RpcEndpoint(node.url, FAST) for node in two.nodes]
    forged = Block(final.number, b"\x66" * 32, final.time_s)
    async with QuorumChain(endpoints, chain_id=8453, finality=Finality(), known_final=forged) as chain:
        two.mine()
        with pytest.raises(ChainDisagreement, match=f"final block {final.number} changed"):
            await chain.final()


async def test_one_endpoint_alone_moves_neither_finality_nor_the_head(two: AnvilBed) -> None:
    """A boast of a block far ahead, with a time far ahead, changes nothing while the other answers."""
    head, final = await two.chain.head(), await two.chain.final()
    boast = {"number": hex(10**6), "timestamp": hex(head.time_s + 10**6)}
    tags = ("latest", "finalized")
    two.nodes[0].rewrite = lambda method, params, result: (
        result | boast if method == "eth_getBlockByNumber" and params[0] in tags else result
    )
    assert await two.chain.head() == head
    assert await two.chain.final() == final


# ---- lies ------------------------------------------------------------------------------------------------------------


def _other_hash(block: dict[str, Any]) -> dict[str, Any]:
    return block | {"hash": "0x" + "66" * 32}


def _extra_log(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*found, found[0] | {"logIndex": "0x7", "topics": [*found[0]["topics"][:2], "0x" + "0c" * 32]}]


LIES: dict[str, Rewrite] = {
    "a missing log": only("eth_getLogs", lambda found: []),
    "an extra log": only("eth_getLogs", _extra_log),
    "another nonce": only("eth_getLogs", lambda found: _extra_log(found)[1:]),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_about_logs_is_a_disagreement(three: AnvilBed, lie: str) -> None:
    """Two honest endpoints do not outvote the third: nobody can tell who lies, so a human looks."""
    _, final = await settled(three)
    three.nodes[2].rewrite = LIES[lie]
    with pytest.raises(ChainDisagreement, match="payment logs") as caught:
        await logs(three, final.number)
    assert set(caught.value.answers) == {endpoint.name for endpoint in three.endpoints}
    assert len(set(caught.value.answers.values())) == 2


async def test_an_empty_list_on_another_fork_is_a_disagreement(two: AnvilBed) -> None:
    """Logs count only together with the endpoint's own hash of the last block."""
    head = await two.chain.head()
    assert await logs(two, head.number) == 0
    two.nodes[1].rewrite = only("eth_getBlockByNumber", _other_hash)
    with pytest.raises(ChainDisagreement):
        await logs(two, head.number)


async def test_logs_up_to_a_final_block_that_changed_are_refused(two: AnvilBed) -> None:
    """All endpoints agree on a fork that contradicts what they called final before."""
    _, final = await settled(two)
    for node in two.nodes:
        node.rewrite = lambda method, params, result: (
            _other_hash(result) if method == "eth_getBlockByNumber" else [] if method == "eth_getLogs" else result
        )
    with pytest.raises(ChainDisagreement, match="changed"):
        await logs(two, final.number)


async def test_a_hidden_receipt_is_a_disagreement(two: AnvilBed) -> None:
    """An endpoint that has the block and denies the transaction contradicts the other."""
    tx_hash, _ = await settled(two)
    two.nodes[0].rewrite = only("eth_getTransactionReceipt", lambda found: None)
    with pytest.raises(ChainDisagreement, match="receipt"):
        await two.chain.receipt(tx_hash)


async def test_a_receipt_with_other_logs_is_a_disagreement(two: AnvilBed) -> None:
    """Settlement is proven from the whole receipt, so all of it is compared."""
    tx_hash, _ = await settled(two)
    two.nodes[0].rewrite = only("eth_getTransactionReceipt", lambda found: found | {"logs": found["logs"][:1]})
    with pytest.raises(ChainDisagreement, match="receipt"):
        await two.chain.receipt(tx_hash)


# ---- answers that make no sense --------------------------------------------------------------------------------------

NONSENSE: dict[str, Rewrite] = {
    "removed": only("eth_getLogs", lambda found: [found[0] | {"removed": True}]),
    "pending": only("eth_getLogs", lambda found: [found[0] | {"blockNumber": None}]),
    "foreign address": only("eth_getLogs", lambda found: [found[0] | {"address": "0x" + "11" * 20}]),
    "foreign wallet": only(
        "eth_getLogs",
        lambda found: [found[0] | {"topics": [found[0]["topics"][0], "0x" + "00" * 32, "0x" + "0a" * 32]}],
    ),
    "foreign range": only("eth_getLogs", lambda found: [found[0] | {"blockNumber": "0xffff"}]),
    "orphaned block": only("eth_getLogs", lambda found: [found[0] | {"blockHash": "0x" + "66" * 32}]),
    "twice": only("eth_getLogs", lambda found: found * 2),
    "null": only("eth_getLogs", lambda found: None),
    "an object": only("eth_getLogs", lambda found: {}),
    "garbage": only("eth_getLogs", lambda found: RawAnswer(b"<html>rate limited</html>")),
    "another request's": only("eth_getLogs", lambda found: RawAnswer(b'{"jsonrpc":"2.0","id":0,"result":[]}')),
    "another block": only("eth_getBlockByNumber", lambda found: found | {"number": "0x1"}),
    "no block": only("eth_getBlockByNumber", lambda found: "latest"),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_an_answer_that_makes_no_sense_is_none(three: AnvilBed, nonsense: str) -> None:
    """The endpoint does not count: too few without a third, decided by the others with one."""
    _, final = await settled(three)
    three.nodes[0].rewrite = NONSENSE[nonsense]
    assert await logs(three, final.number) == 1
    assert three.endpoints[0].name not in three.chain.witnesses
    three.nodes[1].rewrite = NONSENSE[nonsense]
    with pytest.raises(ChainUnavailable, match=three.endpoints[0].name):
        await logs(three, final.number)


def _moved(receipt: dict[str, Any]) -> dict[str, Any]:
    where = {"blockHash": "0x" + "66" * 32}
    return receipt | where | {"logs": [log | where for log in receipt["logs"]]}


BAD_RECEIPTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "of an orphaned block": _moved,
    "of another transaction": lambda found: found | {"transactionHash": "0x" + "66" * 32, "logs": []},
    "with logs of another transaction": lambda found: found | {"transactionHash": "0x" + "66" * 32},
    "without status": lambda found: {key: value for key, value in found.items() if key != "status"},
    "with a status of 2": lambda found: found | {"status": "0x2"},
    "pending": lambda found: found | {"blockHash": None, "blockNumber": None},
    "without logs": lambda found: found | {"logs": None},
    "a list": lambda found: [found],
}


@pytest.mark.parametrize("kind", BAD_RECEIPTS)
async def test_a_receipt_that_makes_no_sense_is_none(three: AnvilBed, kind: str) -> None:
    """As with logs: the endpoint does not count, and the others decide."""
    tx_hash, _ = await settled(three)
    three.nodes[0].rewrite = only("eth_getTransactionReceipt", BAD_RECEIPTS[kind])
    receipt = await three.chain.receipt(tx_hash)
    assert receipt is not None
    assert receipt.tx_hash == tx_hash
    assert three.endpoints[0].name not in three.chain.witnesses
    three.nodes[1].rewrite = three.nodes[0].rewrite
    with pytest.raises(ChainUnavailable, match=three.endpoints[0].name):
        await three.chain.receipt(tx_hash)


async def test_a_range_read_across_a_reorganisation_is_unknown(two: AnvilBed) -> None:
    """Logs read after the last block changed are not those of the block whose hash was read before."""
    head = await two.chain.head()

    def reorg_meanwhile(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getLogs":
            two.base.reorg(1)
        return result

    two.nodes[0].rewrite = reorg_meanwhile
    endpoint = RpcEndpoint(two.nodes[0].url, FAST)
    async with QuorumChain([endpoint], chain_id=8453, finality=Finality(), quorum=1) as chain:
        with pytest.raises(ChainUnavailable, match="holds another block"):
            await chain.payment_logs(BASE_USDC, two.wallets, 0, head.number)


async def test_a_slow_endpoint_does_not_hold_up_a_quorum(three: AnvilBed) -> None:
    """A hanging endpoint times out as unavailable and the others decide."""
    _, final = await settled(three)
    three.nodes[1].hang = True
    assert await logs(three, final.number) == 1
    assert three.chain.witnesses == (three.endpoints[0].name, three.endpoints[2].name)


async def test_an_empty_answer_is_no_zero(two: AnvilBed) -> None:
    """A node without the contract's state answers 0x, which is neither unused nor zero."""
    final = await two.chain.final()
    two.nodes[0].rewrite = only("eth_call", lambda found: "0x")
    with pytest.raises(ChainUnavailable, match="expected one word"):
        await two.chain.authorization_used(BASE_USDC, two.wallets[0], NONCE, final)
    with pytest.raises(ChainUnavailable, match="expected one word"):
        await two.chain.token_balance(BASE_USDC, two.wallets[0], final)


async def test_sightings_take_the_next_endpoint_when_one_is_down(two: AnvilBed) -> None:
    """Display needs one endpoint, whichever answers."""
    await settled(two)
    two.nodes[0].down = True
    assert len(await two.chain.sightings(BASE_USDC, two.wallets, 0)) == 1
    assert (await two.chain.head()).number == two.base.head()["number"]
    two.nodes[1].down = True
    for question in (two.chain.sightings(BASE_USDC, two.wallets, 0), two.chain.head()):
        with pytest.raises(ChainUnavailable):
            await question


# ---- what nodes differ in --------------------------------------------------------------------------------------------


async def test_a_refused_range_is_split_until_it_is_served(two: AnvilBed) -> None:
    """A node that serves three blocks at a time gives the same logs as one that serves all."""
    _, final = await settled(two)

    def refuse(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getLogs" and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 3:
            raise NodeError(-32005, "query exceeds max block range")
        return result

    two.nodes[0].rewrite = refuse
    two.nodes[1].rewrite = only("eth_getLogs", lambda found: found[::-1])
    assert await logs(two, final.number) == 1
    assert two.nodes[0].asked("eth_getLogs") > 2
    two.nodes[0].rewrite = only("eth_getLogs", lambda found: RawAnswer(b"no logs here", status=400))
    with pytest.raises(ChainUnavailable, match="refused eth_getLogs"):
        await logs(two, final.number)


async def test_a_node_that_knows_blocks_by_number_only_is_checked_before_and_after(two: AnvilBed) -> None:
    """Without EIP-1898 the state is read by number, and only where the node's block is the one asked for."""
    _, final = await settled(two)

    def by_number_only(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_call" and isinstance(params[1], dict):
            raise NodeError(-32602, "invalid argument 1: hex string expected")
        return result

    two.nodes[0].rewrite = by_number_only
    assert await two.chain.authorization_used(BASE_USDC, two.wallets[0], NONCE, final)
    hashes = iter(["0x" + "66" * 32])

    def on_another_fork_at_first(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber":
            return result | {"hash": next(hashes, result["hash"])}
        return by_number_only(method, params, result)

    two.nodes[0].rewrite = on_another_fork_at_first
    with pytest.raises(ChainUnavailable, match="holds another block"):
        await two.chain.authorization_used(BASE_USDC, two.wallets[0], NONCE, final)
    two.nodes[0].rewrite = by_number_only
    other_fork = Block(final.number, b"\x66" * 32, final.time_s)
    with pytest.raises(ChainUnavailable, match="holds another block"):
        await two.chain.authorization_used(BASE_USDC, two.wallets[0], NONCE, other_fork)


async def test_finality_by_confirmations(two: AnvilBed) -> None:
    """The final block is N behind the head, and the first block on a shorter chain."""
    endpoints = [RpcEndpoint(node.url, FAST) for node in two.nodes]
    async with QuorumChain(endpoints, chain_id=8453, finality=Finality.parse("confirmations:4")) as chain:
        assert (await chain.final()).number == two.base.head()["number"] - 4
    endpoints = [RpcEndpoint(node.url, FAST) for node in two.nodes]
    async with QuorumChain(endpoints, chain_id=8453, finality=Finality.parse("confirmations:4000")) as chain:
        assert (await chain.final()).number == 0


async def test_two_names_of_one_node_without_proxies(automine_base: LocalBase) -> None:
    """Plain URLs work as they stand, as in the demo."""
    port = automine_base.rpc_url.rpartition(":")[2]
    endpoints = [RpcEndpoint(f"http://{host}:{port}") for host in ("127.0.0.1", "localhost")]
    async with QuorumChain(endpoints, chain_id=8453, finality=Finality()) as chain:
        assert (await chain.final()).number == automine_base.final()["number"]
        assert chain.witnesses == (f"127.0.0.1:{port}", f"localhost:{port}")


# ---- the start -------------------------------------------------------------------------------------------------------


async def test_an_endpoint_of_another_chain_stops_the_start(two: AnvilBed) -> None:
    """The error names the endpoint and both chains; found later, the endpoint just does not count."""
    two.nodes[1].rewrite = only("eth_chainId", lambda found: "0x1")
    endpoints = [RpcEndpoint(node.url, FAST) for node in two.nodes]
    chain = QuorumChain(endpoints, chain_id=8453, finality=Finality())
    with pytest.raises(WrongChainError, match=f"{endpoints[1].name}: serves chain 1, configured is 8453"):
        await chain.start()
    with pytest.raises(ChainUnavailable, match="serves chain 1"):
        await chain.final()
    await chain.close()


async def test_a_start_without_a_quorum_is_unavailable(two: AnvilBed) -> None:
    """One endpoint down of two is not enough to begin with."""
    two.nodes[0].down = True
    chain = QuorumChain([RpcEndpoint(n.url, FAST) for n in two.nodes], chain_id=8453, finality=Finality())
    with pytest.raises(ChainUnavailable, match="1 of 2 needed"):
        await chain.start()
    await chain.close()


def test_a_quorum_needs_different_endpoints() -> None:
    """One host twice is one witness, and a quorum larger than the list can never be met."""
    one = [RpcEndpoint(f"https://rpc.example/{key}") for key in ("a", "b")]
    with pytest.raises(ValueError, match="one witness"):
        QuorumChain(one, chain_id=1, finality=Finality())
    with pytest.raises(ValueError, match="needs at least as many"):
        QuorumChain(one[:1], chain_id=1, finality=Finality())


async def test_configured_tokens_are_checked_against_their_contract(two: AnvilBed) -> None:
    """The right token passes; the first wrong field is named with the token."""
    await verify_tokens(two.chain, [BASE_USDC])
    right = {"symbol": "USDC", "name": "USD Coin", "version": "2", "decimals": 6}
    nowhere = Address(b"\x11" * 20)
    for field, wrong in (("name", "USDC"), ("version", "1"), ("decimals", 18), ("code", None)):
        address = nowhere if field == "code" else BASE_USDC.address
        parts = right if field == "code" else right | {field: wrong}
        token = Token(chain_id=8453, address=address, **parts)
        with pytest.raises(TokenMismatch, match=f"token USDC .* {field}: ") as caught:
            await verify_tokens(two.chain, [token])
        assert caught.value.field == field
    with pytest.raises(TokenMismatch, match="chain_id"):
        await verify_tokens(two.chain, [Token(chain_id=84532, address=BASE_USDC.address, **right)])


async def test_a_contract_that_signs_for_another_domain_is_refused(two: AnvilBed) -> None:
    """Name and version may be right and the separator still another's; a missing function and nonsense are named too."""
    calls = {"0x3644e515": ("DOMAIN_SEPARATOR", "0x" + "66" * 32), "0x54fd4d50": ("version", "0x" + "00" * 32)}
    for selector, (field, answer) in calls.items():
        for node in two.nodes:
            node.rewrite = lambda method, params, found, selector=selector, answer=answer: (
                answer if method == "eth_call" and params[0]["data"] == selector else found
            )
        with pytest.raises(TokenMismatch, match=field):
            await verify_tokens(two.chain, [BASE_USDC])
    no_token = replace(BASE_USDC, address=Address(b"\x12" * 20))
    two.base.place_contract_wallet(to_hex(no_token.address), two.base.admin)
    with pytest.raises(TokenMismatch, match="name: the contract has no such function"):
        await verify_tokens(two.chain, [no_token])


async def test_the_token_check_waits_for_an_endpoint_that_comes_back(two: AnvilBed) -> None:
    """Configuration is not refused because a node was behind for a moment."""
    failures = iter([True])

    def once(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getCode" and next(failures, False):
            raise NodeError(-32000, "header not found")
        return result

    node: FaultyNode = two.nodes[0]
    node.rewrite = once
    await verify_tokens(two.chain, [BASE_USDC])
    assert node.asked("eth_getCode") > 1
