"""The tracker over the real store and a quorum on a real EVM: the nastiest moments of an authorization's life."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from chain_beds import FUNDS_BASE, AnvilBed, anvil_bed, authorization

from contracts.codec import to_hex
from contracts.eip3009 import Authorization
from contracts.tokens import BASE_USDC
from gateway.core import commands as c
from gateway.core.payment import Transfer
from gateway.core.records import AuthorizationTerms
from gateway.flow.floats import Watched
from gateway.flow.heads import Heads
from gateway.flow.settle import Sightings, Tracker
from gateway.ports import ChainDisagreement, ChainUnavailable
from gateway.store.load import verify_book
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from sandbox.chain import LocalBase
from tests.factories import make_account, make_credit, make_key, make_payment, make_purchase

VALUE_BASE = 9_000_000


class Desk:
    """A chain, a store and a tracker; payment n is promised by the first wallet."""

    def __init__(self, bed: AnvilBed, store: SqliteStore) -> None:
        self.bed, self.base, self.store = bed, bed.base, store
        self.wallet = bed.wallets[0]
        self.tracker = Tracker(
            store=store,
            chain=bed.chain,
            watched=[Watched(self.wallet, BASE_USDC)],
            heads=Heads(),
            sightings=Sightings(),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            float_every_s=0.0,
        )

    async def promise(self, n: int = 1, window_s: int = 900) -> Authorization:
        """Hold, sign and present payment n; return what was signed."""
        signed = authorization(self.bed, bytes([n]) * 32, value_base=VALUE_BASE, window_s=window_s)
        terms = AuthorizationTerms(
            chain_id=BASE_USDC.chain_id,
            token=BASE_USDC.address,
            asset=BASE_USDC.asset_id,
            wallet=signed.authorizer,
            pay_to=signed.pay_to,
            nonce=signed.nonce,
            value_base=signed.value_base,
            valid_before_s=signed.valid_before,
            signed_at_block=(await self.bed.chain.head()).number,
        )
        assert isinstance(await self.store.post(make_purchase(n, terms=terms)), c.Done)
        return signed

    async def state(self, n: int = 1) -> Transfer:
        """Return how far payment n is."""
        payment = await self.store.payment(make_payment(n).id)
        assert payment is not None
        return payment.axes.transfer

    async def look(self, blocks: int = 3) -> None:
        """Let blocks pass, and look."""
        self.base.mine(blocks)
        await self.tracker.poll()

    async def pass_window(self, signed: Authorization) -> None:
        """Let the final block's time reach the end of the window, and look."""
        self.base.set_next_block_time(max(signed.valid_before, self.base.head()["timestamp"] + 1))
        await self.look(4)

    def tasks(self) -> list[str]:
        """Return the kinds of everything that a human was asked."""
        with closing(sqlite3.connect(self.store.path)) as db:
            return [row[0] for row in db.execute("SELECT kind FROM tasks ORDER BY id")]

    def check_books(self, collected: int) -> None:
        """The book proves itself, nobody was asked anything, and the wallet holds what the chain says that it holds."""
        with closing(sqlite3.connect(self.store.path)) as db:
            verify_book(db)
        assert self.tasks() == []
        wallet = self.store.view.wallets[to_hex(self.wallet), BASE_USDC.asset_id]
        left_base = FUNDS_BASE - collected * VALUE_BASE
        assert (wallet.available_base, wallet.held_base) == (left_base, 0)
        assert self.base.balance_of(to_hex(self.wallet)) == left_base
        assert not self.store.view.freezes


@pytest.fixture
async def desk(automine_base: LocalBase, tmp_path: Path) -> AsyncIterator[Desk]:
    """Three endpoints of which two must agree, an account with money, and a wallet whose float is booked."""
    store = await SqliteStore.open(tmp_path / "gateway.db")
    async with anvil_bed(automine_base, endpoints=3) as bed:
        for command in (c.OpenAccount(make_account()), c.AddKey(make_key()), make_credit()):
            assert isinstance(await store.post(command), c.Done)
        opened = Desk(bed, store)
        await opened.tracker.poll()
        yield opened
    await store.close()


async def test_a_collection_in_the_last_second_of_the_window_is_a_collection(desk: Desk) -> None:
    """The block before `validBefore` takes it; the final block past the window must not call it unused."""
    signed = await desk.promise()
    desk.base.set_next_block_time(signed.valid_before - 1)
    desk.bed.settle(signed)
    assert desk.base.head()["timestamp"] == signed.valid_before - 1
    await desk.pass_window(signed)
    assert await desk.state() is Transfer.SETTLED
    desk.check_books(collected=1)


async def test_a_collection_at_the_end_of_the_window_is_none(desk: Desk) -> None:
    """At `validBefore` itself the token refuses: dead at the first final block of that time, and not before."""
    signed = await desk.promise()
    desk.base.set_next_block_time(signed.valid_before - 1)
    await desk.look(1)
    await desk.look(0)
    assert await desk.state() is Transfer.PRESENTED
    desk.base.set_next_block_time(signed.valid_before)
    desk.bed.settle(signed)
    await desk.look(3)
    assert await desk.state() is Transfer.DEAD
    desk.check_books(collected=0)


async def test_a_token_that_is_paused_or_bars_the_payee_collects_nothing_until_it_does(desk: Desk) -> None:
    """A collection that failed is no end: the same authorization may still be taken, and is followed until it cannot be."""
    one, two, three = [await desk.promise(n) for n in (1, 2, 3)]
    desk.base.set_paused(True)
    desk.bed.settle(one)
    desk.base.set_paused(False)
    desk.base.set_blacklisted(to_hex(two.pay_to))
    desk.bed.settle(two)
    await desk.look()
    assert {await desk.state(n) for n in (1, 2, 3)} == {Transfer.PRESENTED}
    desk.base.set_blacklisted(to_hex(two.pay_to), False)
    desk.bed.settle(two)
    desk.bed.cancel(desk.wallet, three.nonce)
    await desk.look()
    assert [await desk.state(n) for n in (1, 2, 3)] == [Transfer.PRESENTED, Transfer.SETTLED, Transfer.DEAD]
    desk.base.set_paused(True)
    await desk.pass_window(one)
    assert await desk.state(1) is Transfer.DEAD
    desk.check_books(collected=1)


async def test_a_collection_that_a_fork_undoes_is_booked_where_it_is_final(desk: Desk) -> None:
    """Seen at the head, undone, taken again in another block: one settlement, with the evidence of the block that stayed."""
    signed = await desk.promise()
    desk.bed.settle(signed)
    await desk.tracker.poll()
    assert await desk.state() is Transfer.PRESENTED
    desk.base.reorg(1)
    await desk.tracker.poll()
    assert await desk.state() is Transfer.PRESENTED
    final = desk.bed.settle(signed)
    await desk.look()
    assert await desk.state() is Transfer.SETTLED
    with closing(sqlite3.connect(desk.store.path)) as db:
        assert [bytes(row[0]) for row in db.execute("SELECT tx_hash FROM evidence WHERE kind = 'settled'")] == [final]
    desk.check_books(collected=1)


async def test_p14_a_liar_or_a_laggard_delays_and_decides_nothing(desk: Desk) -> None:
    """One endpoint hides the log: an alert. All but one are behind: nothing. Neither kills nor settles, and then it is booked."""
    signed = await desk.promise()
    desk.bed.settle(signed)
    desk.bed.nodes[0].rewrite = lambda method, _params, result: [] if method == "eth_getLogs" else result
    with pytest.raises(ChainDisagreement):
        await desk.look()
    assert await desk.state() is Transfer.PRESENTED
    desk.bed.nodes[0].rewrite = None
    desk.base.set_next_block_time(signed.valid_before + 1)
    desk.base.mine(4)
    for node in desk.bed.nodes[1:]:
        node.down = True
    with pytest.raises(ChainUnavailable):
        await desk.tracker.poll()
    assert await desk.state() is Transfer.PRESENTED
    for node in desk.bed.nodes[1:]:
        node.down = False
    await desk.look()
    assert await desk.state() is Transfer.SETTLED
    assert desk.tasks() == ["chain_disagreement"]
