"""LiteVPS's money: each minute that a machine runs is charged at a sixtieth of its hour; nothing runs on nothing.

The sandbox's rule where the document is silent: a minute is charged when it has begun, only while `running`; what a
machine was charged is at all times its hourly price * minutes / 60, rounded half up to 1e-6 once, so that rounding
never adds up; a machine whose next minute the balance does not cover is stopped.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from sandbox.shared_vendor.timeline import HOUR_MS, MINUTE_MS, iso
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.litevps.records import Account, Machine
    from sandbox.litevps.vendor import LiteVps

MICRO = Decimal("0.000001")
FOUR_PLACES = Decimal("0.0001")


class Billing:
    """Charges of one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor
        self.mails: list[dict[str, str]] = []

    def require(self, account: Account, hourly: Decimal, token_id: str | None) -> None:
        """Raise RefusedError (402) unless the balance and the token's limit cover a new machine."""
        required = hourly * self._vendor.config.required_minutes / 60
        balance = account.purse.balance
        if balance < required:
            raise RefusedError(402, "insufficient balance", extra=_figures(balance, required))
        token = account.tokens.get(token_id or "")
        if token is not None and token.spend_limit is not None and token.spent + required > token.spend_limit:
            left = max(Decimal(0), token.spend_limit - token.spent)
            raise RefusedError(402, "token spend limit exceeded", extra=_figures(left, required))

    def begin(self, machine: Machine) -> None:
        """The machine runs from now on."""
        machine.running_round += 1
        self._minute(machine, machine.running_round, self._vendor.timeline.now_ms())

    def end(self, machine: Machine) -> None:
        """It does not run any more: no later minute is charged."""
        machine.running_round += 1

    def _minute(self, machine: Machine, number: int, from_ms: int) -> None:
        if machine.running_round != number:
            return
        vendor = self._vendor
        account = vendor.accounts[machine.account_id]
        due = (machine.hourly * (machine.minutes + 1) / 60).quantize(MICRO, ROUND_HALF_UP) - machine.charged
        if account.purse.balance < due:
            vendor.power_off(machine)
            return
        machine.minutes += 1
        machine.charged += due
        account.purse.post_usage(due, at_ms=from_ms, ref=machine.id, bucket_ms=HOUR_MS)
        token = account.tokens.get(machine.token_id or "")
        if token is not None:
            token.spent += due
        self._warn(account)
        next_ms = from_ms + MINUTE_MS
        vendor.timeline.at(next_ms, lambda: self._minute(machine, number, next_ms))

    def _warn(self, account: Account) -> None:
        low = account.purse.balance < Decimal(self._vendor.config.low_balance)
        if low and not account.warned:
            at = iso(self._vendor.timeline.now_ms())
            self.mails.extend({"to": to, "subject": "Low balance", "at": at} for to in account.notify.values())
        account.warned = low


def _figures(balance: Decimal, required: Decimal) -> dict[str, Decimal]:
    return {"balance": balance.quantize(FOUR_PLACES), "required": required.quantize(FOUR_PLACES)}
