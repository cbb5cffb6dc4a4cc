"""An order for credit before anybody has paid for it: a random name, and a mark that binds what it is worth to it.

Must not know rows, keys or wire formats.  Theory: a 402 costs its asker nothing, so it must cost us nothing either: no row
is written for it. What the order says travels with the offer instead, under a MAC, and comes back with the payment; so a
payer can neither move an order to another account nor change its amount, and a flood of unpaid orders is only traffic.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.core.ids import RANDOM_BYTES, make_id

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ID_BYTES", "ORDER_ID", "Order", "OrderMarks", "order_id"]

ID_BYTES: Final = RANDOM_BYTES
MARK_BYTES: Final = 16
MAX_TOKEN_CHARS: Final = 512
ORDER_ID: Final = r"top_[0-9A-HJKMNP-TV-Z]{26}"

_TAG: Final = b"gateway/topup-order/v1"
_ID = re.compile(ORDER_ID, re.ASCII)
_SECONDS = re.compile(r"[1-9][0-9]{9,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Order:
    """Credit of `amount_base` (USD) for an account, or for whoever pays (None), until it expires (milliseconds).

    `pack` is the name of a fixed pack, "" for a free amount.
    """

    id: str
    account_id: str | None
    amount_base: int
    pack: str
    expires_at_ms: int


def order_id(now_ms: int, randomness: bytes) -> str:
    """Return `top_` and 26 characters: ids sort by time, and 80 random bits make one that was not shown unguessable."""
    return make_id("top", now_ms, randomness)


class OrderMarks:
    """Writes and reads the text that stands for an order in an offer. `mac` is a keyed hash of at least 16 bytes."""

    def __init__(self, mac: Callable[[bytes], bytes]) -> None:
        self._mac = mac

    def token(self, order: Order) -> str:
        """Return the text. Times are kept to the second."""
        expires_s = order.expires_at_ms // 1000
        return f"{order.id}.{order.account_id or ''}.{expires_s}.{self._mark(order, expires_s)}"

    def read(self, token: object, amount_base: int, pack: str) -> Order | None:
        """Return the order of a text that we wrote for this amount and pack, else None. It may have expired."""
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS or not token.isascii():
            return None
        name, _, rest = token.partition(".")
        parts = rest.rsplit(".", 2)
        if _ID.fullmatch(name) is None or len(parts) != 3 or _SECONDS.fullmatch(parts[1]) is None:  # noqa: PLR2004 - the parts written above
            return None
        order = Order(name, parts[0] or None, amount_base, pack, int(parts[1]) * 1000)
        return order if hmac.compare_digest(self._mark(order, int(parts[1])), parts[2]) else None

    def _mark(self, order: Order, expires_s: int) -> str:
        text = _joined(_TAG, order.id, order.account_id or "", str(order.amount_base), order.pack, str(expires_s))
        return urlsafe_b64encode(self._mac(text)[:MARK_BYTES]).decode("ascii").rstrip("=")


def _joined(tag: bytes, *parts: str) -> bytes:
    """Parts with their lengths: no two orders make one text."""
    encoded = [part.encode("utf-8") for part in parts]
    return tag + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
