"""Picks the offer to pay, or says why none may be paid (DESIGN P8, x402.md 1.8).

It must not know where the terms come from: configuration, quote and budgets are put into `AcceptableTerms` by the
caller. Theory: default deny. An offer is paid only if every line of the terms allows it; among those the cheapest
wins, and never "the first entry". When none is left, the refusal shown is of the offer that passed the most checks,
for that is the one an operator can act on; the payee is checked last, so that its approval is all that is missing
when it is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.core.money import format_amount
from gateway.rails.problems import OfferRefused, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.rails.offer import Challenge, Offer, RejectedEntry

__all__ = ["AcceptableTerms", "choose"]


@dataclass(frozen=True, slots=True)
class AcceptableTerms:
    """What may be paid for one purchase. Empty sets allow nothing.

    `assets` are (chain id, token) pairs, whose base units the amounts here count in. `expected_base` is our own
    quote, None where the vendor has no catalogue; an offer may differ from it by `drift_base` either way, since a
    price far below it is another product. `min_timeout_s` and `max_timeout_s` bound the server's
    `maxTimeoutSeconds`; None means no upper bound.
    """

    assets: frozenset[tuple[int, bytes]]
    payees: frozenset[bytes]
    own_addresses: frozenset[bytes]
    ceiling_base: int
    expected_base: int | None = None
    drift_base: int = 0
    min_timeout_s: int = 1
    max_timeout_s: int | None = None


def choose(challenge: Challenge, terms: AcceptableTerms) -> Offer:
    """The cheapest offer that the terms allow; of equals the one that the server listed first.

    Raises OfferRefused with the code of the check that failed, the wire's field, and the offer: for
    `payee_not_allowed` its `pay_to` is what a human may approve. Raises it without an offer when no entry could be
    read, or there was none.
    """
    best: Offer | None = None
    refusal: OfferRefused | None = None
    furthest = -1
    for offer in challenge.offers:
        passed, refused = _check(offer, terms)
        if refused is None:
            if best is None or offer.amount_base < best.amount_base:
                best = offer
        elif passed > furthest:
            furthest, refusal = passed, refused
    if best is not None:
        return best
    raise refusal or _unreadable(challenge.rejected)


def _check(offer: Offer, terms: AcceptableTerms) -> tuple[int, OfferRefused | None]:
    """How many checks the offer passed, and its refusal by the next, if any."""
    for passed, check in enumerate(_CHECKS):
        refused = check(offer, terms)
        if refused is not None:
            return passed, refused
    return len(_CHECKS), None


def _network(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    if any(chain_id == offer.chain_id for chain_id, _ in terms.assets):
        return None
    return OfferRefused(
        Problem.NETWORK_NOT_ALLOWED, f"{offer.wire_network} is not a network we pay this vendor on", "network", offer
    )


def _asset(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    if (offer.chain_id, offer.asset) in terms.assets:
        return None
    return OfferRefused(
        Problem.ASSET_NOT_ALLOWED, f"0x{offer.asset.hex()} is not a token we pay this vendor in", "asset", offer
    )


def _ours(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    """Paying ourselves turns an agent's balance into another agent's top-up without a sale."""
    if offer.pay_to not in terms.own_addresses:
        return None
    return OfferRefused(Problem.PAYEE_IS_OURS, f"{offer.wire_pay_to} is one of our own addresses", "payTo", offer)


def _ceiling(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    if offer.amount_base <= terms.ceiling_base:
        return None
    message = f"{offer.amount_base} is above the ceiling of {terms.ceiling_base}"
    return OfferRefused(Problem.PRICE_ABOVE_CEILING, message, _amount_field(offer), offer)


def _quote(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    if terms.expected_base is None or abs(offer.amount_base - terms.expected_base) <= terms.drift_base:
        return None
    above = offer.amount_base > terms.expected_base
    code = Problem.PRICE_ABOVE_QUOTE if above else Problem.PRICE_BELOW_QUOTE
    message = (
        f"{format_amount(offer.amount_base)} is {'above' if above else 'below'} our quote of "
        f"{format_amount(terms.expected_base)}"
    )
    return OfferRefused(code, message, _amount_field(offer), offer)


def _window(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    if offer.max_timeout_s < terms.min_timeout_s:
        message = f"{offer.max_timeout_s} s is too short to be collected in; at least {terms.min_timeout_s} s"
        return OfferRefused(Problem.WINDOW_TOO_SHORT, message, "maxTimeoutSeconds", offer)
    if terms.max_timeout_s is not None and offer.max_timeout_s > terms.max_timeout_s:
        message = f"{offer.max_timeout_s} s would bind the money for longer than {terms.max_timeout_s} s"
        return OfferRefused(Problem.WINDOW_TOO_LONG, message, "maxTimeoutSeconds", offer)
    return None


def _payee(offer: Offer, terms: AcceptableTerms) -> OfferRefused | None:
    if offer.pay_to in terms.payees:
        return None
    message = f"{offer.wire_pay_to} has not been approved as a payee of this vendor"
    return OfferRefused(Problem.PAYEE_NOT_ALLOWED, message, "payTo", offer)


def _amount_field(offer: Offer) -> str:
    return "maxAmountRequired" if offer.version == 1 else "amount"


_CHECKS: Final[tuple[Callable[[Offer, AcceptableTerms], OfferRefused | None], ...]] = (
    _network,
    _asset,
    _ours,
    _ceiling,
    _quote,
    _window,
    _payee,
)

# Of several unreadable entries the one is shown that came nearest to being an offer of ours.
_LEAST_USEFUL: Final = (
    Problem.OFFER_MALFORMED,
    Problem.UNSUPPORTED_SCHEME,
    Problem.UNKNOWN_NETWORK,
    Problem.UNSUPPORTED_TRANSFER,
)


def _unreadable(rejected: tuple[RejectedEntry, ...]) -> OfferRefused:
    if not rejected:
        return OfferRefused(Problem.NO_OFFER, "the challenge offers no way to pay", "accepts")

    def usefulness(entry: RejectedEntry) -> int:
        return _LEAST_USEFUL.index(entry.code) if entry.code in _LEAST_USEFUL else len(_LEAST_USEFUL)

    entry = max(rejected, key=usefulness)
    return OfferRefused(entry.code, f"accepts[{entry.raw_index}]: {entry.why}", entry.field)
