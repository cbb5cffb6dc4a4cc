"""The guard over MPP's messages: Tempo charges with all their splits, and proofs of identity (P8)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from contracts.codec import ZERO_ADDRESS, Address
from contracts.mpp_proof import IdentityProof
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import MODERATO_PATHUSD, TEMPO_PATHUSD, TEMPO_USDCE
from tests.factories import never_frozen
from wallets.guard import Guard, Policy, Refusal, SigningRefused, WalletPolicy

WALLET, SISTER, PAYEE, SPLIT, STRANGER = (Address(bytes((number,)) * 20) for number in (1, 2, 3, 4, 5))
NOW_S = 1_800_000_000
MEMO = b"\xef" * 32
REALM, OLD_REALM = "api.example.com", "old.example.com"
WALLET_POLICY = WalletPolicy(
    chain_ids=frozenset({4217}),
    max_value_base={TEMPO_PATHUSD.key: 100},
    # SISTER, the wallet, the token and nobody are listed by mistake: they must be refused all the same.
    payees=frozenset({PAYEE, SPLIT, SISTER, WALLET, TEMPO_PATHUSD.address, ZERO_ADDRESS}),
    max_window_s=25,
    realms=frozenset({(4217, REALM), (4217, OLD_REALM)}),
    # Only a realm that is on both lists may have an old proof.
    legacy_realms=frozenset({(4217, OLD_REALM), (4217, "elsewhere.example.com")}),
    max_fee_base=40_000,
)
POLICY = Policy(wallets={WALLET: WALLET_POLICY}, own=frozenset({WALLET, SISTER}))
PRIMARY = TempoTransfer(PAYEE, 90, MEMO)
CHARGE = TempoCharge(
    token=TEMPO_PATHUSD,
    wallet=WALLET,
    transfers=(PRIMARY, TempoTransfer(SPLIT, 10)),
    valid_before=NOW_S + 25,
    gas=10**6,
    max_fee_per_gas=40 * 10**9,
    max_priority_fee_per_gas=10**9,
    sponsored=False,
)
PROOF = IdentityProof(WALLET, 4217, "challenge", REALM)


def guard(is_frozen: Callable[[Address], bool] = never_frozen) -> Guard:
    """Return a guard under the policy above."""
    return Guard(POLICY, is_frozen)


def refused(check: Callable[[], None]) -> Refusal:
    """Return the code with which a check refuses."""
    with pytest.raises(SigningRefused) as caught:
        check()
    assert caught.value.message
    return caught.value.code


def split_to(payee: Address) -> dict[str, Any]:
    """Return a change of the charge's split."""
    return {"transfers": (PRIMARY, TempoTransfer(payee, 10))}


def test_allows_exactly_what_the_policy_names() -> None:
    """The ceiling over all transfers, the fee and the window's end themselves are allowed."""
    guard().check_charge(WALLET, CHARGE, NOW_S)
    guard().check_charge(WALLET, dataclasses.replace(CHARGE, sponsored=True, gas=10**9), NOW_S)
    guard().check_proof(WALLET, PROOF)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Refusal.NOT_OURS, {"wallet": SISTER}),
        (Refusal.CHAIN_MISMATCH, {"token": MODERATO_PATHUSD}),
        (Refusal.TOKEN_NOT_ALLOWED, {"token": TEMPO_USDCE}),
        (Refusal.PAYEE_NOT_ALLOWED, {"transfers": (TempoTransfer(STRANGER, 90, MEMO),)}),
        (Refusal.PAYEE_NOT_ALLOWED, split_to(STRANGER)),
        (Refusal.PAYEE_FORBIDDEN, {"transfers": (TempoTransfer(SISTER, 90, MEMO),)}),
        (Refusal.PAYEE_FORBIDDEN, split_to(SISTER)),
        (Refusal.PAYEE_FORBIDDEN, split_to(WALLET)),
        (Refusal.PAYEE_FORBIDDEN, split_to(TEMPO_PATHUSD.address)),
        (Refusal.PAYEE_FORBIDDEN, split_to(ZERO_ADDRESS)),
        (Refusal.VALUE_ABOVE_MAX, {"transfers": (PRIMARY, TempoTransfer(SPLIT, 11))}),
        (Refusal.VALUE_ABOVE_MAX, {"transfers": (TempoTransfer(PAYEE, 101, MEMO),)}),
        (Refusal.FEE_ABOVE_MAX, {"gas": 10**6 + 1}),
        (Refusal.FEE_ABOVE_MAX, {"max_fee_per_gas": 40 * 10**9 + 1}),
        (Refusal.EXPIRED, {"valid_before": NOW_S}),
        (Refusal.WINDOW_TOO_LONG, {"valid_before": NOW_S + 26}),
    ],
)
def test_p8_refuses_every_other_charge(code: Refusal, change: dict[str, Any]) -> None:
    """P8: one changed field, one named refusal; a split is a payee like any other."""
    charge = dataclasses.replace(CHARGE, **change)
    assert refused(lambda: guard().check_charge(WALLET, charge, NOW_S)) == code


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Refusal.NOT_OURS, {"wallet": SISTER}),
        (Refusal.REALM_NOT_ALLOWED, {"realm": "api.example.org"}),
        (Refusal.REALM_NOT_ALLOWED, {"realm": REALM.upper()}),
        (Refusal.REALM_NOT_ALLOWED, {"chain_id": 42431}),
        (Refusal.REALM_NOT_ALLOWED, {"realm": "elsewhere.example.com", "version": 1}),
        (Refusal.PROOF_VERSION_NOT_ALLOWED, {"version": 2}),
        (Refusal.PROOF_VERSION_NOT_ALLOWED, {"version": 1}),
    ],
)
def test_p8_refuses_every_other_proof(code: Refusal, change: dict[str, Any]) -> None:
    """P8: another realm, the realm on another chain, and a proof that could be relayed, are refused."""
    assert refused(lambda: guard().check_proof(WALLET, dataclasses.replace(PROOF, **change))) == code


@pytest.mark.parametrize("version", [1, 2, 3])
def test_old_proofs_only_where_they_are_configured(version: Any) -> None:
    """A realm on both lists may have any version."""
    guard().check_proof(WALLET, dataclasses.replace(PROOF, realm=OLD_REALM, version=version))


def test_a_freeze_stops_charges_and_proofs() -> None:
    """A frozen wallet neither pays nor proves who it is."""
    frozen = guard(lambda wallet: wallet == WALLET)
    assert refused(lambda: frozen.check_charge(WALLET, CHARGE, NOW_S)) == Refusal.FROZEN
    assert refused(lambda: frozen.check_proof(WALLET, PROOF)) == Refusal.FROZEN


def test_default_deny() -> None:
    """A wallet without a policy signs nothing; a policy that names no realm and no fee allows neither."""
    ours = dataclasses.replace(CHARGE, wallet=SISTER)
    assert refused(lambda: guard().check_charge(SISTER, ours, NOW_S)) == Refusal.UNKNOWN_WALLET
    proof = dataclasses.replace(PROOF, wallet=SISTER)
    assert refused(lambda: guard().check_proof(SISTER, proof)) == Refusal.UNKNOWN_WALLET
    plain = WalletPolicy(frozenset({4217}), {TEMPO_PATHUSD.key: 100}, frozenset({PAYEE, SPLIT}), 25)
    bare = Guard(Policy({WALLET: plain}, frozenset({WALLET})), never_frozen)
    assert refused(lambda: bare.check_charge(WALLET, CHARGE, NOW_S)) == Refusal.FEE_ABOVE_MAX
    assert refused(lambda: bare.check_proof(WALLET, PROOF)) == Refusal.REALM_NOT_ALLOWED
    bare.check_charge(WALLET, dataclasses.replace(CHARGE, sponsored=True), NOW_S)


TILL_POLICY = WalletPolicy(
    frozenset({4217}), {TEMPO_PATHUSD.key: 100}, frozenset(), 25, max_fee_base=40_000, refunds=True
)
REFUND = dataclasses.replace(CHARGE, wallet=SISTER, transfers=(PRIMARY,))


def till_guard() -> Guard:
    """Return a guard in which SISTER is a till that PAYEE, SPLIT and two wallets of our own have paid."""
    funders = {PAYEE, SPLIT, WALLET, SISTER}
    policy = Policy({WALLET: WALLET_POLICY, SISTER: TILL_POLICY}, frozenset({WALLET, SISTER}))
    return Guard(policy, never_frozen, lambda till, to: till == SISTER and to in funders)


def test_p8_a_tills_charge_goes_back_to_one_funder() -> None:
    """P8: one transfer, its ceiling, its fee; as a payment it is refused."""
    till_guard().check_refund_charge(SISTER, REFUND, NOW_S)
    assert refused(lambda: till_guard().check_charge(SISTER, REFUND, NOW_S)) == Refusal.PAYEE_NOT_ALLOWED
    assert refused(lambda: till_guard().check_refund_charge(WALLET, CHARGE, NOW_S)) == Refusal.NO_REFUNDS
    assert refused(lambda: guard().check_refund_charge(WALLET, CHARGE, NOW_S)) == Refusal.NO_REFUNDS


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (Refusal.NOT_OURS, {"wallet": WALLET}),
        (Refusal.CHAIN_MISMATCH, {"token": MODERATO_PATHUSD}),
        (Refusal.TOKEN_NOT_ALLOWED, {"token": TEMPO_USDCE}),
        (Refusal.CALL_NOT_ALLOWED, {"transfers": (PRIMARY, TempoTransfer(SPLIT, 1))}),
        (Refusal.PAYEE_NOT_ALLOWED, {"transfers": (TempoTransfer(STRANGER, 90, MEMO),)}),
        (Refusal.PAYEE_FORBIDDEN, {"transfers": (TempoTransfer(WALLET, 90, MEMO),)}),
        (Refusal.PAYEE_FORBIDDEN, {"transfers": (TempoTransfer(SISTER, 90, MEMO),)}),
        (Refusal.VALUE_ABOVE_MAX, {"transfers": (TempoTransfer(PAYEE, 101, MEMO),)}),
        (Refusal.FEE_ABOVE_MAX, {"gas": 10**6 + 1}),
        (Refusal.EXPIRED, {"valid_before": NOW_S}),
        (Refusal.WINDOW_TOO_LONG, {"valid_before": NOW_S + 26}),
    ],
)
def test_p8_refuses_every_other_refund_charge(code: Refusal, change: dict[str, Any]) -> None:
    """P8: one changed field, one named refusal."""
    refund = dataclasses.replace(REFUND, **change)
    assert refused(lambda: till_guard().check_refund_charge(SISTER, refund, NOW_S)) == code
