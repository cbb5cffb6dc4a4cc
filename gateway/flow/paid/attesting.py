"""Signed offers and receipts (x402's extension offer-receipt): evidence for whoever paid, of what we said.

Must not know rows or routes.  Theory: a payer that is told less than it bought needs more than our word, so what we ask and
what we took is signed with a key that does nothing else; it signs digests of one kind only and owns no money, so nothing that
it signs can move any. The address that its signatures recover to goes along with the offers (`signer`).
"""

from collections.abc import Mapping
from typing import Any

from contracts.codec import Address, checksum, to_hex
from contracts.offer_receipt import VERSION, OfferTerms, ReceiptTerms
from contracts.signature import address_of, load_key, sign_digest
from wallets.secret import Secret

FORMAT = "eip712"


class Attestor:
    """Signs what we offer and what we took. `key` is 32 bytes that are used for nothing else."""

    def __init__(self, key: Secret[bytes]) -> None:
        self._key = key

    @property
    def address(self) -> Address:
        """What its signatures recover to."""
        return address_of(load_key(self._key.reveal()))

    def offer(self, index: int, resource_url: str, entry: Mapping[str, Any], valid_until_s: int) -> dict[str, Any]:
        """Return a version 2 entry of `accepts` as a signed offer; `index` is its place there."""
        terms = OfferTerms(
            resource_url=resource_url,
            scheme=entry["scheme"],
            network=entry["network"],
            asset=entry["asset"],
            pay_to=entry["payTo"],
            amount=entry["amount"],
            valid_until_s=valid_until_s,
        )
        payload = {
            "version": VERSION,
            "resourceUrl": terms.resource_url,
            "scheme": terms.scheme,
            "network": terms.network,
            "asset": terms.asset,
            "payTo": terms.pay_to,
            "amount": terms.amount,
            "validUntil": terms.valid_until_s,
        }
        return {"format": FORMAT, "acceptIndex": index, "payload": payload, "signature": self._sign(terms.digest)}

    def receipt(self, resource_url: str, network: str, payer: Address, tx_hash: bytes, at_s: int) -> dict[str, Any]:
        """Return a signed receipt of a payment that a block has. The same payment gets the same one."""
        terms = ReceiptTerms(network, resource_url, checksum(payer), at_s, to_hex(tx_hash))
        payload = {
            "version": VERSION,
            "network": terms.network,
            "resourceUrl": terms.resource_url,
            "payer": terms.payer,
            "issuedAt": terms.issued_at_s,
            "transaction": terms.transaction,
        }
        return {"format": FORMAT, "payload": payload, "signature": self._sign(terms.digest)}

    def _sign(self, digest: bytes) -> str:
        return to_hex(sign_digest(load_key(self._key.reveal()), digest))
