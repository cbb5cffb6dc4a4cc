"""Looking at servers: at each vendor's own pace, once for all who wait, and never more often than something may change.

Must not know vendors' words or what anybody wants to do with what is seen.  Theory: a look is asked for by whoever cares
(a change under way, an agent that waits, an end that is near), and all who care about one server share its looks; what a
look shows becomes a state in one place, `take`, whoever has made it.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog

from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.core.records import Meter, MeterState, Resource
from gateway.core.server import FINAL, ORDERED, Server, ServerState
from gateway.core.view import Step
from gateway.flow.servers.keeping import CHANGES_MAX, Keeping, bumped
from gateway.flow.servers.runner import Runner, Who
from gateway.flow.servers.sights import (
    BY_ITS_AGENT,
    CHANGING,
    WORD_MAX,
    Final,
    Moment,
    after_sight,
    ended,
    is_settled,
    place_of,
    when_gone,
    when_meter_ended,
)
from gateway.http.port import UpstreamError, is_success
from gateway.server_ports import Action, Feature, ServerVendor, Sight
from wallets.secret import Secret

ACCESS = "access"  # what the sealed ways into a server are sealed as
SETTLED = "settled"
BRISK_LOOKS = 40  # so many at the vendor's own pauses, while it is changing
SLOW_LOOK_S = 60.0  # and after them, as long as nobody waits
CALM_LOOK_S = 900.0  # of what stays as it is
END_LOOK_S = 60.0  # around the end of its paid time
END_NEAR_MS = 120_000
FAILED_PAUSES_S = (5.0, 15.0, 60.0, 300.0)
LOST_AFTER_S = 600.0  # a vendor that does not know it any more is asked again so much later before it counts as lost
PARALLEL_PER_VENDOR = 4
WAITS_PER_ACCOUNT = 50  # at once: each is a request that stays open
LIST_FROM = 3  # so many of one account at one vendor are looked at by one list

MeterOf = Callable[[str], Awaitable[Meter | None]]
"""Returns a meter as committed, also one that has ended."""
Waited = Literal["reached", "ended", "timeout"]

log = structlog.get_logger()


@dataclass(slots=True)
class _Pace:
    """How often a server was looked at since it last changed, and when it is due again (wall clock)."""

    looks: int = 0
    failures: int = 0
    due_ms: int = 0
    pause_ms: int = 0

    def rest(self, now_ms: int, pause_s: float) -> None:
        """Let it be for so long."""
        self.pause_ms = int(pause_s * 1000)
        self.due_ms = now_ms + self.pause_ms

    def is_due(self, now_ms: int) -> bool:
        """Say whether it is to be looked at again."""
        return is_over(self.due_ms, now_ms, self.pause_ms)


class Seeing:
    """Looks at every server that a vendor has. `sweep` is called again and again; jobs do that."""

    def __init__(
        self,
        keeping: Keeping,
        runner: Runner,
        vendors: Mapping[str, ServerVendor],
        meter_of: MeterOf,
        *,
        waits_per_account: int = WAITS_PER_ACCOUNT,
    ) -> None:
        self._keeping, self._runner, self._vendors, self._meter_of = keeping, runner, vendors, meter_of
        self._waits_per_account = waits_per_account
        self._looks: dict[str, asyncio.Task[Server]] = {}
        self._listing: set[tuple[str, str]] = set()  # (account, vendor) of the lists under way
        self._background: set[asyncio.Task[None]] = set()
        self._paces: dict[str, _Pace] = {}
        self._waiting: Counter[str] = Counter()
        self._waits: Counter[str] = Counter()  # how many requests of an account wait
        self._asked: Counter[tuple[str, str]] = Counter()  # things that we are asking about
        self._given_up: set[tuple[str, str]] = set()  # those that an agent's own call has ended
        self._denied_ms: dict[str, int] = {}  # when its vendor first did not know it
        self._seen_ms: dict[str, int] = {}  # when a look last showed it, changed or not
        self._moved: set[tuple[str, str]] = set()  # things of which the gateway's own watch, or a call, has news
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(PARALLEL_PER_VENDOR))
        keeping.view.listeners.add(self._hear)

    def as_of_ms(self, server: Server) -> int:
        """Return when a server was last seen, or known to be as it is."""
        return max(server.as_of_ms, self._seen_ms.get(server.id, 0))

    # a sight becomes a state

    async def take(self, server: Server, sight: Sight, *, payment_id: str | None = None) -> Server:
        """Take over what an answer shows of a server; return it as it is then.

        `payment_id`: the answer is its create's, and this is the payment. What is over stays as it is.
        """
        if sight.state in FINAL and server.ref is not None:
            return await self._gone(server, sight.state)
        self._denied_ms.pop(server.id, None)
        self._seen_ms[server.id] = self._keeping.clock.now_ms()
        if sight.state is ServerState.UNKNOWN:
            await self._ask_what_it_is(server, sight)

        def changed(before: Server) -> tuple[Server, str] | None:
            known = before if payment_id is None else replace(before, payment_id=payment_id)
            return after_sight(known, sight, self._moment(), self._merged(before, sight.access))

        detail = {"raw_state": sight.raw_state[:WORD_MAX]} if sight.raw_state else {}
        return await self.move(server.id, changed, **detail)

    async def finish(self, server: Server, final: Final) -> Server:
        """End a server; return it as it is then."""
        self._forget(server.id)
        return await self.move(server.id, lambda before: ended(before, final, self._moment()))

    async def move(
        self, server_id: str, compute: Callable[[Server], tuple[Server, str] | None], **detail: object
    ) -> Server:
        """Apply a change whose event depends on what it changes; the rest is as `Keeping.change`."""
        for _ in range(CHANGES_MAX):
            before = await self._keeping.latest(server_id)
            change = compute(before)
            if change is None:
                return before
            after = bumped(change[0], before.version)
            if await self._keeping.put(after, change[1], **detail):
                self._moved_on(before, after)
                return after
        raise Problem("internal", "this server changes faster than it can be changed")

    async def _gone(self, server: Server, said: ServerState) -> Server:
        """Its vendor has not got it: what that means is the meter's to say where there is one, and else takes two looks."""
        resource = await self._resource(server)
        if resource is not None and resource.meter_id in self._keeping.view.meters:
            return server
        final = when_gone(server, said, self._moment())
        if final is None and place_of(server) in self._given_up:
            final = BY_ITS_AGENT
        if final is None:
            now_ms = self._keeping.clock.now_ms()
            # By a clock that was set back it was never denied yet: the two looks begin anew.
            first_ms = self._denied_ms[server.id] = min(self._denied_ms.get(server.id, now_ms), now_ms)
            if now_ms - first_ms < LOST_AFTER_S * 1000:
                return server
            final = Final(ServerState.LOST, f"{server.vendor} does not know it any more, and nobody asked for that")
        return await self.finish(server, final)

    async def _ask_what_it_is(self, server: Server, sight: Sight) -> None:
        word = sight.raw_state[:WORD_MAX]
        detail = f"{server.vendor} calls the state of {server.ref} {word!r}, which its document does not name"
        await self._keeping.tasks.ask("unknown_state", f"{server.vendor}/{word}", detail)

    def _merged(self, server: Server, shown: Mapping[str, Secret[str]]) -> bytes | None:
        """Return all known ways in, sealed anew, or None where nothing new was shown."""
        known = self._access(server)
        said = {name: secret.reveal() for name, secret in shown.items()}
        if not said.items() - known.items():
            return None
        return self._keeping.seal(ACCESS, server.id, {**known, **said})

    def _access(self, server: Server) -> dict[str, str]:
        if server.sealed_access is None:
            return {}
        return {name: str(value) for name, value in self._keeping.open(ACCESS, server.id, server.sealed_access).items()}

    def _moved_on(self, before: Server, after: Server) -> None:
        if not after.open:
            self._forget(after.id)
        elif after.state is not before.state:
            self._paces.pop(after.id, None)

    # looking

    async def look(self, server_id: str) -> Server:
        """Look at a server and return it as it is then. A look under way serves everybody who asks meanwhile.

        Raises Problem where its vendor does not answer.
        """
        task = self._looks.get(server_id)
        if task is None:
            task = asyncio.create_task(self._look(server_id), name=f"look {server_id}")
            self._looks[server_id] = task
            task.add_done_callback(lambda done: self._looked(server_id, done))
        return await asyncio.shield(task)

    async def _look(self, server_id: str) -> Server:
        server = await self._keeping.latest(server_id)
        if not server.open or server.ref is None:
            return server
        if self._vendors[server.vendor].features.followed:
            resource = await self._resource(server)
            if resource is not None:
                return await self._followed(server, resource)
        return await self._show(server)

    async def _followed(self, server: Server, resource: Resource) -> Server:
        """Read what the gateway's own watch knows, and ask only for what it does not tell."""
        if resource.meter_id is not None and resource.meter_id not in self._keeping.view.meters:
            meter = await self._meter_of(resource.meter_id)
            if meter is not None and meter.state is MeterState.ENDED:
                return await self.finish(server, when_meter_ended(server, meter))
        state = _word(resource.state)
        after, shown = server, False
        if state is ServerState.RUNNING and server.ready_at_ms is None:
            # A machine may run before anybody can get in: then what shows the server says so, and the watch does not.
            seen, shown = await self._sight(server), True
            after = await self.take(await self._keeping.latest(server.id), seen)
            if seen.state is not None and seen.state is not ServerState.RUNNING:
                return after
        begins = server.state in ORDERED or server.state is ServerState.PROVISIONING
        if begins and state is not None and state not in FINAL:
            sight = Sight(server.ref or "", state, resource.state, expires_at_ms=resource.expires_at_ms)
            after = await self.take(after, sight)
        if shown or not after.open or after.state in {ServerState.PROVISIONING, ServerState.DESTROYING}:
            return after
        return await self._show(after)  # of what is there that watch asks seldom, and drops what it does not understand

    async def _show(self, server: Server) -> Server:
        resource = await self._resource(server)
        if resource is not None and _is_given_up(resource) and server.id not in self._denied_ms:
            self._given_up.add(place_of(server))  # said before we ask: by the answer to its agent's own call
        seen = await self._sight(server)
        return await self.take(await self._keeping.latest(server.id), seen)

    async def _sight(self, server: Server) -> Sight:
        features = self._vendors[server.vendor].features
        sight = await self._ask(server, Action.SHOW)
        if features.state_apart and sight.state is None:
            told = await self._ask(server, Action.STATE)
            return replace(sight, state=told.state, raw_state=told.raw_state)
        return sight

    async def _ask(self, server: Server, action: Action) -> Sight:
        vendor, ref = self._vendors[server.vendor], server.ref or ""
        access = {name: Secret(value) for name, value in self._access(server).items()}
        async with self._gates[vendor.name]:
            ask = vendor.ask(action, ref, access)
            with self._asking([server]):
                reply = await self._runner.ask_whole(self._who(server), vendor.name, ask)
        if reply.delivered is not None:
            await reply.delivered()
        heard = vendor.hear(action, ref, reply.status, reply.body)
        if heard.server is None:
            raise Problem("vendor_unreachable", f"{vendor.name} answers {reply.status}, which tells nothing of it")
        return heard.server

    async def _list(self, vendor: ServerVendor, servers: list[Server]) -> None:
        """Look at several servers of one account with one request; what it does not show is looked at by itself."""
        ask = vendor.list_ask()
        sights: tuple[Sight, ...] | None = None
        if ask is not None:
            async with self._gates[vendor.name]:
                with self._asking(servers):
                    reply = await self._runner.ask_whole(self._who(servers[0]), vendor.name, ask)
            sights = vendor.listed(reply.body) if is_success(reply.status) else None
        shown = {sight.ref: sight for sight in sights or ()}
        for server in servers:
            sight = shown.get(server.ref or "")
            if sight is None or sight.state in FINAL or (sight.state is None and server.state in CHANGING):
                self._start(server)
            else:
                await self.take(await self._keeping.latest(server.id), sight)
                self._paced(server.id)

    @contextmanager
    def _asking(self, servers: Iterable[Server]) -> Iterator[None]:
        """What the book hears of these meanwhile is what the vendor says of itself, and no agent's doing."""
        places = Counter(place_of(server) for server in servers)
        self._asked += places
        try:
            yield
        finally:
            self._asked -= places

    def _who(self, server: Server) -> Who:
        return Who(self._keeping.view.keys_by_id[server.key_id], self._keeping.new_id("req"))

    async def _resource(self, server: Server) -> Resource | None:
        return None if server.ref is None else await self._keeping.store.resource(server.vendor, server.ref)

    def _moment(self) -> Moment:
        return Moment(self._keeping.clock.now_ms(), self._keeping.business.now_ms())

    # pace

    async def sweep(self) -> None:
        """Start the looks that are due; they go on by themselves, and `drain` waits for them."""
        now_ms, moved = self._keeping.clock.now_ms(), self._moved
        self._moved = set()
        servers = [s for s in self._keeping.view.servers.values() if s.ref is not None and s.vendor in self._vendors]
        known = {server.id for server in servers}
        self._given_up &= {place_of(server) for server in servers}
        for server_id in self._paces.keys() - known:
            self._forget(server_id)
        due: defaultdict[tuple[str, str], list[Server]] = defaultdict(list)
        for server in servers:
            pace = self._paces.get(server.id)
            if pace is None:
                pace = self._paces[server.id] = _Pace()
                pace.rest(now_ms, self._pause_s(server, 0))
            news = (server.vendor, server.ref or "") in moved
            if (news or pace.is_due(now_ms)) and server.id not in self._looks:
                due[server.account_id, server.vendor].append(server)
        for place, group in due.items():
            vendor = self._vendors[place[1]]
            together = len(group) >= LIST_FROM and not vendor.features.followed and vendor.features.can(Feature.LIST)
            if together and vendor.list_ask() is not None:
                if place not in self._listing:
                    self._start_list(place, vendor, group)
            else:
                for server in group:
                    self._start(server)

    async def drain(self, timeout_s: float) -> None:
        """Wait for looks under way, at most that long."""
        ends_s = asyncio.get_running_loop().time() + timeout_s
        while pending := {*self._looks.values(), *self._background}:
            left_s = ends_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            await asyncio.wait(pending, timeout=left_s)

    def hurry(self, server_id: str) -> None:
        """Look at a server soon, and again at its vendor's pace: something is about to change."""
        self._paces[server_id] = _Pace()

    async def wait(self, account_id: str, server_id: str, wanted: str, timeout_s: float) -> tuple[Server, Waited]:
        """Wait until an account's server is in a state, or "settled", or has ended; return it as it is then, and which.

        Raises Problem: not_found, too_many_calls. Its looks are as frequent as its vendor advises while somebody waits.
        """
        server = await self._keeping.server(account_id, server_id)
        if not (server.open and not _is(server, wanted)):
            return server, "reached" if _is(server, wanted) else "ended"

        def done() -> bool:
            now = self._keeping.view.servers.get(server_id)
            return now is None or not now.open or _is(now, wanted)

        self.require_room(account_id)
        counted = ((self._waits, account_id), (self._waiting, server_id))
        for counter, name in counted:
            counter[name] += 1
        self._pull_forward(server)
        try:
            await self._keeping.until(done, timeout_s)
        finally:
            for counter, name in counted:
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]
        server = await self._keeping.latest(server_id)
        return server, "reached" if _is(server, wanted) else "timeout" if server.open else "ended"

    def require_room(self, account_id: str) -> None:
        """Raise Problem("too_many_calls") where an account has as many waiting requests as it may have."""
        if self._waits[account_id] >= self._waits_per_account:
            raise Problem(
                "too_many_calls", f"an account has at most {self._waits_per_account} waiting requests at once"
            )

    def _pull_forward(self, server: Server) -> None:
        """Somebody waits from now on: the next look is no later than it would have been had they always waited."""
        pace = self._paces.get(server.id)
        if pace is not None and not pace.failures:
            soon_ms = self._keeping.clock.now_ms() + int(self._pause_s(server, pace.looks) * 1000)
            pace.due_ms = min(pace.due_ms, soon_ms)

    def _pause_s(self, server: Server, looks: int) -> float:
        """Return how long to wait before the next look, after so many since it last changed."""
        features = self._vendors[server.vendor].features
        pauses_s, moves = features.ready_pauses_s, not is_settled(server) or server.state is ServerState.UNKNOWN
        silent = server.state is ServerState.RUNNING and not server.address
        waited = server.id in self._waiting
        if waited or (looks < BRISK_LOOKS and (moves or silent)):
            return pauses_s[min(looks, len(pauses_s) - 1)]
        if server.id in self._denied_ms:
            return LOST_AFTER_S / 4
        if moves:
            return SLOW_LOOK_S
        if server.expires_at_ms is None:
            return CALM_LOOK_S
        left_ms = server.expires_at_ms - self._keeping.business.now_ms()
        return END_LOOK_S if left_ms <= END_NEAR_MS else min(CALM_LOOK_S, left_ms / 1000)

    def _paced(self, server_id: str, *, failed: bool = False) -> None:
        """A look has been made: say when the next is due."""
        server = self._keeping.view.servers.get(server_id)
        if server is None or server.ref is None or not server.open:
            self._forget(server_id)
            return
        pace = self._paces.setdefault(server_id, _Pace())
        if failed:
            pause_s = FAILED_PAUSES_S[min(pace.failures, len(FAILED_PAUSES_S) - 1)]
            pace.failures += 1
        else:
            pace.looks, pace.failures = pace.looks + 1, 0
            pause_s = self._pause_s(server, pace.looks)
        pace.rest(self._keeping.clock.now_ms(), pause_s)

    def _forget(self, server_id: str) -> None:
        for memory in (self._paces, self._denied_ms, self._seen_ms):
            memory.pop(server_id, None)

    # what goes on by itself

    def _start(self, server: Server) -> None:
        self._later(self._quietly(self.look(server.id), server.id))

    def _start_list(self, place: tuple[str, str], vendor: ServerVendor, servers: list[Server]) -> None:
        self._listing.add(place)
        ids = [server.id for server in servers]
        task = self._later(self._quietly(self._list(vendor, servers), *ids))
        task.add_done_callback(lambda _: self._listing.discard(place))

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._forget_task)
        return task

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("look.failed", error=type(error).__name__, detail=str(error)[:200])

    async def _quietly(self, work: Coroutine[Any, Any, object], *server_ids: str) -> None:
        """Look where nobody waits for the answer: what failed is tried again later."""
        try:
            await work
        except (Problem, UpstreamError) as error:
            log.info("server.not_seen", servers=list(server_ids), error=str(error)[:200])
            for server_id in server_ids:
                self._paced(server_id, failed=True)

    def _looked(self, server_id: str, done: asyncio.Task[Server]) -> None:
        self._looks.pop(server_id, None)
        if not done.cancelled() and done.exception() is None:
            self._paced(server_id)

    def _hear(self, step: Step) -> None:
        """Note of which things the book has news: a state that our own watch saw, or a meter that has ended."""
        self._moved.update(step.rows.resources)
        for place, resource in step.rows.resources.items():
            if _is_given_up(resource) and not self._asked[place]:
                self._given_up.add(place)
        for meter in step.rows.meters.values():
            if meter.state is MeterState.ENDED and meter.ref is not None:
                self._moved.add((meter.vendor, meter.ref))


def _is_given_up(resource: Resource) -> bool:
    return resource.meter_id is None and resource.state == ServerState.DESTROYED.value


def _is(server: Server, wanted: str) -> bool:
    return is_settled(server) if wanted == SETTLED else server.state.value == wanted


def _word(state: str) -> ServerState | None:
    """Return the state that a resource's word is; None for a word that is none of ours, or says nothing."""
    try:
        known = ServerState(state)
    except ValueError:
        return None
    return None if known is ServerState.UNKNOWN else known
