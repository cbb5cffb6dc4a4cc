"""From claimed to sent: what waits is simulated, signed for, written down, and only then handed to the chain.

Must not know what becomes of it in a block. Theory: a transaction that is written down with its hash before it leaves can be
sent again, looked for and replaced by whoever comes after a crash; and what the chain would refuse never becomes part of
one, so no gas is spent on it.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from contracts.batch import BatchError, decode_outcomes, encode_batch, fits, gas_limit
from contracts.calls import CallError, decode_uint, encode_balance_of, encode_transfer_bytes, encode_transfer_vrs
from contracts.codec import checksum
from contracts.reverts import reason_of, revert_text
from gateway.core.paid import Relay, Settlement, SettlementState
from gateway.core.pause import is_over
from gateway.core.replacing import replace
from gateway.facilitator.batching import Item, Waiting
from gateway.facilitator.desk import Desk, authorization_of
from gateway.facilitator.follow import Fate, elsewhere, failed, judge, mined_by
from gateway.facilitator.lanes import PAUSE_MS, Call, Fees, Lane, Lanes, fees_now, sign
from gateway.paid_ports import Reverted, Simulated
from gateway.ports import ChainUnavailable
from gateway.rails.x402.reasons import Reason
from wallets.guard import SigningRefused

__all__ = ["Submitter", "call_of", "item_of"]

HELD_BACK_S = 0.25
TOO_DEAR_S = 2.0
STOPPED_S = 2.0
UNBATCHED_MS = 60_000
UNANSWERED_MAX = 3

log = structlog.get_logger()


class Submitter:
    """One chain's way out. `sent` is called when a transaction was handed over, so that somebody looks for it at once."""

    def __init__(self, desk: Desk, lanes: Lanes, sent: Callable[[], None]) -> None:
        self._desk, self._lanes, self._sent = desk, lanes, sent
        self._waiting = Waiting(desk.rules.batch_size)
        self._wake = asyncio.Event()
        self._carrying: set[asyncio.Task[None]] = set()
        self._carried: set[str] = set()
        self._unknown: set[str] = set()
        self._closing = False
        self._unbatched_until_ms = 0
        self._batches_unanswered = 0

    def put(self, settlement: Settlement) -> None:
        """Take a claimed settlement; one that is here already is not taken twice."""
        if settlement.id in self._carried or settlement.id in self._waiting:
            return
        terms = self._desk.store.view.sellers.get(settlement.account_id)
        latency_s = self._desk.rules.batch_age_s if terms is None else terms.latency_s
        closes_s = settlement.valid_before_s - self._desk.rules.flush_margin_s
        item = item_of(self._desk, settlement, min(settlement.created_at_ms / 1000 + latency_s, float(closes_s)))
        if item is None:
            if settlement.id not in self._unknown:
                self._unknown.add(settlement.id)
                log.error("settlement.token_unknown", settlement_id=settlement.id)
            return
        self._waiting.put(item)
        self._wake.set()

    def carries(self, settlement: Settlement) -> bool:
        """Say whether a claim is being made part of a transaction at this moment."""
        return settlement.id in self._carried

    def wake(self) -> None:
        """Look again at what waits: there may be room now."""
        self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """Start nothing new, and let what is under way come to its end, at most that long."""
        self._closing = True
        self._wake.set()
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=timeout_s)
        for task in self._carrying:
            task.cancel()

    async def run(self) -> None:
        """Send what waits until it is closed."""
        while await self._pause():
            try:
                together = await self._is_batched()
            except ChainUnavailable as problem:
                log.warning("settlement.chain_unavailable", chain_id=self._desk.chain_id, why=str(problem))
                await asyncio.sleep(self._desk.rules.retry_s)
                self._wake.set()
                continue
            while (lane := self._lanes.pick()) is not None:
                load = self._waiting.take(self._desk.now_s(), together=together)
                if not load:
                    break
                self._start(lane, load)

    async def _pause(self) -> bool:
        """Wait until something is due: for an arrival, and for those that come right behind it. False: it is closed."""
        wait_s = self._waiting.wait_s(self._desk.now_s())
        if wait_s == 0 and self._lanes.pick() is None:
            wait_s = None  # there is no lane: whoever frees one wakes us
        if not self._wake.is_set() and wait_s != 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        if self._wake.is_set() and not self._closing:
            await asyncio.sleep(self._desk.rules.linger_s)
        self._wake.clear()
        return not self._closing

    async def _is_batched(self) -> bool:
        alone = not is_over(self._unbatched_until_ms, self._desk.clock.now_ms(), UNBATCHED_MS)
        if alone or self._desk.rules.batch_size == 1:
            return False
        return await self._desk.relay.has_code(self._desk.parts.batch)

    def _start(self, lane: Lane, load: list[Item]) -> None:
        lane.reserved += 1
        self._carried.update(item.settlement.id for item in load)
        task = asyncio.create_task(self._carry(lane, load), name="settlement submission")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, lane: Lane, load: list[Item]) -> None:
        back, wait_s = load, self._desk.rules.retry_s
        try:
            back, wait_s = await self._submit(lane, load)
        except ChainUnavailable as problem:
            log.warning("settlement.chain_unavailable", chain_id=self._desk.chain_id, why=str(problem))
        except SigningRefused as problem:
            lane.paused_until_ms = self._desk.clock.now_ms() + PAUSE_MS
            await self._desk.ask("relayer_refused", lane.label, str(problem))
        finally:
            lane.reserved -= 1
            self._carried.difference_update(item.settlement.id for item in load)
        # What did go is in another state by now; the rest is what the book still calls claimed.
        still = [item for item in back if self._is_claimed(item)]
        self._waiting.put_back(still, self._desk.now_s() + wait_s)
        self._wake.set()

    def _is_claimed(self, item: Item) -> bool:
        newest = self._desk.store.view.settlements.get(item.settlement.id)
        return newest is not None and newest == item.settlement

    async def _submit(self, lane: Lane, load: list[Item]) -> tuple[list[Item], float]:
        """Send one load; return what is to wait on, and how long. Raises ChainUnavailable, SigningRefused.

        A refund that the operator has stopped waits until that is lifted, or until its window ends, and holds up no other.
        """
        stopped = [item for item in load if self._desk.is_stopped(item.settlement)]
        if len(stopped) == len(load):
            return stopped, STOPPED_S
        held, wait_s = await self._submit_free(lane, [item for item in load if item not in stopped])
        return [*stopped, *held], wait_s

    async def _submit_free(self, lane: Lane, load: list[Item]) -> tuple[list[Item], float]:
        fees = await fees_now(self._desk)
        if fees is None:
            log.warning("settlement.too_dear", chain_id=self._desk.chain_id)
            return load, TOO_DEAR_S
        # What was ended while it waited would stop all others of its transaction.
        items, held = await self._affordable(await self._unexpired([item for item in load if self._is_claimed(item)]))
        if not items:
            return held, HELD_BACK_S
        good, bad = await self._simulate(lane, items, fees)
        await self._refuse(bad)
        if good and not await self._send(lane, good, fees):
            held = [*held, *good]
        return held, HELD_BACK_S

    # what must not be sent

    async def _unexpired(self, load: list[Item]) -> list[Item]:
        head = await self._desk.relay.head()
        # A block may be some seconds away, and a transaction that lands too late only burns gas.
        latest_s = max(float(head.time_s), self._desk.now_s()) + self._desk.rules.expiry_margin_s
        expired = [item for item in load if item.settlement.valid_before_s <= latest_s]
        soon = [i.settlement for i in expired if i.settlement.valid_before_s > head.time_s]
        over = [i.settlement for i in expired if i.settlement.valid_before_s <= head.time_s]
        # Somebody else may have collected it in time: then it was paid, and is not told as failed.
        verdicts = await asyncio.gather(*(judge(self._desk, settlement, None) for settlement in over))
        await self._end([failed(settlement, str(Reason.VALID_BEFORE), None, None) for settlement in soon])
        await self._end([verdict for verdict in verdicts if verdict is not None])
        return [item for item in load if item not in expired]

    async def _affordable(self, load: list[Item]) -> tuple[list[Item], list[Item]]:
        """Hold back what a payer could pay only if what is on its way from it already did not land.

        The newest state knows nothing of what is on its way: a simulation of this one would pass, and the token refuse it.
        """
        busy = {item.payer for item in load if item.payer in self._desk.promised}
        if not busy:
            return load, []
        payers = sorted(busy)
        balances = await asyncio.gather(*(self._balance(load, payer) for payer in payers))
        left = {
            payer: balance - sum(self._desk.promised.get(payer, {}).values())
            for payer, balance in zip(payers, balances, strict=True)
        }
        going: list[Item] = []
        held: list[Item] = []
        for item in load:
            value_base = item.settlement.value_base
            if item.payer in left and left[item.payer] < value_base:
                held.append(item)
                continue
            going.append(item)
            if item.payer in left:
                left[item.payer] -= value_base
        return going, held

    async def _balance(self, load: list[Item], payer: tuple[bytes, bytes]) -> int:
        terms = next(item.authorization for item in load if item.payer == payer)
        question = encode_balance_of(terms.authorizer)
        try:
            answer = await self._desk.relay.call(terms.authorizer, terms.token.address, question)
            return decode_uint(answer)
        except (CallError, Reverted) as problem:
            raise ChainUnavailable(f"balanceOf: {problem}") from problem

    async def _simulate(self, lane: Lane, items: list[Item], fees: Fees) -> tuple[list[Item], list[tuple[Item, str]]]:
        """Return what the newest state takes, in a row as it would be sent, and the rest with the token's own words."""
        if len(items) == 1:
            outcomes: Sequence[Simulated] = [await self._simulate_alone(lane, items[0], fees)]
        else:
            outcomes = await self._simulate_batch(lane, items)
        good = [item for item, outcome in zip(items, outcomes, strict=True) if not outcome.reverted]
        bad = [(item, outcome.text) for item, outcome in zip(items, outcomes, strict=True) if outcome.reverted]
        return good, bad

    async def _simulate_alone(self, lane: Lane, item: Item, fees: Fees) -> Simulated:
        if not item.alone:
            terms, gas = item.authorization, self._desk.rules.max_gas_single
            return await self._desk.relay.simulate(lane.address, terms, item.settlement.signature, gas)
        call = call_of(self._desk, [item])
        try:  # a wallet's own code decides, so it is asked with the very call, the very gas and the very price
            await self._desk.relay.call(lane.address, call.to, call.data, call.gas, (fees.max_wei, fees.priority_wei))
        except Reverted as problem:
            return Simulated(reverted=True, text=revert_text(problem.data))
        return Simulated(reverted=False)

    async def _simulate_batch(self, lane: Lane, items: list[Item]) -> Sequence[Simulated]:
        call = call_of(self._desk, items)
        try:
            answer = await self._desk.relay.call(lane.address, call.to, call.data, call.gas)
            outcomes = decode_outcomes(answer, len(items))
            self._batches_unanswered = 0
        except (BatchError, Reverted) as problem:
            await self._leave_batches(problem)
            raise ChainUnavailable("the batch contract does not answer as it should") from problem
        except ChainUnavailable as problem:
            # Of code that wastes all gas nodes tell as of calls that they do not serve; but a busy node does not serve one now
            # and then. Whoever answers otherwise is there, and refuses this call again and again.
            await self._desk.relay.account_nonce(lane.address)
            self._batches_unanswered += 1
            if self._batches_unanswered >= UNANSWERED_MAX:
                await self._leave_batches(problem)
            raise
        return [Simulated(not outcome.ok, outcome.reason_text) for outcome in outcomes]

    async def _leave_batches(self, problem: Exception) -> None:
        """What stands there is not our contract, or not for this token: one by one, for a while, and a human is asked."""
        where, chain_id = checksum(self._desk.parts.batch), self._desk.chain_id
        log.warning("settlement.batch_unusable", chain_id=chain_id, why=str(problem))
        self._unbatched_until_ms, self._batches_unanswered = self._desk.clock.now_ms() + UNBATCHED_MS, 0
        detail = f"what is called at {where} on chain {chain_id} does not answer as our batch contract does: {problem}"
        await self._desk.ask("batch_unusable", f"{chain_id} {where}", detail)

    async def _refuse(self, bad: Sequence[tuple[Item, str]]) -> None:
        """Write down what the token would not take. One that was used since it was claimed was paid, by another."""
        if bad:
            await self._end(await asyncio.gather(*(self._refused(item.settlement, text) for item, text in bad)))

    async def _end(self, ended: Sequence[Settlement]) -> None:
        for state, event in ((SettlementState.MINED, "mined"), (SettlementState.FAILED, "failed")):
            await self._desk.commit([each for each in ended if each.state is state], None, event)

    async def _refused(self, settlement: Settlement, text: str) -> Settlement:
        reason, now_ms = reason_of(text), self._desk.clock.now_ms()
        found = await elsewhere(self._desk, settlement) if reason in _MAYBE_USED else None
        if found is not None and found.fate is Fate.PAID and found.receipt is not None:
            return mined_by(settlement, found.receipt)
        if found is not None and found.fate is not Fate.UNUSED:
            return failed(settlement, str(Reason.NONCE_USED), None, now_ms)
        log.info("settlement.refused", settlement_id=settlement.id, reason=reason, text=text)
        head_s = (await self._desk.relay.head()).time_s
        signed_badly = reason == str(Reason.SIGNATURE) and not settlement.contract_wallet
        for_good = signed_badly or head_s >= settlement.valid_before_s
        return failed(settlement, reason, None, now_ms if for_good else None)

    # sending

    async def _send(self, lane: Lane, items: Sequence[Item], fees: Fees) -> bool:
        """Sign, write down, send; False where the book refused it, and nothing left."""
        relay = self._relay_for(lane, call_of(self._desk, items), fees, "single" if len(items) == 1 else "batch", items)
        sent = [
            replace(i.settlement, state=SettlementState.SENT, relay_id=relay.id, version=i.settlement.version + 1)
            for i in items
        ]
        if not await self._desk.commit(sent, relay, "sent"):
            # Either a settlement is somebody else's by now, or the nonce was used before: the chain tells which.
            lane.given.discard(relay.account_nonce)
            await self._lanes.count(lane)
            return False
        await self.hand_over(lane, relay)
        return True

    def _relay_for(self, lane: Lane, call: Call, fees: Fees, purpose: str, items: Sequence[Item] = ()) -> Relay:
        """Make the next transaction of a lane. From here to the store's queue nothing may wait: nonces go in order."""
        nonce, now_ms = lane.allocate(), self._desk.clock.now_ms()
        try:
            attempt = sign(lane, nonce, call, fees, now_ms)
        except SigningRefused:
            lane.give_back(nonce)
            raise
        return Relay(
            id=self._desk.new_id("rly"),
            chain_id=self._desk.chain_id,
            relayer=lane.address,
            account_nonce=nonce,
            purpose=purpose,
            settlement_ids=tuple(item.settlement.id for item in items),
            gas=call.gas,
            attempts=(attempt,),
            created_at_ms=now_ms,
        )

    async def send_call(self, lane: Lane, call: Call, fees: Fees, purpose: str) -> Relay | None:
        """Send a transaction that carries no authorization; None where the book refused it. Raises SigningRefused."""
        relay = self._relay_for(lane, call, fees, purpose)
        if not await self._desk.commit((), relay, "sent"):
            lane.given.discard(relay.account_nonce)
            await self._lanes.count(lane)
            return None
        await self.hand_over(lane, relay)
        return relay

    async def hand_over(self, lane: Lane | None, relay: Relay) -> None:
        """Give the newest form of a stored transaction to the chain. Whatever it says, the block decides."""
        try:
            said = await self._desk.relay.send(relay.attempts[-1].raw)
        except ChainUnavailable as problem:
            said = f"no endpoint answered: {problem}"
        self._sent()
        if not said:
            return
        log.warning("relay.not_taken", relay_id=relay.id, nonce=relay.account_nonce, said=said)
        if lane is not None and "insufficient funds" in said:
            lane.balance_wei = 0  # until it is read again
            await self._desk.ask("relayer_low", lane.label, "the chain refuses its transactions: insufficient funds")


def item_of(desk: Desk, settlement: Settlement, due_s: float = 0.0) -> Item | None:
    """Return a settlement as something to send, None for a token that is configured no more."""
    authorization = authorization_of(settlement, desk.tokens)
    if authorization is None:
        return None
    alone = settlement.contract_wallet or not fits(authorization, settlement.signature)
    return Item(settlement, authorization, alone, due_s)


def call_of(desk: Desk, items: Sequence[Item]) -> Call:
    """Return the call that collects items of one token: the token's own for one, the batch contract's for more."""
    first = items[0]
    if len(items) > 1:
        pairs = [(item.authorization, item.settlement.signature) for item in items]
        data = encode_batch(first.authorization.token.address, pairs, desk.rules.item_gas)
        return Call(desk.parts.batch, data, gas_limit(len(items), desk.rules.item_gas))
    encode = encode_transfer_bytes if first.alone else encode_transfer_vrs
    data = encode(first.authorization, first.settlement.signature)
    return Call(first.authorization.token.address, data, desk.rules.max_gas_single)


_MAYBE_USED = frozenset({str(Reason.NONCE_USED), str(Reason.SIMULATION_FAILED)})
