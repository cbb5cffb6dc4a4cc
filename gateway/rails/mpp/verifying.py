"""Judges the payment in a credential against the challenge that it answers.

It must not send, store or ask a chain. Theory: a payment is taken when it is exactly what the sealed challenge asks for,
can still land, and is bound to that challenge by the payer's own signature (the memo, the prescribed nonce, the proof's
text); so nobody can lay claim to what somebody else has signed, even where they saw it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contracts.attribution import attribution_matches
from contracts.calls import SIGNATURE_MAX_BYTES
from contracts.codec import Address, ContractError, parse_address, parse_bytes32, parse_hex, parse_uint
from contracts.eip3009 import Authorization, mpp_evm_nonce
from contracts.mpp_proof import IdentityProof
from contracts.signature import SIGNATURE_BYTES, normalise_v, recover_address
from contracts.tempo_decode import MAX_RAW_BYTES, TempoTransaction, decode_tempo, read_transfer
from gateway.rails.mpp.credential import did_source
from gateway.rails.mpp.refusing import CredentialRefused, MppProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contracts.tokens import Token
    from gateway.rails.mpp.presented import Presented

__all__ = ["Window", "transaction_hash", "verify_authorization", "verify_identity", "verify_transaction"]

MIN_GAS: Final = 21_000
MAX_GAS: Final = 30_000_000
_HASH: Final = "hash"


@dataclass(frozen=True, slots=True)
class Window:
    """How long a payment must still be good for, and at most may be, in seconds from now.

    `most_s` is for transactions, which chains bound as well; `authorized_most_s` for authorizations, which nothing else does.
    """

    least_s: int = 3
    most_s: int = 900
    authorized_most_s: int = 4_200


def verify_transaction(presented: Presented, now_s: int, window: Window) -> TempoTransaction:
    """Return the Tempo transaction in a credential, ready to be sent: it pays the challenge and does nothing else.

    Refused besides anything that pays another amount, token or payee: what names no end or ends outside the window,
    what starts later, a nonce that is not expiring, what a sponsor has to sign, a transaction that the payer sent by
    itself, and a transfer without the memo of this very challenge. The specification would take one without a memo,
    stock clients never make one, and whoever saw it on its way could claim it for an order of their own.
    Raises CredentialRefused.
    """
    if presented.payload.get("type") == _HASH:
        raise _failed("send the signed transaction, not the hash of one: supportedModes is pull")
    _require_type(presented, "tempo", "transaction")
    try:
        transaction = decode_tempo(parse_hex(presented.payload.get("signature"), MAX_RAW_BYTES, "payload.signature"))
        _require_payment(presented, transaction)
    except ContractError as error:
        raise _failed(str(error)) from error
    _require_window(transaction, now_s, window)
    _require_source(presented, transaction.sender)
    return transaction


def transaction_hash(presented: Presented) -> bytes | None:
    """Return the hash of the Tempo transaction in a credential, by which it is known again; None where there is none."""
    if presented.method != "tempo" or presented.payload.get("type") != "transaction":
        return None
    try:
        return decode_tempo(parse_hex(presented.payload.get("signature"), MAX_RAW_BYTES, "payload.signature")).tx_hash
    except ContractError:
        return None


def verify_authorization(presented: Presented, token: Token, now_s: int, window: Window) -> tuple[Authorization, bytes]:
    """Return the EIP-3009 authorization in a credential, and its signature, which the token itself has yet to judge.

    Raises CredentialRefused unless it pays exactly what the challenge asks for, under the nonce that the challenge
    prescribes, and can be collected now and for a while.
    """
    _require_type(presented, "evm", "authorization")
    try:
        authorization, signature = _authorization(presented.payload, token)
        nonce = mpp_evm_nonce(presented.challenge_id, presented.realm)
    except ContractError as error:
        raise _failed(str(error)) from error
    if authorization.nonce != nonce:
        raise _failed("the nonce is not the one that this challenge prescribes: keccak256(id, realm)")
    if (presented.chain_id, presented.currency) != token.key or authorization.pay_to != presented.pay_to:
        raise _failed("the authorization pays another address")
    _require_amount(presented, authorization.value_base)
    if authorization.valid_after >= now_s:
        raise _failed("the authorization is not valid yet")
    if authorization.valid_before < now_s + window.least_s:
        raise CredentialRefused(MppProblem.PAYMENT_EXPIRED, "the authorization ends too soon to be collected")
    if authorization.valid_before > now_s + window.authorized_most_s:
        raise _failed(f"the authorization is good for more than {window.authorized_most_s} seconds")
    _require_source(presented, authorization.authorizer)
    return authorization, signature


def verify_identity(presented: Presented) -> Address:
    """Return the wallet that proves its key with a zero-amount credential: version 3 of the proof and no older one.

    Versions 1 and 2 leave out the account or the realm, so another site could relay our challenge and use the answer.
    Raises CredentialRefused.
    """
    _require_type(presented, "tempo", "proof")
    if presented.amount_base:
        raise _failed("a proof pays nothing, and this challenge asks for money")
    source = presented.source or ""
    try:
        wallet = parse_address(source.rpartition(":")[2], "source")
        if source.lower() != did_source(presented.chain_id, wallet).lower():
            raise _failed("source names no account on the challenge's chain")
        proof = IdentityProof(wallet, presented.chain_id, presented.challenge_id, presented.realm)
        signature = parse_hex(presented.payload.get("signature"), SIGNATURE_BYTES, "payload.signature")
        signer = recover_address(proof.digest, normalise_v(signature))
    except ContractError as error:
        raise _failed(str(error)) from error
    if signer != wallet:
        raise _failed("the proof was not signed by its source, or is of an older version")
    return wallet


def _require_type(presented: Presented, method: str, kind: str) -> None:
    if presented.method != method or presented.payload.get("type") != kind:
        raise _failed(f"{presented.method} is not answered with this type of payload")


def _require_payment(presented: Presented, transaction: TempoTransaction) -> None:
    """Raise CredentialRefused, or ContractError for calls of another kind."""
    if transaction.chain_id != presented.chain_id:
        raise _failed("the transaction is of another chain")
    if len(transaction.calls) != 1:
        raise _failed("the transaction is not one call")
    call = transaction.calls[0]
    if call.to != presented.currency:
        raise _failed("the transaction calls another contract than the token")
    transfer = read_transfer(call)
    if transfer.to != presented.pay_to:
        raise _failed("the transaction pays another address")
    _require_amount(presented, transfer.value_base)
    if transfer.memo is None or not attribution_matches(transfer.memo, presented.realm, presented.challenge_id):
        raise _failed("the transfer does not bear the memo of this challenge: use transferWithMemo")
    if not MIN_GAS <= transaction.gas <= MAX_GAS:
        raise _failed(f"a gas limit outside {MIN_GAS} to {MAX_GAS}")
    if not 0 < transaction.max_fee_per_gas >= transaction.max_priority_fee_per_gas:
        raise _failed("fees that no block could take")


def _require_amount(presented: Presented, value_base: int) -> None:
    if not presented.amount_base:
        raise _failed("the challenge asks who you are, and for no money")
    if value_base < presented.amount_base:
        why = f"{value_base} base units, asked for were {presented.amount_base}"
        raise CredentialRefused(MppProblem.PAYMENT_INSUFFICIENT, why)
    if value_base > presented.amount_base:
        raise _failed(f"{value_base} base units, asked for were {presented.amount_base}")


def _require_window(transaction: TempoTransaction, now_s: int, window: Window) -> None:
    if not transaction.expiring or transaction.valid_before is None:
        raise _failed("the transaction has no end: use the expiring nonce key and validBefore")
    if transaction.valid_before < now_s + window.least_s:
        raise CredentialRefused(MppProblem.PAYMENT_EXPIRED, "the transaction ends too soon to be sent")
    if transaction.valid_before > now_s + window.most_s:
        raise _failed(f"the transaction is good for more than {window.most_s} seconds")
    if transaction.valid_after is not None and transaction.valid_after >= now_s:
        raise _failed("the transaction is not valid yet")


def _require_source(presented: Presented, payer: Address) -> None:
    """`source` is a claim that we do not need; where it contradicts the signature, something is wrong."""
    if presented.source is not None and presented.source.lower() != did_source(presented.chain_id, payer).lower():
        raise _failed("source is not who signed")


def _authorization(payload: Mapping[str, Any], token: Token) -> tuple[Authorization, bytes]:
    signature = parse_hex(payload.get("signature"), SIGNATURE_MAX_BYTES, "payload.signature")
    authorization = Authorization(
        token=token,
        authorizer=parse_address(payload.get("from"), "payload.from"),
        pay_to=parse_address(payload.get("to"), "payload.to"),
        value_base=parse_uint(payload.get("value"), field="payload.value"),
        valid_after=parse_uint(payload.get("validAfter"), field="payload.validAfter"),
        valid_before=parse_uint(payload.get("validBefore"), field="payload.validBefore"),
        nonce=parse_bytes32(payload.get("nonce"), "payload.nonce"),
    )
    return authorization, normalise_v(signature)


def _failed(detail: str) -> CredentialRefused:
    return CredentialRefused(MppProblem.VERIFICATION_FAILED, detail)
