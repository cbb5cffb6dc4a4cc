"""Every way in which a request can fail, by name: the type of its problem document and what its reader can do.

Must not know HTTP libraries.  Theory: one table maps a stable code to a status and a title, so an agent branches on the
type, a test proves that each is documented, and no handler invents its own.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

PROBLEM_BASE = "urn:gateway:problem:"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of failure: HTTP status, title, and what to do about it."""

    status: int
    title: str
    remedy: str


TYPES: dict[str, ProblemType] = {
    # who asks
    "key_missing": ProblemType(401, "No API key", "send the key as Bearer, X-Api-Key, or Basic in the base URL"),
    "key_unknown": ProblemType(401, "Unknown API key", "check the key; ask the account's owner for a new one"),
    "key_revoked": ProblemType(401, "The API key was revoked", "use another key of the account"),
    "signature_invalid": ProblemType(401, "The signature is wrong", "sign the raw body with the secret that both know"),
    "too_many_failures": ProblemType(429, "Too many failed attempts", "wait as long as Retry-After says"),
    "scope_missing": ProblemType(403, "The key may not do this", "use a key with the scope that the detail names"),
    # what is asked
    "not_found": ProblemType(404, "Not found", "check the id; only your own things exist for you"),
    "route_not_declared": ProblemType(
        404, "The vendor's route is not served", "see the vendor's document for its routes"
    ),
    "vendor_unknown": ProblemType(404, "Unknown vendor", "see GET /v1/vendors for the vendors behind this gateway"),
    "method_not_allowed": ProblemType(405, "Method not allowed", "use a method that the route has"),
    "bad_request": ProblemType(400, "Bad request", "mend what the detail names"),
    "input_refused": ProblemType(422, "The vendor would refuse this input", "mend the field that the detail names"),
    "body_oversized": ProblemType(413, "The request body is too large", "send at most the limit that the detail names"),
    "body_not_replayable": ProblemType(
        413,
        "The request body cannot be sent twice",
        "send a smaller body to routes that cost money: 1 MiB at most, if the operator has set no other limit",
    ),
    "idempotency_conflict": ProblemType(409, "The Idempotency-Key belongs to another request", "take a new key"),
    "idempotency_spent": ProblemType(
        409, "The purchase under this key is over", "take a new Idempotency-Key to buy again"
    ),
    "changed_meanwhile": ProblemType(409, "It changed meanwhile", "read it again and repeat what still makes sense"),
    "quote_expired": ProblemType(409, "The quote is no longer valid", "ask for a new one at POST /v1/quotes"),
    "no_plan_fits": ProblemType(
        409, "No vendor's plan fits", "see candidates_lost for why each one lost; ask for less or allow more"
    ),
    "too_many_servers": ProblemType(429, "Too many servers at once", "destroy one, or ask the operator for more"),
    "server_ended": ProblemType(409, "The server has ended", "see its state and reason; order another one"),
    "server_not_ready": ProblemType(409, "The server cannot do this now", "wait for the state that the detail names"),
    "max_total_reached": ProblemType(409, "The server's max_total does not cover this", "raise max_total with PATCH"),
    "capability_missing": ProblemType(
        501, "The vendor cannot do this", "see `vendors` for those that can; the capability is named in `capability`"
    ),
    "webhook_url_refused": ProblemType(422, "No events are sent to this address", "use a public https address"),
    "renewal_open": ProblemType(409, "A renewal is open", "wait until it is settled or dead"),
    # the agent's money
    "insufficient_balance": ProblemType(402, "The balance does not cover this", "top up the account and ask again"),
    "price_above_max_charge": ProblemType(409, "Dearer than X-Max-Charge", "raise X-Max-Charge or do without"),
    "budget_exhausted": ProblemType(
        403, "The key's budget does not cover this", "wait for the next window or use another key"
    ),
    "too_many_calls": ProblemType(429, "Too many calls at once", "wait until one of them is answered"),
    "too_many_open_payments": ProblemType(429, "Too many open payments", "wait until one of them is closed"),
    "exposure_capped": ProblemType(
        429, "The account's share of the wallet is used up", "wait until open payments close"
    ),
    "unpaid_delivery_limit": ProblemType(403, "Too many deliveries were never collected", "ask the operator"),
    "frozen": ProblemType(503, "Frozen by the operator", "ask the operator; nothing was charged"),
    "wallet_exhausted": ProblemType(
        503, "The operator's wallet cannot cover this now", "ask again later; nothing was charged"
    ),
    "signing_refused": ProblemType(503, "The signer refused", "nothing was charged; the operator has been told"),
    "not_ready": ProblemType(503, "The gateway is not ready to pay", "ask again later; nothing was charged"),
    # what the vendor asked for
    "unexpected_challenge": ProblemType(
        502, "A free route asked for money", "nothing was paid; the operator has been told"
    ),
    "foreign_402": ProblemType(502, "The vendor's 402 is not a payment challenge", "nothing was paid; read the detail"),
    "payment_deferred": ProblemType(
        503, "The vendor asks to wait before it is paid", "nothing was paid; ask again after Retry-After"
    ),
    "proof_refused": ProblemType(
        502, "The vendor does not take our proof of identity", "nothing was charged; ask the operator"
    ),
    "challenge_oversized": ProblemType(502, "The vendor's challenge is too large", "nothing was paid"),
    "challenge_contradictory": ProblemType(
        502, "The vendor's challenge contradicts itself", "nothing was paid; read the detail"
    ),
    "challenge_malformed": ProblemType(502, "The vendor's challenge cannot be read", "nothing was paid"),
    "version_unknown": ProblemType(502, "The challenge's version is unknown", "nothing was paid"),
    "no_offer": ProblemType(502, "The challenge offers nothing", "nothing was paid"),
    "offer_malformed": ProblemType(502, "The vendor's offer cannot be read", "nothing was paid"),
    "offer_oversized": ProblemType(502, "The vendor's offer is too large", "nothing was paid"),
    "amount_malformed": ProblemType(502, "The offer's amount is not a decimal integer string", "nothing was paid"),
    "amount_fields_differ": ProblemType(502, "The offer states two different amounts", "nothing was paid"),
    "address_malformed": ProblemType(502, "The offer holds a bad address", "nothing was paid"),
    "timeout_malformed": ProblemType(502, "The offer's time-out cannot be read", "nothing was paid"),
    "unknown_network": ProblemType(502, "The offer names an unknown network", "nothing was paid"),
    "unsupported_scheme": ProblemType(502, "The offer's scheme is not served", "nothing was paid"),
    "unsupported_transfer": ProblemType(502, "The offer's transfer method is not served", "nothing was paid"),
    "unsupported_payment_method": ProblemType(502, "The offer's payment method is not served", "nothing was paid"),
    "unsupported_payment_intent": ProblemType(
        502, "The offer is a session or a subscription", "nothing was paid; only single charges are"
    ),
    "rail_not_allowed": ProblemType(502, "The vendor may not be paid on this rail", "nothing was paid"),
    "realm_not_allowed": ProblemType(
        502, "The challenge is another server's", "nothing was paid; the detail names the realm"
    ),
    "network_not_allowed": ProblemType(502, "The vendor may not be paid on this network", "nothing was paid"),
    "asset_not_allowed": ProblemType(502, "The vendor may not be paid in this asset", "nothing was paid"),
    "payee_is_ours": ProblemType(502, "The offer pays ourselves", "nothing was paid"),
    "payee_not_allowed": ProblemType(
        502, "The payee is not approved", "nothing was paid; a task is open for the operator"
    ),
    "challenge_repeated": ProblemType(
        502, "The vendor sent a challenge again", "nothing was paid or signed; ask again"
    ),
    "challenge_expired": ProblemType(502, "The challenge has expired or is about to", "nothing was paid; ask again"),
    "push_not_allowed": ProblemType(
        502, "The vendor takes only payments that we send ourselves", "nothing was paid; ask the operator"
    ),
    "price_above_ceiling": ProblemType(
        502, "The price is above the route's ceiling", "nothing was paid; ask the operator"
    ),
    "price_above_quote": ProblemType(
        502, "The price is above what was quoted", "nothing was paid; a task is open for the operator"
    ),
    "price_below_quote": ProblemType(
        502, "The price is far below what was quoted", "nothing was paid; a task is open for the operator"
    ),
    "price_unknown": ProblemType(
        502, "The price of this item was never approved", "nothing was paid; a task is open for the operator"
    ),
    "price_untold": ProblemType(
        503, "The vendor tells no price of this now", "nothing was charged; ask again after Retry-After"
    ),
    # what the vendor did
    "vendor_unreachable": ProblemType(502, "The vendor cannot be reached", "nothing was charged; ask again later"),
    "vendor_timeout": ProblemType(504, "The vendor did not answer in time", "nothing was charged; ask again later"),
    "vendor_answer_malformed": ProblemType(
        502, "The vendor's answer is not HTTP", "nothing was charged; it may have been done: look before you ask again"
    ),
    "vendor_busy": ProblemType(
        429, "The vendor's rate limit is used up", "nothing was charged; ask again after Retry-After"
    ),
    "action_unknown": ProblemType(
        504, "Whether the vendor did it is not known", "look before you ask again: it may have been done"
    ),
    "action_refused": ProblemType(
        502, "The vendor did not do it", "nothing was done; the detail says what the vendor answered"
    ),
    "upstream_policy_denied": ProblemType(
        403, "The vendor's policy refuses this", "nothing was done; the vendor's document says what it refuses"
    ),
    "vendor_login_failed": ProblemType(
        503, "The vendor does not let the gateway log in", "nothing was charged; ask again after Retry-After"
    ),
    "vendor_refuses_us": ProblemType(
        503, "The vendor refuses the gateway", "nothing was charged; the operator has been told"
    ),
    "vendor_account_full": ProblemType(
        503, "The vendor lets the gateway have no more servers", "nothing was charged; destroy one, or ask again later"
    ),
    "answer_withheld": ProblemType(502, "The vendor's answer is about another's thing", "nothing was charged"),
    "vendor_answer_oversized": ProblemType(502, "The vendor's answer is too large", "nothing was charged"),
    "paid_answer_oversized": ProblemType(
        502, "The paid answer is too large to keep", "it was delivered and is charged; ask for less at a time"
    ),
    "redirect_refused": ProblemType(502, "The vendor redirects to another origin", "nothing was charged"),
    "vendor_account_empty": ProblemType(
        503, "The vendor does not serve the gateway now", "nothing was charged; the operator was told; ask again later"
    ),
    "billing_rule_unset": ProblemType(503, "Creates are off at this vendor", "ask the operator; nothing was charged"),
    "route_closed": ProblemType(403, "This route is closed here", "the detail says why, and what to use instead"),
    "vendor_refused_payment": ProblemType(
        502, "The vendor refused the payment", "the hold goes back when the authorization is dead; see the payment"
    ),
    "dispute_held": ProblemType(
        502, "Collected without delivery", "the hold stays until the operator has decided; see the payment"
    ),
    "outcome_unknown": ProblemType(
        504, "The vendor's answer is not known", "ask again with the same request: it attaches to this payment"
    ),
    # being paid
    "bad_payment": ProblemType(402, "The payment cannot be taken", "nothing was collected; mend what the detail names"),
    "topup_taken": ProblemType(
        409, "The order has a payment already", "see its status; ask for a new top-up to pay again"
    ),
    "inventory_capped": ProblemType(
        503,
        "The operator wants no more tokens now",
        "nothing was taken; ask for less, or again after Retry-After",
    ),
    "payment_reused": ProblemType(
        409, "This payment was taken for something else", "sign a new one, with a nonce of its own"
    ),
    "challenge_used": ProblemType(401, "The sign-in challenge was used", "ask for a new one and sign that"),
    "risk_cap": ProblemType(
        409, "The house lends no more ahead of finality", "nothing to do: the credit comes with the final block"
    ),
    "duplicate_settlement": ProblemType(
        409, "Another payload has this authorization", "nothing was sent; sign with a nonce of its own"
    ),
    "settlement_pending": ProblemType(
        504, "The settlement is not in a block yet", "sign nothing new: ask again with the same payload"
    ),
    "seller_required": ProblemType(403, "Only sellers may settle", "ask the operator for terms to settle for others"),
    "facilitator_unavailable": ProblemType(
        503, "The facilitator cannot be asked now", "nothing was collected; ask again after Retry-After"
    ),
    "not_refundable": ProblemType(
        409, "This cannot go back", "only what a wallet signed to fund the account goes back, and to that wallet"
    ),
    "refund_exceeds_funding": ProblemType(
        409, "More than this payment brought", "ask for at most what the detail names"
    ),
    "till_short": ProblemType(503, "The operator's till cannot cover this now", "ask again later; nothing was taken"),
    # ourselves
    "evidence_mismatch": ProblemType(500, "Contradicting evidence", "the operator has been told"),
    "not_disputed": ProblemType(409, "The payment is not a held dispute", "see the payment"),
    "not_unproven": ProblemType(
        409, "Nobody is asked what left for the payment", "it ends by evidence alone; see the payment and its tasks"
    ),
    "bad_resolution": ProblemType(
        400, "The payment cannot end so", "captured or refunded, with what really left; read the detail"
    ),
    "reference_conflict": ProblemType(409, "The reference belongs to another credit", "take a new reference"),
    "account_exists": ProblemType(409, "The account exists", "choose another id"),
    "key_exists": ProblemType(409, "The key exists", "choose another id"),
    "overloaded": ProblemType(503, "The gateway is overloaded", "ask again after Retry-After"),
    "shutting_down": ProblemType(503, "The gateway is shutting down", "ask again shortly"),
    "internal": ProblemType(500, "Internal error", "report the X-Request-Id to the operator"),
}


@dataclass(slots=True)
class Problem(Exception):  # noqa: N818 - the field's own word (RFC 9457)
    """A refusal on its way to whoever asked. `extra` becomes members of the problem document."""

    code: str
    detail: str
    field: str | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        Exception.__init__(self, f"{self.code}: {self.detail}")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return TYPES[self.code].status

    def document(self) -> dict[str, Any]:
        """Return the RFC 9457 document."""
        kind = TYPES[self.code]
        document: dict[str, Any] = {
            "type": PROBLEM_BASE + self.code,
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "remedy": kind.remedy,
            **self.extra,
        }
        if self.field is not None:
            document["field"] = self.field
        return document
