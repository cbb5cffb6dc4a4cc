"""The words and arguments of every verb that is not an operator's call, and the name of the function that runs it.

Must not import what runs a verb.  Theory: a command line that prints a page of help or asks whether the server lives should
not first load the server, so a verb's work is named here as "module:function", and loaded when it was asked for.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

__all__ = ["AddLeaf", "add_all"]

AddLeaf = Callable[[str, str, str], argparse.ArgumentParser]
"""Adds a verb: its words, its help, and what runs it as "module:function"."""

_UNLOCKED_BY = "where the v3 file's passphrase is: env:NAME, file:/path or credential:name"
_ENTERED = 'a file that holds it, or "-" for standard input; asked for without echo if not given'


def add_all(leaf: AddLeaf) -> None:
    """Add the verbs of this machine, of the keystore, of vendors' credentials, of the journal and of MCP."""
    for add in (_machine, _wallets, _vendors, _journal, _mcp):
        add(leaf)


def _machine(leaf: AddLeaf) -> None:
    init = leaf(
        "init", "make configuration, keystore and database where they are missing", "gateway.cli.verbs_init:init"
    )
    init.add_argument("--data-dir", default="data", help="where database and keys go, seen from the configuration")
    init.add_argument(
        "--passphrase",
        default="file:passphrase",
        metavar="SOURCE",
        help="where the keystore's passphrase is: env:NAME, file:PATH (made with chance if missing) or credential:name",
    )
    leaf("serve", "run the gateway", "gateway.cli.serving:run_verb")
    leaf("health", "ask the running gateway whether it lives", "gateway.cli.verbs_local:health")
    leaf("config check", "read the configuration and say what is wrong with it", "gateway.cli.verbs_local:check")


def _wallets(leaf: AddLeaf) -> None:
    leaf("wallet new", "make a random key and seal it", "gateway.cli.verbs_wallet:new")
    leaf("wallet list", "list the keystore's wallets", "gateway.cli.verbs_wallet:listing")
    bring = leaf("wallet import", "seal a key from a file or standard input", "gateway.cli.verbs_wallet:bring")
    bring.add_argument("source", metavar="FILE", help='a file, or "-" for standard input')
    bring.add_argument(
        "--v3", action="store_true", help="the file is Web3 Secret Storage (v3 JSON), not 0x and 64 hex digits"
    )
    bring.add_argument("--v3-passphrase", metavar="SOURCE", help=_UNLOCKED_BY)
    take = leaf("wallet export", "write a key as v3 JSON", "gateway.cli.verbs_wallet:take")
    take.add_argument("address", metavar="ADDRESS", help="the wallet's address")
    take.add_argument("--out", type=Path, required=True, help="a new file to write")
    take.add_argument("--v3-passphrase", metavar="SOURCE", required=True, help=_UNLOCKED_BY)
    watch = leaf(
        "wallet watch",
        "record an address of ours whose key is elsewhere: it is never paid",
        "gateway.cli.verbs_wallet:watch",
    )
    watch.add_argument("address", metavar="ADDRESS")


def _vendors(leaf: AddLeaf) -> None:
    listing = leaf(
        "vendor list",
        "list vendors, and whether the operator's credentials are there",
        "gateway.cli.verbs_vendor:listing",
    )
    listing.add_argument("--capabilities", action="store_true", help="what each can do, too (always in JSON)")
    enter = leaf(
        "vendor credentials",
        "seal the operator's login, or token, at a vendor",
        "gateway.cli.verbs_vendor:enter_credentials",
    )
    enter.add_argument("name", metavar="NAME", help="the vendor's name in the configuration")
    enter.add_argument("--login", metavar="EMAIL", help="the account's login; none for a token that needs no login")
    enter.add_argument("--secret-file", metavar="FILE", help=_ENTERED)
    enter.add_argument("--same-account", action="store_true", help="the login is new, the account is the same one")
    hook = leaf(
        "vendor webhook-secret",
        "seal the secret that a vendor signs its webhooks with",
        "gateway.cli.verbs_vendor:enter_webhook_secret",
    )
    hook.add_argument("name", metavar="NAME", help="the vendor's name in the configuration")
    hook.add_argument("--secret-file", metavar="FILE", help=_ENTERED)


def _journal(leaf: AddLeaf) -> None:
    check = leaf(
        "journal verify",
        "recompute every digest of the journal, or of an exported file",
        "gateway.cli.verbs_journal:prove",
    )
    check.add_argument("--file", type=Path, help="an export to check, without server, database or configuration")
    check.add_argument("--head", metavar="DIGEST", help="the digest that the last row must have, noted elsewhere")
    export = leaf("journal export", "write the journal as JSON lines", "gateway.cli.verbs_journal:export")
    export.add_argument("--after", type=int, default=0, metavar="SEQ", help="start behind this row")
    export.add_argument("--out", type=Path, help="a new file to write; else standard output")


def _mcp(leaf: AddLeaf) -> None:
    """What follows the verb is read by the process that it becomes."""
    parser = leaf("mcp", "serve the API as MCP tools: over stdio, or --http HOST:PORT", "gateway.cli.verbs_mcp:run")
    parser.add_argument("--url", help="the gateway (else $GATEWAY_URL, else http://127.0.0.1:8402)")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve HTTP at /mcp there instead of stdio")
    parser.add_argument("--max-charge", metavar="USD", help="the most that one call may cost at first")
    parser.add_argument("--max-total", metavar="USD", help="the most that one server or fleet may cost altogether")
