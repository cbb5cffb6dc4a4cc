"""Bulk and repeated calls: each part is a purchase of its own, none is made twice, and mixed results stay mixed."""

import asyncio
from typing import Any

import pytest

from gateway.core.records import Budget
from tests.flows.broker_bed import CREATES, CREDIT_BASE, Bed, Crash, Vendors, opened, restarted
from tests.flows.test_broker_life import KEY

FLEET = {"label": "fleet", "count": 3, "planId": "vc2-1c-1gb", "regionId": "ams"}
BULK = "cryptovps/servers/bulk"
BATCH = "litevps/api/vps/batch"
VMS = {"vms": [{"name": "w", "template": "ubuntu-22-small"}] * 2}
HOUR_BASE = 14_881


async def test_bulk_is_made_part_by_part(broker_bed: Bed) -> None:
    """CryptoVPS: three servers, three holds, the vendor's own shape and suffixes; X-Charge is their sum."""
    bed = broker_bed
    got = await bed.ask("POST", BULK, FLEET)
    assert got.status == 202
    assert [server["label"] for server in got.json["servers"]] == ["fleet-1", "fleet-2", "fleet-3"]
    assert got.headers["X-Charge"] == "0.044643"
    assert bed.balance() == (CREDIT_BASE - 3 * HOUR_BASE, 3 * HOUR_BASE)
    assert len(bed.servers("cryptovps")) == 3
    again = await bed.ask("POST", BULK, FLEET)  # the first was answered: this is another order
    assert again.status == 202
    assert "Idempotent-Replayed" not in again.headers
    assert len(bed.servers("cryptovps")) == 6


async def test_purchase_does_not_overtake_the_marks_of_answered_ones(broker_bed: Bed) -> None:
    """Equal bulks one after another, each fully answered, are each an order of their own, however quick their agent."""
    for number in range(1, 6):
        got = await broker_bed.ask("POST", BULK, FLEET)
        assert "Idempotent-Replayed" not in got.headers
        assert len(broker_bed.meters) == 3 * number


async def test_equal_parts_are_as_many_purchases(broker_bed: Bed) -> None:
    """LiteVPS: two equal orders in one batch are two machines."""
    got = await broker_bed.ask("POST", BATCH, VMS)
    assert got.status == 207
    assert len({result["vps"]["id"] for result in got.json["results"]}) == 2
    assert len(broker_bed.servers("litevps")) == 2


async def test_mixed_results_stay_mixed(broker_bed: Bed) -> None:
    """207: what failed is not charged, what worked is not undone; the same key makes only what failed."""
    bed = broker_bed
    bed.driver("cryptovps").fault("status", "create", status=400, body={"error": "no stock"}, when="before", skip=1)
    headers = {"Idempotency-Key": "fleet"}
    got = await bed.ask("POST", BULK, FLEET, headers=headers)
    assert got.status == 207
    (error,) = got.json["errors"]
    assert (error["status"], error["error"]) == (400, "no stock")
    assert (len(got.json["servers"]), len(bed.servers("cryptovps"))) == (2, 2)
    assert bed.balance()[1] == 2 * HOUR_BASE
    again = await bed.ask("POST", BULK, FLEET, headers=headers)
    assert (again.status, again.json) == (207, got.json)
    assert len(bed.servers("cryptovps")) == 2


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "fleet"}])
async def test_part_whose_answer_was_lost_is_found_and_the_rest_not_repeated(
    broker_bed: Bed, headers: dict[str, str]
) -> None:
    """P4: a bulk with an unknown part, asked for again under its key, makes none twice and is whole once it was found."""
    bed = broker_bed
    bed.driver("cryptovps").fault("cut", "create", when="after")
    got = await bed.ask("POST", BULK, FLEET, headers=headers)
    assert got.status == 207
    assert [error["status"] for error in got.json["errors"]] == [504]
    await bed.sweep("cryptovps")
    if headers:
        again = await bed.ask("POST", BULK, FLEET, headers=headers)
        assert (again.status, len(again.json["servers"])) == (202, 3)
        assert again.headers["Idempotent-Replayed"] == "true"
    assert len(bed.servers("cryptovps")) == len(bed.meters) == 3
    await bed.sound()


async def test_key_of_one_bulk_is_no_key_of_another(broker_bed: Bed) -> None:
    """409 before any part is done, also where only the count or the order of the parts differs."""
    bed, headers = broker_bed, {"Idempotency-Key": "fleet"}
    assert (await bed.ask("POST", BULK, FLEET, headers=headers)).status == 202
    for changed in ({**FLEET, "count": 4}, {**FLEET, "label": "other"}):
        got = await bed.ask("POST", BULK, changed, headers=headers)
        assert (got.status, got.problem) == (409, "idempotency_conflict")
    assert len(bed.servers("cryptovps")) == 3


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "fleet"}])
@pytest.mark.parametrize("at", [4, 7, 10, 13])
async def test_bulk_repeated_after_a_crash_orders_nothing_twice(
    tmp_path: Any, account_vendors: Vendors, headers: dict[str, str], at: int
) -> None:
    """P12: the process ends in the middle of a bulk; its repeat attaches to the parts that were ordered."""
    async with opened(tmp_path, account_vendors, crash=Crash(at)) as bed:
        await bed.ask("GET", "cryptovps/servers")  # logged in: what is counted is the bulk alone
        bed.crash.armed = True
        asking = asyncio.create_task(bed.ask("POST", BULK, FLEET, headers=headers))
        await asyncio.wait_for(bed.crash.dead.wait(), 40)
        asking.cancel()
    async with restarted(bed) as bed:
        await bed.sweep("cryptovps")
        await bed.later("cryptovps", 602)
        await bed.later("cryptovps", 61)
        got = await bed.ask("POST", BULK, FLEET, headers=headers)
        assert (got.status, len(got.json["servers"])) == (202, 3)
        assert len(bed.servers("cryptovps")) == len(bed.meters) == 3
        await bed.sound()


async def test_agent_that_hangs_up_in_a_bulk_finds_it_again(broker_bed: Bed) -> None:
    """The bulk goes on without its agent; the identical request gets what it made."""
    bed = broker_bed
    bed.driver("cryptovps").fault("slow", "create", after_s=0.3, times=3)
    asking = asyncio.create_task(bed.ask("POST", BULK, FLEET))
    async with asyncio.timeout(20):
        while not bed.open:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.sleep(0.1)
    await bed.api.drain(5.0)
    await bed.settled()
    assert len(bed.servers("cryptovps")) == 3
    again = await bed.ask("POST", BULK, FLEET)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert len(bed.servers("cryptovps")) == 3


async def test_identical_bulks_at_once_are_one(broker_bed: Bed) -> None:
    """Whoever comes second joins part by part."""
    bed = broker_bed
    bed.driver("cryptovps").fault("slow", "create", before_s=0.2, times=None)
    first, second = await asyncio.gather(bed.ask("POST", BULK, FLEET), bed.ask("POST", BULK, FLEET))
    assert {s["id"] for s in first.json["servers"]} == {s["id"] for s in second.json["servers"]}
    assert len(bed.servers("cryptovps")) == 3


async def test_cap_counts_the_sum_and_a_quote_tells_it(broker_bed: Bed) -> None:
    """X-Max-Charge and `Prefer: quote` are about the whole bulk; neither makes anything."""
    bed = broker_bed
    quote = await bed.ask("POST", BULK, FLEET, headers={"Prefer": "quote"})
    assert (quote.status, quote.json["price"], len(quote.json["items"])) == (200, "0.044643", 3)
    over = await bed.ask("POST", BULK, FLEET, headers={"X-Max-Charge": "0.044642"})
    assert (over.status, over.problem) == (409, "price_above_max_charge")
    single = await bed.ask("POST", "cryptovps/servers", CREATES["cryptovps"][1], headers={"Prefer": "quote"})
    assert (single.json["price"], single.json["hourly"], single.json["period_s"]) == ("0.014881", "0.014881", 3600)
    delete = await bed.ask("DELETE", BATCH, {"ids": ["x"]}, headers={"Prefer": "quote"})
    assert (delete.status, delete.json["price"]) == (200, "0.000000")
    assert (bed.balance(), bed.servers("cryptovps"), bed.meters) == ((CREDIT_BASE, 0), [], [])
    exact = await bed.ask("POST", BULK, FLEET, headers={"X-Max-Charge": "0.044643"})
    assert exact.status == 202


async def test_budget_covers_part_by_part(broker_bed: Bed) -> None:
    """A key whose budget holds two hours makes two servers, and is told why not the third."""
    bed = broker_bed
    key = await bed.add_key("acc_1", budgets=(Budget("bud_1", 2 * HOUR_BASE, 86_400),))
    got = await bed.ask("POST", BULK, FLEET, key=key)
    assert (got.status, len(got.json["servers"]), got.json["errors"][0]["status"]) == (207, 2, 403)
    assert len(bed.servers("cryptovps")) == 2


async def test_batches_of_what_costs_nothing(broker_bed: Bed) -> None:
    """LiteVPS: commands and destructions for several machines, mixed results with the documented members."""
    bed = broker_bed
    refs = [result["vps"]["id"] for result in (await bed.ask("POST", BATCH, VMS)).json["results"]]
    bed.advance(30)
    run = await bed.ask("POST", f"{BATCH}/exec", {"ids": [*refs, "nobody"], "command": "uptime"})
    assert run.status == 207
    assert [result["vps_id"] for result in run.json["results"]] == [*refs, "nobody"]
    assert ["exit_code" in result for result in run.json["results"]] == [True, True, False]
    headers = {"Idempotency-Key": "end"}
    for _ in range(2):
        ended = await bed.ask("DELETE", BATCH, {"ids": refs}, headers=headers)
        assert [result["deleted"] for result in ended.json["results"]] == [True, True]
    assert bed.servers("litevps") == []


async def test_key_on_a_free_call_does_it_once(broker_bed: Bed) -> None:
    """An Idempotency-Key on an SSH key's upload: the repeat gets the kept answer, another body is refused."""
    bed, headers = broker_bed, {"Idempotency-Key": "key-1"}
    body = {"name": "k", "public_key": KEY}
    first = await bed.ask("POST", "litevps/api/keys", body, headers=headers)
    second = await bed.ask("POST", "litevps/api/keys", body, headers=headers)
    assert (second.json, second.headers["Idempotent-Replayed"]) == (first.json, "true")
    other = await bed.ask("POST", "litevps/api/keys", {**body, "name": "l"}, headers=headers)
    assert other.problem == "idempotency_conflict"
    assert len((await bed.ask("GET", "litevps/api/keys")).json) == 1


async def test_key_on_a_create_orders_once(broker_bed: Bed) -> None:
    """The same key is the same purchase, answered or not; another body under it is refused."""
    bed, headers = broker_bed, {"Idempotency-Key": "one"}
    first = await bed.create("vrtx", headers=headers)
    second = await bed.create("vrtx", headers=headers)
    assert (second.json, second.headers["Idempotent-Replayed"]) == (first.json, "true")
    assert (await bed.create("vrtx", headers=headers, plan_id=2)).problem == "idempotency_conflict"
    assert len(bed.servers("vrtx")) == 1


async def test_key_on_a_create_orders_once_at_once(broker_bed: Bed) -> None:
    """Twelve of the same create at once under one key, the first of them given up: one order, one server, one answer."""
    bed, headers = broker_bed, {"Idempotency-Key": "one"}
    bed.driver("vrtx").fault("slow", "create", before_s=0.3, times=None)
    asked = [asyncio.create_task(bed.create("vrtx", headers=headers)) for _ in range(12)]
    await asyncio.sleep(0.1)
    asked[0].cancel()
    answers = await asyncio.gather(*asked[1:])
    assert {got.status for got in answers} <= {201, 202}
    assert all(got.json == answers[0].json for got in answers)
    await bed.api.drain(5.0)
    assert (len(bed.servers("vrtx")), len(bed.meters), len(bed.open)) == (1, 1, 1)


async def test_free_changes_at_once_under_a_key_are_one(broker_bed: Bed) -> None:
    """An SSH key uploaded three times at once under one Idempotency-Key is one at the vendor, and three equal answers."""
    bed, headers = broker_bed, {"Idempotency-Key": "key-1"}
    body = {"name": "k", "public_key": KEY}
    answers = await asyncio.gather(*(bed.ask("POST", "litevps/api/keys", body, headers=headers) for _ in range(3)))
    assert all(got.json == answers[0].json for got in answers)
    assert sorted("Idempotent-Replayed" in got.headers for got in answers) == [False, True, True]
    assert len((await bed.ask("GET", "litevps/api/keys")).json) == 1


async def test_keys_of_parts_are_the_bulks(broker_bed: Bed) -> None:
    """A bulk's key is taken for every other request; those of its further parts are none that an agent could send."""
    bed, headers = broker_bed, {"Idempotency-Key": "fleet"}
    assert (await bed.ask("POST", BULK, FLEET, headers=headers)).status == 202
    assert {payment.idempotency_key for payment in bed.open} == {"fleet", "fleet 2", "fleet 3"}
    assert (await bed.create("cryptovps", headers=headers)).problem == "idempotency_conflict"
    single = {"Idempotency-Key": "one"}
    assert (await bed.create("cryptovps", headers=single)).status == 202
    assert (await bed.ask("POST", BULK, FLEET, headers=single)).problem == "idempotency_conflict"
    assert len(bed.servers("cryptovps")) == 4
