"""What a wallet signs for an accepted offer, and the header that shows it: one function for each way of paying.

Must not know calls, holds or vendors.  Theory (P4, P13): whatever is signed has one name on chain. Of x402 it follows from
the purchase; of a Tempo charge it is a memo that holds the purchase and the challenge; of MPP's EVM charge, and of a seller
that prescribes the memo, it is the seller's own choice, and then it must be shown to be new before it is used.
"""

from dataclasses import dataclass

from contracts.attribution import attribution_memo
from contracts.codec import Address
from contracts.eip3009 import Authorization, mpp_evm_nonce, purchase_nonce
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import Token
from gateway.core.records import AuthorizationTerms, TransferKind
from gateway.core.routes import Window
from gateway.ports import Block
from gateway.rails.mpp.credential import (
    authorization_payload,
    charge_payload,
    did_source,
    encode_credential,
    hash_payload,
)
from gateway.rails.offer import Challenge, MppOffer, Offer
from gateway.rails.x402.credential import encode_payment
from wallets.signer import Signer

SPONSORED_GAS_MAX = 2_000_000
SPONSORED_FEE_MAX_ATTO = 5 * 10**16
"""What the SDKs' sponsors pay at most, gas and fee; a transaction that may cost more is refused by them."""


@dataclass(frozen=True, slots=True)
class TempoFees:
    """What a wallet may pay for a transaction on one Tempo chain, and how long it lives.

    Prices are atto-USD (1e-18) per gas. `gas` is for one transfer, perhaps to somebody who never held the token, and
    `gas_per_split` for each further one. The chain takes no expiring transaction that lives for longer than 30 s.
    """

    gas: int = 1_000_000
    gas_per_split: int = 300_000
    max_fee_per_gas: int = 40 * 10**9
    max_priority_fee_per_gas: int = 10**9
    valid_for_s: int = 25

    def bounds(self, splits: int, *, sponsored: bool) -> tuple[int, int]:
        """Return gas and highest price of a charge with so many splits."""
        gas = self.gas + splits * self.gas_per_split
        if not sponsored:
            return gas, self.max_fee_per_gas
        gas = min(gas, SPONSORED_GAS_MAX)
        return gas, min(self.max_fee_per_gas, SPONSORED_FEE_MAX_ATTO // gas)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a signature rests on besides the offer. `now_s` is the later of our clock and the chain's newest block."""

    payment_id: str
    token: Token
    wallet: Address
    now_s: int
    head: Block
    window: Window
    fees: TempoFees


@dataclass(frozen=True, slots=True)
class Credential:
    """A signed promise: its terms, and the header that shows it.

    `raw` is the transaction that we send ourselves, where the seller wants no more than its hash. `prescribed` says
    that the seller chose the promise's name on chain.
    """

    terms: AuthorizationTerms
    header: tuple[str, str]
    raw: bytes | None = None
    prescribed: bool = False


def valid_before_of(offer: Offer | MppOffer, now_s: int, window: Window, fees: TempoFees) -> int:
    """Return when a promise for an offer ends, made now (Unix seconds): never later than the seller's challenge."""
    if isinstance(offer, Offer):
        return now_s + window.clamp(offer.max_timeout_s)
    end_s = now_s + (fees.valid_for_s if offer.method == "tempo" else window.max_s)
    return min(end_s, offer.expires_at_ms // 1000)


def sign_x402(signer: Signer, challenge: Challenge, offer: Offer, basis: Basis) -> Credential:
    """Sign an x402 offer. Raises SigningRefused."""
    nonce = purchase_nonce(basis.token.chain_id, basis.token.address, basis.wallet, basis.payment_id)
    authorization = _authorization(offer, basis, nonce)
    signature = signer.sign_authorization(authorization)
    header = encode_payment(challenge, offer, authorization, signature, payment_identifier=basis.payment_id)
    return Credential(_authorization_terms(authorization, basis), header)


def sign_evm(signer: Signer, offer: MppOffer, basis: Basis) -> Credential:
    """Sign an MPP charge on an EVM chain, with the nonce that the specification prescribes. Raises SigningRefused."""
    authorization = _authorization(offer, basis, mpp_evm_nonce(offer.challenge_id, offer.realm))
    payload = authorization_payload(authorization, signer.sign_authorization(authorization))
    header = encode_credential(offer, payload, did_source(offer.chain_id, basis.wallet))
    return Credential(_authorization_terms(authorization, basis), header, prescribed=True)


def sign_tempo(signer: Signer, offer: MppOffer, basis: Basis) -> Credential:
    """Sign an MPP charge on Tempo: to be collected by the seller, or sent by us where it takes nothing else.

    Raises SigningRefused, and ContractError for an offer that could not be told from another on chain.
    """
    charge = _charge(offer, basis)
    raw = charge.encode(signer.sign_charge(charge))
    tx_hash = charge.tx_hash(raw)
    terms = AuthorizationTerms(
        chain_id=basis.token.chain_id,
        token=basis.token.address,
        asset=basis.token.asset_id,
        wallet=basis.wallet,
        pay_to=offer.pay_to,
        nonce=charge.memo,
        value_base=offer.amount_base,
        valid_before_s=charge.valid_before,
        signed_at_block=basis.head.number,
        kind=TransferKind.TEMPO,
        fee_base=charge.max_fee_base,
        splits=tuple((bytes(split.pay_to), split.amount_base) for split in offer.splits),
        tx_hash=tx_hash,
    )
    pushed = offer.push_only and tx_hash is not None
    payload = hash_payload(tx_hash) if pushed and tx_hash is not None else charge_payload(raw)
    header = encode_credential(offer, payload, did_source(offer.chain_id, basis.wallet))
    return Credential(terms, header, raw if pushed else None, prescribed=offer.memo is not None)


def _charge(offer: MppOffer, basis: Basis) -> TempoCharge:
    """The payment's id stands in the memo as the client, so no two charges of ours share one, whatever a seller does."""
    memo = offer.memo or attribution_memo(offer.realm, offer.challenge_id, client_id=basis.payment_id)
    rest_base = offer.amount_base - sum(split.amount_base for split in offer.splits)
    splits = (TempoTransfer(split.pay_to, split.amount_base, split.memo) for split in offer.splits)
    gas, max_fee_per_gas = basis.fees.bounds(len(offer.splits), sponsored=offer.fee_payer)
    return TempoCharge(
        token=basis.token,
        wallet=basis.wallet,
        transfers=(TempoTransfer(offer.pay_to, rest_base, memo), *splits),
        valid_before=valid_before_of(offer, basis.now_s, basis.window, basis.fees),
        gas=gas,
        max_fee_per_gas=max_fee_per_gas,
        max_priority_fee_per_gas=min(basis.fees.max_priority_fee_per_gas, max_fee_per_gas),
        sponsored=offer.fee_payer,
    )


def _authorization(offer: Offer | MppOffer, basis: Basis, nonce: bytes) -> Authorization:
    return Authorization(
        token=basis.token,
        authorizer=basis.wallet,
        pay_to=offer.pay_to,
        value_base=offer.amount_base,
        valid_after=0,
        valid_before=valid_before_of(offer, basis.now_s, basis.window, basis.fees),
        nonce=nonce,
    )


def _authorization_terms(authorization: Authorization, basis: Basis) -> AuthorizationTerms:
    return AuthorizationTerms(
        chain_id=basis.token.chain_id,
        token=basis.token.address,
        asset=basis.token.asset_id,
        wallet=basis.wallet,
        pay_to=authorization.pay_to,
        nonce=authorization.nonce,
        value_base=authorization.value_base,
        valid_before_s=authorization.valid_before,
        signed_at_block=basis.head.number,
    )
