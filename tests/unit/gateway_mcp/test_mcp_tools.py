"""The tools against the routes that they mirror: each is served, takes what it says, and spends where it can be capped."""

from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from gateway.api.endpoint import Endpoint
from gateway_mcp.tools import BY_NAME, TOOLS, ApiTool
from tests.unit.gateway.api.bed import opened
from tests.unit.gateway.api.paid_bed import whole_table


async def _rows(directory: Path) -> list[tuple[ApiTool, Endpoint]]:
    async with opened(directory) as bed:
        by_shape = {_shape(each.method, each.path): each for each in whole_table(bed).endpoints}
    return [(tool, by_shape[_shape(tool.method, tool.path)]) for tool in TOOLS]


def _shape(method: str, path: str) -> tuple[str, ...]:
    return (method, *("{}" if part.startswith("{") else part for part in path.split("/")))


def _members(schema: Any) -> set[str]:
    return set() if schema is None else set(schema["properties"])


async def test_every_tool_is_a_route_with_the_routes_own_members(tmp_path: Path) -> None:
    """Method and path are served; its query and body members are the route's, and what the route needs it asks for."""
    for tool, endpoint in await _rows(tmp_path):
        assert tool.query.keys() <= endpoint.query, tool.name
        assert tool.body.keys() <= _members(endpoint.body), tool.name
        needed = set() if endpoint.body is None else set(endpoint.body["required"])
        assert needed | endpoint.query_needed <= set(tool.required), tool.name
        assert set(tool.required) <= tool.query.keys() | tool.body.keys(), tool.name


async def test_a_tool_spends_exactly_where_its_route_can_be_capped(tmp_path: Path) -> None:
    """Such a tool demands a cap and an idempotency key; one whose route needs just the key demands that; no other has either."""
    for tool, endpoint in await _rows(tmp_path):
        assert tool.spends == endpoint.capped, tool.name
        assert endpoint.idempotent_key or not tool.spends, tool.name
        assert tool.claims == (endpoint.key_needed and not endpoint.capped), tool.name
        demanded = {"idempotency_key", "max_charge"} if tool.spends else {"idempotency_key"} if tool.claims else set()
        properties = tool.input_schema["properties"].keys()
        assert {"idempotency_key", "max_charge"} & properties == demanded <= set(tool.input_schema["required"])


async def test_what_ends_something_says_so(tmp_path: Path) -> None:
    """A client warns its user of a tool that destroys; and of no other."""
    for tool, endpoint in await _rows(tmp_path):
        assert tool.destroys == (endpoint.method == "DELETE" or tool.name == "restore_snapshot"), tool.name


async def test_a_need_is_the_apis_need(tmp_path: Path) -> None:
    """Wherever a tool takes an object, its members are those of the route's own schema."""
    tried = 0
    for tool, endpoint in await _rows(tmp_path):
        for name, schema in tool.body.items():
            if schema.get("type") == "object":
                assert endpoint.body is not None
                assert _members(schema) == _members(endpoint.body["properties"][name]), tool.name
                tried += 1
    assert tried == 3


def test_every_schema_is_one_and_closed() -> None:
    """Valid JSON Schema; a member that does not exist is refused; names are unique."""
    assert len(BY_NAME) == len(TOOLS)
    for tool in TOOLS:
        Draft202012Validator.check_schema(tool.input_schema)
        assert tool.input_schema["additionalProperties"] is False
        assert tool.description.endswith(".")


def test_arguments_become_path_query_and_body() -> None:
    """Ids are encoded, flags written as JSON writes them, and what was not given is not sent."""
    plans, order, destroy = BY_NAME["list_plans"], BY_NAME["create_server"], BY_NAME["destroy_server"]
    assert plans.target({"sandbox": True, "min_vcpu": 2}) == "/v1/plans?min_vcpu=2&sandbox=true"
    assert plans.content({}) is None
    given = {"name": "a", "need": {"min_vcpu": 1}, "wait": "running", "idempotency_key": "k", "max_charge": "1"}
    assert order.target(given) == "/v1/servers?wait=running"
    assert order.content(given) == {"name": "a", "need": {"min_vcpu": 1}}
    assert destroy.target({"server_id": "../keys?x"}) == "/v1/servers/..%2Fkeys%3Fx"


def test_a_refund_is_the_route_and_done_once() -> None:
    """One receipt and an amount make the body; the key is no member of it, and without one nothing is sent."""
    back = BY_NAME["refund"]
    given = {"receipt": "rcv_1", "amount": "2.5", "idempotency_key": "back-1"}
    assert Draft202012Validator(back.input_schema).is_valid(given)
    assert not Draft202012Validator(back.input_schema).is_valid({"receipt": "rcv_1"})
    assert (back.target(given), back.content(given)) == ("/v1/refunds", {"receipt": "rcv_1", "amount": "2.5"})
