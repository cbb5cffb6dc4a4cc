"""LiteVPS's machine: accounts, and virtual machines from creation through power and charges to destruction. No HTTP."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.litevps import catalog, faults
from sandbox.litevps.billing import Billing
from sandbox.litevps.disks import Disks
from sandbox.litevps.guest_shell import GuestShell
from sandbox.litevps.jobs import Jobs
from sandbox.litevps.records import AccessToken, Account, Machine, SshKey
from sandbox.litevps.table import ROUTES
from sandbox.shared_vendor.config import money, only_keys
from sandbox.shared_vendor.timeline import MINUTE_MS, MS
from sandbox.shared_vendor.tokens import Tokens
from sandbox.shared_vendor.vendor import SandboxVendor
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.litevps.config import Config
    from sandbox.litevps.orders import Order
    from sandbox.shared_vendor.shell import Route

FIRST_VNC_PORT = 5900


class LiteVps(SandboxVendor):
    """Everything that LiteVPS owns."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, ROUTES, faults.KINDS)
        self.config = config
        self.plans = catalog.plans(config.hourly_prices)
        self.templates = catalog.templates()
        self.documented: list[Route] = []
        """The public routes, which openapi.json lists."""
        self.logins = Tokens(self.timeline, self.faults, config.token_ttl_s)
        self.captchas = set(config.turnstile_tokens)
        self.accounts: dict[str, Account] = {}
        self.machines: dict[str, Machine] = {}
        self.audit: list[dict[str, Any]] = []
        self.disks = Disks()
        self.shell = GuestShell(self.disks, config.commands)
        self.billing = Billing(self)
        self.jobs = Jobs(self)
        self._open_accounts()

    def register(self, email: str, password: str, balance: Decimal = Decimal(0)) -> Account:
        """A new account; raises RefusedError where the address is taken."""
        if self.account_by_email(email) is not None:
            raise RefusedError(409, "email already registered")
        account = Account(id=str(uuid.uuid4()), email=email, password=password)
        if balance:
            account.purse.post("topup", balance, at_ms=self.timeline.now_ms())
        self.accounts[account.id] = account
        return account

    def account_by_email(self, email: str) -> Account | None:
        """The account of an address, whatever its case."""
        wanted = email.lower()
        return next((a for a in self.accounts.values() if a.email.lower() == wanted), None)

    def issue_token(
        self, account: Account, name: str, *, text: str | None = None, spend_limit: Decimal | None = None
    ) -> AccessToken:
        """A vtk_ token."""
        token = AccessToken(
            id=str(uuid.uuid4()),
            name=name,
            text=text or f"vtk_{secrets.token_hex(24)}",
            created_ms=self.timeline.now_ms(),
            spend_limit=spend_limit,
        )
        account.tokens[token.id] = token
        return token

    def add_key(self, account: Account, name: str, public_key: str) -> SshKey:
        """A public key with its SHA-256 fingerprint."""
        blob = base64.b64decode(public_key.split()[1])
        digest = base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode()
        key = SshKey(
            id=str(uuid.uuid4()),
            name=name,
            public_key=public_key,
            fingerprint=f"SHA256:{digest}",
            created_ms=self.timeline.now_ms(),
        )
        account.keys[key.id] = key
        return key

    def listed(self, account_id: str) -> list[Machine]:
        """What GET /api/vps shows."""
        now = self.timeline.now_ms()
        mine = [machine for machine in self.machines.values() if machine.account_id == account_id]
        return [machine for machine in mine if machine.gone_ms is None and now >= machine.hidden_until_ms]

    def owned(self, account_id: str, machine_id: str) -> Machine:
        """One machine; raises RefusedError (404) for what is not there or not theirs."""
        machine = self.machines.get(machine_id)
        hidden = machine is not None and machine.hidden_from_get and self.timeline.now_ms() < machine.hidden_until_ms
        if machine is None or machine.account_id != account_id or machine.gone_ms is not None or hidden:
            raise RefusedError(404, "vps not found")
        return machine

    def create(self, account: Account, order: Order, token_id: str | None) -> Machine:
        """Make a machine; raises RefusedError (402)."""
        fault = self.faults.take("price", plan=order.plan.name)
        hourly = order.plan.hourly * (Decimal(fault["factor"]) if fault else 1)
        self.billing.require(account, hourly, token_id)
        number = len(self.machines)
        machine = Machine(
            id=str(uuid.uuid4()),
            account_id=account.id,
            token_id=token_id,
            hourly=hourly,
            created_ms=self.timeline.now_ms(),
            ip=f"198.51.{100 + number // 250}.{number % 250 + 1}",
            vnc_port=FIRST_VNC_PORT + number,
            plan_id=order.plan.id,
            **order.settings,
        )
        self.machines[machine.id] = machine
        if order.template is not None:
            self.templates[order.template].popularity += 1
        lag = self.faults.take("lag")
        if lag is not None:
            machine.hidden_until_ms = machine.created_ms + round(lag["by_s"] * MS)
            machine.hidden_from_get = lag["get"]
        if machine.ttl_minutes is not None:
            self.timeline.at(machine.created_ms + machine.ttl_minutes * MINUTE_MS, lambda: self._lapse(machine))
        self._provision(machine)
        return machine

    def destroy(self, machine: Machine) -> None:
        """Destroy a machine; charges end now, also where it is never done."""
        self.billing.end(machine)
        if machine.deleting:
            return
        machine.deleting = True
        fault = self.faults.take("destroy")
        if fault is not None and fault["mode"] == "never":
            return
        delay_s = self.config.destroy_s if fault is None else fault["after_s"]
        if delay_s:
            self.timeline.after(delay_s, lambda: self._gone(machine))
        else:
            self._gone(machine)

    def start(self, machine: Machine) -> None:
        """Power on; raises RefusedError (402, 409)."""
        self.needs(machine, "stopped")
        self.billing.require(self.accounts[machine.account_id], machine.hourly, machine.token_id)
        self.timeline.after(self.config.start_s, lambda: self._running(machine, "stopped"))

    def stop(self, machine: Machine) -> None:
        """Shut down; it runs, and is charged, until it has; raises RefusedError (409)."""
        self.needs(machine, "running")
        if self.faults.take("stop_fails") is None:
            self.timeline.after(self.config.stop_s, lambda: self.power_off(machine))

    def power_off(self, machine: Machine) -> None:
        """It is off now."""
        if machine.state == "running":
            machine.state = "stopped"
            self.billing.end(machine)

    def strike_item(self, index: int) -> None:
        """Raise RefusedError where a fault makes this item of a batch fail."""
        fault = self.faults.take("batch_item", index=index)
        if fault is not None:
            raise RefusedError(fault["status"], fault["error"])

    @staticmethod
    def needs(machine: Machine, *states: str) -> None:
        """Raise RefusedError (409) unless the machine is in one of these states."""
        if machine.state not in states or machine.deleting:
            raise RefusedError(409, f"vps must be {' or '.join(states)}")

    def state(self) -> dict[str, Any]:
        """Everything, for the admin API."""
        return {
            "accounts": {key: account.as_json() for key, account in self.accounts.items()},
            "machines": {key: machine.as_json() for key, machine in self.machines.items()},
            "audit": self.audit,
            "mails": self.billing.mails,
        }

    def reset(self) -> None:
        """Begin anew."""
        for table in (self.accounts, self.machines):
            table.clear()
        self.audit.clear()
        self.billing.mails.clear()
        self.logins.forget()
        self.disks.clear()
        self.templates = catalog.templates()
        self.captchas = set(self.config.turnstile_tokens)
        self._open_accounts()

    async def close(self) -> None:
        """Remove the disks."""
        self.disks.close()

    def _open_accounts(self) -> None:
        for raw in self.config.accounts:
            only_keys("accounts", raw, {"email", "password", "balance", "tokens"}, {"email", "password"})
            account = self.register(raw["email"], raw["password"], money(raw.get("balance", "0")))
            for number, text in enumerate(raw.get("tokens", []), 1):
                if not text.startswith("vtk_"):
                    raise ValueError("accounts: a token begins with vtk_")
                self.issue_token(account, f"configured-{number}", text=text)

    def _provision(self, machine: Machine) -> None:
        fault = self.faults.take("provision") or {"mode": None}
        if fault["mode"] == "never":
            return
        delay_s = fault["after_s"] if fault["mode"] == "late" else self.config.create_s

        def finish() -> None:
            if machine.deleting or machine.state != "creating":
                return
            if fault["mode"] == "error":
                machine.state = "error"
                return
            self.disks.format(machine.id, machine.name)
            self._running(machine, "creating")

        self.timeline.after(delay_s, finish)

    def _running(self, machine: Machine, from_state: str) -> None:
        if machine.state == from_state and not machine.deleting:
            machine.state = "running"
            self.billing.begin(machine)

    def _lapse(self, machine: Machine) -> None:
        if machine.gone_ms is None:
            self.destroy(machine)

    def _gone(self, machine: Machine) -> None:
        machine.gone_ms = self.timeline.now_ms()
        self.disks.destroy(machine.id)
