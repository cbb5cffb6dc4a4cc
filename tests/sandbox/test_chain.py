"""The local chain behaves as a Base would, only faster; and it never outlives whoever started it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from token_payer import Payer

from sandbox.chain import LocalBase, Reverted, RpcError
from sandbox.devtoken import BASE_USDC, Contract, signed_call

ROOT = Path(__file__).parents[2]


@pytest.fixture
def payer(automine_base: LocalBase) -> Payer:
    """A funded account on a fresh automining chain."""
    return Payer(automine_base)


def wait_for(condition: Callable[[], bool], timeout_s: float = 40) -> None:
    """Return once the condition holds; fail when it does not in time."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.02)


def unreachable(rpc_url: str) -> bool:
    """Whether nothing answers there any more."""
    try:
        LocalBase.attach(rpc_url)
    except OSError:
        return True
    return False


def test_blocks_come_by_the_clock() -> None:
    """With half a second a block, chain time keeps to the wall clock and each block points to the one before."""
    with LocalBase.start(block_time_s=0.5) as chain:
        first = chain.head()
        wait_for(lambda: chain.head()["number"] >= first["number"] + 5)
        wait_for(lambda: abs(chain.head()["timestamp"] - time.time()) < 2.5)
        head = chain.head()
        assert chain.block(head["number"] - 1)["hash"] == head["parent_hash"]


def test_a_block_is_final_two_blocks_later(automine_base: LocalBase) -> None:
    """The `finalized` tag follows two blocks behind the head."""
    for _ in range(4):
        automine_base.mine()
        assert automine_base.head()["number"] - automine_base.final()["number"] == 2
    assert automine_base.final() == automine_base.block(automine_base.head()["number"] - 2)


def test_finality_is_seconds_away_in_real_time(local_base: LocalBase) -> None:
    """On a chain that mines by itself a transaction becomes final by waiting."""
    owner, _ = local_base.dev_account(0)
    local_base.mint(owner, 5)
    minted_in = local_base.head()["number"]
    wait_for(lambda: local_base.final()["number"] >= minted_in)
    assert local_base.balance_of(owner, "finalized") == 5


def test_automine_mines_for_each_transaction_only(automine_base: LocalBase) -> None:
    """Nothing moves by itself, and each transaction is in a block of its own."""
    before = automine_base.head()
    time.sleep(1.1)
    assert automine_base.head() == before
    automine_base.fund({automine_base.dev_account(0)[0]: 1, automine_base.dev_account(1)[0]: 2})
    assert automine_base.head()["number"] == before["number"] + 2


def test_several_owners_are_funded_in_one_block(local_base: LocalBase) -> None:
    """On a clocked chain the owner's acts are mined at once and together."""
    accounts = [local_base.dev_account(i)[0] for i in range(3)]
    local_base.fund({account: 10 + i for i, account in enumerate(accounts)})
    assert [local_base.balance_of(account) for account in accounts] == [10, 11, 12]


def test_old_states_can_be_read(automine_base: LocalBase) -> None:
    """A balance and a nonce can be asked at a block, as evidence needs it."""
    owner, _ = automine_base.dev_account(0)
    automine_base.mint(owner, 5)
    then = automine_base.head()["number"]
    automine_base.mint(owner, 7)
    assert automine_base.balance_of(owner, then) == 5
    assert automine_base.balance_of(owner) == 12


def test_a_mined_failure_tells_reason_and_receipt(payer: Payer) -> None:
    """A transaction that reverts is in a block and costs gas; so is its hash known."""
    with pytest.raises(Reverted) as caught:
        payer.chain.transfer_with_authorization(*payer.transfer(value=10_000_001))
    receipt = payer.chain.rpc("eth_getTransactionReceipt", caught.value.tx_hash)
    assert receipt == caught.value.receipt
    assert receipt["status"] == "0x0"
    assert int(receipt["gasUsed"], 16) > 21_000
    assert receipt["logs"] == []


def test_a_read_that_reverts_tells_the_reason(payer: Payer) -> None:
    """A simulation fails with the contract's own text."""
    payer.chain.transfer_with_authorization(*payer.transfer())
    raw = payer.chain.rpc(
        "eth_getTransactionByHash", payer.chain.rpc("eth_getBlockByNumber", "latest", False)["transactions"][0]
    )
    with pytest.raises(RpcError) as caught:
        payer.chain.call(raw["to"], raw["input"])
    assert caught.value.reason == "FiatTokenV2: authorization is used or canceled"


def test_a_reorg_takes_a_settlement_back(payer: Payer) -> None:
    """The replaced blocks have other hashes, the settlement is gone, and the authorization can be used again."""
    chain = payer.chain
    authorization, signature = payer.transfer()
    chain.mine()
    fork = chain.head()
    receipt = chain.transfer_with_authorization(authorization, signature)
    chain.mine()
    head = chain.head()
    chain.reorg(2)
    assert chain.block(fork["number"])["hash"] == fork["hash"]
    assert chain.head()["number"] == head["number"]
    assert chain.block(int(receipt["blockNumber"], 16))["hash"] != receipt["blockHash"]
    assert chain.rpc("eth_getTransactionReceipt", receipt["transactionHash"]) is None
    assert not chain.authorization_state(payer.address, authorization.nonce)
    assert chain.balance_of(payer.payee) == 0
    again = chain.transfer_with_authorization(authorization, signature)
    assert int(again["blockNumber"], 16) == head["number"] + 1


def test_a_reorg_can_put_other_transactions_in(payer: Payer) -> None:
    """A settlement gives way to the payer's own cancellation: the race that evidence at final blocks has to survive."""
    chain = payer.chain
    settled = chain.transfer_with_authorization(*payer.transfer())
    authorizer, nonce, signature = payer.cancellation()
    data = signed_call(Contract.load("DevUSDC"), "cancelAuthorization", (authorizer, nonce), signature, "vrs")
    chain.reorg(1, [({"from": chain.relayer, "to": BASE_USDC, "data": data, "gas": hex(200_000)}, 0)])
    block = chain.rpc("eth_getBlockByNumber", settled["blockNumber"], False)
    (cancelled,) = (chain.receipt(tx_hash) for tx_hash in block["transactions"])
    assert [log["topics"][2] for log in cancelled["logs"]] == [nonce]
    assert chain.authorization_state(authorizer, nonce)
    assert chain.balance_of(payer.payee) == 0


def test_time_travel_and_snapshots(automine_base: LocalBase) -> None:
    """Time goes where it is told, blocks go on from there, and a snapshot brings a state back once."""
    start = automine_base.head()
    snapshot = automine_base.snapshot()
    automine_base.advance(1000)
    assert 1000 <= automine_base.head()["timestamp"] - start["timestamp"] <= 1002
    automine_base.set_time(start["timestamp"] + 5000)
    assert automine_base.head()["timestamp"] == start["timestamp"] + 5000
    automine_base.mine()
    assert 0 <= automine_base.head()["timestamp"] - start["timestamp"] - 5000 <= 2
    before = automine_base.head()
    automine_base.mine(3, interval_s=600)
    assert automine_base.head()["number"] == before["number"] + 3
    assert automine_base.head()["timestamp"] - before["timestamp"] >= 1200
    automine_base.restore(snapshot)
    assert automine_base.head() == start
    with pytest.raises(ValueError, match="no snapshot"):
        automine_base.restore(snapshot)


def test_threads_may_send_at_the_same_time(automine_base: LocalBase) -> None:
    """Parallel senders of one account get different nonces and are all mined."""
    before = automine_base.head()["number"]
    target, _ = automine_base.dev_account(0)
    senders = [threading.Thread(target=automine_base.send, args=(target, "0x")) for _ in range(12)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    wait_for(lambda: int(automine_base.rpc("eth_getTransactionCount", automine_base.relayer, "latest"), 16) == 12)
    assert automine_base.head()["number"] > before


def test_stop_ends_it_and_removes_its_files() -> None:
    """After `stop`, twice, nothing listens and no file is left."""
    chain = LocalBase.start(block_time_s=None)
    assert "Listening" in chain.log()
    assert chain._process is not None
    files = chain._process.log_path.parent
    chain.stop()
    chain.stop()
    assert unreachable(chain.rpc_url)
    assert not files.exists()


def test_a_port_that_is_taken_is_an_error_with_the_log(automine_base: LocalBase) -> None:
    """A chain that cannot start says why, instead of leaving the caller with somebody else's chain."""
    port = int(automine_base.rpc_url.rpartition(":")[2])
    with pytest.raises(RuntimeError, match=r"(?i)address already in use"):
        LocalBase.start(port=port)


@pytest.mark.parametrize("in_thread", [False, True])
def test_the_chain_dies_with_whoever_started_it(*, in_thread: bool) -> None:
    """`kill -9` of the starting process ends anvil; the end of the starting thread does not."""
    script = (
        "import threading, time\n"
        "from sandbox.chain import LocalBase\n"
        "def start(): print(LocalBase.start(block_time_s=1).rpc_url, flush=True)\n"
        + ("t = threading.Thread(target=start); t.start(); t.join()\n" if in_thread else "start()\n")
        + "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        rpc_url = process.stdout.readline().strip()
        time.sleep(0.3)
        assert not unreachable(rpc_url)
        process.kill()
    wait_for(lambda: unreachable(rpc_url))


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "closed stdin"])
def test_the_foreground_chain(end: str) -> None:
    """It announces itself in one JSON line, others attach to it, and it ends cleanly when told."""
    command = [sys.executable, "-m", "sandbox.chain", "--block-time", "0.5", "--leash"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["token"], ready["chain_id"]) == ("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", 8453)
        with LocalBase.attach(ready["rpc_url"], accounts=ready["accounts"]) as chain:
            owner, _ = chain.dev_account(17)
            chain.mint(owner, 3)
            assert chain.balance_of(owner) == 3
        assert not unreachable(ready["rpc_url"]), "detaching must leave it running"
        if end == "closed stdin":
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[end])
        assert process.wait(10) == 0
    assert unreachable(ready["rpc_url"])


def test_the_relayers_accounts_are_not_given_out(automine_base: LocalBase) -> None:
    """Tests cannot sign for the relayer or for the token's owner by accident."""
    free = {automine_base.dev_account(i)[0] for i in range(18)}
    assert len(free) == 18
    assert not free & {automine_base.relayer, automine_base.admin}
    for index in (-1, 18, 19):
        with pytest.raises(IndexError):
            automine_base.dev_account(index)
