"""P4, P5: whatever an RPC endpoint does, at whichever step, on the seller's side or on ours: nobody is paid twice.

Every fault that the shim knows strikes every method that is called on the way, first where the sellers, or who settles for
them, reach the chain, then at the gateway's own witnesses; all sellers at the same time, so that what is never collected
is waited for once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from market import buy, mended
from stalls import NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2e_agent import Agent
    from market import Answer, Market

    from sandbox.tempo.shim import Shim

BRIEF_S = 0.5
MODES: dict[str, dict[str, Any]] = {
    "drop_before": {},
    "drop_after": {},
    "error": {},
    "error_after": {},
    "hang": {"seconds": BRIEF_S},
    "hang_after": {"seconds": BRIEF_S},
    "slow": {"seconds": BRIEF_S},
    "status": {},
    "answer": {"result": None},
}
SEND, RECEIPT = "eth_sendRawTransactionSync", "eth_getTransactionReceipt"
AT: dict[str, tuple[str, ...]] = {"pympp": ("pympp",), "mppx": ("mppx",), "facilitator": ("express", "mppx-evm")}
LOOKS_AGAIN = "pympp"  # the one seller that looks for a payment whose sending was not answered
LOST = "answer-lost-then-"
CHAINS = ("tempo", "base")
PATIENCE = 3  # strikes of one fault at a witness: as often as the gateway asks again before it takes no for an answer
WAVES = 12
# Of an agent that bought and has no goods: the outcome is open, or the seller says no and may collect all the same.
WITHOUT_GOODS = {"outcome_unknown", "vendor_refused_payment", "dispute_held", "idempotency_spent"}


@dataclass
class Round:
    """One fault at every method of one place: who sells meanwhile, what the fault never met, and what agents got."""

    names: tuple[str, ...]
    spared: set[str] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass
class Storm:
    """Every round, by place (a seller, the facilitator, a chain's witnesses) and fault."""

    market: Market
    agents: dict[str, Agent]
    rounds: dict[tuple[str, str], Round] = field(default_factory=dict)
    late: list[asyncio.Task[None]] = field(default_factory=list)

    async def play(self) -> None:
        """Play all of it, and let every agent have its answer."""
        await asyncio.gather(*(self._sellers(place, self.market.stalls[AT[place][0]].rpc) for place in AT))
        await asyncio.gather(*self.late)
        await asyncio.gather(*(self._witnesses(chain) for chain in CHAINS))
        await asyncio.gather(*self.late)

    async def _sellers(self, place: str, rpc: Shim) -> None:
        """Strike where a seller, or who settles for it, reaches the chain."""
        rpc.log.clear()
        for name in AT[place]:
            await self._calm(place, name)
        methods = sorted(set(rpc.log))
        for mode, parameters in MODES.items():
            faults = [{"method": method, "mode": mode, **parameters} for method in methods]
            await self._round(place, mode, AT[place], [(rpc, faults)])
        for mode, parameters in MODES.items() if place == LOOKS_AGAIN else ():
            faults = [{"method": SEND, "mode": "drop_after"}, {"method": RECEIPT, "mode": mode, **parameters}]
            await self._round(place, LOST + mode, AT[place], [(rpc, faults)])

    async def _witnesses(self, chain: str) -> None:
        """Strike where the gateway reads: both witnesses fail alike, but a made-up answer is one witness's alone."""
        shims = self.market.witnesses[chain]
        names = tuple(name for name in NAMES if self.market.stalls[name].of.chain == chain)
        for shim in shims:
            shim.log.clear()
        payment_id = await self._calm(f"{chain}-witnesses", names[0])
        await asyncio.to_thread(self.agents[names[0]].wait_closed, payment_id)
        methods = sorted({method for shim in shims for method in shim.log})
        for mode, parameters in MODES.items():
            faults = [{"method": method, "mode": mode, "left": PATIENCE, **parameters} for method in methods]
            liars = shims[:1] if mode == "answer" else shims
            await self._round(f"{chain}-witnesses", mode, names, [(shim, faults) for shim in liars])

    async def _calm(self, place: str, name: str) -> str:
        """Make one undisturbed purchase, which shows what is called on the way; return the payment's id."""
        (answer,) = await buy(self.agents[name], name, [f"{place}/calm"], "/echo")
        assert answer.status == 200, answer.body
        assert answer.payment_id is not None
        return answer.payment_id

    async def _round(
        self, place: str, fault: str, names: tuple[str, ...], given: Sequence[tuple[Shim, list[dict[str, Any]]]]
    ) -> None:
        """Buy, a few at a time, until each fault has struck; who still waits for an answer then is left to `late`."""
        played = self.rounds[place, fault] = Round(names)
        added = [(shim, each["method"], shim.faults.add(each)) for shim, faults in given for each in faults]
        for wave in range(WAVES):
            buying = asyncio.create_task(self._wave(played, f"{place}/{fault}/{wave}"))
            self.late.append(buying)
            await asyncio.wait([buying], timeout=1.5)
            active = {(shim, each["id"]) for shim, _ in given for each in shim.faults.active()}
            played.spared = {method for shim, method, number in added if (shim, number) in active}
            if not played.spared:
                return

    async def _wave(self, played: Round, key: str) -> None:
        buying = (self._two(played, name, f"{key}/{name}") for name in played.names)
        await asyncio.gather(*buying)

    async def _two(self, played: Round, name: str, key: str) -> None:
        keys = [f"{key}/first", f"{key}/second"]
        answers = await buy(self.agents[name], name, keys, "/echo")
        played.answers.update(zip(keys, answers, strict=True))


@pytest.fixture(scope="session")
def storm(market: Market) -> Storm:
    """All of it, played once; the chains have then told what became of every payment."""
    played = Storm(market, {name: market.agent("10") for name in NAMES})
    with mended(market.base):
        asyncio.run(played.play())
    market.wait_told(*NAMES, within_s=90)
    return played


def paid_for(storm: Storm, played: Round) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the book's rows of a round, and which of them the chains say were collected."""
    rows = [row for name in played.names for row in storm.market.payments(name)]
    rows = [row for row in rows if row["idempotency_key"] in played.answers]
    debits = {debit for name in played.names for debit in storm.market.debits(name)}
    return rows, {row["nonce"] for row in rows} & debits


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
    """What we cannot see, or see wrongly for a while, changes nothing: as many debits as calls, each captured."""
    played = storm.rounds[f"{chain}-witnesses", fault]
    assert played.spared == set()
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
