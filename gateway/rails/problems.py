"""What a rail refuses, as typed errors: a whole challenge, or each of its offers.

They know no HTTP status and no problem document. Theory: a caller that acts on a refusal needs its code, the place on
the wire and the offer that came nearest; it never reads the prose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contracts.codec import Address
    from gateway.rails.codes import Problem
    from gateway.rails.offer import AnyOffer

__all__ = ["ChallengeError", "OfferRefused", "RailError"]


class RailError(Exception):
    """A rail's refusal: `code` is stable, `message` is for people, `field` the wire's name of what was wrong, or ''."""

    def __init__(self, code: Problem, message: str, field: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.field = field


class ChallengeError(RailError):
    """The 402 speaks this rail's language, but cannot be read: nothing was chosen, nothing may be signed."""


class OfferRefused(RailError):  # noqa: N818 - a decision, not a fault
    """No offer may be paid. `offer` is the one that came nearest, None when none could be read.

    `payee` is whom it would pay and who is not approved, of an MPP offer perhaps a split's.
    """

    def __init__(
        self,
        code: Problem,
        message: str,
        field: str = "",
        offer: AnyOffer | None = None,
        *,
        payee: Address | None = None,
    ) -> None:
        super().__init__(code, message, field)
        self.offer = offer
        self.payee = payee
