"""Agents as they are: they buy, they hang up, they ask again, with and without keys, twice at once, and for what is not theirs.

They know the gateway only through calls and answers. Theory: each thing that an agent wants is an *intent* with a body of
its own, so whatever it pays for can be told apart by the vendor's books; it is asked for until the answer is final.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.core.problems import Problem
from gateway.flow.call import Call, Reply
from tests.simulation.process import Died
from tests.simulation.seller import SELLER_PRICES
from tests.simulation.vpsagent import PRICES

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.simulation.process import Process
    from tests.simulation.world import World

__all__ = ["Agent", "Heard", "Intent", "Order"]

ASK_AGAIN = frozenset(
    {
        "outcome_unknown",
        "vendor_refused_payment",
        "vendor_unreachable",
        "vendor_timeout",
        "vendor_answer_malformed",
        "not_ready",
        "frozen",
        "too_many_open_payments",
        "exposure_capped",
        "wallet_exhausted",
        "payee_not_allowed",
        "renewal_open",
    }
)


@dataclass(frozen=True)
class Order:
    """What is sent for an intent, and how its agent behaves."""

    vendor: str
    method: str
    target: str
    body: bytes = b""
    with_key: bool = True
    twice_at_once: bool = False
    hang_up_after_s: float | None = None
    max_charge_base: int | None = None
    quote_only: bool = False
    attempts: int = 6
    pause_s: float = 7.0


@dataclass(frozen=True)
class Heard:
    """One answer: a status with its body, or a problem's code, or nothing because the connection ended."""

    at_ms: int
    intent: str
    status: int | None
    code: str
    body: bytes
    payment_id: str | None
    charge_base: int | None
    delivered: bool = False


@dataclass
class Intent:
    """Something that an agent wants, and all that it heard about it."""

    name: str
    account_id: str
    order: Order
    heard: list[Heard] = field(default_factory=list)
    taken_at_ms: list[int] = field(default_factory=list)  # when a whole answer was in the agent's hands

    @property
    def final(self) -> Heard | None:
        """The last whole answer."""
        return next((h for h in reversed(self.heard) if h.delivered), None)


@dataclass
class Agent:
    """One account's user."""

    world: World
    account_id: str
    key_id: str
    rng: random.Random
    intents: list[Intent] = field(default_factory=list)

    # asking

    async def want(self, order: Order, name: str | None = None) -> Intent:
        """Ask until there is a final answer, or patience ends."""
        intent = self._intent(order, name)
        for attempt in range(order.attempts):
            if attempt:
                await asyncio.sleep(order.pause_s * (1 + attempt / 2))
            again = order.twice_at_once and attempt == 0
            calls = [self._ask(intent, attempt) for _ in range(2 if again else 1)]
            heard = await asyncio.gather(*calls)
            if any(h.delivered or (h.code and h.code not in ASK_AGAIN) for h in heard):
                break
        return intent

    def _intent(self, order: Order, name: str | None) -> Intent:
        intent = Intent(name or f"{self.account_id}-{len(self.intents)}", self.account_id, order)
        self.intents.append(intent)
        return intent

    async def _ask(self, intent: Intent, attempt: int) -> Heard:
        heard = await self._call(intent, attempt)
        intent.heard.append(heard)
        self.world.note(
            f"{intent.name} {intent.order.method} {intent.order.target[:40]} -> {heard.status} {heard.code}"
        )
        return heard

    async def _call(self, intent: Intent, attempt: int) -> Heard:
        process = self.world.process
        if process is None:
            return self._nothing(intent, "connection refused")
        serving = asyncio.ensure_future(process.run(self._serve(intent, process)))
        hang_up_s = intent.order.hang_up_after_s if attempt == 0 else None
        try:
            await asyncio.wait({serving}, timeout=hang_up_s)
            if not serving.done():
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                return self._nothing(intent, "hung up")
            reply = serving.result()
        except Died:
            return self._nothing(intent, "connection lost")
        except Problem as problem:
            self.world.seen_by(self.account_id, json.dumps(problem.document()).encode())
            return Heard(
                self._now(), intent.name, problem.status, problem.code, b"", problem.extra.get("payment_id"), None
            )
        return await self._taken(intent, reply, process)

    async def _taken(self, intent: Intent, reply: Reply, process: Process) -> Heard:
        """The whole answer has arrived; the server notes that, unless it dies first."""
        self.world.seen_by(self.account_id, reply.body)
        intent.taken_at_ms.append(self._now())
        if reply.delivered is not None:
            try:
                await process.run(_awaited(reply.delivered))
            except Died:
                self.world.note(f"{intent.name}: the gateway died before it noted the delivery")
        return Heard(
            self._now(), intent.name, reply.status, "", reply.body, reply.payment_id, reply.charge_base, delivered=True
        )

    async def _serve(self, intent: Intent, process: Process) -> Reply:
        """What the API does with a request before the flow."""
        gateway, order = process.ready(), intent.order
        vendor = gateway.vendors[order.vendor]
        match = vendor.match(order.method, order.target.partition("?")[0])
        if match is None:
            raise Problem("route_not_declared", order.target)
        call = Call(
            key=gateway.parts.store.view.keys_by_id[self.key_id],
            request_id=self.world.next_id("req"),
            vendor=vendor,
            match=match,
            method=order.method,
            target=order.target,
            headers=(("Content-Type", "application/json"),),
            body=order.body,
            idempotency_key=f"idem-{intent.name}" if order.with_key else None,
            max_charge_base=order.max_charge_base,
            quote_only=order.quote_only,
        )
        return await gateway.spend.run(call)

    def _nothing(self, intent: Intent, why: str) -> Heard:
        self.world.note(f"{intent.name}: {why}")
        return Heard(self._now(), intent.name, None, "", b"", None, None)

    def _now(self) -> int:
        return self.world.clock.now_ms()

    # wanting

    def rent(self, sku: str, name: str, **how: Any) -> Order:
        """Order a box."""
        body = json.dumps({"sku": sku, "region": name}).encode()
        return Order("vpsagent", "POST", "/rent", body, **how)

    def renew(self, rental_id: str, surrogate: str, name: str, periods: int = 1, **how: Any) -> Order:
        """Order more time for a box."""
        target = f"/rentals/{rental_id}/renew?token={surrogate}&i={name}"
        return Order("vpsagent", "POST", target, json.dumps({"periods": periods}).encode(), **how)

    def boxes(self) -> list[dict[str, Any]]:
        """Return the answers to this agent's rents."""
        rents = [i.final for i in self.intents if i.order.target == "/rent" and not i.order.quote_only]
        return [json.loads(final.body) for final in rents if final is not None and final.status == 200]

    async def live(self, things: int) -> None:
        """Want so many things, some of them at once."""
        await asyncio.sleep(self.rng.uniform(0, 20))
        for _ in range(things):
            crowd = 2 if self.rng.random() < 0.25 else 1
            await asyncio.gather(*(self._something() for _ in range(crowd)))
            await asyncio.sleep(self.rng.uniform(0, 15))

    async def _something(self) -> None:
        name = self.world.next_id(f"{self.account_id}.")
        kinds = [self._rent, self._catalog, self._goods, self._free, self._renew, self._foreign]
        order = self.rng.choices(kinds, weights=[8, 3, 4, 3, 5, 3])[0](name)
        if order is not None:
            await self.want(order, name)

    def _manners(self, *, priced: bool = True) -> dict[str, Any]:
        draw = self.rng.random
        return {
            "with_key": draw() < 0.6,
            "twice_at_once": draw() < 0.2,
            "hang_up_after_s": self.rng.uniform(0.0, 2.5) if draw() < 0.2 else None,
            "max_charge_base": self.rng.choice([1, 10_000_000_000]) if priced and draw() < 0.15 else None,
            "quote_only": draw() < 0.05,
        }

    def _rent(self, name: str) -> Order:
        return self.rent(self.rng.choice([s for s in PRICES if s != "catalog"]), name, **self._manners())

    def _catalog(self, name: str) -> Order:
        return Order("vpsagent", "GET", f"/catalog?i={name}", **self._manners())

    def _goods(self, name: str) -> Order:
        good = self.rng.choice(list(SELLER_PRICES))
        return Order("seller", self.rng.choice(["GET", "POST"]), f"/goods/{good}?i={name}", **self._manners())

    def _free(self, name: str) -> Order:
        boxes = self.boxes()
        if not boxes:
            return Order("seller", "GET", f"/free?i={name}")
        box = self.rng.choice(boxes)
        targets = [f"/rentals/{box['rental_id']}", f"/instance/{box['rental_id']}?token={box['root_token']}"]
        return Order("vpsagent", "GET", self.rng.choice(targets), with_key=False)

    def _renew(self, name: str) -> Order | None:
        boxes = self.boxes()
        if not boxes:
            return None
        box = self.rng.choice(boxes)
        return self.renew(box["rental_id"], box["root_token"], name, self.rng.choice([1, 2]), **self._manners())

    def _foreign(self, name: str) -> Order | None:
        """Try what another agent, or the vendor behind it, knows."""
        rentals = self.world.vpsagent.rentals.values()
        mine = {box["rental_id"] for box in self.boxes()}
        others = [r for r in rentals if r.rental_id not in mine and not r.intent.startswith(self.account_id)]
        if not others:
            return None
        box = self.rng.choice(others)
        token = self.rng.choice([box.root_token, "0" * 48])
        return self.rng.choice(
            [
                Order("vpsagent", "GET", f"/rentals/{box.rental_id}", with_key=False),
                Order("vpsagent", "GET", f"/instance/{box.rental_id}?token={token}", with_key=False),
                self.renew(box.rental_id, token, name, with_key=False),
            ]
        )


async def _awaited(function: Callable[[], Awaitable[None]]) -> None:
    await function()
