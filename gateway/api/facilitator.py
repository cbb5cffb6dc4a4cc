"""The facilitator's routes: verify, settle, what is supported, what there is to buy.

Must not know how payments are judged or collected. Theory: stock sellers take any status but 200 for a broken facilitator and
lose what it said, so whatever was decided about a payment is a 200 with a reason code, and another status speaks of the
request alone: no JSON object, no key, too often, or nothing known at all.
"""

import re
from typing import Any, Final

from contracts.codec import checksum, to_hex
from gateway.api.asked import query_of
from gateway.api.auth import own_key
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.needs import parse_object
from gateway.api.schemas import ADDRESS, ANY, FLAG, INTEGER, TEXT, Schema, choice, named, optional, record, several
from gateway.core.apikeys import SETTLE
from gateway.core.problems import Problem
from gateway.facilitator.discovery import DEFAULT_LIMIT, FILTERS, MAX_LIMIT, Wanted, find
from gateway.facilitator.door import FacilitatorDoor, require_seller
from gateway.facilitator.local import refused
from gateway.paid_ports import FacilitatorUnknown, Rejected, Settled
from gateway.rails.x402.reasons import Reason

MAX_BODY_BYTES: Final = 256 * 1024  # a payment of 64 KiB as its header was, unpacked, and what it is to pay
_COUNT = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)

PAYMENT_BODY: Schema = named(
    "X402Request",
    {
        "type": "object",
        "properties": {
            "x402Version": {"description": "1 or 2"},
            "paymentPayload": {"description": "what came in PAYMENT-SIGNATURE or X-PAYMENT, decoded"},
            "paymentRequirements": {"description": "the entry of `accepts` that it is to pay"},
        },
        "description": "an object of whatever members; what is no payment is answered as an invalid one",
    },
)
VERDICT: Schema = named(
    "X402Verdict",
    optional(
        record(isValid=FLAG, payer=ADDRESS, invalidReason=TEXT, invalidMessage=TEXT),
        "payer",
        "invalidReason",
        "invalidMessage",
    ),
)
SETTLEMENT: Schema = named(
    "X402Settlement",
    optional(
        record(
            success=FLAG,
            transaction={**TEXT, "description": "the hash, empty where nothing was sent"},
            network=TEXT,
            payer=ADDRESS,
            errorReason={**TEXT, "description": "settlement_pending: it may still land, so nothing may be signed anew"},
            errorMessage=TEXT,
            amount=TEXT,
        ),
        "payer",
        "errorReason",
        "errorMessage",
        "amount",
    ),
)
_KIND = optional(record(x402Version=INTEGER, scheme=TEXT, network=TEXT, extra=ANY), "extra")
SUPPORTED: Schema = named(
    "X402Supported",
    record(
        kinds=several(_KIND),
        extensions=several(TEXT),
        signers={"type": "object", "additionalProperties": several(ADDRESS)},
    ),
)
RESOURCES: Schema = named(
    "X402Resources",
    record(
        x402Version=INTEGER,
        items=several(
            optional(
                record(
                    resource=TEXT,
                    type=choice("http"),
                    x402Version=INTEGER,
                    accepts=several(ANY),
                    lastUpdated=INTEGER,
                    extensions=ANY,
                    metadata=ANY,
                ),
                "extensions",
                "metadata",
            )
        ),
        pagination=record(limit=INTEGER, offset=INTEGER, total=INTEGER),
    ),
)


async def verify(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer POST /facilitator/verify."""
    door, parts = await _asked(deps, exchange)
    exact = door.facilitator.read(*parts)
    if isinstance(exact, Rejected):
        return Told(_verdict(exact))
    caller = _caller(deps, exchange)
    if not caller:
        deps.keyless.count(deps.callers.address(exchange.request), deps.clock.now_ms())
    door.count(exact, caller)
    try:
        return Told(_verdict(await door.facilitator.verify_exact(exact)))
    except FacilitatorUnknown:
        payer = exact.authorization.authorizer
        return Told(_verdict(Rejected(Reason.VERIFY_UNKNOWN, "the chain does not answer now; ask again", payer)))


async def settle(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer POST /facilitator/settle."""
    require_seller(deps.store, exchange.account_id)
    door, parts = await _asked(deps, exchange)
    exact = door.facilitator.read(*parts)
    if isinstance(exact, Rejected):
        return Told(_settlement(refused(exact, parts[2])))
    door.count(exact, exchange.account_id)
    try:
        return Told(_settlement(await door.facilitator.settle_exact(exact, exchange.account_id)))
    except FacilitatorUnknown as error:
        detail = "what became of the payment is not known: send the same request again, and sign nothing anew"
        raise Problem("settlement_pending", detail) from error


async def supported(deps: ApiDeps, _: Exchange) -> Told:
    """Answer GET /facilitator/supported."""
    return Told(await _door(deps).facilitator.supported())


async def discovered(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer GET /facilitator/discovery/resources."""
    return Told(find(_door(deps).sellable(), _wanted(query_of(exchange.query, FILTERS))))


async def health(_: ApiDeps, __: Exchange) -> Told:
    """Answer GET /facilitator/health."""
    return Told({"status": "ok"})


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the facilitator's routes; none where there is none. Who may verify without a key is the operator's choice."""
    return () if deps.facilitator is None else rows(public=deps.facilitator.public)


def rows(*, public: bool) -> tuple[Endpoint, ...]:
    """Return the routes. `public`: whether verifying takes no key."""
    word = {**TEXT, "pattern": "^[!-~]{1,128}$"}
    return (
        Endpoint(
            "POST",
            "/facilitator/verify",
            "Whether an x402 payment could be collected now",
            verify,
            VERDICT,
            scope=None if public else SETTLE,
            public=public,
            body=PAYMENT_BODY,
            problems=("bad_request", "body_oversized", "too_many_calls"),
        ),
        Endpoint(
            "POST",
            "/facilitator/settle",
            "Collect an x402 payment, once; a repeat gets the first answer",
            settle,
            SETTLEMENT,
            scope=SETTLE,
            body=PAYMENT_BODY,
            problems=("bad_request", "body_oversized", "too_many_calls", "seller_required", "settlement_pending"),
        ),
        Endpoint("GET", "/facilitator/supported", "Which payments are collected", supported, SUPPORTED, public=True),
        Endpoint(
            "GET",
            "/facilitator/discovery/resources",
            "What can be bought here with x402",
            discovered,
            RESOURCES,
            public=True,
            query=FILTERS,
            query_schemas={
                **dict.fromkeys(FILTERS, word),
                "limit": _number(1, MAX_LIMIT),
                "offset": _number(0, 999_999),
            },
            problems=("bad_request",),
        ),
        Endpoint(
            "GET",
            "/facilitator/health",
            "Whether the facilitator is there",
            health,
            record(status=choice("ok")),
            public=True,
        ),
    )


def _number(least: int, most: int) -> Schema:
    return {**INTEGER, "minimum": least, "maximum": most}


def _door(deps: ApiDeps) -> FacilitatorDoor:
    assert deps.facilitator is not None, "its routes are served only where there is a facilitator"
    return deps.facilitator


def _caller(deps: ApiDeps, exchange: Exchange) -> str:
    """Return whose call it is, "" where that takes no key and none came."""
    key = exchange.key or own_key(exchange.request, deps.store.view.keys_by_digest)
    return "" if key is None else key.account_id


async def _asked(deps: ApiDeps, exchange: Exchange) -> tuple[FacilitatorDoor, tuple[object, object, object]]:
    """Return version, payload and requirements as they came. Raises Problem for a body that is no JSON object."""
    body = parse_object(await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s))
    return _door(deps), (body.get("x402Version"), body.get("paymentPayload"), body.get("paymentRequirements"))


def _verdict(found: Rejected | bytes) -> dict[str, Any]:
    if not isinstance(found, Rejected):
        return {"isValid": True, "payer": checksum(found)}
    told: dict[str, Any] = {"isValid": False, "invalidReason": found.reason, "invalidMessage": found.message}
    return told if found.payer is None else {**told, "payer": checksum(found.payer)}


def _settlement(found: Settled) -> dict[str, Any]:
    """Return the protocol's words for it; members that say nothing are left out, for some readers refuse nulls."""
    told: dict[str, Any] = {
        "success": found.success,
        "transaction": "" if found.tx_hash is None else to_hex(found.tx_hash),
        "network": found.network,
    }
    if found.payer is not None:
        told["payer"] = checksum(found.payer)
    if found.success and found.amount_base is not None:
        told["amount"] = str(found.amount_base)
    if not found.success:
        told |= {"errorReason": found.reason, "errorMessage": found.message}
    return told


def _wanted(query: dict[str, str]) -> Wanted:
    for name, value in query.items():
        if name not in {"limit", "offset"} and _WORD.fullmatch(value) is None:
            raise Problem("bad_request", f"{name} is 1 to 128 visible ASCII characters", name)
    return Wanted(
        kind=query.get("type"),
        pay_to=query.get("payTo"),
        scheme=query.get("scheme"),
        network=query.get("network"),
        extensions=tuple(filter(None, query.get("extensions", "").split(","))),
        limit=_count(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        offset=_count(query, "offset", 0, 0, 999_999),
    )


def _count(query: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if _COUNT.fullmatch(text) is None or not least <= int(text) <= most:
        raise Problem("bad_request", f"{name} is a number from {least} to {most}", name)
    return int(text)
