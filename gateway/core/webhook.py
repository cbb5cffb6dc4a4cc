"""What a webhook carries and when it is sent again, by Standard Webhooks 1.0.0.

Must not know HTTP or who receives.  Theory: a receiver believes a signature over id, time and body and nothing else; the id
stays and the time is new with every attempt, so it can drop repeats, and a recorded delivery is worth nothing later.
"""

import base64
import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from wallets.secret import Secret

WHSEC: Final = "whsec_"
SECRET_BYTES: Final = 32  # the specification takes 24 to 64
JITTER_PARTS: Final = 256
JITTER_SHARE: Final = 10  # at most a tenth of a pause is added
RETRY_AFTER_MAX_S: Final = 86_400

# The specification's own schedule: the first attempt at once, the last after about 75 hours and a half.
PAUSES_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS_MAX: Final = len(PAUSES_S) + 1


def make_secret(randomness: bytes) -> Secret[str]:
    """Return a signing secret in the specification's spelling. Raises ValueError unless given SECRET_BYTES."""
    if len(randomness) != SECRET_BYTES:
        raise ValueError(f"a signing secret is {SECRET_BYTES} random bytes")
    return Secret(WHSEC + base64.b64encode(randomness).decode("ascii"))


def sign(secrets: Iterable[Secret[str]], message_id: str, at_s: int, body: bytes) -> str:
    """Return the value of webhook-signature: one signature for each secret that is valid now, newest first."""
    signed = f"{message_id}.{at_s}.".encode("ascii") + body
    return " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets)


def retry_at_ms(attempts: int, now_ms: int, jitter: int, retry_after_s: int | None = None) -> int | None:
    """Return when to try again after this many attempts, None when it is given up.

    `jitter` is a random number below JITTER_PARTS; `retry_after_s` is what the receiver asked for, and only delays.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    pause_ms = PAUSES_S[attempts - 1] * 1000
    pause_ms += pause_ms * jitter // (JITTER_PARTS * JITTER_SHARE)
    asked_ms = min(retry_after_s or 0, RETRY_AFTER_MAX_S) * 1000
    return now_ms + max(pause_ms, asked_ms)


def _signature(secret: Secret[str], signed: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(WHSEC))
    return base64.b64encode(hmac.digest(key, signed, sha256)).decode("ascii")
