"""CryptoVPS's machine: accounts, and servers from deployment through hourly charges to destruction. No HTTP.

The sandbox's rule where the document is silent: each started hour from creation is charged in advance; DELETE stops
later hours; a server whose next hour the balance does not cover is SUSPENDED, and comes back with the next hour's
charge once the balance covers it; an ERROR keeps the hour that was charged.
"""

from __future__ import annotations

import ipaddress
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.cryptovps import catalog, faults
from sandbox.cryptovps.backups import Backups
from sandbox.cryptovps.records import LIVE, Account, Server
from sandbox.cryptovps.table import ROUTES
from sandbox.shared_vendor.config import money, only_keys
from sandbox.shared_vendor.timeline import HOUR_MS, MS
from sandbox.shared_vendor.tokens import Tokens
from sandbox.shared_vendor.vendor import SandboxVendor
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.cryptovps.config import Config

FIRST_ADDRESS = ipaddress.IPv4Address("203.0.113.9")


class CryptoVps(SandboxVendor):
    """Everything that CryptoVPS owns."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, ROUTES, faults.KINDS)
        self.config = config
        self.plans = catalog.plans(config.hourly_prices)
        self.tokens = Tokens(self.timeline, self.faults, config.token_ttl_s)
        self.accounts: dict[str, Account] = {}
        self.servers: dict[str, Server] = {}
        self.backups = Backups(self)
        self._address = FIRST_ADDRESS
        self._open_accounts()

    def register(self, email: str, password: str, balance: Decimal) -> Account:
        """A new account; raises RefusedError where the address is taken."""
        if self.account_by_email(email) is not None:
            raise RefusedError(409, "email already registered")
        account = Account(id=str(uuid.uuid4()), email=email, password=password)
        if balance:
            account.purse.post("deposit", balance, at_ms=self.timeline.now_ms())
        self.accounts[account.id] = account
        return account

    def account_by_email(self, email: str) -> Account | None:
        """The account of an address, whatever its case."""
        wanted = email.lower()
        return next((a for a in self.accounts.values() if a.email.lower() == wanted), None)

    def servers_of(self, account_id: str) -> list[Server]:
        """All servers of an account, oldest first, destroyed ones included."""
        return [server for server in self.servers.values() if server.account_id == account_id]

    def listed(self, account_id: str) -> list[Server]:
        """What GET /servers shows."""
        now = self.timeline.now_ms()
        return [s for s in self.servers_of(account_id) if s.status != "DESTROYED" and now >= s.hidden_until_ms]

    def owned(self, account_id: str, server_id: str) -> Server:
        """One server; raises RefusedError (404) for what is not there or not theirs."""
        server = self.servers.get(server_id)
        hidden = server is not None and server.hidden_from_get and self.timeline.now_ms() < server.hidden_until_ms
        if server is None or server.account_id != account_id or hidden:
            raise RefusedError(404, "server not found")
        return server

    def hourly_of(self, plan: str) -> Decimal:
        """What a server of this plan costs an hour if it is made now."""
        fault = self.faults.take("price", plan=plan)
        return self.plans[plan].hourly * (Decimal(fault["factor"]) if fault else 1)

    def deploy(self, account: Account, labels: list[str], plan: str, region: str) -> list[Server]:
        """Make servers, all or none, and charge the first hour of each; raises RefusedError (402, 403)."""
        if account.suspended:
            raise RefusedError(403, "account suspended")
        live = sum(server.status in LIVE for server in self.servers_of(account.id))
        if live + len(labels) > self.config.server_limit:
            raise RefusedError(403, f"server limit reached ({self.config.server_limit} active)")
        hourly = self.hourly_of(plan)
        if account.purse.balance < hourly * len(labels):
            raise RefusedError(402, "insufficient balance")
        return [self._make(account, label, plan, region, hourly) for label in labels]

    def destroy(self, server: Server) -> None:
        """Begin to destroy a server: no further hour is charged; raises RefusedError (409) when it was begun before."""
        if server.status in ("DESTROYING", "DESTROYED"):
            raise RefusedError(409, "already being destroyed")
        server.status = "DESTROYING"
        server.billing_round += 1
        fault = self.faults.take("destroy")
        if fault is not None and fault["mode"] == "never":
            return
        delay_s = self.config.destroy_s if fault is None else fault["after_s"]
        self.timeline.after(delay_s, lambda: self._destroyed(server))

    def suspend(self, server: Server, reason: str) -> None:
        """Switch a server off; it is not charged meanwhile."""
        server.status, server.suspended_for = "SUSPENDED", reason
        server.billing_round += 1

    def resume(self, account: Account, reason: str) -> None:
        """Bring back what was suspended for this reason, as far as the balance goes."""
        for server in self.servers_of(account.id):
            if server.status == "SUSPENDED" and server.suspended_for == reason:
                if account.purse.balance < server.hourly:
                    continue
                server.status, server.suspended_for = "ACTIVE", None
                self._bill(server)

    def hourly_spend(self, account_id: str) -> Decimal:
        """The sum of the hourly prices of what is being charged."""
        charged = ("PROVISIONING", "ACTIVE")
        return sum((s.hourly for s in self.servers_of(account_id) if s.status in charged), Decimal(0))

    def state(self) -> dict[str, Any]:
        """Everything, for the admin API."""
        return {
            "accounts": {key: account.as_json() for key, account in self.accounts.items()},
            "servers": {key: server.as_json() for key, server in self.servers.items()},
            "backups": self.backups.as_json(),
        }

    def reset(self) -> None:
        """Begin anew."""
        self.accounts.clear()
        self.servers.clear()
        self.backups.forget()
        self.tokens.forget()
        self._open_accounts()

    def _open_accounts(self) -> None:
        for raw in self.config.accounts:
            only_keys("accounts", raw, {"email", "password", "balance"}, {"email", "password"})
            self.register(raw["email"], raw["password"], money(raw.get("balance", "0")))

    def _make(self, account: Account, label: str, plan: str, region: str, hourly: Decimal) -> Server:
        self._address += 1
        server = Server(
            id=str(uuid.uuid4()),
            account_id=account.id,
            label=label,
            plan=plan,
            region=region,
            hourly=hourly,
            created_ms=self.timeline.now_ms(),
            ipv4=str(self._address),
        )
        self.servers[server.id] = server
        lag = self.faults.take("lag")
        if lag is not None:
            server.hidden_until_ms = server.created_ms + round(lag["by_s"] * MS)
            server.hidden_from_get = lag["get"]
        self._bill(server)
        self._provision(server)
        return server

    def _provision(self, server: Server) -> None:
        fault = self.faults.take("provision") or {"mode": None}
        if fault["mode"] == "never":
            return
        delay_s = fault["after_s"] if fault["mode"] == "late" else self.config.provision_s
        outcome = "ERROR" if fault["mode"] == "error" else "ACTIVE"

        def finish() -> None:
            if server.status == "PROVISIONING":
                server.status = outcome
                if outcome == "ERROR":
                    server.billing_round += 1

        self.timeline.after(delay_s, finish)

    def _bill(self, server: Server) -> None:
        """Charge the hour that begins now, and every hour after it."""
        server.billing_round += 1
        self._charge(server, server.billing_round, self.timeline.now_ms())

    def _charge(self, server: Server, number: int, hour_from_ms: int) -> None:
        if server.billing_round != number:
            return
        purse = self.accounts[server.account_id].purse
        if purse.balance < server.hourly:
            self.suspend(server, "balance")
            return
        purse.post("server_hour", -server.hourly, at_ms=hour_from_ms, ref=server.id)
        server.billed_hours += 1
        next_ms = hour_from_ms + HOUR_MS
        self.timeline.at(next_ms, lambda: self._charge(server, number, next_ms))

    def _destroyed(self, server: Server) -> None:
        server.status, server.destroyed_ms = "DESTROYED", self.timeline.now_ms()
