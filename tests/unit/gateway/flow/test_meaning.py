"""Golden 402s of every vendor, live and crafted: what each means, and that nothing but a sound challenge can be paid."""

import json
from collections.abc import Callable

import pytest
from multidict import CIMultiDict

from gateway.core.meaning import ACCOUNT_MEANINGS, Meaning, meanings_of_rails
from gateway.core.problems import TYPES
from gateway.core.routes import Pricing
from gateway.core.view import View
from gateway.flow.meaning import Classified, approved_payees, asks_who, classify, classify_account
from tests.meaning_cases import PAYEE, Case, account_vendors, load_cases, paid_vendors

CASES = load_cases()
PAID, ACCOUNTS = paid_vendors(), account_vendors()
ASKED_OF_US = [case for case in CASES if case.vendor in PAID and case.response["status"] == 402]
X402 = frozenset({Meaning.X402_CHALLENGE, Meaning.PAYMENT_INVALID})
PAYABLE = {Meaning.X402_CHALLENGE, Meaning.MPP_CHALLENGE, Meaning.IDENTITY_PROOF}


def classified(case: Case) -> Classified:
    """What a case means to the vendor that it names."""
    given = case.given
    if case.vendor in ACCOUNTS:
        return classify(
            ACCOUNTS[case.vendor].speaks, given.status, given.headers, given.body, case.now_ms, after_payment=False
        )
    vendor = PAID[case.vendor]
    match = vendor.match(case.method, case.path.partition("?")[0])
    assert match is not None, case.name
    return classify(
        vendor.speaks,
        given.status,
        given.headers,
        given.body,
        case.now_ms,
        after_payment=case.after_payment,
        free=match.route.pricing is Pricing.FREE,
        payees=lambda: approved_payees(vendor, View()),
    )


def of(body: str, speaks: frozenset[Meaning] = X402, **headers: str) -> Classified:
    """What a body and headers mean, first time."""
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return classify(speaks, 402, named, body.encode(), 0, after_payment=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_402_means_what_its_vector_says(case: Case) -> None:
    """The golden answers keep their meaning; whatever has no meaning of its own names the problem that a call ends with."""
    found = classified(case)
    assert found.meaning == case.expect["meaning"], found.why
    assert found.why
    if found.asked is None:
        assert (found.problem or None) == case.expect["problem"]
        assert found.problem == "" or found.problem in TYPES
    else:
        assert found.problem == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_a_challenge_can_be_answered(case: Case) -> None:
    """P8: what is unknown, refused, a bill or a balance leaves nothing behind that could be signed for."""
    found = classified(case)
    assert (found.asked is not None) == (found.meaning in PAYABLE)


@pytest.mark.parametrize("case", ASKED_OF_US, ids=lambda case: case.name)
def test_after_a_payment_nothing_is_asked_any_more(case: Case) -> None:
    """The same answer to a request that carried a credential is never a new bill, whatever it says."""
    vendor, given = PAID[case.vendor], case.given
    found = classify(vendor.speaks, 402, given.headers, given.body, case.now_ms, after_payment=True)
    assert (found.meaning, found.asked) == (Meaning.PAYMENT_INVALID, None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", ACCOUNTS)
def test_an_account_vendor_is_never_paid_by_a_challenge(case: Case, name: str) -> None:
    """Every vendor's every 402 in the mouth of an account vendor is the operator's, and leaves nothing to answer."""
    found = classify_account(ACCOUNTS[name].speaks, case.given.headers, case.given.body)
    assert found.asked is None
    assert found.meaning in {*ACCOUNTS[name].speaks, Meaning.UNKNOWN}
    assert found.refusal().code == "vendor_account_empty"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", PAID)
def test_no_answer_breaks_the_classifier(case: Case, name: str) -> None:
    """Whoever says it, every golden answer has a meaning that this vendor declares, or none."""
    vendor, given = PAID[name], case.given
    found = classify(vendor.speaks, given.status, given.headers, given.body, case.now_ms, after_payment=False)
    assert found.meaning in {*vendor.speaks, Meaning.UNKNOWN}


def test_every_vendor_has_a_vector_for_each_of_its_meanings() -> None:
    """What a module declares was seen live; nothing is declared that no golden answer shows."""
    seen: dict[str, set[str]] = {}
    for case in CASES:
        if case.live:
            seen.setdefault(case.vendor, set()).add(case.expect["meaning"])
    for name in ("vpsagent", "dropmpp", "x402"):
        assert seen[name] == PAID[name].speaks
    for name, vendor in ACCOUNTS.items():
        assert seen[name] == vendor.speaks
        assert len(vendor.speaks) == 1
        assert vendor.speaks <= ACCOUNT_MEANINGS


def test_a_vendor_known_by_its_rails_alone_speaks_them() -> None:
    """A generic seller means challenges of the configured rails and refused payments; proofs only where a route may ask."""
    assert meanings_of_rails(("x402",)) == X402
    assert meanings_of_rails(("mpp", "x402")) == X402 | {Meaning.MPP_CHALLENGE}
    assert meanings_of_rails(("mpp",), proofs=True) == PAID["dropmpp"].speaks
    assert meanings_of_rails(("x402",), proofs=True) == X402


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        ('{"error": "insufficient balance"}', Meaning.LOW_VENDOR_BALANCE),
        ('{"error": {"code": "NO_CREDIT", "message": "add credits"}}', Meaning.LOW_VENDOR_BALANCE),
        ('{"message": "token spend limit exceeded"}', Meaning.LOW_VENDOR_BALANCE),
        ('{"title": "Please top up"}', Meaning.LOW_VENDOR_BALANCE),
        ('{"error": "no", "balance": 0.01}', Meaning.LOW_VENDOR_BALANCE),
        ('{"error": "pay invoice 7 to restore your balance"}', Meaning.OVERDUE_INVOICE),
        ('{"error": {"code": "OVERDUE_INVOICE"}}', Meaning.OVERDUE_INVOICE),
        ('{"detail": "account past due"}', Meaning.OVERDUE_INVOICE),
        ('{"error": "payment required"}', Meaning.UNKNOWN),
        ('["balance"]', Meaning.UNKNOWN),
        ('{"error": "insufficient balance"', Meaning.UNKNOWN),
        ('{"error": "x", "error": "insufficient balance"}', Meaning.UNKNOWN),
        ('{"plans": [{"name": "balance"}]}', Meaning.UNKNOWN),
    ],
)
def test_bills_are_told_by_their_words(body: str, meaning: Meaning) -> None:
    """A vendor that can mean both a balance and an invoice is read by what its error says of itself."""
    assert classify_account(ACCOUNT_MEANINGS, CIMultiDict(), body.encode()).meaning is meaning


def test_an_account_vendor_means_only_what_it_declares() -> None:
    """A balance error from a vendor that sends invoices is none that its document has."""
    body = b'{"error": "insufficient balance"}'
    assert classify_account(ACCOUNTS["vrtx"].speaks, CIMultiDict(), body).meaning is Meaning.UNKNOWN


@pytest.mark.parametrize("header", ["PAYMENT-REQUIRED", "X-PAYMENT-REQUIRED", "WWW-Authenticate"])
def test_a_balance_error_with_a_challenge_beside_it_is_neither(header: str) -> None:
    """Some x402 proxy in front of an account vendor must not be taken for the vendor."""
    headers = CIMultiDict({header: 'Bearer realm="a", Payment id="x"'})
    found = classify_account(ACCOUNTS["cryptovps"].speaks, headers, b'{"error": "insufficient balance"}')
    assert found.meaning is Meaning.UNKNOWN


@pytest.mark.parametrize(
    ("change", "meaning"),
    [
        (lambda entry, _: entry.update(description="Top up your balance with credits"), Meaning.X402_CHALLENGE),
        (lambda _, outer: outer.update(error="X-PAYMENT header is required"), Meaning.X402_CHALLENGE),
        (lambda _, outer: outer.update(error="Insufficient credits"), Meaning.UNKNOWN),
        (lambda _, outer: outer.update(balance="0.00"), Meaning.UNKNOWN),
        (lambda _, outer: outer.update(code="OVERDUE_INVOICE"), Meaning.UNKNOWN),
    ],
)
def test_what_is_sold_may_be_credit_but_the_challenge_may_be_no_bill(
    change: Callable[[dict[str, object], dict[str, object]], None], meaning: Meaning
) -> None:
    """Words in an entry describe the goods; words beside them say what the 402 is."""
    body = json.loads(next(case for case in CASES if case.name == "x402_v1").response["body"])
    change(body["accepts"][0], body)
    assert of(json.dumps(body)).meaning is meaning


def test_rails_may_differ_on_the_payee_where_both_were_approved() -> None:
    """A treasury on each chain is no contradiction once the operator has approved both."""
    case = next(case for case in CASES if case.name == "crafted_rails_disagree_on_payee")
    vendor, given = PAID["both"], case.given
    payees = approved_payees(vendor, View()) | {bytes(PAYEE)}
    found = classify(
        vendor.speaks, 402, given.headers, given.body, case.now_ms, after_payment=False, payees=lambda: payees
    )
    assert found.meaning is Meaning.MPP_CHALLENGE
    assert found.asked is not None
    assert {offer.rail for offer in found.asked.offers} == {"mpp", "x402"}


def test_a_payee_approved_since_counts_and_anothers_does_not() -> None:
    """The operator's approvals are by vendor."""
    view = View()
    view.payees |= {("both", 8453, bytes(PAYEE)), ("other", 8453, b"\x05" * 20)}
    assert approved_payees(PAID["both"], view) == {*PAID["both"].terms.payees, bytes(PAYEE)}


def test_an_unspoken_rail_beside_a_spoken_one_is_not_asked() -> None:
    """A vendor that is paid with x402 may say MPP as well: only its own rail is left to choose from."""
    case = next(case for case in CASES if case.name == "crafted_rails_disagree_on_payee")
    found = classify(X402, 402, case.given.headers, case.given.body, case.now_ms, after_payment=False)
    assert found.meaning is Meaning.X402_CHALLENGE
    assert found.asked is not None
    assert found.asked.mpp is None
    assert found.why == "a challenge of x402 with 1 offer that can be read"


def test_a_proof_beside_an_offer_is_wanted_on_free_routes_alone() -> None:
    """On a free route the proof is the question; on a priced one the money is."""
    proof = next(case for case in CASES if case.name == "dropmpp_proof").given
    charge = next(case for case in CASES if case.name == "dropmpp_create")
    headers = CIMultiDict(proof.headers)
    headers.add("WWW-Authenticate", charge.given.headers["WWW-Authenticate"])
    vendor = PAID["dropmpp"]
    by_price = {
        free: classify(vendor.speaks, 402, headers, b"", charge.now_ms, after_payment=False, free=free)
        for free in (True, False)
    }
    assert by_price[True].meaning is Meaning.IDENTITY_PROOF
    assert by_price[False].meaning is Meaning.MPP_CHALLENGE
    reads, creates = (vendor.match(method, "/v1/servers") for method in ("GET", "POST"))
    assert reads is not None
    assert creates is not None
    asked = by_price[True].asked
    assert asked is not None
    assert asks_who(reads.route, asked)
    assert not asks_who(creates.route, asked)


@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_other_statuses_ask_for_nothing(status: int) -> None:
    """A challenge under another status is not looked at."""
    case = next(case for case in CASES if case.name == "x402_v2")
    found = classify(X402, status, case.given.headers, case.given.body, case.now_ms, after_payment=False)
    assert (found.meaning, found.asked, found.problem) == (Meaning.UNKNOWN, None, "")
