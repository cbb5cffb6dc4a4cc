"""Paying the vendor: mppx in every mode it has, pympp where it interoperates, and what must not be taken twice."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from dropmpp_harness import SMALL, SMALL_BASE, packed, unpacked

from sandbox.process import ROOT, SandboxProcess

if TYPE_CHECKING:
    from dropmpp_harness import DropClient

PARTNER = "0x000000000000000000000000000000000000beef"


def pympp(drop: DropClient, index: int, method: str, path: str, body: Any = None) -> Any:
    """One call with pympp's client, in its own environment."""
    key = drop.chain.dev_account(index)[1]
    config = {"private_key": key, "rpc_url": drop.chain.rpc_url, "method": method, "url": drop.process.base_url + path}
    python = os.environ.get("SANDBOX_PYMPP", str(ROOT / ".venv-pympp" / "bin" / "python"))
    done = subprocess.run(
        [python, "-m", "sandbox.dropmpp.pympp_payer", "--config", json.dumps(config | {"json": body})],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("mode", "kind"), [("pull", "transaction"), ("push", "hash")])
def test_mppx_pays_with_a_receipt(drop: DropClient, mode: str, kind: str) -> None:
    """The receipt names the transaction; its log carries the challenge's memo, the amount and both parties."""
    answer = drop.call("POST", "/v1/servers", SMALL, mode=mode)
    assert (answer.status, answer.credentials) == (201, 1)
    assert answer.headers["cache-control"] == "private"
    receipt = unpacked(answer.headers["payment-receipt"])
    assert (receipt["method"], receipt["status"]) == ("tempo", "success")
    (payment,) = drop.payments()
    assert (payment["mode"], payment["outcome"], payment["payer"]) == (kind, "served", drop.address.lower())
    (log,) = [one for one in drop.chain.memo_transfers(sender=drop.address) if one.tx_hash == receipt["reference"]]
    assert (log.amount_base, log.recipient) == (SMALL_BASE, drop.process.info["pay_to"].lower())
    assert log.memo.startswith("0xef1ed71201")
    assert drop.chain.memo_transfers(log.memo) == [log]


def test_pympp_pays_but_cannot_prove(drop: DropClient) -> None:
    """It buys a server; the free list refuses it, because it has no proof credential to offer."""
    paid = pympp(drop, 2, "POST", "/v1/servers", SMALL)
    assert paid["status"] == 201, paid
    assert drop.as_account(2).good("GET", "/v1/servers")["servers"][0]["id"] == json.loads(paid["body"])["id"]
    collected = drop.income()
    assert pympp(drop, 2, "GET", "/v1/servers")["status"] == 402
    assert drop.income() == collected


def test_transaction_hash_is_known_before_it_is_sent(drop: DropClient) -> None:
    """The payer's hash of an unsponsored transaction is the one that the vendor's receipt names."""
    headers, tx_hash = drop.signed("POST", "/v1/servers", SMALL)
    answer = drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert answer.status_code == 201
    assert unpacked(answer.headers["payment-receipt"])["reference"] == tx_hash


def test_a_payment_counts_once(drop: DropClient) -> None:
    """Of five copies at once exactly one is served, a later copy is refused, and the chain moved money once."""
    before = drop.income()
    headers, _ = drop.signed("POST", "/v1/servers", SMALL)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: drop.raw("POST", "/v1/servers", SMALL, headers=headers), range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 402, 402, 402, 402]
    again = drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert (again.status_code, again.json()["type"].rsplit("/", 1)[1]) == (402, "verification-failed")
    assert len(drop.state()["servers"]) == 1
    assert drop.income() - before == SMALL_BASE


def test_a_proof_counts_once(drop: DropClient) -> None:
    """A zero-amount proof opens one answer and no second one."""
    headers, tx_hash = drop.signed("GET", "/v1/servers")
    assert tx_hash is None
    answer = drop.raw("GET", "/v1/servers", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"servers": []})
    assert drop.raw("GET", "/v1/servers", headers=headers).status_code == 402


@pytest.mark.parametrize("field", ["source", "id", "realm", "amount", "expires", "signature"])
def test_an_altered_credential_opens_nothing(drop: DropClient, field: str) -> None:
    """Another wallet's name, another challenge, realm, amount or expiry, a broken signature: 402, and nothing moves."""
    before = drop.income()
    headers, _ = drop.signed("GET", "/v1/servers") if field == "source" else drop.signed("POST", "/v1/servers", SMALL)
    credential = unpacked(headers["authorization"].removeprefix("Payment "))
    challenge = credential["challenge"]
    if field == "source":
        credential["source"] = f"did:pkh:eip155:42431:{drop.chain.dev_account(1)[0]}"
    elif field == "amount":
        challenge["request"] = packed(unpacked(challenge["request"]) | {"amount": "1"})
    elif field == "expires":
        challenge["expires"] = "2099-01-01T00:00:00Z"
    elif field == "signature":
        credential["payload"]["signature"] = credential["payload"]["signature"][:-130] + "11" * 65
    else:
        challenge[field] = "x" + challenge[field][1:]
    method, body = ("GET", None) if field == "source" else ("POST", SMALL)
    answer = drop.raw(method, "/v1/servers", body, headers={"authorization": f"Payment {packed(credential)}"})
    assert answer.status_code in {402, 500}
    assert "www-authenticate" in answer.headers
    assert drop.income() == before
    assert drop.state()["servers"] == {}


def test_a_challenge_is_for_one_route_only(drop: DropClient) -> None:
    """What was signed for one server's reboot does not reboot another, at the same price."""
    first, second = drop.server(), drop.server()
    headers, _ = drop.signed("POST", f"/v1/servers/{first}/reboot")
    before = drop.income()
    assert drop.raw("POST", f"/v1/servers/{second}/reboot", headers=headers).status_code == 402
    assert drop.income() == before


def test_many_at_once_are_charged_once_each(drop: DropClient) -> None:
    """Twenty-four concurrent purchases of one wallet are twenty-four servers and as many debits; reads mix in."""
    before = drop.income()
    with ThreadPoolExecutor(12) as pool:
        bought = [pool.submit(drop.call, "POST", "/v1/servers", SMALL) for _ in range(24)]
        read = [pool.submit(drop.call, "GET", "/v1/servers") for _ in range(12)]
    assert {call.result().status for call in bought} == {201}
    assert {call.result().status for call in read} == {200}
    assert drop.income() - before == 24 * SMALL_BASE
    assert len({payment["reference"] for payment in drop.payments()}) == 24


def test_sponsored_and_split(drop: DropClient) -> None:
    """A vendor that sponsors fees and shares its price: mppx's and pympp's payers lose just the price."""
    config = {
        "rpc_url": drop.chain.rpc_url,
        "fee_payer_key": drop.chain.dev_account(7)[1],
        "splits": [{"recipient": PARTNER, "bps": 1_000}],
    }
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        client = replace(drop, process=process)
        _, asked = client.challenge("POST", "/v1/servers", SMALL)
        assert asked["methodDetails"]["feePayer"] is True
        assert asked["methodDetails"]["splits"] == [{"recipient": PARTNER, "amount": "2340"}]
        payer, income = client.chain.balance_of(client.address), client.income()
        _, tx_hash = client.signed("POST", "/v1/servers", SMALL)
        assert tx_hash is None
        partner = client.chain.balance_of(PARTNER)
        assert client.call("POST", "/v1/servers", SMALL).status == 201
        assert payer - client.chain.balance_of(client.address) == SMALL_BASE
        assert client.income() - income == SMALL_BASE - 2_340
        assert client.chain.balance_of(PARTNER) - partner == 2_340
        assert len(client.good("GET", "/v1/servers")["servers"]) == 1

        other = client.as_account(3)
        owned = client.chain.balance_of(other.address)
        assert pympp(other, 3, "POST", "/v1/servers", SMALL)["status"] == 201
        assert owned - client.chain.balance_of(other.address) == SMALL_BASE
        assert client.chain.balance_of(PARTNER) - partner == 2 * 2_340


def test_closed_catalogue_and_own_header(drop: DropClient) -> None:
    """With catalog=proof the catalogue wants a proof; with requires_auth the credential has a header of its own."""
    config = {"rpc_url": drop.chain.rpc_url, "catalog": "proof", "requires_auth": True, "modes": ["pull"]}
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        client = replace(drop, process=process)
        parameters, asked = client.challenge("GET", "/v1/catalog/sizes")
        assert (asked["amount"], parameters["header"]) == ("0", "Payment-Authorization")
        assert asked["methodDetails"]["supportedModes"] == ["pull"]
        bearer = {"authorization": "Bearer of-the-vendor"}
        assert len(client.good("GET", "/v1/catalog/sizes", headers=bearer)["sizes"]) == 3
        assert client.good("POST", "/v1/servers", SMALL, headers=bearer)["total_charged"] == "0.0234"


def test_an_empty_wallet_buys_nothing(drop: DropClient) -> None:
    """A payment that the chain would refuse is found out before it is broadcast: no server, and nothing moves."""
    before = drop.income()
    answer = drop.payer.fetch("0x" + "5a" * 32, "POST", drop.process.base_url + "/v1/servers", SMALL, retries=1)
    assert (answer.status, answer.credentials) == (500, 1)
    assert answer.json()["type"].endswith("/internal-payment-error")
    assert drop.income() == before
    assert drop.state()["servers"] == {}
