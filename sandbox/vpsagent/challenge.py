"""The vendor's dialect of x402 version 1: what a 402 says, and what an inline receipt says.

One requirement, network "base", both amount fields, the same JSON in the body and (base64) in X-Payment-Required. It
checks nothing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from sandbox.vpsagent.config import Config

MIME = "application/json"


@dataclass(frozen=True, slots=True)
class Priced:
    """What one request would cost and what it is called in the challenge."""

    route: str
    path: str
    amount_base: int
    description: str
    output_schema: dict[str, Any]


def requirements(config: Config, origin: str, priced: Priced) -> dict[str, Any]:
    """accepts[0], as the vendor's document has it."""
    return {
        "scheme": "exact",
        "network": config.network,
        "maxAmountRequired": str(priced.amount_base),
        "amount": str(priced.amount_base),
        "resource": f"{config.public_url or origin}{priced.path}",
        "description": priced.description,
        "mimeType": MIME,
        "payTo": config.pay_to,
        "maxTimeoutSeconds": config.timeout_s(priced.route),
        "asset": config.asset,
        "extra": {"name": config.token_name, "version": config.token_version},
        "outputSchema": priced.output_schema,
    }


def altered(base: dict[str, Any], fault: dict[str, Any]) -> dict[str, Any]:
    """accepts[0] as a `challenge` fault wants it."""
    changed = {**base, **fault["set"]}
    for name in fault["drop"]:
        changed.pop(name, None)
    if fault["pad_bytes"]:
        changed["description"] = "x" * int(fault["pad_bytes"])
    return changed


def payment_required(
    accepts: dict[str, Any], error: dict[str, Any] | None, fault: dict[str, Any] | None = None
) -> web.Response:
    """The 402; `error` is null on an unpaid request and an object where a payment was refused."""
    outer: dict[str, Any] = {"x402Version": 1, "accepts": [accepts], "error": error}
    if fault is not None:
        outer |= fault["top"]
    text = json.dumps(outer)
    body, header = text, _b64(text)
    if fault is not None:
        body = text if fault["raw_body"] is None else fault["raw_body"]
        header = header if fault["raw_header"] is None else fault["raw_header"]
    headers = {"X-Payment-Required": header, "Cache-Control": "no-store"}
    if fault is not None and fault["drop_header"]:
        del headers["X-Payment-Required"]
    return web.Response(status=402, text=body, content_type=MIME, headers=headers)


def receipt_header(tx_hash: str, network: str) -> str:
    """X-Payment-Response of an inline settlement."""
    return _b64(json.dumps({"tx": tx_hash, "network": network}))


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
