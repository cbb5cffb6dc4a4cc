"""Whatever a facilitator does, and wherever the process is killed: nobody is credited twice, early or never."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from till_rig import FUNDS, OTHER, PAYER, PAYER_KEY, USD
from topup_rig import Behaviour, Collector, TopUpRig, hangs, receipt_of, settled

from contracts.eip3009 import Authorization
from gateway.core.paid import TopUpState
from gateway.core.problems import Problem
from gateway.flow.paid.offers import Offered
from gateway.flow.paid.taking import unpack_payment
from gateway.flow.paid.topups import PENDING, Answered
from gateway.paid_ports import FacilitatorUnknown, Settled
from gateway.rails.x402.reasons import Reason
from gateway.store.core import StoreBroken

NOWHERE = b"\xee" * 32


async def collected(rig: TopUpRig) -> list[tuple[str, int]]:
    """Let every window pass and every block become final; return the states of all orders and the balance."""
    for _ in range(3):
        await rig.settle_down()
        await rig.poll()
        rig.clock.ms += 400_000
    await rig.settle_down()
    await rig.poll()
    await rig.sound()
    return [(row["state"], row["credited_base"]) for row in rig.orders()]


@pytest.fixture
async def rig() -> AsyncIterator[TopUpRig]:
    """Top-ups whose facilitator is somebody else's."""
    made = TopUpRig(own=False, patience_s=0.05)
    await made.open()
    yield made
    made.collector.behaviour = None
    await made.taking.close(1)
    await made.close()


async def is_unknown(rig: TopUpRig, header: str) -> Answered:
    """Pay, and expect 202: the order is claimed, and nobody is to sign anew."""
    answered = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(answered, Answered)
    assert answered.pending
    headers = dict(answered.headers)
    assert headers["Location"] == f"/v1/topups/{answered.topup.id}"
    assert int(headers["Retry-After"]) > 0
    receipt = receipt_of(answered)
    assert (receipt["success"], receipt["errorReason"]) == (False, PENDING)
    return answered


async def forgets(collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Collect, and answer 500 (HTML, a cut-off body): to us these are all one."""
    collector.collect(auth)
    raise FacilitatorUnknown("500 after settling")


async def does_nothing(_collector: Collector, _auth: Authorization, _asked: int) -> Settled:
    """Answer 500, and have done nothing."""
    raise FacilitatorUnknown("500 before settling")


async def lies_success(_collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Say that it is collected, in a transaction that nobody has seen."""
    return settled(auth, NOWHERE)


async def lies_without_hash(_collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Say that it is collected, and name no transaction."""
    return settled(auth, None)


async def lies_other_transaction(collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Name a good transaction that pays the till, but is another payment's."""
    other = collector.rig.chain.move(collector.rig.token, PAYER, auth.pay_to, auth.value_base)
    collector.rig.chain.mine()
    return settled(auth, other)


async def lies_failure(collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Collect, and say that the payer had too little."""
    collector.collect(auth)
    return settled(auth, None, Reason.INSUFFICIENT_BALANCE)


async def is_slow(collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Say settlement_pending with a hash, as a good facilitator does on a slow chain, and collect."""
    return settled(auth, collector.collect(auth), PENDING)


async def has_no_words(collector: Collector, auth: Authorization, _asked: int) -> Settled:
    """Collect, and fail with a reason that nobody knows."""
    collector.collect(auth)
    return settled(auth, None, "failed_to_execute_transfer")


@pytest.mark.parametrize("behaviour", [forgets, lies_failure, is_slow, has_no_words])
async def test_what_was_collected_is_credited_once_whatever_is_said(rig: TopUpRig, behaviour: Behaviour) -> None:
    """Collected, and answered with an error, a lie or nothing of use: 202, and the credit comes from the chain."""
    rig.collector.behaviour = behaviour
    header = rig.pay_v2(await rig.offer())
    first = await is_unknown(rig, header)
    assert rig.available() == 0
    await rig.poll()
    assert rig.available() == 5 * USD
    again = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(again, Answered)
    assert (again.topup.id, again.topup.state) == (first.topup.id, TopUpState.CREDITED)
    assert receipt_of(again)["success"] is True
    assert await collected(rig) == [("credited", 5 * USD)]
    assert rig.available() == 5 * USD


@pytest.mark.parametrize("behaviour", [does_nothing, lies_success, lies_without_hash])
async def test_what_was_not_collected_is_never_credited(rig: TopUpRig, behaviour: Behaviour) -> None:
    """Not collected, and called collected or nothing: 202 until a final block proves that it can never land."""
    rig.collector.behaviour = behaviour
    await is_unknown(rig, rig.pay_v2(await rig.offer()))
    assert [state for state, _ in await collected(rig)] in (["failed"], ["expired"])
    assert rig.available() == 0
    assert rig.open_orders() == []


async def test_another_transaction_is_no_proof(rig: TopUpRig) -> None:
    """A transaction that pays the till, but not by this authorization, is not this payment's."""
    rig.collector.behaviour = lies_other_transaction
    answered = await is_unknown(rig, rig.pay_v2(await rig.offer()))
    await rig.poll()
    assert (await rig.topup(answered.topup)).state is TopUpState.PAYING
    assert rig.available() == 0


async def test_a_hanging_facilitator_is_not_waited_for(rig: TopUpRig) -> None:
    """The payer gets 202 after our patience; the same payment again waits with the first, and is not sent twice."""
    rig.collector.behaviour = hangs
    header = rig.pay_v2(await rig.offer())
    first, second = await is_unknown(rig, header), await is_unknown(rig, header)
    assert first.topup.id == second.topup.id
    assert rig.collector.asked == 1


async def test_a_stranger_is_shown_nothing_that_is_not_claimed(rig: TopUpRig) -> None:
    """Somebody else's facilitator may collect whatever it has seen: it is asked only after the claim is committed."""

    async def looks(collector: Collector, auth: Authorization, _asked: int) -> Settled:
        known = await collector.rig.store.topup_of(auth.key)
        assert known is not None
        assert known.state is TopUpState.PAYING
        return settled(auth, collector.collect(auth))

    rig.collector.behaviour = looks
    answered = await rig.topups.serve(rig.wanted(), rig.pay_v2(await rig.offer()), ())
    assert isinstance(answered, Answered)
    assert answered.topup.state is TopUpState.SEEN
    assert rig.collector.verified == 0


async def test_a_forged_signature_never_reaches_a_stranger(rig: TopUpRig) -> None:
    """What is not signed by the payer's key is refused by us, without a row."""
    offered = await rig.offer()
    header = rig.pay_v2(offered, payload={"signature": "0x" + "00" * 65, "authorization": _terms(rig, offered)})
    outcome = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == Reason.SIGNATURE
    assert (rig.orders(), rig.collector.asked) == ([], 0)


async def test_no_stranger_is_asked_for_who_has_nothing(rig: TopUpRig) -> None:
    """A signature costs nothing: without the money behind it there is no row, and nobody is shown it."""
    offered = await rig.offer()
    outcome = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered, key=b"\x09" * 32), ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == Reason.INSUFFICIENT_BALANCE
    assert (rig.orders(), rig.collector.asked) == ([], 0)


async def test_what_is_under_way_is_not_there_for_another_payment(rig: TopUpRig) -> None:
    """A wallet signs for the same money as often as it likes; it is claimed once at a time."""
    rig.collector.behaviour, rig.patience_s = hangs, 0.01
    rig.restart()
    rig.chain.move(rig.token, PAYER, OTHER, FUNDS - 9 * USD)
    rig.chain.mine()
    await is_unknown(rig, rig.pay_v2(await rig.offer(), 1))
    with pytest.raises(Problem) as refused:
        await rig.topups.serve(rig.wanted(), rig.pay_v2(await rig.offer(), 2), ())
    assert refused.value.code == "too_many_open_payments"
    assert (len(rig.orders()), rig.collector.asked) == (1, 1)


async def test_where_nobody_knows_a_balance_nothing_is_claimed(rig: TopUpRig) -> None:
    """Unknown is no row; and one endpoint that is a block behind is asked again."""
    header = rig.pay_v2(await rig.offer())
    rig.chain.fail("unavailable", methods={"token_balance"})
    with pytest.raises(Problem) as refused:
        await rig.topups.serve(rig.wanted(), header, ())
    assert (refused.value.code, rig.orders()) == ("facilitator_unavailable", [])
    rig.chain.heal()
    rig.chain.fail("unavailable", methods={"token_balance"}, calls=1)
    assert isinstance(await rig.topups.serve(rig.wanted(), header, ()), Answered)


async def test_an_order_that_failed_leaves_memory_when_it_is_over(rig: TopUpRig) -> None:
    """No chain is asked for that, however long the payment is good; and it is credited should it land all the same."""

    async def refuses(_collector: Collector, auth: Authorization, _asked: int) -> Settled:
        return settled(auth, None, Reason.INSUFFICIENT_BALANCE)

    rig.collector.behaviour = refuses
    offered = await rig.offer()
    entry = offered.document["accepts"][0]
    terms, signature = rig.signed(entry["payTo"], entry["maxAmountRequired"], 1, PAYER_KEY, valid_s=4_000)
    header = rig.pay_v2(offered, payload={"signature": signature, "authorization": terms})
    assert isinstance(await rig.topups.serve(rig.wanted(), header, ()), Offered)
    (failed,) = rig.open_orders()
    rig.clock.ms = failed.expires_at_ms
    rig.chain.fail("unavailable")
    await rig.topups.sweep()
    assert (rig.open_orders(), [row["state"] for row in rig.orders()]) == ([], ["expired"])
    rig.chain.heal()
    version, payload, requirements = unpack_payment(failed.raw or b"")
    rig.collector.collect(rig.collector.read(version, payload, requirements))
    assert await collected(rig) == [("credited", 5 * USD)]


def _terms(rig: TopUpRig, offered: Offered) -> dict[str, str]:
    entry = offered.document["accepts"][0]
    terms, _ = rig.signed(entry["payTo"], entry["maxAmountRequired"], 1, b"\x01" * 32)
    return terms


async def test_a_true_refusal_gets_a_fresh_402(rig: TopUpRig) -> None:
    """Refused for a reason that moves nothing, and unused in the newest block: the order has failed, and another is offered."""

    async def refuses(_collector: Collector, auth: Authorization, _asked: int) -> Settled:
        return settled(auth, None, Reason.INSUFFICIENT_BALANCE)

    rig.collector.behaviour = refuses
    offered = await rig.offer()
    outcome = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered), ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == Reason.INSUFFICIENT_BALANCE
    assert [row["state"] for row in rig.orders()] == ["failed"]
    assert outcome.document["order"] != offered.document["order"]


async def test_a_refused_payment_that_lands_all_the_same_is_credited(rig: TopUpRig) -> None:
    """A facilitator that refuses first and collects later has only delayed the credit; a second payment is another credit."""
    kept: list[Authorization] = []

    async def later(collector: Collector, auth: Authorization, asked: int) -> Settled:
        if asked == 1:
            kept.append(auth)
            return settled(auth, None, Reason.INSUFFICIENT_BALANCE)
        return settled(auth, collector.collect(auth))

    rig.collector.behaviour = later
    refused = await rig.topups.serve(rig.wanted(), rig.pay_v2(await rig.offer(), 1), ())
    assert isinstance(refused, Offered)
    assert isinstance(await rig.topups.serve(rig.wanted(), rig.pay_v2(refused, 2), ()), Answered)
    rig.collector.collect(kept[0])
    assert await collected(rig) == [("credited", 5 * USD), ("credited", 5 * USD)]
    assert rig.available() == 10 * USD


async def test_a_payment_that_failed_may_be_sent_again(rig: TopUpRig) -> None:
    """The wallet was empty and is not any more: the same payment is taken for the same order."""

    async def at_first(collector: Collector, auth: Authorization, asked: int) -> Settled:
        return settled(auth, None, "insufficient_funds") if asked == 1 else settled(auth, collector.collect(auth))

    rig.collector.behaviour = at_first
    header = rig.pay_v2(await rig.offer())
    assert isinstance(await rig.topups.serve(rig.wanted(), header, ()), Offered)
    again = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(again, Answered)
    assert await collected(rig) == [("credited", 5 * USD)]


async def test_a_name_whose_payment_failed_may_pay_again(rig: TopUpRig) -> None:
    """After a refusal the same Idempotency-Key takes a new payment, for the same order."""

    async def at_first(collector: Collector, auth: Authorization, asked: int) -> Settled:
        return settled(auth, None, "insufficient_funds") if asked == 1 else settled(auth, collector.collect(auth))

    rig.collector.behaviour = at_first
    wanted = rig.wanted(claim="k-1")
    refused = await rig.topups.serve(wanted, rig.pay_v2(await rig.offer(wanted), 1), ())
    assert isinstance(refused, Offered)
    assert isinstance(await rig.topups.serve(wanted, rig.pay_v2(refused, 2), ()), Answered)
    assert await collected(rig) == [("credited", 5 * USD)]
    assert rig.available() == 5 * USD


async def test_a_failure_is_not_believed_while_nobody_can_look(rig: TopUpRig) -> None:
    """A refusal that we cannot check against the chain is unknown, never a 402."""

    async def refuses(collector: Collector, auth: Authorization, _asked: int) -> Settled:
        collector.rig.chain.fail("unavailable", methods={"authorization_used"})
        return settled(auth, None, Reason.INSUFFICIENT_BALANCE)

    rig.collector.behaviour = refuses
    await is_unknown(rig, rig.pay_v2(await rig.offer()))


async def test_an_unknown_outcome_is_asked_for_again(rig: TopUpRig) -> None:
    """The sweep asks the same question until there is an answer, and not more often than it should."""

    async def at_last(collector: Collector, auth: Authorization, asked: int) -> Settled:
        if asked < 3:
            raise FacilitatorUnknown("no answer")
        return settled(auth, collector.collect(auth))

    rig.collector.behaviour = at_last
    answered = await is_unknown(rig, rig.pay_v2(await rig.offer()))
    await rig.settle_down()
    assert rig.collector.asked == 1
    rig.clock.ms += 3_000
    await rig.settle_down()
    rig.clock.ms += 6_000
    await rig.settle_down()
    assert rig.collector.asked == 3
    assert (await rig.topup(answered.topup)).state is TopUpState.SEEN


async def test_a_clock_that_is_set_back_does_not_stop_the_asking(rig: TopUpRig) -> None:
    """What was to be asked about tomorrow by a clock that was wrong is asked about by the one that is right."""

    async def at_last(collector: Collector, auth: Authorization, asked: int) -> Settled:
        if asked < 2:
            raise FacilitatorUnknown("no answer")
        return settled(auth, collector.collect(auth))

    rig.collector.behaviour = at_last
    answered = await is_unknown(rig, rig.pay_v2(await rig.offer()))
    rig.clock.ms -= 86_400_000
    await rig.settle_down()
    assert rig.collector.asked == 2
    assert (await rig.topup(answered.topup)).state is TopUpState.SEEN


async def test_a_reorg_takes_nothing_from_the_credit(rig: TopUpRig) -> None:
    """Seen, undone and mined again: one credit. Seen and undone for good: none."""
    rig.collector.behaviour = None
    answered = await rig.topups.serve(rig.wanted(), rig.pay_v2(await rig.offer()), ())
    assert isinstance(answered, Answered)
    assert answered.topup.state is TopUpState.SEEN
    rig.chain.reorg(1)
    assert [state for state, _ in await collected(rig)] in (["failed"], ["expired"])
    assert rig.available() == 0


class Killed(Exception):  # noqa: N818 - what a test does
    """The process is gone."""


def killing(at: int, seen: list[str], when: str) -> Callable[[str], Awaitable[None]]:
    """Return what kills the process at the commit of that number."""

    async def kill(what: str) -> None:
        seen.append(what)
        if len(seen) == at:
            raise Killed(f"{when} {what}")

    return kill


async def quiet(_what: str) -> None:
    """Go on."""


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("behaviour", [None, forgets])
async def test_killed_at_any_commit_each_payer_is_credited_once(
    own: bool,  # noqa: FBT001 - a parameter of the test
    when: str,
    behaviour: Behaviour | None,
) -> None:
    """Kill at every commit of a top-up, before and after it; restart, go on: one payment, one credit, nothing open."""
    commits, reached = 1, True
    while reached:
        rig = TopUpRig(own=own, patience_s=0.05)
        await rig.open()
        rig.collector.behaviour = behaviour
        header = rig.pay_v2(await rig.offer())
        await rig.store.close()
        seen: list[str] = []
        hook = killing(commits, seen, when)
        if when == "before":
            rig.before_commit = hook
        else:
            rig.after_commit = hook
        rig.restart()
        await _until_killed(rig, header)
        reached = len(seen) >= commits
        rig.before_commit = rig.after_commit = quiet
        rig.restart()
        again = await rig.topups.serve(rig.wanted(), header, ())
        assert isinstance(again, Answered), (commits, when)
        states = await collected(rig)
        assert states == [("credited", 5 * USD)], (commits, when)
        assert rig.available() == 5 * USD
        assert rig.open_orders() == []
        assert len(rig.collector.collected) == 1
        await rig.taking.close(1)
        await rig.close()
        commits += 1
    assert commits > 3


async def _until_killed(rig: TopUpRig, header: str) -> None:
    try:
        await rig.topups.serve(rig.wanted(), header, ())
        await rig.settle_down()
        await rig.poll()
    except (StoreBroken, Killed):
        pass
    await rig.taking.close(1)
    if rig.store.broken:
        await asyncio.gather(rig.store._committer, return_exceptions=True)
    else:
        await rig.store.close()
