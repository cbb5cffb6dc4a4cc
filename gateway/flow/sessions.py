"""Standing at the vendors where we have accounts: the token of each, got once for all who need it (design 7).

Must not know how a vendor is logged in to: its module says that in two pure functions.  Theory: a hundred calls that find
the token gone are one login; a login that fails is tried again after a while and not by each of them, because the vendor
counts logins more closely than calls, and locks who guesses.
"""

import asyncio
from dataclasses import dataclass
from typing import Literal

import structlog

from gateway.account_ports import LoginPlan
from gateway.core.login import AccessToken, Credentials
from gateway.core.problems import Problem
from gateway.core.rates import AUTH
from gateway.core.records import HOUSE
from gateway.core.routes import Priority
from gateway.flow.pace import Pace
from gateway.flow.tasks import Tasks
from gateway.http.port import Upstream, UpstreamError
from gateway.ports import Clock, Entropy, Store

UNSURE_FIRST_S, UNSURE_LONGEST_S = 1, 60  # nobody knows why: an outage ends by itself
REFUSED_FIRST_S, REFUSED_LONGEST_S = 30, 600  # the vendor said no: it will say it again
UNSURE_BEFORE_TASK = 3
YOUNG_MS = 30_000
YOUNG_REFUSALS_MAX = 3
_OK, _REDIRECT, _SERVER_ERROR = 200, 300, 500
_TRANSIENT = frozenset({408, 425, 429})

log = structlog.get_logger()

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Held:
    """A token with its times by our clock, all counted from before it was asked for; without them it lives for ever."""

    token: AccessToken
    asked_ms: int
    refresh_ms: int | None = None
    ends_ms: int | None = None

    def headers(self) -> Headers:
        return (("Authorization", f"Bearer {self.token.value.reveal()}"),)


class Session:
    """Our standing with one vendor account. Without a `plan`, the credentials' secret is a token that needs no login.

    Tokens live in this object alone. `pace` is the account's, or the one that counts the logins of all of a vendor's.
    """

    def __init__(
        self,
        *,
        vendor: str,
        account: str,
        origin: str,
        credentials: Credentials,
        plan: LoginPlan | None,
        pace: Pace,
        upstream: Upstream,
        store: Store,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._origin = origin
        self._subject = f"{vendor}/{account}" if account else vendor
        self._credentials, self._plan = credentials, plan
        self._pace, self._upstream, self._clock = pace, upstream, clock
        self._tasks = Tasks(store, clock, entropy)
        self._held = _Held(AccessToken(credentials.secret), 0) if plan is None else None
        self._flight: asyncio.Task[_Held | Problem] | None = None
        self._failures = self._young_refusals = 0
        self._why, self._shut_until_ms, self._shut_for_s = "", 0, 0

    async def headers(self) -> Headers:
        """Return the headers that a request needs, logging in first where there is no token that is still good.

        A token that is due is replaced while calls go on with it. Raises Problem: "vendor_login_failed" (with
        `retry_after_s`), "vendor_busy" where the logins' rate leaves no room.
        """
        held = self._usable()
        if held is None:
            held = await self._log_in()
        elif self._is_due(held):
            self._take_off()
        return held.headers()

    async def rejected(self, used: Headers) -> Headers:
        """Return other headers after the vendor answered 401 to `used` (what `headers` gave); retry once with them.

        However many calls were rejected, one login follows, and none if there is a newer token by now. A second 401 is
        for `refused`. Raises what `headers` raises; a token that needs no login has no successor: "vendor_login_failed".
        """
        held = self._usable()
        if held is not None and held.headers() != used:
            return held.headers()
        if self._plan is None:
            raise await self._problem("vendor_login_failed", f"{self._subject} rejects its token: give it a new one")
        if held is not None:
            young = self._clock.now_ms() - held.asked_ms < YOUNG_MS
            self._young_refusals = self._young_refusals + 1 if young else 0
            self._held = None
            if self._young_refusals >= YOUNG_REFUSALS_MAX and self._flight is None:
                raise await self._failed("its tokens are rejected as soon as they are given", by_vendor=True)
        return (await self._log_in()).headers()

    async def refused(self, why: str) -> Problem:
        """Return the problem to raise where the vendor refuses us and no login mends it (403 IP_NOT_ALLOWED); a task.

        `why` is a text of ours, without anything that the vendor wrote.
        """
        return await self._problem("vendor_refuses_us", f"{self._subject}: {why}")

    async def close(self) -> None:
        """Give up a login that is under way."""
        flight = self._flight
        if flight is not None:
            flight.cancel()
            await asyncio.wait([flight])

    def _usable(self) -> _Held | None:
        held = self._held
        if held is None or (held.ends_ms is not None and self._clock.now_ms() >= held.ends_ms):
            return None
        return held

    def _is_due(self, held: _Held) -> bool:
        return held.refresh_ms is not None and self._clock.now_ms() >= held.refresh_ms and self._shut_s() == 0

    async def _log_in(self) -> _Held:
        """Return the token of the login under way, or of a new one. Whoever is cancelled leaves it to the others."""
        if self._flight is None and (shut_s := self._shut_s()):
            raise self._login_problem(shut_s)
        outcome = await asyncio.shield(self._take_off())
        if isinstance(outcome, Problem):
            raise Problem(outcome.code, outcome.detail, extra=dict(outcome.extra))  # each caller's own
        return outcome

    def _take_off(self) -> "asyncio.Task[_Held | Problem]":
        if self._flight is None:
            assert self._plan is not None
            self._flight = asyncio.create_task(self._fly(self._plan), name=f"login {self._subject}")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: "asyncio.Task[_Held | Problem]") -> None:
        self._flight = None
        if not flight.cancelled() and (error := flight.exception()) is not None:
            log.error("session.broken", vendor=self._subject, error=type(error).__name__)

    async def _fly(self, plan: LoginPlan) -> _Held | Problem:
        try:
            await self._pace.acquire(AUTH, Priority.RENEW, HOUSE)
        except Problem as busy:
            return busy
        asked_ms = self._clock.now_ms()
        try:
            answer = await self._upstream.send(self._origin, plan.request(self._credentials))
        except UpstreamError as error:
            return await self._failed(f"no answer to the login: {error.code}", by_vendor=False)
        self._pace.saw(answer.status, answer.headers, AUTH)
        if answer.rest is not None:
            await answer.rest.close()
            return await self._failed("the answer to the login is too large", by_vendor=True)
        token = plan.read(answer) if _OK <= answer.status < _REDIRECT else None
        if token is None:
            by_vendor = answer.status < _SERVER_ERROR and answer.status not in _TRANSIENT
            return await self._failed(f"the login was answered {answer.status}, without a token", by_vendor=by_vendor)
        return self._keep(plan, token, asked_ms)

    def _keep(self, plan: LoginPlan, token: AccessToken, asked_ms: int) -> _Held:
        lives_s, refresh_s = plan.lives_s, plan.refresh_after_s
        if token.lives_s is not None and 0 < token.lives_s < lives_s:
            lives_s, refresh_s = token.lives_s, min(refresh_s, token.lives_s * 4 // 5)
        if self._held is not None:
            self._young_refusals = 0  # the last one was not rejected
        if self._young_refusals == 0:
            self._failures = 0
        self._shut_until_ms = 0
        self._held = _Held(token, asked_ms, asked_ms + refresh_s * 1000, asked_ms + lives_s * 1000)
        log.info("session.logged_in", vendor=self._subject, lives_s=lives_s)
        return self._held

    async def _failed(self, why: str, *, by_vendor: bool) -> Problem:
        """Shut the door for a while, longer each time, and tell the operator what does not end by itself."""
        self._failures += 1
        first_s, longest_s = (REFUSED_FIRST_S, REFUSED_LONGEST_S) if by_vendor else (UNSURE_FIRST_S, UNSURE_LONGEST_S)
        self._shut_for_s = min(first_s << min(self._failures - 1, 10), longest_s)
        self._shut_until_ms = self._clock.now_ms() + self._shut_for_s * 1000
        self._why = why
        log.warning("session.login_failed", vendor=self._subject, why=why, failures=self._failures)
        problem = self._login_problem(self._shut_for_s)
        if by_vendor or self._failures >= UNSURE_BEFORE_TASK:
            await self._tasks.ask("vendor_login_failed", self._subject, problem.detail)
        return problem

    def _shut_s(self) -> int:
        """Whole seconds until the next login may be tried; a clock that was set back shuts nothing for longer."""
        left_s = -(-(self._shut_until_ms - self._clock.now_ms()) // 1000)
        return left_s if 0 < left_s <= self._shut_for_s else 0

    def _login_problem(self, retry_after_s: int) -> Problem:
        detail = f"the gateway cannot log in to {self._subject}: {self._why}"
        return Problem("vendor_login_failed", detail, extra={"retry_after_s": retry_after_s})

    async def _problem(self, code: Literal["vendor_login_failed", "vendor_refuses_us"], detail: str) -> Problem:
        await self._tasks.ask(code, self._subject, detail)
        return Problem(code, detail, extra={"retry_after_s": REFUSED_FIRST_S})
