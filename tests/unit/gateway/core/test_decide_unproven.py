"""What the operator says of a payment that nothing proves: when it counts, what it may say, and what the books keep of it."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.commands import CloseTask, Command, Done, OpenTask, Refused, ResolveUnproven
from gateway.core.decide_unproven import ASKED
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.payment import Charge, Transfer
from gateway.core.records import Payment, Task, TransferKind
from gateway.core.task_kinds import TaskKind
from gateway.store import queries
from gateway.store.broken import BookBroken
from gateway.store.core import StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    NOW_MS,
    leaves_nothing,
    make_dead,
    make_evidence,
    make_outcome,
    make_outflow,
    make_purchase,
    make_settled,
    make_terms,
    open_core,
    post,
    seeded,
)

VALUE_BASE = 9_000_000


@pytest.fixture
def core() -> StoreCore:
    """A core with payment 1 presented and a task that asks what left for it."""
    opened = seeded(open_core())
    opened.post([make_purchase(1), asked()])
    return opened


def asked(kind: TaskKind = "settlement_mismatch", payment_id: str = "pay_0001") -> OpenTask:
    """Return the question."""
    return OpenTask(Task(f"task_{kind}", kind, payment_id, "why", NOW_MS, payment_id))


def word(charge: Charge = Charge.CAPTURED, **changes: Any) -> ResolveUnproven:
    """Return what the operator says of payment 1: all of it left, in a log of its own."""
    evidence = make_evidence(1, kind="resolved", **{"value_base": VALUE_BASE, **changes})
    return ResolveUnproven("pay_0001", charge, evidence, None, "seen", "operator", NOW_MS)


def paid(core: StoreCore) -> Payment:
    """Return payment 1."""
    found = core.book.payment("pay_0001")
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ASKED)
def test_every_question_may_be_answered(kind: TaskKind) -> None:
    """Each of the three tasks lets the word count, and is closed with it; a second word finds nothing to decide."""
    core = seeded(open_core())
    core.post([make_purchase(1), asked(kind)])
    post(core, word(Charge.REFUNDED))
    assert (paid(core).axes.transfer, paid(core).axes.charge) == (Transfer.SETTLED, Charge.REFUNDED)
    task = core.book.task(f"task_{kind}")
    assert task is not None
    assert (task.closed_at_ms, task.resolution) == (NOW_MS, "seen")
    again = leaves_nothing(core, word())
    assert isinstance(again, Refused)
    assert again.code == "not_unproven"
    verify_book(core.db)


REFUSED: dict[str, tuple[list[Command], ResolveUnproven, str]] = {
    "no such payment": ([], replace(word(), payment_id="pay_none"), "not_found"),
    "nobody asks any more": ([CloseTask("task_settlement_mismatch", "done", "me", NOW_MS)], word(), "not_unproven"),
    "proven": ([make_settled(1)], word(), "not_unproven"),
    "dead": ([make_dead(1)], word(), "not_unproven"),
    "neither captured nor refunded": ([], word(Charge.VOIDED), "bad_resolution"),
    "captured for nothing": ([], word(value_base=0), "bad_resolution"),
    "more than was promised": ([], word(value_base=VALUE_BASE + 1), "bad_resolution"),
    "less than nothing": ([], word(value_base=-1), "bad_resolution"),
    "a fee that was not promised": ([], word(fee_base=1), "bad_resolution"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_word_that_does_not_count_leaves_nothing(core: StoreCore, name: str) -> None:
    """Only while it is asked, only who bears it, and no more than was promised."""
    before, command, code = REFUSED[name]
    core.post(before)
    result = leaves_nothing(core, command)
    assert isinstance(result, Refused)
    assert result.code == code


def test_a_log_closes_one_thing(core: StoreCore) -> None:
    """P13: what proved another payment is no evidence of this one."""
    core.post([make_purchase(2), make_settled(2)])
    other = make_settled(2).evidence
    result = leaves_nothing(core, word(tx_hash=other.tx_hash, log_index=other.log_index))
    assert isinstance(result, Refused)
    assert result.code == "evidence_mismatch"


def test_a_charge_on_tempo_ends_after_its_window(core: StoreCore) -> None:
    """What was signed there may be taken until its last second, whatever bears its memo already."""
    terms = make_terms(2, kind=TransferKind.TEMPO, fee_base=10)
    core.post([make_purchase(2, terms=terms), asked("used_without_log", "pay_0002")])
    said = replace(word(value_base=5, fee_base=10), payment_id="pay_0002")
    result = leaves_nothing(core, said)
    assert isinstance(result, Refused)
    assert result.code == "not_unproven"
    post(core, replace(said, evidence=replace(said.evidence, block_time_s=terms.valid_before_s)))
    verify_book(core.db)


@pytest.mark.parametrize("change", [{"kind": "settled"}, {"chain_id": 1}])
def test_evidence_of_something_else_is_a_bug(core: StoreCore, change: dict[str, Any]) -> None:
    """Only evidence that says that it is a word ends a payment by one."""
    with pytest.raises(RuntimeError) as caught:
        core.post([replace(word(), evidence=replace(word().evidence, **change))])
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_vendor_that_delivers_afterwards_changes_no_charge(core: StoreCore) -> None:
    """The hold has ended; the delivery is recorded beside it."""
    post(core, word(Charge.REFUNDED))
    post(core, make_outcome(1))
    assert paid(core).axes.charge is Charge.REFUNDED
    verify_book(core.db)


def test_a_late_log_is_taken_within_the_group_that_ends_it(core: StoreCore) -> None:
    """Committed or not: the log that was missing is the payment's, the next one is a second collection."""
    logs = [replace(make_outflow(n), payment_id="pay_0001") for n in (5, 6)]
    results, _ = core.post([word(tx_hash=None, log_index=None), *logs, *logs])
    assert [isinstance(each, Done) and each.changed for each in results] == [True, True, True, False, False]
    kinds = [row[0] for row in core.db.execute("SELECT kind FROM evidence ORDER BY id")]
    assert kinds == ["resolved", "late", "outflow"]
    verify_book(core.db)


def test_a_late_log_beyond_what_can_be_counted_stops_nothing(core: StoreCore) -> None:
    """A worthless token may say anything: it is kept as far as the ledger counts, and a human is told all of it."""
    late = make_outflow(5)
    log = replace(late, payment_id="pay_0001", evidence=replace(late.evidence, value_base=2**255))
    results, _ = core.post([word(tx_hash=None, log_index=None), log])
    assert isinstance(results[1], Done)
    assert core.db.execute("SELECT value_base FROM evidence WHERE kind = 'late'").fetchone()[0] == MAX_AMOUNT_BASE
    (detail,) = core.db.execute("SELECT detail FROM tasks WHERE kind = 'evidence_mismatch'").fetchone()
    assert str(2**255) in detail
    verify_book(core.db)


@pytest.mark.parametrize(
    ("left_base", "told_base", "asks"), [(0, 10, True), (0, 1, True), (5, 15, False), (5, 16, True)]
)
def test_a_late_log_is_held_to_what_was_said(left_base: int, told_base: int, *, asks: bool) -> None:
    """It may tell of the network's fee beside what was said; where nothing was to have left there is no such fee."""
    core = seeded(open_core())
    terms = make_terms(2, kind=TransferKind.TEMPO, fee_base=10)
    core.post([make_purchase(2, terms=terms), asked("used_without_log", "pay_0002")])
    said = word(Charge.REFUNDED, value_base=left_base, tx_hash=None, log_index=None, block_time_s=terms.valid_before_s)
    post(core, replace(said, payment_id="pay_0002"))
    post(core, replace(make_outflow(5, value_base=told_base), payment_id="pay_0002"))
    assert [row[0] for row in core.db.execute("SELECT kind FROM evidence ORDER BY id")] == ["resolved", "late"]
    kinds = [row[0] for row in core.db.execute("SELECT kind FROM tasks WHERE closed_at_ms IS NULL")]
    assert kinds == (["evidence_mismatch"] if asks else [])
    verify_book(core.db)


@pytest.mark.parametrize("proves", [False, True])
def test_the_transaction_that_was_named_leads_to_its_payment(core: StoreCore, *, proves: bool) -> None:
    """P11: whether its log is evidence or the operator only named it; another one leads nowhere. No journal is read through."""
    evidence = make_evidence(1) if proves else make_evidence(1, tx_hash=None, log_index=None)
    said_tx = make_evidence(1).tx_hash
    assert said_tx is not None
    said = word(tx_hash=evidence.tx_hash, log_index=evidence.log_index)
    core.post([make_purchase(2), asked("used_without_log", "pay_0002")])
    post(core, replace(said, said_tx=said_tx))
    post(core, replace(word(Charge.REFUNDED, value_base=0, tx_hash=None, log_index=None), payment_id="pay_0002"))
    found = [("pay_0001", "said transaction"), ("pay_0001", "transaction")][: 1 + proves]
    for blob, rows in ((said_tx, found), (bytes(32), []), (None, [])):
        asking = {"text": "", "blob": blob, "number": 0, "limit": 9}
        assert sorted(map(tuple, core.db.execute(queries.TRACE, asking))) == rows
    plan = [str(row[3]) for row in core.db.execute(f"EXPLAIN QUERY PLAN {queries.TRACE}", asking)]
    assert any("journal USING INDEX journal_said" in step for step in plan)
    assert not any(step.startswith("SCAN journal") for step in plan)


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE evidence SET kind = 'settled' WHERE kind = 'resolved'",
        "UPDATE evidence SET value_base = 1 WHERE kind = 'late'",
        "DELETE FROM evidence WHERE kind = 'late'",
    ],
)
def test_the_proof_of_the_book_knows_a_word_from_a_proof(core: StoreCore, forgery: str) -> None:
    """Nobody turns what was said into what was proven, or a late log into another, unseen."""
    core.post([word(tx_hash=None, log_index=None), replace(make_outflow(5), payment_id="pay_0001")])
    verify_book(core.db)
    core.db.execute(forgery)
    with pytest.raises(BookBroken, match=r"pay_0001|evidence"):
        verify_book(core.db)
