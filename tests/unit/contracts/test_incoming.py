"""What a Transfer says of itself inside its receipt: the nonce directly before it, the memo directly after it."""

from dataclasses import replace

import pytest

from contracts.codec import Address
from contracts.incoming import Moved, read_transfer
from contracts.logs import AUTHORIZATION_USED, TRANSFER, TRANSFER_WITH_MEMO, Log, topic_address
from contracts.proof import Mismatch, MismatchCode

TOKEN, OTHER, PAYER, TILL, STRANGER = (Address(bytes((n,)) * 20) for n in (1, 2, 3, 4, 5))
NONCE, MEMO = b"\x0a" * 32, b"\x0b" * 32


def log(index: int, *topics: bytes, data: bytes = b"", address: Address = TOKEN) -> Log:
    """Return a log of one transaction."""
    return Log(address, topics, data, 7, b"\x07" * 32, b"\x08" * 32, index)


def transfer(index: int, value: int = 5, sender: Address = PAYER) -> Log:
    """Return a Transfer to the till."""
    return log(index, TRANSFER, topic_address(sender), topic_address(TILL), data=value.to_bytes(32, "big"))


def used(index: int, authorizer: Address = PAYER, address: Address = TOKEN) -> Log:
    """Return an AuthorizationUsed."""
    return log(index, AUTHORIZATION_USED, topic_address(authorizer), NONCE, address=address)


def noted(index: int, value: int = 5, sender: Address = PAYER) -> Log:
    """Return a TransferWithMemo to the till."""
    topics = (TRANSFER_WITH_MEMO, topic_address(sender), topic_address(TILL), MEMO)
    return log(index, *topics, data=value.to_bytes(32, "big"))


def read(found: Log, *logs: Log, status: int = 1) -> Moved | Mismatch | None:
    """Read a log among others."""
    return read_transfer(found, logs, status)


def test_a_signed_transfer_has_its_own_nonce() -> None:
    """In a batch each has the one directly before it."""
    logs = used(3), transfer(4), transfer(5, 6)
    assert read(logs[1], *logs) == Moved(logs[1], PAYER, TILL, 5, NONCE, None)
    assert read(logs[2], *logs) == Moved(logs[2], PAYER, TILL, 6, None, None)


def test_a_memo_is_the_one_directly_after_it() -> None:
    """Of the same sender, payee and value."""
    logs = transfer(0), noted(1)
    assert read(logs[0], *logs) == Moved(logs[0], PAYER, TILL, 5, None, MEMO)


@pytest.mark.parametrize(
    "beside",
    [
        (used(3, STRANGER), transfer(4)),
        (used(3, address=OTHER), transfer(4)),
        (used(2), log(3, b"\x01" * 32), transfer(4)),
        (log(3, AUTHORIZATION_USED, topic_address(PAYER)), transfer(4)),
        (transfer(4), noted(5, 6)),
        (transfer(4), noted(5, sender=STRANGER)),
        (transfer(4), log(5, b"\x01" * 32), noted(6)),
        (transfer(4), log(5, TRANSFER_WITH_MEMO)),
        (transfer(4), replace(noted(5), address=OTHER)),
    ],
)
def test_what_stands_elsewhere_or_is_anothers_says_nothing(beside: tuple[Log, ...]) -> None:
    """Somebody else's nonce or memo, another contract's, not adjacent, or of another shape."""
    found = next(each for each in beside if each.topics[:1] == (TRANSFER,))
    assert read(found, *beside) == Moved(found, PAYER, TILL, 5, None, None)


def test_a_transfer_of_nothing_is_none() -> None:
    """Anybody can make one."""
    assert read(transfer(0, 0), transfer(0, 0)) is None


@pytest.mark.parametrize(
    ("code", "found", "logs", "status"),
    [
        (MismatchCode.REVERTED, transfer(0), (transfer(0),), 0),
        (MismatchCode.LOG_NOT_IN_RECEIPT, transfer(0), (transfer(1),), 1),
        (MismatchCode.RECEIPT_INCONSISTENT, transfer(0), (transfer(0), transfer(2)), 1),
        (MismatchCode.NO_TRANSFER, used(0), (used(0),), 1),
        (MismatchCode.NO_TRANSFER, log(0, TRANSFER), (log(0, TRANSFER),), 1),
    ],
)
def test_a_receipt_that_does_not_fit_proves_nothing(
    code: MismatchCode, found: Log, logs: tuple[Log, ...], status: int
) -> None:
    """Unknown, never nothing."""
    result = read(found, *logs, status=status)
    assert isinstance(result, Mismatch)
    assert result.code == code
