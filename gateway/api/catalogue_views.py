"""Plans, quotes and what vendors can do, as agents read them: the shapes and the code that fills them.

Must not know handlers.  Theory: what a vendor can do is its `Features` and nothing else, so an agent compares vendors by
the very data that decides which of its requests are taken.
"""

from dataclasses import asdict
from typing import Any

from gateway.api import examples
from gateway.api.schemas import AMOUNT, FLAG, INTEGER, TEXT, TIME, choice, maybe, named, record, several
from gateway.core.money import format_amount
from gateway.core.plan import Billing, Source
from gateway.core.times import utc_text
from gateway.flow.servers.catalogue import Stale
from gateway.flow.servers.standing import Health
from gateway.server_ports import Feature, Features, RenewRule

RATE = {**TEXT, "pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?$", "description": "exact decimal USD an hour"}
IMAGE = record(id=TEXT, name=TEXT, ttl_s=maybe(INTEGER))
PRICE = record(
    hourly=RATE,
    monthly=maybe(AMOUNT),
    setup=AMOUNT,
    term=maybe(AMOUNT),
    term_s=maybe(INTEGER),
    currency=choice("USD"),
    as_of=maybe(TIME),
    source=choice(*Source),
)
_PLAN = record(
    id={**TEXT, "description": '"vendor/plan": what a quote or an order names'},
    vendor=TEXT,
    plan=TEXT,
    name=TEXT,
    vcpu=maybe(INTEGER),
    memory_mib=maybe(INTEGER),
    disk_gib=maybe(INTEGER),
    regions=several(TEXT),
    images=several(IMAGE),
    billing=choice(*Billing),
    price=PRICE,
    sandbox=FLAG,
    available=FLAG,
)
PLAN = named("Plan", _PLAN, examples.PLAN)
STALE = named("StalePlans", record(vendor=TEXT, as_of=maybe(TIME), reason=TEXT), examples.STALE)
LOST = record(plan=TEXT, reason=TEXT, detail=TEXT)
PAYS = choice("on_success", "at_once", "by_time")
_QUOTE = record(
    id=TEXT,
    vendor=TEXT,
    plan=PLAN,
    region=maybe(TEXT),
    image=maybe(TEXT),
    minutes=maybe(INTEGER),
    lines=several(record(what=TEXT, amount=AMOUNT)),
    first_charge={**AMOUNT, "description": "the most that buying with this quote takes or holds at first"},
    running_cost=record(hourly=RATE, monthly=maybe(AMOUNT)),
    refundable=TEXT,
    hold_max_s=INTEGER,
    pays=PAYS,
    expires_at=TIME,
    candidates_lost=several(LOST),
)
QUOTE = named("Quote", _QUOTE, examples.QUOTE)
HEALTH = record(state=choice("ok", "failing", "unknown"), since=maybe(TIME), reason=TEXT)
LIMITS = record(
    rates=several(record(limit=INTEGER, window_s=INTEGER, scope=TEXT)),
    calls_at_once=INTEGER,
)
FEATURES = {
    **record(**{feature.value: choice("yes", "no", "unknown") for feature in Feature}),
    "description": '"unknown" where the vendor\'s document is silent',
}
RENEW = record(
    unit_s=INTEGER,
    min_units=INTEGER,
    max_units=INTEGER,
    lead_s=INTEGER,
    least=AMOUNT,
    slow=FLAG,
    window_s=INTEGER,
    retry_before_s=INTEGER,
    grace_s={**maybe(INTEGER), "description": "null where the vendor's document does not say"},
)
SNAPSHOTS = record(retention_s=maybe(INTEGER), named_by_agent=FLAG, requires_stopped=FLAG)
NEUTRAL = {
    "features": FEATURES,
    "billing": choice(*Billing),
    "unit_s": INTEGER,
    "renew": maybe(RENEW),
    "snapshots": maybe(SNAPSHOTS),
    "hold_max_s": INTEGER,
    "refundable": TEXT,
    "pays": PAYS,
    "name_pattern": TEXT,
}
"""What GET /v1/vendors says of a vendor that /v1/servers knows."""


def features_view(features: Features) -> dict[str, Any]:
    """Return what a vendor can do for a server, and how it charges for it."""
    return {
        "features": {feature.value: features.does[feature] for feature in Feature},
        "billing": features.billing.value,
        "unit_s": features.unit_s,
        "renew": None if features.renew is None else _renew_view(features.renew),
        "snapshots": None if features.snapshots is None else asdict(features.snapshots),
        "hold_max_s": features.hold_max_s,
        "refundable": features.refundable,
        "pays": features.pays,
        "name_pattern": features.name_pattern,
    }


def health_view(health: Health) -> dict[str, Any]:
    """Return how a vendor does."""
    return {"state": health.state, "since": _time(health.since_ms), "reason": health.reason}


def stale_view(stale: Stale) -> dict[str, Any]:
    """Return a vendor whose plans are old or missing."""
    return {"vendor": stale.vendor, "as_of": _time(stale.as_of_ms), "reason": stale.reason}


def _renew_view(rule: RenewRule) -> dict[str, Any]:
    view = asdict(rule)
    least_base = view.pop("least_base")
    return {**view, "least": format_amount(least_base)}


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else utc_text(at_ms)
