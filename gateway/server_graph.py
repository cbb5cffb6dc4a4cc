"""The part of the graph that serves the vendor-neutral API: wired in one function, like the rest.

Must not open files or sockets.  Theory: everything here stands on the two machines that spend (`spend` and the broker) and
on one port for its records, so it is made from the finished graph and changes nothing in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.account_ports import AccountVendor
from gateway.config import Config
from gateway.flow.answers import Answers
from gateway.flow.broker.periods import held_periods
from gateway.flow.heads import Heads
from gateway.flow.house import House
from gateway.flow.servers.acting import Acting
from gateway.flow.servers.catalogue import Catalogue
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.fetching import CatalogueSettings, Fetching
from gateway.flow.servers.fleets import Fleets
from gateway.flow.servers.hooks import HookSettings, Posting
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.keys import Keys
from gateway.flow.servers.neutral import Neutral
from gateway.flow.servers.ordering import Ordering
from gateway.flow.servers.placing import PlacingSettings
from gateway.flow.servers.quoting import QuoteSettings, Quoting
from gateway.flow.servers.renewal_facts import Gathering
from gateway.flow.servers.renewing import Renewing
from gateway.flow.servers.runner import Brokering, Runner, Spending
from gateway.flow.servers.seeing import Seeing
from gateway.flow.servers.snapshots import Snapshots
from gateway.flow.servers.standing import Standing
from gateway.flow.servers.telling import Telling
from gateway.jobs.loops import Loop
from gateway.ports import Clock, Entropy, Store, Vendor
from gateway.server_ports import ServerVendor
from gateway.store.told import TellableJournal
from gateway.vendor_servers import make_servers
from wallets.sealing import Sealer

CATALOGUE_PAUSE_S = 5.0
TELL_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Base:
    """The finished parts of the graph that the neutral API uses."""

    store: Store
    sealer: Sealer
    answers: Answers
    spend: Spending
    broker: Brokering | None
    house: House
    heads: Heads
    vendors: Mapping[str, Vendor]
    accounts: Mapping[str, AccountVendor]
    poll_s: Mapping[int, float]
    posting: Posting
    clock: Clock
    business: Clock
    entropy: Entropy


def assemble_servers(config: Config, base: Base) -> Neutral:
    """Wire the neutral API over the vendors that have a translation; where none has one, events are told all the same."""
    configured: list[Vendor | AccountVendor] = [*base.vendors.values(), *base.accounts.values()]
    servers = {made.name: made for made in map(make_servers, configured) if made is not None}
    keeping = Keeping(base.store, base.sealer, base.clock, base.business, base.entropy)
    runner = Runner(base.spend, base.broker, base.vendors, base.accounts)
    catalogue = _catalogue(config, base, keeping, runner, servers)
    quoting = Quoting(catalogue, runner, keeping, QuoteSettings(ttl_s=config.servers.quote_ttl_s))
    doing = Doing(keeping, runner, servers)
    seeing = Seeing(keeping, runner, servers, base.store.meter)
    keys = Keys(doing)
    ordering = Ordering(
        keeping=keeping,
        runner=runner,
        replays=base.answers,
        vendors=servers,
        choosing=quoting,
        plans=catalogue,
        keys=keys,
        seeing=seeing,
        settings=PlacingSettings(open_servers_most=config.servers.open_per_account),
    )
    snapshots = Snapshots(doing, seeing, ordering)
    acting = Acting(doing, seeing, snapshots)
    gathering = Gathering(
        keeping=keeping,
        vendors=servers,
        prices=catalogue,
        periods=held_periods(base.accounts),
        warn_before_s=config.servers.warn_before_s,
    )
    return Neutral(
        servers=servers,
        keeping=keeping,
        doing=doing,
        catalogue=catalogue,
        quoting=quoting,
        ordering=ordering,
        seeing=seeing,
        acting=acting,
        snapshots=snapshots,
        keys=keys,
        renewing=Renewing(doing=doing, seeing=seeing, ending=acting, gathering=gathering),
        fleets=Fleets(
            keeping=keeping,
            ordering=ordering,
            ending=acting,
            vendors=servers,
            per_account=config.servers.fleets_per_account,
        ),
        telling=Telling(
            keeping,
            TellableJournal(base.store),
            base.posting,
            base.entropy,
            HookSettings(
                hooks_per_account=config.webhooks.per_account,
                streams_per_account=config.webhooks.streams_per_account,
                deliveries_kept_s=config.webhooks.deliveries_kept_s,
            ),
        ),
    )


def server_loops(config: Config, neutral: Neutral) -> list[Loop]:
    """Return the background loops of the neutral API, each of its own so that none waits for another."""
    sweep_s = config.servers.sweep_s
    return [
        Loop("read catalogues", neutral.catalogue.refresh, CATALOGUE_PAUSE_S),
        Loop("follow orders", neutral.ordering.resume, sweep_s),
        Loop("look at servers", neutral.seeing.sweep, sweep_s),
        Loop("destroy servers", neutral.acting.sweep, sweep_s),
        Loop("look at snapshots", neutral.snapshots.sweep, sweep_s),
        Loop("renew servers", neutral.renewing.sweep, sweep_s),
        Loop("keep fleets", neutral.fleets.sweep, sweep_s),
        Loop("read events", neutral.telling.sweep, TELL_PAUSE_S),
        Loop("send events", neutral.telling.deliver, TELL_PAUSE_S),
    ]


def _catalogue(
    config: Config, base: Base, keeping: Keeping, runner: Runner, servers: Mapping[str, ServerVendor]
) -> Catalogue:
    settings = CatalogueSettings(
        free_ttl_s=config.catalogue.ttl_s,
        paid_ttl_s=config.catalogue.paid_ttl_s,
        paid_budget_base=config.catalogue.paid_budget_base,
    )
    fetching = Fetching(runner=runner, house=base.house, paid=base.vendors, keeping=keeping, settings=settings)
    standing = Standing(
        servers,
        base.vendors,
        base.accounts,
        view=base.store.view,
        heads=base.heads,
        poll_s=base.poll_s,
        calls_at_once=config.limits.calls_per_vendor,
        clock=base.clock,
        business=base.business,
    )
    return Catalogue(servers, fetching=fetching, keeping=keeping, standing=standing, settings=settings)
