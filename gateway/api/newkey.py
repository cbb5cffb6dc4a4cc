"""What an agent asks for when it makes a key: one strict JSON object.

Must not know who asks.  Theory: a scope or a budget that was misread is a right that nobody granted, so every member has
one type and one range, and a member that does not exist is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway.api import examples
from gateway.api.schemas import INTEGER, PRICE_IN, TEXT, maybe, named, optional, record, several
from gateway.core.apikeys import PROXY, SCOPE_TEXT, ScopeError, check_scopes
from gateway.core.money import AmountError, parse_amount
from gateway.core.problems import Problem

MAX_BODY_BYTES = 16 * 1024
MAX_BUDGETS = 8
MAX_NAME_CHARS = 64
MIN_WINDOW_S, MAX_WINDOW_S = 60, 366 * 86_400

RouteNames = Mapping[str, frozenset[str]]
"""The vendors and their routes: a budget for what does not exist would limit nothing."""

BUDGET_BODY = optional(
    record(
        limit=PRICE_IN,
        window_s={**INTEGER, "minimum": MIN_WINDOW_S, "maximum": MAX_WINDOW_S},
        vendor=maybe(TEXT),
        route=maybe(TEXT),
    ),
    "vendor",
    "route",
)
BODY = named(
    "KeyRequest",
    optional(
        record(
            name={**TEXT, "minLength": 1, "maxLength": MAX_NAME_CHARS},
            scopes={
                **several({**TEXT, "pattern": SCOPE_TEXT}),
                "minItems": 1,
                "description": "proxy, proxy:<vendor>, read, keys",
            },
            budgets={**several(BUDGET_BODY), "maxItems": MAX_BUDGETS},
        ),
        "budgets",
    ),
    examples.KEY_BODY,
)


@dataclass(frozen=True, slots=True)
class BudgetAsked:
    """A budget of the new key; `limit_base` is USD."""

    limit_base: int
    window_s: int
    vendor: str | None
    route: str | None


@dataclass(frozen=True, slots=True)
class KeyAsked:
    """The new key."""

    name: str
    scopes: tuple[str, ...]
    budgets: tuple[BudgetAsked, ...]


def parse_key_body(body: bytes, routes: RouteNames) -> KeyAsked:
    """Read the body of POST /v1/keys. Raises Problem("bad_request") that names the member."""
    try:
        document = json.loads(body, object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _bad("the body is not one JSON object, or has a member twice", None) from None
    members = _record(document, "", {"name", "scopes"}, {"budgets"})
    name, scopes, budgets = members["name"], members["scopes"], members.get("budgets", [])
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise _bad(f"name is a text of 1 to {MAX_NAME_CHARS} printable characters", "name")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise _bad("scopes is a list of texts", "scopes")
    try:
        checked = check_scopes(scopes)
    except ScopeError as error:
        raise _bad(str(error), "scopes") from None
    if any(scope.startswith(f"{PROXY}:") and scope.partition(":")[2] not in routes for scope in checked):
        raise _bad("a scope names a vendor that GET /v1/vendors does not", "scopes")
    if not isinstance(budgets, list) or len(budgets) > MAX_BUDGETS:
        raise _bad(f"budgets is a list of at most {MAX_BUDGETS}", "budgets")
    return KeyAsked(name, checked, tuple(_budget(each, f"budgets/{n}", routes) for n, each in enumerate(budgets)))


def _budget(value: object, at: str, routes: RouteNames) -> BudgetAsked:
    members = _record(value, at, {"limit", "window_s"}, {"vendor", "route"})
    try:
        limit_base = parse_amount(members["limit"])
    except AmountError as error:
        raise _bad(f"limit: {error}", f"{at}/limit") from None
    window_s = members["window_s"]
    if type(window_s) is not int or not MIN_WINDOW_S <= window_s <= MAX_WINDOW_S:
        raise _bad(f"window_s is a whole number from {MIN_WINDOW_S} to {MAX_WINDOW_S}", f"{at}/window_s")
    vendor, route = members.get("vendor"), members.get("route")
    if vendor is not None and (not isinstance(vendor, str) or vendor not in routes):
        raise _bad("vendor is the name of a vendor of GET /v1/vendors, or null", f"{at}/vendor")
    if route is not None and (vendor is None or not isinstance(route, str) or route not in routes[vendor]):
        raise _bad("route is the name of a route of that vendor, or null", f"{at}/route")
    return BudgetAsked(limit_base, window_s, vendor, route)


def _record(value: object, at: str, needed: set[str], allowed: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad("must be an object", at or None)
    unknown, missing = value.keys() - needed - allowed, needed - value.keys()
    if unknown:
        raise _bad(f"a member is unknown; known are {', '.join(sorted(needed | allowed))}", at or None)
    if missing:
        raise _bad(f"{', '.join(sorted(missing))} must be given", at or None)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _bad(detail: str, field: str | None) -> Problem:
    return Problem("bad_request", detail, field)
