"""VpsAgent as its document describes it, on a real chain, paid with hand-signed authorizations."""

from __future__ import annotations

import base64
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sandbox_harness import PAY_TO, WINDOW_S, VendorClient, eventually
from sandbox_payer import Payment, pay, unpack

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
NOBODY = "00000000-0000-4000-8000-000000000000"


def test_healthz(vendor: VendorClient) -> None:
    """The liveness probe answers 200."""
    assert vendor.get("/healthz").status_code == 200


def test_challenge_speaks_the_documented_dialect(vendor: VendorClient) -> None:
    """A 402 has the v1 body with both amounts, network `base`, a null error, and the same JSON in its header."""
    answer = vendor.get("/catalog")
    assert answer.status_code == 402
    body = answer.json()
    assert unpack(answer.headers["X-Payment-Required"]) == body
    assert (body["x402Version"], body["error"]) == (1, None)
    (requirement,) = body["accepts"]
    assert requirement["maxAmountRequired"] == requirement["amount"] == "10000"
    assert {key: requirement[key] for key in ("scheme", "network", "asset", "payTo", "mimeType")} == {
        "scheme": "exact",
        "network": "base",
        "asset": USDC,
        "payTo": PAY_TO,
        "mimeType": "application/json",
    }
    assert requirement["maxTimeoutSeconds"] == WINDOW_S
    assert requirement["resource"] == vendor.process.base_url + "/catalog"
    assert requirement["extra"] == {"name": "USD Coin", "version": "2"}
    assert isinstance(requirement["outputSchema"], dict)


def test_catalog_is_paid_and_settled_inline(vendor: VendorClient) -> None:
    """One cent buys nine SKUs with number prices, and the receipt names a transaction that moved the cent."""
    before = vendor.balances()
    payment = vendor.sign(vendor.get("/catalog").json()["accepts"][0])
    answer = vendor.get("/catalog", headers=payment.headers)
    assert answer.status_code == 200
    receipt = unpack(answer.headers["X-Payment-Response"])
    assert set(receipt) == {"tx", "network"}
    assert receipt["network"] == "base"
    assert vendor.chain.receipt(receipt["tx"])["status"] == "0x1"
    assert vendor.balances() == (before[0] - 10_000, before[1] + 10_000)
    skus = {entry["sku"]: entry for entry in answer.json()}
    assert len(skus) == 9
    assert (skus["sandbox_1h"]["price_usdc"], skus["server_large_12mo"]["price_usdc"]) == (0.5, 359.99)
    assert skus["server_small_1mo"]["duration_minutes"] == 30 * 24 * 60
    for entry in skus.values():
        assert set(entry) == {
            *("sku", "track", "price_usdc", "duration_minutes", "spec_floor", "available", "description"),
        }
        assert set(entry["spec_floor"]) == {"vcpu", "memory_mb"}


def test_rent_settles_only_when_the_box_answers(vendor: VendorClient) -> None:
    """Nothing is paid at the reply; once the box's port is open the price moves and the rental says how."""
    vendor.fault("box", "rent", mode="late", after_s=6)
    before = vendor.balances()
    answer, payment = vendor.rent("server_small_1mo")
    assert answer.status_code == 200, answer.text
    assert "X-Payment-Response" not in answer.headers
    created = answer.json()
    assert set(created) == {
        *("rental_id", "sku", "ipv4", "expires_at", "root_token", "root_user", "root_password", "status", "note"),
    }
    assert created["status"] == "pending_settlement"
    time.sleep(1)
    assert vendor.balances() == before
    assert not vendor.chain.authorization_state(vendor.address, payment.nonce)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((created["ipv4"], vendor.process.info["ssh_port"]), timeout=1)
    rental = vendor.wait_status(created["rental_id"], "active")
    assert vendor.state()["box_connects"][created["rental_id"]] > 0, "paid without a connect to the box"
    assert vendor.balances() == (before[0] - 9_990_000, before[1] + 9_990_000)
    assert vendor.chain.receipt(rental["settle_tx_hash"])["status"] == "0x1"
    assert rental["expires_at"] == created["expires_at"]
    assert rental["created_at"] + 30 * 86_400_000 == rental["expires_at"]
    with socket.create_connection((created["ipv4"], vendor.process.info["ssh_port"]), timeout=1) as box:
        assert box.recv(64).startswith(b"SSH-2.0-")


def test_box_that_never_comes_up_costs_nothing(vendor: VendorClient) -> None:
    """Settle is never called, the authorization dies unused, and the rental ends as expired."""
    vendor.fault("box", "rent", mode="never")
    before = vendor.balances()
    answer, payment = vendor.rent(window_s=8)
    rental = vendor.wait_status(answer.json()["rental_id"], "expired")
    assert rental["settle_tx_hash"] is None
    assert vendor.attempts(payment) == []
    assert vendor.balances() == before
    assert not vendor.chain.authorization_state(vendor.address, payment.nonce)


@pytest.mark.parametrize("body", [None, [], {}, {"sku": "server_huge"}, {"sku": 7}, {"sku": "sandbox_1h", "region": 4}])
def test_rent_with_a_bad_body_is_400_before_any_price(vendor: VendorClient, body: Any) -> None:
    """The body is checked before anybody is asked to pay, and the detail names the field."""
    answer = vendor.post("/rent", body)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_rent_of_an_unroutable_sku_is_503(vendor: VendorClient) -> None:
    """An advertised SKU may not be routable."""
    vendor.fault("unavailable", "rent", sku="sandbox_6h", times=None)
    assert vendor.post("/rent", {"sku": "sandbox_6h"}).status_code == 503
    assert vendor.post("/rent", {"sku": "sandbox_1h"}).status_code == 402


def _bad_headers(vendor: VendorClient) -> dict[str, str]:
    quote = vendor.quote()
    good = unpack(vendor.sign(quote).header)
    stranger = unpack(pay(vendor.chain.dev_account(9)[1], quote).header)  # holds nothing
    tampered = json.loads(json.dumps(good))
    tampered["payload"]["authorization"]["value"] = "1"
    forged = json.loads(json.dumps(good))
    forged["payload"]["authorization"]["from"] = vendor.chain.dev_account(1)[0]
    cheap = unpack(vendor.sign({**quote, "maxAmountRequired": "1"}).header)
    elsewhere = unpack(vendor.sign({**quote, "payTo": vendor.address}).header)
    late = unpack(vendor.sign(quote, window_s=-5).header)
    other_network = {**good, "network": "base-sepolia"}
    version_two = {**good, "x402Version": 2}
    objects = {
        "stranger": stranger,
        "tampered": tampered,
        "forged": forged,
        "cheap": cheap,
        "elsewhere": elsewhere,
        "late": late,
        "other network": other_network,
        "version two": version_two,
        "no payload": {**good, "payload": {}},
        "a list": [],
    }
    texts = {name: base64.b64encode(json.dumps(value).encode()).decode() for name, value in objects.items()}
    return {**texts, "not base64": "%%%", "not json": "aGVsbG8="}


def test_bad_payments_are_402_with_a_reason_and_no_rental(vendor: VendorClient) -> None:
    """Whatever is wrong with a payment, the answer is a fresh 402 whose error is an object, and no box is ordered."""
    for name, header in _bad_headers(vendor).items():
        answer = vendor.post("/rent", {"sku": "sandbox_1h"}, headers={"X-Payment": header})
        assert answer.status_code == 402, name
        assert answer.json()["error"]["reason"], name
    assert vendor.state()["rentals"] == {}


def test_same_payment_again_returns_the_same_rental(vendor: VendorClient) -> None:
    """A re-presented X-Payment finds its rental, also when several arrive at once and after it was settled."""
    payment = vendor.sign(vendor.quote())
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(lambda _: vendor.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers), range(4))
        )
    assert [answer.status_code for answer in answers] == [200] * 4
    ids = {answer.json()["rental_id"] for answer in answers}
    assert len(ids) == len(vendor.state()["rentals"]) == 1
    vendor.wait_status(ids.pop(), "active")
    again = vendor.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers)
    assert again.json() == answers[0].json()
    seen = vendor.state()["seen"][payment.nonce]
    assert (seen["count"], len(seen["headers"])) == (5, 1)


def test_payment_for_one_route_buys_nothing_on_another(vendor: VendorClient) -> None:
    """An authorization that bought a box is refused as a renewal of the same price."""
    answer, payment = vendor.rent()
    rental = answer.json()
    vendor.wait_status(rental["rental_id"], "active")
    path = f"/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    again = vendor.post(path, {"periods": 1}, headers=payment.headers)
    assert again.status_code == 402
    assert again.json()["error"]["reason"] == "payment_already_used"


def test_instance_needs_the_token(vendor: VendorClient) -> None:
    """The live status is for who holds the root token; it repeats the password and tells whether the box runs."""
    rental = vendor.active_rental()
    path = f"/instance/{rental['rental_id']}"
    assert vendor.get(path).status_code == 401
    assert vendor.get(path, params={"token": "wrong"}).status_code == 401
    assert vendor.get(f"/instance/{NOBODY}", params={"token": "x"}).status_code == 404
    status = vendor.get(path, params={"token": rental["root_token"]}).json()
    assert status == {
        "rental_id": rental["rental_id"],
        "ipv4": rental["ipv4"],
        "running": True,
        "expires_at": rental["expires_at"],
        "status": "active",
        "root_user": "root",
        "root_password": rental["root_password"],
        "note": "",
    }


def test_instance_is_502_with_last_known_fields_when_the_provider_is_away(vendor: VendorClient) -> None:
    """The 502 still carries the fields."""
    rental = vendor.active_rental()
    vendor.fault("upstream_down", "instance")
    path, params = f"/instance/{rental['rental_id']}", {"token": rental["root_token"]}
    answer = vendor.get(path, params=params)
    assert (answer.status_code, answer.json()["ipv4"]) == (502, rental["ipv4"])
    assert vendor.get(path, params=params).status_code == 200


def test_last_known_fields_are_those_of_before_the_provider_went_away(vendor: VendorClient) -> None:
    """What becomes of the box meanwhile shows only when the provider is back: the 502 may be wrong, as the real one may."""
    rental = vendor.active_rental()
    vendor.fault("upstream_down", "instance", times=2)
    vendor.admin("POST", f"/admin/boxes/{rental['rental_id']}", {"up": False})
    path, params = f"/instance/{rental['rental_id']}", {"token": rental["root_token"]}
    told = [vendor.get(path, params=params) for _ in range(3)]
    assert [(answer.status_code, answer.json()["running"]) for answer in told] == [
        (502, True),
        (502, True),
        (200, False),
    ]


def test_rental_is_public_and_tells_no_secret(vendor: VendorClient) -> None:
    """Anybody sees the lifecycle, nobody the token or the password."""
    rental = vendor.active_rental()
    assert vendor.get(f"/rentals/{NOBODY}").status_code == 404
    public = vendor.rental(rental["rental_id"])
    assert set(public) == {
        *("rental_id", "sku", "track", "status", "created_at", "expires_at", "grace_until"),
        *("settle_tx_hash", "renewal_count", "last_renewal_tx_hash"),
    }


def _renewal(vendor: VendorClient, rental: Any, periods: int, **options: Any) -> tuple[Any, Payment]:
    path = f"/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    challenge = vendor.post(path, {"periods": periods})
    assert challenge.status_code == 402, challenge.text
    payment = vendor.sign(challenge.json()["accepts"][0], **options)
    return vendor.post(path, {"periods": periods}, headers=payment.headers), payment


def test_renewal_moves_the_expiry_only_at_its_settlement(vendor: VendorClient) -> None:
    """A server's renewal waits for the manual step; then the money moves, and the expiry with it."""
    rental = vendor.active_rental("server_small_1mo")
    before = vendor.balances()
    answer, payment = _renewal(vendor, rental, 2)
    assert answer.status_code == 200, answer.text
    renewal = answer.json()
    assert renewal["status"] == "renewing"
    assert renewal["current_expires_at"] == rental["expires_at"]
    assert renewal["predicted_expires_at"] == rental["expires_at"] + 60 * 86_400_000
    assert renewal["manual_step"]
    time.sleep(1)
    waiting = vendor.rental(rental["rental_id"])
    assert (waiting["status"], waiting["expires_at"]) == ("renewing", rental["expires_at"])
    assert vendor.balances() == before
    path = f"/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    assert vendor.post(path, {"periods": 1}).status_code == 409
    assert vendor.post(path, {"periods": 2}, headers=payment.headers).json() == renewal
    vendor.admin("POST", f"/admin/renewals/{rental['rental_id']}/complete")
    done = vendor.wait_status(rental["rental_id"], "active")
    assert done["expires_at"] == renewal["predicted_expires_at"]
    assert done["renewal_count"] == 1
    assert vendor.chain.receipt(done["last_renewal_tx_hash"])["status"] == "0x1"
    assert vendor.balances() == (before[0] - 2 * 9_990_000, before[1] + 2 * 9_990_000)


def test_renewal_that_never_completes_costs_nothing(vendor: VendorClient) -> None:
    """The authorization dies, the rental is active again, and its expiry stays."""
    rental = vendor.active_rental("server_small_1mo")
    before = vendor.balances()
    vendor.fault("manual_step", "renew", mode="never")
    answer, _ = _renewal(vendor, rental, 1, window_s=8)
    assert answer.status_code == 200
    after = vendor.wait_status(rental["rental_id"], "active")
    assert (after["expires_at"], after["renewal_count"]) == (rental["expires_at"], 0)
    assert vendor.balances() == before


def test_renewal_of_a_sandbox_needs_no_manual_step(vendor: VendorClient) -> None:
    """Only the server track waits for operations."""
    rental = vendor.active_rental()
    answer, _ = _renewal(vendor, rental, 1)
    assert answer.json()["manual_step"] == "none"
    after = vendor.wait_status(rental["rental_id"], "active")
    assert after["expires_at"] == rental["expires_at"] + 3_600_000


def test_renewal_checks_token_periods_and_rental(vendor: VendorClient) -> None:
    """401, 400 and 404 come before a price."""
    rental = vendor.active_rental()
    path = f"/rentals/{rental['rental_id']}/renew"
    assert vendor.post(path, {"periods": 1}).status_code == 401
    assert vendor.post(f"/rentals/{NOBODY}/renew?token=x", {"periods": 1}).status_code == 404
    for periods in (0, 13, "1", 1.5, True):
        assert vendor.post(f"{path}?token={rental['root_token']}", {"periods": periods}).status_code == 400
    default = vendor.post(f"{path}?token={rental['root_token']}")
    assert default.json()["accepts"][0]["maxAmountRequired"] == "500000"


def test_terms_run_on_the_business_clock(vendor: VendorClient) -> None:
    """A server expires when its time has come, lives on in grace, and is destroyed after it."""
    rental = vendor.active_rental("server_small_1mo")
    vendor.admin("POST", "/admin/clock", {"advance_s": 30 * 86_400})
    expired = vendor.wait_status(rental["rental_id"], "expired")
    assert expired["grace_until"] == rental["expires_at"] + 86_400_000
    assert vendor.state()["boxes_up"] == [rental["rental_id"]]
    path = f"/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    assert vendor.post(path, {"periods": 1}).status_code == 409
    vendor.admin("POST", "/admin/clock", {"advance_s": 86_401})
    eventually(lambda: vendor.state()["boxes_up"] == [], what="the box destroyed")
