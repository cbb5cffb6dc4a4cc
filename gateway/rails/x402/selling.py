"""The seller's side of x402 on the wire: what a 402 says in both versions, and what comes back with a payment.

Must not know accounts, rows or chains, nor whether a payment is good.  Theory: one price is told twice, as version 1 in
the body and as version 2 in a header, because stock clients read one of the two and refuse what they do not know (a null
`outputSchema`, a CAIP-2 name in version 1); a version 2 payment must then name one of our own prices whole, and a version 1
payment, which echoes nothing, is held against the prices of the route that it came to.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from contracts.codec import checksum, to_hex
from gateway.rails.x402.wire import WireError, clean_text, compact_json, decode_base64, load_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contracts.codec import Address
    from contracts.tokens import Token

__all__ = [
    "IDENTIFIER",
    "MAX_PAYMENT_CHARS",
    "OFFER_RECEIPT",
    "PAYMENT_HEADERS",
    "V1",
    "V2",
    "Asking",
    "Paid",
    "PaymentHeaderError",
    "Price",
    "accepts",
    "body_members",
    "echo_mismatch",
    "identifier_of",
    "matching",
    "order_token_of",
    "payment_required",
    "read_header",
    "receipt_header",
]

V1: Final = 1
V2: Final = 2
MAX_PAYMENT_CHARS: Final = 64 * 1024
PAYMENT_HEADERS: Final = ("PAYMENT-SIGNATURE", "X-PAYMENT")
IDENTIFIER: Final = "payment-identifier"
OFFER_RECEIPT: Final = "offer-receipt"

_IDENTIFIER_INFO: Final[Mapping[str, Any]] = {"required": False}
_IDENTIFIER_SCHEMA: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
    },
    "required": ["required"],
}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)
_SCHEME: Final = "exact"
_MIME: Final = "application/json"
_MAX_ERROR_CHARS: Final = 300


class PaymentHeaderError(ValueError):
    """A payment header that cannot be read, or says what no payment may say. Nothing was done with it; says why."""


@dataclass(frozen=True, slots=True)
class Price:
    """One way to pay: so much of a token to an address of ours."""

    token: Token
    pay_to: Address
    value_base: int


@dataclass(frozen=True, slots=True)
class Asking:
    """What one 402 asks for. `url` is absolute. `order_token` comes back with a version 2 payment.

    `offers` are signed offers (extension offer-receipt), by the address `signer`.
    """

    url: str
    description: str
    prices: tuple[Price, ...]
    max_timeout_s: int
    order_token: str
    error: str = "payment required"
    offers: tuple[Mapping[str, Any], ...] = ()
    signer: str = ""


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as it came: its version, and the whole document. What is inside is checked by the parser of payments."""

    version: int
    document: Mapping[str, Any] = field(repr=False)


def accepts(asking: Asking, version: int) -> list[dict[str, Any]]:
    """Return the entries of one version; version 1 has none for a chain that it has no name for."""
    if version == V2:
        return [_entry_v2(asking, price) for price in asking.prices]
    return [entry for price in asking.prices if (entry := _entry_v1(asking, price)) is not None]


def body_members(asking: Asking) -> dict[str, Any]:
    """Return the members of a 402's body that version 1 reads; the body may have others beside them."""
    return {"x402Version": V1, "error": _error(asking), "accepts": accepts(asking, V1)}


def payment_required(asking: Asking) -> str:
    """Return the value of PAYMENT-REQUIRED: standard base64 of compact JSON, well below 8 KB."""
    extensions: dict[str, Any] = {IDENTIFIER: {"info": _IDENTIFIER_INFO, "schema": _IDENTIFIER_SCHEMA}}
    if asking.offers:
        extensions[OFFER_RECEIPT] = {"info": {"offers": list(asking.offers), "signer": asking.signer}}
    document = {
        "x402Version": V2,
        "error": _error(asking),
        "resource": {"url": asking.url, "description": asking.description, "mimeType": _MIME},
        "accepts": accepts(asking, V2),
        "extensions": extensions,
    }
    return _base64(document)


def read_header(value: str) -> Paid:
    """Return the payment in a header, whichever of the two it came in. Raises PaymentHeaderError.

    The version inside decides, since that is what a facilitator goes by.
    """
    if len(value) > MAX_PAYMENT_CHARS:
        raise PaymentHeaderError(f"a payment is at most {MAX_PAYMENT_CHARS} characters")
    try:
        document = load_object(decode_base64(value.strip()))
    except WireError as error:
        raise PaymentHeaderError(f"the payment cannot be read: {error}") from None
    version = document.get("x402Version")
    if type(version) is not int or version not in (V1, V2):
        raise PaymentHeaderError("x402Version is 1 or 2")
    return Paid(version, document)


def order_token_of(paid: Paid) -> object:
    """Return what a version 2 payment echoes of its order, whatever it is; None where it echoes nothing."""
    accepted = paid.document.get("accepted")
    extra = accepted.get("extra") if isinstance(accepted, dict) else None
    return extra.get("order") if isinstance(extra, dict) else None


def matching(asking: Asking, paid: Paid) -> tuple[tuple[Price, dict[str, Any]], ...]:
    """Return the prices that a payment may be for, with their entries: none where it is for nothing that we ask.

    Version 2 names one of them whole: every member of `accepted` equals ours, and `extra` holds at least what ours does.
    Version 1 names scheme and network only, which several of our tokens may share; its signature tells which.
    """
    found = []
    for price in asking.prices:
        entry = _entry_v2(asking, price) if paid.version == V2 else _entry_v1(asking, price)
        if entry is not None and (_accepts_v2(paid, entry) if paid.version == V2 else _names_v1(paid, entry)):
            found.append((price, entry))
    return tuple(found)


def echo_mismatch(paid: Paid) -> bool:
    """Say whether a payment changed what we advertised of an extension that we act upon; leaving extensions out is fine.

    Signed offers are not compared: whoever changes one spoils only what it kept as evidence.
    """
    extensions = paid.document.get("extensions")
    if extensions is None or paid.version != V2:
        return False
    if not isinstance(extensions, dict):
        return True
    echoed = extensions.get(IDENTIFIER)
    return echoed is not None and not _holds(_info(echoed), _IDENTIFIER_INFO)


def identifier_of(paid: Paid) -> str | None:
    """Return the id of the extension payment-identifier. Raises PaymentHeaderError for one that is none."""
    extensions = paid.document.get("extensions")
    if paid.version != V2 or not isinstance(extensions, dict):
        return None
    info = _info(extensions.get(IDENTIFIER))
    given = info.get("id") if isinstance(info, dict) else None
    if given is None:
        return None
    if not isinstance(given, str) or _IDENTIFIER.fullmatch(given) is None:
        raise PaymentHeaderError("a payment identifier is 16 to 128 letters, digits, - and _")
    return given


def receipt_header(
    version: int,
    token: Token,
    *,
    tx_hash: bytes | None,
    payer: Address | None,
    amount_base: int | None = None,
    reason: str = "",
    receipt: Mapping[str, Any] | None = None,
) -> tuple[str, str]:
    """Return the receipt header of one version (SettleResponse); `reason` "" says success.

    The transaction is "" where none is known. `receipt` is a signed one (extension offer-receipt).
    """
    network = token.network.caip2 if version == V2 else (token.network.v1_name or token.network.caip2)
    document: dict[str, Any] = {
        "success": not reason,
        "transaction": "" if tx_hash is None else to_hex(tx_hash),
        "network": network,
    }
    if payer is not None:
        document["payer"] = checksum(payer)
    if reason:
        document["errorReason"] = reason
    if version == V2 and amount_base is not None:
        document["amount"] = str(amount_base)
    if version == V2 and receipt is not None:
        document["extensions"] = {OFFER_RECEIPT: {"info": {"receipt": dict(receipt)}}}
    return ("PAYMENT-RESPONSE" if version == V2 else "X-PAYMENT-RESPONSE"), _base64(document)


def _entry_v1(asking: Asking, price: Price) -> dict[str, Any] | None:
    """No `outputSchema`: the legacy TypeScript client throws on null, and has no use for another."""
    name = price.token.network.v1_name
    if name is None:
        return None
    return {
        "scheme": _SCHEME,
        "network": name,
        "maxAmountRequired": str(price.value_base),
        "resource": asking.url,
        "description": asking.description,
        "mimeType": _MIME,
        "payTo": checksum(price.pay_to),
        "maxTimeoutSeconds": asking.max_timeout_s,
        "asset": checksum(price.token.address),
        "extra": {"name": price.token.name, "version": price.token.version},
    }


def _entry_v2(asking: Asking, price: Price) -> dict[str, Any]:
    return {
        "scheme": _SCHEME,
        "network": price.token.network.caip2,
        "amount": str(price.value_base),
        "asset": checksum(price.token.address),
        "payTo": checksum(price.pay_to),
        "maxTimeoutSeconds": asking.max_timeout_s,
        "extra": {"name": price.token.name, "version": price.token.version, "order": asking.order_token},
    }


def _names_v1(paid: Paid, entry: Mapping[str, Any]) -> bool:
    return all(paid.document.get(key) == entry[key] for key in ("scheme", "network"))


def _accepts_v2(paid: Paid, entry: Mapping[str, Any]) -> bool:
    """An `extra` without our order is a client's that drops what it does not know: then the route's price is what counts."""
    accepted = paid.document.get("accepted")
    if not isinstance(accepted, dict) or not isinstance(accepted.get("extra"), dict):
        return False
    plain = {key: value for key, value in entry.items() if key != "extra"}
    return _holds(accepted, plain) and _holds({"order": entry["extra"]["order"], **accepted["extra"]}, entry["extra"])


def _same(given: object, ours: object) -> bool:
    """Compare by type too: True is no 1. Addresses may come back in another case."""
    if isinstance(given, str) and isinstance(ours, str) and ours.startswith("0x"):
        return given.lower() == ours.lower()
    return type(given) is type(ours) and given == ours


def _holds(given: object, ours: Mapping[str, Any]) -> bool:
    return isinstance(given, dict) and all(key in given and _same(given[key], value) for key, value in ours.items())


def _info(extension: object) -> object:
    return extension.get("info") if isinstance(extension, dict) else None


def _error(asking: Asking) -> str:
    return clean_text(asking.error, _MAX_ERROR_CHARS)


def _base64(document: Mapping[str, Any]) -> str:
    return base64.b64encode(compact_json(document).encode("ascii")).decode("ascii")
