"""Power, commands, jobs and files on a real machine of LiteVPS, through the broker and the real store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.core.problems import Problem
from gateway.core.server import Server, ServerState
from gateway.flow.servers.acting import Acting
from gateway.server_ports import Action
from tests.flows.acting_bed import AccountActs, acts_on
from tests.flows.broker_bed import Bed

MISSING = {
    "cryptovps": {"start", "stop", "reboot", "exec", "files", "jobs"},
}


@pytest.fixture
async def acts(broker_bed: Bed) -> AsyncIterator[AccountActs]:
    """One vendor that has everything inside a machine."""
    async with acts_on(broker_bed, "litevps") as opened:
        yield opened


async def refused(work: Any) -> Problem:
    """Await what must end in a problem."""
    with pytest.raises(Problem) as caught:
        await work
    return caught.value


def commands(acts: AccountActs) -> list[str]:
    """What the vendor says was run."""
    return [entry["command"] for entry in acts.bed.driver("litevps").state()["audit"]]


# power


async def test_a_server_is_stopped_and_started_through_the_states_between(acts: AccountActs) -> None:
    """The action tells where it is going, a look that it has arrived, and the journal both."""
    server = await acts.running()
    stopping = (await acts.acting.power(acts.who(), server.id, Action.STOP)).server
    assert stopping.state in {ServerState.STOPPING, ServerState.STOPPED}
    await acts.orders.until(server.id, ServerState.STOPPED)
    starting = (await acts.acting.power(acts.who(), server.id, Action.START)).server
    assert starting.state in {ServerState.STARTING, ServerState.RUNNING}
    await acts.orders.until(server.id, ServerState.RUNNING)
    assert (await acts.acting.power(acts.who(), server.id, Action.REBOOT)).server.state is ServerState.REBOOTING
    await acts.orders.until(server.id, ServerState.RUNNING)
    told = await acts.journal("server.stopped", "server.rebooting")
    assert told == ["server.stopped", "server.rebooting"]


async def test_what_is_there_already_is_left_alone(acts: AccountActs) -> None:
    """Starting what runs asks the vendor for nothing but how it is."""
    server = await acts.running()
    before = len(acts.bed.upstream.seen)
    acted = await acts.acting.power(acts.who(), server.id, Action.START)
    assert acted.server.state is ServerState.RUNNING
    assert {request.method for request in acts.bed.upstream.seen[before:]} <= {"GET"}


async def test_a_repeat_of_what_was_not_needed_does_not_act_later(acts: AccountActs) -> None:
    """P4: the late repeat of a start that found it running does not start what was stopped since, also after a restart."""
    server = await acts.running()
    first = await acts.acting.power(acts.who(), server.id, Action.START, idempotency_key="on")
    assert (first.replayed, first.server.state) == (False, ServerState.RUNNING)
    await acts.acting.power(acts.who(), server.id, Action.STOP, idempotency_key="off")
    await acts.orders.until(server.id, ServerState.STOPPED)
    before = len(acts.bed.upstream.seen)
    for acting in (acts.acting, Acting(acts.doing, acts.seeing, acts.snapshots)):
        again = await acting.power(acts.who(), server.id, Action.START, idempotency_key="on")
        assert (again.replayed, again.server.state) == (True, ServerState.STOPPED)
    assert len(acts.bed.upstream.seen) == before
    problem = await refused(acts.acting.power(acts.who(), server.id, Action.STOP, idempotency_key="on"))
    assert problem.code == "idempotency_conflict"
    await acts.acting.power(acts.who(), server.id, Action.START, idempotency_key="on-2")
    await acts.orders.until(server.id, ServerState.RUNNING)


async def test_rebooting_what_is_stopped_is_refused_before_it_is_sent(acts: AccountActs) -> None:
    """The problem names the state that it needs, and the one that it is in."""
    server = await acts.running()
    await acts.acting.power(acts.who(), server.id, Action.STOP)
    await acts.orders.until(server.id, ServerState.STOPPED)
    before = len(acts.bed.upstream.seen)
    problem = await refused(acts.acting.power(acts.who(), server.id, Action.REBOOT))
    assert (problem.code, problem.extra) == ("server_not_ready", {"state": "stopped"})
    assert "running" in problem.detail
    assert all(request.method == "GET" for request in acts.bed.upstream.seen[before:])


async def test_the_same_key_reboots_once(acts: AccountActs) -> None:
    """P4: a repeat is answered as the first, and another action under its key is refused."""
    server, before = await acts.running(), len(acts.bed.upstream.seen)
    first = await acts.acting.power(acts.who(), server.id, Action.REBOOT, idempotency_key="once")
    again = await acts.acting.power(acts.who(), server.id, Action.REBOOT, idempotency_key="once")
    assert (first.replayed, again.replayed) == (False, True)
    assert sum(request.method == "POST" for request in acts.bed.upstream.seen[before:]) == 1
    problem = await refused(acts.acting.power(acts.who(), server.id, Action.STOP, idempotency_key="once"))
    assert problem.code == "idempotency_conflict"


@pytest.mark.parametrize("feature", sorted(MISSING["cryptovps"]))
async def test_a_missing_capability_names_who_has_it(broker_bed: Bed, feature: str) -> None:
    """501, before anything is sent."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server, guest, who = await acts.running(), acts.acting.guest, acts.who()
        before = len(broker_bed.upstream.seen)
        works: dict[str, Callable[[], Awaitable[object]]] = {
            "exec": lambda: guest.exec(who, server.id, "true"),
            "files": lambda: guest.read_file(who, server.id, "/etc/hosts"),
            "jobs": lambda: guest.jobs(who, server.id),
        }
        work = works.get(feature, lambda: acts.acting.power(who, server.id, Action(feature)))
        problem = await refused(work())
        assert problem.code == "capability_missing"
        assert problem.extra["capability"] == feature
        assert "litevps" in problem.extra["vendors"]
        assert "cryptovps" not in problem.extra["vendors"]
        assert len(broker_bed.upstream.seen) == before


async def test_what_a_document_does_not_say_is_not_promised(broker_bed: Bed) -> None:
    """Unknown is not yes: how root gets in at CryptoVPS its document leaves open, and the problem says so."""
    async with acts_on(broker_bed, "cryptovps") as acts:
        server = await acts.running()
        problem = await refused(acts.acting.credentials(acts.who(), server.id))
        assert (problem.code, problem.extra["capability"]) == ("capability_missing", "credentials")
        assert "does not say" in problem.detail


async def test_ways_in_are_sealed_on_arrival(broker_bed: Bed) -> None:
    """VRTX tells the password once it is installed: shown to its owner, nowhere in the open in the database."""
    async with acts_on(broker_bed, "vrtx") as acts:
        server = await acts.running()
        shown = await acts.acting.credentials(acts.who(), server.id)
        assert shown["password"]
        kept = await acts.latest(server)
        assert kept.sealed_access is not None
        assert shown["password"].encode() not in kept.sealed_access
        before = len(broker_bed.upstream.seen)
        assert await acts.acting.credentials(acts.who(), server.id) == shown
        assert len(broker_bed.upstream.seen) == before
        for file in broker_bed.directory.glob("gateway.db*"):
            assert shown["password"].encode() not in file.read_bytes()


# commands


async def test_a_command_is_answered_with_what_it_printed(acts: AccountActs) -> None:
    """Its output, its errors and its code."""
    server = await acts.running()
    job = (await acts.acting.guest.exec(acts.who(), server.id, "echo hello; nonsense")).job
    assert (job.state, job.exit_code, job.stdout) == ("done", 127, "hello\n")
    assert "not found" in job.stderr


async def test_a_command_whose_answer_is_lost_is_not_run_again(acts: AccountActs) -> None:
    """Its fate is unknown, and said to be; the vendor saw it once."""
    server = await acts.running()
    acts.bed.driver("litevps").fault("exec", "exec", mode="lost")
    problem = await refused(acts.acting.guest.exec(acts.who(), server.id, "echo once"))
    assert problem.code == "action_unknown"
    assert commands(acts).count("echo once") == 1


async def test_a_command_that_never_answers_is_unknown_too(acts: AccountActs) -> None:
    """The vendor fell silent after it was sent."""
    server = await acts.running()
    acts.bed.driver("litevps").fault("exec", "exec", mode="hangs")
    problem = await refused(acts.acting.guest.exec(acts.who(), server.id, "echo silent", timeout_s=30))
    assert problem.code == "action_unknown"
    assert commands(acts).count("echo silent") == 1


async def test_what_the_vendors_policy_refuses_is_said_to_be(acts: AccountActs) -> None:
    """Its denylist is a search for text: the problem tells that nothing was done, and who refused."""
    server = await acts.running()
    problem = await refused(acts.acting.guest.exec(acts.who(), server.id, "echo reboot"))
    assert problem.code == "upstream_policy_denied"


async def test_the_same_key_runs_a_command_once(acts: AccountActs) -> None:
    """The repeat has the first one's output."""
    server, guest = await acts.running(), acts.acting.guest
    first = await guest.exec(acts.who(), server.id, "echo x >> /root/count", idempotency_key="k")
    again = await guest.exec(acts.who(), server.id, "echo x >> /root/count", idempotency_key="k")
    assert (first.replayed, again.replayed, first.job) == (False, True, again.job)
    assert commands(acts).count("echo x >> /root/count") == 1


async def test_a_repeat_never_runs_a_command_again_blindly(acts: AccountActs) -> None:
    """Sent at the same time it runs once; when the first answer was lost the repeat is told so, also after a restart."""
    server, guest = await acts.running(), acts.acting.guest
    both = [guest.exec(acts.who(), server.id, "echo twin", idempotency_key="twin") for _ in range(2)]
    assert sorted(ran.replayed for ran in await asyncio.gather(*both)) == [False, True]
    acts.bed.driver("litevps").fault("exec", "exec", mode="lost")
    for again in (guest, guest, Acting(acts.doing, acts.seeing, acts.snapshots).guest):
        problem = await refused(again.exec(acts.who(), server.id, "echo lost", idempotency_key="lost"))
        assert problem.code == "action_unknown"
    assert (commands(acts).count("echo twin"), commands(acts).count("echo lost")) == (1, 1)


async def test_a_command_that_was_not_run_may_be_sent_again(acts: AccountActs) -> None:
    """A refusal freezes no key: once the vendor takes it, the same request runs it."""
    server, guest = await acts.running(), acts.acting.guest
    acts.bed.driver("litevps").fault("status", "exec", status=429)
    problem = await refused(guest.exec(acts.who(), server.id, "echo later", idempotency_key="later"))
    assert problem.code == "vendor_busy"
    acts.bed.driver("litevps").lift()
    ran = await guest.exec(acts.who(), server.id, "echo later", idempotency_key="later")
    assert (ran.job.stdout, ran.replayed) == ("later\n", False)


async def test_jobs_are_listed_shown_and_cancelled(acts: AccountActs) -> None:
    """In the background: begun, found in the list, cancelled; one that nobody began is not found."""
    server, guest, who = await acts.running(), acts.acting.guest, acts.who()
    begun = (await guest.exec(who, server.id, "sleep 3000", timeout_s=600, background=True)).job
    assert begun.id
    assert begun.state in {"pending", "running"}
    assert begun.id in {job.id for job in await guest.jobs(who, server.id)}
    assert (await guest.job(who, server.id, begun.id)).state in {"pending", "running"}
    assert (await guest.cancel(who, server.id, begun.id)).state == "cancelled"
    assert (await guest.job(who, server.id, begun.id)).state == "cancelled"
    problem = await refused(guest.job(who, server.id, "00000000-0000-0000-0000-000000000000"))
    assert problem.code == "not_found"


async def test_a_file_goes_in_and_comes_out(acts: AccountActs) -> None:
    """Small ones whole, large ones as a stream in both directions; one that is not there is not found."""
    server, guest, who = await acts.running(), acts.acting.guest, acts.who()
    small, large = bytes(range(256)), bytes(range(256)) * 12_000
    await guest.write_file(who, server.id, "/root/small file.bin", small)
    reply = await guest.read_file(who, server.id, "/root/small file.bin")
    assert (reply.body, reply.rest) == (small, None)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 65_536):
            yield large[at : at + 65_536]

    await guest.write_file(who, server.id, "/root/large.bin", pieces())
    reply = await guest.read_file(who, server.id, "/root/large.bin")
    assert reply.rest is not None
    assert reply.body + b"".join([piece async for piece in reply.rest]) == large
    assert (await refused(guest.read_file(who, server.id, "/root/none"))).code == "not_found"


# the moment


async def test_nothing_is_sent_to_a_server_that_is_not_there_yet_or_any_more(acts: AccountActs) -> None:
    """An order that no vendor has fulfilled, one that is being destroyed, and one that has ended."""
    acts.bed.driver("litevps").fault("status", "create", status=503, times=None)
    ordered = await acts.orders.create("token-early")
    guest, who = acts.acting.guest, acts.who()
    assert (await refused(guest.exec(who, ordered.id, "true"))).code == "server_not_ready"
    acts.bed.driver("litevps").lift()
    server = await acts.running("token-2")
    await acts.acting.destroy(who, server.id)
    assert (await refused(guest.exec(who, server.id, "echo late"))).code == "server_ended"
    ended = await acts.orders.until(server.id, ServerState.DESTROYED)
    for work in (
        guest.exec(who, ended.id, "echo late"),
        guest.read_file(who, ended.id, "/etc/hosts"),
        acts.acting.power(who, ended.id, Action.START),
        acts.acting.destroy(who, ended.id),
        acts.snapshots.create(who, ended.id, "late"),
    ):
        problem = await refused(work)
        assert (problem.code, problem.extra["state"]) == ("server_ended", "destroyed")
    assert "echo late" not in commands(acts)


async def test_nobody_elses_server_exists(acts: AccountActs) -> None:
    """P9: to another account every action on it is one on nothing."""
    server: Server = await acts.running()
    guest, other = acts.acting.guest, acts.who("acc_2")
    for work in (
        acts.acting.destroy(other, server.id),
        acts.acting.power(other, server.id, Action.STOP),
        acts.acting.credentials(other, server.id),
        guest.exec(other, server.id, "true"),
        guest.jobs(other, server.id),
        guest.job(other, server.id, "1"),
        guest.cancel(other, server.id, "1"),
        guest.read_file(other, server.id, "/etc/hosts"),
        guest.write_file(other, server.id, "/etc/hosts", b""),
        acts.snapshots.create(other, server.id, "mine"),
        acts.snapshots.refresh(other, server.id),
    ):
        assert (await refused(work)).code == "not_found"
    assert (await acts.latest(server)).version == server.version
