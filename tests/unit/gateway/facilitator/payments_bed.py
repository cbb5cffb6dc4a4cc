"""Payments of both x402 versions as stock clients make them, signed by eth-account: a peer that shares none of our code."""

from __future__ import annotations

import copy
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from eth_account import Account

from contracts.tokens import BASE_USDC

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
PAY_TO = "0x8eCbd65228930060363C70854da7D37D57ffC358"
OTHER = "0x000000000000000000000000000000000000dEaD"
TOKENS = {BASE_USDC.key: BASE_USDC}
DOMAIN = {"name": "USD Coin", "version": "2", "chainId": 8453, "verifyingContract": USDC}
NAMES = {1: "base", 2: "eip155:8453"}
FIELDS = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


@dataclass(frozen=True)
class Draft:
    """A payment before it is signed: who pays what to whom, under which domain."""

    key: str
    sender: str = ""
    to: str = PAY_TO
    value: int = 10_000
    valid_after: int = 0
    valid_for_s: int = 120
    valid_before: int | None = None
    nonce: str = field(default_factory=lambda: "0x" + secrets.token_hex(32))
    domain: dict[str, Any] = field(default_factory=lambda: dict(DOMAIN))
    cosigner: str = ""

    def change(self, **changes: Any) -> Draft:
        """Return another draft."""
        return replace(self, **changes)

    def sign(self, version: int) -> Sent:
        """Return what a client sends, and what it pays for."""
        sender = self.sender or Account.from_key(self.key).address
        before = int(time.time()) + self.valid_for_s if self.valid_before is None else self.valid_before
        message = {
            "from": sender,
            "to": self.to,
            "value": self.value,
            "validAfter": self.valid_after,
            "validBefore": before,
            "nonce": self.nonce,
        }
        types = {"TransferWithAuthorization": FIELDS}
        keys = (self.key, self.cosigner) if self.cosigner else (self.key,)
        signature = b"".join(Account.sign_typed_data(key, self.domain, types, message).signature for key in keys)
        authorization = {name: each if isinstance(each, str) else str(each) for name, each in message.items()}
        signed = {"signature": "0x" + signature.hex(), "authorization": authorization}
        asked = requirements(version)
        if version == 1:
            payload = {"x402Version": 1, "scheme": "exact", "network": NAMES[1], "payload": signed}
        else:
            payload = {"x402Version": 2, "accepted": copy.deepcopy(asked), "payload": signed}
        return Sent(version, payload, asked)


@dataclass
class Sent:
    """The three parts of a request to a facilitator; tests break them in place."""

    version: Any
    payload: Any
    requirements: Any

    @property
    def authorization(self) -> dict[str, Any]:
        """The signed fields."""
        found: dict[str, Any] = self.payload["payload"]["authorization"]
        return found

    @property
    def chosen(self) -> dict[str, Any]:
        """Where the payload says scheme and network."""
        found: dict[str, Any] = self.payload if self.version == 1 else self.payload["accepted"]
        return found

    @property
    def signature(self) -> bytes:
        """The signature's bytes."""
        return bytes.fromhex(self.payload["payload"]["signature"][2:])

    @signature.setter
    def signature(self, value: bytes) -> None:
        self.payload["payload"]["signature"] = "0x" + value.hex()

    @property
    def amount(self) -> str:
        """The name of the price's field."""
        return "maxAmountRequired" if self.version == 1 else "amount"

    def both(self, name: str, value: Any) -> None:
        """Say one thing of the requirements on both sides, as a client that repeats them does."""
        self.requirements[name] = value
        self.chosen[name] = value

    @property
    def body(self) -> dict[str, Any]:
        """What is posted."""
        return {"x402Version": self.version, "paymentPayload": self.payload, "paymentRequirements": self.requirements}


def requirements(version: int, amount: int = 10_000, pay_to: str = PAY_TO) -> dict[str, Any]:
    """Return what a stock seller asks for."""
    common = {
        "scheme": "exact",
        "network": NAMES[version],
        "asset": USDC,
        "payTo": pay_to,
        "maxTimeoutSeconds": 120,
        "extra": {"name": "USD Coin", "version": "2"},
    }
    if version == 1:
        described = {"resource": "http://seller.test/weather", "description": "", "mimeType": "application/json"}
        return {**common, **described, "maxAmountRequired": str(amount)}
    return {**common, "amount": str(amount)}
