"""The command line's entry: words to a verb, a verb to an exit code.

Must not know what a verb does, nor import what does it.  Theory: one parser built from small functions; each leaf carries the
name of the function that runs it, so there is no second list of names to keep in step, and only one verb's modules are loaded.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from gateway import __version__
from gateway.cli.exits import CliError, Exit
from gateway.cli.output import print_error, print_json
from gateway.cli.verbs_operator import VERBS
from gateway.cli.words import add_all

Run = Callable[[argparse.Namespace], int]
NAME = "agent-payment-gateway"
CALL = "gateway.cli.calling:run_verb"

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
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.work is None and not arguments.version:
        parser.error("the following arguments are required: command")
    try:
        exit_code = _print_version(arguments) if arguments.version else load(arguments.work)(arguments)
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


def load(work: str) -> Run:
    """Return what a leaf names as "module:function": the one place where a verb's modules are loaded."""
    module, _, function = work.partition(":")
    run: Run = getattr(import_module(module), function)
    return run


def _print_version(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json({"name": NAME, "version": __version__})
    else:
        print(f"{NAME} {__version__}")
    return Exit.OK


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every verb."""
    parser = argparse.ArgumentParser(prog="gateway", description="One prepaid balance for agents that buy servers.")
    parser.add_argument(
        "--config", metavar="PATH", help="the configuration (else $GATEWAY_CONFIG, else gateway.toml here)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--version", action="store_true", help="print name and version, and do nothing else")
    parser.set_defaults(work=None)
    leaves = Leaves(parser)
    for verb in VERBS:
        leaf = leaves.add(verb.words, verb.help, CALL)
        leaf.set_defaults(verb=verb)
        verb.arguments(leaf)
    add_all(leaves.add)
    return parser


class Leaves:
    """Adds verbs to a parser, and the groups that they stand in."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._top = parser.add_subparsers(metavar="command")  # required, but for --version
        self._groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
        # After the verb as well as before it; not given there, it must not undo what was given before.
        self._common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        self._common.add_argument("--config", metavar="PATH", help=argparse.SUPPRESS)
        self._common.add_argument("--json", action="store_true", help=argparse.SUPPRESS)

    def add(self, words: str, text: str, work: str) -> argparse.ArgumentParser:
        """Add "verb" or "group verb", run by `work`, and return its parser."""
        group, _, verb = words.rpartition(" ")
        parent = self._group(group) if group else self._top
        leaf = parent.add_parser(verb, help=text, description=text, parents=[self._common], allow_abbrev=False)
        leaf.set_defaults(work=work)
        return leaf

    def _group(self, name: str) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
        if name not in self._groups:
            parser = self._top.add_parser(name, help=GROUPS[name], description=GROUPS[name])
            self._groups[name] = parser.add_subparsers(metavar="command", required=True)
        return self._groups[name]
