"""The same request again: what stands for it, for how long, and what never does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.commands import ResolveDispute, SetFreeze
from gateway.core.payment import Charge, Delivery
from gateway.core.unanswered import ATTACH_FOR_MS
from gateway.http.port import SentUnknown
from tests.unit.gateway.flow.spend_bed import PRICE_BASE, Bed, Chunks, Hanging, always, opened, respond

LOST = SentUnknown("connection_lost", "scripted")


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded account, and a shop that sells."""
    async with opened(tmp_path) as running:
        yield running


# keys on what costs nothing


async def test_a_key_replays_the_answer_of_an_unpriced_change(bed: Bed) -> None:
    """A free POST that was answered well is not carried out twice under one key, and costs nothing either time."""
    first = await bed.run("/free/x", "POST", b"{}", idempotency_key="k")
    again = await bed.run("/free/x", "POST", b"{}", idempotency_key="k")
    assert (first.status, first.body, first.replayed) == (200, b"thing", False)
    assert (again.status, again.body, again.replayed) == (200, b"thing", True)
    assert (again.payment_id, again.charge_base) == (None, None)
    assert len(bed.line.seen) == 1


async def test_a_replay_survives_a_restart_of_the_vendor_and_its_new_mind(bed: Bed) -> None:
    """The first answer is the one that is kept, whatever the vendor would say now."""
    await bed.run("/free/x", "POST", b"{}", idempotency_key="k")
    bed.line.first = always(respond(200, b"something else"))
    assert (await bed.run("/free/x", "POST", b"{}", idempotency_key="k")).body == b"thing"
    assert (await bed.run("/free/x", "POST", b"{}")).body == b"something else"


async def test_a_key_of_an_unpriced_change_stands_for_one_request_of_one_account(bed: Bed) -> None:
    """Another body under it is a conflict; to another account the key says nothing."""
    await bed.run("/free/x", "POST", b"{}", idempotency_key="k")
    problem = await bed.refused("/free/x", "POST", b"[]", idempotency_key="k")
    assert (problem.code, problem.field) == ("idempotency_conflict", "Idempotency-Key")
    assert not (await bed.run("/free/x", "POST", b"[]", idempotency_key="k", account="acc_2")).replayed
    assert len(bed.line.seen) == 2


@pytest.mark.parametrize("status", [400, 409, 500, 503])
async def test_a_failure_may_be_tried_again_under_its_key(bed: Bed, status: int) -> None:
    """Only a good answer is kept."""
    bed.line.first = always(respond(status, b"no"), respond(200, b"yes"))
    assert (await bed.run("/free/x", "POST", b"{}", idempotency_key="k")).status == status
    assert (await bed.run("/free/x", "POST", b"{}", idempotency_key="k")).body == b"yes"
    assert (await bed.run("/free/x", "POST", b"{}", idempotency_key="k")).replayed
    assert len(bed.line.seen) == 2


async def test_reading_is_never_replayed(bed: Bed) -> None:
    """A GET asks the vendor each time, key or no key; nothing is kept under its key."""
    for _ in range(2):
        assert not (await bed.run("/free/x", "GET", idempotency_key="k")).replayed
    assert len(bed.line.seen) == 2
    assert not (await bed.run("/free/y", "POST", idempotency_key="k")).replayed


async def test_without_a_key_an_unpriced_change_is_carried_out_each_time(bed: Bed) -> None:
    """Only a key says that the same thing is meant."""
    for _ in range(2):
        assert not (await bed.run("/free/x", "POST", b"{}")).replayed
    assert len(bed.line.seen) == 2


# bodies that were not kept


async def body() -> AsyncIterator[bytes]:
    """A body too large to be kept."""
    yield b"big"


async def test_a_streamed_body_never_attaches(bed: Bed) -> None:
    """Its bytes are not part of the fingerprint: it must not be taken for an unanswered purchase without a body."""
    bed.line.answering = always(LOST)
    await bed.refused("/maybe/x")
    (waiting,) = bed.open
    assert bed.call("/maybe/x", stream=body()).fingerprint == waiting.fingerprint
    bed.line.first = always(respond(200, b"taken"))
    reply = await bed.run("/maybe/x", stream=body())
    assert (reply.body, reply.replayed, reply.payment_id) == (b"taken", False, None)


async def test_a_streamed_body_is_not_paid_for(bed: Bed) -> None:
    """It can be sent once, and the challenge has used that up."""
    assert (await bed.refused("/maybe/x", stream=body())).code == "body_not_replayable"
    assert bed.open == []


# purchases


async def test_the_same_request_attaches_to_a_purchase_that_was_not_told(bed: Bed) -> None:
    """An answer that the agent never got whole is given again, and nothing is bought."""
    first = await bed.run("/priced/x")
    again = await bed.run("/priced/x")
    assert (again.body, again.payment_id, again.replayed) == (first.body, first.payment_id, True)
    assert len(bed.line.presented) == 1


async def test_after_a_day_the_same_request_is_a_new_purchase(bed: Bed) -> None:
    """Up to a day it attaches, to the millisecond; then it means a new thing."""
    first = await bed.run("/priced/x")
    bed.clock.ms += ATTACH_FOR_MS
    assert (await bed.run("/priced/x")).payment_id == first.payment_id
    bed.clock.ms += 1
    again = await bed.run("/priced/x")
    assert (again.replayed, len(bed.line.presented)) == (False, 2)
    assert again.payment_id != first.payment_id


async def test_a_key_outlives_the_day(bed: Bed) -> None:
    """An Idempotency-Key stands for its purchase as long as the book."""
    first = await bed.run("/priced/x", idempotency_key="k")
    bed.clock.ms += 30 * ATTACH_FOR_MS
    again = await bed.run("/priced/x", idempotency_key="k")
    assert (again.payment_id, again.replayed) == (first.payment_id, True)


async def test_a_told_purchase_is_not_attached_to(bed: Bed) -> None:
    """From the moment that the agent has its answer, the same request buys again, durable mark or not."""
    first = await bed.run("/priced/x")
    assert first.delivered is not None
    await first.delivered()
    again = await bed.run("/priced/x")
    assert (again.replayed, len(bed.line.presented)) == (False, 2)


async def test_what_was_never_answered_and_died_may_be_bought_again(bed: Bed) -> None:
    """While the vendor may still collect, the same request is told to wait; after the proof it buys, key or no key."""
    bed.line.answering = always(LOST, LOST, respond())
    for key in (None, "k"):
        assert (await bed.refused("/priced/x", idempotency_key=key)).code == "outcome_unknown"
        await bed.bury(bed.open[0])
    bought = await bed.run("/priced/x", idempotency_key="k")
    assert (bought.status, bought.replayed, len(bed.line.presented)) == (200, False, 3)


async def test_a_key_whose_money_moved_is_spent(bed: Bed) -> None:
    """Collected and refunded, or collected and kept: the key stands for that, and the bare request may buy again."""
    bed.line.answering = always(respond(404, b"no"), respond())
    problem = await bed.refused("/priced/x", idempotency_key="k")
    assert problem.code == "vendor_refused_payment"
    (payment,) = bed.open
    await bed.settle(payment)
    assert (await bed.payment(payment.id)).disputed
    await bed.post(ResolveDispute(payment.id, Charge.REFUNDED, "me", bed.clock.ms))
    assert (await bed.payment(payment.id)).axes.charge is Charge.REFUNDED
    await bed.post(SetFreeze("vendor:shop", frozen=False, reason="over", by="me", at_ms=bed.clock.ms))
    problem = await bed.refused("/priced/x", idempotency_key="k")
    assert problem.code == "idempotency_spent"
    bought = await bed.run("/priced/x")
    assert (bought.replayed, bought.charge_base) == (False, PRICE_BASE)


async def test_a_call_that_attaches_while_the_first_is_under_way_gets_its_answer(bed: Bed) -> None:
    """Two identical calls at once make one purchase and one presentation."""
    bed.line.answering = hanging = Hanging()
    first = asyncio.create_task(bed.run("/priced/x"))
    await hanging.began.wait()
    second = asyncio.create_task(bed.run("/priced/x"))
    await asyncio.sleep(0)
    hanging.gate.set()
    replies = await asyncio.gather(first, second)
    assert {reply.payment_id for reply in replies} == {bed.open[0].id}
    assert [reply.replayed for reply in replies] == [False, True]
    assert len(bed.line.presented) == 1


# what a free answer tells


async def test_a_resource_that_cost_nothing_belongs_to_whoever_asked(bed: Bed) -> None:
    """P9: it is recorded before the answer leaves, for its account alone."""
    bed.line.first = always(respond(200, b'{"server": "srv-1"}'))
    await bed.run("/make/x", "POST", b"{}")
    found = await bed.store.resource("shop", "srv-1")
    assert found is not None
    assert (found.account_id, found.payment_id, found.kind, found.state) == ("acc_1", "", "box", "active")
    assert (await bed.run("/servers/srv-1", "GET")).status == 200
    assert (await bed.refused("/servers/srv-1", "GET", account="acc_2")).code == "not_found"
    bed.line.first = always(respond(200, b'{"server": "srv-1"}'))
    assert (await bed.refused("/make/x", "POST", account="acc_2")).code == "answer_withheld"
    assert await bed.store.resource("shop", "srv-1") == found


async def test_an_answer_that_goes_on_is_not_kept(bed: Bed) -> None:
    """What was streamed to the agent cannot be told again: under the same key the vendor is asked anew."""
    bed.line.first = always(respond(200, b"a", rest=Chunks([b"b"])))
    for _ in range(2):
        reply = await bed.run("/maybe/x", "POST", b"{}", idempotency_key="k")
        assert (reply.replayed, reply.rest is None) == (False, False)
        assert reply.rest is not None
        await reply.rest.close()
    assert len(bed.line.seen) == 2
    assert bed.open == []


async def test_a_delivery_that_died_is_still_answered(bed: Bed) -> None:
    """The vendor delivered and never collected: the agent that asks again gets what was delivered, at no charge."""
    first = await bed.run("/priced/x")
    (payment,) = bed.open
    await bed.bury(payment)
    again = await bed.run("/priced/x")
    assert (again.body, again.payment_id, again.charge_base) == (first.body, payment.id, 0)
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.DELIVERED
