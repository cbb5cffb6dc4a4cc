"""An order for credit as every rail offers it: what whoever pays gets, and until when.

Must not know rows or rails.  Theory: one 402 offers one order in many forms, and the payment of any of them must be worth
the same; so the rails are given these terms, seal them into their offers, and give the same terms back with a payment.
"""

from dataclasses import dataclass

from gateway.core.paid import TopUp


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """Credit of `amount_base` (USD) for an account, or for whoever pays (None), until it expires.

    `pack` is the name of a fixed pack, "" for a free amount. `realm` is the protection space of MPP (our host).
    """

    id: str  # top_...
    account_id: str | None
    amount_base: int
    expires_at_ms: int
    pack: str
    realm: str

    def opened(self, client_token: str, fingerprint: bytes, at_ms: int) -> TopUp:
        """Return the record of the order, which nobody has paid so far."""
        return TopUp(
            id=self.id,
            account_id=self.account_id,
            amount_base=self.amount_base,
            pack=self.pack,
            client_token=client_token,
            fingerprint=fingerprint,
            created_at_ms=at_ms,
            expires_at_ms=self.expires_at_ms,
        )
