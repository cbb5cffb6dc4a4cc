"""The engine killed between any two of its steps: whoever starts after it collects the payment once, and says so."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_bed import bed, many

from contracts.codec import to_hex
from gateway.core.paid_commands import ClaimSettlement, MoveSettlements
from gateway.ports import Store
from sandbox.chain import LocalBase


class Frozen:
    """Another object, one of whose calls never returns: before it was done, or after."""

    def __init__(self, inner: Any, name: str, *, after: bool, only: type | None = None, event: str = "") -> None:
        self._inner, self._name, self._after, self._only, self._event = inner, name, after, only, event
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._freezing(found) if name == self._name else found

    def _freezing(self, call: Any) -> Any:
        async def frozen(*arguments: Any, **named: Any) -> Any:
            if self._only is not None and not self._is_meant(arguments[0]):
                return await call(*arguments, **named)
            if self._after:
                await call(*arguments, **named)
            self.reached.set()
            return await asyncio.Event().wait()

        return frozen

    def _is_meant(self, command: object) -> bool:
        return isinstance(command, self._only or object) and getattr(command, "event", self._event) == self._event


STORE_STEPS = [
    ("before the claim", ClaimSettlement, "", False),
    ("after the claim", ClaimSettlement, "", True),
    ("before it is written down", MoveSettlements, "sent", False),
    ("after it is written down", MoveSettlements, "sent", True),
    ("before it is called mined", MoveSettlements, "mined", False),
    ("after it is called mined", MoveSettlements, "mined", True),
]
CHAIN_STEPS = [
    ("before the simulation", "simulate", False),
    ("after the simulation", "simulate", True),
    ("before it is sent", "send", False),
    ("after it is sent", "send", True),
    ("before the receipt", "mined", False),
]


@pytest.mark.parametrize(("step", "command", "event", "after"), STORE_STEPS, ids=[step[0] for step in STORE_STEPS])
async def test_killed_at_a_commit(
    automine_base: LocalBase, tmp_path: Path, step: str, command: type, event: str, *, after: bool
) -> None:
    """Killed before or after any commit, one transfer is made and the same payment is told to have succeeded."""
    frozen: list[Frozen] = []

    def wrap(store: Store) -> Store:
        frozen.append(Frozen(store, "post", after=after, only=command, event=event))
        return frozen[0]  # type: ignore[return-value]

    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        await it.close()
        await it.open(wrap=wrap)
        exact = payer.pays()
        asking = asyncio.create_task(it.settle(exact))
        await asyncio.wait_for(frozen[0].reached.wait(), 40)
        asking.cancel()
        await it.kill()
        await it.open()
        answer = await it.settle(exact)
        assert answer.success, step
        assert (it.received(), it.count(it.addresses()[0])) == (1_000, 1)
        assert await it.store.contradiction() is None


@pytest.mark.parametrize(("step", "name", "after"), CHAIN_STEPS, ids=[step[0] for step in CHAIN_STEPS])
async def test_killed_at_a_call_of_the_chain(
    automine_base: LocalBase, tmp_path: Path, step: str, name: str, *, after: bool
) -> None:
    """Killed before or after any call of the chain, one transfer is made and the same payment is told to have succeeded."""
    async with bed(automine_base, tmp_path) as it:
        (payer,) = many(1)
        it.fund([payer])
        await it.close()
        frozen = Frozen(it.relay, name, after=after)
        await it.open(relay=frozen)
        exact = payer.pays()
        asking = asyncio.create_task(it.settle(exact))
        await asyncio.wait_for(frozen.reached.wait(), 40)
        asking.cancel()
        await it.kill()
        await it.open()
        answer = await it.settle(exact)
        assert answer.success, step
        assert (it.received(), it.count(it.addresses()[0])) == (1_000, 1)


async def test_a_whole_batch_survives_a_kill_between_commit_and_broadcast(
    automine_base: LocalBase, tmp_path: Path
) -> None:
    """Many in one transaction that was written down and never left: the same bytes are sent by whoever starts next."""
    async with bed(automine_base, tmp_path) as it:
        payers = many(12)
        it.fund(payers)
        await it.close()
        frozen = Frozen(it.relay, "send", after=False)
        await it.open(relay=frozen)
        payments = [payer.pays() for payer in payers]
        asking = [asyncio.create_task(it.settle(exact)) for exact in payments]
        await asyncio.wait_for(frozen.reached.wait(), 40)
        stored = [relay.attempts[0].tx_hash for relay in it.store.view.relays.values()]
        await _cancel(asking)
        await it.kill()
        await it.open()
        answers = await it.settle_all(payments)
        assert {answer.tx_hash for answer in answers} == set(stored)
        assert automine_base.receipt(to_hex(stored[0]))["status"] == "0x1"
        assert it.received() == 12_000


async def _cancel(asking: Sequence["asyncio.Task[Any]"]) -> None:
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
