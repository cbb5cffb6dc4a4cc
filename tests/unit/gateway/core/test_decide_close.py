"""How a hold ends: outcomes, evidence, deadlines, disputes."""

import json
from dataclasses import replace
from itertools import product

import pytest

from gateway.core import chart
from gateway.core.book import DAY_MS, BookRules
from gateway.core.commands import (
    AddKey,
    Attached,
    Command,
    Done,
    OpenAccount,
    PassDeadline,
    RecordOutcome,
    Refused,
    ResolveDispute,
    Result,
    SetFreeze,
)
from gateway.core.decide import apply
from gateway.core.ledger import imbalance
from gateway.core.money import USD
from gateway.core.payment import DELIVERY_MOVES, TABLE, Action, Axes, Charge, Delivery, Fault, Transfer
from gateway.core.records import Payment
from gateway.store.core import StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    ASSET,
    HOUR_MS,
    NOW_MS,
    VENDOR,
    WALLET,
    leaves_nothing,
    ledger_account,
    make_account,
    make_answer,
    make_credit,
    make_dead,
    make_key,
    make_outcome,
    make_outflow,
    make_purchase,
    make_resource,
    make_settled,
    make_terms,
    open_core,
    post,
    seeded,
)

CAP_BASE = 20_000_000
RULES = BookRules(dispute_cap_base={VENDOR: CAP_BASE})
LATE_MS = make_settled(1).at_ms + HOUR_MS  # the deadline of what make_settled collects: an hour from then
WALLET_HEX = "0x" + WALLET.hex()
FREEZE = f"vendor:{VENDOR}"


@pytest.fixture
def core() -> StoreCore:
    """A core with funds, a dispute cap of USD 20 a day, and payment 1 held and presented."""
    opened = seeded(open_core(rules=RULES))
    opened.post([make_purchase(1)])
    return opened


@pytest.fixture
def strict() -> StoreCore:
    """The same without a dispute cap."""
    opened = seeded(open_core())
    opened.post([make_purchase(1)])
    return opened


def paid(core: StoreCore, n: int = 1) -> Payment:
    """Return payment n as it stands."""
    found = core.book.payment(f"pay_{n:04}")
    assert found is not None
    return found


def figures(core: StoreCore) -> dict[str, int]:
    """Return available balances by what a reader calls them; the agent's held money beside them."""
    book = core.book
    agent = ledger_account(book.ledger, chart.agent("acc_1"), USD)
    wallet = ledger_account(book.ledger, chart.wallet(WALLET_HEX), ASSET)
    loss = book.ledger.find(chart.HOUSE_LOSS, USD)
    return {
        "available": agent.available_base,
        "held": agent.reserved_base,
        "wallet": wallet.posted_base,
        "exposed": wallet.reserved_base,
        "loss": 0 if loss is None else loss.posted_base,
    }


HELD = {"available": 91_000_000, "held": 9_000_000, "wallet": 1_000_000_000, "exposed": 9_000_000, "loss": 0}
CAPTURED = {"available": 91_000_000, "held": 0, "wallet": 991_000_000, "exposed": 0, "loss": 0}
VOIDED = {"available": 100_000_000, "held": 0, "wallet": 1_000_000_000, "exposed": 0, "loss": 0}
REFUNDED = {"available": 100_000_000, "held": 0, "wallet": 991_000_000, "exposed": 0, "loss": 9_000_000}
WAITING = {"available": 91_000_000, "held": 9_000_000, "wallet": 991_000_000, "exposed": 0, "loss": 0}

SETTLED, DEAD = make_settled(1), make_dead(1)
OK = make_outcome(1)
FAILED = make_outcome(1, Delivery.REFUSED, fault=Fault.VENDOR, vendor_status=500)
BAD_INPUT = make_outcome(1, Delivery.REFUSED, fault=Fault.AGENT, vendor_status=422)
LOST = make_outcome(1, Delivery.UNKNOWN, vendor_status=None)

PATHS: dict[str, tuple[list[Command], dict[str, int]]] = {
    "nothing yet": ([], HELD),
    "delivered, not collected yet": ([OK], HELD),
    "refused, may still be collected": ([FAILED], HELD),
    "unknown, may still be collected": ([LOST], HELD),
    "delivered, collected": ([OK, SETTLED], CAPTURED),
    "collected, then delivered": ([SETTLED, OK], CAPTURED),
    "unknown, then found, collected": ([LOST, OK, SETTLED], CAPTURED),
    "unknown, collected, then found": ([LOST, SETTLED, OK], CAPTURED),
    "refused, delivered all the same, collected": ([FAILED, OK, SETTLED], CAPTURED),
    "dead": ([DEAD], VOIDED),
    "delivered, never collected": ([OK, DEAD], VOIDED),
    "refused, dead": ([FAILED, DEAD], VOIDED),
    "unknown, dead": ([LOST, DEAD], VOIDED),
    "dead, then delivered": ([DEAD, OK], VOIDED),
    "collected, not delivered yet": ([SETTLED], WAITING),
    "collected, unknown": ([LOST, SETTLED], WAITING),
    "refused by the vendor's fault, collected": ([FAILED, SETTLED], REFUNDED),
    "collected, then refused by the vendor's fault": ([SETTLED, FAILED], REFUNDED),
    "the agent's own mistake, collected": ([BAD_INPUT, SETTLED], CAPTURED),
    "refused for no known reason, collected": ([replace(FAILED, fault=Fault.NONE), SETTLED], WAITING),
    "collected, deadline passed": ([SETTLED, PassDeadline("pay_0001", LATE_MS)], REFUNDED),
    "unknown, collected, deadline passed": ([LOST, SETTLED, PassDeadline("pay_0001", LATE_MS)], REFUNDED),
    "collected, deadline not passed": ([SETTLED, PassDeadline("pay_0001", LATE_MS - 1)], WAITING),
    "deadline passed, not collected": ([PassDeadline("pay_0001", LATE_MS)], HELD),
    "collected late, the first deadline passed": (
        [replace(SETTLED, at_ms=NOW_MS + DAY_MS), PassDeadline("pay_0001", LATE_MS)],
        WAITING,
    ),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("grouped", [True, False], ids=["one group", "one by one"])
def test_path(core: StoreCore, name: str, *, grouped: bool) -> None:
    """Whatever the order and the grouping, the money ends where the table says, and every command again changes nothing."""
    commands, expected = PATHS[name]
    if grouped:
        core.post(commands)
    else:
        for command in commands:
            core.post([command])
    assert figures(core) == expected
    assert imbalance(core.book.ledger.accounts()) == {}
    verify_book(core.db)
    for command in commands:
        result = leaves_nothing(core, command)
        assert isinstance(result, Refused) or result == Done(paid(core), changed=False)


@pytest.mark.parametrize(
    "axes",
    [Axes(d, t) for d, t in product(Delivery, Transfer) if t in {Transfer.NONE, Transfer.PREPARED}],
    ids=str,
)
def test_before_presentation_the_table_holds_too(axes: Axes) -> None:
    """A refusal before anything left gives hold and exposure back; anything else keeps them."""
    core = seeded(open_core(rules=RULES))
    core.post([make_purchase(1)])
    core.book.put_payment(replace(paid(core), axes=replace(axes, delivery=Delivery.NONE)))
    apply(core.book, make_outcome(1, axes.delivery, fault=Fault.VENDOR))
    voided = TABLE[axes.delivery, axes.transfer] is Action.VOID
    assert figures(core) == (VOIDED if voided else HELD)
    assert paid(core).axes.charge is (Charge.VOIDED if voided else Charge.HELD)


@pytest.mark.parametrize(("first", "second"), list(product(Delivery, Delivery)), ids=str)
def test_a_worse_word_changes_nothing(core: StoreCore, first: Delivery, second: Delivery) -> None:
    """An outcome that is no arrow from where delivery stands leaves no trace; one that is moves it."""
    post(core, make_outcome(1, first))
    start = paid(core).axes.delivery
    if second in DELIVERY_MOVES[start]:
        post(core, make_outcome(1, second))
        assert paid(core).axes.delivery is second
    else:
        result = leaves_nothing(core, make_outcome(1, second))
        assert result == Done(paid(core), changed=False)


def test_the_first_answer_to_a_delivery_stays(core: StoreCore) -> None:
    """A second answer may lack the password that the first one had; a better delivery brings its own answer."""

    def kept() -> list[tuple[bytes]]:
        return core.db.execute("SELECT sealed FROM answers").fetchall()

    post(core, replace(LOST, answer=make_answer(sealed=b"timed out")))
    leaves_nothing(core, replace(LOST, answer=make_answer(sealed=b"timed out again")))
    assert kept() == [(b"timed out",)]
    core.post([replace(OK, answer=make_answer(sealed=b"password")), replace(OK, answer=make_answer(sealed=b"none"))])
    leaves_nothing(core, replace(OK, answer=make_answer(sealed=b"no password")))
    leaves_nothing(core, replace(LOST, answer=make_answer(sealed=b"worse")))
    assert kept() == [(b"password",)]


def test_an_answer_may_follow_a_delivery_that_was_found_without_one(core: StoreCore) -> None:
    """A rental that was found in a list gets its answer when the vendor gives it."""
    post(core, OK)
    result = post(core, replace(OK, answer=make_answer()))
    assert isinstance(result, Done)
    assert result.changed
    assert core.db.execute("SELECT COUNT(*) FROM answers").fetchone()[0] == 1


def test_a_resource_belongs_to_the_payment_that_brought_it(core: StoreCore) -> None:
    """What a delivery created is kept with its owner and named by the payment, in the journal as well."""
    post(core, replace(OK, resource=make_resource(1)))
    assert core.book.resource(VENDOR, "srv_0001") == make_resource(1)
    assert paid(core).resource_ref == "srv_0001"
    body = json.loads(core.db.execute("SELECT body FROM journal WHERE kind = 'payment.outcome'").fetchone()[0])
    assert body["resource_ref"] == "srv_0001"


def test_a_resource_that_turns_up_later_is_recorded_whole(core: StoreCore) -> None:
    """If delivery was known already, a newly found resource still reaches payment and journal, once."""
    post(core, OK)
    late = replace(OK, resource=make_resource(1))
    result = post(core, late)
    assert isinstance(result, Done)
    assert result.changed
    assert paid(core).resource_ref == "srv_0001"
    leaves_nothing(core, late)


def test_a_resource_stays_its_first_owners(core: StoreCore) -> None:
    """A vendor that names a server twice cannot move it to another payment."""
    core.post([replace(OK, resource=make_resource(1)), make_purchase(2)])
    post(core, make_outcome(2, resource=make_resource(1, payment_id="pay_0002", state="stolen")))
    assert core.book.resource(VENDOR, "srv_0001") == make_resource(1)
    assert paid(core, 2).resource_ref is None


@pytest.mark.parametrize(
    "command",
    [
        replace(OK, payment_id="pay_none"),
        replace(SETTLED, payment_id="pay_none"),
        replace(DEAD, payment_id="pay_none"),
        PassDeadline("pay_none", LATE_MS),
        ResolveDispute("pay_none", Charge.CAPTURED, "operator", LATE_MS),
    ],
    ids=lambda c: type(c).__name__,
)
def test_an_unknown_payment_is_refused(core: StoreCore, command: RecordOutcome) -> None:
    """What is said about a payment that nobody made changes nothing."""
    result = leaves_nothing(core, command)
    assert isinstance(result, Refused)
    assert result.code == "not_found"


# evidence


def mismatch(result: Result) -> bool:
    """Whether the evidence was refused as contradicting."""
    return isinstance(result, Refused) and result.code == "evidence_mismatch"


@pytest.mark.parametrize("value_base", [0, -1, 9_000_001])
def test_a_collection_is_within_what_was_promised(core: StoreCore, value_base: int) -> None:
    """More than was signed, or nothing, cannot be this payment's settlement."""
    assert mismatch(leaves_nothing(core, make_settled(1, value_base=value_base)))


def test_a_smaller_collection_costs_its_share(core: StoreCore) -> None:
    """The agent pays in proportion, rounded up; the rest of hold and exposure goes back."""
    core.post([OK, make_settled(1, value_base=1)])
    assert (paid(core).captured_base, paid(core).settled_base) == (1, 1)
    assert figures(core) == {"available": 99_999_999, "held": 0, "wallet": 999_999_999, "exposed": 0, "loss": 0}


def test_a_charge_never_exceeds_its_hold() -> None:
    """However tokens and USD relate, rounding up stops at the hold."""
    core = seeded(open_core())
    core.post([make_purchase(1, hold_base=10, terms=make_terms(value_base=3)), OK, make_settled(1, value_base=1)])
    assert paid(core).captured_base == 4
    core.post([make_purchase(2, hold_base=10, terms=make_terms(2, value_base=3))])
    core.post([make_outcome(2), make_settled(2, value_base=3)])
    assert paid(core, 2).captured_base == 10


def test_settled_and_dead_exclude_each_other(core: StoreCore) -> None:
    """The second of two contradicting proofs is refused aloud, never dropped as a repeat."""
    core.post([make_purchase(2)])
    post(core, SETTLED)
    assert mismatch(leaves_nothing(core, DEAD))
    post(core, make_dead(2))
    assert mismatch(leaves_nothing(core, make_settled(2)))


def test_another_log_cannot_settle_again(core: StoreCore) -> None:
    """One authorization is collected once: a second log for it is a contradiction, the same log a repeat."""
    post(core, SETTLED)
    assert mismatch(leaves_nothing(core, make_settled(1, log_index=77)))
    assert leaves_nothing(core, SETTLED) == Done(paid(core), changed=False)


def test_a_log_closes_exactly_one_thing(core: StoreCore) -> None:
    """A log that settled another payment, or was booked as an outflow, settles nothing here; nor does it kill (P13)."""
    core.post([make_purchase(2), make_purchase(3), SETTLED])
    log = make_settled(1).evidence
    theirs = {"tx_hash": log.tx_hash, "log_index": log.log_index}
    assert mismatch(leaves_nothing(core, make_settled(2, **theirs)))
    assert mismatch(leaves_nothing(core, make_dead(2, kind="canceled", **theirs)))
    outflow = make_outflow(9)
    results, _ = core.post([outflow, make_settled(3, tx_hash=outflow.evidence.tx_hash, log_index=9)])
    assert mismatch(results[1])
    assert paid(core, 3).axes.transfer is Transfer.PRESENTED


def test_evidence_is_kept_with_its_payment(core: StoreCore) -> None:
    """Evidence names the payment it closed even if its finder did not."""
    post(core, make_settled(1, payment_id=None))
    rows = core.db.execute("SELECT payment_id, kind, witnesses FROM evidence").fetchall()
    assert rows == [("pay_0001", "settled", '["rpc-a", "rpc-b"]')]


def test_every_transfer_names_the_journal_row_that_explains_it(core: StoreCore) -> None:
    """From any transfer one step leads to a row of the journal about the same payment (P11)."""
    core.post([make_purchase(2), make_purchase(3), make_purchase(4)])
    core.post([SETTLED, OK, make_settled(2), make_dead(3)])
    core.post([make_outcome(4, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(4)])
    core.post([PassDeadline("pay_0002", LATE_MS)])
    core.post([make_purchase(5, terms=make_terms(5, fee_base=7)), make_dead(5, kind="failed", fee_base=7)])
    rows = core.db.execute(
        "SELECT t.id, t.payment_id, j.payment_id, j.kind FROM transfers t LEFT JOIN journal j ON j.seq = t.journal_seq"
    ).fetchall()
    assert [row for row in rows if row[1] != row[2] or row[3] is None] == []
    kinds = {row[3] for row in rows if row[1] is not None}
    ends = {"payment.settled", "payment.captured", "payment.voided", "payment.refunded", "payment.fee"}
    assert kinds == {"payment.held", *ends}


# disputes


def test_beyond_the_cap_the_hold_stays_and_a_human_is_asked(strict: StoreCore) -> None:
    """Without a cap the house pays nothing: hold kept, vendor frozen, task open, all of it journaled."""
    strict.post([FAILED, SETTLED])
    assert figures(strict) == WAITING
    assert (paid(strict).disputed, paid(strict).axes.charge) == (True, Charge.HELD)
    assert strict.book.freezes[FREEZE].by == "dispute rule"
    task = strict.book.task("task_pay_0001")
    assert task is not None
    assert (task.kind, task.subject, task.payment_id) == ("dispute", "pay_0001", "pay_0001")
    kinds = [row[0] for row in strict.db.execute("SELECT kind FROM journal ORDER BY seq")][-4:]
    assert kinds == ["payment.settled", "dispute.held", "freeze.set", "task.opened"]


def test_a_freeze_of_the_operators_is_not_overwritten(strict: StoreCore) -> None:
    """A dispute adds nothing to a vendor that is frozen already, so the operator's reason stays."""
    post(strict, SetFreeze(FREEZE, frozen=True, reason="fraud", by="alice", at_ms=NOW_MS))
    strict.post([FAILED, SETTLED])
    assert (strict.book.freezes[FREEZE].reason, strict.book.freezes[FREEZE].by) == ("fraud", "alice")


def test_the_daily_cap_counts_by_vendor_and_account(core: StoreCore) -> None:
    """Two refunds of USD 9 fit into 20 a day, the third does not, in one group or in several; tomorrow it would."""
    core.post([make_purchase(n) for n in (2, 3, 4)])
    core.post([FAILED, SETTLED, make_outcome(2, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(2)])
    core.post([make_outcome(3, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(3)])
    assert [paid(core, n).axes.charge for n in (1, 2, 3)] == [Charge.REFUNDED, Charge.REFUNDED, Charge.HELD]
    assert paid(core, 3).disputed
    tomorrow = NOW_MS - NOW_MS % DAY_MS + DAY_MS
    core.post([make_outcome(4, Delivery.REFUSED, fault=Fault.VENDOR), replace(make_settled(4), at_ms=tomorrow)])
    assert paid(core, 4).axes.charge is Charge.REFUNDED


def test_a_refund_counts_once_however_often_it_is_touched(core: StoreCore) -> None:
    """A refund of an earlier group that this group touches again takes its share of the cap once."""
    core.post([make_purchase(2), FAILED, SETTLED])
    late_delivery = make_outcome(1, Delivery.DELIVERED)
    core.post([late_delivery, make_outcome(2, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(2)])
    assert paid(core, 2).axes.charge is Charge.REFUNDED


@pytest.mark.parametrize(("charge", "expected"), [(Charge.CAPTURED, CAPTURED), (Charge.REFUNDED, REFUNDED)], ids=str)
def test_the_operator_ends_a_dispute_once(strict: StoreCore, charge: Charge, expected: dict[str, int]) -> None:
    """A held dispute is closed as the operator says; saying it again, or otherwise, is refused."""
    strict.post([FAILED, SETTLED])
    post(strict, ResolveDispute("pay_0001", charge, "operator", LATE_MS))
    assert figures(strict) == expected
    for again in (Charge.CAPTURED, Charge.REFUNDED):
        result = leaves_nothing(strict, ResolveDispute("pay_0001", again, "operator", LATE_MS))
        assert isinstance(result, Refused)
        assert result.code == "not_disputed"


@pytest.mark.parametrize("charge", [Charge.HELD, Charge.VOIDED])
def test_a_dispute_cannot_be_voided(strict: StoreCore, charge: Charge) -> None:
    """The tokens are gone, so a dispute ends with somebody paying."""
    strict.post([FAILED, SETTLED])
    result = leaves_nothing(strict, ResolveDispute("pay_0001", charge, "operator", LATE_MS))
    assert isinstance(result, Refused)
    assert result.code == "bad_resolution"


def test_only_a_dispute_is_resolved_by_hand(core: StoreCore) -> None:
    """An open payment that nobody disputes ends by evidence alone (P5)."""
    result = leaves_nothing(core, ResolveDispute("pay_0001", Charge.CAPTURED, "operator", LATE_MS))
    assert isinstance(result, Refused)
    assert result.code == "not_disputed"


def test_a_delivery_ends_a_dispute(strict: StoreCore) -> None:
    """If the vendor delivers after all, the hold is captured and the operator has nothing left to decide."""
    strict.post([FAILED, SETTLED])
    post(strict, OK)
    assert figures(strict) == CAPTURED
    result = leaves_nothing(strict, ResolveDispute("pay_0001", Charge.REFUNDED, "operator", LATE_MS))
    assert isinstance(result, Refused)


def test_a_deadline_disputes_once(strict: StoreCore) -> None:
    """The deadline's dispute is held once; passing it again, or a late refusal, adds nothing to it."""
    strict.post([SETTLED, PassDeadline("pay_0001", LATE_MS)])
    assert paid(strict).disputed
    assert paid(strict).fault is Fault.VENDOR
    leaves_nothing(strict, PassDeadline("pay_0001", LATE_MS + 1))
    post(strict, FAILED)
    assert figures(strict) == WAITING
    assert strict.db.execute("SELECT COUNT(*) FROM journal WHERE kind = 'dispute.held'").fetchone()[0] == 1


@pytest.mark.parametrize("late_ms", [0, 1, HOUR_MS, 48 * HOUR_MS])
def test_the_time_for_delivery_starts_at_collection(core: StoreCore, late_ms: int) -> None:
    """However long the vendor takes to collect, from then on it owes the delivery within the same time."""
    post(core, replace(SETTLED, at_ms=NOW_MS + late_ms))
    assert paid(core).delivery_deadline_ms == NOW_MS + late_ms + HOUR_MS
    early = PassDeadline("pay_0001", NOW_MS + late_ms + HOUR_MS - 1)
    assert leaves_nothing(core, early) == Done(paid(core), changed=False)
    post(core, replace(early, at_ms=early.at_ms + 1))
    assert figures(core) == REFUNDED


def test_the_same_proof_again_does_not_move_the_deadline(core: StoreCore) -> None:
    """Evidence that is told twice buys the vendor no time."""
    post(core, SETTLED)
    leaves_nothing(core, replace(SETTLED, at_ms=SETTLED.at_ms + HOUR_MS))
    assert paid(core).delivery_deadline_ms == LATE_MS


@pytest.mark.parametrize("commands", [[BAD_INPUT, SETTLED], [SETTLED, BAD_INPUT]], ids=["then", "before"])
def test_a_refusal_that_the_agent_pays_for_is_looked_at(strict: StoreCore, commands: list[Command]) -> None:
    """The agent's mistake is charged, and a human is asked whether this vendor should collect for refusals."""
    strict.post(commands)
    assert figures(strict) == CAPTURED
    task = strict.book.task("task_pay_0001")
    assert task is not None
    assert (task.kind, task.subject, task.payment_id) == ("charged_refusal", VENDOR, "pay_0001")
    assert "422" in task.detail
    assert strict.book.freezes == {}


def test_one_task_stands_for_a_vendor_that_charges_for_refusals(core: StoreCore) -> None:
    """A vendor that does it all day leaves one open task, not thousands; a refund opens none."""
    core.post([make_purchase(2), make_purchase(3), BAD_INPUT, SETTLED])
    core.post([replace(BAD_INPUT, payment_id="pay_0002"), make_settled(2)])
    core.post([replace(FAILED, payment_id="pay_0003"), make_settled(3)])
    assert [paid(core, n).axes.charge for n in (1, 2, 3)] == [Charge.CAPTURED, Charge.CAPTURED, Charge.REFUNDED]
    assert core.db.execute("SELECT kind, payment_id FROM tasks").fetchall() == [("charged_refusal", "pay_0001")]


# what the same request finds afterwards

AGAIN = make_purchase(2, fingerprint=make_purchase(1).payment.fingerprint)
ANSWERED = replace(OK, answer=make_answer())
REFUSAL = replace(BAD_INPUT, answer=make_answer(status=422))
RESOLVED: list[Command] = [FAILED, SETTLED, ResolveDispute("pay_0001", Charge.CAPTURED, "operator", LATE_MS)]

UNANSWERED_ENDS: dict[str, list[Command]] = {
    "voided": [DEAD],
    "refused, voided": [FAILED, DEAD],
    "delivered without an answer, voided": [OK, DEAD],
    "delivered without an answer, captured": [OK, SETTLED],
    "the agent's mistake without an answer, captured": [BAD_INPUT, SETTLED],
    "captured by the operator": RESOLVED,
    "refunded by the operator": [*RESOLVED[:2], ResolveDispute("pay_0001", Charge.REFUNDED, "operator", LATE_MS)],
}
ANSWERED_ENDS: dict[str, list[Command]] = {
    "delivered, captured": [ANSWERED, SETTLED],
    "delivered, voided": [ANSWERED, DEAD],
    "the agent's mistake, captured": [REFUSAL, SETTLED],
    "the agent's mistake, voided": [REFUSAL, DEAD],
}


@pytest.mark.parametrize("grouped", [True, False], ids=["one group", "one by one"])
@pytest.mark.parametrize("name", UNANSWERED_ENDS)
def test_what_ends_without_an_answer_lets_the_request_buy_again(strict: StoreCore, name: str, *, grouped: bool) -> None:
    """Nothing will ever be answered: an identical request must not be stuck with it for ever."""
    assert leaves_nothing(strict, AGAIN) == Attached("pay_0001")
    for group in [UNANSWERED_ENDS[name]] if grouped else [[command] for command in UNANSWERED_ENDS[name]]:
        strict.post(group)
    assert paid(strict).axes.charge is not Charge.HELD
    assert paid(strict).answered
    post(strict, SetFreeze(FREEZE, frozen=False, reason="over", by="operator", at_ms=NOW_MS))
    result = post(strict, AGAIN)
    assert isinstance(result, Done)
    assert result.changed


@pytest.mark.parametrize("grouped", [True, False], ids=["one group", "one by one"])
@pytest.mark.parametrize("name", ANSWERED_ENDS)
def test_what_ends_with_an_answer_is_still_found(strict: StoreCore, name: str, *, grouped: bool) -> None:
    """The answer is kept, and the agent may not have it yet: the same request gets it instead of buying again."""
    for group in [ANSWERED_ENDS[name]] if grouped else [[command] for command in ANSWERED_ENDS[name]]:
        strict.post(group)
    assert not paid(strict).answered
    assert leaves_nothing(strict, AGAIN) == Attached("pay_0001")


# (what ends the payment, whether its Idempotency-Key may buy again)
KEYED_ENDS: dict[str, tuple[list[Command], bool]] = {
    "voided": ([DEAD], True),
    "refused by the vendor's fault, voided": ([FAILED, DEAD], True),
    "outcome unknown, voided": ([LOST, DEAD], True),
    "delivered, voided": ([OK, DEAD], False),
    "the agent's mistake, voided": ([BAD_INPUT, DEAD], False),
    "delivered, captured": ([OK, SETTLED], False),
    "captured by the operator": (RESOLVED, False),
    "refunded by the operator": (UNANSWERED_ENDS["refunded by the operator"], False),
}


@pytest.mark.parametrize("name", KEYED_ENDS)
def test_a_key_buys_again_only_after_proof_that_nothing_was_bought(name: str) -> None:
    """An Idempotency-Key promises at most one purchase: money that moved, or a delivery, uses it up."""
    commands, again = KEYED_ENDS[name]
    core = seeded(open_core())
    core.post([make_purchase(1, idempotency_key="k"), *commands])
    post(core, SetFreeze(FREEZE, frozen=False, reason="over", by="operator", at_ms=NOW_MS))
    keyed = make_purchase(2, idempotency_key="k", fingerprint=AGAIN.payment.fingerprint)
    if again:
        result = post(core, keyed)
        assert isinstance(result, Done)
        assert result.changed
    else:
        assert leaves_nothing(core, keyed) == Attached("pay_0001")


# what another account owns


@pytest.fixture
def taken() -> StoreCore:
    """A core where acc_1 bought srv_0001, and payment 2 of acc_2 is held at the same vendor."""
    opened = seeded(open_core())
    opened.post([OpenAccount(make_account(2)), AddKey(make_key(2, account_id="acc_2"))])
    opened.post([make_credit(2, account_id="acc_2"), make_purchase(1), replace(OK, resource=make_resource(1))])
    opened.post([make_purchase(2, account_id="acc_2", key_id="key_2")])
    return opened


THEIRS = replace(
    make_outcome(2, answer=make_answer(2), resource=make_resource(1, account_id="acc_2", payment_id="pay_0002")),
    vendor_status=200,
)


def test_what_another_account_owns_is_no_delivery(taken: StoreCore) -> None:
    """P9: of an answer that names another's resource nothing is kept; the outcome is unknown and a human is asked."""
    result = post(taken, THEIRS)
    assert isinstance(result, Done)
    assert result.payment == paid(taken, 2)
    assert paid(taken, 2).axes == Axes(Delivery.UNKNOWN, Transfer.PRESENTED)
    assert (paid(taken, 2).fault, paid(taken, 2).vendor_status) == (Fault.NONE, 200)
    assert paid(taken, 2).resource_ref is None
    assert not taken.book.has_answer("pay_0002")
    assert taken.book.resource(VENDOR, "srv_0001") == make_resource(1)
    rows = taken.db.execute("SELECT kind, subject, payment_id FROM tasks").fetchall()
    assert rows == [("resource_conflict", f"{VENDOR}/srv_0001", "pay_0002")]
    leaves_nothing(taken, THEIRS)


def test_a_collection_after_a_conflict_still_asks_a_human(taken: StoreCore) -> None:
    """The money is disputed as any other that was collected without a delivery, beside the task about the resource."""
    post(taken, THEIRS)
    settled = make_settled(2)
    taken.post([settled, PassDeadline("pay_0002", settled.at_ms + HOUR_MS)])
    assert paid(taken, 2).disputed
    rows = taken.db.execute("SELECT kind, payment_id FROM tasks ORDER BY kind").fetchall()
    assert rows == [("dispute", "pay_0002"), ("resource_conflict", "pay_0002")]


def test_the_same_group_protects_its_owner_too(core: StoreCore) -> None:
    """A resource that was recorded a moment ago, and is not committed yet, has an owner already."""
    core.post([OpenAccount(make_account(2)), AddKey(make_key(2, account_id="acc_2"))])
    core.post([make_credit(2, account_id="acc_2"), make_purchase(2, account_id="acc_2", key_id="key_2")])
    core.post([replace(OK, resource=make_resource(1)), THEIRS])
    assert paid(core, 2).axes.delivery is Delivery.UNKNOWN
    assert core.book.resource(VENDOR, "srv_0001") == make_resource(1)


def test_an_account_may_be_told_again_of_its_own(core: StoreCore) -> None:
    """A second purchase that names a server of the same account is a delivery, and opens no task."""
    core.post([replace(OK, resource=make_resource(1)), make_purchase(2)])
    post(core, make_outcome(2, answer=make_answer(2), resource=make_resource(1, payment_id="pay_0002")))
    assert paid(core, 2).axes.delivery is Delivery.DELIVERED
    assert core.book.has_answer("pay_0002")
    assert core.db.execute("SELECT COUNT(*) FROM tasks").fetchone()[0] == 0


# renewals


@pytest.mark.parametrize("end", [make_dead(2), make_settled(2)], ids=["dead", "settled"])
def test_the_end_of_a_renewal_frees_its_resource(core: StoreCore, end: object) -> None:
    """Whichever way a renewal closes, the resource can be renewed again."""
    core.post([replace(OK, resource=make_resource(1))])
    core.post([make_purchase(2, renews=True, resource_ref="srv_0001"), make_outcome(2)])
    held = core.book.resource(VENDOR, "srv_0001")
    assert held is not None
    assert held.open_renewal == "pay_0002"
    core.post([end])  # type: ignore[list-item]
    assert core.book.resource(VENDOR, "srv_0001") == make_resource(1)
