"""The configuration: one TOML file, read once, complete or refused; and the values that modules are handed from it.

Must not start anything, and nobody keeps it: modules receive the values they need, never this object.  Theory: whatever
can be known to be wrong is said before the first connection, with file, line and key.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from contracts.batch import SETTLE, TRANSACTION_GAS_MAX, deployment
from contracts.calls import SELECTOR_BYTES, TRANSFER_BYTES, TRANSFER_VRS
from contracts.codec import Address
from contracts.tokens import Token, TokenKey
from gateway.account_ports import AccountTerms
from gateway.core.book import BookRules
from gateway.core.inventory import InventoryCap, TokenPlace
from gateway.core.money import WEI_PER_GWEI
from gateway.core.tariff import Rule
from gateway.flow.credentials import TempoFees
from gateway.http.egress import EgressRule
from gateway.ports import VendorTerms
from gateway.settings.checks import Finding, findings
from gateway.settings.lines import key_lines
from gateway.settings.model import (
    AccountConfig,
    CatalogueConfig,
    ChainConfig,
    KeystoreConfig,
    LimitsConfig,
    LogConfig,
    LogFormat,
    LogLevel,
    RouteOverride,
    ServerConfig,
    ServersConfig,
    Settings,
    StoreConfig,
    TokenConfig,
    VendorConfig,
    VendorKind,
    WalletConfig,
    WebhooksConfig,
    WhenUnfunded,
)
from gateway.settings.paid import FacilitatorConfig, RelayerConfig, TillConfig, TopUpsConfig
from gateway.settings.paid_checks import paid_findings
from gateway.settings.table import At, ConfigError, Source, Spoiled, expand, read_table
from wallets.guard import CallKey, Policy, WalletPolicy

__all__ = [
    "CatalogueConfig",
    "ChainConfig",
    "Config",
    "ConfigError",
    "FacilitatorConfig",
    "KeystoreConfig",
    "LimitsConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "RelayerConfig",
    "RouteOverride",
    "ServerConfig",
    "ServersConfig",
    "StoreConfig",
    "TillConfig",
    "TokenConfig",
    "TopUpsConfig",
    "VendorConfig",
    "VendorKind",
    "WalletConfig",
    "WebhooksConfig",
    "load_config",
    "parse_config",
]

REFUND_MIN_BASE = 10_000
"""What goes back at least where no top-ups say what they take: a refund costs gas."""

MAX_FILE_BYTES = 1024 * 1024
CLOCK_MARGIN_S = 60  # a block's time may lie ahead of ours

Checks = Callable[["Config"], Iterable[Finding]]
"""What modules that the configuration must not know can tell of it, such as a vendor of its routes."""

ApprovedPayee = tuple[str, int, bytes]
"""(vendor, chain id, address), as the book keeps what the operator approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Settings):
    """Every setting, and the values that modules take."""

    def token(self, name: str) -> Token:
        """Return the token of a label."""
        return self.tokens[name].token

    def own_addresses(self) -> frozenset[Address]:
        """Return the addresses of all configured wallets, tills and relayers: nobody may be paid there."""
        spending = {wallet.address for wallet in self.wallets.values()}
        receiving = {till.address for till in self.tills.values()}
        return frozenset(spending | receiving | {relayer.address for relayer in self.relayers.values()})

    @property
    def public_url(self) -> str:
        """Return our own origin as agents write it, without a slash at its end."""
        server = self.server
        return str(server.public_url) if server.public_url is not None else f"http://{server.host}:{server.port}"

    @property
    def public_host(self) -> str:
        """Return its host, with the port where agents write one: our realm."""
        return self.public_url.partition("://")[2]

    def relayers_on(self, chain_id: int) -> tuple[RelayerConfig, ...]:
        """Return the keys that pay gas on a chain."""
        names = {chain.name for chain in self.chains.values() if chain.chain_id == chain_id}
        return tuple(each for each in self.relayers.values() if names & set(each.chains))

    def vendor_terms(self, name: str) -> VendorTerms:
        """Return what the operator allows for one vendor (P8)."""
        vendor = self.vendors[name]
        if vendor.wallet is None:
            raise ValueError(f"{name} is paid from an account, it has no wallet")
        return VendorTerms(
            wallet=self.wallets[vendor.wallet].address,
            tokens=tuple(self.token(label) for label in vendor.tokens),
            payees=frozenset(vendor.payees),
            max_drift_ppm=vendor.max_drift_ppm,
            rate_ppm={self.token(label).asset_id: self.tokens[label].rate_ppm for label in vendor.tokens},
            terms_ttl_s=vendor.terms_ttl_s,
            delivery_deadline_s=vendor.delivery_deadline_s,
            limits=self.limits.account_limits,
            rails=vendor.kind.rails,
            realms=realms_of(vendor),
            allow_push=vendor.allow_push,
            legacy_proofs=vendor.legacy_proofs,
        )

    def account_terms(self, name: str) -> AccountTerms:
        """Return what the operator decides for one vendor account; the defaults where no table says otherwise."""
        vendor, account = self.vendors[name], self._account(name)
        rule = account.billing_rule
        if rule is None and vendor.kind is not VendorKind.VRTX:
            rule = Rule.STARTED_UNITS  # their documents state it; VRTX's does not
        return AccountTerms(
            period_s=account.period_s,
            ceiling_base=vendor.ceiling_base,
            rule=rule,
            warn_periods=account.warn_periods,
            suspend_first=account.when_unfunded is WhenUnfunded.SUSPEND,
            grace_s=account.grace_s,
            absent_after_s=account.absent_after_s,
            low_balance_base=account.low_balance_base,
            noise_base=account.noise_base,
            drift_base=account.drift_base,
        )

    def tempo_fees(self) -> Mapping[int, TempoFees]:
        """Return what a payment may cost and how long it is valid, by chain id, on chains where we send it ourselves."""
        return {
            chain.chain_id: TempoFees(
                gas=chain.gas,
                max_fee_per_gas=chain.max_fee_gwei * WEI_PER_GWEI,
                max_priority_fee_per_gas=chain.priority_fee_gwei * WEI_PER_GWEI,
                valid_for_s=chain.payment_valid_for_s,
            )
            for chain in self.chains.values()
        }

    def account_poll_s(self, name: str) -> float:
        """Return how often what runs at a vendor account is looked after."""
        return self._account(name).poll_s

    def account_wait_s(self, name: str) -> float:
        """Return how long a call may wait for its turn within the vendor's limits."""
        return self._account(name).max_wait_s

    def _account(self, name: str) -> AccountConfig:
        return self.vendors[name].account or read_table(AccountConfig, {}, At(Source("", {}, Path())))

    def paid_vendors(self) -> Mapping[str, VendorConfig]:
        """Return the vendors that ask for their money with a 402."""
        return {name: vendor for name, vendor in self.vendors.items() if not vendor.kind.by_account}

    def account_vendors(self) -> Mapping[str, VendorConfig]:
        """Return the vendors that know us by an account."""
        return {name: vendor for name, vendor in self.vendors.items() if vendor.kind.by_account}

    def egress_rules(self) -> tuple[EgressRule, ...]:
        """Return one rule per vendor origin, and one for a facilitator of others, for the outgoing client."""
        vendors = tuple(vendor.egress for vendor in self.vendors.values())
        other = None if self.topups is None else self.topups.facilitator_egress
        return vendors if other is None else (*vendors, other)

    def book_rules(self) -> BookRules:
        """Return the rules that the book decides by."""
        caps = {vendor.name: vendor.dispute_loss_cap_base for vendor in self.vendors.values()}
        least_base = REFUND_MIN_BASE if self.topups is None else self.topups.min_base
        return BookRules(caps, least_base, self.inventory_caps())

    def inventory_caps(self) -> Mapping[TokenPlace, InventoryCap]:
        """Return the most that the house wants of each token; those without a cap are not in it."""
        caps_base = {self.token(label): each.inventory_cap_base for label, each in self.tokens.items() if each.enabled}
        return {
            token.key: InventoryCap(token.key, token.asset_id, cap_base)
            for token, cap_base in caps_base.items()
            if cap_base is not None
        }

    def guard_policy(self, approved: Iterable[ApprovedPayee] = (), also_own: Iterable[Address] = ()) -> Policy:
        """Return what each wallet may sign: payees of the configuration, and those the operator approved since.

        `also_own` are addresses of the keystore that no vendor uses; they may not be paid either.
        """
        taken = tuple(approved)
        wallets = {wallet.address: self._wallet_policy(wallet, taken) for wallet in self.wallets.values()}
        wallets |= {till.address: self._till_policy(till) for till in self.tills.values()}
        wallets |= {relayer.address: self._relayer_policy(relayer) for relayer in self.relayers.values()}
        return Policy(wallets, self.own_addresses() | frozenset(also_own))

    def _wallet_policy(self, wallet: WalletConfig, approved: tuple[ApprovedPayee, ...]) -> WalletPolicy:
        max_value_base: dict[TokenKey, int] = {}
        for label in wallet.tokens:
            token = self.token(label)
            max_value_base[token.key] = min(wallet.max_value_base, self.tokens[label].max_value_base)
        vendors = {vendor.name: vendor for vendor in self.vendors.values() if vendor.wallet == wallet.name}
        payees = {payee for vendor in vendors.values() for payee in vendor.payees}
        payees |= {Address(pay_to) for name, _, pay_to in approved if name in vendors}
        return WalletPolicy(
            chain_ids=frozenset(chain_id for chain_id, _ in max_value_base),
            max_value_base=max_value_base,
            payees=frozenset(payees),
            max_window_s=wallet.max_window_s,
            realms=frozenset(
                (chain_id, realm) for vendor in vendors.values() for chain_id, realm in self._realms(vendor)
            ),
            legacy_realms=frozenset(
                (chain_id, realm)
                for vendor in vendors.values()
                if vendor.legacy_proofs
                for chain_id, realm in self._realms(vendor)
            ),
            max_fee_base=wallet.max_fee_base,
        )

    def _till_policy(self, till: TillConfig) -> WalletPolicy:
        """A till gives back what came in, and nothing else; to whom, the guard reads from the book."""
        tokens = [self.token(label) for label in till.tokens]
        longest_s = 0 if self.topups is None else self.topups.refund_valid_for_s
        return WalletPolicy(
            chain_ids=frozenset(token.chain_id for token in tokens),
            max_value_base={token.key: till.max_refund_base for token in tokens},
            payees=frozenset(),
            max_window_s=longest_s + CLOCK_MARGIN_S,
            max_fee_base=till.max_fee_base,
            refunds=True,
        )

    def _relayer_policy(self, relayer: RelayerConfig) -> WalletPolicy:
        """A relayer calls what collects an authorization, pays nobody, and may use a nonce up by calling itself."""
        chain_ids = frozenset(self.chains[name].chain_id for name in relayer.chains)
        policy = WalletPolicy(chain_ids, max_value_base={}, payees=frozenset(), max_window_s=0)
        facilitator = self.facilitator
        if facilitator is None:
            return policy
        deployer, deploying = deployment()
        calls: dict[CallKey, int] = {}
        for chain_id in chain_ids:
            calls[CallKey(chain_id, facilitator.batch, SETTLE)] = 0
            calls[CallKey(chain_id, deployer, deploying[:SELECTOR_BYTES])] = 0
            calls[CallKey(chain_id, relayer.address, b"")] = 0
        for token in map(self.token, facilitator.tokens):
            if token.chain_id in chain_ids:
                calls[CallKey(token.chain_id, token.address, TRANSFER_VRS)] = 0
                calls[CallKey(token.chain_id, token.address, TRANSFER_BYTES)] = 0
        return replace(policy, calls=calls, max_fee_wei=TRANSACTION_GAS_MAX * facilitator.fee_cap_wei)

    def _realms(self, vendor: VendorConfig) -> Iterable[tuple[int, str]]:
        """Yield (chain, realm) of every proof of identity that the vendor may ask for: none of x402 alone (P8)."""
        for label in vendor.tokens if "mpp" in vendor.kind.rails else ():
            for realm in realms_of(vendor):
                yield self.token(label).chain_id, realm


def realms_of(vendor: VendorConfig) -> frozenset[str]:
    """Return the realms that a vendor's MPP challenges may name: its own host, with and without its port, and aliases."""
    return vendor.hosts | {realm.lower() for realm in vendor.realms}


def load_config(path: Path, environ: Mapping[str, str], further: Checks | None = None) -> Config:
    """Read a file. Raises ConfigError, which lists everything that is wrong with it; `further` may add to that."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            (f"{path}: {error.strerror}; write it with `gateway init`, or name it with --config",)
        ) from None
    except OSError as error:
        raise ConfigError(
            (f"{path}: {error.strerror}; let the gateway's user read it, or name another with --config",)
        ) from None
    except UnicodeDecodeError:
        raise ConfigError((f"{path}: not UTF-8; save it as UTF-8",)) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError((f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no configuration",))
    return parse_config(text, environ, name=str(path), directory=path.absolute().parent, further=further)


def parse_config(
    text: str, environ: Mapping[str, str], *, name: str = "config.toml", directory: Path, further: Checks | None = None
) -> Config:
    """Read a configuration's text; relative paths start at its `data_dir`, and that at `directory`. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((f"{name}: not TOML: {error}; mend that line",)) from None
    source = Source(name, key_lines(text), directory)
    expanded = {key: expand(value, environ, At(source, (key,))) for key, value in raw.items()}
    _stop_on(source)
    written = expanded.get("data_dir")
    if isinstance(written, str) and written:
        # The reader of `data_dir` itself takes "." then: it is this directory already.
        source.data_dir = directory / written
        expanded["data_dir"] = "."
    try:
        config = read_table(Config, expanded, At(source))
    except Spoiled:
        _stop_on(source)
        raise AssertionError("a spoiled table left no fault") from None
    for check in (findings, paid_findings, further):
        for path, what, write in check(config) if check is not None else ():
            source.fault(path, what, write)
        _stop_on(source)
    return config


def _stop_on(source: Source) -> None:
    if source.problems:
        raise ConfigError(tuple(source.problems))
