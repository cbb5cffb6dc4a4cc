"""What a call says that it cost: quotes, refusals, answers too large to keep, and freezes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from gateway.core.payment import Charge, Delivery, Fault, Transfer
from gateway.flow import present
from gateway.flow.call import Reply
from gateway.http.port import SentUnknown
from tests.unit.gateway.flow.spend_bed import NOW_MS, PRICE_BASE, WALLET, Bed, Chunks, Hanging, always, opened, respond

KEPT_BYTES, READ_BYTES = 4_000, 64_000


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded account, and a shop that sells."""
    async with opened(tmp_path) as running:
        yield running


# quotes


def quoted(reply: Reply) -> dict[str, object]:
    """Return a quote's document."""
    assert reply.status == 200
    assert (reply.payment_id, reply.charge_base) == (None, None)
    document = json.loads(reply.body)
    assert isinstance(document, dict)
    return document


async def test_a_quote_says_price_and_how_long_it_may_be_collected(bed: Bed) -> None:
    """The vendor's wish within the route's window; nothing is held, nothing is signed for."""
    document = quoted(await bed.run("/priced/x", quote_only=True))
    assert document == {
        "vendor": "shop",
        "route": "priced",
        "price": "0.250000",
        "collectable_for_s": 90,
        "item": None,
    }
    assert bed.open == []
    assert bed.line.presented == []
    assert bed.store.view.balances["acc_1"].available_base == 100_000_000


async def test_a_quote_and_the_purchase_after_it_agree(bed: Bed) -> None:
    """What was quoted is what is held, and for as long."""
    document = quoted(await bed.run("/priced/x", quote_only=True))
    await bed.run("/priced/x")
    (payment,) = bed.open
    assert payment.hold_base == PRICE_BASE
    assert payment.terms.valid_before_s == NOW_MS // 1000 + int(str(document["collectable_for_s"]))


@pytest.mark.parametrize("method", ["POST"])
async def test_a_price_is_not_asked_for_where_asking_may_do_it(bed: Bed, method: str) -> None:
    """At a stranger's route an unsafe method may simply be carried out: nothing leaves."""
    problem = await bed.refused("/maybe/x", method, b"{}", quote_only=True)
    assert (problem.code, problem.field) == ("bad_request", "Prefer")
    assert bed.line.seen == []


async def test_a_safe_method_may_be_quoted_anywhere(bed: Bed) -> None:
    """Reading does no harm: the challenge is the price."""
    assert quoted(await bed.run("/maybe/x", "GET", quote_only=True))["price"] == "0.250000"
    assert bed.open == []


@pytest.mark.parametrize(("path", "method"), [("/maybe/x", "GET"), ("/priced/x", "POST")])
async def test_what_is_answered_without_a_challenge_costs_nothing(bed: Bed, path: str, method: str) -> None:
    """The quote is the price, not the answer, of which the rest is given up."""
    rest = Chunks([b"more"])
    bed.line.first = always(respond(200, b"the thing itself", rest=rest))
    document = quoted(await bed.run(path, method, quote_only=True))
    assert (document["price"], document["collectable_for_s"]) == ("0.000000", 0)
    assert rest.closed


async def test_a_quote_that_the_vendor_refuses_is_the_vendors_answer(bed: Bed) -> None:
    """No price can be told for what the vendor does not have."""
    bed.line.first = always(respond(404, b"no such thing"))
    reply = await bed.run("/maybe/x", "GET", quote_only=True)
    assert (reply.status, reply.body) == (404, b"no such thing")


async def test_a_free_route_is_quoted_without_asking(bed: Bed) -> None:
    """Its document says that it costs nothing."""
    assert quoted(await bed.run("/free/x", "POST", quote_only=True))["price"] == "0.000000"
    assert bed.line.seen == []


async def test_a_quote_does_not_attach(bed: Bed) -> None:
    """Asking for the price of what was bought a moment ago does not answer with what was bought."""
    await bed.run("/priced/x")
    assert quoted(await bed.run("/priced/x", quote_only=True))["price"] == "0.250000"


# refusals


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_a_refused_input_says_what_is_held(bed: Bed, status: int) -> None:
    """The vendor may collect for it until the authorization is dead: that is what it costs as long as it may."""
    bed.line.answering = always(respond(status, b"bad"))
    reply = await bed.run("/priced/x")
    assert (reply.status, reply.body, reply.charge_base) == (status, b"bad", PRICE_BASE)
    payment = await bed.payment(reply.payment_id or "")
    assert (payment.axes.delivery, payment.fault, payment.vendor_status) == (Delivery.REFUSED, Fault.AGENT, status)
    assert bed.store.view.balances["acc_1"].held_base == PRICE_BASE


async def test_a_refused_input_that_was_collected_says_what_it_cost(bed: Bed) -> None:
    """The answer again carries the charge, and the operator is asked whether this vendor should do that."""
    bed.line.answering = always(respond(422, b"bad"))
    first = await bed.run("/priced/x")
    await bed.settle(await bed.payment(first.payment_id or ""))
    again = await bed.run("/priced/x")
    assert (again.status, again.charge_base, again.replayed) == (422, PRICE_BASE, True)
    assert await bed.tasks() == [("charged_refusal", "shop")]


async def test_a_refused_input_that_died_cost_nothing(bed: Bed) -> None:
    """The hold went back."""
    bed.line.answering = always(respond(422, b"bad"))
    first = await bed.run("/priced/x")
    await bed.bury(await bed.payment(first.payment_id or ""))
    again = await bed.run("/priced/x")
    assert (again.status, again.charge_base) == (422, 0)


async def test_a_smaller_collection_is_what_it_cost(bed: Bed) -> None:
    """The charge follows what was collected, not what was held."""
    first = await bed.run("/priced/x")
    assert first.charge_base == PRICE_BASE
    await bed.settle(await bed.payment(first.payment_id or ""), value_base=1_000)
    assert (await bed.run("/priced/x")).charge_base == 1_000


@pytest.mark.parametrize("status", [402, 404, 409, 429])
async def test_any_other_refusal_of_a_stranger_is_the_vendors(bed: Bed, status: int) -> None:
    """Its body is not passed on as if it were what was paid for; the problem names payment and status."""
    bed.line.answering = always(respond(status, b"no"))
    problem = await bed.refused("/priced/x")
    (payment,) = bed.open
    assert problem.code == "vendor_refused_payment"
    assert (problem.extra["payment_id"], problem.extra["vendor_status"]) == (payment.id, status)
    assert payment.fault is Fault.VENDOR


@pytest.mark.parametrize("status", [200, 204, 301, 304, 399])
async def test_what_a_stranger_collects_for_is_passed_on(bed: Bed, status: int) -> None:
    """Anything complete below 400 is what was sold, however its end was marked."""
    bed.line.answering = always(respond(status, b"sold", delimited=False))
    reply = await bed.run("/priced/x")
    assert (reply.status, reply.body, reply.charge_base) == (status, b"sold", PRICE_BASE)


# too large to keep


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can reach."""
    monkeypatch.setattr(present, "PAID_ANSWER_MAX_BYTES", KEPT_BYTES)
    monkeypatch.setattr(present, "PAID_ANSWER_READ_BYTES", READ_BYTES)


def big(size: int, piece: int = 1_000) -> Iterable[bytes]:
    """Return so many bytes in pieces."""
    return [b"x" * min(piece, size - at) for at in range(0, size, piece)]


def test_the_limits_are_those_that_agents_are_told() -> None:
    """16 MiB are kept; what is larger is read to its end as far as a gibibyte."""
    assert (present.PAID_ANSWER_MAX_BYTES, present.PAID_ANSWER_READ_BYTES) == (16 * 2**20, 2**30)


@pytest.mark.usefixtures("small")
async def test_an_answer_that_just_fits_is_kept_whole(bed: Bed) -> None:
    """To the last byte of the limit, also for whoever asks again."""
    bed.line.answering = always(respond(200, b"head", rest=Chunks(big(KEPT_BYTES - 4))))
    first = await bed.run("/priced/x")
    assert first.body == b"head" + b"x" * (KEPT_BYTES - 4)
    assert (await bed.run("/priced/x")).body == first.body


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("piece", [1, 1_000, 10_000])
async def test_an_answer_too_large_to_keep_is_delivered_and_charged(bed: Bed, piece: int) -> None:
    """The agent is told so with its payment; nothing of it is kept, and the vendor's collection is captured."""
    bed.line.answering = always(respond(200, b"head", rest=Chunks(big(KEPT_BYTES - 3, piece))))
    problem = await bed.refused("/priced/x", idempotency_key="k")
    (payment,) = bed.open
    assert (problem.code, problem.extra["payment_id"]) == ("paid_answer_oversized", payment.id)
    assert payment.axes.delivery is Delivery.DELIVERED
    assert await bed.store.answer(payment.id) is None
    await bed.settle(payment)
    closed = await bed.payment(payment.id)
    assert (closed.axes.charge, closed.captured_base, closed.answered) == (Charge.CAPTURED, PRICE_BASE, True)


@pytest.mark.usefixtures("small")
async def test_after_an_answer_too_large_to_keep_the_same_request_buys_again(bed: Bed) -> None:
    """The agent has been told; asking for less under the same words is a new purchase, at once."""
    bed.line.answering = always(respond(200, b"", rest=Chunks(big(KEPT_BYTES + 1))), respond(200, b"less"))
    await bed.refused("/priced/x")
    again = await bed.run("/priced/x")
    assert (again.body, again.replayed, len(bed.line.presented)) == (b"less", False, 2)


@pytest.mark.usefixtures("small")
async def test_an_answer_too_large_to_keep_is_called_so_each_time(bed: Bed) -> None:
    """Its key stands for a delivery, not for an unknown outcome; once the charge is closed the key is spent."""
    bed.line.answering = always(respond(200, b"", rest=Chunks(big(KEPT_BYTES + 1))))
    for _ in range(2):
        problem = await bed.refused("/priced/x", idempotency_key="k")
        assert (problem.code, problem.extra["payment_id"]) == ("paid_answer_oversized", bed.open[0].id)
    await bed.settle(bed.open[0])
    assert (await bed.refused("/priced/x", idempotency_key="k")).code == "idempotency_spent"
    assert len(bed.line.presented) == 1


@pytest.mark.usefixtures("small")
async def test_an_answer_without_end_is_unknown(bed: Bed) -> None:
    """Nobody reads for ever: what was not seen whole is not a delivery, and the line is given up."""
    rest = Chunks(big(READ_BYTES * 2))
    bed.line.answering = always(respond(200, b"", rest=rest))
    assert (await bed.refused("/priced/x")).code == "outcome_unknown"
    assert rest.closed
    assert bed.open[0].axes.delivery is Delivery.UNKNOWN


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("status", "fault"), [(422, Fault.AGENT), (404, Fault.VENDOR)])
async def test_a_refusal_too_large_to_keep_is_a_refusal(bed: Bed, status: int, fault: Fault) -> None:
    """It is not called a delivery for its size."""
    bed.line.answering = always(respond(status, b"", rest=Chunks(big(KEPT_BYTES + 1))))
    problem = await bed.refused("/priced/x") if fault is Fault.VENDOR else None
    if problem is None:
        assert (await bed.run("/priced/x")).status == status
    else:
        assert problem.code == "vendor_refused_payment"
    assert (bed.open[0].axes.delivery, bed.open[0].fault) == (Delivery.REFUSED, fault)


# freezes


@pytest.mark.parametrize("scope", ["all", "database", "vendor:shop", "account:acc_1", f"wallet:0x{WALLET.hex()}"])
async def test_an_agent_is_not_told_why_something_is_frozen(bed: Bed, scope: str) -> None:
    """P9: the kind of thing, and nothing of the operator's reason or of the treasury."""
    await bed.freeze(scope, "acc_2 was robbed of 7 USDC")
    problem = await bed.refused("/priced/x")
    assert problem.code == "frozen"
    assert problem.detail == f"the operator has frozen this {scope.partition(':')[0]}"
    assert bed.line.presented == []


async def test_a_frozen_vendor_still_answers_what_costs_nothing(bed: Bed) -> None:
    """A freeze stops money, not reading."""
    await bed.freeze("vendor:shop")
    assert (await bed.run("/free/x", "GET")).body == b"thing"


# a disconnect


async def test_a_caller_that_goes_away_does_not_stop_what_is_held(bed: Bed) -> None:
    """Money that is held is also spent: the presentation ends, and the answer waits for whoever asks again."""
    bed.line.answering = hanging = Hanging()
    caller = asyncio.create_task(bed.run("/priced/x"))
    await hanging.began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    hanging.gate.set()
    await bed.answers.drain(5.0)
    assert bed.open[0].axes.delivery is Delivery.DELIVERED
    assert (await bed.run("/priced/x")).replayed


async def test_an_outcome_that_nobody_saw_keeps_the_hold(bed: Bed) -> None:
    """P5: unknown is not failed."""
    bed.line.answering = always(SentUnknown("connection_lost", "scripted"))
    problem = await bed.refused("/priced/x")
    (payment,) = bed.open
    assert (problem.code, problem.extra["charge"]) == ("outcome_unknown", "held")
    assert (payment.axes.delivery, payment.axes.transfer) == (Delivery.UNKNOWN, Transfer.PRESENTED)
    assert bed.store.view.balances["acc_1"].held_base == PRICE_BASE
