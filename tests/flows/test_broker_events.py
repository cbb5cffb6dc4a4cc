"""VRTX's webhooks from the real vendor process to the real door, and what they lead to: a look, sooner than otherwise."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.http.port import UpstreamError
from tests.flows.broker_bed import ABSENT_S, CREATES, WEBHOOK_SECRET, Bed, Crash, Vendors, opened, restarted

KIND = "vrtx"
SERVERS, ORDER = CREATES[KIND]
HOUR_S = 3600
DAYS_3_S = 72 * HOUR_S
WITHIN_S = 40
SUSPENDED = "server.suspended"
LOOK_S = 61  # later than that, a list is due anyway


def hear(bed: Bed, secret: str = WEBHOOK_SECRET) -> str:
    """Register the gateway's door in the vendor's console; return its address."""
    url = f"{bed.url}/hooks/{KIND}/{KIND}"
    bed.driver(KIND).admin("POST", "/accounts/ours", {"webhooks": [{"url": url, "secret": secret}]})
    return url


async def until(probe: Callable[[], Any]) -> Any:
    """Wait until the probe answers something true, and return that."""
    async with asyncio.timeout(WITHIN_S):
        while not (found := probe()):  # noqa: ASYNC110 - another process tells no event of ours
            await asyncio.sleep(0.02)
    return found


def deliveries(bed: Bed, kind: str | None = None) -> list[Any]:
    """What the vendor has sent, and what became of it."""
    return [one for one in bed.driver(KIND).state()["deliveries"] if kind in (None, one["type"])]


async def answered(bed: Bed, kind: str, count: int = 1) -> list[Any]:
    """Wait until so many deliveries of this kind were answered at least once; return them."""

    def probe() -> list[Any]:
        found = [one for one in deliveries(bed, kind) if one["attempts"]]
        return found if len(found) >= count else []

    return list(await until(probe))


async def taken(bed: Bed, kind: str | None = None) -> list[Any]:
    """Return the events in the database."""
    rows = await bed.store.query("SELECT * FROM vendor_events ORDER BY received_at_ms, event_id")
    return [row for row in rows if kind in (None, row["kind"])]


async def meter_of(bed: Bed, ref: str) -> Any:
    """Return a server's meter, ended or not."""
    return (await bed.store.query("SELECT * FROM meters WHERE ref = ?", (ref,)))[0]


async def state_of(bed: Bed, ref: str) -> str:
    """Return the state in which a server is by the book."""
    resource = await bed.store.resource(KIND, ref)
    assert resource is not None
    return resource.state


async def told_states(bed: Bed, ref: str) -> list[str]:
    """Return the states that the journal has of a server, in order."""
    rows = await bed.store.query("SELECT body FROM journal WHERE kind = 'resource.changed' ORDER BY seq")
    found = [json.loads(row["body"]) for row in rows]
    return [body["state"] for body in found if body["ref"] == ref]


def suspend(bed: Bed, ref: str) -> None:
    """Let the vendor suspend a server."""
    bed.driver(KIND).admin("POST", f"/servers/{ref}", {"suspend": True})
    bed.advance(1)


def delete_in_console(bed: Bed, ref: str) -> None:
    """Delete a server past the gateway."""
    assert bed.driver(KIND).delete(f"{SERVERS}/{ref}").status == 204


def lists_asked(bed: Bed) -> int:
    """Count the lists that the gateway asked for."""
    return sum(request.target.startswith(f"{SERVERS}?") for request in bed.upstream.seen)


async def test_a_deletion_ends_the_charges_at_once_at_the_vendors_own_time(broker_bed: Bed) -> None:
    """The vendor says that it is gone, twice over: the meter ends when the event says, without a single list."""
    bed = broker_bed
    hear(bed)
    ref = await bed.running(KIND)
    bed.advance(20)
    delete_in_console(bed, ref)
    (delivery,) = await answered(bed, "server.deleted")
    assert delivery["state"] == "delivered"
    lists = lists_asked(bed)
    bed.advance(10)
    await bed.sweep(KIND)
    assert lists_asked(bed) == lists
    (event,) = await taken(bed, "server.deleted")
    meter = await meter_of(bed, ref)
    assert (meter["state"], meter["ended_at_ms"]) == ("ended", event["created_at_ms"])
    assert event["handled_at_ms"] is not None
    assert await state_of(bed, ref) == "destroyed"
    assert (bed.meters, bed.open) == ([], [])
    assert bed.store.view.events == {}
    await bed.sound()


async def test_what_is_gone_before_anything_saw_it_is_believed_at_once(broker_bed: Bed) -> None:
    """A 404 about a new server may be a lag; with the vendor's own word that it was deleted it is not."""
    bed = broker_bed
    hear(bed)
    ref = await bed.server(KIND)
    delete_in_console(bed, ref)
    await answered(bed, "server.deleted")
    await bed.sweep(KIND)
    assert (await meter_of(bed, ref))["state"] == "ended"
    assert bed.store.view.events == {}
    await bed.sound()


async def test_a_deletion_that_is_dated_before_it_was_last_seen_ends_when_it_was_asked_for(broker_bed: Bed) -> None:
    """What we saw ourselves counts: the vendor cannot give away what it has charged until then, nor we."""
    bed = broker_bed
    hear(bed)
    bed.driver(KIND).fault("skew", by_s=-240)
    ref = await bed.running(KIND)
    delete_in_console(bed, ref)
    await answered(bed, "server.deleted")
    before_ms = bed.clock.now_ms()
    await bed.sweep(KIND)
    (event,) = await taken(bed, "server.deleted")
    meter = await meter_of(bed, ref)
    assert event["created_at_ms"] < before_ms - 200_000
    assert before_ms <= meter["ended_at_ms"] <= bed.clock.now_ms()


async def test_an_event_is_taken_once_however_often_it_comes(broker_bed: Bed) -> None:
    """The vendor sends each twice, and one again by hand: one row each, every delivery answered with 202."""
    bed = broker_bed
    hear(bed)
    ref = await bed.running(KIND)
    await answered(bed, "server.running")
    bed.driver(KIND).fault("webhook", mode="duplicate")
    suspend(bed, ref)
    await answered(bed, SUSPENDED, 2)
    await bed.sweep(KIND)
    assert await state_of(bed, ref) == "suspended"
    (event,) = await taken(bed, SUSPENDED)
    bed.driver(KIND).admin("POST", f"/webhooks/{event['event_id']}")
    sent = await answered(bed, SUSPENDED, 3)
    assert [attempt["outcome"] for one in sent for attempt in one["attempts"]] == [202] * 3
    assert sorted(row["kind"] for row in await taken(bed)) == ["server.installing", "server.running", SUSPENDED]
    assert bed.store.view.events == {}


async def test_events_out_of_order_move_no_state_back(broker_bed: Bed) -> None:
    """`installing` comes after `suspended`: the vendor is asked, and what it says now counts."""
    bed = broker_bed
    hear(bed)
    bed.driver(KIND).fault("webhook", mode="late", event="server.installing", after_s=90)
    ref = await bed.running(KIND)
    suspend(bed, ref)
    await answered(bed, SUSPENDED)
    await bed.sweep(KIND)
    assert await state_of(bed, ref) == "suspended"
    bed.advance(30)
    await answered(bed, "server.installing")
    await bed.sweep(KIND)
    assert (await taken(bed))[-1]["kind"] == "server.installing"
    assert bed.store.view.events == {}
    assert await state_of(bed, ref) == "suspended"
    assert (await told_states(bed, ref))[-1] == "suspended"


@pytest.mark.parametrize("mode", ["forge", "tamper"])
async def test_what_is_not_signed_rightly_moves_nothing_and_polling_finds_it(broker_bed: Bed, mode: str) -> None:
    """401, no row, no look; the state is found by the lists as ever."""
    bed = broker_bed
    hear(bed)
    bed.driver(KIND).fault("webhook", mode=mode, times=None)
    ref = await bed.running(KIND)
    suspend(bed, ref)
    (delivery,) = await answered(bed, SUSPENDED)
    assert delivery["attempts"][0]["outcome"] == 401
    assert await taken(bed) == []
    await bed.later(KIND, LOOK_S)
    assert await state_of(bed, ref) == "suspended"
    assert await taken(bed) == []


async def test_an_event_that_is_replayed_after_days_is_refused(broker_bed: Bed) -> None:
    """Within the vendor's three days it is known; later it is too old to be anything, known or not."""
    bed = broker_bed
    hear(bed)
    ref = await bed.running(KIND)
    (running,) = await answered(bed, "server.running")
    await bed.end(KIND, ref)
    await answered(bed, "server.deleted")
    bed.advance(DAYS_3_S - HOUR_S)
    bed.driver(KIND).admin("POST", f"/webhooks/{running['event_id']}")
    again = await answered(bed, "server.running", 2)
    assert again[1]["attempts"][0]["outcome"] == 202
    before = await taken(bed)
    bed.advance(2 * HOUR_S + 60)
    bed.driver(KIND).admin("POST", f"/webhooks/{running['event_id']}")
    again = await answered(bed, "server.running", 3)
    assert again[2]["attempts"][0]["outcome"] == 400
    assert await taken(bed) == before
    assert (await meter_of(bed, ref))["state"] == "ended"


async def test_events_of_a_gateway_that_is_down_come_later_and_count(tmp_path: Path, account_vendors: Vendors) -> None:
    """The vendor tries for three days; the first delivery that finds the door open ends the meter at the true time."""
    days = {KIND: "period_s = 86400"}  # what was billed stays billed: here no period is over meanwhile
    async with opened(tmp_path, account_vendors, extra=days) as bed:
        url, port = hear(bed), int(bed.url.rpartition(":")[2])
        ref = await bed.running(KIND)
        bed.advance(20)
    delete_in_console(bed, ref)
    for tried in range(1, 5):
        await until(lambda: len(deliveries(bed, "server.deleted")[0]["attempts"]) >= tried)  # noqa: B023 - asked at once
        bed.advance(HOUR_S)
    assert {attempt["outcome"] for attempt in deliveries(bed, "server.deleted")[0]["attempts"]} == {
        "ClientConnectorError"
    }
    async with restarted(bed, port=port, extra=days) as after:
        assert after.url + f"/hooks/{KIND}/{KIND}" == url
        after.advance(HOUR_S)
        await until(lambda: deliveries(after, "server.deleted")[0]["state"] == "delivered")
        await after.sweep(KIND)
        (event,) = await taken(after, "server.deleted")
        meter = await meter_of(after, ref)
        assert (meter["state"], meter["ended_at_ms"]) == ("ended", event["created_at_ms"])
        assert meter["ended_at_ms"] < after.clock.now_ms() - 4 * HOUR_S * 1000
        await after.sound()


async def test_without_webhooks_polling_finds_everything(broker_bed: Bed) -> None:
    """Every event is lost: states and ends are found by lists all the same, later."""
    bed = broker_bed
    hear(bed)
    bed.driver(KIND).fault("webhook", mode="drop", times=None)
    ref = await bed.running(KIND)
    suspend(bed, ref)
    await bed.later(KIND, LOOK_S)
    assert await state_of(bed, ref) == "suspended"
    gone_ms = bed.clock.now_ms()
    delete_in_console(bed, ref)
    for seconds in (LOOK_S, ABSENT_S + 1, LOOK_S):
        await bed.later(KIND, seconds)
    meter = await meter_of(bed, ref)
    assert meter["state"] == "ended"
    assert gone_ms <= meter["ended_at_ms"] <= gone_ms + 2 * LOOK_S * 1000
    assert await taken(bed) == []
    assert deliveries(bed) == []


async def test_a_server_whose_state_is_told_elsewhere_is_seen_running(broker_bed: Bed) -> None:
    """The vendor's server object and lists hold no `state`: the gateway asks the route that does, and then looks seldom."""
    bed = broker_bed
    ref = await bed.running(KIND)
    for _ in range(3):
        await bed.later(KIND, LOOK_S)
    assert await state_of(bed, ref) == "running"
    asked = lists_asked(bed)
    await bed.later(KIND, 6)  # as long as a busy look waits
    assert lists_asked(bed) == asked


async def test_events_about_nobodys_server_are_closed_without_a_question(broker_bed: Bed) -> None:
    """What the operator makes in the console is no agent's: its events are taken, closed, and nobody is asked."""
    bed = broker_bed
    hear(bed)
    assert bed.driver(KIND).post(SERVERS, ORDER).status == 201
    await answered(bed, "server.installing")
    asked = len(bed.upstream.seen)
    await bed.sweep(KIND)
    # The list of all is for what bears a mark of ours; nothing is asked about this one.
    assert {request.target.partition("?")[0] for request in bed.upstream.seen[asked:]} <= {SERVERS}
    (event,) = await taken(bed)
    assert event["handled_at_ms"] is not None
    assert bed.store.view.events == {}


async def send(bed: Bed, ref: str, kind: str) -> None:
    """Deliver an event of our own making, rightly signed: whoever has the secret can."""
    created = datetime.fromtimestamp(bed.clock.now_ms() / 1000, UTC).isoformat()
    body = json.dumps(
        {
            "id": "evt_0000000000thief",
            "type": kind,
            "created_at": created,
            "data": {"uuid": ref.upper()},
        }
    ).encode()
    signed = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    async with bed.client.post(
        f"{bed.url}/hooks/{KIND}/{KIND}", data=body, headers={"X-Vrtx-Signature": signed}
    ) as answer:
        assert (answer.status, await answer.json()) == (202, {"taken": True})


async def test_a_deletion_that_the_vendor_does_not_confirm_ends_nothing(broker_bed: Bed) -> None:
    """P5, P14: a stolen secret moves no money. The vendor is asked now and then for a day, for its answers may lag."""
    bed = broker_bed
    ref = await bed.running(KIND)
    await send(bed, ref, "server.deleted")
    await bed.sweep(KIND)
    for seconds in (6, 16):
        await bed.later(KIND, seconds)
    assert (await meter_of(bed, ref))["state"] == "running"
    assert await state_of(bed, ref) != "destroyed"
    assert len(bed.store.view.events[KIND]) == 1
    await bed.later(KIND, 24 * HOUR_S + 1)
    assert bed.store.view.events == {}
    assert (await meter_of(bed, ref))["state"] == "running"


async def test_an_event_waits_until_the_vendor_answers(broker_bed: Bed) -> None:
    """While the vendor says nothing the event stays, and the next round is not held up by it before its time."""
    bed = broker_bed
    hear(bed)
    ref = await bed.running(KIND)
    await answered(bed, "server.running")
    await bed.sweep(KIND)
    bed.advance(20)
    delete_in_console(bed, ref)
    await answered(bed, "server.deleted")
    bed.driver(KIND).fault("cut", "get", when="before", times=3)
    with pytest.raises(UpstreamError):
        await bed.sweep(KIND)
    assert len(bed.store.view.events[KIND]) == 1
    asked = len(bed.upstream.seen)
    await bed.sweep(KIND)
    assert len(bed.upstream.seen) == asked
    bed.driver(KIND).fault("status", "get", status=503, times=3)
    await bed.later(KIND, 6)
    assert len(bed.store.view.events[KIND]) == 1
    await bed.later(KIND, 16)
    assert (await meter_of(bed, ref))["ended_at_ms"] == (await taken(bed, "server.deleted"))[0]["created_at_ms"]


async def test_a_crash_at_any_step_repeats_the_event_harmlessly(tmp_path: Path, account_vendors: Vendors) -> None:
    """P12: whatever step the process ends at after the event was taken, the next start ends the meter at the same time."""
    for at in range(1, 20):
        home, crash = tmp_path / str(at), Crash(at)
        home.mkdir()
        async with opened(home, account_vendors, crash=crash) as bed:
            hear(bed)
            ref = await bed.running(KIND)
            await answered(bed, "server.running")
            await bed.sweep(KIND)
            bed.advance(20)
            delete_in_console(bed, ref)
            await answered(bed, "server.deleted")
            crash.armed = True
            sweeping = asyncio.create_task(bed.sweep(KIND))
            dying = asyncio.create_task(crash.dead.wait())
            await asyncio.wait({sweeping, dying}, return_when=asyncio.FIRST_COMPLETED, timeout=WITHIN_S)
            crashed = crash.dead.is_set()
            for task in (sweeping, dying):
                task.cancel()
            await asyncio.gather(sweeping, dying, return_exceptions=True)
        async with restarted(bed) as after:
            await after.sweep(KIND)
            await after.sweep(KIND)
            (event,) = await taken(after, "server.deleted")
            meter = await meter_of(after, ref)
            assert (meter["state"], meter["ended_at_ms"]) == ("ended", event["created_at_ms"]), crash.steps
            assert event["handled_at_ms"] is not None, crash.steps
            assert (after.meters, after.open, after.store.view.events) == ([], [], {}), crash.steps
            rows = await after.store.query("SELECT kind FROM journal WHERE kind IN ('meter.ended', 'vendor.event')")
            assert sorted(row["kind"] for row in rows).count("meter.ended") == 1
            await after.sound()
        if not crashed:
            assert {"before EndMeter", "after EndMeter", "before CloseEvent", "after CloseEvent"} <= set(crash.steps)
            return
    pytest.fail("the sweep never came to its end")
