"""Records of the neutral API: kept new, replaced version by version, never undone, and told of in the journal."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core import commands as c
from gateway.core.commands import Attached, Done, Put, Refused
from gateway.core.kept import KINDS
from gateway.core.server import FINAL, FleetState, HookDeliveryState, Kept, Server, ServerState
from gateway.store.core import StoreBroken, StoreCore
from gateway.store.load import verify_book
from tests.factories import (
    NOW_MS,
    VENDOR,
    leaves_nothing,
    make_account,
    make_answer,
    make_candidate,
    make_delivery,
    make_fleet,
    make_hook,
    make_key,
    make_purchase,
    make_quote,
    make_resource,
    make_server,
    make_snapshot,
    make_ssh_key,
    open_core,
    post,
    seeded,
)

RUNNING, DESTROYED = ServerState.RUNNING, ServerState.DESTROYED
ALL: tuple[Kept, ...] = (
    make_quote(),
    make_fleet(),
    make_server(quote_id="quo_0001", fleet_id="flt_0001"),
    make_snapshot(),
    make_ssh_key(),
    make_hook(),
)


@pytest.fixture
def core() -> StoreCore:
    """A core with two accounts, a key each, and money."""
    opened = seeded(open_core())
    opened.post([c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2"))])
    return opened


def put(record: Kept, event: str = "changed", **detail: object) -> Put:
    """Return the command that keeps a record."""
    return Put(record, event, NOW_MS, detail)


def last_row(core: StoreCore) -> tuple[str, str | None, dict[str, Any]]:
    """Return kind, payment and content of the newest journal row."""
    kind, payment_id, body = core.db.execute("SELECT kind, payment_id, body FROM journal ORDER BY seq DESC").fetchone()
    return kind, payment_id, json.loads(body)


def kept(core: StoreCore, record: Kept) -> Kept | None:
    """Return what the book and the disk hold under a record's id, after asserting that they agree."""
    kind = KINDS[type(record)]
    found = core.book.kept(kind, record.id)
    assert core.book.reader.kept(kind, record.id) == found
    return found


def newer(record: Any, **changes: Any) -> Any:
    """Return a record's next version."""
    return replace(record, version=record.version + 1, **changes)


def over(server: Server, **changes: Any) -> Server:
    """Return a server's next version, destroyed."""
    ended: Server = newer(server, state=DESTROYED, ended_at_ms=NOW_MS, **changes)
    return ended


# every kind


def test_every_kind_is_kept_and_told_with_its_owner_and_its_id(core: StoreCore) -> None:
    """A new record of each kind is in the book, on disk, and in one journal row that names whose it is."""
    for record in ALL:
        assert post(core, put(record, "created", note="why")) == Done()
        assert kept(core, record) == record
        kind, _, content = last_row(core)
        word = KINDS[type(record)]
        assert kind == f"{word}.created"
        assert (content["account_id"], content[f"{word}_id"], content["note"]) == ("acc_1", record.id, "why")
        assert "sealed" not in json.dumps(content)


@pytest.mark.parametrize("record", [r for r in ALL if hasattr(r, "version")], ids=lambda r: type(r).__name__)
def test_each_version_follows_the_one_that_is_kept(core: StoreCore, record: Any) -> None:
    """A change of what is kept now is kept; one of what was kept before, or never, changes nothing."""
    core.post([put(each) for each in ALL])
    second = newer(record)
    assert post(core, put(second)) == Done()
    for stale in (record, second, replace(record, version=4)):
        assert refused(leaves_nothing(core, put(stale))) == "changed_meanwhile"
    assert kept(core, record) == second


def refused(result: c.Result) -> str:
    """Return a refusal's code."""
    assert isinstance(result, Refused), result
    return result.code


def test_a_quote_never_changes(core: StoreCore) -> None:
    """What an agent was promised is not kept a second time, changed or not."""
    core.post([put(make_quote())])
    for again in (make_quote(), make_quote(expires_at_ms=NOW_MS + 5)):
        assert refused(leaves_nothing(core, put(again))) == "changed_meanwhile"


def test_what_was_never_kept_has_no_second_version(core: StoreCore) -> None:
    """A change of nothing is refused."""
    assert refused(leaves_nothing(core, put(make_server(version=2)))) == "changed_meanwhile"


FOREIGN: dict[str, tuple[Kept, str]] = {
    "of no account": (make_ssh_key(account_id="acc_9"), "not_found"),
    "of another account's key": (make_server(key_id="key_2"), "key_revoked"),
    "of no key": (make_fleet(key_id="key_9"), "key_revoked"),
    "in another account's fleet": (make_server(fleet_id="flt_0002"), "not_found"),
    "in no fleet": (make_server(fleet_id="flt_0009"), "not_found"),
    "from another account's quote": (make_server(quote_id="quo_0002"), "not_found"),
    "of another account's server": (make_snapshot(server_id="srv_0002"), "not_found"),
    "of no server": (make_snapshot(server_id="srv_0009"), "not_found"),
    "at another account's thing": (make_server(ref="srv_0005", state=RUNNING), "changed_meanwhile"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_record_hangs_on_its_accounts_own_things(core: StoreCore, name: str) -> None:
    """P9: whatever a new record names exists and is its account's, or it is not kept."""
    core.post([put(make_fleet(2, account_id="acc_2", key_id="key_2")), put(make_quote(2, account_id="acc_2"))])
    core.post([put(make_server(2, account_id="acc_2", key_id="key_2"))])
    core.post([c.RecordResource(make_resource(5, account_id="acc_2", payment_id=""), NOW_MS)])
    record, code = FOREIGN[name]
    assert refused(leaves_nothing(core, put(record))) == code


UNKEEPABLE: dict[str, Kept] = {
    "half a surrogate pair": make_server(name="\ud800"),
    "half a pair in a list": make_hook(events=("server.\udfff",)),
    "a negative count": make_fleet(count=-1),
    "a budget that no row holds": make_fleet(budget_base=10**15 + 1),
    "a time past all times": make_server(keep_until_ms=2**63),
    "a charge that no row holds": make_server(candidates=(make_candidate(first_charge_max_base=10**16),)),
    "a quote that no row holds": make_quote(candidate=make_candidate(first_charge_max_base=-1)),
}


@pytest.mark.parametrize("name", UNKEEPABLE)
def test_what_no_row_can_hold_is_refused_and_stops_nobody(core: StoreCore, name: str) -> None:
    """Whatever an agent or a vendor wrote, the store goes on."""
    assert refused(leaves_nothing(core, put(UNKEEPABLE[name]))) == "bad_request"
    assert post(core, put(make_server())) == Done()


BUGS: dict[str, tuple[Kept, Callable[[Any], Kept]]] = {
    "another owner": (make_server(), lambda s: newer(s, account_id="acc_2")),
    "another token": (make_server(), lambda s: newer(s, client_token="other")),
    "another order": (make_fleet(), lambda f: newer(f, fingerprint=bytes(32))),
    "another beginning": (make_ssh_key(), lambda k: newer(k, created_at_ms=1)),
    "another server's snapshot": (make_snapshot(), lambda s: newer(s, server_id="srv_0002")),
    "an end at no time": (make_server(), lambda s: newer(s, state=DESTROYED)),
    "an end of what runs": (make_server(), lambda s: newer(s, ended_at_ms=NOW_MS)),
    "a fleet's end at no time": (make_fleet(), lambda f: newer(f, state=FleetState.ENDED)),
    "a fingerprint that is none": (make_ssh_key(), lambda _: make_server(7, fingerprint=b"short")),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_change_that_nothing_could_mean_stops_the_store(core: StoreCore, name: str) -> None:
    """It is a bug of whoever computed it: nothing of it is kept."""
    record, change = BUGS[name]
    core.post([put(each) for each in ALL if each.id != record.id and not isinstance(each, type(record))])
    if not isinstance(record, Server):
        core.post([put(make_server(9))])
    assert post(core, put(record)) == Done()
    with pytest.raises(StoreBroken) as caught:
        post(core, put(change(record)))
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("detail", [{"state": "lost"}, {"kind": "x"}, {"at_ms": 5}, {"account_id": "acc_2"}])
def test_a_detail_never_contradicts_the_record(core: StoreCore, detail: dict[str, object]) -> None:
    """The journal says one thing of a change: a second word for the same member is a bug."""
    with pytest.raises(StoreBroken) as caught:
        post(core, put(make_server(), "ordered", **detail))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_detail_may_repeat_what_the_record_says(core: StoreCore) -> None:
    """The same word twice is one word."""
    assert post(core, put(make_server(), "ordered", vendor=VENDOR, tried=0)) == Done()
    assert (last_row(core)[2]["vendor"], last_row(core)[2]["tried"]) == (VENDOR, 0)


# servers


def test_a_servers_row_in_the_journal_tells_where_it_is_and_what_it_was_paid_with(core: StoreCore) -> None:
    """P11: vendor, plan, state, ref, reason, end and fleet are in the content, its payment in the row's own column."""
    core.post([put(make_fleet()), put(make_server(fleet_id="flt_0001"), "ordered")])
    running = newer(
        make_server(fleet_id="flt_0001"), state=RUNNING, ref="r-1", payment_id="pay_7", expires_at_ms=5, reason="why"
    )
    post(core, put(running, "running"))
    kind, payment_id, content = last_row(core)
    assert (kind, payment_id, content["payment_id"]) == ("server.running", "pay_7", "pay_7")
    assert {
        name: content[name] for name in ("vendor", "plan", "state", "ref", "reason", "expires_at_ms", "fleet_id")
    } == {
        "vendor": VENDOR,
        "plan": "plan-1",
        "state": "running",
        "ref": "r-1",
        "reason": "why",
        "expires_at_ms": 5,
        "fleet_id": "flt_0001",
    }
    post(core, put(newer(running), "renewed", payment_id="pay_8"))
    assert last_row(core)[1] == "pay_8"


@pytest.mark.parametrize("state", sorted(FINAL))
def test_what_has_ended_never_comes_back(core: StoreCore, state: ServerState) -> None:
    """A late look at a server that is over does not open it again; its end may be told better."""
    server = make_server()
    ended = newer(server, state=state, ended_at_ms=NOW_MS)
    core.post([put(server), put(ended)])
    assert core.book.servers == {}
    back = newer(ended, state=RUNNING, ended_at_ms=None)
    assert refused(leaves_nothing(core, put(back))) == "changed_meanwhile"
    assert post(core, put(newer(ended, reason="the vendor took it back"))) == Done()


def test_fleets_keys_and_endpoints_that_are_over_stay_so(core: StoreCore) -> None:
    """What was ended or deleted is not there again."""
    fleet, key, hook = make_fleet(), make_ssh_key(), make_hook()
    gone = [
        newer(fleet, state=FleetState.ENDED, ended_at_ms=NOW_MS),
        newer(key, deleted_at_ms=NOW_MS),
        newer(hook, deleted_at_ms=NOW_MS),
    ]
    core.post([put(each) for each in (fleet, key, hook, *gone)])
    assert (core.book.fleets, core.book.hooks) == ({}, {})
    back = [
        newer(gone[0], state=FleetState.ACTIVE, ended_at_ms=None),
        newer(gone[1], deleted_at_ms=None),
        newer(gone[2], deleted_at_ms=None),
    ]
    for each in back:
        assert refused(leaves_nothing(core, put(each))) == "changed_meanwhile"


def test_one_renewal_is_open_at_a_time(core: StoreCore) -> None:
    """Planner and agent share one renewal: a second one waits until the first is over."""
    first = newer(make_server(), renewal="renew srv_0001 1", renewals=1)
    core.post([put(make_server()), put(first)])
    assert refused(leaves_nothing(core, put(newer(first, renewal="renew srv_0001 2")))) == "changed_meanwhile"
    moved = newer(first, state=RUNNING)
    done = newer(moved, renewal="")
    for each in (moved, done, newer(done, renewal="renew srv_0001 2", renewals=2)):
        assert post(core, put(each)) == Done()


def test_a_vendors_thing_is_one_open_servers(core: StoreCore) -> None:
    """P13: a second server is not given what another one holds, committed or not; once that has ended, it may be."""
    holder = newer(make_server(1), ref="r-1", state=RUNNING)
    core.post([put(make_server(1)), put(make_server(2)), put(holder)])
    second = newer(make_server(2), ref="r-1", state=RUNNING)
    assert refused(leaves_nothing(core, put(second))) == "changed_meanwhile"
    assert core.post([put(over(holder)), put(second)])[0] == [Done(), Done()]
    assert core.book.server_refs == {(VENDOR, "r-1"): "srv_0002"}


def test_a_thing_changes_hands_within_a_group_in_any_order(core: StoreCore) -> None:
    """One gives it up, another takes it, and the first is changed again: the rows go in whichever way they lie."""
    one, two = make_server(1), make_server(2)
    held = newer(one, ref="r-1", state=RUNNING)
    core.post([put(one), put(two), put(held)])
    free = newer(held, ref=None, vendor="other", state=ServerState.ORDERING)
    group = [put(newer(two, name="before")), put(free), put(replace(two, version=3, ref="r-1")), put(newer(free))]
    assert core.post(group)[0] == [Done()] * 4
    held_now = core.db.execute("SELECT id, ref FROM servers WHERE ref IS NOT NULL").fetchall()
    assert held_now == [("srv_0002", "r-1")]


def test_the_same_name_at_another_vendor_is_another_thing(core: StoreCore) -> None:
    """Refs are the vendor's."""
    one, two = make_server(1, ref="r-1"), make_server(2, ref="r-1", vendor="other")
    assert core.post([put(one), put(two)])[0] == [Done(), Done()]


# client tokens


def test_the_same_order_again_is_the_first_one(core: StoreCore) -> None:
    """A client token names one order, in the same group, later, and after it has ended."""
    first, again = (
        make_server(1),
        replace(make_server(2), client_token="token 1", fingerprint=make_server(1).fingerprint),
    )
    results, _ = core.post([put(first), put(again)])
    assert results == [Done(), Attached("srv_0001")]
    post(core, put(over(first)))
    assert leaves_nothing(core, put(again)) == Attached("srv_0001")
    assert core.book.kept("server", "srv_0002") is None


@pytest.mark.parametrize(
    "other",
    [
        make_server(2, client_token="token 1"),
        make_fleet(2, client_token="token 1"),
        make_fleet(2, client_token="token 1", fingerprint=make_server(1).fingerprint),
    ],
)
def test_another_order_takes_another_token(core: StoreCore, other: Kept) -> None:
    """A token that stands for one order stands for no other, of a server or of a fleet."""
    core.post([put(make_server(1))])
    assert refused(leaves_nothing(core, put(other))) == "idempotency_conflict"


def test_tokens_are_an_accounts_own(core: StoreCore) -> None:
    """Two accounts may choose the same word."""
    theirs = make_server(2, account_id="acc_2", key_id="key_2", client_token="token 1")
    assert core.post([put(make_server(1)), put(theirs)])[0] == [Done(), Done()]


@pytest.mark.parametrize("committed", [True, False])
def test_an_idempotency_key_orders_or_buys_and_never_both(core: StoreCore, *, committed: bool) -> None:
    """Whichever came first, a purchase, a kept answer or an order, the key is refused to the others."""
    used: list[c.Command] = [
        make_purchase(1, idempotency_key="bought"),
        c.Remember("acc_1", "told", bytes(32), make_answer(payment_id="")),
        put(make_server(1, client_token="server")),
        put(make_fleet(1, client_token="fleet")),
    ]
    asked: list[c.Command] = [
        put(make_server(2, client_token="bought")),
        put(make_fleet(2, client_token="told")),
        make_purchase(2, idempotency_key="server"),
        make_purchase(3, idempotency_key="fleet"),
        c.Remember("acc_1", "server", bytes(32), make_answer(payment_id="")),
        c.Remember("acc_1", "fleet", make_fleet().fingerprint, make_answer(payment_id="")),
    ]
    if committed:
        core.post(used)
        results = [leaves_nothing(core, command) for command in asked]
    else:
        results = core.post([*used, *asked])[0][len(used) :]
    assert [refused(result) for result in results] == ["idempotency_conflict"] * len(asked)


def test_a_purchase_that_repeats_an_open_one_does_not_borrow_an_orders_key(core: StoreCore) -> None:
    """Also where the request itself is known: the key is another request's."""
    core.post([make_purchase(1), put(make_server(1))])
    again = make_purchase(2, fingerprint=make_purchase(1).payment.fingerprint, idempotency_key="token 1")
    assert refused(leaves_nothing(core, again)) == "idempotency_conflict"


# telling


def test_what_was_read_is_read_once_and_what_is_due_is_pending(core: StoreCore) -> None:
    """The cursor moves forward only, with the deliveries of the rows that it passes, in one commit."""
    core.post([put(make_hook())])
    seq = core.book.chain.seq
    assert post(core, c.FanOut(seq, (make_delivery(seq),))) == Done()
    assert (core.book.told_seq, core.book.deliveries) == (seq, {("hook_0001", seq): make_delivery(seq)})
    for again in (seq, seq - 1, 0):
        assert leaves_nothing(core, c.FanOut(again, (make_delivery(1),))) == Done(changed=False)
    assert core.book.chain.seq == seq


def test_nobody_has_read_what_was_not_written(core: StoreCore) -> None:
    """A cursor beyond the journal is a bug."""
    with pytest.raises(StoreBroken):
        post(core, c.FanOut(core.book.chain.seq + 1, ()))


def test_nothing_is_due_to_an_endpoint_that_is_gone(core: StoreCore) -> None:
    """What was found for a deleted endpoint is dropped, and what was due to it is given up, the journal's rows aside."""
    core.post([put(make_hook(1)), put(make_hook(2)), c.FanOut(1, (make_delivery(1, 1), make_delivery(1, 2)))])
    post(core, put(newer(make_hook(1), deleted_at_ms=NOW_MS + 5), "deleted"))
    assert set(core.book.deliveries) == {("hook_0002", 1)}
    row = core.db.execute("SELECT state, last_error, done_at_ms FROM hook_deliveries WHERE hook_id = 'hook_0001'")
    assert row.fetchone() == ("given_up", "the endpoint was deleted", NOW_MS)
    assert post(core, c.FanOut(3, (make_delivery(2, 1), make_delivery(2, 2)))) == Done()
    assert set(core.book.deliveries) == {("hook_0002", 1), ("hook_0002", 2)}
    assert refused(leaves_nothing(core, c.PutDelivery(make_delivery(1, 1)))) == "not_found"
    late = make_delivery(1, 1, state=HookDeliveryState.DELIVERED, attempts=1, done_at_ms=NOW_MS)
    assert post(core, c.PutDelivery(late)) == Done()


def test_a_delivery_is_done_and_made_again(core: StoreCore) -> None:
    """What is done leaves the memory and stays on disk; a replay brings it back; no journal row is left."""
    core.post([put(make_hook()), c.FanOut(1, (make_delivery(1),))])
    seq = core.book.chain.seq
    done = make_delivery(1, state=HookDeliveryState.DELIVERED, attempts=1, last_status=204, done_at_ms=NOW_MS)
    assert post(core, c.PutDelivery(done)) == Done()
    assert core.book.deliveries == {}
    assert core.db.execute("SELECT state, last_status FROM hook_deliveries").fetchall() == [("delivered", 204)]
    assert post(core, c.PutDelivery(make_delivery(1))) == Done()
    assert core.book.deliveries == {("hook_0001", 1): make_delivery(1)}
    assert core.book.chain.seq == seq


def done(n: int, at_ms: int, **changes: object) -> c.PutDelivery:
    """Return the end of a delivery."""
    ended = {"state": HookDeliveryState.DELIVERED, "attempts": 1, "done_at_ms": at_ms}
    return c.PutDelivery(make_delivery(n, **{**ended, **changes}))


def listed(core: StoreCore) -> list[tuple[int, str]]:
    """Return the deliveries that are kept."""
    return core.db.execute("SELECT event_seq, state FROM hook_deliveries ORDER BY event_seq").fetchall()


def test_deliveries_that_were_done_long_ago_are_forgotten_the_oldest_first(core: StoreCore) -> None:
    """At most so many at once; what is due stays however old it is, and the proof of the books holds."""
    core.post([put(make_hook()), c.FanOut(2, (make_delivery(1, created_at_ms=1),))])
    core.post([done(2, NOW_MS + 3, state=HookDeliveryState.GIVEN_UP), done(3, NOW_MS + 1)])
    core.post([done(4, NOW_MS + 2), done(5, NOW_MS + 4)])
    seq = core.book.chain.seq
    assert post(core, c.ForgetDeliveries(NOW_MS + 4, 2)) == Done()
    assert listed(core) == [(1, "pending"), (2, "given_up"), (5, "delivered")]
    assert post(core, c.ForgetDeliveries(NOW_MS + 4, 2)) == Done()
    assert listed(core) == [(1, "pending"), (5, "delivered")]
    assert (core.book.chain.seq, set(core.book.deliveries)) == (seq, {("hook_0001", 1)})
    verify_book(core.db)


def test_what_is_made_again_in_the_same_commit_is_not_forgotten(core: StoreCore) -> None:
    """Whichever came first; and what ends again is as new."""
    core.post([put(make_hook()), *(done(n, NOW_MS) for n in (1, 2, 3, 4))])
    old = c.ForgetDeliveries(NOW_MS + 1, 9)
    core.post([c.PutDelivery(make_delivery(1)), done(2, NOW_MS + 5), old])
    assert listed(core) == [(1, "pending"), (2, "delivered")]
    core.post([done(1, NOW_MS), done(3, NOW_MS)])
    core.post([old, c.PutDelivery(make_delivery(1)), done(3, NOW_MS + 5)])
    assert listed(core) == [(1, "pending"), (2, "delivered"), (3, "delivered")]
    assert set(core.book.deliveries) == {("hook_0001", 1)}


def test_a_delivery_goes_to_its_accounts_own_endpoint(core: StoreCore) -> None:
    """P9: an event of one account on its way to another's endpoint is a bug, and stops."""
    core.post([put(make_hook())])
    for command in (
        c.FanOut(1, (make_delivery(1, account_id="acc_2"),)),
        c.PutDelivery(make_delivery(1, account_id="acc_2")),
    ):
        other = seeded(open_core())
        other.post([c.OpenAccount(make_account(2)), put(make_hook())])
        with pytest.raises(StoreBroken) as caught:
            post(other, command)
        assert isinstance(caught.value.__cause__, ValueError)


def test_an_answer_that_is_no_text_stops_nobody(core: StoreCore) -> None:
    """What an endpoint said is refused where no row can hold it."""
    core.post([put(make_hook())])
    assert refused(leaves_nothing(core, c.PutDelivery(make_delivery(1, last_error="\ud800")))) == "bad_request"
    assert refused(leaves_nothing(core, c.PutDelivery(make_delivery(1, hook=9)))) == "not_found"


# restarts


def test_a_restart_finds_every_field(tmp_path: Path) -> None:
    """Full and empty, each record comes back from disk as it was put."""
    core = seeded(open_core(tmp_path))
    full: Server = newer(
        ALL[2],
        tried=1,
        state=RUNNING,
        reason='ü"\\\n\U0001f600',
        ref="r-1",
        payment_id="pay_1",
        address="10.0.0.1",
        image="debian",
        sealed_access=b"sealed",
        expires_at_ms=5,
        until_reason="template",
        keep_until_ms=6,
        auto_renew=True,
        max_total_base=7,
        renewal="renew srv_0001 1",
        renewals=1,
        warned=("day", "hour"),
        ready_at_ms=8,
    )
    more: list[Kept] = [
        full,
        newer(ALL[3], state="available", expires_at_ms=5, size_gib="1.5"),
        newer(ALL[4], installed=(("litevps", "7"), ("vrtx", "8"))),
        newer(ALL[5], disabled_reason="nobody answers"),
        newer(ALL[1], made=3, reason="why", state=FleetState.EXHAUSTED),
    ]
    core.post([put(record) for record in (*ALL, *more)])
    default = {f.name for f in fields(full) if getattr(full, f.name) == getattr(make_server(), f.name)}
    assert default.isdisjoint({"tried", "ref", "warned", "auto_renew", "sealed_access", "fleet_id", "quote_id"})
    core.close()
    again = open_core(tmp_path)
    for record in (ALL[0], *more):
        assert kept(again, record) == record
    again.close()
