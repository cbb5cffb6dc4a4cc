"""Stock sellers on our facilitator: `x402` for FastAPI and `@x402/express`, stock clients before them, anvil below us."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
from collecting import Collecting, open_collecting

from sandbox.process import ROOT, SandboxProcess, sandbox_python

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYEES = {
    "fastapi": "0x00000000000000000000000000000000000Fa57a",
    "express": "0x0000000000000000000000000000000000e44e55",
}
MODULES = {"fastapi": "sandbox.sellers.v2", "express": "sandbox.sellers.express"}
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def collecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collecting]:
    """The gateway."""
    with open_collecting(tmp_path_factory.mktemp("collecting")) as running:
        yield running


@pytest.fixture(scope="module", params=list(MODULES))
def seller(request: pytest.FixtureRequest, collecting: Collecting) -> Iterator[SandboxProcess]:
    """Each stock seller in turn, with our URL and our key in its own SDK's configuration."""
    config = {
        "pay_to": PAYEES[request.param].lower(),
        "facilitator_url": collecting.url,
        "facilitator_key": collecting.key,
    }
    if request.param == "express":
        config["till"] = "x402"
    with SandboxProcess.start(MODULES[request.param], config) as process:
        yield process


def pay(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Run PyPI x402's own client."""
    done = subprocess.run(
        [sandbox_python(), "-m", "sandbox.sellers.client", "--config", json.dumps(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)["answers"]
    return answers


def receipt_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the receipt that the seller's SDK made of our answer."""
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    found: dict[str, Any] = json.loads(base64.b64decode(headers["payment-response"]))
    return found


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/weather", None), ("POST", "/echo", {"hello": "you"})])
def test_a_stock_seller_is_paid_through_us(
    collecting: Collecting, seller: SandboxProcess, method: str, path: str, body: object
) -> None:
    """Its client is served, the receipt names our relayer's transaction, and the price has moved once."""
    address, key = collecting.base.dev_account(2)
    before = collecting.base.balance_of(address)
    (answer,) = pay({"private_key": key, "method": method, "url": seller.base_url + path, "json": body})
    assert answer["status"] == 200, answer
    receipt = receipt_of(answer)
    assert (receipt["success"], receipt["network"], receipt["payer"].lower()) == (True, "eip155:8453", address.lower())
    mined = collecting.base.receipt(receipt["transaction"])
    assert mined["from"] in {each.lower() for each in collecting.relayers}
    assert collecting.base.balance_of(address) == before - (10_000 if path == "/echo" else 1_000)


def test_many_clients_at_once_share_our_transactions(collecting: Collecting, seller: SandboxProcess) -> None:
    """Twelve payments of three wallets: each is collected, none twice, in fewer transactions than payments or as many."""
    wallets = [collecting.base.dev_account(index) for index in (3, 4, 5)]
    payee = seller.info["pay_to"]
    before, sent = collecting.base.balance_of(payee), collecting.sent()
    config = {"url": seller.base_url + "/weather", "repeat": 4, "concurrency": 4}
    with ThreadPoolExecutor(len(wallets)) as pool:
        answers = [
            each
            for done in pool.map(lambda key: pay({**config, "private_key": key}), (k for _, k in wallets))
            for each in done
        ]
    assert [answer["status"] for answer in answers] == [200] * 12
    assert collecting.base.balance_of(payee) == before + 12_000
    assert len({receipt_of(answer)["transaction"] for answer in answers}) <= collecting.sent() - sent <= 12


def test_a_client_without_money_is_asked_again_and_costs_nothing(
    collecting: Collecting, seller: SandboxProcess
) -> None:
    """The stock seller makes a 402 of our refusal, and no gas is spent."""
    sent = collecting.sent()
    _, key = collecting.base.dev_account(15)
    (answer,) = pay({"private_key": key, "url": seller.base_url + "/weather"})
    assert answer["status"] == 402
    assert collecting.sent() == sent


def test_what_stock_sellers_ask_when_they_start_is_answered(collecting: Collecting) -> None:
    """/supported and /health need no key, and /settle is nobody's without one."""
    supported = requests.get(f"{collecting.url}/supported", timeout=TIMEOUT_S).json()
    assert {"x402Version": 1, "scheme": "exact", "network": "base"} in supported["kinds"]
    assert sorted(supported["signers"]["eip155:*"]) == sorted(collecting.relayers)
    assert requests.get(f"{collecting.url}/health", timeout=TIMEOUT_S).json() == {"status": "ok"}
    assert requests.post(f"{collecting.url}/settle", json={}, timeout=TIMEOUT_S).status_code == 401
