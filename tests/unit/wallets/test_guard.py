"""The guard: everything not allowed is refused, each with its own code (P8)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from contracts.codec import ZERO_ADDRESS, Address
from contracts.eip3009 import Authorization
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC
from tests.factories import never_frozen
from wallets.guard import CallKey, Guard, Policy, Refusal, SigningRefused, WalletPolicy
from wallets.transactions import Transaction

WALLET, SISTER, PAYEE, STRANGER = (Address(bytes((number,)) * 20) for number in (1, 2, 3, 4))
NOW_S = 1_800_000_000
SELECTOR = b"\xe3\xee\x16\x0e"
WALLET_POLICY = WalletPolicy(
    chain_ids=frozenset({8453}),
    max_value_base={BASE_USDC.key: 10_000_000},
    # SISTER, the token and nobody are listed by mistake: they must be refused all the same.
    payees=frozenset({PAYEE, SISTER, WALLET, BASE_USDC.address, ZERO_ADDRESS}),
    max_window_s=3600,
    calls={CallKey(8453, BASE_USDC.address, SELECTOR): 0, CallKey(8453, PAYEE, b""): 5},
    max_fee_wei=10**15,
)
POLICY = Policy(wallets={WALLET: WALLET_POLICY}, own=frozenset({WALLET, SISTER}))
AUTH = Authorization(BASE_USDC, WALLET, PAYEE, 10_000_000, 0, NOW_S + 3600, b"\5" * 32)
TX = Transaction(8453, 0, BASE_USDC.address, 0, SELECTOR + bytes(32), 200_000, 10**9, 10**6)


def guard(is_frozen: Callable[[Address], bool] = never_frozen) -> Guard:
    """Return a guard under the policy above."""
    return Guard(POLICY, is_frozen)


def refused(check: Callable[[], None]) -> Refusal:
    """Return the code with which a check refuses."""
    with pytest.raises(SigningRefused) as caught:
        check()
    assert caught.value.message
    assert str(caught.value).startswith(caught.value.code)
    return caught.value.code


def test_allows_exactly_what_the_policy_names() -> None:
    """The ceiling and the window's end themselves are allowed."""
    guard().check_authorization(WALLET, AUTH, NOW_S)
    guard().check_transaction(WALLET, TX)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Refusal.NOT_OURS, {"authorizer": SISTER}),
        (Refusal.CHAIN_MISMATCH, {"token": BASE_SEPOLIA_USDC}),
        (Refusal.CHAIN_MISMATCH, {"token": dataclasses.replace(BASE_USDC, chain_id=1)}),
        (Refusal.TOKEN_NOT_ALLOWED, {"token": dataclasses.replace(BASE_USDC, address=STRANGER)}),
        (Refusal.PAYEE_NOT_ALLOWED, {"pay_to": STRANGER}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": SISTER}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": WALLET}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": BASE_USDC.address}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": ZERO_ADDRESS}),
        (Refusal.VALUE_ZERO, {"value_base": 0}),
        (Refusal.VALUE_ABOVE_MAX, {"value_base": 10_000_001}),
        (Refusal.VALUE_ABOVE_MAX, {"value_base": 2**256 - 1}),
        (Refusal.EXPIRED, {"valid_before": NOW_S}),
        (Refusal.WINDOW_TOO_LONG, {"valid_before": NOW_S + 3601}),
        (Refusal.WINDOW_TOO_LONG, {"valid_before": 2**256 - 1}),
    ],
)
def test_p8_refuses_every_other_authorization(code: Refusal, change: dict[str, Any]) -> None:
    """P8: one changed field, one named refusal."""
    auth = dataclasses.replace(AUTH, **change)
    assert refused(lambda: guard().check_authorization(WALLET, auth, NOW_S)) == code


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Refusal.CHAIN_MISMATCH, {"chain_id": 1}),
        (Refusal.CALL_NOT_ALLOWED, {"to": STRANGER}),
        (Refusal.CALL_NOT_ALLOWED, {"data": b"\xa9\x05\x9c\xbb" + bytes(64)}),
        (Refusal.CALL_NOT_ALLOWED, {"data": b""}),
        (Refusal.VALUE_ABOVE_MAX, {"value_wei": 1}),
        (Refusal.VALUE_ABOVE_MAX, {"to": PAYEE, "data": b"", "value_wei": 6}),
        (Refusal.FEE_ABOVE_MAX, {"gas": 2_000_000}),
        (Refusal.FEE_ABOVE_MAX, {"max_fee_per_gas_wei": 10**11}),
    ],
)
def test_p8_refuses_every_other_transaction(code: Refusal, change: dict[str, Any]) -> None:
    """P8: destination, function, ether, chain and fee are each bounded."""
    assert refused(lambda: guard().check_transaction(WALLET, dataclasses.replace(TX, **change))) == code


def test_a_freeze_stops_everything_at_once() -> None:
    """The flag is read at every message, per wallet."""
    frozen = {WALLET}
    watched = guard(lambda wallet: wallet in frozen)
    assert refused(lambda: watched.check_authorization(WALLET, AUTH, NOW_S)) == Refusal.FROZEN
    assert refused(lambda: watched.check_transaction(WALLET, TX)) == Refusal.FROZEN
    frozen.clear()
    watched.check_authorization(WALLET, AUTH, NOW_S)


def test_a_wallet_without_a_policy_signs_nothing() -> None:
    """Default deny for both messages."""
    for check in (
        lambda: guard().check_authorization(SISTER, dataclasses.replace(AUTH, authorizer=SISTER), NOW_S),
        lambda: guard().check_transaction(SISTER, TX),
    ):
        assert refused(check) == Refusal.UNKNOWN_WALLET


def test_an_empty_policy_allows_nothing() -> None:
    """A policy that names nothing is a no to everything."""
    bare = Guard(
        Policy({WALLET: WalletPolicy(frozenset({8453}), {}, frozenset(), 0)}, frozenset({WALLET})), never_frozen
    )
    assert refused(lambda: bare.check_authorization(WALLET, AUTH, NOW_S)) == Refusal.TOKEN_NOT_ALLOWED
    assert refused(lambda: bare.check_transaction(WALLET, TX)) == Refusal.CALL_NOT_ALLOWED


def test_a_new_policy_is_in_force_at_once() -> None:
    """Approving a payee, or withdrawing one, takes effect at the next message."""
    changing = guard()
    to_stranger = dataclasses.replace(AUTH, pay_to=STRANGER)
    changing.replace_policy(
        Policy({WALLET: dataclasses.replace(WALLET_POLICY, payees=frozenset({STRANGER}))}, POLICY.own)
    )
    changing.check_authorization(WALLET, to_stranger, NOW_S)
    assert refused(lambda: changing.check_authorization(WALLET, AUTH, NOW_S)) == Refusal.PAYEE_NOT_ALLOWED


TILL_POLICY = WalletPolicy(frozenset({8453}), {BASE_USDC.key: 10_000_000}, frozenset(), 3600, refunds=True)
REFUND = dataclasses.replace(AUTH, authorizer=SISTER)


def till_guard(*funders: Address, is_frozen: Callable[[Address], bool] = never_frozen) -> Guard:
    """Return a guard in which SISTER is a till that these addresses have paid."""
    policy = Policy({WALLET: WALLET_POLICY, SISTER: TILL_POLICY}, frozenset({WALLET, SISTER}))
    return Guard(policy, is_frozen, lambda till, to: till == SISTER and to in funders)


def test_p8_a_till_sends_back_to_funders_and_to_nobody_else() -> None:
    """P8: the ceiling and the window's end are allowed, to an address that has signed a payment to this very till."""
    till_guard(PAYEE).check_refund(SISTER, REFUND, NOW_S)
    assert refused(lambda: till_guard().check_refund(SISTER, REFUND, NOW_S)) == Refusal.PAYEE_NOT_ALLOWED
    assert refused(lambda: Guard(POLICY, never_frozen).check_refund(WALLET, AUTH, NOW_S)) == Refusal.NO_REFUNDS
    assert refused(lambda: till_guard(PAYEE).check_refund(WALLET, AUTH, NOW_S)) == Refusal.NO_REFUNDS
    assert refused(lambda: till_guard(PAYEE).check_authorization(SISTER, REFUND, NOW_S)) == Refusal.PAYEE_NOT_ALLOWED
    frozen = till_guard(PAYEE, is_frozen=lambda wallet: wallet == SISTER)
    assert refused(lambda: frozen.check_refund(SISTER, REFUND, NOW_S)) == Refusal.FROZEN


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Refusal.NOT_OURS, {"authorizer": WALLET}),
        (Refusal.CHAIN_MISMATCH, {"token": BASE_SEPOLIA_USDC}),
        (Refusal.TOKEN_NOT_ALLOWED, {"token": dataclasses.replace(BASE_USDC, address=STRANGER)}),
        (Refusal.PAYEE_NOT_ALLOWED, {"pay_to": STRANGER}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": WALLET}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": SISTER}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": BASE_USDC.address}),
        (Refusal.PAYEE_FORBIDDEN, {"pay_to": ZERO_ADDRESS}),
        (Refusal.VALUE_ZERO, {"value_base": 0}),
        (Refusal.VALUE_ABOVE_MAX, {"value_base": 10_000_001}),
        (Refusal.EXPIRED, {"valid_before": NOW_S}),
        (Refusal.WINDOW_TOO_LONG, {"valid_before": NOW_S + 3601}),
    ],
)
def test_p8_refuses_every_other_refund(code: Refusal, change: dict[str, Any]) -> None:
    """P8: our own addresses are refused although the book says that they have paid."""
    guarded = till_guard(PAYEE, WALLET, SISTER, BASE_USDC.address, ZERO_ADDRESS)
    refund = dataclasses.replace(REFUND, **change)
    assert refused(lambda: guarded.check_refund(SISTER, refund, NOW_S)) == code
