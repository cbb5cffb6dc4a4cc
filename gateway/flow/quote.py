"""Does the challenge ask for what we expected to pay? Our own price, the operator's terms, and the rail's choice.

Must not know wallets' keys or balances.  Theory (P8): an offer is accepted only if configuration, price list and ceiling
each allow it on their own; what a human could allow becomes a task, what nobody may allow is refused.
"""

from dataclasses import dataclass, replace

from contracts.codec import Address, checksum
from contracts.tokens import Token
from gateway.core.ids import make_id
from gateway.core.money import RATE_ONE_PPM, format_amount, to_usd
from gateway.core.problems import Problem
from gateway.core.records import Resource, Task
from gateway.core.routes import Pricing
from gateway.core.view import View
from gateway.flow.call import Call
from gateway.ports import Clock, Entropy, PricedItem, Vendor
from gateway.rails.offer import Challenge, Offer
from gateway.rails.problems import OfferRefused
from gateway.rails.problems import Problem as RailProblem
from gateway.rails.x402.choose import AcceptableTerms, choose

_ASK_OPERATOR = {
    RailProblem.PAYEE_NOT_ALLOWED: "payee_unknown",
    RailProblem.PRICE_ABOVE_QUOTE: "price_changed",
    RailProblem.PRICE_BELOW_QUOTE: "price_changed",
}


@dataclass(frozen=True, slots=True)
class Quote:
    """An accepted offer with what it costs the account in USD base units."""

    offer: Offer
    token: Token
    hold_base: int
    item: PricedItem | None


class Refusal(Exception):  # noqa: N818 - carries the task that a refusal opens
    """The offer is not paid; `task` is what a human may do about it."""

    def __init__(self, problem: Problem, task: Task | None) -> None:
        super().__init__(str(problem))
        self.problem, self.task = problem, task


class Quoter:
    """Judges challenges against the committed view and the vendor's terms."""

    def __init__(self, view: View, own_addresses: frozenset[Address], clock: Clock, entropy: Entropy) -> None:
        self._view, self._own, self._clock, self._entropy = view, own_addresses, clock, entropy

    def judge(self, call: Call, challenge: Challenge, resource: Resource | None) -> Quote:
        """Return the quote to hold money for, or raise Refusal."""
        route, vendor = call.match.route, call.vendor
        if route.pricing is Pricing.FREE:
            detail = f"{vendor.name}/{route.name} is free by its document, yet asked for a payment"
            raise self._refuse("unexpected_challenge", detail, "unexpected_challenge", f"{vendor.name}/{route.name}")
        item = vendor.item(call.match, call.body, resource)
        expected_base, drift_base = self._expected(vendor, item, challenge)
        approved = {pay_to for name, _, pay_to in self._view.payees if name == vendor.name}
        terms = AcceptableTerms(
            assets=frozenset(token.key for token in vendor.terms.tokens),
            payees=frozenset(Address(p) for p in vendor.terms.payees | approved),
            own_addresses=self._own,
            ceiling_base=_in_tokens(route.ceiling_base, vendor),
            expected_base=expected_base,
            drift_base=drift_base,
        )
        offer = self._choose(challenge, terms, vendor, item)
        token = next(t for t in vendor.terms.tokens if t.key == (offer.chain_id, offer.asset))
        rate_ppm = vendor.terms.rate_ppm.get(token.asset_id, RATE_ONE_PPM)
        hold_base = to_usd(offer.amount_base, rate_ppm)
        if hold_base > route.ceiling_base:
            detail = f"it costs {format_amount(hold_base)}, the route's ceiling is {format_amount(route.ceiling_base)}"
            raise self._refuse("price_above_ceiling", detail, None, vendor.name)
        return Quote(offer, token, hold_base, item)

    def _choose(self, challenge: Challenge, terms: AcceptableTerms, vendor: Vendor, item: PricedItem | None) -> Offer:
        """Return the cheapest offer that the terms allow and whose payee is approved on the offer's own chain."""
        elsewhere: Offer | None = None
        while True:
            try:
                offer = choose(challenge, terms)
            except OfferRefused as refused:
                if elsewhere is None:
                    raise self._offer_refusal(vendor, item, refused) from refused
                subject = f"{vendor.name}/{elsewhere.chain_id}/{checksum(elsewhere.pay_to)}"
                detail = f"{checksum(elsewhere.pay_to)} is approved on another chain, not on {elsewhere.chain_id}"
                raise self._refuse("payee_not_allowed", detail, "payee_unknown", subject) from refused
            approved = (vendor.name, offer.chain_id, bytes(offer.pay_to)) in self._view.payees
            if approved or offer.pay_to in vendor.terms.payees:
                return offer
            elsewhere = elsewhere or offer
            challenge = replace(challenge, offers=tuple(each for each in challenge.offers if each is not offer))

    def _expected(self, vendor: Vendor, item: PricedItem | None, challenge: Challenge) -> tuple[int | None, int]:
        if item is None:
            return None, 0
        view = self._view.prices.get((vendor.name, item.item))
        if view is None or view.approved_base is None:
            asked = min((offer.amount_base for offer in challenge.offers), default=0)
            detail = (
                f"no price of {item.item} at {vendor.name} was ever approved; "
                f"{format_amount(asked)} was asked for {item.quantity}"
            )
            raise self._refuse("price_unknown", detail, "price_unknown", f"{vendor.name}/{item.item}")
        approved = view.approved_base * item.quantity
        drift = approved * vendor.terms.max_drift_ppm // RATE_ONE_PPM
        fresh_ms = self._clock.now_ms() - vendor.terms.terms_ttl_s * 1000
        if view.observed_base is None or view.observed_at_ms is None or view.observed_at_ms < fresh_ms:
            return approved, drift
        observed = view.observed_base * item.quantity
        if abs(observed - approved) > drift:  # the catalogue was raised together with the challenge
            detail = (
                f"{vendor.name} now states {format_amount(observed)} for {item.item}, "
                f"approved was {format_amount(approved)}"
            )
            code = "price_above_quote" if observed > approved else "price_below_quote"
            raise self._refuse(code, detail, "price_changed", f"{vendor.name}/{item.item}")
        return observed, 0

    def _offer_refusal(self, vendor: Vendor, item: PricedItem | None, refused: OfferRefused) -> Refusal:
        task_kind = _ASK_OPERATOR.get(refused.code)
        subject = vendor.name if item is None else f"{vendor.name}/{item.item}"
        if refused.code is RailProblem.PAYEE_NOT_ALLOWED and refused.offer is not None:
            subject = f"{vendor.name}/{refused.offer.chain_id}/{checksum(refused.offer.pay_to)}"
        problem = self._refuse(refused.code.value, refused.message, task_kind, subject)
        problem.problem.field = refused.field or None
        return problem

    def _refuse(self, code: str, detail: str, task_kind: str | None, subject: str) -> Refusal:
        task = None
        if task_kind is not None:
            now_ms = self._clock.now_ms()
            task = Task(make_id("task", now_ms, self._entropy.bytes(10)), task_kind, subject, detail, now_ms)
        return Refusal(Problem(code, detail), task)


def _in_tokens(usd_base: int, vendor: Vendor) -> int:
    """Return the most of any of the vendor's tokens that USD buy; the exact check follows with the token's own rate."""
    cheapest_ppm = min(
        (vendor.terms.rate_ppm.get(t.asset_id, RATE_ONE_PPM) for t in vendor.terms.tokens), default=RATE_ONE_PPM
    )
    return usd_base * RATE_ONE_PPM // cheapest_ppm
