"""`python -m gateway_mcp`, or `gateway mcp`: serves the tools over stdio, or over HTTP for several agents.

Must not hold money or decide anything: it needs a gateway's URL and an API key.  Theory: over stdio one process speaks for
one key from the environment; over HTTP each request brings its own key, and the process has none.
"""

import argparse
import asyncio
import os
import sys
from decimal import Decimal, InvalidOperation

import uvicorn
from mcp.server.stdio import stdio_server

from gateway_mcp.server import Tools

URL_VARIABLE, KEY_VARIABLE = "GATEWAY_URL", "GATEWAY_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8402"


def main(arguments: list[str] | None = None) -> int:
    """Serve until the other side closes or a signal comes; return the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.http is not None:
        return _serve_http(asked)
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        sys.stderr.write(f"set {KEY_VARIABLE} to an API key of the gateway at {asked.url}\n")
        return 2
    asyncio.run(_serve_stdio(Tools(asked.url, key, asked.max_charge, asked.max_total)))
    return 0


async def _serve_stdio(tools: Tools) -> None:
    server = tools.server()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def _serve_http(asked: argparse.Namespace) -> int:
    host, port = asked.http
    app = (
        Tools(asked.url, None, asked.max_charge, asked.max_total)
        .server()
        .streamable_http_app(stateless_http=True, host=host)
    )
    uvicorn.run(app, host=host, port=port, log_level="warning")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway mcp", description="The gateway's API as tools of MCP.")
    parser.add_argument(
        "--url", default=os.environ.get(URL_VARIABLE, DEFAULT_URL), help=f"the gateway (or ${URL_VARIABLE})"
    )
    parser.add_argument("--http", type=_place, metavar="HOST:PORT", help="serve HTTP at /mcp there instead of stdio")
    parser.add_argument("--max-charge", type=_amount, metavar="USD", help="the most that one call may cost at first")
    parser.add_argument(
        "--max-total", type=_amount, metavar="USD", help="the most that one server or fleet may cost altogether"
    )
    return parser


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise argparse.ArgumentTypeError("write HOST:PORT")
    return host.strip("[]"), int(port)


def _amount(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError("write an amount in USD, such as 5.00") from None
    if not found.is_finite() or found < 0:
        raise argparse.ArgumentTypeError("write an amount in USD, such as 5.00")
    return found


if __name__ == "__main__":
    sys.exit(main())
