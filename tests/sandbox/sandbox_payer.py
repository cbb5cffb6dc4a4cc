"""A payer for the sandbox's tests: signs EIP-3009 with eth-account and speaks version 1 of x402 by hand.

Nothing of the product is in it, so that the vendor is tested on its own.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from eth_account import Account

FIELDS = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]


@dataclass(frozen=True)
class Payment:
    """A signed payment, as the header and as what a test looks for on chain."""

    header: str
    nonce: str
    valid_before_s: int

    @property
    def headers(self) -> dict[str, str]:
        """What the paid request carries."""
        return {"X-Payment": self.header}


def pay(private_key: str, requirement: dict[str, Any], *, window_s: int | None = None, nonce: str = "") -> Payment:
    """Sign what a version 1 requirement asks for; the window is its own unless told."""
    account = Account.from_key(private_key)
    nonce = nonce or "0x" + secrets.token_hex(32)
    valid_before = int(time.time()) + (window_s or requirement["maxTimeoutSeconds"])
    message = {
        "from": account.address,
        "to": requirement["payTo"],
        "value": int(requirement["maxAmountRequired"]),
        "validAfter": 0,
        "validBefore": valid_before,
        "nonce": nonce,
    }
    domain = {
        "name": requirement["extra"]["name"],
        "version": requirement["extra"]["version"],
        "chainId": 8453,
        "verifyingContract": requirement["asset"],
    }
    signed = account.sign_typed_data(domain, {"TransferWithAuthorization": FIELDS}, message)
    text = {key: value if isinstance(value, str) else str(value) for key, value in message.items()}
    payload = {
        "x402Version": 1,
        "scheme": requirement["scheme"],
        "network": requirement["network"],
        "payload": {"signature": "0x" + signed.signature.hex(), "authorization": text},
    }
    return Payment(base64.b64encode(json.dumps(payload).encode()).decode(), nonce, valid_before)


def unpack(header: str) -> Any:
    """The JSON inside a base64 header."""
    return json.loads(base64.b64decode(header))
