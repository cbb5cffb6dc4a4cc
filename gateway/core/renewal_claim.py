"""A renewal under way as one text: its number, which its Idempotency-Key is made of, and everything needed to go on with it.

Must not know the store.  Theory: the text is durable before anything is asked, so whoever finds it after a crash asks for
the very same again, and can tell whether it was done: the paid time has moved beyond the end that it extends. The key says
the number alone, so a number buys once, whatever is asked for under it later.
"""

import re
from dataclasses import dataclass

from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.records import Payment

_TEXT = re.compile(r"renew (\S+) ([0-9]{1,9}) ([0-9]{1,9}) ([0-9]{1,16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RenewalClaim:
    """The `number`th renewal of a server: `units` more from `ends_at_ms` on."""

    server_id: str
    number: int
    units: int
    ends_at_ms: int

    @property
    def key(self) -> str:
        """The Idempotency-Key that it is bought with."""
        return key_of(self.server_id, self.number)

    @property
    def text(self) -> str:
        """The whole claim, as the server's record holds it."""
        return f"renew {self.server_id} {self.number} {self.units} {self.ends_at_ms}"

    @classmethod
    def read(cls, text: str) -> "RenewalClaim | None":
        """Return the claim that a text is, None for the empty text. Raises ValueError for any other."""
        if not text:
            return None
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError("a server's renewal is no claim of a renewal")
        return cls(match[1], int(match[2]), int(match[3]), int(match[4]))


def key_of(server_id: str, number: int) -> str:
    """Return the Idempotency-Key of the renewal of a number; no agent's has a space in it."""
    return f"renew {server_id} {number}"


def is_dead(payment: Payment) -> bool:
    """Say whether a renewal's money is never collected, for certain: it may be bought again."""
    return payment.axes.transfer is Transfer.DEAD or payment.axes.charge is Charge.VOIDED


def is_paid(payment: Payment, *, slow: bool) -> bool:
    """Say whether a renewal is done as far as its money goes: collected, or where that is at once, delivered."""
    if payment.axes.transfer is Transfer.SETTLED or payment.axes.charge is not Charge.HELD:
        return not is_dead(payment)
    return not slow and payment.axes.delivery is Delivery.DELIVERED
