"""An older copy of the database that does not know a refund: it gives nothing back before the tills were read (P12)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from till_rig import PAYER, TILL, USD, TillRig

from gateway.core.commands import Done, MoveCursor, SetFreeze
from gateway.core.paid import Incoming
from gateway.core.problems import Problem
from gateway.flow.quarantine import BY, SCOPE, Quarantine
from tests.fakes.store import copy_of
from wallets.watermark import Standing, Watermark


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[TillRig]:
    """A till whose signer remembers outside of the database what it signed."""
    mark = Watermark.create(tmp_path / "mark")
    made = await TillRig(mark=mark).open()  # type: ignore[arg-type]
    yield made
    await made.close()
    mark.close()


def quarantine(rig: TillRig) -> Quarantine:
    """Return the quarantine as the graph makes it."""
    return Quarantine(
        store=rig.store,
        watermark=rig.mark,  # type: ignore[arg-type]
        heads=rig.heads,
        chain_ids=(rig.chain.chain_id,),
        places=rig.receipts.places,
        clock=rig.clock,
        entropy=rig.entropy,  # type: ignore[arg-type]
    )


async def track(rig: TillRig) -> None:
    """Let the wallets' tracker have booked everything up to the final block, and nobody have read the tills."""
    final = await rig.chain.final()
    rig.heads.saw(rig.chain.chain_id, rig.chain.newest, final)
    command = MoveCursor(rig.chain.chain_id, final.number, final.hash, final.time_s)
    assert isinstance(await rig.store.post(command), Done)


async def restored(rig: TillRig) -> Incoming:
    """Give USD 5 back, and start again on a copy from before; return the receipt that both know."""
    receipt = await rig.paid()
    older = copy_of(rig.db)
    refund = await rig.refund(receipt)
    await rig.refunds.sweep()
    await rig.poll()
    found = await rig.store.refund(refund.id)
    assert found is not None
    assert found.ended_at_ms is not None
    rig.mark.record(rig.view.journal_seq, rig.view.journal_head)
    await rig.store.close()
    rig.db.close()
    rig.db = older
    rig.restart()
    rig.clock.ms = (refund.valid_before_s + 60) * 1000
    rig.chain.mine(4)
    return receipt


async def again(rig: TillRig, receipt: Incoming) -> str:
    """Return why the same money does not go back a second time."""
    with pytest.raises(Problem) as caught:
        await rig.refund(receipt, None, "again")
    return caught.value.code


async def test_p12_an_older_copy_gives_nothing_back_before_its_tills_were_read(rig: TillRig) -> None:
    """H4: the wallets' cursor tells nothing of tills; once they are read, the till that lost money is frozen itself."""
    receipt = await restored(rig)
    assert rig.available() == 5 * USD  # it knows no refund
    held = quarantine(rig)
    assert await held.judge() is Standing.OLDER
    await track(rig)
    assert not await held.lift()
    assert rig.view.freezes[SCOPE].by == BY
    assert await again(rig, receipt) == "frozen"
    await rig.poll()
    await track(rig)
    assert await held.lift()
    assert SCOPE not in rig.view.freezes
    assert f"wallet:0x{TILL.hex()}" in rig.view.freezes
    assert "unknown_outflow" in rig.tasks()
    assert await again(rig, receipt) == "frozen"
    assert (await rig.chain.token_balance(rig.token, TILL, rig.chain.newest), rig.booked()) == (0, 0)


async def test_p12_a_refund_that_an_older_copy_holds_does_not_leave_again(rig: TillRig) -> None:
    """H4, M2: quarantined, nothing is sent, not even what was held; the chain then tells that it has landed."""
    receipt = await rig.paid()
    refund = await rig.refund(receipt)
    older = copy_of(rig.db)
    await rig.refunds.sweep()
    sent = len(rig.engine.settled)
    rig.mark.record(rig.view.journal_seq, rig.view.journal_head)
    await rig.store.close()
    rig.db.close()
    rig.db = older
    rig.restart()
    held = quarantine(rig)
    assert await held.judge() is Standing.OLDER
    await rig.refunds.sweep()
    assert len(rig.engine.settled) == sent
    assert rig.view.refunds[refund.id].version == 1
    await rig.poll()
    assert rig.view.refunds == {}
    rig.clock.ms = (refund.valid_before_s + 60) * 1000
    await rig.poll(blocks=4)
    await track(rig)
    assert await held.lift()
    assert (rig.available(), rig.booked(), rig.view.freezes) == (0, 0, {})
    assert await rig.chain.token_balance(rig.token, PAYER, rig.chain.newest) == 1_000_000_000
    await rig.sound()


@pytest.mark.parametrize("scope", ["all", "database", "account:acc_1", f"wallet:0x{TILL.hex()}", "asset"])
async def test_a_freeze_stops_what_was_held_and_what_is_sent_again(till: TillRig, scope: str) -> None:
    """M2: whatever the operator freezes of it; lifted, it goes on, and lands once."""
    receipt = await till.paid()
    await till.refund(receipt)
    scope = f"asset:{till.token.asset_id}" if scope == "asset" else scope
    for sent in (0, 1):
        await _freeze(till, scope, frozen=True)
        await till.refunds.sweep()
        till.clock.ms += 20_000
        assert len(till.engine.settled) == sent
        await _freeze(till, scope, frozen=False)
        await till.refunds.sweep()
        till.clock.ms += 20_000
    await till.poll()
    assert (till.available(), till.booked()) == (0, 0)
    await till.sound()


async def _freeze(till: TillRig, scope: str, *, frozen: bool) -> None:
    await till.store.post(SetFreeze(scope, frozen=frozen, reason="drill", by="operator", at_ms=till.clock.ms))
