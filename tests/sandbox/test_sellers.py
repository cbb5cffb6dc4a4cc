"""The stock sellers take money from a stock client, and only from one that has some."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from sandbox_harness import PAY_TO, TIMEOUT_S
from sandbox_payer import pay, unpack

from sandbox.process import ROOT, SandboxError, SandboxProcess, sandbox_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.chain import LocalBase

RELAYERS = {"v1": 11, "v2": 12, "facilitator": 13}


def seller_config(chain: LocalBase, name: str) -> dict[str, Any]:
    """Where to settle, and with whose gas: one relayer each, as two processes must not share its nonces."""
    return {"rpc_url": chain.rpc_url, "relayer_key": chain.dev_account(RELAYERS[name])[1]}


@pytest.fixture(scope="module", params=["v1", "v2", "v2 over HTTP"])
def seller(request: pytest.FixtureRequest, funded_base: LocalBase) -> Iterator[SandboxProcess]:
    """Each seller in turn; the last one leaves settling to a facilitator process."""
    if request.param != "v2 over HTTP":
        config = seller_config(funded_base, request.param)
        with SandboxProcess.start(f"sandbox.sellers.{request.param}", config) as process:
            yield process
        return
    config = seller_config(funded_base, "facilitator")
    with (
        SandboxProcess.start("sandbox.sellers.facilitator", config) as facilitator,
        SandboxProcess.start("sandbox.sellers.v2", {"facilitator_url": facilitator.base_url}) as process,
    ):
        yield process


def stock_client(config: dict[str, Any]) -> list[Any]:
    """What PyPI x402's own client gets."""
    done = subprocess.run(
        [sandbox_python(), "-m", "sandbox.sellers.client", "--config", json.dumps(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    answers: list[Any] = json.loads(done.stdout)["answers"]
    return answers


def receipt_of(headers: dict[str, str]) -> Any:
    """The receipt in either version's header."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return unpack(lowered.get("payment-response") or lowered["x-payment-response"])


@pytest.mark.parametrize(
    ("method", "path", "body", "price_base"),
    [("GET", "/weather", None, 1_000), ("POST", "/echo", {"hello": "you"}, 10_000), ("GET", "/big", None, 1_000)],
)
def test_stock_client_pays_and_is_served(
    seller: SandboxProcess, funded_base: LocalBase, method: str, path: str, body: Any, price_base: int
) -> None:
    """The price moves on chain, the receipt names the transaction, and the answer is whole."""
    address, key = funded_base.dev_account(3)
    before = funded_base.balance_of(address), funded_base.balance_of(PAY_TO)
    config = {"private_key": key, "method": method, "url": seller.base_url + path, "json": body}
    (answer,) = stock_client(config)
    assert answer["status"] == 200, answer
    receipt = receipt_of(answer["headers"])
    assert receipt["success"] is True
    assert funded_base.receipt(receipt["transaction"])["status"] == "0x1"
    after = funded_base.balance_of(address), funded_base.balance_of(PAY_TO)
    assert after == (before[0] - price_base, before[1] + price_base)
    if path == "/echo":
        assert json.loads(answer["body"]) == body
    if path == "/big":
        assert len(answer["body"]) == 2 * 1024 * 1024


def test_many_at_once_each_pay_once(seller: SandboxProcess, funded_base: LocalBase) -> None:
    """Parallel payments of one wallet all settle, each for its own call."""
    address, key = funded_base.dev_account(4)
    before = funded_base.balance_of(address)
    url = seller.base_url + "/weather"
    answers = stock_client({"private_key": key, "url": url, "repeat": 6, "concurrency": 6})
    assert [answer["status"] for answer in answers] == [200] * 6
    assert len({receipt_of(answer["headers"])["transaction"] for answer in answers}) == 6
    assert funded_base.balance_of(address) == before - 6_000


def test_unpaid_request_is_challenged_in_the_seller_s_own_version(seller: SandboxProcess) -> None:
    """Version 1 asks in the body, version 2 in the header, both for the same thousandth of a dollar."""
    answer = requests.get(seller.base_url + "/weather", timeout=TIMEOUT_S)
    assert answer.status_code == 402
    if seller.info["network"] == "base":
        challenge, field = answer.json(), "maxAmountRequired"
    else:
        challenge, field = unpack(answer.headers["PAYMENT-REQUIRED"]), "amount"
    assert challenge["x402Version"] == (1 if field == "maxAmountRequired" else 2)
    (requirement,) = challenge["accepts"]
    assert requirement[field] == "1000"
    assert (requirement["network"], requirement["payTo"]) == (seller.info["network"], PAY_TO)


def test_payer_without_funds_gets_another_402(seller: SandboxProcess, funded_base: LocalBase) -> None:
    """A good signature over money that is not there buys nothing."""
    _, key = funded_base.dev_account(9)
    (answer,) = stock_client({"private_key": key, "url": seller.base_url + "/weather"})
    assert answer["status"] == 402


def test_free_routes_pass_without_payment(seller: SandboxProcess) -> None:
    """Free answers come at once, a stream in pieces, and an echo as it was sent."""
    assert requests.get(seller.base_url + "/free", timeout=TIMEOUT_S).text == "free"
    sent = requests.post(seller.base_url + "/free/echo", data=b"\x00\xff", timeout=TIMEOUT_S)
    assert sent.content == b"\x00\xff"
    began = time.monotonic()
    url = seller.base_url + "/free/stream?chunks=4&interval_s=0.2"
    with requests.get(url, stream=True, timeout=TIMEOUT_S) as answer:
        lines, form = list(answer.iter_lines()), answer.headers["Transfer-Encoding"]
    assert lines == [f"line {number}".encode() for number in range(4)]
    # Not how far apart they came: a reader that waits for its turn finds several at once.
    assert (form, time.monotonic() - began > 0.4) == ("chunked", True)


def test_version_1_seller_refuses_a_used_or_broken_payment(funded_base: LocalBase) -> None:
    """The same X-PAYMENT buys one answer; one that cannot be read is a 402 with its reason."""
    with SandboxProcess.start("sandbox.sellers.v1", seller_config(funded_base, "v1")) as process:
        url = process.base_url + "/weather"
        requirement = requests.get(url, timeout=TIMEOUT_S).json()["accepts"][0]
        payment = pay(funded_base.dev_account(5)[1], requirement)
        answers = [requests.get(url, headers=payment.headers, timeout=TIMEOUT_S) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 402]
        for broken in ("%%%", "e30=", "W10="):
            answer = requests.get(url, headers={"X-PAYMENT": broken}, timeout=TIMEOUT_S)
            assert (answer.status_code, bool(answer.json()["error"])) == (402, True)


def test_facilitator_speaks_both_versions(funded_base: LocalBase) -> None:
    """/supported lists Base under both names, and a malformed payment is 400 or 422, never 500."""
    with SandboxProcess.start("sandbox.sellers.facilitator", seller_config(funded_base, "facilitator")) as process:
        kinds = requests.get(process.base_url + "/supported", timeout=TIMEOUT_S).json()["kinds"]
        listed = {(kind["x402Version"], kind["network"]) for kind in kinds}
        assert {(1, "base"), (2, "eip155:8453")} <= listed
        assert requests.get(process.base_url + "/health", timeout=TIMEOUT_S).json() == {"status": "ok"}
        for body in ({}, {"x402Version": 1, "paymentPayload": {}, "paymentRequirements": {}}):
            assert requests.post(process.base_url + "/verify", json=body, timeout=TIMEOUT_S).status_code in (400, 422)


def test_seller_without_a_chain_does_not_start() -> None:
    """A config that could not settle ends the process with a message."""
    with pytest.raises(SandboxError, match="rpc_url and relayer_key are needed"):
        SandboxProcess.start("sandbox.sellers.v1", {})
