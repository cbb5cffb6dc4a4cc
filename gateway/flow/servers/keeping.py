"""The neutral API's records as its flows use them: read by their owner, changed one version at a time, waited on.

Must not know vendors or HTTP.  Theory: every change is computed from the version that it replaces and refused if another
came first, so any number of flows may move one server and none undoes what it has not seen.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gateway.core.commands import Attached, Done, Put, Refused
from gateway.core.problems import Problem
from gateway.core.server import Fleet, Hook, Kept, Server, Snapshot, SshKey
from gateway.core.view import View
from gateway.flow.ids import Ids
from gateway.flow.promise import seal_context
from gateway.flow.tasks import Tasks
from gateway.ports import Clock, Entropy, Store
from wallets.sealing import Sealer

CHANGES_MAX = 20

_R = TypeVar("_R", Server, Snapshot, SshKey, Fleet, Hook)


class Keeping:
    """The records behind one port. `clock` is the wall clock of records, `business` the time by which vendors bill."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock, business: Clock, entropy: Entropy) -> None:
        self.store, self._sealer, self.clock, self.business = store, sealer, clock, business
        self.tasks, self._ids = Tasks(store, clock, entropy), Ids(clock, entropy)

    @property
    def view(self) -> View:
        """The committed state."""
        return self.store.view

    def new_id(self, prefix: str) -> str:
        """Return a new id."""
        return self._ids.new(prefix)

    # reading

    async def server(self, account_id: str, server_id: str) -> Server:
        """Return an account's server, ended or not. Raises Problem("not_found")."""
        found = self.view.servers.get(server_id) or await self.store.server(server_id)
        if found is None or found.account_id != account_id:
            raise Problem("not_found", "there is no such server of yours")
        return found

    async def latest(self, server_id: str) -> Server:
        """Return a server that is known to exist, as committed."""
        found = self.view.servers.get(server_id) or await self.store.server(server_id)
        if found is None:
            raise AssertionError(f"server {server_id} was kept, and is gone")
        return found

    # changing

    async def put(self, record: Kept, event: str, **detail: object) -> bool:
        """Keep a record. True: it is kept; False: another change came first. Raises Problem for any other refusal."""
        result = await self.store.post(Put(record, event, self.clock.now_ms(), detail))
        if isinstance(result, Refused) and result.code != "changed_meanwhile":
            raise Problem(result.code, result.detail)
        return isinstance(result, Done)

    async def place(self, record: Kept, event: str, **detail: object) -> str:
        """Keep a new record with a client token; return its id, or that of the earlier order that it repeats.

        Raises Problem("idempotency_conflict") where the token stands for another order.
        """
        result = await self.store.post(Put(record, event, self.clock.now_ms(), detail))
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail)
        return result.record_id if isinstance(result, Attached) else record.id

    async def change(
        self, server_id: str, update: Callable[[Server], Server | None], event: str, **detail: object
    ) -> Server:
        """Apply a change to a server as it is now; an update that returns None wants none. Return it as it is then.

        The update is called again, with the newer record, where another change came first; it must not have effects.
        """
        for _ in range(CHANGES_MAX):
            before = await self.latest(server_id)
            after = update(before)
            if after is None:
                return before
            after = bumped(after, before.version)
            if await self.put(after, event, **detail):
                return after
        raise Problem("internal", "this server changes faster than it can be changed")

    # what only the owner may read

    def seal(self, kind: str, record_id: str, document: Mapping[str, Any]) -> bytes:
        """Seal a document for one record; `kind` and id are bound into it."""
        return self._sealer.seal(json.dumps(document, separators=(",", ":")).encode(), seal_context(kind, record_id))

    def open(self, kind: str, record_id: str, sealed: bytes) -> dict[str, Any]:
        """Return what was sealed for this record. Raises what the sealer raises."""
        document: dict[str, Any] = json.loads(self._sealer.open(sealed, seal_context(kind, record_id)))
        return document

    # waiting

    async def until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something that the view tells is so, at most that long; say whether it is."""
        if done():
            return True
        happened = asyncio.Event()

        def look(_: object) -> None:
            if done():
                happened.set()

        self.view.listeners.add(look)
        try:
            async with asyncio.timeout(timeout_s):
                await happened.wait()
        except TimeoutError:
            return done()
        finally:
            self.view.listeners.discard(look)
        return True


def bumped(record: _R, version: int) -> _R:
    """Return a record as the version after this one."""
    return replace(record, version=version + 1)
