"""Money that came in: looking at what is nobody's, and saying whose it is.

Must not know chains.  Theory: what was sent to a till is owed to somebody, so it leaves the queue only by a decision that
names whose it is and why; to send it back is not among them, because who sent it has proven nothing.
"""

from typing import Any

from contracts.codec import to_hex
from gateway.core.money import format_amount
from gateway.core.paid import Incoming
from gateway.core.paid_commands import ResolveIncoming
from gateway.core.problems import Problem
from gateway.operator import describe
from gateway.operator.paging import PAGE_MAX, listed
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services


async def incoming_list(services: Services, params: Params) -> dict[str, Any]:
    """Return what is nobody's, the oldest first; with an account, what came in for it."""
    limit, after = params.number("limit", 50, PAGE_MAX, low=1), params.optional_identifier("after") or ""
    account_id = params.optional_identifier("account")
    if account_id is None:
        found = await services.store.unclaimed(after, limit)
    elif account_id in services.store.view.agent_accounts:
        found = await services.store.receipts_of(account_id, after, limit)
    else:
        raise Problem("not_found", f"there is no account {account_id}")
    incoming = [_view(each) for each in found]
    return listed("incoming", incoming, limit)


async def incoming_resolve(services: Services, params: Params) -> dict[str, Any]:
    """Give what is nobody's to an account, or to the house as its capital, and close its task."""
    receipt_id, account_id = params.identifier("receipt"), params.optional_identifier("account")
    if (account_id is not None) == params.flag("capital"):
        raise Problem("bad_request", "say whose it is: an account's, or the house's capital", "account")
    note = params.text("note")
    command = ResolveIncoming(receipt_id, account_id, note, params.by, services.clock.now_ms())
    done = await post(services, command)
    found = await services.store.incoming(receipt_id)
    assert found is not None, "what was resolved is found"
    return {"changed": done.changed, "incoming": _view(found)}


def _view(incoming: Incoming) -> dict[str, Any]:
    return {
        "id": incoming.id,
        "state": incoming.state.value,
        "account": incoming.account_id,
        "topup": incoming.topup_id,
        "amount": format_amount(incoming.amount_base),
        "refunded": format_amount(incoming.refunded_base),
        "refundable": incoming.refundable,
        "asset": incoming.asset,
        "value": format_amount(incoming.value_base),
        "sender": describe.address(incoming.sender),
        "till": describe.address(incoming.till),
        "tx_hash": to_hex(incoming.tx_hash),
        "log_index": incoming.log_index,
        "block_number": incoming.block_number,
        "block_time": describe.when(incoming.block_time_s * 1000),
        "at": describe.when(incoming.at_ms),
        "note": incoming.note,
    }
