"""The gateway's own questions at a vendor that wants to know who asks, and what it needs to know before it pays.

Must not know what the answers mean: the vendor's module reads them.  Theory: a price that nobody has asked for lately is
no price to hold a challenge against, so the catalogue is read when a quote needs it; once for all who wait, and each
proof that it takes is on record like an agent's, as the house's.
"""

import asyncio
from collections import defaultdict

import structlog

from gateway.core.apikeys import READ
from gateway.core.commands import ObservePrice
from gateway.core.pause import has_passed
from gateway.core.problems import Problem
from gateway.core.records import HOUSE, ApiKey, Resource
from gateway.flow.asking import ask_vendor, read_asked
from gateway.flow.call import Call
from gateway.flow.prove import PAYMENT_REQUIRED, Prover
from gateway.flow.quote import is_fresh
from gateway.flow.sharing import is_news, update_of
from gateway.http.port import Upstream, UpstreamRequest, UpstreamResponse
from gateway.ports import Clock, Reading, Store, Vendor
from gateway.rails.problems import ChallengeError

BUFFER_BYTES = 1024 * 1024
PAUSE_MS = 30_000
OWN_KEY = ApiKey("", HOUSE, b"", "the gateway itself", (READ,), (), 0)

log = structlog.get_logger()


class House:
    """Asks free routes for the gateway itself. Single flight: whoever asks the same meanwhile gets the same answer."""

    def __init__(self, *, store: Store, upstream: Upstream, prover: Prover, clock: Clock) -> None:
        self._store, self._upstream, self._prover, self._clock = store, upstream, prover, clock
        self._reading: dict[tuple[str, str], asyncio.Task[Reading | None]] = {}
        self._failed_ms: dict[tuple[str, str], int] = {}

    async def ask(self, vendor: Vendor, target: str, request_id: str) -> UpstreamResponse | None:
        """Return the answer of a free route (GET), with a proof where it wants one; None where there is none to be had.

        `request_id` is of the agent's request that it is asked for.
        """
        match = vendor.match("GET", target.partition("?")[0])
        if match is None:
            raise AssertionError(f"{vendor.name} names a target that it does not declare")
        call = Call(OWN_KEY, request_id, vendor, match, "GET", target, (), b"")
        request = UpstreamRequest("GET", target, (), b"", BUFFER_BYTES, may_resend=match.route.safe)
        try:
            answer = await ask_vendor(self._upstream, call, request)
            if answer.status == PAYMENT_REQUIRED:
                asked = await read_asked(answer, self._clock.now_ms())
                if asked is None or not match.route.proof or not asked.proofs:
                    return None
                answer = await self._prover.answer(call, asked, request)
        except (Problem, ChallengeError) as problem:
            log.warning("house.not_answered", vendor=vendor.name, route=match.route.name, why=str(problem))
            return None
        if answer.rest is not None:
            await answer.rest.close()
            return None
        return answer

    async def ready(self, call: Call, resource: Resource | None) -> Resource | None:
        """Learn what a quote of this call needs: the resource's plan and prices that are fresh. Return the resource.

        What cannot be learned is left as it is: the quote decides on what was approved, or refuses.
        """
        vendor = call.vendor
        if vendor.shared is None:
            return resource
        if resource is not None and not resource.plan:
            target = vendor.shared.show_target(resource.kind, resource.ref)
            if target is not None and await self._read(vendor, target, call.request_id) is not None:
                resource = await self._store.resource(vendor.name, resource.ref) or resource
        item = vendor.item(call.match, call.body, resource)
        needed: defaultdict[str, list[str]] = defaultdict(list)
        for name, _ in () if item is None else item.parts:
            if name in vendor.shared.catalogue:
                needed[vendor.shared.catalogue[name]].append(name)
        for target, names in needed.items():
            await self._refresh(call, target, names)
        return resource

    async def _refresh(self, call: Call, target: str, names: list[str]) -> None:
        """Read a catalogue if a price of it is stale. One that does not help is left alone for a while."""
        vendor, place = call.vendor, (call.vendor.name, target)
        rested = has_passed(PAUSE_MS, self._failed_ms.get(place, 0), self._clock.now_ms())
        if self._are_fresh(vendor, names) or not rested:
            return
        await self._read(vendor, target, call.request_id)
        if self._are_fresh(vendor, names):
            self._failed_ms.pop(place, None)
        else:
            self._failed_ms[place] = self._clock.now_ms()

    def _are_fresh(self, vendor: Vendor, names: list[str]) -> bool:
        prices, ttl_s, now_ms = self._store.view.prices, vendor.terms.terms_ttl_s, self._clock.now_ms()
        return all(is_fresh(prices.get((vendor.name, name)), ttl_s, now_ms) for name in names)

    async def _read(self, vendor: Vendor, target: str, request_id: str) -> Reading | None:
        place = (vendor.name, target)
        running = self._reading.get(place)
        if running is None:
            running = asyncio.create_task(self._take(vendor, target, request_id), name=f"house {vendor.name}")
            self._reading[place] = running
            running.add_done_callback(lambda _: self._reading.pop(place, None))
        return await asyncio.shield(running)

    async def _take(self, vendor: Vendor, target: str, request_id: str) -> Reading | None:
        answer = await self.ask(vendor, target, request_id)
        match = vendor.match("GET", target)
        if answer is None or match is None:
            return None
        reading = vendor.read(match, answer, _hide)
        now_ms = self._clock.now_ms()
        for item, amount_base in reading.prices:
            await self._store.post(ObservePrice(vendor.name, item, amount_base, now_ms))
        for seen in reading.seen:
            known = await self._store.resource(vendor.name, seen.ref)
            if known is not None and is_news(seen, known):
                await self._store.post(update_of(vendor.name, seen, now_ms))
        return reading


def _hide(_: str) -> str:
    return "***"
