"""Refunds: held first, bounded by what was paid in, and closed by what a final block proves."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import chart
from gateway.core.book import BookRules
from gateway.core.commands import Attached, CreditAccount, Done, OpenAccount, Refused, SetFreeze
from gateway.core.decide_refund import OPEN_PER_ACCOUNT, PARTS_PER_RECEIPT, REFUNDS_PER_RECEIPT
from gateway.core.paid import Refund, RefundState, TopUpState
from gateway.core.paid_commands import LendTopUp, OpenRefund
from gateway.core.records import Evidence
from gateway.core.view import Balance
from gateway.store.core import StoreBroken
from tests.factories import (
    ASSET,
    NOW_MS,
    make_account,
    make_evidence,
    make_outcome,
    make_purchase,
    make_settled,
    make_terms,
    open_core,
    seeded,
)
from tests.paid_factories import (
    AMOUNT,
    TILL,
    Desk,
    book,
    claim,
    credited,
    digest,
    make_refund,
    moved,
    newer,
    paying,
    put,
    refund,
)

GRANTED = 100_000_000  # the operator's credit
TILL_CODE = chart.wallet("0x" + TILL.hex())
SENT, SETTLED, DEAD = RefundState.SENT, RefundState.SETTLED, RefundState.DEAD


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk with USD 100 of the operator's and USD 5 that a wallet signed; its rows are proven after each test."""
    opened = Desk(seeded(open_core()))
    opened.post(book(1, account_id="acc_1", refundable=True))
    yield opened
    if opened.core._broken is None:
        opened.prove()


def proof(n: int = 1, kind: str = "refunded", **changes: Any) -> Evidence:
    """Return what a final block proves of refund n."""
    value = 2_000_000 if kind == "refunded" else 0
    return make_evidence(40 + n, kind, **{"payment_id": None, "value_base": value, **changes})


def left(desk: Desk) -> int:
    """Return how much of the receipt may still go back."""
    receipt = desk.core.book.paid.incoming("rcv_0001")
    assert receipt is not None
    return receipt.amount_base - receipt.refunded_base


def held(desk: Desk, n: int = 1, **changes: Any) -> Refund:
    """Hold refund n; return it as kept."""
    assert desk.post(refund(n, **changes)) == Done()
    return desk.view.refunds[f"ref_{n:04}"]


def spend(desk: Desk, n: int, amount_base: int) -> None:
    """Buy something that the vendor collects."""
    purchase = make_purchase(n, hold_base=amount_base, terms=make_terms(n, value_base=amount_base))
    desk.post(purchase, make_outcome(n))
    done = desk.post(make_settled(n, value_base=amount_base))
    assert isinstance(done, Done)
    assert done.payment is not None
    assert done.payment.captured_base == amount_base


# life


def test_a_refund_is_held_sent_and_settled(desk: Desk) -> None:
    """The hold and the till's exposure are one decision, and post when a final block proves it."""
    opened = held(desk)
    assert desk.view.balances["acc_1"] == Balance(GRANTED + AMOUNT - 2_000_000, 2_000_000)
    assert desk.view.wallets["0x" + TILL.hex(), ASSET] == Balance(AMOUNT - 2_000_000, 2_000_000)
    assert left(desk) == 3_000_000
    sent = newer(opened, state=SENT, tx_hash=digest("tx"))
    assert desk.post(moved(sent)) == Done()
    assert desk.post(moved(newer(sent, tx_hash=digest("another")))) == Done()
    settled = newer(desk.view.refunds["ref_0001"], state=SETTLED)
    assert desk.post(moved(settled, proof())) == Done()
    assert desk.view.refunds == {}
    assert (desk.available(), desk.posted(TILL_CODE, ASSET)) == (GRANTED + AMOUNT - 2_000_000, 3_000_000)
    assert desk.core.book.paid.refund("ref_0001").tx_hash == proof().tx_hash  # type: ignore[union-attr]
    assert desk.post(moved(settled, proof())) == Done(changed=False)
    assert left(desk) == 3_000_000


@pytest.mark.parametrize("kind", ["unused", "canceled", "failed"])
def test_a_dead_refund_gives_everything_back(desk: Desk, kind: str) -> None:
    """Proven never to land: the hold and the exposure are void, and the receipt may be refunded whole again."""
    dead = newer(held(desk), state=DEAD, reason="expired unused")
    assert desk.post(moved(dead, proof(kind=kind))) == Done()
    assert (desk.available(), desk.posted(TILL_CODE, ASSET), left(desk)) == (GRANTED + AMOUNT, AMOUNT, AMOUNT)
    assert desk.view.refunds == {}
    assert desk.refused(moved(newer(dead, state=SENT, ended_at_ms=None))) == "changed_meanwhile"
    held(desk, 2, amount_base=AMOUNT, value_base=AMOUNT)


def test_evidence_closes_one_refund_and_fits_it(desk: Desk) -> None:
    """P13, P14: another amount, a log that closed something else, a failed transaction again."""
    first, second = held(desk, 1), held(desk, 2)
    assert desk.refused(moved(newer(first, state=SETTLED), proof(value_base=1))) == "evidence_mismatch"
    received = book(1).evidence
    same_log = proof(tx_hash=received.tx_hash, log_index=received.log_index)
    assert desk.refused(moved(newer(first, state=SETTLED), same_log)) == "evidence_mismatch"
    desk.post(moved(newer(first, state=SETTLED), proof()))
    assert desk.refused(moved(newer(second, state=SETTLED), proof())) == "evidence_mismatch"


def test_old_versions_change_nothing(desk: Desk) -> None:
    """And neither does what nobody opened."""
    opened = held(desk)
    desk.post(moved(newer(opened, state=SENT)))
    assert desk.refused(moved(newer(opened, state=DEAD), proof(kind="unused"))) == "changed_meanwhile"
    assert desk.refused(moved(make_refund(9, state=SENT))) == "not_found"


# bounds


def test_the_same_request_attaches_and_another_conflicts(desk: Desk) -> None:
    """An Idempotency-Key opens one refund."""
    held(desk)
    same = {"client_token": "refund 1", "fingerprint": digest("refund 1")}
    assert desk.post(refund(2, **same)) == Attached("ref_0001")
    assert desk.refused(refund(2, client_token="refund 1")) == "idempotency_conflict"
    assert desk.refused(put(paying(1, client_token="refund 1"))) == "idempotency_conflict"


@pytest.mark.parametrize(
    "change",
    [
        {"receipt_id": "rcv_9999"},
        {"to": b"\x99" * 20},
        {"account_id": "acc_2"},
        {"chain_id": 1},
        {"token": bytes(20)},
        {"asset": "other"},
        {"receipt_id": "rcv_0002"},  # a plain transfer
        {"receipt_id": "rcv_0003"},  # nobody's
    ],
)
def test_only_what_a_wallet_signed_goes_back_and_only_to_it(desk: Desk, change: dict[str, Any]) -> None:
    """In the asset and on the chain that funded, of the account that it funded (P8, P9)."""
    desk.post(OpenAccount(make_account(2)), book(2, account_id="acc_1"), book(3))
    assert desk.refused(refund(1, **change)) == "not_refundable"


def test_at_most_what_was_paid_in_goes_back(desk: Desk) -> None:
    """Funded minus what went back or is on its way, in dollars and, in proportion, in the token."""
    assert desk.refused(refund(1, amount_base=AMOUNT + 1)) == "refund_exceeds_funding"
    assert desk.refused(refund(1, value_base=2_000_001)) == "refund_exceeds_funding"
    held(desk, 1)
    held(desk, 2)
    assert desk.refused(refund(3)) == "refund_exceeds_funding"
    held(desk, 3, amount_base=1_000_000, value_base=1_000_000)


def test_operators_credit_never_goes_back(desk: Desk) -> None:
    """It is spent first; what was paid in and spent is gone, whatever the operator gives later."""
    spend(desk, 70, GRANTED + AMOUNT - 1_000_000)
    assert desk.core.book.paid.grants["acc_1"] == 0
    assert desk.refused(refund(1)) == "insufficient_balance"
    desk.post(CreditAccount("acc_1", 50_000_000, "more", "", "operator", NOW_MS))
    assert desk.refused(refund(1)) == "not_refundable"
    held(desk, 1, amount_base=1_000_000, value_base=1_000_000)


def test_what_is_on_hold_is_the_operators_credit_first(desk: Desk) -> None:
    """An open purchase does not stop what was paid in from going back, unless that is what it holds."""
    desk.post(make_purchase(1, hold_base=GRANTED, terms=make_terms(1, value_base=GRANTED)))
    held(desk, 1)
    assert desk.refused(refund(2, amount_base=3_000_001)) == "refund_exceeds_funding"
    desk.post(make_purchase(2, hold_base=1_500_000, terms=make_terms(2, value_base=1_500_000)))
    assert desk.refused(refund(2)) == "insufficient_balance"
    held(desk, 2, amount_base=1_500_000, value_base=1_500_000)


def test_what_was_paid_in_after_the_credit_was_spent_goes_back_whole(desk: Desk) -> None:
    """The operator's credit was the first to go."""
    spend(desk, 70, GRANTED)
    held(desk, 1, amount_base=AMOUNT, value_base=AMOUNT)


def test_a_refund_is_no_spending_of_credit(desk: Desk) -> None:
    """After it has settled, exactly the credit is left, and none of it can go back."""
    settled = newer(held(desk, 1, amount_base=AMOUNT, value_base=AMOUNT), state=SETTLED)
    desk.post(moved(settled, proof(value_base=AMOUNT)))
    assert desk.core.book.paid.grants["acc_1"] == desk.available() == GRANTED
    desk.post(book(2, account_id="acc_1", refundable=True))
    spend(desk, 70, GRANTED)
    held(desk, 2, receipt=2, amount_base=AMOUNT, value_base=AMOUNT)
    assert desk.available() == 0


def test_what_the_house_lent_does_not_go_back(desk: Desk) -> None:
    """A payment that is not final funds nothing on chain."""
    spend(desk, 70, GRANTED + AMOUNT)
    desk.post(put(paying(7)), put(newer(paying(7), state=TopUpState.SEEN), "seen"))
    desk.post(LendTopUp("top_0007", 10**12, 10**12, NOW_MS))
    assert desk.refused(refund(1)) == "not_refundable"


def test_a_till_cannot_promise_what_it_does_not_hold(desk: Desk) -> None:
    """P7: also where another till was paid."""
    assert desk.refused(refund(1, till=b"\x12" * 20)) == "till_short"


@pytest.mark.parametrize("scope", ["account:acc_1", f"asset:{ASSET}", TILL_CODE, "all"])
def test_a_freeze_stops_refunds(desk: Desk, scope: str) -> None:
    """Nothing leaves while the operator says stop."""
    desk.post(SetFreeze(scope, frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    assert desk.refused(refund(1)) == "frozen"


@pytest.mark.parametrize("scope", ["account:acc_1", f"asset:{ASSET}", TILL_CODE, "all", "database"])
def test_a_freeze_stops_what_is_held_and_no_end(desk: Desk, scope: str) -> None:
    """M2: what has not left stays, what has left may be sent again by the same bytes, and a proof is always booked."""
    first, second = held(desk, 1), held(desk, 2)
    assert desk.post(moved(newer(first, state=SENT))) == Done()
    desk.post(SetFreeze(scope, frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    assert desk.refused(moved(newer(second, state=SENT))) == "frozen"
    assert desk.view.refunds["ref_0002"].state is RefundState.HELD
    assert desk.post(moved(newer(desk.view.refunds["ref_0001"], state=SETTLED), proof())) == Done()
    assert desk.post(moved(newer(second, state=DEAD), proof(2, "unused"))) == Done()


# each costs gas


def sparing() -> Desk:
    """A desk that sends back USD 1 at least, with USD 5 that an order brought."""
    opened = Desk(seeded(open_core(rules=BookRules(refund_min_base=1_000_000))))
    opened.post(put(paying(1)))
    assert (
        opened.post(book(1, topup=credited(paying(1)), account_id="acc_1", topup_id="top_0001", refundable=True))
        == Done()
    )
    return opened


def part(n: int, amount_base: int, receipt: int = 1) -> Refund:
    """Return refund n, of so much."""
    return make_refund(n, receipt, amount_base=amount_base, value_base=amount_base)


def test_dust_goes_back_only_as_the_rest() -> None:
    """H2: less than the least is all that is left of what an order brought, or stays here."""
    desk = sparing()
    assert desk.refused(OpenRefund(part(1, 999_999), NOW_MS)) == "not_refundable"
    assert desk.post(OpenRefund(part(2, 4_500_000), NOW_MS)) == Done()
    assert desk.refused(OpenRefund(part(3, 499_999), NOW_MS)) == "not_refundable"
    assert desk.post(OpenRefund(part(4, 500_000), NOW_MS)) == Done()
    desk.post(book(2, account_id="acc_1", refundable=True, value_base=500_000, amount_base=500_000))
    assert desk.refused(OpenRefund(part(5, 500_000, 2), NOW_MS)) == "not_refundable"
    desk.prove()


def test_a_payment_goes_back_in_so_many_parts(desk: Desk) -> None:
    """H2: whatever became of them; all that is left may go at once, also after them, and that not for ever."""
    for n in range(1, PARTS_PER_RECEIPT + 1):
        lost = held(desk, n, amount_base=1, value_base=1)
        assert desk.post(moved(newer(lost, state=DEAD), proof(n, "unused"))) == Done()
    assert desk.refused(OpenRefund(part(50, 1), NOW_MS)) == "not_refundable"
    for n in range(PARTS_PER_RECEIPT + 1, REFUNDS_PER_RECEIPT + 1):
        lost = held(desk, n, amount_base=AMOUNT, value_base=AMOUNT)
        assert desk.post(moved(newer(lost, state=DEAD), proof(n, "unused"))) == Done()
    assert desk.refused(OpenRefund(part(51, AMOUNT), NOW_MS)) == "not_refundable"


def test_parts_of_one_group_count(desk: Desk) -> None:
    """H2: what is decided and not yet committed is counted as well."""
    results, step = desk.core.post([OpenRefund(part(n, 1), NOW_MS) for n in range(1, 40)])
    desk.view.advance(step)
    assert [isinstance(result, Done) for result in results] == [n < PARTS_PER_RECEIPT for n in range(39)]
    assert {result.code for result in results if isinstance(result, Refused)} == {"not_refundable"}


def test_an_account_has_so_many_refunds_on_their_way(desk: Desk) -> None:
    """H2: of any payment; one that ends makes room, and another account's do not count."""
    desk.post(book(2, account_id="acc_1", refundable=True))
    for n in range(1, OPEN_PER_ACCOUNT + 1):
        held(desk, n, receipt=1 + n % 2, amount_base=1, value_base=1)
    assert desk.refused(OpenRefund(part(60, 1), NOW_MS)) == "too_many_open_payments"
    desk.post(OpenAccount(make_account(2)), book(3, account_id="acc_2", refundable=True))
    assert desk.post(OpenRefund(replace(part(61, 1, 3), account_id="acc_2"), NOW_MS)) == Done()
    ended = newer(desk.view.refunds["ref_0001"], state=DEAD)
    assert desk.post(moved(ended, proof(kind="unused"))) == Done()
    assert desk.post(OpenRefund(part(62, 1), NOW_MS)) == Done()


def test_fifty_refunds_at_once_never_overdraw(desk: Desk) -> None:
    """P2: with purchases among them, in one group: the balance, the receipt and the till bound them all."""
    commands = []
    for n in range(1, 51):
        commands += [refund(n), make_purchase(n, hold_base=4_000_000, terms=make_terms(n, value_base=4_000_000))]
    results, step = desk.core.post(commands)
    desk.view.advance(step)
    refunds = [r for r in results[::2] if isinstance(r, Done)]
    assert len(refunds) == 2
    assert {r.code for r in results[::2] if isinstance(r, Refused)} <= {
        "refund_exceeds_funding",
        "insufficient_balance",
        "not_refundable",
    }
    assert desk.view.balances["acc_1"].available_base >= 0
    assert desk.view.balances["acc_1"].held_base == GRANTED + AMOUNT - desk.available()


def test_a_refunds_authorization_is_its_own(desk: Desk) -> None:
    """P13: the house settles it, nobody else, and no second refund has it."""
    opened = held(desk)
    same = {"authorizer": TILL, "nonce": opened.nonce}
    assert desk.refused(claim(1, **same)) == "duplicate_settlement"
    assert desk.post(claim(1, account_id="house", **same)) == Done()
    with pytest.raises(StoreBroken):
        desk.post(refund(2, nonce=opened.nonce))


@pytest.mark.parametrize(
    ("change", "event", "evidence"),
    [
        ({"state": SENT}, "settled", None),
        ({"state": SENT}, "sent", proof()),
        ({"state": SETTLED}, "settled", None),
        ({"state": SETTLED}, "settled", proof(kind="unused")),
        ({"state": DEAD}, "dead", proof()),
        ({"state": SETTLED}, "settled", proof(chain_id=1)),
        ({"state": SENT, "amount_base": 1}, "sent", None),
        ({"state": SENT, "to": b"\x99" * 20}, "sent", None),
        ({"state": SENT, "hold_transfer_id": 1}, "sent", None),
        ({"state": SENT, "ended_at_ms": NOW_MS}, "sent", None),
    ],
)
def test_a_refund_never_changes_its_terms(
    desk: Desk, change: dict[str, Any], event: str, evidence: Evidence | None
) -> None:
    """A caller that contradicts the record is a bug, and stops the store."""
    opened = held(desk)
    command = moved(newer(opened, **change), evidence)
    with pytest.raises(StoreBroken):
        desk.post(type(command)(command.refund, evidence, event, NOW_MS))


@pytest.mark.parametrize("change", [{"version": 2}, {"state": SENT}, {"hold_transfer_id": 1}])
def test_a_refund_begins_held(desk: Desk, change: dict[str, Any]) -> None:
    """Nothing else is a new one."""
    with pytest.raises(StoreBroken):
        desk.post(refund(1, **change))


def test_what_no_row_can_hold_is_refused(desk: Desk) -> None:
    """An agent's text must not stop the store."""
    assert desk.refused(refund(1, client_token="\ud800")) == "bad_request"
