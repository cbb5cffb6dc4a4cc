"""The four further vendors of the demo: how each is started, what the operator writes about it, and what it says is owed.

Must not know what the agent buys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from sandbox.demo.agent import Staff
from sandbox.demo.units import usd
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo

EMAIL, PASSWORD = "operator@example.com", "the operator's own password"
VRTX_TOKEN = "vrtx-demo-token-0123456789abcdef"
DEPOSIT = "25"
TEMPO_PRICES_BASE = {
    "small/create": 10_000,
    "small/hour": 13_400,
    "power": 5_000,
}

ACCOUNT = """
[vendors.{name}]
kind = "{name}"
base_url = "{url}"
ceiling = "5"
allow_private = true
allow_plain_http = true

[vendors.{name}.account]
poll_s = 0.25
low_balance = "1"
absent_after_s = 3        # two lists so far apart prove that a thing was never made; ten minutes in production
{more}
"""

TEMPO = """
[chains.tempo]
chain_id = {chain_id}
rpc = ["{rpc_url}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true

[tokens.moderato-pathusd]

[vendors.dropmpp]
kind = "dropmpp"
base_url = "{url}"
wallet = "main"
tokens = ["moderato-pathusd"]
payees = ["{payee}"]
ceiling = "5"
allow_private = true
allow_plain_http = true

[vendors.dropmpp.prices]
{prices}
"""


@dataclass(frozen=True)
class FurtherVendor:
    """One running vendor; `bill` says in base units what it has charged the operator's account so far."""

    name: str
    process: SandboxProcess
    bill: Callable[[], int]

    @property
    def staff(self) -> Staff:
        """The vendor's own people."""
        return Staff(self.process.admin_url)


def start_account_vendor(name: str, directory: Path) -> FurtherVendor:
    """Start CryptoVPS, LiteVPS or VRTX Labs with one account of the operator's."""
    account = {"email": EMAIL, "password": PASSWORD, "balance": DEPOSIT}
    configs = {
        "cryptovps": {"accounts": [account], "provision_s": 2.0, "destroy_s": 1.0},
        "litevps": {"accounts": [account], "create_s": 2.0},
        "vrtx": {
            "accounts": [{"name": "operator", "tokens": [VRTX_TOKEN], "ip_allowlist": [], "webhooks": []}],
            "boot_s": 1.0,
            "install_s": 2.0,
        },
    }
    process = SandboxProcess.start(f"sandbox.{name}", configs[name], log_path=directory / f"{name}.log")
    staff = Staff(process.admin_url)
    bills = {"cryptovps": _prepaid, "litevps": _prepaid, "vrtx": _accrued}
    return FurtherVendor(name, process, lambda: bills[name](staff))


def start_dropmpp(tempo: LocalTempo, directory: Path) -> FurtherVendor:
    """Start the DigitalOcean reseller on the local Tempo."""
    config = {"rpc_url": tempo.rpc_url, "catalog": "proof", "provision_s": 1}
    process = SandboxProcess.start("sandbox.dropmpp", config, log_path=directory / "dropmpp.log")
    return FurtherVendor("dropmpp", process, lambda: 0)


def account_config(vendor: FurtherVendor) -> str:
    """Return the configuration of an account vendor."""
    more = 'billing_rule = "started_units"' if vendor.name == "vrtx" else ""
    return ACCOUNT.format(name=vendor.name, url=vendor.process.base_url, more=more)


def tempo_config(tempo: LocalTempo, vendor: FurtherVendor) -> str:
    """Return the configuration of the local Tempo and the reseller on it."""
    return TEMPO.format(
        chain_id=tempo.chain_id,
        rpc_url=tempo.rpc_url,
        url=vendor.process.base_url,
        payee=vendor.process.info["pay_to"],
        prices="\n".join(f'"{item}" = "{usd(price_base)}"' for item, price_base in TEMPO_PRICES_BASE.items()),
    )


def credentials_of(name: str) -> tuple[str, str]:
    """Return (login, secret) of the operator's account at a vendor."""
    return ("", VRTX_TOKEN) if name == "vrtx" else (EMAIL, PASSWORD)


def _prepaid(staff: Staff) -> int:
    """What is gone from the operator's deposit."""
    (account,) = staff.state()["accounts"].values()
    return _base(Decimal(DEPOSIT) - Decimal(account["balance"]))


def _accrued(staff: Staff) -> int:
    return sum(_base(Decimal(owed)) for owed in staff.state()["accrued"].values())


def _base(amount: Decimal) -> int:
    return int((amount * 1_000_000).to_integral_value())
