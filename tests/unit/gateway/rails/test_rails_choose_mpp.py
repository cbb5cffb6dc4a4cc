"""Choosing among the offers of both rails, and among proofs: the same default deny, and MPP's own lines of it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from contracts.codec import ZERO_ADDRESS, parse_address
from contracts.tokens import BASE_USDC
from gateway.rails.asked import Asked, parse_asked
from gateway.rails.choose import MIN_LIFE_MS, AcceptableTerms, choose, choose_proof
from gateway.rails.codes import Problem
from gateway.rails.offer import MppOffer
from gateway.rails.problems import OfferRefused
from tests.unit.gateway.rails.mpp.mpp_bed import (
    ASSET,
    CHAIN,
    EXPIRES_MS,
    MPPX,
    NOW_MS,
    OTHER,
    OTHER_PAYEE,
    PAY_TO,
    PAYEE,
    REALM,
    USDC,
    evm_request,
    line,
    request,
)

OURS = parse_address("0x" + "11" * 20)
TERMS = AcceptableTerms(
    assets=frozenset({BASE_USDC.key, (CHAIN, ASSET)}),
    payees=frozenset({PAY_TO}),
    own_addresses=frozenset({OURS}),
    ceiling_base=20_000,
    now_ms=NOW_MS,
    rails=("mpp", "x402"),
    realms=frozenset({REALM}),
)


def asked(*lines: str, x402: str | None = None) -> Asked:
    """A 402 with these MPP challenges, and an x402 offer of this amount."""
    headers = CIMultiDict([("WWW-Authenticate", each) for each in lines])
    entry = {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": x402,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 60,
        "asset": USDC,
    }
    body = b"" if x402 is None else json.dumps({"x402Version": 2, "accepts": [entry]}).encode()
    found = parse_asked(402, headers, body, NOW_MS)
    assert found is not None
    return found


def refusal(terms: AcceptableTerms, *lines: str) -> OfferRefused:
    """The refusal of these challenges."""
    with pytest.raises(OfferRefused) as caught:
        choose(asked(*lines), terms)
    return caught.value


def proof_refusal(terms: AcceptableTerms, *lines: str) -> OfferRefused:
    """The refusal of these proofs."""
    with pytest.raises(OfferRefused) as caught:
        choose_proof(asked(*lines), terms)
    return caught.value


def test_an_allowed_charge_is_chosen() -> None:
    """What the terms allow is paid, on Tempo and on Base."""
    assert choose(asked(MPPX["plain"]), TERMS).chain_id == CHAIN
    assert choose(asked(line(evm_request(), method="evm")), TERMS).chain_id == 8453


@pytest.mark.parametrize(
    ("x402", "rails", "chosen"),
    [
        ("9999", ("mpp", "x402"), "x402"),
        ("10001", ("x402", "mpp"), "mpp"),
        ("10000", ("mpp", "x402"), "mpp"),
        ("10000", ("x402", "mpp"), "x402"),
        ("9999", ("mpp",), "mpp"),
        ("10001", ("x402",), "x402"),
    ],
)
def test_the_cheapest_wins_and_the_preferred_rail_breaks_ties(x402: str, rails: Any, chosen: str) -> None:
    """Preference never buys the dearer offer, and a rail that is not enabled is not there."""
    assert choose(asked(MPPX["plain"], x402=x402), replace(TERMS, rails=rails)).rail == chosen


def test_of_equal_offers_on_one_rail_the_first_is_taken() -> None:
    """The server's order, when nothing else decides."""
    chosen = choose(asked(line(), line(id="2")), TERMS)
    assert isinstance(chosen, MppOffer)
    assert chosen.challenge_id == "challenge-1"


def test_a_forbidden_cheaper_offer_leaves_the_other_rail() -> None:
    """Fallback before signing: a challenge that we may not meet does not stop a good x402 offer."""
    assert choose(asked(line(request(amount="1"), realm="evil.example"), x402="10000"), TERMS).rail == "x402"


SPLITS = [{"recipient": OTHER, "amount": "1"}]


@pytest.mark.parametrize(
    ("text", "terms", "code", "field"),
    [
        (line(), {"rails": ("x402",)}, Problem.RAIL_NOT_ALLOWED, ""),
        (line(), {"realms": frozenset()}, Problem.REALM_NOT_ALLOWED, "realm"),
        (line(realm="evil.example"), {}, Problem.REALM_NOT_ALLOWED, "realm"),
        (line(realm=REALM + "."), {}, Problem.REALM_NOT_ALLOWED, "realm"),
        (line(request(details={"chainId": 4217})), {}, Problem.NETWORK_NOT_ALLOWED, "chainId"),
        (line(request(currency=OTHER)), {}, Problem.ASSET_NOT_ALLOWED, "currency"),
        (line(evm_request(currency=OTHER), method="evm"), {}, Problem.ASSET_NOT_ALLOWED, "currency"),
        (line(request(recipient="0x" + "11" * 20)), {}, Problem.PAYEE_IS_OURS, "recipient"),
        (
            line(request(details={"splits": [{"recipient": "0x" + "11" * 20, "amount": "1"}]})),
            {"payees": frozenset({PAY_TO, OURS})},
            Problem.PAYEE_IS_OURS,
            "recipient",
        ),
        (line(), {"now_ms": EXPIRES_MS - MIN_LIFE_MS + 1}, Problem.CHALLENGE_EXPIRED, "expires"),
        (line(), {"now_ms": EXPIRES_MS + 1}, Problem.CHALLENGE_EXPIRED, "expires"),
        (MPPX["push"], {}, Problem.PUSH_NOT_ALLOWED, "supportedModes"),
        (line(), {"ceiling_base": 9_999}, Problem.PRICE_ABOVE_CEILING, "amount"),
        (line(), {"expected_base": 9_999}, Problem.PRICE_ABOVE_QUOTE, "amount"),
        (line(), {"expected_base": 10_001}, Problem.PRICE_BELOW_QUOTE, "amount"),
        (line(request(recipient=OTHER)), {}, Problem.PAYEE_NOT_ALLOWED, "recipient"),
        (line(request(details={"splits": SPLITS})), {}, Problem.PAYEE_NOT_ALLOWED, "recipient"),
    ],
)
def test_every_line_of_the_terms_refuses(text: str, terms: dict[str, Any], code: Problem, field: str) -> None:
    """Each check alone is enough, names the request's field and carries the offer."""
    refused = refusal(replace(TERMS, **terms), text)
    assert (refused.code, refused.field) == (code, field)
    assert isinstance(refused.offer, MppOffer)


def test_a_splits_payee_is_the_one_to_approve() -> None:
    """The refusal names whom nobody has approved, and with both approved the offer is paid."""
    text = line(request(details={"splits": SPLITS}))
    assert refusal(TERMS, text).payee == OTHER_PAYEE
    assert OTHER in refusal(TERMS, text).message
    assert refusal(replace(TERMS, payees=frozenset({OTHER_PAYEE})), text).payee == PAY_TO
    assert choose(asked(text), replace(TERMS, payees=frozenset({PAY_TO, OTHER_PAYEE}))).amount_base == 10_000


@pytest.mark.parametrize("parts", [(9_999, 1), (10_000,), (0, 5), (-1, 5)])
def test_splits_beyond_the_amount_are_refused_wherever_they_come_from(parts: tuple[int, ...]) -> None:
    """The ceiling is on the amount, so the amount must hold every part."""
    found = asked(line(request(details={"splits": [{"recipient": PAYEE, "amount": "1"}]})))
    assert found.mpp is not None
    (offer,) = found.mpp.offers
    forged = replace(offer, splits=tuple(replace(offer.splits[0], amount_base=part) for part in parts))
    with pytest.raises(OfferRefused) as caught:
        choose(replace(found, mpp=replace(found.mpp, offers=(forged,))), TERMS)
    assert (caught.value.code, caught.value.field) == (Problem.AMOUNT_MALFORMED, "splits")


def test_bounds_are_inclusive() -> None:
    """The least life and the ceiling at their bounds are allowed."""
    terms = replace(TERMS, now_ms=EXPIRES_MS - MIN_LIFE_MS, ceiling_base=10_000)
    assert choose(asked(line()), terms).amount_base == 10_000
    assert choose(asked(line(evm_request(), method="evm")), terms).amount_base == 10_000


def test_push_is_paid_where_the_operator_allows_it() -> None:
    """And a seller that also pulls never needs it."""
    assert choose(asked(MPPX["push"]), replace(TERMS, allow_push=True)).chain_id == CHAIN
    assert choose(asked(MPPX["either"]), TERMS).chain_id == CHAIN


def test_a_realm_is_a_host_in_any_case() -> None:
    """An alias is the operator's to name."""
    assert choose(asked(line(realm="API.Example.com")), TERMS).rail == "mpp"
    assert choose(asked(line(realm="alias")), replace(TERMS, realms=frozenset({"alias"}))).rail == "mpp"


def test_only_sessions_are_declined_by_name() -> None:
    """The agent learns that this is no single charge; an unknown method says less."""
    refused = refusal(TERMS, line(method="stripe"), MPPX["session"])
    assert (refused.code, refused.offer) == (Problem.UNSUPPORTED_PAYMENT_INTENT, None)
    assert refused.message.startswith("challenge[1]: ")
    assert "session" in refused.message
    assert refusal(TERMS, line(method="stripe")).code is Problem.UNSUPPORTED_PAYMENT_METHOD


def test_a_proof_is_never_chosen_as_an_offer() -> None:
    """Free of charge is not cheap."""
    assert refusal(TERMS, MPPX["proof"]).code is Problem.NO_OFFER
    assert choose(asked(MPPX["proof"], MPPX["plain"]), TERMS).amount_base == 10_000


@pytest.mark.parametrize("name", ["proof", "bare_proof"])
def test_a_proof_of_the_vendors_is_given(name: str) -> None:
    """No amount, no payee and no token of it counts."""
    terms = replace(TERMS, payees=frozenset(), ceiling_base=0, expected_base=1, own_addresses=frozenset({PAY_TO}))
    proof = choose_proof(asked(MPPX[name]), terms)
    assert (proof.amount_base, proof.realm) == (0, REALM)
    assert proof.pay_to in {PAY_TO, ZERO_ADDRESS}


FREE = request(amount="0")


@pytest.mark.parametrize(
    ("text", "terms", "code"),
    [
        (line(FREE), {"rails": ("x402",)}, Problem.RAIL_NOT_ALLOWED),
        (line(FREE, realm="evil.example"), {}, Problem.REALM_NOT_ALLOWED),
        (line(FREE), {"realms": frozenset()}, Problem.REALM_NOT_ALLOWED),
        (line(request(amount="0", details={"chainId": 1})), {}, Problem.NETWORK_NOT_ALLOWED),
        (line(FREE), {"now_ms": EXPIRES_MS - MIN_LIFE_MS + 1}, Problem.CHALLENGE_EXPIRED),
        (line(), {}, Problem.NO_OFFER),
        (MPPX["session"], {}, Problem.UNSUPPORTED_PAYMENT_INTENT),
    ],
)
def test_a_proof_goes_to_nobody_else(text: str, terms: dict[str, Any], code: Problem) -> None:
    """It gives control over what the wallet owns; and who asks for money gets none here."""
    assert proof_refusal(replace(TERMS, **terms), text).code is code


def test_the_nearest_proof_is_reported_and_the_first_allowed_is_given() -> None:
    """As with offers."""
    wrong = [line(FREE, realm="evil.example"), line(request(amount="0", details={"chainId": 1}), id="2")]
    assert proof_refusal(TERMS, *wrong).code is Problem.NETWORK_NOT_ALLOWED
    assert choose_proof(asked(*wrong, line(FREE, id="3"), line(FREE, id="4")), TERMS).challenge_id == "3"
