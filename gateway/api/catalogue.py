"""`/v1/vendors` and `/v1/resources`: what can be bought here, and what the account has bought.

Must not know vendors' wires.  Theory: a vendor's routes are data already, so an agent reads the very rows that decide
what its call may cost.
"""

from typing import Any

from gateway.api.asked import page_of, query_of
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.proxy import PREFIX
from gateway.api.schemas import AMOUNT, FLAG, INTEGER, TEXT, choice, page, record, several
from gateway.api.views import RESOURCE, resource_view
from gateway.core.apikeys import READ
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.routes import Ownership, Pricing, Represent, Route
from gateway.ports import Vendor
from gateway.store import columns, queries

ROUTE = record(
    name=TEXT,
    methods=several(TEXT),
    path=TEXT,
    pricing=choice(*Pricing),
    ceiling=AMOUNT,
    window=record(min_s=INTEGER, max_s=INTEGER),
    ownership=choice(*Ownership),
    represent=choice(*Represent),
    renews=FLAG,
    secret=FLAG,
)
VENDOR = record(
    name=TEXT,
    base_path=TEXT,
    assets=several(TEXT),
    delivery_deadline_s=INTEGER,
    routes=several(ROUTE),
)


async def vendors(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with every vendor and its routes."""
    query_of(exchange.query, frozenset())
    return Told({"vendors": [vendor_view(vendor) for _, vendor in sorted(deps.vendors.items())]})


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


def vendor_view(vendor: Vendor) -> dict[str, Any]:
    """Return a vendor as an agent needs it: where to send requests, and what each may cost."""
    return {
        "name": vendor.name,
        "base_path": PREFIX + vendor.name,
        "assets": [token.asset_id for token in vendor.terms.tokens],
        "delivery_deadline_s": vendor.terms.delivery_deadline_s,
        "routes": [_route_view(route) for route in vendor.routes],
    }


def route_path(route: Route) -> str:
    """Return a route's path as a template; `{rest}` at its end stands for any number of segments."""
    return "/" + "/".join(segment.replace("*}", "}") for segment in route.segments)


def _route_view(route: Route) -> dict[str, Any]:
    return {
        "name": route.name,
        "methods": list(route.methods),
        "path": "/" + "/".join(route.segments),
        "pricing": route.pricing.value,
        "ceiling": format_amount(route.ceiling_base),
        "window": {"min_s": route.window.min_s, "max_s": route.window.max_s},
        "ownership": route.ownership.value,
        "represent": route.represent.value,
        "renews": route.renews,
        "secret": route.secret,
    }


ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/vendors",
        "The vendors behind this gateway and their routes",
        vendors,
        record(vendors=several(VENDOR)),
        scope=READ,
    ),
    Endpoint("GET", "/v1/resources", "What the account rents", resources, page(RESOURCE), scope=READ, query=PAGE),
)
