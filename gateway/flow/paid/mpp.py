"""Taking a payment on Tempo: claim it, send it, see it in a block; and send it again until it is mined or dead.

Must not know headers, credentials or who asks.  Theory (P3, P5, P13): the payer gave us a transaction that anybody may
send and the chain takes once, so its hash is its identity. It is claimed for its order, bytes and all, before it leaves;
from then on whatever happens to us, the sweep sends the same bytes until a block has them or a final block past their end
does not. Nothing here credits anybody: that is for whoever reads final blocks (`flow.paid.receipts`).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import structlog

from contracts.codec import ContractError, to_hex
from contracts.logs import decode_transfer
from contracts.tempo import ATTO_PER_BASE, TempoTransfer
from contracts.tempo_decode import decode_tempo, read_transfer
from contracts.tempo_proof import prove_tempo_unused
from gateway.core.commands import Attached, Refused
from gateway.core.paid import TopUp, TopUpState
from gateway.core.paid_commands import PutTopUp
from gateway.core.pause import is_over
from gateway.flow.paid.funds import Funds
from gateway.flow.paid.mpp_seller import TempoTaken
from gateway.ports import Block, Broadcaster, Chain, ChainDisagreement, ChainUnavailable, Clock, Receipt, Store
from gateway.rails.mpp.presented import Presented
from gateway.rails.mpp.verifying import transaction_hash

RAIL: Final = "mpp_tempo"
WAIT_S: Final = 8.0
LOOK_EVERY_S: Final = 0.2

REVERTED: Final = "reverted"
UNUSED: Final = "unused"
NOT_RECEIVED: Final = "not_received"
SHORT: Final = "insufficient_funds"
"""What `take` refuses with where the payer has less than the payment and its fee."""

AT_ONCE: Final = 16  # of one sweep: one payment's slow answer holds up no other's
LOOK_AGAIN_MS: Final = (1_000, 2_000, 5_000, 10_000)

_FREE = frozenset({TopUpState.OPEN, TopUpState.FAILED})
_UNDER_WAY = frozenset({TopUpState.PAYING, TopUpState.SEEN})

log = structlog.get_logger()


class Claimed(NamedTuple):
    """An order with its payment. `repeated`: the payment was claimed by another request than this one."""

    topup: TopUp
    repeated: bool


class TempoTopUps:
    """Takes Tempo payments of orders. `chains` and `broadcasters` are by chain id; it closes neither."""

    def __init__(
        self,
        *,
        store: Store,
        chains: Mapping[int, Chain],
        broadcasters: Mapping[int, Broadcaster],
        clock: Clock,
        wait_s: float = WAIT_S,
    ) -> None:
        self._store, self._chains, self._broadcasters = store, chains, broadcasters
        self._clock, self._wait_s = clock, wait_s
        self._funds = Funds(store, chains, clock)
        self._looks: dict[str, tuple[int, int]] = {}  # by order: how often it was looked at, and when next

    @property
    def chain_ids(self) -> tuple[int, ...]:
        """The chains that it sends to."""
        return tuple(self._chains)

    async def known(self, presented: Presented) -> TopUp | None:
        """Return the order that a credential was taken for, whatever became of it since; None where it never was.

        To be asked before a credential is judged: a challenge that has expired since it was paid must not be answered with
        a 402, for stock clients would pay again. It must answer the very challenge that was paid: a transaction is public
        once it is mined, and whoever shows somebody else's learns nothing.
        """
        tx_hash = transaction_hash(presented)
        for kept in (
            await self._store.topup(presented.external_id) if presented.external_id else None,
            await self._store.topup_of_hash(tx_hash) if tx_hash is not None else None,
        ):
            if kept is not None and kept.challenge_id == presented.challenge_id:
                return kept
        return None

    async def take(self, order: TopUp, taken: TempoTaken) -> Claimed | Refused:
        """Claim the payment for its order, send it, and wait a moment for a block that has it.

        `order` is the record that it would make (`OrderTerms.opened`), or the next version of what is kept. Returned is
        the order as it stands: SEEN or CREDITED, PAYING while nobody knows, FAILED where the chain has proven that it will
        never land. Repeats of one transaction share one outcome. Refused `topup_taken`: another payment was taken for the
        order, and this one has not been sent; `challenge_used`: it answers a challenge that was paid before;
        `payment_reused`: the transaction paid for something else; SHORT: the payer does not have it; and what the store
        may refuse an order for, `inventory_capped` among it. Raises Problem as `Funds.shortage` does.
        """
        kept = await self._store.topup(order.id)
        if kept is not None and kept.tx_hash == taken.transaction.tx_hash:
            return Claimed(await self.follow(kept), repeated=True)
        claimed = await self._shortage(taken) or await self._claim(order, kept, taken)
        if isinstance(claimed, Refused):
            # It may be our own other half: the same credential, twice at once.
            kept = await self._store.topup(order.id)
            if kept is None or kept.tx_hash != taken.transaction.tx_hash:
                return claimed
            claimed = Claimed(kept, repeated=True)
        return Claimed(await self.follow(claimed.topup), claimed.repeated)

    async def follow(self, topup: TopUp) -> TopUp:
        """Send a payment that nobody has seen yet, and wait a moment for a block that has it. Returns the order then."""
        if topup.rail != RAIL or topup.state is not TopUpState.PAYING:
            return topup
        await self._send(topup)
        status = await self._seen(topup)
        if status == 1:
            return await self._moved(replace(topup, state=TopUpState.SEEN), "seen")
        chain = self._chains.get(topup.chain_id or 0)
        if status == 0 and chain is not None:
            try:
                await self._judge(topup, await chain.final())
            except (ChainUnavailable, ChainDisagreement) as problem:  # the sweep asks again, and tells
                log.info("mpp.not_proven_yet", topup_id=topup.id, why=str(problem))
        return await self._store.topup(topup.id) or topup

    async def sweep(self, chain_id: int) -> None:
        """Look at the payments under way on a chain whose turn it is: send again, see, or prove dead.

        Each has its turn ever less often until its end, so that those that never land do not crowd out the others. Raises
        ChainUnavailable or ChainDisagreement once all were looked at.
        """
        for gone in self._looks.keys() - self._store.view.topups.keys():
            del self._looks[gone]
        now_ms = self._clock.now_ms()
        due = [
            topup
            for topup in self._store.view.topups.values()
            if topup.rail == RAIL
            and topup.chain_id == chain_id
            and topup.state in _UNDER_WAY
            and is_over(self._looks.get(topup.id, (0, 0))[1], now_ms, max(LOOK_AGAIN_MS))
        ]
        if not due:
            return
        final = await self._chains[chain_id].final()
        places = asyncio.Semaphore(AT_ONCE)
        troubles = await asyncio.gather(*(self._look(topup, final, places) for topup in due))
        for trouble in filter(None, troubles):
            raise trouble

    async def _look(
        self, topup: TopUp, final: Block, places: asyncio.Semaphore
    ) -> ChainUnavailable | ChainDisagreement | None:
        """Judge one payment, note when it is to be looked at again; return what went wrong."""
        async with places:
            looks, _ = self._looks.get(topup.id, (0, 0))
            now_ms, ends_ms = self._clock.now_ms(), (topup.valid_before_s or 0) * 1000
            next_ms = now_ms + LOOK_AGAIN_MS[min(looks, len(LOOK_AGAIN_MS) - 1)]
            if now_ms < ends_ms:  # no later than its end, after which it can be proven dead
                next_ms = min(next_ms, max(ends_ms, now_ms + LOOK_AGAIN_MS[0]))
            self._looks[topup.id] = (looks + 1, next_ms)
            try:
                await self._judge(topup, final)
            except (ChainUnavailable, ChainDisagreement) as problem:
                return problem  # of one payment: the others are not to wait for it
            return None

    # claiming

    async def _shortage(self, taken: TempoTaken) -> Refused | None:
        """Return why the payer cannot pay, None where it can. A fee in another token than the payment's is not looked at."""
        transaction, value_base = taken.transaction, taken.presented.amount_base
        fee_base = -(-transaction.gas * transaction.max_fee_per_gas // ATTO_PER_BASE)
        if transaction.fee_token not in {None, taken.token.address}:
            fee_base = 0
        short = await self._funds.shortage(taken.token, transaction.sender, transaction.tx_hash, value_base, fee_base)
        return None if short is None else Refused(SHORT, short)

    async def _claim(self, order: TopUp, kept: TopUp | None, taken: TempoTaken) -> Claimed | Refused:
        presented, transaction = taken.presented, taken.transaction
        if kept is not None and kept.state not in _FREE:
            return Refused("topup_taken", f"{order.id} is {kept.state}: a payment was taken for it")
        if kept is not None and kept.challenge_id == presented.challenge_id:
            return Refused("challenge_used", "the challenge was answered before: ask for a new one")
        if order.amount_base != taken.order.amount_base:
            return Refused("idempotency_conflict", "the challenge was given for another amount than the order's")
        paying = replace(
            _renewed(kept, order),
            state=TopUpState.PAYING,
            rail=RAIL,
            chain_id=transaction.chain_id,
            token=bytes(presented.currency),
            payer=bytes(transaction.sender),
            nonce=transaction.tx_hash,
            value_base=presented.amount_base,
            valid_before_s=transaction.valid_before,
            settlement_id=None,
            challenge_id=presented.challenge_id,
            raw=transaction.raw,
            tx_hash=transaction.tx_hash,
            reason="",
            version=1 if kept is None else kept.version + 1,
            ended_at_ms=None,
        )
        result = await self._store.post(PutTopUp(paying, "paying", self._clock.now_ms()))
        if isinstance(result, Refused):
            return result
        committed = await self._store.topup(paying.id)
        if committed is None:
            return Refused("topup_taken", "the Idempotency-Key stands for another order")
        return Claimed(committed, repeated=isinstance(result, Attached))

    # the chain

    async def _send(self, topup: TopUp) -> None:
        broadcaster = self._broadcasters.get(topup.chain_id or 0)
        if broadcaster is None or topup.raw is None:  # no longer configured; the sweep of a later start may have it
            return
        try:
            await broadcaster.send_raw(topup.raw)
        except ChainUnavailable as problem:
            log.warning("mpp.not_sent", topup_id=topup.id, why=str(problem))

    async def _seen(self, topup: TopUp) -> int | None:
        broadcaster = self._broadcasters.get(topup.chain_id or 0)
        if broadcaster is None or topup.tx_hash is None:
            return None
        give_up_ms = self._clock.now_ms() + int(self._wait_s * 1000)
        while True:
            status = await broadcaster.seen(topup.tx_hash)
            if status is not None or self._clock.now_ms() >= give_up_ms:
                return status
            await self._clock.sleep(LOOK_EVERY_S)

    async def _judge(self, topup: TopUp, final: Block) -> None:
        """What the quorum knows at a final block decides; where that is nothing and time is left, it is sent again."""
        assert topup.chain_id is not None, "what is under way has a chain"
        assert topup.tx_hash is not None, "what is under way has a hash"
        receipt = await self._chains[topup.chain_id].receipt(topup.tx_hash, final)
        if receipt is None:
            if prove_tempo_unused(final.time_s, topup.valid_before_s or 0, receipt_known=False):
                await self._failed(topup, UNUSED)
            else:
                await self._send(topup)
        elif receipt.block.number <= final.number and receipt.status == 0:
            await self._failed(topup, REVERTED)
        elif receipt.block.number <= final.number and not _received(topup, receipt):
            await self._failed(topup, NOT_RECEIVED)
        elif receipt.status == 1 and topup.state is TopUpState.PAYING:
            await self._moved(replace(topup, state=TopUpState.SEEN), "seen")

    async def _failed(self, topup: TopUp, reason: str) -> None:
        log.info("mpp.failed", topup_id=topup.id, tx_hash=to_hex(topup.tx_hash or b""), reason=reason)
        await self._moved(replace(topup, state=TopUpState.FAILED, reason=reason), "failed")

    async def _moved(self, topup: TopUp, event: str) -> TopUp:
        """Write a step down; where somebody else was faster, theirs stands."""
        following = replace(topup, version=topup.version + 1)
        result = await self._store.post(PutTopUp(following, event, self._clock.now_ms()))
        if isinstance(result, Refused):
            log.info("mpp.moved_meanwhile", topup_id=topup.id, wanted=event, why=result.detail)
        return await self._store.topup(topup.id) or following


def _renewed(kept: TopUp | None, order: TopUp) -> TopUp:
    """Return what is kept of an order with what a new attempt may change; all else of it stays as it was first written."""
    if kept is None:
        return order
    return replace(kept, account_id=kept.account_id or order.account_id, expires_at_ms=order.expires_at_ms)


def _received(topup: TopUp, receipt: Receipt) -> bool:
    """Whether the till really got it: a transfer may succeed and end with a guard instead of the payee (TIP-1028)."""
    meant = _meant(topup)
    for entry in receipt.logs:
        if entry.address != topup.token:
            continue
        try:
            event = decode_transfer(entry)
        except ContractError:
            continue
        if event is not None and (event.sender, event.recipient, event.value_base) == (
            topup.payer,
            meant.to,
            meant.value_base,
        ):
            return True
    return False


def _meant(topup: TopUp) -> TempoTransfer:
    assert topup.raw is not None, "a payment by Tempo is kept with its bytes"
    return read_transfer(decode_tempo(topup.raw).calls[0])
