"""What a transfer of tokens says of itself: who sent how much to whom, and what its payer signed or wrote for it.

Must not know orders, accounts or finality: the caller brings a log and its whole receipt that have their quorum. Theory:
Circle's token marks a nonce and then transfers, with nothing in between that could log, so an AuthorizationUsed of the
sender directly before a Transfer belongs to it and proves that the sender signed this very transfer; TIP-20 logs the
memo directly after. A transfer of nothing may be made out of anybody's account by anybody, so it says nothing at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.codec import Address, ContractError
from contracts.logs import (
    Log,
    Transfer,
    decode_authorization_used,
    decode_transfer,
    decode_transfer_with_memo,
)
from contracts.proof import Mismatch, MismatchCode, check_receipt


@dataclass(frozen=True, slots=True)
class Moved:
    """One transfer of a token: above zero, in a transaction that succeeded.

    `nonce` is that of the authorization that its sender signed for it, `memo` what a TIP-20 transfer bears; None where
    there is none. (chain, tx_hash, log_index) of `log` identifies it (P13).
    """

    log: Log
    sender: Address
    recipient: Address
    value_base: int
    nonce: bytes | None
    memo: bytes | None


def read_transfer(found_log: Log, receipt_logs: Sequence[Log], receipt_status: int) -> Moved | Mismatch | None:
    """Read a Transfer inside its transaction's whole receipt; None for one that moved nothing.

    A Mismatch is a receipt that cannot be the log's surroundings: the outcome stays unknown.
    """
    problem = check_receipt(found_log, receipt_logs, receipt_status)
    if problem is not None:
        return problem
    try:
        event = decode_transfer(found_log)
    except ContractError as error:
        return Mismatch(MismatchCode.NO_TRANSFER, str(error))
    if event is None:
        return Mismatch(MismatchCode.NO_TRANSFER, "the log is not a Transfer")
    if event.value_base == 0:
        return None
    beside = {log.log_index: log for log in receipt_logs if log.address == found_log.address}
    return Moved(
        log=found_log,
        sender=event.sender,
        recipient=event.recipient,
        value_base=event.value_base,
        nonce=_signed_nonce(beside.get(found_log.log_index - 1), event.sender),
        memo=_memo(beside.get(found_log.log_index + 1), event),
    )


def _signed_nonce(before: Log | None, sender: Address) -> bytes | None:
    if before is None:
        return None
    try:
        used = decode_authorization_used(before)
    except ContractError:
        return None
    return used.nonce if used is not None and used.authorizer == sender else None


def _memo(after: Log | None, event: Transfer) -> bytes | None:
    if after is None:
        return None
    try:
        noted = decode_transfer_with_memo(after)
    except ContractError:
        return None
    if noted is None or Transfer(noted.sender, noted.recipient, noted.value_base) != event:
        return None
    return noted.memo
