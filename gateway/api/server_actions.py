"""`/v1/servers/{id}/actions` and `/credentials`: start, stop and reboot a server, and get into it.

Must not know vendors.  Theory: what an action costs is told as the proxy tells it, so an agent books both alike; ways in
are told to their owner over this one answer, and kept by nobody on the way.
"""

from gateway.api import examples
from gateway.api.asked import idempotency_key, max_charge, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.needs import bad, check_members, parse_object
from gateway.api.once import REPLAYED
from gateway.api.plans import neutral_of
from gateway.api.schemas import TEXT, choice, named, optional, record
from gateway.api.server_view import SERVER, server_view
from gateway.core.apikeys import SPEND
from gateway.core.money import format_amount
from gateway.flow.servers.runner import Who
from gateway.server_ports import Action

ACCEPTED = 202
MAX_BODY_BYTES = 1024
POWER = (Action.START, Action.STOP, Action.REBOOT)
BODY = named("PowerAction", record(action=choice(*POWER)), examples.ACTION)
_WAYS_IN = ("username", "password", "private_key", "port", "root_token")
CREDENTIALS = named(
    "Credentials",
    {
        **optional(record(**dict.fromkeys(_WAYS_IN, TEXT)), *_WAYS_IN),
        "additionalProperties": TEXT,
        "description": "the ways in that its vendor states, as its vendor names them",
    },
    examples.CREDENTIALS,
)

Headers = tuple[tuple[str, str], ...]


async def act_on_server(deps: ApiDeps, exchange: Exchange) -> Told:
    """Start, stop or reboot a server of the account. Raises Problem."""
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    members = parse_object(body)
    check_members(members, "", (), ("action",))
    if members["action"] not in POWER:
        raise bad(f"action is one of {', '.join(POWER)}", "action")
    acted = await neutral_of(deps).acting.power(
        Who(exchange.granted, exchange.request_id),
        exchange.parameters["id"],
        Action(members["action"]),
        idempotency_key=idempotency_key(exchange.request),
        max_charge_base=max_charge(exchange.request),
    )
    headers = cost_headers(exchange, acted.payment_id, acted.charge_base, replayed=acted.replayed)
    return Told(await server_view(deps, acted.server), ACCEPTED, headers)


async def show_credentials(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the ways into a server of the account; every answer of this API is marked not to be stored."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    return Told(await neutral_of(deps).acting.credentials(who, exchange.parameters["id"]))


def cost_headers(exchange: Exchange, payment_id: str | None, charge_base: int | None, *, replayed: bool) -> Headers:
    """Return the headers that tell what an answer cost, and note it for the log."""
    exchange.payment_id, exchange.charge_base = payment_id, charge_base
    headers: list[tuple[str, str]] = [REPLAYED] if replayed else []
    if payment_id is not None:
        headers.append(("X-Payment-Id", payment_id))
    if charge_base is not None:
        headers.append(("X-Charge", format_amount(charge_base)))
    return tuple(headers)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/servers/{id}/actions",
        "Start, stop or reboot it; at some vendors this costs",
        act_on_server,
        SERVER,
        scope=SPEND,
        status=ACCEPTED,
        body=BODY,
        problems=(
            "bad_request",
            "body_oversized",
            "not_found",
            "capability_missing",
            "server_ended",
            "server_not_ready",
            "idempotency_conflict",
            "insufficient_balance",
            "max_total_reached",
            "price_above_max_charge",
            "action_refused",
            "action_unknown",
        ),
        idempotent_key=True,
        capped=True,
        asks_vendor=True,
    ),
    Endpoint(
        "GET",
        "/v1/servers/{id}/credentials",
        "The ways into it",
        show_credentials,
        CREDENTIALS,
        scope=SPEND,
        problems=("not_found", "capability_missing", "server_ended", "server_not_ready"),
        asks_vendor=True,
    ),
)
