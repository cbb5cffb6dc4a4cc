"""The configuration files of the gateways under test: short windows, one local chain, whatever vendors a test names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSPHRASE_VARIABLE = "E2E_PASSPHRASE"
PASSPHRASE = "correct horse battery staple"
WINDOW_S = 14
ANSWERS_IN_S = 5  # who takes the money after the answer
TOO_SLOW_S = 6.5  # longer than that, with time left to collect within the window
VPSAGENT_PRICES = {
    "catalog": "0.01",
    "sandbox_1h": "0.50",
    "sandbox_6h": "2",
    "sandbox_24h": "5",
    "server_small_1mo": "9.99",
    "server_medium_12mo": "179.99",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorBlock:
    """One [vendors.<name>] table; `routes` maps a route to its lines of TOML."""

    kind: str
    base_url: str
    payee: str
    ceiling: str = "400"
    prices: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    answers_in_s: int = 25  # who settles first, on a busy machine

    def text(self, name: str) -> str:
        """Return the table and those below it."""
        lines = [
            f"[vendors.{name}]",
            f'kind = "{self.kind}"',
            f'base_url = "{self.base_url}"',
            'wallet = "main"',
            'tokens = ["base-usdc"]',
            f'payees = ["{self.payee}"]',
            f'ceiling = "{self.ceiling}"',
            "allow_private = true",
            "allow_plain_http = true",
            f"first_byte_timeout_s = {self.answers_in_s}",
            f"body_timeout_s = {self.answers_in_s}",
            self.more,
            f"[vendors.{name}.prices]",
            *(f'{item} = "{price}"' for item, price in self.prices.items()),
        ]
        for route, body in self.routes.items():
            lines += [f"[vendors.{name}.routes.{route}]", body]
        return "\n".join(lines) + "\n"


def vpsagent_block(base_url: str, payee: str, *, more: str = "", rent: str = "") -> VendorBlock:
    """Return VpsAgent's table with windows of WINDOW_S; `more` goes into the table, `rent` into its route."""
    window = f"window_min_s = 5\nwindow_max_s = {WINDOW_S}\n"
    return VendorBlock(
        kind="vpsagent",
        base_url=base_url,
        payee=payee,
        prices=VPSAGENT_PRICES,
        routes={"catalog": window, "rent": window + rent, "renew": window},
        more='max_drift = "0.05"\n' + more,
        answers_in_s=ANSWERS_IN_S,
    )


def config_text(directory: Path, rpc_url: str, wallet: str, vendors: Mapping[str, VendorBlock]) -> str:
    """Return a whole configuration for a gateway that lives in a directory."""
    tables = "\n".join(block.text(name) for name, block in vendors.items())
    return f"""
data_dir = "{directory}"
[server]
port = 0
shutdown_timeout_s = 5
[keystore]
passphrase = "env:{PASSPHRASE_VARIABLE}"
[chains.base]
chain_id = 8453
rpc = ["{rpc_url}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[tokens.base-usdc]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc"]
max_value = "1000"
# These tests count every request and every payment: the house buys none of its own.
[catalogue]
paid_budget_per_day = "0"
[limits]
exposure_per_account = "100000"
open_payments_per_vendor = 1000
calls_per_vendor = 1000
unpaid_deliveries = 100
{tables}
"""
