"""The upstream of T1 and T2: a 1 KB document for free, and an x402 version 2 resource that is checked and never settled.

Must not know who pays.  Theory: with a chain behind it the chain would be measured; so a payment is taken when its
terms, its signature and its nonce are right, and the authorization is kept for whoever wants to collect it.
"""

import asyncio
import base64
import json
import sys
import time
from typing import Any

import httptools
import uvloop

from contracts.codec import Address, checksum
from contracts.eip3009 import Authorization
from contracts.signature import recover_address
from contracts.tokens import BASE_USDC

NETWORK = "eip155:8453"
PRICE_BASE = 1_000
TIMEOUT_S = 300
_FREE_BODY = json.dumps({"items": [f"item {n:03}" for n in range(72)], "pad": ""}).encode().ljust(1024)
_PAID_BODY = json.dumps({"city": "Lisbon", "weather": "sunny", "temperature_c": 21, "pad": "x" * 128}).encode()


class Till:
    """Makes challenges and checks payments."""

    def __init__(self, pay_to: Address, *, keep: bool) -> None:
        self._pay_to, self._keep = pay_to, keep
        self._used: set[bytes] = set()
        self.kept: list[dict[str, Any]] = []
        self._accepted = {
            "scheme": "exact",
            "network": NETWORK,
            "amount": str(PRICE_BASE),
            "asset": checksum(BASE_USDC.address),
            "payTo": checksum(pay_to),
            "maxTimeoutSeconds": TIMEOUT_S,
            "extra": {"name": BASE_USDC.name, "version": BASE_USDC.version},
        }

    def challenge(self, url: str) -> bytes:
        """Return the value of PAYMENT-REQUIRED."""
        document = {
            "x402Version": 2,
            "error": "PAYMENT-SIGNATURE header is required",
            "resource": {"url": url, "description": "The weather", "mimeType": "application/json"},
            "accepts": [self._accepted],
        }
        return base64.b64encode(json.dumps(document).encode())

    def take(self, header: bytes) -> str | None:
        """Check a payment; return what is wrong with it, None for a good one."""
        payload = json.loads(base64.b64decode(header))["payload"]
        fields = payload["authorization"]
        authorization = Authorization(
            token=BASE_USDC,
            authorizer=Address(bytes.fromhex(fields["from"][2:])),
            pay_to=Address(bytes.fromhex(fields["to"][2:])),
            value_base=int(fields["value"]),
            valid_after=int(fields["validAfter"]),
            valid_before=int(fields["validBefore"]),
            nonce=bytes.fromhex(fields["nonce"][2:]),
        )
        if authorization.pay_to != self._pay_to or authorization.value_base != PRICE_BASE:
            return "wrong terms"
        if not authorization.valid_after < time.time() < authorization.valid_before:
            return "outside its window"
        signature = bytes.fromhex(payload["signature"][2:])
        if recover_address(authorization.digest, signature) != authorization.authorizer:
            return "wrong signature"
        if authorization.nonce in self._used:
            return "nonce used"
        self._used.add(authorization.nonce)
        if self._keep:
            self.kept.append(payload)
        return None


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection."""

    def __init__(self, till: Till) -> None:
        self._till = till

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target, self._payment, self._host = b"", b"", b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"payment-signature":
            self._payment = value
        elif lower == b"host":
            self._host = value

    def on_message_complete(self) -> None:
        if self._target.startswith(b"/free"):
            self._answer(b"200 OK", b"", _FREE_BODY)
        elif self._target.startswith(b"/kept"):
            kept, self._till.kept = self._till.kept, []
            self._answer(b"200 OK", b"", json.dumps(kept).encode())
        elif not self._payment:
            url = f"http://{self._host.decode()}{self._target.decode()}"
            self._answer(b"402 Payment Required", b"PAYMENT-REQUIRED: %b\r\n" % self._till.challenge(url), b"{}")
        elif (wrong := self._till.take(self._payment)) is not None:
            self._answer(b"402 Payment Required", b"", json.dumps({"error": wrong}).encode())
        else:
            receipt = {"success": True, "transaction": "0x" + "00" * 32, "network": NETWORK, "payer": ""}
            shown = base64.b64encode(json.dumps(receipt).encode())
            self._answer(b"200 OK", b"PAYMENT-RESPONSE: %b\r\n" % shown, _PAID_BODY)

    def _answer(self, status: bytes, headers: bytes, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
            % (status, headers, len(body), body)
        )


async def main(config: dict[str, Any]) -> None:
    """Serve until killed."""
    till = Till(Address(bytes.fromhex(config["pay_to"][2:])), keep=bool(config.get("keep")))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(till), "127.0.0.1", 0, backlog=512)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.stdin.readline())))
