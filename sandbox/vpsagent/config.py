"""The vendor's configuration: one flat record, read strictly, every key documented here.

It must not know what a test wants to see; that is `faults`. Amounts in config are decimal USDC texts, times are
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from sandbox.vpsagent.catalog import storefront

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTES = ("catalog", "rent", "renew")
REPRESENT = ("same", "second_box", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How this vendor runs; only `rpc_url` and `relayer_key` have no default."""

    rpc_url: str
    """JSON-RPC of the chain that it verifies against and settles on."""
    relayer_key: str = field(repr=False)
    """Hex key of the account that pays the gas of settlements."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port; set it where a restarted vendor must keep its address."""
    admin_port: int = 0
    public_url: str | None = None
    """The origin that challenges name in `resource`; the default is where it really listens."""
    pay_to: str = "0x8eCbd65228930060363C70854da7D37D57ffC358"
    asset: str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
    network: str = "base"
    token_name: str = "USD Coin"
    token_version: str = "2"
    max_timeout_s: int = 900
    max_timeout_by_route_s: dict[str, int] = field(default_factory=dict)
    """Overrides of `max_timeout_s` for catalog, rent or renew."""
    ssh_port: int = 0
    """Port of every box, each on a loopback address of its own; 0: one free port, told in the ready line."""
    provision_s: float = 1.0
    """From accepted payment to the box's port being open."""
    ipv4_after_s: float = 0.0
    """For so long `ipv4` stays null after /rent."""
    worker_interval_s: float = 0.2
    connect_timeout_s: float = 1.0
    settle_workers: int = 32
    """Settlements under way at once; each waits for its block."""
    manual_step_s: float | None = None
    """A renewal's manual step is done after so long; None: only by POST /admin/renewals/{rental_id}/complete."""
    grace_s: int = 86_400
    """How long a server-track box outlives `expires_at`; sandboxes have no grace."""
    represent: dict[str, str] = field(default_factory=dict)
    """What an X-Payment seen before does, by route: same (answer), second_box (rent only) or refuse (402)."""
    prices: dict[str, str] = field(default_factory=dict)
    """Decimal USDC by SKU, over the built-in prices."""
    unavailable: list[str] = field(default_factory=list)
    """SKUs that are advertised but answer 503."""
    state_file: str | None = None
    """Where rentals survive a restart; None: memory only."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """Faults to start with, as POST /admin/faults takes them."""
    log_level: str = "INFO"

    def timeout_s(self, route: str) -> int:
        """`maxTimeoutSeconds` of a route's challenge."""
        return self.max_timeout_by_route_s.get(route, self.max_timeout_s)

    def represents(self, route: str) -> str:
        """What this vendor does with a payment that it has seen before."""
        return self.represent.get(route, "refuse" if route == "catalog" else "same")


def read_config(raw: Mapping[str, Any]) -> Config:
    """Check the keys and return the record; raises ValueError that names what is wrong."""
    known = {entry.name for entry in fields(Config)}
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"unknown config keys: {', '.join(unknown)}")
    if missing := sorted({"rpc_url", "relayer_key"} - set(raw)):
        raise ValueError(f"missing config keys: {', '.join(missing)}")
    config = Config(**raw)
    for name, table in (("represent", config.represent), ("max_timeout_by_route_s", config.max_timeout_by_route_s)):
        if wrong := sorted(set(table) - set(ROUTES)):
            raise ValueError(f"{name}: unknown routes: {', '.join(wrong)}")
    storefront(config.prices, config.unavailable)
    if wrong := sorted(set(config.represent.values()) - set(REPRESENT)):
        raise ValueError(f"represent: unknown values: {', '.join(wrong)}")
    return config
