"""Picks the offer to pay, or says why none may be paid (P8).

It must not know where the terms come from: configuration, quote and budgets are put into `AcceptableTerms` by the
caller. Theory: default deny, on both rails by the same list of checks. An offer is paid only if every line of the
terms allows it; among those the cheapest wins, and never "the first entry". When none is left, the refusal shown is
of the offer that passed the most checks, for that is the one an operator can act on; the payee is checked last, so
that its approval is all that is missing when it is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from gateway.core.money import format_amount
from gateway.rails.codes import Problem
from gateway.rails.offer import AnyOffer, MppOffer, Rail
from gateway.rails.problems import OfferRefused

if TYPE_CHECKING:
    from contracts.codec import Address
    from gateway.rails.asked import Asked
    from gateway.rails.offer import RejectedEntry

__all__ = ["MIN_LIFE_MS", "AcceptableTerms", "Choices", "choose", "choose_proof"]

MIN_LIFE_MS: Final = 5_000
"""An MPP challenge with less left would be dead before our answer to it is there."""

_Offered = TypeVar("_Offered", bound=AnyOffer)
_Offered_co = TypeVar("_Offered_co", bound=AnyOffer, covariant=True)


class Choices(Protocol[_Offered_co]):
    """What there is to choose from: an x402 challenge alone, or what a 402 asks on both rails."""

    @property
    def offers(self) -> tuple[_Offered_co, ...]:
        """What could be read."""
        ...

    @property
    def rejected(self) -> tuple[RejectedEntry, ...]:
        """What could not, and why."""
        ...


@dataclass(frozen=True, slots=True)
class AcceptableTerms:
    """What may be paid for one purchase. Empty sets allow nothing.

    `assets` are (chain id, token) pairs, whose base units the amounts here count in. `expected_base` is our own
    quote, None where the vendor has no catalogue; an offer may differ from it by `drift_base` either way, since a
    price far below it is another product. `rails` are the enabled ones, in the order that decides between equal prices.

    For MPP: `realms` are the vendor's host and aliases in lower case, `now_ms` the wall clock, `allow_push` whether
    we may send the transaction ourselves; `payees` holds every split's recipient too.
    """

    assets: frozenset[tuple[int, bytes]]
    payees: frozenset[bytes]
    own_addresses: frozenset[bytes]
    ceiling_base: int
    now_ms: int
    rails: tuple[Rail, ...]
    expected_base: int | None = None
    drift_base: int = 0
    realms: frozenset[str] = frozenset()
    allow_push: bool = False


def choose(asked: Choices[_Offered], terms: AcceptableTerms) -> _Offered:
    """The cheapest offer that the terms allow; of equals that of the preferred rail, then the one listed first.

    Raises OfferRefused with the code of the check that failed, the wire's field, and the offer: for
    `payee_not_allowed` its `payee` is what a human may approve. Raises it without an offer when no entry could be
    read, or there was none.
    """
    best: _Offered | None = None
    refusal: OfferRefused | None = None
    furthest = -1
    for offer in asked.offers:
        passed, refused = _check(offer, terms, _CHECKS)
        if refused is None:
            if best is None or _cost(offer, terms) < _cost(best, terms):
                best = offer
        elif passed > furthest:
            furthest, refusal = passed, refused
    if best is not None:
        return best
    raise refusal or _unreadable(asked.rejected)


def choose_proof(asked: Asked, terms: AcceptableTerms) -> MppOffer:
    """The first identity proof that the terms allow: of a rail, a realm and a chain of the vendor's, and not expired.

    Nothing is paid, so amounts, assets and payees do not count; but a proof gives control over what the wallet has
    bought, so it goes to no other realm. Raises OfferRefused like `choose`, `no_offer` when no proof is asked for.
    """
    refusal: OfferRefused | None = None
    furthest = -1
    for proof in asked.proofs:
        passed, refused = _check(proof, terms, _PROOF_CHECKS)
        if refused is None:
            return proof
        if passed > furthest:
            furthest, refusal = passed, refused
    if refusal is None and asked.offers:
        refusal = OfferRefused(Problem.NO_OFFER, "the challenge asks for money, not for a proof of identity", "amount")
    raise refusal or _unreadable(asked.rejected)


def _cost(offer: AnyOffer, terms: AcceptableTerms) -> tuple[int, int]:
    return offer.amount_base, terms.rails.index(offer.rail)


def _check(offer: AnyOffer, terms: AcceptableTerms, checks: tuple[_Check, ...]) -> tuple[int, OfferRefused | None]:
    """How many checks the offer passed, and its refusal by the next, if any."""
    for passed, check in enumerate(checks):
        refused = check(offer, terms)
        if refused is not None:
            return passed, refused
    return len(checks), None


def _rail(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    if offer.rail in terms.rails:
        return None
    return OfferRefused(Problem.RAIL_NOT_ALLOWED, f"this vendor is not paid with {offer.rail}", "", offer)


def _realm(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    """A relayed challenge would pay another server's bill with our call, or prove who we are to a stranger."""
    if not isinstance(offer, MppOffer) or offer.realm.lower() in terms.realms:
        return None
    return OfferRefused(Problem.REALM_NOT_ALLOWED, f"the realm is {offer.realm!r}, not this vendor's", "realm", offer)


def _network(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    if any(chain_id == offer.chain_id for chain_id, _ in terms.assets):
        return None
    message = f"{offer.wire_network} is not a network we pay this vendor on"
    return OfferRefused(Problem.NETWORK_NOT_ALLOWED, message, _field(offer, "network", "chainId"), offer)


def _asset(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    if (offer.chain_id, offer.asset) in terms.assets:
        return None
    message = f"0x{offer.asset.hex()} is not a token we pay this vendor in"
    return OfferRefused(Problem.ASSET_NOT_ALLOWED, message, _field(offer, "asset", "currency"), offer)


def _ours(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    """Paying ourselves turns an agent's balance into another agent's top-up without a sale."""
    for pay_to, wire_pay_to in _payees(offer):
        if pay_to in terms.own_addresses:
            message = f"{wire_pay_to} is one of our own addresses"
            return OfferRefused(Problem.PAYEE_IS_OURS, message, _field(offer, "payTo", "recipient"), offer)
    return None


def _life(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    if not isinstance(offer, MppOffer):
        return None
    left_ms = offer.expires_at_ms - terms.now_ms
    if left_ms >= MIN_LIFE_MS:
        return None
    state = "has expired" if left_ms <= 0 else f"has {left_ms} ms left, and {MIN_LIFE_MS} are needed"
    return OfferRefused(Problem.CHALLENGE_EXPIRED, f"the challenge {state}", "expires", offer)


def _push(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    """What we send ourselves is spent whether the server likes it or not, so it takes the operator's word."""
    if terms.allow_push or not isinstance(offer, MppOffer) or not offer.push_only:
        return None
    message = "the server takes only transactions that we send ourselves"
    return OfferRefused(Problem.PUSH_NOT_ALLOWED, message, "supportedModes", offer)


def _splits(offer: AnyOffer, _: AcceptableTerms) -> OfferRefused | None:
    """The parser has seen to this; but what every ceiling rests on is that the amount holds all of its parts."""
    if not isinstance(offer, MppOffer) or not offer.splits:
        return None
    if all(split.amount_base > 0 for split in offer.splits):
        total_base = sum(split.amount_base for split in offer.splits)
        if total_base < offer.amount_base:
            return None
    return OfferRefused(Problem.AMOUNT_MALFORMED, "the splits are not parts of the amount", "splits", offer)


def _ceiling(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    if offer.amount_base <= terms.ceiling_base:
        return None
    message = f"{offer.amount_base} is above the ceiling of {terms.ceiling_base}"
    return OfferRefused(Problem.PRICE_ABOVE_CEILING, message, _amount_field(offer), offer)


def _quote(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    if terms.expected_base is None or abs(offer.amount_base - terms.expected_base) <= terms.drift_base:
        return None
    above = offer.amount_base > terms.expected_base
    code = Problem.PRICE_ABOVE_QUOTE if above else Problem.PRICE_BELOW_QUOTE
    message = (
        f"{format_amount(offer.amount_base)} is {'above' if above else 'below'} our quote of "
        f"{format_amount(terms.expected_base)}"
    )
    return OfferRefused(code, message, _amount_field(offer), offer)


def _payee(offer: AnyOffer, terms: AcceptableTerms) -> OfferRefused | None:
    for pay_to, wire_pay_to in _payees(offer):
        if pay_to not in terms.payees:
            message = f"{wire_pay_to} has not been approved as a payee of this vendor"
            field = _field(offer, "payTo", "recipient")
            return OfferRefused(Problem.PAYEE_NOT_ALLOWED, message, field, offer, payee=pay_to)
    return None


def _payees(offer: AnyOffer) -> list[tuple[Address, str]]:
    """Everybody who would get money, as bytes and as the server spells them."""
    splits = offer.splits if isinstance(offer, MppOffer) else ()
    return [(offer.pay_to, offer.wire_pay_to), *((split.pay_to, split.wire_pay_to) for split in splits)]


def _amount_field(offer: AnyOffer) -> str:
    return "amount" if isinstance(offer, MppOffer) or offer.version != 1 else "maxAmountRequired"


def _field(offer: AnyOffer, x402: str, mpp: str) -> str:
    return mpp if offer.rail == "mpp" else x402


_Check = Callable[[AnyOffer, AcceptableTerms], OfferRefused | None]

_CHECKS: Final[tuple[_Check, ...]] = (
    _rail,
    _realm,
    _network,
    _asset,
    _ours,
    _life,
    _push,
    _splits,
    _ceiling,
    _quote,
    _payee,
)
_PROOF_CHECKS: Final[tuple[_Check, ...]] = (_rail, _realm, _network, _life)

# Of several unreadable entries the one is shown that came nearest to being an offer of ours.
_LEAST_USEFUL: Final = (
    Problem.OFFER_MALFORMED,
    Problem.UNSUPPORTED_PAYMENT_METHOD,
    Problem.UNSUPPORTED_SCHEME,
    Problem.UNKNOWN_NETWORK,
    Problem.UNSUPPORTED_TRANSFER,
    Problem.UNSUPPORTED_PAYMENT_INTENT,
)


def _unreadable(rejected: tuple[RejectedEntry, ...]) -> OfferRefused:
    if not rejected:
        return OfferRefused(Problem.NO_OFFER, "the challenge offers no way to pay", "accepts")

    def usefulness(entry: RejectedEntry) -> int:
        return _LEAST_USEFUL.index(entry.code) if entry.code in _LEAST_USEFUL else len(_LEAST_USEFUL)

    entry = max(rejected, key=usefulness)
    place = "accepts" if entry.rail == "x402" else "challenge"
    return OfferRefused(entry.code, f"{place}[{entry.raw_index}]: {entry.why}", entry.field)
