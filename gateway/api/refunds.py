"""`/v1/refunds`: unused balance on its way back to the wallet that paid it in.

Must not know chains or tills.  Theory: a request names a receipt and not an address, so nobody can have money sent where it
did not come from; the same Idempotency-Key is the same refund, whatever became of it.
"""

from typing import Any, Final

from contracts.codec import Address, checksum
from gateway.api.asked import idempotency_key, page_of, query_of
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.needs import bad, check_members, parse_object
from gateway.api.once import CREATED, REPLAYED, fingerprint_of
from gateway.api.schemas import (
    ADDRESS,
    AMOUNT,
    HASH,
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
)
from gateway.api.views import hex_or_none, time_or_none
from gateway.core.apikeys import PROXY, READ
from gateway.core.money import AmountError, format_amount, parse_amount
from gateway.core.paid import Refund, RefundState
from gateway.core.problems import Problem
from gateway.core.times import utc_text
from gateway.flow.paid.refunds import RefundAsked, Refunds

MAX_BODY_BYTES = 4 * 1024
BODY_EXAMPLE: Final = {"receipt": "rcv_01M82FFA16Q5BSPEDPY918G55G", "amount": "2.50"}
EXAMPLE: Final = {
    "id": "ref_01M82FFA16Q5BSPEDPY918G55G",
    "created_at": "2026-11-22T20:34:29.011Z",
    "ended_at": None,
    "state": "held",
    "receipt": "rcv_01M82FFA16Q5BSPEDPY918G55G",
    "amount": "2.500000",
    "asset": "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "value": "2.500000",
    "to": "0x8EcBd65228930060363c70854dA7D37d57fFC358",
    "till": "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "transaction": None,
    "valid_before": "2026-11-22T21:34:29.000Z",
    "reason": None,
}
BODY = named(
    "RefundRequest",
    exactly_one(
        optional(
            record(
                receipt={**TEXT, "description": "an id of GET /v1/receipts; this or `topup`"},
                topup={**TEXT, "description": "an order that was credited"},
                amount={**PRICE_IN, "description": "USD; without it, all that can go back"},
            ),
            "receipt",
            "topup",
            "amount",
        ),
        "receipt",
        "topup",
    ),
    BODY_EXAMPLE,
)
REFUND = named(
    "Refund",
    record(
        id=TEXT,
        created_at=TIME,
        ended_at=maybe(TIME),
        state=choice(*RefundState),
        receipt=TEXT,
        amount={**AMOUNT, "description": "USD"},
        asset={**TEXT, "description": "CAIP-19"},
        value={**AMOUNT, "description": "in the token"},
        to=ADDRESS,
        till=ADDRESS,
        transaction=maybe(HASH),
        valid_before={**TIME, "description": "after this it can no longer land; then the hold goes back"},
        reason=maybe(TEXT),
    ),
    EXAMPLE,
)


async def create_refund(deps: ApiDeps, exchange: Exchange) -> Told:
    """Hold what goes back, sign it and send it. Raises Problem."""
    query_of(exchange.query, frozenset())
    claim = idempotency_key(exchange.request)
    if claim is None:
        raise Problem("bad_request", "a refund needs an Idempotency-Key", "Idempotency-Key")
    if exchange.granted.budgets:
        raise Problem("scope_missing", "a key with a budget sends nothing back: a refund is no purchase of its own")
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    receipt_id, topup_id, amount_base = _asked(body)
    refund, repeated = await _refunds(deps).open(
        RefundAsked(
            account_id=exchange.account_id,
            key_id=exchange.granted.id,
            receipt_id=receipt_id,
            topup_id=topup_id,
            amount_base=amount_base,
            client_token=claim,
            fingerprint=fingerprint_of("POST", "/v1/refunds", body),
        )
    )
    return Told(refund_view(refund), CREATED, (REPLAYED,) if repeated else ())


async def list_refunds(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's refunds, the newest first. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    found = await deps.store.refunds_of(exchange.account_id, asked.before, asked.limit + 1)
    entries = [refund_view(refund) for refund in found[: asked.limit]]
    return listed(entries, more=len(found) > asked.limit)


async def show_refund(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with one of the account's refunds. Raises Problem."""
    query_of(exchange.query, frozenset())
    found = await deps.store.refund(exchange.parameters["id"])
    if found is None or found.account_id != exchange.account_id:
        raise Problem("not_found", "there is no such refund of yours")
    return Told(refund_view(found))


def refund_view(refund: Refund) -> dict[str, Any]:
    """Return a refund as its account reads it; its signature stays where it is."""
    return {
        "id": refund.id,
        "created_at": utc_text(refund.created_at_ms),
        "ended_at": time_or_none(refund.ended_at_ms),
        "state": refund.state.value,
        "receipt": refund.receipt_id,
        "amount": format_amount(refund.amount_base),
        "asset": refund.asset,
        "value": format_amount(refund.value_base),
        "to": checksum(Address(refund.to)),
        "till": checksum(Address(refund.till)),
        "transaction": hex_or_none(refund.tx_hash),
        "valid_before": utc_text(refund.valid_before_s * 1000),
        "reason": refund.reason or None,
    }


def _refunds(deps: ApiDeps) -> Refunds:
    assert deps.refunds is not None, "its routes are served only where there are refunds"
    return deps.refunds


def _asked(body: bytes) -> tuple[str | None, str | None, int | None]:
    members = parse_object(body)
    check_members(members, "", ("receipt", "topup", "amount"))
    receipt_id, topup_id, amount = members.get("receipt"), members.get("topup"), members.get("amount")
    if (receipt_id is None) == (topup_id is None):
        raise bad("name a receipt or a topup, one of the two", None)
    for name, value in (("receipt", receipt_id), ("topup", topup_id)):
        if value is not None and not isinstance(value, str):
            raise bad(f"{name} is an id", name)
    try:
        return receipt_id, topup_id, None if amount is None else parse_amount(amount)
    except AmountError as error:
        raise bad(str(error), "amount") from None


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/refunds",
        "Send unused balance back to the wallet that paid it in",
        create_refund,
        REFUND,
        scope=PROXY,
        status=CREATED,
        body=BODY,
        problems=(
            "body_oversized",
            "not_found",
            "idempotency_conflict",
            "insufficient_balance",
            "not_refundable",
            "refund_exceeds_funding",
            "till_short",
            "too_many_open_payments",
            "not_ready",
            "frozen",
            "signing_refused",
        ),
        idempotent_key=True,
        key_needed=True,
    ),
    Endpoint("GET", "/v1/refunds", "The account's refunds", list_refunds, page(REFUND), scope=READ, query=PAGE),
    Endpoint("GET", "/v1/refunds/{id}", "A refund", show_refund, REFUND, scope=READ, problems=("not_found",)),
)


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the routes of a service that sends money back, none of another."""
    return ENDPOINTS if deps.refunds is not None else ()
