"""An inventory cap at the running gateway: many who pay at once, real wallets on a local chain, and room for a few."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests
from e2e_agent import PROBLEM, Agent, eventually
from topup_bed import BASE, PACK_BASE, Answer, Ask, Purse, TillHome, make_home, open_chains

from contracts.codec import checksum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e_gateway import Gateway

PACK = "/v1/topups/packs/one"
CROWD, ROOM_FOR = 12, 3
CAP = "1.6"  # three packs of a half, and a bit
END_WITHIN_S = 120


@pytest.fixture
def till(tmp_path: Path) -> Iterator[TillHome]:
    """A gateway's directory with a capped token; no process runs on it yet."""
    with open_chains() as chains:
        made = make_home(tmp_path, chains, BASE)
        config = made.home.config.read_text()
        assert config.count("[tokens.base-usdc]") == 1
        made.home.config.write_text(
            config.replace("[tokens.base-usdc]", f'[tokens.base-usdc]\ninventory_cap = "{CAP}"')
        )
        yield made


def payers(till: TillHome, gateway: Gateway) -> list[tuple[Purse, Ask]]:
    """Return wallets that were all offered credit while there was room, each with the request that pays for it."""
    found = []
    for number in range(CROWD):
        agent, purse = open_agent(gateway, f"payer{number}"), till.chains.purse(BASE)
        headers = {"Authorization": f"Bearer {agent.key}"}
        found.append((purse, purse.pay_x402(gateway.base_url, PACK, headers, 2)))
    return found


def open_agent(gateway: Gateway, name: str) -> Agent:
    """Open an account without credit, and make a key."""
    gateway.operate("account_open", account=name, name="A customer")
    return Agent(gateway, name, gateway.operate("key_new", account=name)["secret"])


def sent(gateway: Gateway, ask: Ask) -> Answer:
    """Make a request that is answered."""
    answer = ask.send(gateway.base_url)
    assert answer is not None
    return answer


def test_of_a_crowd_that_pays_at_once_as_many_are_taken_as_fit(till: TillHome) -> None:
    """P1: the others are told so before anything of theirs is collected; nobody is offered what does not fit, or loses money."""
    with till.home.start(ready=False) as gateway:
        eventually(lambda: gateway.readiness() == 200, what="readiness")
        crowd = payers(till, gateway)
        with ThreadPoolExecutor(CROWD) as pool:
            answers = list(pool.map(lambda each: sent(gateway, each[1]), crowd))
        codes = Counter(answer.body["type"] for answer in answers if answer.status == 503)
        assert codes == {f"{PROBLEM}inventory_capped": CROWD - ROOM_FOR}, answers
        assert sum(answer.status in {200, 202} for answer in answers) == ROOM_FOR

        eventually(lambda: not till.open_things(), what="the last block", within_s=END_WITHIN_S, pause_s=0.2)
        late = requests.get(gateway.base_url + PACK, timeout=30)
        assert (late.status_code, late.json()["code"]) == (503, "inventory_capped"), late.text
        assert int(late.headers["Retry-After"]) > 0
        less = requests.post(gateway.base_url + "/v1/topups", json={"amount": "0.1"}, timeout=30)
        assert less.status_code == 402

    moved = {purse.address: till.chains.transfers(BASE, purse.address, till.till) for purse, _ in crowd}
    for (purse, _), answer in zip(crowd, answers, strict=True):
        assert len(moved[purse.address]) == (answer.status != 503), answer
    assert till.chains.base.balance_of(checksum(till.till)) == ROOM_FOR * PACK_BASE
    till.check()
