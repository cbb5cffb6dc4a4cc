"""Against the reference: stock x402 sellers, v2 and v1, are paid through a block of configuration and nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import requests
from crashing_gateway import CrashingGateway
from e2e_agent import TIMEOUT_S, Agent, eventually, problem_of
from e2e_books import check_against_chain, read_books
from e2e_config import VendorBlock
from e2e_gateway import GatewayHome
from world import WALLET_FLOAT_BASE, World, payee_of, uses_of

from sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from world import VpsAgentHands

    from sandbox.chain import LocalBase

RELAYERS = {"v1": 5, "v2": 6}
PAYEE = 7


@pytest.fixture(scope="module")
def market(base: LocalBase, vendor: VpsAgentHands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway whose vendors are the two sellers, as PyPI ships them."""
    payee = payee_of(base, PAYEE)
    home = GatewayHome(tmp_path_factory.mktemp("market") / "gw")
    base.mint(home.wallet, WALLET_FLOAT_BASE)
    config = {"rpc_url": base.rpc_url, "pay_to": payee, "max_timeout_s": 60}
    with (
        SandboxProcess.start("sandbox.sellers.v1", config | {"relayer_key": base.dev_account(RELAYERS["v1"])[1]}) as v1,
        SandboxProcess.start("sandbox.sellers.v2", config | {"relayer_key": base.dev_account(RELAYERS["v2"])[1]}) as v2,
    ):
        blocks = {
            name: VendorBlock(kind="x402", base_url=seller.base_url, payee=payee, ceiling="0.05")
            for name, seller in (("v1", v1), ("v2", v2))
        }
        home.configure(base.rpc_url, blocks)
        with home.start() as gateway:
            yield World(base, vendor, gateway, blocks)


@pytest.mark.parametrize("seller", ["v1", "v2"])
def test_stock_seller_is_paid_and_serves(market: World, seller: str) -> None:
    """The seller verifies and settles with the SDK; the agent sees the goods and the seller's receipt, and pays the price."""
    agent = market.agent("1")
    weather = agent.ask("GET", f"/proxy/{seller}/weather?city=Porto")
    assert weather.status_code == 200, weather.text
    assert weather.json()["city"] == "Porto"
    assert weather.headers["X-Charge"] == "0.001000"
    echo = agent.ask("POST", f"/proxy/{seller}/echo", data=b'{"hello": [1, 2.50, "\xc3\xa9"]}')
    assert (echo.status_code, echo.content) == (200, b'{"hello": [1, 2.50, "\xc3\xa9"]}')
    for answer, price in ((weather, "0.001000"), (echo, "0.010000")):
        paid = agent.wait_closed(answer.headers["X-Payment-Id"])
        assert (paid["delivery"], paid["transfer"], paid["charge"]) == ("delivered", "settled", "captured")
        assert paid["captured"] == price
        receipt = market.base.rpc("eth_getTransactionReceipt", paid["tx_hash"])
        assert receipt["status"] == "0x1"
    assert agent.balance()["spent"] == Decimal("0.011")


@pytest.mark.parametrize("seller", ["v1", "v2"])
def test_paid_answer_of_two_megabytes_arrives_whole(market: World, seller: str) -> None:
    """What was paid for is not cut, however large the gateway's ordinary buffer is."""
    agent = market.agent("1")
    answer = agent.ask("GET", f"/proxy/{seller}/big")
    assert (answer.status_code, len(answer.content)) == (200, 2 * 1024 * 1024)
    paid = agent.wait_closed(answer.headers["X-Payment-Id"])
    assert (paid["delivery"], paid["charge"]) == ("delivered", "captured")


@pytest.mark.parametrize("seller", ["v1", "v2"])
def test_the_same_request_again_is_a_new_purchase_once_it_was_answered(market: World, seller: str) -> None:
    """Two answers in full are two purchases; under one Idempotency-Key they are one."""
    agent = market.agent("1")
    answers = [agent.ask("GET", f"/proxy/{seller}/weather") for _ in range(2)]
    keyed = [agent.ask("GET", f"/proxy/{seller}/weather", headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert len({answer.headers["X-Payment-Id"] for answer in answers}) == 2
    assert len({answer.headers["X-Payment-Id"] for answer in keyed}) == 1
    assert keyed[0].content == keyed[1].content


@pytest.mark.parametrize("seller", ["v1", "v2"])
def test_price_above_the_ceiling_or_the_agent_s_own_limit_is_not_paid(market: World, seller: str) -> None:
    """What the seller asks is checked against the agent's cap and costs nothing where it is above."""
    agent = market.agent("1")
    capped = agent.ask("GET", f"/proxy/{seller}/weather", headers={"X-Max-Charge": "0.000999"})
    assert problem_of(capped) == "price_above_max_charge"
    quoted = agent.ask("GET", f"/proxy/{seller}/weather", headers={"Prefer": "quote"})
    assert (quoted.status_code, quoted.json()["price"]) == (200, "0.001000")
    assert agent.payments() == []


@pytest.mark.parametrize("seller", ["v1", "v2"])
def test_free_routes_pass_through(market: World, seller: str) -> None:
    """Free answers cost nothing and come as they are, streams piece by piece, bodies of any bytes."""
    agent = market.agent("1")
    assert agent.ask("GET", f"/proxy/{seller}/free").text == "free"
    large = bytes(range(256)) * 8192
    sent = agent.ask("POST", f"/proxy/{seller}/free/echo", data=large, headers={"Content-Type": "application/x-test"})
    assert (sent.content == large, sent.headers["Content-Type"]) == (True, "application/x-test")
    began = time.monotonic()
    url = f"{market.gateway.base_url}/proxy/{seller}/free/stream?chunks=4&interval_s=1"
    with requests.get(url, stream=True, timeout=TIMEOUT_S, headers={"X-Api-Key": agent.key}) as answer:
        arrivals = [(line, time.monotonic() - began) for line in answer.raw.stream()]
    assert [line for line, _ in arrivals] == [f"line {number}\n".encode() for number in range(4)]
    # Of three seconds: a reader that waits for its turn finds several at once.
    assert arrivals[-1][1] - arrivals[0][1] > 0.4
    assert agent.ask("GET", f"/proxy/{seller}/nothing-here").status_code == 404
    assert agent.payments() == []
    assert agent.balance()["available"] == Decimal(1)


def test_market_s_books_agree_with_the_chain(market: World) -> None:
    """Once every hold has ended, store and chain tell the same story to the last unit."""
    market.wait_all_closed()
    check_against_chain(
        read_books(market.gateway.home.database),
        market.base,
        market.gateway.home.wallet,
        [payee_of(market.base, PAYEE)],
    )
    assert market.gateway.operate("journal_verify")["verified"] is True


def test_paid_answer_lost_in_a_crash_is_a_dispute_not_a_loss(market: World, tmp_path: Path) -> None:
    """Nobody may show a generic vendor its credential twice, so what it collected for a lost answer waits for a human."""
    home = GatewayHome(tmp_path / "gw")
    market.base.mint(home.wallet, WALLET_FLOAT_BASE)
    home.configure(market.base.rpc_url, {"v2": replace(market.blocks["v2"], more="delivery_deadline_s = 6")})
    gateway = CrashingGateway(home, ["commit.Purchase.after", "send.after"])
    gateway.wait_open()
    gateway.wait_ready()
    agent = Agent.open(gateway, "1")
    with pytest.raises(requests.ConnectionError):
        agent.ask("GET", "/proxy/v2/weather")
    assert gateway.wait_end(20) == -9
    with home.start() as agent.gateway:
        again = agent.ask("GET", "/proxy/v2/weather")
        assert (again.status_code, problem_of(again)) == (504, "outcome_unknown")
        payment_id = again.headers["X-Payment-Id"]
        held = eventually(lambda: (found := agent.payment(payment_id))["disputed"] and found, what="the dispute")
        assert (held["delivery"], held["transfer"], held["charge"]) == ("unknown", "settled", "held")
        assert len(uses_of(market.base, home.wallet)) == 1
        (task,) = agent.gateway.operate("tasks_list")["tasks"]
        assert (task["kind"], task["payment"]) == ("dispute", payment_id)
        agent.gateway.operate("payments_resolve", payment=payment_id, charge="refunded")
        assert agent.balance()["available"] == Decimal(1)
