"""One order on several rails: MPP's tempo and evm beside x402, each bound to the same order, one of them paid."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import CIMultiDict
from till_rig import FUNDS, PAYER, PAYER_KEY, TILL, USD
from topup_rig import SECRET, URL, TopUpRig, required_of

from contracts.attribution import attribution_memo
from contracts.eip3009 import Authorization, mpp_evm_nonce
from contracts.signature import load_key, sign_digest
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tempo_decode import decode_tempo
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, Token
from gateway.core.inventory import InventoryCap, TokenPlace
from gateway.core.paid import TopUpState
from gateway.core.problems import Problem
from gateway.flow.paid.mpp import TempoTopUps
from gateway.flow.paid.mpp_seller import MppSeller
from gateway.flow.paid.offers import Offered, Offers, TillPrice, Wanted, mac_of
from gateway.flow.paid.topups import Answered, TopUps
from gateway.paid_ports import Rejected
from gateway.rails.mpp.challenge import parse_mpp
from gateway.rails.mpp.credential import authorization_payload, charge_payload, did_source, encode_credential
from gateway.rails.mpp.issuing import Seal
from gateway.rails.mpp.receipt import read_mpp_transaction
from gateway.rails.offer import MppOffer
from gateway.rails.x402.order_ref import OrderMarks
from gateway.rails.x402.reasons import Reason
from tests.fakes.chain import Charge, ScriptedChain
from tests.unit.gateway.rails.mpp.mpp_bed import read_request

REALM = "pay.example"
TEMPO_ID = MODERATO_PATHUSD.chain_id


class Wire:
    """Puts Tempo transactions on the scripted chain, unless `lost`."""

    def __init__(self, chain: ScriptedChain) -> None:
        self.chain, self.sent, self.lost = chain, list[bytes](), False

    async def send_raw(self, raw: bytes) -> None:
        transaction = decode_tempo(raw)
        if self.lost or raw in self.sent:
            return
        self.sent.append(raw)
        self.chain._send(charges[transaction.tx_hash], transaction.tx_hash)
        self.chain.mine()

    async def seen(self, tx_hash: bytes) -> int | None:
        mined = (receipt for block in self.chain._chain for receipt in block.receipts)
        return next((receipt.status for receipt in mined if receipt.tx_hash == tx_hash), None)


charges: dict[bytes, Any] = {}
"""What the transactions of these tests are to the scripted chain."""


@dataclass
class MppRig(TopUpRig):
    """Top-ups that MPP pays as well: USDC on Base and pathUSD on a Tempo chain."""

    def restart(self) -> None:
        super().restart()
        if not hasattr(self, "tempo_chain"):
            self.tempo_chain = ScriptedChain(
                self.clock, chain_id=TEMPO_ID, final_lag=0, balances={(MODERATO_PATHUSD, PAYER): FUNDS}
            )
            self.wire = Wire(self.tempo_chain)
        prices = [TillPrice(self.token, TILL), TillPrice(MODERATO_PATHUSD, TILL)]
        parts: dict[str, Any] = {"clock": self.clock, "entropy": self.entropy}
        self.seller = MppSeller(seal=Seal([SECRET.reveal()]), realm=REALM, tills=prices, **parts)
        marks = OrderMarks(mac_of(SECRET))
        parts |= {"mpp": self.seller, "takes": self.inventory.takes}
        offers = Offers(prices, self.rules, marks, URL, REALM, **parts)
        self.topups = TopUps(
            store=self.store,
            offers=offers,
            taking=self.taking,
            facilitator=self.collector,
            own=self.own,
            chains={self.token.chain_id: self.chain, TEMPO_ID: self.tempo_chain},
            clock=self.clock,
            seller=self.seller,
            tempo=TempoTopUps(
                store=self.store,
                chains={TEMPO_ID: self.tempo_chain},
                broadcasters={TEMPO_ID: self.wire},
                clock=self.clock,
                wait_s=0.5,
            ),
        )

    def challenges(self, offered: Offered) -> tuple[MppOffer, ...]:
        """Return the MPP offers of a 402 as our own payer reads them: tempo, evm."""
        lines = [(name, value) for name, value in offered.headers if name == "WWW-Authenticate"]
        challenge = parse_mpp(402, CIMultiDict(lines))
        assert challenge is not None
        assert challenge.rejected == ()
        return challenge.offers

    def pay_tempo(self, offer: MppOffer) -> list[str]:
        """Return the credential of a stock client that signs a Tempo transaction."""
        charge = TempoCharge(
            token=MODERATO_PATHUSD,
            wallet=PAYER,
            transfers=(
                TempoTransfer(offer.pay_to, offer.amount_base, attribution_memo(offer.realm, offer.challenge_id)),
            ),
            valid_before=self.clock.ms // 1000 + 25,
            gas=1_000_000,
            max_fee_per_gas=40 * 10**9,
            max_priority_fee_per_gas=10**9,
            sponsored=False,
        )
        raw = charge.encode(sign_digest(load_key(PAYER_KEY), charge.signing_hash))
        charges[decode_tempo(raw).tx_hash] = Charge(charge, 1_000, PAYER)
        return [encode_credential(offer, charge_payload(raw), did_source(TEMPO_ID, PAYER))[1]]

    def pay_evm(self, offer: MppOffer) -> list[str]:
        """Return the credential of a stock client that signs an authorization."""
        authorization = Authorization(
            token=self.token,
            authorizer=PAYER,
            pay_to=offer.pay_to,
            value_base=offer.amount_base,
            valid_after=0,
            valid_before=self.clock.ms // 1000 + 300,
            nonce=mpp_evm_nonce(offer.challenge_id, offer.realm),
        )
        payload = authorization_payload(authorization, sign_digest(load_key(PAYER_KEY), authorization.digest))
        return [encode_credential(offer, payload, did_source(8453, PAYER))[1]]

    async def paid(self, values: list[str], wanted: Wanted | None = None) -> Answered:
        """Pay by MPP, and expect that it is taken."""
        outcome = await self.topups.serve(wanted or self.bare(), None, values)
        assert isinstance(outcome, Answered), outcome
        return outcome

    def bare(self) -> Wanted:
        """The paying retry of an MPP client: its key was overwritten by the payment."""
        return self.wanted(account_id=None)


@pytest.fixture
async def rig() -> AsyncIterator[MppRig]:
    """Top-ups on both chains."""
    made = MppRig()
    await made.open()
    yield made
    await made.taking.close(1)
    await made.close()


def receipted(answered: Answered) -> bytes | None:
    """Read the transaction in Payment-Receipt as our own payer does."""
    return read_mpp_transaction(CIMultiDict(answered.headers))


async def test_one_402_offers_one_order_on_every_rail(rig: MppRig) -> None:
    """x402 in both versions and MPP on both chains: one order id, one price."""
    offered = await rig.offer()
    tempo, evm = rig.challenges(offered)
    order = offered.document["order"]
    assert (tempo.method, evm.method) == ("tempo", "evm")
    assert {read_request(dict(offer.echo)["request"])["externalId"] for offer in (tempo, evm)} == {order}
    assert required_of(offered)["accepts"][0]["extra"]["order"].startswith(order)
    assert {tempo.amount_base, evm.amount_base, int(offered.document["accepts"][0]["maxAmountRequired"])} == {5 * USD}
    assert dict(offered.headers)["Cache-Control"] == "no-store"


async def test_a_tempo_payment_buys_credit_for_the_orders_account(rig: MppRig) -> None:
    """The credential overwrote the key; the account is in the challenge. The receipt names the transaction."""
    tempo, _ = rig.challenges(await rig.offer())
    answered = await rig.paid(rig.pay_tempo(tempo))
    assert (answered.topup.state, answered.topup.rail) == (TopUpState.SEEN, "mpp_tempo")
    assert answered.topup.account_id == "acc_1"
    assert receipted(answered) == answered.topup.tx_hash


async def test_an_evm_payment_is_collected_by_the_facilitator(rig: MppRig) -> None:
    """MPP's evm charge is an authorization: it is settled and credited as an x402 payment is."""
    _, evm = rig.challenges(await rig.offer())
    answered = await rig.paid(rig.pay_evm(evm))
    assert (answered.topup.state, answered.topup.rail) == (TopUpState.SEEN, "mpp_evm")
    assert receipted(answered) == answered.topup.tx_hash
    await rig.poll()
    assert rig.available() == 5 * USD


@pytest.mark.parametrize("rail", ["tempo", "evm"])
async def test_the_same_credential_again_is_answered_for_ever(rig: MppRig, rail: str) -> None:
    """A lost answer is asked for again, after the challenge's end too: the receipt, never a 402, and nothing is sent again."""
    tempo, evm = rig.challenges(await rig.offer())
    values = rig.pay_tempo(tempo) if rail == "tempo" else rig.pay_evm(evm)
    first = await rig.paid(values)
    rig.clock.ms += 3_600_000
    again = await rig.paid(values)
    assert again.topup.id == first.topup.id
    assert receipted(again) == first.topup.tx_hash
    assert (len(rig.wire.sent), rig.collector.asked) in {(1, 0), (0, 1)}


@pytest.mark.parametrize("rail", ["tempo", "evm"])
async def test_of_equal_credentials_at_once_one_is_the_first(rig: MppRig, rail: str) -> None:
    """All but one of the same answers are told as given again."""
    tempo, evm = rig.challenges(await rig.offer())
    values = rig.pay_tempo(tempo) if rail == "tempo" else rig.pay_evm(evm)
    answers = await asyncio.gather(*(rig.paid(values) for _ in range(10)))
    assert len({answered.topup.id for answered in answers}) == 1
    assert [answered.repeated for answered in answers].count(False) == 1


@pytest.mark.parametrize("first", ["x402", "tempo", "evm"])
async def test_a_second_rail_for_one_order_is_refused_before_it_settles(rig: MppRig, first: str) -> None:
    """Whichever rail was first, the others' payments for the order are refused, and nothing of them is sent."""
    offered = await rig.offer()
    tempo, evm = rig.challenges(offered)
    payments: dict[str, tuple[str | None, list[str]]] = {
        "x402": (rig.pay_v2(offered), []),
        "tempo": (None, rig.pay_tempo(tempo)),
        "evm": (None, rig.pay_evm(evm)),
    }
    wanted = rig.bare()
    assert isinstance(await rig.topups.serve(wanted, *payments.pop(first)), Answered)
    before = len(rig.wire.sent), rig.collector.asked
    for payment in payments.values():
        with pytest.raises(Problem) as raised:
            await rig.topups.serve(wanted, *payment)
        assert raised.value.code == "topup_taken"
    assert (len(rig.wire.sent), rig.collector.asked) == before


async def test_two_rails_in_one_request_are_none(rig: MppRig) -> None:
    """A request that pays twice is refused before either is looked at."""
    offered = await rig.offer()
    _, evm = rig.challenges(offered)
    with pytest.raises(Problem, match="bad_request"):
        await rig.topups.serve(rig.bare(), rig.pay_v2(offered), rig.pay_evm(evm))
    with pytest.raises(Problem, match="bad_request"):
        await rig.topups.serve(rig.bare(), None, [*rig.pay_evm(evm), *rig.pay_evm(evm)])
    assert (rig.orders(), rig.collector.asked) == ([], 0)


async def test_a_transaction_that_nobody_has_seen_is_pending(rig: MppRig) -> None:
    """202 with the status' address and no receipt; the same credential asks again."""
    rig.wire.lost = True
    tempo, _ = rig.challenges(await rig.offer())
    values = rig.pay_tempo(tempo)
    answered = await rig.paid(values)
    assert answered.pending
    headers = dict(answered.headers)
    assert headers["Location"] == f"/v1/topups/{answered.topup.id}"
    assert "Payment-Receipt" not in headers
    rig.wire.lost = False
    assert (await rig.paid(values)).topup.state is TopUpState.SEEN


async def test_a_bad_credential_gets_fresh_challenges_in_mpps_words(rig: MppRig) -> None:
    """Another body, another realm's challenge, a credential that is none: 402 with MPP's problem type, nothing claimed."""
    _, evm = rig.challenges(await rig.offer())
    values = rig.pay_evm(evm)
    other = await rig.topups.serve(rig.wanted("6", account_id=None), None, values)
    nothing = await rig.topups.serve(rig.wanted(account_id=None, paid_in="Authorization"), None, ["Payment e30"])
    assert isinstance(nothing, Offered)
    assert nothing.document["field"] == "Authorization"
    with pytest.raises(Problem) as twice:
        await rig.topups.serve(rig.wanted(account_id=None, paid_in="Authorization"), None, [*values, *values])
    assert twice.value.field == "Authorization"
    for outcome, problem in ((other, "invalid-challenge"), (nothing, "malformed-credential")):
        assert isinstance(outcome, Offered)
        assert outcome.document["type"] == f"https://paymentauth.org/problems/{problem}"
        assert len(rig.challenges(outcome)) == 2
    assert rig.orders() == []


async def test_an_evm_payment_that_would_fail_is_refused_unclaimed(rig: MppRig) -> None:
    """What the chain would not take is refused with fresh challenges, and no row is written."""
    _, evm = rig.challenges(await rig.offer())
    rig.collector.verdict = Rejected(Reason.INSUFFICIENT_BALANCE, "too little", PAYER)
    assert isinstance(await rig.topups.serve(rig.bare(), None, rig.pay_evm(evm)), Offered)
    assert (rig.orders(), rig.collector.asked) == ([], 0)


async def test_callers_with_a_bearer_are_asked_to_pay_beside_it(rig: MppRig) -> None:
    """Whose key is in Authorization gets challenges that are answered in Payment-Authorization."""
    offered = await rig.offer(rig.wanted(bearer=True))
    assert {offer.header for offer in rig.challenges(offered)} == {"Payment-Authorization"}


async def test_an_idempotency_key_holds_across_rails(rig: MppRig) -> None:
    """Paid by Tempo under a key; the same request paid again by x402 is the same top-up, and is not collected."""
    wanted = rig.wanted(claim="k-1")
    offered = await rig.offer(wanted)
    tempo, _ = rig.challenges(offered)
    first = await rig.paid(rig.pay_tempo(tempo), rig.wanted(account_id=None, claim="k-1"))
    outcome = await rig.topups.serve(wanted, rig.pay_v2(await rig.offer(rig.wanted())), [])
    assert isinstance(outcome, Answered)
    assert outcome.topup.id == first.topup.id
    assert rig.collector.asked == 0


async def test_a_transaction_of_who_has_nothing_gets_a_402(rig: MppRig) -> None:
    """Nothing is claimed or sent for it; under a name whose payment took all there was, the repeat has that one's answer."""
    bare = rig.wanted(account_id=None, claim="k-1")
    rig.tempo_chain.move(MODERATO_PATHUSD, PAYER, TILL, FUNDS - 6 * USD)
    rig.tempo_chain.mine()
    first = await rig.paid(rig.pay_tempo(rig.challenges(await rig.offer(bare))[0]), bare)
    rig.clock.ms += 5_000
    again = await rig.paid(rig.pay_tempo(rig.challenges(await rig.offer(bare))[0]), bare)
    assert again.topup.id == first.topup.id
    outcome = await rig.topups.serve(rig.bare(), None, rig.pay_tempo(rig.challenges(await rig.offer())[0]))
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == Reason.INSUFFICIENT_BALANCE
    assert (len(rig.orders()), len(rig.wire.sent)) == (1, 1)


def capped(cap_base: int, *tokens: Token) -> dict[TokenPlace, InventoryCap]:
    """Return a cap on each of these tokens."""
    return {token.key: InventoryCap(token.key, token.asset_id, cap_base) for token in tokens}


@pytest.fixture
async def full(request: pytest.FixtureRequest) -> AsyncIterator[MppRig]:
    """Top-ups on both chains, with the caps that a test names."""
    made = MppRig(caps=request.param)
    await made.open()
    yield made
    await made.taking.close(1)
    await made.close()


@pytest.mark.parametrize("full", [capped(7 * USD, MODERATO_PATHUSD)], indirect=True)
async def test_a_full_token_is_left_out_and_the_other_still_pays(full: MppRig) -> None:
    """A credential for what has become full is not sent; its 402 offers the token that has room, and says why."""
    asked = [full.challenges(await full.offer())[0] for _ in range(2)]
    first, late = (full.pay_tempo(offer) for offer in asked)
    assert (await full.paid(first)).topup.rail == "mpp_tempo"
    outcome = await full.topups.serve(full.bare(), None, late)
    assert isinstance(outcome, Offered)
    assert "nothing was taken" in outcome.document["detail"]
    assert outcome.document["error"] == "inventory_capped"
    (evm,) = full.challenges(outcome)
    assert (evm.method, len(full.wire.sent), len(full.orders())) == ("evm", 1, 1)
    assert isinstance(await full.topups.serve(full.bare(), None, full.pay_evm(evm)), Answered)
    assert (await full.paid(first)).topup.rail == "mpp_tempo"  # what was taken keeps its answer


@pytest.mark.parametrize("full", [capped(7 * USD, BASE_USDC)], indirect=True)
async def test_without_room_on_base_only_tempo_is_offered(full: MppRig) -> None:
    """Neither x402's forms nor MPP's evm: all three would be the same token."""
    first, late = await full.offer(), await full.offer()
    _, evm = full.challenges(late)
    assert isinstance(await full.topups.serve(full.wanted(), full.pay_v2(first), ()), Answered)
    refused = await full.topups.serve(full.bare(), None, full.pay_evm(evm))
    assert isinstance(refused, Offered)
    assert "nothing was taken" in refused.document["detail"]
    for offered in (refused, await full.offer()):
        assert [offer.method for offer in full.challenges(offered)] == ["tempo"]
        assert "accepts" not in offered.document
        assert "PAYMENT-REQUIRED" not in dict(offered.headers)
    assert (full.collector.asked, len(full.orders())) == (1, 1)


@pytest.mark.parametrize("full", [capped(7 * USD, BASE_USDC, MODERATO_PATHUSD)], indirect=True)
async def test_with_both_full_nothing_is_offered(full: MppRig) -> None:
    """The caller is told so, and may ask for less."""
    tempo, _ = full.challenges(await full.offer())
    _, evm = full.challenges(await full.offer())
    await full.paid(full.pay_tempo(tempo))
    await full.paid(full.pay_evm(evm))
    with pytest.raises(Problem, match="inventory_capped"):
        await full.offer()
    assert len(full.challenges(await full.offer(full.wanted("2")))) == 2
