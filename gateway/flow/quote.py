"""Does the challenge ask for what we expected to pay? Our own price, the operator's terms, and the rail's choice.

Must not know wallets' keys or balances.  Theory (P8): an offer is accepted only if configuration, price list and ceiling
each allow it on their own; what a human could allow becomes a task, what nobody may allow is refused. Our own price is
exact until it is rounded up once, and each of its components is held against what was approved for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from contracts.codec import Address, checksum
from contracts.tokens import Token, TokenKey
from gateway.core.book import PriceView
from gateway.core.money import RATE_ONE_PPM, format_amount, to_usd
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Pricing
from gateway.core.task_kinds import TaskKind
from gateway.core.view import View
from gateway.flow.call import Call
from gateway.flow.meaning import approved_payees
from gateway.ports import Clock, PricedItem, Vendor, VendorTerms
from gateway.rails.asked import Asked
from gateway.rails.choose import AcceptableTerms, choose
from gateway.rails.codes import Problem as RailProblem
from gateway.rails.offer import AnyOffer, MppOffer
from gateway.rails.problems import OfferRefused

_ASK_OPERATOR: Mapping[RailProblem, TaskKind] = {
    RailProblem.PAYEE_NOT_ALLOWED: "payee_unknown",
    RailProblem.PRICE_ABOVE_QUOTE: "price_changed",
    RailProblem.PRICE_BELOW_QUOTE: "price_changed",
}


@dataclass(frozen=True, slots=True)
class Quote:
    """An accepted offer with what it costs the account in USD base units."""

    offer: AnyOffer
    token: Token
    hold_base: int
    item: PricedItem | None


@dataclass(frozen=True, slots=True)
class Question:
    """What a human may decide so that the offer is paid the next time: a task's kind, subject and detail."""

    kind: TaskKind
    subject: str
    detail: str


class Refusal(Exception):  # noqa: N818 - carries the task that a refusal opens
    """The offer is not paid; `task` is what a human may do about it."""

    def __init__(self, problem: Problem, task: Question | None) -> None:
        super().__init__(str(problem))
        self.problem, self.task = problem, task


@dataclass(frozen=True, slots=True)
class _Expected:
    """What we expect to be asked, and how far from it an offer may lie either way."""

    base: int | None = None
    drift_base: int = 0


@dataclass(frozen=True, slots=True)
class _Means:
    """What a vendor's terms say of the tokens that it is paid in: each with its rate, and the lowest rate of all.

    The most of a token that USD buy is reckoned at the lowest; the exact check follows with the token's own.
    """

    terms: VendorTerms
    assets: frozenset[tuple[int, bytes]]
    tokens: Mapping[TokenKey, tuple[Token, int]]
    cheapest_ppm: int

    @classmethod
    def of(cls, terms: VendorTerms) -> "_Means":
        """Work it out; terms are configuration, so once is enough."""
        tokens = {each.key: (each, terms.rate_ppm.get(each.asset_id, RATE_ONE_PPM)) for each in terms.tokens}
        cheapest_ppm = min((rate_ppm for _, rate_ppm in tokens.values()), default=RATE_ONE_PPM)
        return cls(terms, frozenset(tokens), tokens, cheapest_ppm)


class Quoter:
    """Judges challenges against the committed view and the vendor's terms."""

    def __init__(self, view: View, own_addresses: frozenset[Address], clock: Clock) -> None:
        self._view, self._own, self._clock = view, own_addresses, clock
        self._means: dict[str, _Means] = {}

    def judge(self, call: Call, asked: Asked, resource: Resource | None) -> Quote:
        """Return the quote to hold money for, or raise Refusal."""
        route, vendor = call.match.route, call.vendor
        if route.pricing is Pricing.FREE:
            detail = f"{vendor.name}/{route.name} is free by its document, yet asked for a payment"
            raise self._refuse("unexpected_challenge", detail, "unexpected_challenge", f"{vendor.name}/{route.name}")
        item = vendor.item(call.match, call.body, resource)
        expected = self._expected(vendor, item, asked)
        means = self._means_of(vendor)
        terms = AcceptableTerms(
            assets=means.assets,
            payees=approved_payees(vendor, self._view),
            own_addresses=self._own,
            ceiling_base=route.ceiling_base * RATE_ONE_PPM // means.cheapest_ppm,
            now_ms=self._clock.now_ms(),
            rails=vendor.terms.rails,
            expected_base=expected.base,
            drift_base=expected.drift_base,
            realms=vendor.terms.realms,
            allow_push=vendor.terms.allow_push,
        )
        offer = self._choose(asked, terms, vendor, item)
        token, rate_ppm = means.tokens[offer.chain_id, offer.asset]
        hold_base = to_usd(offer.amount_base, rate_ppm)
        if hold_base > route.ceiling_base:
            detail = f"it costs {format_amount(hold_base)}, the route's ceiling is {format_amount(route.ceiling_base)}"
            raise self._refuse("price_above_ceiling", detail, None, vendor.name)
        return Quote(offer, token, hold_base, item)

    def _means_of(self, vendor: Vendor) -> "_Means":
        means = self._means.get(vendor.name)
        if means is None or means.terms is not vendor.terms:
            means = self._means[vendor.name] = _Means.of(vendor.terms)
        return means

    def _choose(self, asked: Asked, terms: AcceptableTerms, vendor: Vendor, item: PricedItem | None) -> AnyOffer:
        """Return the cheapest offer that the terms allow and whose payees are approved on the offer's own chain."""
        elsewhere: tuple[int, Address] | None = None
        while True:
            try:
                offer = choose(asked, terms)
            except OfferRefused as refused:
                if elsewhere is None:
                    raise self._offer_refusal(vendor, item, refused) from refused
                chain_id, payee = elsewhere
                detail = f"{checksum(payee)} is approved on another chain, not on {chain_id}"
                subject = f"{vendor.name}/{chain_id}/{checksum(payee)}"
                raise self._refuse("payee_not_allowed", detail, "payee_unknown", subject) from refused
            stranger = self._stranger(offer, vendor)
            if stranger is None:
                return offer
            elsewhere = elsewhere or (offer.chain_id, stranger)
            asked = asked.without(offer)

    def _stranger(self, offer: AnyOffer, vendor: Vendor) -> Address | None:
        """Return the first of an offer's payees that nobody approved on its chain."""
        splits = offer.splits if isinstance(offer, MppOffer) else ()
        for pay_to in (offer.pay_to, *(split.pay_to for split in splits)):
            approved = (vendor.name, offer.chain_id, bytes(pay_to)) in self._view.payees
            if not approved and pay_to not in vendor.terms.payees:
                return pay_to
        return None

    def _expected(self, vendor: Vendor, item: PricedItem | None, asked: Asked) -> _Expected:
        """Return our own price. Raises Refusal where a component has no approved price, or has drifted from it."""
        if item is None:
            return _Expected()
        exact = drift = Fraction(0)
        for name, quantity in item.parts:
            each_base, drift_base = self._component(vendor, item, name, asked)
            exact += each_base * quantity
            drift += drift_base * quantity
        # The slack is how vendors round what is no whole number, so nothing that could be a price is left out by it.
        return _Expected(max(item.floor_base, ceil(exact)), floor(drift) + item.slack_base)

    def _component(self, vendor: Vendor, item: PricedItem, name: str, asked: Asked) -> tuple[int, Fraction]:
        """Return what one of an item costs now, and how far off that may be."""
        view = self._view.prices.get((vendor.name, name), PriceView())
        approved_base, observed_base = view.approved_base, view.observed_base
        if approved_base is None:
            raise self._unapproved(vendor, item, name, observed_base, asked)
        drift = Fraction(approved_base * vendor.terms.max_drift_ppm, RATE_ONE_PPM)
        if observed_base is None or not is_fresh(view, vendor.terms.terms_ttl_s, self._clock.now_ms()):
            return approved_base, drift
        if abs(observed_base - approved_base) > drift:  # the catalogue was raised together with the challenge
            detail = (
                f"{vendor.name} now states {format_amount(observed_base)} for {name}, "
                f"approved was {format_amount(approved_base)}"
            )
            code = "price_above_quote" if observed_base > approved_base else "price_below_quote"
            raise self._refuse(code, detail, "price_changed", f"{vendor.name}/{name}")
        return observed_base, Fraction(0)

    def _unapproved(
        self, vendor: Vendor, item: PricedItem, name: str, observed_base: int | None, asked: Asked
    ) -> Refusal:
        asked_base = min((offer.amount_base for offer in asked.offers), default=0)
        stated = "" if observed_base is None else f"; its catalogue states {format_amount(observed_base)}"
        quantities = ", ".join(f"{quantity} {part}" for part, quantity in item.parts)
        detail = (
            f"no price of {name} at {vendor.name} was ever approved; "
            f"{format_amount(asked_base)} was asked for {quantities}{stated}"
        )
        return self._refuse("price_unknown", detail, "price_unknown", f"{vendor.name}/{name}")

    def _offer_refusal(self, vendor: Vendor, item: PricedItem | None, refused: OfferRefused) -> Refusal:
        task_kind = _ASK_OPERATOR.get(refused.code)
        # Of several items nobody knows which has changed: the vendor's catalogue tells that, and opens a task for each.
        subject = vendor.name if item is None or len(item.parts) > 1 else f"{vendor.name}/{item.name}"
        if refused.code is RailProblem.PAYEE_NOT_ALLOWED and refused.offer is not None:
            payee = refused.payee or refused.offer.pay_to  # perhaps a split's
            subject = f"{vendor.name}/{refused.offer.chain_id}/{checksum(payee)}"
        problem = self._refuse(refused.code.value, refused.message, task_kind, subject)
        problem.problem.field = refused.field or None
        return problem

    @staticmethod
    def _refuse(code: str, detail: str, task_kind: TaskKind | None, subject: str) -> Refusal:
        return Refusal(Problem(code, detail), None if task_kind is None else Question(task_kind, subject, detail))


def is_fresh(view: PriceView | None, terms_ttl_s: int, now_ms: int) -> bool:
    """Say whether the vendor's own statement of a price is young enough to be expected.

    One of a time that the clock was set back behind is not: nobody knows how old it is.
    """
    if view is None or view.observed_at_ms is None:
        return False
    return 0 <= now_ms - view.observed_at_ms <= terms_ttl_s * 1000


def item_document(item: PricedItem | None) -> dict[str, object] | None:
    """Return what a call buys as an agent reads it: `item` and `quantity`, or `parts` of several, and a least charge.

    A quantity that is no whole number is text, "1/60", so that nobody reads it as a float.
    """
    if item is None:
        return None
    parts: list[dict[str, object]] = [{"item": name, "quantity": _shown(quantity)} for name, quantity in item.parts]
    document: dict[str, object] = dict(parts[0]) if len(parts) == 1 else {"item": item.name, "parts": parts}
    if item.floor_base:
        document["least"] = format_amount(item.floor_base)
    return document


def _shown(quantity: Fraction) -> int | str:
    return quantity.numerator if quantity.denominator == 1 else str(quantity)
