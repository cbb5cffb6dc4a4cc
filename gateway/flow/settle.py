"""Following every open authorization to its end: what a final block proves closes the payment, nothing else does.

Must not know endpoints, vendors or SQL.  Theory (P5, P6, P14): collected is a log with its own Transfers in a final
block; dead is a cancellation or a failed transaction there, or nothing at a final block past `validBefore`; a state that
says used without a log that shows the transfer is neither, and stays open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from contracts.codec import Address
from contracts.logs import Log
from contracts.tokens import Token, TokenKey, find_token
from gateway.core.commands import MoveCursor, PassDeadline
from gateway.core.payment import Action, Transfer
from gateway.core.records import AuthorizationTerms, Payment
from gateway.flow.booking import Booker
from gateway.flow.collection import Promise, Standing, nameless, pages, way_of
from gateway.flow.floats import FLOAT_EVERY_S, Floats, Watched
from gateway.flow.heads import Heads
from gateway.ports import Block, Chain, ChainDisagreement, ChainUnavailable, Clock, Entropy, Store

PARALLEL_QUESTIONS = 8

Identity = tuple[int, bytes, bytes, bytes]
T = TypeVar("T")


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
        """Return what was seen of a payment's authorization; nothing where it has none."""
        terms = payment.authorization
        return None if terms is None else self.by_identity.get(terms.identity)


class Tracker:
    """One chain's tracker. `poll` does everything once; jobs call it again and again.

    It follows the configured wallets, and every open payment of the chain whether its wallet is configured or not.
    """

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
        self._heads, self._sightings, self._clock = heads, sightings, clock
        self._booker = Booker(store=store, chain=chain, clock=clock, entropy=entropy)
        self._floats = Floats(
            store=store,
            chain=chain,
            watched=self._watched,
            booker=self._booker,
            clock=clock,
            entropy=entropy,
            every_s=float_every_s,
        )
        self._gate = asyncio.Semaphore(PARALLEL_QUESTIONS)
        # Whoever books what the chain shows does it alone: a balance is compared with the book as of one final block.
        self.turn = asyncio.Lock()

    @property
    def chain_id(self) -> int:
        """The chain that it follows."""
        return self._chain.chain_id

    async def poll(self) -> None:
        """Look once. Raises ChainUnavailable or ChainDisagreement; whatever was proven before is committed.

        A disagreement opens a task (P14).
        """
        async with self.turn:
            try:
                await self._look()
            except ChainDisagreement as problem:
                await self._booker.disagreement(problem)
                raise

    async def _look(self) -> None:
        head, final = await self._chain.head(), await self._chain.final()
        self._heads.saw(self._chain.chain_id, head, final)
        cursor = self._store.view.cursors.get(self._chain.chain_id)
        if cursor is None or final.number > cursor[0]:
            await self._catch_up(self._start(cursor, final), final)
            await self._floats.look(final)
        self._heads.read(self._chain.chain_id, self._clock.now_ms())
        await self._pass_deadlines()
        await self._look_ahead(final)

    async def look_again(self, promise: Promise) -> tuple[Block, Standing]:
        """Try now to prove how a payment ended, whenever its next try is; return how it stands at the newest final block.

        The caller holds `turn`, until what it decides on that block is booked. Raises ChainUnavailable or ChainDisagreement.
        """
        final = await self._chain.final()
        return final, await self._judge(final, promise)

    async def book_log(self, token: Token, found: Log) -> None:
        """Book what a log of a final block says, if anything. The caller holds `turn`.

        Raises ChainUnavailable or ChainDisagreement.
        """
        sign = way_of(token).read(found)
        if sign is None:
            return
        payment = await self._store.payment_of((token.chain_id, token.address, sign.wallet, sign.nonce))
        terms = None if payment is None else payment.authorization
        if payment is None or terms is None:
            if sign.collected:
                await self._booker.outflow(token, sign.wallet, found)
        elif sign.collected:
            await self._booker.collected(token, payment, terms, found)
        else:
            await self._booker.canceled(token, payment, terms, found)

    def token_of(self, terms: AuthorizationTerms) -> Token:
        """Return the token that was promised, configured or not."""
        configured = (w.token for w in self._watched)
        key = (terms.chain_id, Address(terms.token))
        return next((t for t in configured if t.key == key), None) or find_token(*key) or nameless(key, terms.kind)

    # what to look for

    def _open(self) -> list[Promise]:
        return [
            (p, terms)
            for p in self._store.view.open_payments.values()
            if (terms := p.authorization) is not None
            and terms.chain_id == self._chain.chain_id
            and p.axes.transfer is Transfer.PRESENTED
        ]

    def _followed(self) -> list[tuple[Token, list[bytes]]]:
        """Return each token with the wallets whose authorizations matter: configured, or promised from before."""
        tokens: dict[TokenKey, Token] = {w.token.key: w.token for w in self._watched}
        wallets: dict[TokenKey, dict[bytes, None]] = {key: {} for key in tokens}
        for watched in self._watched:
            wallets[watched.token.key][watched.wallet] = None
        for _, terms in self._open():
            token = self.token_of(terms)
            tokens.setdefault(token.key, token)
            wallets.setdefault(token.key, {})[terms.wallet] = None
        return [(token, list(wallets[key])) for key, token in tokens.items()]

    def _start(self, cursor: tuple[int, bytes, int] | None, final: Block) -> int:
        """Everything after the cursor; without one, everything since the first signature that is still open."""
        if cursor is not None:
            return cursor[0] + 1
        return min([final.number, *(terms.signed_at_block for _, terms in self._open())])

    # reading

    async def _catch_up(self, start: int, final: Block) -> None:
        """Book page by page, each with its cursor, so that an outage of any length is caught up with, once."""
        for first, end in pages(start, final.number):
            last = final if end == final.number else await self._chain.block(end)
            for token, wallets in self._followed():
                logs = await self._chain.payment_logs(token, wallets, first, end)
                await self._each(partial(self.book_log, token), way_of(token).facts(logs))
            if end == final.number:
                await self._each(partial(self._judge_due, final), self._due(final))
            await self._store.post(MoveCursor(self._chain.chain_id, end, last.hash, last.time_s))

    # what time proves

    def _due(self, final: Block) -> list[Promise]:
        """Return what has expired, and what was left unresolved long enough ago."""
        promises, now_ms = self._open(), self._clock.now_ms()
        unresolved = self._booker.unresolved
        for gone in unresolved.keys() - {p.id for p, _ in promises}:
            del unresolved[gone]
        return [
            (p, terms)
            for p, terms in promises
            if (self._booker.retries(p.id, now_ms) if p.id in unresolved else final.time_s >= terms.valid_before_s)
        ]

    async def _judge_due(self, final: Block, promise: Promise) -> None:
        now = self._store.view.open_payments.get(promise[0].id)
        if now is not None and now.axes.transfer is Transfer.PRESENTED:
            await self._judge(final, promise)

    async def _judge(self, final: Block, promise: Promise) -> Standing:
        """P6: nothing of it at a final block past `validBefore` is dead. Used without a log in range: look wider, then ask."""
        payment, terms = promise
        token = self.token_of(terms)
        standing = await way_of(token).standing(self._chain, token, terms, final)
        if standing.failed is not None:
            await self._booker.failed(payment, standing.failed)
        elif standing.found is not None:
            await self.book_log(token, standing.found)
        elif standing.used:
            await self._booker.leave_used(payment)
        else:
            await self._booker.unused(token, payment, terms, final, standing)
        return standing

    async def _pass_deadlines(self) -> None:
        now_ms = self._clock.now_ms()
        waiting = [
            p
            for p in self._store.view.open_payments.values()
            if p.authorization is not None
            and p.axes.action is Action.AWAIT_DELIVERY
            and now_ms >= p.delivery_deadline_ms
            and not p.disputed
        ]
        await self._each(self._store.post, [PassDeadline(p.id, now_ms) for p in waiting])

    # what is not final yet

    async def _look_ahead(self, final: Block) -> None:
        seen: dict[Identity, Sighting] = {}
        for token, wallets in self._followed() if self._open() else ():
            for found in await self._chain.sightings(token, wallets, final.number + 1):
                sign = way_of(token).read(found)
                if sign is not None and sign.collected:
                    identity = (token.chain_id, token.address, sign.wallet, sign.nonce)
                    seen[identity] = Sighting(found.tx_hash, found.block_number)
        others = {i: s for i, s in self._sightings.by_identity.items() if i[0] != self._chain.chain_id}
        self._sightings.by_identity = others | seen

    async def _each(self, ask: Callable[[T], Awaitable[object]], items: Iterable[T]) -> None:
        """Ask for all, some at once; one that fails stops no other. Raises the gravest failure."""

        async def gated(item: T) -> None:
            async with self._gate:
                await ask(item)

        outcomes = await asyncio.gather(*(gated(item) for item in items), return_exceptions=True)
        failures = [outcome for outcome in outcomes if outcome is not None]
        if failures:
            raise min(failures, key=_gravity)


def _gravity(failure: BaseException) -> int:
    """A chain that does not answer is the usual case; one that contradicts itself is an alert; the rest is worse."""
    kinds = (ChainDisagreement, ChainUnavailable)
    return next((rank for rank, kind in enumerate(kinds, 1) if isinstance(failure, kind)), 0)
