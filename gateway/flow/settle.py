"""Following every open authorization to its end: what a final block proves closes the payment, nothing else does.

Must not know endpoints, vendors or SQL.  Theory (P5, P6, P14): collected is an AuthorizationUsed log with its own
Transfer in a final block; dead is a cancellation there, or an unused state at a final block past `validBefore`; a state
that says used without a log that shows the transfer is neither, and stays open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from contracts.codec import Address, to_hex
from contracts.eip3009 import Authorization
from contracts.logs import Log, decode_authorization_canceled, decode_authorization_used, decode_transfer
from contracts.proof import Mismatch, prove_settlement
from contracts.tokens import Token
from gateway.core.commands import (
    MoveCursor,
    ObserveFloat,
    OpenTask,
    PassDeadline,
    RecordDead,
    RecordOutflow,
    RecordSettled,
    Refused,
)
from gateway.core.ids import make_id
from gateway.core.payment import Action, Transfer
from gateway.core.records import Evidence, Payment, Task
from gateway.flow.heads import Heads
from gateway.ports import Block, Chain, Clock, Entropy, Store

PARALLEL_QUESTIONS = 8
FLOAT_EVERY_S = 15.0

log = structlog.get_logger()

Identity = tuple[int, bytes, bytes, bytes]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watched:
    """A wallet's inventory of one token on the tracker's chain."""

    wallet: Address
    token: Token


@dataclass(frozen=True, slots=True)
class Sighting:
    """A settlement seen in a block that is not final yet: for display, never evidence."""

    tx_hash: bytes
    block_number: int


@dataclass(slots=True)
class Sightings:
    """What the newest polls saw ahead of finality, by authorization."""

    by_identity: dict[Identity, Sighting] = field(default_factory=dict)

    def of(self, payment: Payment) -> Sighting | None:
        """Return what was seen of a payment's authorization."""
        return self.by_identity.get(payment.terms.identity)


class Tracker:
    """One chain's tracker. `poll` does everything once; jobs call it again and again."""

    def __init__(
        self,
        *,
        store: Store,
        chain: Chain,
        watched: Sequence[Watched],
        heads: Heads,
        sightings: Sightings,
        clock: Clock,
        entropy: Entropy,
        float_every_s: float = FLOAT_EVERY_S,
    ) -> None:
        self._store, self._chain, self._watched = store, chain, tuple(watched)
        self._heads, self._sightings = heads, sightings
        self._clock, self._entropy = clock, entropy
        self._float_every_ms = int(float_every_s * 1000)
        self._float_due_ms = 0
        self._gate = asyncio.Semaphore(PARALLEL_QUESTIONS)

    @property
    def chain_id(self) -> int:
        """The chain that it follows."""
        return self._chain.chain_id

    async def poll(self) -> None:
        """Look once. Raises ChainUnavailable or ChainDisagreement; whatever was proven before is committed."""
        head, final = await self._chain.head(), await self._chain.final()
        self._heads.saw(self._chain.chain_id, head, final)
        cursor = self._store.view.cursors.get(self._chain.chain_id)
        if cursor is None or final.number > cursor[0]:
            start = self._start(cursor, final)
            for token in self._tokens():
                logs = await self._chain.authorization_logs(token, self._wallets(token), start, final.number)
                await self._each(partial(self._book_log, token), logs)
            expired = [p for p in self._open() if final.time_s >= p.terms.valid_before_s]
            await self._each(partial(self._expire, final), expired)
            now_ms = self._clock.now_ms()
            await self._store.post(MoveCursor(self._chain.chain_id, final.number, final.hash, final.time_s, now_ms))
            if now_ms >= self._float_due_ms or self._some_wallet_is_empty():
                await self._observe_floats(final)
                self._float_due_ms = now_ms + self._float_every_ms
        await self._look_ahead(final)
        await self._pass_deadlines()

    # what to look for

    def _open(self) -> list[Payment]:
        return [
            p
            for p in self._store.view.open_payments.values()
            if p.terms.chain_id == self._chain.chain_id and p.axes.transfer is Transfer.PRESENTED
        ]

    def _tokens(self) -> list[Token]:
        return list({w.token.key: w.token for w in self._watched}.values())

    def _wallets(self, token: Token) -> list[bytes]:
        return [w.wallet for w in self._watched if w.token.key == token.key]

    def _start(self, cursor: tuple[int, bytes, int] | None, final: Block) -> int:
        """Everything after the cursor; without one, everything since the first signature that is still open."""
        if cursor is not None:
            return cursor[0] + 1
        return min((p.terms.signed_at_block for p in self._open()), default=final.number)

    # what a log proves

    async def _book_log(self, token: Token, found: Log) -> None:
        used, canceled = decode_authorization_used(found), decode_authorization_canceled(found)
        event = used or canceled
        if event is None:
            return
        identity = (token.chain_id, token.address, event.authorizer, event.nonce)
        payment = await self._payment(identity)
        if payment is None:
            if used is not None:
                await self._book_outflow(token, used.authorizer, found)
        elif used is not None:
            await self._book_used(token, payment, found)
        else:
            await self._book_dead(payment, "canceled", await self._block_of(found), found)

    async def _payment(self, identity: Identity) -> Payment | None:
        for payment in self._store.view.open_payments.values():
            if payment.terms.identity == identity:
                return payment
        return await self._store.payment_of(identity)

    async def _book_used(self, token: Token, payment: Payment, found: Log) -> None:
        if payment.axes.transfer is Transfer.SETTLED:
            return
        receipt = await self._chain.receipt(found.tx_hash)
        if receipt is None:
            await self._ask(payment, "settlement_without_receipt", f"{to_hex(found.tx_hash)} has a log and no receipt")
            return
        proof = prove_settlement(authorization_of(token, payment), found, receipt.logs, receipt.status)
        if isinstance(proof, Mismatch):
            await self._ask(payment, "settlement_mismatch", f"{to_hex(found.tx_hash)}: {proof.code}: {proof.message}")
            return
        evidence = Evidence(
            kind="settled",
            chain_id=token.chain_id,
            block_number=receipt.block.number,
            block_hash=receipt.block.hash,
            block_time_s=receipt.block.time_s,
            witnesses=self._chain.witnesses,
            tx_hash=found.tx_hash,
            log_index=found.log_index,
            payment_id=payment.id,
            value_base=proof.authorization.value_base,
        )
        if not await self._close(payment, RecordSettled(payment.id, evidence, self._clock.now_ms())):
            return
        log.info("payment.settled", payment_id=payment.id, tx=to_hex(found.tx_hash), block=receipt.block.number)

    async def _block_of(self, found: Log) -> Block:
        receipt = await self._chain.receipt(found.tx_hash)
        return receipt.block if receipt is not None else Block(found.block_number, found.block_hash, 0)

    async def _book_dead(self, payment: Payment, kind: str, block: Block, found: Log | None) -> None:
        evidence = Evidence(
            kind=kind,
            chain_id=payment.terms.chain_id,
            block_number=block.number,
            block_hash=block.hash,
            block_time_s=block.time_s,
            witnesses=self._chain.witnesses,
            tx_hash=None if found is None else found.tx_hash,
            log_index=None if found is None else found.log_index,
            payment_id=payment.id,
        )
        if not await self._close(payment, RecordDead(payment.id, evidence, self._clock.now_ms())):
            return
        log.info("payment.dead", payment_id=payment.id, because=kind, block=block.number)

    async def _close(self, payment: Payment, command: RecordSettled | RecordDead) -> bool:
        """Commit what was proven. A proof that contradicts an earlier one closes nothing and asks a human."""
        result = await self._store.post(command)
        if isinstance(result, Refused):
            await self._ask(payment, result.code, result.detail)
            return False
        return True

    async def _book_outflow(self, token: Token, wallet: Address, found: Log) -> None:
        receipt = await self._chain.receipt(found.tx_hash)
        value_base = 0 if receipt is None else _moved(token, wallet, receipt.logs, found)
        evidence = Evidence(
            kind="outflow",
            chain_id=token.chain_id,
            block_number=found.block_number,
            block_hash=found.block_hash,
            block_time_s=0 if receipt is None else receipt.block.time_s,
            witnesses=self._chain.witnesses,
            tx_hash=found.tx_hash,
            log_index=found.log_index,
            value_base=value_base,
        )
        await self._store.post(RecordOutflow(wallet, token.asset_id, evidence, self._id("task"), self._clock.now_ms()))
        log.error("outflow.unknown", wallet=to_hex(wallet), tx=to_hex(found.tx_hash), value_base=value_base)

    # what time proves

    async def _expire(self, final: Block, payment: Payment) -> None:
        """P6: unused at a final block past `validBefore` is dead. Used without a log in range: look wider, then ask."""
        token = self._token_of(payment)
        now = self._store.view.open_payments.get(payment.id)
        if token is None or now is None or now.axes.transfer is not Transfer.PRESENTED:
            return
        used = await self._chain.authorization_used(token, payment.terms.wallet, payment.terms.nonce, final)
        if not used:
            await self._book_dead(payment, "unused", final, None)
            return
        logs = await self._chain.authorization_logs(
            token, [payment.terms.wallet], payment.terms.signed_at_block, final.number
        )
        for found in logs:
            event = decode_authorization_used(found) or decode_authorization_canceled(found)
            if event is not None and event.nonce == payment.terms.nonce:
                await self._book_log(token, found)
                return
        await self._ask(payment, "used_without_log", "the chain says used or canceled, and no log shows which")

    async def _pass_deadlines(self) -> None:
        now_ms = self._clock.now_ms()
        waiting = [
            p
            for p in self._store.view.open_payments.values()
            if p.axes.action is Action.AWAIT_DELIVERY and now_ms >= p.delivery_deadline_ms and not p.disputed
        ]
        await self._each(self._store.post, [PassDeadline(p.id, now_ms) for p in waiting])

    # what wallets hold

    def _some_wallet_is_empty(self) -> bool:
        """A wallet that cannot pay is looked at on every poll: its float may just have come in."""
        wallets = self._store.view.wallets
        known = (wallets.get((to_hex(w.wallet), w.token.asset_id)) for w in self._watched)
        return any(balance is None or balance.available_base == 0 for balance in known)

    async def _observe_floats(self, final: Block) -> None:
        for watched in self._watched:
            balance_base = await self._chain.token_balance(watched.token, watched.wallet, final)
            evidence = Evidence(
                kind="balance",
                chain_id=watched.token.chain_id,
                block_number=final.number,
                block_hash=final.hash,
                block_time_s=final.time_s,
                witnesses=self._chain.witnesses,
                value_base=balance_base,
            )
            await self._store.post(
                ObserveFloat(
                    watched.wallet,
                    watched.token.asset_id,
                    balance_base,
                    evidence,
                    self._id("task"),
                    self._clock.now_ms(),
                )
            )

    async def _look_ahead(self, final: Block) -> None:
        if not self._open():
            self._sightings.by_identity.clear()
            return
        seen: dict[Identity, Sighting] = {}
        for token in self._tokens():
            for found in await self._chain.sightings(token, self._wallets(token), final.number + 1):
                used = decode_authorization_used(found)
                if used is not None:
                    identity = (token.chain_id, token.address, used.authorizer, used.nonce)
                    seen[identity] = Sighting(found.tx_hash, found.block_number)
        self._sightings.by_identity = seen

    # helpers

    def _token_of(self, payment: Payment) -> Token | None:
        return next((t for t in self._tokens() if t.key == (payment.terms.chain_id, payment.terms.token)), None)

    def _id(self, prefix: str) -> str:
        return make_id(prefix, self._clock.now_ms(), self._entropy.bytes(10))

    async def _ask(self, payment: Payment, kind: str, detail: str) -> None:
        task = Task(self._id("task"), kind, payment.id, detail, self._clock.now_ms(), payment.id)
        await self._store.post(OpenTask(task))
        log.error("task.opened", kind=kind, payment_id=payment.id, detail=detail)

    async def _each(self, ask: Callable[[T], Awaitable[object]], items: Iterable[T]) -> None:
        async def gated(item: T) -> None:
            async with self._gate:
                await ask(item)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(gated(item))


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
