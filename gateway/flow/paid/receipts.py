"""The only way by which money that came in is credited: every final block is read, each transfer once, and then passed.

Must not know who asked whom to pay or to submit.  Theory (P13, P14): whatever a payer, a facilitator or our own engine
says, an account is credited by a log that a quorum holds final; the cursor passes a page only when all of it is booked, so
a crash repeats a page and never leaves one out; and what the book says of a till is held against its balance.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from contracts.codec import Address, to_hex
from contracts.tokens import Token
from gateway.core.commands import ObserveFloat
from gateway.core.paid import TillPlace, TopUp, TopUpState
from gateway.core.paid_commands import MoveTillCursor, PutTopUp
from gateway.core.pause import is_over
from gateway.core.records import Evidence
from gateway.core.task_kinds import TaskKind
from gateway.flow.booking import Booker
from gateway.flow.collection import pages
from gateway.flow.ids import Ids
from gateway.flow.paid.crediting import Crediting
from gateway.flow.paid.returning import Returning
from gateway.flow.paid.tills import Till, read_transactions
from gateway.flow.tasks import Tasks
from gateway.ports import Block, Chain, ChainDisagreement, Clock, Entropy, Store

BALANCES_EVERY_S = 15.0
MARGIN_S = 120
PAID_OTHERWISE: TaskKind = "paid_otherwise"
CLAIMED = frozenset({TopUpState.PAYING, TopUpState.SEEN})

log = structlog.get_logger()


class Receipts:
    """One chain's. `poll` does everything once; jobs call it again and again."""

    def __init__(
        self,
        *,
        store: Store,
        chain: Chain,
        tills: Sequence[Till],
        crediting: Crediting,
        returning: Returning,
        clock: Clock,
        entropy: Entropy,
        balances_every_s: float = BALANCES_EVERY_S,
    ) -> None:
        self._store, self._chain, self._clock = store, chain, clock
        self._tasks, self._ids = Tasks(store, clock, entropy), Ids(clock, entropy)
        self._tills = {till.address: till for till in tills}
        self._crediting, self._returning = crediting, returning
        self._booker = Booker(store=store, chain=chain, clock=clock, entropy=entropy)
        self._tokens = tuple({token.key: token for till in tills for token in till.tokens}.values())
        self._every_ms, self._due_ms = int(balances_every_s * 1000), 0
        self._lock = asyncio.Lock()

    @property
    def chain_id(self) -> int:
        """The chain that it reads."""
        return self._chain.chain_id

    @property
    def places(self) -> tuple[TillPlace, ...]:
        """What it reads: each token at each till, with a cursor of its own."""
        return tuple(
            (self.chain_id, till.address, token.address) for till in self._tills.values() for token in till.tokens
        )

    async def poll(self) -> None:
        """Read what has become final. Raises ChainUnavailable, ChainDisagreement (a task as well), NotBooked.

        Whatever was booked before is committed, and is not booked again.
        """
        async with self._lock:
            try:
                await self._look()
            except ChainDisagreement as problem:
                await self._booker.disagreement(problem)
                raise

    async def _look(self) -> None:
        final = await self._chain.final()
        behind = await self._behind(final)
        if not behind:
            return
        for start in sorted(behind, reverse=True):  # what is nearly there does not wait for what was away for long
            places = behind[start]
            for first, end in pages(start, final.number):
                last = final if end == final.number else await self._chain.block(end)
                for token in self._tokens:
                    await self._read(token, [till for till, address in places if address == token.address], first, end)
                moved = MoveTillCursor(self.chain_id, tuple(places), end, last.hash)
                await self._store.post(moved)
        await self._returning.judge(self._tokens, final)
        await self._judge_orders(final)
        await self._look_at_balances(final)

    async def _behind(self, final: Block) -> dict[int, list[tuple[bytes, bytes]]]:
        """Return what is not read up to a block, (till, token), by the first block that is missing.

        Each has a cursor of its own: one that is configured later, or again, is read from where it was left.
        """
        behind: dict[int, list[tuple[bytes, bytes]]] = {}
        for chain_id, till, token in self.places:
            cursor = self._store.view.till_cursors.get((chain_id, till, token))
            start = await self._beginning(token, final) if cursor is None else cursor[0] + 1
            if start <= final.number:
                behind.setdefault(start, []).append((till, token))
        return behind

    async def _beginning(self, token: bytes, final: Block) -> int:
        """Return where to begin what was never read: before the oldest order that may have been paid there."""
        made_ms = [order.created_at_ms for order in self._claimed() if order.token == token]
        if not made_ms:
            return final.number
        since_s, low, high = min(made_ms) // 1000 - MARGIN_S, 0, final.number
        while low < high:  # the first block that is not older
            middle = (low + high) // 2
            if (await self._chain.block(middle)).time_s < since_s:
                low = middle + 1
            else:
                high = middle
        return low

    async def _read(self, token: Token, tills: Sequence[bytes], first: int, end: int) -> None:
        if not tills:
            return
        places = [Address(till) for till in tills]
        came = await self._chain.incoming_logs(token, places, first, end)
        for transaction in await read_transactions(self._chain, token, came):
            for moved in transaction.moved:
                # From till to till nothing came in: one's outflow is asked about, the other's balance is seen.
                if moved.sender not in self._tills:
                    await self._crediting.book(self._tills[moved.recipient], transaction, moved)
        left = await self._chain.outgoing_logs(token, places, first, end)
        for transaction in await read_transactions(self._chain, token, left):
            for till in places:
                await self._returning.book(till, transaction)

    # orders whose payment can never land

    def _claimed(self) -> list[TopUp]:
        return [t for t in self._store.view.topups.values() if t.chain_id == self.chain_id and t.state in CLAIMED]

    async def _judge_orders(self, final: Block) -> None:
        """P6: a payment that is not there at a final block past its window never comes. All up to there is booked."""
        for order in self._claimed():
            if order.valid_before_s is None or final.time_s < order.valid_before_s:
                continue
            reason = await self._never_lands(order, final)
            current = self._store.view.topups.get(order.id)
            if reason is None or current is None or current.version != order.version:
                continue
            if reason == PAID_OTHERWISE:
                await self._ask(order)
            now_ms = self._clock.now_ms()
            over = now_ms if now_ms >= order.expires_at_ms else None
            failed = replace(order, state=TopUpState.FAILED, reason=reason, version=order.version + 1, ended_at_ms=over)
            await self._store.post(PutTopUp(failed, "failed", now_ms))
            log.info("topup.failed", topup=order.id, because=reason)

    async def _never_lands(self, order: TopUp, final: Block) -> str | None:
        token = next((token for token in self._tokens if token.address == order.token), None)
        if token is None or order.payer is None or order.nonce is None:
            return None
        if token.standard == "tip20":
            receipt = await self._chain.receipt(order.nonce, final)
            if receipt is None or receipt.block.number > final.number:
                return "expired_unpaid"
            return "transaction_failed" if receipt.status == 0 else PAID_OTHERWISE
        used = await self._chain.authorization_used(token, order.payer, order.nonce, final)
        return PAID_OTHERWISE if used else "expired_unpaid"

    async def _ask(self, order: TopUp) -> None:
        """What its payer signed is used up on chain, and no till has received what the order asked for.

        Its payer has called it off or paid another amount, or it went where nobody reads any more: only a human can tell.
        """
        detail = f"{order.id}: the payment for it was used on chain, and no till that is read here has received what was ordered"
        await self._tasks.ask(PAID_OTHERWISE, order.id, detail)

    # what lies in the tills

    async def _look_at_balances(self, final: Block) -> None:
        """Hold the book against the chain: what is more is the operator's own, what is less is a task and a freeze."""
        now_ms = self._clock.now_ms()
        if not is_over(self._due_ms, now_ms, self._every_ms):
            return
        for till in self._tills.values():
            for token in till.tokens:
                await self._look_at(till.address, token, final)
        self._due_ms = now_ms + self._every_ms

    async def _look_at(self, till: Address, token: Token, final: Block) -> None:
        balance_base = await self._chain.token_balance(token, till, final)
        known = self._store.view.wallets.get((to_hex(till), token.asset_id))
        if balance_base == (0 if known is None else known.available_base + known.held_base):
            return
        evidence = Evidence(
            kind="balance",
            chain_id=self.chain_id,
            block_number=final.number,
            block_hash=final.hash,
            block_time_s=final.time_s,
            witnesses=self._chain.witnesses,
            value_base=balance_base,
        )
        task_id, now_ms = self._ids.new("task"), self._clock.now_ms()
        await self._store.post(ObserveFloat(till, token.asset_id, balance_base, evidence, task_id, now_ms))
