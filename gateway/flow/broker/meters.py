"""What runs at account vendors, followed to its end: periods, states, warnings, destruction, and orders that got lost.

Must not know any vendor's words.  Theory: a thing is charged from its creation to its confirmed destruction, period by
period, each held before it begins; whatever cannot be held is ended before it costs the house, and a destruction is asked
for until it is confirmed, because nothing else stops the vendor's charges (P2, P5, P12: all of it is in the book).
"""

from collections.abc import Mapping

import structlog

from gateway.account_ports import Thing
from gateway.core.commands import MarkEnding
from gateway.core.pause import has_passed
from gateway.core.problems import Problem
from gateway.core.records import Meter, Resource
from gateway.flow.answers import Answers
from gateway.flow.broker.desk import Desk
from gateway.flow.broker.endings import POLLING, Endings
from gateway.flow.broker.events import Events
from gateway.flow.broker.fence import Named
from gateway.flow.broker.looking import Looking
from gateway.flow.broker.lost import LostOrders
from gateway.flow.broker.order import Orders
from gateway.flow.broker.periods import Periods
from gateway.flow.broker.watch import UNKNOWN_STATE, Watch
from gateway.http.port import UpstreamError
from gateway.ports import Clock, Entropy, Store

__all__ = ["UNKNOWN_STATE", "Meters"]

BALANCE_EVERY_S = 300.0

log = structlog.get_logger()


class Meters:
    """Everything that is charged at every account vendor; jobs call `keep` and `follow` again and again.

    They are two, so that what agents owe never waits for a vendor that does not answer.
    """

    def __init__(
        self,
        *,
        store: Store,
        desks: Mapping[str, Desk],
        orders: Orders,
        answers: Answers,
        clock: Clock,
        business: Clock,
        entropy: Entropy,
    ) -> None:
        self._desks, self._answers = desks, answers
        self._watch = Watch(desks, store=store, clock=clock, business=business, entropy=entropy)
        self._periods, self._endings = Periods(self._watch), Endings(self._watch)
        self._events = Events(self._watch, self._endings)
        self._looking = Looking(self._watch, self._endings, LostOrders(self._watch, orders, answers))

    async def keep(self, vendor_name: str) -> None:
        """Settle periods that are over, hold those to come, and warn; asks no vendor anything."""
        await self._periods.keep(self._desks[vendor_name].vendor)

    async def follow(self, vendor_name: str) -> None:
        """Look into events, stop, destroy, look and ask for the balance, whatever is due. What was done stays done.

        Raises UpstreamError or Problem, the first that came up, after everything that was due has been tried.
        """
        desk = self._desks[vendor_name]
        failures = await self._events.follow(desk)
        failures += await self._endings.follow(desk)
        try:
            if self._looking.is_due(vendor_name):
                await self._looking.look(desk)
        except (UpstreamError, Problem) as error:
            failures.append(error)
        try:
            await self._balance(desk)
        except (UpstreamError, Problem) as error:
            failures.append(error)
        if failures:
            raise failures[0]

    async def sweep(self, vendor_name: str) -> None:
        """Do both, the money first. Raises as `follow`."""
        await self.keep(vendor_name)
        await self.follow(vendor_name)

    # asked for by the broker

    def token_of(self, named: Named) -> str:
        """Return the mark of the one server that a request names, "" where there is none."""
        meter = self._meter(named.only("server"))
        return "" if meter is None else meter.token

    async def end(self, server: Resource, reason: str, *, accepted: bool = False) -> None:
        """Its destruction is wanted; `accepted`: the vendor has said that it is on its way."""
        meter, desk = self._meter(server), self._desks[server.vendor]
        if meter is None:
            return
        await self._watch.store.post(MarkEnding(meter.id, reason, self._watch.clock.now_ms()))
        if accepted:
            await self._endings.promised(desk.vendor, meter)
            self._answers.later(self._endings.confirm_quietly(desk, meter))

    async def saw(self, server: Resource, thing: Thing) -> None:
        """Take over what an agent's own call has just shown of its thing."""
        meter = self._meter(server)
        if meter is None:
            return
        self._looking.hurry(meter)  # it may have been told to stop, or to start
        if not thing.gone:  # that an answer has not got it proves nothing: the lists tell
            await self._watch.observe(meter, thing, self._watch.business.now_ms())

    async def end_now(self, vendor_name: str) -> None:
        """Ask for the destructions that are due without waiting for the next sweep, which asks again for what failed."""
        for error in await self._endings.follow(self._desks[vendor_name]):
            log.info("meter.not_ended_yet", vendor=vendor_name, error=type(error).__name__)

    async def ready_to_run(self, server: Resource) -> None:
        """Hold a period for a thing that is about to be charged again. Raises Problem("insufficient_balance")."""
        meter = self._meter(server)
        if meter is not None:
            await self._periods.ready_to_run(self._desks[server.vendor].vendor, meter)

    def _meter(self, thing: Resource | None) -> Meter | None:
        return None if thing is None or thing.meter_id is None else self._watch.view.meters.get(thing.meter_id)

    # the operator's balance

    async def _balance(self, desk: Desk) -> None:
        memory, now_ms = self._watch.memory[desk.vendor.name], self._watch.clock.now_ms()
        request = desk.vendor.balance_request()
        every_ms = int(BALANCE_EVERY_S * 1000)
        due = memory.balance_ms is None or has_passed(every_ms, memory.balance_ms, now_ms)
        if request is not None and due:
            memory.balance_ms = now_ms
            await desk.ask(request, POLLING)  # the desk reads it, as from any answer
