"""The graph: every use case wired to its parts, in one function, from whichever parts it is given.

Must not open files or sockets.  Theory: the running service, the tests and the simulation differ only in the parts that
they hand in here, so what is tested is what runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.codec import Address
from gateway.account_graph import AccountSide, assemble_accounts
from gateway.config import Config
from gateway.core.commands import ApprovePrice
from gateway.core.vendor_tokens import VendorTokens
from gateway.flow.answers import Answers
from gateway.flow.finding import Finder
from gateway.flow.floats import Watched
from gateway.flow.heads import Heads
from gateway.flow.house import House
from gateway.flow.present import Presenter, Surrogates
from gateway.flow.promise import Promiser
from gateway.flow.prove import Prover
from gateway.flow.quarantine import SCOPE, Quarantine
from gateway.flow.quote import Quoter
from gateway.flow.readiness import limits, unread_chains
from gateway.flow.recover import Recovery
from gateway.flow.servers.hooks import Posting
from gateway.flow.servers.neutral import Neutral
from gateway.flow.settle import Sightings, Tracker
from gateway.flow.spend import Spend
from gateway.flow.tasks import Tasks
from gateway.flow.unproven import Unproven
from gateway.http.port import Upstream
from gateway.jobs.loops import Loop, Loops
from gateway.paid_graph import PaidBase, PaidSide, assemble_paid
from gateway.paid_ports import RelayChain
from gateway.ports import Broadcaster, Chain, Clock, Entropy, Store, Vendor
from gateway.server_graph import Base, assemble_servers, server_loops
from gateway.vendor_config import make_vendor
from gateway.vendor_credentials import VendorSecrets
from gateway.vendors.surrogate import digest, make_surrogate
from wallets.guard import Guard
from wallets.sealing import Sealer, derive_key
from wallets.secret import Secret
from wallets.signer import Signer
from wallets.watermark import Watermark

RECOVERY_PAUSE_S = 1.0
QUARANTINE_PAUSE_S = 5.0
WATERMARK_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What touches the world: open, and closed by whoever opened it."""

    store: Store
    upstream: Upstream
    chains: Mapping[int, Chain]
    signers: Mapping[bytes, Signer]
    guard: Guard
    data_key: Secret[bytes]
    watermark: Watermark
    clock: Clock
    entropy: Entropy
    own_addresses: frozenset[Address]
    business: Clock  # by which vendors bill: the wall clock, but where a test drives it
    vendor_secrets: Mapping[str, VendorSecrets]
    broadcasters: Mapping[int, Broadcaster]
    posting: Posting  # where events are sent to
    relays: Mapping[int, RelayChain] = field(default_factory=dict)  # chains on which relayers send


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running use cases."""

    config: Config
    parts: Parts
    vendors: Mapping[str, Vendor]
    answers: Answers
    spend: Spend
    recovery: Recovery
    trackers: Sequence[Tracker]
    unproven: Mapping[int, Unproven]
    quarantine: Quarantine
    heads: Heads
    sightings: Sightings
    neutral: Neutral
    paid: PaidSide
    accounts: AccountSide | None = None

    def refresh_guard(self) -> None:
        """Put the payees that were approved since into the signer's policy."""
        own = self.parts.own_addresses
        self.parts.guard.replace_policy(self.config.guard_policy(self.parts.store.view.payees, own))

    async def prepare(self) -> None:
        """Do what must precede the first request: judge the database, take over the configuration's prices."""
        await self.quarantine.judge()
        self.refresh_guard()
        view, now_ms = self.parts.store.view, self.parts.clock.now_ms()
        for vendor in self.config.paid_vendors().values():
            for item, amount_base in vendor.prices.items():
                known = view.prices.get((vendor.name, item))
                if known is None or known.approved_base is None:
                    command = ApprovePrice(vendor.name, item, amount_base, "configuration", now_ms)
                    await self.parts.store.post(command)

    def loops(self, on_broken: Callable[[], None]) -> Loops:
        """Return the background loops, not yet started."""
        loops = [
            Loop(f"track chain {tracker.chain_id}", tracker.poll, self._poll_s(tracker.chain_id))
            for tracker in self.trackers
        ]
        loops.append(Loop("recover answers", self.recovery.sweep, RECOVERY_PAUSE_S))
        if self.accounts is not None:
            loops += self.accounts.loops(self.config)
        loops += server_loops(self.config, self.neutral)
        loops += self.paid.loops(self.config)
        loops.append(Loop("lift quarantine", self.quarantine.lift, QUARANTINE_PAUSE_S))
        loops.append(Loop("sync watermark", self._sync_watermark, WATERMARK_PAUSE_S))
        return Loops(loops, on_broken)

    def reasons_not_ready(self) -> list[str]:
        """Say why this process could not pay now, for anybody to read; empty when ready."""
        poll_s = {chain_id: self._poll_s(chain_id) for chain_id in self.parts.chains}
        return unread_chains(self.heads, poll_s, self.parts.clock.now_ms())

    def limits(self) -> list[str]:
        """Say what stops every purchase although the process is ready, for anybody to read."""
        return limits(self.parts.store.view.freezes)

    async def _sync_watermark(self) -> None:
        """Let the mark follow the book, purchases or not: a revoked key must not come back with an older copy (P12)."""
        view, watermark = self.parts.store.view, self.parts.watermark
        if SCOPE not in view.freezes:
            watermark.record(view.journal_seq, view.journal_head)
        watermark.sync()

    def accept_database(self) -> None:
        """Take the database as it is for the true one: the operator has lifted its quarantine by force."""
        view = self.parts.store.view
        self.parts.watermark.accept(view.journal_seq, view.journal_head)

    def _poll_s(self, chain_id: int) -> float:
        return next(chain.poll_s for chain in self.config.chains.values() if chain.chain_id == chain_id)


def assemble(config: Config, parts: Parts) -> Gateway:
    """Wire everything. Raises KeyError only for a configuration that `load_config` would have refused."""
    store, clock, entropy = parts.store, parts.clock, parts.entropy
    heads, sightings = Heads(), Sightings()
    sealer = Sealer(parts.data_key)
    vendors = {name: make_vendor(vendor, config.vendor_terms(name)) for name, vendor in config.paid_vendors().items()}
    surrogate_key = derive_key(parts.data_key, "surrogate")
    surrogates = Surrogates(lambda vendor, real: make_surrogate(surrogate_key, vendor, real), digest)
    presenter = Presenter(store, parts.upstream, sealer, surrogates, clock, parts.broadcasters)
    answers = Answers(store=store, sealer=sealer, watermark=parts.watermark, clock=clock)
    tasks = Tasks(store, clock, entropy)
    prover = Prover(
        store=store,
        upstream=parts.upstream,
        signers=parts.signers,
        watermark=parts.watermark,
        tasks=tasks,
        clock=clock,
    )
    house = House(store=store, upstream=parts.upstream, prover=prover, clock=clock)
    finder = Finder(store=store, house=house, presenter=presenter, sealer=sealer, clock=clock, entropy=entropy)
    spend = Spend(
        store=store,
        upstream=parts.upstream,
        quoter=Quoter(store.view, parts.own_addresses, clock),
        promiser=Promiser(parts.signers, heads, sealer, clock, entropy, config.tempo_fees()),
        presenter=presenter,
        prover=prover,
        answers=answers,
        tasks=tasks,
        clock=clock,
    )
    paid, trackers = _paid(config, parts, heads), _trackers(config, parts, heads, sightings)
    accounts = _accounts(config, parts, answers, sealer)
    return Gateway(
        config=config,
        parts=parts,
        vendors=vendors,
        answers=answers,
        spend=spend,
        recovery=Recovery(
            store=store,
            answers=answers,
            presenter=presenter,
            vendors=vendors,
            heads=heads,
            clock=clock,
            finder=finder,
        ),
        trackers=trackers,
        unproven={
            tracker.chain_id: Unproven(store=store, chain=parts.chains[tracker.chain_id], tracker=tracker, clock=clock)
            for tracker in trackers
        },
        quarantine=_quarantine(parts, heads, paid),
        heads=heads,
        sightings=sightings,
        accounts=accounts,
        neutral=assemble_servers(
            config,
            Base(
                store=store,
                sealer=sealer,
                answers=answers,
                spend=spend,
                broker=None if accounts is None else accounts.broker,
                house=house,
                heads=heads,
                vendors=vendors,
                accounts={} if accounts is None else accounts.vendors,
                poll_s={chain.chain_id: chain.poll_s for chain in config.chains.values()},
                posting=parts.posting,
                clock=clock,
                business=parts.business,
                entropy=entropy,
            ),
        ),
        paid=paid,
    )


def _accounts(config: Config, parts: Parts, answers: Answers, sealer: Sealer) -> AccountSide | None:
    return assemble_accounts(
        config,
        secrets=parts.vendor_secrets,
        store=parts.store,
        upstream=parts.upstream,
        answers=answers,
        sealer=sealer,
        tokens=VendorTokens(derive_key(parts.data_key, "vendor tokens")),
        clock=parts.clock,
        business=parts.business,
        entropy=parts.entropy,
    )


def _paid(config: Config, parts: Parts, heads: Heads) -> PaidSide:
    base = PaidBase(
        store=parts.store,
        upstream=parts.upstream,
        chains=parts.chains,
        relays=parts.relays,
        broadcasters=parts.broadcasters,
        signers=parts.signers,
        data_key=parts.data_key,
        watermark=parts.watermark,
        heads=heads,
        own_addresses=parts.own_addresses,
        clock=parts.clock,
        entropy=parts.entropy,
    )
    return assemble_paid(config, base)


def _trackers(config: Config, parts: Parts, heads: Heads, sightings: Sightings) -> list[Tracker]:
    return [
        Tracker(
            store=parts.store,
            chain=chain,
            watched=_watched(config, chain_id),
            heads=heads,
            sightings=sightings,
            clock=parts.clock,
            entropy=parts.entropy,
        )
        for chain_id, chain in parts.chains.items()
    ]


def _quarantine(parts: Parts, heads: Heads, paid: PaidSide) -> Quarantine:
    return Quarantine(
        store=parts.store,
        watermark=parts.watermark,
        heads=heads,
        chain_ids=tuple(parts.chains),
        places=tuple(place for each in paid.receipts for place in each.places),
        clock=parts.clock,
        entropy=parts.entropy,
    )


def _watched(config: Config, chain_id: int) -> list[Watched]:
    pairs = [(wallet.address, config.token(label)) for wallet in config.wallets.values() for label in wallet.tokens]
    return [Watched(address, token) for address, token in pairs if token.chain_id == chain_id]
