"""EIP-712 typed data of x402's extension offer-receipt: what a seller offered, and that it was paid (version 1 of both).

Must not know keys, orders or HTTP. Theory: all texts are hashed, so a digest is one concatenation of words under a domain
that names no contract and always chain 1: the signature says who spoke, wherever the payment was made.
"""

from dataclasses import dataclass

from contracts.codec import require_uint
from contracts.keccak import keccak256

VERSION = 1

_DOMAIN_TYPEHASH = keccak256(b"EIP712Domain(string name,string version,uint256 chainId)")
_OFFER_TYPEHASH = keccak256(
    b"Offer(uint256 version,string resourceUrl,string scheme,string network,string asset,string payTo,string amount,"
    b"uint256 validUntil)"
)
_RECEIPT_TYPEHASH = keccak256(
    b"Receipt(uint256 version,string network,string resourceUrl,string payer,uint256 issuedAt,string transaction)"
)


@dataclass(frozen=True, slots=True)
class OfferTerms:
    """What was offered: the terms of one entry of `accepts`, as texts, until a Unix second."""

    resource_url: str
    scheme: str
    network: str
    asset: str
    pay_to: str
    amount: str
    valid_until_s: int

    @property
    def digest(self) -> bytes:
        """The 32 bytes that the seller signs."""
        texts = (self.resource_url, self.scheme, self.network, self.asset, self.pay_to, self.amount)
        words = _number(VERSION) + b"".join(map(_text, texts)) + _number(self.valid_until_s)
        return _digest(b"x402 offer", _OFFER_TYPEHASH + words)


@dataclass(frozen=True, slots=True)
class ReceiptTerms:
    """That somebody paid for a resource, by a transaction (text, "" for none), at a Unix second."""

    network: str
    resource_url: str
    payer: str
    issued_at_s: int
    transaction: str

    @property
    def digest(self) -> bytes:
        """The 32 bytes that the seller signs."""
        words = (
            _number(VERSION)
            + _text(self.network)
            + _text(self.resource_url)
            + _text(self.payer)
            + _number(self.issued_at_s)
            + _text(self.transaction)
        )
        return _digest(b"x402 receipt", _RECEIPT_TYPEHASH + words)


def _digest(name: bytes, struct: bytes) -> bytes:
    domain = keccak256(_DOMAIN_TYPEHASH + keccak256(name) + keccak256(b"1") + _number(1))
    return keccak256(b"\x19\x01" + domain + keccak256(struct))


def _number(value: int) -> bytes:
    return require_uint(value, 256, "number").to_bytes(32, "big")


def _text(value: str) -> bytes:
    return keccak256(value.encode("utf-8"))
