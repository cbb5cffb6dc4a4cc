"""The batch contract on a real chain: it settles what single transactions would settle, and nothing that they would not."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import batch, calls
from contracts.batch import Outcome
from contracts.codec import Address, to_hex
from contracts.logs import AUTHORIZATION_USED, TRANSFER
from contracts.signature import ORDER
from sandbox.chain import LocalBase, Reverted, RpcError
from tests.unit.contracts.batch_bed import (
    BATCH_TEXT,
    ITEM_GAS,
    NO_TOKEN,
    TOKEN,
    Item,
    ask,
    code_at,
    deploy,
    in_a_row,
    one_by_one,
    payee,
    payer,
    restore,
    settle,
    signed,
    simulation_gas,
    submit,
    used,
)

TAKEN = Outcome(ok=True)
USED = "FiatTokenV2: authorization is used or canceled"
PAYERS = 6
START_BASE = 1_000_000


@pytest.fixture(scope="module")
def placed_base() -> Iterator[LocalBase]:
    """A chain with the contract deployed and six payers funded; every test goes back to it."""
    with LocalBase.start(block_time_s=None) as chain:
        deploy(chain)
        chain.fund({chain.dev_account(i)[0]: START_BASE for i in range(PAYERS)})
        yield chain


@pytest.fixture
def base(placed_base: LocalBase) -> Iterator[LocalBase]:
    """That chain, as it was at first."""
    before = placed_base.snapshot()
    yield placed_base
    restore(placed_base, before)


def refused(text: str) -> Outcome:
    """Return the outcome of an item that the token reverted."""
    return Outcome(ok=False, reason_text=text)


def test_the_deployer_puts_exactly_this_code_at_the_computed_address(placed_base: LocalBase) -> None:
    """The address is the hash of the code; deploying again changes nothing and fails; the contract holds nothing."""
    assert code_at(placed_base, BATCH_TEXT) == batch.runtime_code()
    to, data = batch.deployment()
    assert submit(placed_base, to, data, 1_000_000).receipt["status"] == "0x0"
    assert code_at(placed_base, BATCH_TEXT) == batch.runtime_code()
    slots = [placed_base.rpc("eth_getStorageAt", BATCH_TEXT, hex(slot), "latest") for slot in range(4)]
    assert {int(slot, 16) for slot in slots} == {0}


@pytest.mark.parametrize("count", [1, 2, 20, 100])
def test_a_batch_of_any_size_is_settled_whole(base: LocalBase, count: int) -> None:
    """1 to 100 items of several payers are all taken in one transaction, within the gas limit, and pay their payees."""
    items = [signed(base, i % PAYERS, i, pay_to=payee(i % 7), value_base=1_000 + i) for i in range(count)]
    assert in_a_row(base, items) == one_by_one(base, items) == (TAKEN,) * count
    sent = settle(base, items)
    assert sent.receipt["status"] == "0x1"
    assert used(base, items) == [True] * count
    for number in range(7):
        expected = sum(auth.value_base for auth, _ in items if auth.pay_to == payee(number))
        assert base.balance_of(to_hex(payee(number))) == expected


def test_a_batch_does_what_single_transactions_do(base: LocalBase) -> None:
    """The same logs in the same order, AuthorizationUsed directly before its Transfer, and the same balances."""
    items = [signed(base, i % 3, i, pay_to=payee(i), value_base=10 + i) for i in range(9)]
    before = base.snapshot()
    single: list[tuple[str, ...]] = []
    for auth, signature in items:
        single += submit(base, TOKEN, calls.encode_transfer_vrs(auth, signature), 200_000).events
    everybody = [payer(base, i) for i in range(3)] + [payee(i) for i in range(9)]
    balances = [base.balance_of(to_hex(who)) for who in everybody]
    restore(base, before)

    together = settle(base, items)
    assert together.events == single
    assert [base.balance_of(to_hex(who)) for who in everybody] == balances
    assert [event[1] for event in together.events] == [to_hex(AUTHORIZATION_USED), to_hex(TRANSFER)] * 9


def test_a_replay_is_refused_inside_a_batch_and_over_batches(base: LocalBase) -> None:
    """The second of one payment is refused beside the first, in a later batch, and in another's transaction."""
    items = [signed(base, 0, 1), signed(base, 0, 1), signed(base, 1, 2)]
    assert in_a_row(base, items) == (TAKEN, refused(USED), TAKEN)
    assert one_by_one(base, items) == (TAKEN, TAKEN, TAKEN)
    settle(base, items)
    assert base.balance_of(to_hex(payee(0))) == 2_000
    assert in_a_row(base, items) == (refused(USED),) * 3
    again = settle(base, items)
    assert (again.receipt["status"], again.events) == ("0x1", [])
    assert submit(base, TOKEN, calls.encode_transfer_vrs(*items[0]), 200_000).receipt["status"] == "0x0"
    assert base.balance_of(to_hex(payee(0))) == 2_000


def test_every_kind_of_bad_item_fails_alone_with_the_tokens_text(base: LocalBase) -> None:
    """Expired, early, forged, malleable, underfunded, barred: each is refused by name between neighbours that settle."""
    now = base.head()["timestamp"]
    base.set_blacklisted(base.dev_account(5)[0])
    base.set_blacklisted(to_hex(payee(66)))
    auth, signature = signed(base, 0, 100)
    other_terms = dataclasses.replace(auth, value_base=999)
    high_s = signature[:32] + (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    elsewhere = dataclasses.replace(auth.token, chain_id=84532)
    bad: list[tuple[Item, str]] = [
        (signed(base, 0, 101, valid_before=now), "FiatTokenV2: authorization is expired"),
        (signed(base, 0, 102, valid_after=now + 3_600), "FiatTokenV2: authorization is not yet valid"),
        ((other_terms, signature), "FiatTokenV2: invalid signature"),
        (signed(base, 0, 103, value_base=START_BASE + 1), "ERC20: transfer amount exceeds balance"),
        (signed(base, 5, 104), "Blacklistable: account is blacklisted"),
        (signed(base, 0, 105, pay_to=payee(66)), "Blacklistable: account is blacklisted"),
        (signed(base, 0, 106, pay_to=Address(bytes(20))), "ERC20: transfer to the zero address"),
        ((auth, high_s + bytes([signature[64] ^ 7])), "ECRecover: invalid signature 's' value"),
        ((auth, signature[:64] + b"\0"), "ECRecover: invalid signature 'v' value"),
        ((auth, bytes(64) + b"\x1b"), "ECRecover: invalid signature"),
        ((auth, signed(base, 0, 100, elsewhere)[1]), "FiatTokenV2: invalid signature"),
    ]
    items = [signed(base, 1, 200)]
    for number, (item, _) in enumerate(bad):
        items += [item, signed(base, 1, 201 + number)]
    expected = (TAKEN, *(outcome for _, text in bad for outcome in (refused(text), TAKEN)))
    assert in_a_row(base, items) == one_by_one(base, items) == expected
    sent = settle(base, items)
    assert sent.receipt["status"] == "0x1"
    assert len(sent.events) == 2 * (len(bad) + 1)
    assert base.balance_of(to_hex(payee(0))) == 1_000 * (len(bad) + 1)
    assert not base.authorization_state(to_hex(auth.authorizer), to_hex(auth.nonce))


def test_a_payer_who_can_afford_one_of_two_pays_one(base: LocalBase) -> None:
    """In a row the second is refused for want of balance; judged one by one either would be taken."""
    items = [signed(base, 2, 1, value_base=START_BASE - 1), signed(base, 2, 2, value_base=START_BASE - 1)]
    assert in_a_row(base, items) == (TAKEN, refused("ERC20: transfer amount exceeds balance"))
    assert one_by_one(base, items) == (TAKEN, TAKEN)
    settle(base, items)
    assert used(base, items) == [True, False]


def test_a_paused_token_refuses_every_item(base: LocalBase) -> None:
    """The batch is mined, nothing moves, and each item says why."""
    items = [signed(base, i, i) for i in range(3)]
    base.set_paused(True)
    assert in_a_row(base, items) == (refused("Pausable: paused"),) * 3
    assert settle(base, items).events == []
    base.set_paused(False)
    assert len(settle(base, items).events) == 6


def test_simulating_leaves_nothing_behind_even_as_a_transaction(base: LocalBase) -> None:
    """`simulate` and `attempt` sent as transactions move nothing and use no nonce."""
    items = [signed(base, 0, 1), signed(base, 1, 2)]
    data = batch.encode_simulation(TOKEN, items, ITEM_GAS)
    sent = submit(base, batch.batch_address(), data, simulation_gas(2, ITEM_GAS))
    assert (sent.receipt["status"], sent.events) == ("0x1", [])
    attempt = calls.selector("attempt(address,uint256,bytes32[5])") + data[4:68] + data[132:292]
    assert submit(base, batch.batch_address(), attempt, 1_000_000).receipt["status"] == "0x0"
    assert used(base, items) == [False, False]


def test_an_address_without_code_is_no_token(base: LocalBase) -> None:
    """A call to an account without code would succeed and pay nobody: both functions revert with its name."""
    (auth, signature) = signed(base, 0, 1)
    nobody = Address(b"\x99" * 20)
    item = (dataclasses.replace(auth, token=dataclasses.replace(auth.token, address=nobody)), signature)
    for encode in (batch.encode_batch, batch.encode_simulation):
        with pytest.raises(RpcError) as error:
            ask(base, encode(nobody, [item], ITEM_GAS), 1_000_000)
        assert bytes.fromhex(error.value.data[2:]) == NO_TOKEN + nobody.rjust(32, b"\0")


def test_malformed_call_data_reverts_whole(base: LocalBase) -> None:
    """A batch that is cut by a byte, by an item, or whose length lies settles nothing at all."""
    items = [signed(base, 0, 1), signed(base, 1, 2)]
    data = batch.encode_batch(TOKEN, items, ITEM_GAS)
    lying = [length.to_bytes(32, "big") for length in (3, 2**64, 2**255, 2**256 - 1, (2**256 // 160) + 2)]
    cuts = [data[:-1], data[:-160], data[:132], data[:4], data[:3], b""]
    dirty = data[:4] + b"\1" + data[5:]  # an address with more than 20 bytes
    for broken in [*cuts, *(data[:100] + length + data[132:] for length in lying), dirty]:
        sent = submit(base, batch.batch_address(), broken, 2_000_000)
        assert (sent.receipt["status"], sent.events) == ("0x0", [])
    assert used(base, items) == [False, False]


def test_it_takes_no_ether(base: LocalBase) -> None:
    """Neither with a batch nor without one, so nothing can be left in it."""
    data = batch.encode_batch(TOKEN, [signed(base, 0, 1)], ITEM_GAS)
    for sent_data in (data, b""):
        request = {"from": base.relayer, "to": BATCH_TEXT, "data": to_hex(sent_data), "value": "0x1", "gas": "0x100000"}
        with pytest.raises(Reverted):
            base.receipt(base.rpc("eth_sendTransaction", request))


def test_the_code_can_simulate_before_it_is_deployed(automine_base: LocalBase) -> None:
    """By a state override the same code answers an eth_call where nobody has deployed it."""
    automine_base.fund({automine_base.dev_account(0)[0]: 5_000})
    items = [signed(automine_base, 0, 1), signed(automine_base, 1, 2)]
    request = {
        "to": BATCH_TEXT,
        "data": to_hex(batch.encode_simulation(TOKEN, items, ITEM_GAS)),
        "gas": hex(simulation_gas(2, ITEM_GAS)),
    }
    override = {BATCH_TEXT: {"code": to_hex(batch.runtime_code())}}
    answer = bytes.fromhex(automine_base.rpc("eth_call", request, "latest", override)[2:])
    assert batch.decode_outcomes(answer, 2) == (TAKEN, refused("ERC20: transfer amount exceeds balance"))
    with pytest.raises(batch.BatchError):
        one_by_one(automine_base, items)


KINDS = ("good", "replay", "expired", "early", "forged", "poor", "broken")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, PAYERS - 1), st.integers(0, 9)), min_size=1, max_size=12)
)
def test_any_mixture_settles_exactly_what_single_transactions_would(
    placed_base: LocalBase, drawn: list[tuple[str, int, int]]
) -> None:
    """Fuzzed batches: what `settle` says, what it does, and what one transaction for each item does, are the same."""
    now = placed_base.head()["timestamp"]
    items: list[Item] = []
    for number, (kind, index, spread) in enumerate(drawn):
        terms: dict[str, Any] = {"pay_to": payee(spread), "value_base": 1 + spread * (START_BASE // 12)}
        terms |= {"expired": {"valid_before": now}, "early": {"valid_after": now + 9_000}}.get(kind, {})
        terms |= {"poor": {"value_base": START_BASE + 1}}.get(kind, {})
        item = signed(placed_base, index, 1_000 + number, **terms)
        if kind == "replay" and items:
            item = items[spread % len(items)]
        if kind == "forged":
            item = (dataclasses.replace(item[0], pay_to=payee(77)), item[1])
        if kind == "broken":
            item = (item[0], bytes([spread]) * 65)
        items.append(item)
    before = placed_base.snapshot()
    said = in_a_row(placed_base, items)
    single = [submit(placed_base, TOKEN, calls.encode_transfer_vrs(*item), 200_000) for item in items]
    restore(placed_base, before)
    before = placed_base.snapshot()
    together = settle(placed_base, items)
    restore(placed_base, before)
    assert [outcome.ok for outcome in said] == [sent.receipt["status"] == "0x1" for sent in single]
    assert together.events == [event for sent in single for event in sent.events]
    assert together.receipt["status"] == "0x1"
    assert all(outcome.tried and (outcome.ok or outcome.reason_text) for outcome in said)
