"""The MCP server: lists the tools, checks what a model sends, and asks the gateway.

Must not know what a route does.  Theory: the model's arguments are untrusted input, checked against the tool's own schema
before anything leaves, and the operator's cap stands above whatever cap the model names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import aiohttp
from jsonschema import Draft202012Validator, ValidationError, validators
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from gateway_client import GatewayClient, GatewayProblem
from gateway_mcp.tools import BY_NAME, TOOLS, ApiTool

NAME = "agent-payment-gateway"
LASTING_CAPS = ("max_total", "budget")
UNBOUNDED = frozenset({"create_server"})  # without max_total it may cost as much as there is
INSTRUCTIONS = (
    "Rent and run servers at several vendors from one prepaid balance. Begin with get_balance and list_plans or quote_server. "
    "Whatever may spend takes max_charge (refused unpaid if dearer) and idempotency_key (choose one for each intention and "
    "repeat it when you try again). Amounts are decimals in USD, in quotes."
)


def _pattern(_: object, pattern: str, instance: object, _schema: object) -> Iterator[ValidationError]:
    """`pattern` as JSON Schema means it: Python's `$` also fits before a last line break, which no text here may have."""
    if isinstance(instance, str) and (instance.endswith("\n") or re.search(pattern, instance) is None):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})


class Tools:
    """Serves the tools for one gateway. `api_key` None: each HTTP request brings its own as Bearer."""

    def __init__(
        self, base_url: str, api_key: str | None, max_charge: Decimal | None = None, max_total: Decimal | None = None
    ) -> None:
        self._base_url, self._api_key, self._max_charge, self._max_total = base_url, api_key, max_charge, max_total

    def server(self) -> Server[dict[str, Any]]:
        """Return the MCP server, to be run over any transport."""
        return Server(NAME, instructions=INSTRUCTIONS, on_list_tools=self._list, on_call_tool=self._call)

    async def _list(
        self, _context: ServerRequestContext[dict[str, Any]], _asked: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[_shown(tool) for tool in TOOLS])

    async def _call(
        self, context: ServerRequestContext[dict[str, Any]], asked: CallToolRequestParams
    ) -> CallToolResult:
        tool, arguments = BY_NAME.get(asked.name), asked.arguments or {}
        if tool is None:
            return _refusal({"code": "tool_unknown", "detail": "there is no such tool", "known": sorted(BY_NAME)})
        wrong = next(iter(_Validator(tool.input_schema).iter_errors(arguments)), None)
        if wrong is not None:
            field = ".".join(str(part) for part in wrong.absolute_path) or "arguments"
            return _refusal({"code": "bad_arguments", "field": field, "detail": wrong.message[:500]})
        key = self._api_key or _bearer(context)
        if key is None:
            return _refusal({"code": "key_missing", "detail": "send the gateway's API key as Authorization: Bearer"})
        return await self._ask(tool, arguments, key)

    async def _ask(self, tool: ApiTool, arguments: Mapping[str, Any], key: str) -> CallToolResult:
        headers = {}
        beyond = self._beyond_total(tool, arguments)
        if beyond is not None:
            return beyond
        if tool.spends:
            cap = Decimal(arguments["max_charge"])
            if self._max_charge is not None and cap > self._max_charge:
                detail = f"whoever runs this server allows at most {self._max_charge} a call"
                return _refusal({"code": "max_charge_above_cap", "field": "max_charge", "detail": detail})
            headers["X-Max-Charge"] = arguments["max_charge"]
        async with GatewayClient(self._base_url, key) as client:
            try:
                document = await client.call(
                    tool.method,
                    tool.target(arguments),
                    tool.content(arguments),
                    key=arguments.get("idempotency_key"),
                    headers=headers,
                )
            except GatewayProblem as problem:
                return _refusal(
                    {
                        "status": problem.status,
                        "code": problem.code,
                        "detail": problem.detail,
                        "remedy": problem.remedy,
                        "request_id": problem.request_id,
                        **problem.extra,
                    }
                )
            except (aiohttp.ClientError, TimeoutError) as error:
                again = (
                    "send the same call again"
                    if _repeatable(tool)
                    else "look at what it has done before you send it again"
                )
                what = f"the gateway did not answer ({type(error).__name__}); {again}"
                return _refusal({"code": "gateway_unreachable", "detail": what})
        return CallToolResult(content=[TextContent(type="text", text=_dump(document))], structured_content=document)

    def _beyond_total(self, tool: ApiTool, arguments: Mapping[str, Any]) -> CallToolResult | None:
        """Refuse what would let something cost more altogether than whoever runs this server allows."""
        if self._max_total is None:
            return None
        for name in (name for name in LASTING_CAPS if name in tool.body):
            given = arguments.get(name)
            must = tool.name in UNBOUNDED or name in arguments
            if must and (given is None or Decimal(given) > self._max_total):
                detail = f"whoever runs this server wants {name} to be at most {self._max_total}"
                return _refusal({"code": "max_total_above_cap", "field": name, "detail": detail})
        return None


def _shown(tool: ApiTool) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        annotations=ToolAnnotations(
            read_only_hint=tool.method == "GET",
            destructive_hint=tool.destroys,
            idempotent_hint=_repeatable(tool),
            open_world_hint=True,
        ),
    )


def _repeatable(tool: ApiTool) -> bool:
    return tool.spends or tool.claims or tool.method in {"GET", "DELETE", "PATCH"}


def _refusal(document: Mapping[str, Any]) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=_dump(document))], structured_content=dict(document), is_error=True
    )


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)


def _bearer(context: ServerRequestContext[dict[str, Any]]) -> str | None:
    request: Any = context.request  # the HTTP request, where there is one
    header = "" if request is None else request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
