"""What a given 402 means, whether we would pay it, and why: the same judgement as a real call's, and nothing done.

Must not sign, send, store or open anything.  Theory (P3, P8): what is here reads the committed view and the same functions
that a purchase goes through, in their order, up to the hold; it stops where that would stop. Because an agent writes the
answer that is judged, it may not become an oracle: our own addresses are strangers here like any others (P9).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from multidict import MultiMapping

from contracts.codec import to_hex
from gateway.account_ports import AccountVendor
from gateway.core import chart
from gateway.core.meaning import Meaning
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import EVERYTHING, Resource
from gateway.core.routes import Ownership, Pricing
from gateway.flow.call import Call
from gateway.flow.meaning import PAYMENT_REQUIRED, Classified, asks_who, classify, classify_account, classify_at
from gateway.flow.prove import proof_terms
from gateway.flow.quote import Quote, Quoter, Refusal
from gateway.flow.sharing import Sharing
from gateway.ports import Clock, PricedItem, Store
from gateway.rails.asked import Asked
from gateway.rails.choose import choose_proof
from gateway.rails.offer import AnyOffer
from gateway.rails.problems import OfferRefused

__all__ = ["Check", "Explained", "Explainer", "GivenAnswer", "explain_account"]


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer of a vendor as somebody tells it; `after_payment`: the request carried a credential."""

    status: int
    headers: MultiMapping[str]
    body: bytes = field(repr=False)
    after_payment: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, in the order in which a call looks at it. `problem` is what it ends with, "" if passed."""

    check: str
    detail: str
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Say whether a call would go on."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class Explained:
    """What an answer means and what a call would do with it.

    `offer` is the one that would be paid or proven to, else the first that could be read; `quote` is there where it is
    accepted. `expected_base` is our own price in the token's base units, None where there is none.
    """

    meaning: Meaning
    why: str
    checks: tuple[Check, ...] = ()
    would_pay: bool = False
    offer: AnyOffer | None = None
    quote: Quote | None = None
    expected_base: int | None = None
    item: PricedItem | None = None

    @property
    def problem(self) -> str | None:
        """The problem type that a call would end with, None where it would go on."""
        return next((check.problem for check in self.checks if check.problem), None)


class _Quotes(Quoter):
    """The quoter of real calls, which also tells the price that it expects."""

    def expects(self, call: Call, asked: Asked, resource: Resource | None) -> tuple[PricedItem | None, int | None]:
        """Return what the call buys and our own price for it. Raises Refusal where that price is not approved."""
        if call.match.route.pricing is Pricing.FREE:
            return None, None
        item = call.vendor.item(call.match, call.body, resource)
        return item, self._expected(call.vendor, item, asked).base


class Explainer:
    """Explains answers of vendors that ask for their money with a 402. Reads; changes nothing."""

    def __init__(self, store: Store, clock: Clock, digest: Callable[[str], bytes]) -> None:
        """Build it; `digest` is that of surrogate credentials."""
        self._store, self._clock, self._digest = store, clock, digest
        self._sharing = Sharing(store, clock)
        self._quoter = _Quotes(store.view, frozenset(), clock)

    async def explain(self, call: Call, given: GivenAnswer) -> Explained:
        """Return what a call would do with this answer. Never raises for what the request or the answer holds."""
        found = classify_at(
            call.vendor,
            call.match.route,
            self._store.view,
            (given.status, given.headers, given.body),
            self._clock.now_ms(),
            after_payment=given.after_payment,
        )
        checks = _meaning_checks(found, given)
        if found.asked is None:
            return Explained(found.meaning, found.why, checks)
        first = next(iter((*found.asked.offers, *found.asked.proofs)), None)
        try:
            resource = await self._admit(call)
        except Problem as problem:
            checks += (Check("request", problem.detail, problem.code),)
            return Explained(found.meaning, problem.detail, checks, offer=first)
        checks += (Check("request", "it names nothing that is not yours, and its input is accepted"),)
        if asks_who(call.match.route, found.asked):
            return self._proof(call, found, found.asked, checks)
        return self._price(call, found, found.asked, resource, checks)

    async def _admit(self, call: Call) -> Resource | None:
        """Look at the request as a call does before it is sent. Raises Problem: input_refused, bad_request, not_found."""
        route, vendor = call.match.route, call.vendor
        if await self._sharing.admit(call) is not None:
            raise Problem("not_found", f"{vendor.name} has no such thing of yours")
        if route.pricing is not Pricing.FREE:
            vendor.check_input(call.match, call.body)
        if route.ownership is not Ownership.OWNER:
            return None
        resource = await self._store.resource(vendor.name, call.match.ref or "")
        if resource is None or resource.account_id != call.account_id:
            raise Problem("not_found", f"there is no {route.ref_parameter} {call.match.ref} of yours")
        surrogate = vendor.surrogate_in(call.match, call.target)
        if surrogate is not None and resource.surrogate_digest != self._digest(surrogate):
            raise Problem("not_found", f"there is no {route.ref_parameter} {call.match.ref} with this token")
        return resource

    def _proof(self, call: Call, found: Classified, asked: Asked, checks: tuple[Check, ...]) -> Explained:
        offer: AnyOffer = asked.proofs[0]
        try:
            offer = choose_proof(asked, proof_terms(call, self._clock.now_ms()))
            proof = Check("proof", "the challenge is this vendor's own and has not expired")
        except OfferRefused as refused:
            proof = Check("proof", refused.message, refused.code.value)
        checks += _up_to_failure(_wait(call, asked), proof, self._frozen(call, ""))
        why = f"{found.why}: the gateway would prove who it is, and no money moves" if checks[-1].passed else ""
        return Explained(found.meaning, why or checks[-1].detail, checks, offer=offer)

    def _price(
        self, call: Call, found: Classified, asked: Asked, resource: Resource | None, checks: tuple[Check, ...]
    ) -> Explained:
        item: PricedItem | None = None
        expected_base: int | None = None
        try:
            item, expected_base = self._quoter.expects(call, asked, resource)
            quote = self._quoter.judge(call, asked, resource)
        except Refusal as refusal:
            problem, first = refusal.problem, next(iter(asked.offers), None)
            checks += (Check("offer", problem.detail, problem.code),)
            return Explained(found.meaning, problem.detail, checks, offer=first, expected_base=expected_base, item=item)
        checks += (Check("offer", f"it costs {format_amount(quote.hold_base)}, and configuration and quote allow it"),)
        checks += _up_to_failure(
            _wait(call, asked),
            self._frozen(call, quote.token.asset_id),
            _renewal(resource, renews=call.match.route.renews),
            self._budgets(call, quote),
            self._balance(call, quote),
        )
        pays = checks[-1].passed
        why = "what a real call looks at is all as it should be: it would be paid" if pays else checks[-1].detail
        meaning = Meaning.MPP_CHALLENGE if quote.offer.rail == "mpp" else Meaning.X402_CHALLENGE
        return Explained(meaning, why, checks, pays, quote.offer, quote, expected_base, item)

    # what may change from one call to the next

    def _frozen(self, call: Call, asset_id: str) -> Check:
        wallet = chart.wallet(to_hex(call.vendor.terms.wallet))
        scopes = (f"vendor:{call.vendor.name}", f"account:{call.account_id}", f"asset:{asset_id}", wallet)
        frozen = next((scope for scope in (*EVERYTHING, *scopes) if scope in self._store.view.freezes), None)
        if frozen is None:
            return Check("freeze", "the operator has stopped nothing that this needs")
        return Check("freeze", f"the operator has frozen this {frozen.partition(':')[0]}", "frozen")

    def _budgets(self, call: Call, quote: Quote) -> Check:
        now_ms, uses = self._clock.now_ms(), self._store.view.budget_uses
        for budget in call.key.budgets:
            if not budget.covers(call.vendor.name, call.match.route.name):
                continue
            use = uses.get(budget.id)
            over = use is None or now_ms >= use.window_started_at_ms + budget.window_s * 1000
            left_base = budget.limit_base - (0 if use is None or over else use.used_base)
            if quote.hold_base > left_base:
                detail = f"the key's budget has {format_amount(max(0, left_base))} left in this window"
                return Check("budget", detail, "budget_exhausted")
        return Check("budget", "the key's budgets cover it")

    def _balance(self, call: Call, quote: Quote) -> Check:
        balance = self._store.view.balances.get(call.account_id)
        available_base = 0 if balance is None else balance.available_base
        detail = f"available {format_amount(available_base)}, needed {format_amount(quote.hold_base)}"
        return Check("balance", detail, "insufficient_balance" if available_base < quote.hold_base else "")


def explain_account(vendor: AccountVendor, given: GivenAnswer) -> Explained:
    """Return what an answer of a vendor means that is paid from the operator's account. Pure; nothing of it is ever paid."""
    if given.status != PAYMENT_REQUIRED:
        found = classify(vendor.speaks, given.status, given.headers, given.body, 0, after_payment=False)
    else:
        found = classify_account(vendor.speaks, given.headers, given.body)
    return Explained(found.meaning, found.why, _meaning_checks(found, given))


def _meaning_checks(found: Classified, given: GivenAnswer) -> tuple[Check, ...]:
    if given.status != PAYMENT_REQUIRED:
        return (Check("status", found.why),)
    return Check("status", "402 asks for something"), Check("meaning", found.why, found.problem)


def _up_to_failure(*checks: Check) -> tuple[Check, ...]:
    """Return the checks that a call gets to."""
    failed = next((place for place, check in enumerate(checks) if not check.passed), len(checks))
    return checks[: failed + 1]


def _wait(call: Call, asked: Asked) -> Check:
    if asked.retry_after_s:
        detail = f"{call.vendor.name} asks not to be paid before {asked.retry_after_s} s from now"
        return Check("wait", detail, "payment_deferred")
    return Check("wait", "the vendor names no time before which it is not to be paid")


def _renewal(resource: Resource | None, *, renews: bool) -> Check:
    if renews and resource is not None and resource.open_renewal is not None:
        return Check("renewal", f"a renewal is open: payment {resource.open_renewal}", "renewal_open")
    return Check("renewal", "no other renewal of this is open")
