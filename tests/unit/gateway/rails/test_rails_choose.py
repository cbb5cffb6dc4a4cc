"""Choosing an offer: default deny, the cheapest that is allowed, and the refusal that an operator can act on."""

import json
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from contracts.codec import parse_address
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC
from gateway.rails.choose import AcceptableTerms, choose
from gateway.rails.codes import Problem
from gateway.rails.offer import Challenge
from gateway.rails.problems import OfferRefused
from gateway.rails.x402.challenge import parse_challenge

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
PAYEE = "0x8eCbd65228930060363C70854da7D37D57ffC358"
OTHER = "0x" + "22" * 20

TERMS = AcceptableTerms(
    assets=frozenset({BASE_USDC.key}),
    payees=frozenset({parse_address(PAYEE)}),
    own_addresses=frozenset({parse_address("0x" + "11" * 20)}),
    ceiling_base=20_000_000,
    now_ms=0,
    rails=("x402",),
)


def entry(**changes: Any) -> dict[str, Any]:
    """One v2 entry that TERMS allow."""
    return {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "9990000",
        "payTo": PAYEE,
        "maxTimeoutSeconds": 900,
        "asset": USDC,
    } | changes


def challenge(*entries: object) -> Challenge:
    """A v2 challenge with these entries."""
    body = json.dumps({"x402Version": 2, "accepts": list(entries)}).encode()
    result = parse_challenge(402, CIMultiDict(), body)
    assert result is not None
    return result


def refusal(terms: AcceptableTerms, *entries: object) -> OfferRefused:
    """The refusal of these entries."""
    with pytest.raises(OfferRefused) as caught:
        choose(challenge(*entries), terms)
    return caught.value


def test_an_allowed_offer_is_chosen() -> None:
    """What the terms allow is paid."""
    assert choose(challenge(entry()), TERMS).amount_base == 9_990_000


def test_never_the_first_entry_but_the_cheapest_allowed() -> None:
    """A cheaper offer in a forbidden token does not win, and of two equals the first does."""
    offer = choose(
        challenge(
            entry(asset=OTHER, amount="1"),
            entry(),
            entry(amount="9980000", extra={"tag": "a"}),
            entry(amount="9980000", extra={"tag": "b"}),
        ),
        TERMS,
    )
    assert (json.loads(offer.accepted_json)["extra"], offer.amount_base) == ({"tag": "a"}, 9_980_000)


@pytest.mark.parametrize(
    ("change", "terms", "code", "field"),
    [
        ({}, {"rails": ("mpp",)}, Problem.RAIL_NOT_ALLOWED, ""),
        ({}, {"rails": ()}, Problem.RAIL_NOT_ALLOWED, ""),
        ({"network": "eip155:1"}, {}, Problem.NETWORK_NOT_ALLOWED, "network"),
        ({"network": "eip155:84532"}, {}, Problem.NETWORK_NOT_ALLOWED, "network"),
        ({"asset": OTHER}, {}, Problem.ASSET_NOT_ALLOWED, "asset"),
        ({"payTo": "0x" + "11" * 20}, {}, Problem.PAYEE_IS_OURS, "payTo"),
        ({"payTo": OTHER}, {}, Problem.PAYEE_NOT_ALLOWED, "payTo"),
        ({"amount": "20000001"}, {}, Problem.PRICE_ABOVE_CEILING, "amount"),
        ({"amount": str(2**256 - 1)}, {}, Problem.PRICE_ABOVE_CEILING, "amount"),
        ({}, {"expected_base": 9_989_999}, Problem.PRICE_ABOVE_QUOTE, "amount"),
        ({}, {"expected_base": 9_990_001}, Problem.PRICE_BELOW_QUOTE, "amount"),
        ({}, {"assets": frozenset()}, Problem.NETWORK_NOT_ALLOWED, "network"),
        ({}, {"payees": frozenset()}, Problem.PAYEE_NOT_ALLOWED, "payTo"),
        ({}, {"ceiling_base": 0}, Problem.PRICE_ABOVE_CEILING, "amount"),
    ],
    ids=str,
)
def test_every_line_of_the_terms_refuses(
    change: dict[str, Any], terms: dict[str, Any], code: Problem, field: str
) -> None:
    """Each check alone is enough, names its field and carries the offer."""
    refused = refusal(replace(TERMS, **terms), entry(**change))
    assert (refused.code, refused.field) == (code, field)
    assert refused.offer is not None


def test_our_own_address_is_refused_even_when_it_is_an_approved_payee() -> None:
    """No approval lets us pay ourselves."""
    ours = parse_address("0x" + "11" * 20)
    refused = refusal(replace(TERMS, payees=TERMS.payees | {ours}), entry(payTo="0x" + "11" * 20))
    assert refused.code is Problem.PAYEE_IS_OURS


def test_a_price_inside_the_drift_is_paid() -> None:
    """The quote's tolerance is inclusive on both sides."""
    for expected in (9_989_990, 9_990_010):
        assert (
            choose(challenge(entry()), replace(TERMS, expected_base=expected, drift_base=10)).amount_base == 9_990_000
        )


def test_the_ceiling_is_inclusive() -> None:
    """A price at the ceiling is allowed."""
    assert choose(challenge(entry()), replace(TERMS, ceiling_base=9_990_000)).amount_base == 9_990_000


def test_the_same_token_address_on_another_chain_is_not_the_token() -> None:
    """An asset is a pair: the address alone means nothing."""
    terms = replace(TERMS, assets=frozenset({BASE_USDC.key, BASE_SEPOLIA_USDC.key}))
    assert refusal(terms, entry(network="eip155:84532")).code is Problem.ASSET_NOT_ALLOWED


def test_an_unknown_payee_is_reported_only_when_nothing_else_is_wrong() -> None:
    """The payee of a task is the one thing that a human has to approve."""
    refused = refusal(TERMS, entry(network="eip155:1"), entry(payTo=OTHER), entry(amount="20000001"))
    assert refused.code is Problem.PAYEE_NOT_ALLOWED
    assert refused.offer is not None
    assert refused.offer.pay_to == parse_address(OTHER)
    assert refusal(TERMS, entry(payTo=OTHER, amount="20000001")).code is Problem.PRICE_ABOVE_CEILING


def test_unreadable_entries_are_refused_by_the_most_useful_reason() -> None:
    """Of a foreign scheme, a foreign network and a bad amount, the amount is what went wrong for us."""
    bad = [entry(scheme="upto"), entry(network="solana"), entry(amount=1.5)]
    refused = refusal(TERMS, *bad)
    assert (refused.code, refused.offer) == (Problem.AMOUNT_MALFORMED, None)
    assert refused.message.startswith("accepts[2]")
    assert refusal(TERMS, *bad[:2]).code is Problem.UNKNOWN_NETWORK
    assert refusal(TERMS, bad[0]).code is Problem.UNSUPPORTED_SCHEME


def test_a_readable_refusal_beats_an_unreadable_one() -> None:
    """An offer that policy refuses says more than one that cannot be read."""
    assert refusal(TERMS, entry(amount=1.5), entry(asset=OTHER)).code is Problem.ASSET_NOT_ALLOWED


def test_an_empty_challenge_has_no_offer() -> None:
    """Nothing to choose from is a refusal, not a success."""
    assert refusal(TERMS).code is Problem.NO_OFFER
