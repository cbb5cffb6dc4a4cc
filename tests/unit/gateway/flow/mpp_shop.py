"""The shop as a seller of MPP: its challenges, what the operator allows it, and what a credential that it gets says."""

import base64
import json
from dataclasses import replace
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from contracts.codec import checksum
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.core.routes import Ownership, Route
from gateway.http.port import UpstreamRequest, UpstreamResponse
from tests.unit.gateway.flow.spend_bed import PAYEE, PAYEES, PRICE_BASE, REALM, ROUTES, Bed, Shop, always, shop

EXPIRES = "2027-01-15T08:05:00Z"
EXPIRES_S = 1_800_000_300
CHAIN = MODERATO_PATHUSD.chain_id
PROVEN = (
    Route("mine", ("GET", "DELETE"), ("mine",), proof=True),
    Route("its", ("DELETE",), ("its", "{ref}"), ownership=Ownership.OWNER, ref_parameter="ref", proof=True),
)


def mpp_shop(name: str = "shop", **changes: Any) -> Shop:
    """Return the shop with MPP before x402; `changes` are of its terms."""
    vendor = shop(name)
    vendor.terms = replace(
        vendor.terms, **({"rails": ("mpp", "x402"), "realms": frozenset({REALM}), "payees": PAYEES} | changes)
    )
    vendor.routes = (*PROVEN, *ROUTES)
    return vendor


def line(challenge_id: str = "challenge-1", /, *, details: Any = None, params: Any = None, **request: Any) -> str:
    """Return one tempo charge of the shop as a field line; `request`, `details` and `params` change it."""
    body = {
        "amount": str(PRICE_BASE),
        "currency": checksum(MODERATO_PATHUSD.address),
        "recipient": checksum(PAYEE),
        "methodDetails": {"chainId": CHAIN} | (details or {}),
    } | request
    fields = {
        "id": challenge_id,
        "realm": REALM,
        "method": "tempo",
        "intent": "charge",
        "request": base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("="),
        "expires": EXPIRES,
    } | (params or {})
    return "Payment " + ", ".join(f'{name}="{value}"' for name, value in fields.items())


def evm_line(challenge_id: str = "challenge-1", /, **request: Any) -> str:
    """Return one evm charge of the shop in Base's USDC."""
    details = {"chainId": BASE_USDC.chain_id, "credentialTypes": ["authorization"], "decimals": 6}
    return line(
        challenge_id, details=details, params={"method": "evm"}, currency=checksum(BASE_USDC.address), **request
    )


def proof_line(challenge_id: str = "proof-1", /, **params: Any) -> str:
    """Return a question for who we are."""
    return line(challenge_id, params=params, amount="0")


def asks(*lines: str, body: bytes = b"", status: int = 402, **headers: str) -> UpstreamResponse:
    """Return a 402 with these challenges."""
    fields = CIMultiDict([("WWW-Authenticate", each) for each in lines])
    fields.extend({name.replace("_", "-"): value for name, value in headers.items()})
    return UpstreamResponse(status, CIMultiDictProxy(fields), body)


def sells(bed: Bed, *lines: str, **terms: Any) -> None:
    """Let the shop sell by MPP, asking with these challenges."""
    bed.vendors["shop"] = mpp_shop(**terms)
    bed.line.first = always(asks(*(lines or (line(),))))


def credential(request: UpstreamRequest) -> dict[str, Any]:
    """Return the credential that a request carries."""
    value = next(value for _, value in request.headers if value.startswith("Payment "))
    text = value.removeprefix("Payment ")
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def header(request: UpstreamRequest, name: str) -> str | None:
    """Return a request's header."""
    return next((value for known, value in request.headers if known.lower() == name.lower()), None)
