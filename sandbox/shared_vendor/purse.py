"""A prepaid balance with its entries, exact to the last digit: what was paid in, what was charged, and for what.

Amounts are Decimals; how they are shown is the vendor's business. It must not decide whether something may be charged.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(slots=True)
class Entry:
    """One movement; `amount` is negative for a charge."""

    id: str
    at_ms: int
    kind: str
    amount: Decimal
    balance: Decimal
    ref: str
    note: str


@dataclass(slots=True)
class Purse:
    """One account's money."""

    balance: Decimal = Decimal(0)
    entries: list[Entry] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1), repr=False)
    _open: dict[str, tuple[int, Entry]] = field(default_factory=dict, repr=False)

    def post(self, kind: str, amount: Decimal, *, at_ms: int, ref: str = "", note: str = "") -> Entry:
        """Move money and write it down."""
        self.balance += amount
        entry = Entry(f"txn_{next(self._ids):08d}", at_ms, kind, amount, self.balance, ref, note)
        self.entries.append(entry)
        return entry

    def post_usage(self, amount: Decimal, *, at_ms: int, ref: str, bucket_ms: int) -> Entry:
        """Charge for usage; charges for one `ref` within one bucket of time grow one entry."""
        bucket = at_ms // bucket_ms
        known = self._open.get(ref)
        if known is not None and known[0] == bucket:
            entry = known[1]
            self.balance -= amount
            entry.amount -= amount
            entry.balance, entry.at_ms = self.balance, at_ms
            return entry
        entry = self.post("usage", -amount, at_ms=at_ms, ref=ref)
        self._open[ref] = (bucket, entry)
        return entry

    def charged(self, ref: str) -> Decimal:
        """All that was charged for one thing."""
        return -sum((entry.amount for entry in self.entries if entry.ref == ref), Decimal(0))

    def set_to(self, balance: Decimal, *, at_ms: int) -> Entry:
        """Bring the balance to an amount with an adjustment."""
        return self.post("adjustment", balance - self.balance, at_ms=at_ms)

    def as_json(self) -> dict[str, Any]:
        """For the admin API, amounts as texts."""
        return {
            "balance": str(self.balance),
            "entries": [
                {
                    "id": entry.id,
                    "at_ms": entry.at_ms,
                    "kind": entry.kind,
                    "amount": str(entry.amount),
                    "balance": str(entry.balance),
                    "ref": entry.ref,
                    "note": entry.note,
                }
                for entry in self.entries
            ],
        }
