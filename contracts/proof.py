"""What proves that an authorization was collected, cancelled, or can never be collected.

Must not know how logs were fetched, how many witnesses agreed or which block is final: the caller brings facts that
already have their quorum and finality (P5, P6, P14). Theory: ``authorizationState`` is true for used *and*
cancelled, and several authorizations may share one transaction, one nonce may have been signed with several terms, so
only the pair of logs that one call of the token emits tells which terms moved which money. The token marks the nonce
and then transfers, with nothing in between that could log (Circle's FiatToken ``_transferWithAuthorization``), so the
Transfer of an AuthorizationUsed is the very next log of the transaction. Looking for "some" matching Transfer would
let two equal payments in one transaction share one, or one nonce be booked with the terms of another.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.codec import Address, ContractError
from contracts.eip3009 import Authorization
from contracts.logs import (
    Log,
    Transfer,
    decode_authorization_canceled,
    decode_authorization_used,
    decode_transfer,
)


class MismatchCode(StrEnum):
    """Why the facts at hand prove nothing."""

    REVERTED = "reverted"
    RECEIPT_INCONSISTENT = "receipt_inconsistent"
    LOG_NOT_IN_RECEIPT = "log_not_in_receipt"
    OTHER_TOKEN = "other_token"  # noqa: S105 - a reason, not a password
    NOT_USED_EVENT = "not_used_event"
    OTHER_AUTHORIZATION = "other_authorization"
    NO_TRANSFER = "no_transfer"
    OTHER_TERMS = "other_terms"
    NOT_MEMO_EVENT = "not_memo_event"
    OTHER_CHARGE = "other_charge"
    OTHER_TRANSFERS = "other_transfers"
    FEE_ABOVE_MAX = "fee_above_max"


@dataclass(frozen=True, slots=True)
class Settled:
    """The authorization of which the log at hand is the collection.

    That log's (chain, tx_hash, log_index) identifies the evidence: one fact closes exactly one thing (P13).
    """

    authorization: Authorization


@dataclass(frozen=True, slots=True)
class Mismatch:
    """These facts do not prove the settlement: the outcome stays unknown, never failed."""

    code: MismatchCode
    message: str


def prove_settlement(
    auth_terms: Authorization, used_log: Log, receipt_logs: Sequence[Log], receipt_status: int
) -> Settled | Mismatch:
    """Decide whether ``used_log``, inside its transaction's whole receipt, is the collection of exactly these terms."""
    return prove_settlement_of((auth_terms,), used_log, receipt_logs, receipt_status)


def prove_settlement_of(
    candidates: Sequence[Authorization], used_log: Log, receipt_logs: Sequence[Log], receipt_status: int
) -> Settled | Mismatch:
    """Find which of the authorizations signed for one nonce was collected by the transaction of ``used_log``.

    The candidates share (chain, token, authorizer, nonce) and differ in payee, value or window (P4); those that
    differ in the window only are the same money, and the first of them is named. Raises ValueError when the candidates
    do not share their key, which is the caller's mistake.
    """
    if len({auth.key for auth in candidates}) != 1:
        raise ValueError("candidates: expected authorizations of one nonce")
    problem = check_receipt(used_log, receipt_logs, receipt_status) or _check_used(candidates[0], used_log)
    if problem is not None:
        return problem
    transfer = own_transfer(used_log, receipt_logs)
    if transfer is None:
        return Mismatch(MismatchCode.NO_TRANSFER, "no Transfer of the token follows AuthorizationUsed directly")
    for auth in candidates:
        if transfer == Transfer(auth.authorizer, auth.pay_to, auth.value_base):
            return Settled(auth)
    return Mismatch(MismatchCode.OTHER_TERMS, "the nonce was used with a payee or value that we hold no terms for")


def check_receipt(found_log: Log, receipt_logs: Sequence[Log], receipt_status: int) -> Mismatch | None:
    """Return what is wrong with a receipt as the surroundings of ``found_log``; None when it is whole and good."""
    if receipt_status != 1:
        return Mismatch(MismatchCode.REVERTED, "the transaction did not succeed")
    place = (found_log.block_number, found_log.block_hash, found_log.tx_hash)
    if any((log.block_number, log.block_hash, log.tx_hash) != place for log in receipt_logs):
        return Mismatch(
            MismatchCode.RECEIPT_INCONSISTENT, "the receipt's logs are not all of this block and transaction"
        )
    indexes = [log.log_index for log in receipt_logs]
    if any(later - earlier != 1 for earlier, later in itertools.pairwise(indexes)):
        return Mismatch(MismatchCode.RECEIPT_INCONSISTENT, "the receipt's logs are incomplete or out of order")
    if found_log not in receipt_logs:
        return Mismatch(MismatchCode.LOG_NOT_IN_RECEIPT, "the receipt does not hold the log")
    return None


def own_transfer(used_log: Log, receipt_logs: Sequence[Log]) -> Transfer | None:
    """Return the transfer that an AuthorizationUsed log made: the token's very next log; None where that is another."""
    for log in receipt_logs:
        if log.log_index == used_log.log_index + 1 and log.address == used_log.address:
            try:
                return decode_transfer(log)
            except ContractError:
                return None
    return None


def _check_used(auth: Authorization, used_log: Log) -> Mismatch | None:
    if used_log.address != auth.token.address:
        return Mismatch(MismatchCode.OTHER_TOKEN, "the log is of another contract")
    try:
        used = decode_authorization_used(used_log)
    except ContractError as error:
        return Mismatch(MismatchCode.NOT_USED_EVENT, str(error))
    if used is None:
        return Mismatch(MismatchCode.NOT_USED_EVENT, "the log is not AuthorizationUsed")
    if (used.authorizer, used.nonce) != (auth.authorizer, auth.nonce):
        return Mismatch(MismatchCode.OTHER_AUTHORIZATION, "the log is of another authorizer or nonce")
    return None


def prove_cancelled(token: Address, authorizer: Address, nonce: bytes, log: Log) -> bool:
    """Return whether ``log`` is the token's AuthorizationCanceled of this nonce; the caller vouches for finality."""
    if log.address != token:
        return False
    try:
        event = decode_authorization_canceled(log)
    except ContractError:
        return False
    return event is not None and (event.authorizer, event.nonce) == (authorizer, nonce)


def prove_unused(final_block_time: int, valid_before: int, used: bool) -> bool:  # noqa: FBT001 - the chain's own answer
    """Return whether an authorization is dead because it was unused at a final block past its window (P6).

    ``used`` is authorizationState *at that very block*. The contract demands block time < validBefore, so no later
    block of the canonical chain can use it. For several authorizations of one nonce pass the latest ``valid_before``.
    """
    return final_block_time >= valid_before and not used
