"""Creates whose answer nobody saw, that nobody made, that cost too much, or that the vendor does not want: one server at most."""

import asyncio
import json

import pytest

from gateway.core.problems import Problem
from gateway.core.records import MeterState
from tests.flows.broker_bed import ABSENT_S, ALL, CREATES, CREDIT_BASE, EMAIL, Bed, ref_in, server_path

TRIES = {"cryptovps": 1, "litevps": 1, "vrtx": 3}  # how often an order may leave for one create


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k-1"}])
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("cut", ["after", "body"])
async def test_lost_answer_is_found_and_served_to_the_repeat(
    broker_bed: Bed, kind: str, headers: dict[str, str], cut: str
) -> None:
    """P4, P5: the order leaves once, its hold stays, a list shows what it made, and the identical request gets that."""
    bed = broker_bed
    bed.driver(kind).fault("cut", "create", when=cut, times=TRIES[kind])
    lost = await bed.create(kind, headers=headers)
    assert (lost.status, lost.problem) == (504, "outcome_unknown")
    assert bed.balance()[1] > 0
    again = await bed.create(kind, headers=headers)
    assert again.problem == "outcome_unknown"
    await bed.sweep(kind)
    found = await bed.create(kind, headers=headers)
    assert found.status in (201, 202)
    assert found.headers["Idempotent-Replayed"] == "true"
    assert CREATES[kind][1].get("label", CREATES[kind][1].get("name", "app-01.example.com")).encode() in found.body
    (made,) = bed.servers(kind)
    assert made.get("uuid", made.get("id")) == ref_in(kind, found.json)
    assert len(bed.meters) == len(bed.open) == 1
    await bed.sound()


async def test_vrtx_repeats_an_order_under_its_key(broker_bed: Bed) -> None:
    """VRTX knows a repeat by our key: the agent gets its answer at once, and one server stands."""
    broker_bed.driver("vrtx").fault("cut", "create", when="after")
    got = await broker_bed.create("vrtx")
    assert got.status == 201
    assert len(broker_bed.servers("vrtx")) == 1
    keys = {dict(r.headers)["Idempotency-Key"] for r in broker_bed.upstream.seen if r.method == "POST"}
    assert len(keys) == 1


@pytest.mark.parametrize("kind", ALL)
async def test_order_that_was_never_made_is_given_back_after_two_lists(broker_bed: Bed, kind: str) -> None:
    """P5: one list without it proves nothing; a second one, ten minutes later, does. The repeat then orders anew."""
    bed = broker_bed
    bed.driver(kind).fault("cut", "create", when="before", times=TRIES[kind])
    assert (await bed.create(kind)).problem == "outcome_unknown"
    await bed.sweep(kind)
    await bed.later(kind, ABSENT_S - 60)
    assert bed.balance()[1] > 0
    await bed.later(kind, 62)
    assert bed.balance() == (CREDIT_BASE, 0)
    assert (bed.meters, bed.open, bed.servers(kind)) == ([], [], [])
    assert (await bed.create(kind)).status in (201, 202)
    assert len(bed.servers(kind)) == 1
    await bed.sound()


@pytest.mark.parametrize("kind", ["cryptovps", "litevps"])
async def test_dearer_than_quoted_is_destroyed_at_once_and_costs_its_agent_nothing(broker_bed: Bed, kind: str) -> None:
    """P8: the house pays for what nobody agreed to, once: the next order of its kind does not leave."""
    bed = broker_bed
    bed.driver(kind).fault("price", factor="3")
    got = await bed.create(kind)
    assert (got.status, got.problem) == (502, "price_above_quote")
    assert got.headers["X-Payment-Id"]
    await bed.settled()
    assert bed.servers(kind) == []
    assert bed.balance() == (CREDIT_BASE, 0)
    asked = len(bed.upstream.seen)
    assert (await bed.create(kind)).problem == "price_above_quote"
    assert "POST" not in {request.method for request in bed.upstream.seen[asked:]}
    assert "price_above_quote" in {task for task, _ in await bed.tasks()}
    await bed.later(kind, 10)
    await bed.later(kind, ABSENT_S + 1)
    await bed.later(kind, 61)
    assert (bed.meters, bed.balance()) == ([], (CREDIT_BASE, 0))
    await bed.sound()


async def test_noise_of_a_float_is_no_price(broker_bed: Bed) -> None:
    """A price whose last digits are a float's is the price that was quoted."""
    broker_bed.driver("litevps").fault("noise", mode="last_digits")
    assert (await broker_bed.create("litevps")).status == 201


@pytest.mark.parametrize("kind", ALL)
async def test_vendors_402_is_the_operators(broker_bed: Bed, kind: str) -> None:
    """An empty or overdue account: 503, nothing charged, nothing made, a task."""
    bed, driver = broker_bed, broker_bed.driver(kind)
    if kind == "vrtx":
        driver.admin("POST", "/invoices", {"account": "ours", "amount": "12", "due_in_s": -1})
    else:
        driver.admin("POST", "/balance", {"email": EMAIL, "set": "0"})
    got = await bed.create(kind)
    assert (got.status, got.problem) == (503, "vendor_account_empty")
    assert got.headers["Retry-After"]
    assert (bed.balance(), bed.meters, bed.servers(kind)) == ((CREDIT_BASE, 0), [], [])
    assert ("vendor_account_empty", kind) in await bed.tasks()
    await bed.sound()


@pytest.mark.parametrize("kind", ["cryptovps", "litevps"])
async def test_many_calls_that_find_the_token_gone_are_one_login(broker_bed: Bed, kind: str) -> None:
    """A login storm: every token ends, twenty calls come at once, one login follows and all are served."""
    bed, path = broker_bed, CREATES[kind][0]
    assert (await bed.ask("GET", kind + path)).status == 200
    bed.driver(kind).admin("POST", "/tokens", {"expire": True})
    before = bed.driver(kind).state()["calls"]
    got = await asyncio.gather(*(bed.ask("GET", kind + path) for _ in range(20)))
    assert {answer.status for answer in got} == {200}
    after = bed.driver(kind).state()["calls"]
    logins = sum(count for name, count in after.items() if name.startswith("login"))
    assert logins - sum(count for name, count in before.items() if name.startswith("login")) == 1


@pytest.mark.parametrize("kind", ["cryptovps", "litevps"])
async def test_token_that_ends_in_the_middle_of_a_create(broker_bed: Bed, kind: str) -> None:
    """A 401 says that nothing was done: one login, the order again, one server."""
    bed = broker_bed
    await bed.ask("GET", kind + CREATES[kind][0])
    bed.driver(kind).fault("unauthorized", "create")
    assert (await bed.create(kind)).status in (201, 202)
    assert len(bed.servers(kind)) == 1


async def test_token_that_no_login_mends_is_the_operators(broker_bed: Bed) -> None:
    """VRTX has no login: a token that is refused is a task, 503, and nothing charged."""
    bed = broker_bed
    bed.driver("vrtx").admin("POST", "/accounts/ours", {"tokens": ["another"]})
    got = await bed.create("vrtx")
    assert (got.status, got.problem) == (503, "vendor_login_failed")
    assert ("vendor_login_failed", "vrtx") in await bed.tasks()
    assert bed.balance() == (CREDIT_BASE, 0)
    bed.driver("vrtx").admin(
        "POST", "/accounts/ours", {"tokens": ["vrtx-operator-token"], "ip_allowlist": ["10.0.0.9"]}
    )
    with pytest.raises(Problem, match="vendor_refuses_us"):  # also where nothing runs: the operator hears it first
        await bed.sweep("vrtx")
    refused = await bed.create("vrtx")
    assert (refused.status, refused.problem) == (503, "vendor_refuses_us")
    assert bed.balance() == (CREDIT_BASE, 0)


@pytest.mark.parametrize("kind", ALL)
async def test_vendor_that_is_busy_while_an_order_is_placed(broker_bed: Bed, kind: str) -> None:
    """A 429 on the create: nothing was made, the hold goes back, and the agent is told when to come again."""
    bed = broker_bed
    bed.driver(kind).fault("limited", "create", retry_after_s=7, times=3)
    got = await bed.create(kind)
    assert (got.status, got.problem) == (429, "vendor_busy")
    assert int(got.headers["Retry-After"]) >= (7 if kind == "vrtx" else 1)  # the others document no such header
    assert bed.balance() == (CREDIT_BASE, 0)
    bed.driver(kind).lift()
    bed.advance(61)
    assert (await bed.create(kind)).status in (201, 202)
    assert len(bed.servers(kind)) == 1


@pytest.mark.parametrize("kind", ALL)
async def test_server_error_after_the_work_is_unknown(broker_bed: Bed, kind: str) -> None:
    """A 5xx proves nothing: the server may stand, and is found."""
    bed = broker_bed
    bed.driver(kind).fault("status", "create", status=500, when="after", times=TRIES[kind])
    assert (await bed.create(kind)).problem == "outcome_unknown"
    await bed.sweep(kind)
    assert (await bed.create(kind)).status in (201, 202)
    assert len(bed.servers(kind)) == 1


async def test_full_account_is_told_as_such(broker_bed: Bed) -> None:
    """CryptoVPS's 403 with a limit is no fault of the agent's: its own problem type, nothing charged."""
    bed = broker_bed
    body = {"error": "server limit reached (10 active)"}
    bed.driver("cryptovps").fault("status", "create", status=403, body=body, when="before")
    got = await bed.create("cryptovps")
    assert (got.status, got.problem) == (503, "vendor_account_full")
    assert bed.balance() == (CREDIT_BASE, 0)


async def test_restore_whose_answer_was_lost_is_found_by_its_time(broker_bed: Bed) -> None:
    """A restore carries no mark: the only server of nobody's, of its kind and time, is what it made."""
    bed = broker_bed
    ref = await bed.running("cryptovps")
    backup = (await bed.ask("POST", "cryptovps/backups", {"serverId": ref})).json["backup"]["id"]
    bed.advance(300)
    bed.driver("cryptovps").fault("cut", "restore", when="after")
    assert (await bed.ask("POST", f"cryptovps/backups/{backup}/restore")).problem == "outcome_unknown"
    await bed.later("cryptovps", 61)
    found = await bed.ask("POST", f"cryptovps/backups/{backup}/restore")
    assert (found.status, found.headers["Idempotent-Replayed"]) == (202, "true")
    assert len(bed.servers("cryptovps")) == len(bed.meters) == 2


async def test_agents_own_bad_input_is_the_vendors_answer(broker_bed: Bed) -> None:
    """What the vendor refuses in an order passes as it wrote it; nothing is charged, and a repeat is another try."""
    bed = broker_bed
    bed.driver("cryptovps").fault("status", "create", status=400, body={"error": "no stock"}, when="before")
    got = await bed.create("cryptovps")
    assert (got.status, got.json) == (400, {"error": "no stock"})
    assert bed.balance() == (CREDIT_BASE, 0)
    await bed.settled()
    assert (await bed.create("cryptovps")).status == 202


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("cryptovps", {"items": [{"id": "foreign", "label": "theirs"}]}),
        ("litevps", {"servers": [{"id": "foreign", "name": "theirs"}]}),
        ("vrtx", {"data": [{"uuid": "foreign"}], "meta": {"current_page": 1, "last_page": 1}}),
    ],
)
async def test_list_that_cannot_be_told_apart_is_withheld(broker_bed: Bed, kind: str, document: object) -> None:
    """P9: an account-wide answer in another shape than documented may show others' things: none of it passes."""
    path = CREATES[kind][0]
    broker_bed.driver(kind).fault("status", "list", status=200, body=document, when="after")
    got = await broker_bed.ask("GET", kind + path)
    assert (got.status, got.problem) == (502, "answer_withheld")
    assert b"foreign" not in got.body


@pytest.mark.parametrize("kind", ALL)
async def test_destruction_that_may_have_been_heard_is_followed_to_its_end(broker_bed: Bed, kind: str) -> None:
    """The answer to a DELETE is lost and its repeat is refused: nobody may say that nothing was done; it is ended."""
    bed = broker_bed
    ref = await bed.running(kind)
    bed.driver(kind).fault("cut", "delete", when="after")
    bed.driver(kind).fault("status", "delete", status=401, when="before", skip=1, times=2)
    got = await bed.ask("DELETE", server_path(kind, ref))
    assert (got.status, got.problem) == (504, "vendor_timeout")
    assert [meter.state for meter in bed.meters] == [MeterState.ENDING]
    bed.driver(kind).lift()
    for seconds in (10, 60, ABSENT_S + 1, 61):
        await bed.later(kind, seconds)
    assert (bed.meters, bed.open, bed.servers(kind)) == ([], [], [])
    await bed.sound()


async def test_content_of_orders_is_json_whatever_the_agent_called_it(broker_bed: Bed) -> None:
    """`curl -d` says that it is a form: what was read as JSON is sent as JSON, once and in no coding."""
    for kind, (path, body) in CREATES.items():
        headers = {"Content-Type": "application/x-www-form-urlencoded", "If-None-Match": "x", "Range": "bytes=0-1"}
        got = await broker_bed.ask("POST", kind + path, raw=json.dumps(body).encode(), headers=headers)
        assert got.status in (201, 202), (kind, got.body)
    for request in (each for each in broker_bed.upstream.seen if each.method == "POST"):
        names = [name.lower() for name, _ in request.headers]
        assert dict(request.headers)["Content-Type"] == "application/json"
        assert len(names) == len(set(names))
        assert {"if-none-match", "range", "content-encoding"}.isdisjoint(names)


async def test_restore_that_made_nothing_never_takes_anothers_marked_order(broker_bed: Bed) -> None:
    """P9: a server of nobody's that bears another order's mark is that order's, also before that order is found."""
    bed = broker_bed
    ref = await bed.running("cryptovps")
    backup = (await bed.ask("POST", "cryptovps/backups", {"serverId": ref})).json["backup"]["id"]
    bed.advance(300)
    bed.driver("cryptovps").fault("cut", "restore", when="before")
    assert (await bed.ask("POST", f"cryptovps/backups/{backup}/restore")).problem == "outcome_unknown"
    bed.driver("cryptovps").fault("cut", "create", when="after")
    assert (await bed.create("cryptovps", account="acc_2")).problem == "outcome_unknown"
    await bed.later("cryptovps", 61)
    (theirs,) = [server["id"] for server in bed.servers("cryptovps") if server["id"] != ref]
    assert (await bed.ask("GET", f"cryptovps/servers/{theirs}")).status == 404
    assert (await bed.ask("GET", f"cryptovps/servers/{theirs}", account="acc_2")).status == 200
    await bed.later("cryptovps", ABSENT_S + 1)
    assert {meter.account_id for meter in bed.meters if meter.state is MeterState.RUNNING} == {"acc_1", "acc_2"}
    assert len(bed.meters) == 2
    await bed.sound()


async def test_what_is_made_after_its_order_was_proven_absent_is_the_operators_to_end(broker_bed: Bed) -> None:
    """P5: its hold has gone back and no meter runs, so it runs at the house's cost: it is looked for all the same."""
    bed = broker_bed
    bed.driver("cryptovps").fault("cut", "create", when="before")
    assert (await bed.create("cryptovps")).problem == "outcome_unknown"
    (order,) = [request for request in bed.upstream.seen if (request.method, request.target) == ("POST", "/servers")]
    await bed.sweep("cryptovps")
    await bed.later("cryptovps", ABSENT_S + 1)
    assert (bed.meters, bed.balance()) == ([], (CREDIT_BASE, 0))
    await bed.upstream.send(bed.side.vendors["cryptovps"].origin, order)
    (late,) = bed.servers("cryptovps")
    await bed.later("cryptovps", 601)
    await bed.later("cryptovps", 61)
    assert ("orphaned_thing", f"cryptovps/{late['id']}") in await bed.tasks()
    assert bed.balance() == (CREDIT_BASE, 0)
    await bed.sound()
