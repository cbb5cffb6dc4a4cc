"""Wallets' token balances at final blocks, so that the book follows what came in and notices what is missing.

Must not know what a difference means: the book decides.  Theory: a balance may be compared with the book only when every
settlement up to its block is booked; a collection that was seen and is not proven yet explains a shortage that is none,
and so does the fee of a transaction that failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from contracts.codec import Address, to_hex
from contracts.tokens import Token
from gateway.core.commands import ObserveFloat
from gateway.core.pause import is_over
from gateway.core.payment import Transfer
from gateway.core.records import Evidence
from gateway.flow.booking import Booker
from gateway.flow.collection import Promise, way_of
from gateway.flow.ids import Ids
from gateway.ports import Block, Chain, Clock, Entropy, Store

FLOAT_EVERY_S = 15.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Watched:
    """A wallet's inventory of one token on the tracker's chain."""

    wallet: Address
    token: Token


class Floats:
    """Looks at the balances of one chain's wallets, each pair every `every_s` seconds, empty ones whenever asked."""

    def __init__(
        self,
        *,
        store: Store,
        chain: Chain,
        watched: Sequence[Watched],
        booker: Booker,
        clock: Clock,
        entropy: Entropy,
        every_s: float = FLOAT_EVERY_S,
    ) -> None:
        self._store, self._chain, self._watched, self._booker = store, chain, tuple(watched), booker
        self._clock, self._ids = clock, Ids(clock, entropy)
        self._every_ms, self._due_ms = int(every_s * 1000), 0

    async def look(self, final: Block) -> None:
        """Look if it is time. Call it only when everything up to this final block is booked."""
        now_ms = self._clock.now_ms()
        if not is_over(self._due_ms, now_ms, self._every_ms) and not self._some_wallet_is_empty():
            return
        for watched in self._watched:
            await self._look_at(watched, final)
        self._due_ms = now_ms + self._every_ms

    async def _look_at(self, watched: Watched, final: Block) -> None:
        waiting = self._presented(watched)
        if self._unresolved(waiting):
            log.warning("float.not_looked_at", wallet=to_hex(watched.wallet), asset=watched.token.asset_id)
            return
        balance_base = await self._chain.token_balance(watched.token, watched.wallet, final)
        witnesses = self._chain.witnesses
        if balance_base != self._booked(watched) and await self._unproven(watched, waiting, final):
            return
        evidence = Evidence(
            kind="balance",
            chain_id=watched.token.chain_id,
            block_number=final.number,
            block_hash=final.hash,
            block_time_s=final.time_s,
            witnesses=witnesses,
            value_base=balance_base,
        )
        task_id, now_ms = self._ids.new("task"), self._clock.now_ms()
        asset = watched.token.asset_id
        await self._store.post(ObserveFloat(watched.wallet, asset, balance_base, evidence, task_id, now_ms))

    async def _unproven(self, watched: Watched, waiting: Sequence[Promise], final: Block) -> bool:
        """Say whether a payment may explain the difference although everything up to there is booked.

        A collection whose log was lost, or left by an earlier run of ours: only the state remembers, and it is left. A
        transaction that failed shows in no log that is followed: it is booked with its fee, which then explains itself.
        """
        token = watched.token
        for payment, terms in waiting:
            standing = await way_of(token).standing(self._chain, token, terms, final)
            if standing.failed is not None:
                await self._booker.failed(payment, standing.failed)
            elif standing.used:
                await self._booker.leave_used(payment)
        return self._unresolved(waiting)

    def _unresolved(self, waiting: Sequence[Promise]) -> bool:
        return any(payment.id in self._booker.unresolved for payment, _ in waiting)

    def _presented(self, watched: Watched) -> list[Promise]:
        place = (watched.token.chain_id, watched.token.address, watched.wallet)
        return [
            (p, terms)
            for p in self._store.view.open_payments.values()
            if (terms := p.authorization) is not None
            and p.axes.transfer is Transfer.PRESENTED
            and terms.identity[:3] == place
        ]

    def _booked(self, watched: Watched) -> int:
        known = self._store.view.wallets.get((to_hex(watched.wallet), watched.token.asset_id))
        return 0 if known is None else known.available_base + known.held_base

    def _some_wallet_is_empty(self) -> bool:
        """A wallet that cannot pay is looked at whenever there is a new block: its float may just have come in."""
        wallets = self._store.view.wallets
        known = (wallets.get((to_hex(w.wallet), w.token.asset_id)) for w in self._watched)
        return any(balance is None or balance.available_base == 0 for balance in known)
