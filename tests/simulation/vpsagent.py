"""VpsAgent's routes and dialect (x402 v1) in memory: paid catalogue, boxes collected when they are up, slow renewals."""

import asyncio
import base64
import json
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from contracts.tokens import BASE_USDC
from gateway.http.port import UpstreamRequest
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Wire, credential_of
from tests.fakes.vendor import PaymentRefused, Sale, Terms, Till, address_text
from tests.simulation.shop import Shop, wire

__all__ = ["PRICES", "Rental", "ScriptedVpsAgent"]

PRICES = {"catalog": 10_000, "sandbox_1h": 500_000, "sandbox_6h": 2_000_000, "server_small_1mo": 9_990_000}
TERM_MS = 3_600_000


@dataclass
class Rental:
    """A box."""

    rental_id: str
    sku: str
    intent: str
    nonce: bytes
    root_token: str
    root_password: str
    expires_at_ms: int
    status: str = "pending_settlement"
    renewals: list[bytes] = field(default_factory=list)


class ScriptedVpsAgent(Shop):
    """VpsAgent as its document has it."""

    def __init__(self, till: Till, clock: VirtualClock, rng: random.Random) -> None:
        super().__init__(till, clock, rng)
        self.prices = dict(PRICES)
        self.rentals: dict[str, Rental] = {}

    async def answer(self, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        """Route a request."""
        parts = urlsplit(request.target)
        segments = parts.path.strip("/").split("/")
        if segments == ["healthz"]:
            return wire(200, {"ok": True})
        if (request.method, segments) == ("GET", ["catalog"]):
            return await self._catalog(request, sender, intent)
        if (request.method, segments) == ("POST", ["rent"]):
            return await self._rent(request, sender, intent)
        rental = self.rentals.get(segments[1]) if len(segments) > 1 else None
        if rental is None:
            return wire(404, {"detail": "Rental not found."})
        if segments[0] == "rentals" and len(segments) == 2:
            return wire(200, self._public(rental))
        if parse_qs(parts.query).get("token") != [rental.root_token]:
            return wire(401, {"detail": "Missing or invalid token."})
        if segments[0] == "instance":
            return self._instance(rental, intent)
        return await self._renew(rental, request, sender, intent)

    def challenge(self, terms: Terms, reason: str | None) -> Wire:
        """Return version 1's 402: body and header, both amount fields."""
        entry = {
            "scheme": "exact",
            "network": terms.network,
            "maxAmountRequired": str(terms.amount_base),
            "amount": str(terms.amount_base),
            "resource": "https://vpsagent.invalid/",
            "description": "",
            "mimeType": "application/json",
            "payTo": address_text(terms.pay_to),
            "maxTimeoutSeconds": terms.timeout_s,
            "asset": address_text(terms.token.address),
            "extra": {"name": terms.token.name, "version": terms.token.version},
        }
        document = {"x402Version": 1, "accepts": [entry], "error": None if reason is None else {"reason": reason}}
        header = base64.b64encode(json.dumps(document).encode()).decode()
        return wire(402, document, (("X-Payment-Required", header),))

    async def _sell(
        self, route: str, request: UpstreamRequest, sender: int, intent: str, amount_base: int
    ) -> Sale | Wire:
        """Return a new sale to deliver, or the answer where there is nothing new to deliver."""
        if self.till.script.take("prices", self.name, intent) == "raised":
            self.prices = {item: price * 3 if item != "catalog" else price for item, price in self.prices.items()}
        header = credential_of(request)
        if header is None:
            return self.challenge(self.till.ask(route, intent, amount_base, "base", self.rng.choice((90, 120))), None)
        terms = Terms(self.till.pay_to, BASE_USDC, "base", amount_base, 120)
        try:
            sale = self.till.take(route, intent, header, sender)
        except PaymentRefused as refused:
            return self.challenge(terms, str(refused))
        if sale is None:
            return await self._again(header, terms)
        fault = self.till.script.take("payment", self.name, intent)
        if fault in {"refuse", "refuse_and_settle"}:
            sale.refused, sale.again, sale.reply = True, "refuse", self.challenge(terms, "refused")
            self._after_refusal(sale, fault)
            return self.challenge(terms, "refused")
        if fault == "fail_and_settle":
            sale.refused, sale.again = True, "same"
            sale.reply = wire(503, {"detail": "provisioning failed"})
            self._after_refusal(sale, fault)
            return wire(503, {"detail": "provisioning failed"})
        return sale

    def _after_refusal(self, sale: Sale, fault: str) -> None:
        if fault.endswith("_and_settle"):
            self.till.collect_later(sale, self.rng.uniform(1, 20))
        else:
            sale.state = "unpaid"

    async def _again(self, header: str, terms: Terms) -> Wire:
        """A credential that was shown before: the same answer, a second box, or no."""
        sale = next(s for s in self.till.sales.values() if s.shown.header == header)
        for _ in range(60):
            if sale.reply is not None:
                break
            await asyncio.sleep(0.5)
        if sale.again == "refuse" or sale.reply is None:
            return self.challenge(terms, "nonce already used")
        if sale.again == "second_box" and sale.rental_id is not None:
            first = self.rentals[sale.rental_id]
            return wire(200, self._created(self._provision(first.sku, sale)))
        return sale.reply

    async def _catalog(self, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        sale = await self._sell("catalog", request, sender, intent, PRICES["catalog"])
        if isinstance(sale, Wire):
            return sale
        if not await self.till.collect(sale):
            sale.refused = True
            sale.reply = self.challenge(Terms(self.till.pay_to, BASE_USDC, "base", PRICES["catalog"], 120), "unsettled")
            return sale.reply
        entries = [
            {"sku": sku, "track": "server", "price_usdc": price / 1_000_000, "available": True}
            for sku, price in self.prices.items()
            if sku != "catalog"
        ]
        sale.reply = wire(200, entries)
        return sale.reply

    async def _rent(self, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        assert isinstance(request.body, bytes)
        sku = json.loads(request.body)["sku"]
        sale = await self._sell("rent", request, sender, intent, self.prices[sku])
        if isinstance(sale, Wire):
            return sale
        rental = self._provision(sku, sale)
        sale.rental_id = rental.rental_id
        sale.reply = wire(200, self._created(rental))
        box = self.till.script.take("box", self.name, intent)
        if box == "never":
            sale.state = "unpaid"
        else:
            due_s = self.rng.uniform(50, 70) if box == "late" else self.rng.uniform(2, 12)
            self.till.collect_later(sale, due_s, self._activate(rental))
        await asyncio.sleep(self.rng.uniform(0, 1))
        return sale.reply

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
        predicted = rental.expires_at_ms + periods * TERM_MS
        sale.reply = wire(
            200,
            {
                "rental_id": rental.rental_id,
                "status": "renewing",
                "current_expires_at": rental.expires_at_ms,
                "predicted_expires_at": predicted,
                "manual_step": "none",
            },
        )

        def done(collected: bool) -> None:  # noqa: FBT001 - a callback's one argument
            rental.status = "active"
            rental.expires_at_ms = predicted if collected else rental.expires_at_ms

        if self.till.script.take("renewal", self.name, intent) == "never":
            sale.state = "unpaid"
        else:
            self.till.collect_later(sale, self.rng.uniform(5, 30), done)
        return sale.reply

    def _provision(self, sku: str, sale: Sale) -> Rental:
        rental = Rental(
            rental_id=str(uuid.UUID(bytes=self.rng.randbytes(16), version=4)),
            sku=sku,
            intent=sale.shown.intent,
            nonce=sale.nonce,
            root_token=self.rng.randbytes(24).hex(),
            root_password="Pw-" + self.rng.randbytes(9).hex(),
            expires_at_ms=self.clock.now_ms() + TERM_MS,
        )
        self.rentals[rental.rental_id] = rental
        return rental

    def _activate(self, rental: Rental) -> Callable[[bool], None]:
        def done(collected: bool) -> None:  # noqa: FBT001 - a callback's one argument
            rental.status = "active" if collected else "expired"

        return done

    def _created(self, rental: Rental) -> dict[str, Any]:
        return {
            "rental_id": rental.rental_id,
            "sku": rental.sku,
            "ipv4": None,
            "expires_at": rental.expires_at_ms,
            "root_token": rental.root_token,
            "root_user": "root",
            "root_password": rental.root_password,
            "status": "pending_settlement",
            "note": "collected when the box answers",
        }

    def _public(self, rental: Rental) -> dict[str, Any]:
        return {
            "rental_id": rental.rental_id,
            "sku": rental.sku,
            "status": rental.status,
            "expires_at": rental.expires_at_ms,
        }

    def _instance(self, rental: Rental, intent: str) -> Wire:
        away = self.till.script.take("provider", self.name, intent) == "down"
        return wire(
            502 if away else 200,
            {**self._public(rental), "running": True, "root_user": "root", "root_password": rental.root_password},
        )
