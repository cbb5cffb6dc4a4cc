"""`/v1/servers`: order a server at whichever vendor, wait for it, keep it, and let it go.

Must not know vendors or how an order is fulfilled.  Theory: an order is taken once for its Idempotency-Key and followed by
the gateway alone, so an agent that was cut off asks again, or asks for the server, and loses nothing; waiting is one
request that answers when there is something to say, so no agent writes a polling loop.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.api import examples
from gateway.api.asked import idempotency_key, max_charge, page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.events import stream_events, wants_stream
from gateway.api.exchange import Exchange
from gateway.api.moments import TIME_IN, parse_time
from gateway.api.needs import (
    MAX_BODY_BYTES,
    NAME_IN,
    SNAPSHOT_MEMBER,
    SPEC_MEMBERS,
    bad,
    check_members,
    parse_flag,
    parse_name,
    parse_object,
    parse_spec,
)
from gateway.api.once import REPLAYED, fingerprint_of
from gateway.api.plans import neutral_of
from gateway.api.schemas import FLAG, PRICE_IN, TEXT, choice, maybe, named, optional, page, record
from gateway.api.server_view import SERVER, server_view
from gateway.core.apikeys import READ, SPEND, stands_for
from gateway.core.money import AmountError, format_amount, parse_amount
from gateway.core.payment import Charge
from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from gateway.core.server import Server, ServerState
from gateway.flow.servers.doing import require_open
from gateway.flow.servers.ordering import NewServer
from gateway.flow.servers.runner import Who
from gateway.flow.servers.seeing import SETTLED
from gateway.store import columns, queries

CREATED, ACCEPTED = 201, 202
WAIT_MAX_S = 300
WAIT_DEFAULT_S = 60
PATCH_MAX_BYTES = 16 * 1024
WAIT_QUERY = frozenset({"wait", "timeout_s"})
WAIT_SCHEMAS = {
    "wait": {**choice(SETTLED, *ServerState), "description": "answer when it is in this state, or never will be"},
    "timeout_s": {"type": "integer", "minimum": 0, "maximum": WAIT_MAX_S, "default": WAIT_DEFAULT_S},
}
LIST_QUERY = PAGE | {"state", "vendor", "fleet", "open"}

_QUOTE = re.compile(r"quo_[0-9A-Z]{26}", re.ASCII)
_SECONDS = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
_ID = re.compile(r"[a-z]{3,4}_[0-9A-Z]{26}", re.ASCII)
LIST_SCHEMAS = {
    "state": choice(*ServerState),
    "vendor": TEXT,
    "fleet": {**TEXT, "pattern": f"^{_ID.pattern}$", "description": "the id of a fleet"},
    "open": {**choice("true", "false"), "description": "true: those to which anything can still happen"},
}
KEPT_MEMBERS = {
    "name": NAME_IN,
    "keep_until": {**TIME_IN, "description": "it is not paid for beyond this time"},
    "auto_renew": {**FLAG, "description": "extend its paid time while it is wanted; true where keep_until is given"},
    "max_total": {**PRICE_IN, "description": "the most that it may ever cost"},
}
_QUOTE_IN = {
    **TEXT,
    "pattern": f"^{_QUOTE.pattern}$",
    "description": "an id of POST /v1/quotes; this, `plan`, `need` or `snapshot`",
}
_SNAPSHOT_IN = {**TEXT, "pattern": "^snp_[0-9A-Z]{26}$", "description": "the id of a snapshot to make it from"}
_ORDER_MEMBERS = {"quote": _QUOTE_IN, **SPEC_MEMBERS, SNAPSHOT_MEMBER: _SNAPSHOT_IN, **KEPT_MEMBERS}
ORDER_BODY = named("ServerOrder", optional(record(**_ORDER_MEMBERS), *_ORDER_MEMBERS), examples.ORDER)
_CHANGE_MEMBERS = {
    "name": NAME_IN,
    "keep_until": maybe(KEPT_MEMBERS["keep_until"]),
    "auto_renew": FLAG,
    "max_total": maybe(PRICE_IN),
}
CHANGE_BODY = named("ServerChange", optional(record(**_CHANGE_MEMBERS), *_CHANGE_MEMBERS), examples.CHANGE)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What to wait for, and at most how long."""

    wanted: str
    timeout_s: float


# ordering


async def create_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Take an order, and begin to fulfil it. The same key and body again answer with the same server. Raises Problem."""
    waiting, neutral = _waiting(query_of(exchange.query, WAIT_QUERY)), neutral_of(deps)
    if waiting is not None:
        neutral.seeing.require_room(exchange.account_id)  # before anything is ordered
    token = idempotency_key(exchange.request)
    if token is None:
        raise Problem(
            "bad_request", "an order needs an Idempotency-Key: what it orders is made once", "Idempotency-Key"
        )
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    fingerprint = fingerprint_of(exchange.request.method, "/v1/servers", body)
    new = parse_order(body, token, fingerprint, neutral.keeping.business.now_ms())
    new = replace(new, max_charge_base=max_charge(exchange.request))
    server, replayed = await neutral.ordering.place(Who(exchange.granted, exchange.request_id), new)
    headers, status = [REPLAYED] if replayed else [], 200 if replayed else ACCEPTED
    if waiting is not None:
        server, how = await neutral.seeing.wait(server.account_id, server.id, waiting.wanted, waiting.timeout_s)
        headers.append(("X-Wait", how))
        status = CREATED if how == "reached" and not replayed else status
    if not replayed:  # what it cost was told to whoever ordered it
        headers += await _cost_headers(deps, exchange, server)
    return Told(await server_view(deps, server), status, tuple(headers))


def parse_order(body: bytes, token: str, fingerprint: bytes, business_ms: int) -> NewServer:
    """Return what a body orders. Raises Problem("bad_request") that names the member."""
    members = parse_object(body)
    new = parse_kept(members, token, fingerprint, business_ms)
    if "quote" not in members:
        return replace(new, spec=parse_spec(members, {*KEPT_MEMBERS, SNAPSHOT_MEMBER}))
    check_members(members, "", {"quote", *KEPT_MEMBERS})  # the rest is what was quoted
    if not isinstance(members["quote"], str) or _QUOTE.fullmatch(members["quote"]) is None:
        raise bad("quote is an id of POST /v1/quotes", "quote")
    return replace(new, quote_id=members["quote"])


def parse_kept(members: Mapping[str, Any], token: str, fingerprint: bytes, business_ms: int) -> NewServer:
    """Return an order of nothing yet: its name, until when it is kept, and what it may cost. Raises Problem("bad_request")."""
    keep_until_ms = parse_time(members, "keep_until", business_ms)
    auto_renew = parse_flag(members, "auto_renew", "")
    return NewServer(
        client_token=token,
        fingerprint=fingerprint,
        name=parse_name(members) or "",
        keep_until_ms=keep_until_ms,
        auto_renew=keep_until_ms is not None if auto_renew is None else auto_renew,
        max_total_base=_amount(members, "max_total"),
    )


# reading


async def list_servers(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's servers, the newest first. Raises Problem("bad_request")."""
    query = query_of(exchange.query, LIST_QUERY)
    asked = page_of(query, deps.settings)
    if query.get("state", "") not in {"", *ServerState}:
        raise bad(f"state is one of {', '.join(ServerState)}", "state")
    if query.get("open", "false") not in {"true", "false"}:
        raise bad("open is true or false", "open")
    if "fleet" in query and _ID.fullmatch(query["fleet"]) is None:
        raise bad("fleet is the id of a fleet", "fleet")
    parameters = {
        "account_id": exchange.account_id,
        "before": asked.before,
        "open": int(query.get("open") == "true"),
        "state": query.get("state", ""),
        "vendor": query.get("vendor", ""),
        "fleet_id": query.get("fleet", ""),
        "limit": asked.limit + 1,
    }
    rows = await deps.store.query(queries.SERVERS_OF_ACCOUNT, parameters)
    entries = [await server_view(deps, columns.server_from(tuple(row.values()))) for row in rows[: asked.limit]]
    return listed(entries, more=len(rows) > asked.limit)


async def show_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with a server; with `wait` when it is in that state, or has ended, or the time is over. Raises Problem.

    Where Accept asks for server-sent events, its events are told as they happen.
    """
    waiting = _waiting(query_of(exchange.query, WAIT_QUERY))
    neutral, server_id = neutral_of(deps), exchange.parameters["id"]
    if waiting is None:
        server = await neutral.keeping.server(exchange.account_id, server_id)
        if wants_stream(exchange.request):
            return stream_events(deps, exchange, lambda event: event.data.get("server_id") == server_id)
        return Told(await server_view(deps, server))
    server, how = await neutral.seeing.wait(exchange.account_id, server_id, waiting.wanted, waiting.timeout_s)
    return Told(await server_view(deps, server), headers=(("X-Wait", how),))


# changing


async def change_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Change what an agent wants of a server: its name here, until when it is kept, what it may cost.

    Raises Problem, also "scope_missing": whoever may not call its vendor changes nothing, and whoever could not have
    ordered it lets it cost no more than it may.
    """
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, PATCH_MAX_BYTES, deps.settings.body_silence_s)
    neutral = neutral_of(deps)
    members = parse_object(body)
    check_members(members, "", _CHANGE_MEMBERS)
    changes = _changes(members, neutral.keeping.business.now_ms())
    server = await neutral.keeping.server(exchange.account_id, exchange.parameters["id"])
    who = Who(exchange.granted, exchange.request_id)
    neutral.doing.require_scope(who, server.vendor)
    require_open(server)
    ordering_key = neutral.keeping.view.keys_by_id[server.key_id]

    def update(before: Server) -> Server | None:
        after = replace(before, **changes)
        raised = _raised(before, after)
        if raised is not None and before.open:
            _require_payer(who.key, ordering_key, raised)
        return after if before.open and after != before else None

    server = await neutral.keeping.change(server.id, update, "changed")
    require_open(server)
    return Told(await server_view(deps, server))


async def destroy_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Want a server gone: kept first, then asked of its vendor until it is confirmed. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    server = await neutral_of(deps).acting.destroy(who, exchange.parameters["id"])
    return Told(await server_view(deps, server), ACCEPTED)


def _raised(before: Server, after: Server) -> str | None:
    """Return the member by which a change lets a server cost more than before, None where it cannot."""
    if _is_wider(before.max_total_base, after.max_total_base):
        return "max_total"
    if _is_wider(before.keep_until_ms, after.keep_until_ms):
        return "keep_until"
    return "auto_renew" if after.auto_renew and not before.auto_renew else None


def _is_wider(before: int | None, after: int | None) -> bool:
    """Say whether a bound lets more pass than it did; None is no bound at all."""
    return before is not None and (after is None or after > before)


def _require_payer(key: ApiKey, ordering_key: ApiKey, member: str) -> None:
    """Refuse to spend more through the key that ordered, for one whose own bounds that would get around."""
    if stands_for(key, ordering_key):
        return
    detail = (
        f"this raises {member} of a server that key {ordering_key.id} pays for: use that key, or one without budgets "
        f"that has its scopes ({', '.join(ordering_key.scopes)})"
    )
    raise Problem("scope_missing", detail, member)


def _changes(members: Mapping[str, Any], business_ms: int) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "name" in members:
        changes["name"] = parse_name(members)
    if "keep_until" in members:
        changes["keep_until_ms"] = parse_time(members, "keep_until", business_ms)
    if "auto_renew" in members:
        changes["auto_renew"] = parse_flag(members, "auto_renew", "")
    if "max_total" in members:
        changes["max_total_base"] = _amount(members, "max_total")
    return changes


def _amount(members: Mapping[str, Any], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    try:
        return parse_amount(value)
    except AmountError as error:
        raise bad(f"{name}: {error}", name) from None


def _waiting(query: Mapping[str, str]) -> Waiting | None:
    wanted, seconds = query.get("wait"), query.get("timeout_s")
    if wanted is None:
        if seconds is not None:
            raise bad("timeout_s says how long to wait; say for what with wait", "timeout_s")
        return None
    if wanted not in {SETTLED, *ServerState}:
        raise bad(f"wait is {SETTLED} or one of {', '.join(ServerState)}", "wait")
    if seconds is not None and (_SECONDS.fullmatch(seconds) is None or int(seconds) > WAIT_MAX_S):
        raise bad(f"timeout_s is a whole number from 0 to {WAIT_MAX_S}", "timeout_s")
    return Waiting(wanted, WAIT_DEFAULT_S if seconds is None else float(seconds))


async def _cost_headers(deps: ApiDeps, exchange: Exchange, server: Server) -> list[tuple[str, str]]:
    """Return what an order that was just taken has cost, as far as that is known."""
    payment = None if server.payment_id is None else await deps.store.payment(server.payment_id)
    if payment is None:
        return []
    charge_base = payment.hold_base if payment.axes.charge is Charge.HELD else payment.captured_base
    exchange.payment_id, exchange.charge_base = payment.id, charge_base
    return [("X-Payment-Id", payment.id), ("X-Charge", format_amount(charge_base))]


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/servers",
        "Order a server, from a quote, a plan, a need or a snapshot",
        create_server,
        SERVER,
        scope=SPEND,
        status=ACCEPTED,
        query=WAIT_QUERY,
        body=ORDER_BODY,
        problems=(
            "bad_request",
            "body_oversized",
            "capability_missing",
            "idempotency_conflict",
            "input_refused",
            "insufficient_balance",
            "max_total_reached",
            "no_plan_fits",
            "not_found",
            "quote_expired",
            "too_many_servers",
        ),
        idempotent_key=True,
        key_needed=True,
        capped=True,
        asks_vendor=True,
        query_schemas=WAIT_SCHEMAS,
        also=(200, CREATED),
        tells=("X-Wait",),
    ),
    Endpoint(
        "GET",
        "/v1/servers",
        "The account's servers",
        list_servers,
        page(SERVER),
        scope=READ,
        query=LIST_QUERY,
        query_schemas=LIST_SCHEMAS,
        problems=("bad_request",),
    ),
    Endpoint(
        "GET",
        "/v1/servers/{id}",
        "A server; `wait` answers when it is there",
        show_server,
        SERVER,
        scope=READ,
        query=WAIT_QUERY,
        query_schemas=WAIT_SCHEMAS,
        problems=("bad_request", "not_found", "too_many_calls"),
        tells=("X-Wait",),
        streams=True,
    ),
    Endpoint(
        "PATCH",
        "/v1/servers/{id}",
        "Change its name here, until when it is kept, and what it may cost",
        change_server,
        SERVER,
        scope=SPEND,
        body=CHANGE_BODY,
        problems=("bad_request", "body_oversized", "not_found", "scope_missing", "server_ended"),
    ),
    Endpoint(
        "DELETE",
        "/v1/servers/{id}",
        "Destroy it",
        destroy_server,
        SERVER,
        scope=SPEND,
        status=ACCEPTED,
        problems=("capability_missing", "not_found", "scope_missing", "server_ended"),
    ),
)
