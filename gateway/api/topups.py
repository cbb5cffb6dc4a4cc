"""`/v1/topups`: buying credit by paying a 402 with any stock client, and how a top-up stands.

Must not read or judge a payment: it hands over the headers that may hold one.  Theory: the paying retry of a stock client is
the same request with one more header, so each route answers both the question and the payment; and what it answers tells a
machine what to do: 402 pay, 200 done, 202 wait and ask, 409 the payment was not touched. How each client pays, and what the
statuses mean, is in docs/topups.md.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from contracts.codec import checksum
from contracts.networks import Network
from contracts.tokens import Token
from gateway.api.asked import idempotency_key, page_of, query_of
from gateway.api.auth import authenticate
from gateway.api.body import read_small
from gateway.api.cors import NO_CONTENT, allowing, preflight, readable
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Demand, Endpoint, Handler, Told, listed
from gateway.api.exchange import Exchange, single_header
from gateway.api.needs import check_members, parse_object
from gateway.api.once import REPLAYED
from gateway.api.respond import PROBLEM_TYPE
from gateway.api.schemas import ADDRESS, AMOUNT, HASH, PRICE_IN, TEXT, TIME, Schema, choice, maybe, named, page, record
from gateway.api.views import hex_or_none, time_or_none
from gateway.core.apikeys import READ
from gateway.core.money import AmountError, format_amount, parse_amount
from gateway.core.paid import TopUp, TopUpState
from gateway.core.problems import Problem
from gateway.core.times import utc_text
from gateway.flow.paid.offers import ROUTE, Offered, Wanted
from gateway.flow.paid.topups import RETRY_AFTER_S, Answered, TopUps
from gateway.rails.x402.selling import PAYMENT_HEADERS

MAX_BODY_BYTES: Final = 16 * 1024
PACK_ROUTE: Final = "/v1/topups/packs/{name}"
Named = tuple[tuple[str, str], ...]
"""Headers, each with its name."""

CREDIT: Final = ("none", "pending", "available")

_TAKEN = (200, 202)
_PAID_BY = ("Payment-Authorization", *PAYMENT_HEADERS)

_TOPUP = record(
    id=TEXT,
    state=choice(*TopUpState),
    amount=AMOUNT,
    credit={**choice(*CREDIT), "description": "available: it can be spent; pending: it comes with the final block"},
    pack=maybe(TEXT),
    rail=maybe(choice("x402", "mpp_tempo", "mpp_evm", "deposit")),
    network=maybe({**TEXT, "description": "CAIP-2"}),
    asset=maybe(ADDRESS),
    payer=maybe(ADDRESS),
    transaction=maybe(HASH),
    reason=maybe(TEXT),
    created_at=TIME,
    expires_at=TIME,
    ended_at=maybe(TIME),
    status_url=TEXT,
)
_EXAMPLE = {
    "id": "top_06N4X0Q6ZK3V8Y2R5T7W9A1B3C",
    "state": "seen",
    "amount": "5.000000",
    "credit": "pending",
    "pack": None,
    "rail": "x402",
    "network": "eip155:8453",
    "asset": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    "payer": "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf",
    "transaction": "0x" + "ab" * 32,
    "reason": None,
    "created_at": "2026-03-01T12:00:00.000Z",
    "expires_at": "2026-03-01T12:05:00.000Z",
    "ended_at": None,
    "status_url": "/v1/topups/top_06N4X0Q6ZK3V8Y2R5T7W9A1B3C",
}
TOPUP = named("TopUp", _TOPUP, _EXAMPLE)
NOTHING = named("Nothing", record(), {})
BODY = named("TopUpRequest", record(amount={**PRICE_IN, "description": "USD"}), {"amount": "5"})


async def buy_credit(deps: ApiDeps, exchange: Exchange) -> Told:
    """Offer or take a payment of any amount within the limits. Raises Problem."""
    topups = topups_of(deps)
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    document = parse_object(body)
    check_members(document, "", (), ("amount",))
    try:
        amount_base = parse_amount(document["amount"])
    except AmountError as error:
        raise Problem("bad_request", str(error), "amount") from None
    return await _serve(deps, exchange, body, topups.offers.amount(amount_base), "")


async def buy_pack(deps: ApiDeps, exchange: Exchange) -> Told:
    """Offer or take a payment of a fixed pack. Raises Problem."""
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    if body:
        check_members(parse_object(body), "", ())
    return await _pack(deps, exchange, body)


async def get_pack(deps: ApiDeps, exchange: Exchange) -> Told:
    """Offer or take a payment of a fixed pack, for clients that only GET. Raises Problem."""
    return await _pack(deps, exchange, b"")


async def show_topup(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with an order that was paid, or that somebody tried to pay. Raises Problem.

    An account's is shown to its keys only; a wallet's to whoever knows its id, which nobody can guess.
    """
    query_of(exchange.query, frozenset())
    _know(deps, exchange)
    topup = await topups_of(deps).find(exchange.parameters["id"])
    if topup is None or not _may_see(deps, exchange, topup):
        raise Problem("not_found", "there is no such top-up, or nobody has paid it yet")
    pending = topup.state is TopUpState.PAYING
    return Told(topup_view(topup), headers=(("Retry-After", str(RETRY_AFTER_S)),) if pending else ())


async def list_topups(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's top-ups, the newest first. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    found = await deps.store.topups_of(exchange.account_id, asked.before, asked.limit + 1)
    entries = [topup_view(each) for each in found[: asked.limit]]
    return listed(entries, more=len(found) > asked.limit)


async def allow_topup(_deps: ApiDeps, _exchange: Exchange) -> Told:
    """Tell a browser that a page may pay from there. The list of what was paid is not for pages."""
    return Told(b"", NO_CONTENT, allowing(("POST",), _PAID_BY))


async def allow_status(_deps: ApiDeps, _exchange: Exchange) -> Told:
    """Tell a browser that a page may ask there."""
    return Told(b"", NO_CONTENT, allowing(("GET",), _PAID_BY))


async def allow_pack(_deps: ApiDeps, _exchange: Exchange) -> Told:
    """Tell a browser that a page may pay from there."""
    return Told(b"", NO_CONTENT, allowing(("GET", "POST"), _PAID_BY))


def topups_of(deps: ApiDeps) -> TopUps:
    """Return the use case. Raises Problem("not_found") where nobody can buy credit here."""
    topups: TopUps | None = deps.topups
    if topups is None:
        raise Problem("not_found", "credit cannot be bought here; ask the operator")
    return topups


def topup_view(topup: TopUp, hint: bytes | None = None) -> dict[str, Any]:
    """Return an order as its owner reads it; nothing in it says whose it is."""
    transaction = topup.tx_hash or hint
    return {
        "id": topup.id,
        "state": topup.state.value,
        "amount": format_amount(topup.amount_base),
        "credit": _credit(topup),
        "pack": topup.pack or None,
        "rail": topup.rail or None,
        "network": None if topup.chain_id is None else Network(topup.chain_id).caip2,
        "asset": hex_or_none(topup.token),
        "payer": hex_or_none(topup.payer),
        "transaction": hex_or_none(transaction),
        "reason": topup.reason or None,
        "created_at": utc_text(topup.created_at_ms),
        "expires_at": utc_text(topup.expires_at_ms),
        "ended_at": time_or_none(topup.ended_at_ms),
        "status_url": f"{ROUTE}/{topup.id}",
    }


async def _pack(deps: ApiDeps, exchange: Exchange, body: bytes) -> Told:
    name = exchange.parameters["name"]
    return await _serve(deps, exchange, body, topups_of(deps).offers.pack(name), name)


async def _serve(deps: ApiDeps, exchange: Exchange, body: bytes, amount_base: int, pack: str) -> Told:
    query_of(exchange.query, frozenset())
    bearer = _know(deps, exchange)
    x402, mpp = _payments(exchange)
    paid_in = [name for name, value in (*x402, *mpp) if name in PAYMENT_HEADERS or _pays_by_mpp(value)]
    wanted = Wanted(
        method="POST" if exchange.request.method == "POST" else "GET",
        path=exchange.request.raw_path.partition("?")[0],
        body=body,
        amount_base=amount_base,
        pack=pack,
        account_id=None if exchange.key is None else exchange.account_id,
        claim=idempotency_key(exchange.request),
        bearer=bearer,
        paid_in=paid_in[0] if paid_in else "",
    )
    if exchange.key is None and paid_in:
        deps.keyless.count(deps.callers.address(exchange.request), deps.clock.now_ms())
    presented = x402[0][1] if x402 else None
    outcome = await topups_of(deps).serve(wanted, presented, [value for _, value in mpp])
    return _offered(exchange, outcome) if isinstance(outcome, Offered) else _answered(outcome)


def _know(deps: ApiDeps, exchange: Exchange) -> bool:
    """Note whose key came, if any; say whether it came in Authorization, where MPP clients would put their payment.

    A key that is none is refused before anything is paid: its owner believes that the credit will be that account's.
    """
    try:
        exchange.key = authenticate(exchange.request, deps.store.view.keys_by_digest)
    except Problem as problem:
        if problem.code != "key_missing" or _shows_other(exchange):
            raise
        return False
    return "X-Api-Key" not in exchange.request.headers


def _shows_other(exchange: Exchange) -> bool:
    """Say whether there are credentials that are neither a key nor a payment."""
    value = exchange.request.headers.get("Authorization", "")
    return bool(value.strip()) and "payment" not in value.lower()


def _payments(exchange: Exchange) -> tuple[Named, Named]:
    """Return the headers that hold a payment by x402, one at most, and those that may hold one by MPP, by their names.

    Raises Problem("bad_request") for more than one of x402's.
    """
    if exchange.request.method == "HEAD":  # whoever asks for no answer has not read what to pay
        return (), ()
    given = ((name, single_header(exchange.request, name)) for name in PAYMENT_HEADERS)
    x402 = tuple((name, value) for name, value in given if value is not None)
    if len(x402) > 1:
        raise Problem("bad_request", "pay once; none of the payments of this request was taken", PAYMENT_HEADERS[0])
    headers = exchange.request.headers
    mpp = tuple((name, value) for name in ("Authorization", _PAID_BY[0]) for value in headers.getall(name, ()))
    return x402, mpp


def _pays_by_mpp(value: str) -> bool:
    return "payment" in value.lower()


def _offered(exchange: Exchange, offered: Offered) -> Told:
    document = {
        **offered.document,
        "remedy": "pay one of the offers: accepts, PAYMENT-REQUIRED, or WWW-Authenticate",
        "code": "payment_required",
        "request_id": exchange.request_id,
    }
    return Told(document, 402, _without_common(offered.headers), PROBLEM_TYPE)


def _answered(answered: Answered) -> Told:
    view, headers = topup_view(answered.topup, answered.hint), _without_common(answered.headers)
    return Told(view, 202 if answered.pending else 200, (*headers, REPLAYED) if answered.repeated else headers)


def _without_common(headers: Named) -> Named:
    """Every answer of ours says no-store already."""
    return tuple((name, value) for name, value in headers if name != "Cache-Control")


def _may_see(deps: ApiDeps, exchange: Exchange, topup: TopUp) -> bool:
    if exchange.key is not None and exchange.account_id == topup.account_id:
        return True
    bound = None if topup.payer is None else deps.store.view.wallet_accounts.get(topup.payer)
    return topup.account_id is None or topup.account_id == bound


def _credit(topup: TopUp) -> str:
    if topup.state is TopUpState.CREDITED or topup.lent_base:
        return "available"
    return "pending" if topup.state in {TopUpState.PAYING, TopUpState.SEEN} else "none"


_PROBLEMS = (
    "bad_payment",
    "key_unknown",
    "key_revoked",
    "key_missing",
    "topup_taken",
    "payment_reused",
    "idempotency_spent",
    "too_many_open_payments",
    "too_many_calls",
    "facilitator_unavailable",
    "inventory_capped",
    "not_ready",
)
_TELLS = ("PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE", "Payment-Receipt", "Location", "Retry-After")


_DEMANDS = ("WWW-Authenticate", "PAYMENT-REQUIRED")
_READABLE = readable(*_DEMANDS, *_TELLS, REPLAYED[0])
_DEMAND = Demand("what to pay, in every form that is taken: nothing was collected", _DEMANDS, _PAID_BY)


def _buying(
    method: str, path: str, summary: str, handler: Handler, body: Schema | None = None, *, body_needed: bool = True
) -> Endpoint:
    return Endpoint(
        method,
        path,
        summary,
        handler,
        TOPUP,
        public=True,
        also=_TAKEN[1:],
        body=body,
        body_needed=body_needed,
        problems=(*_PROBLEMS, *(("not_found",) if "{" in path else ())),
        idempotent_key=True,
        tells=_TELLS,
        demand=_DEMAND,
        always=_READABLE,
    )


_STATUS_ROUTE: Final = f"{ROUTE}/{{id}}"
_OF_ANY_AMOUNT = (
    _buying("POST", ROUTE, "Buy credit: a 402 with every way to pay it, or the payment's result", buy_credit, BODY),
    Endpoint(
        "GET",
        _STATUS_ROUTE,
        "How a top-up stands",
        show_topup,
        TOPUP,
        public=True,
        problems=("not_found", "key_unknown", "key_revoked", "key_missing"),
        tells=("Retry-After",),
        always=_READABLE,
    ),
    Endpoint("GET", ROUTE, "The account's top-ups, newest first", list_topups, page(TOPUP), scope=READ, query=PAGE),
    preflight(ROUTE, "May a page pay here", allow_topup),
    preflight(_STATUS_ROUTE, "May a page see how it stands", allow_status),
)
_OF_PACKS = (
    _buying("GET", PACK_ROUTE, "Buy a fixed pack of credit with a plain GET", get_pack),
    _buying("POST", PACK_ROUTE, "Buy a fixed pack of credit", buy_pack, NOTHING, body_needed=False),
    preflight(PACK_ROUTE, "May a page buy a pack here", allow_pack),
)
ENDPOINTS = (*_OF_ANY_AMOUNT, *_OF_PACKS)


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the routes, with the packs and the tokens of this gateway: none where credit cannot be bought."""
    if deps.topups is None:
        return ()
    offers = topups_of(deps).offers
    names, charges = sorted(offers.rules.packs), [_charge(token) for token in offers.charges]
    return tuple(_detailed(each, names, charges) for each in (ENDPOINTS if names else _OF_ANY_AMOUNT))


def _detailed(endpoint: Endpoint, packs: list[str], charges: list[Mapping[str, str | None]]) -> Endpoint:
    if endpoint.demand is None:
        return endpoint
    schemas = {"name": choice(*packs)} if endpoint.path == PACK_ROUTE else {}
    return replace(endpoint, demand=replace(endpoint.demand, offers=tuple(charges)), path_schemas=schemas)


def _charge(token: Token) -> Mapping[str, str | None]:
    """Return what discovery says of a token: null is an amount that the challenge names."""
    method = "evm" if token.standard == "eip3009" else "tempo"
    what = f"credit, in {token.symbol} on {token.network.caip2}"
    return {
        "intent": "charge",
        "method": method,
        "amount": None,
        "currency": checksum(token.address),
        "description": what,
    }
