"""What a block says of the authorizations that a transaction carried: collected, and by which transaction, or not.

Must not know relayers or nonces. Theory: a transaction's status says nothing of what it carried, and the token's "used" not
who was paid; only the token's own AuthorizationUsed with the Transfer directly after it does (contracts/proof.py). Anybody
may have submitted the same authorization, and then that transaction is the one that paid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from contracts.codec import Address, ContractError
from contracts.logs import Log, Transfer, decode_authorization_used, decode_transfer
from contracts.proof import check_receipt
from gateway.core.paid import Relay, RelayState, Settlement, SettlementState
from gateway.core.replacing import replace
from gateway.facilitator.desk import Desk
from gateway.facilitator.verify import MAX_SKEW_S
from gateway.ports import Receipt
from gateway.rails.x402.reasons import Reason

__all__ = [
    "Elsewhere",
    "Fate",
    "carrier",
    "collected_in",
    "elsewhere",
    "failed",
    "judge",
    "mined_by",
    "moved_by",
    "pays",
]

BLOCKS_PER_SECOND_MAX = 5
LOOK_BACK_BLOCKS = 64
R_AND_S_BYTES = 64  # a key's signature without v, which calls write elsewhere

Collections = Mapping[tuple[Address, Address, bytes], Transfer]
"""What a transaction collected: (token, authorizer, nonce) -> the transfer that it made."""


def collected_in(receipt: Receipt) -> Collections:
    """Return every pair of AuthorizationUsed and Transfer of a receipt; nothing of one that failed or is not whole."""
    found: dict[tuple[Address, Address, bytes], Transfer] = {}
    if not receipt.logs or check_receipt(receipt.logs[0], receipt.logs, receipt.status) is not None:
        return found
    for used_log, next_log in zip(receipt.logs, receipt.logs[1:], strict=False):
        if used_log.address == next_log.address:
            pair = _pair(used_log, next_log)
            if pair is not None:
                found[used_log.address, pair[0], pair[1]] = pair[2]
    return found


def _pair(used_log: Log, next_log: Log) -> tuple[Address, bytes, Transfer] | None:
    try:
        used, transfer = decode_authorization_used(used_log), decode_transfer(next_log)
    except ContractError:
        return None
    if used is None or transfer is None or transfer.sender != used.authorizer:
        return None
    return used.authorizer, used.nonce, transfer


def pays(settlement: Settlement, collections: Collections) -> bool:
    """Say whether a transaction collected exactly these terms."""
    key = (Address(settlement.token), Address(settlement.authorizer), settlement.nonce)
    transfer = collections.get(key)
    return transfer is not None and (transfer.recipient, transfer.value_base) == (
        settlement.pay_to,
        settlement.value_base,
    )


class Fate(Enum):
    """What is known of an authorization that our own transaction did not collect."""

    UNUSED = "unused"  # nobody has used it
    PAID = "paid"  # another transaction collected exactly these terms
    GONE = "gone"  # used for other terms, before it was ours, or cancelled
    UNKNOWN = "unknown"  # the token says used, and no log has shown how


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An authorization's fate, and for PAID the receipt of the transaction."""

    fate: Fate
    receipt: Receipt | None = None


async def elsewhere(desk: Desk, settlement: Settlement) -> Elsewhere:
    """Look who used an authorization since it was claimed. Raises ChainUnavailable.

    A use before the claim is no settlement of it: whoever was paid then has sold something for it already. Our clock and a
    block's may differ, so what was used a moment before is taken for a use after it.
    """
    token, authorizer = Address(settlement.token), Address(settlement.authorizer)
    if not await desk.relay.authorization_used(token, authorizer, settlement.nonce):
        return Elsewhere(Fate.UNUSED)
    head = await desk.relay.head()
    age_s = max(0, int(desk.now_s()) - settlement.created_at_ms // 1000) + MAX_SKEW_S
    since = max(0, head.number - LOOK_BACK_BLOCKS - age_s * BLOCKS_PER_SECOND_MAX)
    logs = await desk.relay.used_logs(token, authorizer, settlement.nonce, since)
    if not logs:
        return Elsewhere(Fate.UNKNOWN)
    found = await desk.relay.mined([logs[0].tx_hash], logs[0].block_number)
    if logs[0].tx_hash not in found:
        return Elsewhere(Fate.UNKNOWN)
    receipt = found[logs[0].tx_hash][0]
    earliest_s = settlement.created_at_ms // 1000 - MAX_SKEW_S
    if not pays(settlement, collected_in(receipt)) or receipt.block.time_s < earliest_s:
        return Elsewhere(Fate.GONE)
    return Elsewhere(Fate.PAID, receipt)


def mined_by(settlement: Settlement, receipt: Receipt) -> Settlement:
    """Return a settlement that the transaction of a receipt collected."""
    return replace(
        settlement,
        state=SettlementState.MINED,
        tx_hash=receipt.tx_hash,
        block_number=receipt.block.number,
        reason="",
        ended_at_ms=None,
        version=settlement.version + 1,
    )


def carrier(relay: Relay, settlement: Settlement) -> bytes | None:
    """Return the mined form of a transaction if it carried a settlement: what had expired was left out when it was replaced.

    Whatever collects an authorization has its nonce and its signature in its call data. The nonce alone says nothing: the
    payer has chosen it, and may choose what stands in every call.
    """
    signed = settlement.signature[:R_AND_S_BYTES]
    mined = (attempt for attempt in relay.attempts if attempt.tx_hash == relay.mined_hash)
    return next((a.tx_hash for a in mined if settlement.nonce in a.raw and signed in a.raw), None)


def failed(settlement: Settlement, reason: str, tx_hash: bytes | None, ended_at_ms: int | None) -> Settlement:
    """Return a settlement that failed; for good with `ended_at_ms`, else it may be claimed again.

    Without the hash of a transaction that carried it no gas was burnt on it, and nobody is to answer for any.
    """
    return replace(
        settlement,
        state=SettlementState.FAILED,
        relay_id=None if tx_hash is None else settlement.relay_id,
        tx_hash=tx_hash,
        block_number=None,
        reason=reason,
        ended_at_ms=ended_at_ms,
        version=settlement.version + 1,
    )


def moved_by(relay: Relay, receipt: Receipt, fee_wei: int) -> Relay:
    """Return a transaction that a block holds."""
    return replace(
        relay,
        state=RelayState.MINED,
        mined_hash=receipt.tx_hash,
        block_number=receipt.block.number,
        status=receipt.status,
        fee_wei=fee_wei,
        version=relay.version + 1,
    )


async def judge(desk: Desk, settlement: Settlement, carrier: bytes | None) -> Settlement | None:
    """Return what becomes of one that the transaction `carrier` did not collect, None where nobody knows yet.

    Raises ChainUnavailable.
    """
    found = await elsewhere(desk, settlement)
    if found.fate is Fate.PAID and found.receipt is not None:
        return mined_by(settlement, found.receipt)
    if found.fate is Fate.GONE:
        return failed(settlement, str(Reason.NONCE_USED), carrier, desk.clock.now_ms())
    if found.fate is Fate.UNUSED:
        expired = (await desk.relay.head()).time_s >= settlement.valid_before_s
        reason = str(Reason.VALID_BEFORE if expired and carrier is None else Reason.TRANSACTION_FAILED)
        # Gas was burnt: were it tried again, a payer could have it burnt again and again. Our own till signs to deceive nobody.
        for_good = expired or (carrier is not None and not desk.gives_back(settlement))
        return failed(settlement, reason, carrier, desk.clock.now_ms() if for_good else None)
    return None
