"""`/openapi.json`: the API as it is, made from the rows that serve it.

Must not know handlers.  Theory: what is generated from the dispatcher's own table cannot promise a route that is not
there; whatever this gateway does not serve yet is not in it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.api.catalogue import ceiling_of, route_path
from gateway.api.endpoint import Endpoint
from gateway.api.guide import SUMMARY
from gateway.api.proxy import PREFIX
from gateway.api.schemas import AMOUNT, AMOUNT_IN, ANY, INTEGER, PROBLEM, TEXT, TIME, choice
from gateway.core.money import format_amount
from gateway.core.problems import TYPES
from gateway.core.routes import Place, Pricing, Route
from gateway.flow.call import Served

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


_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {"basic": []}]
_COSTING = frozenset({Pricing.PRICED, Pricing.MAYBE, Pricing.METERED})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_OWN_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"schema": TEXT},
    "X-Balance-Available": {"schema": AMOUNT},
    "X-Balance-Low": {
        "schema": TIME,
        "description": "there while the balance is about to run out: when the first thing that runs can end, at the earliest",
    },
}
_PAID_HEADERS: dict[str, dict[str, Any]] = {
    "X-Payment-Id": {"schema": TEXT, "description": "the payment behind this answer: GET /v1/payments/{id}"},
    "X-Charge": {"schema": AMOUNT, "description": "what it costs; of a thing that runs, its first period at most"},
}


def openapi(endpoints: Iterable[Endpoint], vendors: Mapping[str, Served]) -> dict[str, Any]:
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
        "info": {"title": "Agent payment gateway", "version": VERSION, "description": SUMMARY},
        "paths": paths,
        "components": {
            "schemas": {"Problem": {**PROBLEM, "properties": {**PROBLEM["properties"], "code": choice(*TYPES)}}},
            "headers": {**_OWN_HEADERS, **_PAID_HEADERS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "basic": {"type": "http", "scheme": "basic", "description": "the key as user name or password"},
            },
        },
        "security": _SECURITY,
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


def _proxied(vendor: Served, route: Route, method: str) -> dict[str, Any]:
    costs = route.pricing in _COSTING
    operation: dict[str, Any] = {
        "summary": f"{vendor.name}: {route.name}",
        "operationId": f"{vendor.name}-{route.name}-{method.lower()}",
        "parameters": [*_path_parameters(route), *_query_parameters(vendor, route), *_headers_of(route, costs=costs)],
        "x-pricing": route.pricing.value,
        "x-ceiling": format_amount(ceiling_of(vendor, route)) if costs else None,
        "responses": {
            "default": {
                "description": "the vendor's own answer, or a problem of ours",
                "headers": _answer_headers(costs=costs),
                "content": _PROBLEM_CONTENT,
            }
        },
    }
    if route.opens:  # the password in the body, or a key in a header, is an API key
        operation["security"] = [{}, *_SECURITY]
    else:
        operation["x-scope"] = f"proxy:{vendor.name}"
    if route.pricing is Pricing.CLOSED:
        operation |= {"deprecated": True, "description": f"refused here: {route.reason}"}
        return operation
    body = _request_body(route, method)
    return operation if body is None else {**operation, "requestBody": body}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": segment.strip("{}*"), "in": "path", "required": True, "schema": TEXT}
        for segment in route.segments
        if segment.startswith("{")
    ]


def _query_parameters(vendor: Served, route: Route) -> list[dict[str, Any]]:
    """What the query of a route at a vendor account may hold; others pass every query as it is."""
    queries: Mapping[str, frozenset[str]] = getattr(vendor, "queries", {})
    return [{"name": name, "in": "query", "schema": TEXT} for name in sorted(queries.get(route.name, ()))]


def _headers_of(route: Route, *, costs: bool) -> list[dict[str, Any]]:
    if route.pricing in {Pricing.LOCAL, Pricing.CLOSED}:  # figures of now are never kept, and nothing is bought
        return []
    return _PROXY_HEADERS if costs else _PROXY_HEADERS[2:]


def _answer_headers(*, costs: bool) -> dict[str, Any]:
    names = [*_OWN_HEADERS, *(_PAID_HEADERS if costs else ())]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _request_body(route: Route, method: str) -> dict[str, Any] | None:
    """Return what the request carries, as far as the route's row tells it; None for a method that carries nothing."""
    if route.raw:
        return {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    orders = route.pricing is Pricing.METERED or route.split
    if orders or any(ref.place is Place.BODY for ref in route.refs):
        return {"required": orders, "content": {"application/json": {"schema": ANY}}}
    return {"content": {"*/*": {"schema": {}}}} if method in _WITH_BODY else None


def _problems(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(TYPES[code].status, []).append(code)
    return {
        str(status): {"description": ", ".join(found), "content": _PROBLEM_CONTENT}
        for status, found in sorted(by_status.items())
    }
