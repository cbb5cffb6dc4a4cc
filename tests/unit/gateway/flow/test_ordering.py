"""Orders of servers: one purchase behind each, whatever the vendors, the network and the chain do to it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.commands import RevokeKey
from gateway.core.payment import Charge, Delivery
from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.server import Candidate, Quote, Server, ServerState, Wanted
from gateway.core.spec import ServerSpec
from gateway.flow.servers.ordering import PlacingSettings, claim_of
from gateway.flow.slots import Slot
from gateway.http.port import NotSent, SentUnknown
from gateway.operator.registry import operate
from gateway.operator.services import Services
from gateway.system import SystemEntropy
from tests.unit.gateway.flow.order_desk import Desk, advanced, desk_on, desk_opened, told
from tests.unit.gateway.flow.spend_bed import PRICE_BASE, Hanging, always, respond

LOST = SentUnknown("connection_lost", "scripted")
UNREACHABLE = NotSent("connect_failed", "scripted")
MADE = told(server="box-1", state="provisioning", access={"password": "s3cret"})
RUNNING = told(server="box-1", state="running", address="192.0.2.1")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Two shops, and USD 100."""
    async with desk_opened(tmp_path) as running:
        yield running


async def want_gone(desk: Desk, server: Server) -> None:
    """Say that a server is not wanted any more."""

    def update(before: Server) -> Server:
        return replace(before, wanted=Wanted.DESTROYED, reason="its agent asked for it")

    await desk.keeping.change(server.id, update, "destroy_wanted")


async def test_an_order_is_bought_from_the_first_way_and_kept_with_all_that_it_shows(desk: Desk) -> None:
    """The server is the first candidate's, its payment and its secrets are kept, and one order left."""
    desk.answers("shop", MADE)
    server = await desk.order()
    assert (server.state, server.vendor, server.ref) == (ServerState.PROVISIONING, "shop", "box-1")
    payment = desk.payment
    assert (server.payment_id, payment.idempotency_key) == (payment.id, claim_of(server))
    assert server.sealed_access is not None
    assert b"s3cret" not in server.sealed_access
    assert desk.keeping.open("access", server.id, server.sealed_access) == {"password": "s3cret"}
    assert [shop for shop, _ in desk.told.sold] == ["shop"]
    assert await desk.events(server) == ["ordered", "provisioning"]
    await desk.bed.answers.drain(5.0)
    assert (await desk.bed.payment(payment.id)).answered


async def test_the_order_is_durable_before_anything_leaves(desk: Desk) -> None:
    """P3: while the shop is asked, the record stands already."""
    hanging = Hanging()
    desk.bed.line.answering = hanging
    server = await desk.ordering.create(desk.who(), desk.new())
    await hanging.began.wait()
    kept = await desk.keeping.latest(server.id)
    assert (kept.state, kept.version, kept.client_token) == (ServerState.ORDERING, 1, "token-1")
    hanging.gate.set()


async def test_the_same_token_is_the_same_server(desk: Desk) -> None:
    """Two at once and one later: one server, one purchase; nobody chooses again for a repeat."""
    desk.answers("shop", MADE)
    both = await asyncio.gather(*(desk.ordering.place(desk.who(), desk.new()) for _ in range(2)))
    assert both[0][0].id == both[1][0].id
    assert sorted(replayed for _, replayed in both) == [False, True]
    await advanced(desk.ordering, both[0][0].id)
    chosen = desk.ways.chosen
    again, replayed = await desk.ordering.place(desk.who(), desk.new())
    assert (again.id, again.ref, replayed, desk.ways.chosen) == (both[0][0].id, "box-1", True, chosen)
    assert len(desk.told.sold) == len(desk.bed.open) == 1


async def test_a_token_with_another_body_is_a_conflict(desk: Desk) -> None:
    """What the token stands for is never changed by who sends it again, nor bought twice."""
    desk.answers("shop", MADE)
    await desk.order()
    with pytest.raises(Problem) as caught:
        await desk.ordering.create(desk.who(), desk.new(fingerprint=b"\x09" * 32))
    assert caught.value.code == "idempotency_conflict"
    assert len(desk.told.sold) == 1


async def test_another_accounts_equal_token_is_another_order(desk: Desk) -> None:
    """P9: tokens are an account's own."""
    desk.answers("shop", MADE, told(server="box-2", state="running"))
    first = await desk.order()
    second = await desk.ordering.create(desk.who("acc_2"), desk.new())
    second = await advanced(desk.ordering, second.id)
    assert (first.ref, second.ref) == ("box-1", "box-2")


async def test_a_vendor_that_cannot_be_reached_loses_to_the_next(desk: Desk) -> None:
    """Nothing was bought where not even the price could be asked; the order says who has it now."""
    desk.answers("other", MADE)
    asked = desk.bed.line.first
    assert asked is not None

    async def first(request: Any) -> Any:
        if desk.bed.line.origins[-1] == "https://shop.test":
            raise UNREACHABLE
        return await asked(request)

    desk.bed.line.first = first
    server = await desk.order()
    assert (server.vendor, server.ref, server.tried) == ("other", "box-1", 1)
    assert await desk.events(server) == ["ordered", "reordered", "provisioning"]


async def test_a_price_above_the_candidates_bound_loses_to_the_next(desk: Desk) -> None:
    """What was chosen at one price is not bought at a higher one."""
    cheap, dear = desk.ways.candidates
    desk.ways.candidates = (replace(cheap, first_charge_max_base=PRICE_BASE - 1), dear)
    desk.answers("other", MADE)
    server = await desk.order()
    assert (server.vendor, len(desk.told.sold)) == ("other", 1)


async def test_what_all_vendors_would_meet_ends_the_order(desk: Desk) -> None:
    """A frozen account buys nowhere: the order fails at once, with the reason."""
    await desk.bed.freeze("account:acc_1")
    server = await desk.order()
    assert (server.state, server.tried) == (ServerState.FAILED, 0)
    assert server.reason.startswith("frozen: ")
    assert server.ended_at_ms is not None
    assert await desk.events(server) == ["ordered", "failed"]


async def test_a_frozen_vendor_loses_to_the_next(desk: Desk) -> None:
    """A stop on one vendor is no stop on the order."""
    await desk.bed.freeze("vendor:shop")
    desk.answers("other", MADE)
    assert (await desk.order()).vendor == "other"


async def test_an_order_of_a_revoked_key_fails(desk: Desk) -> None:
    """Whoever ordered may not buy any more: nothing leaves."""
    now_ms = desk.bed.clock.now_ms()
    await desk.bed.post(RevokeKey(desk.bed.keys["acc_1"].id, "acc_1", now_ms))
    server = await desk.order()
    assert (server.state, desk.told.sold) == (ServerState.FAILED, [])


async def test_input_that_one_vendor_refuses_may_be_the_next_ones(desk: Desk) -> None:
    """A name that no vendor takes fails the order with the field's reason, and costs nothing."""
    server = await desk.order(name="localhost")
    assert server.state is ServerState.FAILED
    assert "takes no localhost" in server.reason
    assert (desk.bed.open, desk.told.sold) == ([], [])


async def test_a_lost_answer_stops_everything_else(desk: Desk) -> None:
    """P5: while a vendor may have made it nothing is bought elsewhere, however often the order is gone on with."""
    desk.answers("shop", LOST)
    server = await desk.order()
    assert (server.state, server.payment_id) == (ServerState.ORDER_UNKNOWN, desk.payment.id)
    for _ in range(3):
        await desk.ordering.resume()
        assert (await desk.now(server)).state is ServerState.ORDER_UNKNOWN
    assert [shop for shop, _ in desk.told.sold] == ["shop"]
    assert await desk.events(server) == ["ordered", "order_unknown"]


async def test_a_lost_answer_that_is_found_is_the_server(desk: Desk) -> None:
    """Recovery shows the stored credential again, the shop answers, and the order is fulfilled without another purchase."""
    desk.answers("shop", LOST, MADE)
    server = await desk.order()
    await desk.bed.sweep()
    server = await desk.now(server)
    assert (server.state, server.vendor, server.ref) == (ServerState.PROVISIONING, "shop", "box-1")
    assert len(desk.bed.open) == 1
    assert await desk.events(server) == ["ordered", "order_unknown", "provisioning"]


async def test_a_lost_order_that_is_dead_goes_to_the_next_vendor(desk: Desk) -> None:
    """P4: the second purchase begins only when the chain has proven that the first can never be collected."""
    desk.answers("shop", LOST)
    desk.answers("other", MADE)
    server = await desk.order()
    first = desk.payment
    assert [shop for shop, _ in desk.told.sold] == ["shop"]
    await desk.bed.bury(first)
    server = await desk.now(server)
    assert (server.state, server.vendor, server.tried) == (ServerState.PROVISIONING, "other", 1)
    assert (await desk.bed.payment(first.id)).axes.charge is Charge.VOIDED
    assert (await desk.bed.payment(server.payment_id or "")).idempotency_key == f"create {server.id} 1"


async def test_the_only_way_is_tried_again_when_its_order_got_lost_for_certain(desk: Desk) -> None:
    """An order that died unheard is ordered once more where there is nobody else, under a claim of its own."""
    desk.ways.candidates = desk.ways.candidates[:1]
    desk.answers("shop", LOST, MADE)
    server = await desk.order()
    await desk.bed.bury(desk.payment)
    server = await desk.now(server)
    assert (server.state, server.vendor, server.tried) == (ServerState.PROVISIONING, "shop", 1)
    assert len(server.candidates) == 2


async def test_an_unreachable_only_way_is_tried_so_often_and_then_fails(desk: Desk) -> None:
    """Pauses, not a loop for ever: the agent learns the reason."""
    desk.ways.candidates = desk.ways.candidates[:1]
    desk.bed.line.first = always(UNREACHABLE)
    server = await desk.order()
    assert server.state is ServerState.FAILED
    assert server.reason.startswith("vendor_unreachable")
    assert server.tried == 4


async def test_a_refusal_that_may_still_be_collected_stops_everything_else(desk: Desk) -> None:
    """The shop said no and holds a credential that is good: only its death lets the next vendor be asked."""
    desk.answers("shop", respond(503, b"busy"))
    desk.answers("other", MADE)
    server = await desk.order()
    assert server.state is ServerState.ORDER_UNKNOWN
    assert [shop for shop, _ in desk.told.sold] == ["shop"]
    await desk.bed.bury(desk.payment)
    server = await desk.now(server)
    assert (server.state, server.vendor) == (ServerState.PROVISIONING, "other")


async def test_what_was_collected_without_delivery_is_not_bought_again_until_that_is_decided(desk: Desk) -> None:
    """Settled and never answered: the order hangs on the payment, for its vendor may still deliver."""
    desk.answers("shop", LOST)
    server = await desk.order()
    await desk.bed.settle(desk.payment)
    server = await desk.now(server)
    assert (server.state, server.vendor) == (ServerState.ORDER_UNKNOWN, "shop")
    assert len(desk.told.sold) == 1


async def test_an_answer_that_cannot_be_read_is_a_humans_and_buys_nothing_else(desk: Desk) -> None:
    """Delivered, and it says nothing of what was made: the order waits for somebody who looks."""
    desk.answers("shop", told(thanks="yes"))
    server = await desk.order()
    assert server.state is ServerState.ORDER_UNKNOWN
    assert ("delivery_unreadable", desk.payment.id) in await desk.bed.tasks()
    desk.bed.clock.ms += 301_000
    await desk.ordering.resume()
    assert (await desk.now(server)).state is ServerState.ORDER_UNKNOWN
    assert len(desk.told.sold) == 1


async def test_a_clock_that_is_set_back_does_not_stop_an_order(desk: Desk) -> None:
    """What was to be tried in ten minutes by a clock that was wrong is tried by the one that is right."""
    held = hold_all_calls(desk)
    desk.answers("shop", MADE)
    server = await desk.order()
    assert (server.state, desk.told.sold) == (ServerState.ORDERING, [])
    for slot in held:
        slot.give_back()
    desk.bed.clock.ms -= 600_000
    await desk.ordering.resume()
    assert (await desk.now(server)).ref == "box-1"


async def test_what_the_operator_found_out_is_followed_like_any_answer(desk: Desk) -> None:
    """The order is over for ordering, and what it made is looked at until it runs, in the same process."""
    desk.answers("shop", told(thanks="yes"))
    server = await desk.order()
    services = Services(desk.bed.store, desk.bed.clock, SystemEntropy(), {}, frozenset())
    said = {"server": server.id, "made": "box-1", "resolution": "seen in the console"}
    await operate(services, "server_resolve", said, "operator test")
    desk.shows("box-1", RUNNING)
    desk.bed.clock.ms += 301_000
    await desk.ordering.resume()
    await desk.seeing.look(server.id)
    server = await desk.now(server)
    assert (server.state, server.ref, server.payment_id) == (ServerState.RUNNING, "box-1", desk.payment.id)
    assert await desk.events(server) == ["ordered", "order_unknown", "provisioning", "running"]
    assert len(desk.told.sold) == 1


async def test_an_order_that_is_called_off_before_it_was_bought_buys_nothing(desk: Desk) -> None:
    """Wanted gone while the first vendor could not be paid: no other is tried, and it ends as destroyed."""
    await desk.bed.freeze("vendor:shop")
    server = await desk.ordering.create(desk.who(), desk.new())
    await want_gone(desk, server)
    server = await advanced(desk.ordering, server.id)
    assert (server.state, server.reason) == (ServerState.DESTROYED, "its agent asked for it")
    assert desk.told.sold == []


async def test_an_order_that_is_called_off_on_its_way_is_known_by_its_vendors_thing(desk: Desk) -> None:
    """It cannot be called back: what was made is kept with its ref, so that it can be destroyed."""
    desk.answers("shop", LOST, MADE)
    server = await desk.order()
    await want_gone(desk, server)
    await desk.bed.sweep()
    server = await desk.now(server)
    assert (server.ref, server.wanted, server.state) == ("box-1", Wanted.DESTROYED, ServerState.PROVISIONING)


async def test_an_order_that_is_called_off_and_dies_ends(desk: Desk) -> None:
    """Nothing was made, and nothing else is tried."""
    desk.answers("shop", LOST)
    server = await desk.order()
    await want_gone(desk, server)
    await desk.bed.bury(desk.payment)
    server = await desk.now(server)
    assert (server.state, len(desk.told.sold)) == (ServerState.DESTROYED, 1)


async def test_a_quote_is_bought_from_its_vendor_and_at_its_price_only(desk: Desk) -> None:
    """Dearer than quoted: the order fails, and nobody else is asked."""
    candidate = Candidate("shop", "small", "ams", PRICE_BASE - 1)
    quote = Quote("quo_1", "acc_1", candidate, "{}", b"", desk.bed.clock.ms, desk.bed.clock.ms + 1)
    await desk.keeping.put(quote, "made")
    desk.ways.quotes["quo_1"] = (quote, ServerSpec(Need(plan="shop/small")).to_document())
    server = await desk.order(spec=None, quote_id="quo_1")
    assert (server.state, server.quote_id) == (ServerState.FAILED, "quo_1")
    assert server.reason.startswith("price_above_max_charge")
    assert desk.told.sold == []


async def test_ways_whose_first_charge_is_above_max_total_are_no_ways(desk: Desk) -> None:
    """Nothing is kept of an order that could only break its own bound."""
    with pytest.raises(Problem) as caught:
        await desk.order(max_total_base=PRICE_BASE)
    assert caught.value.code == "max_total_reached"
    assert desk.keeping.view.servers == {}


async def test_ssh_keys_are_named_as_the_vendor_knows_them(tmp_path: Path) -> None:
    """A vendor that takes none loses; what is unknown to the account is refused before anything is kept."""
    async with desk_opened(tmp_path, keys=True) as desk:
        with pytest.raises(Problem) as caught:
            await desk.order(spec=ServerSpec(Need(), ssh_keys=("sshk_1",)))
        assert (caught.value.code, caught.value.field) == ("not_found", "ssh_keys")
        assert desk.keeping.view.servers == {}


async def test_an_account_has_only_so_many_servers_at_once(tmp_path: Path) -> None:
    """One too many is refused before a vendor is asked; a repeat of an earlier order is none too many."""
    async with desk_opened(tmp_path, settings=PlacingSettings(open_servers_most=1)) as desk:
        desk.answers("shop", MADE)
        server = await desk.order()
        with pytest.raises(Problem) as caught:
            await desk.order("token-2")
        assert caught.value.code == "too_many_servers"
        assert (await desk.order()).id == server.id


async def test_the_next_process_goes_on_with_a_placed_order(desk: Desk) -> None:
    """An order that nobody follows (its process ended after the first commit) is fulfilled by `resume`."""
    hanging = Hanging()
    desk.bed.line.first = hanging
    server = await desk.ordering.create(desk.who(), desk.new())
    await hanging.began.wait()
    left = desk.ordering.start(server.id)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    again = desk_on(desk.bed)
    again.answers("shop", MADE)
    await again.ordering.resume()
    assert (await again.now(server)).ref == "box-1"


async def test_the_next_process_reads_what_was_answered_to_the_last(desk: Desk) -> None:
    """Bought, answered, and the process ended before the server was moved: the stored answer is enough."""
    desk.answers("shop", MADE)
    taken, reached = desk.seeing.take, asyncio.Event()

    async def never(*_: object, **__: object) -> Server:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    desk.seeing.take = never  # type: ignore[method-assign,assignment]
    server = await desk.ordering.create(desk.who(), desk.new())
    await reached.wait()
    assert desk.payment.axes.delivery is Delivery.DELIVERED
    left = desk.ordering.start(server.id)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    desk.seeing.take = taken  # type: ignore[method-assign]
    again = desk_on(desk.bed)
    again.answers("shop", LOST)
    await again.ordering.resume()
    server = await again.now(server)
    assert (server.ref, server.payment_id, again.told.sold) == ("box-1", desk.payment.id, [])


async def test_a_thing_that_is_another_servers_is_not_kept_twice(desk: Desk) -> None:
    """P9, P13: two orders that are answered with one thing: the second one hangs, and a human is asked."""
    desk.answers("shop", MADE)
    first = await desk.order()
    second = await desk.order("token-2")
    assert (first.ref, second.ref, second.state) == ("box-1", None, ServerState.ORDERING)
    assert ("order_conflict", second.id) in await desk.bed.tasks()


# our own refusals


def hold_all_calls(desk: Desk, shop: str = "shop") -> list[Slot]:
    """Let an account's calls to a shop use up all that it may have under way there."""
    slots, most = desk.bed.spend._slots, desk.bed.vendors[shop].terms.limits.calls_per_vendor
    return [slots.take("acc_1", shop, most) for _ in range(most)]


async def test_our_own_limit_sends_nobody_to_the_dearer_vendor(desk: Desk) -> None:
    """Too many calls of the account are under way: the order waits, tells why, and is bought where it was chosen."""
    held = hold_all_calls(desk)
    desk.answers("shop", MADE)
    desk.answers("other", MADE)
    server = await desk.order()
    assert (server.state, server.vendor, server.tried) == (ServerState.ORDERING, "shop", 0)
    assert server.reason.startswith("too_many_calls: ")
    for _ in range(6):
        desk.bed.clock.ms += 60_000
        await desk.ordering.resume()
        assert (await desk.now(server)).tried == 0
    assert desk.told.sold == []
    for slot in held:
        slot.give_back()
    await desk.ordering.resume()
    assert (await desk.now(server)).state is ServerState.ORDERING  # its pause is not over
    desk.bed.clock.ms += 60_000
    await desk.ordering.resume()
    server = await desk.now(server)
    assert (server.vendor, server.ref, server.tried, server.reason) == ("shop", "box-1", 0, "")
    assert [shop for shop, _ in desk.told.sold] == ["shop"]
    assert await desk.events(server) == ["ordered", "changed", "provisioning"]


async def test_an_order_that_waits_can_be_called_off(desk: Desk) -> None:
    """It ends at the next turn, not when its pause is over."""
    hold_all_calls(desk)
    server = await desk.order()
    await want_gone(desk, server)
    await desk.ordering.resume()
    server = await desk.now(server)
    assert (server.state, server.reason) == (ServerState.DESTROYED, "its agent asked for it")
    assert desk.told.sold == []


async def test_an_order_that_waits_ends_when_it_is_wanted_no_longer(desk: Desk) -> None:
    """Past keep_until nothing is bought, and the order says that and what it had waited for."""
    hold_all_calls(desk)
    server = await desk.order(keep_until_ms=desk.bed.clock.ms + 30_000)
    desk.bed.clock.ms += 30_000
    await desk.ordering.resume()
    server = await desk.now(server)
    assert server.state is ServerState.FAILED
    assert server.reason.startswith("keep_until: ")
    assert "too_many_calls" in server.reason


async def test_no_next_vendor_is_asked_after_keep_until(desk: Desk) -> None:
    """The first way took so long to die that nothing is wanted any more: nobody is paid for it."""
    desk.answers("shop", LOST)
    desk.answers("other", MADE)
    server = await desk.order(keep_until_ms=desk.bed.clock.ms + 600_000)
    desk.bed.clock.ms += 600_000
    await desk.bed.bury(desk.payment)
    server = await desk.now(server)
    assert (server.state, server.tried) == (ServerState.FAILED, 0)
    assert server.reason.startswith("keep_until: ")
    assert [shop for shop, _ in desk.told.sold] == ["shop"]


# the end of the process


async def test_what_fails_because_we_stop_is_no_vendors_failure(desk: Desk) -> None:
    """The lines close while the first vendor is asked: no other is asked, and the next process asks the first one."""
    hanging = Hanging()

    async def first(request: Any) -> Any:
        await hanging(request)
        raise UNREACHABLE

    asked, desk.bed.line.first = desk.bed.line.first, first
    server = await desk.ordering.create(desk.who(), desk.new())
    await hanging.began.wait()
    desk.ordering.stop()
    hanging.gate.set()
    await desk.ordering.close(5.0)
    await desk.ordering.resume()
    assert (await advanced(desk.ordering, server.id)).state is ServerState.ORDERING
    assert (hanging.arrived, await desk.events(server)) == ({"/priced/rent": 1}, ["ordered"])
    desk.bed.line.first = asked
    again = desk_on(desk.bed)
    again.answers("shop", MADE)
    await again.ordering.resume()
    server = await again.now(server)
    assert (server.vendor, server.tried, server.ref) == ("shop", 0, "box-1")


async def test_no_order_outlives_its_close(desk: Desk) -> None:
    """What is still under way when the time is over is let go, before the lines close under it."""
    desk.bed.line.first = hanging = Hanging()
    server = await desk.ordering.create(desk.who(), desk.new())
    await hanging.began.wait()
    task = desk.ordering.start(server.id)
    await desk.ordering.close(0.01)
    assert task.cancelled()
    assert await desk.events(server) == ["ordered"]


async def test_an_order_that_only_lets_time_pass_does_not_hold_up_the_end(desk: Desk) -> None:
    """Between two tries of an only way there is nothing to wait for."""
    desk.ways.candidates, resting = desk.ways.candidates[:1], asyncio.Event()

    async def sleep(seconds: float) -> None:
        resting.set()
        await asyncio.Event().wait()

    desk.bed.clock.sleep = sleep  # type: ignore[method-assign]
    desk.bed.line.first = always(UNREACHABLE)
    server = await desk.ordering.create(desk.who(), desk.new())
    await resting.wait()
    async with asyncio.timeout(30):
        await desk.ordering.close(60.0)
    assert await desk.events(server) == ["ordered"]
