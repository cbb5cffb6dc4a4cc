"""Accounts and their keys: opening, crediting, handing out and revoking.

Must not know how requests authenticate.  Theory: a key's text is in one answer and nowhere else; a credit has a reference,
so that a command repeated after a broken line books nothing twice.
"""

import re
from typing import Any

from gateway.core.apikeys import PROXY, READ, ScopeError, new_budget, new_key
from gateway.core.commands import AddKey, CreditAccount, OpenAccount, RevokeKey
from gateway.core.money import AmountError, format_amount, parse_amount
from gateway.core.problems import Problem
from gateway.core.records import AgentAccount, Budget
from gateway.core.view import Balance
from gateway.flow.ids import Ids
from gateway.operator import describe
from gateway.operator.paging import PAGE_MAX, listed
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services
from gateway.store import columns as col
from gateway.store import queries

DEFAULT_SCOPES = (PROXY, READ)
YEAR_S = 365 * 86_400

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NAMED_S = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 7 * 86_400}
_WINDOW = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)


def parse_budget(services: Services, text: str) -> Budget:
    """Read `AMOUNT/WINDOW[@VENDOR[/ROUTE]]`, such as "10/day" or "5/3600s@vpsagent/rent".

    Raises Problem: also for a vendor or a route that does not exist, for such a budget would limit nothing.
    """
    spend, _, where = text.partition("@")
    amount, _, window = spend.partition("/")
    vendor, _, route = where.partition("/")
    try:
        limit_base = parse_amount(amount)
    except AmountError as error:
        raise Problem("bad_request", f"budget: {error}", "budgets") from None
    window_s = _NAMED_S.get(window)
    if window_s is None:
        match = _WINDOW.fullmatch(window)
        window_s = 0 if match is None else int(match[1]) * _UNITS_S[match[2]]
    if not 1 <= window_s <= YEAR_S:
        raise Problem(
            "bad_request",
            "budget: write the window as minute, hour, day, week, or a number with s, m, h or d",
            "budgets",
        )
    if where and vendor not in services.routes:
        raise Problem("vendor_unknown", f"budget: there is no vendor {vendor}", "budgets")
    if route and route not in services.routes[vendor]:
        known = ", ".join(sorted(services.routes[vendor]))
        raise Problem("bad_request", f"budget: {vendor} has no route {route}; it has {known}", "budgets")
    now_ms, chance = services.clock.now_ms(), services.entropy.bytes
    return new_budget(limit_base, window_s, now_ms, chance, vendor=vendor or None, route=route or None)


async def account_open(services: Services, params: Params) -> dict[str, Any]:
    """Open an account; without an id one is made."""
    now_ms = services.clock.now_ms()
    account_id = params.optional_identifier("account") or Ids(services.clock, services.entropy).new("acct")
    account = AgentAccount(account_id, params.text("name"), now_ms)
    await post(services, OpenAccount(account))
    return {"account": _account(services, account)}


async def account_credit(services: Services, params: Params) -> dict[str, Any]:
    """Give an account credit, once per reference; `changed` is false for a reference that was booked before."""
    account_id = params.identifier("account")
    command = CreditAccount(
        account_id=account_id,
        amount_base=params.amount("amount"),
        reference=params.text("reference"),
        note=params.optional_text("note") or "",
        by=params.by,
        at_ms=services.clock.now_ms(),
    )
    done = await post(services, command)
    account = services.store.view.agent_accounts[account_id]
    return {"changed": done.changed, "reference": command.reference, "account": _account(services, account)}


async def account_list(services: Services, params: Params) -> dict[str, Any]:
    """Return accounts in the order of their ids, from after a given one."""
    limit = params.number("limit", 100, PAGE_MAX, low=1)
    rows = await services.store.query(
        queries.ACCOUNTS, {"after": params.optional_identifier("after") or "", "limit": limit}
    )
    accounts = [_account(services, AgentAccount(row["id"], row["name"], row["created_at_ms"])) for row in rows]
    return listed("accounts", accounts, limit)


async def key_new(services: Services, params: Params) -> dict[str, Any]:
    """Make a key; its text is in this answer and nowhere else."""
    scopes = params.texts("scopes") or DEFAULT_SCOPES
    _check_vendors(services, scopes)
    budgets = tuple(parse_budget(services, each) for each in params.texts("budgets"))
    account_id, name = params.identifier("account"), params.optional_text("name") or ""
    try:
        made = new_key(account_id, name, scopes, budgets, services.clock.now_ms(), services.entropy.bytes)
    except ScopeError as error:
        raise Problem("bad_request", str(error), "scopes") from None
    await post(services, AddKey(made.key))
    return {"key": describe.key(made.key), "secret": made.text.reveal()}


async def key_list(services: Services, params: Params) -> dict[str, Any]:
    """Return an account's keys, revoked ones included."""
    account_id = params.identifier("account")
    if account_id not in services.store.view.agent_accounts:
        raise Problem("not_found", f"there is no account {account_id}")
    rows = await services.store.query(queries.KEYS_OF_ACCOUNT, {"account_id": account_id})
    return {"keys": [describe.key(col.key_from(tuple(row.values()))) for row in rows]}


async def key_revoke(services: Services, params: Params) -> dict[str, Any]:
    """Revoke a key, from the next request on."""
    key_id = params.identifier("key")
    known = services.store.view.keys_by_id.get(key_id)
    if known is None:
        raise Problem("not_found", f"there is no key {key_id}")
    done = await post(services, RevokeKey(key_id, known.account_id, services.clock.now_ms()))
    return {"changed": done.changed, "key": describe.key(services.store.view.keys_by_id[key_id])}


def _check_vendors(services: Services, scopes: tuple[str, ...]) -> None:
    for scope in scopes:
        kind, _, vendor = scope.partition(":")
        if kind == PROXY and vendor and vendor not in services.routes:
            raise Problem("vendor_unknown", f"scope: there is no vendor {vendor}", "scopes")


def _account(services: Services, account: AgentAccount) -> dict[str, Any]:
    balance = services.store.view.balances.get(account.id, Balance())
    return {
        "id": account.id,
        "name": account.name,
        "available": format_amount(balance.available_base),
        "held": format_amount(balance.held_base),
        "created_at": describe.when(account.created_at_ms),
    }
