"""The committed state that hot paths read."""

from dataclasses import replace

from gateway.core import commands as c
from gateway.core.commands import Command, Refused
from gateway.core.payment import Delivery, Fault
from gateway.core.server import FleetState, HookDeliveryState, ServerState
from gateway.core.view import Balance, View
from gateway.store.core import StoreCore
from tests.factories import (
    ASSET,
    CHAIN_ID,
    HOUR_MS,
    METERED,
    NOW_MS,
    PAYEE,
    VENDOR,
    WALLET,
    make_account,
    make_answer,
    make_balance,
    make_budget,
    make_created,
    make_credit,
    make_dead,
    make_delivery,
    make_event,
    make_fleet,
    make_float,
    make_hook,
    make_identity,
    make_key,
    make_order,
    make_outcome,
    make_purchase,
    make_quote,
    make_server,
    make_settled,
    make_snapshot,
    make_ssh_key,
    make_start,
    open_core,
)

GROUPS: list[list[Command]] = [
    [c.OpenAccount(make_account()), c.AddKey(make_key(budgets=(make_budget(limit_base=10**9),))), make_credit()],
    [make_float(), c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "me", NOW_MS), c.ObservePrice(VENDOR, "a", 1, NOW_MS)],
    [make_purchase(n, idempotency_key=f"k{n}", fingerprint=bytes(32)) for n in range(1, 6)],
    [make_outcome(1, answer=make_answer()), c.MarkAnswered("pay_0001"), make_settled(1)],
    [make_purchase(6), make_dead(6), c.MarkAnswered("pay_0006")],
    [make_outcome(2, Delivery.REFUSED, fault=Fault.VENDOR), make_settled(2)],
    [make_balance(), make_order(21), make_order(22), make_order(23), make_order(24)],
    [make_created(21), make_created(22, metered=make_start(accepted=False)), make_outcome(23, Delivery.REFUSED)],
    [c.MarkEnding("met_0022", "dear", NOW_MS), c.WarnMeter("met_0021", unfunded=False, at_ms=NOW_MS)],
    [c.BillPeriod("pay_0021", NOW_MS + 24 * HOUR_MS), c.EndMeter("met_0022", NOW_MS, "gone", NOW_MS + HOUR_MS)],
    [make_order(25), make_outcome(25, Delivery.REFUSED), make_balance(10**6), make_identity()],
    [c.SetFreeze("all", frozen=True, reason="drill", by="me", at_ms=NOW_MS), c.RevokeKey("key_1", "acc_1", NOW_MS)],
    [
        c.SetFreeze("all", frozen=False, reason="over", by="me", at_ms=NOW_MS),
        c.MoveCursor(CHAIN_ID, 7, bytes(32), 1_000),
    ],
    [c.ApprovePrice(VENDOR, "a", 2, "me", NOW_MS), c.OpenAccount(make_account(2)), make_dead(3), make_credit(2)],
    [c.TakeEvent(make_event(n)) for n in (1, 2, 3)],
    [c.CloseEvent(METERED, "evt_00000002", NOW_MS), c.TakeEvent(make_event(4, vendor="vrtx"))],
    [
        c.CloseEvent("vrtx", "evt_00000004", NOW_MS),
        c.TakeEvent(make_event(5)),
        c.CloseEvent(METERED, "evt_00000005", 1),
    ],
    [c.Put(each, "made", NOW_MS) for each in (make_fleet(), make_quote(), make_server(1), make_server(2), make_hook())],
    [
        c.Put(make_snapshot(), "made", NOW_MS),
        c.Put(make_ssh_key(), "made", NOW_MS),
        c.Put(make_hook(2), "made", NOW_MS),
    ],
    [c.Put(replace(make_server(1), version=2, ref="r", state=ServerState.RUNNING, warned=("day",)), "running", NOW_MS)],
    [c.FanOut(3, (make_delivery(2), make_delivery(3), make_delivery(3, hook=2)))],
    [
        c.Put(replace(make_server(1), version=3, state=ServerState.LOST, ended_at_ms=NOW_MS), "lost", NOW_MS),
        c.Put(replace(make_server(2), version=2, ref="r"), "provisioning", NOW_MS),
        c.Put(replace(make_hook(2), version=2, deleted_at_ms=NOW_MS), "deleted", NOW_MS),
        c.PutDelivery(make_delivery(2, state=HookDeliveryState.DELIVERED, attempts=1, done_at_ms=NOW_MS)),
    ],
    [c.Put(replace(make_fleet(), version=2, state=FleetState.ENDED, ended_at_ms=NOW_MS), "ended", NOW_MS)],
    [],
]


def view_of(core: StoreCore) -> View:
    """Return a view that was just loaded."""
    view = View()
    view.load(core.book)
    return view


def test_advancing_step_by_step_is_the_same_as_loading() -> None:
    """After every group the view that moved forward equals one loaded from the book."""
    core = open_core()
    view = view_of(core)
    for group in GROUPS:
        results, step = core.post(group)
        assert not [r for r in results if isinstance(r, Refused)]
        view.advance(step)
        assert view == view_of(core)


def test_a_key_of_an_account_called_as_the_house_opens_nothing() -> None:
    """An older version let an account have the house's id: its keys are listed and can be revoked, and nobody is let in."""
    core = open_core()
    core.post(GROUPS[0])
    core.book.put_key(make_key(7, account_id="house"))
    view = view_of(core)
    assert "house" in {key.account_id for key in view.keys_by_id.values()}
    assert {key.account_id for key in view.keys_by_digest.values()} == {"acc_1"}


def test_a_step_does_not_change_under_its_reader() -> None:
    """Later decisions do not reach into a step that is still to be taken: the view shows each group as it was."""
    core, view = open_core(), View()
    steps = [core.post(group)[1] for group in GROUPS[:3]]
    view.advance(steps[0])
    assert view.balances == {"acc_1": Balance(100_000_000, 0)}
    view.advance(steps[1])
    assert view.wallets == {("0x" + WALLET.hex(), ASSET): Balance(1_000_000_000, 0)}
    view.advance(steps[2])
    assert view.balances == {"acc_1": Balance(55_000_000, 45_000_000)}


def test_the_view_shares_nothing_that_the_book_changes() -> None:
    """Decisions in flight are not visible: what the view was loaded from may move on without it."""
    core = open_core()
    core.post(GROUPS[0])
    view = view_of(core)
    core.post([*GROUPS[1], make_purchase(1), replace(make_credit(2), reference="later")])
    assert view.balances == {"acc_1": Balance(100_000_000, 0)}
    assert (view.open_payments, view.payees, view.prices) == ({}, set(), {})
    assert view.unanswered.find("acc_1", make_purchase(1).payment.fingerprint, None, NOW_MS) is None
