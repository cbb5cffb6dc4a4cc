"""What the MPP tests share: challenges as the reference SDKs write them, and crafted ones."""

import base64
import json
from pathlib import Path
from typing import Any

from multidict import CIMultiDict

from contracts.codec import parse_address
from gateway.rails.mpp.challenge import parse_mpp
from gateway.rails.offer import MppChallenge, RejectedEntry

VECTORS = Path(__file__).parents[4] / "vectors/mpp"
MPPX = json.loads((VECTORS / "mppx.json").read_text())
PYMPP = json.loads((VECTORS / "pympp.json").read_text())

EXPIRES_MS = 1_767_700_800_000
NOW_MS = EXPIRES_MS - 300_000
REALM = "api.example.com"
CHAIN = 42431
PATH_USD = "0x20c0000000000000000000000000000000000000"
USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
PAYEE = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"
OTHER = "0x976EA74026E726554dB657fA54763abd0C3a0aa9"

ASSET, PAY_TO, OTHER_PAYEE = parse_address(PATH_USD), parse_address(PAYEE), parse_address(OTHER)

GONE = object()
"""A field that is taken away."""


def b64url(document: object) -> str:
    """JSON, or text as it is, as base64url without padding."""
    text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def request(**changes: Any) -> dict[str, Any]:
    """A tempo charge of 10000 base units, changed; `details` is merged into methodDetails."""
    details = {"chainId": CHAIN} | changes.pop("details", {})
    fields = {"amount": "10000", "currency": PATH_USD, "recipient": PAYEE, "methodDetails": details} | changes
    fields["methodDetails"] = without_gone(fields["methodDetails"])
    return without_gone(fields)


def evm_request(**changes: Any) -> dict[str, Any]:
    """An evm charge that is like `request`."""
    details = {"chainId": 8453, "credentialTypes": ["permit2", "authorization"], "decimals": 6}
    details |= changes.pop("details", {})
    return request(**{"currency": USDC, "details": details} | changes)


def without_gone(fields: Any) -> Any:
    """The fields that are not GONE."""
    return {k: v for k, v in fields.items() if v is not GONE} if isinstance(fields, dict) else fields


def line(body: object = None, **params: Any) -> str:
    """One field line with this request; parameters are added, changed, or taken away with GONE."""
    fields = {
        "id": "challenge-1",
        "realm": REALM,
        "method": "tempo",
        "intent": "charge",
        "request": b64url(request() if body is None else body),
        "expires": "2026-01-06T12:00:00Z",
    } | params
    return "Payment " + ", ".join(f'{k.rstrip("_")}="{v}"' for k, v in fields.items() if v is not GONE)


def read_request(text: str) -> Any:
    """The JSON that stands in a challenge's `request`."""
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def read(*lines: str, status: int = 402) -> MppChallenge | None:
    """Parse these field lines."""
    headers = CIMultiDict([("www-authenticate", each) for each in lines])
    return parse_mpp(status, headers)


def offered(*lines: str) -> MppChallenge:
    """The challenge in these field lines."""
    challenge = read(*lines)
    assert challenge is not None
    return challenge


def rejection(text: str) -> RejectedEntry:
    """Why the only challenge is no offer."""
    challenge = offered(text)
    assert (challenge.offers, challenge.proofs) == ((), ())
    (entry,) = challenge.rejected
    assert entry.rail == "mpp"
    return entry
