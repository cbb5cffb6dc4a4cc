"""LiteVPS and VRTX in memory: servers by the minute while they run, and by the calendar month; no gateway is known here.

What each bills is counted from its own times when it is asked, never from what anybody told it.
"""

import asyncio
import json
import random
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gateway.core.times import next_month, utc_text
from gateway.http.port import UpstreamRequest
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Script, Wire
from tests.simulation.shop import wire

__all__ = ["Machine", "ScriptedLiteVps", "ScriptedVrtx"]

MINUTE_MS = 60_000
GIB = 1 << 30


@dataclass
class Machine:
    """One server. `name` is what the vendor was told, our mark in it; `ttl_ms` how long it lives by itself."""

    ref: str
    name: str
    created_ms: int
    deleted_ms: int | None = None
    ttl_ms: int | None = None
    key: str = field(default="", repr=False)

    def ended_ms(self, now_ms: int) -> int | None:
        """Return when it ended, None while it is there."""
        by_itself = None if self.ttl_ms is None else self.created_ms + self.ttl_ms
        if by_itself is not None and by_itself <= min(now_ms, self.deleted_ms or by_itself):
            return by_itself
        return self.deleted_ms


class _Account(ABC):
    """What both have: one account, faults by the script on answers that change something, servers by id."""

    name = ""
    provision_ms = 20_000

    def __init__(self, clock: VirtualClock, rng: random.Random, script: Script) -> None:
        self._clock, self._rng, self._script = clock, rng, script
        self.machines: dict[str, Machine] = {}

    def intent_of(self, request: UpstreamRequest) -> str:
        """Return what is asked."""
        return f"{request.method} {urlsplit(request.target).path}"

    async def serve(self, request: UpstreamRequest, sender: int) -> Wire:
        """Answer one request, and break the answer where the script says."""
        await asyncio.sleep(self._rng.uniform(0.005, 0.4))
        assert isinstance(request.body, bytes)
        document = json.loads(request.body) if request.body else {}
        answer = self.answer(request, urlsplit(request.target).path.strip("/").split("/"), document)
        if request.method == "GET":
            return answer
        fault = self._script.take("reply", self.name, self.intent_of(request))
        return Wire(0, (), b"", cut="connection_lost") if fault == "dropped" else answer

    @abstractmethod
    def answer(self, request: UpstreamRequest, parts: list[str], document: dict[str, Any]) -> Wire:
        """Answer one request."""

    def alive(self, machine: Machine) -> bool:
        """Say whether it is there now."""
        return machine.ended_ms(self._clock.now_ms()) is None

    def is_up(self, machine: Machine) -> bool:
        """Say whether it runs."""
        return self._clock.now_ms() >= machine.created_ms + self.provision_ms

    def make(self, name: str, **more: Any) -> Machine:
        """Make a server."""
        ref = str(uuid.UUID(bytes=self._rng.randbytes(16), version=4))
        made = self.machines[ref] = Machine(ref, name, self._clock.now_ms(), **more)
        return made


class ScriptedLiteVps(_Account):
    """LiteVPS with one plan and one template that destroys itself; the operator has a long-lived token."""

    name = "litevps"
    hourly_base = 4_200

    def bill_base(self, machine: Machine, now_ms: int) -> int:
        """Each started minute from when it runs to its end."""
        until_ms = machine.ended_ms(now_ms) or now_ms
        minutes = max(0, -(-(until_ms - machine.created_ms - self.provision_ms) // MINUTE_MS))
        return -(-minutes * self.hourly_base // 60)

    def answer(self, request: UpstreamRequest, parts: list[str], document: dict[str, Any]) -> Wire:
        """Answer one request."""
        match (request.method, *parts[1:]):
            case ("GET", "pricing"):
                plan = {"id": "nano", "name": "Nano", "vcpu": 1, "memory_mb": 512, "disk_gb": 10}
                return self._told(200, [{**plan, "price_hourly": self.hourly_base / 1_000_000}])
            case ("GET", "templates"):
                sizes = {"vcpu": 1, "memory_mb": 512, "disk_gb": 10}
                template = {"slug": "hour-box", "name": "Hour box", "ttl_minutes": 60, **sizes}
                return self._told(200, [template])
            case ("GET", "billing", "balance"):
                return self._told(200, {"balance": 5000.0})
            case ("GET", "vps"):
                return self._told(200, [self._shown(m) for m in self.machines.values() if self.alive(m)])
            case ("POST", "vps"):
                ttl_ms = 60 * MINUTE_MS if document.get("template") == "hour-box" else None
                return self._told(201, self._shown(self.make(document.get("name", ""), ttl_ms=ttl_ms)))
            case (method, "vps", ref, *_) if ref in self.machines and self.alive(self.machines[ref]):
                if method == "DELETE":
                    self.machines[ref].deleted_ms = self._clock.now_ms()
                    return self._told(200, {"deleted": True})
                return self._told(200, self._shown(self.machines[ref]))
        return self._told(404, {"error": "not found"})

    def _told(self, status: int, document: object) -> Wire:
        spent = sum(self.bill_base(m, self._clock.now_ms()) for m in self.machines.values())
        return wire(status, document, (("X-Balance-Remaining", f"{(5_000_000_000 - spent) / 1_000_000:.4f}"),))

    def _shown(self, machine: Machine) -> dict[str, Any]:
        ends_ms = None if machine.ttl_ms is None else machine.created_ms + machine.ttl_ms
        return {
            "id": machine.ref,
            "name": machine.name,
            "state": "running" if self.is_up(machine) else "creating",
            "plan_id": "nano",
            "vcpu": 1,
            "memory_mb": 512,
            "disk_gb": 10,
            "ip_address": "203.0.113.9",
            "price_hourly": self.hourly_base / 1_000_000,
            "ttl_minutes": None if machine.ttl_ms is None else machine.ttl_ms // MINUTE_MS,
            "expires_at": None if ends_ms is None else utc_text(ends_ms),
            "created_at": utc_text(machine.created_ms),
        }


class ScriptedVrtx(_Account):
    """VRTX with one plan at one location; each calendar month that is touched is owed whole."""

    name = "vrtx"
    monthly_base = 3_920_000
    provision_ms = 60_000

    def bill_base(self, machine: Machine, now_ms: int) -> int:
        """Each calendar month from its creation to its deletion."""
        until_ms, begin_ms, months = machine.ended_ms(now_ms) or now_ms, machine.created_ms, 0
        while begin_ms < until_ms:
            months, begin_ms = months + 1, next_month(begin_ms)
        return months * self.monthly_base

    def answer(self, request: UpstreamRequest, parts: list[str], document: dict[str, Any]) -> Wire:
        """Answer one request."""
        match (request.method, *parts[2:]):
            case ("GET", "plans"):
                plan = {"id": 1, "name": "1 vCPU", "cpu": 1, "memory": 3 * GIB, "disk": 20 * GIB}
                return _data([{**plan, "monthly_price": self.monthly_base / 1_000_000, "hourly_price": 0.0053}])
            case ("GET", "locations"):
                return _data([{"id": 1, "name": "New York, USA"}])
            case ("GET", "locations", "1", "templates"):
                return _data([{"slug": "debian-12", "name": "Debian 12"}])
            case ("GET", "servers"):
                return _data([self._shown(m) for m in self.machines.values() if self.alive(m)])
            case ("POST", "servers"):
                key = next(value for name, value in request.headers if name.lower() == "idempotency-key")
                known = next((m for m in self.machines.values() if m.key == key), None)
                made = known or self.make(document["hostname"], key=key)
                return wire(201, {"data": self._shown(made)})
            case (method, "servers", ref, *rest) if ref in self.machines and self.alive(self.machines[ref]):
                return self._one(method, self.machines[ref], rest)
        return wire(404, {"error": {"code": "NOT_FOUND", "message": "not found"}})

    def _one(self, method: str, machine: Machine, rest: list[str]) -> Wire:
        if method == "DELETE":
            machine.deleted_ms = self._clock.now_ms()
            return Wire(204, (), b"")
        if rest == ["status"]:
            status = None if self.is_up(machine) else "installing"
            return wire(200, {"data": {"state": "running", "status": status, "uptime_seconds": 1}})
        return wire(200, {"data": self._shown(machine)})

    def _shown(self, machine: Machine) -> dict[str, Any]:
        return {
            "uuid": machine.ref,
            "uuid_short": machine.ref[:8],
            "name": machine.name,
            "status": None if self.is_up(machine) else "installing",
            "cpu": 1,
            "memory": 3 * GIB,
            "disk": 20 * GIB,
            "password_status": "ready",
            "ip_addresses": [{"address": "203.0.113.10", "type": "ipv4"}],
            "created_at": utc_text(machine.created_ms),
        }


def _data(rows: list[dict[str, Any]]) -> Wire:
    meta = {"current_page": 1, "last_page": 1, "per_page": 100, "total": len(rows)}
    return wire(200, {"data": rows, "meta": meta})
