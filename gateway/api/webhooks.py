"""`/v1/webhooks`: where an account wants to be told of events, and what became of telling it.

Must not know signatures or schedules.  Theory: who may name an address is told everything that happens to the account, so it
takes a key that may both read and act; the secret is in one answer, and in the repeats of its request.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.auth import require_scope
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.events import EVENT_ID_IN
from gateway.api.exchange import Exchange
from gateway.api.needs import bad, check_members, parse_flag, parse_object
from gateway.api.once import CREATED, Document, once
from gateway.api.plans import neutral_of
from gateway.api.schemas import FLAG, INTEGER, TEXT, TIME, Schema, choice, maybe, named, optional, page, record, several
from gateway.api.views import time_or_none
from gateway.core.apikeys import READ, SPEND
from gateway.core.events import PATTERN_TEXT, event_id, is_pattern, seq_of
from gateway.core.problems import Problem
from gateway.core.server import Hook, HookDelivery, HookDeliveryState
from gateway.core.times import utc_text
from gateway.flow.servers.hooks import Asked, Hooks
from gateway.flow.servers.telling import Telling
from wallets.secret import Secret

MAX_BODY_BYTES: Final = 16 * 1024
MAX_URL_CHARS: Final = 2_048
MAX_PATTERNS: Final = 32
MAX_DESCRIPTION_CHARS: Final = 200
ACCEPTED: Final = 202

PATTERNS_IN: Schema = {
    **several({**TEXT, "pattern": f"^{PATTERN_TEXT}$"}),
    "minItems": 1,
    "maxItems": MAX_PATTERNS,
    "description": 'types such as "server.running", families ("server.*"), or "*"',
}
URL_IN: Schema = {**TEXT, "minLength": 1, "maxLength": MAX_URL_CHARS}
DESCRIPTION_IN: Schema = {**TEXT, "maxLength": MAX_DESCRIPTION_CHARS}
_ASKED = {"url": URL_IN, "events": PATTERNS_IN, "description": DESCRIPTION_IN}
BODY = named("WebhookRequest", optional(record(**_ASKED), "description"), examples.WEBHOOK_BODY)
CHANGE = named("WebhookChange", optional(record(**_ASKED, disabled=FLAG), *_ASKED, "disabled"), examples.WEBHOOK_CHANGE)
_WEBHOOK = record(
    id=TEXT,
    url=TEXT,
    events=several(TEXT),
    description=TEXT,
    disabled=FLAG,
    disabled_reason=TEXT,
    created_at=TIME,
    deleted_at=maybe(TIME),
    previous_secret_until=maybe(TIME),
)
SECRET: Schema = {**TEXT, "description": "shown this once: whsec_ and base64"}
WEBHOOK = named("Webhook", _WEBHOOK, examples.WEBHOOK)
NEW_WEBHOOK = named("NewWebhook", record(**_WEBHOOK["properties"], secret=SECRET), examples.NEW_WEBHOOK)
NEW_SECRET = named("NewSecret", record(id=TEXT, secret=SECRET), examples.NEW_SECRET)
TESTED = named("WebhookTest", record(id=TEXT, event=TEXT), examples.TESTED)
_DELIVERY = record(
    event=TEXT,
    state=choice(*HookDeliveryState),
    attempts=INTEGER,
    due_at=maybe(TIME),
    last_status=maybe(INTEGER),
    last_error=TEXT,
    created_at=TIME,
    done_at=maybe(TIME),
)

DELIVERY = named("Delivery", _DELIVERY, examples.DELIVERY)


async def list_hooks(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's webhooks, oldest first."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    hooks = _telling(deps).hooks
    own = [hook for hook in hooks.of_account(exchange.account_id) if hook.id > (asked.after or "")]
    entries = [_view(hooks, hook) for hook in own[: asked.limit]]
    return listed(entries, more=len(own) > asked.limit)


async def show_hook(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with one of the account's webhooks. Raises Problem("not_found")."""
    query_of(exchange.query, frozenset())
    hooks = _telling(deps).hooks
    return Told(_view(hooks, hooks.one(exchange.account_id, exchange.parameters["id"])))


async def create_hook(deps: ApiDeps, exchange: Exchange) -> Told:
    """Make a webhook; its secret is in this answer and nowhere else. Raises Problem."""
    body = await _body(deps, exchange)
    members = parse_object(body)
    check_members(members, "", {"description"}, {"url", "events"})
    asked, hooks = _asked(members), _telling(deps).hooks
    now_ms = deps.clock.now_ms()

    async def make() -> Document:
        await hooks.check_new(exchange.account_id, asked.url or "")
        return {
            "id": hooks.new_id(),
            "url": asked.url,
            "events": list(asked.events or ()),
            "description": asked.description or "",
            "disabled": False,
            "disabled_reason": "",
            "created_at": utc_text(now_ms),
            "deleted_at": None,
            "previous_secret_until": None,
            "secret": hooks.new_secret().reveal(),
        }

    async def ensure(document: Document) -> None:
        await hooks.create(document["id"], exchange.account_id, asked, Secret(document["secret"]), now_ms)

    return await once(deps, exchange, body, make, ensure)


async def change_hook(deps: ApiDeps, exchange: Exchange) -> Told:
    """Change a webhook, or enable it again. Raises Problem."""
    members = parse_object(await _body(deps, exchange))
    check_members(members, "", {"url", "events", "description", "disabled"})
    hooks = _telling(deps).hooks
    return Told(_view(hooks, await hooks.change(exchange.account_id, exchange.parameters["id"], _asked(members))))


async def delete_hook(deps: ApiDeps, exchange: Exchange) -> Told:
    """Delete a webhook; what is due to it is given up. Raises Problem("not_found")."""
    query_of(exchange.query, frozenset())
    require_scope(exchange.granted, READ)
    hooks = _telling(deps).hooks
    return Told(_view(hooks, await hooks.delete(exchange.account_id, exchange.parameters["id"])))


async def rotate_secret(deps: ApiDeps, exchange: Exchange) -> Told:
    """Make a new secret; the one before signs as well for a while. Raises Problem."""
    body = await _empty(deps, exchange)
    hooks, hook_id = _telling(deps).hooks, exchange.parameters["id"]
    hooks.one(exchange.account_id, hook_id)

    async def make() -> Document:
        return {"id": hook_id, "secret": hooks.new_secret().reveal()}

    async def ensure(document: Document) -> None:
        await hooks.rotate(exchange.account_id, hook_id, Secret(document["secret"]))

    return await once(deps, exchange, body, make, ensure)


async def test_hook(deps: ApiDeps, exchange: Exchange) -> Told:
    """Send an event of the type webhook.test to one webhook. Raises Problem."""
    body = await _empty(deps, exchange)
    telling, hook_id = _telling(deps), exchange.parameters["id"]
    telling.hooks.one(exchange.account_id, hook_id)

    async def make() -> Document:
        return {"id": hook_id, "event": await telling.test(exchange.account_id, hook_id)}

    return await once(deps, exchange, body, make, status=ACCEPTED)


async def list_deliveries(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with what became of events at one webhook, the newest event first. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    before = None if asked.after is None else _seq(asked.after, "after")
    place = exchange.account_id, exchange.parameters["id"]
    found, following = await _telling(deps).deliveries(*place, before, asked.limit)
    return Told({"entries": [_delivery(each) for each in found], "next": following})


async def replay(deps: ApiDeps, exchange: Exchange) -> Told:
    """Send one event of the account to one webhook again. Raises Problem."""
    body = await _empty(deps, exchange)
    telling, place = _telling(deps), (exchange.account_id, exchange.parameters["id"])
    telling.hooks.one(*place)
    seq = seq_of(exchange.parameters["event"])
    if seq is None:
        raise Problem("not_found", "there is no such event of yours")

    async def make() -> Document:
        return _delivery(await telling.replay(*place, seq))

    return await once(deps, exchange, body, make, status=ACCEPTED)


def _telling(deps: ApiDeps) -> Telling:
    return neutral_of(deps).telling


async def _body(deps: ApiDeps, exchange: Exchange) -> bytes:
    """Return the body of a request that changes something, by a key that may."""
    query_of(exchange.query, frozenset())
    require_scope(exchange.granted, READ)  # whoever names an address reads what is sent there
    return await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)


async def _empty(deps: ApiDeps, exchange: Exchange) -> bytes:
    body = await _body(deps, exchange)
    if body.strip():
        check_members(parse_object(body), "", ())
    return body


def _asked(members: Mapping[str, Any]) -> Asked:
    url, events, description = (members.get(name) for name in ("url", "events", "description"))
    if "url" in members and (not isinstance(url, str) or not 0 < len(url) <= MAX_URL_CHARS):
        raise bad(f"url is a text of at most {MAX_URL_CHARS} characters", "url")
    if "events" in members:
        good = isinstance(events, list) and all(isinstance(each, str) and is_pattern(each) for each in events)
        if not good or not 0 < len(events or ()) <= MAX_PATTERNS:
            raise bad(f'events are 1 to {MAX_PATTERNS} of "server.running", "server.*" or "*"', "events")
    if "description" in members:
        good = isinstance(description, str) and len(description) <= MAX_DESCRIPTION_CHARS
        if not good or not (description == "" or str(description).isprintable()):
            raise bad(f"description is at most {MAX_DESCRIPTION_CHARS} printable characters", "description")
    return Asked(
        url, None if events is None else tuple(dict.fromkeys(events)), description, parse_flag(members, "disabled", "")
    )


def _seq(text: str, field: str) -> int:
    seq = seq_of(text)
    if seq is None:
        raise bad(f"{field} is the id of an event", field)
    return seq


def _view(hooks: Hooks, hook: Hook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "url": hook.url,
        "events": list(hook.events),
        "description": hook.description,
        "disabled": bool(hook.disabled_reason),
        "disabled_reason": hook.disabled_reason,
        "created_at": utc_text(hook.created_at_ms),
        "deleted_at": time_or_none(hook.deleted_at_ms),
        "previous_secret_until": time_or_none(hooks.previous_until_ms(hook)),
    }


def _delivery(delivery: HookDelivery) -> dict[str, Any]:
    pending = delivery.state is HookDeliveryState.PENDING
    return {
        "event": event_id(delivery.event_seq),
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due_at": utc_text(delivery.due_at_ms) if pending else None,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "created_at": utc_text(delivery.created_at_ms),
        "done_at": time_or_none(delivery.done_at_ms),
    }


_REFUSALS = ("not_found", "body_oversized")

ENDPOINTS = (
    Endpoint("GET", "/v1/webhooks", "The account's webhooks", list_hooks, page(WEBHOOK), scope=READ, query=PAGE),
    Endpoint(
        "POST",
        "/v1/webhooks",
        "Be told of events at an address (Standard Webhooks), of one record's in order; needs read as well",
        create_hook,
        NEW_WEBHOOK,
        scope=SPEND,
        status=CREATED,
        body=BODY,
        problems=("webhook_url_refused",),
        idempotent_key=True,
    ),
    Endpoint("GET", "/v1/webhooks/{id}", "One webhook", show_hook, WEBHOOK, scope=READ, problems=("not_found",)),
    Endpoint(
        "PATCH",
        "/v1/webhooks/{id}",
        "Change a webhook, stop it, or enable it again",
        change_hook,
        WEBHOOK,
        scope=SPEND,
        body=CHANGE,
        problems=("not_found", "webhook_url_refused", "changed_meanwhile"),
    ),
    Endpoint(
        "DELETE",
        "/v1/webhooks/{id}",
        "Delete a webhook; what is due to it is given up",
        delete_hook,
        WEBHOOK,
        scope=SPEND,
        problems=("not_found", "changed_meanwhile"),
    ),
    Endpoint(
        "POST",
        "/v1/webhooks/{id}/rotate",
        "A new secret; the one before signs as well for a while",
        rotate_secret,
        NEW_SECRET,
        scope=SPEND,
        status=CREATED,
        problems=(*_REFUSALS, "changed_meanwhile"),
        idempotent_key=True,
    ),
    Endpoint(
        "POST",
        "/v1/webhooks/{id}/test",
        "Send an event of the type webhook.test to this webhook",
        test_hook,
        TESTED,
        scope=SPEND,
        status=ACCEPTED,
        problems=(*_REFUSALS, "changed_meanwhile"),
        idempotent_key=True,
    ),
    Endpoint(
        "GET",
        "/v1/webhooks/{id}/deliveries",
        "What became of events at this webhook, the newest event first",
        list_deliveries,
        page(DELIVERY),
        scope=READ,
        query=PAGE,
        query_schemas={"after": EVENT_ID_IN},
        problems=("not_found",),
    ),
    Endpoint(
        "POST",
        "/v1/webhooks/{id}/deliveries/{event}/replay",
        "Send an event of the account to this webhook again, or one that it missed",
        replay,
        DELIVERY,
        scope=SPEND,
        status=ACCEPTED,
        problems=_REFUSALS,
        idempotent_key=True,
    ),
)
