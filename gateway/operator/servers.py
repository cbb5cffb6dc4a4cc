"""The servers of every account, as the vendor-neutral API knows them: what is wanted, what is, and what it has cost.

Must not ask a vendor anything, and shows no secret.  Theory: the operator who reads a vendor's bill needs to know which
agent's wish each machine is, and what would happen to it next.
"""

from typing import Any

from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.server import Server
from gateway.operator import describe
from gateway.operator.params import Params
from gateway.operator.services import Services
from gateway.store import kept_columns as col
from gateway.store import queries

PAGE_MAX = 1_000
_LAST = "~"  # sorts after every id


async def servers(services: Services, params: Params) -> dict[str, Any]:
    """Return servers, the newest first; those that have ended as well if `all` is asked for."""
    limit = params.number("limit", 100, PAGE_MAX)
    account_id, vendor = params.optional_identifier("account") or "", params.optional_identifier("vendor") or ""
    asked = {
        "open": int(not params.flag("all")),
        "before": params.optional_identifier("before") or _LAST,
        "account_id": account_id,
        "vendor": vendor,
        "limit": limit,
    }
    rows = await services.store.query(queries.SERVERS, asked)
    if not rows and account_id and account_id not in services.store.view.agent_accounts:
        raise Problem("not_found", f"there is no account {account_id}")
    found = [await _described(services, col.server_from(tuple(row.values()))) for row in rows]
    return {"servers": found, "next": found[-1]["id"] if found and len(found) == limit else None}


async def _described(services: Services, server: Server) -> dict[str, Any]:
    cost = await services.store.server_cost(server)
    return {
        "id": server.id,
        "account": server.account_id,
        "key": server.key_id,
        "name": server.name,
        "state": server.state.value,
        "wanted": server.wanted.value,
        "reason": server.reason,
        "vendor": server.vendor,
        "plan": server.plan,
        "ref": server.ref,
        "payment": server.payment_id,
        "fleet": server.fleet_id,
        "expires_at": describe.when(server.expires_at_ms),
        "keep_until": describe.when(server.keep_until_ms),
        "auto_renew": server.auto_renew,
        "max_total": None if server.max_total_base is None else format_amount(server.max_total_base),
        "captured": format_amount(cost.captured_base),
        "held": format_amount(cost.held_base),
        "created_at": describe.when(server.created_at_ms),
        "ended_at": describe.when(server.ended_at_ms),
    }
