"""Everything that an RPC endpoint can do, at whichever step, on the seller's side and on ours, all at the same time.

Every fault that the shim knows strikes every method that is called on the way: where the sellers, or who settles for them,
reach the chain, and at one of the gateway's own witnesses; so what is never collected is waited for once. What must be
true afterwards is for the tests to say.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from market import buy
from stalls import NAMES

if TYPE_CHECKING:
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
ATTEMPTS = 3  # the gateway asks an endpoint so often before it takes a broken connection for an answer
BROKEN = {"drop_before", "drop_after", "hang", "hang_after", "status"}
RESPITE = 2  # calls between two faults at a witness
APART = {"eth_call"}  # what wallets hold, looked up every quarter of a minute: no step of a payment
WAVES = 12
PATIENCE_S = 60

Added = list[tuple["Shim", str, str, int]]  # where, method, mode, the fault's id there


@dataclass
class Round:
    """A stretch of purchases: who sells, what agents got, and which methods a fault was meant for and never met."""

    names: tuple[str, ...]
    spared: set[str] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass
class Storm:
    """Every round, by place (a seller, or the facilitator) and fault; `at_witnesses` are the faults on our own side."""

    market: Market
    agents: dict[str, Agent]
    rounds: dict[tuple[str, str], Round] = field(default_factory=dict)
    at_witnesses: dict[str, Added] = field(default_factory=dict)
    after: Round = field(default_factory=lambda: Round(NAMES))
    late: list[asyncio.Task[None]] = field(default_factory=list)

    async def play(self) -> None:
        """Play all of it, and let every agent have its answer."""
        await asyncio.gather(*(self._strike_witness(chain) for chain in CHAINS))
        await asyncio.gather(*(self._sellers(place, self.market.stalls[AT[place][0]].rpc) for place in AT))
        for wave in range(3 * WAVES):  # the sellers are well again; our own eyes are not, yet
            if wave and not any(spared(added) for added in self.at_witnesses.values()):
                break
            self.late.append(asyncio.create_task(self._wave(self.after, f"after/{wave}")))
            await asyncio.sleep(1)
            await asyncio.wait(self.late[-1:], timeout=10)  # what piles up outlives its credentials
        await asyncio.gather(*self.late)

    async def _strike_witness(self, chain: str) -> None:
        """Have one witness fail in every way, one after the other, also with made-up answers."""
        struck = self.market.witnesses[chain][0]
        name = next(name for name in NAMES if self.market.stalls[name].of.chain == chain)
        struck.log.clear()
        payment_id = await self._calm(f"{chain}-witnesses", name)
        await asyncio.to_thread(self.agents[name].wait_closed, payment_id)
        methods = sorted(set(struck.log) - APART)
        assert {"eth_getLogs", RECEIPT} < set(methods)
        added = self.at_witnesses[chain] = []
        for (number, (mode, parameters)), method in itertools.product(enumerate(MODES.items()), methods):
            left = ATTEMPTS if mode in BROKEN else 1
            fault = {"method": method, "mode": mode, "left": left, "skip": number * RESPITE, **parameters}
            added.append((struck, method, mode, struck.faults.add(fault)))

    async def _sellers(self, place: str, rpc: Shim) -> None:
        """Strike where a seller, or who settles for it, reaches the chain."""
        rpc.log.clear()
        for name in AT[place]:
            await self._calm(place, name)
        methods = sorted(set(rpc.log))
        for mode, parameters in MODES.items():
            faults = [{"method": method, "mode": mode, **parameters} for method in methods]
            await self._round(place, mode, rpc, faults)
        for mode, parameters in MODES.items() if place == LOOKS_AGAIN else ():
            faults = [{"method": SEND, "mode": "drop_after"}, {"method": RECEIPT, "mode": mode, **parameters}]
            await self._round(place, LOST + mode, rpc, faults)

    async def _calm(self, place: str, name: str) -> str:
        """Make one undisturbed purchase, which shows what is called on the way; return the payment's id."""
        (answer,) = await buy(self.agents[name], name, [f"{place}/calm"], "/echo")
        assert answer.status == 200, answer.body
        assert answer.payment_id is not None
        return answer.payment_id

    async def _round(self, place: str, fault: str, rpc: Shim, faults: list[dict[str, Any]]) -> None:
        """Buy, a few at a time, until each fault has struck; who still waits for an answer then is left to `late`."""
        played = self.rounds[place, fault] = Round(AT[place])
        added = [(rpc, each["method"], each["mode"], rpc.faults.add(each)) for each in faults]
        begun: list[asyncio.Task[None]] = []
        for wave in range(WAVES):
            begun.append(asyncio.create_task(self._wave(played, f"{place}/{fault}/{wave}")))
            self.late.append(begun[-1])
            await asyncio.wait(begun[-1:], timeout=1.5)
            played.spared = {method for method, _ in spared(added)}
            if not played.spared:
                return
        await asyncio.wait(begun, timeout=PATIENCE_S)  # on a busy machine they may all be on the way still
        played.spared = {method for method, _ in spared(added)}

    async def _wave(self, played: Round, key: str) -> None:
        buying = (self._two(played, name, f"{key}/{name}") for name in played.names)
        await asyncio.gather(*buying)

    async def _two(self, played: Round, name: str, key: str) -> None:
        keys = [f"{key}/first", f"{key}/second"]
        answers = await buy(self.agents[name], name, keys, "/echo")
        played.answers.update(zip(keys, answers, strict=True))


def spared(added: Added) -> set[tuple[str, str]]:
    """Return method and mode of every fault that has not struck so often as it was meant to."""
    active = {(shim, fault["id"]) for shim in {shim for shim, *_ in added} for fault in shim.faults.active()}
    return {(method, mode) for shim, method, mode, number in added if (shim, number) in active}


def paid_for(storm: Storm, played: Round) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the book's rows of a round, and which of them the chains say were collected."""
    rows = [row for name in played.names for row in storm.market.payments(name)]
    rows = [row for row in rows if row["idempotency_key"] in played.answers]
    debits = {debit for name in played.names for debit in storm.market.debits(name)}
    return rows, {row["nonce"] for row in rows} & debits
