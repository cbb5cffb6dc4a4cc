"""Our own price of a call with several components and fractions: exact, rounded up once, each component held to its approval."""

import json
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpp_shop import asks, line
from multidict import CIMultiDict, CIMultiDictProxy

from contracts.codec import Address, checksum
from contracts.tokens import MODERATO_PATHUSD
from gateway.core.book import PriceView
from gateway.core.commands import AccountLimits
from gateway.core.records import ApiKey
from gateway.core.view import View
from gateway.flow.call import Call
from gateway.flow.quote import Quote, Quoter, Refusal, item_document
from gateway.ports import PricedItem, VendorTerms
from gateway.rails.asked import Asked, parse_asked
from gateway.vendors.dropmpp import DropMpp
from tests.unit.gateway.flow.spend_bed import NOW_MS, PAYEE, REALM, SPLIT, StillClock

KEY = ApiKey("key_1", "acc_1", b"", "test", ("proxy",), (), 0)
TERMS = VendorTerms(
    *(b"\1" * 20, (MODERATO_PATHUSD,), frozenset({PAYEE}), 20_000, {}, 300, 600),
    AccountLimits(1, 1, 1, 1, 1),
    rails=("mpp",),
    realms=frozenset({REALM}),
)
APPROVED = {"small/create": 10_000, "small/hour": 13_400, "power": 5_000}
FRESH, STALE, AHEAD = NOW_MS - 300_000, NOW_MS - 300_001, NOW_MS + 1


def quoter(
    observed: dict[str, int] | None = None, at_ms: int = FRESH, approved: dict[str, int] | None = None
) -> Quoter:
    """Return a quoter that knows these prices."""
    view, observed = View(), observed or {}
    approvals = APPROVED if approved is None else approved
    for name in {*approvals, *observed}:
        seen = observed.get(name)
        view.prices["drop", name] = PriceView(seen, None if seen is None else at_ms, approvals.get(name))
    return Quoter(view, frozenset(), StillClock())


def call(path: str = "/v1/servers", terms: VendorTerms = TERMS, **members: Any) -> Call:
    """Return a call of the document."""
    vendor = DropMpp("drop", "https://drop.test", terms)
    match = vendor.match("POST", path)
    assert match is not None
    return Call(KEY, "req_1", vendor, match, "POST", path, (), json.dumps(members).encode())


def create(minutes: int, terms: VendorTerms = TERMS) -> Call:
    """Return a create of a small server."""
    return call(terms=terms, size="small", region="nyc1", minutes=minutes)


def asking(amount_base: int, **details: Any) -> Asked:
    """Return a challenge that asks for so much."""
    answer = asks(line(amount=str(amount_base), details=details))
    asked = parse_asked(answer.status, answer.headers, b"", NOW_MS)
    assert asked is not None
    return asked


def refusal(quoting: Quoter, wanted: Call, amount_base: int) -> tuple[str, str | None, str | None]:
    """Return (problem, task kind, task subject) of a challenge that must be refused."""
    with pytest.raises(Refusal) as caught:
        quoting.judge(wanted, asking(amount_base), None)
    task = caught.value.task
    return caught.value.problem.code, task and task.kind, task and task.subject


EXACT = {minutes: Fraction(10_000) + Fraction(13_400 * minutes, 60) for minutes in (1, 7, 60, 61, 525_600)}


@pytest.mark.parametrize("minutes", sorted(EXACT))
def test_a_sum_of_fractions_is_rounded_up_once(minutes: int) -> None:
    """And the vendor's own rounding may lie one base unit from ours, no more."""
    ours = ceil(EXACT[minutes])
    fresh = quoter(APPROVED)
    for asked_base in (ours - 1, ours, ours + 1):
        quote = fresh.judge(create(minutes), asking(asked_base), None)
        assert (quote.offer.amount_base, quote.hold_base) == (asked_base, asked_base)
    assert refusal(fresh, create(minutes), ours + 2) == ("price_above_quote", "price_changed", "drop")
    assert refusal(fresh, create(minutes), ours - 2) == ("price_below_quote", "price_changed", "drop")


@given(st.integers(1, 525_600), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_quote_is_never_below_the_exact_price(minutes: int, fee_base: int, hour_base: int) -> None:
    """And never a whole unit above it, whatever the rates."""
    item = create(minutes).vendor.item(create(minutes).match, create(minutes).body, None)
    assert item is not None
    prices = {"small/create": fee_base, "small/hour": hour_base}
    expected = quoter(prices, approved=prices)._expected(create(minutes).vendor, item, asking(1))
    exact = fee_base + Fraction(hour_base * minutes, 60)
    assert expected.base is not None
    assert 0 <= expected.base - exact < 1
    assert expected.drift_base == 1


def test_a_floor_is_the_least() -> None:
    """An extension costs a cent at least, exactly a cent then."""
    item = PricedItem((("small/hour", Fraction(1, 60)),), 10_000, 1)
    assert quoter(APPROVED)._expected(create(1).vendor, item, asking(1)).base == 10_000
    dear = PricedItem((("small/hour", Fraction(60)),), 10_000, 1)
    assert quoter(APPROVED)._expected(create(1).vendor, dear, asking(1)).base == 60 * 13_400


def test_each_component_may_drift_within_its_own_bound() -> None:
    """What the catalogue states now is expected, while it is near what was approved."""
    moved = {"small/create": 10_200, "small/hour": 13_132}  # 2 % up, 2 % down
    quote = quoter(moved).judge(create(60), asking(10_200 + 13_132), None)
    assert quote.hold_base == 23_332


@pytest.mark.parametrize(
    ("observed", "code", "item"),
    [
        ({"small/create": 10_201, "small/hour": 13_400}, "price_above_quote", "small/create"),
        ({"small/create": 10_000, "small/hour": 13_669}, "price_above_quote", "small/hour"),
        ({"small/create": 10_000, "small/hour": 13_131}, "price_below_quote", "small/hour"),
    ],
)
def test_a_component_that_drifts_too_far_is_asked_about_by_name(observed: dict[str, int], code: str, item: str) -> None:
    """P8: raising the catalogue together with the challenge does not get it paid."""
    total = sum(observed.values())
    assert refusal(quoter(observed), create(60), total) == (code, "price_changed", f"drop/{item}")


def test_a_small_part_does_not_hide_behind_a_large_one() -> None:
    """A fee that doubles is refused although the sum has hardly moved."""
    observed = {"small/create": 20_000, "small/hour": 13_400}
    code, _, subject = refusal(quoter(observed), create(525_600), 20_000 + 13_400 * 8_760)
    assert (code, subject) == ("price_above_quote", "drop/small/create")


def test_without_a_fresh_statement_the_approval_is_expected_with_its_drift() -> None:
    """Which is each component's own share, and the rounding. One of a time that is still to come is of no known age."""
    for quoting in (quoter(), quoter(APPROVED, STALE), quoter(APPROVED, AHEAD)):
        assert quoting.judge(create(60), asking(23_400 + 468 + 1), None).hold_base == 23_869
        assert refusal(quoting, create(60), 23_400 + 468 + 2)[0] == "price_above_quote"


@pytest.mark.parametrize("missing", ["small/create", "small/hour"])
def test_every_component_needs_an_approval(missing: str) -> None:
    """P8: what nobody approved is not paid, whatever the vendor's catalogue states; the task says what it states."""
    approved = {name: base for name, base in APPROVED.items() if name != missing}
    with pytest.raises(Refusal) as caught:
        quoter(APPROVED, approved=approved).judge(create(60), asking(23_400), None)
    refused = caught.value
    assert refused.problem.code == "price_unknown"
    assert refused.task is not None
    assert (refused.task.kind, refused.task.subject) == ("price_unknown", f"drop/{missing}")
    assert "0.0" in refused.task.detail.partition("its catalogue states ")[2]


def test_a_flat_price_that_does_not_fit_is_asked_about_by_its_item() -> None:
    """One item: the operator may approve another price for it."""
    reboot = call("/v1/servers/srv_1/reboot")
    assert refusal(quoter(), replace(reboot, body=b""), 6_000) == ("price_above_quote", "price_changed", "drop/power")


def test_the_ceiling_stands_above_every_price() -> None:
    """Approved and stated, yet more than the operator lets one call cost."""
    dear = {"small/create": 10_000, "small/hour": 100_000_000}
    assert refusal(quoter(dear, approved=dear), create(600), 10_000 + 10**9)[0] == "price_above_ceiling"


def test_a_realm_that_is_not_the_vendors_is_not_paid() -> None:
    """A relayed challenge would pay another's bill."""
    wanted = create(60, replace(TERMS, realms=frozenset({"drop.test"})))
    assert refusal(quoter(), wanted, 23_400)[0] == "realm_not_allowed"


def test_a_rail_that_is_not_enabled_is_not_paid() -> None:
    """However right the price."""
    assert refusal(quoter(), create(60, replace(TERMS, rails=("x402",))), 23_400)[0] == "rail_not_allowed"


def test_every_splits_payee_must_be_approved_on_the_offers_chain() -> None:
    """P8: approved on another chain, the address may be another's there."""
    asked = asking(23_400, splits=[{"recipient": checksum(SPLIT), "amount": "10"}])
    quoting = quoter()
    for chain_id, paid in ((1, False), (MODERATO_PATHUSD.chain_id, True)):
        quoting._view.payees.add(("drop", chain_id, bytes(SPLIT)))
        if paid:
            assert isinstance(quoting.judge(create(60), asked, None), Quote)
            continue
        with pytest.raises(Refusal) as caught:
            quoting.judge(create(60), asked, None)
        assert caught.value.problem.code == "payee_not_allowed"
        assert caught.value.task is not None
        assert caught.value.task.subject == f"drop/{MODERATO_PATHUSD.chain_id}/{checksum(Address(SPLIT))}"


def test_an_agent_reads_what_a_quote_is_made_of() -> None:
    """One whole item as ever; several as parts; a fraction as text, never a float."""
    assert item_document(None) is None
    assert item_document(PricedItem.of("rent", 3)) == {"item": "rent", "quantity": 3}
    several = PricedItem((("small/create", Fraction(1)), ("small/hour", Fraction(7, 60))), 10_000)
    assert item_document(several) == {
        "item": "small/create+small/hour",
        "parts": [{"item": "small/create", "quantity": 1}, {"item": "small/hour", "quantity": "7/60"}],
        "least": "0.010000",
    }


def test_no_offer_is_no_price() -> None:
    """A 402 whose offers cannot be read is refused by its reason, after the price was found."""
    empty = parse_asked(402, CIMultiDictProxy(CIMultiDict({"WWW-Authenticate": line(amount="0")})), b"", NOW_MS)
    assert empty is not None
    with pytest.raises(Refusal) as caught:
        quoter().judge(create(60), empty, None)
    assert caught.value.problem.code == "no_offer"
