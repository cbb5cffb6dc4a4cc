"""Session and pace against the real CryptoVPS process, over the real client: one login however many find the token gone."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.core.login import Credentials
from gateway.core.problems import Problem
from gateway.core.rates import AUTH, CALLS, Rate
from gateway.core.routes import Priority
from gateway.flow.pace import Pace
from gateway.flow.sessions import Session
from gateway.http.client import HttpUpstream
from gateway.http.egress import EgressRule, Origin
from gateway.http.port import UpstreamRequest
from gateway.system import SystemClock
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Driver
from tests.fakes.clock import SeededEntropy
from tests.fakes.login import EMAIL, PASSWORD, JsonLogin
from tests.fakes.store import InlineStore, memory_database
from wallets.secret import Secret

# Logins as documented; twice the calls, for fifty of them are a hundred when each is repeated.
RATES = (Rate(200, 60, CALLS), Rate(10, 60, AUTH))
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "rest_per_min": 200,
    "accounts": [{"email": EMAIL, "password": PASSWORD, "balance": "10"}],
}


async def _at_once(_what: str) -> None:
    return None


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process that enforces its limits."""
    with SandboxProcess.start("sandbox.cryptovps", CONFIG) as started:
        yield started


@dataclass
class Bed:
    """The session of one account, and a call as the proxy makes it."""

    driver: Driver
    upstream: HttpUpstream
    db: sqlite3.Connection

    def __post_init__(self) -> None:
        self.clock = SystemClock()
        self.pace = Pace("cryptovps", RATES, self.clock, max_wait_s=2.0)
        self.store = InlineStore.over(
            self.db, None, before_commit=_at_once, after_commit=_at_once, before_read=_at_once
        )
        self.session = Session(
            vendor="cryptovps",
            account="",
            origin=self.driver.process.base_url,
            credentials=Credentials(EMAIL, Secret(PASSWORD)),
            plan=JsonLogin(),
            pace=self.pace,
            upstream=self.upstream,
            store=self.store,
            clock=self.clock,
            entropy=SeededEntropy(random.Random(1)),
        )

    async def call(self, target: str = "/billing") -> int:
        """GET with our token; on 401 once more with another. Returns the status that the agent would see."""
        headers = await self.session.headers()
        status = await self._get(target, headers)
        if status == 401:
            status = await self._get(target, await self.session.rejected(headers))
        if status == 401:
            raise await self.session.refused("401 to a fresh token")
        return status

    async def outcome(self) -> int | str:
        """A call's status, or the code of its problem."""
        try:
            return await self.call()
        except Problem as problem:
            return problem.code

    async def _get(self, target: str, headers: tuple[tuple[str, str], ...]) -> int:
        await self.pace.acquire(CALLS, Priority.CALL, "acc_1")
        answer = await self.upstream.send(
            self.driver.process.base_url, UpstreamRequest("GET", target, headers, may_resend=True)
        )
        self.pace.saw(answer.status, answer.headers, CALLS)
        return answer.status

    async def calls(self) -> dict[str, int]:
        """What the vendor was asked, by route and status."""
        state = await asyncio.to_thread(self.driver.state)
        return dict(state["calls"])

    def tasks(self) -> list[str]:
        """The kinds of all tasks."""
        return [row["kind"] for row in self.db.execute("SELECT kind FROM tasks ORDER BY id")]


@pytest.fixture
async def bed(process: SandboxProcess) -> AsyncIterator[Bed]:
    """A fresh vendor and a fresh session."""
    driver = Driver(process)
    driver.admin("POST", "/reset")
    driver.admin("POST", "/limits")
    upstream = HttpUpstream(
        [EgressRule(Origin.parse(process.base_url), allow_private=True, allow_plain_http=True)],
    )
    made = Bed(driver, upstream, memory_database())
    yield made
    await made.session.close()
    await made.pace.close()
    await upstream.close()
    await made.store.close()
    made.db.close()


async def test_fifty_calls_with_an_expired_token_are_one_login(bed: Bed) -> None:
    """The token ends while it is in use: all fifty calls succeed, and the vendor sees one login more."""
    assert await bed.call() == 200
    assert (await bed.calls())["login 200"] == 1
    await asyncio.to_thread(bed.driver.admin, "POST", "/tokens", {"expire": True})
    statuses = await asyncio.gather(*(bed.call() for _ in range(50)))
    calls = await bed.calls()
    assert statuses == [200] * 50
    assert (calls["login 200"], calls["billing 401"], calls["billing 200"]) == (2, 50, 51)


async def test_a_token_that_expires_between_two_calls(bed: Bed) -> None:
    """The vendor ends it after five seconds whatever it states: the next call logs in once and goes on."""
    bed.driver.fault("token", after_s=5)
    assert await bed.call() == 200
    await asyncio.to_thread(bed.driver.advance, 5)
    assert [await bed.call() for _ in range(3)] == [200, 200, 200]
    calls = await bed.calls()
    assert (calls["login 200"], calls["billing 401"]) == (2, 1)


async def test_a_good_token_that_is_refused_once(bed: Bed) -> None:
    """One 401 out of nowhere is one login, and the agent does not notice."""
    assert await bed.call() == 200
    bed.driver.fault("unauthorized", "billing")
    assert await bed.call() == 200
    assert (await bed.calls())["login 200"] == 2


async def test_a_storm_of_dead_tokens_ends_by_itself(bed: Bed) -> None:
    """Every token is dead when it comes: forty calls make a few logins, the vendor refuses none, the operator is told."""
    bed.driver.fault("token", after_s=0, times=None)
    outcomes = [await bed.outcome() for _ in range(40)]
    calls = await bed.calls()
    assert set(outcomes) == {"vendor_refuses_us", "vendor_login_failed"}
    assert calls["login 200"] == 3
    assert "login 429" not in calls
    assert bed.tasks() == ["vendor_refuses_us", "vendor_login_failed"]


async def test_a_vendor_that_limits_logins_is_left_alone(bed: Bed) -> None:
    """429 to every login: concurrent calls make one attempt, and all hear when to ask again."""
    bed.driver.fault("limited", "login", times=None)
    outcomes = await asyncio.gather(*(bed.outcome() for _ in range(50)))
    assert set(outcomes) == {"vendor_login_failed"}
    assert (await bed.calls())["login 429"] == 1
    assert bed.tasks() == []


@pytest.mark.parametrize("off_s", [-7200, 7200])
async def test_a_vendor_whose_clock_is_wrong_costs_no_login(bed: Bed, off_s: int) -> None:
    """Tokens live by our clock: two hours off either way, and the one token serves all calls."""
    bed.driver.fault("skew", by_s=off_s)
    assert [await bed.call() for _ in range(5)] == [200] * 5
    assert (await bed.calls())["login 200"] == 1
