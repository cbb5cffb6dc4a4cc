"""Recognising an older copy of the database, and keeping it from signing until the chain has told what it missed (P12).

Must not know how the mark is kept.  Theory: the signer's mark is written after each commit and outside the database, so
a journal that does not reach it, or differs at it, is an older or another copy; everything that copy does not know was
signed with a window that ends by the mark's `max_valid_before`, so a final block past it has told all.
"""

import structlog

from gateway.core.commands import SetFreeze
from gateway.core.paid import TillPlace
from gateway.core.times import utc_text
from gateway.flow.heads import Heads
from gateway.flow.tasks import Tasks
from gateway.ports import Clock, Entropy, Store
from wallets.watermark import Standing, Watermark, judge

SCOPE = "database"
BY = "quarantine"

log = structlog.get_logger()


class Quarantine:
    """Judges the database at start and lifts the quarantine when it may. `places` are what is read of tills."""

    def __init__(
        self,
        *,
        store: Store,
        watermark: Watermark,
        heads: Heads,
        chain_ids: tuple[int, ...],
        places: tuple[TillPlace, ...] = (),
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store, self._watermark, self._heads = store, watermark, heads
        self._chain_ids, self._places, self._clock = chain_ids, places, clock
        self._tasks = Tasks(store, clock, entropy)

    async def judge(self) -> Standing:
        """Compare journal and mark; freeze everything if the journal is not the one that the signer last saw."""
        mark = self._watermark.read()
        at_mark = await self._store.journal_digest(mark.height) if mark.height else None
        standing = judge(mark, self._store.view.journal_seq, at_mark)
        if standing is Standing.CURRENT:
            # A crash between a hold's commit and its mark: recovery may present it before the next purchase marks it.
            self._watermark.record(self._store.view.journal_seq, self._store.view.journal_head)
            return standing
        now_ms = self._clock.now_ms()
        detail = (
            f"the signer has seen journal row {mark.height}, this database is {standing.value} "
            f"(row {self._store.view.journal_seq}); nothing is signed until a final block is past "
            f"{utc_text(mark.max_valid_before * 1000)}"
        )
        await self._store.post(SetFreeze(SCOPE, frozen=True, reason=detail, by=BY, at_ms=now_ms))
        await self._tasks.ask("database_quarantined", "database", detail)
        log.error("database.quarantined", standing=standing.value, mark=mark.height)
        return standing

    async def lift(self) -> bool:
        """Lift the quarantine once every chain's booked final block is past the last window; say whether it did.

        What tills received and gave back is booked by itself, so every one of them must have been read as far: a refund
        that an older copy does not know would go back a second time.
        """
        freeze = self._store.view.freezes.get(SCOPE)
        if freeze is None or freeze.by != BY:
            return False
        mark = self._watermark.read()
        for chain_id in self._chain_ids:
            final, cursor = self._heads.final(chain_id), self._store.view.cursors.get(chain_id)
            if final is None or cursor is None or cursor[0] < final.number or final.time_s <= mark.max_valid_before:
                return False
        for place in self._places:
            final, read = self._heads.final(place[0]), self._store.view.till_cursors.get(place)
            if final is None or read is None or read[0] < final.number:
                return False
        now_ms = self._clock.now_ms()
        await self._store.post(SetFreeze(SCOPE, frozen=False, reason="the chain has told all", by=BY, at_ms=now_ms))
        self._watermark.accept(self._store.view.journal_seq, self._store.view.journal_head)
        log.warning("database.quarantine_lifted", journal=self._store.view.journal_seq)
        return True
