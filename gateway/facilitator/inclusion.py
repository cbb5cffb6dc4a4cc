"""Looking for what was sent: blocks that hold it, blocks that held it and are gone, and what a final block proves.

Must not know how transactions are made or priced. Theory: "mined" is a sighting that may be undone, so it goes back to
"sent" as long as nothing final says otherwise; and final is what a quorum of endpoints says of a final block, nothing
less (P14), although nobody is credited by any of it.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from gateway.core.paid import Relay, RelayState, Settlement, SettlementState
from gateway.core.pause import has_passed
from gateway.core.replacing import replace
from gateway.facilitator.desk import Desk
from gateway.facilitator.follow import carrier, collected_in, judge, mined_by, moved_by, pays
from gateway.facilitator.pacing import BlockPace
from gateway.ports import Block, ChainUnavailable, Receipt

__all__ = ["Follower"]

RECENT_BLOCKS = 12
LOOK_ALL_EVERY_MS = 30_000
PARALLEL = 8

log = structlog.get_logger()


class Follower:
    """One chain's way back. `moved` is called when something came into a block or fell out of one."""

    def __init__(self, desk: Desk, moved: Callable[[], None]) -> None:
        self._desk, self._moved = desk, moved
        self._wake = asyncio.Event()
        self._scanned = 0
        self._looked_at_all_ms = 0
        self.moving = asyncio.Lock()  # whoever moves what is in flight moves it alone
        self._closing = False

    def wake(self) -> None:
        """Look at once: something was sent."""
        self._wake.set()

    def close(self) -> None:
        """Look no more."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Look for what is sent at each new block, soon after it is made, and at once after something was sent."""
        seen: bytes | None = None
        pace = BlockPace(self._desk.rules.poll_s, asyncio.get_running_loop().time)
        while not self._closing:
            waited = bool(self._sent())
            if not waited:
                await self._wake.wait()
            fresh = self._wake.is_set()
            self._wake.clear()
            try:
                head = await self._desk.relay.head()
                pace.saw(head.number, waited=waited)
                if fresh or head.hash != seen:
                    await self.look()
                seen = head.hash
            except ChainUnavailable as problem:
                log.warning("settlement.chain_unavailable", chain_id=self._desk.chain_id, why=str(problem))
                await asyncio.sleep(self._desk.rules.retry_s)
            try:
                async with asyncio.timeout(pace.pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def look(self, *, everywhere: bool = False) -> None:
        """Look for every transaction that is in no block yet; `everywhere` also in old blocks. Raises ChainUnavailable."""
        async with self.moving:
            sent = self._sent()
            if not sent:
                return
            head = await self._desk.relay.head()
            hashes = [attempt.tx_hash for relay in sent for attempt in relay.attempts]
            found = await self._desk.relay.mined(hashes, 0 if everywhere else self._scanned)
            self._scanned = max(0, head.number - 2)
            hits = [(r, found[a.tx_hash]) for r in sent for a in r.attempts if a.tx_hash in found]
            await asyncio.gather(*(self._mined(relay, receipt, fee_wei) for relay, (receipt, fee_wei) in hits))
            if hits:
                self._moved()

    def _sent(self) -> list[Relay]:
        return [relay for relay in self._desk.relays() if relay.state is RelayState.SENT]

    async def _mined(self, relay: Relay, receipt: Receipt, fee_wei: int) -> None:
        collections = collected_in(receipt)
        moved: list[Settlement] = []
        left: list[Settlement] = []
        for settlement in await self._desk.carried_by(relay):
            if settlement.state in {SettlementState.MINED, SettlementState.FINAL}:
                continue
            if pays(settlement, collections):
                moved.append(mined_by(settlement, receipt))
            elif settlement.relay_id == relay.id and settlement.state is SettlementState.SENT:
                left.append(settlement)
        mined = moved_by(relay, receipt, fee_wei)
        verdicts = await asyncio.gather(*(self._judge(settlement, carrier(mined, settlement)) for settlement in left))
        moved += [verdict for verdict in verdicts if verdict is not None]
        await self._desk.commit(moved, mined, "mined")

    async def _judge(self, settlement: Settlement, tx_hash: bytes | None) -> Settlement | None:
        try:
            return await judge(self._desk, settlement, tx_hash)
        except ChainUnavailable as problem:  # it stays as it is, and is judged by the next sweep
            log.info("settlement.not_judged", settlement_id=settlement.id, why=str(problem))
            return None

    # what is left over, and what was undone

    async def judge_leftovers(self) -> None:
        """Decide those whose transaction is in a block without having collected them; it may be final by now."""
        async with self.moving:
            for settlement in self._desk.settlements(SettlementState.SENT):
                relay = await self._desk.relay_of(settlement)
                if relay is None or relay.state is not RelayState.SENT:
                    verdict = await self._judge(settlement, None if relay is None else carrier(relay, settlement))
                    await self._desk.commit([] if verdict is None else [verdict], None, "failed")

    async def look_back(self) -> list[Relay]:
        """Find what was in a block that is gone, and return its transactions, to be sent again. Raises ChainUnavailable."""
        async with self.moving:
            head, now_ms = await self._desk.relay.head(), self._desk.clock.now_ms()
            everything = has_passed(LOOK_ALL_EVERY_MS, self._looked_at_all_ms, now_ms)
            first = 0 if everything else head.number - RECENT_BLOCKS
            relays = [r for r in self._desk.relays() if _is_mined_in(r, first, head.number)]
            strangers = [s for s in self._by_others() if first <= (s.block_number or 0) <= head.number]
            hashes = [r.mined_hash for r in relays if r.mined_hash] + [s.tx_hash for s in strangers if s.tx_hash]
            found = await self._desk.relay.mined(hashes, first) if hashes else {}
            if everything:
                self._looked_at_all_ms = now_ms
            gone = [r for r in relays if _block_of(found, r.mined_hash) != r.block_number]
            for relay in gone:
                await self._undo(relay)
            undone = [s for s in strangers if _block_of(found, s.tx_hash) != s.block_number]
            await self._desk.commit(map(claimed_again, undone), None, "reorged")
            return [self._desk.store.view.relays[relay.id] for relay in gone]

    async def _undo(self, relay: Relay) -> None:
        log.warning("settlement.reorged", relay_id=relay.id, block=relay.block_number)
        back = replace(
            relay,
            state=RelayState.SENT,
            mined_hash=None,
            block_number=None,
            status=None,
            fee_wei=0,
            version=relay.version + 1,
        )
        own = [
            replace(s, state=SettlementState.SENT, tx_hash=None, block_number=None, version=s.version + 1)
            for s in await self._desk.carried_by(relay)
            if s.state is SettlementState.MINED and s.tx_hash == relay.mined_hash and s.relay_id == relay.id
        ]
        await self._desk.commit(own, back, "reorged")

    def _by_others(self) -> list[Settlement]:
        """Return what a transaction collected that is not the settlement's own."""
        relays = self._desk.store.view.relays
        return [
            s
            for s in self._desk.settlements(SettlementState.MINED)
            if s.relay_id is None or s.relay_id not in relays or relays[s.relay_id].mined_hash != s.tx_hash
        ]

    # what is final

    async def finish(self) -> None:
        """Close what a final block holds. Raises ChainUnavailable, ChainDisagreement."""
        relays = [relay for relay in self._desk.relays() if relay.state is RelayState.MINED]
        strangers = self._by_others()
        if not relays and not strangers:
            return
        final = await self._desk.proof.final()
        async with self.moving:
            gate = asyncio.Semaphore(PARALLEL)
            due = [relay for relay in relays if relay.block_number is not None and relay.block_number <= final.number]
            await asyncio.gather(*(self._finish(gate, relay, final) for relay in due))
            for settlement in strangers:
                if settlement.block_number is not None and settlement.block_number <= final.number:
                    await self._finish_stranger(settlement, final)

    async def _finish(self, gate: asyncio.Semaphore, relay: Relay, final: Block) -> None:
        if relay.mined_hash is None or self._desk.store.view.relays.get(relay.id) != relay:
            return
        async with gate:
            receipt = await self._desk.proof.receipt(relay.mined_hash, at=final)
        if receipt is None or receipt.block.number > final.number:
            await self._undo(relay)
            return
        collections = collected_in(receipt)
        done: list[Settlement] = []
        for settlement in await self._desk.carried_by(relay):
            mined = settlement.state is SettlementState.MINED and settlement.tx_hash == relay.mined_hash
            if mined and pays(settlement, collections):
                done.append(final_by(settlement, receipt))
            elif mined:  # the endpoint that told of it was wrong
                log.error("settlement.not_as_told", settlement_id=settlement.id, relay_id=relay.id)
                verdict = await self._judge(settlement, relay.mined_hash)
                done += [] if verdict is None else [verdict]
        closed = replace(
            relay,
            state=RelayState.FINAL,
            block_number=receipt.block.number,
            status=receipt.status,
            version=relay.version + 1,
        )
        await self._desk.commit(done, closed, "final")

    async def _finish_stranger(self, settlement: Settlement, final: Block) -> None:
        if settlement.tx_hash is None or self._desk.store.view.settlements.get(settlement.id) != settlement:
            return
        receipt = await self._desk.proof.receipt(settlement.tx_hash, at=final)
        good = receipt is not None and receipt.block.number <= final.number and pays(settlement, collected_in(receipt))
        if good and receipt is not None:
            await self._desk.commit([final_by(settlement, receipt)], None, "final")
        else:
            await self._desk.commit([claimed_again(settlement)], None, "reorged")


def claimed_again(settlement: Settlement) -> Settlement:
    """Return a settlement that no transaction carries any more."""
    return replace(
        settlement,
        state=SettlementState.CLAIMED,
        relay_id=None,
        tx_hash=None,
        block_number=None,
        version=settlement.version + 1,
    )


def final_by(settlement: Settlement, receipt: Receipt) -> Settlement:
    """Return a settlement that a final block proves."""
    collected = mined_by(settlement, receipt)
    return replace(collected, state=SettlementState.FINAL)


def _is_mined_in(relay: Relay, first: int, last: int) -> bool:
    return relay.state is RelayState.MINED and first <= (relay.block_number or 0) <= last


def _block_of(found: Mapping[bytes, tuple[Receipt, int]], tx_hash: bytes | None) -> int | None:
    return found[tx_hash][0].block.number if tx_hash is not None and tx_hash in found else None
