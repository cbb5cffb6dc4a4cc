"""Asking one account vendor, as its only customer: our credential, its pace, one login for all, and what a 402 means.

Must not know agents' things or money.  Theory: whoever asks (an agent's call, the meter, recovery) goes through this one
door, so the vendor's limits are kept and its word about our own account (401, 402, 403) is heard once, by the operator.
"""

from dataclasses import dataclass, replace

from gateway.account_ports import AccountVendor
from gateway.core.commands import ObserveBalance
from gateway.core.meaning import Meaning
from gateway.core.problems import Problem
from gateway.core.records import HOUSE
from gateway.core.routes import Priority, Retry
from gateway.flow.ids import Ids
from gateway.flow.meaning import PAYMENT_REQUIRED, classify_account
from gateway.flow.pace import Pace
from gateway.flow.sessions import Session
from gateway.flow.tasks import Tasks
from gateway.http.port import (
    NotSent,
    RedirectRefused,
    SentUnknown,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
    is_success,
)
from gateway.ports import Clock, Entropy, Store

ATTEMPTS = 3
FIRST_PAUSE_S = 0.5
JITTER = 256
SAFE_METHODS = frozenset({"GET", "HEAD"})
UNAUTHORIZED, SERVER_ERROR = 401, 500


@dataclass(frozen=True, slots=True)
class Asking:
    """How a request may be asked: for whom, how urgently, under which limit, and whether twice."""

    account_id: str = HOUSE
    priority: Priority = Priority.POLL
    scope: str = "calls"
    retry: Retry = Retry.SAFE
    public: bool = False
    max_wait_s: float | None = None


OWN_QUESTION = Asking()


class Desk:
    """One vendor account. Every method may be called from anywhere at any time."""

    def __init__(
        self,
        vendor: AccountVendor,
        session: Session,
        pace: Pace,
        *,
        upstream: Upstream,
        store: Store,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.vendor = vendor
        self._session, self._pace, self._upstream = session, pace, upstream
        self._store, self._clock, self._entropy = store, clock, entropy
        self.tasks, self._ids = Tasks(store, clock, entropy), Ids(clock, entropy)

    async def ask(self, request: UpstreamRequest, how: Asking = OWN_QUESTION) -> UpstreamResponse:
        """Return the vendor's answer to a request that carries no credential yet.

        What `how.retry` allows is asked again when no answer comes or a 5xx; a 401 is answered by one login and one
        more try, for it says that nothing was done. Raises UpstreamError, and Problem: vendor_busy,
        vendor_login_failed, vendor_refuses_us, vendor_account_empty (a 402 is the operator's, whatever the vendor means).
        A Problem means that the vendor did nothing of this request, NotSent that it never heard of it.
        """
        attempts = ATTEMPTS if how.retry in (Retry.SAFE, Retry.KEYED) and isinstance(request.body, bytes) else 1
        left = False  # whether an earlier attempt may have reached the vendor, and done what it asks for
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                answer = await self._heard(await self._authorized(request, how))
            except Problem as problem:
                if left and request.method not in SAFE_METHODS:
                    raise _lost() from problem
                raise
            except RedirectRefused:
                raise
            except UpstreamError as error:
                left = left or not isinstance(error, NotSent)
                if last and left and isinstance(error, NotSent):
                    raise _lost() from error
                if last:
                    raise
            else:
                # What refuses the repeat says nothing of the first: limits and logins are judged before keys.
                unsure = left and how.retry is Retry.KEYED and not is_success(answer.status)
                if not unsure and (last or answer.status < SERVER_ERROR):
                    return answer
                await _close(answer)
                if last:
                    raise _lost()
                left = True
            await self._pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _authorized(self, request: UpstreamRequest, how: Asking) -> UpstreamResponse:
        if how.public:
            return await self._send(request, (), how)
        used = await self._session.headers()
        answer = await self._send(request, used, how)
        if answer.status != UNAUTHORIZED:
            return answer
        await _close(answer)
        if not isinstance(request.body, bytes):
            raise Problem("vendor_login_failed", f"{self.vendor.name} wants a new login; send the request again")
        used = await self._session.rejected(used)
        answer = await self._send(request, used, how)
        if answer.status == UNAUTHORIZED:
            raise await self._session.refused("it rejects a token that it has just given")
        return answer

    async def _send(
        self, request: UpstreamRequest, credential: tuple[tuple[str, str], ...], how: Asking
    ) -> UpstreamResponse:
        await self._pace.acquire(how.scope, how.priority, how.account_id, max_wait_s=how.max_wait_s)
        answer = await self._upstream.send(
            self.vendor.origin, replace(request, headers=(*request.headers, *credential), may_resend=False)
        )
        self._pace.saw(answer.status, answer.headers, how.scope)
        return answer

    async def _heard(self, answer: UpstreamResponse) -> UpstreamResponse:
        """Take what the answer says of our own account."""
        if answer.status == PAYMENT_REQUIRED:
            await _close(answer)
            meaning = classify_account(self.vendor.speaks, answer.headers, answer.body).meaning
            said = "what its document does not have" if meaning is Meaning.UNKNOWN else meaning.replace("_", " ")
            await self.tasks.ask("vendor_account_empty", self.vendor.name, f"{self.vendor.name} answered 402: {said}")
            raise Problem("vendor_account_empty", f"{self.vendor.name} does not serve the gateway's account at present")
        if self.vendor.refuses_us(answer):
            await _close(answer)
            raise await self._session.refused("it refuses this gateway, whatever the token")
        await self.saw_balance(answer)
        return answer

    async def saw_balance(self, answer: UpstreamResponse) -> None:
        """Follow the operator's balance in any answer that tells it."""
        balance_base = self.vendor.read_balance(answer)
        if balance_base is None:
            return
        terms, name = self.vendor.account, self.vendor.name
        known = self._store.view.vendor_balances.get(name)
        if known is None or abs(known[0] - balance_base) > terms.noise_base:
            task_id, now_ms = self._ids.new("task"), self._clock.now_ms()
            await self._store.post(
                ObserveBalance(name, balance_base, terms.noise_base, terms.drift_base, task_id, now_ms)
            )
        if balance_base < terms.low_balance_base:
            await self.tasks.ask("vendor_balance_low", name, f"{name} has less left than low_balance: top it up")

    async def _pause(self, attempt: int) -> None:
        jitter = self._entropy.bytes(1)[0] / JITTER
        await self._clock.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * (1 + jitter))


async def _close(answer: UpstreamResponse) -> None:
    if answer.rest is not None:
        await answer.rest.close()


def _lost() -> SentUnknown:
    return SentUnknown("connection_lost", "an earlier attempt was never answered")
