"""What proves a Tempo charge: its own transfers out of the wallet, all of them and no others."""

import dataclasses
from collections.abc import Sequence

import pytest

from contracts import logs
from contracts.codec import Address
from contracts.logs import Log, LogError, topic_address
from contracts.proof import Mismatch, MismatchCode
from contracts.tempo import TEMPO_FEE_MANAGER, TempoTerms, TempoTransfer
from contracts.tempo_proof import TempoSettled, prove_tempo_charge, prove_tempo_unused, tempo_fee_base
from contracts.tokens import MODERATO_PATHUSD

TOKEN = MODERATO_PATHUSD.address
WALLET, PAYEE, SPLIT, OTHER = (Address(bytes((number,)) * 20) for number in (1, 2, 3, 4))
MEMO = b"\xef" * 32
TERMS = TempoTerms(
    MODERATO_PATHUSD, WALLET, (TempoTransfer(PAYEE, 90, MEMO), TempoTransfer(SPLIT, 10)), max_fee_base=40
)


def moved(to: Address, value: int, *, sender: Address = WALLET, token: Address = TOKEN) -> Log:
    """Return a Transfer log."""
    topics = (logs.TRANSFER, topic_address(sender), topic_address(to))
    return Log(token, topics, value.to_bytes(32, "big"), 7, b"\xaa" * 32, b"\xbb" * 32, 0)


def noted(to: Address, value: int, *, memo: bytes = MEMO, sender: Address = WALLET, token: Address = TOKEN) -> Log:
    """Return a TransferWithMemo log."""
    topics = (logs.TRANSFER_WITH_MEMO, topic_address(sender), topic_address(to), memo)
    return Log(token, topics, value.to_bytes(32, "big"), 7, b"\xaa" * 32, b"\xbb" * 32, 0)


def receipt_of(*entries: Log, start: int = 3) -> list[Log]:
    """Number the logs as a receipt does."""
    return [dataclasses.replace(log, log_index=start + at) for at, log in enumerate(entries)]


def paid(*, primary: Log | None = None, found: Log | None = None, fee: int = 12, more: Sequence[Log] = ()) -> list[Log]:
    """Return the receipt of the charge, with a log replaced or added before the fee."""
    entries = (primary or moved(PAYEE, 90), found or noted(PAYEE, 90), moved(SPLIT, 10), *more)
    return receipt_of(*entries, *([moved(TEMPO_FEE_MANAGER, fee)] if fee else []))


def code_of(result: TempoSettled | Mismatch) -> MismatchCode:
    """Return why nothing was proven."""
    assert isinstance(result, Mismatch), result
    assert result.message
    return result.code


def test_the_charges_own_receipt_proves_it() -> None:
    """Payee, splits and fee are read from the logs."""
    receipt = paid()
    assert prove_tempo_charge(TERMS, receipt[1], receipt, 1) == TempoSettled(TERMS, fee_base=12)


def test_others_money_in_the_receipt_is_not_ours() -> None:
    """A sponsor's fee, the payee's own transfers and other tokens' logs count for nothing."""
    sponsored = dataclasses.replace(TERMS, max_fee_base=0)
    more = [moved(TEMPO_FEE_MANAGER, 99, sender=OTHER), moved(OTHER, 5, sender=PAYEE), moved(OTHER, 5, token=OTHER)]
    receipt = paid(fee=0, more=more)
    result = prove_tempo_charge(sponsored, receipt[1], receipt, 1)
    assert isinstance(result, TempoSettled)
    assert result.fee_base == 0


def test_the_highest_fee_is_still_allowed() -> None:
    """A fee up to what was signed is the network's; more, or any where a sponsor should pay, is not."""
    receipt = paid(fee=40)
    assert isinstance(prove_tempo_charge(TERMS, receipt[1], receipt, 1), TempoSettled)
    receipt = paid(fee=41)
    assert code_of(prove_tempo_charge(TERMS, receipt[1], receipt, 1)) == MismatchCode.FEE_ABOVE_MAX
    receipt = paid(fee=1)
    sponsored = dataclasses.replace(TERMS, max_fee_base=0)
    assert code_of(prove_tempo_charge(sponsored, receipt[1], receipt, 1)) == MismatchCode.FEE_ABOVE_MAX


@pytest.mark.parametrize(
    ("code", "receipt", "found_at", "status"),
    [
        (MismatchCode.REVERTED, paid(), 1, 0),
        (MismatchCode.OTHER_TOKEN, paid(found=noted(PAYEE, 90, token=OTHER)), 1, 1),
        (MismatchCode.NOT_MEMO_EVENT, paid(), 0, 1),
        (MismatchCode.NOT_MEMO_EVENT, paid(found=dataclasses.replace(noted(PAYEE, 90), data=b"")), 1, 1),
        (MismatchCode.OTHER_CHARGE, paid(found=noted(PAYEE, 90, memo=bytes(32))), 1, 1),
        (MismatchCode.OTHER_CHARGE, paid(found=noted(PAYEE, 90, sender=OTHER)), 1, 1),
        # TIP-1028: the transfer succeeded, the money lies with a guard.
        (MismatchCode.OTHER_TERMS, paid(primary=moved(OTHER, 90), found=noted(OTHER, 90)), 1, 1),
        (MismatchCode.OTHER_TERMS, paid(primary=moved(PAYEE, 89), found=noted(PAYEE, 89)), 1, 1),
        (MismatchCode.OTHER_TERMS, paid(primary=moved(PAYEE, 91), found=noted(PAYEE, 91)), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, paid(primary=moved(OTHER, 90)), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, paid(primary=moved(PAYEE, 89)), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, paid(more=[moved(OTHER, 1)]), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, paid(more=[moved(SPLIT, 10)]), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, receipt_of(moved(PAYEE, 90), noted(PAYEE, 90)), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, receipt_of(moved(PAYEE, 90), noted(PAYEE, 90), moved(SPLIT, 9)), 1, 1),
        (MismatchCode.OTHER_TRANSFERS, receipt_of(moved(PAYEE, 90), noted(PAYEE, 90), moved(OTHER, 10)), 1, 1),
        (
            MismatchCode.OTHER_TRANSFERS,
            receipt_of(moved(PAYEE, 90), noted(PAYEE, 90), moved(SPLIT, 10, token=OTHER)),
            1,
            1,
        ),
        (MismatchCode.OTHER_TRANSFERS, receipt_of(noted(PAYEE, 90), moved(SPLIT, 10)), 0, 1),
        (MismatchCode.NO_TRANSFER, paid(primary=dataclasses.replace(moved(PAYEE, 90), data=b"")), 1, 1),
    ],
)
def test_anything_else_proves_nothing(code: MismatchCode, receipt: list[Log], found_at: int, status: int) -> None:
    """Every way in which the facts fall short has its own name."""
    assert code_of(prove_tempo_charge(TERMS, receipt[found_at], receipt, status)) == code


def test_a_receipt_that_is_not_whole_proves_nothing() -> None:
    """Logs that are missing, repeated, of another transaction, or not with the found one."""
    receipt = paid()
    elsewhere = dataclasses.replace(receipt[2], tx_hash=b"\xcc" * 32)
    for logs_, code in (
        ([*receipt[:2], *receipt[3:]], MismatchCode.RECEIPT_INCONSISTENT),
        ([*receipt[:2], elsewhere, receipt[3]], MismatchCode.RECEIPT_INCONSISTENT),
        (receipt[2:], MismatchCode.LOG_NOT_IN_RECEIPT),
        ([], MismatchCode.LOG_NOT_IN_RECEIPT),
    ):
        assert code_of(prove_tempo_charge(TERMS, receipt[1], logs_, 1)) == code


def test_p7_the_fee_of_a_failed_transaction_is_read_from_its_receipt() -> None:
    """P7: only this wallet's Transfers of this token to the fee manager; none is zero, a misshapen one an error."""
    fee = moved(TEMPO_FEE_MANAGER, 181)
    others = [moved(TEMPO_FEE_MANAGER, 7, sender=OTHER), moved(TEMPO_FEE_MANAGER, 7, token=OTHER), moved(PAYEE, 7)]
    assert tempo_fee_base(WALLET, TOKEN, receipt_of(*others, fee, noted(PAYEE, 7))) == 181
    assert tempo_fee_base(WALLET, TOKEN, []) == 0
    with pytest.raises(LogError):
        tempo_fee_base(WALLET, TOKEN, [dataclasses.replace(fee, data=b"")])


def test_p6_unused_is_proven_only_past_the_window() -> None:
    """P6: a final block at or after validBefore, with nothing of the charge on chain, and no other case."""
    assert prove_tempo_unused(100, 100, receipt_known=False)
    assert not prove_tempo_unused(99, 100, receipt_known=False)
    assert not prove_tempo_unused(100, 100, receipt_known=True)
