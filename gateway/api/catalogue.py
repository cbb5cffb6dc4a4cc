"""`/v1/vendors` and `/v1/resources`: what can be bought here, and what the account has bought.

Must not know vendors' wires.  Theory: a vendor's routes are data already, so an agent reads the very rows that decide
what its call may cost.
"""

from typing import Any

from gateway.account_ports import AccountTerms, AccountVendor
from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.catalogue_views import HEALTH, LIMITS, NEUTRAL, features_view, health_view
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.proxy import PREFIX
from gateway.api.schemas import AMOUNT, FLAG, INTEGER, TEXT, choice, maybe, named, optional, page, record, several
from gateway.api.views import RESOURCE, resource_view
from gateway.core.apikeys import READ
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.routes import Ownership, Pricing, Represent, Retry, Route
from gateway.core.tariff import Rule
from gateway.flow.call import Served
from gateway.flow.servers.neutral import Neutral
from gateway.ports import Vendor
from gateway.store import columns, queries
from gateway.vendors.capabilities import CAPABILITY_NAMES, told_by

CAPABILITIES = {
    **record(**dict.fromkeys(CAPABILITY_NAMES, TEXT)),
    "description": 'what the vendor can do: "yes", "no", "unknown" where its document is silent, or a few words',
}
ROUTE = optional(
    record(
        name=TEXT,
        methods=several(TEXT),
        path=TEXT,
        pricing=choice(*Pricing),
        ceiling=AMOUNT,
        window=record(min_s=INTEGER, max_s=INTEGER),
        ownership=choice(*Ownership),
        represent=choice(*Represent),
        retry=choice(*Retry),
        renews=FLAG,
        secret=FLAG,
        reason=TEXT,
    ),
    "window",
    "represent",
    "renews",
    "retry",
    "reason",
)
ACCOUNT = record(
    period_s=INTEGER,
    rule=maybe(choice(*Rule)),
    unit_s=INTEGER,
    while_running=FLAG,
    warn_periods=INTEGER,
    when_unfunded=choice("destroy", "suspend"),
    grace_s=INTEGER,
)
_VENDOR = optional(
    record(
        name=TEXT,
        base_path=TEXT,
        payment=several(choice("x402", "mpp", "account")),
        capabilities=CAPABILITIES,
        assets=several(TEXT),
        delivery_deadline_s=INTEGER,
        account=ACCOUNT,
        routes=several(ROUTE),
        health=HEALTH,
        limits=LIMITS,
        **NEUTRAL,
    ),
    "assets",
    "delivery_deadline_s",
    "account",
    "health",
    "limits",
    *NEUTRAL,
)

VENDOR = named("Vendor", _VENDOR, examples.VENDOR)
AFTER_IN = {**TEXT, "pattern": "^[!-.0-~]*/[!-~]*$", "description": "`next` of the page before"}


async def vendors(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with every vendor and its routes."""
    query_of(exchange.query, frozenset())
    accounts = {} if deps.accounts is None else deps.accounts.vendors
    views = {name: paid_view(vendor) for name, vendor in deps.vendors.items()}
    views |= {name: account_view(vendor) for name, vendor in accounts.items()}
    if deps.neutral is not None:
        views = {
            name: {**view, **_neutral_view(deps.neutral, name, accounts.get(name))} for name, view in views.items()
        }
    return Told({"vendors": [view for _, view in sorted(views.items())]})


async def resources(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with what the account rents, by vendor and id."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    vendor, slash, ref = (asked.after or "/").partition("/")
    if not slash:
        raise Problem("bad_request", "after is the `next` of an earlier page", "after")
    parameters = {"account_id": exchange.account_id, "vendor": vendor, "ref": ref, "limit": asked.limit + 1}
    rows = await deps.store.query(queries.RESOURCES_OF_ACCOUNT, parameters)
    found = [columns.resource_from(tuple(row.values())) for row in rows[: asked.limit]]
    more = f"{found[-1].vendor}/{found[-1].ref}" if len(rows) > asked.limit else None
    return Told({"entries": [resource_view(each) for each in found], "next": more})


def paid_view(vendor: Vendor) -> dict[str, Any]:
    """Return a vendor that asks for its money with a 402: where to send requests, and what each may cost."""
    terms = vendor.terms
    return {
        **_head(vendor, list(terms.rails)),
        "assets": [token.asset_id for token in terms.tokens],
        "delivery_deadline_s": terms.delivery_deadline_s,
        "routes": [
            {
                **_route_view(route),
                "window": {"min_s": route.window.min_s, "max_s": route.window.max_s},
                "represent": route.represent.value,
                "renews": route.renews,
            }
            for route in vendor.routes
        ],
    }


def account_view(vendor: AccountVendor) -> dict[str, Any]:
    """Return a vendor that is paid from an account: how time is charged there, and what becomes of what is not paid."""
    terms = vendor.account
    return {
        **_head(vendor, ["account"]),
        "account": {
            "period_s": terms.period_s,
            "rule": None if terms.rule is None else terms.rule.value,
            "unit_s": vendor.unit_s,
            "while_running": vendor.while_running,
            "warn_periods": terms.warn_periods,
            "when_unfunded": "suspend" if terms.suspend_first else "destroy",
            "grace_s": terms.grace_s if terms.suspend_first else 0,
        },
        "routes": [
            {**_route_view(route), "ceiling": format_amount(ceiling_of(vendor, route)), "retry": route.retry.value}
            for route in vendor.routes
        ],
    }


def route_path(route: Route) -> str:
    """Return a route's path as a template; `{rest}` at its end stands for any number of segments."""
    return "/" + "/".join(segment.replace("*}", "}") for segment in route.segments)


def ceiling_of(vendor: Served, route: Route) -> int:
    """Return the most that a call of a route may cost (USD base units); of a thing that runs, the most in a period."""
    if route.pricing is not Pricing.METERED or route.ceiling_base:
        return route.ceiling_base
    account: AccountTerms | None = getattr(vendor, "account", None)
    return 0 if account is None else account.ceiling_base


def _neutral_view(neutral: Neutral, name: str, account: AccountVendor | None) -> dict[str, Any]:
    """Return how a vendor does and what limits calls to it; of one that /v1/servers knows, also what it can do."""
    rates, catalogue = () if account is None else account.rates, neutral.catalogue
    servers = catalogue.servers.get(name)
    return {
        "health": health_view(catalogue.health(name)),
        "limits": {
            "rates": [{"limit": rate.limit, "window_s": rate.window_s, "scope": rate.scope} for rate in rates],
            "calls_at_once": catalogue.standing.calls_at_once,
        },
        **({} if servers is None else features_view(servers.features)),
    }


def _head(vendor: Served, payment: list[str]) -> dict[str, Any]:
    return {
        "name": vendor.name,
        "base_path": PREFIX + vendor.name,
        "payment": payment,
        "capabilities": told_by(vendor),
    }


def _route_view(route: Route) -> dict[str, Any]:
    view = {
        "name": route.name,
        "methods": list(route.methods),
        "path": "/" + "/".join(route.segments),
        "pricing": route.pricing.value,
        "ceiling": format_amount(route.ceiling_base),
        "ownership": route.ownership.value,
        "secret": route.secret,
    }
    return {**view, "reason": route.reason} if route.pricing is Pricing.CLOSED else view


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/vendors",
        "The vendors behind this gateway and their routes",
        vendors,
        record(vendors=several(VENDOR)),
        scope=READ,
    ),
    Endpoint(
        "GET",
        "/v1/resources",
        "What the account rents",
        resources,
        page(RESOURCE),
        scope=READ,
        query=PAGE,
        query_schemas={"after": AFTER_IN},
    ),
)
