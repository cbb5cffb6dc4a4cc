"""Why a rail does not pay, as stable codes.

They know no HTTP status and no problem document: the API maps codes to `type`s. Theory: a refusal is a result that an
agent, an operator and a test all name by the same word, so the words are data, never prose.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Problem"]


class Problem(StrEnum):
    """Every reason why a rail does not pay. The values are part of the public interface."""

    # The challenge as a whole.
    CHALLENGE_OVERSIZED = "challenge_oversized"
    CHALLENGE_MALFORMED = "challenge_malformed"
    VERSION_UNKNOWN = "version_unknown"
    NO_OFFER = "no_offer"
    # One entry of it that cannot be read.
    OFFER_MALFORMED = "offer_malformed"
    OFFER_OVERSIZED = "offer_oversized"
    AMOUNT_MALFORMED = "amount_malformed"
    AMOUNT_FIELDS_DIFFER = "amount_fields_differ"
    ADDRESS_MALFORMED = "address_malformed"
    TIMEOUT_MALFORMED = "timeout_malformed"
    UNKNOWN_NETWORK = "unknown_network"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    UNSUPPORTED_TRANSFER = "unsupported_transfer"
    UNSUPPORTED_PAYMENT_METHOD = "unsupported_payment_method"
    UNSUPPORTED_PAYMENT_INTENT = "unsupported_payment_intent"
    # One entry that can be read, and that policy refuses.
    RAIL_NOT_ALLOWED = "rail_not_allowed"
    REALM_NOT_ALLOWED = "realm_not_allowed"
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    ASSET_NOT_ALLOWED = "asset_not_allowed"
    PAYEE_IS_OURS = "payee_is_ours"
    PAYEE_NOT_ALLOWED = "payee_not_allowed"
    CHALLENGE_EXPIRED = "challenge_expired"
    PUSH_NOT_ALLOWED = "push_not_allowed"
    PRICE_ABOVE_CEILING = "price_above_ceiling"
    PRICE_ABOVE_QUOTE = "price_above_quote"
    PRICE_BELOW_QUOTE = "price_below_quote"
