"""One chain as relayers see it, on a real node: questions of a moment share a call, and a dead endpoint costs nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from contracts import batch
from contracts.calls import encode_transfer
from contracts.codec import Address, checksum, parse_address, parse_bytes32, to_hex
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import load_key, sign_digest
from contracts.tokens import BASE_USDC
from gateway.chains.relay import RpcRelayChain
from gateway.chains.relay_reading import parse_mined, refusal_of
from gateway.chains.rpc import CallReverted, Limits, RpcEndpoint
from gateway.paid_ports import Simulated
from gateway.ports import ChainUnavailable
from sandbox.chain import Authorization as SandboxAuthorization
from sandbox.chain import LocalBase
from tests.fakes.rpc_server import FaultyNode, NodeError

CHAIN = BASE_USDC.chain_id
PAYEE = Address(b"\x0e" * 20)
NOBODY = Address(b"\x77" * 20)
ONCE = Limits(connect_s=5.0, attempt_s=10.0, call_s=20.0, attempts=1)
GAS = 120_000
POOR = Simulated(reverted=True, text="ERC20: transfer amount exceeds balance")


def signed(base: LocalBase, index: int, number: int, value_base: int = 1_000) -> tuple[Authorization, bytes]:
    """Return a payment of one of the chain's accounts."""
    address, key = base.dev_account(index)
    auth = Authorization(
        token=BASE_USDC,
        authorizer=parse_address(address),
        pay_to=PAYEE,
        value_base=value_base,
        valid_after=0,
        valid_before=int(time.time()) + 600,
        nonce=keccak256(b"relay %d" % number),
    )
    return auth, sign_digest(load_key(parse_bytes32(key)), auth.digest)


@pytest.fixture
async def node(automine_base: LocalBase) -> AsyncIterator[FaultyNode]:
    """A real node behind one that can be told to fail."""
    async with FaultyNode(automine_base.rpc_url) as faulty:
        yield faulty


@pytest.fixture
async def relay(node: FaultyNode) -> AsyncIterator[RpcRelayChain]:
    """The relay chain over it."""
    endpoint = RpcEndpoint(node.url, ONCE)
    yield RpcRelayChain([endpoint], CHAIN)
    await endpoint.close()


@pytest.mark.parametrize("deployed", [True, False])
async def test_simulations_of_a_moment_share_one_call_and_keep_their_own_answers(
    automine_base: LocalBase, node: FaultyNode, relay: RpcRelayChain, *, deployed: bool
) -> None:
    """Fifty at once are one eth_call, with our contract deployed or lent; each is judged as if it were alone."""
    if deployed:
        to, data = batch.deployment()
        creation = {"from": automine_base.admin, "to": to_hex(to), "data": to_hex(data), "gas": hex(3_000_000)}
        automine_base.receipt(automine_base.rpc("eth_sendTransaction", creation))
    automine_base.fund({automine_base.dev_account(1)[0]: 1_000})
    rich = [signed(automine_base, 1, number) for number in range(25)]
    poor = [signed(automine_base, 2, number) for number in range(25)]
    answers = await asyncio.gather(*(relay.simulate(NOBODY, auth, sig, GAS) for auth, sig in (*rich, *poor)))
    assert answers == [Simulated(reverted=False)] * 25 + [POOR] * 25
    assert node.asked("eth_call") == 1
    assert (await relay.has_code(batch.batch_address())) is deployed


async def test_a_node_without_overrides_is_asked_one_by_one(
    automine_base: LocalBase, node: FaultyNode, relay: RpcRelayChain
) -> None:
    """Where the shared call is refused each question goes alone, and the answers are the same."""
    automine_base.fund({automine_base.dev_account(1)[0]: 1_000})

    def refuse(method: str, params: list[object], result: object) -> object:
        if method == "eth_call" and len(params) > 2:
            raise NodeError(-32602, "too many arguments")
        return result

    node.rewrite = refuse
    questions = [signed(automine_base, 1, 1), signed(automine_base, 2, 2)]
    answers = await asyncio.gather(*(relay.simulate(NOBODY, auth, sig, GAS) for auth, sig in questions))
    assert [answer.reverted for answer in answers] == [False, True]
    assert node.asked("eth_call") == 3


async def test_code_is_asked_together_and_kept(
    automine_base: LocalBase, node: FaultyNode, relay: RpcRelayChain
) -> None:
    """A hundred addresses are one call; what has code is not asked again, nor for a moment what has none."""
    others = [Address(keccak256(b"%d" % number)[:20]) for number in range(99)]
    answers = await asyncio.gather(*(relay.has_code(each) for each in (*others, BASE_USDC.address)))
    assert answers == [False] * 99 + [True]
    assert node.asked("eth_call") + node.asked("eth_getCode") == 1
    assert await relay.has_code(BASE_USDC.address)
    assert not await relay.has_code(others[0])
    assert node.asked("eth_call") + node.asked("eth_getCode") == 1
    assert automine_base.rpc("eth_getCode", checksum(others[0]), "latest") == "0x"


async def test_a_reverted_call_tells_its_data(automine_base: LocalBase) -> None:
    """The contract's own words come with the exception."""
    endpoint = RpcEndpoint(automine_base.rpc_url, ONCE)
    with pytest.raises(CallReverted) as caught:
        await RpcRelayChain([endpoint], CHAIN).call(NOBODY, BASE_USDC.address, encode_transfer(PAYEE, 5))
    assert b"exceeds balance" in caught.value.data
    await endpoint.close()


async def test_receipts_come_with_their_block_and_what_they_cost(
    automine_base: LocalBase, relay: RpcRelayChain
) -> None:
    """A mined transaction is found one by one or by whole blocks, with gas times price; an unknown one is not there."""
    automine_base.fund({automine_base.dev_account(1)[0]: 1_000})
    auth, sig = signed(automine_base, 1, 7)
    terms = SandboxAuthorization(
        sender=checksum(auth.authorizer),
        to=checksum(PAYEE),
        value=auth.value_base,
        valid_after=0,
        valid_before=auth.valid_before,
        nonce=to_hex(auth.nonce),
    )
    raw = automine_base.transfer_with_authorization(terms, sig)
    tx_hash = parse_bytes32(raw["transactionHash"])
    unknown = [keccak256(b"%d" % number) for number in range(40)]
    few, many = await relay.mined([tx_hash, unknown[0]], 0), await relay.mined([tx_hash, *unknown], 0)
    assert few.keys() == many.keys() == {tx_hash}
    receipt, fee_wei = few[tx_hash]
    assert fee_wei == int(raw["gasUsed"], 16) * int(raw["effectiveGasPrice"], 16)
    assert (receipt.block.number, receipt.status) == (int(raw["blockNumber"], 16), 1)
    assert await relay.authorization_used(BASE_USDC.address, auth.authorizer, auth.nonce)
    (log,) = await relay.used_logs(BASE_USDC.address, auth.authorizer, auth.nonce, 0)
    assert log.tx_hash == tx_hash


def test_the_fee_of_the_chain_below_is_part_of_the_cost(automine_base: LocalBase) -> None:
    """An OP-stack receipt states what its data cost on L1: the relayer paid that too."""
    raw = automine_base.act(BASE_USDC_TEXT, "0x8456cb59")
    plain = parse_mined(raw).fee_wei
    assert parse_mined(raw | {"l1Fee": "0x2a"}).fee_wei == plain + 42


BASE_USDC_TEXT = checksum(BASE_USDC.address)


async def test_a_dead_endpoint_is_passed_over_and_none_is_unavailable(
    automine_base: LocalBase, node: FaultyNode
) -> None:
    """The next endpoint answers in the place of one that does not; without any the chain is unavailable, never "no"."""
    dead, good = RpcEndpoint("http://127.0.0.1:9", ONCE), RpcEndpoint(node.url, ONCE)
    both, none = RpcRelayChain([dead, good], CHAIN), RpcRelayChain([dead], CHAIN)
    auth, sig = signed(automine_base, 1, 9)
    assert (await both.head()).number == automine_base.head()["number"]
    assert (await both.simulate(NOBODY, auth, sig, GAS)).reverted
    for question in (none.head(), none.simulate(NOBODY, auth, sig, GAS), none.send(b"\x02"), none.has_code(PAYEE)):
        with pytest.raises(ChainUnavailable):
            await question
    wrong = RpcRelayChain([good], CHAIN + 1)
    with pytest.raises(ChainUnavailable):
        await wrong.head()
    await dead.close()
    await good.close()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("already known", ""),
        ("transaction already imported", ""),
        ("Nonce too low", "nonce too low"),
        ("a\nb", "a?b"),
    ],
)
def test_what_a_node_says_of_a_transaction(message: str, said: str) -> None:
    """One that it has already is taken; else its words, fit for a log."""
    assert refusal_of({"error": {"code": -32000, "message": message}}) == said
    assert refusal_of({"result": "0x00"}) == ""


async def test_signatures_that_do_not_fit_a_batch_are_called_as_they_would_be_sent(
    automine_base: LocalBase, relay: RpcRelayChain
) -> None:
    """A contract wallet's longer signature is judged by the bytes overload, beside others of the same moment."""
    auth, sig = signed(automine_base, 1, 3)
    long = replace(auth, nonce=keccak256(b"another"))
    answers = await asyncio.gather(
        relay.simulate(NOBODY, auth, sig, GAS), relay.simulate(NOBODY, long, sig + b"\x00" * 7, 200_000)
    )
    assert [answer.reverted for answer in answers] == [True, True]
