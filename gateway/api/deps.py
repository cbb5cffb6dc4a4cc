"""What the HTTP side is handed: the use cases, the views, and its own limits.

Must not know how any of it is made.  Theory: handlers get one frozen value instead of a configuration, so a test builds
exactly what the service builds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway.account_ports import AccountVendor
from gateway.api.callers import Callers
from gateway.api.exchange import log_request
from gateway.api.keyless import Keyless
from gateway.api.lines import RequestLog
from gateway.core.records import Payment
from gateway.core.runway import Period
from gateway.core.vendor_tokens import VendorTokens
from gateway.facilitator.door import FacilitatorDoor
from gateway.flow.broker.periods import held_periods
from gateway.flow.call import AccountCall, Reply, Served
from gateway.flow.heads import Heads
from gateway.flow.paid.deposits import Deposits
from gateway.flow.paid.refunds import Refunds
from gateway.flow.paid.topups import TopUps
from gateway.flow.paid.wallets import WalletDoor
from gateway.flow.servers.neutral import Neutral
from gateway.flow.settle import Sighting
from gateway.flow.spend import Spend
from gateway.jobs.loops import LoopState
from gateway.ports import Clock, Entropy, Store, Vendor
from gateway.vendor_hooks import Hook
from wallets.sealing import Sealer

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Limits of the agents' side. Sizes in bytes, times in seconds.

    A request's body up to `buffer_bytes` is kept, so that it can be sent a second time with a payment; beyond, and up to
    `stream_bytes`, it is passed on as it comes where the route allows that. `body_silence_s` is the longest pause within
    a body, and `flush_s` the longest wait for an agent to take its answer before it counts as not delivered.
    """

    buffer_bytes: int = MIB
    stream_bytes: int = 256 * MIB
    body_silence_s: float = 30.0
    flush_s: float = 30.0
    keepalive_s: float = 75.0
    max_in_flight: int = 2_048
    page_default: int = 50
    page_max: int = 200
    keys_per_account: int = 1_000
    metrics: bool = True


class Broker(Protocol):
    """Serves calls to vendors that know us by an account."""

    async def run(self, call: AccountCall) -> Reply:
        """Answer one call. Raises Problem."""
        ...


@dataclass(frozen=True, slots=True)
class Accounts:
    """The vendors that know us by an account, what serves calls to them, and the tokens that their logins hand out."""

    vendors: Mapping[str, AccountVendor]
    broker: Broker
    tokens: VendorTokens


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The doors for vendors' events, by the vendors' names, and the time by which vendors date them."""

    hooks: Mapping[str, Hook]
    business: Clock


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """Everything that the handlers may touch.

    `vendors` are those that ask for their money with a 402; `accounts` the others, None where there are none.

    `sightings` tells of settlements that are not final yet; `ready` gives the reasons why this process could not pay now,
    `limits` what stops every purchase all the same, both in words for anybody; `loops` tells how the background work is;
    `on_broken` is called when the store turns out to have stopped for good: the process must end. `request_log` takes one
    line a request: structlog's chain by default, JsonLines where it has to be cheap. `callers` tells who asks by
    an address, for what is counted by that where no key was shown.
    """

    store: Store
    spend: Spend
    vendors: Mapping[str, Vendor]
    heads: Heads
    sealer: Sealer
    clock: Clock
    entropy: Entropy
    sightings: Callable[[Payment], Sighting | None]
    ready: Callable[[], list[str]]
    on_broken: Callable[[], None]
    accounts: Accounts | None = None
    webhooks: Webhooks | None = None
    neutral: Neutral | None = None
    facilitator: FacilitatorDoor | None = None
    topups: TopUps | None = None
    refunds: Refunds | None = None
    wallets: WalletDoor | None = None
    deposits: Deposits | None = None
    limits: Callable[[], list[str]] = list
    loops: Callable[[], Iterable[LoopState]] = tuple
    request_log: RequestLog = log_request
    settings: ApiSettings = field(default_factory=ApiSettings)
    keyless: Keyless = field(default_factory=Keyless)
    callers: Callers = field(default_factory=Callers)

    @property
    def periods(self) -> Mapping[str, Period]:
        """How things at each vendor account are held."""
        return held_periods({} if self.accounts is None else self.accounts.vendors)

    @property
    def served(self) -> Mapping[str, Served]:
        """Every vendor behind the proxy, by name."""
        return {**self.vendors, **({} if self.accounts is None else self.accounts.vendors)}
