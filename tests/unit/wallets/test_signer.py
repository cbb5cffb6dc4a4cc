"""The local signer: right signatures, the guard inside every call, and no sight of its key (P8, P10)."""

import copy
import dataclasses
import io
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
import structlog
from eth_account import Account

from contracts.codec import Address, to_hex
from contracts.eip3009 import Authorization
from contracts.mpp_proof import IdentityProof
from contracts.signature import SignatureError, address_of, load_key, recover_address
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import BASE_USDC, TEMPO_PATHUSD
from tests.factories import never_frozen
from wallets.guard import CallKey, Guard, Policy, SigningRefused, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner, Signer
from wallets.watermark import Watermark

KEY = Secret(bytes(range(32, 64)))
WALLET = address_of(load_key(KEY.reveal()))
PAYEE = Address(b"\x22" * 20)
NOW_S = 1_800_000_000
SPELLINGS = (KEY.reveal().hex(), str(int.from_bytes(KEY.reveal(), "big")), repr(KEY.reveal())[2:-1])
POLICY = Policy(
    {
        WALLET: WalletPolicy(
            chain_ids=frozenset({8453, 4217}),
            max_value_base={BASE_USDC.key: 10, TEMPO_PATHUSD.key: 10},
            payees=frozenset({PAYEE}),
            max_window_s=600,
            calls={CallKey(8453, PAYEE, b""): 1},
            max_fee_wei=10**18,
            realms=frozenset({(4217, "api.example.com")}),
            max_fee_base=40_000,
        )
    },
    frozenset({WALLET}),
)
AUTH = Authorization(BASE_USDC, WALLET, PAYEE, 10, 0, NOW_S + 600, b"\5" * 32)
CHARGE = TempoCharge(
    token=TEMPO_PATHUSD,
    wallet=WALLET,
    transfers=(TempoTransfer(PAYEE, 10, b"\xef" * 32),),
    valid_before=NOW_S + 25,
    gas=10**6,
    max_fee_per_gas=40 * 10**9,
    max_priority_fee_per_gas=10**9,
    sponsored=False,
)
PROOF = IdentityProof(WALLET, 4217, "challenge", "api.example.com")
TX: dict[str, Any] = {
    "chainId": 8453,
    "nonce": 0,
    "to": to_hex(PAYEE),
    "value": 1,
    "gas": 21_000,
    "maxFeePerGas": 10**9,
    "maxPriorityFeePerGas": 1,
}


@pytest.fixture
def watermark(tmp_path: Path) -> Watermark:
    """A real mark beside a keystore."""
    return Watermark.create(tmp_path / "watermark")


@pytest.fixture
def signer(watermark: Watermark) -> LocalSigner:
    """A signer under the policy above, at NOW_S."""
    return LocalSigner(WALLET, KEY, Guard(POLICY, never_frozen), watermark, lambda: NOW_S)


def test_signs_all_four_messages(signer: Signer) -> None:
    """Each message's signature recovers to the wallet; the same message signs the same."""
    assert recover_address(AUTH.digest, signer.sign_authorization(AUTH)) == WALLET
    assert recover_address(CHARGE.signing_hash, signer.sign_charge(CHARGE)) == WALLET
    assert recover_address(PROOF.digest, signer.sign_proof(PROOF)) == WALLET
    assert CHARGE.encode(signer.sign_charge(CHARGE)) == CHARGE.encode(signer.sign_charge(CHARGE))
    assert Account.recover_transaction(signer.sign_transaction(TX)).lower() == to_hex(WALLET)
    assert signer.sign_authorization(AUTH) == signer.sign_authorization(AUTH)
    assert signer.address == WALLET


def test_p8_the_guard_runs_inside_every_call(signer: Signer, watermark: Watermark) -> None:
    """P8: what the guard refuses is not signed, and leaves no trace in the mark."""
    with pytest.raises(SigningRefused):
        signer.sign_authorization(dataclasses.replace(AUTH, value_base=11))
    with pytest.raises(SigningRefused):
        signer.sign_authorization(dataclasses.replace(AUTH, valid_before=NOW_S + 601))
    with pytest.raises(SigningRefused):
        signer.sign_charge(dataclasses.replace(CHARGE, valid_before=NOW_S + 601))
    with pytest.raises(SigningRefused):
        signer.sign_proof(dataclasses.replace(PROOF, realm="api.example.org"))
    with pytest.raises(SigningRefused):
        signer.sign_transaction(TX | {"value": 2})
    assert watermark.read().max_valid_before == 0


def test_p12_the_windows_end_is_on_record_before_the_signature(signer: Signer, watermark: Watermark) -> None:
    """P12: every payment handed out raises the mark's horizon, a proof does not; without a mark nothing is signed."""
    signer.sign_proof(PROOF)
    assert watermark.read().max_valid_before == 0
    signer.sign_charge(CHARGE)
    assert watermark.read().max_valid_before == NOW_S + 25
    signer.sign_authorization(AUTH)
    assert watermark.read().max_valid_before == NOW_S + 600
    watermark.close()
    later = LocalSigner(WALLET, KEY, Guard(POLICY, never_frozen), watermark, lambda: NOW_S + 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        later.sign_authorization(dataclasses.replace(AUTH, valid_before=NOW_S + 601))
    with pytest.raises(OSError, match="Bad file descriptor"):
        later.sign_charge(dataclasses.replace(CHARGE, valid_before=NOW_S + 601))


def test_a_till_signs_refunds_and_nothing_else(watermark: Watermark) -> None:
    """P8, P12: both forms recover to the till, raise the mark's horizon, and a purchase is refused."""
    policy = dataclasses.replace(POLICY.wallets[WALLET], payees=frozenset(), refunds=True)
    guard = Guard(Policy({WALLET: policy}, frozenset({WALLET})), never_frozen, lambda till, _: till == WALLET)
    till = LocalSigner(WALLET, KEY, guard, watermark, lambda: NOW_S)
    assert recover_address(CHARGE.signing_hash, till.sign_refund_charge(CHARGE)) == WALLET
    assert watermark.read().max_valid_before == NOW_S + 25
    assert recover_address(AUTH.digest, till.sign_refund(AUTH)) == WALLET
    assert watermark.read().max_valid_before == NOW_S + 600
    with pytest.raises(SigningRefused):
        till.sign_authorization(AUTH)
    with pytest.raises(SigningRefused):
        till.sign_charge(CHARGE)


def test_p8_a_wallet_that_spends_signs_no_refund(signer: LocalSigner, watermark: Watermark) -> None:
    """P8: whoever has not been made a till sends nothing back, and the mark stays."""
    with pytest.raises(SigningRefused):
        signer.sign_refund(AUTH)
    with pytest.raises(SigningRefused):
        signer.sign_refund_charge(CHARGE)
    assert watermark.read().max_valid_before == 0


def test_p10_the_key_is_nowhere_to_be_seen(signer: LocalSigner) -> None:
    """P10: not in repr, attributes, pickles or copies."""
    shown = repr(signer) + repr([getattr(signer, name) for name in LocalSigner.__slots__])
    assert not any(spelling in shown for spelling in SPELLINGS)
    assert to_hex(WALLET) in repr(signer)
    with pytest.raises(TypeError, match="never serialised"):
        pickle.dumps(signer)
    with pytest.raises(TypeError, match="never serialised"):
        copy.deepcopy(signer)
    with pytest.raises(TypeError):
        vars(signer)


@pytest.mark.parametrize("failure", ["digest", "refused", "wrong-address", "wrong-key"])
def test_p10_tracebacks_and_logs_show_no_key(signer: LocalSigner, failure: str) -> None:
    """P10: every way to fail, rendered with the locals of its frames by traceback and by structlog."""
    out = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=True)),
            structlog.processors.JSONRenderer(),
        ],
    )
    guard = Guard(POLICY, never_frozen)
    try:
        if failure == "digest":
            signer._sign(b"not a digest")
        elif failure == "refused":
            signer.sign_transaction(TX | {"value": 2})
        elif failure == "wrong-address":
            LocalSigner(PAYEE, KEY, guard, signer._horizon, lambda: NOW_S)
        else:
            LocalSigner(WALLET, Secret(KEY.reveal() + KEY.reveal()), guard, signer._horizon, lambda: NOW_S)
    except (SigningRefused, SignatureError) as error:
        log.exception("failed")
        rendered = traceback.TracebackException.from_exception(error, capture_locals=True)
        out.write("".join(rendered.format()))
    text = out.getvalue()
    assert "Traceback" in text
    assert not any(spelling in text for spelling in SPELLINGS)
