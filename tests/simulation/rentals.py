"""VpsAgent over months: terms as long as their names say, renewals that wait for a human, and one end for what is not renewed.

It knows no gateway. What was collected is in the chain's books; until when each box was paid for is in its own.
"""

import asyncio
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from gateway.http.port import UpstreamRequest
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Wire, credential_of
from tests.fakes.vendor import Sale, Till
from tests.simulation.shop import wire
from tests.simulation.vpsagent import Rental, ScriptedVpsAgent

__all__ = ["TERMS_MS", "InlineTill", "LastingVpsAgent"]

HOUR_MS = 3_600_000
TERMS_MS = {"sandbox_1h": HOUR_MS, "sandbox_6h": 6 * HOUR_MS, "server_small_1mo": 30 * 24 * HOUR_MS}
RENEWED_WITHIN_S = 48 * 3600
NEVER = 0.2


class InlineTill(Till):
    """A till whose collections are in a block at once."""

    async def collect(self, sale: Sale, due_s: float = 0.0) -> bool:
        """Collect after so long; False if it is too late by then."""
        await asyncio.sleep(due_s)
        authorization = sale.shown.authorization
        self.chain.settle(authorization)
        self.chain.mine()
        used = (authorization.token.address, authorization.authorizer, authorization.nonce)
        sale.state = "settled" if used in self.chain._chain[-1].state.used else "unpaid"
        return sale.state == "settled"


class LastingVpsAgent(ScriptedVpsAgent):
    """The storefront with boxes that end."""

    def __init__(self, till: Till, clock: VirtualClock, rng: random.Random) -> None:
        super().__init__(till, clock, rng)
        self.first_ends_ms: dict[str, int] = {}

    def of(self, rental: Rental) -> Rental:
        """Return a rental as it is now: what was not renewed in time is gone."""
        if self.clock.now_ms() >= rental.expires_at_ms:
            rental.status = "expired"
        return rental

    async def answer(self, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        """Route a request, with every rental as it is now."""
        for rental in self.rentals.values():
            self.of(rental)
        return await super().answer(request, sender, intent)

    async def _sell(
        self, route: str, request: UpstreamRequest, sender: int, intent: str, amount_base: int
    ) -> Sale | Wire:
        if credential_of(request) is None:
            timeout_s = RENEWED_WITHIN_S if route == "renew" else 900
            return self.challenge(self.till.ask(route, intent, amount_base, "base", timeout_s), None)
        return await super()._sell(route, request, sender, intent, amount_base)

    async def _renew(self, rental: Rental, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        assert isinstance(request.body, bytes)
        known = any(s.shown.header == credential_of(request) for s in self.till.sales.values())
        if rental.status != "active" and not known:
            return wire(409, {"detail": f"Rental is {rental.status}, not active."})
        periods = json.loads(request.body or b"{}").get("periods", 1)
        sale = await self._sell("renew", request, sender, intent, periods * self.prices[rental.sku])
        if isinstance(sale, Wire):
            return sale
        rental.status = "renewing"
        rental.renewals.append(sale.nonce)
        until_ms = rental.expires_at_ms + periods * TERMS_MS[rental.sku]
        sale.reply = wire(
            200,
            {
                "rental_id": rental.rental_id,
                "status": "renewing",
                "current_expires_at": rental.expires_at_ms,
                "predicted_expires_at": until_ms,
                "manual_step": "none",
            },
        )
        self.till.spawn(self._by_hand(rental, sale, until_ms))
        return sale.reply

    async def _by_hand(self, rental: Rental, sale: Sale, until_ms: int) -> None:
        """Somebody gets round to it, or nobody does: then the money was never taken, and the term stands."""
        by_hand = rental.sku.startswith("server")
        left_s = sale.shown.authorization.valid_before - self.clock.now_s()
        if by_hand and self.rng.random() < NEVER:
            await asyncio.sleep(left_s + 1)
            sale.state = "unpaid"
        else:
            await asyncio.sleep(self.rng.uniform(3600, 20 * 3600) if by_hand else self.rng.uniform(5, 90))
            if self.of(rental).status == "renewing" and await self.till.collect(sale):
                rental.expires_at_ms = until_ms
        if self.of(rental).status == "renewing":
            rental.status = "active"

    def _provision(self, sku: str, sale: Sale) -> Rental:
        rental = Rental(
            rental_id=str(uuid.UUID(bytes=self.rng.randbytes(16), version=4)),
            sku=sku,
            intent=sale.shown.intent,
            nonce=sale.nonce,
            root_token=self.rng.randbytes(24).hex(),
            root_password="Pw-" + self.rng.randbytes(9).hex(),
            expires_at_ms=self.clock.now_ms() + TERMS_MS[sku],
        )
        self.rentals[rental.rental_id] = rental
        self.first_ends_ms[rental.rental_id] = rental.expires_at_ms
        return rental

    def _activate(self, rental: Rental) -> Callable[[bool], None]:
        def done(collected: bool) -> None:  # noqa: FBT001 - a callback's one argument
            rental.status = "active" if collected else "expired"
            if not collected:
                rental.expires_at_ms = self.clock.now_ms()

        return done

    def _public(self, rental: Rental) -> dict[str, Any]:
        return super()._public(self.of(rental))
