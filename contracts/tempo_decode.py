"""Reading the Tempo transaction (type 0x76) that a payer hands us to be sent: the inverse of ``contracts.tempo``.

Must not know challenges, tills or RPC. Theory: the payer signed bytes, the chain runs bytes, and we credit what we read
in them; so the reading takes one encoding, one kind of signature and no field that could make the transaction do more
than it says. A node writes a recovery id of 0 or 1 as 27 or 28, so the bytes are brought into that form first: their
hash is then the one under which the transaction will be on chain, whoever sends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.calls import SELECTOR_BYTES, TRANSFER, TRANSFER_WITH_MEMO
from contracts.codec import ADDRESS_BYTES, UINT256_MAX, WORD_BYTES, Address, require_bytes
from contracts.keccak import keccak256
from contracts.networks import CHAIN_ID_BITS
from contracts.rlp import rlp_bytes, rlp_list
from contracts.rlp_read import Item, read_rlp_list, rlp_items, rlp_number, rlp_text
from contracts.signature import SIGNATURE_BYTES, normalise_v, recover_address
from contracts.tempo import AMOUNT_BITS, TEMPO_FEE_MANAGER, TYPE_HAND_OVER, TYPE_TEMPO, TempoError, TempoTransfer

MAX_RAW_BYTES = 4_096
NUMBER_BITS = 63

_FIELDS = 14
_CALL_FIELDS = 3
_TRANSFER_BYTES = SELECTOR_BYTES + 2 * WORD_BYTES
_MEMO_BYTES = SELECTOR_BYTES + 3 * WORD_BYTES
_PAD = bytes(WORD_BYTES - ADDRESS_BYTES)


@dataclass(frozen=True, slots=True)
class TempoCall:
    """One call of a batch. Its value is nothing: Tempo has no coin of its own."""

    to: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class TempoTransaction:
    """A transaction that pays its own fee, as its sender signed it.

    ``raw`` is its one canonical form and ``tx_hash`` the hash of that. ``valid_before`` and ``valid_after`` are None where
    the transaction names none; times are Unix seconds of block time, prices atto-USD per gas. ``fee_token`` is None
    where the node may choose.
    """

    raw: bytes
    tx_hash: bytes
    sender: Address
    chain_id: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    calls: tuple[TempoCall, ...]
    nonce_key: int
    nonce: int
    valid_before: int | None
    valid_after: int | None
    fee_token: Address | None

    @property
    def expiring(self) -> bool:
        """Whether its nonce is an expiring one: taken at most once, and only before ``valid_before``."""
        return self.nonce_key == UINT256_MAX


def decode_tempo(raw: bytes) -> TempoTransaction:
    """Read a transaction, strictly, and recover who signed it.

    Refused, with a ContractError: a hand-over that waits for a sponsor (0x78), a transaction that a sponsor signed, a
    signature that is not 65 bytes of secp256k1 with a low s, access, authorisation and key lists, a call with a value,
    and any encoding but the shortest.
    """
    if not 1 < len(raw) <= MAX_RAW_BYTES:
        raise TempoError(f"transaction: expected 2 to {MAX_RAW_BYTES} bytes")
    if raw[:1] == TYPE_HAND_OVER:
        raise TempoError("transaction: it waits for somebody else to pay its fee")
    if raw[:1] != TYPE_TEMPO:
        raise TempoError("transaction: not of Tempo's type 0x76")
    items, parts = read_rlp_list(raw[1:], "transaction")
    if len(items) != _FIELDS:
        raise TempoError(f"transaction: expected {_FIELDS} fields, found {len(items)}")
    signature = normalise_v(require_bytes(rlp_text(items[13], "signature"), SIGNATURE_BYTES, "signature"))
    _refuse_more(items)
    canonical = TYPE_TEMPO + rlp_list(*parts[:13], rlp_bytes(signature))
    return TempoTransaction(
        raw=canonical,
        tx_hash=keccak256(canonical),
        sender=recover_address(keccak256(TYPE_TEMPO + rlp_list(*parts[:13])), signature),
        chain_id=rlp_number(items[0], CHAIN_ID_BITS, "chainId"),
        max_priority_fee_per_gas=rlp_number(items[1], NUMBER_BITS, "maxPriorityFeePerGas"),
        max_fee_per_gas=rlp_number(items[2], NUMBER_BITS, "maxFeePerGas"),
        gas=rlp_number(items[3], NUMBER_BITS, "gas"),
        calls=tuple(map(_call, rlp_items(items[4], "calls"))),
        nonce_key=rlp_number(items[6], 256, "nonceKey"),
        nonce=rlp_number(items[7], 64, "nonce"),
        valid_before=rlp_number(items[8], NUMBER_BITS, "validBefore") or None,
        valid_after=rlp_number(items[9], NUMBER_BITS, "validAfter") or None,
        fee_token=_address_or_none(items[10], "feeToken"),
    )


def read_transfer(call: TempoCall) -> TempoTransfer:
    """Return the one TIP-20 transfer that a call makes. Raises ContractError for any other call."""
    selector, words = call.data[:SELECTOR_BYTES], call.data[SELECTOR_BYTES:]
    if (selector, len(call.data)) not in ((TRANSFER, _TRANSFER_BYTES), (TRANSFER_WITH_MEMO, _MEMO_BYTES)):
        raise TempoError("call: neither transfer nor transferWithMemo")
    if words[: len(_PAD)] != _PAD:
        raise TempoError("call: the recipient is no address")
    to = Address(words[len(_PAD) : WORD_BYTES])
    if to == TEMPO_FEE_MANAGER:
        raise TempoError("call: it pays the fee manager")
    value_base = int.from_bytes(words[WORD_BYTES : 2 * WORD_BYTES], "big")
    if value_base >> AMOUNT_BITS or value_base == 0:
        raise TempoError(f"call: an amount outside 1 to 2^{AMOUNT_BITS} - 1")
    return TempoTransfer(to, value_base, words[2 * WORD_BYTES :] or None)


def _refuse_more(items: Sequence[Item]) -> None:
    """Refuse what could make it more than calls that its own sender pays for."""
    for index, name in ((5, "accessList"), (12, "authorizationList")):
        if rlp_items(items[index], name):
            raise TempoError(f"{name}: not empty")
    if items[11] != b"":
        raise TempoError("feePayerSignature: somebody else pays the fee")


def _call(item: Item) -> TempoCall:
    fields = rlp_items(item, "call")
    if len(fields) != _CALL_FIELDS:
        raise TempoError("call: expected to, value and data")
    if rlp_number(fields[1], 256, "call.value"):
        raise TempoError("call.value: not 0")
    to = require_bytes(rlp_text(fields[0], "call.to"), ADDRESS_BYTES, "call.to")
    return TempoCall(Address(to), rlp_text(fields[2], "call.data"))


def _address_or_none(item: Item, field: str) -> Address | None:
    data = rlp_text(item, field)
    return Address(require_bytes(data, ADDRESS_BYTES, field)) if data else None
