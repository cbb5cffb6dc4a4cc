"""Whether a purchase may be made, and what it reserves."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.core import chart
from gateway.core.commands import (
    AddKey,
    Attached,
    Done,
    MarkAnswered,
    OpenAccount,
    Purchase,
    Refused,
    Remember,
    RevokeKey,
    SetFreeze,
)
from gateway.core.money import USD
from gateway.core.payment import Axes, Charge, Delivery, Transfer
from gateway.core.unanswered import ATTACH_FOR_MS
from gateway.store.core import StoreBroken, StoreCore
from tests.factories import (
    ASSET,
    HOUR_MS,
    NOW_MS,
    VENDOR,
    WALLET,
    book_state,
    leaves_nothing,
    ledger_account,
    make_account,
    make_answer,
    make_budget,
    make_credit,
    make_dead,
    make_key,
    make_limits,
    make_outcome,
    make_payment,
    make_purchase,
    make_resource,
    make_settled,
    make_terms,
    open_core,
    post,
    seeded,
)

WALLET_HEX = "0x" + WALLET.hex()


@pytest.fixture
def core() -> StoreCore:
    """A core with USD 100 on acc_1 and 1000 tokens in the wallet."""
    return seeded(open_core())


def balances(core: StoreCore) -> dict[str, tuple[int, int]]:
    """Return available and reserved of the agent and of the wallet."""
    agent = ledger_account(core.book.ledger, chart.agent("acc_1"), USD)
    wallet = ledger_account(core.book.ledger, chart.wallet(WALLET_HEX), ASSET)
    return {
        "agent": (agent.available_base, agent.reserved_base),
        "wallet": (wallet.available_base, wallet.reserved_base),
    }


def refused(core: StoreCore, command: Purchase) -> str:
    """Post a purchase that is refused; return the code, after asserting that nothing changed at all."""
    result = leaves_nothing(core, command)
    assert isinstance(result, Refused), result
    return result.code


def placed(core: StoreCore, command: Purchase) -> None:
    """Post a purchase that is made."""
    result = post(core, command)
    assert isinstance(result, Done), result
    assert result.changed


def test_a_purchase_reserves_hold_and_exposure_in_one_commit(core: StoreCore) -> None:
    """The agent's USD and the wallet's tokens are set aside together, with claim, attempt, terms and journal row."""
    result = post(core, make_purchase(idempotency_key="idem-1"))
    assert isinstance(result, Done)
    assert result.payment is not None
    assert balances(core) == {"agent": (91_000_000, 9_000_000), "wallet": (991_000_000, 9_000_000)}
    assert result.payment.hold_transfer_id != result.payment.exposure_transfer_id
    assert result.payment == replace(
        make_payment(idempotency_key="idem-1"),
        hold_transfer_id=result.payment.hold_transfer_id,
        exposure_transfer_id=result.payment.exposure_transfer_id,
    )
    tables = ("payments", "authorizations", "attempts", "claims")
    assert [core.db.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in tables] == [1, 1, 1, 1]
    body = json.loads(core.db.execute("SELECT body FROM journal WHERE kind = 'payment.held'").fetchone()[0])
    assert body["nonce"] == "0x" + make_terms().nonce.hex()
    assert body["hold_transfer_id"] == result.payment.hold_transfer_id


REFUSALS = {
    "insufficient_balance": make_purchase(hold_base=100_000_001),
    "wallet_exhausted": make_purchase(terms=make_terms(value_base=1_000_000_001)),
    "key_revoked": make_purchase(key_id="key_9"),
    "exposure_capped": make_purchase(limits=make_limits(exposure_base=8_999_999)),
    "too_many_open_payments": make_purchase(limits=make_limits(open_payments_per_vendor=0)),
    "unpaid_delivery_limit": make_purchase(limits=make_limits(unpaid_deliveries=0)),
    "not_found": make_purchase(renews=True, resource_ref="srv_none"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_changes_nothing(core: StoreCore, code: str) -> None:
    """Each reason to say no is named, and leaves neither rows nor traces in memory."""
    assert refused(core, REFUSALS[code]) == code


def test_a_wallet_or_an_asset_without_inventory_is_exhausted(core: StoreCore) -> None:
    """A wallet that the ledger does not know cannot promise anything."""
    assert refused(core, make_purchase(terms=make_terms(wallet=b"\x05" * 20))) == "wallet_exhausted"
    assert refused(core, make_purchase(terms=make_terms(asset="EURC@8453"))) == "wallet_exhausted"


def test_the_last_cent_can_be_spent_and_not_one_more(core: StoreCore) -> None:
    """A balance that covers eleven makes exactly eleven holds, in one group or in many (P2)."""
    results, _ = core.post([make_purchase(n) for n in range(1, 21)])
    assert [isinstance(r, Done) for r in results] == [True] * 11 + [False] * 9
    assert {r.code for r in results if isinstance(r, Refused)} == {"insufficient_balance"}
    assert balances(core)["agent"] == (1_000_000, 99_000_000)
    placed(core, make_purchase(30, hold_base=1_000_000))
    assert refused(core, make_purchase(31, hold_base=1)) == "insufficient_balance"


@pytest.mark.parametrize(
    "scope", ["all", f"vendor:{VENDOR}", "account:acc_1", f"wallet:{WALLET_HEX}", f"asset:{ASSET}"]
)
def test_a_freeze_is_checked_in_the_holds_commit(core: StoreCore, scope: str) -> None:
    """Every scope that covers the purchase stops it, also when the freeze is in the same group just before it."""
    freeze = SetFreeze(scope, frozen=True, reason="drill", by="operator", at_ms=NOW_MS)
    results, _ = core.post([freeze, make_purchase()])
    assert isinstance(results[1], Refused)
    assert results[1].code == "frozen"
    assert refused(core, make_purchase()) == "frozen"
    post(core, replace(freeze, frozen=False))
    placed(core, make_purchase())


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        ("all", "all"),
        ("database", "database"),
        (f"vendor:{VENDOR}", "vendor"),
        ("account:acc_1", "account"),
        (f"wallet:{WALLET_HEX}", "wallet"),
        (f"asset:{ASSET}", "asset"),
    ],
)
def test_an_agent_learns_what_kind_of_thing_is_frozen_and_never_why(core: StoreCore, scope: str, kind: str) -> None:
    """P9: the reason may speak of other accounts or of the treasury, and the scope may name a wallet."""
    post(core, SetFreeze(scope, frozen=True, reason="acc_2 was robbed", by="alice", at_ms=NOW_MS))
    result = leaves_nothing(core, make_purchase())
    assert result == Refused("frozen", f"the operator has frozen this {kind}")


def test_a_freeze_of_something_else_does_not_matter(core: StoreCore) -> None:
    """Another vendor's freeze stops nobody here."""
    post(core, SetFreeze("vendor:other", frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    placed(core, make_purchase())


def test_a_revoked_or_foreign_key_buys_nothing(core: StoreCore) -> None:
    """A key works for its own account alone, and until it is revoked."""
    core.post([OpenAccount(make_account(2)), AddKey(make_key(2, account_id="acc_2"))])
    assert refused(core, make_purchase(key_id="key_2")) == "key_revoked"
    post(core, RevokeKey("key_1", "acc_1", NOW_MS))
    assert refused(core, make_purchase()) == "key_revoked"


# idempotency


def test_the_same_key_and_request_attach(core: StoreCore) -> None:
    """A repeat under the same Idempotency-Key names the first purchase and reserves nothing, answered or not."""
    placed(core, make_purchase(1, idempotency_key="k"))
    again = make_purchase(2, idempotency_key="k", fingerprint=make_payment(1).fingerprint)
    assert leaves_nothing(core, again) == Attached("pay_0001")
    core.post([make_outcome(1, answer=make_answer()), MarkAnswered("pay_0001")])
    assert leaves_nothing(core, again) == Attached("pay_0001")


def test_the_same_key_for_another_request_is_a_conflict(core: StoreCore) -> None:
    """An Idempotency-Key belongs to one request of one account."""
    placed(core, make_purchase(1, idempotency_key="k"))
    assert refused(core, make_purchase(2, idempotency_key="k")) == "idempotency_conflict"
    core.post([OpenAccount(make_account(2)), AddKey(make_key(2, account_id="acc_2"))])
    post(core, make_credit(2, account_id="acc_2"))
    placed(core, make_purchase(3, idempotency_key="k", account_id="acc_2", key_id="key_2"))


def test_a_key_with_a_free_answer_buys_nothing(core: StoreCore) -> None:
    """A key that was used for a call that cost nothing cannot turn into a purchase."""
    fingerprint = make_payment(1).fingerprint
    post(core, Remember("acc_1", "k", fingerprint, make_answer(payment_id="")))
    assert refused(core, make_purchase(1, idempotency_key="k")) == "idempotency_conflict"


def test_duplicate_keys_within_one_group(core: StoreCore) -> None:
    """Two purchases under one key in the same group make one hold: the second attaches to what is not committed yet."""
    fingerprint = make_payment(1).fingerprint
    purchases = [make_purchase(n, idempotency_key="k", fingerprint=fingerprint) for n in (1, 2, 3)]
    results, _ = core.post([*purchases, make_purchase(4, idempotency_key="k")])
    assert results[1:3] == [Attached("pay_0001")] * 2
    assert isinstance(results[3], Refused)
    assert results[3].code == "idempotency_conflict"
    assert balances(core)["agent"] == (91_000_000, 9_000_000)


def test_after_a_day_an_unanswered_purchase_is_not_attached_to(core: StoreCore) -> None:
    """The same request a day later means a new purchase; a key that was used for the old one still stands for it."""
    placed(core, make_purchase(1, idempotency_key="k"))
    again: dict[str, Any] = {"fingerprint": make_payment(1).fingerprint, "created_at_ms": NOW_MS + ATTACH_FOR_MS}
    assert leaves_nothing(core, make_purchase(2, **again)) == Attached("pay_0001")
    again["created_at_ms"] = NOW_MS + ATTACH_FOR_MS + 1
    assert leaves_nothing(core, make_purchase(2, idempotency_key="k", **again)) == Attached("pay_0001")
    placed(core, make_purchase(2, **again))


def test_an_unanswered_purchase_is_attached_to_without_a_key(core: StoreCore) -> None:
    """An identical request finds the purchase whose answer the agent never got; after the answer it is a new one."""
    placed(core, make_purchase(1))
    again = make_purchase(2, fingerprint=make_payment(1).fingerprint)
    assert leaves_nothing(core, again) == Attached("pay_0001")
    post(core, MarkAnswered("pay_0001"))
    placed(core, again)


def test_a_key_that_attaches_is_claimed(core: StoreCore) -> None:
    """The key under which a keyless purchase was found stands for it from then on."""
    placed(core, make_purchase(1))
    keyed = make_purchase(2, fingerprint=make_payment(1).fingerprint, idempotency_key="k", at_ms=NOW_MS + 5)
    assert post(core, keyed) == Attached("pay_0001")
    row = core.db.execute("SELECT payment_id, at_ms FROM claims WHERE idempotency_key = 'k'").fetchone()
    assert row == ("pay_0001", NOW_MS + 5)
    post(core, MarkAnswered("pay_0001"))
    assert leaves_nothing(core, keyed) == Attached("pay_0001")


def test_two_different_keys_mean_two_purchases(core: StoreCore) -> None:
    """The same request under another key is bought again, however open the first one is."""
    fingerprint = make_payment(1).fingerprint
    placed(core, make_purchase(1, idempotency_key="k1"))
    placed(core, make_purchase(2, idempotency_key="k2", fingerprint=fingerprint))
    assert balances(core)["agent"] == (82_000_000, 18_000_000)


def test_answering_one_of_two_equal_purchases_does_not_hide_the_other(core: StoreCore) -> None:
    """Of two unanswered purchases of the same thing, the one that is left is still found."""
    fingerprint = make_payment(1).fingerprint
    placed(core, make_purchase(1, idempotency_key="k1"))
    placed(core, make_purchase(2, idempotency_key="k2", fingerprint=fingerprint))
    post(core, MarkAnswered("pay_0001"))
    assert leaves_nothing(core, make_purchase(3, fingerprint=fingerprint)) == Attached("pay_0002")


def test_attaching_does_not_need_funds_or_an_unfrozen_vendor(core: StoreCore) -> None:
    """Asking again for what is bought already is not a purchase, so nothing stands in its way."""
    placed(core, make_purchase(1, hold_base=100_000_000))
    post(core, SetFreeze("all", frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    assert leaves_nothing(core, make_purchase(2, fingerprint=make_payment(1).fingerprint)) == Attached("pay_0001")


# bugs of the caller


@pytest.mark.parametrize(
    "axes", [Axes(), Axes(transfer=Transfer.PREPARED), Axes(transfer=Transfer.PRESENTED, charge=Charge.VOIDED)], ids=str
)
def test_a_purchase_that_could_not_be_followed_stops_the_store(axes: Axes) -> None:
    """A payment that arrives unpresented could never be settled or die: that is a bug, not an answer."""
    with pytest.raises(StoreBroken):
        seeded(open_core()).post([make_purchase(axes=axes)])


def test_a_payment_id_is_used_once(core: StoreCore) -> None:
    """A second purchase under an id in use would orphan the first one's hold: that is a bug, not an answer."""
    with pytest.raises(StoreBroken):
        core.post([make_purchase(1), MarkAnswered("pay_0001"), make_purchase(1)])
    assert core.db.execute("SELECT COUNT(*) FROM payments").fetchone()[0] == 0


# caps


def test_open_payments_are_capped_per_account_and_vendor(core: StoreCore) -> None:
    """The cap counts open payments, of this account, at this vendor; a closed one makes room, also in the same group."""
    limits = make_limits(open_payments_per_vendor=2)
    results, _ = core.post([make_purchase(n, limits=limits) for n in (1, 2, 3)])
    assert isinstance(results[2], Refused)
    placed(core, make_purchase(4, limits=limits, vendor="other"))
    results, _ = core.post([make_dead(1), make_purchase(5, limits=limits)])
    assert isinstance(results[1], Done)
    assert refused(core, make_purchase(6, limits=limits)) == "too_many_open_payments"


def test_exposure_is_capped_per_account_wallet_and_asset(core: StoreCore) -> None:
    """One account may have so much outstanding on a wallet, to the unit."""
    limits = make_limits(exposure_base=18_000_000)
    placed(core, make_purchase(1, limits=limits))
    placed(core, make_purchase(2, limits=limits))
    assert refused(core, make_purchase(3, limits=limits, terms=make_terms(3, value_base=1))) == "exposure_capped"
    post(core, make_dead(2))
    placed(core, make_purchase(4, limits=limits))


def test_exposure_is_counted_in_dollars_held() -> None:
    """Of a token that is worth little, many units are held for few dollars: the cap is on what is held."""
    core = seeded(open_core())
    limits = make_limits(exposure_base=18_000_000)
    cheap = make_terms(1, value_base=900_000_000)
    placed(core, make_purchase(1, limits=limits, terms=cheap))
    assert core.book.exposure_base["acc_1", chart.wallet(WALLET_HEX), ASSET] == 9_000_000
    dear = replace(make_terms(2), value_base=1)
    assert refused(core, make_purchase(2, limits=limits, terms=dear, hold_base=9_000_001)) == "exposure_capped"
    placed(core, make_purchase(2, limits=limits, terms=dear))
    core.post([make_dead(1), make_dead(2)])
    assert book_state(core.book)["exposure_base"] == {}


def test_unpaid_deliveries_are_limited_within_their_window(core: StoreCore) -> None:
    """Deliveries that were never collected count until they are older than the window, also in the same group."""
    limits = make_limits(unpaid_deliveries=2, unpaid_window_ms=HOUR_MS)
    for n in (1, 2):
        placed(core, make_purchase(n, limits=limits))
    results, _ = core.post(
        [make_outcome(1), make_dead(1), make_outcome(2), make_dead(2), make_purchase(3, limits=limits)]
    )
    assert isinstance(results[4], Refused)
    assert results[4].code == "unpaid_delivery_limit"
    assert refused(core, make_purchase(3, limits=limits)) == "unpaid_delivery_limit"
    later = make_dead(1).at_ms + HOUR_MS + 1
    placed(core, make_purchase(4, limits=limits, at_ms=later))


def test_a_payment_counts_once_however_often_it_is_touched(core: StoreCore) -> None:
    """What is counted on disk is not counted again because the group changed it."""
    limits = make_limits(unpaid_deliveries=2)
    core.post([make_purchase(1), make_outcome(1), make_dead(1)])
    results, _ = core.post([MarkAnswered("pay_0001"), make_purchase(2, limits=limits)])
    assert isinstance(results[1], Done)


# budgets


def budgeted(*budgets: object) -> StoreCore:
    """Return a seeded core whose key has these budgets."""
    return seeded(open_core(), key=make_key(budgets=budgets))


def test_a_budget_is_spent_to_the_unit_and_no_further() -> None:
    """Holds count at once; one unit too many is refused."""
    core = budgeted(make_budget(limit_base=10_000_000))
    placed(core, make_purchase(1))
    assert refused(core, make_purchase(2, hold_base=1_000_001)) == "budget_exhausted"
    placed(core, make_purchase(3, hold_base=1_000_000))
    assert refused(core, make_purchase(4, hold_base=1)) == "budget_exhausted"


def test_a_new_window_starts_with_the_first_purchase_after_the_old_one() -> None:
    """At the window's end, not a millisecond before, the whole budget is there again."""
    core = budgeted(make_budget(limit_base=9_000_000))
    placed(core, make_purchase(1))
    assert refused(core, make_purchase(2, created_at_ms=NOW_MS + HOUR_MS - 1)) == "budget_exhausted"
    placed(core, make_purchase(3, created_at_ms=NOW_MS + HOUR_MS + 7))
    assert core.book.budget_uses["bud_1"].window_started_at_ms == NOW_MS + HOUR_MS + 7
    assert refused(core, make_purchase(4, created_at_ms=NOW_MS + 2 * HOUR_MS + 6)) == "budget_exhausted"
    placed(core, make_purchase(5, created_at_ms=NOW_MS + 2 * HOUR_MS + 7))


def test_a_void_gives_the_budget_back_within_its_window() -> None:
    """What was never collected was never spent, also if the purchase was posted a little later than it was made."""
    core = budgeted(make_budget(limit_base=9_000_000))
    placed(core, make_purchase(1, created_at_ms=NOW_MS + HOUR_MS, at_ms=NOW_MS + HOUR_MS + 500))
    post(core, replace(make_dead(1), at_ms=NOW_MS + HOUR_MS + 900))
    assert core.book.budget_uses["bud_1"].used_base == 0
    placed(core, make_purchase(2, created_at_ms=NOW_MS + HOUR_MS + 901))


def test_a_void_gives_nothing_back_to_a_later_window() -> None:
    """A hold of the last window that ends in this one does not make this window's budget larger."""
    core = budgeted(make_budget(limit_base=9_000_000))
    placed(core, make_purchase(1))
    placed(core, make_purchase(2, created_at_ms=NOW_MS + HOUR_MS))
    post(core, replace(make_dead(1), at_ms=NOW_MS + HOUR_MS + 1))
    assert core.book.budget_uses["bud_1"].used_base == 9_000_000
    assert refused(core, make_purchase(3, created_at_ms=NOW_MS + HOUR_MS + 2, hold_base=1)) == "budget_exhausted"


def test_a_capture_that_is_smaller_than_its_hold_gives_the_rest_back() -> None:
    """The budget counts what was paid."""
    core = budgeted(make_budget(limit_base=9_000_000))
    core.post([make_purchase(1), make_outcome(1), make_settled(1, value_base=4_000_000)])
    assert core.book.budget_uses["bud_1"].used_base == 4_000_000


def test_budgets_count_where_they_apply_and_all_of_them_must_agree() -> None:
    """A budget for a vendor or a route leaves other purchases alone; a purchase needs room in each that covers it."""
    core = budgeted(
        make_budget(1, limit_base=50_000_000),
        make_budget(2, limit_base=9_000_000, vendor=VENDOR),
        make_budget(3, limit_base=1_000_000, vendor=VENDOR, route="renew"),
    )
    placed(core, make_purchase(1))
    assert refused(core, make_purchase(2, hold_base=1)) == "budget_exhausted"
    placed(core, make_purchase(3, vendor="other"))
    used = {name: use.used_base for name, use in core.book.budget_uses.items()}
    assert used == {"bud_1": 18_000_000, "bud_2": 9_000_000, "bud_3": 0}


# renewals


def renewal(n: int, **changes: str) -> Purchase:
    """Return a renewal of the server that payment 1 bought."""
    return make_purchase(n, renews=True, resource_ref="srv_0001", route="renew", limits=None, at_ms=0, **changes)


@pytest.fixture
def rented(core: StoreCore) -> StoreCore:
    """A core where payment 1 bought srv_0001 and is closed."""
    core.post([make_purchase(1), make_outcome(1, resource=make_resource(1)), make_settled(1)])
    return core


def test_one_renewal_of_a_resource_is_open_at_a_time(rented: StoreCore) -> None:
    """A second renewal waits until the first is closed."""
    placed(rented, renewal(2))
    assert refused(rented, renewal(3)) == "renewal_open"
    rented.post([make_outcome(2), make_settled(2)])
    placed(rented, renewal(3))


def test_a_renewal_may_follow_its_predecessor_in_the_same_group(rented: StoreCore) -> None:
    """The end of one renewal and the start of the next fit into one commit."""
    placed(rented, renewal(2))
    results, _ = rented.post([make_dead(2), renewal(3), renewal(4)])
    assert [type(r) for r in results] == [Done, Done, Refused]
    resource = rented.book.resource(VENDOR, "srv_0001")
    assert resource is not None
    assert resource.open_renewal == "pay_0003"


def test_nobody_renews_what_another_account_bought(rented: StoreCore) -> None:
    """To another account the resource does not exist (P9)."""
    rented.post([OpenAccount(make_account(2)), AddKey(make_key(2, account_id="acc_2"))])
    rented.post([make_credit(2, account_id="acc_2")])
    assert refused(rented, renewal(2, account_id="acc_2", key_id="key_2")) == "not_found"


def test_a_late_outcome_after_the_end_changes_no_money(core: StoreCore) -> None:
    """A delivery that is found after the hold went back is recorded; balances stay."""
    core.post([make_purchase(1), make_dead(1)])
    before = balances(core)
    result = post(core, make_outcome(1))
    assert isinstance(result, Done)
    assert result.payment is not None
    assert result.payment.axes == Axes(Delivery.DELIVERED, Transfer.DEAD, Charge.VOIDED)
    assert balances(core) == before
    assert book_state(core.book)["open_count"] == {}
