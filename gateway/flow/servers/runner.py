"""A neutral call as a call of the vendor's own API, through the very machines that serve agents' proxied calls.

Must not know what is asked or what the answer means.  Theory: one way to spend and one way to be fenced; whatever is true
of a proxied call (P1 to P14) is true of a neutral one because it is one.
"""

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.account_ports import AccountVendor
from gateway.core.apikeys import PROXY, allows
from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from gateway.flow.call import AccountCall, Call, Reply, Served
from gateway.ports import Vendor
from gateway.server_ports import Ask

ANSWER_MAX_BYTES = 1024 * 1024


class Spending(Protocol):
    """Serves calls to vendors that ask for their money with a 402."""

    async def run(self, call: Call) -> Reply:
        """Serve one call. Raises Problem."""
        ...


class Brokering(Protocol):
    """Serves calls to vendors that know us by an account."""

    async def run(self, call: AccountCall) -> Reply:
        """Serve one call. Raises Problem."""
        ...


@dataclass(frozen=True, slots=True)
class Who:
    """On whose behalf something is asked, and for which request."""

    key: ApiKey
    request_id: str

    @property
    def account_id(self) -> str:
        """The account that pays."""
        return self.key.account_id


class Runner:
    """Runs asks at every vendor. `claim` is an Idempotency-Key of ours: no agent's can be equal to one with a space in it."""

    def __init__(
        self,
        spend: Spending,
        broker: Brokering | None,
        vendors: Mapping[str, Vendor],
        accounts: Mapping[str, AccountVendor],
    ) -> None:
        self._spend, self._broker, self._vendors, self._accounts = spend, broker, vendors, accounts

    async def ask(
        self,
        who: Who,
        vendor_name: str,
        ask: Ask,
        *,
        claim: str | None = None,
        max_charge_base: int | None = None,
        quote_only: bool = False,
        stream: AsyncIterable[bytes] | None = None,
    ) -> Reply:
        """Run one call for whoever asks. Raises Problem as the proxy does: nothing was charged unless it names a payment.

        The key's scopes are checked here: what a key may not call through the proxy, it may not call this way either.
        """
        if not allows(who.key.scopes, f"{PROXY}:{vendor_name}"):
            scope = f"{PROXY}:{vendor_name}"
            raise Problem("scope_missing", f'this needs a key with the scope "{scope}"', extra={"scope": scope})
        served: Served | None = self._vendors.get(vendor_name) or self._accounts.get(vendor_name)
        if served is None:
            raise Problem("vendor_unknown", f"there is no vendor {vendor_name} here")
        match = served.match(ask.method, ask.target.partition("?")[0])
        if match is None:
            raise AssertionError(f"{vendor_name}: a neutral call names a route that is not declared: {ask.method}")
        said = {
            "key": who.key,
            "request_id": who.request_id,
            "match": match,
            "method": ask.method,
            "target": ask.target,
            "headers": _headers(ask),
            "body": ask.body,
            "stream": stream,
            "idempotency_key": claim,
            "max_charge_base": max_charge_base,
            "quote_only": quote_only,
            "purpose": claim or "",
        }
        vendor = self._vendors.get(vendor_name)
        if vendor is not None:
            return await self._spend.run(Call(vendor=vendor, **said))  # type: ignore[arg-type]
        if self._broker is None:
            raise AssertionError("account vendors are configured, and nothing serves them")
        return await self._broker.run(AccountCall(vendor=self._accounts[vendor_name], **said))  # type: ignore[arg-type]

    async def ask_whole(
        self,
        who: Who,
        vendor_name: str,
        ask: Ask,
        *,
        claim: str | None = None,
        max_charge_base: int | None = None,
    ) -> Reply:
        """Run one call whose answer must come whole. Await the reply's `delivered` once what it says is kept.

        Raises Problem, also "vendor_answer_oversized".
        """
        reply = await self.ask(who, vendor_name, ask, claim=claim, max_charge_base=max_charge_base)
        if reply.rest is not None:
            await reply.rest.close()
            raise Problem("vendor_answer_oversized", f"{vendor_name} answered more than {ANSWER_MAX_BYTES} bytes")
        return reply


def _headers(ask: Ask) -> tuple[tuple[str, str], ...]:
    if ask.body and not any(name.lower() == "content-type" for name, _ in ask.headers):
        return (*ask.headers, ("Content-Type", "application/json"))
    return ask.headers
