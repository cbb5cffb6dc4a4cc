"""What proves that a Tempo charge was collected, what it cost in fees, and that it can never be collected.

Must not know how logs were fetched, how many witnesses agreed or which block is final: the caller brings facts that
already have their quorum and finality (P5, P6, P14). Theory: a batch succeeds or fails whole, and every TIP-20
transfer logs a Transfer; so the Transfers out of the wallet in the transaction's receipt, less the fee, must be the
charge's own, in its order, nothing missing and nothing added. The recipient is read from the log and never inferred
from the status: under TIP-1028 a transfer may succeed and end with a guard instead of the payee.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from contracts.codec import Address, ContractError
from contracts.logs import Log, Transfer, TransferWithMemo, decode_transfer, decode_transfer_with_memo
from contracts.proof import Mismatch, MismatchCode, check_receipt
from contracts.tempo import TEMPO_FEE_MANAGER, TempoTerms


@dataclass(frozen=True, slots=True)
class TempoSettled:
    """A charge of which the log at hand is the collection, by the primary transfer's TransferWithMemo.

    That log's (chain, tx_hash, log_index) identifies the evidence (P13). ``fee_base`` is the network fee that the wallet
    itself paid, in the charge's token; 0 when a sponsor paid.
    """

    terms: TempoTerms
    fee_base: int


def prove_tempo_charge(
    terms: TempoTerms, found_log: Log, receipt_logs: Sequence[Log], receipt_status: int
) -> TempoSettled | Mismatch:
    """Decide whether ``found_log``, inside its transaction's whole receipt, is the collection of exactly this charge.

    A charge that pays its own fee has a known hash: the caller compares it as well. The memo alone is no identity, as
    its challenge part is short enough for a seller to find two challenges with one memo.
    """
    problem = check_receipt(found_log, receipt_logs, receipt_status) or _check_found(terms, found_log)
    if problem is not None:
        return problem
    outflows = _outflows(terms.wallet, terms.token.address, receipt_logs)
    if outflows is None:
        return Mismatch(MismatchCode.NO_TRANSFER, "a Transfer of the token has not the event's shape")
    moved = tuple((out.recipient, out.value_base) for out in outflows if out.recipient != TEMPO_FEE_MANAGER)
    if moved != tuple((transfer.to, transfer.value_base) for transfer in terms.transfers):
        return Mismatch(MismatchCode.OTHER_TRANSFERS, "the wallet's transfers are not those of the charge")
    fee_base = sum(out.value_base for out in outflows if out.recipient == TEMPO_FEE_MANAGER)
    if fee_base > terms.max_fee_base:
        return Mismatch(MismatchCode.FEE_ABOVE_MAX, f"a fee of {fee_base}, signed were {terms.max_fee_base} base units")
    return TempoSettled(terms, fee_base)


def _check_found(terms: TempoTerms, found_log: Log) -> Mismatch | None:
    if found_log.address != terms.token.address:
        return Mismatch(MismatchCode.OTHER_TOKEN, "the log is of another contract")
    try:
        found = decode_transfer_with_memo(found_log)
    except ContractError as error:
        return Mismatch(MismatchCode.NOT_MEMO_EVENT, str(error))
    if found is None:
        return Mismatch(MismatchCode.NOT_MEMO_EVENT, "the log is not TransferWithMemo")
    if (found.sender, found.memo) != (terms.wallet, terms.memo):
        return Mismatch(MismatchCode.OTHER_CHARGE, "the log is of another wallet or memo")
    primary = terms.transfers[0]
    if found != TransferWithMemo(terms.wallet, primary.to, primary.value_base, terms.memo):
        return Mismatch(MismatchCode.OTHER_TERMS, "the memo moved another value, or to another payee")
    return None


def tempo_fee_base(wallet: Address, token: Address, receipt_logs: Iterable[Log]) -> int:
    """Return the network fee that ``wallet`` paid in ``token``, by its whole receipt, in base units.

    A transaction that failed (status 0) costs its fee all the same. Raises LogError for a Transfer of another shape.
    """
    events = (decode_transfer(log) for log in receipt_logs if log.address == token)
    return sum(
        event.value_base
        for event in events
        if event is not None and (event.sender, event.recipient) == (wallet, TEMPO_FEE_MANAGER)
    )


def _outflows(wallet: Address, token: Address, receipt_logs: Iterable[Log]) -> tuple[Transfer, ...] | None:
    try:
        events = [decode_transfer(log) for log in receipt_logs if log.address == token]
    except ContractError:
        return None
    return tuple(event for event in events if event is not None and event.sender == wallet)


def prove_tempo_unused(final_block_time: int, valid_before: int, receipt_known: bool) -> bool:  # noqa: FBT001 - the chain's own answer
    """Return whether a charge is dead because no final block up to the end of its window holds it (P6).

    ``receipt_known`` is whether anything of it is on chain *at that very block*: its receipt where the hash is known,
    a TransferWithMemo of its wallet and memo where a sponsor completes it. Tempo demands block time < validBefore. A
    receipt with status 0 is another proof of death: the expiring nonce is consumed and only the fee is gone.
    """
    return final_block_time >= valid_before and not receipt_known
