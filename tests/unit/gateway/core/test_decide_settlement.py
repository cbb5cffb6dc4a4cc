"""Settlements: claimed once, moved by whoever knows the newest version and fence, and their fees booked once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.core import chart
from gateway.core.commands import Attached, Done, Refused, SetFreeze
from gateway.core.paid import Relay, RelayState, Settlement, SettlementState
from gateway.core.records import HOUSE
from gateway.store.core import StoreBroken
from tests.factories import ASSET, CHAIN_ID, NOW_MS, make_purchase, make_settled, make_terms, open_core, seeded
from tests.paid_factories import (
    RELAYER,
    TILL,
    Desk,
    book,
    claim,
    digest,
    make_refund,
    make_relay,
    make_settlement,
    move,
    newer,
    paying,
    put,
    refund,
)

SENT, MINED, FINAL, FAILED = (
    SettlementState.SENT,
    SettlementState.MINED,
    SettlementState.FINAL,
    SettlementState.FAILED,
)
GAS = chart.gas_asset(CHAIN_ID)
RELAYER_CODE = chart.relayer("0x" + RELAYER.hex())


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk whose rows are proven after each test."""
    opened = Desk(seeded(open_core()))
    yield opened
    if opened.core._broken is None:
        opened.prove()


def sent(desk: Desk, n: int = 1) -> tuple[Settlement, Relay]:
    """Claim settlement n and send it; return both records as kept."""
    desk.post(claim(n))
    relay, settlement = make_relay(n), newer(make_settlement(n), state=SENT, relay_id=f"rly_{n:04}")
    assert desk.post(move("sent", relay, settlement)) == Done()
    return settlement, relay


# claims (P13)


def test_an_authorization_is_claimed_once(desk: Desk) -> None:
    """The same payload again attaches to the first claim, whatever became of it and whoever asks."""
    assert desk.post(claim(1)) == Done()
    assert desk.view.settlements["stl_0001"] == make_settlement(1)
    assert desk.post(claim(1)) == Attached("stl_0001")
    assert desk.post(claim(1, id="stl_other", account_id="acc_2")) == Attached("stl_0001")
    settlement, relay = make_settlement(1), make_relay(1)
    desk.post(move("final", newer(relay, version=1, state=RelayState.FINAL), newer(settlement, state=FINAL)))
    assert desk.view.settlements == {}
    assert desk.post(claim(1, id="stl_other")) == Attached("stl_0001")


def test_fifty_claims_in_one_group_are_one(desk: Desk) -> None:
    """Whatever is decided before the commit is seen by the next decision of the same group."""
    results, step = desk.core.post([claim(1, id=f"stl_{n:04}") for n in range(1, 51)])
    desk.view.advance(step)
    assert results == [Done(), *[Attached("stl_0001")] * 49]


@pytest.mark.parametrize(
    "change", [{"value_base": 1}, {"signature": b"other"}, {"pay_to": bytes(20)}, {"valid_after_s": 9}]
)
def test_another_payload_with_the_same_identity_is_refused(desk: Desk, change: dict[str, object]) -> None:
    """A nonce is one payload's."""
    desk.post(claim(1))
    assert desk.refused(claim(1, id="stl_other", **change)) == "duplicate_settlement"


OWN = {
    "token": make_terms(1).token,
    "authorizer": make_terms(1).wallet,
    "nonce": make_terms(1).nonce,
    "pay_to": make_terms(1).pay_to,
    "value_base": make_terms(1).value_base,
    "valid_before_s": make_terms(1).valid_before_s,
}
"""What a settlement of purchase 1's payment has in common with it."""


@pytest.mark.parametrize(
    "change", [{"account_id": HOUSE}, {"pay_to": b"\x44" * 20}, {"value_base": 1}, {"valid_before_s": 1}]
)
def test_our_own_payments_are_nobody_elses_to_settle(desk: Desk, change: dict[str, object]) -> None:
    """P13: what a wallet of ours signed for a purchase tops nothing up, and is no seller's on other terms."""
    desk.post(make_purchase(1))
    assert desk.refused(claim(1, **{**OWN, **change})) == "duplicate_settlement"


def test_a_seller_settles_what_an_agent_of_this_gateway_pays_it(desk: Desk) -> None:
    """The payment keeps its authorization, the seller's settlement is claimed once, and the books agree at the end."""
    desk.post(make_purchase(1))
    assert desk.post(claim(1, **OWN)) == Done()
    assert desk.post(claim(1, id="stl_other", **OWN)) == Attached("stl_0001")
    assert desk.refused(claim(1, **{**OWN, "id": "stl_other", "signature": b"other"})) == "duplicate_settlement"
    collected = newer(make_settlement(1, **OWN), state=MINED, tx_hash=digest("theirs"), block_number=7)
    assert desk.post(move("mined", None, collected)) == Done()
    assert isinstance(desk.post(make_settled(1)), Done)


def test_a_top_ups_payment_is_settled_by_the_house_only(desk: Desk) -> None:
    """The house settles what was paid to it; a seller cannot settle it for himself."""
    desk.post(put(paying(1)))
    assert desk.refused(claim(1)) == "duplicate_settlement"
    assert desk.post(claim(1, account_id=HOUSE)) == Done()


def test_a_sellers_settlement_pays_for_no_prescribed_purchase(desk: Desk) -> None:
    """P13 the other way round: a nonce that a seller has claimed is no purchase's any more."""
    terms = make_terms(1)
    desk.post(claim(1, token=terms.token, authorizer=terms.wallet, nonce=terms.nonce))
    purchase = make_purchase(1)
    assert desk.refused(
        type(purchase)(purchase.payment, purchase.attempt, purchase.limits, NOW_MS, prescribed=True)
    ) == ("challenge_repeated")


def test_what_failed_before_it_was_sent_is_claimed_again(desk: Desk) -> None:
    """The next claim has the next version and fence; the old fence moves nothing any more."""
    desk.post(claim(1))
    failed = newer(make_settlement(1), state=FAILED, reason="insufficient_funds")
    desk.post(move("failed", None, failed))
    assert desk.view.settlements == {}
    again = make_settlement(1, version=3, fence=2)
    assert desk.post(claim(1, id="stl_other")) == Attached("stl_0001")
    assert desk.post(claim(1, version=3, fence=1)) == Attached("stl_0001")
    assert desk.post(claim(1, version=3, fence=2)) == Done()
    assert desk.view.settlements["stl_0001"] == again
    assert desk.refused(move("sent", make_relay(1), newer(again, fence=1, state=SENT))) == "changed_meanwhile"
    assert desk.post(claim(1, version=4, fence=3)) == Attached("stl_0001")


def test_whoever_claims_again_answers_for_the_gas(desk: Desk) -> None:
    """A second seller's claim of what failed is his; a seller never claims the house's again, nor the house a seller's."""
    desk.post(claim(1))
    desk.post(move("failed", None, newer(make_settlement(1), state=FAILED)))
    again = {"version": 3, "fence": 2}
    assert desk.refused(claim(1, account_id=HOUSE, **again)) == "duplicate_settlement"
    assert desk.post(claim(1, account_id="acc_2", **again)) == Done()
    assert desk.view.settlements["stl_0001"].account_id == "acc_2"
    desk.post(claim(2, account_id=HOUSE))
    desk.post(move("failed", None, newer(make_settlement(2, account_id=HOUSE), state=FAILED)))
    assert desk.refused(claim(2, **again)) == "duplicate_settlement"


def test_a_move_that_was_decided_before_another_claim_is_out_of_date(desk: Desk) -> None:
    """Whoever had read the settlement before another account claimed it again moves nothing, and stops nothing."""
    desk.post(claim(1))
    lost = newer(make_settlement(1), state=FAILED, reason="insufficient_funds")
    assert desk.post(move("failed", None, lost)) == Done()
    assert desk.post(claim(1, account_id="acc_2", version=3, fence=2)) == Done()
    stale = newer(lost, state=MINED, reason="", tx_hash=digest("block"), block_number=5)
    refused = desk.post(move("mined", None, stale))
    assert isinstance(refused, Refused)
    assert refused.code == "changed_meanwhile"
    assert desk.view.settlements["stl_0001"].account_id == "acc_2"


def test_what_failed_for_good_is_never_claimed_again(desk: Desk) -> None:
    """An end is an end; only a block that collected it all the same is believed."""
    settlement, relay = sent(desk)
    dead = newer(settlement, state=FAILED, reason="reverted", ended_at_ms=NOW_MS)
    desk.post(move("failed", newer(relay, state=RelayState.FINAL, fee_wei=1), dead))
    assert desk.post(claim(1, version=4, fence=2)) == Attached("stl_0001")
    assert desk.refused(move("sent", None, newer(dead, state=SENT, ended_at_ms=None))) == "changed_meanwhile"
    assert desk.post(move("final", None, newer(dead, state=FINAL, reason="", tx_hash=digest("theirs")))) == Done()


@pytest.mark.parametrize("change", [{"version": 2}, {"fence": 2}])
def test_a_claim_that_is_not_the_first_needs_one_before_it(desk: Desk, change: dict[str, int]) -> None:
    """A version that follows nothing is out of date."""
    assert desk.refused(claim(1, **change)) == "changed_meanwhile"


def test_numbers_of_the_chain_fit_and_larger_ones_are_refused(desk: Desk) -> None:
    """A window may be as wide as 256 bits; an amount beyond the ledger's and a number beyond the chain's is no claim."""
    widest = 2**256 - 1
    assert desk.post(claim(1, valid_before_s=widest)) == Done()
    assert desk.view.settlements["stl_0001"].valid_before_s == widest
    assert desk.refused(claim(2, valid_before_s=widest + 1)) == "bad_request"
    assert desk.refused(claim(2, value_base=10**15 + 1)) == "bad_request"
    assert desk.refused(claim(2, signature=bytes(70_000))) == "bad_request"
    assert desk.refused(claim(2, token=b"")) == "bad_request"


# moves


def test_a_settlement_goes_its_way_and_its_fee_is_booked_once(desk: Desk) -> None:
    """Sent, replaced, mined, back by a reorganisation, mined and final: one fee, in gwei, rounded up (P7)."""
    settlement, relay = sent(desk)
    relay = newer(relay, attempts=(*relay.attempts, *make_relay(9).attempts))
    assert desk.post(move("replaced", relay)) == Done()
    assert desk.view.relays["rly_0001"].attempts == relay.attempts
    for event, where in (("mined", MINED), ("reorged", SENT), ("mined", MINED)):
        state = RelayState.MINED if where is MINED else RelayState.SENT
        relay, settlement = newer(relay, state=state, fee_wei=2 * 10**9 + 1), newer(settlement, state=where)
        assert desk.post(move(event, relay, settlement)) == Done()
    assert desk.posted(chart.HOUSE_FEES, GAS) == 0
    relay, settlement = newer(relay, state=RelayState.FINAL), newer(settlement, state=FINAL, tx_hash=digest("relay 1"))
    assert desk.post(move("final", relay, settlement)) == Done()
    assert (desk.posted(chart.HOUSE_FEES, GAS), desk.posted(RELAYER_CODE, GAS)) == (3, -3)
    assert desk.last()["fee_gwei"] == 3
    assert (desk.view.relays, desk.view.settlements) == ({}, {})
    assert desk.refused(move("final", newer(relay), newer(settlement))) == "changed_meanwhile"
    assert desk.posted(chart.HOUSE_FEES, GAS) == 3


@pytest.mark.parametrize(
    "scope", ["account:acc_1", f"asset:{ASSET}", chart.wallet("0x" + TILL.hex()), "all", "database"]
)
def test_a_refund_that_was_claimed_does_not_leave_while_it_is_frozen(desk: Desk, scope: str) -> None:
    """P8: a claim is on nobody's way yet; lifted, it goes, and what has gone is followed whatever is frozen then."""
    back = make_refund(1)
    desk.post(book(1, account_id="acc_1", refundable=True))
    desk.post(refund(1))
    signed = {"authorizer": back.till, "nonce": back.nonce, "pay_to": back.to, "value_base": back.value_base}
    claimed = make_settlement(1, account_id=HOUSE, **signed)
    assert desk.post(claim(1, account_id=HOUSE, **signed)) == Done()
    freeze = SetFreeze(scope, frozen=True, reason="drill", by="operator", at_ms=NOW_MS)
    desk.post(freeze)
    leaving = newer(claimed, state=SENT, relay_id="rly_0001")
    assert desk.refused(move("sent", make_relay(1), leaving)) == "frozen"
    assert (desk.view.settlements["stl_0001"], dict(desk.view.relays)) == (claimed, {})
    desk.post(replace(freeze, frozen=False))
    assert desk.post(move("sent", make_relay(1), leaving)) == Done()
    desk.post(freeze)
    assert desk.post(move("mined", None, newer(leaving, state=MINED))) == Done()


def test_a_freeze_of_everything_stops_no_sellers_settlement_here(desk: Desk) -> None:
    """What a seller is paid leaves no till of ours: its own right to settle is judged when it is claimed."""
    desk.post(claim(1))
    desk.post(SetFreeze("all", frozen=True, reason="drill", by="operator", at_ms=NOW_MS))
    settlement = newer(make_settlement(1), state=SENT, relay_id="rly_0001")
    assert desk.post(move("sent", make_relay(1), settlement)) == Done()


def test_a_failed_transactions_fee_is_the_houses_too(desk: Desk) -> None:
    """Gas that bought nothing is booked all the same, however absurd a node says it is."""
    settlement, relay = sent(desk)
    failed = newer(settlement, state=FAILED, reason="reverted", ended_at_ms=NOW_MS)
    desk.post(move("failed", newer(relay, state=RelayState.FINAL, status=0, fee_wei=10**60), failed))
    assert desk.posted(chart.HOUSE_FEES, GAS) == 10**15


def test_a_batch_moves_whole_or_not_at_all(desk: Desk) -> None:
    """One stale settlement, or a relayer's stale transaction, and nothing of the move is done."""
    for n in (1, 2):
        desk.post(claim(n))
    relay = make_relay(1, "stl_0001", "stl_0002", purpose="batch")
    both = [newer(make_settlement(n), state=SENT, relay_id="rly_0001") for n in (1, 2)]
    stale = newer(both[1])
    assert desk.refused(move("sent", relay, both[0], stale)) == "changed_meanwhile"
    assert desk.refused(move("sent", newer(relay), *both)) == "changed_meanwhile"
    assert desk.refused(move("sent", None, newer(make_settlement(7)))) == "changed_meanwhile"
    assert desk.post(move("sent", relay, *both)) == Done()
    assert desk.last()["records"] == {"rly_0001": [1, "sent"], "stl_0001": [2, "sent"], "stl_0002": [2, "sent"]}


def test_an_account_nonce_is_one_transactions(desk: Desk) -> None:
    """Two workers cannot both use a relayer's nonce, in one group or after a restart."""
    _, relay = sent(desk)
    desk.post(claim(2))
    carried = newer(make_settlement(2), state=SENT, relay_id="rly_0002")
    assert desk.refused(move("sent", make_relay(2, account_nonce=1), carried)) == "changed_meanwhile"
    desk.post(move("lost", newer(relay, state=RelayState.LOST)))
    assert desk.refused(move("sent", make_relay(2, account_nonce=1), carried)) == "changed_meanwhile"
    assert desk.refused(move("sent", newer(relay, version=3, state=RelayState.SENT))) == "changed_meanwhile"
    other = make_relay(2, account_nonce=1, relayer=b"\x34" * 20)
    assert desk.post(move("sent", other, carried)) == Done()
    results, step = desk.core.post([move("sent", make_relay(n, purpose="gap", account_nonce=9)) for n in (3, 4)])
    desk.view.advance(step)
    assert [type(result).__name__ for result in results] == ["Done", "Refused"]


def test_nothing_to_move_is_no_change(desk: Desk) -> None:
    """An empty move leaves no row."""
    assert desk.post(move("sent", None)) == Done(changed=False)


@pytest.mark.parametrize(
    "command",
    [
        move("vanished", None, newer(make_settlement(1), state=SENT)),
        move("sent", None, newer(make_settlement(1), state=SENT, value_base=1)),
        move("sent", None, newer(make_settlement(1), state=SENT, account_id="acc_2")),
        move("sent", None, newer(make_settlement(1), state=SENT, ended_at_ms=NOW_MS)),
        move("sent", make_relay(1, ended_at_ms=NOW_MS)),
        move("sent", None, *[newer(make_settlement(1), state=SENT)] * 2),
        claim(2, state=SENT),
    ],
)
def test_what_never_changes_does_not(desk: Desk, command: object) -> None:
    """A caller that contradicts the record is a bug, and stops the store."""
    desk.post(claim(1))
    with pytest.raises(StoreBroken):
        desk.post(command)  # type: ignore[arg-type]
