"""Every setting there is: frozen values, each with its key, how it is read and its default. docs/configuration.md explains them.

Must not know who uses a setting.  Theory: amounts are base units, addresses bytes, origins parsed; a name like `wallet` or
`tokens` is a label, checked across sections before anyone sees the configuration.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from contracts.codec import Address
from contracts.networks import Network
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC, Token
from gateway.chains.finality import Finality
from gateway.core.commands import AccountLimits
from gateway.core.money import DECIMALS
from gateway.core.routes import Represent
from gateway.http.egress import EgressRule, Origin, Timeouts
from gateway.settings import readers as r
from gateway.settings.table import BadValue, Key, Label, table, tables
from wallets.passphrase import PassphraseSource
from wallets.secret import Secret

DAY_S = 86_400
YEAR_S = 365 * DAY_S
MIB = 1024 * 1024

ROUTE = re.compile(
    r"[a-z0-9_-]{1,64}|/[^\s]{1,255}", re.ASCII
)  # a route of the module, or a path prefix of a generic vendor

BUILT_IN_TOKENS: Mapping[str, Token] = {"base-usdc": BASE_USDC, "base-sepolia-usdc": BASE_SEPOLIA_USDC}


class VendorKind(StrEnum):
    """The modules that can speak to a vendor."""

    VPSAGENT = "vpsagent"
    X402 = "x402"  # any seller, known by configuration alone


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
    operator_socket: Annotated[Path, Key(r.socket_path, "operator.sock")]
    max_body_bytes: Annotated[int, Key(r.integer(1024, 1024 * MIB), 16 * MIB)]
    max_paid_body_bytes: Annotated[int, Key(r.integer(1024, 16 * MIB), MIB)]
    shutdown_timeout_s: Annotated[float, Key(r.seconds(0, 3600), 30)]
    metrics: Annotated[bool, Key(r.flag, True)]

    def __post_init__(self) -> None:
        if self.max_paid_body_bytes > self.max_body_bytes:
            raise BadValue("is above max_body_bytes", "write at most that", "max_paid_body_bytes")


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

    def __post_init__(self) -> None:
        if self.evidence_quorum > len(self.rpc):
            raise BadValue(
                f"asks for {self.evidence_quorum} witnesses, rpc names {len(self.rpc)}",
                "name more endpoints, or lower it knowing that fewer witnesses decide over money",
                "evidence_quorum",
            )
        if not self.allow_plain_http and any(u.reveal().startswith("http://") for u in self.rpc):
            raise BadValue("plain http can be forged on the way", "write https://, or allow_plain_http = true", "rpc")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """[tokens.<name>]: a token that may be paid with. Built-in names need no `address` and what follows it."""

    name: Annotated[str, Label()]
    enabled: Annotated[bool, Key(r.flag, True)]
    rate_ppm: Annotated[int, Key(r.amount, "1", name="rate")]
    max_value_base: Annotated[int, Key(r.amount, "1000", name="max_value")]
    chain_id: Annotated[int | None, Key(r.integer(1, 2**63 - 1), None)]
    address: Annotated[Address | None, Key(r.address, None)]
    symbol: Annotated[str | None, Key(r.text, None)]
    domain_name: Annotated[str | None, Key(r.text, None)]
    domain_version: Annotated[str | None, Key(r.text, None)]
    decimals: Annotated[int, Key(r.integer(0, 36), DECIMALS)]

    def __post_init__(self) -> None:
        if self.decimals != DECIMALS:
            raise BadValue(
                "the books count in millionths", f"only tokens with {DECIMALS} decimals can be paid with", "decimals"
            )
        described = [self.chain_id, self.address, self.symbol, self.domain_name, self.domain_version]
        if self.name in BUILT_IN_TOKENS:
            if any(part is not None for part in described):
                raise BadValue("is built in", "remove chain_id, address, symbol, domain_name and domain_version")
        elif any(part is None for part in described):
            known = ", ".join(BUILT_IN_TOKENS)
            raise BadValue(
                f"is not built in ({known} are)", "write chain_id, address, symbol, domain_name and domain_version"
            )

    @property
    def token(self) -> Token:
        """The token itself."""
        known = BUILT_IN_TOKENS.get(self.name)
        if known is not None:
            return known
        if None in (self.chain_id, self.address, self.symbol, self.domain_name, self.domain_version):
            raise AssertionError("checked when the table was read")
        return Token(
            chain_id=self.chain_id or 0,
            address=self.address or Address(b""),
            symbol=self.symbol or "",
            name=self.domain_name or "",
            version=self.domain_version or "",
            decimals=self.decimals,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletConfig:
    """[wallets.<name>]: what a key of the keystore may sign. Its payees are those of the vendors that use it."""

    name: Annotated[str, Label()]
    address: Annotated[Address, Key(r.address, example='"0x…"')]
    tokens: Annotated[tuple[str, ...], Key(r.several(r.text, at_least=1), example='["base-usdc"]')]
    max_value_base: Annotated[int, Key(r.amount, name="max_value", example='"100"')]
    max_window_s: Annotated[int, Key(r.integer(1, 7 * DAY_S), 2 * DAY_S)]


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
    wallet: Annotated[str, Key(r.text, example='"main"')]
    tokens: Annotated[tuple[str, ...], Key(r.several(r.text, at_least=1), example='["base-usdc"]')]
    payees: Annotated[tuple[Address, ...], Key(r.several(r.address), [])]
    ceiling_base: Annotated[int, Key(r.amount, name="ceiling", example='"25"')]
    routes: Annotated[Mapping[str, RouteOverride], Key(tables(RouteOverride, labels=ROUTE), {})]
    prices: Annotated[Mapping[str, int], Key(r.mapping(r.amount), {})]
    max_drift_ppm: Annotated[int, Key(r.fraction, "0", name="max_drift")]
    dispute_loss_cap_base: Annotated[int, Key(r.amount_or_zero, "0", name="dispute_loss_cap")]
    delivery_deadline_s: Annotated[int, Key(r.integer(1, YEAR_S), DAY_S)]
    terms_ttl_s: Annotated[int, Key(r.integer(0, YEAR_S), 300)]
    allow_private: Annotated[bool, Key(r.flag, False)]
    allow_plain_http: Annotated[bool, Key(r.flag, False)]
    max_connections: Annotated[int, Key(r.integer(1, 4096), 32)]
    connect_timeout_s: Annotated[float, Key(r.seconds(0.1, 60), 5)]
    first_byte_timeout_s: Annotated[float, Key(r.seconds(0.1, 3600), 60)]
    body_timeout_s: Annotated[float, Key(r.seconds(0.1, 3600), 30)]
    total_timeout_s: Annotated[float, Key(r.seconds(0.1, 7200), 120)]

    def __post_init__(self) -> None:
        try:
            _ = self.egress
        except ValueError as error:
            raise BadValue(str(error), "see the vendor's base_url, allow_… and …_timeout_s") from None

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
    unpaid_deliveries: Annotated[int, Key(r.integer(1, 1_000_000), 5)]
    unpaid_window_s: Annotated[int, Key(r.integer(1, YEAR_S), 7 * DAY_S)]

    @property
    def account_limits(self) -> AccountLimits:
        """The same, as the book takes it."""
        return AccountLimits(
            exposure_base=self.exposure_per_account_base,
            open_payments_per_vendor=self.open_payments_per_vendor,
            calls_per_vendor=self.calls_per_vendor,
            unpaid_deliveries=self.unpaid_deliveries,
            unpaid_window_ms=self.unpaid_window_s * 1000,
        )


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
    log: Annotated[LogConfig, Key(table(LogConfig), {})]

    def networks(self) -> frozenset[Network]:
        """The chains that are configured."""
        return frozenset(Network(chain.chain_id) for chain in self.chains.values())
