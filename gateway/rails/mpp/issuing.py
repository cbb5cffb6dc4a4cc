"""Asks for one MPP charge or proof: the seal over a challenge's texts, and the header line that carries it.

It must not know orders, accounts or what was asked before. Theory: no row is kept of a challenge that nobody may ever
answer; its id is a MAC over everything that matters in it, so whatever comes back under an id of ours is what we said,
character for character. The seal proves that we asked, never that we ask for the first time: single use is the store's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from contracts.codec import checksum
from gateway.rails.mpp.text import encode_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contracts.codec import Address
    from contracts.tokens import Token

__all__ = [
    "AUTHORIZATION",
    "INTENT",
    "PAYMENT_AUTHORIZATION",
    "Charge",
    "Seal",
    "SealedTexts",
    "body_digest",
    "canonical_json",
    "challenge_header",
    "issue",
]

AUTHORIZATION: Final = "Authorization"
PAYMENT_AUTHORIZATION: Final = "Payment-Authorization"
INTENT: Final = "charge"
MIN_SECRET_BYTES: Final = 32

_SEPARATOR: Final = "|"


@dataclass(frozen=True, slots=True)
class SealedTexts:
    """The texts of a challenge that its id seals; "" stands for one that it does not have."""

    realm: str
    method: str
    intent: str
    request: str
    expires: str = ""
    digest: str = ""
    header: str = ""
    opaque: str = ""

    @property
    def slots(self) -> tuple[str, ...]:
        """The seven slots of the seal; eight where the credential goes into another header than Authorization."""
        header = () if self.header in {"", AUTHORIZATION} else (self.header,)
        return self.realm, self.method, self.intent, self.request, self.expires, self.digest, *header, self.opaque


class Seal:
    """Makes and checks ids with HMAC-SHA256. The first secret makes them, all of them check: that is how one is rotated.

    It keeps keyed hashes and no secret, so nothing that prints it shows one. Raises ValueError for a secret of less than
    32 bytes, or for none.
    """

    __slots__ = ("_macs",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) < MIN_SECRET_BYTES for secret in secrets):
            raise ValueError(f"a seal needs secrets of at least {MIN_SECRET_BYTES} bytes")
        self._macs = tuple(hmac.new(secret, digestmod=hashlib.sha256) for secret in secrets)

    def make(self, texts: SealedTexts) -> str:
        """Return the id of a challenge."""
        return _id(self._macs[0], texts)

    def made(self, challenge_id: str, texts: SealedTexts) -> bool:
        """Say whether this is the id of these texts, in a time that tells nothing of how nearly.

        Texts that hold the separator are nobody's: two sets of slots could join to the same bytes.
        """
        if any(_SEPARATOR in slot for slot in texts.slots) or not challenge_id.isascii():
            return False
        return any(hmac.compare_digest(_id(mac, texts), challenge_id) for mac in self._macs)


def _id(mac: hmac.HMAC, texts: SealedTexts) -> str:
    fresh = mac.copy()
    fresh.update(_SEPARATOR.join(texts.slots).encode("utf-8", "surrogatepass"))
    return encode_base64url(fresh.digest())


@dataclass(frozen=True, slots=True)
class Charge:
    """One thing to ask for: `amount_base` of a token to `pay_to`; 0 asks who the payer is (Tempo only).

    The token's standard decides the method: a TIP-20 is paid by `tempo`, an EIP-3009 token by `evm`. `opaque` comes back
    with the credential and is readable on the way. `digest` binds the request's body ("" binds none).
    """

    token: Token
    pay_to: Address
    amount_base: int
    realm: str
    expires_at_ms: int
    opaque: Mapping[str, str]
    external_id: str = ""
    digest: str = ""
    beside_bearer: bool = False
    description: str = ""

    @property
    def method(self) -> Literal["tempo", "evm"]:
        """The method by which it is paid."""
        return "tempo" if self.token.standard == "tip20" else "evm"

    @property
    def request(self) -> dict[str, Any]:
        """The challenge's request object, as MPP has it for each of its methods."""
        details: dict[str, Any] = {"chainId": self.token.chain_id}
        if self.method == "evm":
            details |= {"credentialTypes": ["authorization"], "decimals": self.token.decimals}
        elif self.amount_base:
            details["supportedModes"] = ["pull"]
        request: dict[str, Any] = {
            "amount": str(self.amount_base),
            "currency": checksum(self.token.address),
            "methodDetails": details,
            "recipient": checksum(self.pay_to),
        }
        return request | {"externalId": self.external_id} if self.external_id else request


def issue(seal: Seal, charge: Charge) -> tuple[str, SealedTexts]:
    """Return the id and the sealed texts of a charge's challenge. Raises ValueError for an amount that is none."""
    if charge.amount_base < 0 or (charge.amount_base == 0 and charge.method != "tempo"):
        raise ValueError(f"{charge.method} is not asked for an amount of {charge.amount_base}")
    if _SEPARATOR in charge.realm + charge.digest:
        raise ValueError("a realm or a digest with the seal's separator")
    texts = SealedTexts(
        realm=charge.realm,
        method=charge.method,
        intent=INTENT,
        request=encode_base64url(canonical_json(charge.request)),
        expires=_rfc3339(charge.expires_at_ms),
        digest=charge.digest,
        header=PAYMENT_AUTHORIZATION if charge.beside_bearer else "",
        opaque=encode_base64url(canonical_json(dict(charge.opaque))),
    )
    return seal.make(texts), texts


def challenge_header(challenge_id: str, texts: SealedTexts, description: str = "") -> str:
    """Return the value of one `WWW-Authenticate` line. `description` is for people, and outside the seal."""
    params = {
        "id": challenge_id,
        "realm": texts.realm,
        "method": texts.method,
        "intent": texts.intent,
        "request": texts.request,
        "expires": texts.expires,
        "digest": texts.digest,
        "header": texts.header,
        "opaque": texts.opaque,
        "description": description,
    }
    return "Payment " + ", ".join(f'{name}="{_quoted(value)}"' for name, value in params.items() if value)


def body_digest(body: bytes) -> str:
    """Return the digest of a request's body as RFC 9530 writes it; "" for an empty body, which has none."""
    if not body:
        return ""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def canonical_json(value: object) -> bytes:
    """Return RFC 8785's form of texts, integers, booleans, lists and objects whose keys are ASCII."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _rfc3339(at_ms: int) -> str:
    """A time cut to the second: never later than what was meant."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quoted(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("a challenge's parameter that is not printable ASCII")
    return value.replace("\\", "\\\\").replace('"', '\\"')
