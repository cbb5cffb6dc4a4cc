"""Ending servers because that is wanted: first durable, then asked of the vendor until it is confirmed.

Must not know why a server is to end.  Theory (P5, P12): what is wanted is committed before anything is sent, so a crash
cannot forget it and nothing is ever destroyed that the journal does not hold as wanted dead; an answer that promises a
destruction is not one, so it is asked again until the server is seen to be gone.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from gateway.core.pause import has_passed
from gateway.core.problems import Problem
from gateway.core.server import ORDERED, Server, ServerState, Wanted
from gateway.core.times import utc_text
from gateway.flow.broker.watch import Tries
from gateway.flow.locks import Locks
from gateway.flow.servers.beside import Beside
from gateway.flow.servers.doing import Doing, require_open
from gateway.flow.servers.runner import Who
from gateway.flow.servers.seeing import Seeing
from gateway.server_ports import Action, Feature, SnapshotSight

PAUSES_S = (2.0, 5.0, 15.0, 60.0, 300.0)
PROMISE_HOLDS_MS = 600_000  # still there so long after its destruction was promised: asked for again
TRIES_BEFORE_TASK = 6
AT_ONCE = 4  # at one vendor
PATIENCE_S = 1.0  # a sweep waits so long for what it began; the rest goes on by itself
STAYS = "its vendor cannot destroy it: it stays until its paid time is over"

log = structlog.get_logger()


class Adopting(Protocol):
    """Where snapshots that a destruction leaves behind find their records."""

    async def adopt(self, server: Server, sights: Sequence[SnapshotSight]) -> None:
        """Keep what is new of them."""
        ...

    async def refresh_quietly(self, server: Server) -> None:
        """Ask the vendor which snapshots there are of a server. Never raises for a vendor."""
        ...


class Destroying:
    """One object ends every server. What a restart forgets of it is only how often it has asked."""

    def __init__(self, doing: Doing, seeing: Seeing, adopting: Adopting) -> None:
        self._doing, self._keeping, self._seeing, self._adopting = doing, doing.keeping, seeing, adopting
        self._locks, self._tries = Locks(), dict[str, Tries]()
        self._beside = Beside(doing.begin, AT_ONCE)
        self._promised_ms: dict[str, int] = {}

    async def destroy(self, who: Who, server: Server, reason: str) -> Server:
        """Let a server end for its agent, and ask the vendor once at once; it goes on in `sweep` whatever comes of that.

        Raises Problem, before anything is kept: server_ended, capability_missing, scope_missing. A server that is going
        already is only returned; an order that nobody has fulfilled yet is called off.
        """
        if server.wanted is Wanted.DESTROYED and server.open:
            return server
        require_open(server)
        if server.state not in ORDERED:
            self._doing.require(server.vendor, Feature.DESTROY, _instead(server))
        self._doing.require_scope(who, server.vendor)
        return await self._attempt(await self.want(server.id, reason))

    async def want(self, server_id: str, reason: str) -> Server:
        """Commit that a server is to end, without asking anybody; `sweep` does the rest."""

        def update(server: Server) -> Server | None:
            if not server.open or server.wanted is Wanted.DESTROYED:
                return None
            return replace(server, wanted=Wanted.DESTROYED, auto_renew=False, reason=reason)

        return await self._keeping.change(server_id, update, "destroy_wanted", wanted=Wanted.DESTROYED.value)

    async def sweep(self) -> None:
        """Ask for every destruction that is wanted and not confirmed, each at its pace and no vendor's at another's.

        Never raises for a vendor; raises what else went wrong in this or an earlier sweep, once.
        """
        view, now_ms = self._keeping.view, self._keeping.clock.now_ms()
        for server in list(view.servers.values()):
            wanted = server.wanted is Wanted.DESTROYED and server.ref is not None
            if wanted and self._is_due(server, now_ms):
                self._beside.go(server.id, server.vendor, partial(self._attempt, server))
        await self._beside.wait(PATIENCE_S)
        for gone in self._tries.keys() - view.servers.keys():
            self._tries.pop(gone, None)
            self._promised_ms.pop(gone, None)

    def _is_due(self, server: Server, now_ms: int) -> bool:
        tries = self._tries.get(server.id)
        return tries is None or tries.is_due(now_ms, PAUSES_S)

    async def _attempt(self, server: Server) -> Server:
        lock = self._locks.of(server.id)
        async with lock:
            server = await self._keeping.latest(server.id)
            if not server.open or server.ref is None or server.wanted is not Wanted.DESTROYED:
                return server
            if server.vendor not in self._doing.vendors:  # it is configured no more, and nobody can ask it
                return server
            if not self._doing.can(server.vendor, Feature.DESTROY):
                return await self._let_it_stay(server)
            tries, now_ms = self._tries.setdefault(server.id, Tries()), self._keeping.clock.now_ms()
            if not tries.take(now_ms, PAUSES_S):
                return server
            if tries.count > TRIES_BEFORE_TASK:
                detail = f"{server.ref} at {server.vendor} is to be destroyed ({server.reason}) and is still there"
                await self._keeping.tasks.ask("not_destroyed", f"{server.vendor}/{server.ref}", detail)
            promised_ms = self._promised_ms.get(server.id)
            if promised_ms is None or has_passed(PROMISE_HOLDS_MS, promised_ms, now_ms):
                server = await self._ask(server)
            return await self._look(server)

    async def _ask(self, server: Server) -> Server:
        """Ask the vendor once. Whoever ordered the server asks: that key may call this vendor."""
        who = Who(self._keeping.view.keys_by_id[server.key_id], self._keeping.new_id("req"))
        try:
            done = await self._doing.run(who, server, Action.DESTROY)
        except Problem as problem:
            log.warning("server.not_destroyed", server_id=server.id, vendor=server.vendor, problem=problem.code)
            return server
        self._promised_ms[server.id] = self._keeping.clock.now_ms()
        await self._adopting.adopt(server, done.heard.snapshots)
        return await self._keeping.change(server.id, self._going, ServerState.DESTROYING.value)

    def _going(self, server: Server) -> Server | None:
        if not server.open or server.state is ServerState.DESTROYING:
            return None
        return replace(server, state=ServerState.DESTROYING, as_of_ms=self._keeping.clock.now_ms())

    async def _look(self, server: Server) -> Server:
        """See whether it is gone. What its vendor keeps of it may be told nowhere else than in a list."""
        try:
            server = await self._seeing.look(server.id)
        except Problem as problem:
            log.info("server.unconfirmed", server_id=server.id, vendor=server.vendor, problem=problem.code)
            return server
        if not server.open:
            await self._adopting.refresh_quietly(server)
        return server

    async def _let_it_stay(self, server: Server) -> Server:
        """An order that was called off was fulfilled all the same, where nothing can be destroyed: its agent is told."""

        def update(before: Server) -> Server | None:
            return None if not before.open or before.reason == STAYS else replace(before, reason=STAYS)

        return await self._keeping.change(server.id, update, "changed")


def _instead(server: Server) -> str:
    """Return how a server ends that nobody can destroy."""
    ends = "when its paid time is over" if server.expires_at_ms is None else f"at {utc_text(server.expires_at_ms)}"
    asked = f'PATCH /v1/servers/{server.id} {{"auto_renew": false, "keep_until": null}}'
    return f"it ends by itself {ends} (expires_at), once nothing extends it: {asked}"
