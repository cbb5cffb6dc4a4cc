"""The servers of every account, as the vendor-neutral API knows them: what is wanted, what is, and what it has cost.

Must not ask a vendor anything, and shows no secret.  Theory: the operator who reads a vendor's bill needs to know which
agent's wish each machine is, and what would happen to it next; and where only a human can find out what an order has made,
what the human found is recorded as if its vendor's answer had told it, and followed like any other.
"""

from dataclasses import replace
from typing import Any

from gateway.core.commands import CloseTask, Put, RecordResource
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import Payment, Resource, Task
from gateway.core.server import ORDERED, Server, ServerState
from gateway.flow.servers.ordering import CONFLICT, UNREADABLE, claim_of
from gateway.operator import describe
from gateway.operator.paging import LAST, PAGE_MAX, at_vendors, listed
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services
from gateway.store import columns, queries
from gateway.store import kept_columns as col

REASON_MAX = 500
THING = "server"  # what vendors with many kinds of things call the one that an order makes


async def servers(services: Services, params: Params) -> dict[str, Any]:
    """Return servers, the newest first; those that have ended as well if `all` is asked for."""
    asked = at_vendors(params)
    account_id = asked["account_id"]
    rows = await services.store.query(queries.SERVERS, asked)
    if not rows and account_id and account_id not in services.store.view.agent_accounts:
        raise Problem("not_found", f"there is no account {account_id}")
    found = [await _described(services, col.server_from(tuple(row.values()))) for row in rows]
    return listed("servers", found, asked["limit"])


async def server_resolve(services: Services, params: Params) -> dict[str, Any]:
    """Record what an order has made that a human had to find out, and close its task: a vendor's thing, or nothing.

    What was made is looked at and followed from then on; where nothing was, the order has failed, and what became of its
    money stays its payment's matter. Refused for an order that no task is open for: its gateway still finds out by itself.
    """
    server = await _server(services, params.identifier("server"))
    made, nothing, words = params.optional_text("made"), params.flag("nothing"), params.text("resolution")
    if (made is None) is not nothing:
        raise Problem("bad_request", "say what was made, or that nothing was, and not both", "made")
    claimed = await services.store.claimed(server.account_id, claim_of(server))
    payment = None
    if claimed is not None and claimed.payment_id is not None:
        payment = await services.store.payment(claimed.payment_id)
    tasks = await _open_tasks(services, server, payment)
    if not tasks:
        raise Problem(
            "bad_request", f"no task is open for what {server.id} has made: nothing is to be resolved", "server"
        )
    changed = server.state in ORDERED
    if changed:
        server = await _resolve(services, server, payment, made, words, params.by)
    elif server.ref != made:  # what a first call that was cut off left is finished by its repeat
        raise Problem(
            "bad_request", f"{server.id} is {server.state.value} at {server.ref}; see it and its tasks", "made"
        )
    if made is not None:
        await _own(services, server, payment)
    for task in tasks:
        await post(services, CloseTask(task.id, words, params.by, services.clock.now_ms()))
    return {"changed": changed, "server": await _described(services, server)}


async def _resolve(
    services: Services, server: Server, payment: Payment | None, made: str | None, words: str, by: str
) -> Server:
    now_ms, detail = services.clock.now_ms(), {"by": by, "resolution": words}
    payment_id = server.payment_id if payment is None else payment.id
    after = replace(server, payment_id=payment_id, as_of_ms=now_ms, version=server.version + 1)
    if made is None:
        reason = f"{server.vendor} made nothing, as the operator has found out: {words}"
        after = replace(after, state=ServerState.FAILED, reason=reason[:REASON_MAX], ended_at_ms=now_ms)
    else:
        if server.vendor in services.account_vendors and await services.store.resource(server.vendor, made) is None:
            detail_text = (
                f"the books know no {made} at {server.vendor}: what runs on its account is taken over by its list"
            )
            raise Problem("not_found", detail_text, "made")
        after = replace(after, state=ServerState.PROVISIONING, reason="", ref=made)
    await post(services, Put(after, after.state.value, now_ms, detail))
    return after


async def _own(services: Services, server: Server, payment: Payment | None) -> None:
    """P9: from now on the thing is its account's, so that it can be asked about; one that is known stays whose it is."""
    now_ms = services.clock.now_ms()
    thing = Resource(
        vendor=server.vendor,
        ref=server.ref or "",
        account_id=server.account_id,
        payment_id="" if payment is None else payment.id,
        kind=THING,
        state="unknown",
        surrogate_digest=None,
        sealed_secret=None,
        expires_at_ms=None,
        as_of_ms=now_ms,
        plan=server.plan,
    )
    await post(services, RecordResource(thing, now_ms))


async def _server(services: Services, server_id: str) -> Server:
    found = services.store.view.servers.get(server_id) or await services.store.server(server_id)
    if found is None:
        raise Problem("not_found", f"there is no server {server_id}")
    return found


async def _open_tasks(services: Services, server: Server, payment: Payment | None) -> list[Task]:
    """Return what waits for a human who finds out what this order has made."""
    subjects = {(CONFLICT, server.id)} | ({(UNREADABLE, payment.id)} if payment is not None else set())
    found, before = list[Task](), LAST
    while True:
        rows = await services.store.query(queries.TASKS, {"open": 1, "before": before, "limit": PAGE_MAX})
        tasks = [columns.task_from(tuple(row.values())) for row in rows]
        found += [task for task in tasks if (task.kind, task.subject) in subjects]
        if len(tasks) < PAGE_MAX:
            return found
        before = tasks[-1].id


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
