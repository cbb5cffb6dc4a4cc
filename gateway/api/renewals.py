"""`/v1/servers/{id}/renewals`: more paid time for a server, bought now instead of when the planner would.

Must not know vendors.  Theory: a server has one renewal under way, whoever began it; a POST that is repeated means the
renewal of the number that it was given first, so it is bought once.
"""

import re
from typing import Any

from gateway.api import examples
from gateway.api.asked import max_charge, page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.moments import TIME_IN, parse_time
from gateway.api.needs import bad, check_members, parse_object
from gateway.api.once import once
from gateway.api.plans import neutral_of
from gateway.api.schemas import INTEGER, named, optional, page, record
from gateway.api.server_view import SERVER, server_view
from gateway.api.views import PAYMENT, payment_view
from gateway.core.apikeys import READ, SPEND
from gateway.flow.servers.runner import Who
from gateway.store import columns, queries

ACCEPTED = 202
MAX_BODY_BYTES = 1024
UNITS_MAX = 1_000_000

_UNITS_IN = {**INTEGER, "minimum": 1, "description": "periods, or minutes, as `renew` of GET /v1/vendors says"}
_UNTIL_IN = {**TIME_IN, "description": "as many units as last until then; this or `units`; one unit without both"}
_MEMBERS = {"units": _UNITS_IN, "until": _UNTIL_IN}
BODY = named("Renewal", optional(record(**_MEMBERS), *_MEMBERS), examples.RENEWAL)
_SPACES = re.compile(rb"[ \t\r\n]*")


async def renew_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Buy time for a server of the account. Raises Problem."""
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    members = {} if _SPACES.fullmatch(body) else parse_object(body)
    check_members(members, "", _MEMBERS)
    neutral, server_id = neutral_of(deps), exchange.parameters["id"]
    units, until_ms = _units(members), parse_time(members, "until", neutral.keeping.business.now_ms())
    if units is not None and until_ms is not None:
        raise bad("give one of units and until", "units")
    who, cap_base = Who(exchange.granted, exchange.request_id), max_charge(exchange.request)

    async def make() -> dict[str, Any]:
        return {"number": await neutral.renewing.reserve(who, server_id)}

    async def ensure(document: dict[str, Any]) -> None:
        number = document["number"]
        await neutral.renewing.renew(
            who, server_id, units=units, until_ms=until_ms, number=number, max_charge_base=cap_base
        )

    told = await once(deps, exchange, body, make, ensure, status=ACCEPTED)
    server = await neutral.keeping.server(exchange.account_id, server_id)
    return Told(await server_view(deps, server), told.status, told.headers)


async def list_renewals(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the payments that renewed a server, the newest first. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    server = await neutral_of(deps).keeping.server(exchange.account_id, exchange.parameters["id"])
    parameters = {
        "account_id": server.account_id,
        "vendor": server.vendor,
        "ref": server.ref,
        "before": asked.before,
        "limit": asked.limit + 1,
    }
    rows = await deps.store.query(queries.RENEWALS_OF, parameters)
    entries = [payment_view(columns.payment_from(tuple(row.values()))) for row in rows[: asked.limit]]
    return listed(entries, more=len(rows) > asked.limit)


def _units(members: dict[str, Any]) -> int | None:
    if "units" not in members:
        return None
    value = members["units"]
    if type(value) is not int or not 1 <= value <= UNITS_MAX:
        raise bad("units is a whole number above zero", "units")
    return value


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/servers/{id}/renewals",
        "Buy more time for a server",
        renew_server,
        SERVER,
        scope=SPEND,
        status=ACCEPTED,
        body=BODY,
        body_needed=False,
        capped=True,
        asks_vendor=True,
        problems=(
            "not_found",
            "capability_missing",
            "server_ended",
            "server_not_ready",
            "renewal_open",
            "max_total_reached",
            "price_above_max_charge",
            "insufficient_balance",
            "idempotency_conflict",
            "body_oversized",
        ),
        idempotent_key=True,
    ),
    Endpoint(
        "GET",
        "/v1/servers/{id}/renewals",
        "The payments that renewed a server",
        list_renewals,
        page(PAYMENT),
        scope=READ,
        query=PAGE,
        problems=("not_found",),
    ),
)
