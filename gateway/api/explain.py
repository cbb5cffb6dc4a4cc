"""`POST /v1/explain-402`: what a vendor's answer means, whether a call would pay it, and why; and nothing is done.

Must not know how meanings are told apart or prices judged: that is the flow's, and a call's own.  Theory: whoever debugs an
agent asks why nothing was paid, so the gateway's judgement can be asked for without its consequences; the answer to be judged
is text from anybody, so every part of it has a size and one spelling.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from multidict import CIMultiDict

from contracts.codec import checksum
from gateway.account_ports import AccountVendor
from gateway.api import examples
from gateway.api.asked import query_of
from gateway.api.auth import require_scope
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.proxy import MAX_TARGET_CHARS
from gateway.api.schemas import AMOUNT, ANY, FLAG, INTEGER, TEXT, choice, maybe, named, optional, record, several
from gateway.core.meaning import Meaning
from gateway.core.money import MAX_AMOUNT_BASE, format_amount
from gateway.core.problems import PROBLEM_BASE, Problem
from gateway.core.routes import Match, Pricing
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.flow.call import Call, Served
from gateway.flow.explain import Explained, Explainer, GivenAnswer, explain_account
from gateway.flow.quote import item_document
from gateway.ports import Vendor
from gateway.rails.offer import AnyOffer
from gateway.vendors.surrogate import digest

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_REQUEST_BODY_BYTES: Final = 64 * 1024
MAX_ANSWER_BODY_BYTES: Final = 512 * 1024
MAX_HEADER_NAMES: Final = 64
MAX_HEADER_VALUES: Final = 128
MAX_HEADER_CHARS: Final = 128 * 1024
MAX_NAME_CHARS: Final = 64

_NAME = re.compile(rf"[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{MAX_NAME_CHARS}}}", re.ASCII)
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_METHOD = re.compile(r"[A-Z]{1,16}", re.ASCII)
_TARGET = re.compile(rf"/[\x21\x22\x24-\x7e]{{0,{MAX_TARGET_CHARS - 1}}}", re.ASCII)
_STATUS_MIN, _STATUS_MAX = 100, 599

RESPONSE_IN = record(status=INTEGER, headers=ANY, body=TEXT)
BODY = named(
    "ExplainRequest",
    optional(
        record(vendor=TEXT, method=TEXT, path=TEXT, request_body=TEXT, response=RESPONSE_IN, after_payment=FLAG),
        "request_body",
        "after_payment",
    ),
    examples.EXPLAIN,
)
CHECK = record(check=TEXT, passed=FLAG, detail=TEXT)
_ANSWER = record(
    meaning=choice(*Meaning),
    would_pay=FLAG,
    why=TEXT,
    rail=maybe(choice("x402", "mpp")),
    amount_base=maybe(TEXT),
    amount=maybe(AMOUNT),
    asset=maybe(TEXT),
    network=maybe(TEXT),
    payee=maybe(TEXT),
    charge=maybe(AMOUNT),
    price_expected=maybe(AMOUNT),
    item=maybe(ANY),
    problem=maybe(TEXT),
    checks=several(CHECK),
)

ANSWER = named("Explanation", _ANSWER, examples.EXPLAINED)


async def explain(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with what a call would make of an answer. Raises Problem for a question that cannot be read."""
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, MAX_BODY_BYTES, deps.settings.body_silence_s)
    members = _members(_document(body), "", {"vendor", "method", "path", "response"}, {"request_body", "after_payment"})
    served = deps.served.get(_text(members["vendor"], "vendor", MAX_NAME_CHARS))
    if served is None:
        raise Problem("vendor_unknown", "there is no such vendor behind this gateway", "vendor")
    require_scope(exchange.granted, f"proxy:{served.name}")
    exchange.vendor = served.name
    match, method, target = _route(served, members)
    request_body = _text(members.get("request_body", ""), "request_body", MAX_REQUEST_BODY_BYTES).encode()
    given = _given(members)
    paid = deps.vendors.get(served.name)
    if paid is None:
        return Told(_document_of(explain_account(_account_vendor(deps, served.name), given), None))
    call = Call(exchange.granted, exchange.request_id, paid, match, method, target, (), request_body)
    explained = await Explainer(deps.store, deps.clock, digest).explain(call, given)
    return Told(_document_of(explained, paid))


def _account_vendor(deps: ApiDeps, name: str) -> AccountVendor:
    assert deps.accounts is not None, "a vendor that is served and not paid by challenges has an account"
    return deps.accounts.vendors[name]


# the question


def _document(body: bytes) -> Any:  # noqa: ANN401 - JSON's own type; its reader checks every member
    try:
        document = parse_json(body)
        if rb"\u" in body:  # half of a surrogate pair can be read, and never be sent
            dump_json(document)
    except (JsonError, UnicodeEncodeError):
        raise _bad("the body is not one JSON object with one meaning", None) from None
    return document


def _members(value: object, at: str, needed: set[str], allowed: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad("must be an object", at or None)
    if value.keys() - needed - allowed:
        raise _bad(f"a member is unknown; known are {', '.join(sorted(needed | allowed))}", at or None)
    if needed - value.keys():
        raise _bad(f"{', '.join(sorted(needed - value.keys()))} must be given", at or None)
    return value


def _text(value: object, at: str, limit_bytes: int) -> str:
    if not isinstance(value, str) or len(value) > limit_bytes or len(value.encode()) > limit_bytes:
        raise _bad(f"must be a text of at most {limit_bytes} bytes", at)
    return value


def _route(served: Served, members: Mapping[str, Any]) -> tuple[Match, str, str]:
    method, target = members["method"], members["path"]
    if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
        raise _bad("must be a method in capitals, such as GET", "method")
    if not isinstance(target, str) or _TARGET.fullmatch(target) is None:
        detail = f"must be path and query as they are sent, percent-encoded, at most {MAX_TARGET_CHARS} characters"
        raise _bad(detail, "path")
    match = served.match(method, target.partition("?")[0])
    if match is None:
        raise Problem("route_not_declared", f"{served.name} has no such route here", "path")
    if match.route.pricing is Pricing.CLOSED:
        raise Problem("route_closed", match.route.reason or "this route is closed here", "path")
    return match, method, target


def _given(members: Mapping[str, Any]) -> GivenAnswer:
    response = _members(members["response"], "response", {"status", "headers", "body"}, set())
    status, after = response["status"], members.get("after_payment", False)
    if type(status) is not int or not _STATUS_MIN <= status <= _STATUS_MAX:
        raise _bad(f"must be a status from {_STATUS_MIN} to {_STATUS_MAX}", "response/status")
    if type(after) is not bool:
        raise _bad("must be true or false", "after_payment")
    body = _text(response["body"], "response/body", MAX_ANSWER_BODY_BYTES).encode()
    return GivenAnswer(status, _headers(response["headers"]), body, after)


def _headers(value: object) -> CIMultiDict[str]:
    at = "response/headers"
    if not isinstance(value, dict) or len(value) > MAX_HEADER_NAMES:
        raise _bad(f"must be an object of at most {MAX_HEADER_NAMES} headers", at)
    headers = CIMultiDict[str]()
    chars = 0
    for name, given in value.items():
        if _NAME.fullmatch(name) is None:
            raise _bad(f"a header's name is a token of 1 to {MAX_NAME_CHARS} characters", at)
        for each in given if isinstance(given, list) else [given]:
            if not isinstance(each, str) or _VALUE.fullmatch(each) is None:
                raise _bad("a header's value is a text without control characters, or a list of such texts", at)
            chars += len(name) + len(each)
            headers.add(name, each)
            if len(headers) > MAX_HEADER_VALUES or chars > MAX_HEADER_CHARS:
                raise _bad(f"at most {MAX_HEADER_VALUES} values, and {MAX_HEADER_CHARS} characters in all", at)
    return headers


def _bad(detail: str, field: str | None) -> Problem:
    return Problem("bad_request", detail if field is None else f"{field}: {detail}", field)


# the answer


def _document_of(found: Explained, vendor: Vendor | None) -> dict[str, Any]:
    offer, quote = found.offer, found.quote
    return {
        "meaning": found.meaning.value,
        "would_pay": found.would_pay,
        "why": found.why,
        "rail": None if offer is None else offer.rail,
        "amount_base": None if offer is None else str(offer.amount_base),
        "amount": None if offer is None or vendor is None else _amount(offer, vendor),
        "asset": None if offer is None or vendor is None else _asset(offer, vendor),
        "network": None if offer is None else offer.wire_network,
        "payee": None if offer is None or not offer.amount_base else checksum(offer.pay_to),
        "charge": None if quote is None else format_amount(quote.hold_base),
        "price_expected": None if found.expected_base is None else format_amount(found.expected_base),
        "item": item_document(found.item),
        "problem": None if found.problem is None else PROBLEM_BASE + found.problem,
        "checks": [{"check": each.check, "passed": each.passed, "detail": each.detail} for each in found.checks],
    }


def _asset(offer: AnyOffer, vendor: Vendor) -> str:
    """Return an offer's token by the name that it has here, by its address where it has none."""
    key = (offer.chain_id, offer.asset)
    return next((token.asset_id for token in vendor.terms.tokens if token.key == key), checksum(offer.asset))


def _amount(offer: AnyOffer, vendor: Vendor) -> str | None:
    """Return an offer's amount as a decimal; None in a token that is not ours, of whose decimals nothing is known."""
    known = any(token.key == (offer.chain_id, offer.asset) for token in vendor.terms.tokens)
    return format_amount(offer.amount_base) if known and offer.amount_base <= MAX_AMOUNT_BASE else None


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/explain-402",
        "What a vendor's answer means, and whether it would be paid; nothing is done",
        explain,
        ANSWER,
        body=BODY,
        problems=("vendor_unknown", "route_not_declared", "route_closed", "body_oversized"),
    ),
)
