"""VRTX's webhooks: lifecycle events, signed over the raw body, sent at once and retried for 72 hours.

There is no event for a failed installation. Retries wait on the business clock, answers in real time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any

import aiohttp

from sandbox.shared_vendor.timeline import MS, iso

if TYPE_CHECKING:
    from sandbox.vrtx.records import Server
    from sandbox.vrtx.vendor import Vrtx

SIGNATURE = "X-Vrtx-Signature"
LONGEST_WAIT_S = 3600
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Webhooks:
    """Events of one vendor, and their deliveries."""

    def __init__(self, vendor: Vrtx) -> None:
        self._vendor = vendor
        self._tasks: set[asyncio.Task[None]] = set()
        self.events: list[dict[str, Any]] = []
        self.deliveries: list[dict[str, Any]] = []

    def emit(self, kind: str, server: Server) -> None:
        """Something happened to a server: tell the account's endpoints, as the faults have it."""
        event = {
            "id": "evt_" + "".join(secrets.choice(_ALPHABET) for _ in range(16)),
            "type": kind,
            "created_at": iso(self._vendor.shown_ms(self._vendor.timeline.now_ms()), suffix="+00:00"),
            "data": {
                "uuid": server.uuid,
                "uuid_short": server.uuid[:8],
                "name": server.name,
                "status": server.status,
                "state": server.state,
            },
        }
        self.events.append({"account": server.account, **event})
        fault = self._vendor.faults.take("webhook", event=kind) or {"mode": None}
        if fault["mode"] == "drop":
            return
        delay_s = fault["after_s"] if fault["mode"] == "late" else 0
        for endpoint in self._vendor.accounts[server.account].webhooks:
            for _ in range(2 if fault["mode"] == "duplicate" else 1):
                self._send(event, endpoint, fault["mode"], delay_s)

    def replay(self, event_id: str) -> int:
        """Send an event again to every endpoint; returns to how many."""
        found = next((event for event in self.events if event["id"] == event_id), None)
        if found is None:
            raise ValueError(f"no such event: {event_id}")
        event = {name: value for name, value in found.items() if name != "account"}
        endpoints = self._vendor.accounts[found["account"]].webhooks
        for endpoint in endpoints:
            self._send(event, endpoint, None, 0)
        return len(endpoints)

    def forget(self) -> None:
        """Know no event any more; what is under way ends."""
        for task in self._tasks:
            task.cancel()
        self.events.clear()
        self.deliveries.clear()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self, event: dict[str, Any], endpoint: dict[str, str], mode: str | None, delay_s: float) -> None:
        body = json.dumps(event).encode()
        secret = secrets.token_hex(16) if mode == "forge" else endpoint["secret"]
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if mode == "tamper":
            body = body.replace(event["data"]["uuid"].encode(), secrets.token_hex(18).encode())
        headers = {"Content-Type": "application/json", SIGNATURE: self._vendor.config.signature_prefix + digest}
        delivery: dict[str, Any] = {
            "event_id": event["id"],
            "type": event["type"],
            "url": endpoint["url"],
            "first_ms": self._vendor.timeline.now_ms(),
            "attempts": [],
            "state": "waiting",
        }
        self.deliveries.append(delivery)
        # Through the timeline even when at once, so that the answer to the request that caused it goes out first.
        self._vendor.timeline.after(delay_s, lambda: self._begin(delivery, body, headers))

    def _begin(self, delivery: dict[str, Any], body: bytes, headers: dict[str, str]) -> None:
        task = asyncio.create_task(self._attempt(delivery, body, headers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, delivery: dict[str, Any], body: bytes, headers: dict[str, str]) -> None:
        config, timeline = self._vendor.config, self._vendor.timeline
        timeout = aiohttp.ClientTimeout(total=config.webhook_timeout_s)
        outcome: int | str
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(delivery["url"], data=body, headers=headers, allow_redirects=False) as reply,
            ):
                outcome = reply.status
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = type(error).__name__
        attempts = delivery["attempts"]
        attempts.append({"at_ms": timeline.now_ms(), "outcome": outcome})
        if isinstance(outcome, int) and 200 <= outcome < 300:
            delivery["state"] = "delivered"
            return
        wait_s = min(LONGEST_WAIT_S, config.webhook_retry_s * 2 ** min(len(attempts) - 1, 16))
        if timeline.now_ms() + wait_s * MS - delivery["first_ms"] > config.webhook_give_up_s * MS:
            delivery["state"] = "given_up"
            return
        timeline.after(wait_s, lambda: self._begin(delivery, body, headers))
