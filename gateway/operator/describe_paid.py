"""The records of being paid as the operator and the auditor read them: every field that is no secret, under its own name.

Must not know where they are kept.  Theory: a record's names carry their units (`_base`, `_ms`, `_wei`), so one rule shows them
all, and a field that is added later is shown without anybody remembering to.
"""

from dataclasses import fields
from enum import StrEnum
from typing import Any

from contracts.codec import ADDRESS_BYTES, to_hex
from gateway.core.money import format_amount
from gateway.core.paid import Incoming, Refund, Relay, Settlement, TopUp
from gateway.operator import describe

HIDDEN = frozenset(
    {"signature", "raw", "fingerprint", "client_token", "attempts", "hold_transfer_id", "exposure_transfer_id"}
)
"""What was signed can be sent by whoever reads it; the rest says nothing to a human."""


def paid_record(record: Settlement | Relay | TopUp | Incoming | Refund) -> dict[str, Any]:
    """Return a record as a document; amounts in USD and in the token are decimals, wei are texts."""
    shown = dict(
        _shown(field.name, getattr(record, field.name)) for field in fields(record) if field.name not in HIDDEN
    )
    if isinstance(record, Relay):
        shown["transactions"] = [
            {
                "tx_hash": to_hex(attempt.tx_hash),
                "max_fee_wei": str(attempt.max_fee_wei),
                "sent_at": describe.when(attempt.sent_at_ms),
            }
            for attempt in record.attempts
        ]
    return shown


def _shown(name: str, value: object) -> tuple[str, Any]:
    if isinstance(value, bytes):
        return name, describe.address(value) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, StrEnum):
        return name, value.value
    if isinstance(value, tuple):
        return name, list(value)
    if name.endswith("_ms"):
        return name.removesuffix("_ms"), describe.when(value if isinstance(value, int) else None)
    if name.endswith("_base") and isinstance(value, int):
        return name.removesuffix("_base"), format_amount(value)
    return name, str(value) if name.endswith("_wei") else value
