"""A thin typed client of the gateway's own API (`/v1`): one method a route, nothing that the API does not say.

Must not know how the gateway works inside; it imports nothing of it.  Theory: what makes a client safe to use with money is
the same Idempotency-Key on every repeat of one intention, so each method that may spend takes one or makes one, and only
then repeats.
"""

from gateway_client.client import GatewayClient
from gateway_client.problem import GatewayProblem
from gateway_client.shapes import (
    Deposits,
    Event,
    Fleet,
    Need,
    Page,
    Plan,
    Quote,
    Receipt,
    Refund,
    Server,
    Snapshot,
    SshKey,
    TopUp,
    TopUpOffer,
)
from gateway_client.webhook import WebhookRefused, verify_webhook

__all__ = [
    "Deposits",
    "Event",
    "Fleet",
    "GatewayClient",
    "GatewayProblem",
    "Need",
    "Page",
    "Plan",
    "Quote",
    "Receipt",
    "Refund",
    "Server",
    "Snapshot",
    "SshKey",
    "TopUp",
    "TopUpOffer",
    "WebhookRefused",
    "verify_webhook",
]
