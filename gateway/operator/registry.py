"""Every call of the operator by name, and the one door to them.

Must not know transports.  Theory: a closed table, so that the socket, the command line and later the console offer exactly
the same calls with the same parameters.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.core.problems import Problem
from gateway.operator import accounts, audit, freezes, incoming, metered, payments, relaying, sellers, servers, tasks
from gateway.operator.params import Params
from gateway.operator.services import Operation, Services

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "account_open": Operation(accounts.account_open, ("account", "name")),
        "account_credit": Operation(accounts.account_credit, ("account", "amount", "reference", "note")),
        "account_list": Operation(accounts.account_list, ("after", "limit")),
        "key_new": Operation(accounts.key_new, ("account", "name", "scopes", "budgets")),
        "key_list": Operation(accounts.key_list, ("account",)),
        "key_revoke": Operation(accounts.key_revoke, ("key",)),
        "payments_list": Operation(payments.payments_list, ("account", "open", "before", "limit")),
        "payments_show": Operation(payments.payments_show, ("payment",)),
        "payments_resolve": Operation(payments.payments_resolve, ("payment", "charge", "left", "tx", "resolution")),
        "tasks_list": Operation(tasks.tasks_list, ("all", "before", "limit")),
        "tasks_show": Operation(tasks.tasks_show, ("task",)),
        "tasks_close": Operation(tasks.tasks_close, ("task", "resolution")),
        "tasks_approve": Operation(tasks.tasks_approve, ("task", "price")),
        "freeze_set": Operation(freezes.freeze_set, ("scope", "reason")),
        "freeze_lift": Operation(freezes.freeze_lift, ("scope", "reason", "force")),
        "freeze_list": Operation(freezes.freeze_list),
        "meters": Operation(metered.meters, ("account", "vendor", "all", "before", "limit")),
        "servers": Operation(servers.servers, ("account", "vendor", "all", "before", "limit")),
        "server_resolve": Operation(servers.server_resolve, ("server", "made", "nothing", "resolution")),
        "vendor_balance": Operation(metered.vendor_balance, ("vendor",)),
        "incoming_list": Operation(incoming.incoming_list, ("account", "after", "limit")),
        "incoming_resolve": Operation(incoming.incoming_resolve, ("receipt", "account", "capital", "note")),
        "sellers_list": Operation(sellers.sellers_list),
        "sellers_set": Operation(sellers.sellers_set, ("account", "gas_budget", "window", "latency", "payees")),
        "sellers_end": Operation(sellers.sellers_end, ("account",)),
        "relayers_list": Operation(relaying.relayers_list),
        "batches_deploy": Operation(relaying.batches_deploy, ("chain_id",)),
        "trace": Operation(audit.trace, ("what",)),
        "balances": Operation(audit.balances),
        "journal_verify": Operation(audit.journal_verify),
        "journal_export": Operation(audit.journal_export, ("after", "limit")),
    }
)


async def operate(services: Services, name: str, raw: Mapping[str, object], by: str) -> dict[str, Any]:
    """Run a call for `by` (who asks, as the transport knows it). Raises Problem, and then nothing was changed."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise Problem("not_found", f"there is no operator's call {name}")
    params = Params(raw, by)
    params.refuse_unknown(operation.parameters)
    return await operation.run(services, params)
