"""What both sellers of the simulation do around their tills: hear, answer, and break the answer where the script says.

They know no gateway. Every thing bought carries its buyer's `intent` (a region, or `?i=`), so that their books say for
what an authorization was shown, independently of the gateway's own.
"""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from urllib.parse import parse_qs, urlsplit

from gateway.http.port import UpstreamRequest
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import PATIENCE_S, Wire, credential_of
from tests.fakes.vendor import Terms, Till

__all__ = ["Shop", "wire"]

JSON_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


def wire(status: int, document: object, headers: tuple[tuple[str, str], ...] = ()) -> Wire:
    """Return a JSON answer."""
    return Wire(status, JSON_HEADERS + headers, json.dumps(document).encode())


class Shop(ABC):
    """What both sellers do around their tills: ask, take, answer, and break the answer where the script says."""

    def __init__(self, till: Till, clock: VirtualClock, rng: random.Random) -> None:
        self.till, self.clock, self.rng = till, clock, rng
        self.name = till.name

    def intent_of(self, request: UpstreamRequest) -> str:
        """Return what the request is for."""
        asked = parse_qs(urlsplit(request.target).query).get("i")
        if asked:
            return asked[0]
        assert isinstance(request.body, bytes)
        try:
            document = json.loads(request.body or b"{}")
        except ValueError:
            return ""
        return str(document.get("region", "")) if isinstance(document, dict) else ""

    async def serve(self, request: UpstreamRequest, sender: int) -> Wire:
        """Answer one request, and break the answer where the script says."""
        await asyncio.sleep(self.rng.uniform(0.005, 0.4))
        intent = self.intent_of(request)
        answer = await self.answer(request, sender, intent)
        fault = self.till.script.take("reply", self.name, intent) if credential_of(request) else ""
        if fault == "slow":
            await asyncio.sleep(self.rng.uniform(1.0, PATIENCE_S * 1.5))
        elif fault == "dropped":
            return Wire(0, (), b"", cut="connection_lost")
        elif fault == "truncated":
            return Wire(0, (), b"", cut="truncated_body")
        elif fault == "500":
            return wire(500, {"detail": "internal error"})
        return answer

    @abstractmethod
    async def answer(self, request: UpstreamRequest, sender: int, intent: str) -> Wire:
        """Answer one request."""

    @abstractmethod
    def challenge(self, terms: Terms, reason: str | None) -> Wire:
        """Return the 402 in this seller's dialect."""
