"""VpsAgent misbehaves exactly as it is told to, on the wire, in its challenges and on chain."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests
from sandbox_harness import PAY_TO, TIMEOUT_S, VendorClient, eventually
from sandbox_payer import unpack

OTHER = "0x1111111111111111111111111111111111111111"


def test_reply_dropped_after_verification_still_provisions(vendor: VendorClient) -> None:
    """The connection is cut, yet the box comes and is paid; asked again, the vendor knows it."""
    payment = vendor.sign(vendor.quote())
    vendor.fault("cut", "rent", when="after", paid=True)
    with pytest.raises(requests.ConnectionError):
        vendor.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers)
    again = vendor.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers)
    assert again.status_code == 200
    vendor.wait_status(again.json()["rental_id"], "active")
    assert len(vendor.state()["rentals"]) == 1


def test_second_box_for_one_payment_is_paid_once(vendor: VendorClient) -> None:
    """A vendor that orders a second box for a repeated payment can still collect only once."""
    before = vendor.balances()
    first, payment = vendor.rent(window_s=9)
    vendor.fault("represent", "rent", mode="second_box")
    second = vendor.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers)
    ids = [answer.json()["rental_id"] for answer in (first, second)]
    assert ids[0] != ids[1]
    states = eventually(
        lambda: (found := sorted(vendor.rental(one)["status"] for one in ids)) == ["active", "expired"] and found,
        what="one box paid, the other given up",
    )
    assert states == ["active", "expired"]
    assert vendor.balances() == (before[0] - 500_000, before[1] + 500_000)


def test_repeated_payment_can_be_refused(vendor: VendorClient) -> None:
    """A vendor may not know a payment that it has accepted; the rental lives on all the same."""
    first, payment = vendor.rent()
    vendor.fault("represent", "rent", mode="refuse")
    again = vendor.post("/rent", {"sku": "sandbox_1h"}, headers=payment.headers)
    assert (again.status_code, again.json()["error"]["reason"]) == (402, "payment_already_used")
    vendor.wait_status(first.json()["rental_id"], "active")


def test_error_after_provisioning_hides_a_box_that_is_paid(vendor: VendorClient) -> None:
    """A 500 that follows the verification is not a failed rental."""
    vendor.fault("status", "rent", status=500, when="after", paid=True)
    answer, payment = vendor.rent()
    assert answer.status_code == 500
    eventually(lambda: any(entry["ok"] for entry in vendor.attempts(payment)), what="settlement")
    assert vendor.chain.authorization_state(vendor.address, payment.nonce)


def test_scripted_status_before_handling_takes_no_payment(vendor: VendorClient) -> None:
    """A 503 ahead of the handler leaves the payment unseen."""
    vendor.fault("status", "rent", status=503, when="before", paid=True, headers={"Retry-After": "7"})
    answer, payment = vendor.rent()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert payment.nonce not in vendor.state()["seen"]


@pytest.mark.parametrize("settle_after_s", [None, 0.5])
def test_402_again_after_a_good_payment(vendor: VendorClient, settle_after_s: float | None) -> None:
    """The vendor refuses what it verified, and collects it all the same only where it is told to."""
    vendor.fault("refuse", "rent", settle_after_s=settle_after_s)
    answer, payment = vendor.rent()
    assert answer.status_code == 402
    assert answer.json()["accepts"][0]["payTo"] == PAY_TO
    assert vendor.state()["rentals"] == {}
    if settle_after_s is None:
        time.sleep(1.5)
        assert vendor.attempts(payment) == []
    else:
        eventually(lambda: any(entry["ok"] for entry in vendor.attempts(payment)), what="settlement")


def test_settles_after_saying_that_it_failed(vendor: VendorClient) -> None:
    """503, no rental, and the money is taken a moment later."""
    before = vendor.balances()
    vendor.fault("fail", "rent", settle_after_s=1)
    answer, _ = vendor.rent()
    assert answer.status_code == 503
    assert vendor.balances() == before
    eventually(lambda: vendor.balances() == (before[0] - 500_000, before[1] + 500_000), what="the money taken")
    assert vendor.state()["rentals"] == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"payTo": OTHER},
        {"asset": OTHER},
        {"network": "polygon"},
        {"maxAmountRequired": "600000", "amount": "600000"},
        {"amount": "1"},
        {"maxAmountRequired": 0.5},
        {"maxAmountRequired": "-500000", "amount": "-500000"},
        {"maxAmountRequired": "5e5", "amount": "5e5"},
        {"maxAmountRequired": "9" * 78, "amount": "9" * 78},
        {"maxTimeoutSeconds": -1},
    ],
)
def test_challenge_is_changed_field_by_field(vendor: VendorClient, changed: dict[str, Any]) -> None:
    """One challenge asks for something else, in body and header alike; the next is honest again."""
    honest = vendor.quote()
    vendor.fault("challenge", "rent", set=changed)
    answer = vendor.post("/rent", {"sku": "sandbox_1h"})
    assert answer.status_code == 402
    assert unpack(answer.headers["X-Payment-Required"]) == answer.json()
    assert answer.json()["accepts"][0] == {**honest, **changed}
    assert vendor.quote() == honest


def test_careless_payer_of_a_changed_challenge_loses_its_money(vendor: VendorClient) -> None:
    """What a changed challenge asked for is accepted and settled: to another payee, at another price."""
    before = vendor.chain.balance_of(OTHER)
    vendor.fault("challenge", "rent", set={"payTo": OTHER, "maxAmountRequired": "700000", "amount": "700000"})
    answer, _ = vendor.rent()
    assert answer.status_code == 200, answer.text
    vendor.wait_status(answer.json()["rental_id"], "active")
    assert vendor.chain.balance_of(OTHER) == before + 700_000


def test_challenge_can_be_malformed_or_oversized(vendor: VendorClient) -> None:
    """Body and header can be any text, be missing, or be larger than anybody should read."""
    vendor.fault("challenge", "rent", raw_body="{", raw_header="%%%")
    broken = vendor.post("/rent", {"sku": "sandbox_1h"})
    assert (broken.status_code, broken.text, broken.headers["X-Payment-Required"]) == (402, "{", "%%%")
    vendor.fault("challenge", "rent", drop_header=True, drop=["amount"], top={"x402Version": 7})
    bare = vendor.post("/rent", {"sku": "sandbox_1h"})
    assert "X-Payment-Required" not in bare.headers
    assert bare.json()["x402Version"] == 7
    assert "amount" not in bare.json()["accepts"][0]
    vendor.fault("challenge", "rent", pad_bytes=200_000, drop_header=True)
    assert len(vendor.post("/rent", {"sku": "sandbox_1h"}).content) > 200_000


def test_catalogue_and_challenge_are_raised_together(vendor: VendorClient) -> None:
    """A raised price shows in the storefront and in the 402, until the fault is lifted."""
    vendor.fault("price", sku="sandbox_1h", price_usdc="0.75")
    assert vendor.quote()["maxAmountRequired"] == "750000"
    payment = vendor.sign(vendor.get("/catalog").json()["accepts"][0])
    entries = vendor.get("/catalog", headers=payment.headers).json()
    assert [entry["price_usdc"] for entry in entries if entry["sku"] == "sandbox_1h"] == [0.75]
    vendor.admin("DELETE", "/admin/faults")
    assert vendor.quote()["maxAmountRequired"] == "500000"


def test_second_settlement_goes_on_chain_and_reverts(vendor: VendorClient) -> None:
    """A vendor that settles twice sends both; the token lets one through."""
    before = vendor.balances()
    vendor.fault("settle", "rent", mode="twice")
    answer, payment = vendor.rent()
    vendor.wait_status(answer.json()["rental_id"], "active")
    first, second = eventually(lambda: len(found := vendor.attempts(payment)) == 2 and found, what="both settlements")
    assert (first["ok"], second["ok"], second["reason"]) == (True, False, "reverted")
    assert vendor.chain.rpc("eth_getTransactionReceipt", second["tx_hash"])["status"] == "0x0"
    assert vendor.balances() == (before[0] - 500_000, before[1] + 500_000)


@pytest.mark.parametrize("margin_s", [8, 3])
def test_settles_just_before_the_deadline(vendor: VendorClient, margin_s: int) -> None:
    """The box is long up when the money is taken, in the last seconds that the authorization has."""
    vendor.fault("settle", "rent", mode="near_deadline", margin_s=margin_s)
    answer, payment = vendor.rent(window_s=12)
    rental = vendor.wait_status(answer.json()["rental_id"], "active")
    receipt = vendor.chain.receipt(rental["settle_tx_hash"])
    left_s = payment.valid_before_s - vendor.chain.block(int(receipt["blockNumber"], 16))["timestamp"]
    assert margin_s - 3 <= left_s <= margin_s
    assert left_s > 0


def test_settlement_that_the_vendor_never_admits(vendor: VendorClient) -> None:
    """The money has moved and the rental still says that it is pending."""
    vendor.fault("settle", "rent", mode="hidden")
    answer, payment = vendor.rent()
    eventually(lambda: any(entry["ok"] for entry in vendor.attempts(payment)), what="settlement")
    rental = vendor.rental(answer.json()["rental_id"])
    assert (rental["status"], rental["settle_tx_hash"]) == ("pending_settlement", None)


def test_settlement_that_the_vendor_made_up(vendor: VendorClient) -> None:
    """The rental says it was paid, by a transaction that does not exist, and nothing has moved."""
    before = vendor.balances()
    vendor.fault("settle", "rent", mode="lie")
    answer, _ = vendor.rent()
    rental = vendor.wait_status(answer.json()["rental_id"], "active")
    assert vendor.chain.rpc("eth_getTransactionReceipt", rental["settle_tx_hash"]) is None
    assert vendor.balances() == before


def test_box_up_but_never_settled(vendor: VendorClient) -> None:
    """A vendor that forgets to collect gives the box away until the authorization dies, then takes it back."""
    before = vendor.balances()
    vendor.fault("settle", "rent", mode="never")
    answer, _ = vendor.rent(window_s=8)
    rental_id = answer.json()["rental_id"]
    eventually(lambda: rental_id in vendor.state()["boxes_up"], what="the box up")
    vendor.wait_status(rental_id, "expired")
    eventually(lambda: vendor.state()["boxes_up"] == [], what="the box down")
    assert vendor.balances() == before


def test_settles_without_a_box(vendor: VendorClient) -> None:
    """A vendor that collects although the box never came up."""
    vendor.fault("box", "rent", mode="never")
    vendor.fault("settle", "rent", mode="without_box", after_s=0.5)
    answer, _ = vendor.rent()
    vendor.wait_status(answer.json()["rental_id"], "active")
    assert vendor.state()["boxes_up"] == []


def test_renewal_that_outlives_its_rental(vendor: VendorClient) -> None:
    """The rental expires, the renewal is settled all the same, and the expiry does not move."""
    rental = vendor.active_rental("server_small_1mo")
    before = vendor.balances()
    vendor.fault("manual_step", "renew", mode="outlives", after_s=2)
    path = f"/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    payment = vendor.sign(vendor.post(path, {"periods": 1}).json()["accepts"][0])
    assert vendor.post(path, {"periods": 1}, headers=payment.headers).status_code == 200
    vendor.admin("POST", "/admin/clock", {"advance_s": 31 * 86_400})
    vendor.wait_status(rental["rental_id"], "expired")
    eventually(lambda: vendor.balances() == (before[0] - 9_990_000, before[1] + 9_990_000), what="the money taken")
    after = vendor.rental(rental["rental_id"])
    assert (after["status"], after["expires_at"]) == ("expired", rental["expires_at"])


def test_slow_answer_waits_where_it_is_told(vendor: VendorClient) -> None:
    """The delays before the headers and inside the body add up, and the body is whole."""
    vendor.fault("slow", "healthz", before_s=0.3, after_s=0.3, body_s=0.3)
    began = time.monotonic()
    assert vendor.get("/healthz").json() == {"ok": True}
    assert time.monotonic() - began >= 0.9


@pytest.mark.parametrize("when", ["before", "after", "body"])
def test_cut_answer_is_an_error_to_the_client(vendor: VendorClient, when: str) -> None:
    """Wherever the connection is cut, nobody can take the answer for whole."""
    vendor.fault("cut", "catalog", when=when)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        vendor.get("/catalog")
    assert vendor.get("/catalog").status_code == 402


def test_redirect_to_another_origin(vendor: VendorClient) -> None:
    """The vendor can send a client away."""
    vendor.fault("redirect", "catalog", location="http://127.0.0.1:9/catalog", status=308)
    answer = vendor.get("/catalog")
    assert (answer.status_code, answer.headers["Location"]) == (308, "http://127.0.0.1:9/catalog")


def test_faults_wear_out_wait_and_choose(vendor: VendorClient) -> None:
    """`skip` spares the first, `times` counts, null lasts until the fault is deleted, `route` chooses."""
    vendor.fault("status", "healthz", status=500, times=2, skip=1)
    assert [vendor.get("/healthz").status_code for _ in range(4)] == [200, 500, 500, 200]
    (number,) = vendor.admin("POST", "/admin/faults", {"kind": "status", "status": 418, "times": None})["ids"]
    assert [vendor.get("/healthz").status_code for _ in range(3)] == [418] * 3
    vendor.admin("DELETE", f"/admin/faults/{number}")
    assert vendor.get("/healthz").status_code == 200
    assert vendor.admin("GET", "/admin/faults") == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "gremlin"},
        {"kind": "cut", "when": "sometimes"},
        {"kind": "box", "delay": 3},
        {"kind": "slow", "route": "nowhere"},
        {"kind": "price", "sku": "server_huge", "price_usdc": "1"},
        {"kind": "price", "sku": "sandbox_1h", "price_usdc": "cheap"},
        {},
    ],
)
def test_unknown_fault_is_refused(vendor: VendorClient, fault: dict[str, Any]) -> None:
    """A misspelt fault fails the test that wrote it instead of doing nothing."""
    answer = requests.post(vendor.process.admin_url + "/admin/faults", data=json.dumps(fault), timeout=TIMEOUT_S)
    assert answer.status_code == 400
