"""What a vendor's 402 means, told apart by the vendor, the headers and the body.

Must not know prices, wallets or accounts.  Theory (P8): a 402 has six meanings and one of them costs money, so the default
is not to pay. A vendor can mean only what its module declares; a challenge is read only on a rail that the vendor speaks;
one that contradicts itself is nobody's price; and after a credential was presented there is no challenge at all.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final

from multidict import MultiMapping

from gateway.core.meaning import ACCOUNT_MEANINGS, Meaning
from gateway.core.problems import Problem
from gateway.core.routes import Pricing, Route
from gateway.core.strict_json import JsonError, parse_json
from gateway.core.view import View
from gateway.ports import Vendor
from gateway.rails.asked import Asked, parse_asked
from gateway.rails.problems import ChallengeError

__all__ = [
    "PAYMENT_REQUIRED",
    "Classified",
    "approved_payees",
    "asks_who",
    "classify",
    "classify_account",
    "classify_at",
]

PAYMENT_REQUIRED: Final = 402
MAX_BILL_BYTES: Final = 64 * 1024  # a longer body is no account's refusal

_CHALLENGES: Final = {"mpp": Meaning.MPP_CHALLENGE, "x402": Meaning.X402_CHALLENGE}
_NOTHING: Mapping[str, object] = MappingProxyType({})

# How vendors word what is wrong with an account. Overdue first: "pay your invoice to restore your balance" is a bill.
_BILLS: Final = (
    (Meaning.OVERDUE_INVOICE, re.compile(r"invoice|overdue|past[ _-]?due", re.IGNORECASE | re.ASCII)),
    (
        Meaning.LOW_VENDOR_BALANCE,
        re.compile(r"balance|\bcredits?\b|funds|spend(?:ing)?[ _-]?limit|top[ _-]?up", re.IGNORECASE | re.ASCII),
    ),
)
_MAY_BE_BILL: Final = re.compile(
    rb"invoice|overdue|past[ _-]?due|balance|credit|funds|spend(?:ing)?[ _-]?limit|top[ _-]?up", re.IGNORECASE
)
_PAYMENT_SCHEME: Final = re.compile(r"(?:^|[\s,])payment(?:\s|$)", re.IGNORECASE | re.ASCII)
_SAYING: Final = ("code", "error", "detail", "message", "reason", "title", "type")
_FIGURES: Final = frozenset({"balance", "invoice", "invoices"})


@dataclass(frozen=True, slots=True)
class Classified:
    """What an answer means, and why.

    `asked` is there where the meaning can be answered: with money, or with a proof. `problem` is the type that a call
    ends with because of the meaning alone, "" where more is to be judged or nothing is wrong; `field` is the wire's name
    of what could not be read.
    """

    meaning: Meaning
    why: str
    asked: Asked | None = None
    problem: str = ""
    field: str = ""

    def refusal(self) -> Problem:
        """Return what an agent is told; only where `problem` says that the meaning alone ends a call."""
        return Problem(self.problem, self.why, self.field or None)


def classify(
    vendor_speaks: frozenset[Meaning],
    status: int,
    headers: MultiMapping[str],
    body: bytes,
    now_ms: int,
    *,
    after_payment: bool,
    free: bool = False,
    payees: Callable[[], Collection[bytes]] = tuple,
) -> Classified:
    """Return what an answer of a vendor means. Never raises; pure.

    `headers` must be case-insensitive. `after_payment`: the request carried a credential. `free`: the route costs nothing
    by the vendor's document, so a proof beside an offer is what it wants. `payees` tells whom the operator approved for
    this vendor, on any chain, and is asked where rails name different ones: a contradiction unless all are approved.
    """
    if status != PAYMENT_REQUIRED:
        return Classified(Meaning.UNKNOWN, f"status {status} asks for nothing: the answer is passed on")
    if vendor_speaks & ACCOUNT_MEANINGS:
        return classify_account(vendor_speaks, headers, body)
    if after_payment and Meaning.PAYMENT_INVALID in vendor_speaks:
        why = "it answers a request that carried a credential: the vendor did not take it, or asks twice; never a new bill"
        return Classified(Meaning.PAYMENT_INVALID, why, problem="vendor_refused_payment")
    try:
        asked = parse_asked(status, headers, body, now_ms)
    except ChallengeError as fault:
        return Classified(Meaning.UNKNOWN, fault.message, problem=fault.code.value, field=fault.field)
    if asked is None:
        return _no_challenge(headers, body)
    return _challenge(vendor_speaks, asked, body, payees, free=free)


def classify_at(
    vendor: Vendor,
    route: Route,
    view: View,
    answer: tuple[int, MultiMapping[str], bytes],
    now_ms: int,
    *,
    after_payment: bool = False,
) -> Classified:
    """Return what an answer (status, headers, body) of a route means, with all that is known of its vendor. Never raises."""
    status, headers, body = answer
    return classify(
        vendor.speaks,
        status,
        headers,
        body,
        now_ms,
        after_payment=after_payment,
        free=route.pricing is Pricing.FREE,
        payees=partial(approved_payees, vendor, view),
    )


def classify_account(vendor_speaks: frozenset[Meaning], headers: MultiMapping[str], body: bytes) -> Classified:
    """Return what a 402 of a vendor means that knows us by an account: whatever it says, it is the operator's to mend."""
    bill = _bill_in(body)
    if bill in vendor_speaks and not _speaks_of_rails(headers, body):
        of = "an invoice is overdue" if bill is Meaning.OVERDUE_INVOICE else "the balance or a limit does not cover it"
        why = f"the vendor speaks of the operator's account ({of}): his to mend, never an agent's to pay"
        return Classified(bill, why, problem="vendor_account_empty")
    why = (
        "this vendor is paid from an account and never by a challenge, and its 402 is none that its document describes"
    )
    return Classified(Meaning.UNKNOWN, why, problem="vendor_account_empty")


def asks_who(route: Route, asked: Asked) -> bool:
    """Say whether to prove who we are: the route may ask for that, and money is not what it takes instead."""
    return route.proof and bool(asked.proofs) and (route.pricing is Pricing.FREE or not asked.offers)


def approved_payees(vendor: Vendor, view: View) -> frozenset[bytes]:
    """Return whom the operator approved as payees of a vendor, in its configuration or since, on any chain."""
    return vendor.terms.payees.union(pay_to for name, _, pay_to in view.payees if name == vendor.name)


def _challenge(
    speaks: frozenset[Meaning], asked: Asked, body: bytes, payees: Callable[[], Collection[bytes]], *, free: bool
) -> Classified:
    spoken = _spoken(speaks, asked)
    if spoken is None:
        rails = " and ".join(rail for rail, part in (("mpp", asked.mpp), ("x402", asked.x402)) if part is not None)
        why = f"it is a challenge of {rails}, and this vendor is not paid that way"
        return Classified(Meaning.UNKNOWN, why, problem="rail_not_allowed")
    bill = _bill_in(body)
    if bill is not None:
        why = f"its headers or body ask for a payment, yet the body speaks of {bill.replace('_', ' ')}"
        return Classified(Meaning.UNKNOWN, why, problem="challenge_contradictory", field="body")
    strange = _disagreement(spoken, payees)
    if strange:
        why = f"the rails name different payees, and {strange} has not been approved as a payee of this vendor"
        return Classified(Meaning.UNKNOWN, why, problem="challenge_contradictory", field="payTo")
    return _asking(speaks, spoken, free=free)


def _asking(speaks: frozenset[Meaning], asked: Asked, *, free: bool) -> Classified:
    if asked.proofs and (free or not asked.offers):
        if Meaning.IDENTITY_PROOF not in speaks:
            why = "it asks who we are, and this vendor is not known to ask that"
            return Classified(Meaning.UNKNOWN, why, problem="no_offer", field="amount")
        why = "it asks who we are, with a challenge over no money"
        return Classified(Meaning.IDENTITY_PROOF, why, asked)
    offers = asked.offers
    rails = tuple(dict.fromkeys(offer.rail for offer in offers)) or ("x402" if asked.mpp is None else "mpp",)
    return Classified(_CHALLENGES[rails[0]], _described(rails, len(offers), len(asked.rejected)), asked)


@lru_cache(maxsize=64)
def _described(rails: tuple[str, ...], offers: int, unread: int) -> str:
    """Return why it is a challenge. Every paid call has one, and they are nearly all alike."""
    count = f"{offers} offer{'' if offers == 1 else 's'} that can be read"
    rest = f", {unread} that cannot" if unread else ""
    return f"a challenge of {' and '.join(rails)} with {count}{rest}"


def _spoken(speaks: frozenset[Meaning], asked: Asked) -> Asked | None:
    """Return what is asked on rails that the vendor speaks; None where that is nothing."""
    x402 = asked.x402 if Meaning.X402_CHALLENGE in speaks else None
    mpp = asked.mpp if speaks & {Meaning.MPP_CHALLENGE, Meaning.IDENTITY_PROOF} else None
    if x402 is asked.x402 and mpp is asked.mpp:
        return asked
    return None if x402 is None and mpp is None else replace(asked, x402=x402, mpp=mpp)


def _disagreement(asked: Asked, payees: Callable[[], Collection[bytes]]) -> str:
    """Return a payee on whom the rails disagree and whom nobody approved, as the vendor spells it; else "".

    One of them was put there by somebody else than the vendor, perhaps on the way to us; which, nobody can tell.
    """
    if asked.x402 is None or asked.mpp is None:
        return ""
    named = {bytes(offer.pay_to): offer.wire_pay_to for offer in asked.offers}
    by_rail = [{bytes(offer.pay_to) for offer in part.offers} for part in (asked.x402, asked.mpp)]
    if not all(by_rail) or by_rail[0] == by_rail[1]:
        return ""
    approved = payees()
    return next((wire for payee, wire in named.items() if payee not in approved), "")


def _no_challenge(headers: MultiMapping[str], body: bytes) -> Classified:
    bill = _bill_in(body)
    if bill is not None:
        why = f"the body speaks of {bill.replace('_', ' ')}, and this vendor has no account of ours"
    elif headers.getall("WWW-Authenticate", ()):
        why = "it asks for a credential of another kind than a payment"
    elif body.lstrip()[:1] == b"<":
        why = "it is a page for people"
    else:
        why = "it answered 402 without a challenge that we can pay"
    return Classified(Meaning.UNKNOWN, why, problem="foreign_402")


def _speaks_of_rails(headers: MultiMapping[str], body: bytes) -> bool:
    """Say whether an answer looks like a challenge: an account's refusal does not."""
    named = any(name in headers for name in ("PAYMENT-REQUIRED", "X-PAYMENT-REQUIRED"))
    lines = headers.getall("WWW-Authenticate", ())
    return named or b"x402Version" in body or any(_PAYMENT_SCHEME.search(line) is not None for line in lines)


def _bill_in(body: bytes) -> Meaning | None:
    """Return which bill a body presents, if it presents any: in its words or its figures, not in what is for sale."""
    if len(body) > MAX_BILL_BYTES or _MAY_BE_BILL.search(body) is None:
        return None
    try:
        document = parse_json(body)
    except JsonError:
        return None
    if not isinstance(document, dict):
        return None
    words = " ".join(_words(document))
    for meaning, pattern in _BILLS:
        if pattern.search(words) is not None:
            return meaning
    return None


def _words(document: Mapping[str, object]) -> Iterator[str]:
    """Yield what an error says of itself, at the top or one level down in `error`, and the names of an account's figures."""
    inner = document.get("error")
    for part in (document, inner if isinstance(inner, dict) else _NOTHING):
        yield from (name for name in part if name in _FIGURES)
        yield from (value for name in _SAYING if isinstance(value := part.get(name), str))
