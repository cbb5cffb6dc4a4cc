"""The MCP server as a process, spoken to with the official SDK's client: over stdio and over HTTP."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from gateway_mcp.tools import TOOLS
from tests.ports import free_port
from tests.unit.gateway.api.bed import opened
from tests.unit.gateway_client.odd_gateway import hang_up, odd_gateway, refuse, say

ROOT = Path(__file__).parents[3]
READY_S = 60.0
SERVER = {"id": "srv_1", "state": "running"}
ORDER = {"name": "box", "need": {"min_vcpu": 1}, "idempotency_key": "rent-1", "max_charge": "5.00"}


@contextlib.asynccontextmanager
async def stdio(url: str, *options: str, key: str = "gk_key") -> AsyncIterator[Client]:
    """Start the server on pipes, as a desktop client does."""
    environment = {**os.environ, "GATEWAY_API_KEY": key, "PYTHONPATH": str(ROOT)}
    words = ["-m", "gateway_mcp", "--url", url, *options]
    server = StdioServerParameters(command=sys.executable, args=words, env=environment, cwd=ROOT)
    async with Client(stdio_client(server)) as client:
        yield client


@contextlib.asynccontextmanager
async def served(url: str) -> AsyncIterator[str]:
    """Start `gateway mcp --http` and yield its address. It has no key of its own."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "GATEWAY_API_KEY"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "mcp", "--url", url, "--http", f"127.0.0.1:{port}"),
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def over_http(address: str, key: str | None) -> AsyncIterator[Client]:
    """Connect to a served one as an agent with a key."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        yield client


async def ask(client: Client, tool: str, /, **arguments: Any) -> tuple[bool, Any]:
    """Call a tool; return whether it was refused, and its document, which text and structure must agree on."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    (text,) = result.content
    assert json.loads(getattr(text, "text", "")) == result.structured_content
    return bool(result.is_error), result.structured_content


async def test_the_tools_are_listed_with_their_schemas() -> None:
    """A model reads what each takes, whether it changes anything, and whether it destroys."""
    async with odd_gateway(say(200)) as gateway, stdio(gateway.url) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert listed.keys() == {tool.name for tool in TOOLS}
    order, destroy, balance = (listed[name] for name in ("create_server", "destroy_server", "get_balance"))
    assert {"idempotency_key", "max_charge", "name"} <= set(order.input_schema["required"])
    assert destroy.annotations is not None
    assert destroy.annotations.destructive_hint
    assert balance.annotations is not None
    assert balance.annotations.read_only_hint
    assert gateway.asked == []


async def test_a_spending_tool_sends_its_cap_and_its_key() -> None:
    """The gateway refuses what is dearer, and does it once however often it is sent."""
    script = say(202, SERVER), say(202, SERVER)
    async with odd_gateway(*script) as gateway, stdio(gateway.url) as client:
        for _ in range(2):
            assert await ask(client, "create_server", **ORDER, wait="running", timeout_s=1) == (False, SERVER)
    for asked in gateway.asked:
        assert (asked.method, asked.target) == ("POST", "/v1/servers?wait=running&timeout_s=1")
        assert asked.json == {"name": "box", "need": {"min_vcpu": 1}}
        assert (asked.headers["x-max-charge"], asked.headers["idempotency-key"]) == ("5.00", "rent-1")
        assert asked.headers["authorization"] == "Bearer gk_key"


async def test_a_refund_sends_its_key_and_no_cap() -> None:
    """It is no purchase: the key makes it one refund however often it is sent, and without one nothing is asked."""
    made, order = {"id": "ref_1", "state": "held"}, {"topup": "top_1", "amount": "2.5", "idempotency_key": "back-1"}
    async with odd_gateway(say(201, made)) as gateway, stdio(gateway.url, "--max-charge", "1") as client:
        assert await ask(client, "refund", **order) == (False, made)
        refused, document = await ask(client, "refund", topup="top_1")
        assert (refused, document["code"]) == (True, "bad_arguments")
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    (asked,) = gateway.asked
    assert (asked.method, asked.target, asked.json) == ("POST", "/v1/refunds", {"topup": "top_1", "amount": "2.5"})
    assert asked.headers["idempotency-key"] == "back-1"
    assert "x-max-charge" not in asked.headers
    annotations = listed["refund"].annotations
    assert annotations is not None
    assert (annotations.idempotent_hint, annotations.read_only_hint) == (True, False)


async def test_a_cap_above_the_operators_is_refused_here() -> None:
    """Whoever runs the server has the last word on what one call may cost: nothing is asked of the gateway."""
    async with odd_gateway(say(202, SERVER)) as gateway, stdio(gateway.url, "--max-charge", "4.99") as client:
        refused, document = await ask(client, "create_server", **ORDER)
        assert (refused, document["code"], document["field"]) == (True, "max_charge_above_cap", "max_charge")
        assert gateway.asked == []
        assert await ask(client, "create_server", **{**ORDER, "max_charge": "4.99"}) == (False, SERVER)


async def test_a_total_above_the_operators_is_refused_here() -> None:
    """Nor may a server or a fleet cost more altogether than that; an order that names no bound is refused as well."""
    fleet = {
        "name": "f",
        "count": 1,
        "need": {},
        "until": "2030-01-01T00:00:00Z",
        "idempotency_key": "f",
        "max_charge": "9",
    }
    changed: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("create_server", ORDER, "max_total"),
        ("create_server", {**ORDER, "max_total": "10.01"}, "max_total"),
        ("update_server", {"server_id": "srv_1", "max_total": None}, "max_total"),
        ("update_server", {"server_id": "srv_1", "max_total": "11"}, "max_total"),
        ("create_fleet", {**fleet, "budget": "10.01"}, "budget"),
    )
    async with odd_gateway(say(202, SERVER)) as gateway, stdio(gateway.url, "--max-total", "10") as client:
        for tool, arguments, field in changed:
            refused, document = await ask(client, tool, **arguments)
            assert (refused, document["code"], document["field"]) == (True, "max_total_above_cap", field), tool
        assert gateway.asked == []
        assert await ask(client, "create_server", **ORDER, max_total="10") == (False, SERVER)
        assert await ask(client, "update_server", server_id="srv_1", auto_renew=False) == (False, SERVER)
        assert await ask(client, "create_fleet", **fleet, budget="10") == (False, SERVER)


BAD: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("create_server", {**ORDER, "max_charge": 5}, "max_charge"),
    ("create_server", {**ORDER, "max_charge": "5.0000001"}, "max_charge"),
    ("create_server", {**ORDER, "max_charge": "-1"}, "max_charge"),
    ("create_server", {**ORDER, "max_charge": "1\n"}, "max_charge"),
    ("create_server", {**ORDER, "max_charge": "NaN"}, "max_charge"),
    ("create_server", {**ORDER, "idempotency_key": "has a space"}, "idempotency_key"),
    ("create_server", {name: value for name, value in ORDER.items() if name != "idempotency_key"}, "arguments"),
    ("create_server", {**ORDER, "need": {"min_cpu": 1}}, "need"),
    ("create_server", {**ORDER, "extra": 1}, "arguments"),
    ("get_server", {}, "arguments"),
    ("get_server", {"server_id": 7}, "server_id"),
    ("act_on_server", {"server_id": "srv_1", "action": "explode", "idempotency_key": "a", "max_charge": "1"}, "action"),
)


async def test_bad_arguments_never_leave() -> None:
    """What does not fit a tool's schema is refused with the field, and nothing is asked of the gateway."""
    async with odd_gateway(say(200)) as gateway, stdio(gateway.url) as client:
        for tool, arguments, field in BAD:
            refused, document = await ask(client, tool, **arguments)
            assert (refused, document["code"], document["field"]) == (True, "bad_arguments", field), arguments
        assert gateway.asked == []


async def test_an_unknown_tool_is_refused_with_those_there_are() -> None:
    """The model sees what it may call instead."""
    async with odd_gateway(say(200)) as gateway, stdio(gateway.url) as client:
        refused, document = await ask(client, "buy_everything")
    assert (refused, document["code"]) == (True, "tool_unknown")
    assert "create_server" in document["known"]


async def test_a_problem_is_passed_through() -> None:
    """With its code, detail, remedy and whatever else it has, so the model can mend its request."""
    lost = [{"plan": "vrtx/1", "reason": "memory", "detail": "too little"}]
    async with odd_gateway(refuse(409, "no_plan_fits", candidates_lost=lost)) as gateway, stdio(gateway.url) as client:
        refused, document = await ask(client, "create_server", **ORDER)
    assert refused
    assert document == {
        "status": 409,
        "code": "no_plan_fits",
        "detail": "a detail",
        "remedy": "a remedy",
        "request_id": "req-1",
        "candidates_lost": lost,
    }


async def test_a_lost_answer_is_asked_for_again_under_the_key() -> None:
    """As the typed client does it; a tool that may not be repeated says that no answer came."""
    async with odd_gateway(hang_up, say(202, SERVER)) as gateway, stdio(gateway.url) as client:
        assert await ask(client, "create_server", **ORDER) == (False, SERVER)
        assert {asked.headers["idempotency-key"] for asked in gateway.asked} == {"rent-1"}
        gateway.asked.clear()
        gateway.script = [hang_up]
        refused, document = await ask(client, "run_command", server_id="srv_1", command="uptime")
    assert (refused, document["code"]) == (True, "gateway_unreachable")
    assert document["detail"].endswith("look at what it has done before you send it again")
    assert len(gateway.asked) == 1


async def test_over_http_each_request_brings_its_own_key() -> None:
    """The process has none: one agent's calls are never made with another's key, and none without one."""
    async with odd_gateway(say(200, {"available": "1.000000"})) as gateway, served(gateway.url) as address:
        for key in ("gk_one", "gk_two"):
            async with over_http(address, key) as client:
                assert len((await client.list_tools()).tools) == len(TOOLS)
                assert await ask(client, "get_balance") == (False, {"available": "1.000000"})
        async with over_http(address, None) as client:
            refused, document = await ask(client, "get_balance")
    assert (refused, document["code"]) == (True, "key_missing")
    assert [asked.headers["authorization"] for asked in gateway.asked] == ["Bearer gk_one", "Bearer gk_two"]


async def test_it_speaks_to_a_real_gateway(tmp_path: Path) -> None:
    """The balance is the account's; a key that is none is the gateway's own problem."""
    async with opened(tmp_path) as bed:
        async with stdio(bed.url, key=bed.key) as client:
            refused, document = await ask(client, "get_balance")
            assert (refused, document["account"], document["available"]) == (False, "acc_1", "10.000000")
            refused, document = await ask(client, "get_payment", payment_id="pay_none")
            assert (refused, document["status"], document["code"]) == (True, 404, "not_found")
        async with stdio(bed.url, key="gk_wrong") as client:
            refused, document = await ask(client, "get_balance")
            assert (refused, document["code"]) == (True, "key_unknown")


async def test_without_a_key_it_says_what_to_set() -> None:
    """Over stdio the key comes from the environment: without it the process ends at once, with a message."""
    environment = {name: value for name, value in os.environ.items() if name != "GATEWAY_API_KEY"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway_mcp"),
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"GATEWAY_API_KEY" in said


def test_the_gateway_itself_never_loads_the_sdk() -> None:
    """The process that holds money has no MCP server and no web framework in it."""
    code = (
        "import sys, gateway.app, gateway.serve, gateway.cli.main; print([n for n in sys.modules if n.split('.')[0] in "
    )
    code += "('mcp', 'mcp_types', 'uvicorn', 'starlette', 'gateway_mcp', 'jsonschema')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
