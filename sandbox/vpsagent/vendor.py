"""The vendor as one object: config, clocks, book, faults, boxes, payments.

What a request or the worker does starts here. It holds the parts together and keeps the book saved; it speaks no HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from sandbox.vpsagent import catalog, lifecycle
from sandbox.vpsagent.box import Boxes
from sandbox.vpsagent.clock import Clock
from sandbox.vpsagent.faults import Faults
from sandbox.vpsagent.payments import Collected, PaymentRefusedError, Payments, Presented, read_header
from sandbox.vpsagent.records import Purchase, Rental, Seen, Settlement
from sandbox.vpsagent.statefile import StateFile

if TYPE_CHECKING:
    from sandbox.vpsagent.config import Config

MS = 1000


class Vendor:
    """Everything that VpsAgent owns. `origin` is set once the public port is known."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.origin = ""
        self.file = StateFile(config.state_file)
        self.book = self.file.load()
        self.clock = Clock(self.book.offset_ms)
        self.faults = Faults()
        for fault in config.faults:
            self.faults.add(fault)
        self.boxes = Boxes(config.ssh_port or self.book.ssh_port)
        self.book.ssh_port = self.boxes.ssh_port
        self.payments = Payments(config.rpc_url, config.relayer_key, config.settle_workers)
        self.worker_paused = False
        self._nonce_locks: dict[str, asyncio.Lock] = {}

    def save(self) -> None:
        """Write the book down."""
        self.book.offset_ms = self.clock.offset_ms
        self.file.save(self.book)

    def skus(self) -> dict[str, catalog.Sku]:
        """The storefront as it is now, raised prices included."""
        return catalog.storefront({**self.config.prices, **self.faults.prices()}, self.config.unavailable)

    def note_seen(self, nonce: str, header: str, route: str) -> None:
        """Count a presentation of an authorization."""
        seen = self.book.seen.setdefault(nonce, Seen())
        seen.count += 1
        seen.routes.append(route)
        digest = hashlib.sha256(header.encode()).hexdigest()
        if digest not in seen.headers:
            seen.headers.append(digest)

    def purchases_of(self, header: str) -> list[Purchase]:
        """The purchases that an X-Payment header was accepted for; none where it cannot be read."""
        try:
            return self.book.with_nonce(read_header(header).nonce)
        except PaymentRefusedError:
            return []

    def lock_for(self, nonce: str) -> asyncio.Lock:
        """One request at a time per authorization, or two at once would make two boxes."""
        return self._nonce_locks.setdefault(nonce, asyncio.Lock())

    def open_purchase(self, route: str, payment: Presented, requirements: dict[str, Any], **details: Any) -> Purchase:
        """Put a verified payment in the book."""
        purchase = Purchase(
            purchase_id=str(uuid.uuid4()),
            route=route,
            nonce=payment.nonce,
            payer=payment.payer,
            amount_base=payment.value,
            valid_before_s=payment.valid_before_s,
            accepted_at_ms=self.clock.real_ms(),
            payload=payment.payload,
            requirements=requirements,
            plan=details.pop("plan", None) or self._settle_plan(route),
            **details,
        )
        self.book.purchases[purchase.purchase_id] = purchase
        return purchase

    def provision(self, sku: catalog.Sku, region: str | None) -> Rental:
        """Order a box; its port opens after `provision_s`, or as a `box` fault has it."""
        now = self.clock.real_ms()
        up_at: int | None = now + round(self.config.provision_s * MS)
        fault = self.faults.take("box", "rent", paid=True)
        if fault is not None:
            up_at = now + round(fault["after_s"] * MS) if fault["mode"] == "late" else None
        rental = lifecycle.open_rental(
            sku,
            region,
            ipv4=self.boxes.allocate(),
            ipv4_from_ms=now + round(self.config.ipv4_after_s * MS),
            box_up_at_ms=up_at,
            business_ms=self.clock.business_ms(),
        )
        self.look_at(rental)
        self.book.rentals[rental.rental_id] = rental
        return rental

    def look_at(self, rental: Rental) -> None:
        """Ask the upstream provider about a box, and remember what it said."""
        rental.known_ipv4 = rental.ipv4 if self.clock.real_ms() >= rental.ipv4_from_ms else None
        rental.known_running = self.boxes.is_up(rental.ipv4)

    def manual_step(self, rental: Rental) -> tuple[int | None, bool]:
        """When a renewal's manual step will be done (None: when somebody says so), and whether it outlives the rental."""
        now = self.clock.real_ms()
        if rental.track == "sandbox":
            return now, False
        fault = self.faults.take("manual_step", "renew", paid=True)
        if fault is not None:
            at = None if fault["mode"] == "never" else now + round(fault["after_s"] * MS)
            return at, fault["mode"] == "outlives"
        after_s = self.config.manual_step_s
        return (None if after_s is None else now + round(after_s * MS)), False

    async def collect(self, purchase: Purchase, *, unchecked: bool = False) -> Collected:
        """One attempt to collect a purchase's money, written down whatever comes of it."""
        act = self.payments.broadcast if unchecked else self.payments.settle
        outcome = await act(purchase.payload, purchase.requirements)
        self.book.settlements.append(
            Settlement(
                purchase_id=purchase.purchase_id,
                nonce=purchase.nonce,
                at_ms=self.clock.real_ms(),
                ok=outcome.ok,
                tx_hash=outcome.tx_hash,
                reason=outcome.reason,
            )
        )
        return outcome

    def close_settled(self, purchase: Purchase, tx_hash: str, *, told: bool = True) -> None:
        """Book a collected payment."""
        rental = self.book.rentals.get(purchase.rental_id or "")
        term_ms = self.skus()[rental.sku].duration_minutes * lifecycle.MS_PER_MINUTE if rental else 0
        lifecycle.settled(self.book, purchase, tx_hash=tx_hash, term_ms=term_ms, told=told)

    def reset(self) -> None:
        """Forget faults, rentals and payments, as a new vendor would; business time stays."""
        self.faults.clear()
        self.boxes.take_down_all()
        for table in (self.book.rentals, self.book.purchases, self.book.seen):
            table.clear()
        self.book.settlements.clear()
        self.save()

    def _settle_plan(self, route: str) -> dict[str, Any]:
        fault = self.faults.take("settle", route, paid=True)
        if fault is None:
            return {"mode": "normal"}
        return {key: fault[key] for key in ("mode", "margin_s", "after_s")}


def invented_tx_hash() -> str:
    """A hash of no transaction, for a vendor that lies."""
    return "0x" + secrets.token_hex(32)
