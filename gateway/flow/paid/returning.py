"""What left a till: a refund that lands, the fee of one that failed, what went to a wallet of ours, or what nothing explains.

Must not know how refunds are signed or sent.  Theory (P5, P13): a till signs refunds only, so a transfer from it is the
refund whose nonce, memo or transaction it bears, in value and payee; any other is somebody who has the key: a task where it
stays ours, because it went where the book follows the balance, and an outflow where it does not. A refund that can never
land is proven by a final block past its window, and only then is what was held for it given back.
"""

from collections.abc import Collection
from dataclasses import replace

import structlog

from contracts.codec import Address, to_hex
from contracts.incoming import Moved
from contracts.tempo import TEMPO_FEE_MANAGER
from contracts.tempo_proof import tempo_fee_base
from contracts.tokens import Token
from gateway.core.commands import Done, RecordOutflow, Refused, Result
from gateway.core.paid import Refund, RefundState
from gateway.core.paid_commands import MoveRefund, RecordMoved
from gateway.core.records import Evidence
from gateway.flow.ids import Ids
from gateway.flow.paid.tills import Transaction, evidence_of
from gateway.flow.tasks import Tasks
from gateway.ports import Block, Chain, Clock, Entropy, Receipt, Store

ATTEMPTS = 8
FAILED = "its transaction failed"
UNUSED = "its window has passed, and nothing of it is on chain"

Place = tuple[Address, Address]
"""(address, token): one token's inventory at one of our addresses on the chain."""

log = structlog.get_logger()


class Returning:
    """Books what one chain's tills paid out. Everything may be told twice; the second time changes nothing.

    `ours` are the places, wallets and tills, whose balances are held against the book.
    """

    def __init__(
        self, *, store: Store, chain: Chain, clock: Clock, entropy: Entropy, ours: Collection[Place] = frozenset()
    ) -> None:
        self._store, self._chain, self._clock = store, chain, clock
        self._tasks, self._ids, self._ours = Tasks(store, clock, entropy), Ids(clock, entropy), frozenset(ours)

    async def book(self, till: Address, transaction: Transaction) -> None:
        """Book what one transaction took from a till. What it paid the network goes with the first transfer that is explained."""
        token, receipt = transaction.token, transaction.receipt
        if receipt.status == 0:
            await self._failed(till, transaction)
            return
        fee_base = tempo_fee_base(till, token.address, receipt.logs) if token.standard == "tip20" else 0
        explained = False
        for moved in transaction.moved:
            if moved.sender == till and moved.recipient != TEMPO_FEE_MANAGER:
                explained |= await self._left(transaction, moved, 0 if explained else fee_base)
        if explained:
            return
        for moved in transaction.moved:
            if moved.sender == till and moved.recipient == TEMPO_FEE_MANAGER:
                await self._outflow(transaction, till, moved.log.log_index, moved.value_base)

    async def judge(self, tokens: tuple[Token, ...], final: Block) -> None:
        """P6: prove dead what can never land. Call it only when everything up to this final block is booked."""
        by_key = {token.key: token for token in tokens}
        for refund in self._open():
            token = by_key.get((refund.chain_id, Address(refund.token)))
            if token is None or final.time_s < refund.valid_before_s:
                continue
            if token.standard == "tip20":
                await self._judge_transaction(token, refund, final)
            elif await self._chain.authorization_used(token, refund.till, refund.nonce, final):
                await self._ask(refund, "the chain says used, and no transfer has shown how")
            else:
                await self._dead(refund, self._unused(final), UNUSED)

    async def _judge_transaction(self, token: Token, refund: Refund, final: Block) -> None:
        receipt = None if refund.tx_hash is None else await self._chain.receipt(refund.tx_hash, final)
        if receipt is None or receipt.block.number > final.number:
            await self._dead(refund, self._unused(final), UNUSED)
        elif receipt.status == 0:
            await self._dead(refund, self._failure(token, refund, receipt), FAILED)
        else:
            await self._ask(refund, "its transaction is on chain, and no transfer has shown what it did")

    # one transaction

    async def _left(self, transaction: Transaction, moved: Moved, fee_base: int) -> bool:
        """Book one transfer out of a till; say whether the book can explain it."""
        refund = self._refund_of(transaction.token, moved)
        if refund is None and (moved.recipient, transaction.token.address) in self._ours:
            await self._moved(transaction, moved, fee_base)
            return True
        if refund is None or (refund.to, refund.value_base) != (moved.recipient, moved.value_base):
            return not await self._outflow(transaction, moved.sender, moved.log.log_index, moved.value_base)
        evidence = evidence_of(
            self._chain, "refunded", transaction.receipt, moved.log.log_index, moved.value_base, fee_base
        )
        settled = replace(refund, state=RefundState.SETTLED, tx_hash=moved.log.tx_hash, reason="")
        result = await self._move(settled, evidence, "settled")
        if isinstance(result, Refused):  # decided otherwise meanwhile
            return not await self._outflow(transaction, moved.sender, moved.log.log_index, moved.value_base)
        log.info("refund.settled", refund=refund.id, tx=to_hex(moved.log.tx_hash))
        return True

    async def _moved(self, transaction: Transaction, moved: Moved, fee_base: int) -> None:
        """Book what went to another place of ours."""
        at = (transaction.receipt, moved.log.log_index, moved.value_base, fee_base)
        evidence = evidence_of(self._chain, "moved", *at)
        asset, task_id, now_ms = transaction.token.asset_id, self._ids.new("task"), self._clock.now_ms()
        command = RecordMoved(moved.sender, moved.recipient, asset, evidence, task_id, now_ms)
        result = await self._store.post(command)
        if isinstance(result, Done) and result.changed:
            log.error("till.moved", till=to_hex(moved.sender), to=to_hex(moved.recipient), value_base=moved.value_base)

    async def _failed(self, till: Address, transaction: Transaction) -> None:
        """A transaction that failed moved nothing but its fee; a refund's is known by its hash, until the refund has ended.

        Any other is seen where the till's balance is held against the book: it is somebody who has the key.
        """
        refund = next((r for r in self._open() if r.tx_hash == transaction.receipt.tx_hash), None)
        if refund is not None and refund.till == till:
            await self._dead(refund, self._failure(transaction.token, refund, transaction.receipt), FAILED)

    def _failure(self, token: Token, refund: Refund, receipt: Receipt) -> Evidence:
        fee_base = tempo_fee_base(Address(refund.till), token.address, receipt.logs)
        return evidence_of(self._chain, "failed", receipt, None, 0, fee_base)

    def _refund_of(self, token: Token, moved: Moved) -> Refund | None:
        for refund in self._open():
            if (refund.chain_id, refund.token, refund.till) != (token.chain_id, token.address, moved.sender):
                continue
            if refund.nonce == (moved.memo if token.standard == "tip20" else moved.nonce):
                return refund
        return None

    def _open(self) -> list[Refund]:
        return [refund for refund in self._store.view.refunds.values() if refund.chain_id == self._chain.chain_id]

    # what is written down

    async def _move(self, refund: Refund, evidence: Evidence, event: str) -> Result:
        """Give a refund its end, whatever else moved it meanwhile."""
        result: Result = Refused("changed_meanwhile", "")
        for _ in range(ATTEMPTS):
            now = self._store.view.refunds.get(refund.id)
            if now is None:
                return result
            ended = replace(refund, version=now.version + 1, ended_at_ms=self._clock.now_ms())
            ended = replace(ended, settlement_id=now.settlement_id)
            result = await self._store.post(MoveRefund(ended, evidence, event, self._clock.now_ms()))
            if not isinstance(result, Refused) or result.code != "changed_meanwhile":
                return result
        return result

    async def _dead(self, refund: Refund, evidence: Evidence, reason: str) -> None:
        result = await self._move(replace(refund, state=RefundState.DEAD, reason=reason), evidence, "dead")
        if isinstance(result, Refused):
            await self._ask(refund, result.detail)
        else:
            log.warning("refund.dead", refund=refund.id, because=reason)

    async def _outflow(self, transaction: Transaction, till: Address, log_index: int, value_base: int) -> bool:
        """Book money that left a till without a refund of ours, and freeze it; say whether that is news."""
        evidence = evidence_of(self._chain, "outflow", transaction.receipt, log_index, value_base)
        asset, now_ms = transaction.token.asset_id, self._clock.now_ms()
        result = await self._store.post(RecordOutflow(till, asset, evidence, self._ids.new("task"), now_ms))
        news = isinstance(result, Done) and result.changed
        if news:
            log.error("outflow.till", till=to_hex(till), tx=to_hex(transaction.receipt.tx_hash), value_base=value_base)
        return news

    def _unused(self, final: Block) -> Evidence:
        return Evidence("unused", self._chain.chain_id, final.number, final.hash, final.time_s, self._chain.witnesses)

    async def _ask(self, refund: Refund, detail: str) -> None:
        await self._tasks.ask("refund_unproven", refund.id, f"{refund.id}: {detail}")
