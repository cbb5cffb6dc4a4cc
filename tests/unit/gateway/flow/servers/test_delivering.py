"""Deliveries: genuine to the reference library, at least once, retried for days, given up with the reason."""

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.commands import PutDelivery
from gateway.core.server import Hook, HookDelivery, HookDeliveryState
from gateway.core.webhook import ATTEMPTS_MAX, PAUSES_S
from gateway.flow.servers import delivering, telling
from gateway.flow.servers.hooks import HookSettings
from gateway.http.courier import Courier
from gateway.store.sqlite import SqliteStore
from tests.unit.gateway.flow.servers.telling_bed import (
    DrivenClock,
    Receiver,
    TellingBed,
    receiving,
    telling_bed,
    written,
)
from wallets.secret import Secret

ROOT = Path(__file__).parents[5]
PEER = ROOT / "tests/tools/standardwebhooks_peer.py"
PENDING, DELIVERED, GIVEN_UP = HookDeliveryState.PENDING, HookDeliveryState.DELIVERED, HookDeliveryState.GIVEN_UP


@pytest.fixture
def clock() -> DrivenClock:
    """A clock that starts now."""
    return DrivenClock(time.time_ns() // 1_000_000)


@pytest.fixture
async def bed(tmp_path: Path, clock: DrivenClock) -> AsyncIterator[TellingBed]:
    """A process with an empty store."""
    async with telling_bed(tmp_path, clock) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint that takes everything."""
    async with receiving() as running:
        yield running


def verdicts(receiver: Receiver, secret: Secret[str]) -> list[dict[str, Any]]:
    """Ask the reference library, in its own interpreter, what it reads of what came."""
    python = os.environ.get("SANDBOX_PYTHON", str(ROOT / ".venv-sandbox/bin/python"))
    given = [{"secret": secret.reveal(), "headers": each.headers, "body": each.body} for each in receiver.got]
    done = subprocess.run(
        [python, str(PEER)], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def only(bed: TellingBed, hook: Hook) -> HookDelivery:
    """Return the one delivery of an endpoint."""
    found = await bed.deliveries(hook)
    assert len(found) == 1
    return found[0]


async def test_reference_library_takes_what_we_send(bed: TellingBed, receiver: Receiver) -> None:
    """Headers, signature and payload are those of Standard Webhooks, judged by its own Python library."""
    _, secret = await bed.hook(receiver.url, "server.*")
    server = await bed.server("ordered", said='grüße \u2028 "quoted"')
    await bed.run()
    (read,) = [verdict["read"] for verdict in verdicts(receiver, secret)]
    assert (read["type"], read["data"]["server_id"]) == ("server.ordered", server.id)
    assert read["data"]["said"] == 'grüße \u2028 "quoted"'
    assert read["data"]["id"] == receiver.got[0].id == await bed.last_id()
    assert receiver.got[0].headers["content-type"] == "application/json"
    wrong = Secret("whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY")
    assert verdicts(receiver, wrong) == [{"error": "No matching signature found"}]


async def test_both_secrets_sign_while_one_is_replaced(bed: TellingBed, receiver: Receiver) -> None:
    """Whoever still has the old one takes it for a day; then only the new one signs."""
    hook, old = await bed.hook(receiver.url)
    new = bed.telling.hooks.new_secret()
    await bed.telling.hooks.rotate("acc_1", hook.id, new)
    await bed.telling.hooks.rotate("acc_1", hook.id, new)  # a repeat of the same request changes nothing
    await bed.server("ordered")
    await bed.run()
    assert len(receiver.got[0].headers["webhook-signature"].split(" ")) == 2
    assert all("read" in verdict for secret in (old, new) for verdict in verdicts(receiver, secret))
    assert bed.telling.hooks.previous_until_ms(bed.telling.hooks.one("acc_1", hook.id)) == bed.clock.at_ms + 86_400_000
    receiver.got.clear()
    bed.clock.pass_s(86_400)
    await bed.server("ordered")
    await bed.run()
    assert len(receiver.got[0].headers["webhook-signature"].split(" ")) == 1


async def test_secret_is_nowhere_on_disk(bed: TellingBed, receiver: Receiver, tmp_path: Path) -> None:
    """P10: neither in the record nor in the journal."""
    _, secret = await bed.hook(receiver.url)
    await bed.server("ordered")
    await bed.run()
    on_disk = written(tmp_path)
    assert b"server.ordered" in on_disk
    assert secret.reveal().removeprefix("whsec_").encode() not in on_disk


@pytest.mark.parametrize("status", [301, 308, 400, 401, 404, 429, 500, 503])
async def test_what_is_no_2xx_is_tried_again(tmp_path: Path, clock: DrivenClock, status: int) -> None:
    """Redirects are not followed; the status is kept and the body is not; the id stays, the time and signature change."""
    async with telling_bed(tmp_path, clock) as bed, receiving(status, Location="/elsewhere") as receiver:
        hook, secret = await bed.hook(receiver.url)
        await bed.server("ordered")
        await bed.run()
        kept = await only(bed, hook)
        assert (kept.state, kept.attempts, kept.last_status) == (PENDING, 1, status)
        assert 5_000 <= kept.due_at_ms - clock.at_ms <= 5_500
        await bed.attempt()
        assert len(receiver.got) == 1
        clock.pass_s(5.5)
        receiver.status = 204
        await bed.attempt()
        kept = await only(bed, hook)
        assert (kept.state, kept.attempts, kept.last_status, kept.last_error) == (DELIVERED, 2, 204, "")
        first, second = receiver.got
        assert (first.id, first.body) == (second.id, second.body)
        assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
        assert all("read" in verdict for verdict in verdicts(receiver, secret))
        assert b"secret of the receiver" not in written(tmp_path)


async def test_retry_after_is_respected(tmp_path: Path, clock: DrivenClock) -> None:
    """Where it asks for more patience than the schedule has."""
    async with telling_bed(tmp_path, clock) as bed, receiving(503, Retry_After="120") as receiver:
        hook, _ = await bed.hook(receiver.url)
        await bed.server("ordered")
        await bed.run()
        assert (await only(bed, hook)).due_at_ms == clock.at_ms + 120_000


async def test_endpoint_that_nobody_serves_is_tried_for_three_days_and_then_disabled(
    bed: TellingBed, receiver: Receiver
) -> None:
    """After the last attempt the event is given up, the endpoint stops, and its account sees why in both places."""
    hook, _ = await bed.hook("http://127.0.0.1:9/", "server.*")
    watching, _ = await bed.hook(receiver.url, "webhook.disabled")
    await bed.server("ordered")
    await bed.run()
    began_ms = bed.clock.at_ms
    for _ in range(ATTEMPTS_MAX - 1):
        bed.clock.at_ms = (await only(bed, hook)).due_at_ms
        await bed.attempt()
    kept = await only(bed, hook)
    assert (kept.state, kept.attempts, kept.last_status, kept.last_error) == (GIVEN_UP, 10, None, "connect_failed")
    assert sum(PAUSES_S) <= (bed.clock.at_ms - began_ms) / 1000 <= sum(PAUSES_S) * 1.1
    stopped = bed.telling.hooks.one("acc_1", hook.id)
    assert "the last attempt ended with connect_failed" in stopped.disabled_reason
    await bed.run()
    assert receiver.types == ["webhook.disabled"]
    assert stopped.disabled_reason in receiver.got[0].body
    assert not bed.telling.hooks.one("acc_1", watching.id).disabled_reason


async def test_one_event_that_is_never_taken_does_not_disable_an_endpoint_that_takes_others(bed: TellingBed) -> None:
    """It is given up alone."""
    async with receiving(500) as receiver:
        hook, _ = await bed.hook(receiver.url)
        await bed.server("ordered")
        await bed.run()
        receiver.status = 200
        await bed.server("ordered")
        bed.clock.pass_s(2)
        await bed.run()
        receiver.status = 500
        while (first := (await bed.deliveries(hook))[0]).state is PENDING:
            bed.clock.at_ms = first.due_at_ms
            await bed.attempt()
        assert [each.state for each in await bed.deliveries(hook)] == [GIVEN_UP, DELIVERED]
        assert not bed.telling.hooks.one("acc_1", hook.id).disabled_reason


async def test_gone_disables_at_once_and_gives_up_what_waits(bed: TellingBed) -> None:
    """410 is the endpoint's own word; nothing more is sent, and all of it can be replayed after enabling."""
    async with receiving(410) as receiver:
        hook, _ = await bed.hook(receiver.url)
        for _ in range(3):
            await bed.server("ordered")
        receiver.gate.clear()
        await bed.telling.sweep()
        await bed.telling.deliver()
        await bed.server("ordered")
        receiver.gate.set()
        await bed.attempt()
        await bed.run()
        kept = await bed.deliveries(hook)
        assert {each.state for each in kept} == {GIVEN_UP}
        assert len(kept) == 3  # what happened after the word was not even queued
        assert bed.telling.hooks.one("acc_1", hook.id).disabled_reason == delivering.GONE_REASON
        assert not bed.store.view.deliveries


async def test_crash_between_sending_and_recording_sends_again_under_the_same_id(
    tmp_path: Path, clock: DrivenClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: delivered twice and never lost; the receiver tells by the id."""
    async with telling_bed(tmp_path, clock) as before:
        hook, secret = await before.hook(receiver.url)
        await before.server("ordered")
        post = SqliteStore.post

        async def killed(store: SqliteStore, command: Any) -> Any:
            if isinstance(command, PutDelivery):
                raise ConnectionError("the process died here")
            return await post(store, command)

        with monkeypatch.context() as patched:
            patched.setattr(SqliteStore, "post", killed)
            await before.telling.sweep()
            await before.telling.deliver()
            await asyncio.wait(before.telling._outbox._tasks)
            with pytest.raises(ConnectionError):
                await before.telling.deliver()
    assert len(receiver.got) == 1
    async with telling_bed(tmp_path, clock) as after:
        await after.run()
        assert (await only(after, hook)).state is DELIVERED
    assert len(receiver.got) == 2
    assert receiver.got[0].id == receiver.got[1].id
    assert all("read" in verdict for verdict in verdicts(receiver, secret))


async def test_restart_resumes_where_the_schedule_was(tmp_path: Path, clock: DrivenClock) -> None:
    """What is due later stays due then; attempts are counted on."""
    async with receiving(500) as receiver:
        async with telling_bed(tmp_path, clock) as before:
            hook, _ = await before.hook(receiver.url)
            await before.server("ordered")
            await before.run()
            due_at_ms = (await only(before, hook)).due_at_ms
        async with telling_bed(tmp_path, clock) as after:
            await after.run()
            assert len(receiver.got) == 1
            clock.at_ms = due_at_ms
            await after.attempt()
            assert (await only(after, hook)).attempts == 2
        assert len(receiver.got) == 2


async def test_attempts_at_once_are_bounded_by_endpoint_and_in_all(tmp_path: Path, clock: DrivenClock) -> None:
    """A slow endpoint takes its own share only; once it has failed, one attempt at a time."""
    settings = HookSettings(at_once=4, at_once_per_endpoint=3)
    async with telling_bed(tmp_path, clock, settings) as bed, receiving() as slow, receiving() as other:
        slow.gate.clear()
        await bed.hook(slow.url)
        for _ in range(6):
            await bed.server("ordered")
        await bed.telling.sweep()
        await bed.telling.deliver()
        await bed.hook(other.url)
        await bed.server("ordered")
        await bed.telling.sweep()
        await bed.telling.deliver()
        await other.until(1)
        await slow.until(3)
        slow.gate.set()
        await bed.attempt()
        assert slow.most_at_once == 3
        assert (len(slow.got), len(other.got)) == (7, 1)
        slow.status = 500
        slow.most_at_once = 0
        for _ in range(3):
            await bed.server("ordered")
        await bed.run()
        failed = len(slow.got) - 7
        assert failed <= 3
        clock.pass_s(1)
        slow.most_at_once = 0
        await bed.attempt()
        assert slow.most_at_once <= 1


async def test_endpoint_that_lets_too_much_wait_is_disabled(bed: TellingBed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: an endpoint that nobody serves cannot fill it."""
    monkeypatch.setattr(telling, "PENDING_MAX", 3)
    hook, _ = await bed.hook("http://127.0.0.1:9/")
    for _ in range(5):
        await bed.server("ordered")
        await bed.telling.sweep()
    assert bed.telling.hooks.one("acc_1", hook.id).disabled_reason == telling.PENDING_REASON
    await bed.attempt()
    assert {each.last_error for each in await bed.deliveries(hook)} == {delivering.DISABLED_ERROR}


async def test_deleted_endpoint_is_sent_nothing_more(bed: TellingBed, receiver: Receiver) -> None:
    """Not even what was on its way."""
    hook, _ = await bed.hook(receiver.url)
    await bed.server("ordered")
    await bed.telling.sweep()
    await bed.telling.hooks.delete("acc_1", hook.id)
    await bed.attempt()
    assert receiver.got == []
    assert {each.state for each in await bed.deliveries(hook)} == {GIVEN_UP}


async def test_endpoint_deleted_while_it_answers_costs_nothing(bed: TellingBed) -> None:
    """Its last answer is recorded or dropped; the loop goes on."""
    async with receiving(410) as receiver:
        receiver.gate.clear()
        hook, _ = await bed.hook(receiver.url)
        await bed.server("ordered")
        await bed.telling.sweep()
        await bed.telling.deliver()
        await receiver.until(1)
        await bed.telling.hooks.delete("acc_1", hook.id)
        receiver.gate.set()
        await bed.attempt()
        assert {each.state for each in await bed.deliveries(hook)} == {GIVEN_UP}


async def test_address_that_turns_private_is_refused_at_the_delivery(
    tmp_path: Path, clock: DrivenClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it was named, this machine when it is told; nothing is sent there."""
    port = int(receiver.url.split(":")[2].split("/")[0])
    addresses = ["93.184.216.34"]

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", (addresses[0], port))]

    async with telling_bed(tmp_path, clock, courier=Courier(allow_http=True)) as bed:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        hook, _ = await bed.hook(f"http://rebind.example:{port}/")
        addresses[0] = "127.0.0.1"
        await bed.server("ordered")
        await bed.run()
        assert (await only(bed, hook)).last_error == "address_refused"
    assert receiver.got == []


async def test_event_of_a_row_that_is_not_there_is_given_up(bed: TellingBed, receiver: Receiver) -> None:
    """A delivery that names no event of its account (an older copy of the journal) is not sent as something else."""
    hook, _ = await bed.hook(receiver.url)
    await bed.server("ordered", "acc_2")
    now_ms = bed.clock.at_ms
    for seq in (bed.store.view.journal_seq, 1):
        strange = HookDelivery(hook.id, seq, "acc_1", PENDING, 0, now_ms, now_ms)
        await bed.store.post(PutDelivery(strange))
    await bed.attempt()
    assert receiver.got == []
    assert {each.last_error for each in await bed.deliveries(hook)} == {delivering.UNKNOWN_EVENT}


async def test_long_event_is_sent_without_what_makes_it_long(bed: TellingBed, receiver: Receiver) -> None:
    """Ids stay, so that the rest can be read; the body keeps to the specification's limit."""
    _, secret = await bed.hook(receiver.url, "server.*")
    long = ["y" * 900 for _ in range(90)]
    server = await bed.server("ordered", said=long)
    await bed.run()
    assert len(receiver.got[0].body) <= delivering.MAX_BODY_BYTES
    (read,) = [verdict["read"] for verdict in verdicts(receiver, secret)]
    assert (read["data"]["server_id"], read["data"]["shortened"]) == (server.id, True)
    assert "said" not in read["data"]


async def test_replay_sends_again_from_the_beginning_of_the_schedule(bed: TellingBed, receiver: Receiver) -> None:
    """What was delivered or given up is pending again; one that is being sent is left to that."""
    hook, _ = await bed.hook(receiver.url, "server.*")
    await bed.server("ordered")
    await bed.run()
    done = await only(bed, hook)
    again = await bed.telling.replay("acc_1", hook.id, done.event_seq)
    assert again == replace(done, state=PENDING, attempts=0, last_status=None, done_at_ms=None)
    receiver.gate.clear()
    await bed.telling.deliver()
    await receiver.until(2)
    flying = await bed.telling.replay("acc_1", hook.id, done.event_seq)
    assert flying == again
    receiver.gate.set()
    await bed.attempt()
    assert (await only(bed, hook)).state is DELIVERED
    assert receiver.got[0].id == receiver.got[1].id
    assert len(receiver.got) == 2


async def test_a_clock_that_is_set_back_does_not_stop_deliveries(tmp_path: Path, clock: DrivenClock) -> None:
    """What was to be sent again in days by a clock that was wrong is sent by the one that is right."""
    async with telling_bed(tmp_path, clock) as bed, receiving(503) as receiver:
        await bed.hook(receiver.url)
        await bed.server("ordered")
        await bed.run()
        await bed.attempt()
        assert len(receiver.got) == 1
        receiver.status = 204
        clock.pass_s(-7 * 86_400)
        await bed.attempt()
        assert len(receiver.got) == 2
