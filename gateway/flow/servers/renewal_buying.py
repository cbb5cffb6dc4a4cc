"""One renewal from its claim to its end: bought once, found again after a crash, and done only when the vendor says so.

Must not decide whether to renew.  Theory (P3, P4): the claim is durable before anything is asked, so it is bought once
however often it is run; it is over when its money is proven dead, or is paid and the vendor's own word has moved the end.
"""

from dataclasses import replace
from typing import Protocol

import structlog

from gateway.core.problems import Problem
from gateway.core.records import Payment
from gateway.core.renewal import Why
from gateway.core.renewal_claim import RenewalClaim, is_dead, is_paid
from gateway.core.server import Server
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.runner import Who
from gateway.server_ports import Action, Sight

APPLIED_WITHIN_S = 3600
"""Paid for so long without the vendor having moved the end: a human asks why."""
NOT_APPLIED = "not_applied"
PAID_FOR_NOTHING = f"{Why.FAILED}:paid"

log = structlog.get_logger()


class Looking(Protocol):
    """Sees servers at their vendors."""

    async def look(self, server_id: str) -> Server:
        """Ask the vendor for one server now; return it as it is then. Raises Problem where the vendor does not tell."""
        ...

    async def take(self, server: Server, sight: Sight) -> Server:
        """Take over what an answer shows of a server."""
        ...


class Buying:
    """Begins renewals and follows them. Whoever calls holds the server's lock."""

    def __init__(self, keeping: Keeping, doing: Doing, seeing: Looking) -> None:
        self._keeping, self._doing, self._seeing = keeping, doing, seeing

    async def begin(self, who: Who, server: Server, units: int, most_base: int | None) -> Server:
        """Buy so many units, for at most `most_base`. Raises Problem: "renewal_open", or why it was not bought.

        A problem that names a payment leaves the renewal open: its outcome is found by `follow`.
        """
        ends_ms = server.expires_at_ms
        assert ends_ms is not None, "only what is paid for until a time can be extended"
        claim = RenewalClaim(server.id, server.renewals + 1, units, ends_ms)

        def claimed(now: Server) -> Server | None:
            if now.renewal or not now.open or now.renewals >= claim.number:
                return None
            return replace(now, renewal=claim.text, renewals=claim.number)

        server = await self._keeping.change(server.id, claimed, "renewal_begun", attempt=claim.number, units=units)
        if server.renewal != claim.text:
            raise Problem("renewal_open", "another renewal of this server has begun; wait until it is over")
        return await self._run(who, server, claim, most_base)

    async def resume(self, who: Who, server: Server, most_base: int | None) -> Server:
        """Run a renewal again that was begun and never bought. Raises as `begin`."""
        claim = RenewalClaim.read(server.renewal)
        return server if claim is None else await self._run(who, server, claim, most_base)

    async def is_bought(self, server: Server) -> bool:
        """Say whether the renewal under way has been bought, or answered for nothing."""
        return await self._keeping.store.claimed(server.account_id, server.renewal) is not None

    async def drop(self, server: Server, why: str, detail: str = "") -> Server:
        """End a renewal that was not bought: its number is free again."""
        text = server.renewal

        def dropped(now: Server) -> Server | None:
            if not text or now.renewal != text or not now.open:
                return None
            return replace(now, renewal="", renewals=now.renewals - 1)

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
            return await self._not_applied(server, claim, payment)
        return server

    async def payment_id(self, server: Server) -> str | None:
        """Return the payment of the renewal under way, None where nothing was paid yet."""
        if not server.renewal:
            return None
        claimed = await self._keeping.store.claimed(server.account_id, server.renewal)
        return None if claimed is None else claimed.payment_id

    # behind

    async def _run(self, who: Who, server: Server, claim: RenewalClaim, most_base: int | None) -> Server:
        try:
            done = await self._doing.run(
                who, server, Action.RENEW, {"units": claim.units}, claim=claim.text, max_charge_base=most_base
            )
        except Problem as problem:
            if not await self.is_bought(server):
                await self.drop(server, problem.code, problem.detail)
            raise
        log.info("server.renewing", server_id=server.id, number=claim.number, payment_id=done.payment_id)
        if done.heard.server is not None:
            server = await self._seeing.take(server, done.heard.server)
        return server

    async def _payment(self, server: Server) -> Payment | None:
        payment_id = await self.payment_id(server)
        return None if payment_id is None else await self._keeping.store.payment(payment_id)

    async def _over(self, server: Server, event: str, *, payment: Payment | None = None, **detail: object) -> Server:
        text = server.renewal

        def ended(now: Server) -> Server | None:
            if now.renewal != text or not now.open:
                return None
            return replace(now, renewal="", warned=() if event == "renewed" else now.warned)

        paid = {} if payment is None else {"renewal_payment_id": payment.id}
        server = await self._keeping.change(server.id, ended, event, renewal=text, **paid, **detail)
        log.info("server.renewal_over", how=event, server_id=server.id, **paid, **detail)
        return server

    def _is_late(self, payment: Payment) -> bool:
        closed_ms = payment.closed_at_ms
        return closed_ms is not None and self._keeping.clock.now_ms() >= closed_ms + APPLIED_WITHIN_S * 1000

    async def _not_applied(self, server: Server, claim: RenewalClaim, payment: Payment) -> Server:
        """The vendor took the money and has not moved the end: a human asks why, and nobody pays it a second time.

        The renewal stays open until the vendor moves the end after all, or the old end has passed.
        """
        detail = f"{server.vendor} was paid for a renewal of {server.ref} with {payment.id}, and its end has not moved"
        await self._keeping.ask_operator("renewal_not_applied", payment.id, detail, payment.id)
        if self._keeping.business.now_ms() >= claim.ends_at_ms:
            return await self._over(server, "renewal_failed", warning=NOT_APPLIED, said=detail, payment=payment)

        def warned(now: Server) -> Server | None:
            if PAID_FOR_NOTHING in now.warned or not now.open:
                return None
            return replace(now, warned=(*now.warned, PAID_FOR_NOTHING))

        said = {"warning": NOT_APPLIED, "said": detail, "renewal_payment_id": payment.id}
        return await self._keeping.change(server.id, warned, "renewal_failed", **said)


def _has_moved(server: Server, claim: RenewalClaim) -> bool:
    return server.expires_at_ms is not None and server.expires_at_ms > claim.ends_at_ms
