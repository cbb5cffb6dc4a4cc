"""The reference MPP SDK for Python as a black box. Runs in the venv of pympp only; imports nothing of ours.

`challenges` prints what its seller says (committed as tests/vectors/mpp/pympp.json: send the output there to regenerate
it; a test compares the two). `verify` reads credentials on stdin and prints what its decoder and its seal make of them.
"""

import base64
import json
import sys
from datetime import UTC, datetime
from typing import Any

from mpp import Challenge, Credential, Receipt, generate_challenge_id

SECRET = "test-vector-secret-minimum-32-byte-secret"
REALM = "api.example.com"
EXPIRES = "2026-01-06T12:00:00Z"
PATH_USD = "0x20c0000000000000000000000000000000000000"
PAYEE = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"


def challenge(**also: Any) -> str:
    """One tempo charge, as the field line that a seller sends."""
    request = {"amount": "10000", "currency": PATH_USD, "recipient": PAYEE, "methodDetails": {"chainId": 42431}}
    made = Challenge.create(
        secret_key=SECRET, realm=REALM, method="tempo", intent="charge", request=request, expires=EXPIRES, **also
    )
    return made.to_www_authenticate(REALM)


def challenges() -> dict[str, str]:
    """What is committed."""
    receipt = Receipt.success(
        "0x" + "cd" * 32, timestamp=datetime(2026, 1, 6, 11, 59, tzinfo=UTC), external_id="order-1"
    )
    return {
        "plain": challenge(),
        "header": challenge(header="Payment-Authorization", meta={"n": "abc"}, digest="sha-256=47DEQpj8HBSa"),
        "described": challenge(description='A “droplet”, Payment id="x" \\ for 1 month — 🚀 é'),
        "receipt": receipt.to_payment_receipt(),
    }


def verify(values: list[str]) -> list[dict[str, Any]]:
    """Whether the echo still carries the seller's seal, and what was paid with."""
    answers = []
    for value in values:
        credential = Credential.from_authorization(value)
        echo = credential.challenge
        fresh = generate_challenge_id(
            secret_key=SECRET,
            realm=echo.realm,
            method=echo.method,
            intent=echo.intent,
            request=unpacked(echo.request),
            expires=echo.expires,
            digest=echo.digest,
            opaque=None if echo.opaque is None else unpacked(echo.opaque),
            header=echo.header,
        )
        answers.append({"sealed": fresh == echo.id, "payload": credential.payload, "source": credential.source})
    return answers


def unpacked(text: str) -> Any:
    """The JSON in base64url without padding."""
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


if __name__ == "__main__":
    answer: Any = challenges() if sys.argv[1] == "challenges" else verify(json.load(sys.stdin))
    json.dump(answer, sys.stdout, indent=1, sort_keys=True)
