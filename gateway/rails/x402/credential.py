"""Turns a signed EIP-3009 authorization into the header that a server takes as payment.

It must not sign, store or send. Theory: the header is a pure function of challenge, offer, authorization and
signature, so it is made once, stored, and re-presented byte for byte.
"""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from contracts.codec import checksum
from gateway.rails.x402.wire import compact_json

if TYPE_CHECKING:
    from contracts.codec import Address
    from contracts.eip3009 import Authorization
    from gateway.rails.offer import Challenge, Offer

__all__ = ["MAX_ECHO_CHARS", "encode_payment"]

V1_HEADER: Final = "X-PAYMENT"
V2_HEADER: Final = "PAYMENT-SIGNATURE"
IDENTIFIER_EXTENSION: Final = "payment-identifier"

# Schemas may be of any size, and a request header over 8 KB is refused by many. The echo may be left out whole.
MAX_ECHO_CHARS: Final = 3 * 1024
_V1: Final = 1
_SIGNATURE_BYTES: Final = 65


def encode_payment(
    challenge: Challenge,
    offer: Offer,
    authorization: Authorization,
    signature: bytes,
    *,
    payment_identifier: str | None = None,
) -> tuple[str, str]:
    """The header name and value that present `authorization` for `offer`, an offer of `challenge`.

    Version 1 repeats the server's spelling of the network; version 2 echoes the entry, the resource and the
    extensions, and adds `payment_identifier` where the server takes one. The value is standard base64, padded, of
    compact JSON. Raises ValueError if the authorization does not pay exactly what the offer asks, or the signature
    is not 65 bytes: such a credential must never exist.
    """
    _require_match(offer, authorization, signature)
    payload = _payload(offer, authorization, signature)
    if offer.version == _V1:
        head = f'{{"x402Version":1,"scheme":"{offer.scheme}","network":{json.dumps(offer.wire_network)}'
        return V1_HEADER, _base64(f'{head},"payload":{payload}}}')
    parts = [f'{{"x402Version":2,"payload":{payload},"accepted":{offer.accepted_json}']
    if challenge.resource_json is not None:
        parts.append(f'"resource":{challenge.resource_json}')
    extensions = _extensions(challenge, payment_identifier)
    if extensions:
        parts.append(f'"extensions":{extensions}')
    return V2_HEADER, _base64(",".join(parts) + "}")


def _require_match(offer: Offer, authorization: Authorization, signature: bytes) -> None:
    token = authorization.token
    if (token.chain_id, token.address) != (offer.chain_id, offer.asset):
        raise ValueError("the authorization is for another token than the offer")
    if authorization.pay_to != offer.pay_to or authorization.value_base != offer.amount_base:
        raise ValueError("the authorization does not pay what the offer asks")
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError("the signature is not 65 bytes")


def _payload(offer: Offer, authorization: Authorization, signature: bytes) -> str:
    return (
        f'{{"signature":"0x{signature.hex()}","authorization":{{"from":"{_spelled(authorization.authorizer)}",'
        # Some servers compare payTo as text, so it goes back in the spelling in which it came.
        f'"to":"{offer.wire_pay_to}","value":"{authorization.value_base}","validAfter":"{authorization.valid_after}",'
        f'"validBefore":"{authorization.valid_before}","nonce":"0x{authorization.nonce.hex()}"}}}}'
    )


@lru_cache(maxsize=256)
def _spelled(address: Address) -> str:
    """EIP-55, since facilitators built on web3.py refuse any other spelling."""
    return checksum(address)


def _extensions(challenge: Challenge, payment_identifier: str | None) -> str:
    """The `extensions` object to send, or '': everything as advertised, or if that is too long our identifier alone."""
    items = [
        (key, _with_identifier(value, payment_identifier) if key == IDENTIFIER_EXTENSION else value)
        for key, value in challenge.extensions
    ]
    if sum(len(key) + len(value) for key, value in items) > MAX_ECHO_CHARS:
        items = [(key, value) for key, value in items if key == IDENTIFIER_EXTENSION and len(value) <= MAX_ECHO_CHARS]
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in items) + "}" if items else ""


def _with_identifier(advertised: str, payment_identifier: str | None) -> str:
    """The server's `payment-identifier` extension with our id in `info`; one purchase has one, whatever is retried."""
    if payment_identifier is None:
        return advertised
    extension: Any = json.loads(advertised)
    if not isinstance(extension, dict) or not isinstance(extension.get("info"), dict):
        return advertised
    return compact_json(extension | {"info": extension["info"] | {"id": payment_identifier}})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("ascii")).decode("ascii")
