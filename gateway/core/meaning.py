"""What a 402 can mean: the words, and which of them a vendor can say.

Must not know how a meaning is recognised.  Theory: HTTP has one status for a price, a question, a refusal and a bill; a
vendor's module declares which of them its document has, and whatever else comes from it means nothing that we act on.
"""

from collections.abc import Collection
from enum import StrEnum

__all__ = ["ACCOUNT_MEANINGS", "Meaning", "meanings_of_rails"]


class Meaning(StrEnum):
    """What a vendor wants with a 402. The values are part of the public interface."""

    X402_CHALLENGE = "x402_challenge"
    MPP_CHALLENGE = "mpp_challenge"
    IDENTITY_PROOF = "identity_proof"
    PAYMENT_INVALID = "payment_invalid"  # after a credential was presented: never a new bill
    LOW_VENDOR_BALANCE = "low_vendor_balance"
    OVERDUE_INVOICE = "overdue_invoice"
    UNKNOWN = "unknown"  # the default: not paid


ACCOUNT_MEANINGS = frozenset({Meaning.LOW_VENDOR_BALANCE, Meaning.OVERDUE_INVOICE})
"""What speaks of the operator's account at the vendor: his to mend, never an agent's to pay."""

_OF_RAIL = {"x402": Meaning.X402_CHALLENGE, "mpp": Meaning.MPP_CHALLENGE}


def meanings_of_rails(rails: Collection[str], *, proofs: bool = False) -> frozenset[Meaning]:
    """Return what a seller can mean that is paid on these rails; `proofs`: a route of its may ask who we are (MPP alone can)."""
    found = {Meaning.PAYMENT_INVALID, *(_OF_RAIL[rail] for rail in rails)}
    return frozenset(found | {Meaning.IDENTITY_PROOF} if proofs and "mpp" in rails else found)
