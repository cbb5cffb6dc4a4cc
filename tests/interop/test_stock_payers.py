"""Clients whose payment code is not ours pay us as they come: by version 1 and 2 of x402, and by MPP on Tempo and on Base.

Each buys a pack and an amount with a key, and a pack without one. Whatever they paid is credited once (P13), when it is
final (P14), and the till on chain has what the book says.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from counter import CUSTOMER, PACK_BASE, open_counter
from e2e_agent import eventually
from stock_payers import FETCH, PAYERS, X402_FETCH, X402_V1, Paid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from counter import Counter, Purse
    from e2e_agent import Agent
    from stock_payers import Payer

PACK, AMOUNT, BARE = "a pack", "an amount", "a pack without a key"
HOW = (PACK, AMOUNT, BARE)
PATHS = {PACK: "/v1/topups/packs/one", AMOUNT: "/v1/topups", BARE: "/v1/topups/packs/one"}
METHODS = {PACK: "GET", AMOUNT: "POST", BARE: "GET"}
AMOUNT_BASE = 50_000  # below what the oldest client pays unless it is told to pay more
PRICES_BASE = {PACK: PACK_BASE, AMOUNT: AMOUNT_BASE, BARE: PACK_BASE}
SUCCESS = {"x402": ("success", True), "mpp_tempo": ("status", "success"), "mpp_evm": ("status", "success")}
CROWD = 8
TOGETHER = 3  # clients at a time: each is a process that signs
NAMES = [payer.name for payer in PAYERS]


@dataclass(frozen=True, slots=True)
class Purchase:
    """One run of one client."""

    payer: Payer
    how: str
    purse: Purse
    agent: Agent | None
    paid: Paid


Purchases = Mapping[str, "Future[dict[str, Purchase]]"]
"""By the client's name, then by how it bought."""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    """One gateway process and two chains."""
    with open_counter(tmp_path_factory.mktemp("counter")) as opened:
        yield opened


def buy(counter: Counter, payer: Payer, orders: Sequence[tuple[str, Purse, Agent | None]]) -> dict[str, Purchase]:
    """Have a client buy credit, one order after the other."""
    paid = payer.pay([call_of(counter, payer, *order) for order in orders])
    return {
        how: Purchase(payer, how, purse, agent, each) for (how, purse, agent), each in zip(orders, paid, strict=True)
    }


def call_of(counter: Counter, payer: Payer, how: str, purse: Purse, agent: Agent | None) -> dict[str, Any]:
    """Return what a client is told."""
    call: dict[str, Any] = {
        "private_key": purse.key,
        "method": METHODS[how],
        "url": counter.gateway.base_url + PATHS[how],
        "headers": {} if agent is None else {"Authorization": f"Bearer {agent.key}"},
    }
    if how == AMOUNT:
        call["json"] = {"amount": "0.05"}
    elif payer is X402_FETCH:
        call["max_base"] = PACK_BASE
    if payer.chain == "tempo":
        call["rpc_url"] = counter.tempo.rpc_url
    return call


@pytest.fixture(scope="module")
def purchases(counter: Counter) -> Purchases:
    """Every client's purchases, some clients at a time: with a key from one wallet, without one from another."""
    purses = {
        chain: iter(counter.purses(chain, 2 * sum(payer.chain == chain for payer in PAYERS)))
        for chain in ("base", "tempo")
    }
    bought = {}
    with ThreadPoolExecutor(TOGETHER) as pool:
        for payer in PAYERS:
            own, bare, agent = next(purses[payer.chain]), next(purses[payer.chain]), counter.customer()
            orders = [(PACK, own, agent), (AMOUNT, own, agent), (BARE, bare, None)]
            bought[payer.name] = pool.submit(buy, counter, payer, orders)
    return bought


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", NAMES)
def test_a_client_pays_once_and_is_answered_with_its_receipt(
    counter: Counter, purchases: Purchases, name: str, how: str
) -> None:
    """200 for one signature; the receipt, as the client reads it, names the one transfer of the price to the till."""
    bought = purchases[name].result()[how]
    paid, payer = bought.paid, bought.payer
    assert paid.status == 200, (paid.status, paid.body[:2000])
    beside_the_key = payer.rail != "x402" and bought.agent is not None
    assert [list(sent) for sent in paid.sent] == [["payment-authorization" if beside_the_key else payer.header]]
    word, value = SUCCESS[payer.rail]
    assert paid.receipt is not None
    assert paid.receipt[word] == value
    transfers = counter.paid_from(payer.chain, bought.purse.address)
    assert transfers.count((paid.tx_hash, PRICES_BASE[how])) == 1
    assert len(transfers) == (1 if how == BARE else 2)
    topup = paid.json()
    assert topup["credit"] in {"pending", "available"}
    assert (topup["transaction"], topup["rail"]) == (paid.tx_hash, payer.rail)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_paid_with_a_key_is_on_its_account_once_it_is_final(
    counter: Counter, purchases: Purchases, name: str
) -> None:
    """The balance is the sum of what was paid to the last digit, by one receipt each."""
    bought = [purchases[name].result()[how] for how in (PACK, AMOUNT)]
    agent, purse = bought[0].agent, bought[0].purse
    assert agent is not None
    paid_base = PACK_BASE + AMOUNT_BASE
    wait_credited(agent, paid_base)
    assert credits_of(counter, purse, agent.account_id) == {each.paid.tx_hash: PRICES_BASE[each.how] for each in bought}
    for each in bought:
        topup = agent.ask("GET", f"/v1/topups/{each.paid.json()['id']}").json()
        assert (topup["credit"], topup["state"]) == ("available", "credited")


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_wallet_s_payment_opens_its_account(counter: Counter, purchases: Purchases, name: str) -> None:
    """Nobody's key was shown: the wallet has an account of its own, with what it paid."""
    bought = purchases[name].result()[BARE]
    eventually(lambda: counter.received(bought.purse.address), what="the receipt")
    (received,) = counter.received(bought.purse.address)
    assert (received["state"], received["amount_base"]) == ("credited", PACK_BASE)
    account_id = received["account_id"]
    assert credits_of(counter, bought.purse, account_id) == {bought.paid.tx_hash: PACK_BASE}
    assert counter.posted_base(f"agent:{account_id}") == PACK_BASE
    assert not account_id.startswith(CUSTOMER)


@pytest.mark.parametrize("how", [PACK, BARE])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_paid_request_again_is_answered_alike(
    counter: Counter, purchases: Purchases, name: str, how: str
) -> None:
    """Eight times at once, long after: the same order and transaction, no second transfer, no second credit."""
    bought = purchases[name].result()[how]
    headers = dict(bought.paid.sent[0])
    if bought.agent is not None:
        headers["Authorization"] = f"Bearer {bought.agent.key}"
    url, before = counter.gateway.base_url + PATHS[how], counter.paid_from(bought.payer.chain, bought.purse.address)
    with ThreadPoolExecutor(CROWD) as pool:
        again = list(pool.map(lambda _: requests.get(url, headers=headers, timeout=30), range(CROWD)))
    assert [(answer.status_code, answer.text) for answer in again if answer.status_code != 200] == []
    assert {answer.json()["id"] for answer in again} == {bought.paid.json()["id"]}
    assert {answer.json()["transaction"] for answer in again} == {bought.paid.tx_hash}
    told = receipt_header(bought.payer)
    assert all(told in answer.headers for answer in again)
    assert counter.paid_from(bought.payer.chain, bought.purse.address) == before
    assert len(counter.received(bought.purse.address)) <= len(before)


def test_two_clients_at_once_are_two_payments(counter: Counter) -> None:
    """Of one wallet, for one account, by two versions of x402: both are credited."""
    (purse,), agent = counter.purses("base", 1), counter.customer()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda payer: buy(counter, payer, [(PACK, purse, agent)])[PACK], (FETCH, X402_V1)))
    assert [bought.paid.status for bought in both] == [200, 200]
    assert len({bought.paid.json()["id"] for bought in both}) == 2
    wait_credited(agent, 2 * PACK_BASE)
    assert credits_of(counter, purse, agent.account_id) == {bought.paid.tx_hash: PACK_BASE for bought in both}


@pytest.mark.parametrize("chain", ["base", "tempo"])
def test_the_till_has_what_the_book_says(counter: Counter, purchases: Purchases, chain: str) -> None:
    """On chain, in the ledger, and in the receipts it is one sum; the book proves itself; nothing is left unclaimed."""
    assert all(bought.result() for bought in purchases.values())
    eventually(lambda: counter.ledger_base(chain) == counter.till_base(chain), what="the last receipt", pause_s=0.3)
    counter.verify_book()
    chain_id = (counter.tempo if chain == "tempo" else counter.base).chain_id
    received = counter.rows("SELECT * FROM incoming WHERE chain_id = ?", chain_id)
    assert sum(row["value_base"] for row in received) == counter.till_base(chain) > 0
    assert {row["state"] for row in received} == {"credited"}


def wait_credited(agent: Agent, amount_base: int) -> None:
    """Wait until an account has exactly this, and fail as soon as it has more."""
    amount = Decimal(amount_base) / 1_000_000

    def there() -> bool:
        balance = agent.balance()
        assert balance["credited"] <= amount, balance
        return bool(balance["available"] == balance["credited"] == amount)

    eventually(there, what=f"{amount} on {agent.account_id}")


def credits_of(counter: Counter, purse: Purse, account_id: str) -> dict[str, int]:
    """Return what an account was credited with for a wallet's payments, by transaction; each has one receipt."""
    rows = counter.received(purse.address)
    found = {"0x" + row["tx_hash"].hex(): row["amount_base"] for row in rows if row["account_id"] == account_id}
    assert len(found) == len(rows)
    return found


def receipt_header(payer: Payer) -> str:
    """Return the header that a client looks for its receipt in."""
    if payer.rail != "x402":
        return "Payment-Receipt"
    return "X-PAYMENT-RESPONSE" if payer.header == "x-payment" else "PAYMENT-RESPONSE"
