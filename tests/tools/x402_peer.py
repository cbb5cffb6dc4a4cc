"""The reference x402 SDK as a black box. Runs in the sandbox's venv only; imports nothing of ours.

`challenges` prints what the SDK's seller says (committed as tests/vectors/x402/sdk.json: send the output
there to regenerate it; a test compares the two). `verify` reads credentials on stdin and prints what the SDK's
decoder, its seller's matching and its facilitator's offline checks make of them.
"""

import json
import sys
from typing import Any

from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_signature_header,
    encode_payment_required_header,
    encode_payment_response_header,
)
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.mechanisms.evm.exact.v1.facilitator import ExactEvmSchemeV1
from x402.schemas import PaymentRequired, PaymentRequirements, ResourceInfo, SettleResponse
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1
from x402.server import x402ResourceServer

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
USDC_SEPOLIA = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAYEE = "0x8eCbd65228930060363C70854da7D37D57ffC358"
PAYER = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
TX = "0x" + "ab" * 32

# Written out: the SDK's own declaration needs an extra package that the sandbox has no other use for.
PAYMENT_IDENTIFIER = "payment-identifier"
IDENTIFIER_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
    },
    "required": ["required"],
}


class OfflineChain:
    """A chain on which every payer is a funded externally owned account, and every simulated transfer succeeds."""

    def get_addresses(self) -> list[str]:
        return [PAYEE]

    def get_code(self, address: str) -> bytes:
        return b"\x60" if address.lower() in {USDC.lower(), USDC_SEPOLIA.lower()} else b""

    def read_contract(self, address: str, abi: object, function_name: str, *args: Any) -> Any:
        if function_name != "transferWithAuthorization":
            raise ValueError(f"the offline chain has no {function_name}")
        return None

    def get_balance(self, address: str, token_address: str) -> int:
        return 10**15

    def get_chain_id(self) -> int:
        return 8453


def challenge_v2() -> PaymentRequired:
    """Two networks, a resource and an extension, as a seller built with the SDK describes them."""
    return PaymentRequired(
        error="Payment required",
        resource=ResourceInfo(url="https://seller.example/report", description="A report é", mime_type="text/plain"),
        accepts=[
            PaymentRequirements(
                scheme="exact",
                network="eip155:84532",
                asset=USDC_SEPOLIA,
                amount="20000",
                pay_to=PAYEE,
                max_timeout_seconds=300,
                extra={"name": "USDC", "version": "2"},
            ),
            PaymentRequirements(
                scheme="exact",
                network="eip155:8453",
                asset=USDC,
                amount="10000",
                pay_to=PAYEE,
                max_timeout_seconds=300,
                extra={"name": "USD Coin", "version": "2", "note": {"ratio": 0.5, "list": [1, None, "é"]}},
            ),
        ],
        extensions={PAYMENT_IDENTIFIER: {"info": {"required": True}, "schema": IDENTIFIER_SCHEMA}},
    )


def challenge_v1() -> PaymentRequiredV1:
    """One offer, as an SDK of version 1 puts it into the body."""
    return PaymentRequiredV1(
        error="X-PAYMENT header is required",
        accepts=[
            PaymentRequirementsV1(
                scheme="exact",
                network="base",
                max_amount_required="9990000",
                resource="https://seller.example/rent",
                description="A server",
                mime_type="application/json",
                pay_to=PAYEE,
                max_timeout_seconds=900,
                asset=USDC,
                extra={"name": "USD Coin", "version": "2"},
            )
        ],
    )


def challenges() -> dict[str, Any]:
    """What the SDK's seller sends, in every place where a challenge or a receipt may stand."""
    version_1 = challenge_v1()
    settled = SettleResponse(success=True, transaction=TX, network="eip155:8453", payer=PAYER)
    failed = SettleResponse(success=False, transaction="", network="base", error_reason="insufficient_funds")
    return {
        "v2_header": encode_payment_required_header(challenge_v2()),
        "v1_header": encode_payment_required_header(version_1),
        "v1_body": version_1.model_dump_json(by_alias=True, exclude_none=True),
        "receipt_settled": encode_payment_response_header(settled),
        "receipt_failed": encode_payment_response_header(failed),
    }


def verify(header: str, challenge_header: str, index: int) -> dict[str, Any]:
    """Decode a credential and run the seller's and the facilitator's checks for `accepts[index]`."""
    challenge = decode_payment_required_header(challenge_header)
    payload = decode_payment_signature_header(header)
    requirements = challenge.accepts[index]
    chain: Any = OfflineChain()
    if payload.x402_version == 1:
        result = ExactEvmSchemeV1(chain).verify(payload, requirements)
        return {"version": 1, "valid": result.is_valid, "reason": result.invalid_reason, "payer": result.payer}
    server = x402ResourceServer()
    matched = server.find_matching_requirements(challenge.accepts, payload)
    echo = server.validate_extensions(challenge, payload)
    result = ExactEvmScheme(chain).verify(payload, requirements)
    return {
        "version": 2,
        "valid": result.is_valid,
        "reason": result.invalid_reason,
        "payer": result.payer,
        "matched": challenge.accepts.index(matched) if matched is not None else None,
        "echo": echo.valid,
        "resource": payload.resource.url if payload.resource else None,
        "identifier": ((payload.extensions or {}).get(PAYMENT_IDENTIFIER) or {}).get("info", {}).get("id"),
    }


def main() -> None:
    """Run the command in argv; input and output are JSON."""
    if sys.argv[1:] == ["challenges"]:
        answer: object = challenges()
    elif sys.argv[1:] == ["verify"]:
        answer = [verify(**credential) for credential in json.load(sys.stdin)]
    else:
        raise SystemExit("usage: x402_peer.py challenges | verify")
    json.dump(answer, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
