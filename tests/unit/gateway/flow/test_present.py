"""Showing a credential: how often it may leave, and what is committed about it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.payment import Delivery, Fault
from gateway.core.records import Payment
from gateway.flow.answers import open_sealed
from gateway.flow.present import CONNECT_ATTEMPTS, Presenter, Surrogates
from gateway.flow.promise import seal_context
from gateway.http.port import NotSent, SentUnknown
from tests.unit.gateway.flow.spend_bed import Bed, always, opened, respond

AWAY = NotSent("connect_failed", "scripted")
LOST = SentUnknown("connection_lost", "scripted")


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded account, and a shop that sells."""
    async with opened(tmp_path) as running:
        yield running


async def waiting(bed: Bed, path: str, *outcomes: Exception) -> Payment:
    """Return a payment whose first presentation ended so."""
    bed.line.answering = always(*outcomes)
    await bed.refused(path)
    (payment,) = bed.open
    assert payment.axes.delivery is Delivery.UNKNOWN
    bed.line.answering = always(respond())
    bed.line.seen.clear()
    return payment


async def shown(bed: Bed, payment: Payment) -> int:
    """Present a payment's credential again; return how often it left."""
    before = len(bed.line.presented)
    await bed.presenter.represent(bed.vendors["shop"], payment)
    return len(bed.line.presented) - before


async def test_a_connection_that_was_never_made_is_tried_again_at_once(bed: Bed) -> None:
    """No byte has left, so this is still the first presentation; the agent sees nothing of it."""
    bed.line.answering = always(*[AWAY] * (CONNECT_ATTEMPTS - 1), respond())
    assert (await bed.run("/once/x")).status == 200
    assert len(bed.line.presented) == CONNECT_ATTEMPTS
    assert len({request.headers for request in bed.line.presented}) == 1


async def test_an_attempt_that_may_have_arrived_is_not_repeated_in_the_call(bed: Bed) -> None:
    """Only recovery shows it again, where the route allows it."""
    bed.line.answering = always(LOST, respond())
    await bed.refused("/priced/x")
    assert len(bed.line.presented) == 1


async def test_what_never_left_may_leave_once_where_showing_twice_is_not_allowed(bed: Bed) -> None:
    """`NotSent` proves that the vendor has not seen it; once it has, it is not shown again."""
    payment = await waiting(bed, "/once/x", AWAY)
    assert await shown(bed, payment) == 1
    assert (await bed.payment(payment.id)).axes.delivery is Delivery.DELIVERED
    assert await shown(bed, payment) == 0


async def test_what_never_left_twice_may_still_leave(bed: Bed) -> None:
    """Each failure to connect proves the same again."""
    payment = await waiting(bed, "/once/x", AWAY)
    bed.line.answering = always(AWAY)
    assert await shown(bed, payment) == CONNECT_ATTEMPTS
    bed.line.answering = always(respond())
    assert await shown(bed, await bed.payment(payment.id)) == 1


async def test_what_may_have_arrived_is_not_shown_again_where_that_is_not_allowed(bed: Bed) -> None:
    """A cut connection after the last byte: the vendor may have it, and may take a second for a second order."""
    payment = await waiting(bed, "/once/x", LOST)
    assert await shown(bed, payment) == 0


async def test_what_left_on_the_second_try_and_got_lost_is_not_shown_a_third_time(bed: Bed) -> None:
    """The proof is of the past: once bytes have left it is worth nothing."""
    payment = await waiting(bed, "/once/x", AWAY)
    bed.line.answering = always(LOST)
    assert await shown(bed, payment) == 1
    assert await shown(bed, payment) == 0


async def test_a_failed_repetition_proves_nothing_about_the_first_showing(bed: Bed) -> None:
    """That a second showing never left does not mean that the first one did not."""
    payment = await waiting(bed, "/priced/x", LOST)
    bed.line.answering = always(AWAY)
    await shown(bed, payment)
    assert payment.id not in bed.presenter._never_left
    bed.line.answering = always(respond())
    assert await shown(bed, await bed.payment(payment.id)) == 1


async def test_the_proof_dies_with_its_process(bed: Bed) -> None:
    """Another process does not know what this one never sent: it shows nothing that it may not show twice."""
    payment = await waiting(bed, "/once/x", AWAY)
    surrogates = Surrogates(lambda _vendor, real: real, lambda text: text.encode())
    restarted = Presenter(bed.store, bed.line, bed.sealer, surrogates, bed.clock)
    assert await restarted.represent(bed.vendors["shop"], payment) is None
    assert bed.line.presented == []


async def test_what_is_shown_again_is_what_was_shown(bed: Bed) -> None:
    """P4: byte for byte from the store, never made anew."""
    bed.line.answering = always(LOST)
    await bed.refused("/priced/x?a=%41", "POST", b"body", headers=(("Accept", "text/x"),))
    (first,) = bed.line.presented
    bed.line.answering = always(respond())
    await bed.presenter.represent(bed.vendors["shop"], bed.open[0])
    second = bed.line.presented[-1]
    assert (second.method, second.target, second.headers, second.body) == (
        *(first.method, first.target, first.headers, first.body),
    )


async def test_a_first_answer_is_committed_with_what_it_says(bed: Bed) -> None:
    """Delivery, fault, status and the sealed answer in one commit."""
    await bed.run("/priced/x")
    (payment,) = bed.open
    assert (payment.axes.delivery, payment.fault, payment.vendor_status) == (Delivery.DELIVERED, Fault.NONE, 200)
    kept = await bed.store.answer(payment.id)
    assert kept is not None
    assert b"thing" not in kept.sealed
    assert open_sealed(bed.sealer, kept.sealed, seal_context("answer", payment.id)) == ((), b"thing")
