"""The proof that who may do what is what the journal says it became: accounts, their wallets, credit, freezes, payees, prices.

Must not know who decided.  Theory: rights are recorded like money, each change in a sealed row; so a wallet that signs in to
another account, a freeze that is gone, a payee or a credit that nobody granted contradicts the rows that tell of them. Whose
a thing at a vendor is follows from the payment that bought it, or from the row that says that it cost nothing.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from gateway.store.broken import BookBroken

Content = Mapping[str, Any]
Facts = dict[Any, Any]

# What is kept of each right, by what names it.
KEPT: Mapping[str, str] = {
    "account": "SELECT id, name FROM agent_accounts",
    "wallet": "SELECT '0x' || lower(hex(address)), account_id FROM wallet_accounts",
    "credit": "SELECT reference, json_array(account_id, amount_base) FROM credits",
    "freeze": "SELECT scope, reason FROM freezes",
    "payee": "SELECT json_array(vendor, chain_id, '0x' || lower(hex(pay_to))), 1 FROM payees",
    "price": "SELECT json_array(vendor, item), approved_base FROM prices WHERE approved_base IS NOT NULL",
}
FOREIGN = (
    "SELECT r.vendor || '/' || r.ref FROM resources r LEFT JOIN payments p ON p.id = r.payment_id WHERE r.payment_id <> '' "
    "AND p.account_id IS NOT r.account_id LIMIT 1"
)
FREE = "SELECT vendor, ref, account_id FROM resources WHERE payment_id = ''"


def _text(*values: object) -> str:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def _account(facts: Facts, told: Content) -> None:
    facts["account", told["account_id"]] = told["name"]


def _wallet(facts: Facts, told: Content) -> None:
    facts["wallet", told["address"]] = told["account_id"]


def _credit(facts: Facts, told: Content) -> None:
    facts["credit", told["reference"]] = _text(told["account_id"], told["amount_base"])


def _frozen(facts: Facts, told: Content) -> None:
    facts["freeze", told["scope"]] = told["reason"]


def _lifted(facts: Facts, told: Content) -> None:
    facts.pop(("freeze", told["scope"]), None)


def _payee(facts: Facts, told: Content) -> None:
    facts["payee", _text(told["vendor"], told["chain_id"], told["pay_to"])] = 1


def _price(facts: Facts, told: Content) -> None:
    facts["price", _text(told["vendor"], told["item"])] = told["amount_base"]


def _thing(facts: Facts, told: Content) -> None:
    facts["thing", told["vendor"], told["ref"]] = told["account_id"]


READERS: Mapping[str, Callable[[Facts, Content], None]] = {
    "account.opened": _account,
    "wallet.bound": _wallet,
    "account.credited": _credit,
    "freeze.set": _frozen,
    "freeze.lifted": _lifted,
    "payee.approved": _payee,
    "price.approved": _price,
    "resource.created": _thing,
}
_KINDS = ", ".join(f"'{kind}'" for kind in READERS)
TOLD = f"SELECT kind, body FROM journal WHERE kind IN ({_KINDS}) ORDER BY seq"  # noqa: S608 - names are ours


def verify_rights(db: sqlite3.Connection) -> None:
    """Compare every right with its journal rows. Raises BookBroken naming the first contradiction. Reads everything."""
    facts: Facts = {}
    for kind, body in db.execute(TOLD):
        READERS[kind](facts, json.loads(body))
    for vendor, ref, account_id in db.execute(FREE):
        told = facts.get(("thing", vendor, ref))
        if told != account_id:
            raise BookBroken(f"{vendor}/{ref} is {account_id}'s, and the journal says {told}'s")
    row = db.execute(FOREIGN).fetchone()
    if row is not None:
        raise BookBroken(f"{row[0]} is not the account's that bought it")
    for what, statement in KEPT.items():
        for name, kept in db.execute(statement):
            told = facts.pop((what, name), None)
            if told != kept:
                raise BookBroken(f"{what} {name} is kept as {kept}, and the journal says {told}")
    left = sorted(str(fact) for fact in facts if fact[0] != "thing")
    if left:
        raise BookBroken(f"the journal tells of rights that are gone: {left[:10]}")
