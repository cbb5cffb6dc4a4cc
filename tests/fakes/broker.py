"""A broker that has no vendor to ask: it answers what the gateway answers itself, and echoes the rest.

Its figures are the account's own from the store; every call is kept, so a test sees what the API handed over.
"""

from dataclasses import dataclass, field

from gateway.account_ports import Own
from gateway.core.routes import Pricing
from gateway.flow.call import AccountCall, Reply
from gateway.ports import Store

__all__ = ["EchoBroker"]


@dataclass
class EchoBroker:
    """Implements gateway.api.deps.Broker."""

    store: Store
    seen: list[AccountCall] = field(default_factory=list)

    async def run(self, call: AccountCall) -> Reply:
        """Answer one call."""
        self.seen.append(call)
        if call.match.route.pricing is not Pricing.LOCAL:
            return Reply.of_json(200, {"route": call.match.route.name, "account": call.account_id})
        balance = self.store.view.balances[call.account_id]
        own = Own(
            account_id=call.account_id,
            name=call.account_id,
            available_base=balance.available_base,
            hourly_base=0,
            email=call.email or f"{call.account_id}@agents.invalid",
            now_ms=0,
            token=call.token,
        )
        said = call.vendor.local(call.match, call.body, own)
        return Reply.of_json(said.status, said.document)
