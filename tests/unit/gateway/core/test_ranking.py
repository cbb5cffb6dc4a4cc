"""Plans of any vendor against a need: which fit, which is cheapest over the time needed, and one reason for each other."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.meter import next_hold_base
from gateway.core.plan import Billing, Image, Need, Plan, Source
from gateway.core.plan_text import plan_document
from gateway.core.ranking import (
    Facts,
    Metering,
    VendorFacts,
    cost_for,
    find_image,
    find_region,
    first_charge_base,
    misfit,
    rank,
)
from gateway.core.records import Meter
from gateway.core.tariff import Rule, TariffError

NOW_MS = 1_800_000_000_000
HOUR_S, DAY_S = 3_600, 86_400


def plan(**changes: Any) -> Plan:
    """Return a plan by the hour that states everything."""
    made = Plan(
        vendor="one",
        id="small",
        name="Small",
        billing=Billing.HOURLY,
        hourly="0.01",
        source=Source.API,
        as_of_ms=NOW_MS,
        vcpu=2,
        memory_mib=2048,
        disk_gib=40,
        regions=("ams", "nyc"),
        images=(Image("ubuntu-24", "Ubuntu 24.04"), Image("trial", "Trial", ttl_s=HOUR_S)),
    )
    return replace(made, **changes)


def by_hour(**changes: Any) -> VendorFacts:
    """Return what is known of a vendor that charges by the started hour."""
    return VendorFacts(**{"metering": Metering(Rule.STARTED_UNITS, HOUR_S, False, HOUR_S), **changes})


def facts(**vendors: VendorFacts) -> Facts:
    """Return facts of these vendors, of one and two where none is named."""
    return Facts(vendors or {"one": by_hour(), "two": by_hour()}, NOW_MS)


def reason(need: Need, of: Plan, known: Facts | None = None) -> str | None:
    """Return why a plan lost, None for one that fits."""
    ranking = rank(need, [of], known or facts())
    assert len(ranking.fits) + len(ranking.losers) == 1
    return ranking.losers[0].reason if ranking.losers else None


@pytest.mark.parametrize(
    ("need", "changes", "expected"),
    [
        (Need(), {}, None),
        (Need(min_vcpu=2, min_memory_mib=2048, min_disk_gib=40), {}, None),
        (Need(min_vcpu=3), {}, "vcpu"),
        (Need(min_memory_mib=2049), {}, "memory"),
        (Need(min_disk_gib=41), {}, "disk"),
        (Need(min_vcpu=1), {"vcpu": None}, "vcpu"),
        (Need(min_memory_mib=1), {"memory_mib": None}, "memory"),
        (Need(min_disk_gib=1), {"disk_gib": None}, "disk"),
        (Need(arch="x86_64"), {}, "arch"),
        (Need(region="AMS"), {}, None),
        (Need(region="fra"), {}, "region"),
        (Need(region="ams"), {"regions": ()}, "region"),
        (Need(image="ubuntu 24.04"), {}, None),
        (Need(image="debian"), {}, "image"),
        (Need(image="debian"), {"images": ()}, "image"),
        (Need(image="trial", for_s=HOUR_S), {}, None),
        (Need(image="trial", for_s=HOUR_S + 1), {}, "image"),
        (Need(max_hourly="0.01"), {}, None),
        (Need(max_hourly="0.0099999"), {}, "max_hourly"),
        (Need(), {"sandbox": True}, "sandbox"),
        (Need(sandbox=True), {"sandbox": True}, None),
        (Need(), {"available": False}, "unavailable"),
        (Need(vendors=("two",)), {}, "vendor_excluded"),
        (Need(vendors=("one", "two")), {}, None),
        (Need(not_vendors=("one",)), {}, "vendor_excluded"),
        (Need(plan="one/small"), {}, None),
        (Need(plan="one/large"), {}, "plan"),
    ],
)
def test_a_plan_fits_or_lacks_one_thing(need: Need, changes: dict[str, Any], expected: str | None) -> None:
    """Each stated member of a need is met or named; what the vendor does not state meets nothing."""
    assert reason(need, plan(**changes)) == expected


@pytest.mark.parametrize(
    ("need", "vendor", "expected"),
    [
        (Need(features=("exec",)), by_hour(features=frozenset({"exec"})), None),
        (Need(features=("exec", "files")), by_hour(features=frozenset({"exec"})), "feature:files"),
        (Need(), by_hour(allowed=False), "key_scope"),
        (Need(), by_hour(stopped=("billing_rule_unset", "no rule")), "billing_rule_unset"),
        (Need(), by_hour(stopped=("unavailable", "frozen")), "unavailable"),
        (Need(for_s=60), VendorFacts(metering=Metering(Rule.MONTHLY, HOUR_S, False, HOUR_S)), "price_unknown"),
    ],
)
def test_a_vendor_may_be_out_of_reach(need: Need, vendor: VendorFacts, expected: str | None) -> None:
    """A plan that fits loses where its vendor lacks a feature, the key may not spend, or nothing is sold now."""
    assert reason(need, plan(), facts(one=vendor)) == expected


def test_a_vendor_of_which_nothing_is_known_sells_nothing() -> None:
    """A plan without facts about its vendor never fits."""
    assert reason(Need(), plan(vendor="nobody")) == "unavailable"


def test_the_time_needed_decides_between_a_term_and_the_hour() -> None:
    """For an hour the hourly plan is cheaper, for a month the term is, although its price is paid at once."""
    term = plan(id="term", billing=Billing.TERM, hourly="0.005", term_price="3.60", term_s=30 * DAY_S)
    offered = [term, plan()]
    assert [fit.id for fit in rank(Need(for_s=HOUR_S), offered, facts()).fits] == ["small", "term"]
    assert [fit.id for fit in rank(Need(for_s=30 * DAY_S), offered, facts()).fits] == ["term", "small"]
    assert [fit.id for fit in rank(Need(), offered, facts()).fits] == ["term", "small"]


def test_equal_prices_go_by_vendor_and_plan() -> None:
    """The same need gets the same answer each time, whatever the order of the plans."""
    offered = [plan(vendor="two", id="a"), plan(id="b"), plan(id="a")]
    for order in (offered, offered[::-1]):
        assert [fit.key for fit in rank(Need(), order, facts()).fits] == ["one/a", "one/b", "two/a"]


@pytest.mark.parametrize(
    ("offered", "vendor", "seconds", "expected"),
    [
        (plan(), by_hour(), 1, Fraction("0.01")),
        (plan(), by_hour(), HOUR_S + 1, Fraction("0.02")),
        (plan(setup="1.5"), by_hour(), HOUR_S, Fraction("1.51")),
        (plan(billing=Billing.PER_MINUTE), VendorFacts(), 61, Fraction("0.02") / 60),
        (
            plan(billing=Billing.TERM, term_price="9.99", term_s=DAY_S, setup="1"),
            VendorFacts(),
            DAY_S,
            Fraction("10.99"),
        ),
        (plan(billing=Billing.TERM, term_price="9.99", term_s=DAY_S), VendorFacts(), DAY_S + 1, Fraction("19.98")),
        (plan(billing=Billing.MINUTES, setup="0.01"), VendorFacts(), 61, Fraction("0.01") + Fraction("0.02") / 60),
        (plan(billing=Billing.MINUTES), VendorFacts(least_base=10_000), 60, Fraction("0.01")),
        (plan(billing=Billing.MINUTES), VendorFacts(least_base=10_000), 7_200, Fraction("0.02")),
        (plan(billing=Billing.MONTHLY, monthly="5"), VendorFacts(), HOUR_S, Fraction("5")),
        (
            plan(monthly="0.5"),
            VendorFacts(metering=Metering(Rule.CAPPED, HOUR_S, False, HOUR_S)),
            5 * DAY_S,
            Fraction("0.5"),
        ),
    ],
)
def test_what_a_time_costs(offered: Plan, vendor: VendorFacts, seconds: int, expected: Fraction) -> None:
    """Everything that is charged whole is in it: fees, terms, started units, the least charge, the month; exactly."""
    assert cost_for(offered, seconds, facts(one=vendor)) == expected


def test_a_term_without_a_price_has_no_cost() -> None:
    """A plan that contradicts itself is an error, and loses with a reason where plans are ranked."""
    broken = plan(billing=Billing.TERM)
    with pytest.raises(TariffError):
        cost_for(broken, 1, facts())
    assert reason(Need(for_s=1), broken) == "price_unknown"


@pytest.mark.parametrize(
    "terms",
    [
        Metering(Rule.STARTED_UNITS, 60, False, 24 * HOUR_S),
        Metering(Rule.STARTED_UNITS, 60, True, 24 * HOUR_S),
        Metering(Rule.CAPPED, 60, False, 24 * HOUR_S),
        Metering(Rule.MONTHLY, HOUR_S, False, 24 * HOUR_S),
    ],
)
def test_the_first_charge_is_what_the_meter_would_hold(terms: Metering) -> None:
    """The estimate equals the hold of a real meter's first period, so a quote from an account vendor agrees with it."""
    offered = plan(hourly="0.0053", monthly="3.92")
    meter = Meter(
        id="met",
        vendor="one",
        account_id="a",
        key_id="k",
        kind="small",
        token="t",
        label="",
        hourly=offered.hourly,
        monthly=offered.monthly,
        unit_s=terms.unit_s,
        rule=terms.rule.value,
        while_running=terms.while_running,
        created_at_ms=NOW_MS,
    )
    held_base = next_hold_base(meter, NOW_MS, NOW_MS + terms.period_s * 1000)
    assert first_charge_base(offered, 0, facts(one=VendorFacts(metering=terms))) == held_base


def test_the_first_charge_of_what_is_paid_in_advance() -> None:
    """A term with its fee, or the minutes that are asked for, rounded up to a millionth."""
    term = plan(billing=Billing.TERM, term_price="9.99", term_s=DAY_S, setup="0.5")
    assert first_charge_base(term, 0, facts()) == 10_490_000
    minutes = plan(billing=Billing.MINUTES, hourly="0.0134", setup="0.01")
    assert first_charge_base(minutes, 60, facts()) == 23_400
    assert first_charge_base(minutes, 1, facts()) == 10_224  # 223.3 millionths a minute


def test_images_and_regions_are_found_as_their_vendor_writes_them() -> None:
    """An id that is exact goes before a name that is alike; nothing is made up."""
    offered = plan(images=(Image("b", "a"), Image("a", "Other")))
    found = find_image(offered, "a")
    assert found is not None
    assert found.id == "a"
    assert find_image(offered, "c") is None
    assert find_region(plan(), "NYC") == "nyc"
    assert find_region(plan(regions=()), "nyc") is None


def test_a_plan_is_shown_with_every_price_it_has() -> None:
    """Rates stay exact, amounts have six decimals, and what is not stated is null."""
    shown = plan_document(plan(hourly="0.0053", monthly="3.92", as_of_ms=None, vcpu=None))
    assert shown["id"] == "one/small"
    assert shown["vcpu"] is None
    assert shown["price"] == {
        "hourly": "0.0053",
        "monthly": "3.920000",
        "setup": "0.000000",
        "term": None,
        "term_s": None,
        "currency": "USD",
        "as_of": None,
        "source": "api",
    }


_RATES = st.integers(0, 10**6).map(lambda base: f"{base // 10**4}.{base % 10**4:04d}")
_MAYBE = st.one_of(st.none(), st.integers(1, 8))


@st.composite
def _plans(draw: st.DrawFn) -> list[Plan]:
    made = [
        plan(
            vendor=draw(st.sampled_from(["one", "two", "three"])),
            id=f"p{n}",
            billing=draw(st.sampled_from(Billing)),
            hourly=draw(_RATES),
            setup=draw(_RATES),
            monthly=draw(st.one_of(st.none(), _RATES)),
            term_price=draw(st.one_of(st.none(), _RATES)),
            term_s=draw(st.one_of(st.none(), st.integers(1, 90 * DAY_S))),
            vcpu=draw(_MAYBE),
            sandbox=draw(st.booleans()),
            available=draw(st.booleans()),
        )
        for n in range(draw(st.integers(0, 12)))
    ]
    return draw(st.permutations(made))


@settings(max_examples=200, deadline=None)
@given(
    offered=_plans(),
    need=st.builds(
        Need,
        min_vcpu=_MAYBE,
        for_s=st.one_of(st.none(), st.integers(1, 400 * DAY_S)),
        max_hourly=st.one_of(st.none(), st.just("50")),
        sandbox=st.booleans(),
    ),
    rule=st.sampled_from(Rule),
)
def test_the_winner_is_never_dearer_and_everybody_else_knows_why(offered: list[Plan], need: Need, rule: Rule) -> None:
    """Every plan is a fit or has exactly one reason; fits are sorted by what the time costs, and each meets the need."""
    known = facts(one=VendorFacts(metering=Metering(rule, 60, False, HOUR_S)), two=VendorFacts(least_base=5_000))
    ranking = rank(need, offered, known)
    told = [fit.key for fit in ranking.fits] + [lost.plan for lost in ranking.losers]
    assert sorted(told) == sorted(each.key for each in offered)
    assert all(lost.reason and lost.detail for lost in ranking.losers)
    assert all(misfit(need, fit) is None and fit.vendor in known.vendors for fit in ranking.fits)
    costs = [fit.rate if need.for_s is None else cost_for(fit, need.for_s, known) for fit in ranking.fits]
    assert costs == sorted(costs)
