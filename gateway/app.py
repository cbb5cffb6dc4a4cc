"""From a configuration to a running gateway: opens the parts, assembles the graph, serves until told to stop.

Must not decide anything about money.  Theory: one function opens everything in the order in which it may be trusted
(keys, database, chain, tokens), and one closes it in reverse, so a start that fails leaves nothing behind.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.codec import Address, checksum
from contracts.tokens import Token
from gateway.chains.broadcast import RpcBroadcaster
from gateway.chains.quorum import QuorumChain
from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import Limits, RpcEndpoint
from gateway.chains.startup import verify_tokens
from gateway.config import ChainConfig, Config, ConfigError, WebhooksConfig
from gateway.core.records import EVERYTHING
from gateway.core.view import View
from gateway.flow.stranded import stranded, stranded_at_tills
from gateway.graph import Gateway, Parts, assemble
from gateway.http.client import HttpUpstream
from gateway.http.courier import Courier, timeouts_of
from gateway.paid_graph import till_places
from gateway.ports import Block
from gateway.store import queries
from gateway.store.core import StoreCore
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from gateway.vendor_credentials import VendorSecrets, load
from wallets.guard import Guard
from wallets.keyfile import KeystoreError
from wallets.keystore import Keystore, Unlocked
from wallets.passphrase import read_passphrase
from wallets.sealing import Sealer
from wallets.signer import LocalSigner, Signer
from wallets.watermark import Mark, Watermark


def _as_they_are(parts: Parts) -> Parts:
    return parts


@dataclass(frozen=True, slots=True)
class Fittings:
    """Where a crash test reaches in: the store's core, and every part before the graph is assembled. Changes nothing itself."""

    store_core: type[StoreCore] = StoreCore
    refit: Callable[[Parts], Parts] = _as_they_are


USUAL = Fittings()
LOST_MARK = 2**62  # a height that no journal reaches: its database counts as an older copy


@contextlib.asynccontextmanager
async def open_gateway(
    config: Config, environ: Mapping[str, str], fittings: Fittings = USUAL
) -> AsyncIterator[Gateway]:
    """Open everything, yield the assembled gateway, close everything.

    Raises what the parts raise: ConfigError, KeystoreError, StoreInUse, WrongChainError, TokenMismatch, ...
    """
    async with contextlib.AsyncExitStack() as stack:
        unlocked = await asyncio.to_thread(_unlock, config, environ)
        store = await SqliteStore.open(config.store.path, config.book_rules(), fittings.store_core)
        stack.push_async_callback(store.close)
        _require_all_followed(config, store.view)
        _require_keys(config, unlocked)
        watermark = await _watermark(config, store)
        stack.callback(watermark.close)
        chains, broadcasters, relays = {}, {}, {}
        for chain in config.chains.values():
            endpoints = [RpcEndpoint(url.reveal(), Limits(attempt_s=chain.request_timeout_s)) for url in chain.rpc]
            broadcasters[chain.chain_id] = RpcBroadcaster(endpoints, chain.chain_id)
            if config.facilitator is not None and config.relayers_on(chain.chain_id):
                relays[chain.chain_id] = RpcRelayChain(endpoints, chain.chain_id, batch=config.facilitator.batch)
            opened = _chain(chain, endpoints, store.view)
            stack.push_async_callback(opened.close)
            await opened.start()
            await verify_tokens(opened, _tokens_on(config, chain.chain_id))
            chains[chain.chain_id] = opened
        upstream = HttpUpstream(config.egress_rules())
        stack.push_async_callback(upstream.close)
        own = config.own_addresses() | frozenset(unlocked.keys) | frozenset(unlocked.watched)
        policy = config.guard_policy(store.view.payees, own)
        guard = Guard(policy, _frozen_reader(store.view), _funder_reader(store.view))
        signers: dict[bytes, Signer] = {
            address: LocalSigner(address, key, guard, watermark, _now_s) for address, key in unlocked.keys.items()
        }
        clock, entropy, courier = SystemClock(), SystemEntropy(), _courier(config.webhooks)
        stack.push_async_callback(courier.close)
        parts = Parts(
            store=store,
            upstream=upstream,
            chains=chains,
            signers=signers,
            guard=guard,
            data_key=unlocked.data_key,
            watermark=watermark,
            clock=clock,
            entropy=entropy,
            own_addresses=own,
            business=clock,
            vendor_secrets=_vendor_secrets(config, unlocked),
            broadcasters=broadcasters,
            relays=relays,
            posting=courier,
        )
        gateway = assemble(config, fittings.refit(parts))
        if gateway.accounts is not None:
            stack.push_async_callback(gateway.accounts.close)
        await gateway.prepare()
        yield gateway


def _unlock(config: Config, environ: Mapping[str, str]) -> Unlocked:
    passphrase = read_passphrase(config.keystore.passphrase, environ)
    return Keystore(config.keystore.directory).unlock(passphrase)


def _vendor_secrets(config: Config, unlocked: Unlocked) -> dict[str, VendorSecrets]:
    """Open what is sealed for each vendor account; one without credentials cannot be served."""
    sealer, found, missing = Sealer(unlocked.data_key), dict[str, VendorSecrets](), list[str]()
    for name in config.account_vendors():
        secrets = load(config.keystore.directory, name, sealer)
        if secrets is None:
            missing.append(f"vendors.{name} has no credentials: save them with `gateway vendor credentials {name}`")
        else:
            found[name] = secrets
    if missing:
        raise ConfigError(tuple(missing))
    return found


def _require_all_followed(config: Config, view: View) -> None:
    reasons = stranded(view, {chain.chain_id for chain in config.chains.values()}, config.vendors)
    reasons += stranded_at_tills(view, till_places(config))
    if reasons:
        raise ConfigError(tuple(reasons))


def _require_keys(config: Config, unlocked: Unlocked) -> None:
    named = [(f"tills.{till.name}", till.address, "gives back") for till in config.tills.values()]
    named += [(f"relayers.{each.name}", each.address, "pays gas") for each in config.relayers.values()]
    for label, address, does in named:
        if address not in unlocked.keys:
            raise KeystoreError(
                f"{label} ({checksum(address)}) {does}, and the keystore has no key for it: "
                "import it with `gateway wallet import`, or name another"
            )
    for vendor in config.vendors.values():
        if vendor.wallet is None:
            continue
        wallet = config.wallets[vendor.wallet]
        if wallet.address not in unlocked.keys:
            raise KeystoreError(
                f"wallets.{wallet.name} ({checksum(wallet.address)}) pays {vendor.name}, and the keystore has no key for it: "
                "import it with `gateway wallet import`, or name another wallet"
            )


async def _watermark(config: Config, store: SqliteStore) -> Watermark:
    """Open the signer's mark. One that is missing beside purchases or refunds means that nobody knows what was signed (P12)."""
    path = config.keystore.watermark
    if path.exists():
        return Watermark.open(path)
    if not await store.query(queries.ANY_SIGNED):
        return Watermark.create(path)
    longest_s = max((each.max_window_s for each in config.guard_policy().wallets.values()), default=0)
    return Watermark.create(path, Mark(LOST_MARK, bytes(32), _now_s() + longest_s))


def _chain(chain: ChainConfig, endpoints: Sequence[RpcEndpoint], view: View) -> QuorumChain:
    cursor = view.cursors.get(chain.chain_id)
    return QuorumChain(
        endpoints,
        chain_id=chain.chain_id,
        finality=chain.finality,
        quorum=chain.evidence_quorum,
        known_final=None if cursor is None else Block(*cursor),
    )


def _courier(webhooks: WebhooksConfig) -> Courier:
    return Courier(
        webhooks.allow_private_networks,
        allow_http=webhooks.allow_plain_http,
        timeouts=timeouts_of(webhooks.timeout_s),
    )


def _now_s() -> int:
    return int(time.time())


def _frozen_reader(view: View) -> Callable[[Address], bool]:
    def is_frozen(wallet: Address) -> bool:
        return any(scope in view.freezes for scope in (*EVERYTHING, f"wallet:0x{wallet.hex()}"))

    return is_frozen


def _funder_reader(view: View) -> Callable[[Address, Address], bool]:
    def may_refund(_till: Address, to: Address) -> bool:
        return bytes(to) in view.funders

    return may_refund


def _tokens_on(config: Config, chain_id: int) -> list[Token]:
    labels = {label for wallet in config.wallets.values() for label in wallet.tokens}
    labels |= {label for till in config.tills.values() for label in till.tokens}
    labels |= set(() if config.facilitator is None else config.facilitator.tokens)
    return [config.token(label) for label in sorted(labels) if config.token(label).chain_id == chain_id]
