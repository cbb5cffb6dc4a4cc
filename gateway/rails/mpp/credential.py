"""Turns what was signed into the header that an MPP server takes as payment or proof.

It must not sign, store or send. Theory: the server checks its own seal over the challenge's texts, so they go back
character for character, never re-encoded; like an x402 credential it is made once, stored, and shown byte for byte.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from contracts.codec import ADDRESS_BYTES, WORD_BYTES, checksum, require_bytes, to_hex
from gateway.rails.mpp.text import encode_base64url
from gateway.rails.x402.wire import compact_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contracts.codec import Address
    from contracts.eip3009 import Authorization
    from gateway.rails.offer import MppOffer

__all__ = [
    "authorization_payload",
    "charge_payload",
    "did_source",
    "encode_credential",
    "hash_payload",
    "proof_payload",
]

_SCHEME: Final = "Payment"
_SIGNATURE_BYTES: Final = 65
_TEMPO_TYPES: Final = (0x76, 0x78)


def encode_credential(offer: MppOffer, payload: Mapping[str, str], source: str | None) -> tuple[str, str]:
    """The header name and value that present `payload` for `offer`; `source` (see `did_source`) says who pays.

    Raises ValueError for a payload that the offer does not ask for: money for a proof, a proof for money, a hash where
    somebody else pays the fee, another payee, amount or payload than the method's; and for a proof without its
    source. Such a credential must never exist.
    """
    _require_match(offer, payload, source)
    credential: dict[str, object] = {"challenge": dict(offer.echo), "payload": dict(payload)}
    if source is not None:
        credential["source"] = source
    return offer.header, f"{_SCHEME} {encode_base64url(compact_json(credential).encode('ascii'))}"


def charge_payload(raw_tx: bytes) -> Mapping[str, str]:
    """Pull mode: a signed Tempo transaction (0x76), or one that waits for the fee payer (0x78). Raises ValueError."""
    if len(raw_tx) <= WORD_BYTES or raw_tx[0] not in _TEMPO_TYPES:
        raise ValueError("not a Tempo transaction")
    return MappingProxyType({"type": "transaction", "signature": to_hex(raw_tx)})


def hash_payload(tx_hash: bytes) -> Mapping[str, str]:
    """Push mode: the hash of a transaction that we have sent. Raises ValueError unless it is 32 bytes."""
    return MappingProxyType({"type": "hash", "hash": to_hex(require_bytes(tx_hash, WORD_BYTES, "tx_hash"))})


def proof_payload(signature: bytes) -> Mapping[str, str]:
    """Who we are: a signature over the challenge. Raises ValueError unless it is 65 bytes."""
    signed = require_bytes(signature, _SIGNATURE_BYTES, "signature")
    return MappingProxyType({"type": "proof", "signature": to_hex(signed)})


def authorization_payload(authorization: Authorization, signature: bytes) -> Mapping[str, str]:
    """EIP-3009 on an EVM chain: the server collects. Raises ValueError unless the signature is 65 bytes."""
    signed = require_bytes(signature, _SIGNATURE_BYTES, "signature")
    return MappingProxyType(
        {
            "type": "authorization",
            "from": checksum(authorization.authorizer),
            "to": checksum(authorization.pay_to),
            "value": str(authorization.value_base),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": to_hex(authorization.nonce),
            "signature": to_hex(signed),
        }
    )


def did_source(chain_id: int, address: Address) -> str:
    """The payer as a DID of its account on a chain. Raises ValueError unless the address is 20 bytes."""
    require_bytes(address, ADDRESS_BYTES, "address")
    return f"did:pkh:eip155:{chain_id}:{checksum(address)}"


def _require_match(offer: MppOffer, payload: Mapping[str, str], source: str | None) -> None:
    kind = payload.get("type")
    if (kind == "proof") is not offer.is_proof:
        raise ValueError("a proof answers an amount of zero, and nothing else does")
    if kind == "proof" and source is None:
        raise ValueError("a proof names its source")
    if (kind == "authorization") is not (offer.method == "evm"):
        raise ValueError(f"the payload {kind!r} is none of the method {offer.method}")
    if kind == "authorization" and (payload["to"], payload["value"]) != (
        checksum(offer.pay_to),
        str(offer.amount_base),
    ):
        raise ValueError("the authorization does not pay what the offer asks")
    if kind == "hash" and (offer.fee_payer or offer.modes == ("pull",)):
        raise ValueError("the offer takes no transaction that we send ourselves")
    if kind == "transaction" and offer.push_only:
        raise ValueError("the offer takes only transactions that we send ourselves")
    if payload.get("signature", "").startswith("0x78") and kind == "transaction" and not offer.fee_payer:
        raise ValueError("nobody pays this transaction's fee")
    if kind not in {"authorization", "hash", "proof", "transaction"}:
        raise ValueError(f"{kind!r} is no payload of a charge")
