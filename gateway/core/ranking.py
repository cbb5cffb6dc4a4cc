"""Which plans fulfil a need, what each costs over the time needed, and why every other one lost.

Must not know vendors' wires, keys or clocks.  Theory: plans that are paid for in different ways compare by one figure, what
the whole time costs with everything that is charged whole (fees, terms, started units, least charges); it is a fraction
until it is shown, and what a vendor does not state fulfils nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from gateway.core.money import BASE_PER_UNIT
from gateway.core.plan import Billing, Image, Need, Plan
from gateway.core.tariff import HOUR_S, Rule, Tariff, TariffError, round_up

MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Metering:
    """How a vendor that charges an account does it: the rule and unit of its bill, and the time that is held at once."""

    rule: Rule
    unit_s: int
    while_running: bool
    period_s: int


@dataclass(frozen=True, slots=True)
class VendorFacts:
    """What is known of a vendor when one is chosen. `stopped` is (reason, detail) where nothing can be bought there now.

    `features` are those that it has for certain. `least_base` is the least that time is sold for at once (USD).
    """

    features: frozenset[str] = frozenset()
    allowed: bool = True  # to the key that asks
    stopped: tuple[str, str] | None = None
    metering: Metering | None = None
    least_base: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a choice rests on besides need and plans. `at_ms` (business time) is when the time needed begins."""

    vendors: Mapping[str, VendorFacts]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Why a plan was not chosen: a stable code, and a sentence for whoever asks."""

    plan: str  # "vendor/plan"
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The plans that fulfil a need, the cheapest first, and those that do not."""

    fits: tuple[Plan, ...]
    losers: tuple[Lost, ...]


def rank(need: Need, plans: Iterable[Plan], facts: Facts) -> Ranking:
    """Sort plans by what the time needed costs, or by the hour where no time is stated; ties by vendor and plan.

    Every plan is either a fit or has exactly one reason.
    """
    fits: list[tuple[Fraction, str, str, Plan]] = []
    losers: list[Lost] = []
    for plan in plans:
        lost = misfit(need, plan) or _refusal(need, plan, facts.vendors.get(plan.vendor))
        try:
            price = plan.rate if need.for_s is None else cost_for(plan, need.for_s, facts)
        except TariffError as error:
            price, lost = (
                Fraction(0),
                lost or ("price_unknown", f"the vendor's rule needs a price that is unknown: {error}"),
            )
        if lost is None:
            fits.append((price, plan.vendor, plan.id, plan))
        else:
            losers.append(Lost(plan.key, *lost))
    return Ranking(tuple(plan for *_, plan in sorted(fits, key=lambda fit: fit[:3])), tuple(losers))


def misfit(need: Need, plan: Plan) -> tuple[str, str] | None:
    """Return (reason, detail) for a plan that does not fulfil a need whoever asks; None for one that does."""
    if need.plan is not None and plan.key != need.plan:
        return "plan", f"{need.plan} was asked for"
    if plan.vendor in need.not_vendors or (need.vendors and plan.vendor not in need.vendors):
        return "vendor_excluded", f"the need leaves {plan.vendor} out"
    if plan.sandbox and not need.sandbox:
        return "sandbox", "it is made for trying, not for keeping"
    if need.arch is not None:
        return "arch", f"no architecture is stated, needed is {need.arch}"
    return _too_small(need, plan) or _elsewhere(need, plan)


def cost_for(plan: Plan, seconds: int, facts: Facts) -> Fraction:
    """Return what a plan costs (USD, exactly) from `facts.at_ms` on for so long, with all that is charged whole.

    Raises TariffError where the vendor's rule needs a price that is not stated.
    """
    vendor, setup = facts.vendors.get(plan.vendor, VendorFacts()), Fraction(plan.setup)
    if plan.billing is Billing.TERM:
        price, term_s = _term(plan)
        return setup + ceil(Fraction(seconds, term_s)) * price
    if plan.billing is Billing.MINUTES:
        minutes = ceil(Fraction(seconds, MINUTE_S))
        return setup + max(plan.rate * minutes * MINUTE_S / HOUR_S, Fraction(vendor.least_base, BASE_PER_UNIT))
    return setup + _tariff(plan, vendor).cost(facts.at_ms, facts.at_ms + seconds * 1000)


def first_charge_base(plan: Plan, minutes: int, facts: Facts) -> int:
    """Return what a plan takes or holds at first (USD base units, rounded up): an estimate, the vendor's word binds.

    `minutes` are prepaid where time is bought so. Raises TariffError as `cost_for`.
    """
    vendor, setup = facts.vendors.get(plan.vendor, VendorFacts()), Fraction(plan.setup)
    if plan.billing is Billing.TERM:
        return round_up(setup + _term(plan)[0])
    if plan.billing is Billing.MINUTES:
        return round_up(setup + plan.rate * minutes * MINUTE_S / HOUR_S)
    tariff, period_s = _tariff(plan, vendor), HOUR_S if vendor.metering is None else vendor.metering.period_s
    # As gateway.core.meter holds it: a unit more where a pause or a month's end could begin another one.
    spare = tariff.while_running or tariff.rule is Rule.CAPPED
    held = tariff.cost(facts.at_ms, facts.at_ms + period_s * 1000)
    return max(1, round_up(setup + held + (tariff.cost(facts.at_ms, facts.at_ms + 1) if spare else 0)))


def find_image(plan: Plan, wanted: str) -> Image | None:
    """Return the image of a plan that is meant by an id or a name, upper or lower case; None where there is none."""
    exact = next((image for image in plan.images if image.id == wanted), None)
    folded = wanted.casefold()
    return exact or next((i for i in plan.images if folded in (i.id.casefold(), i.name.casefold())), None)


def find_region(plan: Plan, wanted: str) -> str | None:
    """Return the region of a plan as its vendor writes it; None where the plan is not made there."""
    folded = wanted.casefold()
    return next((region for region in plan.regions if region.casefold() == folded), None)


def _too_small(need: Need, plan: Plan) -> tuple[str, str] | None:
    sizes = (
        ("vcpu", "vCPU", plan.vcpu, need.min_vcpu),
        ("memory", "MiB of memory", plan.memory_mib, need.min_memory_mib),
        ("disk", "GiB of disk", plan.disk_gib, need.min_disk_gib),
    )
    for reason, unit, has, least in sizes:
        if least is not None and (has is None or has < least):
            stated = "it is not stated" if has is None else f"it has {has}"
            return reason, f"needed are {least} {unit}, {stated}"
    return None


def _elsewhere(need: Need, plan: Plan) -> tuple[str, str] | None:
    if need.region is not None and find_region(plan, need.region) is None:
        return "region", f"it is not made in {need.region}" if plan.regions else "nobody can choose its region"
    if need.image is not None:
        image = find_image(plan, need.image)
        if image is None:
            return "image", f"it has no image {need.image}" if plan.images else "it states no images"
        if image.ttl_s is not None and need.for_s is not None and image.ttl_s < need.for_s:
            return "image", f"what is made with {image.id} destroys itself after {image.ttl_s} s"
    if need.max_hourly is not None and plan.rate > Fraction(need.max_hourly):
        return "max_hourly", f"an hour costs {plan.hourly}, more than {need.max_hourly}"
    return None


def _refusal(need: Need, plan: Plan, vendor: VendorFacts | None) -> tuple[str, str] | None:
    if vendor is None:
        return "unavailable", f"nothing is known of {plan.vendor}"
    missing = next((feature for feature in need.features if feature not in vendor.features), None)
    if missing is not None:
        return f"feature:{missing}", f"{plan.vendor} does not say that it can do this"
    if not vendor.allowed:
        return "key_scope", f"the key may not spend at {plan.vendor}"
    if vendor.stopped is not None:
        return vendor.stopped
    return None if plan.available else ("unavailable", "the vendor does not offer it now")


def _term(plan: Plan) -> tuple[Fraction, int]:
    if plan.term_price is None or not plan.term_s:
        raise TariffError("a term has a price and a length")
    return Fraction(plan.term_price), plan.term_s


def _tariff(plan: Plan, vendor: VendorFacts) -> Tariff:
    monthly = None if plan.monthly is None else Fraction(plan.monthly)
    if vendor.metering is not None:
        terms = vendor.metering
        return Tariff(plan.rate, terms.unit_s, terms.rule, monthly, terms.while_running)
    if plan.billing is Billing.MONTHLY:
        return Tariff(plan.rate, HOUR_S, Rule.MONTHLY, monthly)
    return Tariff(plan.rate, MINUTE_S if plan.billing is Billing.PER_MINUTE else HOUR_S)
