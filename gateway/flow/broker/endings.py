"""Stopping and destroying at account vendors: asked for until it is confirmed, for nothing else stops what it costs.

Must not know balances.  Theory (P5): a promise to destroy is not a destruction, and a 404 proves nothing of a thing that
may be newer than what answers; only the vendor's own word on a thing that it has shown, or lists without it, end it.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import structlog

from gateway.account_ports import AccountVendor, Thing
from gateway.core.commands import MarkEnding, RunMeter, UpdateResource
from gateway.core.pause import has_passed
from gateway.core.problems import Problem
from gateway.core.records import Meter, MeterState
from gateway.core.routes import Priority, Retry
from gateway.flow.broker.desk import Asking, Desk
from gateway.flow.broker.periods import UNFUNDED, is_stopped_first
from gateway.flow.broker.watch import DESTROYING, UNKNOWN_STATE, Tries, Watch
from gateway.http.port import UpstreamError, UpstreamRequest, UpstreamResponse, is_success

PAUSES_S = (5.0, 15.0, 60.0, 300.0)
STOP_PAUSES_S = (10.0, 30.0)
STOP_FOR_S = 60.0  # runs on so long after it was first told to stop, unpaid: destroyed
PROMISE_HOLDS_MS = 600_000  # still there so long after its destruction was promised: asked for again
TRIES_BEFORE_TASK = 6
NOT_FOUND, CONFLICT, GONE = 404, 409, 410
AT_ONCE = 4

POLLING = Asking(priority=Priority.POLL, max_wait_s=30.0)
URGENT = Asking(priority=Priority.DESTROY, retry=Retry.SAFE, max_wait_s=60.0)

log = structlog.get_logger()

Failure = UpstreamError | Problem


class Endings:
    """Ends what is to end at every account vendor."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def follow(self, desk: Desk) -> list[Failure]:
        """Stop and destroy what is due, each whatever becomes of the others; return what went wrong with the vendor."""
        gate, vendor = asyncio.Semaphore(AT_ONCE), desk.vendor

        async def one(work: Coroutine[Any, Any, None]) -> Failure | None:
            async with gate:
                try:
                    await work
                except (UpstreamError, Problem) as error:
                    return error
            return None

        works = [self._destroy(desk, meter) for meter in self._watch.of(vendor.name, MeterState.ENDING)]
        works += [
            self._stop(desk, meter)
            for meter in self._watch.of(vendor.name, MeterState.RUNNING)
            if meter.unfunded_at_ms is not None and meter.running_since_ms is not None
        ]
        return [error for error in await asyncio.gather(*(one(work) for work in works)) if error is not None]

    async def promised(self, vendor: AccountVendor, meter: Meter) -> None:
        """The vendor has said that it will destroy a thing; for some this ends the charges, done or not."""
        self._watch.memory[vendor.name].accepted_ms[meter.id] = self._watch.clock.now_ms()
        if vendor.ends_on_accept:
            since_ms, now_ms = self._watch.business.now_ms(), self._watch.clock.now_ms()
            await self._watch.store.post(RunMeter(meter.id, running=False, since_ms=since_ms, at_ms=now_ms))
        if meter.ref is not None:
            seen = UpdateResource(vendor.name, meter.ref, DESTROYING, None, self._watch.clock.now_ms())
            await self._watch.store.post(seen)

    async def confirm(self, desk: Desk, meter: Meter, *, deleted_ms: int | None = None) -> Thing | None:
        """Ask whether it is gone, and return what the vendor says of it: None where the answer says nothing.

        `deleted_ms`: when the vendor itself told us that it was deleted (business time). Raises UpstreamError or Problem
        when the vendor does not answer.
        """
        thing, asked_ms, answer = await self._show(desk, meter)
        current = self._watch.current(meter)
        if thing is None or current is None:
            return thing
        told = deleted_ms is not None or is_success(answer.status)
        if not thing.gone:
            await self._watch.observe(current, thing, asked_ms)
        elif told or (current.state is MeterState.ENDING and self._was_there(desk.vendor, current)):
            await self._watch.ended(current, "destroyed", self._ended_ms(current, asked_ms, deleted_ms))
        return thing

    def _ended_ms(self, meter: Meter, asked_ms: int, deleted_ms: int | None) -> int:
        """Say when a thing that is gone now ended: when the vendor says, where nothing that we saw speaks against that."""
        memory = self._watch.memory[meter.vendor]
        last_ms = memory.seen_ms.get(meter.id, meter.created_at_ms)
        if deleted_ms is not None and last_ms <= deleted_ms <= asked_ms:
            return deleted_ms
        first = memory.absent_ms.get(meter.id)
        return asked_ms if first is None else min(first[1], asked_ms)

    async def confirm_quietly(self, desk: Desk, meter: Meter) -> None:
        """Ask at once, where nobody waits for the answer: the next sweep asks again."""
        try:
            await self.confirm(desk, meter)
        except (UpstreamError, Problem) as error:
            log.info("meter.unconfirmed", meter_id=meter.id, error=type(error).__name__)

    def _was_there(self, vendor: AccountVendor, meter: Meter) -> bool:
        """A thing that was never shown and is new may be missing because what answers lags behind."""
        memory = self._watch.memory[vendor.name]
        age_ms = self._watch.business.now_ms() - meter.created_at_ms
        known = meter.id in memory.accepted_ms or meter.id in memory.seen_ms
        return known or age_ms >= vendor.account.absent_after_s * 1000

    async def _show(self, desk: Desk, meter: Meter) -> tuple[Thing | None, int, UpstreamResponse]:
        assert meter.ref is not None, "only asked of a thing whose id is known"
        asked_ms, request = self._watch.business.now_ms(), desk.vendor.show_request(meter.ref)
        answer = await desk.ask(request, POLLING)
        thing = _shown(desk.vendor, request, meter.ref, answer)
        promised = meter.id in self._watch.memory[desk.vendor.name].accepted_ms
        if thing is None and promised and answer.status in (NOT_FOUND, GONE):
            # The vendor has said that it destroys this very thing, and now that it knows none: its own two words.
            thing = Thing(meter.ref, "server", "destroyed", charged=False, gone=True)
        if thing is not None and not thing.gone and thing.state == UNKNOWN_STATE:
            thing = await self._with_state(desk, meter.ref, thing)
        return thing, asked_ms, answer

    async def _with_state(self, desk: Desk, ref: str, thing: Thing) -> Thing:
        """Ask for the state where a vendor tells it apart from the thing."""
        request = desk.vendor.status_request(ref)
        if request is None:
            return thing
        told = _shown(desk.vendor, request, ref, await desk.ask(request, POLLING))
        return thing if told is None or told.gone else replace(thing, state=told.state)

    async def _destroy(self, desk: Desk, meter: Meter) -> None:
        vendor, memory, now_ms = desk.vendor, self._watch.memory[desk.vendor.name], self._watch.clock.now_ms()
        tries = memory.destroying.setdefault(meter.id, Tries())
        if meter.ref is None or not tries.take(now_ms, PAUSES_S):
            return
        if tries.count > TRIES_BEFORE_TASK:
            detail = f"{meter.ref} at {vendor.name} is to be destroyed ({meter.reason}) and is still there"
            await self._watch.tasks.ask("not_destroyed", f"{vendor.name}/{meter.ref}", detail)
        accepted_ms = memory.accepted_ms.get(meter.id)
        if accepted_ms is None or has_passed(PROMISE_HOLDS_MS, accepted_ms, now_ms):
            answer = await desk.ask(vendor.destroy_request(meter.ref), URGENT)
            if is_success(answer.status) or answer.status in (CONFLICT, GONE):  # it is going already
                await self.promised(vendor, meter)
            else:
                log.error("meter.not_destroyed", meter_id=meter.id, vendor=vendor.name, status=answer.status)
        await self.confirm(desk, meter)

    async def _stop(self, desk: Desk, meter: Meter) -> None:
        """Stop what cannot be paid for; what does not stop is destroyed when its last paid period is over."""
        vendor, memory, now_ms = desk.vendor, self._watch.memory[desk.vendor.name], self._watch.clock.now_ms()
        request = None if meter.ref is None else vendor.stop_request(meter.ref)
        if request is None or not is_stopped_first(vendor, meter):
            return
        tries = memory.stopping.setdefault(meter.id, Tries())
        if not tries.take(now_ms, STOP_PAUSES_S):
            return
        answer = await desk.ask(request, URGENT)
        log.warning("meter.stopping", meter_id=meter.id, vendor=vendor.name, ref=meter.ref, status=answer.status)
        await self.confirm(desk, meter)
        current = self._watch.current(meter)
        unpaid = current is not None and current.held_until_ms <= self._watch.business.now_ms()
        if current is None or current.running_since_ms is None or current.unfunded_at_ms is None:
            memory.stopping.pop(meter.id, None)
        elif unpaid and now_ms - tries.first_ms >= STOP_FOR_S * 1000:
            await self._watch.store.post(MarkEnding(meter.id, UNFUNDED, now_ms))


def _shown(vendor: AccountVendor, request: UpstreamRequest, ref: str, answer: UpstreamResponse) -> Thing | None:
    match = vendor.match(request.method, request.target.partition("?")[0])
    if match is None or answer.rest is not None:
        return None
    return next((thing for thing in vendor.read(match, answer).things if thing.ref == ref), None)
