"""Snapshots: taken, found, followed until they are there, restored, deleted, and over when their time is.

Must not know vendors' wires or HTTP.  Theory: what a snapshot is (named or not, restored in place or to a new server, kept
for how long) stands in the vendor's features; a request is sent once, and what a lost answer made is found in the list.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Protocol

import structlog

from gateway.core.pause import has_passed
from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.server import ORDERED, USABLE, Server, ServerState, Snapshot
from gateway.core.spec import ServerSpec
from gateway.flow.broker.watch import Tries
from gateway.flow.servers.beside import Beside
from gateway.flow.servers.doing import Doing, Done, claim_of, require_made, require_state
from gateway.flow.servers.placing import SPEC, NewServer
from gateway.flow.servers.runner import Who
from gateway.flow.servers.seeing import Seeing
from gateway.flow.servers.snapshot_book import AVAILABLE, OVER, PENDING, SnapshotBook
from gateway.server_ports import Action, Feature, SnapshotRule, SnapshotSight

TAKEN_IN = USABLE | {ServerState.STOPPED, ServerState.STOPPING, ServerState.UNKNOWN}
PAUSES_S = (5.0, 10.0, 20.0, 30.0, 60.0)  # between looks at what is pending
FRESH_MS = 5_000  # nobody who only reads has a list asked for again so soon
LOAD_EVERY_MS = 3_600_000
AT_ONCE = 4  # at one vendor
PATIENCE_S = 1.0  # a sweep waits so long for what it began; the rest goes on by itself
STOPPED = frozenset({ServerState.STOPPED})

log = structlog.get_logger()


class Ordering(Protocol):
    """Where new servers are ordered."""

    async def place(self, who: Who, new: NewServer) -> tuple[Server, bool]:
        """Keep an order and begin to fulfil it; say whether it had been placed before. Raises Problem."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was asked for, and what it cost. `charge_base` is None where no money was involved."""

    snapshot: Snapshot
    payment_id: str | None = None
    charge_base: int | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """The server that a snapshot was restored to."""

    server: Server
    payment_id: str | None = None
    charge_base: int | None = None
    replayed: bool = False


class Snapshots:
    """The use case. `sweep` is called again and again; jobs do that."""

    def __init__(self, doing: Doing, seeing: Seeing, ordering: Ordering) -> None:
        self._doing, self._keeping, self._seeing, self._ordering = doing, doing.keeping, seeing, ordering
        self._book, self._beside = SnapshotBook(doing.keeping), Beside(doing.begin, AT_ONCE)
        self._pending: dict[str, Tries] = {}  # servers of which a snapshot is pending
        self._listed_ms: dict[str, int] = {}  # when a server's list was last read
        self._loaded_ms: int | None = None

    def as_of_ms(self, snapshot: Snapshot) -> int:
        """Return when a snapshot was last seen, or known to be as it is."""
        over = snapshot.state in OVER
        return snapshot.as_of_ms if over else max(snapshot.as_of_ms, self._listed_ms.get(snapshot.server_id, 0))

    # taking

    async def create(
        self,
        who: Who,
        server_id: str,
        name: str | None,
        *,
        idempotency_key: str | None = None,
        max_charge_base: int | None = None,
    ) -> Taken:
        """Take a snapshot of a server; a vendor that names its snapshots itself is not told the name.

        Raises Problem: not_found, capability_missing, server_ended, server_not_ready, max_total_reached, and what the
        vendor's call raises.
        """
        server = await self._keeping.server(who.account_id, server_id)
        self._doing.require(server.vendor, Feature.SNAPSHOTS)
        claim = claim_of(server, idempotency_key)
        if not await self._doing.is_claimed(who, claim):
            require_made(server)
            require_state(server, TAKEN_IN, "a snapshot")
        name = name or _own_name(claim or self._keeping.new_id("name"))
        return await self._doing.whole(self._create(who, server, name, claim, max_charge_base))

    async def _create(
        self, who: Who, server: Server, name: str, claim: str | None, max_charge_base: int | None
    ) -> Taken:
        parameters = {"name": name} if self._rule(server).named_by_agent else {}
        done = await self._doing.run_paid(
            who, server, Action.SNAPSHOT_CREATE, parameters, claim=claim, max_charge_base=max_charge_base
        )
        sight = await self._made(who, server, done, name)
        snapshot = await self._book.keep(server, sight, self._rule(server), name=name, replayed=done.replayed)
        self._follow(snapshot)
        return Taken(snapshot, done.payment_id, done.charge_base, done.replayed)

    async def _made(self, who: Who, server: Server, done: Done, name: str) -> SnapshotSight:
        """Return what was made: an answer that does not show it leaves it to be found in the list."""
        for sight in done.heard.snapshots:
            return sight
        listed = (await self._doing.run(who, server, Action.SNAPSHOT_LIST)).heard.snapshots
        found = next((sight for sight in listed if name in (sight.name, sight.ref)), None)
        if found is None:
            raise Problem("action_unknown", f"{server.vendor} took the request and does not show the snapshot yet")
        return found

    # reading

    async def get(self, who: Who, snapshot_id: str) -> Snapshot:
        """Return a snapshot, as its vendor says that it is now where that can still change. Raises Problem("not_found")."""
        snapshot = await self._book.of_account(who.account_id, snapshot_id)
        if snapshot.state in OVER:
            return snapshot
        await self.refresh_quietly(await self._keeping.latest(snapshot.server_id))
        return await self._book.expire(await self._book.of_account(who.account_id, snapshot_id))

    async def refresh(self, who: Who, server_id: str) -> Server:
        """See that the records of a server's snapshots are as its vendor says now, where it answers; return the server.

        Raises Problem: not_found, capability_missing.
        """
        server = await self._keeping.server(who.account_id, server_id)
        self._doing.require(server.vendor, Feature.SNAPSHOTS)
        await self.refresh_quietly(server)
        return server

    async def refresh_quietly(self, server: Server) -> None:
        """Read a server's list of snapshots, unless it has just been read. Never raises for a vendor."""
        if server.ref is None or not self._doing.can(server.vendor, Feature.SNAPSHOTS):
            return
        now_ms, read_ms = self._keeping.clock.now_ms(), self._listed_ms.get(server.id)
        if read_ms is not None and 0 <= now_ms - read_ms < FRESH_MS:
            return
        who = Who(self._keeping.view.keys_by_id[server.key_id], self._keeping.new_id("req"))
        try:
            done = await self._doing.run(who, server, Action.SNAPSHOT_LIST)
        except Problem as problem:
            log.info("snapshots.not_seen", server_id=server.id, vendor=server.vendor, problem=problem.code)
            return
        self._listed_ms[server.id] = now_ms
        await self._book.take_list(server, done.heard.snapshots, self._rule(server), self._fits(server, done))

    def _fits(self, server: Server, done: Done) -> list[str]:
        """Return which of those in a list may be this server's: a vendor that names them itself names them after it."""
        sights = done.heard.snapshots
        if self._rule(server).named_by_agent:
            return [sight.ref for sight in sights]
        view = self._keeping.view.servers.values()
        twins = [each for each in view if (each.account_id, each.vendor) == (server.account_id, server.vendor)]
        if any(each.name == server.name and each.id != server.id for each in twins):  # nobody can tell whose it is
            return []
        return [sight.ref for sight in sights if sight.name == server.name]

    async def adopt(self, server: Server, sights: Sequence[SnapshotSight]) -> None:
        """Keep what a vendor shows that nobody asked for: what a destruction leaves behind."""
        if self._doing.can(server.vendor, Feature.SNAPSHOTS):
            for sight in sights:
                self._follow(await self._book.keep(server, sight, self._rule(server)))

    # ending

    async def delete(self, who: Who, snapshot_id: str) -> Snapshot:
        """Delete a snapshot at its vendor; one that is over is only returned.

        Raises Problem: not_found, capability_missing, server_not_ready while a server is ordered that is made from it
        (its vendor might take the money and make nothing), and what the vendor's call raises.
        """
        snapshot = await self._book.of_account(who.account_id, snapshot_id)
        if snapshot.state in OVER:
            return snapshot
        self._doing.require(snapshot.vendor, Feature.SNAPSHOT_DELETE)
        self._require_unused(snapshot)
        return await self._doing.whole(self._delete(who, snapshot))

    def _require_unused(self, snapshot: Snapshot) -> None:
        for server in self._keeping.view.servers.values():
            if server.account_id != snapshot.account_id or server.state not in ORDERED:
                continue
            if self._keeping.open(SPEC, server.id, server.sealed_spec).get("snapshot") == snapshot.id:
                detail = f"server {server.id} is being made from this snapshot; delete it once that order is fulfilled or over"
                raise Problem("server_not_ready", detail, extra={"server": server.id, "state": server.state.value})

    async def _delete(self, who: Who, snapshot: Snapshot) -> Snapshot:
        server = await self._keeping.latest(snapshot.server_id)
        try:
            await self._doing.run(who, server, Action.SNAPSHOT_DELETE, {"snapshot": snapshot.ref})
        except Problem as problem:
            if problem.code != "not_found":
                raise
        return await self._book.delete(snapshot)

    # restoring

    async def restore(
        self,
        who: Who,
        snapshot_id: str,
        new: NewServer | None,
        *,
        idempotency_key: str | None = None,
        max_charge_base: int | None = None,
    ) -> Restored:
        """Restore a snapshot: to the server that it is of, or, at vendors that only do that, to a new one.

        `new` is how a new server is to be ordered, without its spec and cap; None asks for a restoring in place.
        `max_charge_base` bounds the first charge of either. Raises Problem: not_found, capability_missing, server_ended,
        server_not_ready, and what an order or the vendor's call raises.
        """
        snapshot = await self.get(who, snapshot_id)
        if new is not None:
            self._doing.require(snapshot.vendor, Feature.RESTORE_TO_NEW)
            if not await self._doing.is_claimed(who, new.client_token):
                _require_there(snapshot)
            spec = ServerSpec(Need(), snapshot=snapshot.id)
            order = replace(new, spec=spec, max_charge_base=max_charge_base)
            server, replayed = await self._ordering.place(who, order)
            return Restored(server, replayed=replayed)
        self._doing.require(snapshot.vendor, Feature.RESTORE_IN_PLACE)
        server = await self._keeping.server(who.account_id, snapshot.server_id)
        claim = claim_of(server, idempotency_key)
        if not await self._doing.is_claimed(who, claim):
            server = await self._ready(server)
            _require_there(snapshot)
        return await self._doing.whole(self._restore(who, server, snapshot, claim, max_charge_base))

    def restores_in_place(self, vendor_name: str) -> bool:
        """Say whether a vendor restores to the server that a snapshot is of."""
        return self._doing.can(vendor_name, Feature.RESTORE_IN_PLACE)

    async def _ready(self, server: Server) -> Server:
        require_made(server)
        if self._rule(server).requires_stopped and server.state not in STOPPED:
            server = await self._seeing.look(server.id)
            require_made(server)
            first = f'stop it first: POST /v1/servers/{server.id}/actions {{"action":"stop"}}'
            how = "" if server.state is ServerState.STOPPING else first
            require_state(server, STOPPED, "restoring a snapshot", how)
        return server

    async def _restore(
        self, who: Who, server: Server, snapshot: Snapshot, claim: str | None, max_charge_base: int | None
    ) -> Restored:
        parameters = {"snapshot": snapshot.ref}
        done = await self._doing.run_paid(
            who, server, Action.RESTORE, parameters, claim=claim, max_charge_base=max_charge_base
        )
        if not done.replayed:
            if done.heard.server is not None:
                server = await self._seeing.take(server, done.heard.server)
            self._seeing.hurry(server.id)
        return Restored(server, done.payment_id, done.charge_base, done.replayed)

    # following

    def _follow(self, snapshot: Snapshot) -> None:
        if snapshot.state == PENDING:
            tries = self._pending.setdefault(snapshot.server_id, Tries())
            tries.take(self._keeping.clock.now_ms(), PAUSES_S)

    async def sweep(self) -> None:
        """Look at what is pending, each at its pace and no vendor's at another's; let what is over say so (a loop's body).

        Raises what went wrong in this or an earlier sweep, once; never for a vendor.
        """
        now_ms, business_ms = self._keeping.clock.now_ms(), self._keeping.business.now_ms()
        if self._loaded_ms is None or has_passed(LOAD_EVERY_MS, self._loaded_ms, now_ms):
            self._loaded_ms = now_ms
            self._listed_ms = {name: at for name, at in self._listed_ms.items() if now_ms - at < LOAD_EVERY_MS}
            for snapshot in await self._keeping.store.snapshots_due(business_ms):
                await self._book.expire(snapshot)
                if snapshot.state == PENDING:
                    self._pending.setdefault(snapshot.server_id, Tries())
        for server_id, tries in list(self._pending.items()):
            if not self._beside.is_under_way(server_id) and tries.take(now_ms, PAUSES_S):
                server = await self._keeping.latest(server_id)
                self._beside.go(server_id, server.vendor, partial(self._look, server))
        await self._beside.wait(PATIENCE_S)

    async def _look(self, server: Server) -> None:
        await self.refresh_quietly(server)
        records = await self._keeping.store.snapshots_of_server(server.id)
        if not any(each.state == PENDING for each in records):
            self._pending.pop(server.id, None)

    def _rule(self, server: Server) -> SnapshotRule:
        rule = self._doing.vendors[server.vendor].features.snapshots
        if rule is None:
            raise AssertionError(f"{server.vendor} has snapshots, and no rule for them")
        return rule


def _own_name(text: str) -> str:
    """Return a name for a snapshot that its agent did not name: the same for the same request."""
    return f"snap-{sha256(text.encode()).hexdigest()[:12]}"


def _require_there(snapshot: Snapshot) -> None:
    if snapshot.state != AVAILABLE:
        detail = f"restoring needs a snapshot that is available; this one is {snapshot.state}"
        raise Problem("server_not_ready", detail, extra={"state": snapshot.state})
