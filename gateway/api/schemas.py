"""The shapes of our answers, as JSON Schema: small builders, and what several answers share.

Must not know handlers.  Theory: a shape stands beside the code that fills it and a test holds real answers against it, so
what the OpenAPI page says is what is sent.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
AMOUNT: Schema = {
    "type": "string",
    "pattern": r"^-?(0|[1-9][0-9]{0,9})\.[0-9]{6}$",
    "description": "a decimal, six digits",
}
AMOUNT_IN: Schema = {
    "type": "string",
    "pattern": r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?$",
    "description": "a decimal, at most six digits after the point",
}
PRICE_IN: Schema = {
    "type": "string",
    "pattern": r"^(?!0(\.0+)?$)(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?$",
    "description": "a decimal above zero, at most six digits after the point",
}
TIME: Schema = {"type": "string", "format": "date-time"}
HASH: Schema = {"type": "string", "pattern": "^0x[0-9a-f]{64}$"}
ADDRESS: Schema = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
ANY: Schema = {"type": "object"}


def choice(*values: str) -> Schema:
    """Return the schema of one of these texts."""
    return {"type": "string", "enum": list(values)}


def maybe(schema: Schema) -> Schema:
    """Return a schema that also takes null."""
    return {"anyOf": [schema, {"type": "null"}]}


def several(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def record(**members: Schema) -> Schema:
    """Return the schema of an object with exactly these members, all of them present."""
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def optional(schema: Schema, *names: str) -> Schema:
    """Return a record's schema in which these members may be missing."""
    return {**schema, "required": [name for name in schema["required"] if name not in names]}


def named(name: str, schema: Schema, *examples: object) -> Schema:
    """Return a schema with a name, under which /openapi.json holds it once, and examples of what fits it."""
    return {**schema, "title": name, **({"examples": list(examples)} if examples else {})}


def exactly_one(schema: Schema, *names: str) -> Schema:
    """Return an object's schema in which exactly one of these members is there."""
    return {**schema, "oneOf": [{"required": [name]} for name in names]}


def page(item: Schema) -> Schema:
    """Return the schema of one page of a list: ask again with `after` = `next` until that is null."""
    return record(entries=several(item), next=maybe(TEXT))


PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457; `type` is stable, `code` is its last part",
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": INTEGER,
        "detail": TEXT,
        "remedy": TEXT,
        "code": TEXT,
        "request_id": TEXT,
        "field": TEXT,
        "payment_id": TEXT,
    },
    "required": ["type", "title", "status", "detail", "remedy", "code", "request_id"],
}

PAYMENT_REQUIRED: Schema = named(
    "PaymentRequired",
    {
        **PROBLEM,
        "description": "RFC 9457, and the body of an x402 version 1 answer at the same time; headers hold the other forms",
        "properties": {
            **PROBLEM["properties"],
            "order": {**TEXT, "description": "the id that the top-up will have"},
            "amount": {**AMOUNT, "description": "USD"},
            "x402Version": INTEGER,
            "error": {**TEXT, "description": "why what came was not taken: an x402 reason code, or words"},
            "accepts": several(ANY),
            "extensions": {**ANY, "description": "x402 version 2; sign-in-with-x: what to sign to get a key"},
        },
    },
    {
        "type": "https://paymentauth.org/problems/payment-required",
        "title": "Payment required",
        "status": 402,
        "detail": "pay 5.000000 USD on one of the rails that this answer offers",
        "remedy": "pay one of the offers: accepts, PAYMENT-REQUIRED, or WWW-Authenticate",
        "code": "payment_required",
        "request_id": "req_01M82FFA16Q5BSPE",
        "order": "top_06N4X0Q6ZK3V8Y2R5T7W9A1B3C",
        "amount": "5.000000",
        "x402Version": 1,
        "error": "payment required",
        "accepts": [
            {
                "scheme": "exact",
                "network": "base",
                "maxAmountRequired": "5000000",
                "resource": "https://gateway.example/v1/topups",
                "description": "5.000000 USD of credit",
                "mimeType": "application/json",
                "payTo": "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
                "maxTimeoutSeconds": 300,
                "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
                "extra": {"name": "USD Coin", "version": "2"},
            }
        ],
    },
)
