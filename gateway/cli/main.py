"""The command line's entry: words to a verb, a verb to an exit code.

Must not know what a verb does.  Theory: one parser built from small functions; each leaf carries the function that runs it,
so there is no second list of names to keep in step.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from gateway.cli import verbs_journal, verbs_local, verbs_mcp, verbs_vendor, verbs_wallet
from gateway.cli.exits import CliError, Exit
from gateway.cli.output import print_error
from gateway.cli.verbs_operator import VERBS, run_verb

Run = Callable[[argparse.Namespace], int]

GROUPS = {
    "account": "accounts and their credit",
    "batches": "the contract that collects many authorizations at once",
    "config": "the configuration",
    "freeze": "stopping and releasing",
    "incoming": "money that came in",
    "journal": "the journal and its proof",
    "key": "API keys",
    "payments": "payments",
    "relayers": "the keys that pay gas",
    "sellers": "accounts that may settle at the facilitator",
    "servers": "the servers of the vendor-neutral API",
    "tasks": "what waits for a human",
    "vendor": "vendors, and the operator's accounts there",
    "wallet": "the keystore's wallets",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        exit_code: int = arguments.run(arguments)
        sys.stdout.flush()
    except CliError as error:
        print_error(error, as_json=arguments.json)
        exit_code = int(error.exit_code)
    except KeyboardInterrupt:
        exit_code = int(Exit.FAILED)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_code = int(Exit.FAILED)
    return exit_code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every verb."""
    parser = argparse.ArgumentParser(prog="gateway", description="One prepaid balance for agents that buy servers.")
    parser.add_argument(
        "--config", metavar="PATH", help="the configuration (else $GATEWAY_CONFIG, else gateway.toml here)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    leaves = Leaves(parser)
    for verb in VERBS:
        verb.arguments(leaves.add(verb.words, verb.help, partial(run_verb, verb)))
    for add in (verbs_local.add, verbs_wallet.add, verbs_vendor.add, verbs_journal.add, verbs_mcp.add):
        add(leaves.add)
    return parser


class Leaves:
    """Adds verbs to a parser, and the groups that they stand in."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._top = parser.add_subparsers(metavar="command", required=True)
        self._groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
        # After the verb as well as before it; not given there, it must not undo what was given before.
        self._common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        self._common.add_argument("--config", metavar="PATH", help=argparse.SUPPRESS)
        self._common.add_argument("--json", action="store_true", help=argparse.SUPPRESS)

    def add(self, words: str, text: str, run: Run) -> argparse.ArgumentParser:
        """Add "verb" or "group verb" and return its parser."""
        group, _, verb = words.rpartition(" ")
        parent = self._group(group) if group else self._top
        leaf = parent.add_parser(verb, help=text, description=text, parents=[self._common], allow_abbrev=False)
        leaf.set_defaults(run=run)
        return leaf

    def _group(self, name: str) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
        if name not in self._groups:
            parser = self._top.add_parser(name, help=GROUPS[name], description=GROUPS[name])
            self._groups[name] = parser.add_subparsers(metavar="command", required=True)
        return self._groups[name]
