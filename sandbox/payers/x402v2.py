"""A stock payer of version 2: PyPI `x402`'s own httpx client. `python -m sandbox.payers.x402v2 --config FILE|JSON`.

Config: private_key, url, method (GET), json (none), headers (none), calls (one: `{}`): what is different in each of several.
Its spend controls are as they come: a dollar for each payment, in assets that it knows by itself. Prints one JSON line for
each call, `{status, headers, body, sent, receipt}`: `sent` the headers that it paid with, one entry for each time that it
signed, `receipt` what the SDK reads in the answer (null without one).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.http.utils import decode_payment_response_header, encode_payment_signature_header
from x402.mechanisms.evm.exact import register_exact_evm_client

from sandbox.process import child_config

if TYPE_CHECKING:
    from x402.schemas.hooks import PaymentCreatedContext

TIMEOUT_S = 60


async def pay(config: dict[str, Any]) -> dict[str, Any]:
    """Make the configured call and return what came back."""
    payer, sent = x402Client(), []
    register_exact_evm_client(payer, Account.from_key(config["private_key"]))

    def note(created: PaymentCreatedContext) -> None:
        sent.append({"payment-signature": encode_payment_signature_header(created.payment_payload)})

    payer.on_after_payment_creation(note)
    async with x402HttpxClient(payer, timeout=TIMEOUT_S) as client:
        answer = await client.request(
            config.get("method", "GET"), config["url"], json=config.get("json"), headers=config.get("headers")
        )
    told = answer.headers.get("payment-response")
    receipt = decode_payment_response_header(told).model_dump(by_alias=True, exclude_none=True) if told else None
    found = {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}
    return found | {"sent": sent, "receipt": receipt}


def main() -> None:
    """Pay and print, a line for each call."""
    config = child_config()
    for call in config.get("calls", [{}]):
        print(json.dumps(asyncio.run(pay(config | call))), flush=True)


if __name__ == "__main__":
    main()
