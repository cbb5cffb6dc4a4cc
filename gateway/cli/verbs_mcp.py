"""`gateway mcp`: the API as tools of MCP, served by a process that has an API key and nothing else of the gateway.

Must not know MCP.  Theory: the SDK and its web stack are an extra that the gateway itself never loads; this verb only
becomes that process.
"""

import argparse
import importlib.util
import os
import sys

from gateway.cli.exits import CliError, Exit
from gateway.cli.verbs_local import AddLeaf


def add(leaf: AddLeaf) -> None:
    """Add the verb; what follows it is read by the process that it becomes."""
    parser = leaf("mcp", "serve the API as MCP tools: over stdio, or --http HOST:PORT", _run)
    parser.add_argument("--url", help="the gateway (else $GATEWAY_URL, else http://127.0.0.1:8402)")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve HTTP at /mcp there instead of stdio")
    parser.add_argument("--max-charge", metavar="USD", help="the most that one call may cost at first")
    parser.add_argument("--max-total", metavar="USD", help="the most that one server or fleet may cost altogether")


def _run(asked: argparse.Namespace) -> int:
    if importlib.util.find_spec("mcp") is None:
        raise CliError(
            Exit.FAILED, "the MCP SDK is not installed", "install the extra: pip install 'agent-payment-gateway[mcp]'"
        )
    given = (
        ("--url", asked.url),
        ("--http", asked.http),
        ("--max-charge", asked.max_charge),
        ("--max-total", asked.max_total),
    )
    words = [word for name, value in given if value is not None for word in (name, value)]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "gateway_mcp", *words])  # noqa: S606 - our own module, no shell
