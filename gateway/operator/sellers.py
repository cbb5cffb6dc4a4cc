"""Sellers: which accounts may have others' payments settled here, and what that may cost the operator.

Must not know settlements.  Theory: whoever may settle may burn our gas, so nobody may before the operator has said how much;
terms are replaced whole, so what is in force is what was said last.
"""

import re
from dataclasses import replace
from typing import Any

from contracts.codec import CodecError, parse_address
from gateway.core.paid import SellerTerms
from gateway.core.paid_commands import PutSeller
from gateway.core.problems import Problem
from gateway.operator import describe
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services

WINDOW_S = 86_400
WINDOW_MAX_S = 366 * 86_400
ETHER_DIGITS = 18
_ETHER = re.compile(r"(0|[1-9][0-9]{0,5})(?:\.([0-9]{1,18}))?", re.ASCII)
_SECONDS = re.compile(r"(?:0|[1-9][0-9]{0,3})(?:\.[0-9]{1,3})?", re.ASCII)


async def sellers_list(services: Services, _params: Params) -> dict[str, Any]:
    """Return the terms that are in force, by account."""
    sellers = services.store.view.sellers
    return {"sellers": [_view(sellers[account_id]) for account_id in sorted(sellers)]}


async def sellers_set(services: Services, params: Params) -> dict[str, Any]:
    """Let an account settle, or replace its terms: what is not given is the default, not what was."""
    account_id = params.identifier("account")
    known = await services.store.seller(account_id)
    terms = SellerTerms(
        account_id=account_id,
        gas_budget_wei=_wei(params.text("gas_budget")),
        window_s=params.number("window", WINDOW_S, WINDOW_MAX_S, low=1),
        latency_s=_seconds(params.optional_text("latency") or "0"),
        payees=tuple(_payee(text) for text in params.texts("payees")),
        created_at_ms=services.clock.now_ms(),
        version=1 if known is None else known.version + 1,
    )
    await post(services, PutSeller(terms, params.by, services.clock.now_ms()))
    return {"seller": _view(terms)}


async def sellers_end(services: Services, params: Params) -> dict[str, Any]:
    """End an account's terms, from the next request on."""
    account_id, now_ms = params.identifier("account"), services.clock.now_ms()
    known = await services.store.seller(account_id)
    if known is None:
        raise Problem("not_found", f"{account_id} is no seller")
    if known.ended_at_ms is not None:
        return {"changed": False, "seller": _view(known)}
    ended = replace(known, version=known.version + 1, ended_at_ms=now_ms)
    await post(services, PutSeller(ended, params.by, now_ms))
    return {"changed": True, "seller": _view(ended)}


def _wei(text: str) -> int:
    match = _ETHER.fullmatch(text)
    if match is None:
        raise Problem("bad_request", 'gas_budget is a decimal of the chain\'s coin, such as "0.01"', "gas_budget")
    fraction = (match[2] or "").ljust(ETHER_DIGITS, "0")
    return int(match[1] + fraction)


def _ether(wei: int) -> str:
    whole, part = divmod(wei, 10**ETHER_DIGITS)
    return f"{whole}.{part:0{ETHER_DIGITS}d}".rstrip("0").rstrip(".")


def _seconds(text: str) -> float:
    if _SECONDS.fullmatch(text) is None:
        raise Problem("bad_request", 'latency is a number of seconds, such as "0.5"', "latency")
    return float(text)


def _payee(text: str) -> bytes:
    try:
        return parse_address(text, "payees")
    except CodecError as error:
        raise Problem("bad_request", str(error), "payees") from None


def _view(terms: SellerTerms) -> dict[str, Any]:
    return {
        "account": terms.account_id,
        "gas_budget": _ether(terms.gas_budget_wei),
        "window_s": terms.window_s,
        "latency_s": terms.latency_s,
        "payees": [describe.address(payee) for payee in terms.payees],
        "set_at": describe.when(terms.created_at_ms),
        "ended_at": describe.when(terms.ended_at_ms),
    }
