"""The part of the graph that is paid: facilitator and engine, top-ups on every rail, receipts, refunds, wallets' keys.

Must not open files or sockets.  Theory: everything here stands on the store, the chains and the relayers; it shares nothing
with the side that spends but the books, so either side runs without the other.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from contracts.codec import Address
from contracts.tokens import Token
from gateway.chains.contract_wallets import RelayContractWallets
from gateway.config import Config, FacilitatorConfig, TopUpsConfig
from gateway.core.money import format_amount
from gateway.core.paid import TillPlace
from gateway.facilitator.desk import DeskParts, Relayer, Rules
from gateway.facilitator.discovery import Sellable, priced
from gateway.facilitator.door import FacilitatorDoor
from gateway.facilitator.engine import SettlementEngine
from gateway.facilitator.limits import PerMinute
from gateway.facilitator.local import LocalFacilitator
from gateway.facilitator.remote import RemoteFacilitator
from gateway.facilitator.verify import Reach, Verifier
from gateway.flow.heads import Heads
from gateway.flow.paid.attesting import Attestor
from gateway.flow.paid.crediting import Crediting
from gateway.flow.paid.deposits import Deposits
from gateway.flow.paid.inventory import Inventory
from gateway.flow.paid.lending import Lending
from gateway.flow.paid.mpp import TempoTopUps
from gateway.flow.paid.mpp_seller import MppSeller
from gateway.flow.paid.offers import Offers, TillPrice, TopUpRules, mac_of
from gateway.flow.paid.receipts import Receipts
from gateway.flow.paid.refunds import RefundParts, Refunds
from gateway.flow.paid.returning import Place, Returning
from gateway.flow.paid.taking import Taking
from gateway.flow.paid.tills import Till
from gateway.flow.paid.topups import TopUps
from gateway.flow.paid.wallets import WalletDoor, WalletRules, Wallets
from gateway.http.port import Upstream
from gateway.jobs.loops import Loop
from gateway.paid_ports import Facilitator, RelayChain
from gateway.ports import Broadcaster, Chain, Clock, Entropy, Store
from gateway.rails.mpp.issuing import Seal
from gateway.rails.mpp.verifying import Window
from gateway.rails.x402.order_ref import OrderMarks
from gateway.rails.x402.selling import Price
from gateway.rails.x402.siwx import SignInDesk
from wallets.sealing import derive_key
from wallets.secret import Secret
from wallets.signer import Signer
from wallets.watermark import Watermark

PACKS_ROUTE: Final = "/v1/topups/packs"
SIGN_IN_ROUTE: Final = "/v1/wallet-keys"
SWEEP_S: Final = 1.0
ITEM_GAS_MAX: Final = 120_000
"""What one authorization may use within a batch, however much it may alone: so many fit into a transaction."""


@dataclass(frozen=True, slots=True)
class PaidBase:
    """The finished parts of the graph that being paid uses. `relays` are the chains that relayers send to, by id."""

    store: Store
    upstream: Upstream
    chains: Mapping[int, Chain]
    relays: Mapping[int, RelayChain]
    broadcasters: Mapping[int, Broadcaster]
    signers: Mapping[bytes, Signer]
    data_key: Secret[bytes]
    watermark: Watermark
    heads: Heads
    own_addresses: frozenset[Address]
    clock: Clock
    entropy: Entropy


@dataclass(frozen=True, slots=True)
class PaidSide:
    """Everything that is paid; what is None is not configured."""

    engine: SettlementEngine | None
    door: FacilitatorDoor | None
    tempo: TempoTopUps | None
    taking: Taking | None
    topups: TopUps | None
    receipts: Sequence[Receipts]
    refunds: Refunds | None
    lending: Lending | None
    wallets: WalletDoor | None
    deposits: Deposits | None

    def start(self) -> None:
        """Go on with what the last process left. Call it in the loop that serves."""
        if self.engine is not None:
            self.engine.start()

    def loops(self, config: Config) -> list[Loop]:
        """Return the background loops, not yet started."""
        poll_s = {chain.chain_id: chain.poll_s for chain in config.chains.values()}
        loops = [Loop(f"read receipts {each.chain_id}", each.poll, poll_s[each.chain_id]) for each in self.receipts]
        if self.engine is not None:
            loops.append(Loop("follow settlements", self.engine.sweep, SWEEP_S))
        if self.topups is not None:
            loops.append(Loop("follow top-ups", self.topups.sweep, SWEEP_S))
        if self.tempo is not None:
            sweep = self.tempo.sweep
            loops += [Loop(f"send top-ups {each}", partial(sweep, each), SWEEP_S) for each in self.tempo.chain_ids]
        if self.lending is not None:
            loops.append(Loop("lend", self.lending.sweep, SWEEP_S))
        if self.refunds is not None:
            loops.append(Loop("send refunds", self.refunds.sweep, SWEEP_S))
        return loops

    async def drain(self, timeout_s: float) -> None:
        """Let what is under way end, at most that long; what does not goes on after the next start."""
        if self.taking is not None:
            await self.taking.close(timeout_s)
        if self.engine is not None:
            await self.engine.drain(timeout_s)


def assemble_paid(config: Config, base: PaidBase) -> PaidSide:
    """Wire everything that is paid; the configuration has been checked."""
    engine = _engine(config, base)
    local = None if engine is None else _local(config, base, engine)
    tills, prices = _tills(config), _prices(config)
    takes = Inventory(base.store, config.inventory_caps()).takes
    deposits = Deposits(store=base.store, tills=tills, takes=takes)
    topups = config.topups
    seller = tempo = taking = offered = lending = wallets = None
    if topups is not None:
        facilitator: Facilitator | None = _remote(topups, base) or local
        seller = _seller(config, topups, base, prices)
        tempo = _tempo(base, prices)
        rules = _rules(topups)
        marks = OrderMarks(mac_of(derive_key(base.data_key, "top-up orders")))
        offers = Offers(
            prices,
            rules,
            marks,
            config.public_url,
            config.public_host,
            base.clock,
            base.entropy,
            seller,
            Attestor(derive_key(base.data_key, "offer receipts")),
            takes,
        )
        own = topups.facilitator_url is None
        taking = Taking(
            store=base.store,
            facilitator=facilitator,
            own=own,
            chains=base.chains,
            tokens=offers.tokens,
            clock=base.clock,
            patience_s=topups.facilitator_timeout_s,
        )
        offered = TopUps(
            store=base.store,
            offers=offers,
            taking=taking,
            facilitator=facilitator,
            own=own,
            chains=base.chains,
            clock=base.clock,
            seller=seller,
            tempo=tempo,
        )
        lending = Lending(
            store=base.store,
            clock=base.clock,
            cap_base=topups.lend_cap_base,
            account_cap_base=topups.lend_per_account_base,
        )
        if topups.wallet_accounts:
            wallets = WalletDoor(_wallets(topups, base, prices), _sign_in(config, base, prices), seller)
    return PaidSide(
        engine=engine,
        door=None if local is None else _door(config, base, local),
        tempo=tempo,
        taking=taking,
        topups=offered,
        receipts=_receipts(config, base, tills, deposits),
        refunds=_refunds(config, base, engine) if tills else None,
        lending=lending,
        wallets=wallets,
        deposits=deposits if tills else None,
    )


# collecting


def _engine(config: Config, base: PaidBase) -> SettlementEngine | None:
    facilitator = config.facilitator
    if facilitator is None:
        return None
    desks = []
    for chain_id, relay in base.relays.items():
        tokens = [token for token in _collected(config) if token.chain_id == chain_id]
        relayers = [
            Relayer(base.signers[each.address], each.low_wei, each.floor_wei) for each in config.relayers_on(chain_id)
        ]
        if tokens and relayers:
            desks.append(DeskParts(relay, base.chains[chain_id], tokens, relayers, facilitator.batch))
    return SettlementEngine(
        store=base.store, desks=desks, rules=settling_rules(facilitator), clock=base.clock, entropy=base.entropy
    )


def settling_rules(facilitator: FacilitatorConfig) -> Rules:
    """Return how transactions are made, as the operator has configured it."""
    return Rules(
        batch_size=facilitator.batch_size,
        batch_age_s=facilitator.batch_age_s,
        item_gas=min(ITEM_GAS_MAX, facilitator.gas_per_settlement),
        max_gas_single=facilitator.gas_per_settlement,
        fee_cap_wei=facilitator.fee_cap_wei,
        priority_cap_wei=facilitator.priority_fee_cap_wei,
        seller_min_base=facilitator.seller_min_base,
        house_gas_budget_wei=facilitator.house_gas_budget_wei,
        replace_after_s=facilitator.replace_after_s,
        in_flight_max=facilitator.in_flight_max,
    )


def _collected(config: Config) -> list[Token]:
    return [] if config.facilitator is None else [config.token(label) for label in config.facilitator.tokens]


def _local(config: Config, base: PaidBase, engine: SettlementEngine) -> LocalFacilitator:
    facilitator = config.facilitator
    assert facilitator is not None, "an engine is made of this table"
    tokens = {token.key: token for token in _collected(config)}
    reaches = {
        chain_id: Reach(relay, tuple(each.address for each in config.relayers_on(chain_id)))
        for chain_id, relay in base.relays.items()
    }
    verifier = Verifier(
        tokens,
        reaches,
        engine.find,
        base.clock,
        gas=facilitator.gas_per_settlement,
        window_max_s=facilitator.window_max_s,
    )
    return LocalFacilitator(verifier, engine, base.store.settlement_of, max_wait_s=facilitator.max_wait_s)


def _door(config: Config, base: PaidBase, local: LocalFacilitator) -> FacilitatorDoor:
    facilitator = config.facilitator
    assert facilitator is not None, "a facilitator is made of this table"

    def now_s() -> int:
        return base.clock.now_ms() // 1000

    return FacilitatorDoor(
        local,
        PerMinute(facilitator.per_payer_per_minute, now_s),
        PerMinute(facilitator.per_payee_per_minute, now_s),
        public=facilitator.public,
        sellable=partial(_sellable, config, base.clock.now_ms() // 1000),
    )


def _sellable(config: Config, updated_s: int) -> list[Sellable]:
    """The packs of credit, as far as they are paid by authorizations."""
    if config.topups is None:
        return []
    tills = [price for price in _prices(config) if price.token.standard == "eip3009"]
    return [
        priced(
            f"{config.public_url}{PACKS_ROUTE}/{name}",
            f"Credit of {format_amount(amount_base)} USD",
            [Price(till.token, till.address, till.value_base(amount_base)) for till in tills],
            config.topups.order_ttl_s,
            updated_s,
        )
        for name, amount_base in sorted(config.topups.packs.items())
    ]


def _remote(topups: TopUpsConfig, base: PaidBase) -> RemoteFacilitator | None:
    origin = topups.facilitator_origin
    if origin is None:
        return None
    return RemoteFacilitator(base.upstream, str(origin), topups.facilitator_path, topups.facilitator_token)


# selling credit


def _rules(topups: TopUpsConfig) -> TopUpRules:
    return TopUpRules(
        min_base=topups.min_base,
        max_base=topups.max_base,
        packs=topups.packs,
        order_ttl_s=topups.order_ttl_s,
        open_per_account=topups.open_per_account,
        wallet_accounts=topups.wallet_accounts,
    )


def _prices(config: Config) -> list[TillPrice]:
    return [
        TillPrice(config.token(label), till.address, config.tokens[label].rate_ppm)
        for till in config.tills.values()
        for label in till.tokens
    ]


def _seller(config: Config, topups: TopUpsConfig, base: PaidBase, prices: Sequence[TillPrice]) -> MppSeller:
    ttl_s = {price.token.chain_id: topups.tempo_order_ttl_s for price in prices if price.token.standard == "tip20"}
    seal = Seal([derive_key(base.data_key, "mpp challenges").reveal()])
    return MppSeller(
        seal=seal,
        realm=config.public_host,
        tills=prices,
        clock=base.clock,
        entropy=base.entropy,
        ttl_s=ttl_s,
        window=Window(authorized_most_s=_rules(topups).window_max_s),
    )


def _tempo(base: PaidBase, prices: Sequence[TillPrice]) -> TempoTopUps:
    chain_ids = {price.token.chain_id for price in prices if price.token.standard == "tip20"}
    chains = {chain_id: chain for chain_id, chain in base.chains.items() if chain_id in chain_ids}
    return TempoTopUps(store=base.store, chains=chains, broadcasters=base.broadcasters, clock=base.clock)


def _sign_in(config: Config, base: PaidBase, prices: Sequence[TillPrice]) -> SignInDesk:
    secret, chain_ids = derive_key(base.data_key, "sign-in"), sorted({price.token.chain_id for price in prices})
    uri = f"{config.public_url}{SIGN_IN_ROUTE}"
    till = next(((p.token, p.address) for p in prices if p.token.standard == "eip3009"), None)
    return SignInDesk(secret=secret, domain=config.public_host, uri=uri, chain_ids=chain_ids, till=till)


def contracts_chain(relays: Collection[int], tokens: Iterable[Token]) -> int | None:
    """Return the chain whose contracts may sign in: the only one on which a contract can have signed a payment; or None.

    An account is bound to an address, and a contract's address may be another's on another chain: where payments of several
    chains are taken, whoever has it on one would be given what the other has paid.
    """
    paid_on = {token.chain_id for token in tokens if token.standard == "eip3009"} | set(relays)
    return paid_on.pop() if len(paid_on) == 1 and relays else None


def _wallets(topups: TopUpsConfig, base: PaidBase, prices: Sequence[TillPrice]) -> Wallets:
    chain_id = contracts_chain(base.relays, [price.token for price in prices])
    contracts = None if chain_id is None else RelayContractWallets(base.relays[chain_id])
    rules = WalletRules(keys_per_account=topups.keys_per_wallet)
    return Wallets(store=base.store, contracts=contracts, clock=base.clock, entropy=base.entropy, rules=rules)


# receiving and giving back


def _tills(config: Config) -> list[Till]:
    known = [config.token(label) for label, token in config.tokens.items() if token.enabled]
    tills = []
    for each in config.tills.values():
        accepted = tuple(config.token(label) for label in each.tokens)
        chain_ids = {token.chain_id for token in accepted}
        foreign = tuple(t for t in known if t.chain_id in chain_ids and t not in accepted)
        tills.append(Till(each.address, accepted, foreign))
    return tills


def till_places(config: Config) -> frozenset[TillPlace]:
    """Return what is read: each token that is looked for at each till."""
    return frozenset((t.chain_id, till.address, t.address) for till in _tills(config) for t in till.tokens)


def _receipts(config: Config, base: PaidBase, tills: Sequence[Till], deposits: Deposits) -> list[Receipts]:
    found = []
    rates = {config.token(label).asset_id: token.rate_ppm for label, token in config.tokens.items() if token.enabled}
    for chain_id, chain in base.chains.items():
        here = [on for till in tills if (on := _on(till, chain_id)) is not None]
        if not here:
            continue
        crediting = Crediting(
            store=base.store,
            chain=chain,
            deposit_of=deposits.account_of,
            rates_ppm=rates,
            own=base.own_addresses,
            clock=base.clock,
            entropy=base.entropy,
        )
        returning = Returning(
            store=base.store,
            chain=chain,
            clock=base.clock,
            entropy=base.entropy,
            ours=_inventories(config, tills, chain_id),
        )
        found.append(
            Receipts(
                store=base.store,
                chain=chain,
                tills=here,
                crediting=crediting,
                returning=returning,
                clock=base.clock,
                entropy=base.entropy,
            )
        )
    return found


def _inventories(config: Config, tills: Sequence[Till], chain_id: int) -> frozenset[Place]:
    """Return each token at each address whose balance is held against the book."""
    held = [(wallet.address, config.token(label)) for wallet in config.wallets.values() for label in wallet.tokens]
    held += [(till.address, token) for till in tills for token in till.tokens]
    return frozenset((address, token.address) for address, token in held if token.chain_id == chain_id)


def _on(till: Till, chain_id: int) -> Till | None:
    accepted = tuple(token for token in till.accepted if token.chain_id == chain_id)
    foreign = tuple(token for token in till.foreign if token.chain_id == chain_id)
    return Till(till.address, accepted, foreign) if accepted else None


def _refunds(config: Config, base: PaidBase, engine: SettlementEngine | None) -> Refunds:
    tokens = {token.key: token for till in config.tills.values() for token in map(config.token, till.tokens)}
    parts = RefundParts(
        tokens=tokens,
        signers={till.address: base.signers[till.address] for till in config.tills.values()},
        engine=engine,
        broadcasters=base.broadcasters,
        tempo_fees=config.tempo_fees(),
        valid_for_s=3600 if config.topups is None else config.topups.refund_valid_for_s,
    )
    return Refunds(
        store=base.store,
        parts=parts,
        heads=base.heads,
        mark=base.watermark,
        clock=base.clock,
        entropy=base.entropy,
    )
