"""Getting one part of a vendor's catalogue: through the house's account, with the house's proof, or for the house's money.

Must not know what it says or how long it is kept.  Theory: whether an answer is free, wants to know who asks or wants to
be paid is the vendor's, and ends here: whoever reads plans sees an answer with its age, or a reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.commands import ObservePrice
from gateway.core.problems import Problem
from gateway.flow.house import House
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.purse import OK, Bought, Purse
from gateway.flow.servers.runner import Runner
from gateway.ports import Vendor
from gateway.server_ports import Ask, CatalogueAsk

GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class CatalogueSettings:
    """How often vendors are asked. `paid_budget_base` (USD) is the most that one vendor's paid catalogue costs a day.

    After a failure nothing is asked for `retry_s` (`first_retry_s` where nothing was read yet), then for longer. Whoever
    comes before a vendor was ever read waits `first_wait_s` for it. Plans that were stated longer than `old_after_s` ago
    are shown, and no longer chosen. After a start, what was bought in the last `kept_days` stands until something newer
    can be bought.
    """

    free_ttl_s: int = 300
    paid_ttl_s: int = 6 * 3600
    paid_budget_base: int = 100_000
    retry_s: int = 60
    first_retry_s: int = 5
    first_wait_s: float = 5.0
    old_after_s: int = 86_400
    kept_days: int = 7


@dataclass(frozen=True, slots=True)
class Fetched:
    """What there is: an answer, or none, and why it is not a new one. `absent`: the vendor says that there is none."""

    got: Bought | None
    why: str = ""
    absent: bool = False


class Fetching:
    """Asks for catalogues. `paid` are the vendors that answer with a 402, by name."""

    def __init__(
        self,
        *,
        runner: Runner,
        house: House,
        paid: Mapping[str, Vendor],
        keeping: Keeping,
        settings: CatalogueSettings,
    ) -> None:
        self._runner, self._house, self._paid, self._keeping = runner, house, paid, keeping
        self._purse = Purse(runner, keeping, settings.paid_budget_base, settings.paid_ttl_s)
        self._kept_days = settings.kept_days

    async def get(self, vendor: str, ask: CatalogueAsk, *, first: bool) -> Fetched:
        """Ask for one target. `first`: nothing of it is known since the start."""
        try:
            if ask.paid:
                return Fetched(await self._purse.buy(vendor, Ask("GET", ask.target)))
            return Fetched(await (self._ask_house(vendor, ask) if vendor in self._paid else self._ask(vendor, ask)))
        except Problem as problem:
            old = await self._bought_before(vendor, ask) if ask.paid and first else None
            return Fetched(old, problem.detail, problem.code == "not_found")

    async def _ask(self, vendor: str, ask: CatalogueAsk) -> Bought:
        reply = await self._runner.ask_whole(await self._purse.who(vendor), vendor, Ask("GET", ask.target))
        if reply.status != OK:
            raise _unanswered(vendor, reply.status)
        return Bought(reply.body, self._keeping.clock.now_ms())

    async def _ask_house(self, name: str, ask: CatalogueAsk) -> Bought:
        """Ask with a proof where one is wanted, and take over the prices: orders are held against them (P8)."""
        vendor = self._paid[name]
        answer = await self._house.ask(vendor, ask.target, self._keeping.new_id("req"))
        match = vendor.match("GET", ask.target.partition("?")[0])
        if answer is None or match is None:
            raise Problem("vendor_unreachable", f"{name} does not tell its catalogue now")
        if answer.status != OK:
            raise _unanswered(name, answer.status)
        now_ms = self._keeping.clock.now_ms()
        for item, amount_base in vendor.read(match, answer, _hide).prices:
            await self._keeping.store.post(ObservePrice(name, item, amount_base, now_ms))
        return Bought(answer.body, now_ms)

    async def _bought_before(self, vendor: str, ask: CatalogueAsk) -> Bought | None:
        try:
            return await self._purse.kept(vendor, Ask("GET", ask.target), self._kept_days)
        except Problem:  # what was bought is no catalogue
            return None


def _unanswered(vendor: str, status: int) -> Problem:
    code = "not_found" if status in GONE else "vendor_unreachable"
    return Problem(code, f"{vendor} answered {status} where its catalogue was asked for")


def _hide(_: str) -> str:
    return "***"
