"""Renewals and fleets on real parts before a scripted shop that leases servers by the month, and one that can destroy them.

A lease is renewed at /priced/renew/{ref} and destroyed at /free/destroy/{ref}; until when it is paid, /free/{ref} tells.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.core.plan import Billing, Plan, Source
from gateway.core.server import Server, ServerState
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.fleets import Fleets
from gateway.flow.servers.renewal_facts import Gathering
from gateway.flow.servers.renewing import Renewing
from gateway.flow.servers.runner import Runner
from gateway.http.port import UpstreamResponse
from gateway.server_ports import Action, Ask, Feature, Features, Heard, RenewRule
from tests.unit.gateway.flow.order_desk import NOTHING, Desk, Rental, desk_on, features, told
from tests.unit.gateway.flow.spend_bed import NOW_MS, Bed, opened
from wallets.secret import Secret

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
TERM_S = 30 * 86_400
REF = "box-1"
SLOW = RenewRule(0, 1, 12, 5 * 86_400, slow=True, window_s=2 * 86_400, retry_before_s=86_400)
FAST = RenewRule(60, 1, 100_000, 1800, least_base=10_000, retry_before_s=600)


class Lease(Rental):
    """A shop whose servers can be renewed, and destroyed where `destroys` says so."""

    def __init__(self, name: str, rule: RenewRule, *, destroys: bool) -> None:
        does: dict[Feature, Any] = dict(features().does)
        does |= {Feature.RENEW: "yes", Feature.DESTROY: "yes" if destroys else "no"}
        billing = Billing.TERM if rule.slow else Billing.MINUTES
        super().__init__(name, Features(does, billing, 3600, 120, "nothing", "at_once", renew=rule))

    def ask(
        self, action: Action, ref: str, access: Mapping[str, Secret[str]], parameters: Mapping[str, Any] = NOTHING
    ) -> Ask:
        """The requests that renew, destroy and show."""
        if action is Action.RENEW:
            return Ask("POST", f"/priced/renew/{ref}", json.dumps(dict(parameters)).encode())
        if action is Action.DESTROY:
            return Ask("POST", f"/free/destroy/{ref}")
        return super().ask(action, ref, access, parameters)

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """What an answer says; a destroyed server is gone at once."""
        if action is Action.DESTROY:
            return Heard(status == 200)
        return super().hear(action, ref, status, body)


@dataclass
class Prices:
    """The catalogue: one plan for every server."""

    slow: bool
    known: bool = True

    async def plan(self, key: str) -> Plan | None:
        """The plan, where it is stated now."""
        if not self.known:
            return None
        plan = Plan(key.partition("/")[0], "small", "Small", Billing.MINUTES, "0.01", Source.API, NOW_MS)
        term = {"billing": Billing.TERM, "term_price": "0.25", "term_s": TERM_S}
        return replace(plan, **term) if self.slow else plan  # type: ignore[arg-type]


@dataclass
class Endings:
    """Ends servers at once, and remembers which and why."""

    desk: Desk
    ended: list[tuple[str, str]] = field(default_factory=list)

    async def end(self, server_id: str, reason: str) -> Server:
        """It is destroyed."""
        self.ended.append((server_id, reason))

        def gone(now: Server) -> Server:
            return replace(now, state=ServerState.DESTROYED, reason=reason, ended_at_ms=self.desk.bed.clock.ms)

        return await self.desk.keeping.change(server_id, gone, "destroyed")


@dataclass
class Leases:
    """Everything, running."""

    desk: Desk
    prices: Prices
    endings: Endings
    renewing: Renewing
    fleets: Fleets

    @property
    def bed(self) -> Bed:
        """What it all stands on."""
        return self.desk.bed

    async def leased(self, left_ms: int, **changes: Any) -> Server:
        """Return a server that runs, is paid for so much longer, and is to be renewed."""
        self.desk.answers("shop", self.box(left_ms))
        self.shows(left_ms)
        server = await self.desk.order(auto_renew=True)
        (order,) = self.bed.open
        await self.bed.settle(order)
        if changes:
            server = await self.change(server, **changes)
        return await self.desk.now(server)

    def box(self, left_ms: int, ref: str = REF) -> UpstreamResponse:
        """Return what the shop says of a server that runs and is paid for so much longer than it is now."""
        return told(server=ref, state="running", address="192.0.2.1", expires_at_ms=self.bed.clock.ms + left_ms)

    def shows(self, left_ms: int, ref: str = REF) -> None:
        """Let the shop show a server so from now on."""
        self.desk.shows(ref, self.box(left_ms, ref))

    def renews(self) -> None:
        """Let the shop take renewals: the end does not move yet."""
        self.desk.answers("shop", told(status="renewing"))

    async def change(self, server: Server, **changes: Any) -> Server:
        """Change a server as its agent does."""
        return await self.desk.keeping.change(server.id, lambda now: replace(now, **changes), "changed")

    async def sweep(self, later_ms: int = 0) -> None:
        """Let time pass, and the planner look."""
        self.bed.clock.ms += later_ms
        await self.renewing.sweep()
        await self.renewing.drain(5.0)
        await self.bed.answers.drain(5.0)

    async def now(self, server: Server) -> Server:
        """A server as it is committed."""
        return await self.desk.keeping.latest(server.id)

    async def told(self, server: Server) -> list[tuple[str, Any]]:
        """What a server's agent was told after it ran, in order: each event with its warning."""
        rows = await self.bed.store.query("SELECT kind, body FROM journal WHERE kind LIKE 'server.%' ORDER BY seq")
        bodies = [(row["kind"].partition(".")[2], json.loads(row["body"])) for row in rows]
        ours = [(kind, body.get("warning")) for kind, body in bodies if body["server_id"] == server.id]
        return [event for event in ours[2:] if event[0] != "changed"]

    @property
    def renewed(self) -> list[bytes]:
        """The bodies of the renewals that were paid for, in order."""
        return [body for _, body in self.desk.told.sold[1:]]


@contextlib.asynccontextmanager
async def leases_opened(directory: Path, rule: RenewRule = SLOW, *, destroys: bool = False) -> AsyncIterator[Leases]:
    """Start everything on a store in this directory."""
    async with opened(directory) as bed:
        leases = leases_on(bed, rule, destroys=destroys)
        yield leases
        await leases.renewing.drain(5.0)
        await leases.fleets.drain(5.0)
        await leases.desk.ordering.drain(5.0)
        await leases.desk.seeing.drain(5.0)


def leases_on(bed: Bed, rule: RenewRule = SLOW, *, destroys: bool = False) -> Leases:
    """Return everything on running parts: another one on the same parts is the next process."""
    desk, prices = desk_on(bed), Prices(rule.slow)
    for name in desk.rentals:
        desk.rentals[name] = Lease(name, rule, destroys=destroys)
    doing = Doing(desk.keeping, Runner(bed.spend, None, bed.vendors, {}), desk.rentals)
    endings = Endings(desk)
    gathering = Gathering(keeping=desk.keeping, vendors=desk.rentals, prices=prices, periods={})
    renewing = Renewing(doing=doing, seeing=desk.seeing, ending=endings, gathering=gathering)
    fleets = Fleets(keeping=desk.keeping, ordering=desk.ordering, ending=endings, vendors=desk.rentals, per_account=3)
    return Leases(desk, prices, endings, renewing, fleets)
