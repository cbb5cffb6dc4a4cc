"""The worker: opens boxes, settles what is due, lets lapse what is late, expires what is over.

It collects a rental's money only after a real TCP connect to the box's port succeeded, a renewal's only after its
manual step, and neither after `validBefore`. Each purchase in work is a task of its own, so that one slow settlement
delays no other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sandbox.vpsagent import lifecycle
from sandbox.vpsagent.vendor import MS, Vendor, invented_tx_hash

if TYPE_CHECKING:
    from sandbox.vpsagent.records import Purchase, Rental

log = logging.getLogger("vpsagent.worker")

# The SDK refuses to settle within six seconds of validBefore; closer than that only an unchecked broadcast can be.
SDK_MARGIN_S = 6
RETRY_MS = 1000
# What no later attempt can change.
FINAL_REASONS = ("nonce_already_used", "invalid_signature", "valid_before")


class Worker:
    """Runs until cancelled."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            await self.tick()
            await asyncio.sleep(self._vendor.config.worker_interval_s)

    async def tick(self) -> None:
        """One look at everything."""
        vendor, changed = self._vendor, False
        for rental in list(vendor.book.rentals.values()):
            changed |= lifecycle.expire(
                vendor.book,
                rental,
                business_ms=vendor.clock.business_ms(),
                grace_ms=vendor.config.grace_s * MS,
            )
            await self._tend_box(rental)
        if not vendor.worker_paused:
            for purchase in list(vendor.book.purchases.values()):
                if purchase.state == "open" and purchase.purchase_id not in self._tasks:
                    changed |= self._tend_purchase(purchase)
        if changed:
            vendor.save()

    async def _tend_box(self, rental: Rental) -> None:
        vendor = self._vendor
        due = rental.box_up_at_ms is not None and vendor.clock.real_ms() >= rental.box_up_at_ms
        if rental.box_destroyed:
            vendor.boxes.take_down(rental.ipv4)
        elif due:
            await vendor.boxes.bring_up(rental.ipv4)
        if not vendor.faults.in_force("upstream_down"):
            vendor.look_at(rental)

    def _tend_purchase(self, purchase: Purchase) -> bool:
        """Start work on a purchase that is due; returns whether it changed at once."""
        vendor, now = self._vendor, self._vendor.clock.real_ms()
        if now >= purchase.valid_before_s * MS:
            lifecycle.unpaid(vendor.book, purchase, state="lapsed", reason="validBefore has passed")
            return True
        if now >= purchase.retry_at_ms and self._due(purchase, now):
            task = asyncio.create_task(self._settle(purchase))
            self._tasks[purchase.purchase_id] = task
            task.add_done_callback(lambda done: self._done(purchase.purchase_id, done))
        return False

    def _due(self, purchase: Purchase, now: int) -> bool:
        """Whether time allows collecting; the box itself is probed by the task."""
        mode = purchase.plan["mode"]
        if mode == "never" or (purchase.route == "renew" and not _passed(purchase.manual_at_ms, now)):
            return False
        if mode == "near_deadline":
            return now >= purchase.valid_before_s * MS - round(purchase.plan["margin_s"] * MS)
        if mode == "without_box":
            return now >= purchase.accepted_at_ms + round(purchase.plan["after_s"] * MS)
        return True

    async def _settle(self, purchase: Purchase) -> None:
        vendor = self._vendor
        mode = purchase.plan["mode"]
        rental = vendor.book.rentals.get(purchase.rental_id or "")
        if rental is not None and purchase.route == "rent" and mode != "without_box":
            up = vendor.boxes.is_up(rental.ipv4)
            if not up or not await vendor.boxes.reachable(rental.ipv4, vendor.config.connect_timeout_s):
                return
        if mode == "lie":
            vendor.close_settled(purchase, invented_tx_hash())
            vendor.save()
            return
        unchecked = mode == "near_deadline" and purchase.plan["margin_s"] <= SDK_MARGIN_S
        outcome = await vendor.collect(purchase, unchecked=unchecked)
        if outcome.ok:
            vendor.close_settled(purchase, outcome.tx_hash, told=mode != "hidden")
            if mode == "twice":
                await vendor.collect(purchase, unchecked=True)
        elif any(final in (outcome.reason or "") for final in FINAL_REASONS):
            lifecycle.unpaid(vendor.book, purchase, state="failed", reason=outcome.reason or "")
        else:
            purchase.reason = outcome.reason
            purchase.retry_at_ms = vendor.clock.real_ms() + RETRY_MS
        vendor.save()

    def _done(self, purchase_id: str, task: asyncio.Task[None]) -> None:
        del self._tasks[purchase_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("purchase %s", purchase_id, exc_info=error)


def _passed(at_ms: int | None, now: int) -> bool:
    return at_ms is not None and now >= at_ms
