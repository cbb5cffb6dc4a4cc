"""What waits for a human: looking at tasks, closing them, and approving what they ask for.

Must not decide for the human.  Theory: a payee is approved as the task names it, never as someone retypes it, and a price
only with the figure that the operator states, so that what was read is what is allowed (P8).
"""

import re
from typing import Any

from contracts.codec import ZERO_ADDRESS, CodecError, parse_address
from gateway.core.commands import ApprovePayee, ApprovePrice, CloseTask
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import Task
from gateway.operator import describe
from gateway.operator.paging import PAGE_MAX, before_of, listed
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services
from gateway.store import columns as col
from gateway.store import queries

PAYEE_UNKNOWN = "payee_unknown"
PRICE_KINDS = frozenset({"price_changed", "price_unknown"})
_PAYEE = re.compile(r"([^/]+)/([1-9][0-9]{0,18})/(0x[0-9a-fA-F]{40})", re.ASCII)


async def tasks_list(services: Services, params: Params) -> dict[str, Any]:
    """Return tasks, the newest first; open ones unless `all` is asked for."""
    limit = params.number("limit", 50, PAGE_MAX, low=1)
    before = before_of(params)
    rows = await services.store.query(
        queries.TASKS, {"open": int(not params.flag("all")), "before": before, "limit": limit}
    )
    tasks = [describe.task(col.task_from(tuple(row.values()))) for row in rows]
    return listed("tasks", tasks, limit)


async def tasks_show(services: Services, params: Params) -> dict[str, Any]:
    """Return one task."""
    return {"task": describe.task(await _task(services, params.identifier("task")))}


async def tasks_close(services: Services, params: Params) -> dict[str, Any]:
    """Close a task with the words that explain it."""
    task_id = params.identifier("task")
    return await _close(services, task_id, params.text("resolution"), params.by)


async def tasks_approve(services: Services, params: Params) -> dict[str, Any]:
    """Approve the payee or the price that a task asks for, and close the task."""
    task = await _task(services, params.identifier("task"))
    if task.closed_at_ms is not None:
        raise Problem("bad_request", "the task is closed", "task")
    if task.kind == PAYEE_UNKNOWN:
        if params.optional_text("price") is not None:
            raise Problem("bad_request", "this task is about a payee, not a price", "price")
        resolution = await _approve_payee(services, task, params.by)
    elif task.kind in PRICE_KINDS:
        if params.optional_text("price") is None:
            raise Problem("bad_request", f"state the price that you accept, with --price: {task.detail}", "price")
        resolution = await _approve_price(services, task, params.amount("price"), params.by)
    else:
        raise Problem("bad_request", f"a task of kind {task.kind} has nothing to approve; close it", "task")
    return await _close(services, task.id, resolution, params.by)


async def _approve_payee(services: Services, task: Task, by: str) -> str:
    match = _PAYEE.fullmatch(task.subject)
    if match is None:
        raise Problem("bad_request", "the task's subject is not vendor/chain/payee", "task")
    vendor, chain_id = match[1], int(match[2])
    try:
        pay_to = parse_address(match[3])
    except CodecError as error:
        raise Problem("bad_request", f"the task's payee cannot be read: {error}", "task") from None
    _known_vendor(services, vendor)
    if pay_to == ZERO_ADDRESS or pay_to in services.own_addresses:
        raise Problem("payee_is_ours", "this payee is one of our own wallets, or nobody: it can never be paid")
    await post(services, ApprovePayee(vendor, chain_id, pay_to, by, services.clock.now_ms()))
    services.payees_changed()
    return f"approved payee {describe.address(pay_to)} of {vendor} on chain {chain_id}"


async def _approve_price(services: Services, task: Task, amount_base: int, by: str) -> str:
    vendor, slash, item = task.subject.partition("/")
    if not slash or not item:
        raise Problem("bad_request", "the task names no item; raise the ceiling in the configuration instead", "task")
    _known_vendor(services, vendor)
    await post(services, ApprovePrice(vendor, item, amount_base, by, services.clock.now_ms()))
    return f"approved {format_amount(amount_base)} for {item} at {vendor}"


async def _close(services: Services, task_id: str, resolution: str, by: str) -> dict[str, Any]:
    done = await post(services, CloseTask(task_id, resolution, by, services.clock.now_ms()))
    return {"changed": done.changed, "task": describe.task(await _task(services, task_id))}


async def _task(services: Services, task_id: str) -> Task:
    # The newest task up to this id: the page that starts just after it.
    rows = await services.store.query(queries.TASKS, {"open": 0, "before": task_id + "\0", "limit": 1})
    if not rows or rows[0]["id"] != task_id:
        raise Problem("not_found", f"there is no task {task_id}")
    return col.task_from(tuple(rows[0].values()))


def _known_vendor(services: Services, vendor: str) -> None:
    if vendor not in services.routes:
        raise Problem("vendor_unknown", f"{vendor} is not in the configuration")
