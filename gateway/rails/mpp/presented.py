"""Reads the credential with which somebody answers one of our challenges, and checks that the challenge is ours.

It must not judge the payment in it: that is `verifying`. Theory: everything that decides what is owed, to whom and for
what comes out of the sealed texts and out of nothing else, so after the seal is checked the rest of the credential can
only be a payment of exactly that or be refused.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from contracts.codec import Address, CodecError, parse_address, parse_uint, require_uint
from contracts.networks import CHAIN_ID_BITS
from gateway.rails.mpp.issuing import INTENT, PAYMENT_AUTHORIZATION, SealedTexts, body_digest
from gateway.rails.mpp.refusing import CredentialRefused, MppProblem
from gateway.rails.mpp.text import decode_base64url, is_base64url, load_request, parse_rfc3339_ms
from gateway.rails.x402.wire import WireError, load_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.rails.mpp.issuing import Seal

__all__ = ["MAX_CREDENTIAL_CHARS", "Presented", "find_credential", "open_credential"]

MAX_CREDENTIAL_CHARS: Final = 64 * 1024
MAX_FIELD_CHARS: Final = 16 * 1024

_OURS = re.compile(r"(?:^|,)[ \t]*payment(?=[ \t,]|$)[ \t]*([^,]*)", re.IGNORECASE | re.ASCII)
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)=*[ \t]*", re.ASCII)
_REQUIRED: Final = ("id", "realm", "method", "intent", "request")
_OPTIONAL: Final = ("expires", "digest", "header", "opaque")
_METHODS: Final = ("tempo", "evm")


@dataclass(frozen=True, slots=True)
class Presented:
    """A credential whose challenge is ours. Everything but `payload` and `source` is what we sealed.

    `currency` and `pay_to` are 20 bytes, `amount_base` is of the token. `payload` and `source` are the payer's words.
    """

    challenge_id: str
    realm: str
    method: str
    chain_id: int
    currency: Address
    pay_to: Address
    amount_base: int
    external_id: str
    expires_at_ms: int
    digest: str
    opaque: Mapping[str, str]
    payload: Mapping[str, Any]
    source: str | None

    def require_current(self, now_ms: int) -> None:
        """Raise CredentialRefused for a challenge that is over. Whoever has seen it before must have asked the store first."""
        if now_ms >= self.expires_at_ms:
            raise CredentialRefused(
                MppProblem.PAYMENT_EXPIRED, "the challenge has expired: ask again, and pay that one"
            )

    def require_body(self, body: bytes) -> None:
        """Raise CredentialRefused unless the request's body is the one that the challenge was given for."""
        if not hmac.compare_digest(self.digest, body_digest(body)):
            raise CredentialRefused(MppProblem.INVALID_CHALLENGE, "the challenge was given for another body")


def find_credential(values: Iterable[str]) -> str | None:
    """Return the one Payment credential in the values of Authorization and Payment-Authorization, None where there is none.

    Other schemes are passed over, also before or after it in a value that a proxy has joined. Raises CredentialRefused:
    bad-request for two credentials, which nobody sends by mistake and which must not both be settled.
    """
    found = [match[1] for value in values for match in _OURS.finditer(value)]
    if len(found) > 1:
        raise CredentialRefused(MppProblem.BAD_REQUEST, "a request carries one Payment credential")
    return found[0] if found else None


def open_credential(credential: str, seal: Seal, realm: str) -> Presented:
    """Return what a credential says, once its challenge is proven to be ours and of this realm.

    Raises CredentialRefused: malformed-credential, invalid-challenge, method-unsupported. Expiry and body are asked for
    separately, for a credential that was taken before keeps its answer longer than its challenge lives.
    """
    document = _document(credential)
    challenge, payload, source = document.get("challenge"), document.get("payload"), document.get("source")
    if not isinstance(challenge, dict) or not isinstance(payload, dict):
        raise _malformed("challenge and payload are objects")
    if source is not None and not isinstance(source, str):
        raise _malformed("source is text")
    texts = _texts(challenge)
    if texts.realm != realm or not seal.made(challenge["id"], texts):
        raise CredentialRefused(MppProblem.INVALID_CHALLENGE, "this server did not give out the challenge")
    return _presented(challenge["id"], texts, payload, source)


def _document(credential: str) -> dict[str, Any]:
    token = _TOKEN.fullmatch(credential) if len(credential) <= MAX_CREDENTIAL_CHARS else None
    if token is None:
        raise _malformed(f"a credential is base64url of at most {MAX_CREDENTIAL_CHARS} characters")
    try:
        return load_object(decode_base64url(token[1]))
    except WireError as error:
        raise _malformed(str(error)) from error


def _texts(challenge: dict[str, Any]) -> SealedTexts:
    """The texts as they came. Nothing is made of them before the seal is checked."""
    values = {name: challenge.get(name) for name in (*_REQUIRED, *_OPTIONAL)}
    for name, value in values.items():
        if value is None and name in _OPTIONAL:
            continue
        if not isinstance(value, str) or not value or len(value) > MAX_FIELD_CHARS or not value.isascii():
            raise _malformed(f"challenge.{name} is missing or no text")
    texts = {name: value or "" for name, value in values.items() if name != "id"}
    if not is_base64url(texts["request"]) or texts["header"] not in {"", PAYMENT_AUTHORIZATION}:
        raise CredentialRefused(MppProblem.INVALID_CHALLENGE, "this server did not give out the challenge")
    return SealedTexts(**texts)


def _presented(challenge_id: str, texts: SealedTexts, payload: dict[str, Any], source: str | None) -> Presented:
    """Read what we sealed. An older or newer version of ourselves may have sealed something else: refused, not guessed."""
    if texts.method not in _METHODS or texts.intent != INTENT:
        raise CredentialRefused(MppProblem.METHOD_UNSUPPORTED, f"{texts.method}/{texts.intent} is not served")
    try:
        request = load_request(decode_base64url(texts.request))
        opaque = load_request(decode_base64url(texts.opaque))
        return Presented(
            challenge_id=challenge_id,
            realm=texts.realm,
            method=texts.method,
            chain_id=_chain(request["methodDetails"]["chainId"]),
            currency=parse_address(request["currency"], "currency"),
            pay_to=parse_address(request["recipient"], "recipient"),
            amount_base=parse_uint(request["amount"], field="amount"),
            external_id=_text(request.get("externalId", "")),
            expires_at_ms=parse_rfc3339_ms(texts.expires),
            digest=texts.digest,
            opaque=MappingProxyType({name: _text(value) for name, value in opaque.items()}),
            payload=MappingProxyType(payload),
            source=source,
        )
    except (WireError, CodecError, KeyError, TypeError) as error:
        why = "the challenge is of another version of this server"
        raise CredentialRefused(MppProblem.INVALID_CHALLENGE, why) from error


def _chain(value: object) -> int:
    return require_uint(value, CHAIN_ID_BITS, "chainId")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WireError("not a text")
    return value


def _malformed(detail: str) -> CredentialRefused:
    return CredentialRefused(MppProblem.MALFORMED_CREDENTIAL, detail)
