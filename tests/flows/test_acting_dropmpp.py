"""Paid actions, destruction, snapshots and SSH keys at dropmpp: real chain, real seller, real store."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from drop_shop import APPROVED, PUBLIC_KEY, VENDOR, Shop, drop_shop

from gateway.core.problems import Problem
from gateway.core.server import Server, ServerState, SshKey, Wanted
from gateway.flow.call import Reply
from gateway.flow.servers.keys import KeyPrices
from gateway.server_ports import Action
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo
from tests.flows.acting_bed import DropActs, drop_acts

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINDgBnIVpOb4oiC03mSIBpW6SZDkrM5Lmk/l550YmY/V"


@pytest.fixture(scope="module")
def tempo() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


@pytest.fixture(scope="module")
def process(tempo: LocalTempo) -> Iterator[SandboxProcess]:
    """The vendor."""
    with SandboxProcess.start("sandbox.dropmpp", {"rpc_url": tempo.rpc_url, "catalog": "proof"}) as running:
        yield running


@pytest.fixture
async def shop(tempo: LocalTempo, process: SandboxProcess, tmp_path: Path) -> AsyncIterator[Shop]:
    """Two funded accounts at the vendor."""
    async with drop_shop(tempo, process, tmp_path) as opened:
        yield opened


@pytest.fixture
async def acts(shop: Shop) -> AsyncIterator[DropActs]:
    """The use cases on it."""
    async with drop_acts(shop) as opened:
        yield opened


async def refused(work: Any) -> Problem:
    """Await what must end in a problem."""
    with pytest.raises(Problem) as caught:
        await work
    return caught.value


async def destroyed(acts: DropActs, server: Server) -> Server:
    """Sweep until a server is gone."""
    for _ in range(400):
        latest = await acts.latest(server)
        if not latest.open:
            return latest
        await acts.acting.sweep()
        await asyncio.sleep(0.1)
    raise AssertionError(f"{latest} is still there")


async def added(acts: DropActs, account: str = "acc_1", text: str = PUBLIC_KEY) -> SshKey:
    """Keep a key."""
    key, _ = await acts.keys.add(acts.keys.parse(account, "laptop", text))
    return key


# power


async def test_a_paid_action_tells_what_it_cost(acts: DropActs) -> None:
    """Payment and charge come with the server, and a repeat under its key costs nothing."""
    server = await acts.server()
    first = await acts.acting.power(acts.who(), server.id, Action.STOP, idempotency_key="off")
    again = await acts.acting.power(acts.who(), server.id, Action.STOP, idempotency_key="off")
    assert first.payment_id is not None
    assert first.charge_base == APPROVED["power"]
    assert (again.payment_id, again.replayed) == (first.payment_id, True)
    assert (await acts.latest(server)).state in {ServerState.STOPPING, ServerState.STOPPED}


async def test_an_action_costs_no_more_than_max_total_leaves(acts: DropActs) -> None:
    """Nothing is paid for a server that has cost what it may; an agent's own cap is told apart."""
    server = await acts.server(max_total_base=1)
    problem = await refused(acts.acting.power(acts.who(), server.id, Action.REBOOT))
    assert problem.code == "max_total_reached"
    assert "max_total leaves 0.000000" in problem.detail
    assert "X-Max-Charge" not in problem.detail
    other = await acts.server(max_total_base=10_000_000)
    problem = await refused(acts.acting.power(acts.who(), other.id, Action.REBOOT, max_charge_base=1))
    assert problem.code == "price_above_max_charge"
    assert (await acts.latest(other)).state is ServerState.RUNNING


# destruction


async def test_a_destruction_leaves_its_snapshot(acts: DropActs) -> None:
    """The vendor takes one unasked: its agent has the record, with its end, and no server any more."""
    server = await acts.server()
    await acts.acting.destroy(acts.who(), server.id)
    ended = await destroyed(acts, server)
    assert (ended.state, ended.wanted) == (ServerState.DESTROYED, Wanted.DESTROYED)
    (snapshot,) = await acts.snapshots_of(server)
    assert snapshot.account_id == "acc_1"
    acts.shop.advance(30)
    kept = await acts.snapshots.get(acts.who(), snapshot.id)
    assert kept.state in {"pending", "available"}
    assert kept.expires_at_ms is not None
    wanted, gone = await acts.journal("server.destroy_wanted", "server.destroyed")
    assert (wanted, gone) == ("server.destroy_wanted", "server.destroyed")


async def test_a_destruction_that_was_wanted_survives_a_crash(acts: DropActs, shop: Shop) -> None:
    """P12: the process ends between what was wanted and what was asked; the next one asks, snapshot and all."""
    server = await acts.server()
    await acts.acting.end(server.id, "its time is over")  # durable, and nothing was sent
    assert (await acts.latest(server)).state is ServerState.RUNNING
    async with drop_acts(shop) as after:
        ended = await destroyed(after, server)
        assert ended.state is ServerState.DESTROYED
        assert len(await after.snapshots_of(server)) == 1


async def test_a_destruction_whose_answer_was_lost_is_followed(acts: DropActs, shop: Shop) -> None:
    """The vendor did it and nobody heard: the next process finds it gone, and what it left in the list."""
    server = await acts.server()
    await acts.acting.end(server.id, "its time is over")
    await shop.good("DELETE", f"/v1/servers/{server.ref}")  # as the request of a process that then ended
    async with drop_acts(shop) as after:
        ended = await destroyed(after, server)
        assert ended.state is ServerState.DESTROYED
        assert len(await after.snapshots_of(server)) == 1


async def test_nothing_is_destroyed_that_the_journal_does_not_hold_as_wanted_dead(acts: DropActs) -> None:
    """A sweep leaves every server alone that is wanted."""
    server = await acts.server()
    await acts.acting.sweep()
    assert (await acts.seeing.look(server.id)).state is ServerState.RUNNING
    assert await acts.journal("server.destroy_wanted") == []


@pytest.mark.parametrize("then", ["nothing", "shown", "next process"])
async def test_what_its_agent_destroys_through_the_proxy_is_destroyed_and_not_lost(
    acts: DropActs, shop: Shop, then: str
) -> None:
    """The vendor accepted the agent's own DELETE: that is how the server ended, also where its agent looked again."""
    server = await acts.server()
    await shop.good("DELETE", f"/v1/servers/{server.ref}")
    if then == "shown":
        assert (await shop.run("GET", f"/v1/servers/{server.ref}")).status == 404
    if then == "next process":
        async with drop_acts(shop) as after:
            ended = await after.seeing.look(server.id)
    else:
        ended = await acts.seeing.look(server.id)
    assert (ended.state, ended.wanted) == (ServerState.DESTROYED, Wanted.KEPT)
    assert "its agent" in ended.reason


async def test_what_its_vendor_takes_away_is_no_agents_doing(acts: DropActs, shop: Shop) -> None:
    """Shown as destroyed, and nobody asked for that: one look proves no end, and no end that was wanted."""
    server = await acts.server()
    shop._admin(f"/admin/servers/{server.ref}", {"status": "destroyed"})
    for _ in range(2):
        assert (await acts.seeing.look(server.id)).open


async def test_whoever_may_not_call_the_vendor_destroys_nothing(acts: DropActs) -> None:
    """A key of the account for another vendor is refused before anything is kept."""
    server, who = await acts.server(), acts.who()
    narrow = type(who)(type(who.key)(**{**_fields(who.key), "scopes": ("proxy:other",)}), who.request_id)
    assert (await refused(acts.acting.destroy(narrow, server.id))).code == "scope_missing"
    assert (await acts.latest(server)).wanted is Wanted.KEPT


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


async def test_the_way_in_is_the_vendors(acts: DropActs) -> None:
    """The password as the vendor tells it, kept sealed."""
    server = await acts.server()
    shown = await acts.acting.credentials(acts.who(), server.id)
    assert shown["username"] == "root"
    assert shown["password"]
    assert shown["password"].encode() not in ((await acts.latest(server)).sealed_access or b"")


async def test_what_a_vendor_lacks_is_refused_with_the_ways_in_that_there_are(acts: DropActs) -> None:
    """No commands here: the 501 tells where the password is."""
    server = await acts.server()
    problem = await refused(acts.acting.guest.exec(acts.who(), server.id, "true"))
    assert problem.code == "capability_missing"
    assert f"GET /v1/servers/{server.id}/credentials" in problem.detail


# snapshots


async def test_a_snapshot_is_paid_for_followed_and_deleted(acts: DropActs) -> None:
    """Pending, then available with its end and its size; deleted at the vendor too."""
    server = await acts.server()
    taken = await acts.snapshots.create(acts.who(), server.id, "mine", idempotency_key="s")
    again = await acts.snapshots.create(acts.who(), server.id, "mine", idempotency_key="s")
    assert (taken.charge_base, again.snapshot.id) == (APPROVED["snapshot"], taken.snapshot.id)
    assert taken.snapshot.name == "mine"
    acts.shop.advance(60)
    shown = await _until(acts, taken.snapshot.id, "available")
    assert shown.expires_at_ms is not None
    assert (await acts.snapshots.delete(acts.who(), shown.id)).state == "deleted"
    await acts.snapshots.refresh(acts.who(), server.id)
    assert [each.state for each in await acts.snapshots_of(server)] == ["deleted"]


async def _until(acts: DropActs, snapshot_id: str, state: str) -> Any:
    """Sweep until a snapshot is so."""
    for _ in range(400):
        acts.snapshots._listed_ms.clear()
        shown = await acts.snapshots.get(acts.who(), snapshot_id)
        if shown.state == state:
            return shown
        await asyncio.sleep(0.1)
    raise AssertionError(shown)


async def test_a_snapshot_that_nobody_here_asked_for_is_found(acts: DropActs, shop: Shop) -> None:
    """Taken through the proxy, or by an answer that was lost: the list has it, and it is kept once."""
    server = await acts.server()
    await shop.good("POST", f"/v1/servers/{server.ref}/snapshot", name="elsewhere")
    await asyncio.gather(*(acts.snapshots.refresh(acts.who(), server.id) for _ in range(3)))
    (found,) = await acts.snapshots_of(server)
    assert found.name == "elsewhere"


# SSH keys


async def test_a_key_is_registered_once_however_many_orders_need_it(acts: DropActs) -> None:
    """Five at once, and one after a crash before the vendor's id was kept: one registration, paid once."""
    key, vendor = await added(acts), acts.doing.vendors[VENDOR]
    found = await asyncio.gather(*(acts.keys.refs(acts.who(), vendor, (key.id,)) for _ in range(5)))
    assert len(set(found)) == 1
    payments = acts.shop.desk.rows("SELECT * FROM payments")
    assert [row["hold_base"] for row in payments] == [APPROVED["key"]]
    kept = await acts.keys.get("acc_1", key.id)
    await acts.keys._install(kept, VENDOR, "")  # as a process leaves it that ended before it kept the id
    assert await acts.keys.refs(acts.who(), vendor, (key.id,)) == found[0]
    assert len(acts.shop.desk.rows("SELECT * FROM payments")) == 1


async def test_keys_cost_what_was_quoted_or_nothing_is_registered(acts: DropActs) -> None:
    """Both are priced before either is bought; under the cap they are bought, and cost nothing again."""
    first, second, vendor = await added(acts), await added(acts, text=OTHER_KEY), acts.doing.vendors[VENDOR]
    ids, prices = (first.id, second.id), KeyPrices(acts.keeping, acts.doing.runner)
    price_base = APPROVED["key"]
    assert await prices.of(acts.who(), vendor, ids) == ((first.id, price_base), (second.id, price_base))
    problem = await refused(acts.keys.refs(acts.who(), vendor, ids, max_charge_base=2 * price_base - 1))
    assert problem.code == "price_above_max_charge"
    assert acts.shop.desk.rows("SELECT * FROM payments") == []
    assert len(set(await acts.keys.refs(acts.who(), vendor, ids, max_charge_base=2 * price_base))) == len(ids)
    assert await prices.of(acts.who(), vendor, ids) == ()
    assert len(await acts.keys.refs(acts.who(), vendor, ids, max_charge_base=0)) == len(ids)
    assert len(acts.shop.desk.rows("SELECT * FROM payments")) == len(ids)


async def test_a_key_whose_price_is_not_told_is_not_registered(acts: DropActs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor that answers the question for its price with anything else is asked again later, and nobody is."""
    key, vendor = await added(acts), acts.doing.vendors[VENDOR]

    async def ill(*_: object, **__: object) -> Reply:
        return Reply(500, (), b"")

    monkeypatch.setattr(acts.doing.runner, "ask", ill)
    problem = await refused(KeyPrices(acts.keeping, acts.doing.runner).of(acts.who(), vendor, (key.id,)))
    assert (problem.code, problem.status) == ("price_untold", 503)
    assert acts.shop.desk.rows("SELECT * FROM tasks") == []


async def test_a_key_that_the_vendor_lost_is_registered_anew(acts: DropActs, shop: Shop) -> None:
    """Its agent deleted it through the proxy: the next order needs another registration, which costs again."""
    key, vendor = await added(acts), acts.doing.vendors[VENDOR]
    (first,) = await acts.keys.refs(acts.who(), vendor, (key.id,))
    await shop.good("DELETE", f"/v1/keys/{first}")
    (second,) = await acts.keys.refs(acts.who(), vendor, (key.id,))
    assert second != first
    assert dict((await acts.keys.get("acc_1", key.id)).installed) == {VENDOR: second}


async def test_a_deleted_key_is_gone_at_the_vendor_too(acts: DropActs, shop: Shop) -> None:
    """Whoever knows its id finds nothing any more."""
    key, vendor = await added(acts), acts.doing.vendors[VENDOR]
    (ref,) = await acts.keys.refs(acts.who(), vendor, (key.id,))
    deleted = await acts.keys.delete(acts.who(), key.id)
    assert deleted.deleted_at_ms is not None
    assert deleted.installed == ()
    assert ref not in {each["id"] for each in (await shop.good("GET", "/v1/keys"))["keys"]}
    assert (await refused(acts.keys.refs(acts.who(), vendor, (key.id,)))).code == "not_found"
    assert (await refused(acts.keys.delete(acts.who(), key.id))).code == "not_found"


async def test_nobody_orders_with_anothers_key(acts: DropActs) -> None:
    """P9: and nothing is registered, not even the own key that was named first."""
    mine, theirs = await added(acts, "acc_2", OTHER_KEY), await added(acts)
    problem = await refused(acts.keys.refs(acts.who("acc_2"), acts.doing.vendors[VENDOR], (mine.id, theirs.id)))
    assert problem.code == "not_found"
    assert acts.shop.desk.rows("SELECT * FROM payments") == []


async def test_the_same_key_again_is_the_same_record(acts: DropActs) -> None:
    """Another comment and name change nothing; what is no public key is refused by its field."""
    key = await added(acts)
    again, new = await acts.keys.add(acts.keys.parse("acc_1", "other", f"{PUBLIC_KEY} comment"))
    assert (again.id, new) == (key.id, False)
    with pytest.raises(Problem) as caught:
        acts.keys.parse("acc_1", "bad", "-----BEGIN OPENSSH PRIVATE KEY-----")
    assert (caught.value.code, caught.value.field) == ("input_refused", "public_key")
