"""One payment: its three axes as data, and the one table that decides the charge.

Must not know HTTP, chains, clocks or the store.  Theory: what the vendor did (delivery) and what the chain did
(transfer) are recorded apart, each moves only along its own arrows, and the charge follows from the pair alone; a
missing arrow or cell is an error that changes nothing (design 4).
"""

from dataclasses import dataclass
from enum import StrEnum


class Delivery(StrEnum):
    """What the vendor did for the agent, as far as we have seen."""

    NONE = "none"
    DELIVERED = "delivered"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Transfer(StrEnum):
    """What became of the money that was promised to the vendor."""

    NONE = "none"
    PREPARED = "prepared"  # a first billing period whose create is on its way: nothing is owed yet
    PRESENTED = "presented"  # the credential may have left, and be collected; a period of a thing that exists
    SETTLED = "settled"  # collected, proven at a final block; a period that was billed by its vendor's rule
    DEAD = "dead"  # can never be collected, proven likewise; a period in which nothing was charged


class Charge(StrEnum):
    """What became of the agent's money."""

    HELD = "held"
    CAPTURED = "captured"
    VOIDED = "voided"
    REFUNDED = "refunded"  # the vendor collected, the house bears it (dispute rule)


class Fault(StrEnum):
    """Whose doing a refusal was; it decides who bears a refusal that was collected all the same."""

    NONE = "none"
    AGENT = "agent"
    VENDOR = "vendor"


class Action(StrEnum):
    """What the table asks for."""

    HOLD = "hold"
    CAPTURE = "capture"
    VOID = "void"
    DISPUTE = "dispute"
    AWAIT_DELIVERY = "await_delivery"  # hold until delivery is found or the deadline, then dispute


class IllegalMove(ValueError):  # noqa: N818 - named for what it says in a traceback
    """An arrow or a cell that does not exist. Nothing was changed."""


DELIVERY_MOVES: dict[Delivery, frozenset[Delivery]] = {
    Delivery.NONE: frozenset({Delivery.DELIVERED, Delivery.REFUSED, Delivery.UNKNOWN}),
    Delivery.UNKNOWN: frozenset({Delivery.DELIVERED, Delivery.REFUSED}),
    Delivery.REFUSED: frozenset({Delivery.DELIVERED}),  # a vendor that said no and delivers all the same
    Delivery.DELIVERED: frozenset(),
}

TRANSFER_MOVES: dict[Transfer, frozenset[Transfer]] = {
    Transfer.NONE: frozenset({Transfer.PREPARED, Transfer.PRESENTED}),
    Transfer.PREPARED: frozenset({Transfer.PRESENTED, Transfer.DEAD}),
    Transfer.PRESENTED: frozenset({Transfer.SETTLED, Transfer.DEAD}),
    Transfer.SETTLED: frozenset(),
    Transfer.DEAD: frozenset(),
}

CHARGE_MOVES: dict[Charge, frozenset[Charge]] = {
    Charge.HELD: frozenset({Charge.CAPTURED, Charge.VOIDED, Charge.REFUNDED}),
    Charge.CAPTURED: frozenset(),
    Charge.VOIDED: frozenset(),
    Charge.REFUNDED: frozenset(),
}

TABLE: dict[tuple[Delivery, Transfer], Action] = {
    (Delivery.NONE, Transfer.NONE): Action.HOLD,
    (Delivery.NONE, Transfer.PREPARED): Action.HOLD,
    (Delivery.NONE, Transfer.PRESENTED): Action.HOLD,
    (Delivery.NONE, Transfer.SETTLED): Action.AWAIT_DELIVERY,
    (Delivery.NONE, Transfer.DEAD): Action.VOID,
    (Delivery.DELIVERED, Transfer.NONE): Action.HOLD,
    (Delivery.DELIVERED, Transfer.PREPARED): Action.HOLD,
    (Delivery.DELIVERED, Transfer.PRESENTED): Action.HOLD,
    (Delivery.DELIVERED, Transfer.SETTLED): Action.CAPTURE,
    (Delivery.DELIVERED, Transfer.DEAD): Action.VOID,
    (Delivery.REFUSED, Transfer.NONE): Action.VOID,
    (Delivery.REFUSED, Transfer.PREPARED): Action.VOID,
    (Delivery.REFUSED, Transfer.PRESENTED): Action.HOLD,
    (Delivery.REFUSED, Transfer.SETTLED): Action.DISPUTE,
    (Delivery.REFUSED, Transfer.DEAD): Action.VOID,
    (Delivery.UNKNOWN, Transfer.NONE): Action.HOLD,
    (Delivery.UNKNOWN, Transfer.PREPARED): Action.HOLD,
    (Delivery.UNKNOWN, Transfer.PRESENTED): Action.HOLD,
    (Delivery.UNKNOWN, Transfer.SETTLED): Action.AWAIT_DELIVERY,
    (Delivery.UNKNOWN, Transfer.DEAD): Action.VOID,
}


@dataclass(frozen=True, slots=True)
class Axes:
    """The recorded state of one payment."""

    delivery: Delivery = Delivery.NONE
    transfer: Transfer = Transfer.NONE
    charge: Charge = Charge.HELD

    def deliver(self, to: Delivery) -> "Axes":
        """Return the axes after a move of delivery; the same value again is no move. Raises IllegalMove."""
        if to is self.delivery:
            return self
        if to not in DELIVERY_MOVES[self.delivery]:
            raise IllegalMove(f"delivery {self.delivery} -> {to}")
        return Axes(to, self.transfer, self.charge)

    def transferred(self, to: Transfer) -> "Axes":
        """Return the axes after a move of transfer; the same value again is no move. Raises IllegalMove."""
        if to is self.transfer:
            return self
        if to not in TRANSFER_MOVES[self.transfer]:
            raise IllegalMove(f"transfer {self.transfer} -> {to}")
        return Axes(self.delivery, to, self.charge)

    def charged(self, to: Charge) -> "Axes":
        """Return the axes after the hold was closed. Raises IllegalMove, also for the same value: a hold closes once."""
        if to not in CHARGE_MOVES[self.charge]:
            raise IllegalMove(f"charge {self.charge} -> {to}")
        return Axes(self.delivery, self.transfer, to)

    @property
    def action(self) -> Action:
        """What the table asks for now. A charge that is closed asks for nothing more. Raises IllegalMove."""
        if self.charge is not Charge.HELD:
            return Action.HOLD
        try:
            return TABLE[self.delivery, self.transfer]
        except KeyError:
            raise IllegalMove(f"no cell for delivery {self.delivery}, transfer {self.transfer}") from None


@dataclass(frozen=True, slots=True)
class DisputeCaps:
    """How much the house bears per day for one vendor and one account; 0 for generic vendors."""

    cap_base: int
    spent_today_base: int


def settle_dispute(fault: Fault, amount_base: int, caps: DisputeCaps) -> Charge:
    """Return what the dispute rule makes of a charge that was collected without delivery.

    REFUNDED: the vendor's fault and within the caps, the house bears it. CAPTURED: the agent's own input was refused
    and the vendor kept the money; the agent pays for what it asked. HELD: beyond the caps, or nobody's fault that we
    know of; the caller freezes the vendor and opens a task.
    """
    if fault is Fault.AGENT:
        return Charge.CAPTURED
    if fault is Fault.VENDOR and caps.spent_today_base + amount_base <= caps.cap_base:
        return Charge.REFUNDED
    return Charge.HELD
