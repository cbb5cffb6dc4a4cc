"""Telling accounts what happened: the journal read in order, once, for endpoints (by webhook) and for whoever listens.

Must not know how rows are kept or how an address is reached.  Theory: one cursor over one journal, kept in the same commit
as the deliveries that a stretch of it made due, so nothing is told twice to a queue and nothing is skipped; where a crash
comes first, the stretch is read again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.core.commands import FanOut, PutDelivery, Refused
from gateway.core.events import TEST, Event, chosen, event_id, project
from gateway.core.problems import Problem
from gateway.core.server import Hook, HookDelivery, HookDeliveryState
from gateway.flow.servers.delivering import Outbox
from gateway.flow.servers.forgetting import Forgetting
from gateway.flow.servers.history import History
from gateway.flow.servers.hooks import Hooks, HookSettings, Posting
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.listening import Listening
from gateway.ports import Entropy

WINDOW_ROWS: Final = 5_000  # of the journal, looked at for one page
PAGE_EVENTS: Final = 500
LAG_ROWS: Final = 10_000  # rows that tell nobody anything and are read again after a crash
PENDING_MAX: Final = 2_000  # events of one endpoint that wait
PENDING_REASON: Final = "too many events wait for it"
ACCOUNT_WINDOW_ROWS: Final = 15_000  # looked at in one go for a page of one account: some 25 ms, that other reads wait
WINDOWS_OF_A_PAGE: Final = 4  # until it says, full or not, from where to go on


class Telling:
    """Events to whom they concern. `hooks` are the endpoints, `listening` those who wait for events at this process."""

    def __init__(
        self,
        keeping: Keeping,
        history: History,
        posting: Posting,
        entropy: Entropy,
        settings: HookSettings | None = None,
    ) -> None:
        settings = settings or HookSettings()
        self._keeping, self._history = keeping, history
        self.hooks = Hooks(keeping, posting, entropy, settings)
        self.listening = Listening(settings.streams_per_account)
        self._outbox = Outbox(keeping, history, posting, self.hooks, entropy, settings)
        self._forgetting = Forgetting(keeping, history, settings.deliveries_kept_s)
        self._read_seq = -1  # up to where the journal was read; the kept cursor may lag behind it
        self._heard_from: dict[str, int] = {}  # endpoints, with the row after which they hear
        self._reading = asyncio.Lock()

    @property
    def read_seq(self) -> int:
        """Up to which row everything was told."""
        return max(self._read_seq, self._keeping.view.told_seq)

    # the loops

    async def sweep(self) -> None:
        """Read what the journal has by now: hand it to listeners, and make it due to endpoints."""
        async with self._reading:
            end = self._keeping.view.journal_seq
            if not (self._keeping.view.hooks or self.listening.anybody):
                self._read_seq = end  # nobody came before these rows, and whoever comes hears of later ones
            while self.read_seq < end:
                await self._read_on(self.read_seq, end)
            if end - self._keeping.view.told_seq >= LAG_ROWS:
                await self._fan_out((), end)

    async def deliver(self) -> None:
        """Begin every attempt that is due, without waiting for its end; forget some of what was done long ago."""
        await self._outbox.deliver()
        await self._forgetting.step()

    async def close(self, timeout_s: float) -> None:
        """Let listeners go, wait for attempts under way, and keep the cursor. Call it before the store closes."""
        self.listening.close()
        await self._outbox.drain(timeout_s)
        async with self._reading:
            if self._read_seq > self._keeping.view.told_seq:
                await self._fan_out((), self._read_seq)

    async def _read_on(self, after: int, end: int) -> None:
        until = min(end, after + WINDOW_ROWS)
        rows = await self._history.page(after, until, PAGE_EVENTS)
        reached = rows[-1].seq if len(rows) == PAGE_EVENTS else until
        events = [event for event in map(project, rows) if event is not None]
        await self._learn(after)
        due = self._deliveries(events)
        if due:
            await self._fan_out(due, reached)
        for event in events:
            self.listening.tell(event)
        self._read_seq = reached

    async def _fan_out(self, due: Sequence[HookDelivery], reached: int) -> None:
        result = await self._keeping.store.post(FanOut(reached, tuple(due)))
        assert not isinstance(result, Refused), f"the store does not take a cursor at {reached}"
        for delivery in due:
            self._outbox.add(delivery.hook_id, delivery.event_seq)
        for hook_id in {delivery.hook_id for delivery in due}:
            hook = self._keeping.view.hooks.get(hook_id)
            if hook is not None and self._outbox.waiting(hook_id) > PENDING_MAX:
                await self.hooks.disable(hook, PENDING_REASON)

    async def _learn(self, after: int) -> None:
        """Find out from where endpoints hear that were not seen before: those made later than `after` from there on.

        One that is made while the journal is asked hears of nothing yet: its row is beyond the page, and found by the next.
        """
        seen = tuple(self._keeping.view.hooks)
        if self._heard_from.keys() == set(seen):
            return
        made = await self._history.hooks_made(after) if set(seen) - self._heard_from.keys() else {}
        self._heard_from = {hook_id: self._heard_from.get(hook_id, made.get(hook_id, 0)) for hook_id in seen}

    def _deliveries(self, events: Sequence[Event]) -> list[HookDelivery]:
        by_account: dict[str, list[Hook]] = defaultdict(list)
        for hook in self._keeping.view.hooks.values():
            by_account[hook.account_id].append(hook)
        now_ms = self._keeping.clock.now_ms()
        return [
            _delivery(hook.id, event, now_ms)
            for event in events
            for hook in by_account.get(event.account_id, ())
            if self._concerns(hook, event)
        ]

    def _concerns(self, hook: Hook, event: Event) -> bool:
        if hook.disabled_reason or event.seq <= self._heard_from.get(hook.id, event.seq):
            return False
        if event.type == TEST:
            return bool(event.data["webhook_id"] == hook.id)
        return chosen(hook.events, event.type)

    # what the API asks for

    async def events(
        self, account_id: str, after: int, limit: int, until: int | None = None
    ) -> tuple[list[Event], int | None]:
        """Return an account's events after a row, oldest first, and the row to go on from; None at the journal's end.

        A page may be short, or empty, and not the last one: at most WINDOWS_OF_A_PAGE windows of rows are looked at.
        """
        end = self._keeping.view.journal_seq if until is None else until
        events: list[Event] = []
        for _ in range(WINDOWS_OF_A_PAGE):
            window, room = min(end, after + ACCOUNT_WINDOW_ROWS), limit - len(events)
            rows = await self._history.page(after, window, room, account_id)
            events += [event for event in map(project, rows) if event is not None and event.account_id == account_id]
            after = rows[-1].seq if len(rows) == room else window
            if len(events) == limit or after >= end:
                break
        return events, (after if after < end else None)

    async def past(self, account_id: str, after: int, until: int) -> AsyncIterator[Event]:
        """Yield an account's events after one row and up to another."""
        at: int | None = after
        while at is not None and at < until:
            events, at = await self.events(account_id, at, PAGE_EVENTS, until)
            for event in events:
                yield event

    async def test(self, account_id: str, hook_id: str) -> str:
        """Send a test to one endpoint, whichever events it wants; return the event's id. Raises Problem."""
        self._enabled(account_id, hook_id)
        before = self._keeping.view.journal_seq
        await self.hooks.touch(account_id, hook_id)
        await self.sweep()
        async for event in self.past(account_id, before, self._keeping.view.journal_seq):
            if event.type == TEST and event.data["webhook_id"] == hook_id:
                return event.id
        raise AssertionError(f"the test of {hook_id} was committed, and is not in the journal")

    async def replay(self, account_id: str, hook_id: str, seq: int) -> HookDelivery:
        """Send an event of the account to one endpoint again, or for once. Raises Problem("not_found")."""
        self._enabled(account_id, hook_id)
        row = await self._history.row(seq)
        event = None if row is None else project(row)
        if event is None or event.account_id != account_id:
            raise Problem("not_found", "there is no such event of yours")
        flying = self._keeping.view.deliveries.get((hook_id, seq))
        if flying is not None and self._outbox.is_flying(hook_id, seq):
            return flying
        now_ms = self._keeping.clock.now_ms()
        again = _delivery(hook_id, event, now_ms)
        result = await self._keeping.store.post(PutDelivery(again))
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail)
        self._outbox.add(hook_id, seq)
        return again

    async def deliveries(
        self, account_id: str, hook_id: str, before: int | None, limit: int
    ) -> tuple[list[HookDelivery], str | None]:
        """Return what became of events at one endpoint, the newest first, and the id to go on from. Raises Problem."""
        self.hooks.one(account_id, hook_id)
        found = list(await self._history.deliveries(hook_id, before, limit + 1))
        return found[:limit], (event_id(found[limit - 1].event_seq) if len(found) > limit else None)

    def _enabled(self, account_id: str, hook_id: str) -> None:
        reason = self.hooks.one(account_id, hook_id).disabled_reason
        if reason:
            raise Problem("bad_request", f"this webhook is disabled ({reason}); enable it with PATCH first")


def _delivery(hook_id: str, event: Event, now_ms: int) -> HookDelivery:
    """Return what makes an event due to an endpoint of its account."""
    pending = HookDeliveryState.PENDING
    return HookDelivery(hook_id, event.seq, event.account_id, pending, 0, now_ms, now_ms, subject=event.subject)
