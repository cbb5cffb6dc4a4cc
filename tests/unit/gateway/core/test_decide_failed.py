"""A transaction that failed: the payment is dead, its fee is the house's, and one transaction ends one payment."""

import sqlite3
from dataclasses import replace
from hashlib import sha256

import pytest

from gateway.core import chart
from gateway.core.commands import Done, RecordDead, Refused
from gateway.core.payment import Charge, Transfer
from gateway.core.records import Payment, TransferKind
from gateway.store.core import StoreBroken, StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    ASSET,
    NOW_MS,
    leaves_nothing,
    make_dead,
    make_evidence,
    make_purchase,
    make_terms,
    open_core,
    post,
    seeded,
)

FEE = 1_250


def promised(n: int) -> StoreCore:
    """Return a funded store with so many presented Tempo charges."""
    core = seeded(open_core())
    for each in range(1, n + 1):
        terms = make_terms(each, kind=TransferKind.TEMPO, fee_base=40_000, tx_hash=sha256(b"tx %d" % each).digest())
        assert isinstance(post(core, make_purchase(each, terms=terms)), Done)
    return core


def failed(n: int = 1, *, tx: int = 1, fee_base: int = FEE) -> RecordDead:
    """Return proof that payment n's transaction failed."""
    evidence = make_evidence(tx, kind="failed", payment_id=f"pay_{n:04}", fee_base=fee_base)
    return RecordDead(f"pay_{n:04}", evidence, NOW_MS + n)


def test_p7_a_failed_transaction_gives_the_hold_back_and_costs_the_house_its_fee() -> None:
    """P7: evidence without a log, the exposure free, the wallet less by the fee, the agent by nothing."""
    core = promised(1)
    result = post(core, failed())
    assert isinstance(result, Done)
    assert isinstance(result.payment, Payment)
    assert (result.payment.axes.transfer, result.payment.axes.charge) == (Transfer.DEAD, Charge.VOIDED)
    fees = core.book.ledger.find(chart.HOUSE_FEES, ASSET)
    wallet = core.book.ledger.find(result.payment.terms.source, ASSET)
    assert fees is not None
    assert wallet is not None
    assert (fees.posted_base, wallet.posted_base, wallet.available_base) == (FEE, 10**9 - FEE, 10**9 - FEE)
    row = core.db.execute("SELECT kind, tx_hash, log_index, fee_base FROM evidence").fetchone()
    assert tuple(row) == ("failed", sha256(b"tx 1").digest(), None, FEE)
    verify_book(core.db)
    assert isinstance(leaves_nothing(core, failed()), Done)


@pytest.mark.parametrize("together", [True, False])
def test_p13_one_failed_transaction_ends_one_payment(together: bool) -> None:  # noqa: FBT001 - a case
    """P13: the same transaction cannot be the end of another, in the same commit or a later one."""
    core = promised(2)
    if together:
        first, second = core.post([failed(1), failed(2, tx=1)])[0]
    else:
        first, second = post(core, failed(1)), leaves_nothing(core, failed(2, tx=1))
    assert isinstance(first, Done)
    assert isinstance(second, Refused)
    assert second.code == "evidence_mismatch"
    assert isinstance(post(core, failed(2, tx=2)), Done)


def test_a_fee_above_what_was_promised_proves_nothing() -> None:
    """The exposure covers the highest fee that was signed, and no other."""
    core = promised(1)
    assert isinstance(leaves_nothing(core, failed(fee_base=40_001)), Refused)


@pytest.mark.parametrize(
    "change", [{"tx_hash": None}, {"log_index": 4}, {"kind": "unused"}, {"kind": "canceled"}, {"kind": "outflow"}]
)
def test_the_store_takes_no_half_evidence(change: dict[str, object]) -> None:
    """A failed transaction has a hash and no log; every other evidence has both or neither."""
    core = promised(1)
    evidence = replace(failed().evidence, **change)  # type: ignore[arg-type]
    with pytest.raises(StoreBroken) as caught:
        post(core, replace(make_dead(1), evidence=evidence))
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
