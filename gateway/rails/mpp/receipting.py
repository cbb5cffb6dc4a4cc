"""Says to a payer that a payment was taken: `Payment-Receipt`.

It must not be asked before the chain has the payment. Theory: a receipt names the challenge and the transaction, so that a
payer who lost everything else finds both on chain; it is our word, and never evidence to ourselves.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from contracts.codec import to_hex
from gateway.rails.mpp.issuing import canonical_json
from gateway.rails.mpp.text import encode_base64url

__all__ = ["RECEIPT_HEADER", "payment_receipt"]

RECEIPT_HEADER: Final = "Payment-Receipt"


def payment_receipt(
    *, method: str, challenge_id: str, reference: bytes | str, chain_id: int, external_id: str, at_ms: int
) -> str:
    """Return the header's value. `reference` is the transaction's hash; of a proof it is the challenge's id."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
    document: dict[str, object] = {
        "status": "success",
        "method": method,
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "reference": to_hex(reference) if isinstance(reference, bytes) else reference,
        "challengeId": challenge_id,
        "chainId": chain_id,
    }
    if external_id:
        document["externalId"] = external_id
    return encode_base64url(canonical_json(document))
