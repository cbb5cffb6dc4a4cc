"""The local Tempo is the chain that mppx and pympp expect, and its RPC breaks as it is told."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from sandbox_harness import TIMEOUT_S, eventually

from sandbox.anvil import JsonRpc, RpcError
from sandbox.dropmpp.payer import MppxPayer
from sandbox.process import ROOT
from sandbox.tempo.chain import LocalTempo
from sandbox.tempo.node import FAUCET_BASE
from sandbox.tempo.tip20 import DEV_TOKENS, balance_of, transfer, transfer_with_memo

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMO = "0x" + "a5" * 32
SHOP = "0x00000000000000000000000000000000000005ae"


@pytest.fixture(scope="module")
def running() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture
def tempo(running: LocalTempo) -> LocalTempo:
    """The chain, its endpoint without faults."""
    running.shim.faults.clear()
    running.shim.log.clear()
    return running


@pytest.fixture(scope="module")
def payer(running: LocalTempo) -> Iterator[MppxPayer]:
    """A client that signs Tempo transactions."""
    with MppxPayer(running.rpc_url, running.chain_id) as client:
        yield client


def rpc(url: str) -> JsonRpc:
    """A client of an endpoint."""
    host, _, port = url.removeprefix("http://").partition(":")
    return JsonRpc(host, int(port))


def fault(tempo: LocalTempo, method: str, mode: str, **parameters: Any) -> None:
    """Put a fault in force, over HTTP as other processes do."""
    entry = {"method": method, "mode": mode, **parameters}
    answer = requests.post(f"{tempo.rpc_url}/fault", json=entry, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text


def signed(tempo: LocalTempo, payer: MppxPayer, amount_base: int) -> tuple[str, str]:
    """(raw transaction, its hash) of a payment to the shop, valid for 25 s."""
    request = {
        "amount": str(amount_base),
        "currency": tempo.token_address,
        "recipient": SHOP,
        "methodDetails": {"chainId": tempo.chain_id},
    }
    packed = base64.urlsafe_b64encode(json.dumps(request).encode()).decode().rstrip("=")
    expires = (datetime.now(UTC) + timedelta(seconds=60)).isoformat().replace("+00:00", "Z")
    line = f'Payment id="x{amount_base}", realm="shop", method="tempo", intent="charge", request="{packed}"'
    credential, tx_hash = payer.credential(tempo.dev_account(0)[1], [f'{line}, expires="{expires}"'])
    text = credential.removeprefix("Payment ")
    raw = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["payload"]["signature"]
    assert tx_hash is not None
    return raw, tx_hash


def test_new_accounts_hold_nothing_until_they_are_funded(tempo: LocalTempo) -> None:
    """Funding is exact and in the token that is named; the faucet gives a million of each."""
    first, second = "0x" + "11" * 20, "0x" + "22" * 20
    assert tempo.balance_of(first) == 0
    tempo.fund({first: 5_000_000, second: 1})
    tempo.fund({first: 7}, token=DEV_TOKENS[2])
    assert (tempo.balance_of(first), tempo.balance_of(second)) == (5_000_000, 1)
    assert tempo.balance_of(first, token=DEV_TOKENS[2]) == 7
    hashes = rpc(tempo.rpc_url).call("tempo_fundAddress", second)
    assert len(hashes) == len(DEV_TOKENS)
    assert tempo.balance_of(second) == 1 + FAUCET_BASE


def test_blocks_go_on_and_are_final_at_once(tempo: LocalTempo) -> None:
    """A block comes each second without transactions, on the wall clock, and the newest one is final."""
    first = tempo.head()
    eventually(lambda: tempo.head()["number"] >= first["number"] + 2, what="two more blocks")
    eventually(lambda: abs(tempo.head()["timestamp"] - time.time()) < 3, what="the time on the wall")
    last = tempo.head()
    assert tempo.final()["number"] >= last["number"]


def test_expiring_payment_is_found_by_hash_and_by_memo(tempo: LocalTempo, payer: MppxPayer) -> None:
    """The node takes a timeout as second parameter; the same bytes again give the same receipt and move money once."""
    before = tempo.balance_of(SHOP)
    raw, tx_hash = signed(tempo, payer, 1_234)
    node = rpc(tempo.rpc_url)
    receipt = node.call("eth_sendRawTransactionSync", raw, 10_000)
    assert (receipt["status"], receipt["transactionHash"]) == ("0x1", tx_hash)
    assert node.call("eth_sendRawTransactionSync", raw)["transactionHash"] == tx_hash
    assert tempo.balance_of(SHOP) - before == 1_234
    (log,) = [one for one in tempo.memo_transfers(recipient=SHOP) if one.tx_hash == tx_hash]
    assert (log.amount_base, log.sender) == (1_234, tempo.dev_account(0)[0].lower())
    assert tempo.memo_transfers(log.memo, sender=log.sender) == [log]
    assert tempo.memo_transfers(log.memo, sender=SHOP) == []
    assert tempo.memo_transfers(MEMO) == []
    assert tempo.balance_of(SHOP, block=log.block_number - 1) == before


@pytest.mark.parametrize("rich", [True, False])
def test_simulation_speaks_for_the_whole_batch(tempo: LocalTempo, rich: bool) -> None:  # noqa: FBT001 -- a case
    """tempo_simulateV1 answers one status: good where every call of the batch is, bad where one is not."""
    sender = tempo.dev_account(1)[0] if rich else "0x" + "33" * 20
    batch = {
        "from": sender,
        "calls": [{"to": tempo.token_address, "data": transfer(SHOP, 1)}],
        "to": tempo.token_address,
        "data": transfer_with_memo(SHOP, 2, MEMO),
    }
    payload = {"blockStateCalls": [{"calls": [batch]}], "validation": False}
    result = rpc(tempo.rpc_url).call("tempo_simulateV1", payload, "latest")
    (call,) = result["blocks"][0]["calls"]
    assert call["status"] == ("0x1" if rich else "0x0")
    assert ("error" in call) is not rich


def test_bad_parameters_are_the_callers_fault(tempo: LocalTempo) -> None:
    """What the shim answers itself it checks itself; what it does not know the node refuses."""
    for method, params in [("tempo_fundAddress", []), ("tempo_simulateV1", [{}]), ("sandbox_fund", ["0x1", "x"])]:
        with pytest.raises(RpcError) as caught:
            rpc(tempo.rpc_url).call(method, *params)
        assert caught.value.code == -32602
    with pytest.raises(RpcError) as caught:
        rpc(tempo.rpc_url).call("tempo_noSuchMethod")
    assert caught.value.code == -32601


@pytest.mark.parametrize(("mode", "moved"), [("drop_after", True), ("drop_before", False)])
def test_dropped_connection(tempo: LocalTempo, payer: MppxPayer, mode: str, moved: bool) -> None:  # noqa: FBT001 -- a case
    """The sender hears nothing; whether the payment is on chain, only the chain tells."""
    before = tempo.balance_of(SHOP)
    raw, tx_hash = signed(tempo, payer, 50)
    fault(tempo, "eth_sendRawTransactionSync", mode)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        rpc(tempo.rpc_url).call("eth_sendRawTransactionSync", raw)
    assert (tempo.rpc("eth_getTransactionReceipt", tx_hash) is not None) is moved
    assert tempo.balance_of(SHOP) - before == (50 if moved else 0)


@pytest.mark.parametrize(("mode", "moved"), [("error", False), ("error_after", True)])
def test_error_answers(tempo: LocalTempo, payer: MppxPayer, mode: str, moved: bool) -> None:  # noqa: FBT001 -- a case
    """A scripted JSON-RPC error, with or without the node having done what was asked."""
    raw, tx_hash = signed(tempo, payer, 60)
    fault(tempo, "eth_sendRawTransaction", mode, error={"code": -32003, "message": "already known"})
    with pytest.raises(RpcError, match="already known") as caught:
        rpc(tempo.rpc_url).call("eth_sendRawTransaction", raw)
    assert caught.value.code == -32003
    if moved:
        assert tempo.receipt(tx_hash)["status"] == "0x1"
    else:
        assert tempo.rpc("eth_getTransactionByHash", tx_hash) is None


def test_slow_hanging_and_unavailable(tempo: LocalTempo) -> None:
    """Late answers, answers that never come, and a load balancer's refusal."""
    node = rpc(tempo.rpc_url)
    fault(tempo, "eth_chainId", "slow", seconds=0.5)
    began = time.monotonic()
    assert int(node.call("eth_chainId"), 16) == 42431
    assert time.monotonic() - began >= 0.5
    for mode in ("hang", "hang_after"):
        fault(tempo, "eth_chainId", mode, seconds=0.2)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            node.call("eth_chainId")
    fault(tempo, "eth_chainId", "status", status=429)
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    assert requests.post(tempo.rpc_url, json=call, timeout=TIMEOUT_S).status_code == 429


def test_made_up_answers_are_one_endpoints_own(tempo: LocalTempo) -> None:
    """One endpoint lies about a balance while another tells the truth, and the observer is never disturbed."""
    owner = "0x" + "44" * 20
    tempo.fund({owner: 9})
    honest = tempo.another_endpoint()
    fault(tempo, "*", "answer", result="0x0", left=None, match="44" * 20)
    request = {"to": tempo.token_address, "data": balance_of(owner)}
    assert rpc(tempo.rpc_url).call("eth_call", request, "latest") == "0x0"
    assert int(rpc(honest.url).call("eth_call", request, "latest"), 16) == 9
    assert tempo.balance_of(owner) == 9
    assert int(rpc(tempo.rpc_url).call("eth_chainId"), 16) == 42431
    tempo.fund({owner: 1})
    assert tempo.balance_of(owner) == 10


def test_faults_are_counted_matched_and_lifted(tempo: LocalTempo) -> None:
    """Skip spares, left wears out, an id lifts one, and what does not exist is 400."""
    node, url = rpc(tempo.rpc_url), tempo.rpc_url
    fault(tempo, "eth_chainId", "answer", result="0x1", skip=1, left=2)
    assert [node.call("eth_chainId") for _ in range(4)] == ["0xa5bf", "0x1", "0x1", "0xa5bf"]
    fault(tempo, "eth_chainId", "answer", result="0x2", left=None)
    (kept,) = requests.get(f"{url}/fault", timeout=TIMEOUT_S).json()
    assert node.call("eth_chainId") == "0x2"
    requests.delete(f"{url}/fault/{kept['id']}", timeout=TIMEOUT_S)
    assert node.call("eth_chainId") == "0xa5bf"
    for wrong in ({"method": "x", "mode": "gremlin"}, {"mode": "hang"}, {"method": "x", "mode": "hang", "colour": 1}):
        assert requests.post(f"{url}/fault", json=wrong, timeout=TIMEOUT_S).status_code == 400


def test_log_and_batches(tempo: LocalTempo) -> None:
    """The methods called are listed in order; a batch is answered call by call."""
    url = tempo.rpc_url
    batch = [{"jsonrpc": "2.0", "id": n, "method": m} for n, m in enumerate(("eth_chainId", "eth_blockNumber"))]
    answers = requests.post(url, json=batch, timeout=TIMEOUT_S).json()
    assert [answer["id"] for answer in answers] == [0, 1]
    assert answers[0]["result"] == "0xa5bf"
    assert requests.get(f"{url}/log", timeout=TIMEOUT_S).json() == ["eth_chainId", "eth_blockNumber"]
    requests.delete(f"{url}/log", timeout=TIMEOUT_S)
    assert requests.get(f"{url}/log", timeout=TIMEOUT_S).json() == []
    assert requests.post(url, data="{", timeout=TIMEOUT_S).status_code == 400


def test_runs_in_the_foreground_on_a_leash() -> None:
    """`python -m sandbox.tempo` announces itself, can be attached to, and ends with its stdin."""
    command = [sys.executable, "-m", "sandbox.tempo", "--leash"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["chain_id"] == 42431
        chain = LocalTempo.attach(ready["anvil_url"], ready["rpc_url"], accounts=ready["accounts"])
        chain.fund({SHOP: 3})
        assert chain.balance_of(SHOP) == 3
        assert chain.balance_of(chain.dev_account(8)[0]) > 0
        process.stdin.close()
        assert process.wait(10) == 0
    with pytest.raises(OSError, match="refused"):
        chain.head()
