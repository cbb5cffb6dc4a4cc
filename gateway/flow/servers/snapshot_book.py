"""The records of snapshots: one for each that a vendor shows of an account's server, kept as it is shown.

Must not know who asks or how it is asked.  Theory: a vendor may take a snapshot unasked, lose the answer to a request, or
delete one when its time is over, so records follow what is shown; what a whole list does not show is gone, unless it is so
new that the list may not know it yet.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from gateway.core.kept import SNAPSHOT
from gateway.core.problems import Problem
from gateway.core.server import Server, Snapshot
from gateway.flow.locks import Locks
from gateway.flow.servers.keeping import CHANGES_MAX, Keeping, bumped
from gateway.server_ports import SnapshotRule, SnapshotSight

PENDING, AVAILABLE, EXPIRED, DELETED, UNKNOWN = "pending", "available", "expired", "deleted", "unknown"
STATES = frozenset({PENDING, AVAILABLE, EXPIRED, DELETED, UNKNOWN, "error"})
OVER = frozenset({EXPIRED, DELETED})
ABSENT_AFTER_MS = 120_000
CREATED, FOUND = "created", "found"
TEXT_MAX = 255

Update = Callable[[Snapshot], Snapshot]


class SnapshotBook:
    """One object keeps them all. What it finds new it finds once, however many ask at the same time."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping, self._locks = keeping, Locks()

    async def of_account(self, account_id: str, snapshot_id: str) -> Snapshot:
        """Return an account's snapshot, over or not. Raises Problem("not_found")."""
        found = await self._keeping.store.record(SNAPSHOT, snapshot_id)
        if not isinstance(found, Snapshot) or found.account_id != account_id:
            raise Problem("not_found", "there is no such snapshot of yours")
        return found

    async def keep(
        self, server: Server, sight: SnapshotSight, rule: SnapshotRule, *, name: str = "", replayed: bool = False
    ) -> Snapshot:
        """Return the record of a snapshot that is shown, new or not, as it is shown.

        `name`: its agent has just asked for it, under this name, so it is none that is over. `replayed`: it is shown by
        an old answer, which says nothing of how it is now.
        """
        lock = self._locks.of(server.id)
        async with lock:
            known = {each.ref: each for each in await self._keeping.store.snapshots_of_server(server.id)}
            found = known.get(sight.ref)
            if found is not None and (replayed or (found.state in OVER and not name)):
                return found
            if found is not None and found.state not in OVER:
                return await self.change(found, partial(_as_shown, sight=sight, rule=rule))
            new = self._new(server, sight, rule, name)
            await self._keeping.put(new, CREATED if name else FOUND, name=new.name)
            return new

    async def take_list(
        self, server: Server, sights: Sequence[SnapshotSight], rule: SnapshotRule, fits: Iterable[str]
    ) -> None:
        """Take a whole list of a server's snapshots: what is new in it is adopted, what is missing from it is over.

        `fits` are the refs in it that can be this server's.
        """
        shown, own = {sight.ref: sight for sight in sights}, frozenset(fits)
        records = await self._keeping.store.snapshots_of_server(server.id)
        known = {record.ref for record in records}
        for record in records:
            sight = shown.get(record.ref)
            if sight is not None and record.state not in OVER:
                await self.change(record, partial(_as_shown, sight=sight, rule=rule))
            elif sight is None:
                await self._missing(record)
        for sight in sights:
            if sight.ref not in known and sight.ref in own and not _is_over(sight):
                await self.keep(server, sight, rule)

    async def _missing(self, record: Snapshot) -> None:
        age_ms = self._keeping.clock.now_ms() - record.as_of_ms
        if record.state not in OVER and age_ms >= ABSENT_AFTER_MS:
            state = EXPIRED if self.is_expired(record) else DELETED
            await self.change(record, lambda before: replace(before, state=state))

    def is_expired(self, record: Snapshot) -> bool:
        """Say whether the vendor keeps it no longer, by what is known of it (business time)."""
        return record.expires_at_ms is not None and record.expires_at_ms <= self._keeping.business.now_ms()

    async def expire(self, record: Snapshot) -> Snapshot:
        """Let a record say that its time is over, where it is."""
        if record.state in OVER or not self.is_expired(record):
            return record
        return await self.change(record, lambda before: replace(before, state=EXPIRED))

    async def delete(self, record: Snapshot) -> Snapshot:
        """Let a record say that it was deleted."""
        return await self.change(record, lambda before: replace(before, state=DELETED))

    async def change(self, record: Snapshot, update: Update) -> Snapshot:
        """Apply a change to a snapshot as it is now; what is over stays over. Return it as it is then."""
        for _ in range(CHANGES_MAX):
            before = await self._keeping.store.record(SNAPSHOT, record.id)
            assert isinstance(before, Snapshot), "what was kept is found"
            after = update(before)
            if before.state in OVER or after == before:
                return before
            after = replace(bumped(after, before.version), as_of_ms=self._keeping.clock.now_ms())
            event = "changed" if after.state == before.state else after.state
            if await self._keeping.put(after, event, name=after.name):
                return after
        raise Problem("internal", "this snapshot changes faster than it can be changed")

    def _new(self, server: Server, sight: SnapshotSight, rule: SnapshotRule, name: str) -> Snapshot:
        now_ms = self._keeping.clock.now_ms()
        fresh = Snapshot(
            id=self._keeping.new_id("snp"),
            account_id=server.account_id,
            server_id=server.id,
            vendor=server.vendor,
            ref=sight.ref,
            name=name or sight.name[:TEXT_MAX] or sight.ref,
            state=PENDING,
            created_at_ms=now_ms if sight.created_at_ms is None else sight.created_at_ms,
            as_of_ms=now_ms,
        )
        return _as_shown(fresh, sight, rule)


def _as_shown(record: Snapshot, sight: SnapshotSight, rule: SnapshotRule) -> Snapshot:
    state = DELETED if sight.gone and sight.state not in OVER else sight.state
    ends_ms = sight.expires_at_ms or record.expires_at_ms
    if ends_ms is None and rule.retention_s is not None:
        ends_ms = record.created_at_ms + rule.retention_s * 1000
    return replace(
        record,
        state=state if state in STATES else UNKNOWN,
        expires_at_ms=ends_ms,
        size_gib=sight.size_gib or record.size_gib,
    )


def _is_over(sight: SnapshotSight) -> bool:
    return sight.gone or sight.state in OVER
