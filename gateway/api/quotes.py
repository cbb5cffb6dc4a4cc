"""`/v1/quotes`: where a server would be made, and what that costs, bindingly for a while.

Must not know how one is chosen.  Theory: an agent that is about to spend can read everything that it agrees to first, and
hold the gateway to it by an id.
"""

from typing import Any

from gateway.api import examples
from gateway.api.asked import query_of
from gateway.api.body import read_small
from gateway.api.catalogue_views import QUOTE
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.needs import MAX_BODY_BYTES, SPEC_MEMBERS, parse_object, parse_spec
from gateway.api.once import CREATED, once
from gateway.api.plans import neutral_of
from gateway.api.schemas import exactly_one, named, optional, record
from gateway.core.apikeys import READ, SPEND
from gateway.flow.servers.runner import Who

BODY = named(
    "QuoteRequest", exactly_one(optional(record(**SPEC_MEMBERS), *SPEC_MEMBERS), "plan", "need"), examples.QUOTE_BODY
)


async def create_quote(deps: ApiDeps, exchange: Exchange) -> Told:
    """Choose the cheapest that fits, ask its vendor for the price, and bind it. Nothing is spent. Raises Problem."""
    query_of(exchange.query, frozenset())
    quoting = neutral_of(deps).quoting
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    asked, who = parse_spec(parse_object(body)), Who(exchange.granted, exchange.request_id)

    async def make() -> dict[str, Any]:
        _, document = await quoting.quote(who, asked)
        return document

    return await once(deps, exchange, body, make)


async def show_quote(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with a quote of the account as it was made, expired or not. Raises Problem."""
    query_of(exchange.query, frozenset())
    return Told(await neutral_of(deps).quoting.shown(exchange.account_id, exchange.parameters["id"]))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/quotes",
        "A binding price for a server, from a need or a plan",
        create_quote,
        QUOTE,
        scope=SPEND,
        status=CREATED,
        body=BODY,
        problems=("body_oversized", "idempotency_conflict", "no_plan_fits", "insufficient_balance", "input_refused"),
        idempotent_key=True,
        asks_vendor=True,
    ),
    Endpoint("GET", "/v1/quotes/{id}", "A quote", show_quote, QUOTE, scope=READ, problems=("not_found",)),
)
