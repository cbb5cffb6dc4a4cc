"""Paying by MPP: what is signed and held, what is refused before that, and what an answer to a credential says."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import rlp
from mpp_shop import CHAIN, EXPIRES_S, asks, credential, evm_line, header, line, mpp_shop, proof_line, sells

from contracts.attribution import attribution_matches
from contracts.calls import encode_transfer, encode_transfer_with_memo
from contracts.codec import checksum
from contracts.eip3009 import mpp_evm_nonce
from contracts.keccak import keccak256
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.core.payment import Charge, Delivery, Fault, Transfer
from gateway.core.records import AuthorizationTerms, Payment, TransferKind
from gateway.flow.pack import unpack
from gateway.flow.promise import RAW_TRANSACTION, seal_context
from gateway.http.port import SentUnknown
from gateway.ports import Block
from tests.unit.gateway.flow.spend_bed import (
    NOW_MS,
    PAYEE,
    PRICE_BASE,
    REALM,
    SPLIT,
    WALLET,
    Bed,
    always,
    challenge,
    opened,
    respond,
)

LOST = SentUnknown("connection_lost", "scripted")
USUAL_FEE = 40_000


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded account, and a shop that sells by MPP."""
    async with opened(tmp_path) as running:
        sells(running)
        yield running


def promised(payment: Payment) -> AuthorizationTerms:
    """Return what a payment promised."""
    assert payment.authorization is not None
    return payment.authorization


def transaction(bed: Bed) -> list[Any]:
    """Return the fields of the transaction in the newest credential."""
    raw = bytes.fromhex(credential(bed.line.presented[-1])["payload"]["signature"][2:])
    fields: list[Any] = rlp.decode(raw[1:])
    return fields


# what is signed


async def test_a_charge_is_signed_for_this_challenge_and_this_purchase(bed: Bed) -> None:
    """The memo names realm, challenge and payment; the hash is known; the wallet's fee is reserved with the price."""
    reply = await bed.run("/priced/x")
    assert (reply.status, reply.charge_base) == (200, PRICE_BASE)
    (payment,) = bed.open
    terms = promised(payment)
    assert (terms.kind, terms.chain_id, terms.pay_to) == (TransferKind.TEMPO, CHAIN, PAYEE)
    assert attribution_matches(terms.nonce, REALM, "challenge-1")
    assert terms.nonce[15:25] == keccak256(payment.id.encode())[:10]
    assert (terms.value_base, terms.fee_base, terms.reserve_base) == (PRICE_BASE, USUAL_FEE, PRICE_BASE + USUAL_FEE)
    shown = credential(bed.line.presented[0])
    assert shown["source"] == f"did:pkh:eip155:{CHAIN}:{checksum(WALLET)}"
    raw = bytes.fromhex(shown["payload"]["signature"][2:])
    assert (raw[0], keccak256(raw)) == (0x76, terms.tx_hash)
    assert terms.valid_before_s == NOW_MS // 1000 + 25 == int.from_bytes(transaction(bed)[8], "big")
    assert bed.watermark.read().max_valid_before == terms.valid_before_s


async def test_the_wallet_must_cover_the_fee_too(bed: Bed) -> None:
    """P7: what the network may take is reserved, so a wallet with the price alone does not promise it."""
    name = MODERATO_PATHUSD.asset_id
    before = bed.store.view.wallets["0x" + WALLET.hex(), name]
    await bed.run("/priced/x")
    after = bed.store.view.wallets["0x" + WALLET.hex(), name]
    assert before.available_base - after.available_base == PRICE_BASE + USUAL_FEE


@pytest.mark.parametrize(("lives_s", "expected_s"), [(300, 25), (12, 12)])
async def test_it_never_outlives_its_challenge(bed: Bed, lives_s: int, expected_s: int) -> None:
    """Nor the 25 seconds that the chain takes an expiring transaction for; a quote says the same."""
    bed.clock.ms = (EXPIRES_S - lives_s) * 1000
    assert json.loads((await bed.run("/priced/x", quote_only=True)).body)["collectable_for_s"] == expected_s
    await bed.run("/priced/x")
    assert promised(bed.open[0]).valid_before_s == EXPIRES_S - lives_s + expected_s


async def test_a_chain_that_is_ahead_sets_the_time(bed: Bed) -> None:
    """Its window is judged by block time, so it starts at the later of the two."""
    head_s = NOW_MS // 1000 + 4
    bed.heads.saw(CHAIN, Block(111, b"\x05" * 32, head_s), Block(101, b"\x06" * 32, head_s))
    await bed.run("/priced/x")
    assert promised(bed.open[0]).valid_before_s == head_s + 25


async def test_splits_are_paid_out_of_the_amount(bed: Bed) -> None:
    """The payee gets the rest, with the memo; each split its part, with its own memo if it has one."""
    memo = "0x" + "ab" * 32
    splits = [
        {"recipient": checksum(SPLIT), "amount": "1000", "memo": memo},
        {"recipient": checksum(PAYEE), "amount": "7"},
    ]
    sells(bed, line(details={"splits": splits}))
    reply = await bed.run("/priced/x")
    terms = promised(bed.open[0])
    assert (reply.charge_base, terms.value_base) == (PRICE_BASE, PRICE_BASE)
    assert terms.splits == ((SPLIT, 1000), (PAYEE, 7))
    assert terms.fee_base == USUAL_FEE * 16 // 10  # 1.6 million gas instead of 1
    assert [bytes(call[2]) for call in transaction(bed)[4]] == [
        encode_transfer_with_memo(PAYEE, PRICE_BASE - 1007, terms.nonce),
        encode_transfer_with_memo(SPLIT, 1000, bytes.fromhex(memo[2:])),
        encode_transfer(PAYEE, 7),
    ]


async def test_a_sponsored_charge_costs_the_wallet_no_fee(bed: Bed) -> None:
    """It waits for the sponsor's signature, so its hash is not known, and it asks for no more than sponsors pay."""
    splits = [{"recipient": checksum(SPLIT), "amount": "1"}] * 10
    sells(bed, line(details={"feePayer": True, "splits": splits}))
    await bed.run("/priced/x")
    terms = promised(bed.open[0])
    assert (terms.fee_base, terms.tx_hash) == (0, None)
    assert credential(bed.line.presented[0])["payload"]["signature"].startswith("0x78")
    _, priority, price, gas, *_ = (int.from_bytes(field, "big") for field in transaction(bed)[:4])
    assert (gas, price, priority) == (2_000_000, 25 * 10**9, 10**9)


async def test_an_evm_charge_is_signed_with_the_prescribed_nonce(bed: Bed) -> None:
    """It ends with its challenge, and never later than the route's window."""
    sells(bed, evm_line())
    bed.clock.ms = (EXPIRES_S - 100) * 1000
    await bed.run("/priced/x")
    terms = promised(bed.open[0])
    assert (terms.kind, terms.nonce) == (TransferKind.EIP3009, mpp_evm_nonce("challenge-1", REALM))
    assert (terms.asset, terms.fee_base, terms.valid_before_s) == (BASE_USDC.asset_id, 0, EXPIRES_S)
    payload = credential(bed.line.presented[0])["payload"]
    assert (payload["type"], payload["nonce"]) == ("authorization", "0x" + terms.nonce.hex())
    sells(bed, evm_line("challenge-2"))
    bed.clock.ms = NOW_MS
    await bed.run("/priced/y")
    assert promised(bed.open[1]).valid_before_s == NOW_MS // 1000 + 120


async def test_the_credential_goes_where_the_seller_wants_it(bed: Bed) -> None:
    """A vendor behind a Bearer token has a header of its own for it."""
    sells(bed, line(params={"header": "Payment-Authorization"}))
    await bed.run("/priced/x")
    (sent,) = bed.line.presented
    assert header(sent, "Authorization") is None
    assert (header(sent, "Payment-Authorization") or "").startswith("Payment ")


async def test_the_challenge_goes_back_as_it_came(bed: Bed) -> None:
    """The seller's seal is over its own texts, the body's digest among them; and the body is the one that was asked with."""
    sells(bed, line(params={"digest": "sha-256=:abc=:", "opaque": "e30"}))
    await bed.run("/priced/x", "POST", b'{"a": 1}')
    echo = credential(bed.line.presented[0])["challenge"]
    assert (echo["id"], echo["digest"], echo["opaque"]) == ("challenge-1", "sha-256=:abc=:", "e30")
    assert [request.body for request in bed.line.seen] == [b'{"a": 1}'] * 2


async def test_both_requests_of_a_purchase_have_one_key_of_ours(bed: Bed) -> None:
    """A vendor that acts on the unpaid one knows the paid one again; another purchase has another, a reading none."""
    await bed.run("/priced/x", idempotency_key="the agent's own")
    sells(bed, line("another-1"))
    await bed.run("/priced/y")
    keys = [header(request, "Idempotency-Key") for request in bed.line.seen]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert [uuid.UUID(key or "").version for key in keys] == [5] * 4
    bed.line.seen.clear()
    sells(bed, line("a-third"))
    await bed.run("/priced/z", "GET")
    assert [header(request, "Idempotency-Key") for request in bed.line.seen] == [None, None]
    bed.vendors["shop"] = mpp_shop(rails=("x402",))
    bed.line.first = always(respond(402, json.dumps(challenge()).encode()))
    await bed.run("/priced/x402")
    assert header(bed.line.seen[-1], "Idempotency-Key") is None


async def test_of_two_rails_the_preferred_one_pays_at_the_same_price(bed: Bed) -> None:
    """And the cheaper one, where they differ."""
    body = json.dumps(challenge()).encode()
    bed.line.first = always(asks(line(), body=body))
    await bed.run("/priced/x")
    bed.vendors["shop"] = mpp_shop(rails=("x402", "mpp"))
    await bed.run("/priced/y")
    bed.line.first = always(asks(line("challenge-2", amount="249999"), body=body))
    await bed.run("/priced/z")
    assert [promised(payment).chain_id for payment in bed.open] == [CHAIN, BASE_USDC.chain_id, CHAIN]


async def test_what_is_sealed_is_what_was_sent(bed: Bed) -> None:
    """P4: the credential is in the sealed attempt, byte for byte."""
    await bed.run("/priced/x", "POST", b"{}")
    attempt = await bed.store.attempt(bed.open[0].id)
    assert attempt is not None
    method, target, headers, body = unpack(
        bed.sealer.open(attempt.sealed_request, seal_context("attempt", bed.open[0].id))
    )
    assert (method, target, headers, body) == ("POST", "/priced/x", bed.line.presented[0].headers, b"{}")
    assert RAW_TRANSACTION not in dict(headers)


# what is refused before anything is signed


@pytest.mark.parametrize(
    ("challenge_line", "code"),
    [
        (line(params={"realm": "elsewhere.test"}), "realm_not_allowed"),
        (line(details={"chainId": 4217}), "network_not_allowed"),
        (line(currency="0x20c0000000000000000000000000000000000001"), "asset_not_allowed"),
        (line(recipient=checksum(WALLET)), "payee_is_ours"),
        (line(params={"expires": "2027-01-15T08:00:04Z"}), "challenge_expired"),
        (line(params={"expires": "2026-01-15T08:00:04Z"}), "challenge_expired"),
        (line(amount="1000001"), "price_above_ceiling"),
        (line(amount="00"), "amount_malformed"),
        (line(amount="0x10"), "amount_malformed"),
        (line(params={"intent": "session"}), "unsupported_payment_intent"),
        (line(params={"intent": "subscription"}), "unsupported_payment_intent"),
        (line(params={"method": "lightning"}), "unsupported_payment_method"),
        (line(details={"supportedModes": ["push"]}), "push_not_allowed"),
        (line(details={"memo": "0x12"}), "offer_malformed"),
        (line(params={"expires": "soon"}), "timeout_malformed"),
        (proof_line(), "no_offer"),
        ('Payment id="x', "challenge_malformed"),
        ('Bearer realm="shop"', "foreign_402"),
    ],
)
async def test_no_other_challenge_is_paid(bed: Bed, challenge_line: str, code: str) -> None:
    """P8: refused by name, with nothing held and nothing signed."""
    sells(bed, challenge_line)
    problem = await bed.refused("/priced/x")
    assert problem.code == code
    assert (bed.open, bed.line.presented, await bed.tasks()) == ([], [], [])
    assert bed.store.view.balances["acc_1"].held_base == 0


@pytest.mark.parametrize("split", [True, False])
async def test_a_payee_seen_for_the_first_time_is_a_task(bed: Bed, split: bool) -> None:  # noqa: FBT001 - a case
    """P8: the recipient's as well as every split's."""
    stranger = "0x" + "55" * 20
    asked = line(details={"splits": [{"recipient": stranger, "amount": "1"}]}) if split else line(recipient=stranger)
    sells(bed, asked)
    assert (await bed.refused("/priced/x")).code == "payee_not_allowed"
    assert await bed.tasks() == [("payee_unknown", f"shop/{CHAIN}/{checksum(bytes.fromhex('55' * 20))}")]
    assert bed.line.presented == []


async def test_the_guard_has_the_last_word(bed: Bed) -> None:
    """A fee above the wallet's policy is not signed, whatever a configuration of fees says."""
    sells(bed, line(details={"splits": [{"recipient": checksum(SPLIT), "amount": "1"}] * 10}))
    assert (await bed.refused("/priced/x")).code == "signing_refused"
    assert bed.open == []


async def test_a_chain_that_was_never_read_pays_nothing(bed: Bed) -> None:
    """Without a head there is no time to measure a window from."""
    bed.heads._heads.clear()
    assert (await bed.refused("/priced/x")).code == "not_ready"
    assert bed.line.presented == []


async def test_a_token_of_another_standard_pays_nothing(bed: Bed) -> None:
    """A Tempo charge in an EIP-3009 token could be promised and never be followed."""
    sells(bed, line(details={"chainId": BASE_USDC.chain_id}, currency=checksum(BASE_USDC.address)))
    assert (await bed.refused("/priced/x")).code == "unsupported_transfer"
    assert bed.open == []


async def test_a_free_route_that_asks_for_money_is_refused(bed: Bed) -> None:
    """Also where it is one that may ask who we are."""
    for number, path in enumerate(("/free/x", "/mine")):
        sells(bed, line(f"challenge-{number}"))
        assert (await bed.refused(path, "GET")).code == "unexpected_challenge"
    assert {kind for kind, _ in await bed.tasks()} == {"unexpected_challenge"}
    assert bed.line.presented == []


@pytest.mark.parametrize(("value", "wait_s"), [("30", 30), ("Fri, 15 Jan 2027 08:00:09 GMT", 9), ("999999", 3600)])
async def test_a_vendor_that_asks_to_wait_is_not_paid_at_once(bed: Bed, value: str, wait_s: int) -> None:
    """The agent is told how long; asked for a price, it still gets it."""
    bed.line.first = always(asks(line(), Retry_After=value))
    problem = await bed.refused("/priced/x")
    assert (problem.code, problem.status, problem.extra) == ("payment_deferred", 503, {"retry_after_s": wait_s})
    assert (bed.open, bed.line.presented) == ([], [])
    assert (await bed.run("/priced/x", quote_only=True)).status == 200
    bed.line.first = always(asks(line(), Retry_After="0"))
    assert (await bed.run("/priced/x")).status == 200


async def test_a_challenge_that_names_no_chain_is_not_paid(bed: Bed) -> None:
    """The drafts disagree on a default, so none is guessed."""
    sells(bed, line(details={"chainId": None}))
    assert (await bed.refused("/priced/x")).code == "unknown_network"


# what a seller prescribes


async def test_p13_a_challenge_that_prescribes_its_name_on_chain_is_answered_once(bed: Bed) -> None:
    """P13: the same nonce, or the same memo, again is refused and breaks nothing; another is paid."""
    memo = "0x" + "cd" * 32
    for kind, first, second in (
        ("evm", evm_line("e-1"), evm_line("e-2")),
        ("memo", line("m-1", details={"memo": memo}), line("m-2", details={"memo": "0x" + "ce" * 32})),
    ):
        sells(bed, first)
        assert (await bed.run(f"/priced/{kind}/1")).status == 200
        assert (await bed.refused(f"/priced/{kind}/2")).code == "challenge_repeated"
        sells(bed, second)
        assert (await bed.run(f"/priced/{kind}/2")).status == 200
    assert promised(bed.open[2]).nonce.hex() == memo[2:]
    assert len(bed.open) == 4


async def test_p13_also_while_the_first_is_on_its_way(bed: Bed) -> None:
    """Ten at once with one challenge are one purchase and nine refusals."""
    sells(bed, evm_line("one"))
    outcomes = await asyncio.gather(*(bed.run(f"/priced/{n}") for n in range(10)), return_exceptions=True)
    refused = [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) == 9
    assert all(text.startswith("challenge_repeated") for text in refused)
    assert len(bed.open) == 1


async def test_p13_a_challenge_is_answered_once(bed: Bed) -> None:
    """P13: also a plain one, for a wallet must not promise twice what a seller asked for once; nothing is held."""
    sells(bed, line("m-1"))
    assert (await bed.run("/priced/x")).status == 200
    assert (await bed.refused("/priced/y")).code == "challenge_repeated"
    assert len(bed.open) == 1


async def test_two_purchases_have_two_memos(bed: Bed) -> None:
    """Each purchase has its own name on chain."""
    await bed.run("/priced/x")
    sells(bed, line("another-1"))
    await bed.run("/priced/y")
    first, second = (promised(payment) for payment in bed.open)
    assert first.nonce != second.nonce


# what an answer says


async def test_p5_asked_again_after_paying_is_unknown(bed: Bed) -> None:
    """P5: sellers ask again also when they were paid, so nothing is refused, nothing paid again, and the hold stays."""
    bed.line.answering = always(asks(line("challenge-2")))
    problem = await bed.refused("/priced/x")
    assert problem.code == "outcome_unknown"
    (payment,) = bed.open
    assert (payment.axes.delivery, payment.fault, payment.vendor_status) == (Delivery.UNKNOWN, Fault.NONE, 402)
    assert (await bed.refused("/priced/x")).code == "outcome_unknown"
    assert len(bed.line.presented) == 1
    assert bed.store.view.balances["acc_1"].held_base == PRICE_BASE


async def test_asked_again_and_collected_waits_for_the_delivery(bed: Bed) -> None:
    """The chain says paid, the vendor says not: the agent keeps its claim until the deadline, then the rule decides."""
    bed.line.answering = always(asks(line("challenge-2")))
    await bed.refused("/priced/x")
    await bed.settle(bed.open[0])
    (payment,) = bed.open
    assert (payment.axes.transfer, payment.axes.charge, payment.disputed) == (Transfer.SETTLED, Charge.HELD, False)


async def test_asked_again_and_proven_dead_gives_the_hold_back_and_may_buy_anew(bed: Bed) -> None:
    """P4: a second credential exists only once the first can never land."""
    bed.line.answering = always(asks(line("challenge-2")))
    await bed.refused("/priced/x")
    await bed.bury(bed.open[0])
    assert bed.store.view.balances["acc_1"].held_base == 0
    bed.line.answering = always(respond())
    sells(bed, line("challenge-3"))
    assert (await bed.run("/priced/x")).status == 200
    assert len(bed.line.presented) == 2


@pytest.mark.parametrize("outcome", [LOST, respond(500), respond(502), asks(status=500)])
async def test_p5_no_answer_and_a_failure_are_unknown(bed: Bed, outcome: Any) -> None:
    """A 500 with a fresh challenge is what mppx says when it was paid and lost sight of it."""
    bed.line.answering = always(outcome)
    assert (await bed.refused("/once/x")).code == "outcome_unknown"
    await bed.sweep()
    (payment,) = bed.open
    assert (payment.axes.delivery, len(bed.line.presented)) == (Delivery.UNKNOWN, 1)


async def test_a_lost_answer_that_was_collected_is_never_paid_twice(bed: Bed) -> None:
    """P4: settled by evidence; the same request attaches to it, and nothing more is signed."""
    bed.line.answering = always(LOST)
    await bed.refused("/once/x")
    await bed.settle(bed.open[0])
    await bed.sweep()
    assert (await bed.refused("/once/x")).code == "outcome_unknown"
    assert len(bed.line.presented) == 1


async def test_a_refused_input_is_passed_on(bed: Bed) -> None:
    """The seller looked at it and said why: that is the agent's own, as on the other rail."""
    bed.line.answering = always(respond(422, b"no such size"))
    reply = await bed.run("/priced/x")
    assert (reply.status, reply.body) == (422, b"no such size")
    assert bed.open[0].fault is Fault.AGENT


async def test_x402_sellers_that_ask_again_refuse(bed: Bed) -> None:
    """Their 402 is a verdict of the facilitator, as before."""
    bed.vendors["shop"] = mpp_shop()
    bed.line.first = always(respond(402, json.dumps(challenge()).encode()))
    bed.line.answering = always(respond(402))
    assert (await bed.refused("/priced/x")).code == "vendor_refused_payment"


async def test_the_receipt_is_noted(bed: Bed) -> None:
    """Where to look first on chain: a hint in the journal, never evidence."""
    document = json.dumps({"status": "success", "method": "tempo", "reference": "0x" + "cd" * 32}).encode()
    receipt = base64.urlsafe_b64encode(document).decode().rstrip("=")
    bed.line.answering = always(asks(status=200, Payment_Receipt=receipt))
    await bed.run("/priced/x")
    rows = await bed.store.query("SELECT * FROM journal WHERE payment_id = :id", {"id": bed.open[0].id})
    assert any("cd" * 32 in str(tuple(row.values())) for row in rows)
