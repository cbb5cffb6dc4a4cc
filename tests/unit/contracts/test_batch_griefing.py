"""The batch contract among enemies: tokens and wallets that burn gas, answer with much, lie or come back in."""

import dataclasses
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import batch
from contracts.batch import Outcome
from contracts.codec import Address, checksum, to_hex
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.tokens import BASE_USDC
from sandbox.chain import LocalBase, RpcError
from sandbox.devtoken import Contract
from tests.unit.contracts.batch_bed import (
    ITEM_GAS,
    TOO_LITTLE_GAS,
    Item,
    Sent,
    ask,
    deploy,
    in_a_row,
    one_by_one,
    payee,
    restore,
    settle,
    signed,
    submit,
    used,
)

HOSTILE = dataclasses.replace(BASE_USDC, address=Address(b"\x66" * 20))
WALLET = Address(b"\x77" * 20)
TAKEN = Outcome(ok=True)
HONEST, BURN, REVERT_MUCH, RETURN_MUCH, LONG_TEXT, SILENT, PANIC, ERROR, REENTER, REENTER_REVERT, LIE = range(11)
FINDING = 564
"""The gas that the hostile token uses to find its function and to read its arguments, before it looks at what is left."""
SILENCE = "reverted without a reason"
REASONS = {
    BURN: SILENCE,
    REVERT_MUCH: "reverted with error 0x00000000",
    LONG_TEXT: "?" * 160,
    SILENT: SILENCE,
    PANIC: "panic: assertion failed",
    ERROR: "reverted with error 0x" + keccak256(b"Refused(uint256)")[:4].hex(),
    REENTER_REVERT: "reverted with error 0x" + keccak256(b"Refused(uint256)")[:4].hex(),
    LIE: SILENCE,
}
"""What is said of those that revert; the others are taken, whatever they answer."""


@pytest.fixture(scope="module")
def hostile_base() -> Iterator[LocalBase]:
    """A chain with the contract, a hostile token, a hostile contract wallet with money, and an honest payer."""
    with LocalBase.start(block_time_s=None) as chain:
        deploy(chain)
        chain.place_code(checksum(HOSTILE.address), Contract.load("DevHostileToken"))
        chain.place_code(checksum(WALLET), Contract.load("DevHostileWallet"))
        chain.fund({chain.dev_account(0)[0]: 10_000_000, checksum(WALLET): 10_000_000})
        yield chain


def hostile(mode: int, number: int = 0) -> Item:
    """Return an item that makes the hostile token behave so; it does not look at signatures."""
    nonce = keccak256(b"hostile %d %d" % (mode, number))
    return Authorization(HOSTILE, payee(1), payee(2), mode, 0, 2**40, nonce), bytes(65)


def gas_given(sent: Sent) -> list[int]:
    """Return the gas that each presented item found, the reentered ones left out (they have little)."""
    return [int(event[-1], 16) for event in sent.events if int(event[-1], 16) > 10_000]


def outcome_of(mode: int) -> Outcome:
    """Return what is to be said of an item."""
    return Outcome(ok=False, reason_text=REASONS[mode]) if mode in REASONS else TAKEN


@pytest.mark.parametrize("mode", range(1, 11))
@pytest.mark.parametrize("item_gas", [60_000, 120_000, 500_000])
def test_no_kind_of_hostile_item_fails_its_neighbours(hostile_base: LocalBase, mode: int, item_gas: int) -> None:
    """Whatever one item does, those before and after it get their gas and are taken, and the transaction is mined."""
    items = [hostile(HONEST, 1), hostile(mode), hostile(HONEST, 2), hostile(mode, 1), hostile(HONEST, 3)]
    said = (TAKEN, outcome_of(mode), TAKEN, outcome_of(mode), TAKEN)
    assert in_a_row(hostile_base, items, item_gas) == said
    assert one_by_one(hostile_base, items, item_gas) == said
    sent = settle(hostile_base, items, item_gas, HOSTILE.address)
    assert sent.receipt["status"] == "0x1"
    presented = {event[2] for event in sent.events}
    assert {to_hex(auth.nonce) for auth, _ in items[::2]} <= presented
    assert min(gas_given(sent)) >= item_gas - FINDING
    assert sent.gas <= batch.gas_limit(len(items), item_gas)


def test_reentering_settles_the_inner_item_and_disturbs_nothing(hostile_base: LocalBase) -> None:
    """An item that calls the contract again has its own inner item presented once; the outer batch goes on."""
    items = [hostile(HONEST, 1), hostile(REENTER), hostile(HONEST, 2), hostile(REENTER_REVERT), hostile(HONEST, 3)]
    sent = settle(hostile_base, items, 200_000, HOSTILE.address)
    nonces = [event[2] for event in sent.events]
    inner = to_hex(bytes(255 - byte for byte in items[1][0].nonce))
    assert nonces == [to_hex(items[0][0].nonce), inner, *(to_hex(items[n][0].nonce) for n in (1, 2, 4))]


@pytest.mark.parametrize(
    ("count", "item_gas"), [(1, 50_000), (2, 150_000), (20, 100_000), (100, 120_000), (7, 2_000_000)]
)
def test_all_that_burn_gas_cost_no_more_than_the_limit_and_the_last_still_gets_its_own(
    hostile_base: LocalBase, count: int, item_gas: int
) -> None:
    """The worst batch there is: every item burns all its gas, and the one at the end finds what it was promised."""
    items = [hostile(BURN, n) for n in range(count - 1)] + [hostile(HONEST)]
    sent = settle(hostile_base, items, item_gas, HOSTILE.address)
    assert sent.receipt["status"] == "0x1"
    (given_gas,) = gas_given(sent)
    assert item_gas - FINDING <= given_gas <= item_gas
    assert sent.gas <= batch.gas_limit(count, item_gas)


@pytest.mark.parametrize(("count", "item_gas"), [(1, 100_000), (3, 100_000), (40, 100_000), (1, 10_000_000)])
def test_with_less_gas_than_it_needs_it_does_nothing(hostile_base: LocalBase, count: int, item_gas: int) -> None:
    """At the least gas that is not refused every item gets its gas; with one less nothing is tried, at little cost."""
    items = [hostile(BURN, n) for n in range(count - 1)] + [hostile(HONEST)]
    data = batch.encode_batch(HOSTILE.address, items, item_gas)
    enough, too_little = batch.gas_limit(count, item_gas), batch.gas_limit(count, item_gas) // 2
    while enough - too_little > 1:
        middle = (enough + too_little) // 2
        if refusal(hostile_base, data, middle) is None:
            enough = middle
        else:
            too_little = middle
    # What it would take to be refused is near to what gas_limit gives: little is reserved in vain.
    assert batch.gas_limit(count, item_gas) - enough < 6_000 + 16 * 32 * 5 * count
    outcomes = batch.decode_outcomes(ask(hostile_base, data, enough), count)
    assert outcomes == (Outcome(ok=False, reason_text=SILENCE),) * (count - 1) + (TAKEN,)
    sent = submit(hostile_base, batch.batch_address(), data, enough)
    assert gas_given(sent) == [item_gas - FINDING]
    needed = count * (item_gas + 1_000) + item_gas // 63 + 2_000
    assert refusal(hostile_base, data, too_little) == TOO_LITTLE_GAS + needed.to_bytes(32, "big")


def refusal(chain: LocalBase, data: bytes, gas: int) -> bytes | None:
    """Return what a whole call reverted with, or None where it did not."""
    try:
        ask(chain, data, gas)
    except RpcError as error:
        return bytes.fromhex(error.data[2:])
    return None


def test_a_simulation_says_which_items_it_had_no_gas_for(hostile_base: LocalBase) -> None:
    """Too little gas for all of them: the first are judged, the rest are not tried, and none is called bad for it."""
    items = [hostile(BURN, n) for n in range(6)]
    outcomes = one_by_one(hostile_base, items, 100_000, gas=batch.gas_limit(3, 100_000) + 60_000)
    tried = [outcome.tried for outcome in outcomes]
    assert tried == sorted(tried, reverse=True)
    assert 2 <= sum(tried) <= 4
    assert not any(outcome.ok for outcome in outcomes)


@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_simulation_with_the_stated_gas_tries_everything(hostile_base: LocalBase, count: int) -> None:
    """Even if each item burns all it may."""
    items = [hostile(BURN, n) for n in range(count - 1)] + [hostile(HONEST)]
    outcomes = one_by_one(hostile_base, items, 100_000)
    assert outcomes[-1] == TAKEN
    assert all(outcome.tried for outcome in outcomes)


def test_absurd_item_gas_reverts_whole(hostile_base: LocalBase) -> None:
    """A sum that overflows is refused, never wrapped round."""
    data = bytearray(batch.encode_batch(HOSTILE.address, [hostile(HONEST)] * 2, 0))
    for absurd in (2**256 - 1, 2**255, 2**255 - 500):
        data[36:68] = absurd.to_bytes(32, "big")
        with pytest.raises(RpcError):
            ask(hostile_base, bytes(data), 10_000_000)


@pytest.mark.parametrize(("first", "ok"), [(1, False), (2, False), (3, True), (4, False)])
def test_a_hostile_wallet_burns_its_own_gas_alone(hostile_base: LocalBase, first: int, ok: bool) -> None:  # noqa: FBT001
    """A payer who became a contract after the simulation burns at most its item's gas; its neighbours settle."""
    before = hostile_base.snapshot()
    auth = Authorization(BASE_USDC, WALLET, payee(3), 5, 0, 2**40, keccak256(b"wallet"))
    items = [signed(hostile_base, 0, 1), (auth, bytes([first]) + bytes(64)), signed(hostile_base, 0, 2)]
    honest = settle(hostile_base, [signed(hostile_base, 0, 3), signed(hostile_base, 0, 4)])
    assert [outcome.ok for outcome in in_a_row(hostile_base, items)] == [True, ok, True]
    sent = settle(hostile_base, items)
    assert used(hostile_base, items) == [True, ok, True]
    assert sent.gas < honest.gas + ITEM_GAS + 5_000
    restore(hostile_base, before)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 10), min_size=1, max_size=15), st.integers(60_000, 400_000))
def test_any_company_is_judged_the_same(hostile_base: LocalBase, modes: Sequence[int], item_gas: int) -> None:
    """Fuzzed: each item's outcome is its own kind's, beside whomever it stands, and honest ones find their gas."""
    items = [hostile(mode, number) for number, mode in enumerate(modes)]
    said = tuple(outcome_of(mode) for mode in modes)
    assert in_a_row(hostile_base, items, item_gas) == said
    assert one_by_one(hostile_base, items, item_gas) == said
    sent = settle(hostile_base, items, item_gas, HOSTILE.address)
    assert sent.receipt["status"] == "0x1"
    assert all(gas >= item_gas - FINDING for gas in gas_given(sent))
    assert sent.gas <= batch.gas_limit(len(items), item_gas)
