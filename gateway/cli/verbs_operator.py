"""The verbs that are operator's calls: arguments in, one call, its answer out.

Must not know how a call is carried out, nor import what does it.  Theory: a verb is a row: its words, its arguments, its call
and its shape.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cli.shape import PAYMENT_COLUMNS, Shape, changed, listed, new_key, one, trace

Adder = Callable[[argparse.ArgumentParser], None]
ACCOUNT_COLUMNS = ("id", "name", "available", "held", "created_at")
METER_COLUMNS = (
    "id", "account", "vendor", "ref", "name", "state", "hourly", "held_until", "billed", "lost", "unfunded_at", "reason",
)  # fmt: skip
SERVER_COLUMNS = (
    "id", "account", "name", "state", "wanted", "vendor", "ref", "expires_at", "keep_until", "captured", "held", "reason",
)  # fmt: skip
BALANCE_COLUMNS = (
    "vendor", "books", "reserved", "vendor_says", "difference", "said_at", "missing", "things", "ending", "hourly",
)  # fmt: skip


INCOMING_COLUMNS = ("id", "state", "account", "amount", "asset", "value", "sender", "tx_hash", "at", "note")
SELLER_COLUMNS = ("account", "gas_budget", "window_s", "latency_s", "payees", "set_at")


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb. `words` is "group verb" or a verb alone; `arguments` adds what the call takes, named as it takes it."""

    words: str
    help: str
    operation: str
    shape: Shape
    arguments: Adder


def _none(_parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


def _page(parser: argparse.ArgumentParser, cursor: str) -> None:
    parser.add_argument("--limit", type=int, help="at most this many rows")
    parser.add_argument(f"--{cursor}", metavar="ID", help="where the last page ended")


def _positional(name: str, text: str) -> Adder:
    return lambda parser: _add(parser, name, text)


def _add(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, metavar=name.upper(), help=text)


def _batches_deploy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chain_id", metavar="CHAIN_ID", type=int, help="such as 8453")


def _account_open(parser: argparse.ArgumentParser) -> None:
    _add(parser, "name", "what the account is called")
    parser.add_argument("--id", dest="account", metavar="ID", help="the account's id; made if not given")


def _account_credit(parser: argparse.ArgumentParser) -> None:
    _add(parser, "account", "the account's id")
    _add(parser, "amount", 'USD as a decimal, such as "25" or "9.99"')
    parser.add_argument(
        "--reference", required=True, help="makes the credit once only: the same one again changes nothing"
    )
    parser.add_argument("--note", help="goes into the journal")


def _key_new(parser: argparse.ArgumentParser) -> None:
    _add(parser, "account", "the account's id")
    parser.add_argument("--name", help="what the key is called")
    parser.add_argument(
        "--scope",
        action="append",
        dest="scopes",
        metavar="SCOPE",
        help="proxy, proxy:<vendor>, read, keys, settle; may be repeated",
    )
    parser.add_argument(
        "--budget",
        action="append",
        dest="budgets",
        metavar="AMOUNT/WINDOW[@VENDOR[/ROUTE]]",
        help='such as "10/day" or "5/3600s@vpsagent/rent"; may be repeated, all of them hold',
    )


def _payments_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="ID", help="of one account only")
    parser.add_argument("--open", action="store_true", default=None, help="only those whose hold is open")
    _page(parser, "before")


def _payments_resolve(parser: argparse.ArgumentParser) -> None:
    _add(parser, "payment", "the payment's id")
    parser.add_argument("charge", choices=("captured", "refunded"), help="who pays: the agent, or the house")
    parser.add_argument(
        "--left",
        metavar="AMOUNT",
        help="for what is used on chain and not proven: all that left the wallet for it, in the token; 0 for nothing",
    )
    parser.add_argument("--tx", metavar="HASH", help="with --left: the transaction, where there is one")
    parser.add_argument("--resolution", metavar="TEXT", help="with --left: how you know; goes into the journal")


def _tasks_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", default=None, help="closed ones too")
    _page(parser, "before")


def _tasks_close(parser: argparse.ArgumentParser) -> None:
    _add(parser, "task", "the task's id")
    parser.add_argument("--resolution", required=True, help="what was done about it")


def _tasks_approve(parser: argparse.ArgumentParser) -> None:
    _add(parser, "task", "the task's id")
    parser.add_argument("--price", metavar="AMOUNT", help="the price that you accept, for a task about a price")


def _freeze_set(parser: argparse.ArgumentParser) -> None:
    _add(parser, "scope", "all, vendor:<name>, wallet:<address>, account:<id> or asset:<CAIP-19 id>")
    parser.add_argument("--reason", required=True, help="what agents are told, and the journal")


def _freeze_lift(parser: argparse.ArgumentParser) -> None:
    _freeze_set(parser)
    parser.add_argument(
        "--force", action="store_true", default=None, help="lift even the quarantine of an older database"
    )


def _meters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="ID", help="of one account only")
    parser.add_argument("--vendor", metavar="NAME", help="at one vendor only")
    parser.add_argument("--all", action="store_true", default=None, help="what is over too")
    _page(parser, "before")


def _server_resolve(parser: argparse.ArgumentParser) -> None:
    _add(parser, "server", "the server's id")
    found = parser.add_mutually_exclusive_group(required=True)
    found.add_argument("--made", metavar="REF", help="the vendor's id of what its order made")
    found.add_argument("--nothing", action="store_true", default=None, help="its order made nothing")
    parser.add_argument("--resolution", required=True, help="how you know; goes into the journal")


def _vendor_balance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("vendor", metavar="NAME", nargs="?", help="one vendor only")


def _incoming_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="ID", help="what came in for this account, instead of what is nobody's")
    _page(parser, "after")


def _incoming_resolve(parser: argparse.ArgumentParser) -> None:
    _add(parser, "receipt", "the receipt's id")
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--account", metavar="ID", help="it is this account's: it is credited, and never refundable")
    whose.add_argument("--capital", action="store_true", default=None, help="it is the operator's own")
    parser.add_argument("--note", required=True, help="how you know; goes into the journal")


def _sellers_set(parser: argparse.ArgumentParser) -> None:
    _add(parser, "account", "the account's id")
    parser.add_argument(
        "--gas-budget",
        required=True,
        metavar="COIN",
        help='what its failed settlements may burn in a window, such as "0.01"',
    )
    parser.add_argument("--window", type=int, metavar="SECONDS", help="the window's length; a day if not given")
    parser.add_argument("--latency", metavar="SECONDS", help="how long its payments may wait for company in a batch")
    parser.add_argument(
        "--payee",
        action="append",
        dest="payees",
        metavar="ADDRESS",
        help="whom its payments may go to; may be repeated; anybody if not given",
    )


def _account_list(parser: argparse.ArgumentParser) -> None:
    _page(parser, "after")


_THE_ACCOUNT = _positional("account", "the account's id")
_THE_KEY = _positional("key", "the key's id")
_THE_PAYMENT = _positional("payment", "the payment's id")
_THE_TASK = _positional("task", "the task's id")

VERBS: tuple[Verb, ...] = (
    Verb("account open", "open an account", "account_open", one("account"), _account_open),
    Verb(
        "account credit",
        "give an account credit",
        "account_credit",
        changed("account", "Credited.", "This reference was booked before: nothing was changed."),
        _account_credit,
    ),
    Verb(
        "account list",
        "list accounts and balances",
        "account_list",
        listed("accounts", *ACCOUNT_COLUMNS),
        _account_list,
    ),
    Verb("key new", "make an API key and show it once", "key_new", new_key, _key_new),
    Verb(
        "key list",
        "list an account's keys",
        "key_list",
        listed("keys", "id", "name", "scopes", "budgets", "created_at", "revoked_at"),
        _THE_ACCOUNT,
    ),
    Verb("key revoke", "revoke a key", "key_revoke", changed("key", "Revoked.", "It was revoked before."), _THE_KEY),
    Verb("payments list", "list payments", "payments_list", listed("payments", *PAYMENT_COLUMNS), _payments_list),
    Verb("payments show", "show everything about a payment", "payments_show", one("payment"), _THE_PAYMENT),
    Verb(
        "payments resolve",
        "decide a held dispute, or end a payment that nothing proves",
        "payments_resolve",
        one("payment"),
        _payments_resolve,
    ),
    Verb(
        "tasks list",
        "list what waits for a human",
        "tasks_list",
        listed("tasks", "id", "kind", "subject", "payment", "opened_at", "closed_at"),
        _tasks_list,
    ),
    Verb("tasks show", "show a task", "tasks_show", one("task"), _THE_TASK),
    Verb(
        "tasks close", "close a task", "tasks_close", changed("task", "Closed.", "It was closed before."), _tasks_close
    ),
    Verb(
        "tasks approve",
        "approve the payee or the price that a task asks for",
        "tasks_approve",
        changed("task", "Approved and closed.", "It was closed before."),
        _tasks_approve,
    ),
    Verb(
        "freeze set", "stop a scope", "freeze_set", changed("freeze", "Frozen.", "It was frozen before."), _freeze_set
    ),
    Verb(
        "freeze lift", "release a scope", "freeze_lift", changed("scope", "Lifted.", "It was not frozen."), _freeze_lift
    ),
    Verb("freeze list", "list what is frozen", "freeze_list", listed("freezes", "scope", "reason", "by", "at"), _none),
    Verb(
        "relayers list",
        "list the keys that pay gas, and their ether",
        "relayers_list",
        listed("relayers", "name", "chain_id", "address", "ether_wei", "account_nonce", "open_transactions"),
        _none,
    ),
    Verb(
        "batches deploy",
        "put the batch contract up on a chain",
        "batches_deploy",
        changed("contract", "Deployed.", "It stands there already."),
        _batches_deploy,
    ),
    Verb(
        "servers list",
        "list the servers of the vendor-neutral API",
        "servers",
        listed("servers", *SERVER_COLUMNS),
        _meters,
    ),
    Verb(
        "servers resolve",
        "say what an order has made that only a human could find out",
        "server_resolve",
        changed("server", "Resolved, and its task is closed.", "It was resolved before; its task is closed."),
        _server_resolve,
    ),
    Verb(
        "meters",
        "list what runs at vendor accounts and is charged by time",
        "meters",
        listed("meters", *METER_COLUMNS),
        _meters,
    ),
    Verb(
        "vendor balance",
        "show what is left at vendor accounts, by the books and by the vendor",
        "vendor_balance",
        listed("vendors", *BALANCE_COLUMNS),
        _vendor_balance,
    ),
    Verb(
        "incoming list",
        "list received money that is nobody's",
        "incoming_list",
        listed("incoming", *INCOMING_COLUMNS),
        _incoming_list,
    ),
    Verb(
        "incoming resolve",
        "say whose received money is",
        "incoming_resolve",
        changed("incoming", "Resolved, and its task is closed.", "It was resolved so before."),
        _incoming_resolve,
    ),
    Verb(
        "sellers list",
        "list who may settle at the facilitator",
        "sellers_list",
        listed("sellers", *SELLER_COLUMNS),
        _none,
    ),
    Verb("sellers set", "let an account settle at the facilitator", "sellers_set", one("seller"), _sellers_set),
    Verb(
        "sellers end",
        "end a seller's terms",
        "sellers_end",
        changed("seller", "Ended.", "They had ended before."),
        _positional("account", "the account's id"),
    ),
    Verb(
        "trace",
        "show all that belongs to a transaction, server, key id, account, payment, top-up, receipt, refund, settlement, nonce "
        "or journal row",
        "trace",
        trace,
        _positional("what", "any of these"),
    ),
    Verb(
        "balances",
        "show every ledger account",
        "balances",
        listed("accounts", "code", "asset", "posted", "reserved", "available"),
        _none,
    ),
)
