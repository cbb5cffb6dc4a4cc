"""The reason codes of an x402 facilitator, in the spelling of its specification and of PyPI `x402`.

It must not know when each is told. Theory: sellers branch on these texts, so they are the protocol's and never ours; what
the protocol has no word for takes the nearest one, and its message says the rest.
"""

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """Why a payment is not taken, or did not land."""

    # What came is no payment for these requirements.
    INVALID_VERSION = "invalid_x402_version"
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_REQUIREMENTS = "invalid_payment_requirements"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    UNSUPPORTED_PAYLOAD = "unsupported_payload_type"
    INVALID_NETWORK = "invalid_network"
    NETWORK_MISMATCH = "network_mismatch"
    MISSING_DOMAIN = "missing_eip712_domain"
    NAME_MISMATCH = "invalid_exact_evm_token_name_mismatch"
    VERSION_MISMATCH = "invalid_exact_evm_token_version_mismatch"
    RECIPIENT_MISMATCH = "invalid_exact_evm_payload_recipient_mismatch"
    VALUE_MISMATCH = "invalid_exact_evm_payload_authorization_value_mismatch"
    VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
    VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after"
    # Who signed it.
    SIGNATURE = "invalid_exact_evm_payload_signature"
    UNDEPLOYED_WALLET = "invalid_exact_evm_payload_undeployed_smart_wallet"
    FACTORY_NOT_ALLOWED = "eip6492_factory_not_allowed"
    # What the chain says.
    NONCE_USED = "invalid_exact_evm_nonce_already_used"
    INSUFFICIENT_BALANCE = "invalid_exact_evm_insufficient_balance"
    SIMULATION_FAILED = "invalid_exact_evm_transaction_simulation_failed"
    # What became of it.
    TRANSACTION_FAILED = "transaction_failed"
    PENDING = "settlement_pending"
    DUPLICATE = "duplicate_settlement"
    VERIFY_UNKNOWN = "unexpected_verify_error"
    SETTLE_UNKNOWN = "unexpected_settle_error"
