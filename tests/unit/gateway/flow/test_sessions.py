"""Sessions: one login for all, replaced before it ends, never a storm, and the operator told what only he can mend."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.commands import CloseTask
from gateway.core.login import AccessToken, Credentials
from gateway.core.problems import Problem
from gateway.core.rates import AUTH, CALLS, Rate
from gateway.flow.pace import Pace
from gateway.flow.sessions import Headers, Session
from gateway.http.port import BodyStream, NotSent, UpstreamError, UpstreamRequest, UpstreamResponse
from tests.fakes.clock import SeededEntropy, VirtualClock
from tests.fakes.login import EMAIL, PASSWORD, JsonLogin
from tests.fakes.loop import run_virtual
from tests.fakes.store import InlineStore, memory_database
from wallets.secret import Secret

RATES = (Rate(100, 60, CALLS), Rate(10, 60, AUTH))
ORIGIN = "https://vendor.example"


async def _at_once(_what: str) -> None:
    return None


class Rest:
    """An answer's unread end."""

    closed = False

    def __aiter__(self) -> Any:
        raise AssertionError("nobody reads it")

    async def close(self) -> None:
        self.closed = True


@dataclass
class Bed:
    """A session over a scripted vendor: answers in order, then tokens for ever. Must be made in a running loop."""

    plan: JsonLogin | None = field(default_factory=JsonLogin)
    rates: tuple[Rate, ...] = RATES
    takes_s: float = 0.2
    script: list[UpstreamError | tuple[int, str] | UpstreamResponse] = field(default_factory=list)
    requests: list[UpstreamRequest] = field(default_factory=list)
    db: sqlite3.Connection = field(default_factory=memory_database)
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        self.commits: list[str] = []
        self.pace = Pace("vendor", self.rates, self.clock)
        self.store = InlineStore.over(
            self.db, None, before_commit=self._note, after_commit=_at_once, before_read=_at_once
        )
        self.session = Session(
            vendor="vendor",
            account="",
            origin=ORIGIN,
            credentials=Credentials(EMAIL, Secret(PASSWORD)),
            plan=self.plan,
            pace=self.pace,
            upstream=self,
            store=self.store,
            clock=self.clock,
            entropy=SeededEntropy(random.Random(1)),
        )

    async def send(self, origin: str, request: UpstreamRequest) -> UpstreamResponse:
        """The Upstream port."""
        assert origin == ORIGIN
        self.requests.append(request)
        await self.clock.sleep(self.takes_s)
        said = self.script.pop(0) if self.script else (200, json.dumps({"accessToken": f"t{len(self.requests)}"}))
        if isinstance(said, UpstreamError):
            raise said
        return said if isinstance(said, UpstreamResponse) else answer(*said)

    async def _note(self, what: str) -> None:
        self.commits.append(what)

    async def close(self) -> None:
        """Close session, pace and store."""
        await self.session.close()
        await self.pace.close()
        await self.store.close()
        self.db.close()

    def tasks(self) -> list[tuple[str, str]]:
        """Kind and subject of all tasks."""
        return [tuple(row) for row in self.db.execute("SELECT kind, subject FROM tasks ORDER BY id")]


class SetBack(VirtualClock):
    """A wall clock that somebody sets back."""

    back_ms = 0

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return super().now_ms() - self.back_ms


def answer(status: int, body: str, rest: BodyStream | None = None, **headers: str) -> UpstreamResponse:
    """An answer of the vendor."""
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return UpstreamResponse(status, CIMultiDictProxy(named), body.encode(), rest)


def bearer(token: str) -> Headers:
    """The headers that carry a token."""
    return (("Authorization", f"Bearer {token}"),)


async def problem_of(call: Awaitable[object]) -> Problem:
    """The problem that a call ends with."""
    with pytest.raises(Problem) as caught:
        await call
    return caught.value


def on_bed(**options: Any) -> Callable[[Callable[[Bed], Awaitable[None]]], Callable[[], None]]:
    """Run a test with a bed of its own on a virtual loop; nothing may be left running."""

    def wrap(test: Callable[[Bed], Awaitable[None]]) -> Callable[[], None]:
        async def scenario() -> None:
            bed = Bed(**options)
            await test(bed)
            await bed.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        def run() -> None:
            run_virtual(scenario)

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return wrap


@on_bed()
async def test_a_hundred_calls_are_one_login(bed: Bed) -> None:
    """All calls that find no token wait for one login, and get its token."""
    got = await asyncio.gather(*(bed.session.headers() for _ in range(100)))
    assert set(got) == {bearer("t1")}
    assert [(r.method, r.target, r.may_resend) for r in bed.requests] == [("POST", "/auth/login", False)]
    assert json.loads(bed.requests[0].body) == {"email": EMAIL, "password": PASSWORD}  # type: ignore[arg-type]


@on_bed()
async def test_a_token_is_replaced_before_it_ends_and_nobody_waits(bed: Bed) -> None:
    """From the twelfth minute on calls go on with the token that is good, while one login fetches the next."""
    await bed.session.headers()
    await asyncio.sleep(719)
    assert await bed.session.headers() == bearer("t1")
    assert len(bed.requests) == 1
    await asyncio.sleep(2)
    before = bed.clock.now_ms()
    assert {await bed.session.headers() for _ in range(5)} == {bearer("t1")}
    assert bed.clock.now_ms() == before
    await asyncio.sleep(1)
    assert await bed.session.headers() == bearer("t2")
    assert len(bed.requests) == 2


@on_bed()
async def test_a_refresh_that_fails_costs_nobody_anything_until_the_token_ends(bed: Bed) -> None:
    """The old token serves to its end; then calls wait for a login, which succeeds."""
    await bed.session.headers()
    bed.script = [NotSent("connect_failed", "scripted")] * 2
    await asyncio.sleep(721)
    for _ in range(4):
        assert await bed.session.headers() == bearer("t1")
        await asyncio.sleep(0.3)
    assert len(bed.requests) == 2, "one failure shuts the door for a second"
    await asyncio.sleep(180)
    bed.script = []
    assert await bed.session.headers() == bearer("t3")


@pytest.mark.parametrize(("stated_s", "until_s"), [(None, 900), (3600, 900), (0, 900), (-5, 900), (100, 100)])
def test_a_tokens_life_is_counted_by_our_own_clock(stated_s: int | None, until_s: int) -> None:
    """From before it was asked for, by the document; what the token states can only shorten that."""

    class Stating(JsonLogin):
        def read(self, answer: UpstreamResponse) -> AccessToken | None:
            token = super().read(answer)
            return None if token is None else replace(token, lives_s=stated_s)

    async def scenario() -> None:
        bed = Bed(plan=Stating(refresh_after_s=10_000), takes_s=3.0)
        await bed.session.headers()
        await asyncio.sleep(until_s - 3 - 0.01 if stated_s != 100 else 76)
        assert await bed.session.headers() == bearer("t1")
        assert len(bed.requests) == 1
        await asyncio.sleep(0.02 if stated_s != 100 else 2)
        got = await bed.session.headers()
        await asyncio.sleep(3)
        assert (got, len(bed.requests)) == (bearer("t1" if stated_s == 100 else "t2"), 2)
        await bed.close()

    run_virtual(scenario)


@on_bed()
async def test_a_401_makes_one_login_for_all_that_met_it(bed: Bed) -> None:
    """Fifty calls with one dead token are one login; whoever comes with it later gets the newer token for nothing."""
    used = await bed.session.headers()
    await asyncio.sleep(100)
    got = await asyncio.gather(*(bed.session.rejected(used) for _ in range(50)))
    assert set(got) == {bearer("t2")}
    assert await bed.session.rejected(used) == bearer("t2")
    assert await bed.session.headers() == bearer("t2")
    assert len(bed.requests) == 2


@on_bed()
async def test_tokens_that_die_at_birth_do_not_make_a_storm(bed: Bed) -> None:
    """Every token is rejected at once: a few logins, then none for half a minute, then for a minute; one task."""

    async def call() -> str:
        used = await bed.session.headers()
        await bed.session.rejected(used)
        return (await bed.session.refused("401 to a fresh token")).code

    codes = []
    for _ in range(200):
        try:
            codes.append(await call())
        except Problem as problem:
            codes.append(problem.code)
        await asyncio.sleep(0.1)
    assert set(codes) == {"vendor_refuses_us", "vendor_login_failed"}
    assert len(bed.requests) == 3
    assert bed.tasks() == [("vendor_refuses_us", "vendor"), ("vendor_login_failed", "vendor")]
    await asyncio.sleep(30)
    assert (await problem_of(call())).extra["retry_after_s"] == 60
    assert len(bed.requests) == 4


@on_bed()
async def test_a_token_that_served_to_its_end_clears_the_vendor(bed: Bed) -> None:
    """Two tokens were rejected young, the third lived: a rejection after that is again just a login."""
    for _ in range(2):
        await bed.session.rejected(await bed.session.headers())
    await asyncio.sleep(721)
    await bed.session.headers()
    await asyncio.sleep(1)
    used = await bed.session.headers()
    assert await bed.session.rejected(used) == bearer("t5")
    assert bed.tasks() == []


@on_bed()
async def test_a_refused_login_is_the_operators_and_is_not_repeated(bed: Bed) -> None:
    """401 to the login: one request for a hundred callers, one task however often it is tried, longer pauses."""
    bed.script = [(401, '{"error":"wrong password"}')] * 3
    problems = await asyncio.gather(*(problem_of(bed.session.headers()) for _ in range(100)))
    assert {(p.code, p.status, p.extra["retry_after_s"]) for p in problems} == {("vendor_login_failed", 503, 30)}
    assert len({id(problem) for problem in problems}) == 100
    assert len(bed.requests) == 1
    await asyncio.sleep(20)
    assert (await problem_of(bed.session.headers())).extra["retry_after_s"] == 10
    for pause_s, next_s in ((10.1, 60), (60.1, 120)):
        await asyncio.sleep(pause_s)
        assert (await problem_of(bed.session.headers())).extra["retry_after_s"] == next_s
    assert bed.tasks() == [("vendor_login_failed", "vendor")]
    await asyncio.sleep(120.1)
    assert await bed.session.headers() == bearer("t4")


@on_bed()
async def test_an_outage_is_retried_soon_and_a_task_only_when_it_lasts(bed: Bed) -> None:
    """No answer, 5xx and 429 shut the door for a second, two, four; the third failure in a row tells the operator."""
    bed.script = [NotSent("connect_failed", "scripted"), (503, ""), (429, ""), (200, '{"accessToken":"good"}')]
    waits = []
    for _ in range(3):
        problem = await problem_of(bed.session.headers())
        waits.append(problem.extra["retry_after_s"])
        told = bed.tasks()
        assert bool(told) == (len(waits) == 3)
        await asyncio.sleep(problem.extra["retry_after_s"])
    assert waits == [1, 2, 4]
    assert await bed.session.headers() == bearer("good")


@on_bed()
async def test_a_429_to_a_login_holds_the_next_one_back(bed: Bed) -> None:
    """Its Retry-After outlasts the short pause: the next login waits for it."""
    bed.script = [answer(429, "", Retry_After="20")]
    await problem_of(bed.session.headers())
    await asyncio.sleep(1)
    began = bed.clock.now_ms()
    assert await bed.session.headers() == bearer("t2")
    assert bed.clock.now_ms() - began == pytest.approx(19_200, abs=20)


def test_a_clock_set_back_does_not_shut_the_door_for_longer() -> None:
    """An hour back on the wall, and the next login is tried at once and not in an hour."""

    async def scenario() -> None:
        clock = SetBack()
        bed = Bed(clock=clock, script=[(401, "")])
        await problem_of(bed.session.headers())
        clock.back_ms = 3_600_000
        assert await bed.session.headers() == bearer("t2")
        await bed.close()

    run_virtual(scenario)


@pytest.mark.parametrize("body", ["", "[]", "null", '{"accessToken":7}', "{"])
def test_an_answer_without_a_token_is_a_failed_login(body: str) -> None:
    """200 is not a token."""

    async def scenario() -> None:
        bed = Bed(script=[(200, body)])
        assert (await problem_of(bed.session.headers())).code == "vendor_login_failed"
        await bed.close()

    run_virtual(scenario)


@on_bed()
async def test_an_endless_answer_to_a_login_is_closed(bed: Bed) -> None:
    """What does not fit is not read on."""
    rest = Rest()
    bed.script = [answer(200, '{"accessToken":"x"}', rest)]
    assert (await problem_of(bed.session.headers())).code == "vendor_login_failed"
    assert rest.closed


@on_bed()
async def test_logins_keep_the_vendors_rate_for_logins(bed: Bed) -> None:
    """The eleventh login in a minute is not made: the caller hears when there is room, and no task is opened."""
    for _ in range(10):
        await bed.pace.acquire(AUTH, 0, "")  # type: ignore[arg-type]
    problem = await problem_of(bed.session.headers())
    assert (problem.code, problem.extra["retry_after_s"]) == ("vendor_busy", 61)
    assert (bed.requests, bed.tasks()) == ([], [])
    await asyncio.sleep(61)
    assert await bed.session.headers() == bearer("t1")


@on_bed()
async def test_a_caller_that_is_cancelled_leaves_the_login_to_the_others(bed: Bed) -> None:
    """The login belongs to nobody: the first caller goes, the second gets its token."""
    first = asyncio.create_task(bed.session.headers())
    second = asyncio.create_task(bed.session.headers())
    await asyncio.sleep(0.1)
    first.cancel()
    assert await second == bearer("t1")
    assert (first.cancelled(), len(bed.requests)) == (True, 1)


@on_bed(plan=None)
async def test_a_token_that_needs_no_login(bed: Bed) -> None:
    """It is sent as it is, for ever; rejected, it is the operator's, once, and stays in use."""
    used = await bed.session.headers()
    await asyncio.sleep(10**6)
    assert used == bearer(PASSWORD) == await bed.session.headers()
    for _ in range(20):
        assert (await problem_of(bed.session.rejected(used))).code == "vendor_login_failed"
        await asyncio.sleep(10)
    assert (bed.requests, bed.tasks()) == ([], [("vendor_login_failed", "vendor")])
    assert await bed.session.headers() == used


@on_bed(plan=None)
async def test_a_vendor_that_refuses_our_address_is_the_operators(bed: Bed) -> None:
    """403 IP_NOT_ALLOWED: 503 to the agent, one task; closed without being mended, it opens again."""
    for _ in range(50):
        problem = await bed.session.refused("the vendor does not allow this address (IP_NOT_ALLOWED)")
    assert (problem.code, problem.status) == ("vendor_refuses_us", 503)
    assert bed.tasks() == [("vendor_refuses_us", "vendor")]
    assert bed.commits == ["OpenTask"], "the store is not asked by every call"
    task_id = bed.db.execute("SELECT id FROM tasks").fetchone()["id"]
    await bed.store.post(CloseTask(task_id, "done", "operator", bed.clock.now_ms()))
    await asyncio.sleep(61)
    await bed.session.refused("the vendor does not allow this address (IP_NOT_ALLOWED)")
    assert bed.tasks() == [("vendor_refuses_us", "vendor")] * 2


@on_bed()
async def test_no_credential_and_no_token_is_ever_seen(bed: Bed) -> None:
    """Neither in logs, nor in problems, nor in tasks, nor in the text of any object."""
    bed.script = [(200, '{"accessToken":"s3cr3t-token"}'), (401, f'{{"you sent":"{PASSWORD}"}}')]
    with structlog.testing.capture_logs() as lines:
        used = await bed.session.headers()
        await asyncio.sleep(100)
        problem = await problem_of(bed.session.rejected(used))
    ours = {name: value for name, value in vars(bed.session).items() if value is not bed}
    seen = repr((lines, problem.document(), ours))
    seen += str([tuple(row) for row in bed.db.execute("SELECT * FROM tasks")])
    assert len(lines) >= 3
    assert not [text for text in ("s3cr3t-token", PASSWORD, EMAIL) if text in seen]
