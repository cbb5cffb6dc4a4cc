"""Every vendor's plans in one list: asked for seldom, once for all who wait, and kept while a vendor does not answer.

Must not know what a vendor's catalogue looks like, or who reads.  Theory: a list of plans is for comparing, never for
paying (the vendor's word binds, when something is ordered), so an old one beats none as long as its age is told; and
reading costs an agent nothing, whatever the vendor asks for it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from gateway.core.pause import has_passed
from gateway.core.plan import Plan
from gateway.core.tariff import rate_of
from gateway.flow.servers.fetching import CatalogueSettings, Fetching
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.purse import Bought
from gateway.flow.servers.standing import Health, Standing
from gateway.server_ports import CatalogueAsk, ServerVendor

PAUSES_DOUBLED = 4  # a vendor that does not answer is asked ever more seldom, up to sixteen pauses apart
_DOUBLED_AT_MOST = 16  # so that the number stays small, however long a vendor is away

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stale:
    """A vendor whose plans are not what it says now, if it has any: since when (None: never read), and why."""

    vendor: str
    as_of_ms: int | None
    reason: str


@dataclass(slots=True)
class _Shelf:
    """What one vendor said last. `asked_at_ms` is when it was last tried, `why` why that failed ("": it did not).

    `unpayable`: it was tried when nothing could be paid there, for its chain had not been read.
    """

    answers: dict[str, Bought] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)  # optional targets that do not exist, and when that was said
    plans: tuple[Plan, ...] = ()
    as_of_ms: int | None = None
    asked_at_ms: int | None = None
    since_ms: int | None = None  # since when the last outcome has been the same
    why: str = ""
    failures: int = 0  # in a row
    unpayable: bool = False
    reading: asyncio.Task[None] | None = None


class Catalogue:
    """The plans of every vendor of the neutral API. Every method may be called from anywhere at any time."""

    def __init__(
        self,
        servers: Mapping[str, ServerVendor],
        *,
        fetching: Fetching,
        keeping: Keeping,
        standing: Standing,
        settings: CatalogueSettings | None = None,
    ) -> None:
        self.servers, self.standing = servers, standing
        self._fetching, self._keeping, self._settings = fetching, keeping, settings or CatalogueSettings()
        self._shelves = {name: _Shelf() for name in servers}

    # reading what is known

    async def plans(self) -> tuple[Plan, ...]:
        """Return every vendor's plans, as stated last, by vendor and id. Whoever has never answered is left out."""
        started = [self._start(name) for name in self._due()]
        first = [task for name, task in started if self._shelves[name].asked_at_ms is None]
        if first:
            await asyncio.wait(first, timeout=self._settings.first_wait_s)
        found = (plan for shelf in self._shelves.values() for plan in shelf.plans)
        return tuple(sorted(found, key=lambda plan: (plan.vendor, plan.id)))

    async def plan(self, key: str) -> Plan | None:
        """Return the plan with this key, "vendor/plan"."""
        return next((plan for plan in await self.plans() if plan.key == key), None)

    def stale(self) -> tuple[Stale, ...]:
        """Return the vendors whose plans are older than they should be, or missing."""
        found = []
        for name, shelf in sorted(self._shelves.items()):
            if shelf.why or shelf.asked_at_ms is None:
                found.append(Stale(name, shelf.as_of_ms, shelf.why or "it was not read yet"))
        return tuple(found)

    def too_old(self, plan: Plan) -> bool:
        """Say whether a plan was stated too long ago to be chosen: two answers of its vendor were missed, at least."""
        asked_every_s = max((self._ttl_s(ask) for ask in self.servers[plan.vendor].catalogue), default=0)
        since_ms = self._keeping.clock.now_ms() - 1000 * max(self._settings.old_after_s, 2 * asked_every_s)
        return plan.as_of_ms is not None and plan.as_of_ms < since_ms

    def health(self, vendor: str) -> Health:
        """Return how a vendor does, as far as it is known without asking it."""
        stop, shelf = self.standing.stop(vendor), self._shelves.get(vendor)
        if stop is not None:
            return Health("failing", stop.since_ms, stop.detail)
        if shelf is None or shelf.since_ms is None or not self.servers[vendor].catalogue:
            return Health("unknown", None, "nothing was asked of it lately")
        return Health("failing", shelf.since_ms, shelf.why) if shelf.why else Health("ok", shelf.since_ms)

    # asking

    async def refresh(self) -> None:
        """Ask every vendor whose answer is due, and wait for them: the body of a background loop."""
        started = [task for _, task in map(self._start, self._due())]
        if started:
            await asyncio.gather(*started)

    async def close(self) -> None:
        """End what is being asked."""
        running = [shelf.reading for shelf in self._shelves.values() if shelf.reading is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _due(self) -> list[str]:
        return [name for name, shelf in self._shelves.items() if shelf.reading is not None or self._is_due(name, shelf)]

    def _is_due(self, name: str, shelf: _Shelf) -> bool:
        now_ms = self._keeping.clock.now_ms()
        if shelf.asked_at_ms is None:
            return True
        if shelf.why and shelf.unpayable and self.standing.unread(name) is None:
            return True  # it was our own fault, as it is for a moment after every start, and it is over
        first_s = self._settings.retry_s if shelf.as_of_ms is not None else self._settings.first_retry_s
        pause_ms = 1000 * min(
            first_s * 2 ** min(shelf.failures - 1, _DOUBLED_AT_MOST), self._settings.retry_s * 2**PAUSES_DOUBLED
        )
        if shelf.why and not has_passed(pause_ms, shelf.asked_at_ms, now_ms):
            return False
        return any(self._is_old(shelf, ask, now_ms) for ask in self.servers[name].catalogue)

    def _is_old(self, shelf: _Shelf, ask: CatalogueAsk, now_ms: int) -> bool:
        known = shelf.answers.get(ask.target)
        at_ms = shelf.missing.get(ask.target) if known is None else known.at_ms
        ttl_ms = self._ttl_s(ask) * 1000
        return at_ms is None or has_passed(ttl_ms, at_ms, now_ms)

    def _ttl_s(self, ask: CatalogueAsk) -> int:
        return self._settings.paid_ttl_s if ask.paid else self._settings.free_ttl_s

    def _start(self, name: str) -> tuple[str, asyncio.Task[None]]:
        """Single flight: whoever needs a vendor that is being read waits for the same reading."""
        shelf = self._shelves[name]
        if shelf.reading is None:
            shelf.reading = asyncio.create_task(self._read(name, shelf), name=f"catalogue {name}")
            shelf.reading.add_done_callback(lambda task: self._done(name, task))
        return name, shelf.reading

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        self._shelves[name].reading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("catalogue.failed", vendor=name, error=type(error).__name__)

    async def _read(self, name: str, shelf: _Shelf) -> None:
        now_ms, why = self._keeping.clock.now_ms(), ""
        shelf.unpayable = self.standing.unread(name) is not None
        answers, missing = dict(shelf.answers), dict(shelf.missing)
        for ask in sorted(self.servers[name].catalogue, key=lambda each: each.optional):
            if not self._is_old(shelf, ask, now_ms) or (ask.optional and why):
                continue
            answer = await self._fetching.get(name, ask, first=ask.target not in answers)
            if answer.got is not None:
                answers[ask.target] = answer.got
            elif ask.optional and answer.absent:
                answers.pop(ask.target, None)
                missing[ask.target] = now_ms
                continue
            why = why or answer.why
        if all(ask.optional or ask.target in answers for ask in self.servers[name].catalogue):
            why = await self._take(name, shelf, answers) or why
        shelf.missing = missing
        self._outcome(name, shelf, why)

    async def _take(self, name: str, shelf: _Shelf, answers: dict[str, Bought]) -> str:
        """Put what the answers state on the shelf, or say why that cannot be done."""
        oldest_ms = min((bought.at_ms for bought in answers.values()), default=self._keeping.clock.now_ms())
        try:
            plans = self.servers[name].plans({target: each.body for target, each in answers.items()}, oldest_ms)
            check_plans(plans)
        except ValueError as error:
            detail = f"the catalogue of {name} cannot be read"
            await self._keeping.tasks.ask("catalogue_unreadable", name, f"{detail}: {error}")
            return detail
        shelf.answers, shelf.plans = answers, plans
        shelf.as_of_ms = oldest_ms if answers else None
        return ""

    def _outcome(self, name: str, shelf: _Shelf, why: str) -> None:
        now_ms = self._keeping.clock.now_ms()
        if shelf.since_ms is None or bool(shelf.why) != bool(why):
            shelf.since_ms = now_ms
            log.info("catalogue.read", vendor=name, plans=len(shelf.plans), why=why)
        shelf.asked_at_ms, shelf.why = now_ms, why
        shelf.failures = shelf.failures + 1 if why else 0


def check_plans(plans: Iterable[Plan]) -> None:
    """Raise ValueError for plans that nobody could compare: a price that is none, or two plans of one name."""
    seen = set[str]()
    for plan in plans:
        prices = (plan.hourly, plan.setup, plan.monthly, plan.term_price)
        for price in prices:
            if price is not None:
                rate_of(price)
        if plan.key in seen:
            raise ValueError(f"{plan.key} is stated twice")
        seen.add(plan.key)
