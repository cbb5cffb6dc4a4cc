"""Every kind of task: what a human may be asked to look at, in one closed list.

Must not know who asks.  Theory: an operator acts on a task by its kind, so a kind that docs/operations.md does not have is
a question without an answer; the type closes the list for whoever opens one, and a test holds it against that page.
"""

from typing import Final, Literal, get_args

TaskKind = Literal[
    # what a vendor asks to be paid
    "payee_unknown",
    "price_changed",
    "price_unknown",
    "unexpected_challenge",
    # what a vendor did for the money
    "dispute",
    "charged_refusal",
    "delivery_ambiguous",
    "delivered_after_refusal",
    "price_above_quote",
    # what the chain says
    "settlement_mismatch",
    "settlement_without_receipt",
    "used_without_log",
    "evidence_mismatch",
    "unknown_outflow",
    "float_missing",
    "float_too_large",
    "chain_disagreement",
    # our own keys and database
    "signing_refused",
    "database_quarantined",
    # our accounts at vendors
    "vendor_login_failed",
    "vendor_refuses_us",
    "vendor_account_empty",
    "vendor_balance_low",
    "vendor_balance_drift",
    # what runs at vendors
    "resource_conflict",
    "not_destroyed",
    "not_ended",
    "orphaned_thing",
    "catalogue_unreadable",
    "delivery_unreadable",
    "order_conflict",
    "order_lost",
    "unknown_state",
    "renewal_not_applied",
    # being paid
    "incoming_unclaimed",
    "inventory_above_cap",
    "paid_otherwise",
    "loan_lost",
    "refund_unproven",
    "till_moved",
    "relayer_low",
    "relayer_stuck",
    "relayer_refused",
    "relayer_shared",
    "gas_burnt",
    "batch_unusable",
]

TASK_KINDS: Final[tuple[TaskKind, ...]] = get_args(TaskKind)
DETAIL_MAX: Final = 1000
"""Characters of a task's text: what others make us say there has an end."""
