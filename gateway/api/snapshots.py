"""`/v1/servers/{id}/snapshots` and `/v1/snapshots`: take, find, restore and delete snapshots.

Must not know vendors.  Theory: whether a snapshot is restored in place or to a new server is the vendor's, so one route
does both and answers with the server that it was restored to.
"""

import re
from collections.abc import Collection
from typing import Any

from gateway.api import examples
from gateway.api.asked import Page, idempotency_key, max_charge, page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.needs import bad, check_members, parse_object
from gateway.api.once import fingerprint_of
from gateway.api.plans import neutral_of
from gateway.api.schemas import TEXT, TIME, choice, maybe, named, optional, page, record
from gateway.api.server_actions import cost_headers
from gateway.api.server_view import SERVER, server_view
from gateway.api.servers import KEPT_MEMBERS, parse_kept
from gateway.api.views import time_or_none
from gateway.core.apikeys import READ, SPEND
from gateway.core.problems import Problem
from gateway.core.server import Snapshot
from gateway.core.times import utc_text
from gateway.flow.servers.runner import Who
from gateway.flow.servers.snapshot_book import STATES
from gateway.store import columns, queries

ACCEPTED = 202
MAX_BODY_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})", re.ASCII)
_NOTHING = re.compile(rb"[ \t\r\n]*")

_SNAPSHOT = record(
    id=TEXT,
    server=TEXT,
    vendor=TEXT,
    ref={**TEXT, "description": "the vendor's own id or name of it"},
    name=TEXT,
    state=choice(*sorted(STATES)),
    created_at=TIME,
    expires_at={**maybe(TIME), "description": "when its vendor deletes it; null where that is not known"},
    size_gib=maybe(TEXT),
    as_of=TIME,
)
SNAPSHOT = named("Snapshot", _SNAPSHOT, examples.SNAPSHOT)
CREATE_BODY = named(
    "SnapshotRequest", optional(record(name={**TEXT, "pattern": f"^{_NAME.pattern}$"}), "name"), examples.SNAPSHOT_BODY
)
RESTORE_BODY = named(
    "Restore",
    {
        **optional(record(**KEPT_MEMBERS), *KEPT_MEMBERS),
        "description": "of the new server, where it is a new one: as in POST /v1/servers",
    },
    examples.RESTORE,
)
_CALLED = ("capability_missing", "action_refused", "action_unknown")
_PAID = ("insufficient_balance", "max_total_reached", "price_above_max_charge")


async def create_snapshot(deps: ApiDeps, exchange: Exchange) -> Told:
    """Take a snapshot of a server of the account. Raises Problem."""
    query_of(exchange.query, frozenset())
    _, members = await _members(deps, exchange, ("name",))
    name = members.get("name")
    if "name" in members and (not isinstance(name, str) or _NAME.fullmatch(name) is None):
        raise bad("name is 1 to 63 letters, digits, dots, hyphens and underscores, a letter or digit first", "name")
    taken = await neutral_of(deps).snapshots.create(
        Who(exchange.granted, exchange.request_id),
        exchange.parameters["id"],
        name,
        idempotency_key=idempotency_key(exchange.request),
        max_charge_base=max_charge(exchange.request),
    )
    headers = cost_headers(exchange, taken.payment_id, taken.charge_base, replayed=taken.replayed)
    return Told(snapshot_view(deps, taken.snapshot), ACCEPTED, headers)


async def snapshots_of_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the snapshots of a server of the account, as its vendor says now where it answers. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    who = Who(exchange.granted, exchange.request_id)
    server = await neutral_of(deps).snapshots.refresh(who, exchange.parameters["id"])
    parameters = {"account_id": server.account_id, "server_id": server.id}
    return await _page(deps, queries.SNAPSHOTS_OF_SERVER, parameters, asked)


async def list_snapshots(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with all snapshots of the account, the newest first, as they are known. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    neutral_of(deps)
    parameters = {"account_id": exchange.account_id}
    return await _page(deps, queries.SNAPSHOTS_OF_ACCOUNT, parameters, asked)


async def show_snapshot(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with a snapshot of the account. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    return Told(snapshot_view(deps, await neutral_of(deps).snapshots.get(who, exchange.parameters["id"])))


async def delete_snapshot(deps: ApiDeps, exchange: Exchange) -> Told:
    """Delete a snapshot of the account, at its vendor too. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    return Told(snapshot_view(deps, await neutral_of(deps).snapshots.delete(who, exchange.parameters["id"])))


async def restore_snapshot(deps: ApiDeps, exchange: Exchange) -> Told:
    """Restore a snapshot of the account: to its server, or to a new one where its vendor only does that. Raises Problem."""
    query_of(exchange.query, frozenset())
    body, members = await _members(deps, exchange, KEPT_MEMBERS)
    neutral = neutral_of(deps)
    token, snapshots = idempotency_key(exchange.request), neutral.snapshots
    who, snapshot_id = Who(exchange.granted, exchange.request_id), exchange.parameters["id"]
    in_place = snapshots.restores_in_place((await snapshots.get(who, snapshot_id)).vendor)
    if in_place and members:
        field = next(iter(members))
        raise bad(f"its vendor restores to the server that it is of: {field} is for a new one", field)
    if not in_place and token is None:
        detail = "restoring to a new server needs an Idempotency-Key: what it orders is made once"
        raise Problem("bad_request", detail, "Idempotency-Key")
    new = None
    if not in_place and token is not None:
        fingerprint = fingerprint_of(exchange.request.method, f"/v1/snapshots/{snapshot_id}/restore", body)
        new = parse_kept(members, token, fingerprint, neutral.keeping.business.now_ms())
    restored = await snapshots.restore(
        who, snapshot_id, new, idempotency_key=token, max_charge_base=max_charge(exchange.request)
    )
    headers = cost_headers(exchange, restored.payment_id, restored.charge_base, replayed=restored.replayed)
    return Told(await server_view(deps, restored.server), ACCEPTED, headers)


def snapshot_view(deps: ApiDeps, snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as its agent reads it."""
    return {
        "id": snapshot.id,
        "server": snapshot.server_id,
        "vendor": snapshot.vendor,
        "ref": snapshot.ref,
        "name": snapshot.name,
        "state": snapshot.state,
        "created_at": utc_text(snapshot.created_at_ms),
        "expires_at": time_or_none(snapshot.expires_at_ms),
        "size_gib": snapshot.size_gib or None,
        "as_of": utc_text(neutral_of(deps).snapshots.as_of_ms(snapshot)),
    }


async def _members(deps: ApiDeps, exchange: Exchange, allowed: Collection[str]) -> tuple[bytes, dict[str, Any]]:
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    members = {} if _NOTHING.fullmatch(body) else parse_object(body)
    check_members(members, "", allowed)
    return body, members


async def _page(deps: ApiDeps, sql: str, parameters: dict[str, Any], asked: Page) -> Told:
    rows = await deps.store.query(sql, {**parameters, "before": asked.before, "limit": asked.limit + 1})
    entries = [snapshot_view(deps, columns.snapshot_from(tuple(row.values()))) for row in rows[: asked.limit]]
    return listed(entries, more=len(rows) > asked.limit)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/servers/{id}/snapshots",
        "Take a snapshot of it; at some vendors this costs",
        create_snapshot,
        SNAPSHOT,
        scope=SPEND,
        status=ACCEPTED,
        body=CREATE_BODY,
        problems=(
            "bad_request",
            "body_oversized",
            "not_found",
            "server_ended",
            "server_not_ready",
            "input_refused",
            "idempotency_conflict",
            *_CALLED,
            *_PAID,
        ),
        body_needed=False,
        idempotent_key=True,
        capped=True,
        asks_vendor=True,
    ),
    Endpoint(
        "GET",
        "/v1/servers/{id}/snapshots",
        "Its snapshots",
        snapshots_of_server,
        page(SNAPSHOT),
        scope=READ,
        query=PAGE,
        problems=("bad_request", "not_found", "capability_missing"),
    ),
    Endpoint("GET", "/v1/snapshots", "The account's snapshots", list_snapshots, page(SNAPSHOT), scope=READ, query=PAGE),
    Endpoint("GET", "/v1/snapshots/{id}", "A snapshot", show_snapshot, SNAPSHOT, scope=READ, problems=("not_found",)),
    Endpoint(
        "DELETE",
        "/v1/snapshots/{id}",
        "Delete a snapshot",
        delete_snapshot,
        SNAPSHOT,
        scope=SPEND,
        problems=("not_found", "server_not_ready", *_CALLED),
        asks_vendor=True,
    ),
    Endpoint(
        "POST",
        "/v1/snapshots/{id}/restore",
        "Restore it: to its server, or to a new one where its vendor only does that",
        restore_snapshot,
        SERVER,
        scope=SPEND,
        status=ACCEPTED,
        body=RESTORE_BODY,
        problems=(
            "bad_request",
            "body_oversized",
            "not_found",
            "server_ended",
            "server_not_ready",
            "idempotency_conflict",
            "no_plan_fits",
            *_CALLED,
            *_PAID,
        ),
        body_needed=False,
        idempotent_key=True,
        capped=True,
        asks_vendor=True,
    ),
)
