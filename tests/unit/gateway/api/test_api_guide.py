"""llms.txt and agent.json, line by line against the routes as they are: what they name exists, and takes what they show."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from jsonschema import Draft202012Validator

from gateway.api.endpoint import Endpoint, Table
from gateway.api.guide import agent_document, llms_text
from gateway.api.needs import NEED_MEMBERS
from gateway.api.openapi_parts import HEADERS, IDEMPOTENCY_KEY, MAX_CHARGE
from gateway.core.events import is_pattern
from gateway.core.problems import TYPES
from gateway.core.server import FINAL, ServerState
from gateway.server_ports import Feature, ServerVendor
from gateway.vendor_servers import make_servers
from tests.unit.gateway.api.bed import Bed
from tests.unit.gateway.test_vendor_servers import MODULES

SERVERS: dict[str, ServerVendor] = {
    name: made for name, module in MODULES.items() if (made := make_servers(module)) is not None
}
TEXT = llms_text((), MODULES, SERVERS)
_ROUTE = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)`?\s+(?:and `PUT\s+)?(/(?:v1|openapi)[^\s`)]*)")
_BODY = re.compile(r"(POST|PATCH)\s+(/v1[^\s`]*)`?(?: with `Idempotency-Key:\s+[^`]*`)?\s*")
_PLACEHOLDER = re.compile(r"\{[a-z]+\}|<[a-z]+>|[a-z]+_\.\.\.")


def _find(bed: Bed, method: str, target: str) -> tuple[Endpoint, str]:
    path, _, query = target.rstrip(".,;:").partition("?")
    found = Table.find(bed.server.api.table, _PLACEHOLDER.sub("x", path))
    assert found is not None, f"{method} {target}: there is no such route"
    assert method in found.by_method, f"{method} {target}: {sorted(found.by_method)}"
    return found.by_method[method], query


def _bodies() -> Iterator[tuple[str, str, Any]]:
    """Yield each body that stands behind the route that takes it."""
    for match in _BODY.finditer(TEXT):
        rest = TEXT[match.end() :]
        if rest.startswith("{"):
            yield match[1], match[2], _document(rest)


def _document(text: str) -> Any:
    """Return the JSON object that a text begins with; {...} stands for an object that is shown elsewhere."""
    text = text.replace("{...}", "{}")
    document, _ = json.JSONDecoder().raw_decode(text)
    return document


async def test_every_route_that_it_names_is_served(bed: Bed) -> None:
    """With the query parameters that it shows."""
    named = _ROUTE.findall(TEXT)
    assert len(named) > 30
    for method, target in named:
        endpoint, query = _find(bed, method, target)
        assert {name for name, _ in parse_qsl(query)} <= endpoint.query, target


async def test_every_collection_below_all_yours_is_a_list(bed: Bed) -> None:
    """An agent that lost its notes finds everything again."""
    line = next(line for line in TEXT.splitlines() if line.startswith("All yours:"))
    paths = re.findall(r"`(?:GET )?(/v1/[^`?]*)", line)
    assert len(paths) == 5
    for path in paths:
        endpoint, _ = _find(bed, "GET", path)
        assert "entries" in endpoint.answer["properties"]


async def test_every_body_that_it_shows_fits_its_route(bed: Bed) -> None:
    """Its members exist there and have the right form; texts that stand for something (with ...) may be anything."""
    tried = 0
    for method, target, document in _bodies():
        endpoint, _ = _find(bed, method, target)
        assert endpoint.body is not None
        assert document.keys() <= endpoint.body["properties"].keys(), target
        for name, value in document.items():
            if not (isinstance(value, str) and "..." in value) and value != {}:
                errors = list(Draft202012Validator(endpoint.body["properties"][name]).iter_errors(value))
                assert errors == [], (target, name)
        tried += 1
    assert tried >= 9


@pytest.mark.parametrize("what", ["A need may have", "Other filters:"])
async def test_what_may_be_asked_for_is_told_whole(bed: Bed, what: str) -> None:
    """Every member of a need, and every filter of the list of plans."""
    line = TEXT[TEXT.index(what) :].partition("Or send")[0].partition("\n")[0]
    if what == "A need may have":
        assert all(re.search(rf"\b{name}\b", line) for name in NEED_MEMBERS)
    else:
        endpoint, _ = _find(bed, "GET", "/v1/plans")
        whole = next(each for each in TEXT.splitlines() if what in each)
        assert all(name in whole for name in endpoint.query - {"after", "limit", "sort"})


def test_the_states_are_the_states() -> None:
    """Those that end come behind "Ended", the others before it; each is told."""
    line = next(line for line in TEXT.splitlines() if line.startswith("States:"))
    before, _, after = line.partition("Ended:")
    assert set(re.findall(r"[a-z_]+", before.removeprefix("States:"))) == set(ServerState) - FINAL
    assert set(re.findall(r"[a-z_]+", after)) >= FINAL


def test_the_problems_and_headers_are_the_apis() -> None:
    """Each code stands with its status; each header is one that is sent or read."""
    named = re.findall(r"\b(\d{3})(?: or (\d{3}))? `([a-z_]+)`", TEXT)
    assert len(named) >= 6
    for first, second, code in named:
        assert str(TYPES[code].status) in {first, second}, code
    known = {*HEADERS, IDEMPOTENCY_KEY["name"], MAX_CHARGE["name"], "X-Api-Key", "Last-Event-ID"}
    assert set(re.findall(r"\b(?:X|Idempotency|Retry|Last)-[A-Za-z-]+", TEXT)) <= known
    assert all(is_pattern(each) for each in re.findall(r'"([a-z]+\.\*)"', TEXT))
    assert all(
        is_pattern(each) for each in re.findall(r"`([a-z]+\.[a-z_]+)`", TEXT) if each.partition(".")[0] == "server"
    )


def test_what_each_vendor_can_do_is_its_features() -> None:
    """From the data that decides it, and from nothing else."""
    for name, vendor in SERVERS.items():
        line = next(line for line in TEXT.splitlines() if line.startswith(f"- {name} ("))
        told = set(line.partition(": ")[2].split(", "))
        assert told == {feature.value for feature in Feature if vendor.features.can(feature)}


def test_a_gateway_without_the_server_api_does_not_tell_of_it() -> None:
    """Whoever has only sellers of other things reads of the proxy alone."""
    text = llms_text((), {"vrtx": MODULES["vrtx"]}, {})
    assert "/v1/servers?" not in text
    assert "/proxy/vrtx" in text


AGENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "name",
        "description",
        "documentation",
        "authentication",
        "money",
        "idempotency_header",
        "mcp",
        "vendors",
        "routes",
    ],
    "properties": {
        "name": {"const": "agent-payment-gateway"},
        "description": {"type": "string", "minLength": 50},
        "documentation": {"const": {"llms": "/llms.txt", "openapi": "/openapi.json"}},
        "authentication": {"type": "object", "required": ["schemes", "header"]},
        "money": {"type": "object", "required": ["currency", "format", "cap_header"]},
        "idempotency_header": {"const": "Idempotency-Key"},
        "mcp": {"type": "object", "required": ["command", "transports"]},
        "vendors": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["proxy", "features", "billing"],
                "properties": {
                    "proxy": {"type": "string", "pattern": "^/proxy/"},
                    "billing": {"type": ["string", "null"]},
                    "features": {
                        "type": ["object", "null"],
                        "required": list(Feature),
                        "additionalProperties": {"enum": ["yes", "no", "unknown"]},
                    },
                },
            },
        },
        "routes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["method", "path", "summary", "scope"],
                "properties": {"scope": {"enum": [None, "read", "spend", "keys"]}},
            },
        },
    },
}


async def test_the_agent_document_has_its_shape_and_every_route(bed: Bed) -> None:
    """As it is served, and with vendors of the server API."""
    served = (await bed.bare("GET", "/.well-known/agent.json")).json
    made = agent_document(bed.server.api.table.endpoints, MODULES, SERVERS)
    for document in (served, made):
        Draft202012Validator(AGENT_SCHEMA).validate(document)
        told = {(route["method"], route["path"]) for route in document["routes"]}
        assert told == {(endpoint.method, endpoint.path) for endpoint in bed.server.api.table.endpoints}
    assert made["vendors"].keys() == MODULES.keys()
    assert served["vendors"]["shop"] == {"proxy": "/proxy/shop", "features": None, "billing": None}
    for path in made["documentation"].values():
        assert (await bed.bare("GET", path)).status == 200
