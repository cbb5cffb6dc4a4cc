"""`gateway mcp`: the API as tools of MCP, served by a process that has an API key and nothing else of the gateway.

Must not know MCP.  Theory: the SDK and its web stack are an extra that the gateway itself never loads; this verb only
becomes that process.
"""

import argparse
import importlib.util
import os
import sys

from gateway.cli.exits import CliError, Exit


def run(asked: argparse.Namespace) -> int:
    """Become the process that serves the tools. Raises CliError where the SDK is not installed."""
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
