"""/openapi.json: what it says of each route, its examples against its own schemas, and that it promises nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from gateway.api import examples
from gateway.api.endpoint import Endpoint
from gateway.api.openapi import operation_id
from gateway.api.openapi_parts import HEADERS, Parts
from gateway.api.schemas import INTEGER, TEXT, named, page, record
from gateway.core.problems import TYPES
from tests.unit.gateway.api.bed import Bed

METHODS = {"get", "head", "post", "put", "patch", "delete"}
SPENDING = {
    ("POST", "/v1/servers"),
    ("POST", "/v1/servers/{id}/actions"),
    ("POST", "/v1/servers/{id}/renewals"),
    ("POST", "/v1/servers/{id}/snapshots"),
    ("POST", "/v1/snapshots/{id}/restore"),
    ("POST", "/v1/fleets"),
}
WITHOUT_EXAMPLE = {"text/plain; charset=utf-8", "text/event-stream", "application/octet-stream"}


async def _document(bed: Bed) -> dict[str, Any]:
    document: dict[str, Any] = (await bed.bare("GET", "/openapi.json")).json
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method.upper(), path, operation


def _own(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    return (each for each in _operations(document) if each[1].startswith("/v1/"))


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request {kind}", content
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            yield f"{status} {kind}", content


def _endpoints(bed: Bed) -> tuple[Endpoint, ...]:
    return bed.server.api.table.endpoints


async def test_it_has_every_route_that_is_served_and_no_other_of_ours(bed: Bed) -> None:
    """The operations are the dispatcher's rows."""
    document = await _document(bed)
    served = {(endpoint.method, endpoint.path) for endpoint in _endpoints(bed)}
    assert {(method, path) for method, path, _ in _operations(document) if not path.startswith("/proxy/")} == served


async def test_every_operation_has_a_name_of_its_own(bed: Bed) -> None:
    """Names are unique, for code is generated from them, and made of letters, digits, - and _."""
    names = [operation["operationId"] for _, _, operation in _operations(await _document(bed))]
    assert len(names) == len(set(names))
    assert {operation_id(endpoint) for endpoint in _endpoints(bed)} <= set(names)
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)


async def test_every_shown_body_and_answer_has_an_example(bed: Bed) -> None:
    """Whatever takes or answers JSON below /v1 shows one."""
    for method, path, operation in _own(await _document(bed)):
        if "requestBody" not in operation:
            assert method != "PATCH", path
        for what, content in _contents(operation):
            kind = what.partition(" ")[2]
            if kind not in WITHOUT_EXAMPLE and not kind.startswith("application/problem"):
                assert "examples" in content, f"{method} {path}: {what}"


async def test_every_example_fits_its_schema(bed: Bed) -> None:
    """By an independent validator, with formats, references resolved within the document."""
    document = await _document(bed)
    tried = 0
    for method, path, operation in _own(document):
        for what, content in _contents(operation):
            for name, example in content.get("examples", {}).items():
                schema = {**content["schema"], "components": document["components"]}
                errors = list(
                    Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(example["value"])
                )
                assert errors == [], f"{method} {path}: {what}, {name}"
                tried += 1
    assert tried > 60


async def test_every_query_parameter_has_a_schema(bed: Bed) -> None:
    """None is an unexplained text: it is a number, a choice, a flag, has a pattern, or says what it is."""
    for method, path, operation in _own(await _document(bed)):
        for parameter in operation["parameters"]:
            if parameter["in"] == "query":
                schema = parameter["schema"]
                said = schema["type"] != "string" or {"enum", "pattern", "description"} & schema.keys()
                assert said or parameter["name"] == "vendor", f"{method} {path}: {parameter['name']}"


async def test_routes_that_spend_say_that_they_can_be_capped(bed: Bed) -> None:
    """Exactly these take X-Max-Charge, each says how it refuses, and what was paid."""
    document = await _document(bed)
    capped = set()
    for method, path, operation in _own(document):
        if "X-Max-Charge" in {parameter["name"] for parameter in operation["parameters"]}:
            capped.add((method, path))
            conflict = document["components"]["responses"][operation["responses"]["409"]["$ref"].rpartition("/")[2]]
            assert "price_above_max_charge" in conflict["description"]
            done = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            assert {"X-Payment-Id", "X-Charge"} <= done["headers"].keys()
    assert capped == SPENDING


async def test_an_order_needs_its_idempotency_key(bed: Bed) -> None:
    """What makes a server or a fleet requires the header; every other POST below /v1 but one may have it."""
    needed, possible = set(), set()
    for method, path, operation in _own(await _document(bed)):
        for parameter in operation["parameters"]:
            if parameter["name"] == "Idempotency-Key":
                possible.add((method, path))
                if parameter.get("required"):
                    needed.add((method, path))
    posts = {(endpoint.method, endpoint.path) for endpoint in _endpoints(bed) if endpoint.method == "POST"}
    assert needed == {("POST", "/v1/servers"), ("POST", "/v1/fleets")}
    assert posts - possible == {("POST", "/v1/explain-402")}  # does nothing, so nothing is done twice


async def test_streams_and_waits_are_told(bed: Bed) -> None:
    """Where Accept turns an answer into a stream the type is there, and a wait says in a header how it ended."""
    document = await _document(bed)
    streams, waits = set(), set()
    for method, path, operation in _own(document):
        for answer in operation["responses"].values():
            if "text/event-stream" in answer.get("content", {}):
                streams.add((method, path))
            if "X-Wait" in answer.get("headers", {}):
                waits.add((method, path))
    assert streams == {("GET", "/v1/events"), ("GET", "/v1/servers/{id}")}
    assert waits == {("POST", "/v1/servers"), ("GET", "/v1/servers/{id}")}


async def test_every_reference_leads_somewhere(bed: Bed) -> None:
    """No $ref is dangling, and nothing named is never referred to."""
    document = await _document(bed)
    refs: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                refs.add(value["$ref"])
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(document)
    there = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "headers")
        for name in document["components"][kind]
    }
    assert refs <= there
    assert there - refs <= {f"#/components/headers/{name}" for name in HEADERS}


async def test_a_problem_answer_names_its_codes(bed: Bed) -> None:
    """Each status lists the problem types that it may be, and they have that status."""
    document = await _document(bed)
    for name, answer in document["components"]["responses"].items():
        codes = answer["description"].split(", ")
        assert {str(TYPES[code].status) for code in codes} == {name.partition(".")[0]}
    for _, path, operation in _own(document):
        assert {"400", "401", "403", "500", "503"} <= operation["responses"].keys(), path


def test_a_list_shows_the_example_of_what_it_lists() -> None:
    """An example is put together from those of the parts; where a needed part has none there is none."""
    thing = named("Thing", record(id=TEXT), {"id": "a"})
    content = Parts().content("application/json", page(thing))["application/json"]
    assert content["examples"]["one"]["value"] == {"entries": [{"id": "a"}], "next": None}
    bare = Parts().content("application/json", record(thing=thing, count=INTEGER))["application/json"]
    assert "examples" not in bare


def test_two_shapes_of_one_name_are_refused() -> None:
    """A name stands for one shape: two that differ are a mistake of ours, found when the document is made."""
    parts = Parts()
    parts.of(named("Thing", record(id=TEXT)))
    assert parts.of(named("Thing", record(id=TEXT))) == {"$ref": "#/components/schemas/Thing"}
    with pytest.raises(AssertionError, match="Thing"):
        parts.of(named("Thing", record(id=INTEGER)))


def test_examples_tell_one_story() -> None:
    """The quote is what the order buys, and the server, its payment and its events are the same thing's."""
    assert examples.ORDER["quote"] == examples.QUOTE["id"] == examples.SERVER["quote"]
    assert examples.SERVER["payment"]["id"] == examples.PAYMENT["id"] == examples.ENTRY["payment_id"]
    assert examples.EVENT["data"]["server_id"] == examples.SERVER["id"] == examples.PAYMENT_DETAIL["server"]
    assert examples.SERVER["held"] == examples.QUOTE["first_charge"] == examples.PAYMENT["hold"]
