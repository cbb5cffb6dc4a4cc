"""The part of the graph that serves vendors which know us by an account: wired in one function, like the rest.

Must not open files or sockets.  Theory: one vendor account has one session, one pace and one desk, whoever asks; they are
made here once, and closed by whoever made the graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from gateway.account_ports import AccountVendor
from gateway.config import Config
from gateway.core.vendor_tokens import VendorTokens
from gateway.flow.answers import Answers
from gateway.flow.broker.bound import Bounds
from gateway.flow.broker.broker import Broker
from gateway.flow.broker.desk import Desk
from gateway.flow.broker.meters import Meters
from gateway.flow.broker.order import Orders
from gateway.flow.broker.prices import PriceBook
from gateway.flow.broker.showing import Showing
from gateway.flow.pace import Pace
from gateway.flow.sessions import Session
from gateway.http.port import Upstream
from gateway.jobs.loops import Loop
from gateway.ports import Clock, Entropy, Store
from gateway.vendor_config import make_account_vendor
from gateway.vendor_credentials import VendorSecrets
from wallets.sealing import Sealer

STANDING_PREFIX = "vtk_"  # a token that needs no login, at vendors that have both


@dataclass(frozen=True, slots=True)
class AccountSide:
    """The running use cases of account vendors."""

    vendors: Mapping[str, AccountVendor]
    broker: Broker
    meters: Meters
    tokens: VendorTokens
    sessions: tuple[Session, ...]
    paces: tuple[Pace, ...]

    def loops(self, config: Config) -> list[Loop]:
        """Return two background loops for each vendor: one that does not answer holds up no other, and no bill."""
        loops = list[Loop]()
        for name in self.vendors:
            pause_s = config.account_poll_s(name)
            loops.append(Loop(f"bill {name}", partial(self.meters.keep, name), pause_s))
            loops.append(Loop(f"follow {name}", partial(self.meters.follow, name), pause_s))
        return loops

    async def close(self) -> None:
        """End logins and waits under way."""
        for session in self.sessions:
            await session.close()
        for pace in self.paces:
            await pace.close()


def assemble_accounts(
    config: Config,
    *,
    secrets: Mapping[str, VendorSecrets],
    store: Store,
    upstream: Upstream,
    answers: Answers,
    sealer: Sealer,
    tokens: VendorTokens,
    clock: Clock,
    business: Clock,
    entropy: Entropy,
) -> AccountSide | None:
    """Wire the account vendors of a configuration; None where there is none. Raises KeyError for missing credentials."""
    names = tuple(config.account_vendors())
    if not names:
        return None
    vendors: dict[str, AccountVendor] = {}
    desks: dict[str, Desk] = {}
    sessions, paces = list[Session](), list[Pace]()
    for name in names:
        credentials = secrets[name].credentials
        standing = credentials.secret.reveal().startswith(STANDING_PREFIX)
        vendor = make_account_vendor(config.vendors[name], config.account_terms(name), standing_token=standing)
        pace = Pace(name, vendor.rates, clock, max_wait_s=config.account_wait_s(name))
        session = Session(
            vendor=name,
            account="",
            origin=vendor.origin,
            credentials=credentials,
            plan=vendor.login,
            pace=pace,
            upstream=upstream,
            store=store,
            clock=clock,
            entropy=entropy,
        )
        vendors[name] = vendor
        desks[name] = Desk(vendor, session, pace, upstream=upstream, store=store, clock=clock, entropy=entropy)
        sessions.append(session)
        paces.append(pace)
    showing = Showing(store, business)
    limits = config.limits.account_limits
    bounds = Bounds(PriceBook(clock), clock, business, entropy)
    orders = Orders(
        store=store,
        answers=answers,
        bounds=bounds,
        showing=showing,
        sealer=sealer,
        limits=dict.fromkeys(names, limits),
        clock=clock,
        business=business,
        entropy=entropy,
    )
    meters = Meters(
        store=store, desks=desks, orders=orders, answers=answers, clock=clock, business=business, entropy=entropy
    )
    broker = Broker(
        desks=desks,
        store=store,
        answers=answers,
        bounds=bounds,
        orders=orders,
        showing=showing,
        meters=meters,
        calls_per_vendor=dict.fromkeys(names, limits.calls_per_vendor),
        clock=clock,
    )
    return AccountSide(vendors, broker, meters, tokens, tuple(sessions), tuple(paces))
