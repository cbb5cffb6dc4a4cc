"""The vendors' own routes in the OpenAPI document, as far as their rows tell of them.

Must not know vendors' bodies.  Theory: what a vendor answers is its own document's to say; what the gateway adds to it, and
what it may cost, stands in the same row that decides both.
"""

from typing import Any

from gateway.api.catalogue import ceiling_of
from gateway.api.openapi_parts import (
    IDEMPOTENCY_KEY,
    MAX_CHARGE,
    OWN_HEADERS,
    PAID_HEADERS,
    Document,
    header_refs,
    problem_answer,
)
from gateway.api.schemas import ANY, TEXT, choice
from gateway.core.money import format_amount
from gateway.core.routes import Place, Pricing, Route
from gateway.flow.call import Served

_COSTING = frozenset({Pricing.PRICED, Pricing.MAYBE, Pricing.METERED})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_PREFER: Document = {
    "name": "Prefer",
    "in": "header",
    "schema": choice("quote"),
    "description": "answer with the price, spend nothing",
}
_HEADERS = (MAX_CHARGE, _PREFER, IDEMPOTENCY_KEY)


def proxied(vendor: Served, route: Route, method: str, security: list[dict[str, list[str]]]) -> Document:
    """Return the operation of one method of a vendor's route. `security` are the ways to show a key."""
    costs = route.pricing in _COSTING
    operation: Document = {
        "summary": f"{vendor.name}: {route.name}",
        "operationId": f"{vendor.name}-{route.name}-{method.lower()}",
        "tags": [tag_of(vendor)],
        "parameters": [*_path_parameters(route), *_query_parameters(vendor, route), *_headers_of(route, costs=costs)],
        "x-pricing": route.pricing.value,
        "x-ceiling": format_amount(ceiling_of(vendor, route)) if costs else None,
        "responses": {
            "default": {
                "description": "the vendor's own answer",
                "headers": header_refs((*OWN_HEADERS, *(PAID_HEADERS if costs else ()))),
                "content": {"*/*": {"schema": {}}},
            },
            "4XX": problem_answer("a problem of ours, or the vendor's own refusal"),
            "5XX": problem_answer("a problem of ours, or the vendor's own failure"),
        },
    }
    if route.opens:  # the password in the body, or a key in a header, is an API key
        operation["security"] = [{}, *security]
    else:
        operation["x-scope"] = f"proxy:{vendor.name}"
    if route.pricing is Pricing.CLOSED:
        return {**operation, "deprecated": True, "description": f"refused here: {route.reason}"}
    body = _request_body(route, method)
    return operation if body is None else {**operation, "requestBody": body}


def tag_of(vendor: Served) -> str:
    """Return the name under which a vendor's operations stand together."""
    return f"proxy: {vendor.name}"


def _path_parameters(route: Route) -> list[Document]:
    return [
        {"name": segment.strip("{}*"), "in": "path", "required": True, "schema": TEXT}
        for segment in route.segments
        if segment.startswith("{")
    ]


def _query_parameters(vendor: Served, route: Route) -> list[Document]:
    """What the query of a route at a vendor account may hold; others pass every query as it is."""
    queries: dict[str, frozenset[str]] = getattr(vendor, "queries", {})
    return [{"name": name, "in": "query", "schema": TEXT} for name in sorted(queries.get(route.name, ()))]


def _headers_of(route: Route, *, costs: bool) -> list[Document]:
    if route.pricing in {Pricing.LOCAL, Pricing.CLOSED}:  # figures of now are never kept, and nothing is bought
        return []
    return list(_HEADERS) if costs else [IDEMPOTENCY_KEY]


def _request_body(route: Route, method: str) -> dict[str, Any] | None:
    """Return what the request carries, as far as the route's row tells it; None for a method that carries nothing."""
    if route.raw:
        return {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    orders = route.pricing is Pricing.METERED or route.split
    if orders or any(ref.place is Place.BODY for ref in route.refs):
        return {"required": orders, "content": {"application/json": {"schema": ANY}}}
    return {"content": {"*/*": {"schema": {}}}} if method in _WITH_BODY else None
