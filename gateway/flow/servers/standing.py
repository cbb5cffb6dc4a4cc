"""How each vendor stands, from what is known without asking it: whether anything can be bought there, and how it does it.

Must not know HTTP, and asks nobody.  Theory: whoever compares vendors must not wait for one of them, so what a request
needs is read from the committed view, the chains' heads and the operator's terms; only buying finds out the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.account_ports import AccountVendor
from gateway.core.ranking import Facts, Metering, VendorFacts
from gateway.core.records import EVERYTHING
from gateway.core.view import View
from gateway.flow.heads import Heads
from gateway.flow.readiness import limits, unread_chains
from gateway.ports import Clock, Vendor
from gateway.server_ports import Feature, ServerVendor


@dataclass(frozen=True, slots=True)
class Health:
    """How a vendor does. `since_ms` is None where nobody knows since when; `reason` is for anybody to read (P10)."""

    state: Literal["ok", "failing", "unknown"]
    since_ms: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why nothing can be bought at a vendor now: a reason code, words for anybody, and since when."""

    code: str
    detail: str
    since_ms: int | None = None


class Standing:
    """The vendors' standing. `poll_s` is the pause between readings of each chain.

    `calls_at_once` is how many calls to one vendor an account may have under way.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerVendor],
        paid: Mapping[str, Vendor],
        accounts: Mapping[str, AccountVendor],
        *,
        view: View,
        heads: Heads,
        poll_s: Mapping[int, float],
        clock: Clock,
        business: Clock,
        calls_at_once: int,
    ) -> None:
        self._servers, self._paid, self._accounts = servers, paid, accounts
        self._view, self._heads, self._poll_s = view, heads, poll_s
        self._clock, self._business, self.calls_at_once = clock, business, calls_at_once

    def stop(self, vendor: str) -> Stop | None:
        """Return what keeps anything from being bought at a vendor, None where nothing known does."""
        frozen = next((self._view.freezes[s] for s in self._scopes(vendor) if s in self._view.freezes), None)
        if frozen is not None:
            words = limits([frozen.scope]) or ["frozen by the operator"]
            return Stop("unavailable", words[0], frozen.at_ms)
        account = self._accounts.get(vendor)
        if account is not None and account.account.rule is None:
            return Stop("billing_rule_unset", f"the operator has not said how {vendor} bills; creates are off")
        return self.unread(vendor)

    def unread(self, vendor: str) -> Stop | None:
        """Return that nothing can be paid at a vendor because no chain that it is paid on is read, None where one is."""
        paid = self._paid.get(vendor)
        if paid is None:
            return None
        chains = {token.chain_id for token in paid.terms.tokens} & self._poll_s.keys()
        poll_s = {chain_id: self._poll_s[chain_id] for chain_id in chains}
        reasons = unread_chains(self._heads, poll_s, self._clock.now_ms())
        if not reasons or len(reasons) < len(chains):  # it can be paid on another chain
            return None
        read_ms = [at_ms for chain_id in chains if (at_ms := self._heads.read_at_ms(chain_id)) is not None]
        return Stop("unavailable", reasons[0], min(read_ms, default=None))

    def facts(self, allowed: Callable[[str], bool]) -> Facts:
        """Return what a choice rests on, for a key that may spend where `allowed` says so."""
        found = {name: self._facts_of(name, servers, allowed(name)) for name, servers in self._servers.items()}
        return Facts(found, self._business.now_ms())

    def _facts_of(self, name: str, servers: ServerVendor, allowed: bool) -> VendorFacts:  # noqa: FBT001 - built once, by facts
        features, account, stop = servers.features, self._accounts.get(name), self.stop(name)
        metering = None
        if account is not None and account.account.rule is not None:
            terms = account.account
            metering = Metering(account.account.rule, account.unit_s, account.while_running, terms.period_s)
        return VendorFacts(
            features=frozenset(feature.value for feature in Feature if features.can(feature)),
            allowed=allowed,
            stopped=None if stop is None else (stop.code, stop.detail),
            metering=metering,
            least_base=0 if features.renew is None else features.renew.least_base,
        )

    def _scopes(self, vendor: str) -> list[str]:
        paid = self._paid.get(vendor)
        wallet = [] if paid is None else [f"wallet:0x{paid.terms.wallet.hex()}"]
        return [*EVERYTHING, f"vendor:{vendor}", *wallet]
