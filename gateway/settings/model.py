"""Every setting there is: frozen values, each with its key, how it is read and its default. docs/configuration.md explains them.

Must not know who uses a setting.  Theory: amounts are base units, addresses bytes, origins parsed; a name like `wallet` or
`tokens` is a label, checked across sections before anyone sees the configuration.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from contracts.codec import Address
from contracts.networks import Network as ChainNetwork
from contracts.tokens import (
    BASE_SEPOLIA_USDC,
    BASE_USDC,
    MODERATO_PATHUSD,
    TEMPO_PATHUSD,
    TEMPO_USDCE,
    TIP20_DECIMALS,
    Token,
    TokenStandard,
)
from gateway.chains.finality import Finality
from gateway.core.commands import AccountLimits
from gateway.core.money import DECIMALS
from gateway.core.routes import Represent
from gateway.core.tariff import Rule
from gateway.http.egress import EgressRule, Network, Origin, Timeouts
from gateway.settings import readers as r
from gateway.settings.paid import FacilitatorConfig, RelayerConfig, TillConfig, TopUpsConfig
from gateway.settings.table import BadValue, Key, Label, table, tables
from wallets.passphrase import PassphraseSource
from wallets.secret import Secret

DAY_S = 86_400
YEAR_S = 365 * DAY_S
DELIVERY_DEADLINE_S = DAY_S
TERMS_TTL_S = 300
ABSENT_LEAST_S = 600  # two lists at least so far apart prove that a thing does not exist
MIB = 1024 * 1024
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")

ROUTE = re.compile(
    r"[a-z0-9_-]{1,64}|/[^\s]{1,255}", re.ASCII
)  # a route of the module, or a path prefix of a generic vendor

TIP20_PREFIX = bytes.fromhex("20c0") + bytes(10)
"""How the address of every token begins that Tempo itself keeps."""

BUILT_IN_TOKENS: Mapping[str, Token] = {
    "base-usdc": BASE_USDC,
    "base-sepolia-usdc": BASE_SEPOLIA_USDC,
    "tempo-pathusd": TEMPO_PATHUSD,
    "tempo-usdce": TEMPO_USDCE,
    "moderato-pathusd": MODERATO_PATHUSD,
}


class VendorKind(StrEnum):
    """The modules that can speak to a vendor."""

    VPSAGENT = "vpsagent"
    X402 = "x402"  # any seller, known by configuration alone
    MPP = "mpp"  # likewise, for sellers that speak MPP, or both
    DROPMPP = "dropmpp"
    CRYPTOVPS = "cryptovps"
    LITEVPS = "litevps"
    VRTX = "vrtx"

    @property
    def by_account(self) -> bool:
        """Whether the vendor knows us by an account that all agents share, and is paid from it."""
        return self in {VendorKind.CRYPTOVPS, VendorKind.LITEVPS, VendorKind.VRTX}

    @property
    def rails(self) -> tuple[Literal["x402", "mpp"], ...]:
        """The rails that it is paid on, in the order that decides between equal prices; none for an account."""
        return _RAILS.get(self, ())

    @property
    def stops(self) -> bool:
        """Whether the vendor can stop a thing so that it is charged no more, without destroying it."""
        return self is VendorKind.LITEVPS


_RAILS: Mapping[VendorKind, tuple[Literal["x402", "mpp"], ...]] = {
    VendorKind.VPSAGENT: ("x402",),
    VendorKind.X402: ("x402",),
    VendorKind.MPP: ("mpp", "x402"),
    VendorKind.DROPMPP: ("mpp",),
}


class Standard(StrEnum):
    """How a token is moved."""

    EIP3009 = "eip3009"  # by a signed authorization, under the token's own EIP-712 domain
    TIP20 = "tip20"  # by a transaction on Tempo, or on another chain that has its native tokens


class WhenUnfunded(StrEnum):
    """What becomes of a thing whose next period its agent cannot pay."""

    DESTROY = "destroy"
    SUSPEND = "suspend"  # stopped first, where the vendor can; destroyed after the grace


class LogLevel(StrEnum):
    """The lowest level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line of the log looks."""

    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """[server]: where agents and the operator reach the gateway."""

    host: Annotated[str, Key(r.text, "127.0.0.1")]
    port: Annotated[int, Key(r.integer(0, 65_535), 8402)]
    public_url: Annotated[Origin | None, Key(r.origin, None)]
    trusted_proxies: Annotated[tuple[Network, ...], Key(r.several(r.network), [])]
    operator_socket: Annotated[Path, Key(r.socket_path, "operator.sock")]
    max_body_bytes: Annotated[int, Key(r.integer(1024, 1024 * MIB), 16 * MIB)]
    max_paid_body_bytes: Annotated[int, Key(r.integer(1024, 16 * MIB), MIB)]
    shutdown_timeout_s: Annotated[float, Key(r.seconds(0, 3600), 30)]
    metrics: Annotated[bool, Key(r.flag, True)]

    def __post_init__(self) -> None:
        if self.max_paid_body_bytes > self.max_body_bytes:
            raise BadValue("is above max_body_bytes", "write at most that", "max_paid_body_bytes")
        if any(network.prefixlen == 0 for network in self.trusted_proxies):
            what = "trusts everybody, so whoever calls could name any address"
            raise BadValue(what, "write the networks of your own proxies", "trusted_proxies")
        if any(isinstance(network, IPv6Network) and network.subnet_of(IPV4_MAPPED) for network in self.trusted_proxies):
            what = "names IPv4 addresses written as IPv6, and callers' are read as IPv4: it would never match"
            raise BadValue(what, 'write an IPv4 network as "10.0.0.0/8"', "trusted_proxies")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """[store]: the database."""

    path: Annotated[Path, Key(r.path, "gateway.db")]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoreConfig:
    """[keystore]: the sealed keys, and the signer's memory that a restored database must not take back."""

    directory: Annotated[Path, Key(r.path, "keystore")]
    watermark: Annotated[Path, Key(r.path, "signer.mark")]
    passphrase: Annotated[PassphraseSource, Key(r.passphrase, example='"env:GATEWAY_PASSPHRASE"')]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """[chains.<name>]: one chain and its witnesses."""

    name: Annotated[str, Label()]
    chain_id: Annotated[int, Key(r.integer(1, 2**63 - 1), example="8453")]
    rpc: Annotated[tuple[Secret[str], ...], Key(r.several(r.url, at_least=1), example='["https://…", "https://…"]')]
    evidence_quorum: Annotated[int, Key(r.integer(1, 16), 2)]
    finality: Annotated[Finality, Key(r.finality, "finalized")]
    poll_s: Annotated[float, Key(r.seconds(0.05, 3600), 2)]
    request_timeout_s: Annotated[float, Key(r.seconds(0.1, 300), 8)]
    allow_plain_http: Annotated[bool, Key(r.flag, False)]
    gas: Annotated[int, Key(r.integer(50_000, 30_000_000), 1_000_000)]
    max_fee_gwei: Annotated[int, Key(r.integer(1, 1_000_000), 40)]
    priority_fee_gwei: Annotated[int, Key(r.integer(0, 1_000_000), 1)]
    payment_valid_for_s: Annotated[int, Key(r.integer(5, 300), 25)]

    def __post_init__(self) -> None:
        if self.priority_fee_gwei > self.max_fee_gwei:
            raise BadValue("is above max_fee_gwei", "write at most that", "priority_fee_gwei")
        if self.evidence_quorum > len(self.rpc):
            raise BadValue(
                f"asks for {self.evidence_quorum} witnesses, rpc names {len(self.rpc)}",
                "name more endpoints, or lower it knowing that fewer witnesses decide over money",
                "evidence_quorum",
            )
        if not self.allow_plain_http and any(u.reveal().startswith("http://") for u in self.rpc):
            raise BadValue("plain http can be forged on the way", "write https://, or allow_plain_http = true", "rpc")

    @property
    def highest_fee_base(self) -> int:
        """The most that one payment without splits may cost on a chain like Tempo's, in millionths of a dollar.

        There a unit of the fee's price is 1e-18 USD: 1 gwei is a thousandth of a millionth for each gas.
        """
        return -(-self.gas * self.max_fee_gwei // 1000)


def _absent(parts: Mapping[str, object], why: str) -> None:
    """Raise BadValue at the first key that was given a value of its own; what to write names them all."""
    given = [key for key, value in parts.items() if value]
    if given:
        raise BadValue(why, f"remove {', '.join(given)}", given[0])


def _present(parts: Mapping[str, object], why: str) -> None:
    """Raise BadValue naming every key that is missing."""
    missing = [key for key, value in parts.items() if value is None]
    if missing:
        raise BadValue(why, f"write {', '.join(missing)}", missing[0] if len(missing) == 1 else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """[tokens.<name>]: a token that may be paid with. Built-in names need no description."""

    name: Annotated[str, Label()]
    enabled: Annotated[bool, Key(r.flag, True)]
    rate_ppm: Annotated[int, Key(r.amount, "1", name="rate")]
    max_value_base: Annotated[int, Key(r.amount, "1000", name="max_value")]
    inventory_cap_base: Annotated[int | None, Key(r.amount_or_zero, None, name="inventory_cap")]
    chain_id: Annotated[int | None, Key(r.integer(1, 2**63 - 1), None)]
    address: Annotated[Address | None, Key(r.address, None)]
    standard: Annotated[Standard | None, Key(r.choice(Standard), None)]
    symbol: Annotated[str | None, Key(r.text, None)]
    domain_name: Annotated[str | None, Key(r.text, None)]
    domain_version: Annotated[str | None, Key(r.text, None)]
    decimals: Annotated[int, Key(r.integer(0, 36), DECIMALS)]

    def __post_init__(self) -> None:
        if self.decimals != DECIMALS:
            raise BadValue(
                "the books count in millionths", f"only tokens with {DECIMALS} decimals can be paid with", "decimals"
            )
        place = {"chain_id": self.chain_id, "address": self.address, "symbol": self.symbol}
        domain = {"domain_name": self.domain_name, "domain_version": self.domain_version}
        if self.name in BUILT_IN_TOKENS:
            _absent({**place, "standard": self.standard, **domain}, "is built in")
            return
        known = ", ".join(BUILT_IN_TOKENS)
        _present(place, f"is not built in ({known} are)")
        if self.standard is Standard.TIP20:
            _absent(domain, "a tip20 token has no signing domain")
            if self.address is not None and not self.address.startswith(TIP20_PREFIX):
                raise BadValue("is no address of a tip20 token", f"they begin with 0x{TIP20_PREFIX.hex()}", "address")
        else:
            _present(domain, 'is an EIP-3009 token, for standard is not "tip20"')

    @property
    def is_tip20(self) -> bool:
        """Whether it moves by transactions alone, and fees are paid with it."""
        known = BUILT_IN_TOKENS.get(self.name)
        return self.standard is Standard.TIP20 if known is None else known.standard == "tip20"

    @property
    def on_chain(self) -> int | None:
        """The id of its chain."""
        known = BUILT_IN_TOKENS.get(self.name)
        return self.chain_id if known is None else known.chain_id

    @property
    def token(self) -> Token:
        """The token itself. Raises ContractError for a description that is no token's."""
        known = BUILT_IN_TOKENS.get(self.name)
        if known is not None:
            return known
        if self.chain_id is None or self.address is None or self.symbol is None:
            raise AssertionError("checked when the table was read")
        standard: TokenStandard = "tip20" if self.standard is Standard.TIP20 else "eip3009"
        return Token(
            chain_id=self.chain_id,
            address=self.address,
            symbol=self.symbol,
            name=self.domain_name or "",
            version=self.domain_version or "",
            decimals=TIP20_DECIMALS if standard == "tip20" else self.decimals,
            standard=standard,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletConfig:
    """[wallets.<name>]: what a key of the keystore may sign. Its payees are those of the vendors that use it."""

    name: Annotated[str, Label()]
    address: Annotated[Address, Key(r.address, example='"0x…"')]
    tokens: Annotated[tuple[str, ...], Key(r.several(r.text, at_least=1), example='["base-usdc"]')]
    max_value_base: Annotated[int, Key(r.amount, name="max_value", example='"100"')]
    max_window_s: Annotated[int, Key(r.integer(1, 7 * DAY_S), 2 * DAY_S)]
    max_fee_base: Annotated[int, Key(r.amount, "0.2", name="max_fee")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConfig:
    """[vendors.<name>.account]: the operator's account there, how it bills, and what happens when an agent runs dry.

    The credentials themselves are in the keystore (`gateway vendor credentials`), never in this file.
    """

    billing_rule: Annotated[Rule | None, Key(r.choice(Rule), None)]
    period_s: Annotated[int, Key(r.integer(60, 31 * DAY_S), 3600)]
    warn_periods: Annotated[int, Key(r.integer(1, 10_000), 24)]
    when_unfunded: Annotated[WhenUnfunded, Key(r.choice(WhenUnfunded), "destroy")]
    grace_s: Annotated[int, Key(r.integer(0, 31 * DAY_S), DAY_S)]
    low_balance_base: Annotated[int, Key(r.amount_or_zero, "10", name="low_balance")]
    noise_base: Annotated[int, Key(r.amount_or_zero, "0.0002", name="balance_noise")]
    drift_base: Annotated[int, Key(r.amount_or_zero, "1", name="balance_drift")]
    absent_after_s: Annotated[int, Key(r.integer(1, DAY_S), 600)]
    poll_s: Annotated[float, Key(r.seconds(0.05, 60), 1)]
    max_wait_s: Annotated[float, Key(r.seconds(0.1, 300), 30)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOverride:
    """[vendors.<name>.routes.<route>]: what differs from the vendor module's own table; what is absent stays.

    A route of the `x402` kind is a path prefix in quotes, such as routes."/v1/images".
    """

    name: Annotated[str, Label()]
    ceiling_base: Annotated[int | None, Key(r.amount, None, name="ceiling")]
    window_min_s: Annotated[int | None, Key(r.integer(1, 7 * DAY_S), None)]
    window_max_s: Annotated[int | None, Key(r.integer(1, 7 * DAY_S), None)]
    represent: Annotated[Represent | None, Key(r.choice(Represent), None)]

    def __post_init__(self) -> None:
        if (self.window_min_s is None) != (self.window_max_s is None):
            raise BadValue("stands alone", "write window_min_s and window_max_s together")
        if self.window_min_s is not None and self.window_min_s > (self.window_max_s or 0):
            raise BadValue("is above window_max_s", "write at most that", "window_min_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorConfig:
    """[vendors.<name>]: an upstream API, whom it may be paid through, and how much."""

    name: Annotated[str, Label()]
    kind: Annotated[VendorKind, Key(r.choice(VendorKind), example='"x402"')]
    base_url: Annotated[Origin, Key(r.origin, example='"https://…"')]
    wallet: Annotated[str | None, Key(r.text, None)]
    tokens: Annotated[tuple[str, ...], Key(r.several(r.text), [])]
    realms: Annotated[tuple[str, ...], Key(r.several(r.text), [])]
    allow_push: Annotated[bool, Key(r.flag, False)]
    legacy_proofs: Annotated[bool, Key(r.flag, False)]
    account: Annotated[AccountConfig | None, Key(table(AccountConfig), None)]
    payees: Annotated[tuple[Address, ...], Key(r.several(r.address), [])]
    ceiling_base: Annotated[int, Key(r.amount, name="ceiling", example='"25"')]
    routes: Annotated[Mapping[str, RouteOverride], Key(tables(RouteOverride, labels=ROUTE), {})]
    prices: Annotated[Mapping[str, int], Key(r.mapping(r.amount), {})]
    max_drift_ppm: Annotated[int, Key(r.fraction, "0", name="max_drift")]
    dispute_loss_cap_base: Annotated[int, Key(r.amount_or_zero, "0", name="dispute_loss_cap")]
    delivery_deadline_s: Annotated[int, Key(r.integer(1, YEAR_S), DELIVERY_DEADLINE_S)]
    terms_ttl_s: Annotated[int, Key(r.integer(0, YEAR_S), TERMS_TTL_S)]
    allow_private: Annotated[bool, Key(r.flag, False)]
    allow_plain_http: Annotated[bool, Key(r.flag, False)]
    max_connections: Annotated[int, Key(r.integer(1, 4096), 32)]
    connect_timeout_s: Annotated[float, Key(r.seconds(0.1, 60), 5)]
    first_byte_timeout_s: Annotated[float, Key(r.seconds(0.1, 3600), 60)]
    body_timeout_s: Annotated[float, Key(r.seconds(0.1, 3600), 30)]
    total_timeout_s: Annotated[float, Key(r.seconds(0.1, 7200), 120)]

    def __post_init__(self) -> None:
        if self.kind.by_account:
            self._check_account()
        else:
            self._check_paid()
        if self.account is not None and self.account.absent_after_s < ABSENT_LEAST_S and not self.allow_private:
            raise BadValue(
                f"absent_after_s is below {ABSENT_LEAST_S}: a list that lags would prove that a new thing does not exist",
                f"write {ABSENT_LEAST_S} or more; less is for a sandbox on this machine (allow_private)",
                "account",
            )
        self._check_timeouts()
        try:
            _ = self.egress
        except ValueError as error:
            raise BadValue(str(error), "see the vendor's base_url and allow_…", "base_url") from None

    def _check_timeouts(self) -> None:
        """What is a part of the whole must end before it, or nobody could tell what it was that took too long."""
        for part, part_s in (("connect", self.connect_timeout_s), ("first_byte", self.first_byte_timeout_s)):
            if part_s > self.total_timeout_s or (part == "connect" and part_s == self.total_timeout_s):
                what = f"is too short for a {part}_timeout_s of {part_s:g}"
                raise BadValue(what, "raise it, or lower that", "total_timeout_s")

    def _check_account(self) -> None:
        """Whatever is about a challenge, or about what was collected for nothing, means nothing where no challenge is paid.

        A billing period is settled only at a thing that was delivered, so no dispute can come of it.
        """
        about_402 = {
            "wallet": self.wallet,
            "tokens": self.tokens,
            "payees": self.payees,
            "prices": self.prices,
            "max_drift": self.max_drift_ppm,
            "realms": self.realms,
            "allow_push": self.allow_push,
            "legacy_proofs": self.legacy_proofs,
            "terms_ttl_s": self.terms_ttl_s != TERMS_TTL_S,
            "delivery_deadline_s": self.delivery_deadline_s != DELIVERY_DEADLINE_S,
            "dispute_loss_cap": self.dispute_loss_cap_base,
        }
        _absent(about_402, f"a vendor of kind {self.kind.value} is paid from an account, never by a challenge")
        account = self.account
        if account is None:
            return
        if account.when_unfunded is WhenUnfunded.SUSPEND and not self.kind.stops:
            raise BadValue(
                f"at {self.kind.value} whatever exists is charged until it is destroyed",
                'write when_unfunded = "destroy"',
                "account",
            )
        if self.kind is VendorKind.LITEVPS and account.billing_rule not in (None, Rule.STARTED_UNITS):
            raise BadValue(
                "litevps charges by the minute while a server runs, and has no monthly price",
                'remove billing_rule, or write "started_units"',
                "account",
            )

    def _check_paid(self) -> None:
        if self.account is not None:
            what = f"a vendor of kind {self.kind.value} is paid from a wallet, not from an account"
            raise BadValue(what, "remove the account table", "account")
        for key, missing in (("wallet", self.wallet is None), ("tokens", not self.tokens)):
            if missing:
                what = f"missing: a vendor of kind {self.kind.value} is paid from a wallet"
                raise BadValue(what, 'write wallet = "…" and tokens = ["…"]', key)
        if "mpp" not in self.kind.rails:
            about_mpp = {"realms": self.realms, "allow_push": self.allow_push, "legacy_proofs": self.legacy_proofs}
            _absent(about_mpp, f"is about MPP, which a vendor of kind {self.kind.value} is never paid by")

    @property
    def hosts(self) -> frozenset[str]:
        """The vendor's own host in lower case, with and without its port."""
        url = self.base_url
        return frozenset({url.host.lower(), f"{url.host}:{url.port}".lower()})

    @property
    def egress(self) -> EgressRule:
        """Where this vendor's requests may go."""
        timeouts = Timeouts(
            self.connect_timeout_s, self.first_byte_timeout_s, self.body_timeout_s, self.total_timeout_s
        )
        return EgressRule(self.base_url, self.allow_private, self.allow_plain_http, self.max_connections, timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """[limits]: one account's share, so that its holds starve nobody."""

    exposure_per_account_base: Annotated[int, Key(r.amount, "500", name="exposure_per_account")]
    open_payments_per_vendor: Annotated[int, Key(r.integer(1, 1_000_000), 20)]
    calls_per_vendor: Annotated[int, Key(r.integer(1, 4096), 16)]
    metered_per_vendor: Annotated[int, Key(r.integer(1, 1_000_000), 10)]
    unpaid_deliveries: Annotated[int, Key(r.integer(1, 1_000_000), 5)]
    unpaid_window_s: Annotated[int, Key(r.integer(1, YEAR_S), 7 * DAY_S)]

    @property
    def account_limits(self) -> AccountLimits:
        """The same, as the book takes it."""
        return AccountLimits(
            exposure_base=self.exposure_per_account_base,
            open_payments_per_vendor=self.open_payments_per_vendor,
            calls_per_vendor=self.calls_per_vendor,
            metered_per_vendor=self.metered_per_vendor,
            unpaid_deliveries=self.unpaid_deliveries,
            unpaid_window_ms=self.unpaid_window_s * 1000,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueConfig:
    """[catalogue]: how fresh plans are, and what the house pays to read those that cost money."""

    ttl_s: Annotated[int, Key(r.integer(1, DAY_S), 300)]
    paid_ttl_s: Annotated[int, Key(r.integer(60, 30 * DAY_S), 6 * 3600)]
    paid_budget_base: Annotated[int, Key(r.amount_or_zero, "0.10", name="paid_budget_per_day")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersConfig:
    """[servers]: the vendor-neutral API."""

    quote_ttl_s: Annotated[int, Key(r.integer(10, DAY_S), 600)]
    open_per_account: Annotated[int, Key(r.integer(1, 100_000), 100)]
    fleets_per_account: Annotated[int, Key(r.integer(1, 10_000), 20)]
    warn_before_s: Annotated[tuple[int, ...], Key(r.several(r.integer(60, 30 * DAY_S)), [3 * DAY_S, DAY_S, 3600])]
    sweep_s: Annotated[float, Key(r.seconds(0.05, 60), 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhooksConfig:
    """[webhooks]: where events may be sent, and for how long an endpoint is waited for."""

    per_account: Annotated[int, Key(r.integer(0, 10_000), 20)]
    timeout_s: Annotated[float, Key(r.seconds(0.1, 60), 15)]
    streams_per_account: Annotated[int, Key(r.integer(1, 10_000), 20)]
    deliveries_kept_s: Annotated[int, Key(r.integer(3600, 10 * YEAR_S), 30 * DAY_S)]
    allow_private_networks: Annotated[tuple[Network, ...], Key(r.several(r.network), [])]
    allow_plain_http: Annotated[bool, Key(r.flag, False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """[log]: what is written to standard error."""

    level: Annotated[LogLevel, Key(r.choice(LogLevel), "info")]
    format: Annotated[LogFormat, Key(r.choice(LogFormat), "json")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole file, table by table."""

    data_dir: Annotated[Path, Key(r.path, ".")]
    server: Annotated[ServerConfig, Key(table(ServerConfig), {})]
    store: Annotated[StoreConfig, Key(table(StoreConfig), {})]
    keystore: Annotated[KeystoreConfig, Key(table(KeystoreConfig), {})]
    chains: Annotated[Mapping[str, ChainConfig], Key(tables(ChainConfig), {})]
    tokens: Annotated[Mapping[str, TokenConfig], Key(tables(TokenConfig), {})]
    wallets: Annotated[Mapping[str, WalletConfig], Key(tables(WalletConfig), {})]
    vendors: Annotated[Mapping[str, VendorConfig], Key(tables(VendorConfig), {})]
    limits: Annotated[LimitsConfig, Key(table(LimitsConfig), {})]
    catalogue: Annotated[CatalogueConfig, Key(table(CatalogueConfig), {})]
    servers: Annotated[ServersConfig, Key(table(ServersConfig), {})]
    webhooks: Annotated[WebhooksConfig, Key(table(WebhooksConfig), {})]
    tills: Annotated[Mapping[str, TillConfig], Key(tables(TillConfig), {})]
    relayers: Annotated[Mapping[str, RelayerConfig], Key(tables(RelayerConfig), {})]
    facilitator: Annotated[FacilitatorConfig | None, Key(table(FacilitatorConfig), None)]
    topups: Annotated[TopUpsConfig | None, Key(table(TopUpsConfig), None)]
    log: Annotated[LogConfig, Key(table(LogConfig), {})]

    def networks(self) -> frozenset[ChainNetwork]:
        """The chains that are configured."""
        return frozenset(ChainNetwork(chain.chain_id) for chain in self.chains.values())
