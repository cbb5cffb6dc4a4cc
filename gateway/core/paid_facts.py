"""What a row may hold of a record of being paid, and what the journal says of it.

Must not know decisions.  Theory: what strangers sign and send (texts, 256-bit numbers) is checked where every change passes,
so that nothing of it can stop the store; the journal names every record that a row changed with its version and state, so
that the rows can be proven from it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache

from gateway.core.commands import Refused
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.paid import Incoming, Refund, Relay, SellerTerms, Settlement, TopUp

Record = Settlement | Relay | TopUp | Incoming | Refund

LARGEST = 2**53  # what every reader of the journal's JSON holds exactly
WIDE = frozenset({"valid_after_s", "valid_before_s", "fee_wei", "gas_budget_wei"})  # kept as text, in rows and journal
LARGEST_WIDE = 2**256 - 1
SIZES: Mapping[str, int] = {
    **dict.fromkeys(("token", "authorizer", "pay_to", "relayer", "payer", "till", "sender", "to"), 20),
    **dict.fromkeys(("tx_hash", "mined_hash", "fingerprint"), 32),
}
MOST_BYTES = 65_536  # of a signature or a signed transaction
MOST_TEXT = 4_096


def value_refusal(record: Record | SellerTerms) -> Refused | None:
    """Refuse what no row can hold, whoever failed to check it."""
    kind: type = type(record)
    for bounds in _bounds(kind):
        value = getattr(record, bounds.name)
        for part in value if isinstance(value, tuple) else (value,):
            wrong = bounds.broken_by(part)
            if wrong:
                return Refused("bad_request", f"{bounds.name} {wrong}")
    return None


def is_text(text: str) -> bool:
    """Say whether it can be written: half a surrogate pair, as JSON's escapes can write it, cannot."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a field may hold: so many bytes, None for any number up to MOST_BYTES, and an integer up to `most`."""

    name: str
    size: int | None
    most: int

    def broken_by(self, value: object) -> str:
        """Return what is wrong with a value, "" for nothing; what is no text, bytes or number has no bounds."""
        if isinstance(value, str):
            return "" if len(value) <= MOST_TEXT and is_text(value) else "is too long, or no text"
        if isinstance(value, bytes):
            fits = len(value) <= MOST_BYTES if self.size is None else len(value) == self.size
            return "" if fits else "has a wrong length"
        if isinstance(value, int) and not 0 <= value <= self.most:
            return f"must lie between 0 and {self.most}"
        return ""


@cache
def _bounds(record: type) -> tuple[_Bounds, ...]:
    return tuple(_Bounds(each.name, SIZES.get(each.name), _most(each.name)) for each in fields(record))


def _most(name: str) -> int:
    return LARGEST_WIDE if name in WIDE else MAX_AMOUNT_BASE if name.endswith("_base") else LARGEST


def told(*changed: Record) -> dict[str, object]:
    """Return how the journal names the records that a row changed: each with its version and state."""
    return {"records": {record.id: [record.version, record.state.value] for record in changed}}


def settlement_facts(settlements: Iterable[Settlement]) -> list[dict[str, object]]:
    """Return what the journal says of settlements that moved."""
    return [
        {
            "settlement_id": s.id,
            "state": s.state.value,
            "fence": s.fence,
            "relay_id": s.relay_id,
            "tx_hash": hex_or_none(s.tx_hash),
            "block_number": s.block_number,
            "reason": s.reason,
        }
        for s in settlements
    ]


def claim_facts(s: Settlement) -> dict[str, object]:
    """Return what the journal says of a settlement that was claimed."""
    return {
        "settlement_id": s.id,
        "account_id": s.account_id,
        "chain_id": s.chain_id,
        "token": hex_or_none(s.token),
        "authorizer": hex_or_none(s.authorizer),
        "nonce": hex_or_none(s.nonce),
        "pay_to": hex_or_none(s.pay_to),
        "value_base": s.value_base,
        "valid_after_s": str(s.valid_after_s),
        "valid_before_s": str(s.valid_before_s),
        "fence": s.fence,
    }


def relay_facts(r: Relay) -> dict[str, object]:
    """Return what the journal says of a relayer's transaction."""
    return {
        "relay_id": r.id,
        "chain_id": r.chain_id,
        "relayer": hex_or_none(r.relayer),
        "account_nonce": r.account_nonce,
        "purpose": r.purpose,
        "state": r.state.value,
        "hashes": [hex_or_none(a.tx_hash) for a in r.attempts],
        "mined_hash": hex_or_none(r.mined_hash),
        "block_number": r.block_number,
        "status": r.status,
        "fee_wei": str(r.fee_wei),
    }


def topup_facts(t: TopUp) -> dict[str, object]:
    """Return what the journal says of an order for credit."""
    return {
        "topup_id": t.id,
        "account_id": t.account_id,
        "state": t.state.value,
        "amount_base": t.amount_base,
        "rail": t.rail,
        "chain_id": t.chain_id,
        "token": hex_or_none(t.token),
        "payer": hex_or_none(t.payer),
        "nonce": hex_or_none(t.nonce),
        "value_base": t.value_base,
        "tx_hash": hex_or_none(t.tx_hash),
        "receipt_id": t.receipt_id,
        "credited_base": t.credited_base,
        "lent_base": t.lent_base,
        "reason": t.reason,
    }


def incoming_facts(i: Incoming) -> dict[str, object]:
    """Return what the journal says of what came in."""
    return {
        "receipt_id": i.id,
        "account_id": i.account_id,
        "topup_id": i.topup_id,
        "asset": i.asset,
        "till": hex_or_none(i.till),
        "sender": hex_or_none(i.sender),
        "amount_base": i.amount_base,
        "refundable": i.refundable,
        "note": i.note,
    }


def refund_facts(r: Refund) -> dict[str, object]:
    """Return what the journal says of a refund."""
    return {
        "refund_id": r.id,
        "account_id": r.account_id,
        "key_id": r.key_id,
        "receipt_id": r.receipt_id,
        "state": r.state.value,
        "amount_base": r.amount_base,
        "chain_id": r.chain_id,
        "asset": r.asset,
        "till": hex_or_none(r.till),
        "to": hex_or_none(r.to),
        "value_base": r.value_base,
        "nonce": hex_or_none(r.nonce),
        "valid_before_s": str(r.valid_before_s),
        "tx_hash": hex_or_none(r.tx_hash),
        "hold_transfer_id": r.hold_transfer_id,
        "exposure_transfer_id": r.exposure_transfer_id,
        "reason": r.reason,
    }


def hex_or_none(value: bytes | None) -> str | None:
    """Return bytes as the journal writes them."""
    return None if value is None else "0x" + value.hex()
