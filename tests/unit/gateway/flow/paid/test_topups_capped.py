"""Top-ups against an inventory cap: what is offered, what is taken of many at once, and what is told to whoever is refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from till_rig import OTHER, OTHER_KEY, PAYER_KEY, TILL, USD
from topup_rig import Collector, TopUpRig, hangs, settled

from contracts.codec import to_hex
from contracts.eip3009 import Authorization
from contracts.tokens import BASE_USDC
from gateway.core import chart
from gateway.core.inventory import InventoryCap
from gateway.core.paid import TopUpState
from gateway.core.problems import Problem
from gateway.flow.paid.offers import Offered, TopUpRules
from gateway.flow.paid.topups import Answered, Outcome
from gateway.paid_ports import Settled
from gateway.rails.x402.reasons import Reason

CAP_USD = 16
CAPS = {BASE_USDC.key: InventoryCap(BASE_USDC.key, BASE_USDC.asset_id, CAP_USD * USD)}


@pytest.fixture
async def rig() -> AsyncIterator[TopUpRig]:
    """Top-ups in one token, of which the house wants sixteen: three fives and one."""
    made = TopUpRig(caps=CAPS)
    await made.open()
    yield made
    await made.taking.close(1)
    await made.close()


def held(rig: TopUpRig) -> int:
    """Return what the book says lies in the till, in whole units."""
    account = rig.store._core.book.ledger.find(chart.wallet(to_hex(TILL)), BASE_USDC.asset_id)
    return 0 if account is None else account.posted_base // USD


async def refused(rig: TopUpRig, amount: str = "5") -> str:
    """Ask, and return the problem."""
    with pytest.raises(Problem) as raised:
        await rig.offer(rig.wanted(amount))
    return raised.value.code


async def told(rig: TopUpRig, header: str) -> Outcome | Problem:
    """Pay, and return whatever comes of it."""
    try:
        return await rig.topups.serve(rig.wanted(), header, ())
    except Problem as problem:
        return problem


async def test_no_more_is_offered_than_is_wanted(rig: TopUpRig) -> None:
    """P1: what is held, what is under way and the order together; less than the rest is offered all the while."""
    for n in (1, 2, 3):
        await rig.buy(n)
    assert await refused(rig) == "inventory_capped"
    assert isinstance(await rig.offer(rig.wanted("1")), Offered)
    assert await refused(rig, "1.000001") == "inventory_capped"
    await rig.poll()
    assert (held(rig), rig.available(), rig.tasks()) == (15, 15 * USD, [])
    assert await refused(rig) == "inventory_capped"
    assert isinstance(await rig.offer(rig.wanted("1")), Offered)


async def test_of_many_at_once_only_so_many_are_taken_as_fit(rig: TopUpRig) -> None:
    """All were offered while there was room: three are collected, of the others nothing, and no row is left of them."""
    headers = [rig.pay_v2(await rig.offer(), n) for n in range(1, 31)]
    outcomes = await asyncio.gather(*(told(rig, header) for header in headers))
    taken = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    assert (len(taken), len(problems)) == (3, 27)
    assert {problem.code for problem in problems} == {"inventory_capped"}
    assert all("nothing was taken" in problem.detail for problem in problems)
    assert (rig.collector.asked, len(rig.collector.collected), len(rig.orders())) == (3, 3, 3)
    await rig.poll()
    assert (held(rig), rig.available(), rig.tasks()) == (15, 15 * USD, [])


async def test_a_refused_payment_is_taken_when_there_is_room(rig: TopUpRig) -> None:
    """It was nobody's: once another's has failed, and so will never land, the very same one pays."""
    asked, over = asyncio.Event(), asyncio.Event()

    async def refuses_late(_collector: Collector, auth: Authorization, _asked: int) -> Settled:
        asked.set()
        await over.wait()
        return settled(auth, None, Reason.INSUFFICIENT_BALANCE)

    for n in (1, 2):
        await rig.buy(n)
    first, late = [rig.pay_v2(await rig.offer(), n) for n in (3, 4)]
    rig.collector.behaviour = refuses_late
    waiting = asyncio.create_task(told(rig, first))
    await asked.wait()
    refusal = await told(rig, late)
    assert isinstance(refusal, Problem)
    assert refusal.code == "inventory_capped"
    over.set()
    assert isinstance(await waiting, Offered)
    rig.collector.behaviour = None
    assert isinstance(await told(rig, late), Answered)
    assert isinstance(await told(rig, first), Problem)


async def test_what_was_taken_keeps_its_answer(rig: TopUpRig) -> None:
    """The same payment, and its Idempotency-Key without one, are answered as ever when there is no room left."""
    wanted = rig.wanted("15", claim="may-1")
    header = rig.pay_v2(await rig.offer(wanted))
    first = await rig.topups.serve(wanted, header, ())
    assert isinstance(first, Answered)
    assert await refused(rig) == "inventory_capped"
    for payment in (header, None):
        again = await rig.topups.serve(wanted, payment, ())
        assert isinstance(again, Answered)
        assert again.topup.id == first.topup.id


async def test_deposits_are_asked_for_while_there_is_room_and_always_booked(rig: TopUpRig) -> None:
    """The address is told until the token is full; money that is sent there all the same is its account's (P13)."""
    wallets = (OTHER,)
    (way,) = rig.deposits.ways_of("acc_1", wallets)
    assert way.address == TILL
    for n, key in ((1, PAYER_KEY), (2, OTHER_KEY)):
        rig.chain.settle(rig.pay(n, 10 * USD, key))
    await rig.poll()
    assert held(rig) == 20
    assert rig.deposits.ways_of("acc_1", wallets) == ()
    assert sorted(set(rig.tasks())) == ["incoming_unclaimed", "inventory_above_cap"]
    assert rig.tasks().count("inventory_above_cap") == 1


async def test_packs_and_version_1_are_capped_alike(rig: TopUpRig) -> None:
    """A version 1 payment, which brings no order, is claimed against the same cap; a pack is offered below it only."""
    first = await rig.offer(rig.wanted("15"))
    header = rig.pay_v1(await rig.offer(), n=2)
    assert isinstance(await rig.topups.serve(rig.wanted("15"), rig.pay_v2(first), ()), Answered)
    refusal = await told(rig, header)
    assert isinstance(refusal, Problem)
    assert refusal.code == "inventory_capped"
    with pytest.raises(Problem, match="inventory_capped"):
        await rig.offer(rig.wanted(pack="five", body=b"", path="/v1/topups/packs/five"))


async def test_a_restart_counts_what_is_under_way() -> None:
    """P12: what another process claimed is as much in the way as before."""
    rig = TopUpRig(caps=CAPS, patience_s=0.01, rules=TopUpRules(10_000, 1_000 * USD))
    await rig.open()
    rig.collector.behaviour = hangs
    for n in (1, 2, 3):
        assert (await rig.buy(n)).topup.state is TopUpState.PAYING
    await rig.taking.close(0)
    await rig.store.close()
    rig.restart()
    assert await refused(rig) == "inventory_capped"
    await rig.taking.close(0)
    await rig.close()
