"""A stock MPP seller on our facilitator: mppx's `evm` charges are settled as x402, by the same claim (decision 0016)."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from collecting import Collecting, open_collecting

from sandbox.process import ROOT, SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYEE = "0x00000000000000000000000000000000000e7a11"
PRICE_BASE = 1_000


@pytest.fixture(scope="module")
def collecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collecting]:
    """The gateway."""
    with open_collecting(tmp_path_factory.mktemp("collecting")) as running:
        yield running


@pytest.fixture(scope="module")
def seller(collecting: Collecting) -> Iterator[SandboxProcess]:
    """Mppx's express middleware, with our URL and our key in its own configuration."""
    config = {
        "pay_to": PAYEE,
        "till": "evm",
        "facilitator_url": collecting.url,
        "facilitator_key": collecting.key,
    }
    with SandboxProcess.start("sandbox.sellers.express", config) as process:
        yield process


def pay(key: str, url: str) -> dict[str, Any]:
    """Run npm mppx's client, which pays by an authorization under the nonce that the challenge prescribes."""
    config = json.dumps({"private_key": key, "url": url, "methods": ["evm"]})
    command = ["node", "sandbox/payers/mppx.mjs", "--config", config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_mpp_seller_is_paid_through_us(collecting: Collecting, seller: SandboxProcess) -> None:
    """Its client is served, the price has moved once, and the receipt names our relayer's transaction."""
    address, key = collecting.base.dev_account(6)
    before = collecting.base.balance_of(address)
    told = pay(key, seller.base_url + "/weather")
    assert told["status"] == 200, told
    assert len(told["sent"]) == 1
    assert collecting.base.balance_of(address) == before - PRICE_BASE
    mined = collecting.base.receipt(told["receipt"]["reference"])
    assert mined["from"] in {each.lower() for each in collecting.relayers}


def test_many_of_its_clients_at_once_pay_once_each(collecting: Collecting, seller: SandboxProcess) -> None:
    """Four wallets at once: four prices, however many transactions carry them."""
    wallets = [collecting.base.dev_account(index) for index in (6, 7, 8, 9)]
    before = collecting.base.balance_of(PAYEE)
    with ThreadPoolExecutor(len(wallets)) as pool:
        answers = list(pool.map(lambda wallet: pay(wallet[1], seller.base_url + "/weather"), wallets))
    assert [answer["status"] for answer in answers] == [200] * len(wallets)
    assert collecting.base.balance_of(PAYEE) == before + PRICE_BASE * len(wallets)


def test_a_client_without_money_costs_nothing(collecting: Collecting, seller: SandboxProcess) -> None:
    """The stock seller makes a 402 of our refusal, and no gas is spent."""
    sent = collecting.sent()
    told = pay(collecting.base.dev_account(15)[1], seller.base_url + "/weather")
    assert told["status"] == 402
    assert collecting.sent() == sent
