"""CryptoVPS's routes in memory: login, servers by the started hour, a destruction that takes a while; nothing is paid at once.

It knows no gateway. What it bills is counted from its own times when it is asked, never from what anybody told it.
"""

import asyncio
import json
import random
import uuid
from dataclasses import dataclass
from typing import Any

from gateway.core.times import utc_text
from gateway.http.port import UpstreamRequest
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Script, Wire
from tests.simulation.shop import wire

__all__ = ["HOURLY_BASE", "Box", "ScriptedCryptoVps"]

HOURLY_BASE, HOURLY = 13_700, "0.0137"
HOUR_MS = 3_600_000
PROVISION_MS, DESTROY_MS = 30_000, 5_000


@dataclass
class Box:
    """One server. `label` is what the vendor was told, our mark in it."""

    ref: str
    label: str
    plan: str
    created_ms: int
    deleted_ms: int | None = None

    @property
    def intent(self) -> str:
        """What its buyer calls it."""
        return self.label.rpartition("-")[0]

    def bill_base(self, now_ms: int) -> int:
        """Each started hour from its creation to its DELETE."""
        until_ms = now_ms if self.deleted_ms is None else self.deleted_ms
        return -(-(until_ms - self.created_ms) // HOUR_MS) * HOURLY_BASE


class ScriptedCryptoVps:
    """CryptoVPS as its document has it, for one account. Implements tests.fakes.upstream.Server."""

    name = "cryptovps"

    def __init__(self, clock: VirtualClock, rng: random.Random, script: Script) -> None:
        self._clock, self._rng, self._script = clock, rng, script
        self.boxes: dict[str, Box] = {}

    def intent_of(self, request: UpstreamRequest) -> str:
        """Return the label of what is made or destroyed, and else what is asked."""
        document = self._document(request)
        if "label" in document:
            return str(document["label"]).rpartition("-")[0]
        box = self.boxes.get(request.target.rpartition("/")[2])
        verb = "-delete" if request.method == "DELETE" else ""
        return request.target.strip("/") if box is None else box.intent + verb

    async def serve(self, request: UpstreamRequest, sender: int) -> Wire:
        """Answer one request, and break the answer where the script says."""
        await asyncio.sleep(self._rng.uniform(0.005, 0.4))
        answer = self._answer(request)
        if request.method == "GET":
            return answer
        fault = self._script.take("reply", self.name, self.intent_of(request))
        if fault == "slow":
            await asyncio.sleep(self._rng.uniform(1.0, 30.0))
        elif fault in {"dropped", "truncated"}:
            return Wire(0, (), b"", cut="connection_lost" if fault == "dropped" else "truncated_body")
        elif fault == "500":
            return wire(500, {"error": "internal error"})
        return answer

    def _document(self, request: UpstreamRequest) -> dict[str, Any]:
        assert isinstance(request.body, bytes)
        return dict(json.loads(request.body)) if request.body else {}

    def _answer(self, request: UpstreamRequest) -> Wire:
        path, ref = request.target, request.target.rpartition("/")[2]
        if path == "/auth/login":
            return wire(200, {"accessToken": f"token-{self._rng.randrange(10**9)}", "user": {"balance": "500.00"}})
        if path == "/billing":
            return wire(200, {"balance": self._balance(), "hourlySpend": "0"})
        if (request.method, path) == ("POST", "/servers"):
            return wire(202, {"server": self._shown(self._make(self._document(request)))})
        if path == "/servers":
            return wire(
                200, {"servers": [self._shown(b) for b in self.boxes.values() if self._status(b) != "DESTROYED"]}
            )
        box = self.boxes.get(ref)
        if box is None:
            return wire(404, {"error": "server not found"})
        if request.method == "GET":
            return wire(200, {"server": self._shown(box)})
        if box.deleted_ms is not None:
            return wire(409, {"error": "already being destroyed"})
        box.deleted_ms = self._clock.now_ms()
        return wire(202, {"ok": True})

    def _make(self, document: dict[str, Any]) -> Box:
        ref = str(uuid.UUID(bytes=self._rng.randbytes(16), version=4))
        box = Box(ref, document["label"], document["planId"], self._clock.now_ms())
        self.boxes[ref] = box
        return box

    def _balance(self) -> str:
        spent_base = sum(box.bill_base(self._clock.now_ms()) for box in self.boxes.values())
        return f"{(500_000_000 - spent_base) / 1_000_000:.6f}"

    def _status(self, box: Box) -> str:
        now_ms = self._clock.now_ms()
        if box.deleted_ms is not None:
            return "DESTROYED" if now_ms >= box.deleted_ms + DESTROY_MS else "DESTROYING"
        return "ACTIVE" if now_ms >= box.created_ms + PROVISION_MS else "PROVISIONING"

    def _shown(self, box: Box) -> dict[str, Any]:
        return {
            "id": box.ref,
            "label": box.label,
            "status": self._status(box),
            "region": "ams",
            "plan": box.plan,
            "ipv4": None,
            "hourlyPrice": HOURLY,
            "createdAt": utc_text(box.created_ms),
        }
