"""Sellers whose payment code is not ours are paid as they come, through a block of configuration and nothing else.

However many pay at once and whatever the RPC endpoints do (P4, P5), nobody is paid twice. PyPI x402's sellers of both
versions are in the end-to-end suite (test_reference_sellers).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from market import buy, mended, open_market
from stalls import NAMES
from storm import AT, CHAINS, LOOKS_AGAIN, LOST, MODES, RECEIPT, Storm, paid_for, spared

from contracts.codec import parse_address, to_hex
from contracts.eip3009 import purchase_nonce
from contracts.tokens import BASE_USDC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from market import Market

# A Tempo credential lives for half a minute, so its crowds are what a seller on a busy machine collects from in that time;
# mppx's hundred is in flows/test_mpp_payer.
CROWDS = {"pympp": 30, "mppx": 30, "mppx-evm": 30, "express": 100}
PRICE_BASE = 1_000
# Of an agent that bought and has no goods: the outcome is open, or the seller says no and may collect all the same.
WITHOUT_GOODS = {"outcome_unknown", "vendor_refused_payment", "dispute_held", "idempotency_spent"}
KINDS = {"pympp": "tempo", "mppx": "tempo", "mppx-evm": "eip3009", "express": "eip3009"}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """One gateway process, the sellers, and two chains."""
    with open_market(tmp_path_factory.mktemp("market")) as opened:
        yield opened


# as it should be


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
        assert (paid["evidence"]["kind"], len(paid["evidence"]["witnesses"]) >= 2) == ("settled", True)
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


@pytest.mark.parametrize(("name", "rail"), [("express", "x402"), ("mppx-evm", "mpp")])
def test_on_base_the_rail_decides_the_nonce(market: Market, name: str, rail: str) -> None:
    """Of x402 it follows from the purchase; MPP prescribes it, and a seller that offers both is paid by MPP."""
    agent = market.agent("1")
    paid = agent.payment(agent.ask("GET", f"/proxy/{name}/weather").headers["X-Payment-Id"])
    wallet = parse_address(market.home.wallet)
    ours = to_hex(purchase_nonce(BASE_USDC.chain_id, BASE_USDC.address, wallet, paid["id"]))
    assert (paid["authorization"]["nonce"] == ours) is (rail == "x402")


@pytest.mark.parametrize(("name", "crowd"), CROWDS.items())
async def test_a_crowd_s_calls_are_as_many_debits(market: Market, name: str, crowd: int) -> None:
    """Many at once: as many answers, payments, debits and captures, and not one more of anything."""
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


# as it may go


@pytest.fixture(scope="module")
def storm(market: Market) -> Storm:
    """All of it, played once; the chains have then told what became of every payment."""
    played = Storm(market, {name: market.agent("10") for name in NAMES})
    with mended(market.base):
        asyncio.run(played.play())
    market.wait_told(*NAMES, within_s=90)
    return played


@pytest.mark.parametrize(
    ("place", "fault"),
    [*itertools.product(AT, MODES), *((LOOKS_AGAIN, LOST + mode) for mode in MODES)],
)
def test_at_the_seller_s_endpoint(storm: Storm, place: str, fault: str) -> None:
    """Each call at most one debit; each debit, and no other, is settled in the book; goods are never free."""
    played = storm.rounds[place, fault]
    assert played.spared == set()
    rows, collected = paid_for(storm, played)
    assert len(rows) <= len(played.answers)
    assert {row["nonce"] for row in rows if row["transfer"] == "settled"} == collected
    by_key = {row["idempotency_key"]: row for row in rows}
    for key, answer in played.answers.items():
        if answer.status == 200:
            assert (by_key[key]["transfer"], by_key[key]["charge"]) == ("settled", "captured")
        else:
            assert json.loads(answer.body)["code"] in WITHOUT_GOODS


@pytest.mark.parametrize(("chain", "fault"), [*itertools.product(CHAINS, MODES)])
def test_at_our_own_witnesses(storm: Storm, chain: str, fault: str) -> None:
    """It struck each thing that we look at, and what was bought meanwhile is not paid twice: see the others here."""
    added = storm.at_witnesses[chain]
    assert {method for _, method, mode, _ in added if mode == fault} >= {"eth_getBlockByNumber", "eth_getLogs", RECEIPT}
    assert [method for method, mode in spared(added) if mode == fault] == []


def test_sellers_that_are_well_are_paid_once_a_call_though_we_see_badly(storm: Storm) -> None:
    """What we cannot see, or see wrongly for a while, changes nothing: as many debits as calls, each captured."""
    played = storm.after
    assert {answer.status for answer in played.answers.values()} == {200}
    rows, collected = paid_for(storm, played)
    assert {(row["transfer"], row["charge"]) for row in rows} == {("settled", "captured")}
    assert len(rows) == len(played.answers) == len(collected)


@pytest.mark.parametrize("name", NAMES)
def test_after_all_of_it_chain_and_book_agree(storm: Storm, name: str) -> None:
    """No debit that no payment accounts for, none twice, and to the last unit what the seller has."""
    market = storm.market
    settled = [row for row in market.payments(name) if row["transfer"] == "settled"]
    assert sorted(market.debits(name)) == sorted(row["nonce"] for row in settled)
    funded_base = 1 if market.stalls[name].of.chain == "tempo" else 0
    assert market.income_base(name) - funded_base == sum(row["settled_base"] for row in settled)
    market.verify_book()
