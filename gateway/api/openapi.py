"""`/openapi.json`: the API as it is, made from the rows that serve it.

Must not know handlers.  Theory: what is generated from the dispatcher's own table cannot promise a route that is not
there; whatever this gateway does not serve yet is not in it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway import __version__
from gateway.api.catalogue import route_path
from gateway.api.endpoint import Endpoint
from gateway.api.guide import SUMMARY
from gateway.api.openapi_parts import (
    HEADERS,
    IDEMPOTENCY_KEY,
    MAX_CHARGE,
    OF_A_VENDOR_CALL,
    OWN_HEADERS,
    PAID_HEADERS,
    PAYMENTS,
    REPLAYED_HEADER,
    Document,
    Parts,
    header_refs,
)
from gateway.api.openapi_proxy import proxied, tag_of
from gateway.api.proxy import PREFIX
from gateway.api.schemas import PROBLEM, TEXT, choice
from gateway.core.problems import TYPES
from gateway.flow.call import Served

VERSION: Final = __version__
STREAM_TYPE: Final = "text/event-stream"
NO_CONTENT: Final = 204
DEMANDED: Final = 402
_ALWAYS = ("bad_request", "overloaded", "shutting_down", "internal")
_WITH_KEY = ("key_missing", "key_unknown", "key_revoked", "scope_missing")
_OF_CLAIMS = ("idempotency_conflict",)
_OF_BODIES = ("body_oversized",)
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {"basic": []}]
_SERVICE: Final = "service"
_PAGE_SCHEMAS: Mapping[str, Document] = {
    "after": {"type": "string", "pattern": "^[!-~]{1,512}$", "description": "`next` of the page before"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 200},
}


def openapi(endpoints: Iterable[Endpoint], vendors: Mapping[str, Served]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of our own routes and of every vendor's below the proxy."""
    parts, paths, tags = Parts(), dict[str, Document](), dict[str, str]()
    parts.of({**PROBLEM, "properties": {**PROBLEM["properties"], "code": choice(*TYPES)}, "title": "Problem"})
    for endpoint in endpoints:
        tags[_tag(endpoint)] = "this process" if _tag(endpoint) == _SERVICE else f"/v1/{_tag(endpoint)}"
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, parts)
    for _, vendor in sorted(vendors.items()):
        tags[tag_of(vendor)] = f"{vendor.name}'s own API, below {PREFIX}{vendor.name}"
        for route in vendor.routes:
            place = paths.setdefault(f"{PREFIX}{vendor.name}{route_path(route)}", {})
            for method in route.methods:
                place.setdefault(method.lower(), proxied(vendor, route, method, _SECURITY))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Agent payment gateway", "version": VERSION, "description": SUMMARY},
        "x-service-info": {
            "categories": ["compute", "payments"],
            "docs": {"apiReference": "/openapi.json", "llms": "/llms.txt"},
        },
        "servers": [{"url": "/", "description": "where this document came from"}],
        "tags": [{"name": name, "description": what} for name, what in tags.items()],
        "paths": paths,
        "components": {
            "schemas": parts.schemas,
            "responses": parts.responses,
            "headers": HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "basic": {"type": "http", "scheme": "basic", "description": "the key as user name or password"},
            },
        },
        "security": _SECURITY,
    }


def operation_id(endpoint: Endpoint) -> str:
    """Return the name of an operation: its handler's."""
    return endpoint.handler.__name__.strip("_")


def _operation(endpoint: Endpoint, parts: Parts) -> Document:
    operation: Document = {
        "summary": endpoint.summary,
        "operationId": operation_id(endpoint),
        "tags": [_tag(endpoint)],
        "parameters": _parameters(endpoint),
        "responses": {**_answers(endpoint, parts), **_refusals(endpoint, parts)},
    }
    if endpoint.demand is not None and endpoint.demand.offers:
        operation["x-payment-info"] = {"offers": [dict(offer) for offer in endpoint.demand.offers]}
    if endpoint.public:
        operation["security"] = []
    if endpoint.scope is not None:
        operation["x-scope"] = endpoint.scope
    if endpoint.body is not None:
        content = parts.content(endpoint.body_type, endpoint.body)
        operation["requestBody"] = {"required": endpoint.body_needed, "content": content}
    return operation


def _tag(endpoint: Endpoint) -> str:
    return endpoint.segments[1] if endpoint.segments[0] == "v1" else _SERVICE


def _codes(endpoint: Endpoint) -> tuple[str, ...]:
    return (
        *_ALWAYS,
        *(() if endpoint.public else _WITH_KEY),
        *(_OF_CLAIMS if endpoint.idempotent_key else ()),
        *(_OF_BODIES if endpoint.body is not None else ()),
        *(("price_above_max_charge",) if endpoint.capped else ()),
        *(OF_A_VENDOR_CALL if endpoint.asks_vendor else ()),
        *endpoint.problems,
    )


def _refusals(endpoint: Endpoint, parts: Parts) -> Document:
    codes = _codes(endpoint)
    if endpoint.demand is None:
        return parts.problems(codes)
    paying = [code for code in codes if TYPES[code].status == DEMANDED]
    problems = parts.problems(code for code in codes if code not in paying)
    why = "; ".join((endpoint.demand.why, *(("or " + ", ".join(paying),) if paying else ())))
    return dict(sorted({**problems, str(DEMANDED): parts.demanded(why, endpoint.demand.tells)}.items()))


def _parameters(endpoint: Endpoint) -> list[Document]:
    parameters: list[Document] = [
        {
            "name": segment[1:-1],
            "in": "path",
            "required": True,
            "schema": endpoint.path_schemas.get(segment[1:-1], {**TEXT, "minLength": 1}),
        }
        for segment in endpoint.segments
        if segment.startswith("{")
    ]
    schemas = {**_PAGE_SCHEMAS, **endpoint.query_schemas}
    parameters += [
        {"name": name, "in": "query", "required": name in endpoint.query_needed, "schema": schemas.get(name, TEXT)}
        for name in sorted(endpoint.query)
    ]
    if endpoint.idempotent_key:
        parameters.append({**IDEMPOTENCY_KEY, "required": True} if endpoint.key_needed else IDEMPOTENCY_KEY)
    if endpoint.capped:
        parameters.append(MAX_CHARGE)
    if endpoint.demand is not None:
        parameters += [
            {"name": name, "in": "header", "schema": TEXT, "description": PAYMENTS[name]}
            for name in endpoint.demand.takes
        ]
    return parameters


def _answers(endpoint: Endpoint, parts: Parts) -> Document:
    names = (
        *(() if endpoint.public else OWN_HEADERS),
        *(PAID_HEADERS if endpoint.capped else ()),
        *((REPLAYED_HEADER,) if endpoint.idempotent_key else ()),
        *endpoint.tells,
    )
    answer: Document = {"description": endpoint.summary, "headers": header_refs(names)}
    if endpoint.status != NO_CONTENT:
        answer["content"] = parts.content(endpoint.media_type, endpoint.answer)
        if endpoint.streams:
            answer["content"][STREAM_TYPE] = {"schema": {**TEXT, "description": "server-sent events, as they happen"}}
    return {str(status): answer for status in sorted({endpoint.status, *endpoint.also})}
