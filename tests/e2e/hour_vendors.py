"""The five vendors as processes, what a gateway's configuration says of them, and what each says it is owed.

A vendor's bill is read from its own books, by its own id of a thing: nothing of it comes from the gateway.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import requests
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from world import WALLET_FLOAT_BASE, payee_of, start_vpsagent

from gateway.core.login import Credentials
from gateway.vendor_credentials import VendorSecrets, save
from sandbox.chain import LocalBase
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo
from wallets.keystore import Keystore
from wallets.sealing import Sealer
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from e2e_gateway import GatewayHome

EMAIL, PASSWORD, TOKEN = "ops@example.com", "the operator's own password", "vrtx-hour-token-0123456789abcdef"
DEPOSIT = "100"
RELAYER, PAYEE = 10, 11
WINDOW_S = 40  # of VpsAgent's challenges: real time, for the chain knows no other
TEMPO_FLOAT_BASE = 100_000_000
USD_BASE = Decimal(1_000_000)

_ACCOUNT = {"email": EMAIL, "password": PASSWORD, "balance": DEPOSIT}
ACCOUNT_VENDORS: dict[str, dict[str, Any]] = {
    "cryptovps": {"accounts": [_ACCOUNT], "provision_s": 0.5, "destroy_s": 0.0},
    "litevps": {"accounts": [_ACCOUNT], "create_s": 0.5},
    "vrtx": {"accounts": [{"name": "ours", "tokens": [TOKEN]}], "boot_s": 0.2, "install_s": 0.5},
}
_CREDENTIALS = {
    "cryptovps": Credentials(EMAIL, Secret(PASSWORD)),
    "litevps": Credentials(EMAIL, Secret(PASSWORD)),
    "vrtx": Credentials("", Secret(TOKEN)),
}
NAMES = ("cryptovps", "dropmpp", "litevps", "vpsagent", "vrtx")

_HEAD = """
data_dir = "{directory}"
[server]
port = 0
shutdown_timeout_s = 5
[keystore]
passphrase = "env:{variable}"
[servers]
sweep_s = 0.1
warn_before_s = [1800, 600, 180]
[webhooks]
allow_private_networks = ["127.0.0.0/8"]
allow_plain_http = true
[limits]
open_payments_per_vendor = 1000
metered_per_vendor = 100
calls_per_vendor = 100
[chains.base]
chain_id = 8453
rpc = ["{base_url}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[chains.tempo]
chain_id = {tempo_id}
rpc = ["{tempo_url}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[tokens.base-usdc]
[tokens.moderato-pathusd]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc", "moderato-pathusd"]
max_value = "100"
"""
_VENDOR = """
[vendors.{name}]
kind = "{name}"
base_url = "{url}"
ceiling = "5"
allow_private = true
allow_plain_http = true
{more}
"""
_WINDOW = f"window_min_s = 10\nwindow_max_s = {WINDOW_S + 20}\n"
_VPSAGENT = f"""
[vendors.vpsagent.prices]
catalog = "0.01"
sandbox_1h = "0.50"
[vendors.vpsagent.routes.catalog]
{_WINDOW}
[vendors.vpsagent.routes.rent]
{_WINDOW}
[vendors.vpsagent.routes.renew]
{_WINDOW}
"""
_DROPMPP = """
[vendors.dropmpp.prices]
"small/create" = "0.01"
"small/hour" = "0.0134"
"medium/create" = "0.02"
"medium/hour" = "0.0536"
"""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a vendor's own books say of one thing: its price so far, and when it was gone (business time; None: it is not)."""

    amount_base: int
    gone_at_ms: int | None


class Vendors:
    """The chains and the five vendors. Everything that it starts ends with it. `more` is configuration of account vendors."""

    def __init__(self, more: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._more = more or {}
        self._stack = ExitStack()
        with ExitStack() as stack, ThreadPoolExecutor(len(NAMES)) as pool:
            chains = pool.submit(LocalBase.start, block_time_s=1), pool.submit(LocalTempo.start)
            self.base = stack.enter_context(chains[0].result())
            self.tempo = stack.enter_context(chains[1].result())
            starts = {name: pool.submit(self._start, name) for name in NAMES}
            self.processes = {name: stack.enter_context(started.result()) for name, started in starts.items()}
            self._stack = stack.pop_all()
        self.payee = payee_of(self.base, PAYEE)
        self._before_base = self.base.balance_of(self.payee)

    def _start(self, name: str) -> SandboxProcess:
        if name == "vpsagent":
            return start_vpsagent(
                self.base, RELAYER, payee_of(self.base, PAYEE), max_timeout_s=WINDOW_S, manual_step_s=1.0
            )
        if name == "dropmpp":
            config = {"rpc_url": self.tempo.rpc_url, "catalog": "proof", "provision_s": 1}
            return SandboxProcess.start("sandbox.dropmpp", config)
        return SandboxProcess.start(f"sandbox.{name}", {**ACCOUNT_VENDORS[name], **self._more.get(name, {})})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    # what the gateway has of them

    def configure(self, home: GatewayHome) -> None:
        """Write a gateway's configuration and its credentials, and fund its wallet."""
        head = _HEAD.format(
            directory=home.directory,
            variable=PASSPHRASE_VARIABLE,
            base_url=self.base.rpc_url,
            tempo_id=self.tempo.chain_id,
            tempo_url=self.tempo.rpc_url,
            wallet=home.wallet,
        )
        home.config.write_text(head + "".join(self._table(name) for name in NAMES))
        sealer = Sealer(Keystore(home.directory / "keystore").unlock(Secret(PASSPHRASE)).data_key)
        for name, credentials in _CREDENTIALS.items():
            save(home.directory / "keystore", name, VendorSecrets(credentials), sealer)
        self.base.mint(home.wallet, WALLET_FLOAT_BASE)
        self.tempo.fund({home.wallet: TEMPO_FLOAT_BASE})

    def _table(self, name: str) -> str:
        process = self.processes[name]
        if name in ACCOUNT_VENDORS:
            # Periods of the per-minute vendor are short, so that a balance can run out within the hour.
            period_s, rule = (600 if name == "litevps" else 3600), 'billing_rule = "started_units"'
            account = (
                f"[vendors.{name}.account]\n{rule}\nperiod_s = {period_s}\npoll_s = 0.1\nabsent_after_s = 3\n"
                'low_balance = "1"\n'
            )
            return _VENDOR.format(name=name, url=process.base_url, more=account)
        token, payee = ("base-usdc", self.payee) if name == "vpsagent" else ("moderato-pathusd", process.info["pay_to"])
        paid = f'wallet = "main"\ntokens = ["{token}"]\npayees = ["{payee}"]\n'
        return _VENDOR.format(name=name, url=process.base_url, more=paid + {"vpsagent": _VPSAGENT}.get(name, _DROPMPP))

    # their own people

    def admin(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """Call a vendor's admin API and return its JSON."""
        answer = requests.request(method, self.processes[name].admin_url + path, json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def state(self, name: str) -> Any:
        """Return everything that a vendor knows."""
        return self.admin(name, "GET", "/admin/state")

    def received_base(self) -> dict[str, int]:
        """Return what the two vendors that are paid on a chain have received there, final: their accounts were new."""
        return {
            "vpsagent": self.base.balance_of(self.payee, "finalized") - self._before_base,
            "dropmpp": self.tempo.balance_of(self.processes["dropmpp"].info["pay_to"], block="finalized"),
        }

    def bills(self) -> dict[tuple[str, str], Bill]:
        """Return what every vendor says of everything that it ever made, by vendor and its own id."""
        return {(name, ref): bill for name, read in _READERS.items() for ref, bill in read(self.state(name)).items()}


def _cryptovps(state: Any) -> dict[str, Bill]:
    return {s["id"]: Bill(_spent(state, s["id"]), s["destroyed_ms"]) for s in state["servers"].values()}


def _litevps(state: Any) -> dict[str, Bill]:
    return {m["id"]: Bill(_base(m["charged"]), m["gone_ms"]) for m in state["machines"].values()}


def _vrtx(state: Any) -> dict[str, Bill]:
    servers = state["servers"].values()
    return {s["uuid"]: Bill(_base(state["accrued"][s["uuid"]]), s["deleted_ms"]) for s in servers}


def _dropmpp(state: Any) -> dict[str, Bill]:
    servers = state["servers"].values()
    return {s["id"]: Bill(int(s["charged_base"]), s.get("destroyed_at_ms")) for s in servers}


def _vpsagent(state: Any) -> dict[str, Bill]:
    """What was collected for a rental: its rent and its renewals, each as the chain had it."""
    found = {}
    for rental in state["rentals"].values():
        paid = [p for p in state["purchases"].values() if p["rental_id"] == rental["rental_id"]]
        collected = sum(int(p["amount_base"]) for p in paid if p["state"] == "settled")
        gone = rental["expires_at"] if rental["box_destroyed"] else None
        found[rental["rental_id"]] = Bill(collected, gone)
    return found


_READERS: dict[str, Callable[[Any], dict[str, Bill]]] = {
    "cryptovps": _cryptovps,
    "litevps": _litevps,
    "vrtx": _vrtx,
    "dropmpp": _dropmpp,
    "vpsagent": _vpsagent,
}


def _spent(state: Any, ref: str) -> int:
    """What the operator's prepaid account was charged for one thing."""
    entries = [entry for account in state["accounts"].values() for entry in account["entries"]]
    return sum(-_base(entry["amount"]) for entry in entries if entry["ref"] == ref)


def _base(amount: str) -> int:
    exact = Decimal(amount) * USD_BASE
    assert exact == exact.to_integral_value(), amount
    return int(exact)
