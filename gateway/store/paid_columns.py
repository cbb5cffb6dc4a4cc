"""How the records of being paid become rows and rows become records; nothing else knows the columns' order.

Must not know when anything is written.  Theory: a column is named like its field, so what is read back equals what was
written; wei and 256-bit numbers are decimal text, lists are JSON, and a field that was forgotten is an error at import.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from gateway.core.paid import (
    Incoming,
    ReceiptState,
    Refund,
    RefundState,
    Relay,
    RelayAttempt,
    RelayState,
    SellerTerms,
    Settlement,
    SettlementState,
    TopUp,
    TopUpState,
)

Codec = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""From the field's value to the column's, and back."""


def _wide(value: int | None) -> str | None:
    return None if value is None else str(value)


def _narrow(text: str | None) -> int | None:
    return None if text is None else int(text)


def _attempts_text(attempts: tuple[RelayAttempt, ...]) -> str:
    rows = [[a.tx_hash.hex(), a.raw.hex(), str(a.max_fee_wei), str(a.priority_fee_wei), a.sent_at_ms] for a in attempts]
    return json.dumps(rows)


def _attempts_from(text: str) -> tuple[RelayAttempt, ...]:
    rows = json.loads(text)
    return tuple(RelayAttempt(bytes.fromhex(r[0]), bytes.fromhex(r[1]), int(r[2]), int(r[3]), r[4]) for r in rows)


def _texts_from(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _payees_text(payees: tuple[bytes, ...]) -> str:
    return json.dumps([payee.hex() for payee in payees])


def _payees_from(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(payee) for payee in json.loads(text))


_WIDE: Codec = (_wide, _narrow)
_FLAG: Codec = (int, bool)


@dataclass(frozen=True)
class PaidTable:
    """Where records of one type are kept, by which column, and the codecs of the columns that are not the value itself.

    `fixed` are columns that no later version of a record changes, and the key never does: an update that does not name a
    column leaves its indexes alone.
    """

    name: str
    record: type
    key: str
    codecs: Mapping[str, Codec]
    fixed: frozenset[str] = frozenset()
    extra: str = ""  # a column that is written once and is no field

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that are fields, in the order of the fields."""
        return tuple(each.name for each in fields(self.record))

    @cached_property
    def changing(self) -> tuple[str, ...]:
        """The columns that a later version may change, in the order of the fields."""
        return tuple(name for name in self.names if name != self.key and name not in self.fixed)

    @cached_property
    def columns(self) -> str:
        """The columns that are fields, as a statement names them."""
        return ", ".join(map(_quoted, self.names))

    @cached_property
    def insert(self) -> str:
        """The statement that adds a row, with its extra column's value last."""
        names = self.columns + (f", {self.extra}" if self.extra else "")
        marks = ", ".join("?" * len(names.split(", ")))
        return f"INSERT INTO {self.name} ({names}) VALUES ({marks})"  # noqa: S608 - names are ours

    @cached_property
    def update(self) -> str:
        """The statement that makes a row a later version, with what `change` returns."""
        change = ", ".join(f"{_quoted(name)} = ?" for name in self.changing)
        return f"UPDATE {self.name} SET {change} WHERE {self.key} = ?"  # noqa: S608 - names are ours

    @cached_property
    def by_key(self) -> str:
        """The statement that finds one by its key."""
        return self.where(f"{self.key} = ?")

    def where(self, condition: str) -> str:
        """Return the statement that finds those of which this is so."""
        return f"SELECT {self.columns} FROM {self.name} WHERE {condition}"  # noqa: S608 - names are ours

    def row(self, record: object) -> tuple[Any, ...]:
        """Return a record's row."""
        return self._values(self.names, record)

    def change(self, record: object) -> tuple[Any, ...]:
        """Return what `update` takes: what may have changed, and the key."""
        return self._values((*self.changing, self.key), record)

    def _values(self, names: tuple[str, ...], record: object) -> tuple[Any, ...]:
        codecs = self.codecs
        return tuple(
            [codecs[name][0](getattr(record, name)) if name in codecs else getattr(record, name) for name in names]
        )

    def from_row(self, row: Any) -> Any:  # noqa: ANN401 - a tuple, sqlite3.Row or mapping's values; the record's own type
        """Return the record that a row of `columns` holds."""
        values = zip(self.names, tuple(row), strict=True)
        return self.record(
            **{name: self.codecs[name][1](value) if name in self.codecs else value for name, value in values}
        )


def _quoted(name: str) -> str:
    return f'"{name}"' if name == "to" else name  # SQL's own word


def _state(states: type) -> Codec:
    return (lambda state: state.value), states


SETTLEMENTS = PaidTable(
    "settlements",
    Settlement,
    "id",
    {
        "state": _state(SettlementState),
        "valid_after_s": _WIDE,
        "valid_before_s": _WIDE,
        "contract_wallet": _FLAG,
    },
    # Settlement.terms, which gateway/core/decide_settlement.py holds to.
    fixed=frozenset(
        {
            "chain_id",
            "token",
            "authorizer",
            "nonce",
            "pay_to",
            "value_base",
            "valid_after_s",
            "valid_before_s",
            "signature",
        }
    ),
)
RELAYS = PaidTable(
    "relays",
    Relay,
    "id",
    {
        "state": _state(RelayState),
        "settlement_ids": (json.dumps, _texts_from),
        "attempts": (_attempts_text, _attempts_from),
        "fee_wei": _WIDE,
    },
    fixed=frozenset({"chain_id", "relayer", "account_nonce"}),
)
TOPUPS = PaidTable("topups", TopUp, "id", {"state": _state(TopUpState), "valid_before_s": _WIDE}, extra="token_owner")
INCOMING = PaidTable("incoming", Incoming, "id", {"state": _state(ReceiptState), "refundable": _FLAG})
REFUNDS = PaidTable("refunds", Refund, "id", {"state": _state(RefundState), "valid_before_s": _WIDE})
SELLERS = PaidTable(
    "sellers", SellerTerms, "account_id", {"gas_budget_wei": _WIDE, "payees": (_payees_text, _payees_from)}
)
