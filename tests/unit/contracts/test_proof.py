"""What proves a settlement: the pair of logs of one call, and nothing less."""

import dataclasses

import pytest

from contracts import logs
from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.logs import Log, topic_address
from contracts.proof import (
    Mismatch,
    MismatchCode,
    Settled,
    own_transfer,
    prove_cancelled,
    prove_settlement,
    prove_settlement_of,
    prove_unused,
)
from contracts.tokens import BASE_USDC

PAYER, PAYEE, OTHER = Address(b"\x11" * 20), Address(b"\x22" * 20), Address(b"\x33" * 20)
N1, N2 = b"\x01" * 32, b"\x02" * 32
TERMS = Authorization(BASE_USDC, PAYER, PAYEE, 5, 0, 100, N1)


def used(index: int, nonce: bytes = N1, authorizer: Address = PAYER, token: Address = BASE_USDC.address) -> Log:
    """Return an AuthorizationUsed log at ``index``."""
    topics = (logs.AUTHORIZATION_USED, topic_address(authorizer), nonce)
    return Log(token, topics, b"", 7, b"\xaa" * 32, b"\xbb" * 32, index)


def moved(index: int, value: int = 5, to: Address = PAYEE, token: Address = BASE_USDC.address) -> Log:
    """Return a Transfer log from PAYER at ``index``."""
    topics = (logs.TRANSFER, topic_address(PAYER), topic_address(to))
    return Log(token, topics, value.to_bytes(32, "big"), 7, b"\xaa" * 32, b"\xbb" * 32, index)


def code_of(result: Settled | Mismatch) -> MismatchCode:
    """Return why nothing was proven."""
    assert isinstance(result, Mismatch)
    assert result.message
    return result.code


def test_the_pair_of_logs_proves_it() -> None:
    """AuthorizationUsed followed by its Transfer is the settlement."""
    assert prove_settlement(TERMS, used(3), [used(3), moved(4)], 1) == Settled(TERMS)


def test_only_the_tokens_very_next_log_is_its_own_transfer() -> None:
    """A stranger's log there proves nothing and stops nothing: an ERC-721 Transfer shares the first topic and has four."""
    foreign = dataclasses.replace(moved(4, token=OTHER), data=b"", topics=(*moved(4).topics, bytes(32)))
    assert own_transfer(used(3), [used(3), moved(4)]) == logs.Transfer(PAYER, PAYEE, 5)
    assert own_transfer(used(3), [used(3), foreign, moved(5)]) is None
    assert own_transfer(used(3), [used(3), dataclasses.replace(foreign, address=BASE_USDC.address)]) is None
    assert own_transfer(used(3), [used(3)]) is None


def test_equal_payments_in_one_transaction_each_have_their_own_transfer() -> None:
    """A batch of equal terms settles each nonce by another Transfer: without the second one, only the first is proven."""
    receipt, other = [used(3), moved(4), used(5, N2), moved(6)], dataclasses.replace(TERMS, nonce=N2)
    assert prove_settlement(TERMS, receipt[0], receipt, 1) == Settled(TERMS)
    assert prove_settlement(other, receipt[2], receipt, 1) == Settled(other)
    assert prove_settlement(TERMS, receipt[0], receipt[:3], 1) == Settled(TERMS)
    assert code_of(prove_settlement(other, receipt[2], receipt[:3], 1)) == MismatchCode.NO_TRANSFER


def test_two_nonces_cannot_share_one_transfer() -> None:
    """Two nonces and one matching Transfer prove one payment, not two."""
    receipt = [used(3), used(4, N2), moved(5)]
    assert code_of(prove_settlement(TERMS, receipt[0], receipt, 1)) == MismatchCode.NO_TRANSFER
    assert isinstance(prove_settlement(dataclasses.replace(TERMS, nonce=N2), receipt[1], receipt, 1), Settled)


def test_a_later_payment_of_equal_terms_is_not_borrowed() -> None:
    """Our nonce moved 4; a plain transfer of 5 in the same transaction does not make it 5."""
    receipt = [used(3), moved(4, value=4), moved(5)]
    assert code_of(prove_settlement(TERMS, receipt[0], receipt, 1)) == MismatchCode.OTHER_TERMS


def test_p4_the_terms_that_were_used_are_found() -> None:
    """P4: of several authorizations of one nonce, the one that moved the money is named."""
    raised = dataclasses.replace(TERMS, value_base=6)
    longer = dataclasses.replace(TERMS, valid_before=200)
    result = prove_settlement_of([TERMS, longer, raised], used(0), [used(0), moved(1, value=6)], 1)
    assert isinstance(result, Settled)
    assert result.authorization is raised


def test_candidates_must_share_their_nonce() -> None:
    """Mixed or no candidates are a mistake of the caller."""
    for candidates in ([TERMS, dataclasses.replace(TERMS, nonce=N2)], []):
        with pytest.raises(ValueError, match="one nonce"):
            prove_settlement_of(candidates, used(0), [used(0), moved(1)], 1)


@pytest.mark.parametrize(
    ("code", "log", "receipt", "status"),
    [
        (MismatchCode.REVERTED, used(0), [used(0), moved(1)], 0),
        (MismatchCode.LOG_NOT_IN_RECEIPT, used(0), [moved(1)], 1),
        (MismatchCode.LOG_NOT_IN_RECEIPT, used(0), [], 1),
        (MismatchCode.OTHER_TOKEN, used(0, token=OTHER), [used(0, token=OTHER), moved(1)], 1),
        (MismatchCode.NOT_USED_EVENT, moved(0), [moved(0), moved(1)], 1),
        (MismatchCode.OTHER_AUTHORIZATION, used(0, N2), [used(0, N2), moved(1)], 1),
        (MismatchCode.OTHER_AUTHORIZATION, used(0, authorizer=OTHER), [used(0, authorizer=OTHER), moved(1)], 1),
        (MismatchCode.NO_TRANSFER, used(0), [used(0)], 1),
        (MismatchCode.NO_TRANSFER, used(1), [moved(0), used(1)], 1),
        (MismatchCode.NO_TRANSFER, used(0), [used(0), moved(1, token=OTHER)], 1),
        (MismatchCode.OTHER_TERMS, used(0), [used(0), moved(1, value=4)], 1),
        (MismatchCode.OTHER_TERMS, used(0), [used(0), moved(1, to=OTHER)], 1),
        (MismatchCode.RECEIPT_INCONSISTENT, used(0), [used(0), moved(2)], 1),
        (MismatchCode.RECEIPT_INCONSISTENT, used(0), [used(0), used(0), moved(1)], 1),
        (
            MismatchCode.RECEIPT_INCONSISTENT,
            used(0),
            [used(0), dataclasses.replace(moved(1), tx_hash=b"\xcc" * 32)],
            1,
        ),
        (
            MismatchCode.RECEIPT_INCONSISTENT,
            dataclasses.replace(used(0), block_hash=b"\xcc" * 32),
            [used(0), moved(1)],
            1,
        ),
    ],
)
def test_anything_else_proves_nothing(code: MismatchCode, log: Log, receipt: list[Log], status: int) -> None:
    """Every way in which the facts fall short has its own name."""
    assert code_of(prove_settlement(TERMS, log, receipt, status)) == code


def test_malformed_events_of_the_token_prove_nothing() -> None:
    """A log of the right topic and the wrong shape is a mismatch, not a crash."""
    odd_used = dataclasses.replace(used(0), data=bytes(32))
    odd_moved = dataclasses.replace(moved(1), data=b"")
    assert code_of(prove_settlement(TERMS, odd_used, [odd_used, moved(1)], 1)) == MismatchCode.NOT_USED_EVENT
    assert code_of(prove_settlement(TERMS, used(0), [used(0), odd_moved], 1)) == MismatchCode.NO_TRANSFER


def test_cancellation_is_proven_by_its_own_log_only() -> None:
    """AuthorizationCanceled of this token, authorizer and nonce; a used nonce is not a cancelled one."""
    log = dataclasses.replace(used(0), topics=(logs.AUTHORIZATION_CANCELED, *used(0).topics[1:]))
    token = BASE_USDC.address
    assert prove_cancelled(token, PAYER, N1, log)
    assert not prove_cancelled(OTHER, PAYER, N1, log)
    assert not prove_cancelled(token, OTHER, N1, log)
    assert not prove_cancelled(token, PAYER, N2, log)
    assert not prove_cancelled(token, PAYER, N1, used(0))
    assert not prove_cancelled(token, PAYER, N1, dataclasses.replace(log, data=bytes(32)))


def test_p6_unused_is_proven_only_past_the_window() -> None:
    """P6: a final block at or after validBefore with the nonce unused, and no other case."""
    assert prove_unused(100, 100, used=False)
    assert not prove_unused(99, 100, used=False)
    assert not prove_unused(100, 100, used=True)
    assert not prove_unused(500, 100, used=True)
