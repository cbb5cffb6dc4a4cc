"""What the modules of account vendors share: strict bodies, marks in names, exact money, times, verdicts, requests.

Must not know any vendor's routes or words.  Theory: on an account that all agents share, a member that the vendor's
document does not name may reach another agent's thing, so bodies hold what is documented and nothing else; and a thing
whose create was never answered is found again only by the mark that its name carries.
"""

import base64
import binascii
import fractions
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeGuard
from urllib.parse import quote

from gateway.core.money import BASE_PER_UNIT, MAX_AMOUNT_BASE
from gateway.core.payment import Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.routes import Pricing, Route
from gateway.core.strict_json import Fraction, JsonError, dump_json, parse_json
from gateway.core.tariff import MAX_RATE_USD
from gateway.core.times import parse_time_ms
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.judge import UNKNOWN, Verdict
from gateway.vendors.overrides import RouteOverride, with_overrides

__all__ = [
    "JSON_HEADERS",
    "SECRET_PARAMETERS",
    "base_of",
    "choice_in",
    "decimal_text",
    "document_of",
    "integer_in",
    "is_ref",
    "judge_account",
    "jwt_lives_s",
    "mark",
    "read_object",
    "refuse_body",
    "refused",
    "request_to",
    "segment",
    "text_in",
    "time_ms",
    "usd_text",
    "with_ceilings",
]

JSON_HEADERS: Final = (("Content-Type", "application/json"),)
SECRET_PARAMETERS: Final = frozenset({"access_token", "api_key", "apikey", "key", "password", "secret", "token"})
"""Query parameters whose values no record or log may show (for gateway.vendors.query.Scrubber)."""

_REF: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_DATE_CHARS: Final = len("2030-01-31")
_SHOWN_CHARS: Final = 40
_RATE_DECIMALS: Final = 18

_DELIVERED: Final = Verdict(Delivery.DELIVERED, Fault.NONE)
_REFUSED_AGENT: Final = Verdict(Delivery.REFUSED, Fault.AGENT)
_REFUSED_US: Final = Verdict(Delivery.REFUSED, Fault.NONE)
_AGENTS_DOING: Final = frozenset({400, 404, 405, 406, 409, 410, 411, 413, 414, 415, 416, 422})
_OUR_STANDING: Final = frozenset({401, 402, 403, 429})


# Bodies that agents send


def refused(detail: str, field: str) -> Problem:
    """Return the problem to raise for input that the vendor would refuse."""
    return Problem("input_refused", detail, field)


def read_object(body: bytes, members: Collection[str]) -> dict[str, Any]:
    """Return a body that is one JSON object of the documented members; which of them must be there is the caller's.

    Raises Problem("input_refused") for anything else: other members, other spellings, or a text with two readings.
    """
    try:
        document = _parse(body)
    except JsonError as error:
        raise refused(f"the body is {error}", "body") from None
    if not isinstance(document, dict):
        raise refused("the body must be a JSON object", "body")
    spelled = {name.casefold(): name for name in members}
    for name in document:
        if name in members:
            continue
        # Some parsers match names whatever their case and take the last: `PlanId` after `planId` would buy another.
        meant = spelled.get(name.strip().casefold())
        if meant is not None:
            raise refused(f"the member is spelled {meant}", meant)
        raise refused(f"the vendor's document has no member {name[:_SHOWN_CHARS]!a} here", "body")
    return document


def _parse(raw: bytes) -> Any:  # noqa: ANN401 - JSON's own type
    document = parse_json(raw)
    if rb"\u" in raw:
        try:
            dump_json(document)
        except UnicodeEncodeError:  # half a surrogate pair: it can be read, and never be written again
            raise JsonError("a string that is no Unicode text") from None
    return document


def refuse_body(body: bytes) -> None:
    """Raise Problem("input_refused") for a body where the route takes none; an empty object is what clients send."""
    if body and body.strip() != b"{}":
        raise refused("this route takes no body", "body")


def text_in(document: Mapping[str, Any], name: str, pattern: re.Pattern[str], rule: str) -> str:
    """Return a text that matches the pattern whole. Raises Problem("input_refused") with the rule in words."""
    value = document.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise refused(f"{name} must be {rule}", name)
    return value


def choice_in(document: Mapping[str, Any], name: str, choices: Collection[str]) -> str:
    """Return one of the documented texts. Raises Problem("input_refused") with all of them."""
    value = document.get(name)
    if not isinstance(value, str) or value not in choices:
        raise refused(f"{name} must be one of {', '.join(choices)}", name)
    return value


def integer_in(document: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return an integer within bounds. Raises Problem("input_refused"); true and 1.0 are none, though some take them."""
    value = document.get(name)
    if type(value) is not int or not low <= value <= high:
        raise refused(f"{name} must be an integer from {low} to {high}", name)
    return value


# Names that carry our mark


def mark(name: str, token: str, max_len: int) -> str:
    """Return "<name>-<token>" with the name cut to fit. Dots, dashes and underscores at the cut go, for host names."""
    room = max_len - len(token) - 1
    kept = name[: max(room, 0)].rstrip("-._")
    return f"{kept}-{token}" if kept else token


# What answers hold


def document_of(answer: UpstreamResponse) -> Any | None:  # noqa: ANN401 - JSON's own type; every caller checks what it takes
    """Return the JSON document of a whole answer; None for one that is cut off, encoded, or no JSON of one meaning."""
    coding = answer.headers.get("Content-Encoding", "").strip().lower()
    if answer.rest is not None or not answer.delimited or coding not in {"", "identity"}:
        return None
    try:
        return _parse(answer.body)
    except JsonError:
        return None


def judge_account(answer: UpstreamResponse) -> Verdict:
    """Return what a status says at a vendor that knows us by an account; total, never raises.

    REFUSED is certain: nothing was made. AGENT: what it asked is wrong. NONE: the account that all agents share is not
    let in, out of money, suspended, full or too fast (401, 402, 403, 429), which no agent can mend. What a server says
    of its own failure (5xx), or of a request that it may have seen in part (408, 425), is unknown.
    """
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
        return _DELIVERED if answer.rest is None and answer.delimited else UNKNOWN
    if status in _AGENTS_DOING:
        return _REFUSED_AGENT
    return _REFUSED_US if status in _OUR_STANDING else UNKNOWN


def is_ref(value: object) -> TypeGuard[str]:
    """Tell whether a value can be the id of a thing: short, printable, and one segment of a path."""
    return isinstance(value, str) and _REF.fullmatch(value) is not None


def decimal_text(value: object) -> str | None:
    """Return an amount of a document (text or number) as plain decimal text that gateway.core.tariff.rate_of takes.

    Exactly as written, but for decimals past the eighteenth (a float's noise), which are rounded up. None for what is
    no amount, below zero, or above MAX_RATE_USD.
    """
    text = _number(value)
    if text is None:
        return None
    amount = fractions.Fraction(text)
    if not 0 <= amount <= MAX_RATE_USD:
        return None
    scaled = math.ceil(amount * 10**_RATE_DECIMALS)
    whole, decimals = divmod(scaled, 10**_RATE_DECIMALS)
    shown = f"{decimals:0{_RATE_DECIMALS}d}".rstrip("0")
    return f"{whole}.{shown}" if shown else str(whole)


def base_of(value: object) -> int | None:
    """Return an amount of a document in USD base units, rounded down; below zero where the vendor says so; else None."""
    text = _number(value)
    if text is None:
        return None
    amount_base = fractions.Fraction(text) * BASE_PER_UNIT // 1
    return amount_base if abs(amount_base) <= MAX_AMOUNT_BASE else None


def _number(value: object) -> str | None:
    if isinstance(value, Fraction):
        value = value.text
    elif type(value) is int:
        value = str(value)
    return value if isinstance(value, str) and _NUMBER.fullmatch(value) is not None else None


def usd_text(amount_base: int, places: int = 2) -> str:
    """Return base units as decimal USD with at least so many decimals and no zeros past them: 9960000 -> "9.96"."""
    whole, millionths = divmod(abs(amount_base), BASE_PER_UNIT)
    decimals = f"{millionths:06d}".rstrip("0").ljust(places, "0")
    return ("-" if amount_base < 0 else "") + str(whole) + (f".{decimals}" if decimals else "")


def time_ms(value: object) -> int | None:
    """Return an ISO 8601 time with its zone as milliseconds since the epoch; None for anything else.

    Some write a blank where RFC 3339 has its T.
    """
    if not isinstance(value, str):
        return None
    text = f"{value[:_DATE_CHARS]}T{value[_DATE_CHARS + 1 :]}" if value[_DATE_CHARS : _DATE_CHARS + 1] == " " else value
    try:
        return parse_time_ms(text)
    except ValueError:
        return None


def jwt_lives_s(token: str) -> int | None:
    """Return how long a JWT says that it lives (exp less iat), None for a token that does not say. Proves nothing."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""  # noqa: PLR2004 - a JWS has three parts, RFC 7515
    try:
        claims = parse_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (JsonError, binascii.Error, ValueError):
        return None
    times = (claims.get("exp"), claims.get("iat")) if isinstance(claims, dict) else (None, None)
    expires_s, issued_s = times
    if type(expires_s) is not int or type(issued_s) is not int:
        return None
    return expires_s - issued_s if expires_s > issued_s else None


# Requests of our own, and routes


def segment(ref: str) -> str:
    """Return an id as one segment of a path."""
    return quote(ref, safe="")


def request_to(method: str, target: str, document: Any | None = None) -> UpstreamRequest:  # noqa: ANN401 - JSON's own type
    """Return a request of ours, with a JSON body where a document is given. A GET may be sent twice."""
    if document is None:
        return UpstreamRequest(method, target, may_resend=method == "GET")
    return UpstreamRequest(method, target, JSON_HEADERS, dump_json(document), may_resend=method == "GET")


def with_ceilings(
    routes: Iterable[Route], overrides: Mapping[str, RouteOverride], ceiling_base: int | None = None
) -> tuple[Route, ...]:
    """Return the routes with the operator's ceilings (USD base units in a period) on metered ones.

    `ceiling_base`, where given, is that of metered routes without an override. Raises ValueError, naming the route, for
    any other route, and for what has no meaning without a challenge.
    """
    table = tuple(
        replace(route, ceiling_base=ceiling_base)
        if ceiling_base is not None and route.pricing is Pricing.METERED
        else route
        for route in routes
    )
    metered = {route.name for route in table if route.pricing is Pricing.METERED}
    for name, override in overrides.items():
        if name not in metered:
            raise ValueError(f"{name}: not a metered route; there are {', '.join(sorted(metered)) or 'none'}")
        if override.window is not None or override.represent is not None:
            raise ValueError(f"{name}: an account vendor's route takes a ceiling alone")
    return with_overrides(table, overrides)
