"""`/v1/keys`: an account's keys, made, listed and revoked by a key that may.

Must not know how keys are checked.  Theory: a key makes narrower keys only: no scope that it lacks, and none at all if it
has a budget of its own, for a budget that its children did not share would be none.  A retried request must not make a
second key: its answer is sealed under the Idempotency-Key first, and the key is made from that answer.
"""

from typing import Any

from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.newkey import BODY, MAX_BODY_BYTES, KeyAsked, parse_key_body
from gateway.api.once import CREATED, once
from gateway.api.schemas import TEXT, named, page, record
from gateway.api.views import KEY, key_view
from gateway.core.apikeys import KEYS, digest_of, new_budget, new_key, within
from gateway.core.commands import AddKey, Refused, RevokeKey
from gateway.core.money import parse_amount
from gateway.core.problems import Problem
from gateway.core.records import ApiKey, Budget
from gateway.store import columns, queries

NEW_KEY = named("NewKey", record(**KEY["properties"], key={**TEXT, "description": "shown this once"}), examples.NEW_KEY)


async def list_keys(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's keys, revoked ones too, in the order in which they were made."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    now_ms, uses = deps.clock.now_ms(), deps.store.view.budget_uses
    keys = [key for key in await _keys(deps, exchange.account_id) if key.id > (asked.after or "")]
    entries = [key_view(key, uses, now_ms) for key in keys[: asked.limit]]
    return listed(entries, more=len(keys) > asked.limit)


async def create_key(deps: ApiDeps, exchange: Exchange) -> Told:
    """Make a narrower key; its text is in this answer and nowhere else. Raises Problem."""
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    asked = parse_key_body(body, {v.name: frozenset(route.name for route in v.routes) for v in deps.served.values()})
    _check_rights(exchange.granted, asked)  # of a repeat as well: its answer holds the key
    now_ms = deps.clock.now_ms()

    async def make() -> dict[str, Any]:
        if len(await _keys(deps, exchange.account_id)) >= deps.settings.keys_per_account:
            raise Problem(
                "bad_request", f"an account has at most {deps.settings.keys_per_account} keys; ask the operator"
            )
        return _make(deps, exchange, asked, now_ms)

    async def ensure(document: dict[str, Any]) -> None:
        if document["id"] not in deps.store.view.keys_by_id:
            await _add(deps, _key_of(document, exchange.account_id, now_ms))

    return await once(deps, exchange, body, make, ensure)


async def revoke_key(deps: ApiDeps, exchange: Exchange) -> Told:
    """Revoke a key of the account that may do no more than the one that asks. Raises Problem."""
    query_of(exchange.query, frozenset())
    own, key = exchange.granted, deps.store.view.keys_by_id.get(exchange.parameters["id"])
    if key is None or key.account_id != own.account_id:
        raise Problem("not_found", "there is no such key of yours")
    if key.id != own.id and not _narrower(key.scopes, own):
        raise Problem("scope_missing", "that key may do more than this one", extra={"scope": " ".join(key.scopes)})
    now_ms = deps.clock.now_ms()
    result = await deps.store.post(RevokeKey(key.id, own.account_id, now_ms))
    if isinstance(result, Refused):
        raise Problem(result.code, result.detail)
    return Told(key_view(deps.store.view.keys_by_id[key.id], deps.store.view.budget_uses, now_ms))


async def _keys(deps: ApiDeps, account_id: str) -> list[ApiKey]:
    rows = await deps.store.query(queries.KEYS_OF_ACCOUNT, {"account_id": account_id})
    return [columns.key_from(tuple(row.values())) for row in rows]


def _narrower(scopes: tuple[str, ...], own: ApiKey) -> bool:
    return not own.budgets and within(scopes, own.scopes)


def _check_rights(own: ApiKey, asked: KeyAsked) -> None:
    if own.budgets:
        raise Problem("scope_missing", "a key with a budget of its own makes no keys: they would not share it")
    if not within(asked.scopes, own.scopes):
        raise Problem("scope_missing", f"this key may grant no more than {', '.join(own.scopes)}", "scopes")


def _make(deps: ApiDeps, exchange: Exchange, asked: KeyAsked, now_ms: int) -> dict[str, Any]:
    budgets = [
        new_budget(b.limit_base, b.window_s, now_ms, deps.entropy.bytes, vendor=b.vendor, route=b.route)
        for b in asked.budgets
    ]
    made = new_key(exchange.account_id, asked.name, asked.scopes, budgets, now_ms, deps.entropy.bytes)
    return {**key_view(made.key, {}, now_ms), "key": made.text.reveal()}


async def _add(deps: ApiDeps, key: ApiKey) -> None:
    result = await deps.store.post(AddKey(key))
    if isinstance(result, Refused) and result.code != "key_exists":
        raise Problem(result.code, result.detail)


def _key_of(document: dict[str, Any], account_id: str, now_ms: int) -> ApiKey:
    budgets = tuple(
        Budget(b["id"], parse_amount(b["limit"]), b["window_s"], b["vendor"], b["route"]) for b in document["budgets"]
    )
    digest, scopes = digest_of(document["key"]), tuple(document["scopes"])
    return ApiKey(document["id"], account_id, digest, document["name"], scopes, budgets, now_ms)


ENDPOINTS = (
    Endpoint("GET", "/v1/keys", "The account's keys", list_keys, page(KEY), scope=KEYS, query=PAGE),
    Endpoint(
        "POST",
        "/v1/keys",
        "Make a key that may do no more than the one that asks",
        create_key,
        NEW_KEY,
        scope=KEYS,
        status=CREATED,
        body=BODY,
        problems=("body_oversized", "idempotency_conflict"),
        idempotent_key=True,
    ),
    Endpoint("DELETE", "/v1/keys/{id}", "Revoke a key", revoke_key, KEY, scope=KEYS, problems=("not_found",)),
)
