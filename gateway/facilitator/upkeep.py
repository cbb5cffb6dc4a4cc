"""What is done again and again about what is on its way: replace what is stuck, fill gaps, give up what is lost.

Must not know who waits. Theory: one account nonce can be mined once, so a transaction may be signed anew at a higher price
as often as it takes; and what carries an authorization no more hands it back, because the token itself makes sure that it
is collected once, whoever still has an older form of it.
"""

from collections.abc import Awaitable, Callable

import structlog

from contracts.batch import deployment
from gateway.core.paid import Relay, RelayState, Settlement, SettlementState
from gateway.core.pause import has_passed
from gateway.core.replacing import replace
from gateway.facilitator.desk import Desk
from gateway.facilitator.follow import judge
from gateway.facilitator.inclusion import Follower, claimed_again
from gateway.facilitator.lanes import GAS_PLAIN, Call, Fees, Lane, Lanes, fees_now, raised, sign
from gateway.facilitator.submit import Submitter, call_of, item_of
from gateway.ports import Block, ChainDisagreement, ChainUnavailable
from wallets.guard import SigningRefused

__all__ = ["Upkeep"]

SUSPECT_BLOCKS = 2

log = structlog.get_logger()


class Upkeep:
    """One chain's sweep."""

    def __init__(self, desk: Desk, lanes: Lanes, submitter: Submitter, follower: Follower) -> None:
        self._desk, self._lanes, self._submitter, self._follower = desk, lanes, submitter, follower
        self._suspects: dict[
            str, int
        ] = {}  # transactions whose nonce another one used: since which block that is known

    async def sweep(self) -> None:
        """Do everything once; what fails stops nothing else. Raises the first ChainUnavailable or ChainDisagreement."""
        problems: list[Exception] = []
        steps: tuple[Callable[[], Awaitable[None]], ...] = (
            self._look,
            *(self._lane_step(lane) for lane in self._lanes.lanes),
            self._follower.judge_leftovers,
            self._reorganised,
            self._follower.finish,
            self._lost_for_good,
            self._unsent_for_good,
        )
        for step in steps:
            try:
                await step()
            except (ChainUnavailable, ChainDisagreement) as problem:
                problems.append(problem)
        for settlement in self._desk.settlements(SettlementState.CLAIMED):
            self._submitter.put(settlement)
        self._submitter.wake()
        if problems:
            raise problems[0]

    async def _look(self) -> None:
        await self._follower.look(everywhere=True)

    def _lane_step(self, lane: Lane) -> Callable[[], Awaitable[None]]:
        async def step() -> None:
            await self._lanes.look_at_balance(lane)
            count = await self._lanes.count(lane)
            async with self._follower.moving:
                await self._follow_nonces(lane, count)
            await self._fill_gaps(lane)

        return step

    async def _reorganised(self) -> None:
        for relay in await self._follower.look_back():
            await self._submitter.hand_over(self._lanes.of(relay), relay)

    # one lane

    async def _follow_nonces(self, lane: Lane, count: int) -> None:
        head, fees = await self._desk.relay.head(), await fees_now(self._desk)
        base_wei = (await self._desk.relay.fees())[0]
        own = [r for r in self._desk.relays() if r.relayer == lane.address and r.state is RelayState.SENT]
        patience_ms = int(self._desk.rules.replace_after_s * 1000)
        for relay in own:
            newest = relay.attempts[-1]
            is_old = has_passed(patience_ms, newest.sent_at_ms, self._desk.clock.now_ms())
            if relay.account_nonce < count:
                await self._suspect(relay, head)
            elif is_old and lane.balance_wei is not None and lane.balance_wei < lane.relayer.floor_wei:
                await self._hand_back(relay)
            elif is_old and (relay.account_nonce == count or newest.max_fee_wei < base_wei):
                await self._replace(lane, relay, head, fees)
            elif is_old:
                await self._submitter.hand_over(lane, relay)  # a node may have dropped it

    async def _suspect(self, relay: Relay, head: Block) -> None:
        """Its nonce was used, and no block that we were shown holds any form of it: two blocks on, do without it."""
        since = self._suspects.setdefault(relay.id, head.number)
        if head.number >= since + SUSPECT_BLOCKS:
            await self._hand_back(relay)

    async def _hand_back(self, relay: Relay) -> None:
        """Let another transaction carry what this one does."""
        own = await self._on_its_way(relay)
        if own:
            log.warning("relay.handed_back", relay_id=relay.id, nonce=relay.account_nonce, settlements=len(own))
            await self._desk.commit(map(claimed_again, own), None, "lost")

    async def _replace(self, lane: Lane, relay: Relay, head: Block, wanted: Fees | None) -> None:
        """Sign the same account nonce at a higher price. What nobody needs any more becomes an empty transaction."""
        cap_wei = self._desk.rules.fee_cap_wei
        fees = None if wanted is None else raised(relay.attempts[-1], wanted, cap_wei)
        if fees is None:
            await self._desk.ask(
                "relayer_stuck", lane.label, f"nonce {relay.account_nonce} waits, at the cap of {cap_wei}"
            )
            await self._submitter.hand_over(lane, relay)
            return
        call = await self._content(lane, relay, head)
        try:
            attempt = sign(lane, relay.account_nonce, call, fees, self._desk.clock.now_ms())
        except SigningRefused as problem:
            await self._desk.ask("relayer_refused", lane.label, str(problem))
            return
        again = replace(relay, attempts=(*relay.attempts, attempt), gas=call.gas, version=relay.version + 1)
        if await self._desk.commit((), again, "replaced"):
            log.info("relay.replaced", relay_id=relay.id, nonce=relay.account_nonce, max_fee_wei=fees.max_wei)
            await self._submitter.hand_over(lane, again)

    async def _content(self, lane: Lane, relay: Relay, head: Block) -> Call:
        if relay.purpose == "deploy":
            return Call(*deployment(), relay.gas)
        alive = [s for s in await self._on_its_way(relay) if s.valid_before_s > head.time_s]
        items = [item for item in (item_of(self._desk, s) for s in alive) if item is not None]
        return call_of(self._desk, items) if items else Call(lane.address, b"", GAS_PLAIN)

    async def _on_its_way(self, relay: Relay) -> list[Settlement]:
        """Return what is sent with this transaction and with no other by now."""
        carried = await self._desk.carried_by(relay)
        return [s for s in carried if s.state is SettlementState.SENT and s.relay_id == relay.id]

    async def _fill_gaps(self, lane: Lane) -> None:
        """Use up nonces that nothing will use, or nothing after them is ever mined."""
        fees = await fees_now(self._desk) if lane.holes else None
        while fees is not None and lane.holes:
            log.warning("relay.gap", relayer=lane.label, nonce=min(lane.holes))
            try:
                sent = await self._submitter.send_call(lane, Call(lane.address, b"", GAS_PLAIN), fees, "gap")
            except SigningRefused as problem:
                await self._desk.ask("relayer_refused", lane.label, str(problem))
                return
            if sent is None:
                return

    # what was never mined

    async def _lost_for_good(self) -> None:
        """Close transactions whose nonce a final block has used for another one. Raises ChainUnavailable."""
        view = self._desk.store.view.relays
        for gone in self._suspects.keys() - view.keys():
            del self._suspects[gone]
        suspects = [view[each] for each in self._suspects if view[each].state is RelayState.SENT]
        if not suspects:
            return
        final = await self._desk.proof.final()
        async with self._follower.moving:
            for relay in suspects:
                if self._suspects[relay.id] <= final.number and view.get(relay.id) == relay:
                    await self._close_lost(relay, final)

    async def _close_lost(self, relay: Relay, final: Block) -> None:
        for attempt in relay.attempts:
            if await self._desk.proof.receipt(attempt.tx_hash, at=final) is not None:
                return
        lane = self._lanes.of(relay)
        if lane is None or await self._lanes.count(lane) <= relay.account_nonce:
            del self._suspects[relay.id]  # the block that used it was replaced
            return
        own = await self._on_its_way(relay)
        log.error("relay.lost", relay_id=relay.id, nonce=relay.account_nonce)
        lost = replace(relay, state=RelayState.LOST, version=relay.version + 1)
        if await self._desk.commit(map(claimed_again, own), lost, "lost"):
            await self._desk.ask("relayer_shared", lane.label, "a transaction that is not ours used one of its nonces")

    # what was never sent

    async def _unsent_for_good(self) -> None:
        """End claims that a final block is too late for, whatever kept them from being sent. Raises ChainUnavailable.

        No relayer with gas, a fee above the cap, a token that is configured no more: whoever was told "pending" is told the
        end all the same.
        """
        now_s = self._desk.now_s()
        late = [s for s in self._desk.settlements(SettlementState.CLAIMED) if s.valid_before_s <= now_s]
        if not late:
            return
        final = await self._desk.proof.final()
        for settlement in late:
            if settlement.valid_before_s > final.time_s or self._submitter.carries(settlement):
                continue
            verdict = await judge(self._desk, settlement, None)
            if verdict is not None:
                collected = verdict.state is SettlementState.MINED
                await self._desk.commit([verdict], None, "mined" if collected else "failed")
