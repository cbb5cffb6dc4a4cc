"""dropmpp through the whole flow: its own module, mppx as the seller, a real Tempo; two agents on one wallet."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from drop_shop import APPROVED, PUBLIC_KEY, SMALL, VENDOR, Shop, drop_shop, ids

from gateway.core.commands import ApprovePrice, Done, SetFreeze
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.problems import Problem
from gateway.core.records import HOUSE
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo

NOT_FOUND = 404
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def tempo() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture(scope="module")
def process(tempo: LocalTempo) -> Iterator[SandboxProcess]:
    """A vendor whose catalogue, too, wants to know who asks."""
    with SandboxProcess.start("sandbox.dropmpp", {"rpc_url": tempo.rpc_url, "catalog": "proof"}) as running:
        yield running


@pytest.fixture
async def shop(tempo: LocalTempo, process: SandboxProcess, tmp_path: Path) -> AsyncIterator[Shop]:
    """Two funded accounts at the vendor."""
    async with drop_shop(tempo, process, tmp_path) as opened:
        yield opened


async def refused(shop: Shop, method: str, path: str, account: str = "acc_1", /, **members: Any) -> Problem:
    """Run a call that must end in a problem."""
    with pytest.raises(Problem) as caught:
        await shop.run(method, path, account, **members)
    return caught.value


# a server's life


async def test_a_server_from_its_creation_to_its_snapshots_end(shop: Shop) -> None:
    """Each charge is our own quote, each end what the vendor says; the wallet's debits and the books agree."""
    desk, before = shop.desk, shop.desk.income()
    key = await shop.good("POST", "/v1/keys", name="me", public_key=PUBLIC_KEY)
    server = await shop.server(ssh_key_ids=[key["id"]])
    made = await shop.thing(server)
    assert (made.kind, made.plan, made.account_id, made.state) == ("server", "small", "acc_1", "provisioning")
    shown = await shop.run("GET", f"/v1/servers/{server}")
    assert json.loads(shown.body)["root_password"]
    assert (await shop.thing(server)).state == "active"
    extended = await shop.good("POST", f"/v1/servers/{server}/extend", minutes=90)
    assert (extended["minutes_added"], extended["charged"]) == (90, "0.0201")
    longer = await shop.thing(server)
    assert (longer.expires_at_ms or 0) - (made.expires_at_ms or 0) == 90 * 60_000
    assert longer.state == "active"
    snapshot = (await shop.good("POST", f"/v1/servers/{server}/snapshot", name="mine"))["id"]
    assert (await shop.thing(snapshot)).plan == ""
    kept = await shop.good("POST", f"/v1/snapshots/{snapshot}/extend", days=30)
    assert kept["charged"] == "0.149787"
    assert (await shop.thing(snapshot)).plan == "1.87"
    await shop.good("POST", f"/v1/servers/{server}/reboot")
    await shop.good("POST", f"/v1/servers/{server}/power", action="off")
    assert (await shop.thing(server)).state == "off"
    deleted = await shop.good("DELETE", f"/v1/servers/{server}")
    assert (await shop.thing(server)).state == "destroyed"
    auto = await shop.thing(deleted["snapshot"]["id"])
    assert (auto.account_id, auto.kind, auto.payment_id) == ("acc_1", "snapshot", "")
    assert abs((auto.expires_at_ms or 0) - auto.as_of_ms - 72 * HOUR_MS) < 60_000
    listed = await shop.good("GET", "/v1/snapshots")
    assert {each["id"] for each in listed["snapshots"]} == {snapshot, auto.ref}
    await shop.good("DELETE", f"/v1/snapshots/{snapshot}")
    assert (await shop.thing(snapshot)).state == "deleted"
    charges = [1_000, 23_400, 20_100, 10_000, 149_787, 5_000, 5_000]
    await desk.followed()
    assert sorted(debit.amount_base for debit in desk.debits()) == sorted(charges)
    assert desk.income() - before == sum(charges)
    assert [row["captured_base"] for row in desk.rows("SELECT captured_base FROM payments ORDER BY id")] == charges
    assert desk.tasks() == []


async def test_a_restored_server_names_its_own_snapshot_and_keys(shop: Shop) -> None:
    """What is the agent's own goes through, as it wrote it."""
    server = await shop.server()
    snapshot = (await shop.good("POST", f"/v1/servers/{server}/snapshot"))["id"]
    shop.advance(2)
    assert await shop.server(snapshot_id=snapshot) != server
    assert (await refused(shop, "POST", "/v1/servers", **SMALL, snapshot="snap")).code == "input_refused"


async def test_a_create_without_minutes_buys_one(shop: Shop) -> None:
    """The body goes as the agent wrote it, and is priced as the vendor reads it."""
    reply = await shop.run("POST", "/v1/servers", size="large", region="ams3")
    assert (reply.charge_base, json.loads(reply.body)["minutes_purchased"]) == (40_000 + 1_787, 1)
    paid, unpaid = shop.desk.wire.shown[-1], shop.desk.wire.seen[0]
    assert paid.body == unpaid.body == b'{"size": "large", "region": "ams3"}'


# our own quote


@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
async def test_every_price_of_the_vendor_is_our_own(tempo: LocalTempo, tmp_path: Path, rounding: str) -> None:
    """Whatever it rounds, for any minutes and days, its challenge is within one base unit of our quote."""
    config = {"rpc_url": tempo.rpc_url, "rounding": rounding}
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        async with drop_shop(tempo, process, tmp_path) as shop:
            server = await shop.server(size="medium")
            snapshot = (await shop.good("POST", f"/v1/servers/{server}/snapshot"))["id"]
            draw = random.Random(rounding)
            for _ in range(12):
                size = draw.choice(["small", "medium", "large"])
                order: dict[str, Any] = {"size": size, "region": "nyc1", "minutes": draw.randint(1, 50_000)}
                exact = APPROVED[f"{size}/create"] + APPROVED[f"{size}/hour"] * order["minutes"] / 60
                assert abs(await shop.price("POST", "/v1/servers", **order) - exact) <= 1
                minutes, days = draw.randint(1, 50_000), draw.randint(1, 365)
                more = max(10_000, APPROVED["medium/hour"] * minutes / 60)
                assert abs(await shop.price("POST", f"/v1/servers/{server}/extend", minutes=minutes) - more) <= 1
                kept = max(10_000, 3.41 * days * APPROVED["snapshot/gb-day"])
                assert abs(await shop.price("POST", f"/v1/snapshots/{snapshot}/extend", days=days) - kept) <= 1
            assert shop.desk.tasks() == []


async def test_the_catalogue_is_read_when_a_quote_needs_it_and_no_oftener(shop: Shop) -> None:
    """By the gateway for itself, with a proof on record that names no account; then the prices are fresh."""
    await shop.server()
    assert shop.proofs() == [(HOUSE, "sizes")]
    prices = shop.desk.store.view.prices
    stated = {item: prices[VENDOR, item].observed_base for item in APPROVED if item.partition("/")[2] != ""}
    assert stated == {item: APPROVED[item] for item in stated if item != "snapshot/gb-day"} | {"snapshot/gb-day": None}
    await shop.server(size="large")
    assert shop.proofs() == [(HOUSE, "sizes")]


async def test_many_quotes_read_the_catalogue_once(shop: Shop) -> None:
    """Whoever needs it meanwhile waits for the same answer."""
    minutes = range(1, 6)
    prices = await asyncio.gather(*(shop.price("POST", "/v1/servers", **{**SMALL, "minutes": m}) for m in minutes))
    assert prices == sorted(prices)
    assert shop.proofs() == [(HOUSE, "sizes")]


async def test_a_frozen_vendor_gets_no_proof_of_the_gateways_own(shop: Shop) -> None:
    """A proof gives control, so the operator's stop holds for the gateway's questions too."""
    freeze = SetFreeze(f"vendor:{VENDOR}", frozen=True, reason="drill", by="me", at_ms=1)
    assert isinstance(await shop.desk.store.post(freeze), Done)
    assert (await refused(shop, "POST", "/v1/servers", **SMALL)).code == "frozen"
    assert (shop.proofs(), shop.desk.wire.shown, shop.desk.debits()) == ([], [], [])


async def test_what_an_agent_reads_of_the_catalogue_counts_too(shop: Shop) -> None:
    """The answer passed through here anyway."""
    assert {each["slug"] for each in (await shop.good("GET", "/v1/catalog/sizes", "acc_2"))["sizes"]} == {
        *("small", "medium", "large")
    }
    await shop.server()
    assert shop.proofs() == [("acc_2", "sizes")]


async def test_a_price_that_is_raised_is_not_paid_until_it_is_approved(shop: Shop) -> None:
    """P8: catalogue and challenge together; the task names the component."""
    shop.desk.fault("price", size="small", hourly="0.0268")
    assert (await refused(shop, "POST", "/v1/servers", **SMALL)).code == "price_above_quote"
    assert shop.desk.tasks() == [("price_changed", f"{VENDOR}/small/hour")]
    assert shop.desk.debits() == []
    await shop.desk.store.post(ApprovePrice(VENDOR, "small/hour", 26_800, "me", 1))
    assert (await shop.run("POST", "/v1/servers", **SMALL)).charge_base == 36_800


@pytest.mark.parametrize(("amount", "code"), [("0.1", "price_above_quote"), ("0.001", "price_below_quote")])
async def test_a_challenge_that_is_not_the_catalogues_is_not_paid(shop: Shop, amount: str, code: str) -> None:
    """More than a base unit off, and nothing is signed."""
    shop.desk.fault("challenge", "servers.create", set={"amount": amount}, paid=False)
    assert (await refused(shop, "POST", "/v1/servers", **SMALL)).code == code
    assert shop.desk.debits() == []


async def test_without_a_catalogue_the_approval_is_what_is_expected(shop: Shop) -> None:
    """The vendor's catalogue fails: it is not asked at every call, and the price is held against the approval."""
    shop.desk.fault("status", "sizes", status=503, times=None)
    assert (await shop.run("POST", "/v1/servers", **SMALL)).charge_base == 23_400
    assert (await shop.run("POST", "/v1/servers", **{**SMALL, "minutes": 61})).charge_base == 23_624
    assert sum(request.target == "/v1/catalog/sizes" for request in shop.desk.wire.seen) == 1


# two agents on one wallet


async def test_nobody_reaches_anothers_thing_by_any_route(shop: Shop) -> None:
    """P9: every id in path and body is refused as one that does not exist, before the vendor hears of it."""
    server, key = await shop.server(), (await shop.good("POST", "/v1/keys", name="a", public_key=PUBLIC_KEY))["id"]
    snapshot = (await shop.good("POST", f"/v1/servers/{server}/snapshot"))["id"]
    shop.advance(2)
    asked = len(shop.desk.wire.seen)
    tries: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/v1/servers/{server}", {}),
        ("POST", f"/v1/servers/{server}/extend", {"minutes": 1}),
        ("POST", f"/v1/servers/{server}/snapshot", {}),
        ("POST", f"/v1/servers/{server}/reboot", {}),
        ("POST", f"/v1/servers/{server}/power", {"action": "off"}),
        ("DELETE", f"/v1/servers/{server}", {}),
        ("GET", f"/v1/servers/%73rv_{server[4:]}", {}),
        ("GET", f"/v1/servers/{snapshot}", {}),
        ("GET", f"/v1/snapshots/{snapshot}", {}),
        ("POST", f"/v1/snapshots/{snapshot}/extend", {"days": 1}),
        ("DELETE", f"/v1/snapshots/{snapshot}", {}),
        ("DELETE", f"/v1/keys/{key}", {}),
        ("POST", "/v1/servers", {**SMALL, "snapshot_id": snapshot}),
        ("POST", "/v1/servers", {**SMALL, "ssh_key_ids": [key]}),
    ]
    for method, path, members in tries:
        foreign = await shop.run(method, path, "acc_2", **members)
        unknown = await shop.run(method, path.replace(server, "srv_x"), "acc_2", **members)
        assert foreign.status == unknown.status == NOT_FOUND, path
        assert foreign.body == unknown.body
        assert set(json.loads(foreign.body)) == {"error"}
        assert foreign.charge_base is None
    assert len(shop.desk.wire.seen) == asked
    own_key = (await shop.good("POST", "/v1/keys", "acc_2", name="b", public_key=PUBLIC_KEY))["id"]
    mixed = await shop.run("POST", "/v1/servers", "acc_2", **SMALL, ssh_key_ids=[own_key, key])
    assert mixed.status == NOT_FOUND
    states = [(each["status"], each["reboots"]) for each in shop.desk.state()["servers"].values()]
    assert states == [("active", 0)]
    assert (await shop.thing(server)).account_id == "acc_1"


async def test_everybody_sees_their_own_things_alone(shop: Shop) -> None:
    """P9: the vendor lists the wallet's things; each agent gets its own, and of the account nothing."""
    made: dict[str, set[str]] = {}
    for account in ("acc_1", "acc_2"):
        key = (await shop.good("POST", "/v1/keys", account, name=account, public_key=PUBLIC_KEY))["id"]
        server = await shop.server(account)
        snapshot = (await shop.good("POST", f"/v1/servers/{server}/snapshot", account))["id"]
        made[account] = {key, server, snapshot}
    for account, own in made.items():
        for path, member in (("/v1/servers", "servers"), ("/v1/snapshots", "snapshots"), ("/v1/keys", "keys")):
            listed = await shop.good("GET", path, account)
            assert list(listed) == [member]
            assert len(listed[member]) == 1
            assert ids(listed) <= own
    assert ("acc_2", "server_list") in shop.proofs()


@pytest.mark.parametrize("body", ['{"data": []}', "[1]", "<html>", '{"servers": {}}'])
async def test_a_list_of_another_shape_is_withheld(shop: Shop, body: str) -> None:
    """P9: what cannot be told apart is not shown."""
    shop.desk.fault("status", "servers.list", status=200, body=json.loads(body) if body[0] in "{[" else body, paid=True)
    assert (await refused(shop, "GET", "/v1/servers")).code == "answer_withheld"


@pytest.mark.parametrize("target", ["/v1/servers?owner=all", "/v1/servers?"])
async def test_a_query_that_no_document_names_is_refused(shop: Shop, target: str) -> None:
    """It may reach another's thing."""
    call = shop.desk.call("GET", "/v1/servers", target=target)
    with pytest.raises(Problem) as caught:
        await shop.desk.spend.run(call)
    assert (caught.value.code, shop.desk.wire.seen) == ("input_refused", [])


async def test_a_free_route_that_asks_for_money_is_not_paid(shop: Shop) -> None:
    """A proof never becomes a payment."""
    server = await shop.server()
    debits = len(shop.desk.debits())
    shop.desk.fault("challenge", "servers.delete", set={"amount": "0.01"}, paid=False)
    assert (await refused(shop, "DELETE", f"/v1/servers/{server}")).code == "unexpected_challenge"
    assert len(shop.desk.debits()) == debits
    assert (await shop.thing(server)).state == "provisioning"


# what gets lost


async def lost_create(shop: Shop, account: str, **changes: Any) -> None:
    """Make a server whose answer never arrives."""
    shop.desk.fault("cut", "servers.create", when="after", paid=True)
    assert (await refused(shop, "POST", "/v1/servers", account, **{**SMALL, **changes})).code == "outcome_unknown"


async def swept(shop: Shop) -> None:
    """Let the chain tell, and recovery look."""
    await shop.desk.followed()
    await shop.desk.recovery.sweep()
    await shop.desk.recovery.drain(10.0)


async def test_a_lost_server_is_found_and_is_its_payers(shop: Shop) -> None:
    """P5: it is the one thing that fits and nobody owns; its agent asks again and gets the answer, and pays once."""
    await lost_create(shop, "acc_1")
    await swept(shop)
    again = await shop.run("POST", "/v1/servers", **SMALL)
    assert (again.status, again.replayed) == (201, True)
    document = json.loads(again.body)
    assert (document["minutes_purchased"], document["total_charged"]) == (60, "0.0234")
    found = await shop.thing(document["id"])
    assert (found.account_id, found.plan, found.payment_id) == ("acc_1", "small", again.payment_id)
    payment = await shop.desk.payment(again.payment_id)
    assert (payment.axes.delivery, payment.axes.charge) == (Delivery.DELIVERED, Charge.CAPTURED)
    assert len(shop.desk.debits()) == 1
    assert (await shop.good("GET", f"/v1/servers/{found.ref}"))["size"] == "small"
    assert (HOUSE, "server_list") in shop.proofs()


async def test_what_two_may_have_bought_is_nobodys(shop: Shop) -> None:
    """P9: a guess would hand one agent another's server, so a human is asked, and the holds stay."""
    await lost_create(shop, "acc_1")
    await lost_create(shop, "acc_2", region="nyc1")
    await swept(shop)
    assert {kind for kind, _ in shop.desk.tasks()} == {"delivery_ambiguous"}
    assert [p.axes.delivery for p in shop.desk.open] == [Delivery.UNKNOWN] * 2
    assert (await shop.good("GET", "/v1/servers", "acc_1")) == {"servers": []}


async def test_one_server_that_two_may_have_bought_is_nobodys(shop: Shop) -> None:
    """P9: one of the two purchases made nothing, and nobody can tell which."""
    shop.desk.fault("fail", "servers.create", status=502, work=False)
    assert (await refused(shop, "POST", "/v1/servers", **SMALL)).code == "outcome_unknown"
    await lost_create(shop, "acc_2")
    await swept(shop)
    assert {kind for kind, _ in shop.desk.tasks()} == {"delivery_ambiguous"}
    assert [p.axes.delivery for p in shop.desk.open] == [Delivery.UNKNOWN] * 2


async def test_two_lost_servers_that_differ_are_each_found(shop: Shop) -> None:
    """What each asked for tells them apart."""
    await lost_create(shop, "acc_1")
    await lost_create(shop, "acc_2", size="large")
    await swept(shop)
    for account, size in (("acc_1", "small"), ("acc_2", "large")):
        (mine,) = (await shop.good("GET", "/v1/servers", account))["servers"]
        assert mine["size"] == size
    assert shop.desk.tasks() == []


async def test_a_server_that_was_never_made_stays_unknown(shop: Shop) -> None:
    """Charged and nothing made: the hold stays until the deadline, as before."""
    shop.desk.fault("fail", "servers.create", status=502, work=False)
    assert (await refused(shop, "POST", "/v1/servers", **SMALL)).code == "outcome_unknown"
    await swept(shop)
    (payment,) = shop.desk.open
    assert (payment.axes.delivery, payment.axes.transfer) == (Delivery.UNKNOWN, Transfer.SETTLED)
    assert shop.desk.tasks() == []


async def test_a_lost_key_and_a_lost_snapshot_are_found(shop: Shop) -> None:
    """The one by its fingerprint, the other by what it was taken of."""
    server = await shop.server()
    shop.desk.fault("cut", "keys.create", when="after", paid=True)
    shop.desk.fault("cut", "servers.snapshot", when="after", paid=True)
    assert (await refused(shop, "POST", "/v1/keys", name="me", public_key=PUBLIC_KEY)).code == "outcome_unknown"
    assert (await refused(shop, "POST", f"/v1/servers/{server}/snapshot", name="mine")).code == "outcome_unknown"
    await swept(shop)
    assert len((await shop.good("GET", "/v1/keys"))["keys"]) == 1
    (snapshot,) = (await shop.good("GET", "/v1/snapshots"))["snapshots"]
    known = await shop.thing(snapshot["id"])
    assert (known.account_id, snapshot["name"], bool(known.payment_id)) == ("acc_1", "mine", True)
    assert (await shop.good("GET", "/v1/keys", "acc_2")) == {"keys": []}


async def test_the_snapshot_of_a_lost_delete_is_its_servers_owners(shop: Shop) -> None:
    """Whoever lists first: a thing that was made of a known one is its owner's."""
    server = await shop.server()
    shop.desk.fault("cut", "servers.delete", when="after", paid=True)
    assert (await refused(shop, "DELETE", f"/v1/servers/{server}")).code == "vendor_timeout"
    assert (await shop.good("GET", "/v1/snapshots", "acc_2")) == {"snapshots": []}
    (snapshot,) = (await shop.good("GET", "/v1/snapshots"))["snapshots"]
    assert (snapshot["source_server"], (await shop.thing(snapshot["id"])).account_id) == (server, "acc_1")
    assert (await shop.run("GET", f"/v1/servers/{server}")).status == NOT_FOUND
    assert (await shop.thing(server)).state == "missing"
