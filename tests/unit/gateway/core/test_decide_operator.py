"""The smaller decisions: once is the same as twice, and a refusal leaves nothing."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.book import PriceView
from gateway.core.commands import Done, Refused
from gateway.core.decide_operator import LATE_LOOK_MS
from gateway.core.money import USD
from gateway.store.core import StoreBroken, StoreCore
from tests.factories import (
    CHAIN_ID,
    NOW_MS,
    PAYEE,
    VENDOR,
    dump,
    leaves_nothing,
    ledger_account,
    make_account,
    make_answer,
    make_budget,
    make_credit,
    make_key,
    make_outcome,
    make_purchase,
    make_resource,
    make_task,
    open_core,
    post,
    seeded,
)

FREEZE = c.SetFreeze("vendor:x", frozen=True, reason="drill", by="operator", at_ms=NOW_MS)
THAW = replace(FREEZE, frozen=False)
PRICE = c.ApprovePrice(VENDOR, "rent-small", 9_000_000, "operator", NOW_MS)
SEEN = c.ObservePrice(VENDOR, "rent-small", 8_000_000, NOW_MS)
LOOK = c.UpdateResource(VENDOR, "srv_0001", "stopped", NOW_MS + 9, NOW_MS + 1)
UNPAID = make_resource(2, payment_id="", surrogate_digest=None, sealed_secret=None)
FREE = c.RecordResource(UNPAID, NOW_MS)


@pytest.fixture
def core() -> StoreCore:
    """A seeded core where payment 1 bought srv_0001."""
    opened = seeded(open_core())
    opened.post([make_purchase(1), make_outcome(1, resource=make_resource(1))])
    return opened


# (commands before, the command, whether it changes anything, the kinds of journal rows it leaves)
ONCE: dict[str, tuple[Sequence[c.Command], c.Command, bool, list[str]]] = {
    "open an account": ([], c.OpenAccount(make_account(2)), True, ["account.opened"]),
    "credit": ([], make_credit(2), True, ["account.credited"]),
    "credit again": ([make_credit(2)], make_credit(2), False, []),
    "add a key": ([], c.AddKey(make_key(2)), True, ["key.added"]),
    "revoke a key": ([], c.RevokeKey("key_1", "acc_1", NOW_MS), True, ["key.revoked"]),
    "revoke it again": ([c.RevokeKey("key_1", "acc_1", NOW_MS)], c.RevokeKey("key_1", "acc_1", 9), False, []),
    "answered": ([], c.MarkAnswered("pay_0001"), True, []),
    "answered again": ([c.MarkAnswered("pay_0001")], c.MarkAnswered("pay_0001"), False, []),
    "answered, no such payment": ([], c.MarkAnswered("pay_none"), False, []),
    "freeze": ([], FREEZE, True, ["freeze.set"]),
    "freeze again": ([FREEZE], replace(FREEZE, reason="other"), False, []),
    "thaw": ([FREEZE], THAW, True, ["freeze.lifted"]),
    "thaw what is not frozen": ([], THAW, False, []),
    "open a task": ([], c.OpenTask(make_task()), True, ["task.opened"]),
    "open its like": ([c.OpenTask(make_task())], c.OpenTask(replace(make_task(), id="task_2")), False, []),
    "close a task": ([c.OpenTask(make_task())], c.CloseTask("task_1", "done", "me", 5), True, ["task.closed"]),
    "close it again": (
        [c.OpenTask(make_task()), c.CloseTask("task_1", "done", "me", 5)],
        c.CloseTask("task_1", "again", "me", 6),
        False,
        [],
    ),
    "open a closed task's id again": (
        [c.OpenTask(make_task()), c.CloseTask("task_1", "done", "me", 5)],
        c.OpenTask(make_task()),
        False,
        [],
    ),
    "open its like after it was closed": (
        [c.OpenTask(make_task()), c.CloseTask("task_1", "done", "me", 5)],
        c.OpenTask(replace(make_task(), id="task_2")),
        True,
        ["task.opened"],
    ),
    "approve a payee": ([], c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "me", NOW_MS), True, ["payee.approved"]),
    "approve it again": (
        [c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "me", NOW_MS)],
        c.ApprovePayee(VENDOR, CHAIN_ID, PAYEE, "you", NOW_MS + 1),
        False,
        [],
    ),
    "see a price": ([], SEEN, True, []),
    "see an older price": ([SEEN], replace(SEEN, amount_base=1, at_ms=NOW_MS - 1), False, []),
    "see a price after the clock was set back": (
        [SEEN],
        replace(SEEN, amount_base=1, at_ms=NOW_MS - LATE_LOOK_MS - 1),
        True,
        [],
    ),
    "approve a price": ([], PRICE, True, ["price.approved"]),
    "approve the same price": ([PRICE], PRICE, False, []),
    "look at a resource": ([], LOOK, True, ["resource.changed"]),
    "look and see the same": ([LOOK], replace(LOOK, at_ms=NOW_MS + 2), True, []),
    "an older look": ([LOOK], replace(LOOK, state="running", at_ms=NOW_MS), False, []),
    "look at what nobody owns": ([], replace(LOOK, ref="srv_none"), False, []),
    "record a resource": ([], FREE, True, ["resource.created"]),
    "record it again": ([FREE], replace(FREE, at_ms=NOW_MS + 1), False, []),
    "record another's": ([FREE], replace(FREE, resource=replace(UNPAID, account_id="acc_2")), False, []),
    "record what was bought": ([], c.RecordResource(make_resource(1, account_id="acc_2"), NOW_MS), False, []),
    "look at what cost nothing": ([FREE], replace(LOOK, ref="srv_0002"), True, ["resource.changed"]),
    "move the cursor": ([], c.MoveCursor(CHAIN_ID, 10, bytes(32), 1_000), True, []),
    "move it again": (
        [c.MoveCursor(CHAIN_ID, 10, bytes(32), 1_000)],
        c.MoveCursor(CHAIN_ID, 10, bytes(32), 1_000),
        False,
        [],
    ),
    "move it back": (
        [c.MoveCursor(CHAIN_ID, 10, bytes(32), 1_000)],
        c.MoveCursor(CHAIN_ID, 9, bytes(32), 1_000),
        False,
        [],
    ),
    "remember an answer": ([], c.Remember("acc_1", "k", bytes(32), make_answer(payment_id="")), True, []),
    "remember another": (
        [c.Remember("acc_1", "k", bytes(32), make_answer(payment_id=""))],
        c.Remember("acc_1", "k", b"\x01" * 32, make_answer(2)),
        False,
        [],
    ),
}


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("grouped", [False, True], ids=["one by one", "one group"])
def test_once_is_the_same_as_twice(core: StoreCore, name: str, *, grouped: bool) -> None:
    """What changes something says so and journals it; what was so already says that, and leaves nothing."""
    before, command, changes, kinds = ONCE[name]
    if grouped:
        results, _ = core.post([*before, command])
        assert results[-1] == Done(results[-1].payment, changed=changes)  # type: ignore[union-attr]
        return
    for earlier in before:
        assert isinstance(post(core, earlier), Done)
    if not changes:
        assert leaves_nothing(core, command) == Done(changed=False)
        return
    start, disk = core.book.chain.seq, dump(core)
    result = post(core, command)
    assert isinstance(result, Done)
    assert result.changed
    assert dump(core) != disk
    rows = core.db.execute("SELECT kind FROM journal WHERE seq > ? ORDER BY seq", (start,)).fetchall()
    assert [row[0] for row in rows] == kinds


REFUSALS: dict[str, tuple[c.Command, str]] = {
    "account in use": (c.OpenAccount(make_account(name="other")), "account_exists"),
    "the house's account": (c.OpenAccount(make_account(id="house")), "bad_request"),
    "credit nobody": (make_credit(2, account_id="acc_9"), "not_found"),
    "credit under a used reference": (make_credit(1, amount_base=5), "reference_conflict"),
    "key for nobody": (c.AddKey(make_key(2, account_id="acc_9")), "not_found"),
    "key id in use": (c.AddKey(make_key(1, digest=bytes(32))), "key_exists"),
    "key secret in use": (c.AddKey(make_key(2, digest=make_key(1).digest)), "key_exists"),
    "revoke nothing": (c.RevokeKey("key_9", "acc_1", NOW_MS), "not_found"),
    "revoke another's": (c.RevokeKey("key_1", "acc_2", NOW_MS), "not_found"),
    "close nothing": (c.CloseTask("task_9", "done", "me", NOW_MS), "not_found"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_leaves_nothing(core: StoreCore, name: str) -> None:
    """Each refusal has its code, and neither rows nor memory change."""
    command, code = REFUSALS[name]
    result = leaves_nothing(core, command)
    assert isinstance(result, Refused)
    assert result.code == code


def test_an_account_that_an_older_version_called_as_the_house_gets_no_key(core: StoreCore) -> None:
    """Its bearer would be the house, which settles without payees, minimum or budget: so there is no such bearer."""
    core.book.agent_accounts["house"] = make_account(id="house")
    refused = leaves_nothing(core, c.AddKey(make_key(2, account_id="house")))
    assert isinstance(refused, Refused)
    assert refused.code == "bad_request"


def test_an_account_starts_empty_and_gets_its_credit(core: StoreCore) -> None:
    """A new account has a balance of zero in the ledger; credit comes from the house."""
    post(core, c.OpenAccount(make_account(2)))
    agent = ledger_account(core.book.ledger, chart.agent("acc_2"), USD)
    assert agent.available_base == 0
    post(core, make_credit(2, account_id="acc_2", amount_base=5))
    assert agent.available_base == 5
    assert ledger_account(core.book.ledger, chart.HOUSE_CREDIT, USD).posted_base == 100_000_005


@pytest.mark.parametrize("amount_base", [0, -1, 10**15 + 1])
def test_a_credit_of_no_amount_is_a_bug_that_costs_nothing(core: StoreCore, amount_base: int) -> None:
    """The doors check amounts; past them a wrong one stops the store with the disk as it was."""
    disk = dump(core)
    with pytest.raises(StoreBroken):
        core.post([make_credit(2, amount_base=amount_base)])
    assert dump(core) == disk


def test_a_key_starts_with_unused_budgets(core: StoreCore) -> None:
    """A budget's first window starts with its key; the journal keeps what was granted, and the digest that it is granted to."""
    post(core, c.AddKey(make_key(2, budgets=(make_budget(vendor=VENDOR),))))
    use = core.book.budget_uses["bud_1"]
    assert (use.window_started_at_ms, use.used_base) == (NOW_MS, 0)
    body = json.loads(core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()[0])
    assert body["budgets"] == [{"limit_base": 20_000_000, "window_s": 3600, "vendor": VENDOR, "route": None}]
    assert (body["budget_ids"], body["digest"]) == (["bud_1"], "0x" + make_key(2).digest.hex())


def test_a_look_keeps_what_the_vendor_says_only_once(core: StoreCore) -> None:
    """State and expiry follow the vendor; owner, surrogate and sealed secret stay."""
    post(core, LOOK)
    expected = replace(make_resource(1), state="stopped", expires_at_ms=NOW_MS + 9, as_of_ms=NOW_MS + 1)
    assert core.book.resource(VENDOR, "srv_0001") == expected


def test_what_a_look_does_not_tell_stays(core: StoreCore) -> None:
    """An answer about a thing's end says nothing of its state or plan, and the other way round."""
    at_ms = NOW_MS
    for look in (
        c.UpdateResource(VENDOR, "srv_0001", None, NOW_MS + 7, at_ms + 1),
        c.UpdateResource(VENDOR, "srv_0001", "stopped", None, at_ms + 2, plan="small"),
        c.UpdateResource(VENDOR, "srv_0001", None, None, at_ms + 3),
    ):
        assert isinstance(post(core, look), c.Done)
    told = {"state": "stopped", "expires_at_ms": NOW_MS + 7, "plan": "small", "as_of_ms": at_ms + 3}
    assert core.book.resource(VENDOR, "srv_0001") == replace(make_resource(1), **told)


def test_a_resource_that_cost_nothing_is_its_finders(core: StoreCore) -> None:
    """P9: it is kept whole with its account, named in the journal by no payment, and a look at it keeps the owner."""
    core.post([FREE, replace(LOOK, ref="srv_0002")])
    expected = replace(UNPAID, state="stopped", expires_at_ms=NOW_MS + 9, as_of_ms=NOW_MS + 1)
    assert core.book.resource(VENDOR, "srv_0002") == expected
    query = "SELECT payment_id, body FROM journal WHERE kind = 'resource.created'"
    payment_id, body = core.db.execute(query).fetchone()
    assert payment_id is None
    place = {"account_id": "acc_1", "vendor": VENDOR, "ref": "srv_0002", "resource_kind": "server"}
    assert json.loads(body) == {**place, "kind": "resource.created", "payment_id": None, "at_ms": NOW_MS}
    looked = core.db.execute("SELECT payment_id FROM journal WHERE kind = 'resource.changed'").fetchone()
    assert looked == (None,)


def test_prices_keep_both_what_was_seen_and_what_was_approved(core: StoreCore) -> None:
    """Seeing a price approves nothing, and approving one does not change what was seen."""
    core.post([SEEN, PRICE, replace(SEEN, amount_base=8_500_000, at_ms=NOW_MS + 5)])
    assert core.book.prices[VENDOR, "rent-small"] == PriceView(8_500_000, NOW_MS + 5, 9_000_000)


def test_a_task_closed_and_its_like_opened_in_one_group(core: StoreCore) -> None:
    """Closing a committed task makes room for the next of its kind at once, so none is lost."""
    post(core, c.OpenTask(make_task()))
    results, _ = core.post([c.CloseTask("task_1", "done", "me", 5), c.OpenTask(replace(make_task(), id="task_2"))])
    assert results == [Done(), Done()]
    assert core.db.execute("SELECT id, closed_at_ms FROM tasks ORDER BY id").fetchall() == [
        ("task_1", 5),
        ("task_2", None),
    ]
