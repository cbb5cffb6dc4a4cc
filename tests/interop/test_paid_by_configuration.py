"""Sellers whose payment code is not ours are paid as they come, through a block of configuration and nothing else.

PyPI x402's sellers of both versions are in the end-to-end suite (test_reference_sellers).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from market import buy
from stalls import NAMES

from contracts.codec import parse_address, to_hex
from contracts.eip3009 import purchase_nonce
from contracts.tokens import BASE_USDC

if TYPE_CHECKING:
    from market import Market

CROWDS = {"pympp": 100, "mppx": 30, "mppx-evm": 30, "express": 100}  # mppx's hundred is in flows/test_mpp_payer
PRICE_BASE = 1_000
KINDS = {"pympp": "tempo", "mppx": "tempo", "mppx-evm": "eip3009", "express": "eip3009"}


@pytest.mark.parametrize("name", NAMES)
def test_a_seller_serves_and_the_evidence_settles_it(market: Market, name: str) -> None:
    """A GET and a POST: the goods, the price, one debit each with our name for it, the seller's receipt noted, captured."""
    agent, before = market.agent("1"), market.debits(name)
    weather = agent.ask("GET", f"/proxy/{name}/weather?city=Porto")
    assert weather.status_code == 200, weather.text
    assert (weather.json()["weather"], "Porto" in weather.text) == ("sunny", True)
    sent = b'{"hello":[1,"\xc3\xa9"]}'
    echo = agent.ask("POST", f"/proxy/{name}/echo", data=sent, headers={"Content-Type": "application/json"})
    assert (echo.status_code, echo.content) == (200, sent)
    for answer, price in ((weather, "0.001000"), (echo, "0.010000")):
        assert answer.headers["X-Charge"] == price
        paid = agent.wait_closed(answer.headers["X-Payment-Id"])
        assert (paid["delivery"], paid["transfer"], paid["charge"]) == ("delivered", "settled", "captured")
        assert (paid["kind"], paid["captured"]) == (KINDS[name], price)
        assert (paid["evidence"]["kind"], len(paid["evidence"]["witnesses"])) == ("settled", 2)
        notes = [row["content"].get("note") for row in paid["journal"] if row["kind"] == "payment.outcome"]
        assert notes == [f"the vendor's receipt names {paid['tx_hash']}"]
        before.append(paid["authorization"]["nonce"])
    assert sorted(market.debits(name)) == sorted(before)
    assert agent.balance()["spent"] == Decimal("0.011")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_free_stays_free(market: Market, name: str) -> None:
    """A free route costs nothing and signs nothing."""
    agent, before = market.agent("1"), market.debits(name)
    assert agent.ask("GET", f"/proxy/{name}/free").text == "free"
    assert (agent.payments(), market.debits(name)) == ([], before)


@pytest.mark.parametrize(("name", "by_purchase"), [("express", True), ("mppx-evm", False)])
def test_on_base_the_rail_decides_the_nonce(market: Market, name: str, by_purchase: bool) -> None:
    """Of x402 it follows from the purchase; MPP prescribes it, and a seller that offers both is paid by MPP."""
    agent = market.agent("1")
    paid = agent.payment(agent.ask("GET", f"/proxy/{name}/weather").headers["X-Payment-Id"])
    wallet = parse_address(market.home.wallet)
    ours = to_hex(purchase_nonce(BASE_USDC.chain_id, BASE_USDC.address, wallet, paid["id"]))
    assert (paid["authorization"]["nonce"] == ours) is by_purchase


@pytest.mark.parametrize(("name", "crowd"), CROWDS.items())
async def test_a_crowd_s_calls_are_as_many_debits(market: Market, name: str, crowd: int) -> None:
    """A hundred at once: as many answers, payments, debits and captures, and not one more of anything."""
    agent = market.agent("1")
    market.wait_told(name)
    debits, income_base = set(market.debits(name)), market.income_base(name)
    answers = await buy(agent, name, [f"crowd-{number}" for number in range(crowd)])
    assert [answer.body for answer in answers if answer.status != 200] == []
    assert len({answer.payment_id for answer in answers}) == crowd
    market.wait_told(name)
    bought = [row for row in market.payments(name) if row["account_id"] == agent.account_id]
    assert {row["charge"] for row in bought} == {"captured"}
    assert sorted(set(market.debits(name)) - debits) == sorted(row["nonce"] for row in bought)
    assert (len(bought), market.income_base(name) - income_base) == (crowd, crowd * PRICE_BASE)
    assert agent.balance()["available"] == Decimal(1) - crowd * Decimal("0.001")
