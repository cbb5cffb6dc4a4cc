"""Settings of being paid: where agents pay to, who pays gas, how authorizations are collected, and what credit costs nobody.

Must not know who uses a setting.  Theory: a till only receives and gives back, a relayer only pays gas, a wallet only spends,
so each key can do one thing, and no address is two of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from contracts.batch import batch_address
from contracts.codec import Address
from gateway.core.money import WEI_PER_GWEI
from gateway.http.egress import EgressRule, Origin, Timeouts
from gateway.settings import readers as r
from gateway.settings.table import LABEL, BadValue, Key, Label
from wallets.secret import Secret

DAY_S = 86_400
WEI_PER_MILLIONTH = 10**12
ANSWER_MAX_S = 90  # stock sellers give a facilitator no longer


@dataclass(frozen=True, slots=True, kw_only=True)
class TillConfig:
    """[tills.<name>]: an address that agents pay to. Its key is in the keystore, and signs refunds only."""

    name: Annotated[str, Label()]
    address: Annotated[Address, Key(r.address, example='"0x…"')]
    tokens: Annotated[tuple[str, ...], Key(r.several(r.text, at_least=1), example='["base-usdc"]')]
    max_refund_base: Annotated[int, Key(r.amount, "1000", name="max_refund")]
    max_fee_base: Annotated[int, Key(r.amount, "0.2", name="max_fee")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayerConfig:
    """[relayers.<name>]: a key that pays gas for settlements and moves nothing else."""

    name: Annotated[str, Label()]
    address: Annotated[Address, Key(r.address, example='"0x…"')]
    chains: Annotated[tuple[str, ...], Key(r.several(r.text, at_least=1), example='["base"]')]
    low_base: Annotated[int, Key(r.amount_or_zero, "0.01", name="low_ether")]
    floor_base: Annotated[int, Key(r.amount_or_zero, "0.001", name="floor_ether")]

    def __post_init__(self) -> None:
        if self.floor_base > self.low_base:
            raise BadValue("is above low_ether", "write at most that", "floor_ether")

    @property
    def low_wei(self) -> int:
        """Below this the operator is asked to refill it."""
        return self.low_base * WEI_PER_MILLIONTH

    @property
    def floor_wei(self) -> int:
        """Below this it is not used."""
        return self.floor_base * WEI_PER_MILLIONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilitatorConfig:
    """[facilitator]: how authorizations of others are collected. Without the table there is no facilitator."""

    tokens: Annotated[tuple[str, ...], Key(r.several(r.text, at_least=1), example='["base-usdc"]')]
    public: Annotated[bool, Key(r.flag, False)]
    max_wait_s: Annotated[float, Key(r.seconds(1, ANSWER_MAX_S), 45)]
    window_max_s: Annotated[int, Key(r.integer(0, 365 * DAY_S), 0)]
    batch_size: Annotated[int, Key(r.integer(1, 128), 100)]
    batch_age_s: Annotated[float, Key(r.seconds(0, 60), 0)]
    batch_contract: Annotated[Address | None, Key(r.address, None)]
    gas_per_settlement: Annotated[int, Key(r.integer(60_000, 2_000_000), 200_000)]
    fee_cap_gwei: Annotated[int, Key(r.integer(1, 1_000_000), 50)]
    priority_fee_cap_gwei: Annotated[int, Key(r.integer(0, 1_000_000), 5)]
    seller_min_base: Annotated[int, Key(r.amount_or_zero, "0.0001", name="seller_min")]
    house_gas_budget_base: Annotated[int, Key(r.amount_or_zero, "0.01", name="house_gas_budget")]
    replace_after_s: Annotated[float, Key(r.seconds(1, 3600), 15)]
    in_flight_max: Annotated[int, Key(r.integer(1, 1_000), 16)]
    per_payer_per_minute: Annotated[int, Key(r.integer(1, 1_000_000), 600)]
    per_payee_per_minute: Annotated[int, Key(r.integer(1, 1_000_000), 60_000)]

    @property
    def batch(self) -> Address:
        """Where the batch contract stands, or would stand."""
        return self.batch_contract or batch_address()

    @property
    def fee_cap_wei(self) -> int:
        """The most that a gas may cost."""
        return self.fee_cap_gwei * WEI_PER_GWEI

    @property
    def house_gas_budget_wei(self) -> int:
        """What failed payments to the house may burn in a day."""
        return self.house_gas_budget_base * WEI_PER_MILLIONTH

    @property
    def priority_fee_cap_wei(self) -> int:
        """The most of it that goes to whoever builds the block."""
        return self.priority_fee_cap_gwei * WEI_PER_GWEI


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpsConfig:
    """[topups]: how agents buy credit. Without the table nobody can."""

    min_base: Annotated[int, Key(r.amount, "0.01", name="min")]
    max_base: Annotated[int, Key(r.amount, "1000", name="max")]
    packs: Annotated[Mapping[str, int], Key(r.mapping(r.amount), {})]
    order_ttl_s: Annotated[int, Key(r.integer(10, DAY_S), 300)]
    tempo_order_ttl_s: Annotated[int, Key(r.integer(5, 300), 25)]
    open_per_account: Annotated[int, Key(r.integer(1, 100_000), 50)]
    wallet_accounts: Annotated[bool, Key(r.flag, True)]
    keys_per_wallet: Annotated[int, Key(r.integer(1, 1000), 20)]
    lend_cap_base: Annotated[int, Key(r.amount_or_zero, "0", name="lend_cap")]
    lend_per_account_base: Annotated[int, Key(r.amount_or_zero, "0", name="lend_per_account")]
    refund_valid_for_s: Annotated[int, Key(r.integer(60, DAY_S), 3600)]
    facilitator_url: Annotated[Secret[str] | None, Key(r.url, None)]
    facilitator_token: Annotated[Secret[str] | None, Key(r.secret, None)]
    facilitator_timeout_s: Annotated[float, Key(r.seconds(1, 300), 60)]
    facilitator_allow_plain_http: Annotated[bool, Key(r.flag, False)]

    def __post_init__(self) -> None:
        if self.min_base > self.max_base:
            raise BadValue("is above max", "write at most that", "min")
        for name, amount_base in self.packs.items():
            if LABEL.fullmatch(name) is None:
                raise BadValue(f"{name} is no name of a pack", f"write one that fits {LABEL.pattern}", "packs")
            if not self.min_base <= amount_base <= self.max_base:
                raise BadValue(f"{name} lies outside of min and max", "write an amount between them", "packs")
        if self.lend_per_account_base > self.lend_cap_base:
            raise BadValue("is above lend_cap", "write at most that", "lend_per_account")
        if self.facilitator_url is not None:
            try:
                _ = self.facilitator_egress
            except ValueError as error:
                raise BadValue(str(error), 'write "https://host/path"', "facilitator_url") from None

    @property
    def facilitator_origin(self) -> Origin | None:
        """Where a facilitator of others is; None for our own."""
        if self.facilitator_url is None:
            return None
        scheme, _, rest = self.facilitator_url.reveal().partition("://")
        return Origin.parse(f"{scheme}://{rest.partition('/')[0]}")

    @property
    def facilitator_path(self) -> str:
        """The path in front of /verify and /settle there, without a slash at its end."""
        if self.facilitator_url is None:
            return ""
        _, slash, path = self.facilitator_url.reveal().partition("://")[2].partition("/")
        return (slash + path).rstrip("/")

    @property
    def facilitator_egress(self) -> EgressRule | None:
        """Where its requests may go."""
        origin = self.facilitator_origin
        if origin is None:
            return None
        plain, limit_s = self.facilitator_allow_plain_http, self.facilitator_timeout_s
        return EgressRule(origin, plain, plain, 64, Timeouts(min(5.0, limit_s / 2), limit_s, limit_s, limit_s))
