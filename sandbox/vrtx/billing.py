"""VRTX's bills: what a server costs under the configured rule, an invoice each calendar month, suspension when unpaid.

An hour belongs to the month in which it starts, and is owed whole once it has started. A server is charged from its
creation to its deletion, whatever its state. Cost is computed from times, never accumulated.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from sandbox.shared_vendor.timeline import DAY_MS, HOUR_MS, MS
from sandbox.vrtx.records import Invoice, Server

if TYPE_CHECKING:
    from sandbox.vrtx.vendor import Vrtx

CENT = Decimal("0.01")


def cost(server: Server, rule: str, from_ms: int, until_ms: int) -> Decimal:
    """What a server owes for [from, until), which lies within one calendar month; exact."""
    end_ms = until_ms if server.deleted_ms is None else min(until_ms, server.deleted_ms)
    hours = _hours_before(server, end_ms) - _hours_before(server, from_ms)
    if hours <= 0:
        return Decimal(0)
    if rule == "monthly":
        return server.monthly
    by_hour = hours * server.hourly
    return min(by_hour, server.monthly) if rule == "hourly_capped" else by_hour


def month_of(at_ms: int) -> tuple[int, int]:
    """Beginning of the calendar month (UTC) that holds a time, and of the next."""
    moment = datetime.fromtimestamp(at_ms / MS, UTC)
    begin = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    later = begin.replace(year=begin.year + 1, month=1) if begin.month == 12 else begin.replace(month=begin.month + 1)
    return round(begin.timestamp() * MS), round(later.timestamp() * MS)


class Billing:
    """Invoices of one vendor."""

    def __init__(self, vendor: Vrtx) -> None:
        self._vendor = vendor
        self.invoices: dict[str, Invoice] = {}

    def begin(self) -> None:
        """Bill at the end of every month from now on."""
        from_ms, until_ms = month_of(self._vendor.timeline.now_ms())
        self._vendor.timeline.at(until_ms, lambda: self._close_month(from_ms, until_ms))

    def overdue(self, account: str) -> bool:
        """Whether the account has a bill that it should have paid."""
        now = self._vendor.timeline.now_ms()
        return any(i.account == account and i.overdue(now) for i in self.invoices.values())

    def issue(self, account: str, amount: Decimal, due_ms: int, lines: list[dict[str, str]]) -> Invoice:
        """A new invoice; the account's servers are suspended when it stays unpaid for long."""
        invoice = Invoice(
            id=f"INV-{len(self.invoices) + 1:05d}",
            account=account,
            amount=amount,
            issued_ms=self._vendor.timeline.now_ms(),
            due_ms=due_ms,
            lines=lines,
        )
        self.invoices[invoice.id] = invoice
        suspend_ms = due_ms + self._vendor.config.suspend_after_days * DAY_MS
        self._vendor.timeline.at(suspend_ms, lambda: self._suspend(invoice))
        return invoice

    def pay(self, invoice: Invoice) -> None:
        """It is paid; suspended servers come back when nothing else is overdue."""
        invoice.paid_ms = self._vendor.timeline.now_ms()
        if not self.overdue(invoice.account):
            self._vendor.resume_all(invoice.account)

    def accrued(self) -> dict[str, str]:
        """What each server has cost so far, over all months, exact."""
        now, owed = self._vendor.timeline.now_ms(), {}
        for server in self._vendor.servers.values():
            total, (from_ms, until_ms) = Decimal(0), month_of(server.created_ms)
            while from_ms <= now:
                total += cost(server, self._vendor.config.billing_rule, from_ms, min(until_ms, now))
                from_ms, until_ms = month_of(until_ms)
            owed[server.uuid] = str(total)
        return owed

    def _close_month(self, from_ms: int, until_ms: int) -> None:
        config = self._vendor.config
        for account in self._vendor.accounts:
            owed = {
                server.uuid: cost(server, config.billing_rule, from_ms, until_ms)
                for server in self._vendor.servers.values()
                if server.account == account
            }
            total = sum(owed.values(), Decimal(0)).quantize(CENT, ROUND_HALF_UP)
            if total:
                lines = [{"uuid": uuid, "amount": str(amount)} for uuid, amount in owed.items() if amount]
                self.issue(account, total, until_ms + config.invoice_due_days * DAY_MS, lines)
        self.begin()

    def _suspend(self, invoice: Invoice) -> None:
        if invoice.paid_ms is None:
            self._vendor.suspend_all(invoice.account)


def _hours_before(server: Server, at_ms: int) -> int:
    """How many of the server's hours start before a time."""
    return -(-max(0, at_ms - server.created_ms) // HOUR_MS)
