"""The command line: `gateway …`. docs/cli.md lists its verbs and exit codes."""

from gateway.cli.main import main

__all__ = ["main"]
