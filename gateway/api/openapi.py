"""`/openapi.json` and `/llms.txt`: the API as it is, made from the rows that serve it.

Must not know handlers.  Theory: what is generated from the dispatcher's own table cannot promise a route that is not
there; whatever this gateway does not serve yet is not in it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.api.catalogue import route_path
from gateway.api.endpoint import Endpoint
from gateway.api.proxy import PREFIX
from gateway.api.schemas import AMOUNT_IN, INTEGER, PROBLEM, TEXT, choice
from gateway.core.money import format_amount
from gateway.core.problems import TYPES
from gateway.core.routes import Pricing, Route
from gateway.ports import Vendor

VERSION = "0.1.0"
_PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ALWAYS = ("bad_request", "overloaded", "shutting_down", "internal")
_WITH_KEY = ("key_missing", "key_unknown", "key_revoked", "scope_missing")
_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "the same key and request again get the same answer",
}
_PROXY_HEADERS = [
    {
        "name": "X-Max-Charge",
        "in": "header",
        "schema": AMOUNT_IN,
        "description": "USD; a dearer call is refused unpaid",
    },
    {
        "name": "Prefer",
        "in": "header",
        "schema": choice("quote"),
        "description": "answer with the price, spend nothing",
    },
    _IDEMPOTENCY_KEY,
]


def openapi(endpoints: Iterable[Endpoint], vendors: Mapping[str, Vendor]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of our own routes and of every vendor's below the proxy."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    for _, vendor in sorted(vendors.items()):
        for route in vendor.routes:
            place = paths.setdefault(f"{PREFIX}{vendor.name}{route_path(route)}", {})
            for method in route.methods:
                place.setdefault(method.lower(), _proxied(vendor, route, method))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Agent payment gateway", "version": VERSION, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {"Problem": {**PROBLEM, "properties": {**PROBLEM["properties"], "code": choice(*TYPES)}}},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "basic": {"type": "http", "scheme": "basic", "description": "the key as user name or password"},
            },
        },
        "security": [{"bearer": []}, {"header": []}, {"basic": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    codes = (*_ALWAYS, *(() if endpoint.public else _WITH_KEY), *endpoint.problems)
    parameters: list[dict[str, Any]] = [
        {"name": segment[1:-1], "in": "path", "required": True, "schema": TEXT}
        for segment in endpoint.segments
        if segment.startswith("{")
    ]
    parameters += [
        {"name": name, "in": "query", "schema": INTEGER if name == "limit" else TEXT} for name in sorted(endpoint.query)
    ]
    if endpoint.idempotent_key:
        parameters.append(_IDEMPOTENCY_KEY)
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": {
            str(endpoint.status): {
                "description": endpoint.summary,
                "content": {endpoint.media_type: {"schema": endpoint.answer}},
            },
            **_problems(codes),
        },
    }
    if endpoint.public:
        operation["security"] = []
    if endpoint.scope is not None:
        operation["x-scope"] = endpoint.scope
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return operation


def _proxied(vendor: Vendor, route: Route, method: str) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": segment.strip("{}*"), "in": "path", "required": True, "schema": TEXT}
        for segment in route.segments
        if segment.startswith("{")
    ]
    priced = route.pricing is not Pricing.FREE
    return {
        "summary": f"{vendor.name}: {route.name}",
        "operationId": f"{vendor.name}-{route.name}-{method.lower()}",
        "parameters": parameters + (_PROXY_HEADERS if priced else _PROXY_HEADERS[2:]),
        "x-scope": f"proxy:{vendor.name}",
        "x-pricing": route.pricing.value,
        "x-ceiling": format_amount(route.ceiling_base) if priced else None,
        "responses": {
            "default": {"description": "the vendor's own answer, or a problem of ours", "content": _PROBLEM_CONTENT}
        },
    }


def _problems(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(TYPES[code].status, []).append(code)
    return {
        str(status): {"description": ", ".join(found), "content": _PROBLEM_CONTENT}
        for status, found in sorted(by_status.items())
    }


_DESCRIPTION = (
    "One key and one prepaid balance for servers that are sold for crypto. Send a vendor's own requests to "
    "/proxy/<vendor>; the gateway answers its 402 from your balance. The money is held until the vendor collects it on "
    "chain, and goes back if it never does."
)


def llms_text(vendors: Mapping[str, Vendor]) -> str:
    """Return what a language model needs to use this gateway, on one page."""
    names = "\n".join(f"- {PREFIX}{name}: {len(vendor.routes)} routes" for name, vendor in sorted(vendors.items()))
    return f"""# Agent payment gateway

> {_DESCRIPTION}

Send your API key as `Authorization: Bearer <key>`, as `X-Api-Key`, or as the user name of the base URL.
Amounts are decimal strings in USD, such as "9.990000". Errors are RFC 9457 problem documents: branch on `type`.

## Vendors

{names}

Use a vendor's own documentation, with its origin replaced by the path above.

## Spend with care

- `Prefer: quote` answers with the price and spends nothing.
- `X-Max-Charge: 5.00` refuses anything dearer.
- `Idempotency-Key` makes a retry safe; an identical request whose answer you never got attaches to the first anyway.
- Answers say `X-Payment-Id`, `X-Charge` and `X-Balance-Available`.
- Status 504 `outcome_unknown`: send the same request again; you are not charged twice.

## Look

- GET /v1/balance, /v1/statement, /v1/payments, /v1/payments/{{id}}, /v1/resources, /v1/vendors, /v1/keys
- GET /openapi.json for all of it
"""
