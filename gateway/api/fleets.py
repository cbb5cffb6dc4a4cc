"""`/v1/fleets`: so many servers of one need, kept alive until a time for at most a budget.

Must not know how a fleet is kept.  Theory: what an agent hands over for days is stated whole and bounded at once, and what
became of it is read in one place: the servers, and what they cost.
"""

from typing import Any

from gateway.api import examples
from gateway.api.asked import idempotency_key, max_charge, page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.moments import TIME_IN, parse_time
from gateway.api.needs import (
    MAX_BODY_BYTES,
    NAME_IN,
    NEED_MEMBERS,
    SPEC_MEMBERS,
    bad,
    check_members,
    parse_name,
    parse_object,
    parse_spec,
)
from gateway.api.once import REPLAYED, fingerprint_of
from gateway.api.plans import neutral_of
from gateway.api.schemas import (
    AMOUNT,
    INTEGER,
    PRICE_IN,
    TEXT,
    TIME,
    choice,
    exactly_one,
    maybe,
    named,
    optional,
    page,
    record,
    several,
)
from gateway.api.views import time_or_none
from gateway.core.apikeys import READ, SPEND, stands_for
from gateway.core.money import AmountError, format_amount, parse_amount
from gateway.core.problems import Problem
from gateway.core.server import FleetState
from gateway.core.spec import need_document
from gateway.core.times import utc_text
from gateway.flow.servers.fleets import FleetSight, NewFleet
from gateway.flow.servers.runner import Who
from gateway.store import kept_columns, queries

ACCEPTED, OK = 202, 200
COUNT_MAX = 100

_SHOWN_NEED = {
    **NEED_MEMBERS,
    "plan": {**TEXT, "description": "where one plan was asked for"},
    "arch": {**TEXT, "description": "of fleets that an older version took: no vendor states one, so no plan fits"},
}
_FLEET = record(
    id=TEXT,
    name=TEXT,
    state=choice(*FleetState),
    reason=TEXT,
    count=INTEGER,
    alive=INTEGER,
    servers=several(TEXT),
    until=TIME,
    budget=AMOUNT,
    spent=AMOUNT,
    held=AMOUNT,
    made=INTEGER,
    created_at=TIME,
    ended_at=maybe(TIME),
    need=named("NeedOrPlan", optional(record(**_SHOWN_NEED), *_SHOWN_NEED), examples.NEED),
)
FLEET = named("Fleet", _FLEET, examples.FLEET)
_COUNT_IN = {**INTEGER, "minimum": 1, "maximum": COUNT_MAX}
_BOUNDS = {"count": _COUNT_IN, "until": TIME_IN, "budget": PRICE_IN}
_BODY_MEMBERS = {"name": NAME_IN, **_BOUNDS, **SPEC_MEMBERS}
BODY = named(
    "FleetRequest",
    exactly_one(optional(record(**_BODY_MEMBERS), "name", *SPEC_MEMBERS), "plan", "need"),
    examples.FLEET_BODY,
)
PATCH_BODY = named("FleetChange", optional(record(**_BOUNDS), *_BOUNDS), examples.FLEET_CHANGE)


async def create_fleet(deps: ApiDeps, exchange: Exchange) -> Told:
    """Take a fleet; its servers are ordered as soon as it is kept. Raises Problem."""
    query_of(exchange.query, frozenset())
    token = idempotency_key(exchange.request)
    if token is None:
        raise Problem("bad_request", "send an Idempotency-Key: it is what makes this one fleet", "Idempotency-Key")
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    neutral, members = neutral_of(deps), parse_object(body)
    spec = parse_spec(members, {"name", *_BOUNDS})
    check_members(members, "", _BODY_MEMBERS, _BOUNDS)
    until_ms = parse_time(members, "until", 0)
    if until_ms is None:
        raise bad("until is the time until which the servers are kept", "until")
    budget_base, cap_base = _budget(members), max_charge(exchange.request)
    if cap_base is not None and budget_base > cap_base:
        raise Problem("price_above_max_charge", "the budget is more, and all of it may be spent", "X-Max-Charge")
    new = NewFleet(
        client_token=token,
        fingerprint=fingerprint_of("POST", "/v1/fleets", body),
        name=parse_name(members) or "",
        count=_count(members),
        spec=spec,
        until_ms=until_ms,
        budget_base=budget_base,
    )
    fleet, replayed = await neutral.fleets.create(Who(exchange.granted, exchange.request_id), new)
    document = fleet_view(await neutral.fleets.see(fleet))
    return Told(document, OK, (REPLAYED,)) if replayed else Told(document, ACCEPTED)


async def list_fleets(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's fleets, the newest first."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    parameters = {"account_id": exchange.account_id, "before": asked.before, "limit": asked.limit + 1}
    rows = await deps.store.query(queries.FLEETS_OF_ACCOUNT, parameters)
    fleets = [kept_columns.fleet_from(tuple(row.values())) for row in rows[: asked.limit]]
    entries = [fleet_view(await neutral_of(deps).fleets.see(fleet)) for fleet in fleets]
    return listed(entries, more=len(rows) > asked.limit)


async def show_fleet(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with a fleet of the account. Raises Problem("not_found")."""
    query_of(exchange.query, frozenset())
    fleets = neutral_of(deps).fleets
    return Told(fleet_view(await fleets.see(await fleets.fleet(exchange.account_id, exchange.parameters["id"]))))


async def patch_fleet(deps: ApiDeps, exchange: Exchange) -> Told:
    """Change how many servers are kept, until when, or for how much. Raises Problem."""
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    members, fleets = parse_object(body), neutral_of(deps).fleets
    await _require_key(deps, exchange)
    check_members(members, "", _BOUNDS)
    for name in members:
        if members[name] is None:
            raise bad(f"{name} cannot be null", name)
    fleet = await fleets.patch(
        exchange.account_id,
        exchange.parameters["id"],
        count=_count(members) if "count" in members else None,
        until_ms=parse_time(members, "until", 0),
        budget_base=_budget(members) if "budget" in members else None,
    )
    return Told(fleet_view(await fleets.see(fleet)))


async def end_fleet(deps: ApiDeps, exchange: Exchange) -> Told:
    """End a fleet: its servers are destroyed, and what cannot be destroyed is not renewed. Raises Problem."""
    query_of(exchange.query, frozenset())
    fleets = neutral_of(deps).fleets
    await _require_key(deps, exchange)
    fleet = await fleets.end(exchange.account_id, exchange.parameters["id"])
    return Told(fleet_view(await fleets.see(fleet)), ACCEPTED)


async def _require_key(deps: ApiDeps, exchange: Exchange) -> None:
    """A fleet spends with the key that ordered it, wherever its servers are: who changes it must be able to do as much."""
    fleet = await neutral_of(deps).fleets.fleet(exchange.account_id, exchange.parameters["id"])
    if not stands_for(exchange.granted, deps.store.view.keys_by_id.get(fleet.key_id)):
        detail = (
            "this fleet is another key's: change it with that one, or with one that may do as much and has no budget"
        )
        raise Problem("scope_missing", detail)


def fleet_view(sight: FleetSight) -> dict[str, Any]:
    """Return a fleet with its servers' ids and what they cost together."""
    fleet = sight.fleet
    return {
        "id": fleet.id,
        "name": fleet.name,
        "state": fleet.state.value,
        "reason": fleet.reason,
        "count": fleet.count,
        "alive": sum(1 for server in sight.servers if server.open),
        "servers": [server.id for server in sight.servers],
        "until": utc_text(fleet.until_ms),
        "budget": format_amount(fleet.budget_base),
        "spent": format_amount(sight.captured_base),
        "held": format_amount(sight.held_base),
        "made": fleet.made,
        "created_at": utc_text(fleet.created_at_ms),
        "ended_at": time_or_none(fleet.ended_at_ms),
        "need": need_document(sight.spec.need),
    }


def _count(members: dict[str, Any]) -> int:
    value = members["count"]
    if type(value) is not int or not 1 <= value <= COUNT_MAX:
        raise bad(f"count is a whole number from 1 to {COUNT_MAX}", "count")
    return value


def _budget(members: dict[str, Any]) -> int:
    try:
        return parse_amount(members["budget"])
    except AmountError as error:
        raise bad(f"budget: {error}", "budget") from None


_SHOWN = ("not_found",)
ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/fleets",
        "Keep servers alive until a time, within a budget",
        create_fleet,
        FLEET,
        scope=SPEND,
        status=ACCEPTED,
        also=(OK,),
        key_needed=True,
        capped=True,
        body=BODY,
        problems=("body_oversized", "idempotency_conflict"),
        idempotent_key=True,
    ),
    Endpoint("GET", "/v1/fleets", "The account's fleets", list_fleets, page(FLEET), scope=READ, query=PAGE),
    Endpoint("GET", "/v1/fleets/{id}", "A fleet", show_fleet, FLEET, scope=READ, problems=_SHOWN),
    Endpoint(
        "PATCH",
        "/v1/fleets/{id}",
        "Change a fleet's count, end or budget",
        patch_fleet,
        FLEET,
        scope=SPEND,
        body=PATCH_BODY,
        problems=("not_found", "server_ended", "body_oversized"),
    ),
    Endpoint(
        "DELETE",
        "/v1/fleets/{id}",
        "End a fleet and destroy its servers",
        end_fleet,
        FLEET,
        scope=SPEND,
        status=ACCEPTED,
        problems=_SHOWN,
    ),
)
