"""The neutral API's rows: what the database refuses, what loading and the proof find, and what a server cost."""

import json
import sqlite3
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core import commands as c
from gateway.core.commands import Done, Put
from gateway.core.payment import Delivery, Fault
from gateway.core.server import HookDelivery, HookDeliveryState, Server, ServerState
from gateway.store import columns as col
from gateway.store import kept_columns as kept
from gateway.store import queries
from gateway.store.core import StoreCore
from gateway.store.load import (
    OPEN_FLEETS,
    OPEN_HOOKS,
    OPEN_SERVERS,
    PENDING_DELIVERIES,
    BookBroken,
    first_contradiction,
    verify_book,
)
from gateway.store.reader import ORDER
from tests.factories import (
    HOUR_MS,
    METERED,
    NOW_MS,
    VENDOR,
    book_state,
    make_account,
    make_answer,
    make_created,
    make_delivery,
    make_fleet,
    make_hook,
    make_key,
    make_meter,
    make_next,
    make_order,
    make_outcome,
    make_purchase,
    make_quote,
    make_resource,
    make_server,
    make_settled,
    make_snapshot,
    make_ssh_key,
    open_core,
    post,
    seeded,
)

RUNNING = ServerState.RUNNING


def put(record: Any, event: str = "changed") -> Put:
    """Return the command that keeps a record."""
    return Put(record, event, NOW_MS)


def newer(record: Any, **changes: Any) -> Any:
    """Return a record's next version."""
    return replace(record, version=record.version + 1, **changes)


@pytest.fixture
def core(tmp_path: Path) -> StoreCore:
    """A core on a file with something of every kind, open and over, of one account."""
    opened = seeded(open_core(tmp_path))
    first = make_server(1, fleet_id="flt_0001", quote_id="quo_0001")
    second = newer(make_server(2), state=ServerState.LOST, ended_at_ms=NOW_MS, ref="r-2")
    opened.post([put(each) for each in (make_quote(), make_fleet(), first, make_server(2), second)])
    opened.post([put(newer(first, state=RUNNING, ref="r-1"), "running"), put(make_snapshot()), put(make_ssh_key())])
    opened.post([put(make_hook(1)), put(make_hook(2)), put(newer(make_hook(2), deleted_at_ms=NOW_MS))])
    opened.post([c.FanOut(5, (make_delivery(4), make_delivery(5)))])
    done = make_delivery(4, state=HookDeliveryState.DELIVERED, attempts=1, last_status=200, done_at_ms=NOW_MS)
    opened.post([c.PutDelivery(done)])
    return opened


# columns


def test_every_field_has_a_column_of_its_own() -> None:
    """Each record's columns are its fields, and the table's columns are these: none can be forgotten."""
    db = open_core().db
    for table in kept.TABLES.values():
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table.name})")]
        assert sorted(table.columns.split(", ")) == sorted(names)
    assert kept.DELIVERY_COLUMNS.split(", ") == [f.name for f in fields(HookDelivery)]
    assert kept.SERVER_COLUMNS.split(", ") == [f.name for f in fields(Server)]


def test_records_come_back_whole() -> None:
    """Rows are read as what was written, from both modules of columns."""
    server = make_server(warned=("day",), auto_renew=True, sealed_access=b"x", state=RUNNING, version=3)
    key = make_ssh_key(installed=(("vrtx", "8"),), deleted_at_ms=NOW_MS)
    delivery = make_delivery(1, last_error="no", state=HookDeliveryState.GIVEN_UP)
    assert col.server_from(kept.server_row(server)) == server
    assert col.quote_from(kept.quote_row(make_quote())) == make_quote()
    assert col.snapshot_from(kept.snapshot_row(make_snapshot())) == make_snapshot()
    assert col.ssh_key_from(kept.ssh_key_row(key)) == key
    assert col.fleet_from(kept.fleet_row(make_fleet())) == make_fleet()
    assert col.hook_from(kept.hook_row(make_hook())) == make_hook()
    assert col.delivery_from(kept.delivery_row(delivery)) == delivery


# what the database refuses

FORGERIES = {
    "an order twice": "INSERT INTO servers SELECT 'srv_9', account_id, key_id, name, client_token, fingerprint, sealed_spec, "
    "candidates, created_at_ms, as_of_ms, vendor, plan, region, tried, state, wanted, reason, quote_id, fleet_id, NULL, "
    "payment_id, address, image, sealed_access, expires_at_ms, until_reason, keep_until_ms, auto_renew, max_total_base, "
    "renewal, renewals, warned, ready_at_ms, ended_at_ms, version FROM servers WHERE id = 'srv_0001'",
    "a fleet's order twice": "INSERT INTO fleets SELECT 'flt_9', account_id, key_id, name, client_token, fingerprint, "
    "sealed_spec, count, until_ms, budget_base, created_at_ms, state, reason, made, ended_at_ms, version FROM fleets",
    "one thing of two open servers": "UPDATE servers SET ref = 'r-1', state = 'running', ended_at_ms = NULL",
    "a state that is none": "UPDATE servers SET state = 'perhaps'",
    "a wish that is none": "UPDATE servers SET wanted = 'sold'",
    "a server that ended at no time": "UPDATE servers SET state = 'lost' WHERE id = 'srv_0001'",
    "a server that ended and runs": "UPDATE servers SET ended_at_ms = 1 WHERE id = 'srv_0001'",
    "a server of nobody": "UPDATE servers SET account_id = 'acc_9'",
    "a server of no key": "UPDATE servers SET key_id = 'key_9'",
    "a server of no fleet": "UPDATE servers SET fleet_id = 'flt_9'",
    "a server of no quote": "UPDATE servers SET quote_id = 'quo_9'",
    "a limit below nothing": "UPDATE servers SET max_total_base = -1",
    "a short fingerprint": "UPDATE servers SET fingerprint = x'00'",
    "no version": "UPDATE servers SET version = 0",
    "text where a time belongs": "UPDATE servers SET created_at_ms = 'now'",
    "a fleet's state that is none": "UPDATE fleets SET state = 'perhaps'",
    "a fleet that ended at no time": "UPDATE fleets SET state = 'ended'",
    "a budget below nothing": "UPDATE fleets SET budget_base = -1",
    "a snapshot of no server": "UPDATE snapshots SET server_id = 'srv_9'",
    "a snapshot's state that is none": "UPDATE snapshots SET state = 'perhaps'",
    "a quote of nobody": "UPDATE quotes SET account_id = 'acc_9'",
    "an SSH key of nobody": "UPDATE ssh_keys SET account_id = 'acc_9'",
    "an endpoint of nobody": "UPDATE hooks SET account_id = 'acc_9'",
    "a delivery to nobody": "UPDATE hook_deliveries SET hook_id = 'hook_9'",
    "a delivery twice": "INSERT INTO hook_deliveries SELECT * FROM hook_deliveries",
    "a delivery's state that is none": "UPDATE hook_deliveries SET state = 'perhaps'",
    "a second cursor": "INSERT INTO told VALUES (2, 5)",
    "a cursor below nothing": "UPDATE told SET seq = -1",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_the_database_refuses(core: StoreCore, name: str) -> None:
    """What no decision may leave, no row can hold."""
    with pytest.raises(sqlite3.IntegrityError):
        core.db.execute(FORGERIES[name])


# loading and the proof


def test_an_untouched_book_verifies_and_loads_the_same(core: StoreCore, tmp_path: Path) -> None:
    """The rows are what the journal says they became, and a restart finds what was open."""
    assert verify_book(core.db) == (core.book.chain.seq, core.book.chain.head)
    state = book_state(core.book)
    assert (set(state["servers"]), set(state["fleets"]), set(state["hooks"])) == (
        {"srv_0001"},
        {"flt_0001"},
        {"hook_0001"},
    )
    assert (set(state["deliveries"]), state["told_seq"]) == ({("hook_0001", 5)}, 5)
    core.close()
    again = open_core(tmp_path)
    assert book_state(again.book) == state
    again.close()
    assert first_contradiction(tmp_path / "gateway.db") is None


TAMPERINGS = {
    "a server's state": "UPDATE servers SET state = 'stopped' WHERE id = 'srv_0001'",
    "a server that ended brought back": "UPDATE servers SET state = 'running', ended_at_ms = NULL WHERE id = 'srv_0002'",
    "a server's version": "UPDATE servers SET version = version + 1 WHERE id = 'srv_0001'",
    "a fleet's state": "UPDATE fleets SET state = 'ending'",
    "a snapshot's version": "UPDATE snapshots SET version = 7",
    "an endpoint's version": "UPDATE hooks SET version = 7",
    "an SSH key removed": "DELETE FROM ssh_keys",
    "a server removed": "DELETE FROM servers WHERE id = 'srv_0002'",
    "a quote added": "INSERT INTO quotes SELECT 'quo_9', account_id, vendor, plan, region, first_charge_max_base, document, "
    "sealed_spec, created_at_ms, expires_at_ms FROM quotes",
    "a key that ordered and bought": "INSERT INTO claims VALUES ('acc_1', 'token 1', zeroblob(32), 'pay_1', NULL, NULL, 1)",
    "a key that ordered a fleet and bought": "INSERT INTO claims "
    "VALUES ('acc_1', 'fleet token 1', zeroblob(32), 'pay_1', NULL, NULL, 1)",
    "a key that ordered both": "UPDATE fleets SET client_token = 'token 1'",
    "a server on another account's thing": "INSERT INTO resources VALUES "
    f"('{VENDOR}', 'r-1', 'acc_2', '', 'server', 'on', NULL, NULL, NULL, 1, NULL, '', NULL, '')",
    "a cursor past the journal": "UPDATE told SET seq = 999",
    "something due to a deleted endpoint": "UPDATE hook_deliveries SET hook_id = 'hook_0002' WHERE state = 'pending'",
    "a server in another account's fleet": "UPDATE fleets SET account_id = 'acc_2'",
}
STOPS_THE_START = {
    "a cursor past the journal",
    "something due to a deleted endpoint",
    "a server in another account's fleet",
}


@pytest.mark.parametrize("name", sorted(set(TAMPERINGS) - STOPS_THE_START))
def test_the_full_proof_finds(core: StoreCore, tmp_path: Path, name: str) -> None:
    """Every row that its journal rows do not explain is named, by the command and by the running service alike."""
    core.db.execute("PRAGMA foreign_keys = OFF")
    assert core.db.execute(TAMPERINGS[name]).rowcount > 0
    with pytest.raises(BookBroken):
        verify_book(core.db)
    core.close()
    assert first_contradiction(tmp_path / "gateway.db") is not None


@pytest.mark.parametrize("name", sorted(STOPS_THE_START))
def test_loading_refuses(core: StoreCore, tmp_path: Path, name: str) -> None:
    """A book whose open records contradict each other does not even start."""
    core.post([c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2"))])
    core.db.execute(TAMPERINGS[name])
    core.close()
    with pytest.raises(BookBroken):
        open_core(tmp_path)


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [
        (OPEN_SERVERS, {}, "servers_open"),
        (OPEN_FLEETS, {}, "fleets_open"),
        (OPEN_HOOKS, {}, "hooks_open"),
        (PENDING_DELIVERIES, {}, "hook_deliveries_pending"),
        (ORDER, ("a", "t"), "sqlite_autoindex_servers_2"),
        (queries.SERVERS_OF_FLEET, {"fleet_id": "f"}, "servers_fleet"),
        (queries.SERVERS_OF_PAYMENT, {"payment_id": "p"}, "servers_payment"),
        (queries.SERVER_COST, queries.cost_parameters(make_server()), "payments_thing"),
        (queries.SERVER_COST, queries.cost_parameters(make_server()), "payments_held_periods"),
        (queries.SERVER_COST, queries.cost_parameters(make_server()), "idempotency_key>? AND idempotency_key<?"),
    ],
)
def test_each_question_has_its_index(core: StoreCore, query: str, values: dict[str, object], index: str) -> None:
    """What is asked for every order, every renewal or at every start reads no table through."""
    plan = [str(row[3]) for row in core.db.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    assert index in " ".join(plan)
    own = ("servers", "fleets", "hooks", "hook_deliveries", "payments", "claims", "meters", "resources")
    assert [step for step in plan if step.split()[0] == "SCAN" and step.split()[1] in own and "INDEX" not in step] == []


# what a server cost


def cost(core: StoreCore, server: Server) -> tuple[int, int]:
    """Return what is captured and held for a server."""
    row = core.db.execute(queries.SERVER_COST, queries.cost_parameters(server)).fetchone()
    return row[0], row[1]


def servers_of(core: StoreCore, payment_id: str) -> list[str]:
    """Return the servers that a payment was made for."""
    return [row[0] for row in core.db.execute(queries.SERVERS_OF_PAYMENT, {"payment_id": payment_id})]


def traced(core: StoreCore, text: str) -> list[str]:
    """Return the payments that a trace finds."""
    asked = {"text": text, "blob": None, "number": 0, "limit": 50}
    return sorted({row[0] for row in core.db.execute(queries.TRACE, asked)})


def test_a_server_costs_its_orders_and_its_renewals(tmp_path: Path) -> None:
    """Held while it is open, captured when it is settled: of each plan that was tried, and of each renewal."""
    core = seeded(open_core(tmp_path))
    server = make_server(1)
    core.post([put(server), make_purchase(1, idempotency_key="create srv_0001 0")])
    assert cost(core, server) == (0, 9_000_000)  # no ref and no payment is known of it yet
    core.post([make_purchase(2, idempotency_key="create srv_0001 1", hold_base=4_000_000)])
    assert cost(core, server) == (0, 13_000_000)
    server = newer(server, state=RUNNING, ref="srv_0002", payment_id="pay_0002", tried=1)
    core.post([put(server), make_outcome(2, resource=make_resource(2)), make_settled(2)])
    assert cost(core, server) == (4_000_000, 9_000_000)
    core.post([make_purchase(3, renews=True, resource_ref="srv_0002", idempotency_key="renew srv_0001 1")])
    assert cost(core, server) == (4_000_000, 18_000_000)
    core.post([make_outcome(3), make_settled(3), make_outcome(1, Delivery.REFUSED, fault=Fault.AGENT)])
    assert cost(core, server) == (13_000_000, 9_000_000)
    asked = {"account_id": "acc_1", "vendor": VENDOR, "ref": "srv_0002", "before": "~", "limit": 9}
    assert [row[0] for row in core.db.execute(queries.RENEWALS_OF, asked)] == ["pay_0003"]
    assert traced(core, "srv_0001") == ["pay_0001", "pay_0002", "pay_0003"]
    assert [servers_of(core, f"pay_000{n}") for n in (1, 2, 3)] == [["srv_0001"]] * 3
    core.close()


def test_a_server_does_not_cost_what_others_cost() -> None:
    """Another server whose id begins alike, another account, another vendor's thing of that name: none is counted."""
    core = seeded(open_core())
    core.post([c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2")), replace_credit(core)])
    server = make_server(1, ref="srv_0002", state=RUNNING)
    core.post(
        [
            put(server),
            put(make_server(11, id="srv_00011")),
            make_purchase(1, idempotency_key="create srv_00011 0"),
            make_purchase(2, idempotency_key="create srv_0001"),
            make_purchase(3, vendor="other", resource_ref="srv_0002"),
            make_purchase(4, account_id="acc_2", key_id="key_2", idempotency_key="create srv_0001 0"),
        ]
    )
    assert cost(core, server) == (0, 0)
    assert servers_of(core, "pay_0001") == ["srv_00011"]
    assert servers_of(core, "pay_0004") == servers_of(core, "pay_0002") == []


def replace_credit(core: StoreCore) -> c.Command:
    """Return credit for the second account."""
    assert "acc_2" not in core.book.agent_accounts
    return c.CreditAccount("acc_2", 50_000_000, "second", "", "me", NOW_MS)


def test_a_metered_server_costs_what_its_meter_says() -> None:
    """Billed periods less what the house bore, and the periods that are held: whatever names the meter, counted once."""
    core = seeded(open_core())
    server = make_server(1, vendor=METERED)
    core.post([put(server), make_order(21, idempotency_key="create srv_0001 0")])
    held_base = make_order(21).payment.hold_base
    assert cost(core, server) == (0, held_base)
    core.post([make_created(21)])
    payment = core.book.payment("pay_0021")
    assert payment is not None
    assert payment.resource_ref is not None
    server = newer(server, state=RUNNING, ref=payment.resource_ref, payment_id="pay_0021")
    core.post([put(server)])
    assert cost(core, server) == (0, held_base)
    core.post([c.BillPeriod("pay_0021", NOW_MS + 24 * HOUR_MS)])
    meter = core.book.meters["met_0021"]
    assert meter.billed_base > 0
    assert cost(core, server) == (meter.billed_base - meter.lost_base, 0)
    held = make_meter(21, seq=1, held_until_ms=NOW_MS + 24 * HOUR_MS)
    core.post([make_next(25, held, resource_ref=payment.resource_ref)])
    following = core.book.payment("pay_0025")
    assert following is not None
    assert cost(core, server) == (meter.billed_base, following.hold_base)
    core.post([c.EndMeter("met_0021", NOW_MS + 26 * HOUR_MS, "gone", NOW_MS + 26 * HOUR_MS)])
    captured = sum(row[0] for row in core.db.execute("SELECT captured_base FROM payments"))
    assert cost(core, server) == (captured, 0)
    assert traced(core, "srv_0001") == ["pay_0021", "pay_0025"]
    assert servers_of(core, "pay_0025") == ["srv_0001"]


def test_what_the_house_bore_is_not_the_servers_cost() -> None:
    """P2: what a thing cost beyond what was held is the house's loss: the account pays, and is told, its holds and no more."""
    core = seeded(open_core())
    server = make_server(1, vendor=METERED)
    core.post([put(server), make_order(21, idempotency_key="create srv_0001 0"), make_created(21)])
    late_ms = NOW_MS + 40 * HOUR_MS  # the next period was never held
    core.post([c.BillPeriod("pay_0021", late_ms), c.EndMeter("met_0021", late_ms, "gone", late_ms)])
    billed_base, lost_base = core.db.execute("SELECT billed_base, lost_base FROM meters").fetchone()
    captured_base = core.db.execute("SELECT captured_base FROM payments").fetchone()[0]
    assert 0 < lost_base == billed_base - captured_base
    assert cost(core, server) == (captured_base, 0)


# pages


def test_lists_are_an_accounts_own_and_go_by_id(core: StoreCore) -> None:
    """P9: each list shows one account's records, newest first, from below the last one of the page before."""
    core.post([c.OpenAccount(make_account(2)), c.AddKey(make_key(2, account_id="acc_2"))])
    core.post([put(make_server(3, vendor="other")), put(make_server(4, account_id="acc_2", key_id="key_2"))])
    nothing = {"open": 0, "state": "", "vendor": "", "fleet_id": ""}

    def ids(sql: str, **asked: object) -> list[str]:
        page = {"account_id": "acc_1", "before": "~", "limit": 9, **asked}
        return [row[0] for row in core.db.execute(sql, page)]

    def servers(**asked: object) -> list[str]:
        return ids(queries.SERVERS_OF_ACCOUNT, **{**nothing, **asked})

    assert servers() == ["srv_0003", "srv_0002", "srv_0001"]
    assert servers(limit=2) == ["srv_0003", "srv_0002"]
    assert servers(before="srv_0002") == ["srv_0001"]
    assert servers(open=1) == ["srv_0003", "srv_0001"]
    assert servers(state="running") == servers(fleet_id="flt_0001") == ["srv_0001"]
    assert servers(vendor="other") == ["srv_0003"]
    assert servers(account_id="acc_2") == ["srv_0004"]
    assert ids(queries.SNAPSHOTS_OF_ACCOUNT) == ids(queries.SNAPSHOTS_OF_SERVER, server_id="srv_0001") == ["snp_0001"]
    assert ids(queries.SNAPSHOTS_OF_SERVER, server_id="srv_0001", account_id="acc_2") == []
    assert ids(queries.SSH_KEYS_OF_ACCOUNT) == ["sshk_0001"]
    assert ids(queries.FLEETS_OF_ACCOUNT) == ["flt_0001"]
    for sql in (queries.SNAPSHOTS_OF_ACCOUNT, queries.SSH_KEYS_OF_ACCOUNT, queries.FLEETS_OF_ACCOUNT):
        assert ids(sql, account_id="acc_2") == []
    assert [row[0] for row in core.db.execute(queries.QUOTE, {"id": "quo_0001", "account_id": "acc_2"})] == []


def test_the_journal_is_read_by_record(core: StoreCore) -> None:
    """P11: every row of a server names it, its account and its vendor."""
    rows = core.db.execute("SELECT body FROM journal WHERE kind LIKE 'server.%' ORDER BY seq").fetchall()
    told = [json.loads(row[0]) for row in rows]
    assert [(each["server_id"], each["state"]) for each in told] == [
        ("srv_0001", "ordering"),
        ("srv_0002", "ordering"),
        ("srv_0002", "lost"),
        ("srv_0001", "running"),
    ]
    assert {(each["account_id"], each["vendor"]) for each in told} == {("acc_1", VENDOR)}


def test_an_answer_is_not_kept_under_an_orders_key(core: StoreCore) -> None:
    """Nothing of a refused answer is on disk."""
    result = post(core, c.Remember("acc_1", "token 1", bytes(32), make_answer(payment_id="")))
    assert not isinstance(result, Done)
    assert core.db.execute("SELECT COUNT(*) FROM claims").fetchone()[0] == 0
