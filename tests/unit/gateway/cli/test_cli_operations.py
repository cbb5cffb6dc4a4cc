"""The operator's calls on a real store, as server and command line both run them."""

import asyncio
import contextlib
import json
import socket
import sqlite3
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.core import commands as c
from gateway.core.apikeys import digest_of
from gateway.core.payment import Charge, Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.records import Payment, Task
from gateway.core.server import ServerState
from gateway.flow.unproven import Said
from gateway.operator.registry import OPERATIONS, operate
from gateway.operator.services import Services
from gateway.operator.socket import SocketInUse, operator_socket
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemEntropy
from tests.factories import (
    ASSET,
    HOUR_MS,
    METERED,
    NOW_MS,
    WALLET,
    make_account,
    make_balance,
    make_created,
    make_credit,
    make_fleet,
    make_float,
    make_key,
    make_order,
    make_outcome,
    make_outflow,
    make_purchase,
    make_resource,
    make_server,
    make_settled,
)

BY = "operator test"
APPROVED = "0x8eCbd65228930060363C70854da7D37D57ffC358"


class StillClock:
    """A clock that stands at NOW_MS."""

    def now_ms(self) -> int:
        return NOW_MS

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Bench:
    """A store with a funded account, and the calls on it."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.payee_changes = store, 0
        routes = {"vpsagent": frozenset({"rent", "renew"}), "shop": frozenset({"any", "/v1"})}
        self.services = Services(
            store, StillClock(), SystemEntropy(), routes, frozenset({WALLET}), payees_changed=self._changed
        )

    def _changed(self) -> None:
        self.payee_changes += 1

    async def ask(self, call: str, /, **parameters: object) -> dict[str, Any]:
        """Run a call; its answer must survive JSON, as it will on the socket."""
        answer = await operate(self.services, call, parameters, BY)
        assert json.loads(json.dumps(answer)) == answer
        return answer

    async def refused(self, call: str, /, **parameters: object) -> Problem:
        """Run a call that must be refused, and must have left nothing in the journal."""
        before = self.store.view.journal_seq
        with pytest.raises(Problem) as caught:
            await operate(self.services, call, parameters, BY)
        assert self.store.view.journal_seq == before
        return caught.value

    async def open_task(self, kind: str, subject: str) -> str:
        task_id = f"task_{self.store.view.journal_seq}"
        await self.store.post(c.OpenTask(Task(task_id, kind, subject, "why", NOW_MS)))
        return task_id


def everything_in(folder: Path) -> bytes:
    """Return the bytes of every file of a folder."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A seeded store in a folder of its own."""
    store = await SqliteStore.open(tmp_path / "gateway.db")
    for command in (c.OpenAccount(make_account()), c.AddKey(make_key()), make_credit(), make_float()):
        await store.post(command)
    yield Bench(store)
    await store.close()


async def test_an_account_is_opened_once_and_credited_once_per_reference(bench: Bench) -> None:
    """A repeated credit says that it changed nothing; a second account of the same id is refused."""
    await bench.ask("account_open", name="Two", account="two")
    assert (await bench.refused("account_open", name="Two", account="two")).code == "account_exists"
    assert (await bench.refused("account_open", name="Mine", account="house")).code == "bad_request"
    first = await bench.ask("account_credit", account="two", amount="12.5", reference="wire 7")
    again = await bench.ask("account_credit", account="two", amount="12.5", reference="wire 7")
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["account"]["available"] == "12.500000"
    made = (await bench.ask("account_open", name="Three"))["account"]["id"]
    assert made.startswith("acct_")
    page = await bench.ask("account_list", limit=2)
    assert [a["id"] for a in page["accounts"]] == ["acc_1", made]
    assert [a["id"] for a in (await bench.ask("account_list", after=page["next"]))["accounts"]] == ["two"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"amount": "1e3"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": 5}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "٣"}, "amount"),
        ({"reference": None}, "reference"),
        ({"reference": "a\nb"}, "reference"),
        ({"reference": "x" * 1001}, "reference"),
        ({"account": "a:b"}, "account"),
        ({"ammount": "5"}, "ammount"),
    ],
)
async def test_a_credit_with_a_bad_parameter_changes_nothing(
    bench: Bench, parameters: dict[str, object], field: str
) -> None:
    """Every parameter is judged before anything is booked, unknown ones as well."""
    problem = await bench.refused(
        "account_credit", **{"account": "acc_1", "amount": "1", "reference": "r", **parameters}
    )
    assert (problem.code, problem.field) == ("bad_request", field)


async def test_a_new_key_is_shown_once_and_only_its_digest_is_kept(bench: Bench, tmp_path: Path) -> None:
    """The text opens the account; nothing on disk contains it."""
    made = await bench.ask(
        "key_new", account="acc_1", name="ci", scopes=["proxy:vpsagent"], budgets=["10/day", "5/90s@shop//v1"]
    )
    text = made["secret"]
    assert bench.store.view.keys_by_digest[digest_of(text)].id == made["key"]["id"]
    assert made["key"]["budgets"] == ["10.000000/86400s", "5.000000/90s@shop//v1"]
    secret = text.rpartition(made["key"]["id"] + "_")[2]
    assert len(secret) == 43
    assert secret.encode() not in everything_in(tmp_path)
    listed = await bench.ask("key_list", account="acc_1")
    assert {key["id"] for key in listed["keys"]} == {"key_1", made["key"]["id"]}
    assert "secret" not in json.dumps(listed)
    assert (await bench.ask("key_revoke", key=made["key"]["id"]))["changed"] is True
    assert (await bench.ask("key_revoke", key=made["key"]["id"]))["changed"] is False


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"budgets": ["10"]}, "bad_request"),
        ({"budgets": ["10/0s"]}, "bad_request"),
        ({"budgets": ["10/year"]}, "bad_request"),
        ({"budgets": ["x/day"]}, "bad_request"),
        ({"budgets": ["10/day@nobody"]}, "vendor_unknown"),
        ({"budgets": ["10/day@vpsagent/rnet"]}, "bad_request"),
        ({"budgets": "10/day"}, "bad_request"),
        ({"scopes": ["admin"]}, "bad_request"),
        ({"scopes": ["proxy:nobody"]}, "vendor_unknown"),
        ({"account": "nobody"}, "not_found"),
    ],
)
async def test_a_key_that_would_not_be_limited_as_written_is_refused(
    bench: Bench, parameters: dict[str, object], code: str
) -> None:
    """A budget on a mistyped vendor or route would limit nothing, so it is no budget."""
    assert (await bench.refused("key_new", **{"account": "acc_1", **parameters})).code == code


async def test_a_payment_is_shown_with_all_that_is_known(bench: Bench) -> None:
    """Axes, nonce, deadline, transaction, evidence, transfers and journal rows in one answer."""
    await bench.store.post(make_purchase(1))
    await bench.store.post(make_outcome(1))
    waiting = (await bench.ask("payments_show", payment="pay_0001"))["payment"]
    assert waiting["delivery_deadline"] is None  # it is no date before the vendor has collected
    await bench.store.post(make_settled(1))
    shown = (await bench.ask("payments_show", payment="pay_0001"))["payment"]
    assert shown["delivery_deadline"] == "2027-01-15T09:00:00.001Z"
    assert (shown["delivery"], shown["transfer"], shown["charge"]) == ("delivered", "settled", "captured")
    assert (shown["hold"], shown["captured"], shown["value"]) == ("9.000000", "9.000000", "9.000000")
    assert shown["tx_hash"] == shown["evidence"][0]["tx_hash"]
    assert shown["evidence"][0]["witnesses"] == ["rpc-a", "rpc-b"]
    assert shown["valid_before"] == "2027-01-15T08:15:00.000Z"
    assert [row["kind"] for row in shown["journal"]][-1] == "payment.captured"
    assert {row["phase"] for row in shown["transfers"]} == {"pending", "post"}
    assert len(shown["attempts"]) == 1
    listed = await bench.ask("payments_list", open=True)
    assert listed["payments"] == []
    assert [p["id"] for p in (await bench.ask("payments_list", account="acc_1"))["payments"]] == ["pay_0001"]
    assert (await bench.refused("payments_show", payment="pay_0002")).code == "not_found"


async def test_a_held_dispute_ends_as_the_operator_says(bench: Bench) -> None:
    """Only a held dispute can be resolved, once, and only captured or refunded."""
    await bench.store.post(make_purchase(1))
    assert (await bench.refused("payments_resolve", payment="pay_0001", charge="refunded")).code == "not_disputed"
    await bench.store.post(replace(make_outcome(1, Delivery.REFUSED), fault=Fault.VENDOR))
    await bench.store.post(make_settled(1))
    assert (await bench.refused("payments_resolve", payment="pay_0001", charge="voided")).code == "bad_resolution"
    resolved = await bench.ask("payments_resolve", payment="pay_0001", charge="refunded")
    assert resolved["payment"]["charge"] == "refunded"
    assert bench.store.view.balances["acc_1"].available_base == 100_000_000
    assert [row["content"]["by"] for row in resolved["payment"]["journal"] if row["kind"] == "dispute.resolved"] == [BY]
    assert (await bench.refused("payments_resolve", payment="pay_0001", charge="captured")).code == "not_disputed"


class Resolver:
    """Ends unproven payments; remembers what it was told."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.told = store, list[tuple[str, Said]]()

    async def resolve(self, payment_id: str, said: Said) -> Payment:
        self.told.append((payment_id, said))
        payment = await self.store.payment(payment_id)
        assert payment is not None
        return payment


async def test_what_nothing_proves_is_ended_by_a_running_gateway(bench: Bench) -> None:
    """What left, its transaction and the words go to whoever sees the payment's chain; without it nothing is decided."""
    await bench.store.post(make_purchase(1))
    words: dict[str, object] = {
        "payment": "pay_0001",
        "charge": "captured",
        "resolution": "seen",
        "tx": "0x" + "ab" * 32,
    }
    assert (await bench.refused("payments_resolve", **words, left="1")).code == "not_ready"
    resolver = Resolver(bench.store)
    bench.services = replace(bench.services, unproven={8453: resolver})
    answer = await bench.ask("payments_resolve", **words, left="8.5")
    assert answer["payment"]["id"] == "pay_0001"
    said = Said(Charge.CAPTURED, 8_500_000, b"\xab" * 32, "seen", BY)
    assert resolver.told == [("pay_0001", said)]
    await bench.ask("payments_resolve", payment="pay_0001", charge="refunded", left="0", resolution="called off")
    assert resolver.told[1][1] == Said(Charge.REFUNDED, 0, None, "called off", BY)
    for wrong, field in (
        ({"left": "1", "resolution": "x", "tx": "0xabc"}, "tx"),
        ({"left": "-1", "resolution": "x"}, "left"),
        ({"left": "1"}, "resolution"),
        ({"resolution": "x"}, "left"),
        ({"tx": "0x" + "ab" * 32}, "left"),
    ):
        problem = await bench.refused("payments_resolve", payment="pay_0001", charge="captured", **wrong)
        assert (problem.code, problem.field) == ("bad_request", field)
    missing = await bench.refused("payments_resolve", payment="pay_0009", charge="captured", left="1", resolution="x")
    assert missing.code == "not_found"
    assert len(resolver.told) == 2


async def test_a_payee_is_approved_as_the_task_names_it(bench: Bench) -> None:
    """The book takes the payee, the signers are told, the task is closed."""
    task_id = await bench.open_task("payee_unknown", f"vpsagent/8453/{APPROVED}")
    answer = await bench.ask("tasks_approve", task=task_id)
    assert ("vpsagent", 8453, bytes.fromhex(APPROVED[2:])) in bench.store.view.payees
    assert bench.payee_changes == 1
    assert answer["task"]["resolution"] == f"approved payee {APPROVED} of vpsagent on chain 8453"
    assert (await bench.refused("tasks_approve", task=task_id)).code == "bad_request"


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        (f"vpsagent/8453/0x{WALLET.hex()}", "payee_is_ours"),
        ("vpsagent/8453/0x" + "00" * 20, "payee_is_ours"),
        (f"nobody/8453/{APPROVED}", "vendor_unknown"),
        (f"vpsagent/0/{APPROVED}", "bad_request"),
        (f"vpsagent/8453/{APPROVED[:-1]}9", "bad_request"),
        ("vpsagent", "bad_request"),
    ],
)
async def test_a_payee_that_can_never_be_paid_is_not_approved(bench: Bench, subject: str, code: str) -> None:
    """Our own wallets, nobody, unknown vendors and broken checksums stay out of the book."""
    task_id = await bench.open_task("payee_unknown", subject)
    assert (await bench.refused("tasks_approve", task=task_id)).code == code
    assert (bench.store.view.payees, bench.payee_changes) == (set(), 0)


async def test_a_price_is_approved_only_with_the_operators_figure(bench: Bench) -> None:
    """The task does not carry the amount into the book: the operator states it, and is told what was asked for."""
    task_id = await bench.open_task("price_changed", "vpsagent/server_small_1mo")
    refusal = await bench.refused("tasks_approve", task=task_id)
    asked = (await bench.ask("tasks_show", task=task_id))["task"]["detail"]
    assert (refusal.field, refusal.detail) == ("price", f"state the price that you accept, with --price: {asked}")
    await bench.ask("tasks_approve", task=task_id, price="10.99")
    assert bench.store.view.prices["vpsagent", "server_small_1mo"].approved_base == 10_990_000
    bare = await bench.open_task("price_changed", "shop")
    assert (await bench.refused("tasks_approve", task=bare, price="1")).code == "bad_request"
    other = await bench.open_task("dispute", "pay_1")
    assert (await bench.refused("tasks_approve", task=other)).code == "bad_request"


async def test_tasks_are_listed_shown_and_closed(bench: Bench) -> None:
    """Open ones by default; a closed one says how it ended."""
    task_id = await bench.open_task("dispute", "pay_1")
    assert [t["id"] for t in (await bench.ask("tasks_list"))["tasks"]] == [task_id]
    await bench.ask("tasks_close", task=task_id, resolution="called the vendor")
    assert (await bench.ask("tasks_list"))["tasks"] == []
    assert [t["resolution"] for t in (await bench.ask("tasks_list", all=True))["tasks"]] == ["called the vendor"]
    assert (await bench.ask("tasks_show", task=task_id))["task"]["closed_at"] is not None
    assert (await bench.refused("tasks_show", task=task_id[:-1])).code == "not_found"
    assert (await bench.refused("tasks_close", task="task_none", resolution="x")).code == "not_found"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("all", "all"),
        ("vendor:vpsagent", "vendor:vpsagent"),
        ("account:acc_1", "account:acc_1"),
        (f"wallet:0x{WALLET.hex().upper()}", f"wallet:0x{WALLET.hex()}"),
        (
            "asset:eip155:8453/erc20:0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
            "asset:eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        ),
    ],
)
async def test_a_freeze_is_stored_as_the_decisions_compare_it(bench: Bench, given: str, stored: str) -> None:
    """Another spelling of the same wallet or asset freezes it all the same, and lifts it."""
    assert (await bench.ask("freeze_set", scope=given, reason="drill"))["freeze"]["scope"] == stored
    assert (await bench.ask("freeze_set", scope=given, reason="drill"))["changed"] is False
    assert [f["scope"] for f in (await bench.ask("freeze_list"))["freezes"]] == [stored]
    assert (await bench.ask("freeze_lift", scope=given, reason="over")) == {"changed": True, "scope": stored}
    assert (await bench.refused("freeze_lift", scope=given, reason="over")).code == "not_found"


@pytest.mark.parametrize(
    "scope",
    [
        "vendor:vpsagnet",
        "account:nobody",
        "wallet:0x" + "99" * 20,
        "wallet:main",
        "asset:USDC",
        "everything",
        "all:",
        "vendor",
    ],
)
async def test_a_freeze_that_would_stop_nothing_is_refused(bench: Bench, scope: str) -> None:
    """A mistyped scope must not look like a stop."""
    await bench.refused("freeze_set", scope=scope, reason="drill")
    assert bench.store.view.freezes == {}


QUARANTINE = c.SetFreeze("database", frozen=True, reason="an older copy", by="quarantine", at_ms=NOW_MS)


async def test_a_quarantine_is_lifted_only_by_force(bench: Bench) -> None:
    """What an older database does not know may already be signed; by force the signers' mark is told, once it is so."""
    accepted: list[tuple[int, dict[str, Any]]] = []
    view = bench.store.view
    bench.services = replace(
        bench.services, accept_database=lambda: accepted.append((view.journal_seq, dict(view.freezes)))
    )
    await bench.store.post(QUARANTINE)
    assert (await bench.refused("freeze_lift", scope="database", reason="hurry")).code == "frozen"
    assert accepted == []
    answer = await bench.ask("freeze_lift", scope="database", reason="checked by hand", force=True)
    assert answer == {"changed": True, "scope": "database"}
    assert accepted == [(view.journal_seq, {})]


async def test_a_quarantine_is_not_lifted_without_a_running_gateway(bench: Bench) -> None:
    """Nobody else can tell the signers' mark: the next start would quarantine the database again."""
    await bench.store.post(QUARANTINE)
    problem = await bench.refused("freeze_lift", scope="database", reason="checked by hand", force=True)
    assert problem.code == "frozen"
    assert "running gateway" in problem.detail
    assert "database" in bench.store.view.freezes


async def test_lifting_an_ordinary_freeze_tells_the_mark_nothing(bench: Bench) -> None:
    """By force or not: only the quarantine is about which database is the true one."""
    accepted: list[str] = []
    bench.services = replace(bench.services, accept_database=lambda: accepted.append("database"))
    for force in (False, True):
        await bench.ask("freeze_set", scope="all", reason="drill")
        await bench.ask("freeze_lift", scope="all", reason="over", force=force)
    assert accepted == []


async def test_one_question_leads_from_anything_to_everything(bench: Bench) -> None:
    """P11: transaction, server, key, payment, nonce, account and journal row all lead to the same payment."""
    await bench.store.post(make_purchase(1))
    await bench.store.post(make_outcome(1, resource=make_resource(1)))
    await bench.store.post(make_settled(1))
    shown = (await bench.ask("payments_show", payment="pay_0001"))["payment"]
    row = shown["journal"][0]["seq"]
    for what in (
        shown["tx_hash"],
        shown["tx_hash"][2:],
        "srv_0001",
        "key_1",
        "pay_0001",
        shown["nonce"],
        "acc_1",
        str(row),
    ):
        found = await bench.ask("trace", what=what)
        assert [p["id"] for p in found["payments"]] == ["pay_0001"], what
        assert found["payments"][0]["evidence"] == shown["evidence"]
        assert [r["ref"] for r in found["resources"]] == ["srv_0001"]
        assert "sealed" not in json.dumps(found)
    assert (await bench.ask("trace", what="key_1"))["key"]["id"] == "key_1"
    assert (await bench.ask("trace", what=str(row)))["journal_row"]["seq"] == row
    await bench.store.post(make_outflow(2))
    outflow = await bench.ask(
        "trace", what=(await bench.store.query("SELECT hex(tx_hash) AS h FROM evidence ORDER BY id DESC"))[0]["h"]
    )
    assert [e["kind"] for e in outflow["outflows"]] == ["outflow"]
    assert (await bench.refused("trace", what="0x" + "ab" * 32)).code == "not_found"
    assert (await bench.refused("trace", what="gk_key_1_secret")).code == "bad_request"


async def test_a_server_and_its_fleet_lead_to_their_payments_and_back(bench: Bench) -> None:
    """P11: from a server or a fleet to every payment made for it, and from each payment to the server; nothing sealed."""
    ordered = make_server(7, fleet_id="flt_0001")
    running = replace(ordered, version=2, state=ServerState.RUNNING, ref="srv_0002", payment_id="pay_0002")
    for command in (
        c.Put(make_fleet(), "created", NOW_MS),
        c.Put(ordered, "ordered", NOW_MS),
        make_purchase(1, idempotency_key="create srv_0007 0"),
        make_purchase(2, idempotency_key="create srv_0007 1"),
        make_outcome(2, resource=make_resource(2)),
        c.Put(running, "running", NOW_MS),
        make_purchase(3, renews=True, resource_ref="srv_0002"),
    ):
        await bench.store.post(command)
    for what in ("flt_0001", "srv_0007"):
        found = await bench.ask("trace", what=what)
        assert [p["id"] for p in found["payments"]] == ["pay_0001", "pay_0002", "pay_0003"]
    assert [p["servers"] for p in found["payments"]] == [["srv_0007"]] * 3
    assert [(s["id"], s["state"], s["fleet"], s["ref"]) for s in found["servers"]] == [
        ("srv_0007", "running", "flt_0001", "srv_0002")
    ]
    assert "sealed" not in json.dumps(found)
    for what in ("flt_0001", "pay_0001", "pay_0003", "srv_0002"):
        assert [s["id"] for s in (await bench.ask("trace", what=what))["servers"]] == ["srv_0007"], what
    await bench.store.post(c.Put(make_server(8), "ordered", NOW_MS))
    unpaid = await bench.ask("trace", what="srv_0008")
    assert ([s["id"] for s in unpaid["servers"]], unpaid["payments"]) == (["srv_0008"], [])


async def stuck_order(bench: Bench) -> str:
    """An order whose vendor delivered what cannot be read; return its server's id."""
    hangs = replace(make_server(7), version=2, state=ServerState.ORDER_UNKNOWN, payment_id="pay_0001")
    for command in (
        c.Put(make_server(7), "ordered", NOW_MS),
        make_purchase(1, idempotency_key="create srv_0007 0"),
        make_outcome(1, resource=None),
        c.Put(hangs, "order_unknown", NOW_MS),
        c.OpenTask(Task("task_1", "delivery_unreadable", "pay_0001", "why", NOW_MS, "pay_0001")),
    ):
        assert isinstance(await bench.store.post(command), c.Done), command
    return hangs.id


async def test_what_an_order_made_is_what_the_operator_found_out(bench: Bench) -> None:
    """The server has the vendor's thing, the thing its owner, the journal who says so; and the task is closed."""
    server_id = await stuck_order(bench)
    found = await bench.ask("server_resolve", server=server_id, made="box-9", resolution="seen in the console")
    assert found["changed"] is True
    assert (found["server"]["state"], found["server"]["ref"]) == ("provisioning", "box-9")
    thing = await bench.store.resource("vpsagent", "box-9")
    assert thing is not None
    assert (thing.account_id, thing.payment_id) == ("acc_1", "pay_0001")
    (row,) = await bench.store.query("SELECT body FROM journal WHERE kind = 'server.provisioning'")
    body = json.loads(row["body"])
    assert (body["by"], body["resolution"]) == (BY, "seen in the console")
    assert (await bench.ask("tasks_list"))["tasks"] == []
    assert (await bench.refused("server_resolve", server=server_id, nothing=True, resolution="no")).field == "server"


async def test_an_order_that_made_nothing_has_failed(bench: Bench) -> None:
    """With the operator's words as the reason, and for good."""
    server_id = await stuck_order(bench)
    found = await bench.ask("server_resolve", server=server_id, nothing=True, resolution="their support says so")
    assert (found["server"]["state"], found["server"]["ref"]) == ("failed", None)
    assert "their support says so" in found["server"]["reason"]
    assert bench.store.view.servers == {}
    assert (await bench.ask("tasks_show", task="task_1"))["task"]["resolution"] == "their support says so"


async def test_only_what_is_stuck_is_resolved_and_only_to_what_can_be(bench: Bench) -> None:
    """Neither an order that goes on by itself nor another account's thing; and a call says one of the two."""
    await bench.store.post(c.Put(make_server(8), "ordered", NOW_MS))
    going = await bench.refused("server_resolve", server="srv_0008", nothing=True, resolution="impatience")
    assert (going.code, going.field) == ("bad_request", "server")
    assert (await bench.refused("server_resolve", server="srv_9", nothing=True, resolution="r")).code == "not_found"
    server_id = await stuck_order(bench)
    for said in ({}, {"made": "box-9", "nothing": True}):
        assert (await bench.refused("server_resolve", server=server_id, resolution="r", **said)).field == "made"
    await bench.store.post(c.OpenAccount(make_account(2)))
    theirs = replace(make_resource(5), ref="box-5", account_id="acc_2", payment_id="")
    await bench.store.post(c.RecordResource(theirs, NOW_MS))
    taken = await bench.refused("server_resolve", server=server_id, made="box-5", resolution="r")
    assert taken.code == "changed_meanwhile"
    bench.services = replace(bench.services, account_vendors=frozenset({"vpsagent"}))
    unknown = await bench.refused("server_resolve", server=server_id, made="box-6", resolution="r")
    assert (unknown.code, unknown.field) == ("not_found", "made")


async def test_a_resolution_that_was_cut_off_is_finished_by_its_repeat(bench: Bench) -> None:
    """P12: the server has its thing and the task is open still."""
    server_id = await stuck_order(bench)
    known = bench.store.view.servers[server_id]
    await bench.store.post(c.Put(replace(known, version=3, state=ServerState.PROVISIONING, ref="box-9"), "x", NOW_MS))
    other = await bench.refused("server_resolve", server=server_id, made="box-8", resolution="r")
    assert other.field == "made"
    found = await bench.ask("server_resolve", server=server_id, made="box-9", resolution="r")
    assert found["changed"] is False
    assert await bench.store.resource("vpsagent", "box-9") is not None
    assert (await bench.ask("tasks_list"))["tasks"] == []


async def test_balances_add_up(bench: Bench) -> None:
    """Every ledger account is shown, with what is reserved on it."""
    await bench.store.post(make_purchase(1))
    accounts = {(a["code"], a["asset"]): a for a in (await bench.ask("balances"))["accounts"]}
    agent = accounts["agent:acc_1", "USD"]
    assert (agent["posted"], agent["reserved"], agent["available"]) == ("100.000000", "9.000000", "91.000000")
    wallet = accounts[f"wallet:0x{WALLET.hex()}", ASSET]
    assert (wallet["posted"], wallet["reserved"]) == ("1000.000000", "9.000000")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal SET body = replace(body, 'wire', 'hire') WHERE seq = 5",
        "UPDATE journal SET digest = zeroblob(32) WHERE seq = 2",
        "UPDATE journal SET payment_id = 'pay_x' WHERE seq = 3",
        "DELETE FROM journal WHERE seq = 1",
        "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
    ],
)
async def test_an_altered_journal_does_not_verify(bench: Bench, tmp_path: Path, damage: str) -> None:
    """Editing, blanking, relabelling or dropping any row is found."""
    await bench.ask("account_credit", account="acc_1", amount="1", reference="wire")
    whole = await bench.ask("journal_verify")
    assert (whole["verified"], whole["rows"]) == (True, bench.store.view.journal_seq)
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db")) as db:
        assert (
            db.execute(
                damage.replace("replace(body", "CAST(replace(CAST(body AS TEXT)").replace("'hire')", "'hire') AS BLOB)")
            ).rowcount
            == 1
        )
        db.commit()
    broken = await bench.ask("journal_verify")
    assert broken["verified"] is False
    assert broken["error"]


async def test_what_runs_is_listed_with_its_price_and_what_it_cost(bench: Bench) -> None:
    """Open ones by default, of one account or vendor if asked; what the house bore stands beside what was billed."""
    await bench.store.post(make_balance(50_000_000))
    await bench.store.post(make_order(1))
    await bench.store.post(make_created(1))
    await bench.store.post(make_order(2))
    listed = (await bench.ask("meters"))["meters"]
    assert [(m["id"], m["state"], m["hourly"]) for m in listed] == [
        ("met_0002", "ordered", "0.0147"),
        ("met_0001", "running", "0.0147"),
    ]
    assert (listed[1]["ref"], listed[1]["held_until"] is not None, listed[1]["lost"]) == ("srv_0001", True, "0.000000")
    await bench.store.post(c.EndMeter("met_0001", NOW_MS + 5 * HOUR_MS, "destroyed", NOW_MS + 5 * HOUR_MS))
    assert [m["id"] for m in (await bench.ask("meters"))["meters"]] == ["met_0002"]
    everything = (await bench.ask("meters", all=True))["meters"]
    assert [(m["id"], m["state"], m["billed"]) for m in everything][1] == ("met_0001", "ended", "0.073500")
    assert (await bench.ask("meters", account="acc_1", vendor=METERED, limit=1))["next"] == "met_0002"
    assert [m["id"] for m in (await bench.ask("meters", all=True, before="met_0002"))["meters"]] == ["met_0001"]
    assert (await bench.ask("meters", vendor="shop"))["meters"] == []
    assert (await bench.refused("meters", vendor="nobody")).code == "vendor_unknown"
    assert (await bench.refused("meters", account="nobody")).code == "not_found"


async def test_servers_are_listed_with_what_is_wanted_of_them(bench: Bench) -> None:
    """Open ones by default, of one account or vendor if asked; nothing sealed is shown."""
    await bench.store.post(c.Put(make_server(1, auto_renew=True, max_total_base=5_000_000), "ordered", NOW_MS))
    await bench.store.post(c.Put(make_server(2), "ordered", NOW_MS))
    listed = (await bench.ask("servers"))["servers"]
    assert [(s["id"], s["state"], s["wanted"], s["max_total"]) for s in listed] == [
        ("srv_0002", "ordering", "kept", None),
        ("srv_0001", "ordering", "kept", "5.000000"),
    ]
    assert (listed[0]["captured"], listed[0]["held"], "sealed" in str(listed)) == ("0.000000", "0.000000", False)
    ended = make_server(2, state=ServerState.FAILED, ended_at_ms=NOW_MS, version=2, reason="no vendor has it")
    await bench.store.post(c.Put(ended, "failed", NOW_MS))
    assert [s["id"] for s in (await bench.ask("servers"))["servers"]] == ["srv_0001"]
    assert [s["reason"] for s in (await bench.ask("servers", all=True))["servers"]] == ["no vendor has it", ""]
    assert (await bench.ask("servers", account="acc_1", limit=1))["next"] == "srv_0001"
    assert (await bench.ask("servers", vendor="nowhere"))["servers"] == []
    assert (await bench.refused("servers", account="nobody")).code == "not_found"


async def test_a_vendors_balance_is_told_by_the_books_and_by_the_vendor(bench: Bench) -> None:
    """What was paid in, what held periods reserve, what the vendor said last, and what it took beyond its tariff."""
    bench.services = replace(bench.services, account_vendors=frozenset({METERED, "labs"}))
    await bench.store.post(make_balance(50_000_000))
    await bench.store.post(make_order(1))
    await bench.store.post(make_created(1))
    told = {row["vendor"]: row for row in (await bench.ask("vendor_balance"))["vendors"]}
    own = told[METERED]
    assert (own["books"], own["reserved"], own["vendor_says"]) == ("50.000000", "0.352800", "50.000000")
    assert (own["difference"], own["missing"], own["things"], own["hourly"]) == ("0.000000", "0.000000", 1, "0.014700")
    assert (told["labs"]["books"], told["labs"]["vendor_says"], told["labs"]["difference"]) == ("0.000000", None, None)
    await bench.store.post(make_balance(40_000_000, 2))
    short = (await bench.ask("vendor_balance", vendor=METERED))["vendors"]
    assert [(row["vendor_says"], row["missing"]) for row in short] == [("40.000000", "9.647200")]
    assert (await bench.refused("vendor_balance", vendor="shop")).code == "vendor_unknown"


async def test_an_unknown_call_is_not_found(bench: Bench) -> None:
    """The table of calls is closed."""
    assert (await bench.refused("drop_tables")).code == "not_found"


async def test_the_socket_runs_every_call_of_the_table_and_names_the_caller(bench: Bench, tmp_path: Path) -> None:
    """Mode 0600 from the start, problems as problem documents, the kernel's word for who asks."""
    path = tmp_path / "operator.sock"
    async with operator_socket(bench.services, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            for name in OPERATIONS:
                async with session.post(f"http://o/operator/{name}", json={"no such": 1}) as response:
                    document = await response.json()
                    assert (response.status, document["type"]) == (400, "urn:gateway:problem:bad_request")
            async with session.post(
                "http://o/operator/freeze_set", json={"scope": "all", "reason": "r", "by": "x"}
            ) as answer:
                assert answer.status == 400
            async with session.post("http://o/operator/freeze_set", json={"scope": "all", "reason": "r"}) as answer:
                assert (await answer.json())["freeze"]["by"].startswith("operator ")
            for body in (b"[]", b"{", b"\xff"):
                async with session.post("http://o/operator/freeze_list", data=body) as answer:
                    assert answer.status == 400
            async with session.post("http://o/operator/nothing") as answer:
                assert answer.status == 404
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_anything_else_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    """A server that was killed leaves a socket; a file of somebody's is not ours to remove."""
    path = tmp_path / "operator.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with operator_socket(bench.services, path):
        assert path.is_socket()
    path.write_text("precious")
    with pytest.raises(SocketInUse):
        async with operator_socket(bench.services, path):
            raise AssertionError("never served")
    assert path.read_text() == "precious"
