"""Recovery: each payment on its own, a vendor's share of attention, and what is not handed out again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from contracts.tokens import BASE_USDC
from gateway.core.commands import PassDeadline
from gateway.core.payment import Delivery, Transfer
from gateway.core.records import Payment
from gateway.core.unanswered import ATTACH_FOR_MS
from gateway.flow.recover import FORGOTTEN_PER_SWEEP, PARALLEL_PER_VENDOR, PAUSES_S
from gateway.http.port import NotSent, SentUnknown, UpstreamRequest, UpstreamResponse
from tests.factories import make_purchase, make_terms
from tests.unit.gateway.flow.spend_bed import NOW_MS, WALLET, Bed, Hanging, always, opened, respond

LOST = SentUnknown("connection_lost", "scripted")
AWAY = NotSent("connect_failed", "scripted")
SCOPES = ["all", "database", "vendor:shop", "account:acc_1", f"wallet:0x{WALLET.hex()}"]


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded account, and two shops that sell."""
    async with opened(tmp_path) as running:
        yield running


async def lose(bed: Bed, *paths: str, vendor: str = "shop") -> list[Payment]:
    """Return payments whose answers got lost; the line works again."""
    bed.line.answering = always(LOST)
    for path in paths:
        await bed.refused(path, vendor=vendor)
    bed.line.answering = always(respond())
    bed.line.seen.clear()
    return [payment for payment in bed.open if payment.vendor == vendor]


async def settle_down(*, once: Callable[[], bool]) -> None:
    """Wait until it is so, and let everything go on that could go on all the same."""
    async with asyncio.timeout(40):
        while not once():  # noqa: ASYNC110 - a commit's thread tells nobody
            await asyncio.sleep(0.001)
    for _ in range(200):
        await asyncio.sleep(0.001)


async def test_a_lost_answer_is_found(bed: Bed) -> None:
    """The stored credential is shown again, and the agent that asks again has its answer."""
    (payment,) = await lose(bed, "/priced/x")
    await bed.sweep()
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.DELIVERED
    reply = await bed.run("/priced/x")
    assert (reply.body, reply.payment_id, reply.replayed) == (b"thing", payment.id, True)


async def test_a_payment_is_presented_by_one_task_at_a_time(bed: Bed) -> None:
    """However often recovery looks while a vendor hangs, one showing is under way."""
    await lose(bed, "/priced/x")
    bed.line.answering = hanging = Hanging()
    for _ in range(5):
        await bed.recovery.sweep()
        bed.clock.ms += 10_000
        await settle_down(once=hanging.began.is_set)
    assert hanging.arrived == {"/priced/x": 1}
    hanging.gate.set()
    await bed.recovery.drain(5.0)


async def test_one_vendor_that_hangs_holds_up_no_other(bed: Bed) -> None:
    """At most so many showings are under way at one vendor; another vendor's payments go on meanwhile."""
    await lose(bed, *(f"/priced/{n}" for n in range(PARALLEL_PER_VENDOR + 3)))
    (elsewhere,) = await lose(bed, "/priced/elsewhere", vendor="other")
    hanging = Hanging()

    async def answering(request: UpstreamRequest) -> UpstreamResponse:
        return respond() if request.target == "/priced/elsewhere" else await hanging(request)

    bed.line.answering = answering
    await bed.recovery.sweep()
    await settle_down(
        once=lambda: (
            sum(hanging.arrived.values()) >= PARALLEL_PER_VENDOR
            and bed.store.view.open_payments[elsewhere.id].axes.delivery is Delivery.DELIVERED
        )
    )
    assert PARALLEL_PER_VENDOR == 4
    assert sum(hanging.arrived.values()) == PARALLEL_PER_VENDOR
    assert (await bed.payment(elsewhere.id)).axes.delivery is Delivery.DELIVERED
    hanging.gate.set()
    await bed.recovery.drain(5.0)
    assert sum(hanging.arrived.values()) == PARALLEL_PER_VENDOR + 3
    assert all(payment.axes.delivery is Delivery.DELIVERED for payment in bed.open)


async def test_a_failure_of_one_stops_no_other(bed: Bed) -> None:
    """A bug in one presentation is logged; the rest is found, and the one is tried again."""
    broken, fine = await lose(bed, "/priced/broken", "/priced/fine")

    async def answering(request: UpstreamRequest) -> UpstreamResponse:
        if request.target == "/priced/broken":
            raise RuntimeError("a bug")
        return respond()

    bed.line.answering = answering
    await bed.sweep()
    assert (await bed.payment(fine.id)).axes.delivery is Delivery.DELIVERED
    assert (await bed.payment(broken.id)).axes.delivery is Delivery.UNKNOWN
    bed.line.answering = always(respond())
    bed.clock.ms += int(PAUSES_S[1] * 1000)
    await bed.sweep()
    assert (await bed.payment(broken.id)).axes.delivery is Delivery.DELIVERED


@pytest.mark.parametrize("scope", SCOPES)
async def test_what_is_frozen_is_not_handed_out(bed: Bed, scope: str) -> None:
    """The vendor may never have seen the credential: showing it would spend what the operator has stopped."""
    await lose(bed, "/priced/x")
    await bed.freeze(scope)
    await bed.sweep()
    assert bed.line.presented == []


@pytest.mark.parametrize("scope", SCOPES)
async def test_what_was_collected_is_owed_also_under_a_freeze(bed: Bed, scope: str) -> None:
    """The money is gone; asking for what it bought spends nothing."""
    (payment,) = await lose(bed, "/priced/x")
    await bed.freeze(scope)
    await bed.settle(payment)
    await bed.sweep()
    assert len(bed.line.presented) == 1
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.DELIVERED


async def test_a_freeze_of_something_else_stops_nothing(bed: Bed) -> None:
    """Only what covers the payment."""
    await lose(bed, "/priced/x")
    for scope in ("vendor:other", "account:acc_2", f"wallet:0x{'09' * 20}"):
        await bed.freeze(scope)
    await bed.sweep()
    assert len(bed.line.presented) == 1


async def test_a_freeze_that_comes_while_a_payment_waits_for_its_turn_counts(bed: Bed) -> None:
    """Judged at the last moment, not when it was queued."""
    await lose(bed, *(f"/priced/{n}" for n in range(PARALLEL_PER_VENDOR + 1)))
    bed.line.answering = hanging = Hanging()
    await bed.recovery.sweep()
    await settle_down(once=lambda: sum(hanging.arrived.values()) >= PARALLEL_PER_VENDOR)
    await bed.freeze("vendor:shop")
    hanging.gate.set()
    await bed.recovery.drain(5.0)
    assert sum(hanging.arrived.values()) == PARALLEL_PER_VENDOR


async def test_past_its_window_only_what_was_collected_is_presented(bed: Bed) -> None:
    """A vendor could only refuse it, unless it has collected: then it owes an answer."""
    dead, owed = await lose(bed, "/priced/dead", "/priced/owed")
    await bed.settle(owed)
    bed.clock.ms = dead.terms.valid_before_s * 1000
    await bed.sweep()
    assert [request.target for request in bed.line.presented] == ["/priced/owed"]


async def test_what_may_not_be_shown_twice_is_not(bed: Bed) -> None:
    """Of a route that does not allow it, only a credential that never left is shown, for the first time."""
    (lost,) = await lose(bed, "/once/lost")
    bed.line.answering = always(AWAY)
    await bed.refused("/once/away")
    bed.line.answering = always(respond())
    bed.line.seen.clear()
    await bed.sweep()
    assert [request.target for request in bed.line.presented] == ["/once/away"]
    assert (await bed.payment(lost.id)).axes.delivery is Delivery.UNKNOWN


async def test_tries_are_spaced_out(bed: Bed) -> None:
    """A vendor that keeps failing is asked less and less often."""
    await lose(bed, "/priced/x")
    bed.line.answering = always(respond(503, b"later"))
    asked = []
    for second in range(20):
        before = len(bed.line.presented)
        await bed.sweep()
        asked += [second] * (len(bed.line.presented) - before)
        bed.clock.ms += 1_000
    assert asked == [0, 1, 4, 14]


async def test_what_is_disputed_or_answered_is_left_alone(bed: Bed) -> None:
    """A human has it, or nobody waits for it."""
    disputed, found = await lose(bed, "/priced/disputed", "/priced/found")
    await bed.settle(disputed)
    bed.clock.ms += 600_000
    await bed.post(PassDeadline(disputed.id, bed.clock.ms))
    assert (await bed.payment(disputed.id)).disputed
    await bed.bury(found)
    await bed.sweep()
    assert bed.line.presented == []


async def test_what_another_process_began_is_first_called_unknown(bed: Bed) -> None:
    """After a crash nobody waits for the answer any more: that is recorded before the credential is shown again."""
    bed.line.answering = hanging = Hanging()
    dying = asyncio.create_task(bed.run("/priced/x"))
    await hanging.began.wait()
    (payment,) = bed.open
    await bed.sweep()
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.NONE  # it is under way here
    bed.answers.presenting.clear()  # as a new process would know it
    bed.line.answering = always(respond())
    await bed.sweep()
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.DELIVERED
    rows = await bed.store.query("SELECT body FROM journal WHERE kind = 'payment.outcome' ORDER BY seq")
    assert [b"interrupted" in row["body"] for row in rows] == [True, False]
    hanging.gate.set()
    await dying


# forgetting


async def test_a_purchase_that_nobody_asked_for_again_is_forgotten_after_a_day(bed: Bed) -> None:
    """It stops waiting for its agent; its money is not touched."""
    await bed.run("/priced/x")
    (payment,) = bed.open
    bed.clock.ms += ATTACH_FOR_MS
    await bed.sweep()
    assert not (await bed.payment(payment.id)).answered
    bed.clock.ms += 1
    await bed.sweep()
    forgotten = await bed.payment(payment.id)
    assert forgotten.answered
    assert forgotten.axes.transfer is Transfer.PRESENTED
    assert bed.store.view.unanswered.stale(bed.clock.ms) == []


async def test_a_sweep_forgets_so_many_and_no_more(bed: Bed) -> None:
    """A backlog is worked off in steps, so that a sweep stays short."""
    total = FORGOTTEN_PER_SWEEP + 5
    asset = BASE_USDC.asset_id
    purchases = [
        make_purchase(
            n,
            key_id=bed.keys["acc_1"].id,
            vendor="nobody",  # what is not configured any more is still forgotten
            hold_base=1,
            terms=make_terms(n, wallet=WALLET, asset=asset, value_base=1),
        )
        for n in range(total)
    ]
    await asyncio.gather(*(bed.post(purchase) for purchase in purchases))
    bed.clock.ms = NOW_MS + ATTACH_FOR_MS + 1
    await bed.sweep()
    assert len(bed.store.view.unanswered.stale(bed.clock.ms)) == 5
    await bed.sweep()
    assert bed.store.view.unanswered.stale(bed.clock.ms) == []


async def test_a_clock_that_is_set_back_does_not_stop_the_looking(bed: Bed) -> None:
    """P12: what was to be shown again in an hour by a clock that was wrong is shown again by the one that is right."""
    (payment,) = await lose(bed, "/priced/x")
    bed.line.answering = always(LOST)
    await bed.sweep()
    bed.clock.ms -= 3_600_000
    bed.line.answering = always(respond())
    await bed.sweep()
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.DELIVERED
