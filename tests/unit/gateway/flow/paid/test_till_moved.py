"""What goes from a till to a wallet of ours and was not ordered: booked at both ends, told, and frightening nobody."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from till_rig import EURC, OTHER, OWN, PAYER, STRANGER, TILL, USD, TillRig

from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, Token
from gateway.flow.floats import Watched
from gateway.flow.paid.tills import Till
from gateway.flow.settle import Sightings, Tracker
from gateway.store.load import verify_book

FEE = 1_250


class Both:
    """A till, and a wallet that the tracker follows."""

    def __init__(self, till: TillRig) -> None:
        self.till = till
        self.tracker = Tracker(
            store=till.store,
            chain=till.chain,
            watched=(Watched(OWN, till.token),),
            heads=till.heads,
            sightings=Sightings(),
            clock=till.clock,
            entropy=till.entropy,
            float_every_s=0.0,
        )

    async def look(self, *, wallet_first: bool) -> None:
        """Let both ends read what is final, one before the other."""
        self.till.chain.mine(3)
        if wallet_first:
            await self.tracker.poll()
        await self.till.receipts.poll()
        if not wallet_first:
            await self.tracker.poll()

    def posted(self, code: str) -> int:
        """Return debits less credits of an account in the token."""
        asset = self.till.token.asset_id
        rows = self.till.rows(
            f"SELECT debits_posted - credits_posted AS net FROM ledger_accounts WHERE code = '{code}' AND asset = '{asset}'"
        )
        return sum(row["net"] for row in rows)

    async def agree(self) -> bool:
        """Say whether the book holds at both ends what the chain holds."""
        till = self.till
        wallet = await till.chain.token_balance(till.token, OWN, till.chain.newest)
        return till.booked() == await till.held() and self.posted(f"wallet:0x{OWN.hex()}") == wallet


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    """A till with 5 dollars of acc_1, and a wallet whose balance is booked."""
    till = await TillRig(ours=frozenset({(OWN, BASE_USDC.address), (TILL, BASE_USDC.address)})).open()
    made = Both(till)
    await till.paid()
    await made.look(wallet_first=True)
    yield made
    await till.close()


@pytest.mark.parametrize("wallet_first", [True, False])
async def test_what_stays_ours_is_booked_at_both_ends(both: Both, *, wallet_first: bool) -> None:
    """P1: the house has as much as before and the agent's credit is untouched; a task, and no freeze."""
    till, capital = both.till, both.posted("house:capital")
    tx_hash = till.chain.move(till.token, TILL, OWN, 2 * USD)
    await both.look(wallet_first=wallet_first)
    assert await both.agree()
    assert (both.posted("house:capital"), both.posted("suspense")) == (capital, 0)
    assert (till.booked(), till.available()) == (3 * USD, 5 * USD)
    (task,) = till.rows("SELECT kind, subject FROM tasks")
    assert task == {"kind": "till_moved", "subject": "0x" + tx_hash.hex()}
    assert dict(till.view.freezes) == {}
    assert till.rows("SELECT tx_hash, value_base FROM evidence WHERE kind = 'moved'") == [
        {"tx_hash": tx_hash, "value_base": 2 * USD}
    ]
    await till.sound()


async def test_it_is_booked_once_however_often_it_is_read(both: Both) -> None:
    """P12, P13: a crash before the cursor's commit repeats the page, and nothing else."""
    till = both.till
    till.chain.move(till.token, TILL, OWN, 2 * USD)
    await both.look(wallet_first=False)
    seq = till.view.journal_seq
    till.unread()
    till.restart()
    await till.poll()
    assert till.view.journal_seq == seq
    assert till.tasks() == ["till_moved"]
    await till.sound()


async def test_an_authorization_of_the_till_is_booked_alike(both: Both) -> None:
    """However it was signed: what it pays whom is what counts."""
    till = both.till
    signed = replace(till.pay(9, 2 * USD), authorizer=TILL, pay_to=OWN)
    till.chain.settle(signed)
    await both.look(wallet_first=True)
    assert await both.agree()
    assert (till.tasks(), dict(till.view.freezes)) == (["till_moved"], {})
    await till.sound()


@pytest.mark.parametrize(("token", "recipient"), [(BASE_USDC, STRANGER), (EURC, OWN)])
async def test_where_no_balance_is_followed_it_is_an_outflow(both: Both, token: Token, recipient: bytes) -> None:
    """A stranger's address, or a token that the wallet is not configured for: it is gone from the book's view."""
    till = both.till
    till.chain.move(EURC, PAYER, TILL, 4 * USD)
    await till.poll()
    till.chain.move(token, TILL, recipient, 1 * USD)  # type: ignore[arg-type]
    await till.poll()
    assert "unknown_outflow" in till.tasks()
    assert list(till.view.freezes) == [f"wallet:0x{TILL.hex()}"]
    await till.sound()


async def test_what_is_promised_to_a_payer_cannot_be_moved_away_in_silence(both: Both) -> None:
    """P7: only what was free is booked; the rest is missing, and the till is frozen until it is back."""
    till = both.till
    receipt = (await till.receipts_of())[0]
    await till.refund(receipt, 4 * USD)
    till.chain.move(till.token, TILL, OWN, 2 * USD)
    await both.look(wallet_first=True)
    assert sorted(till.tasks()) == ["float_missing", "till_moved"]
    assert list(till.view.freezes) == [f"wallet:0x{TILL.hex()}"]
    assert till.booked() == 4 * USD
    verify_book(till.db)


async def test_a_refund_stays_a_refund(both: Both) -> None:
    """Its nonce names it: paid to another, wallet of ours or not, it is somebody who has the key."""
    till = both.till
    receipt = (await till.receipts_of())[0]
    refund = await till.refund(receipt, 2 * USD)
    signed = till.pay(9, 2 * USD, nonce=refund.nonce)
    till.chain.settle(replace(signed, authorizer=TILL, pay_to=OWN))
    await both.look(wallet_first=True)
    assert "unknown_outflow" in till.tasks()
    await till.sound()


async def test_from_till_to_till_is_no_outflow() -> None:
    """One end books it by its log, the other by its balance."""
    tills = tuple(Till(address, (BASE_USDC,), ()) for address in (TILL, OTHER))
    ours = frozenset((each.address, BASE_USDC.address) for each in tills)
    till = await TillRig(tills=tills, ours=ours, foreign=()).open()
    await till.paid()
    till.chain.move(till.token, TILL, OTHER, 2 * USD)
    await till.poll()
    assert (till.tasks(), dict(till.view.freezes)) == (["till_moved"], {})
    assert till.rows("SELECT state FROM incoming") == [{"state": "credited"}]
    await till.sound()
    await till.close()


async def test_on_tempo_the_till_pays_the_network_once() -> None:
    """Two transfers of one transaction to our wallet are two facts and one fee."""
    till = await TillRig(
        token=MODERATO_PATHUSD, foreign=(), final_lag=0, ours=frozenset({(OWN, MODERATO_PATHUSD.address)})
    ).open()
    both = Both(till)
    till.chain.move(till.token, OWN, TILL, 9 * USD)
    await both.look(wallet_first=True)
    transfers = tuple(TempoTransfer(OWN, n * USD, bytes([n]) * 32) for n in (1, 2))
    window_s = till.clock.ms // 1000 + 25
    till.chain.charge(TempoCharge(till.token, TILL, transfers, window_s, 10**6, 40 * 10**9, 10**9, False), fee_base=FEE)
    await both.look(wallet_first=False)
    assert await both.agree()
    assert (both.posted("house:fees"), till.booked()) == (FEE, 6 * USD - FEE)
    assert (set(till.tasks()), dict(till.view.freezes)) == ({"till_moved"}, {})
    assert till.rows("SELECT value_base, fee_base FROM evidence WHERE kind = 'moved' ORDER BY id") == [
        {"value_base": 1 * USD, "fee_base": FEE},
        {"value_base": 2 * USD, "fee_base": 0},
    ]
    await till.sound()
    await till.close()


@pytest.mark.parametrize("stranger_first", [True, False])
async def test_on_tempo_the_fee_goes_with_what_is_explained(*, stranger_first: bool) -> None:
    """Whoever was paid in the same transaction besides: what the till paid the network is booked, and once."""
    till = await TillRig(
        token=MODERATO_PATHUSD, foreign=(), final_lag=0, ours=frozenset({(OWN, MODERATO_PATHUSD.address)})
    ).open()
    both = Both(till)
    till.chain.move(till.token, OWN, TILL, 9 * USD)
    await both.look(wallet_first=True)
    transfers = (TempoTransfer(STRANGER, 1 * USD, bytes([1]) * 32), TempoTransfer(OWN, 2 * USD, bytes([2]) * 32))
    transfers = transfers if stranger_first else transfers[::-1]
    window_s = till.clock.ms // 1000 + 25
    till.chain.charge(TempoCharge(till.token, TILL, transfers, window_s, 10**6, 40 * 10**9, 10**9, False), fee_base=FEE)
    await both.look(wallet_first=False)
    assert await both.agree()
    assert (both.posted("house:fees"), till.booked()) == (FEE, 6 * USD - FEE)
    assert "float_missing" not in till.tasks()
    await till.sound()
    await till.close()
