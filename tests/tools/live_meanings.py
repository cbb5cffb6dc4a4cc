"""Every 402 that the sandbox's vendors and the reference sellers say, asked for live; `python -m tests.tools.live_meanings`.

The command writes what it gets into tests/vectors/meanings, beside what each means, which it leaves alone. A test compares
the shapes of the two, so that the golden answers stay what the vendors really say.
"""

import base64
import binascii
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from multidict import CIMultiDict

from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_USDC
from gateway.rails.x402.challenge import parse_challenge
from gateway.rails.x402.credential import encode_payment
from sandbox.chain import LocalBase
from sandbox.process import ROOT, SandboxProcess
from sandbox.shared_vendor.driver import Answer, Driver
from sandbox.tempo.chain import LocalTempo

VECTORS = ROOT / "tests" / "vectors" / "meanings"
KEPT = (
    *("cache-control", "content-type", "payment-required", "retry-after", "www-authenticate", "x-balance-remaining"),
    "x-payment-required",
)
MAIL, PASSWORD = "ops@example.com", "min-8-chars"
VRTX_ORDER = {"plan_id": 1, "location_id": 3, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"}
DROP_ORDER = {"size": "small", "region": "nyc1", "image": "ubuntu-24-04-x64", "minutes": 60}
NO_PAYMENT = {"X-PAYMENT": "e30=", "PAYMENT-SIGNATURE": "e30=", "Authorization": "Payment e30"}

PEERS_NOW = "2026-01-06T11:58:00Z"  # their challenges end at a time that never changes

Live = tuple[str, Answer]


def vpsagent(base: LocalBase) -> Iterator[Live]:
    """The catalogue, a rental, a renewal, and a refused payment."""
    owner, secret = base.dev_account(0)
    base.fund({owner: 1_000_000_000})
    config = {"rpc_url": base.rpc_url, "relayer_key": base.dev_account(10)[1], "provision_s": 0, "max_timeout_s": 60}
    with SandboxProcess.start("sandbox.vpsagent", {**config, "worker_interval_s": 0.05}) as process:
        vendor = Driver(process)
        yield "vpsagent_catalog", vendor.get("/catalog")
        rent = vendor.post("/rent", {"sku": "sandbox_1h"})
        yield "vpsagent_rent", rent
        yield "vpsagent_payment_invalid", vendor.post("/rent", {"sku": "sandbox_1h"}, headers=NO_PAYMENT)
        rental = vendor.post("/rent", {"sku": "sandbox_1h"}, headers=dict([pay(rent, secret)])).json()
        target = f"/rentals/{rental['rental_id']}"
        for _ in range(100):
            if vendor.get(target).json()["status"] == "active":
                break
            time.sleep(0.1)
        yield "vpsagent_renew", vendor.post(f"{target}/renew?token={rental['root_token']}", {"periods": 1})


def pay(asked: Answer, secret: str) -> tuple[str, str]:
    """Return the header that pays for a version 1 challenge."""
    challenge = parse_challenge(asked.status, CIMultiDict(asked.headers), asked.raw)
    assert challenge is not None
    offer, key = challenge.offers[0], load_key(bytes.fromhex(secret.removeprefix("0x")))
    until_s = int(time.time()) + offer.max_timeout_s
    payer = Address(address_of(key))
    terms = Authorization(BASE_USDC, payer, offer.pay_to, offer.amount_base, 0, until_s, bytes(31) + b"\x01")
    return encode_payment(challenge, offer, terms, sign_digest(key, terms.digest))


def sellers(base: LocalBase) -> Iterator[Live]:
    """Stock x402 sellers of both versions, unpaid and with a payment that is none."""
    config = {"rpc_url": base.rpc_url, "relayer_key": base.dev_account(5)[1]}
    for version in ("v1", "v2"):
        with SandboxProcess.start(f"sandbox.sellers.{version}", config) as process:
            seller = Driver(process)
            yield f"x402_{version}", seller.get("/weather?city=Porto")
            yield f"x402_{version}_payment_invalid", seller.get("/weather?city=Porto", headers=NO_PAYMENT)


def dropmpp(tempo: LocalTempo) -> Iterator[Live]:
    """A price, a proof on a free route, the catalogue behind a proof, and a refused credential."""
    config = {"rpc_url": tempo.rpc_url, "catalog": "proof"}
    with SandboxProcess.start("sandbox.dropmpp", config) as process:
        vendor = Driver(process)
        yield "dropmpp_create", vendor.post("/v1/servers", DROP_ORDER)
        yield "dropmpp_proof", vendor.get("/v1/servers")
        yield "dropmpp_catalog_proof", vendor.get("/v1/catalog/sizes")
        yield "dropmpp_payment_invalid", vendor.post("/v1/servers", DROP_ORDER, headers=NO_PAYMENT)


def cryptovps() -> Iterator[Live]:
    """A balance that does not cover an hour: one server, several, and a restored backup's."""
    accounts = [{"email": MAIL, "password": PASSWORD, "balance": "0"}]
    with SandboxProcess.start("sandbox.cryptovps", {"clock_rate": 0, "accounts": accounts}) as process:
        vendor = Driver(process)
        vendor.token = vendor.post("/auth/login", {"email": MAIL, "password": PASSWORD}).json()["accessToken"]
        order = {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}
        yield "cryptovps_low_balance", vendor.post("/servers", order)
        yield "cryptovps_bulk_low_balance", vendor.post("/servers/bulk", {**order, "count": 2})


def litevps() -> Iterator[Live]:
    """A balance that is too low, and a token whose spend limit is used up."""
    accounts = [{"email": MAIL, "password": PASSWORD, "balance": "10.5"}]
    with SandboxProcess.start(
        "sandbox.litevps", {"clock_rate": 0, "login_per_min": 0, "accounts": accounts}
    ) as process:
        vendor = Driver(process)
        vendor.token = str(vendor.post("/api/auth/login", {"email": MAIL, "password": PASSWORD}).json()["token"])
        plans = {plan["name"]: plan["id"] for plan in vendor.get("/api/pricing").json()}
        tight = vendor.post("/api/tokens", {"name": "tight", "spend_limit": 0.005}).json()
        order = {"name": "web-01", "plan_id": plans["Large"]}
        yield "litevps_token_spend_limit", Driver(process, tight["token"]).post("/api/vps", order)
        vendor.admin("POST", "/balance", {"email": MAIL, "set": "0.042"})
        yield "litevps_low_balance", vendor.post("/api/vps", order)


def vrtx() -> Iterator[Live]:
    """A bill that was not paid in time."""
    config = {
        "clock_rate": 0,
        "clock_start": "2026-05-14T10:30:00+00:00",
        "accounts": [{"name": "ours", "tokens": ["tok"]}],
    }
    with SandboxProcess.start("sandbox.vrtx", config) as process:
        vendor = Driver(process, "tok")
        vendor.admin("POST", "/invoices", {"account": "ours", "amount": "4.20", "due_in_s": 3600})
        vendor.advance(3600)
        yield "vrtx_overdue_invoice", vendor.post("/api/v2/servers", VRTX_ORDER)


def peers() -> Iterator[Live]:
    """What the MPP SDKs' sellers put into a 402, both rails of one of them together, and a session alone."""
    python = ROOT / ".venv-pympp" / "bin" / "python"
    mppx = _lines(["node", str(ROOT / "tests/tools/mppx_peer.mjs"), "challenges"])
    pympp = _lines([str(python), str(ROOT / "tests/tools/pympp_peer.py"), "challenges"])
    yield "mppx_charge", _answer(mppx["plain"])
    yield "mppx_evm_charge", _answer(mppx["evm"])
    yield "mppx_proof", _answer(mppx["proof"])
    yield "mppx_session_only", _answer(mppx["session"])
    yield "mppx_joined_with_bearer", _answer(mppx["joined"])
    yield "pympp_charge", _answer(pympp["plain"])


def everything() -> Iterator[Live]:
    """Every live 402 by the name of its vector."""
    with ExitStack() as stack:
        base = stack.enter_context(LocalBase.start(block_time_s=None))
        yield from vpsagent(base)
        yield from sellers(base)
    with LocalTempo.start() as tempo:
        yield from dropmpp(tempo)
    for vendor in (cryptovps, litevps, vrtx, peers):
        yield from vendor()


def shape(status: int, headers: Mapping[str, str], body: str) -> Any:
    """Return what stays the same from one run to the next: status, headers, and the structure of every JSON in them."""
    told = {name: _structure_of(name, value) for name, value in sorted(headers.items()) if name in KEPT}
    return [status, told, _structure(_json(body))]


def told(answer: Answer) -> tuple[int, dict[str, str], str]:
    """Return status, the headers that matter, and the body of a live answer."""
    headers = {name: value for name, value in sorted(answer.headers.items()) if name in KEPT}
    return answer.status, headers, answer.raw.decode()


def _structure_of(name: str, value: str) -> Any:
    if name == "www-authenticate":
        return [part.partition("=")[0].strip() for part in value.split('",')]
    if name.endswith("payment-required"):
        try:
            return _structure(_json(base64.b64decode(value).decode()))
        except (binascii.Error, UnicodeDecodeError):
            return "text"
    return "" if name == "x-balance-remaining" else value


def _structure(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _structure(each) for name, each in sorted(value.items())}
    if isinstance(value, list):
        return [_structure(each) for each in value]
    return type(value).__name__


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _lines(command: list[str]) -> dict[str, str]:
    done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _answer(challenge: str) -> Answer:
    """Return an answer as an MPP seller's middleware makes it around a challenge of its SDK."""
    headers = {"www-authenticate": challenge, "cache-control": "no-store", "content-type": "application/problem+json"}
    problem = {"type": "https://paymentauth.org/problems/payment-required", "title": "Payment Required", "status": 402}
    return Answer(402, headers, json.dumps(problem).encode())


def main() -> None:
    """Write every live answer into its vector."""
    for name, answer in everything():
        path = VECTORS / f"{name}.json"
        vector = json.loads(path.read_text()) if path.exists() else {"about": "", "expect": {}}
        status, headers, body = told(answer)
        of_peers = name.startswith(("mppx", "pympp"))
        vector["now"] = PEERS_NOW if of_peers else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        vector["response"] = {"status": status, "headers": headers, "body": body}
        path.write_text(json.dumps(vector, indent=1, ensure_ascii=False) + "\n")
        sys.stdout.write(f"{name}: {status}\n")


if __name__ == "__main__":
    main()
