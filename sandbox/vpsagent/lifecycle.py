"""The rental's state machine: made, settled, renewed, expired, destroyed. Pure changes on the records, given the time.

pending_settlement -> active on settlement, -> expired when the payment lapses or fails; active <-> renewing; active,
renewing -> expired when business time reaches `expires_at`, which moves at a renewal's settlement and nowhere else.
No I/O, no clock.
"""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING

from sandbox.vpsagent.records import Purchase, Rental

if TYPE_CHECKING:
    from sandbox.vpsagent.catalog import Sku
    from sandbox.vpsagent.records import Book

MS_PER_MINUTE = 60_000


def open_rental(
    sku: Sku, region: str | None, *, ipv4: str, ipv4_from_ms: int, box_up_at_ms: int | None, business_ms: int
) -> Rental:
    """A new rental that waits for its settlement."""
    return Rental(
        rental_id=str(uuid.uuid4()),
        sku=sku.sku,
        track=sku.track,
        region=region,
        ipv4=ipv4,
        ipv4_from_ms=ipv4_from_ms,
        box_up_at_ms=box_up_at_ms,
        root_token=secrets.token_urlsafe(32),
        root_password=secrets.token_urlsafe(18),
        created_at=business_ms,
        expires_at=business_ms + sku.duration_minutes * MS_PER_MINUTE,
    )


def settled(book: Book, purchase: Purchase, *, tx_hash: str, term_ms: int, told: bool = True) -> None:
    """Money came in: the rental becomes active, or its term grows. With `told` false the vendor never says so."""
    purchase.state = "settled"
    purchase.tx_hash = tx_hash
    purchase.reason = None
    rental = book.rentals.get(purchase.rental_id or "")
    if rental is None or not told:
        return
    if purchase.route == "rent":
        rental.settle_tx_hash = tx_hash
        if rental.status == "pending_settlement":
            rental.status = "active"
        return
    rental.last_renewal_tx_hash = tx_hash
    rental.renewal_count += 1
    if rental.status == "renewing":
        rental.expires_at += purchase.periods * term_ms
        rental.status = "active"


def unpaid(book: Book, purchase: Purchase, *, state: str, reason: str) -> None:
    """The payment will not come: a rental that waited for it is over, a renewal that waited for it never happened."""
    purchase.state = state
    purchase.reason = reason
    rental = book.rentals.get(purchase.rental_id or "")
    if rental is None:
        return
    if purchase.route == "rent" and rental.status == "pending_settlement":
        rental.status = "expired"
        rental.box_destroyed = True
    if purchase.route == "renew" and rental.status == "renewing":
        rental.status = "active"


def expire(book: Book, rental: Rental, *, business_ms: int, grace_ms: int) -> bool:
    """Apply business time to one rental; returns whether anything changed."""
    if rental.status != "expired":
        if business_ms < rental.expires_at:
            return False
        if rental.track == "server" and rental.status in ("active", "renewing"):
            rental.grace_until = rental.expires_at + grace_ms
        rental.status = "expired"
        for purchase in book.purchases.values():
            if purchase.rental_id == rental.rental_id and purchase.state == "open" and not purchase.outlives:
                unpaid(book, purchase, state="abandoned", reason="the rental expired first")
        changed = True
    else:
        changed = False
    if not rental.box_destroyed and (rental.grace_until is None or business_ms >= rental.grace_until):
        rental.box_destroyed = True
        changed = True
    return changed
