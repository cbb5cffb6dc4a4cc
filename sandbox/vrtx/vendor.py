"""VRTX's machine: servers from creation through installation and queued power actions to deletion. No HTTP."""

from __future__ import annotations

import ipaddress
import secrets
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.config import only_keys
from sandbox.shared_vendor.timeline import MS
from sandbox.shared_vendor.vendor import SandboxVendor
from sandbox.shared_vendor.wire import RefusedError
from sandbox.vrtx import catalog, faults
from sandbox.vrtx.billing import Billing
from sandbox.vrtx.config import BILLING_RULES
from sandbox.vrtx.records import Account, Server
from sandbox.vrtx.table import ROUTES
from sandbox.vrtx.webhooks import Webhooks

if TYPE_CHECKING:
    from sandbox.vrtx.config import Config

FIRST_ADDRESS = ipaddress.IPv4Address("203.0.113.49")
SHORT = 8
POWER_ACTIONS = ("start", "shutdown", "restart", "kill")


@dataclass(frozen=True, slots=True)
class Order:
    """One server to be made."""

    plan: catalog.Plan
    location_id: int
    template: str
    hostname: str | None


class Vrtx(SandboxVendor):
    """Everything that VRTX owns."""

    def __init__(self, config: Config) -> None:
        if config.billing_rule not in BILLING_RULES:
            raise ValueError(f"billing_rule: must be one of {', '.join(BILLING_RULES)}")
        super().__init__(config, ROUTES, faults.KINDS)
        self.config = config
        self.accounts: dict[str, Account] = {}
        self.servers: dict[str, Server] = {}
        self.billing = Billing(self)
        self.webhooks = Webhooks(self)
        self._originals: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self._address = FIRST_ADDRESS
        self._open_accounts()
        self.billing.begin()

    def account_by_token(self, token: str) -> Account | None:
        """Whose token this is."""
        return next((account for account in self.accounts.values() if token in account.tokens), None)

    def listed(self, account: str) -> list[Server]:
        """What GET /servers shows, oldest first."""
        now = self.timeline.now_ms()
        mine = [server for server in self.servers.values() if server.account == account]
        return [server for server in mine if server.deleted_ms is None and now >= server.hidden_until_ms]

    def owned(self, account: str, name: str) -> Server:
        """One server by its uuid or its first eight characters; raises RefusedError (404).

        Where two servers share those eight, the older one is found.
        """
        now = self.timeline.now_ms()
        for server in self.servers.values():
            hidden = server.hidden_from_get and now < server.hidden_until_ms
            if server.account != account or server.deleted_ms is not None or hidden:
                continue
            if name in (server.uuid, server.uuid[:SHORT]):
                return server
        raise RefusedError(404, "Server not found.", code="NOT_FOUND")

    def in_stock(self, plan_id: int, location_id: int) -> bool:
        """Whether a location has a plan."""
        return plan_id in self.config.stock.get(str(location_id), list(catalog.PLANS))

    def original(self, account: str, key: str) -> dict[str, Any] | None:
        """The answer that an idempotency key got within its time."""
        found = self._originals.get((account, key))
        return found[1] if found is not None and self.timeline.now_ms() < found[0] else None

    def remember(self, account: str, key: str, body: dict[str, Any]) -> None:
        """Keep an answer for its idempotency key."""
        until_ms = self.timeline.now_ms() + round(self.config.idempotency_ttl_s * MS)
        self._originals[account, key] = (until_ms, body)

    def create(self, account: str, order: Order) -> Server:
        """Make a server; raises RefusedError (402) while a bill is overdue."""
        if self.billing.overdue(account):
            raise RefusedError(402, "Pay outstanding invoices before creating servers.", code="OVERDUE_INVOICE")
        plan, fault = order.plan, self.faults.take("price", plan=order.plan.name)
        factor = Decimal(fault["factor"]) if fault else Decimal(1)
        self._address += 1
        identity = self._identity(account)
        server = Server(
            uuid=identity,
            account=account,
            name=order.hostname or f"vps-{identity[:SHORT]}",
            plan_id=plan.id,
            location_id=order.location_id,
            template=order.template,
            cpu=plan.cpu,
            memory=plan.memory,
            disk=plan.disk,
            hourly=plan.hourly * factor,
            monthly=plan.monthly * factor,
            ip=str(self._address),
            created_ms=self.timeline.now_ms(),
            root_password=secrets.token_urlsafe(15),
        )
        self.servers[server.uuid] = server
        lag = self.faults.take("lag")
        if lag is not None:
            server.hidden_until_ms = server.created_ms + round(lag["by_s"] * MS)
            server.hidden_from_get = lag["get"]
        self.webhooks.emit("server.installing", server)
        self._install(server)
        return server

    def queue_power(self, server: Server, action: str) -> None:
        """Queue a power action behind those that are under way; raises RefusedError (422) before it is installed."""
        if server.status is not None:
            raise RefusedError(422, f"Server is {server.status}.", code="VALIDATION_ERROR")
        server.queue.append(action)
        if len(server.queue) == 1:
            self._next_power(server)

    def delete(self, server: Server) -> None:
        """Delete a server."""
        if server.deleting:
            return
        server.deleting = True
        fault = self.faults.take("destroy")
        if fault is not None and fault["mode"] == "never":
            return
        delay_s = self.config.delete_s if fault is None else fault["after_s"]
        if delay_s:
            self.timeline.after(delay_s, lambda: self._deleted(server))
        else:
            self._deleted(server)

    def suspend_all(self, account: str) -> None:
        """Suspend an account's servers."""
        for server in self.listed(account):
            self.suspend(server)

    def suspend(self, server: Server) -> None:
        """Suspend one installed server."""
        if server.status is None:
            server.status, server.state, server.up_since_ms = "suspended", "stopped", None
            self.webhooks.emit("server.suspended", server)

    def resume_all(self, account: str) -> None:
        """End the suspension of an account's servers."""
        for server in self.listed(account):
            if server.status == "suspended":
                server.status = None
                self._up(server)
                self.webhooks.emit("server.running", server)

    def state(self) -> dict[str, Any]:
        """Everything, for the admin API."""
        now = self.timeline.now_ms()
        return {
            "accounts": {name: account.as_json() for name, account in self.accounts.items()},
            "servers": {key: server.as_json() for key, server in self.servers.items()},
            "accrued": self.billing.accrued(),
            "invoices": [invoice.as_json(now) for invoice in self.billing.invoices.values()],
            "events": self.webhooks.events,
            "deliveries": self.webhooks.deliveries,
        }

    def reset(self) -> None:
        """Begin anew."""
        for table in (self.accounts, self.servers, self.billing.invoices):
            table.clear()
        self._originals.clear()
        self.webhooks.forget()
        self._open_accounts()
        self.billing.begin()

    async def close(self) -> None:
        """End deliveries."""
        await self.webhooks.close()

    def _open_accounts(self) -> None:
        for raw in self.config.accounts:
            only_keys("accounts", raw, {"name", "tokens", "ip_allowlist", "webhooks"}, {"name", "tokens"})
            for hook in raw.get("webhooks", []):
                only_keys("webhooks", hook, {"url", "secret"}, {"url", "secret"})
            account = Account(
                name=raw["name"],
                tokens=list(raw["tokens"]),
                ip_allowlist=list(raw.get("ip_allowlist", [])),
                webhooks=list(raw.get("webhooks", [])),
            )
            self.accounts[account.name] = account

    def _identity(self, account: str) -> str:
        made = str(uuid.uuid4())
        mine = [server.uuid for server in self.servers.values() if server.account == account]
        if mine and self.faults.take("short_collision") is not None:
            return mine[-1][:SHORT] + made[SHORT:]
        return made

    def _install(self, server: Server) -> None:
        fault = self.faults.take("provision") or {"mode": None}
        if fault["mode"] == "never":
            return
        install_s = fault["after_s"] if fault["mode"] == "late" else self.config.install_s

        def finish() -> None:
            if server.deleting or server.status != "installing":
                return
            if fault["mode"] == "error":
                server.status, server.state = "install_failed", "stopped"
                return
            server.status = None
            self._up(server)
            self.timeline.after(self.config.password_after_s, lambda: self._reveal(server))
            self.webhooks.emit("server.running", server)

        self.timeline.after(min(self.config.boot_s, install_s), lambda: self._boot(server))
        self.timeline.after(install_s, finish)

    def _boot(self, server: Server) -> None:
        if server.status == "installing" and not server.deleting:
            self._up(server)

    def _up(self, server: Server) -> None:
        if server.state != "running":
            server.state, server.up_since_ms = "running", self.timeline.now_ms()

    def _next_power(self, server: Server) -> None:
        self.timeline.after(self.config.power_s, lambda: self._power(server))

    def _power(self, server: Server) -> None:
        action = server.queue.pop(0)
        server.done_actions.append(action)
        if server.status is None and not server.deleting:
            if action != "start":
                server.state, server.up_since_ms = "stopped", None
            if action in ("start", "restart"):
                self._up(server)
        if server.queue:
            self._next_power(server)

    def _deleted(self, server: Server) -> None:
        server.deleted_ms = self.timeline.now_ms()
        self.webhooks.emit("server.deleted", server)

    @staticmethod
    def _reveal(server: Server) -> None:
        server.password_status = "ready"
