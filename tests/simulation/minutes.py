"""dropmpp's routes in memory: every call answered with an MPP challenge first, minutes prepaid, gone when they have run out.

It is paid in Base's USDC by MPP's `evm` method, collected before it works; free calls ask who calls, and believe it.
"""

import asyncio
import base64
import json
import random
from dataclasses import dataclass
from typing import Any

from contracts.codec import Address, checksum, parse_address, parse_bytes32, parse_hex, parse_uint
from contracts.eip3009 import Authorization
from contracts.signature import recover_address
from contracts.tokens import BASE_USDC
from gateway.core.times import utc_text
from gateway.http.port import UpstreamRequest
from tests.fakes.chain import ScriptedChain
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Wire
from tests.simulation.shop import wire

__all__ = ["CREATE_BASE", "HOURLY_BASE", "Droplet", "ScriptedDropMpp"]

CREATE_BASE, HOURLY_BASE, LEAST_BASE = 10_000, 13_400, 10_000
MINUTE_MS = 60_000
PROVISION_MS = 40_000


@dataclass
class Droplet:
    """One server. `paid_base` is all that it took."""

    ref: str
    created_ms: int
    paid_until_ms: int
    paid_base: int
    deleted_ms: int | None = None
    extensions: int = 0


class ScriptedDropMpp:
    """The reseller as its document has it, for one wallet. Implements tests.fakes.upstream.Server."""

    name = "dropmpp"

    def __init__(
        self, realm: str, pay_to: Address, chain: ScriptedChain, clock: VirtualClock, rng: random.Random
    ) -> None:
        self._realm, self._pay_to, self._chain, self._clock, self._rng = realm, pay_to, chain, clock, rng
        self._asked: dict[str, int] = {}  # open challenges by id, with their price
        self._challenges = 0
        self.droplets: dict[str, Droplet] = {}

    def intent_of(self, request: UpstreamRequest) -> str:
        """Return what is asked."""
        return request.target

    async def serve(self, request: UpstreamRequest, sender: int) -> Wire:
        """Answer one request: with a challenge, or with what was paid for."""
        await asyncio.sleep(self._rng.uniform(0.005, 0.4))
        assert isinstance(request.body, bytes)
        document = json.loads(request.body) if request.body else {}
        droplet = self._of(request.target)
        if request.target.startswith("/v1/servers/") and droplet is None:
            return wire(404, {"error": "no such server"})
        price_base = self._price(request, document)
        credential = _credential(request)
        if credential is None or not self._collect(credential, price_base):
            return self._challenge(price_base)
        return self._answer(request, document, droplet, price_base)

    def alive(self, droplet: Droplet) -> bool:
        """Say whether it is there now."""
        return droplet.deleted_ms is None and self._clock.now_ms() < droplet.paid_until_ms

    def _of(self, target: str) -> Droplet | None:
        parts = target.strip("/").split("/")
        found = self.droplets.get(parts[2]) if len(parts) > 2 else None
        return found if found is not None and self.alive(found) else None

    def _price(self, request: UpstreamRequest, document: dict[str, Any]) -> int:
        if request.method != "POST":
            return 0
        time_base = -(-HOURLY_BASE * document.get("minutes", 1) // 60)
        return CREATE_BASE + time_base if request.target == "/v1/servers" else max(LEAST_BASE, time_base)

    def _challenge(self, price_base: int) -> Wire:
        self._challenges += 1
        challenge_id = f"challenge-{self._challenges}"
        self._asked[challenge_id] = price_base
        details: dict[str, Any] = {"chainId": BASE_USDC.chain_id}
        if price_base:
            details |= {"credentialTypes": ["authorization"], "decimals": 6}
        body = {
            "amount": str(price_base),
            "currency": checksum(BASE_USDC.address),
            "recipient": checksum(self._pay_to),
            "methodDetails": details,
        }
        fields = {
            "id": challenge_id,
            "realm": self._realm,
            "method": "evm" if price_base else "tempo",
            "intent": "charge",
            "request": base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("="),
            "expires": utc_text(self._clock.now_ms() + 5 * MINUTE_MS),
        }
        line = "Payment " + ", ".join(f'{name}="{value}"' for name, value in fields.items())
        return wire(402, {"title": "payment required"}, (("WWW-Authenticate", line),))

    def _collect(self, credential: dict[str, Any], price_base: int) -> bool:
        """Take what a credential gives, once: a challenge is good for one answer."""
        asked_base = self._asked.pop(credential["challenge"]["id"], None)
        if asked_base is None or asked_base != price_base:
            return False
        if not price_base:
            return bool(credential["payload"]["type"] == "proof")
        said = credential["payload"]
        authorization = Authorization(
            token=BASE_USDC,
            authorizer=parse_address(said["from"]),
            pay_to=parse_address(said["to"]),
            value_base=parse_uint(said["value"]),
            valid_after=parse_uint(said["validAfter"]),
            valid_before=parse_uint(said["validBefore"]),
            nonce=parse_bytes32(said["nonce"]),
        )
        good = recover_address(authorization.digest, parse_hex(said["signature"], 65)) == authorization.authorizer
        if not good or (authorization.value_base, authorization.pay_to) != (price_base, self._pay_to):
            return False
        self._chain.settle(authorization)
        self._chain.mine()
        used = (BASE_USDC.address, authorization.authorizer, authorization.nonce)
        return used in self._chain._chain[-1].state.used

    def _answer(self, request: UpstreamRequest, document: dict[str, Any], droplet: Droplet | None, base: int) -> Wire:
        if request.target == "/v1/servers" and request.method == "POST":
            return self._make(document, base)
        if droplet is not None:
            return self._act(request, document, droplet, base)
        answers: dict[str, object] = {
            "/v1/servers": {"servers": [self._shown(d) for d in self.droplets.values() if self.alive(d)]},
            "/v1/snapshots": {"snapshots": []},
            "/v1/catalog/sizes": {"sizes": [_SIZE]},
            "/v1/catalog/regions": {"regions": [{"slug": "nyc1", "name": "New York"}]},
            "/v1/catalog/images": {"images": [{"slug": "ubuntu-24-04-x64", "name": "Ubuntu"}]},
            "/v1/catalog/snapshot-pricing": {"rate_per_gb_day": 0.00267},
        }
        told = answers.get(request.target)
        return wire(404, {"error": "no such route"}) if told is None else wire(200, told)

    def _make(self, document: dict[str, Any], price_base: int) -> Wire:
        ref, now_ms = f"srv_{self._rng.randbytes(8).hex()}", self._clock.now_ms()
        until_ms = now_ms + document.get("minutes", 1) * MINUTE_MS
        made = self.droplets[ref] = Droplet(ref, now_ms, until_ms, price_base)
        return wire(201, {**self._shown(made), "minutes_purchased": document.get("minutes", 1)})

    def _act(self, request: UpstreamRequest, document: dict[str, Any], droplet: Droplet, price_base: int) -> Wire:
        if request.method == "GET":
            return wire(200, self._shown(droplet))
        if request.method == "DELETE":
            droplet.deleted_ms = self._clock.now_ms()
            return wire(200, {"deleted": True})
        droplet.paid_until_ms += document["minutes"] * MINUTE_MS
        droplet.paid_base += price_base
        droplet.extensions += 1
        return wire(200, {"id": droplet.ref, "paid_until": utc_text(droplet.paid_until_ms)})

    def _shown(self, droplet: Droplet) -> dict[str, Any]:
        up = self._clock.now_ms() >= droplet.created_ms + PROVISION_MS
        return {
            "id": droplet.ref,
            "size": "small",
            "region": "nyc1",
            "image": "ubuntu-24-04-x64",
            "ip": "198.51.100.7",
            "status": "active" if up else "provisioning",
            "paid_until": utc_text(droplet.paid_until_ms),
        }


_SIZE = {
    "slug": "small",
    "name": "Small",
    "vcpus": 1,
    "memory_mb": 1024,
    "disk_gb": 25,
    "create_fee": CREATE_BASE / 1_000_000,
    "hourly": HOURLY_BASE / 1_000_000,
}


def _credential(request: UpstreamRequest) -> dict[str, Any] | None:
    """Return what a request shows of a challenge that was answered."""
    for name, value in request.headers:
        if name.lower() in {"authorization", "payment-authorization"} and value.startswith("Payment "):
            text = value.removeprefix("Payment ")
            return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    return None
