"""A stock payer of version 1: PyPI `x402` 0.3's own httpx client. `python -m sandbox.payers.x402v1 --config FILE|JSON`.

It needs an environment of its own (requirements-x402v1.txt). Config: private_key, url, method (GET), json (none),
headers (none), max_base (none: that client pays whatever is asked), calls (one: `{}`): what is different in each of several.
Prints one JSON line for each, `{status, headers, body, sent, receipt}`: `sent` the headers that it paid with, `receipt` what
the SDK reads in the answer (null without one).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from eth_account import Account
from x402.clients.base import decode_x_payment_response
from x402.clients.httpx import x402HttpxClient

from sandbox.process import child_config

TIMEOUT_S = 60
PAYMENT_HEADER = "X-Payment"


async def pay(config: dict[str, Any]) -> dict[str, Any]:
    """Make the configured call and return what came back."""
    account = Account.from_key(config["private_key"])
    async with x402HttpxClient(account, max_value=config.get("max_base"), timeout=TIMEOUT_S) as client:
        answer = await client.request(
            config.get("method", "GET"), config["url"], json=config.get("json"), headers=config.get("headers")
        )
    paid_with = answer.request.headers.get(PAYMENT_HEADER)  # the client adds it to the request that it repeats
    sent = [{PAYMENT_HEADER.lower(): paid_with}] if paid_with is not None else []
    told = answer.headers.get("x-payment-response")
    found = {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}
    return found | {"sent": sent, "receipt": decode_x_payment_response(told) if told else None}


def main() -> None:
    """Pay and print, a line for each call."""
    config = child_config()
    for call in config.get("calls", [{}]):
        print(json.dumps(asyncio.run(pay(config | call))), flush=True)


if __name__ == "__main__":
    main()
