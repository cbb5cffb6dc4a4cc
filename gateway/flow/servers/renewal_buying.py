"""One renewal from its claim to its end: bought once, found again after a crash, and done only when the vendor says so.

Must not decide whether to renew.  Theory (P3, P4): the claim is durable before anything is asked, so it is bought once
however often it is run; it is over when its money is proven dead, or is paid and the vendor's own word has moved the end.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import Payment
from gateway.core.renewal import NOT_APPLIED
from gateway.core.renewal_claim import RenewalClaim, is_dead, is_paid, key_of
from gateway.core.server import Server, Wanted
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.runner import Who
from gateway.ports import ClaimedAnswer
from gateway.server_ports import Action, Sight

APPLIED_WITHIN_S = 3600
"""Paid for so long without the vendor having moved the end: a human asks why."""

PAID_IN_VAIN = "not_applied"

log = structlog.get_logger()


class Looking(Protocol):
    """Sees servers at their vendors."""

    async def look(self, server_id: str) -> Server:
        """Ask the vendor for one server now; return it as it is then. Raises Problem where the vendor does not tell."""
        ...

    async def take(self, server: Server, sight: Sight) -> Server:
        """Take over what an answer shows of a server."""
        ...


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a renewal may cost: what `max_total` leaves, and what its agent said. None: no such limit.

    `asked`: its agent asks for it now, whatever `auto_renew` says.
    """

    left_base: int | None
    max_charge_base: int | None = None
    asked: bool = False

    @property
    def base(self) -> int | None:
        """Both as one limit."""
        return min((each for each in (self.left_base, self.max_charge_base) if each is not None), default=None)

    def told(self, problem: Problem) -> Problem:
        """Return a vendor's refusal as it is told: the limit that stood in the way is named."""
        left_base = self.left_base
        if problem.code != "price_above_max_charge" or left_base is None or self.base == self.max_charge_base:
            return problem
        detail = f"it costs more than max_total leaves, which is {format_amount(left_base)}; see PATCH max_total"
        return Problem("max_total_reached", detail)


class Buying:
    """Begins renewals and follows them. Whoever calls holds the server's lock."""

    def __init__(self, keeping: Keeping, doing: Doing, seeing: Looking) -> None:
        self._keeping, self._doing, self._seeing = keeping, doing, seeing

    async def begin(
        self, who: Who, server: Server, units: int, caps: Caps, *, number: int | None = None
    ) -> Server | None:
        """Buy so many units, within `caps`; None where the server is not any more what that was decided from.

        `number` is kept for this renewal (see `reserve`); without one the planner begins it, under the next number. Raises
        Problem: "renewal_open", or why it was not bought. One that names a payment leaves the renewal open: its outcome is
        found by `follow`.
        """
        ends_ms = server.expires_at_ms
        assert ends_ms is not None, "only what is paid for until a time can be extended"
        claim = RenewalClaim(server.id, server.renewals + 1 if number is None else number, units, ends_ms)
        asked = caps.asked

        def claimed(now: Server) -> Server | None:
            taken = number is None and now.renewals >= claim.number
            if now.renewal or taken or _basis(now, asked=asked) != _basis(server, asked=asked):
                return None
            return replace(now, renewal=claim.text, renewals=max(now.renewals, claim.number))

        server = await self._keeping.change(server.id, claimed, "renewal_begun", attempt=claim.number, units=units)
        if server.renewal == claim.text:
            return await self._run(who, server, claim, caps)
        if server.renewal:
            raise Problem("renewal_open", "another renewal of this server has begun; wait until it is over")
        return None

    async def reserve(self, server: Server) -> int:
        """Return a number for a renewal of a server, which no other renewal of it ever has."""

        def reserved(now: Server) -> Server | None:
            return replace(now, renewals=now.renewals + 1) if now.open else None

        return (await self._keeping.change(server.id, reserved, "changed")).renewals

    async def was_bought(self, server: Server, number: int) -> bool:
        """Say whether the renewal of a number was bought, whatever became of it since."""
        return await self._claimed(server, number) is not None

    async def resume(self, who: Who, server: Server, caps: Caps) -> Server:
        """Run a renewal again that was begun and never bought. Raises as `begin`."""
        claim = RenewalClaim.read(server.renewal)
        return server if claim is None else await self._run(who, server, claim, caps)

    async def is_bought(self, server: Server) -> bool:
        """Say whether the renewal under way has been bought, or answered for nothing."""
        claim = RenewalClaim.read(server.renewal)
        return claim is not None and await self._claimed(server, claim.number) is not None

    async def drop(self, server: Server, why: str, detail: str = "") -> Server:
        """End a renewal that was not bought. Its number stays used: an agent's request may stand for it."""
        text = server.renewal

        def dropped(now: Server) -> Server | None:
            if not text or now.renewal != text or not now.open:
                return None
            return replace(now, renewal="")

        log.info("server.renewal_dropped", server_id=server.id, why=why)
        return await self._keeping.change(server.id, dropped, "renewal_failed", warning=why, said=detail)

    async def follow(self, server: Server, *, slow: bool) -> Server:
        """Close a renewal that was bought once it is over; return the server as it is then.

        Raises Problem where the vendor would have to tell, and does not.
        """
        claim = RenewalClaim.read(server.renewal)
        if claim is None:
            return server
        payment = await self._payment(server)
        if payment is not None and is_dead(payment):
            return await self._over(
                server, "renewal_failed", warning="dead", said="its money was never collected", payment=payment
            )
        if payment is not None and slow and not is_paid(payment, slow=True):
            return server
        if not _has_moved(server, claim):
            server = await self._seeing.look(server.id)
        if _has_moved(server, claim):
            return await self._over(server, "renewed", payment=payment)
        if payment is not None and self._is_late(payment):
            await self._ask_why(server, payment)
            return await self._over(
                server,
                "renewal_failed",
                warning=PAID_IN_VAIN,
                said="paid, and the end has not moved",
                payment=payment,
            )
        return server

    async def payment_id(self, server: Server) -> str | None:
        """Return the payment of the renewal under way, None where nothing was paid yet."""
        claim = RenewalClaim.read(server.renewal)
        claimed = None if claim is None else await self._claimed(server, claim.number)
        return None if claimed is None else claimed.payment_id

    # behind

    async def _run(self, who: Who, server: Server, claim: RenewalClaim, caps: Caps) -> Server:
        try:
            done = await self._doing.run(
                who, server, Action.RENEW, {"units": claim.units}, claim=claim.key, max_charge_base=caps.base
            )
        except Problem as problem:
            told = caps.told(problem)
            if not await self.is_bought(server):
                await self.drop(server, told.code, told.detail)
            if told is problem:
                raise
            raise told from problem
        log.info("server.renewing", server_id=server.id, number=claim.number, payment_id=done.payment_id)
        if done.heard.server is not None:
            server = await self._seeing.take(server, done.heard.server)
        return server

    async def _claimed(self, server: Server, number: int) -> ClaimedAnswer | None:
        return await self._keeping.store.claimed(server.account_id, key_of(server.id, number))

    async def _payment(self, server: Server) -> Payment | None:
        payment_id = await self.payment_id(server)
        return None if payment_id is None else await self._keeping.store.payment(payment_id)

    async def _over(self, server: Server, event: str, *, payment: Payment | None = None, **detail: object) -> Server:
        """Close the renewal under way. That one was paid in vain stays with the server until its end moves."""
        text, mark = server.renewal, NOT_APPLIED if detail.get("warning") == PAID_IN_VAIN else ""

        def ended(now: Server) -> Server | None:
            if now.renewal != text or not now.open:
                return None
            marks = (mark,) if mark and mark not in now.warned else ()
            return replace(now, renewal="", warned=() if event == "renewed" else (*now.warned, *marks))

        paid = {} if payment is None else {"renewal_payment_id": payment.id}
        server = await self._keeping.change(server.id, ended, event, renewal=text, **paid, **detail)
        log.info("server.renewal_over", how=event, server_id=server.id, **paid, **detail)
        return server

    def _is_late(self, payment: Payment) -> bool:
        closed_ms = payment.closed_at_ms
        return closed_ms is not None and self._keeping.clock.now_ms() >= closed_ms + APPLIED_WITHIN_S * 1000

    async def _ask_why(self, server: Server, payment: Payment) -> None:
        detail = f"{server.vendor} was paid for a renewal of {server.ref} with {payment.id}, and its end has not moved"
        await self._keeping.tasks.ask("renewal_not_applied", payment.id, detail, payment.id)


def _has_moved(server: Server, claim: RenewalClaim) -> bool:
    return server.expires_at_ms is not None and server.expires_at_ms > claim.ends_at_ms


def _basis(server: Server, *, asked: bool) -> tuple[object, ...]:
    """Return what a decision to buy rests on: what an agent changes meanwhile is not bought against its will."""
    wanted = server.open and server.wanted is Wanted.KEPT
    wishes = server.keep_until_ms, server.max_total_base, asked or server.auto_renew
    return wanted, *wishes, server.expires_at_ms, server.vendor, server.ref
