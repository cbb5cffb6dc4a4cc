"""What the tracker saw, judged by `contracts` and put into the book: settled, dead, an outflow, or a question.

Must not know which blocks were read or when, nor how a kind of payment is collected.  Theory (P5, P13): a collection that
was seen is booked whatever the book said before: as the end of its payment if it proves that, as an outflow if it
contradicts what was proven; only what proves nothing yet stays open, and asks a human.
"""

from dataclasses import replace

import structlog

from contracts.codec import Address, to_hex
from contracts.logs import Log
from contracts.proof import Mismatch, prove_cancelled
from contracts.tokens import Token
from gateway.core.commands import Done, RecordDead, RecordOutflow, RecordSettled, Refused, Result
from gateway.core.pause import is_over
from gateway.core.payment import Transfer
from gateway.core.records import AuthorizationTerms, Evidence, Payment
from gateway.core.task_kinds import TaskKind
from gateway.flow.collection import Failed, Standing, way_of
from gateway.flow.ids import Ids
from gateway.flow.tasks import Tasks
from gateway.ports import Block, Chain, ChainDisagreement, Clock, Entropy, Store

UNRESOLVED_RETRY_MS = 60_000

log = structlog.get_logger()


class Booker:
    """Turns one chain's facts into commands. Everything may be told twice; the second time changes nothing.

    `unresolved`: payments whose collection was seen and not proven, with the time (ms) of the next try.
    """

    def __init__(self, *, store: Store, chain: Chain, clock: Clock, entropy: Entropy) -> None:
        self._store, self._chain, self._clock = store, chain, clock
        self._tasks, self._ids = Tasks(store, clock, entropy), Ids(clock, entropy)
        self.unresolved: dict[str, int] = {}

    async def collected(self, token: Token, payment: Payment, terms: AuthorizationTerms, found: Log) -> None:
        """Book a log that says that a payment was collected."""
        if payment.axes.transfer is not Transfer.PRESENTED:
            await self.outflow(token, Address(terms.wallet), found, payment)
            return
        receipt = await self._chain.receipt(found.tx_hash)
        if receipt is None:
            await self.leave(payment, "settlement_without_receipt", f"{to_hex(found.tx_hash)} has a log and no receipt")
            return
        proof = way_of(token).prove(token, terms, found, receipt)
        if isinstance(proof, Mismatch):
            await self.leave(payment, "settlement_mismatch", f"{to_hex(found.tx_hash)}: {proof.code}: {proof.message}")
            return
        evidence = self._evidence("settled", receipt.block, found.tx_hash, found.log_index)
        evidence = replace(evidence, payment_id=payment.id, value_base=proof.value_base, fee_base=proof.fee_base)
        result = await self._store.post(RecordSettled(payment.id, evidence, self._clock.now_ms()))
        if isinstance(result, Refused):  # decided otherwise meanwhile
            await self.outflow(token, Address(terms.wallet), found, payment)
            return
        log.info("payment.settled", payment_id=payment.id, tx=to_hex(found.tx_hash), block=receipt.block.number)

    async def canceled(self, token: Token, payment: Payment, terms: AuthorizationTerms, found: Log) -> None:
        """Book an AuthorizationCanceled log of a payment's authorization."""
        if not prove_cancelled(token.address, Address(terms.wallet), terms.nonce, found):
            return
        receipt = await self._chain.receipt(found.tx_hash)
        block = Block(found.block_number, found.block_hash, 0) if receipt is None else receipt.block
        await self._dead(payment, self._evidence("canceled", block, found.tx_hash, found.log_index))

    async def failed(self, payment: Payment, failed: Failed) -> None:
        """Book that a payment's own transaction failed: it paid nobody but the network, and is never taken again (P7)."""
        evidence = self._evidence("failed", failed.block, failed.tx_hash)
        await self._dead(payment, replace(evidence, fee_base=failed.fee_base))

    async def unused(
        self, token: Token, payment: Payment, terms: AuthorizationTerms, final: Block, standing: Standing
    ) -> None:
        """Book that an authorization can never be collected (P6), if how it stands at a final block proves that."""
        if way_of(token).dead(final, terms, standing):
            await self._dead(payment, self._evidence("unused", final))

    async def outflow(self, token: Token, wallet: Address, found: Log, payment: Payment | None = None) -> None:
        """Book a collection that no open payment explains. The log that closed `payment` is one no longer new."""
        receipt = await self._chain.receipt(found.tx_hash)
        value_base = way_of(token).moved(token, wallet, found, () if receipt is None else receipt.logs)
        block = Block(found.block_number, found.block_hash, 0) if receipt is None else receipt.block
        evidence = replace(self._evidence("outflow", block, found.tx_hash, found.log_index), value_base=value_base)
        payment_id = None if payment is None else payment.id
        command = RecordOutflow(
            wallet, token.asset_id, evidence, self._ids.new("task"), self._clock.now_ms(), payment_id=payment_id
        )
        result = await self._store.post(command)
        if _is_news(result):
            log.error("outflow.unknown", wallet=to_hex(wallet), tx=to_hex(found.tx_hash), payment_id=payment_id)

    def retries(self, payment_id: str, now_ms: int) -> bool:
        """Say whether what was left unresolved is to be tried again."""
        return is_over(self.unresolved[payment_id], now_ms, UNRESOLVED_RETRY_MS)

    async def leave(self, payment: Payment, kind: TaskKind, detail: str) -> None:
        """Leave a collection that was seen and proves nothing yet: ask a human, and try again later."""
        self.unresolved[payment.id] = self._clock.now_ms() + UNRESOLVED_RETRY_MS
        await self._tasks.ask(kind, payment.id, detail, payment.id)

    async def leave_used(self, payment: Payment) -> None:
        """Leave a payment that the chain calls used while no log has shown how."""
        await self.leave(payment, "used_without_log", "the chain says used or canceled, and no log has shown which yet")

    async def disagreement(self, problem: ChainDisagreement) -> None:
        """P14: endpoints that contradict each other are an alert, one for each kind of question."""
        await self._tasks.ask("chain_disagreement", f"{self._chain.chain_id} {problem.question}", str(problem))

    async def _dead(self, payment: Payment, evidence: Evidence) -> None:
        evidence = replace(evidence, payment_id=payment.id)
        result = await self._store.post(RecordDead(payment.id, evidence, self._clock.now_ms()))
        if isinstance(result, Refused):
            await self.leave(payment, "evidence_mismatch", result.detail)
            return
        if _is_news(result):
            log.info("payment.dead", payment_id=payment.id, because=evidence.kind, block=evidence.block_number)

    def _evidence(
        self, kind: str, block: Block, tx_hash: bytes | None = None, log_index: int | None = None
    ) -> Evidence:
        return Evidence(
            kind=kind,
            chain_id=self._chain.chain_id,
            block_number=block.number,
            block_hash=block.hash,
            block_time_s=block.time_s,
            witnesses=self._chain.witnesses,
            tx_hash=tx_hash,
            log_index=log_index,
        )


def _is_news(result: Result) -> bool:
    return isinstance(result, Done) and result.changed
