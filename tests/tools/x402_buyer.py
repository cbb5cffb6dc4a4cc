"""The reference x402 SDK as a buyer, for a seller's wire shapes. Runs in the sandbox's venv only; imports nothing of ours.

Reads a 402 on stdin (`header`, `body`, `key`) and prints what the SDK's parsers make of it, the payments that its version 2
and version 1 clients send for it, and what it makes of receipts (`receipts`: header values).
"""

import asyncio
import base64
import json
import sys
from typing import Any

from eth_account import Account
from x402 import x402Client
from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_response_header,
    encode_payment_signature_header,
)
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.exact.v1.client import ExactEvmSchemeV1
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas.v1 import PaymentRequiredV1

IDENTIFIER = "payment-identifier"


async def pay(client: Any, required: Any) -> dict[str, Any]:
    """Return the payment that a client makes, as it would be sent."""
    payload = await client.create_payment_payload(required)
    return json.loads(base64.b64decode(encode_payment_signature_header(payload)))


async def main() -> None:
    """Answer one question."""
    given = json.load(sys.stdin)
    signer = EthAccountSigner(Account.from_key(given["key"]))
    v2 = decode_payment_required_header(given["header"])
    v1 = PaymentRequiredV1.model_validate_json(given["body"])
    client = x402Client().register("eip155:*", ExactEvmScheme(signer))
    client.set_spend_controls(False)
    legacy = x402Client().register_v1("base", ExactEvmSchemeV1(signer))
    legacy.set_spend_controls(False)
    receipts = [decode_payment_response_header(value) for value in given.get("receipts", [])]
    answer = {
        "v2": v2.model_dump(by_alias=True, exclude_none=True),
        "v1": v1.model_dump(by_alias=True, exclude_none=True),
        "paid_v2": await pay(client, v2),
        "paid_v1": await pay(legacy, v1),
        "receipts": [receipt.model_dump(by_alias=True, exclude_none=True) for receipt in receipts],
    }
    print(json.dumps(answer))


asyncio.run(main())
