"""What is read back equals what was written, field by field."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from gateway.core import commands as c
from gateway.core.book import PriceView
from gateway.core.payment import Axes, Charge, Delivery, Fault, Transfer
from gateway.core.records import (
    Answer,
    Attempt,
    AuthorizationTerms,
    Meter,
    MeterState,
    Payment,
    TransferKind,
)
from gateway.store import columns as col
from gateway.store.core import StoreCore
from gateway.store.reader import SqliteReader
from gateway.store.sqlite import ANSWER, ATTEMPT
from gateway.store.write import UPDATE_PAYMENT
from tests.factories import (
    CHAIN_ID,
    HOUR_MS,
    NOW_MS,
    PAYEE,
    VENDOR,
    make_account,
    make_answer,
    make_attempt,
    make_budget,
    make_evidence,
    make_freeze,
    make_key,
    make_meter,
    make_order,
    make_outcome,
    make_payment,
    make_period_payment,
    make_purchase,
    make_resource,
    make_settled,
    make_task,
    make_terms,
    open_core,
    seeded,
)

PLACES = re.compile(r"(\w+) = \?")
FULL_PAYMENT = make_payment(
    idempotency_key="idem",
    terms=make_terms(
        kind=TransferKind.TEMPO, fee_base=11, splits=((b"s" * 20, 5), (b"t" * 20, 7)), tx_hash=b"\x06" * 32
    ),
    resource_ref="srv_0001",
    renews=True,
    axes=Axes(Delivery.DELIVERED, Transfer.SETTLED, Charge.CAPTURED),
    fault=Fault.AGENT,
    vendor_status=202,
    settled_base=3,
    captured_base=4,
    hold_transfer_id=5,
    exposure_transfer_id=6,
    answered=True,
    disputed=True,
    closed_at_ms=7,
)
PERIOD_COLUMNS = ("meter_id", "period", "starts_at_ms", "ends_at_ms")
PERIOD = make_period_payment(3, make_meter(3), NOW_MS, NOW_MS + HOUR_MS)
FULL_METER = Meter(
    id="met_0009",
    vendor="litevps",
    account_id="acc_9",
    key_id="key_9",
    kind="snapshot",
    token="gw-9",
    label="mine",
    hourly="0.0053",
    monthly="3.92",
    unit_s=61,
    rule="monthly",
    while_running=True,
    created_at_ms=11,
    state=MeterState.ENDED,
    ref="srv_9",
    running_since_ms=12,
    accrued="53/600000",
    accrued_until_ms=13,
    billed_base=15,
    lost_base=14,
    seq=16,
    held_until_ms=17,
    billed_until_ms=18,
    warned_at_ms=19,
    unfunded_at_ms=20,
    reason="unfunded",
    ended_at_ms=21,
)


def names(columns: str) -> list[str]:
    """Return the column names of a list."""
    return columns.split(", ")


@pytest.mark.parametrize(
    "payment",
    [
        make_payment(),
        FULL_PAYMENT,
        replace(FULL_PAYMENT, renews=False),
        replace(FULL_PAYMENT, answered=False),
        replace(FULL_PAYMENT, disputed=False),
        make_payment(terms=make_terms(kind=TransferKind.TEMPO, fee_base=7, tx_hash=b"\x05" * 32)),
        PERIOD,
        replace(PERIOD, axes=Axes(Delivery.DELIVERED, Transfer.SETTLED, Charge.CAPTURED), closed_at_ms=5),
    ],
)
def test_a_payment_comes_back_whole(payment: Payment) -> None:
    """Every field of payment and terms survives, booleans as booleans, enums as enums."""
    assert col.payment_from(col.payment_row(payment)) == payment
    assert len(col.payment_row(payment)) == len(names(col.PAYMENT_COLUMNS))


def test_every_field_has_a_column_of_its_own() -> None:
    """A record that differs in any one field makes another row, in the column that bears its name."""
    row = dict(zip(names(col.PAYMENT_COLUMNS), col.payment_row(FULL_PAYMENT), strict=True))
    nested = {"terms", "axes"}
    holders: list[Any] = [FULL_PAYMENT, FULL_PAYMENT.terms, FULL_PAYMENT.axes]
    seen = {f.name: getattr(holder, f.name) for holder in holders for f in fields(holder) if f.name not in nested}
    seen["splits"] = f'[["{b"s".hex() * 20}", 5], ["{b"t".hex() * 20}", 7]]'
    assert row == seen | dict.fromkeys(PERIOD_COLUMNS)


def test_every_field_of_a_period_has_a_column_of_its_own() -> None:
    """A billing period's row has what its terms say, and nothing of an authorization; its vendor is the payment's."""
    row = dict(zip(names(col.PAYMENT_COLUMNS), col.payment_row(PERIOD), strict=True))
    terms = PERIOD.period
    assert terms is not None
    assert (row["kind"], row["asset"], row["value_base"]) == ("account", terms.asset, terms.value_base)
    assert (row["meter_id"], row["period"]) == (terms.meter_id, terms.seq)
    assert (row["starts_at_ms"], row["ends_at_ms"]) == (terms.starts_at_ms, terms.ends_at_ms)
    alone = {f.name for f in fields(AuthorizationTerms)} - {"asset", "value_base", "kind"}
    assert {row[name] for name in alone} == {None}


def test_every_field_of_a_meter_has_a_column_of_its_own() -> None:
    """Each to the column that bears its name."""
    row = dict(zip(names(col.METER_COLUMNS), col.meter_row(FULL_METER), strict=True))
    assert row == {f.name: getattr(FULL_METER, f.name) for f in fields(FULL_METER)}
    assert len(set(row.values())) > len(row) - 3  # nearly all are apart, so that no two columns can be confused


def test_a_change_of_a_meter_writes_every_field(core_with_order: StoreCore) -> None:
    """The row that is there takes all of the newer record but its id."""
    core = core_with_order
    later = replace(FULL_METER, id="met_0001", account_id="acc_1", key_id="key_1", token="other")
    core.book.put_meter(later)
    core.post([])
    row = core.db.execute(f"SELECT {col.METER_COLUMNS} FROM meters").fetchall()
    assert [col.meter_from(r) for r in row] == [later]


@pytest.fixture
def core_with_order() -> StoreCore:
    """A core with one ordered thing."""
    core = seeded(open_core())
    core.post([make_order()])
    return core


def test_what_may_change_is_written_and_what_may_not_is_not() -> None:
    """An update carries every field that a decision changes after the purchase, each to its own column, by the id."""
    moving = {
        *("resource_ref", "delivery_deadline_ms", "delivery", "transfer", "charge", "fault", "vendor_status"),
        *("settled_base", "captured_base", "answered", "disputed", "closed_at_ms"),
    }
    row = dict(zip(names(col.PAYMENT_COLUMNS), col.payment_row(FULL_PAYMENT), strict=True))
    written = dict(zip(PLACES.findall(UPDATE_PAYMENT), col.payment_change(FULL_PAYMENT), strict=True))
    assert UPDATE_PAYMENT.endswith(" WHERE id = ?")
    assert written == {name: row[name] for name in (*moving, "id")}


def test_records_come_back_whole() -> None:
    """Resources, tasks and keys survive, full and empty."""
    bare = make_resource(surrogate_digest=None, sealed_secret=None, expires_at_ms=None)
    for resource in (make_resource(), bare, make_resource(open_renewal="p", label="mine", meter_id="met_1")):
        assert col.resource_from(col.resource_row(resource)) == resource
    for meter in (make_meter(), FULL_METER):
        assert col.meter_from(col.meter_row(meter)) == meter
    for task in (make_task(), make_task(payment_id="pay_1", closed_at_ms=5, resolution="done")):
        assert col.task_from(col.task_row(task)) == task
    for key in (make_key(), make_key(scopes=(), budgets=(make_budget(vendor="v", route="r"),), revoked_at_ms=3)):
        assert col.key_from(col.key_row(key)) == key


def test_each_record_survives_the_database() -> None:
    """What commands wrote is what the reader and the loader find."""
    core = seeded(open_core(), key=make_key(budgets=(make_budget(),)))
    text = 'ü"\\\n\U0001f600'
    core.post(
        [
            make_purchase(1, idempotency_key=text, path=text, terms=make_terms(fee_base=3)),
            make_outcome(1, answer=make_answer(), resource=make_resource(), note=text),
            make_settled(1, fee_base=3),
            c.OpenTask(make_task(detail=text)),
            c.SetFreeze("all", frozen=True, reason="drill", by="operator", at_ms=NOW_MS),
            c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "me", NOW_MS),
            c.ObservePrice(VENDOR, "item", 5, NOW_MS),
            c.MoveCursor(CHAIN_ID, 9, b"\x09" * 32, 1_000),
            c.OpenAccount(make_account(2, name=text)),
            c.Remember("acc_1", "free", b"\x01" * 32, make_answer(payment_id="")),
        ]
    )
    again = SqliteReader(core.db)
    paid = again.payment("pay_0001")
    assert paid is not None
    assert (paid.path, paid.idempotency_key, paid.terms) == (text, text, make_terms(fee_base=3))
    assert paid.axes == Axes(Delivery.DELIVERED, Transfer.SETTLED, Charge.CAPTURED)
    assert again.resource(VENDOR, "srv_0001") == make_resource()
    assert again.task("task_1") == again.open_task("payee", "subject 1") == make_task(detail=text)
    assert Attempt(*core.db.execute(ATTEMPT, ("pay_0001",)).fetchone()) == make_attempt()
    assert Answer(*core.db.execute(ANSWER, ("pay_0001",)).fetchone()) == make_answer()
    evidence = core.db.execute(
        "SELECT kind, chain_id, block_number, block_hash, block_time_s, tx_hash, log_index, payment_id, value_base, "
        "fee_base FROM evidence"
    ).fetchone()
    e = make_evidence()
    assert evidence == (
        *(e.kind, e.chain_id, e.block_number, e.block_hash, e.block_time_s),
        *(e.tx_hash, e.log_index, e.payment_id, e.value_base, 3),
    )
    book = core.book
    assert book.freezes["all"] == make_freeze()
    assert book.prices[VENDOR, "item"] == PriceView(5, NOW_MS, None)
    assert core.db.execute("SELECT status, sealed FROM claims WHERE idempotency_key = 'free'").fetchone() == (
        make_answer().status,
        make_answer().sealed,
    )
    claims = [again.claim("acc_1", text), again.claim("acc_1", "free"), again.claim("acc_2", "free")]
    assert [claim and claim.payment_id for claim in claims] == ["pay_0001", None, None]


def test_the_reader_answers_from_what_is_committed() -> None:
    """Each question of the book has its answer in the rows."""
    core = seeded(open_core())
    reader = SqliteReader(core.db)
    log = make_evidence(1)
    assert log.tx_hash is not None
    assert not reader.has_answer("pay_0001")
    assert not reader.has_evidence(CHAIN_ID, log.tx_hash, 1)
    core.post([make_purchase(1), make_outcome(1, answer=make_answer()), make_settled(1)])
    assert reader.has_answer("pay_0001")
    assert reader.has_evidence(CHAIN_ID, log.tx_hash, 1)
    assert not reader.has_evidence(CHAIN_ID, log.tx_hash, 2)
    assert reader.credit("credit 1") is not None
    assert reader.credit("credit 2") is None
    assert (reader.payment("none"), reader.resource("none", "none"), reader.task("none")) == (None, None, None)
    assert (reader.claim("acc_1", "none"), reader.open_task("none", "none")) == (None, None)
