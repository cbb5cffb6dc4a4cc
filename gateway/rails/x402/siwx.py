"""sign-in-with-x: a challenge that a wallet signs as text, and the header that brings the signature back.

Must not know accounts, chains or what was used before. Theory: no row is kept of a challenge; its nonce holds a MAC over
everything in it, so the text that was signed is rebuilt from what we ourselves would say, and nothing of what comes back is
believed but the address, the chain and the signature. EIP-4361 binds it to our host, so another site's sign-in is none here.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from contracts.codec import Address, ContractError, checksum, parse_address, parse_hex
from contracts.keccak import keccak256
from contracts.networks import Network
from contracts.signature import normalise_v
from contracts.tokens import Token
from gateway.core.times import parse_time_ms, utc_text
from gateway.rails.x402.wire import WireError, decode_base64, load_object
from wallets.secret import Secret

EXTENSION: Final = "sign-in-with-x"
HEADER: Final = "SIGN-IN-WITH-X"
REQUIRED: Final = "PAYMENT-REQUIRED"
STATEMENT: Final = "Sign in to get an API key of this wallet's account."
VERSION: Final = "1"
TTL_S: Final = 300
MAX_HEADER_CHARS: Final = 16 * 1024
MAX_SIGNATURE_BYTES: Final = 4 * 1024
RANDOM_BYTES: Final = 8
NONCE_CHARS: Final = 32
_CAIP2: Final = "eip155:"
_NEEDED: Final = ("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature")
_KNOWN: Final = frozenset({*_NEEDED, "statement", "expirationTime", "signatureScheme"})
_SCHEMA: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {name: {"type": "string"} for name in (*_NEEDED, "statement", "expirationTime")},
    "required": list(_NEEDED),
}


class SignInRefused(ValueError):  # noqa: N818 - a refusal is a decision, not a fault
    """The header is no answer to a challenge of ours; says why, in words for whoever sent it."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a wallet says that it signed; whether it did is for `digest` and its key, or its contract on `chain_id`."""

    address: Address
    chain_id: int
    nonce: str
    signature: bytes
    text: str

    @property
    def digest(self) -> bytes:
        """The 32 bytes that are signed (EIP-191, version 0x45)."""
        message = self.text.encode()
        return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)


class SignInDesk:
    """Makes challenges and reads what comes back. Keeps nothing but its configuration.

    `domain` is our host, with its port where it has one; `uri` the route's whole address; `chain_ids` those on which a
    wallet may say that it lives. `till` is a token and where it is paid: stock clients look for a chain in `accepts`
    before they sign in, so a payment of nothing is named there; whoever makes it has paid nothing, and gets nothing.
    """

    def __init__(
        self,
        *,
        secret: Secret[bytes],
        domain: str,
        uri: str,
        chain_ids: Sequence[int],
        till: tuple[Token, Address] | None = None,
    ) -> None:
        self._secret, self._domain, self._uri = secret, domain, uri
        self._chain_ids, self._till = tuple(chain_ids), till

    def extension(self, now_ms: int, randomness: bytes) -> dict[str, Any]:
        """Return a challenge as `extensions` of a 402 hold it; it may be answered once, within five minutes."""
        issued_at, expires_at = utc_text(now_ms), utc_text(now_ms + TTL_S * 1000)
        info = {
            "domain": self._domain,
            "uri": self._uri,
            "version": VERSION,
            "statement": STATEMENT,
            "nonce": self._nonce(randomness[:RANDOM_BYTES].hex(), issued_at, expires_at),
            "issuedAt": issued_at,
            "expirationTime": expires_at,
        }
        chains = [{"chainId": Network(chain_id).caip2, "type": "eip191"} for chain_id in self._chain_ids]
        return {EXTENSION: {"info": info, "supportedChains": chains, "schema": dict(_SCHEMA)}}

    def header(self, extension: Mapping[str, Any]) -> str:
        """Return PAYMENT-REQUIRED's value for a 402 that asks for a signature and for no money."""
        resource = {"url": self._uri, "description": "An API key for a wallet", "mimeType": "application/json"}
        document = {
            "x402Version": 2,
            "error": "sign in",
            "resource": resource,
            "accepts": self._accepts(),
            "extensions": extension,
        }
        return b64encode(json.dumps(document, separators=(",", ":")).encode()).decode("ascii")

    def read(self, header: str, now_ms: int) -> SignIn:
        """Return what a SIGN-IN-WITH-X header claims, if it answers a challenge of ours in time. Raises SignInRefused."""
        members = _members(header)
        for name, own in (("domain", self._domain), ("uri", self._uri), ("version", VERSION), ("type", "eip191")):
            if members[name] != own:
                raise SignInRefused(f"{name} is {own} here")
        if members.get("statement") != STATEMENT:
            raise SignInRefused("the statement is not the challenge's")
        issued_at, expires_at = members["issuedAt"], members.get("expirationTime", "")
        nonce = members["nonce"]
        made = self._nonce(nonce[: 2 * RANDOM_BYTES], issued_at, expires_at)
        if not hmac.compare_digest(made.encode(), nonce.encode()):
            raise SignInRefused("the nonce is not of this challenge")
        if now_ms >= parse_time_ms(issued_at) + TTL_S * 1000:  # our own text: the MAC has vouched for it
            raise SignInRefused("the challenge is over; ask for a new one")
        chain_id = self._chain_of(members["chainId"])
        try:
            address = parse_address(members["address"], "address")
            signature = normalise_v(parse_hex(members["signature"], MAX_SIGNATURE_BYTES, "signature"))
        except ContractError as error:
            raise SignInRefused(str(error)) from None
        text = self._text(address, chain_id, nonce, issued_at, expires_at)
        return SignIn(address, chain_id, nonce, signature, text)

    def _accepts(self) -> list[dict[str, Any]]:
        if self._till is None:
            return []
        token, address = self._till
        return [
            {
                "scheme": "exact",
                "network": token.network.caip2,
                "amount": "0",
                "asset": checksum(token.address),
                "payTo": checksum(address),
                "maxTimeoutSeconds": 60,
                "extra": {"name": token.name, "version": token.version},
            }
        ]

    def _nonce(self, random_hex: str, issued_at: str, expires_at: str) -> str:
        parts = (self._domain, self._uri, random_hex, issued_at, expires_at)
        mac = hmac.new(self._secret.reveal(), "\n".join((EXTENSION, *parts)).encode(), sha256)
        return random_hex + mac.hexdigest()[: NONCE_CHARS - 2 * RANDOM_BYTES]

    def _chain_of(self, text: str) -> int:
        for chain_id in self._chain_ids:
            if text == f"{_CAIP2}{chain_id}":
                return chain_id
        raise SignInRefused("chainId is none of supportedChains")

    def _text(self, address: Address, chain_id: int, nonce: str, issued_at: str, expires_at: str) -> str:
        """Build the message as EIP-4361 prescribes it, to the letter."""
        return "\n".join(
            (
                f"{self._domain} wants you to sign in with your Ethereum account:",
                checksum(address),
                "",
                STATEMENT,
                "",
                f"URI: {self._uri}",
                f"Version: {VERSION}",
                f"Chain ID: {chain_id}",
                f"Nonce: {nonce}",
                f"Issued At: {issued_at}",
                f"Expiration Time: {expires_at}",
            )
        )


def _members(header: str) -> dict[str, str]:
    if len(header) > MAX_HEADER_CHARS:
        raise SignInRefused(f"{HEADER} is longer than {MAX_HEADER_CHARS} characters")
    try:
        found = load_object(decode_base64(header))
    except WireError as error:
        raise SignInRefused(f"{HEADER}: {error}") from None
    found = {name: value for name, value in found.items() if value is not None}
    unknown = found.keys() - _KNOWN
    if unknown or not all(isinstance(value, str) and value.isascii() for value in found.values()):
        raise SignInRefused(f"{HEADER} has only ASCII texts, and no member that the challenge has not")
    missing = set(_NEEDED) - found.keys()
    if missing:
        raise SignInRefused(f"{HEADER} lacks {', '.join(sorted(missing))}")
    return found
