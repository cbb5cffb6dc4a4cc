"""The tracker over the real store and a quorum on a real Tempo: each charge ends as it did, and the books equal the chain."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tempo_beds import FUNDS_BASE, PAYEE, TOKEN, RealTempo, charge, tempo_bed

from contracts.codec import Address, to_hex
from contracts.tempo import TempoCharge, TempoTransfer
from gateway.core import commands as c
from gateway.core.payment import Transfer
from gateway.core.records import AuthorizationTerms, TransferKind
from gateway.flow.floats import Watched
from gateway.flow.heads import Heads
from gateway.flow.settle import Sightings, Tracker
from gateway.store.load import verify_book
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from sandbox.tempo.chain import LocalTempo
from tests.factories import make_account, make_credit, make_key, make_payment, make_purchase

LIVES_S = 6


@pytest.fixture
async def tempo() -> AsyncIterator[RealTempo]:
    """A Tempo with a funded wallet."""
    with LocalTempo.start() as chain:
        async with tempo_bed(chain) as bed:
            yield bed


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store in a file."""
    opened = await SqliteStore.open(tmp_path / "gateway.db")
    yield opened
    await opened.close()


def tracker_of(bed: RealTempo, store: SqliteStore) -> Tracker:
    """Return a tracker that looks at the balance after every block."""
    return Tracker(
        store=store,
        chain=bed.chain,
        watched=[Watched(bed.wallet, TOKEN)],
        heads=Heads(),
        sightings=Sightings(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        float_every_s=0.0,
    )


async def promise(store: SqliteStore, n: int, bed: RealTempo, due: TempoCharge) -> None:
    """Hold, sign and present a charge as payment n."""
    terms = AuthorizationTerms(
        chain_id=TOKEN.chain_id,
        token=TOKEN.address,
        asset=TOKEN.asset_id,
        wallet=bed.wallet,
        pay_to=PAYEE,
        nonce=due.memo,
        value_base=due.amount_base,
        valid_before_s=due.valid_before,
        signed_at_block=(await bed.chain.head()).number,
        kind=TransferKind.TEMPO,
        fee_base=due.max_fee_base,
        splits=tuple((split.to, split.value_base) for split in due.transfers[1:]),
        tx_hash=None if due.sponsored else bed.known_hash(due),
    )
    assert isinstance(await store.post(make_purchase(n, terms=terms)), c.Done)


async def test_p5_to_p7_every_end_of_a_charge_on_a_real_chain(
    tempo: RealTempo, store: SqliteStore, tmp_path: Path
) -> None:
    """P5 to P7: own fee, sponsored, failed, never taken, and a stranger's memo: nothing is asked, nothing is missing."""
    for command in (c.OpenAccount(make_account()), c.AddKey(make_key()), make_credit()):
        assert isinstance(await store.post(command), c.Done)
    tracker = tracker_of(tempo, store)
    await tracker.poll()
    own = charge(tempo, TempoTransfer(Address(b"\x52" * 20), 5, b"\x0d" * 32))
    sponsored = charge(tempo, sponsored=True)
    too_little_gas = replace(
        charge(tempo), gas=100_000, transfers=(replace(own.transfers[0], to=Address(b"\x53" * 20), memo=b"\x0e" * 32),)
    )
    never = charge(tempo)
    never = replace(never, valid_before=never.valid_before - 25 + LIVES_S)
    for n, due in enumerate((own, sponsored, too_little_gas, never), 1):
        await promise(store, n, tempo, due)
    tempo.note(tempo.wallet, never.memo)
    for due in (own, sponsored, too_little_gas):
        tempo.take(due)

    async def ends() -> list[Transfer]:
        found = [await store.payment(make_payment(n).id) for n in (1, 2, 3, 4)]
        return [payment.axes.transfer for payment in found if payment is not None]

    async with asyncio.timeout(LIVES_S + 20):
        while Transfer.PRESENTED in await ends():
            await tracker.poll()
            await asyncio.sleep(0.3)
    assert await ends() == [Transfer.SETTLED, Transfer.SETTLED, Transfer.DEAD, Transfer.DEAD]
    await tracker.poll()

    balance_base = await tempo.chain.token_balance(TOKEN, tempo.wallet, await tempo.chain.final())
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as db:
        db.row_factory = sqlite3.Row
        verify_book(db)
        evidence = db.execute("SELECT kind, fee_base FROM evidence ORDER BY payment_id").fetchall()
        tasks = db.execute("SELECT kind, detail FROM tasks").fetchall()
    assert [row["kind"] for row in evidence] == ["settled", "settled", "failed", "unused"]
    fees = [row["fee_base"] for row in evidence]
    assert [fee > 0 for fee in fees] == [True, False, True, False]
    assert tasks == []
    assert not store.view.freezes
    wallet = store.view.wallets[to_hex(tempo.wallet), TOKEN.asset_id]
    assert (wallet.available_base, wallet.held_base) == (balance_base, 0)
    assert balance_base == FUNDS_BASE - own.amount_base - sponsored.amount_base - sum(fees)
