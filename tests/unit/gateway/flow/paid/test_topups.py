"""Buying credit by x402: one order, one payment, one credit, and the same answer however often it is asked for."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from till_rig import OTHER_KEY, PAYER, PAYER_KEY, TILL, USD
from topup_rig import Collector, TopUpRig, encoded, hangs, receipt_of, required_of, settled

from contracts.codec import checksum
from contracts.eip3009 import Authorization
from gateway.core.paid import TopUpState
from gateway.core.problems import Problem
from gateway.flow.paid.offers import Offered, TopUpRules, Wanted
from gateway.flow.paid.topups import Answered
from gateway.paid_ports import Rejected, Settled
from gateway.rails.x402.reasons import Reason

IDENTIFIER = "payment-identifier"


@pytest.fixture
async def rig() -> AsyncIterator[TopUpRig]:
    """Top-ups with a facilitator of our own, on a chain whose first blocks are read."""
    made = TopUpRig()
    await made.open()
    yield made
    await made.taking.close(1)
    await made.close()


def named(rig: TopUpRig, offered: Offered, identifier: str, n: int) -> str:
    """Return a payment with a payment-identifier."""
    extensions = required_of(offered)["extensions"]
    extensions[IDENTIFIER]["info"]["id"] = identifier
    return rig.pay_v2(offered, n, extensions=extensions)


async def code_of(rig: TopUpRig, wanted: Wanted, header: str) -> str:
    """Return the problem with which a payment is refused."""
    with pytest.raises(Problem) as raised:
        await rig.topups.serve(wanted, header, ())
    return raised.value.code


async def test_an_unpaid_402_leaves_nothing_behind(rig: TopUpRig) -> None:
    """Asking for offers a hundred times writes no row: an order begins when a payment is claimed."""
    before = rig.rows("SELECT COUNT(*) AS n FROM journal")
    ids = {(await rig.offer()).document["order"] for _ in range(100)}
    assert len(ids) == 100
    assert rig.orders() == []
    assert rig.rows("SELECT COUNT(*) AS n FROM journal") == before


async def test_a_version_2_payment_is_answered_at_inclusion_and_credited_at_finality(rig: TopUpRig) -> None:
    """200 with the receipt comes at inclusion; the balance rises when a final block has it, by what was ordered."""
    answered = await rig.buy()
    assert (answered.topup.state, answered.pending) == (TopUpState.SEEN, False)
    assert rig.available() == 0
    receipt = receipt_of(answered)
    assert receipt["success"] is True
    assert receipt["network"] == "eip155:8453"
    assert receipt["payer"] == checksum(PAYER)
    assert receipt["amount"] == "5000000"
    assert answered.topup.tx_hash == bytes.fromhex(receipt["transaction"][2:])
    await rig.poll()
    assert rig.available() == 5 * USD
    now = await rig.topup(answered.topup)
    assert (now.state, now.credited_base) == (TopUpState.CREDITED, 5 * USD)
    await rig.sound()


async def test_a_version_1_payment_makes_its_order_on_the_spot(rig: TopUpRig) -> None:
    """Version 1 echoes no order: the key and the route that it came with decide whose it is and what it costs."""
    wanted = rig.wanted()
    answered = await rig.topups.serve(wanted, rig.pay_v1(await rig.offer(wanted)), ())
    assert isinstance(answered, Answered)
    assert (answered.topup.account_id, answered.topup.amount_base) == ("acc_1", 5 * USD)
    name = next(name for name, _ in answered.headers if "RESPONSE" in name)
    assert name == "X-PAYMENT-RESPONSE"
    assert receipt_of(answered)["network"] == "base"
    await rig.poll()
    assert rig.available() == 5 * USD


async def test_the_order_of_a_version_2_payment_is_the_one_it_was_offered(rig: TopUpRig) -> None:
    """The account is in the order's mark: the paying retry needs no key."""
    offered = await rig.offer()
    answered = await rig.topups.serve(rig.wanted(account_id=None), rig.pay_v2(offered), ())
    assert isinstance(answered, Answered)
    assert answered.topup.id == offered.document["order"]
    assert answered.topup.account_id == "acc_1"


async def test_a_bare_wallet_opens_its_account_with_its_first_payment(rig: TopUpRig) -> None:
    """Without a key the order is nobody's until it is credited: then the payer's wallet has an account."""
    answered = await rig.buy(wanted=rig.wanted(account_id=None))
    assert answered.topup.account_id is None
    await rig.poll()
    account_id = rig.view.wallet_accounts[PAYER]
    assert rig.available(account_id) == 5 * USD


async def test_without_wallet_accounts_a_key_is_needed(rig: TopUpRig) -> None:
    """Where the operator wants no bare wallets, neither the question nor a payment is taken without a key."""
    offered = await rig.offer()
    rig.rules = TopUpRules(1, 10 * USD, wallet_accounts=False)
    rig.restart()
    nobody = rig.wanted(account_id=None)
    with pytest.raises(Problem, match="key_missing"):
        await rig.topups.serve(nobody, None, ())
    assert await code_of(rig, nobody, rig.pay_v1(offered)) == "key_missing"
    assert rig.orders() == []


async def test_an_order_for_another_account_is_not_paid_with_this_key(rig: TopUpRig) -> None:
    """A payment whose order names one account and whose key is another's is refused before it is claimed."""
    offered = await rig.offer()
    assert await code_of(rig, rig.wanted(account_id="acc_2"), rig.pay_v2(offered)) == "bad_request"
    assert rig.orders() == []


async def test_a_changed_order_is_not_ours(rig: TopUpRig) -> None:
    """An order whose mark does not fit its account stands for nothing: its price is the route's, its account the key's."""
    offered = await rig.offer()
    required = required_of(offered)
    required["accepts"][0]["extra"]["order"] = required["accepts"][0]["extra"]["order"].replace("acc_1", "acc_2")
    header = rig.pay_v2(offered, accepted=required["accepts"][0])
    outcome = await rig.topups.serve(rig.wanted(account_id=None), header, ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == Reason.INVALID_REQUIREMENTS
    assert rig.orders() == []


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("amount", "4999999"),
        ("payTo", checksum(PAYER)),
        ("asset", checksum(TILL)),
        ("network", "eip155:1"),
        ("maxTimeoutSeconds", 301),
        ("maxTimeoutSeconds", "300"),
        ("scheme", "upto"),
        ("extra", {"name": "USDC", "version": "2"}),
        ("extra", None),
    ],
)
async def test_what_is_accepted_must_be_what_was_asked(rig: TopUpRig, member: str, value: object) -> None:
    """A version 2 payment for other terms than ours is refused with a fresh challenge, and never claimed."""
    offered = await rig.offer()
    accepted = {**required_of(offered)["accepts"][0], member: value}
    outcome = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered, accepted=accepted), ())
    assert isinstance(outcome, Offered)
    assert outcome.document["order"] != offered.document["order"]
    assert (rig.orders(), rig.collector.asked, rig.collector.verified) == ([], 0, 0)


async def test_an_extension_may_be_left_out_and_must_not_be_changed(rig: TopUpRig) -> None:
    """A client may drop extensions, and add to them; what it echoes of ours must be ours."""
    offered = await rig.offer()
    changed = {IDENTIFIER: {"info": {"required": True}}}
    outcome = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered, 1, extensions=changed), ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == "extension_echo_mismatch"
    foreign = {"bazaar": {"info": {"anything": 1}}}
    for n, extensions in ((2, None), (3, {}), (4, foreign)):
        answered = await rig.topups.serve(rig.wanted(), rig.pay_v2(await rig.offer(), n, extensions=extensions), ())
        assert isinstance(answered, Answered)


@pytest.mark.parametrize("header", ["", "!!!", encoded({"x402Version": 3}), encoded({"x402Version": True}), "e30="])
async def test_a_payment_that_cannot_be_read_is_a_bad_request(rig: TopUpRig, header: str) -> None:
    """Nothing is done with what is no payment, and nobody is asked to pay for it."""
    assert await code_of(rig, rig.wanted(), header) == "bad_request"


async def test_an_expired_order_gets_a_new_one(rig: TopUpRig) -> None:
    """A payment for an order whose time is over is not taken; the answer offers a new one."""
    offered = await rig.offer()
    rig.clock.ms += 301_000
    outcome = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered), ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == "order_expired"
    assert rig.orders() == []


async def test_a_payment_that_would_fail_is_refused_unclaimed(rig: TopUpRig) -> None:
    """What verification refuses gets a fresh 402 with the reason, no row, and is not collected."""
    offered = await rig.offer()
    rig.collector.verdict = Rejected(Reason.INSUFFICIENT_BALANCE, "too little", PAYER)
    outcome = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered), ())
    assert isinstance(outcome, Offered)
    assert outcome.document["error"] == Reason.INSUFFICIENT_BALANCE
    assert "too little" in outcome.document["detail"]
    assert (rig.orders(), rig.collector.asked) == ([], 0)


async def test_no_402_where_our_own_chain_is_silent(rig: TopUpRig) -> None:
    """Where nobody knows whether a payment is good, nothing is taken and the same payment may come again."""
    offered = await rig.offer()
    header = rig.pay_v2(offered)
    rig.collector.unknown = True
    assert await code_of(rig, rig.wanted(), header) == "facilitator_unavailable"
    rig.collector.unknown = False
    assert isinstance(await rig.topups.serve(rig.wanted(), header, ()), Answered)


async def test_fifty_equal_payments_at_once_are_one(rig: TopUpRig) -> None:
    """One transfer, fifty equal answers, one credit."""

    async def slowly(collector: Collector, auth: Authorization, _asked: int) -> Settled:
        await asyncio.sleep(0.02)
        return settled(auth, collector.collect(auth))

    rig.collector.behaviour = slowly
    header = rig.pay_v2(await rig.offer())
    outcomes = await asyncio.gather(*(rig.topups.serve(rig.wanted(), header, ()) for _ in range(50)))
    answers = {(o.topup.id, o.topup.state, o.topup.tx_hash, o.headers) for o in outcomes if isinstance(o, Answered)}
    assert len(outcomes) == 50
    assert len(answers) == 1
    assert (rig.collector.asked, len(rig.collector.collected)) == (1, 1)
    await rig.poll()
    assert rig.available() == 5 * USD


async def test_the_same_payment_again_gets_the_same_answer_for_ever(rig: TopUpRig) -> None:
    """After the credit, the order's end, another price and a restart: still 200 and the receipt, nothing collected again."""
    header = rig.pay_v2(await rig.offer())
    first = await rig.topups.serve(rig.wanted(), header, ())
    await rig.poll()
    rig.clock.ms += 86_400_000
    rig.rules = TopUpRules(100 * USD, 1_000 * USD)
    rig.restart()
    again = await rig.topups.serve(rig.wanted(account_id=None), header, ())
    assert isinstance(first, Answered)
    assert isinstance(again, Answered)
    assert again.topup.state is TopUpState.CREDITED
    assert receipt_of(again) == receipt_of(first)
    assert rig.collector.asked == 1
    assert rig.available() == 5 * USD


async def test_another_signature_under_a_used_nonce_is_reused(rig: TopUpRig) -> None:
    """Whoever copies the nonce of a payment gets neither its answer nor another collection."""
    offered = await rig.offer()
    header = rig.pay_v2(offered)
    await rig.topups.serve(rig.wanted(), header, ())
    document = json.loads(b64decode(header))
    document["payload"]["signature"] = "0x" + "11" * 65
    assert await code_of(rig, rig.wanted(), encoded(document)) == "payment_reused"


async def test_a_second_payment_for_an_order_is_refused_before_it_settles(rig: TopUpRig) -> None:
    """An order is paid once: another authorization for it is not shown to anybody; if it lands all the same, it is credited."""
    offered = await rig.offer()
    await rig.topups.serve(rig.wanted(), rig.pay_v2(offered, 1), ())
    assert await code_of(rig, rig.wanted(), rig.pay_v2(offered, 2)) == "topup_taken"
    assert rig.collector.asked == 1


async def test_an_idempotency_key_answers_whoever_lost_the_answer(rig: TopUpRig) -> None:
    """The same key with a fresh payment, or none, gets the first one's answer; the fresh payment is not touched."""
    wanted = rig.wanted(claim="k-1")
    first = await rig.buy(1, wanted)
    unpaid = await rig.topups.serve(wanted, None, ())
    assert isinstance(unpaid, Answered)
    assert unpaid.topup.id == first.topup.id
    rig.collector.verdict = Rejected(Reason.INSUFFICIENT_BALANCE, "the first one took it all", PAYER)
    offered = await rig.offer(rig.wanted())
    again = await rig.topups.serve(wanted, rig.pay_v2(offered, 2), ())
    assert isinstance(again, Answered)
    assert again.topup.id == first.topup.id
    assert rig.collector.asked == 1


async def test_an_idempotency_key_for_another_request_conflicts(rig: TopUpRig) -> None:
    """The same key for another amount is refused, paid or not."""
    await rig.buy(1, rig.wanted(claim="k-1"))
    other = rig.wanted("6", claim="k-1")
    with pytest.raises(Problem, match="idempotency_conflict"):
        await rig.topups.serve(other, None, ())
    offered = await rig.offer(rig.wanted("6"))
    assert await code_of(rig, other, rig.pay_v2(offered, 2)) == "idempotency_conflict"
    assert rig.collector.asked == 1


async def test_parallel_payments_under_one_identifier_are_one(rig: TopUpRig) -> None:
    """Eight requests with a fresh order and a fresh authorization each, one payment-identifier: one settles."""
    headers = [named(rig, await rig.offer(), "pay_0123456789abcdef", n) for n in range(8)]
    outcomes = await asyncio.gather(*(rig.topups.serve(rig.wanted(), header, ()) for header in headers))
    assert len({outcome.topup.id for outcome in outcomes if isinstance(outcome, Answered)}) == 1
    assert rig.collector.asked == 1
    await rig.poll()
    assert rig.available() == 5 * USD


async def test_an_identifier_for_another_amount_conflicts(rig: TopUpRig) -> None:
    """One payment-identifier, another request: 409, and the payment is not collected."""
    await rig.topups.serve(rig.wanted(), named(rig, await rig.offer(), "pay_0123456789abcdef", 1), ())
    six = rig.wanted("6")
    header = named(rig, await rig.offer(six), "pay_0123456789abcdef", 2)
    assert await code_of(rig, six, header) == "idempotency_conflict"
    assert rig.collector.asked == 1


async def test_identifiers_of_two_wallets_are_two(rig: TopUpRig) -> None:
    """Without a key a name belongs to the wallet that signs: strangers who choose the same one do not meet."""
    nobody = rig.wanted(account_id=None)
    extensions = {IDENTIFIER: {"info": {"required": False, "id": "pay_0123456789abcdef"}}}
    for n, key in ((1, None), (2, OTHER_KEY)):
        keyed = {} if key is None else {"key": key}
        header = rig.pay_v2(await rig.offer(nobody), n, **keyed, extensions=extensions)
        assert isinstance(await rig.topups.serve(nobody, header, ()), Answered)
    assert len(rig.collector.collected) == 2


async def test_a_bad_identifier_is_a_bad_request(rig: TopUpRig) -> None:
    """An id that is no id of the extension is refused, and nothing is taken."""
    assert await code_of(rig, rig.wanted(), named(rig, await rig.offer(), "short", 1)) == "bad_request"


async def test_packs_cost_what_they_say(rig: TopUpRig) -> None:
    """A pack answers a GET, is priced by the configuration, and its order pays for no other."""
    assert rig.topups.offers.pack("five") == 5 * USD
    wanted = rig.wanted(method="GET", path="/v1/topups/packs/five", body=b"", pack="five")
    offered = await rig.offer(wanted)
    answered = await rig.topups.serve(wanted, rig.pay_v2(offered), ())
    assert isinstance(answered, Answered)
    assert answered.topup.pack == "five"
    with pytest.raises(Problem, match="not_found"):
        rig.topups.offers.pack("six")


@pytest.mark.parametrize("amount_base", [0, 9_999, 1_000 * USD + 1])
async def test_amounts_have_limits(rig: TopUpRig, amount_base: int) -> None:
    """What is outside the limits is refused with the limits."""
    with pytest.raises(Problem) as raised:
        rig.topups.offers.amount(amount_base)
    assert raised.value.extra == {"min": "0.010000", "max": "1000.000000"}


async def test_an_account_has_so_many_payments_under_way(rig: TopUpRig) -> None:
    """More at once than the limit are refused before they are claimed."""
    rig.rules = replace(rig.rules, open_per_account=2)
    rig.patience_s = 0.01
    rig.restart()

    rig.collector.behaviour = hangs
    for n in (1, 2):
        assert (await rig.buy(n)).pending
    assert await code_of(rig, rig.wanted(), rig.pay_v2(await rig.offer(), 3)) == "too_many_open_payments"


async def test_a_repeat_in_another_spelling_is_the_same_payment(rig: TopUpRig) -> None:
    """Wallets write v as 0 or 27, and addresses in any case: the same signature of the same terms is the same payment."""
    header = rig.pay_v2(await rig.offer())
    first = await rig.topups.serve(rig.wanted(), header, ())
    document = json.loads(b64decode(header))
    signed = document["payload"]
    signed["signature"] = signed["signature"][:-2] + f"{int(signed['signature'][-2:], 16) - 27:02x}"
    signed["authorization"]["from"] = signed["authorization"]["from"].lower()
    again = await rig.topups.serve(rig.wanted(), encoded(document), ())
    assert isinstance(first, Answered)
    assert isinstance(again, Answered)
    assert (again.topup.id, rig.collector.asked) == (first.topup.id, 1)


async def test_what_is_kept_and_shown_is_in_our_own_words(rig: TopUpRig) -> None:
    """A payment's own texts, half characters among them, reach neither the book nor a facilitator."""
    odd = {"url": "\ud800 odd"}
    header = rig.pay_v2(await rig.offer(), resource=odd, more="odd", extensions={"odd": {"info": {"\udfff": "odd"}}})
    answered = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(answered, Answered)
    assert answered.topup.raw is not None
    assert b"odd" not in answered.topup.raw
    assert len(answered.topup.raw) < 2_048


@pytest.mark.parametrize(("valid_s", "taken"), [(4_200, True), (4_201, False), (10**9, False)])
async def test_a_payment_that_is_good_for_ever_is_refused(rig: TopUpRig, valid_s: int, taken: bool) -> None:  # noqa: FBT001 - pytest's
    """What is claimed is kept until it can never land, so that must come: an hour and some minutes at most."""
    offered = await rig.offer()
    entry = offered.document["accepts"][0]
    terms, signature = rig.signed(entry["payTo"], entry["maxAmountRequired"], 1, PAYER_KEY, valid_s)
    header = rig.pay_v2(offered, payload={"signature": signature, "authorization": terms})
    outcome = await rig.topups.serve(rig.wanted(), header, ())
    assert isinstance(outcome, Answered) is taken
    assert len(rig.orders()) == taken
    if isinstance(outcome, Offered):
        assert outcome.document["error"] == Reason.VALID_BEFORE


async def test_a_longer_offer_may_be_signed_for_as_long(rig: TopUpRig) -> None:
    """The bound follows the operator's own offer, where that stands for more than an hour."""
    assert replace(rig.rules, order_ttl_s=86_400).window_max_s == 87_000
    assert replace(rig.rules, order_ttl_s=10).window_max_s == 4_200


async def test_wallets_without_an_account_have_a_share_together(rig: TopUpRig) -> None:
    """However many wallets: no more are under way than that; accounts are not held up, and a place is free when one is seen."""
    rig.rules = replace(rig.rules, open_keyless=2)
    rig.patience_s = 0.01
    rig.restart()
    bare = rig.wanted(account_id=None)
    rig.collector.behaviour = hangs
    for n, key in ((1, PAYER_KEY), (2, OTHER_KEY)):
        assert (await rig.buy(n, bare, key=key)).pending
    third = rig.pay_v2(await rig.offer(bare), 3, key=OTHER_KEY)
    assert await code_of(rig, bare, third) == "too_many_open_payments"
    assert (await rig.buy(4, rig.wanted())).pending
    assert len(rig.orders()) == 3
    await rig.taking.close(0)
    rig.collector.behaviour = None
    rig.restart()
    await rig.settle_down()
    assert isinstance(await rig.topups.serve(bare, third, ()), Answered)


async def test_places_are_not_given_to_many_at_once(rig: TopUpRig) -> None:
    """Fifty payments in one moment find as many places as there are, not fifty times the same one."""
    rig.rules = replace(rig.rules, open_keyless=3)
    rig.patience_s = 0.01
    rig.restart()
    rig.collector.behaviour = hangs
    bare = rig.wanted(account_id=None)
    headers = [rig.pay_v2(await rig.offer(bare), n) for n in range(50)]
    found = await asyncio.gather(*(rig.topups.serve(bare, each, ()) for each in headers), return_exceptions=True)
    assert sum(isinstance(each, Answered) for each in found) == 3
    assert {each.code for each in found if isinstance(each, Problem)} == {"too_many_open_payments"}
    assert len(rig.orders()) == 3


async def test_a_failed_order_that_is_paid_with_a_key_is_the_keys(rig: TopUpRig) -> None:
    """The first try was nobody's; the second comes with an account's key, which says whose credit it is to be."""

    async def at_first(collector: Collector, auth: Authorization, asked: int) -> Settled:
        return settled(auth, None, "insufficient_funds") if asked == 1 else settled(auth, collector.collect(auth))

    rig.collector.behaviour = at_first
    bare = rig.wanted(account_id=None)
    offered = await rig.offer(bare)
    assert isinstance(await rig.topups.serve(bare, rig.pay_v2(offered, 1), ()), Offered)
    again = await rig.topups.serve(rig.wanted(), rig.pay_v2(offered, 2), ())
    assert isinstance(again, Answered)
    assert (again.topup.id, again.topup.account_id) == (offered.document["order"], "acc_1")
    await rig.poll()
    assert rig.available("acc_1") == 5 * USD


async def test_a_payment_that_names_no_order_is_the_wallets_own(rig: TopUpRig) -> None:
    """Whoever sees an authorization on its way may bring it as version 1 with another key: the wallet's account has it."""
    await rig.buy(1, rig.wanted(account_id=None))
    await rig.poll()
    (own,) = rig.view.wallet_accounts.values()
    taken = await rig.topups.serve(rig.wanted(), rig.pay_v1(await rig.offer(), 2), ())
    assert isinstance(taken, Answered)
    assert taken.topup.account_id is None
    await rig.poll()
    assert (rig.available(own), rig.available("acc_1")) == (10 * USD, 0)
    named = await rig.buy(3)
    assert named.topup.account_id == "acc_1"


async def test_a_forged_version_1_payment_is_told_nothing_of_the_wallets_orders(rig: TopUpRig) -> None:
    """A name belongs to whoever signs: another's address in a payment without its signature finds no order of its."""
    bare = rig.wanted(account_id=None, claim="k-1")
    await rig.buy(1, bare)
    await rig.poll()
    document = json.loads(b64decode(rig.pay_v1(await rig.offer(), 2)))
    document["payload"]["signature"] = "0x" + "11" * 64 + "1b"
    rig.collector.verdict = Rejected(Reason.SIGNATURE, "forged")
    outcome = await rig.topups.serve(rig.wanted(claim="k-1"), encoded(document), ())
    assert isinstance(outcome, Offered)
