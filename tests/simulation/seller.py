"""A plain x402 v2 seller in memory, which the gateway knows by configuration alone."""

import base64
import json
import random
from urllib.parse import urlsplit

from contracts.tokens import BASE_USDC
from gateway.http.port import UpstreamRequest
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Wire, credential_of
from tests.fakes.vendor import PaymentRefused, Terms, Till, address_text
from tests.simulation.shop import Shop, wire

__all__ = ["SELLER_PRICES", "ScriptedSeller"]

SELLER_PRICES = {"small": 50_000, "large": 1_250_000}


class ScriptedSeller(Shop):
    """Any v2 seller: goods by name, settled inline, never the same credential twice."""

    def __init__(self, till: Till, clock: VirtualClock, rng: random.Random) -> None:
        super().__init__(till, clock, rng)
        self.delivered: list[str] = []

    async def answer(self, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        """Sell what the last segment names; everything else is free."""
        name = urlsplit(request.target).path.rsplit("/", 1)[-1]
        if name not in SELLER_PRICES:
            return wire(200, {"free": name})
        price_base = SELLER_PRICES[name]
        header = credential_of(request)
        if header is None:
            return self.challenge(self.till.ask("goods", intent, price_base, "eip155:8453", 60), None)
        terms = Terms(self.till.pay_to, BASE_USDC, "eip155:8453", price_base, 60)
        try:
            sale = self.till.take("goods", intent, header, sender)
        except PaymentRefused as refused:
            return self.challenge(terms, str(refused))
        if sale is None:
            return self.challenge(terms, "nonce already used")
        fault = self.till.script.take("payment", self.name, intent)
        if fault:
            sale.refused = True
            if fault.endswith("_and_settle"):
                self.till.collect_later(sale, self.rng.uniform(1, 20))
            else:
                sale.state = "unpaid"
            return self.challenge(terms, "refused") if fault.startswith("refuse") else wire(503, {"detail": "no"})
        if not await self.till.collect(sale):
            sale.refused = True
            return self.challenge(terms, "unsettled")
        self.delivered.append(intent)
        return wire(200, {"good": name, "for": intent})

    def challenge(self, terms: Terms, reason: str | None) -> Wire:
        """Return version 2's 402: in the header, with an empty body."""
        entry = {
            "scheme": "exact",
            "network": terms.network if terms.network != "base-sepolia" else "eip155:84532",
            "amount": str(terms.amount_base),
            "asset": address_text(terms.token.address),
            "payTo": address_text(terms.pay_to),
            "maxTimeoutSeconds": terms.timeout_s,
            "extra": {"name": terms.token.name, "version": terms.token.version},
        }
        document = {
            "x402Version": 2,
            "error": reason or "PAYMENT-SIGNATURE header is required",
            "resource": {"url": "https://seller.invalid/", "description": "", "mimeType": "application/json"},
            "accepts": [entry],
        }
        header = base64.b64encode(json.dumps(document).encode()).decode()
        return wire(402, {}, (("PAYMENT-REQUIRED", header),))
