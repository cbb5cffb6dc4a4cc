"""What the tracker saw, judged by `contracts.proof` and put into the book: settled, dead, an outflow, or a question.

Must not know which blocks were read or when.  Theory (P5, P13): a collection that was seen is booked whatever the book
said before: as the end of its payment if it proves that, as an outflow if it contradicts what was proven; only what
proves nothing yet stays open, and asks a human.
"""

from collections.abc import Sequence

import structlog

from contracts.codec import Address, to_hex
from contracts.eip3009 import Authorization
from contracts.logs import Log, decode_transfer
from contracts.proof import Mismatch, prove_cancelled, prove_settlement, prove_unused
from contracts.tokens import Token
from gateway.core.commands import Done, OpenTask, RecordDead, RecordOutflow, RecordSettled, Refused, Result
from gateway.core.ids import make_id
from gateway.core.payment import Transfer
from gateway.core.records import Evidence, Payment, Task
from gateway.ports import Block, Chain, ChainDisagreement, Clock, Entropy, Store

UNRESOLVED_RETRY_S = 60.0
TASK_DETAIL_MAX = 1_000

log = structlog.get_logger()


class Booker:
    """Turns one chain's facts into commands. Everything may be told twice; the second time changes nothing.

    `unresolved`: payments whose collection was seen and not proven, with the time (ms) of the next try.
    """

    def __init__(self, *, store: Store, chain: Chain, clock: Clock, entropy: Entropy) -> None:
        self._store, self._chain, self._clock, self._entropy = store, chain, clock, entropy
        self.unresolved: dict[str, int] = {}

    async def used(self, token: Token, payment: Payment, found: Log) -> None:
        """Book an AuthorizationUsed log of a payment's authorization."""
        if payment.axes.transfer is not Transfer.PRESENTED:
            await self.outflow(token, Address(payment.terms.wallet), found, payment)
            return
        receipt = await self._chain.receipt(found.tx_hash)
        if receipt is None:
            await self.leave(payment, "settlement_without_receipt", f"{to_hex(found.tx_hash)} has a log and no receipt")
            return
        proof = prove_settlement(authorization_of(token, payment), found, receipt.logs, receipt.status)
        if isinstance(proof, Mismatch):
            await self.leave(payment, "settlement_mismatch", f"{to_hex(found.tx_hash)}: {proof.code}: {proof.message}")
            return
        block, value_base = receipt.block, proof.authorization.value_base
        evidence = self._evidence("settled", block, found, payment_id=payment.id, value_base=value_base)
        result = await self._store.post(RecordSettled(payment.id, evidence, self._clock.now_ms()))
        if isinstance(result, Refused):  # decided otherwise meanwhile
            await self.outflow(token, Address(payment.terms.wallet), found, payment)
            return
        log.info("payment.settled", payment_id=payment.id, tx=to_hex(found.tx_hash), block=block.number)

    async def canceled(self, token: Token, payment: Payment, found: Log) -> None:
        """Book an AuthorizationCanceled log of a payment's authorization."""
        terms = payment.terms
        if not prove_cancelled(token.address, Address(terms.wallet), terms.nonce, found):
            return
        receipt = await self._chain.receipt(found.tx_hash)
        block = Block(found.block_number, found.block_hash, 0) if receipt is None else receipt.block
        await self._dead(payment, "canceled", block, found)

    async def unused(self, payment: Payment, final: Block, *, used: bool) -> bool:
        """Book that an authorization can never be collected (P6), if its state at a final block proves that."""
        if not prove_unused(final.time_s, payment.terms.valid_before_s, used):
            return False
        await self._dead(payment, "unused", final, None)
        return True

    async def outflow(self, token: Token, wallet: Address, found: Log, payment: Payment | None = None) -> None:
        """Book a collection that no open payment explains. The log that closed `payment` is one no longer new."""
        receipt = await self._chain.receipt(found.tx_hash)
        value_base = 0 if receipt is None else _moved(token, wallet, receipt.logs, found)
        block = Block(found.block_number, found.block_hash, 0) if receipt is None else receipt.block
        evidence = self._evidence("outflow", block, found, value_base=value_base)
        payment_id = None if payment is None else payment.id
        command = RecordOutflow(
            wallet, token.asset_id, evidence, self._id("task"), self._clock.now_ms(), payment_id=payment_id
        )
        result = await self._store.post(command)
        if _is_news(result):
            log.error("outflow.unknown", wallet=to_hex(wallet), tx=to_hex(found.tx_hash), payment_id=payment_id)

    async def leave(self, payment: Payment, kind: str, detail: str) -> None:
        """Leave a collection that was seen and proves nothing yet: ask a human, and try again later."""
        self.unresolved[payment.id] = self._clock.now_ms() + int(UNRESOLVED_RETRY_S * 1000)
        await self._ask(kind, payment.id, detail, payment.id)

    async def disagreement(self, problem: ChainDisagreement) -> None:
        """P14: endpoints that contradict each other are an alert, one for each kind of question."""
        await self._ask("chain_disagreement", f"{self._chain.chain_id} {problem.question}", str(problem), None)

    async def _dead(self, payment: Payment, kind: str, block: Block, found: Log | None) -> None:
        evidence = self._evidence(kind, block, found, payment_id=payment.id)
        result = await self._store.post(RecordDead(payment.id, evidence, self._clock.now_ms()))
        if isinstance(result, Refused):
            await self._ask(result.code, payment.id, result.detail, payment.id)
            return
        if _is_news(result):
            log.info("payment.dead", payment_id=payment.id, because=kind, block=block.number)

    def _evidence(
        self, kind: str, block: Block, found: Log | None, *, payment_id: str | None = None, value_base: int = 0
    ) -> Evidence:
        return Evidence(
            kind=kind,
            chain_id=self._chain.chain_id,
            block_number=block.number,
            block_hash=block.hash,
            block_time_s=block.time_s,
            witnesses=self._chain.witnesses,
            tx_hash=None if found is None else found.tx_hash,
            log_index=None if found is None else found.log_index,
            payment_id=payment_id,
            value_base=value_base,
        )

    async def _ask(self, kind: str, subject: str, detail: str, payment_id: str | None) -> None:
        now_ms = self._clock.now_ms()
        task = Task(self._id("task"), kind, subject, detail[:TASK_DETAIL_MAX], now_ms, payment_id)
        result = await self._store.post(OpenTask(task))
        if _is_news(result):
            log.error("task.opened", kind=kind, subject=subject, detail=task.detail)

    def _id(self, prefix: str) -> str:
        return make_id(prefix, self._clock.now_ms(), self._entropy.bytes(10))


def _is_news(result: Result) -> bool:
    return isinstance(result, Done) and result.changed


def authorization_of(token: Token, payment: Payment) -> Authorization:
    """Return the authorization that a payment's terms describe."""
    terms = payment.terms
    return Authorization(
        token=token,
        authorizer=Address(terms.wallet),
        pay_to=Address(terms.pay_to),
        value_base=terms.value_base,
        valid_after=0,
        valid_before=terms.valid_before_s,
        nonce=terms.nonce,
    )


def _moved(token: Token, wallet: Address, logs: Sequence[Log], used: Log) -> int:
    """Return what the Transfer right after an AuthorizationUsed log took from the wallet; 0 if it is not one."""
    following = next((entry for entry in logs if entry.log_index == used.log_index + 1), None)
    transfer = None if following is None else decode_transfer(following)
    if following is None or transfer is None or following.address != token.address or transfer.sender != wallet:
        return 0
    return transfer.value_base
