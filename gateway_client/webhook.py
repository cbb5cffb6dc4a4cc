"""Whether a webhook really came from the gateway (Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature).

Must not know servers or frameworks: it takes headers and the raw body.  Theory: the signature covers id, time and the very
bytes, so check it before the body is parsed, compare in constant time, and refuse what is older than a replay may be.
"""

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from hashlib import sha256

TOLERANCE_S = 300
PREFIX = "whsec_"


class WebhookRefused(ValueError):  # noqa: N818 - named for what to do with the request
    """This is not a delivery to be trusted; the message says why."""


def verify_webhook(secret: str, headers: Mapping[str, str], body: bytes, now_s: float | None = None) -> str:
    """Return the delivery's id. Raises WebhookRefused for a wrong signature, a missing header, or a time too far off.

    The same id twice is the same event: handle it once.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, sent, signatures = (found.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not message_id or not signatures or not sent.isascii() or not sent.isdigit():
        raise WebhookRefused("webhook-id, webhook-timestamp and webhook-signature are needed")
    if abs((time.time() if now_s is None else now_s) - int(sent)) > TOLERANCE_S:
        raise WebhookRefused(f"it was sent more than {TOLERANCE_S} s from now")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise WebhookRefused("the secret is not one that the gateway gave") from None
    wanted = base64.b64encode(hmac.digest(key, b"%s.%s." % (message_id.encode(), sent.encode()) + body, sha256))
    given = (part.partition(",") for part in signatures.split(" "))
    if not any(version == "v1" and hmac.compare_digest(text.encode(), wanted) for version, _, text in given):
        raise WebhookRefused("no signature fits")
    return message_id
