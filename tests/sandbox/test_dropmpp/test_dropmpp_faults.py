"""Each way in which the vendor can be told to misbehave, and what it does to a payer who trusts it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from dropmpp_harness import SMALL, SMALL_BASE, TIMEOUT_S, eventually, read_challenge

from sandbox.dropmpp.payer import PayerError

if TYPE_CHECKING:
    from dropmpp_harness import DropClient

THIEF = "0x00000000000000000000000000000000000a11ce"
CREATE = "servers.create"


def test_reply_dropped_after_the_charge(drop: DropClient) -> None:
    """Cut after: the payer has no answer, the vendor has the money, the server exists."""
    before = drop.income()
    drop.fault("cut", CREATE, when="after", paid=True)
    headers, _ = drop.signed("POST", "/v1/servers", SMALL)
    with pytest.raises(requests.ConnectionError):
        drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert drop.income() - before == SMALL_BASE
    assert len(drop.good("GET", "/v1/servers")["servers"]) == 1


def test_cut_before_and_in_the_body(drop: DropClient) -> None:
    """Cut before: nothing happened. Cut in the body: it happened, and half of the answer arrives."""
    headers, _ = drop.signed("POST", "/v1/servers", SMALL)
    before = drop.income()
    drop.fault("cut", CREATE, when="before")
    with pytest.raises(requests.ConnectionError):
        drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert drop.income() == before
    drop.fault("cut", CREATE, when="body")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert drop.income() - before == SMALL_BASE


def test_slow_parts_and_redirect(drop: DropClient) -> None:
    """Each part of an answer can be late, and the whole can be sent elsewhere."""
    drop.fault("slow", "regions", before_s=0.2, after_s=0.2, body_s=0.2)
    began = time.monotonic()
    assert len(drop.raw("GET", "/v1/catalog/regions").json()["regions"]) == 3
    assert time.monotonic() - began >= 0.6
    drop.fault("redirect", "regions", location="http://127.0.0.1:9/elsewhere")
    answer = drop.raw("GET", "/v1/catalog/regions")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


def test_status_before_and_after(drop: DropClient) -> None:
    """A scripted status before has no effects; the same after it hides a server that was paid for."""
    before = drop.income()
    drop.fault("status", CREATE, status=503, when="before")
    assert drop.raw("POST", "/v1/servers", SMALL).status_code == 503
    drop.fault("status", CREATE, status=500, when="after", paid=True)
    assert drop.call("POST", "/v1/servers", SMALL).status == 500
    assert drop.income() - before == SMALL_BASE
    assert len(drop.state()["servers"]) == 1


@pytest.mark.parametrize("receipt", [True, False])
def test_failure_after_the_charge(drop: DropClient, receipt: bool) -> None:  # noqa: FBT001 -- a case
    """A 502 with the money gone and nothing made; the receipt may still come along."""
    before = drop.income()
    drop.fault("fail", CREATE, receipt=receipt)
    answer = drop.call("POST", "/v1/servers", SMALL)
    assert answer.status == 502
    assert ("payment-receipt" in answer.headers) is receipt
    assert drop.income() - before == SMALL_BASE
    assert drop.state()["servers"] == {}
    assert [payment["outcome"] for payment in drop.payments()] == ["failed"]


def test_failure_although_it_is_made(drop: DropClient) -> None:
    """With work, the 502 lies: the server is there."""
    drop.fault("fail", CREATE, work=True)
    assert drop.call("POST", "/v1/servers", SMALL).status == 502
    assert [payment["outcome"] for payment in drop.payments()] == ["served"]
    assert len(drop.good("GET", "/v1/servers")["servers"]) == 1


def test_asked_again_after_payment(drop: DropClient) -> None:
    """A stock client that trusts a 402 pays three times for nothing."""
    before = drop.income()
    drop.fault("again", CREATE, times=None)
    answer = drop.call("POST", "/v1/servers", SMALL, retries=3)
    assert (answer.status, answer.credentials) == (402, 3)
    assert drop.income() - before == 3 * SMALL_BASE
    assert drop.state()["servers"] == {}


def test_refused_and_collected_later(drop: DropClient) -> None:
    """A 402 with a fresh challenge, the first payment still alive: a moment later it is collected."""
    before = drop.income()
    drop.fault("refuse", CREATE, settle_after_s=1)
    headers, tx_hash = drop.signed("POST", "/v1/servers", SMALL)
    answer = drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert answer.status_code == 402
    assert read_challenge(answer.headers["www-authenticate"])[1]["amount"] == str(SMALL_BASE)
    assert drop.income() == before
    eventually(lambda: drop.income() - before == SMALL_BASE, what="the late collection")
    (payment,) = eventually(drop.payments, what="the booking")
    assert (payment["outcome"], payment["reference"]) == ("kept", tx_hash)
    drop.fault("refuse", CREATE, status=500)
    assert drop.call("POST", "/v1/servers", SMALL).status == 500
    assert drop.income() - before == SMALL_BASE


@pytest.mark.parametrize(
    ("terms", "shows"),
    [
        ({"amount": "9.99"}, {"amount": "9990000"}),
        ({"amount": "0"}, {"amount": "0"}),
        ({"currency": "0x20c0000000000000000000000000000000000001"}, {}),
        ({"recipient": THIEF}, {"recipient": THIEF}),
        ({"external_id": "x", "description": "y"}, {"externalId": "x"}),
    ],
)
def test_careless_payer_pays_what_was_asked(drop: DropClient, terms: Any, shows: Any) -> None:
    """A wrong amount, currency or recipient is asked for, and taken from whoever pays it."""
    drop.fault("challenge", CREATE, set=terms, times=2)
    _, asked = drop.challenge("POST", "/v1/servers", SMALL)
    assert asked | shows | {key: terms[key] for key in ("currency",) if key in terms} == asked
    holder, token = asked["recipient"], asked["currency"]
    before = drop.chain.balance_of(holder, token=token)
    assert drop.call("POST", "/v1/servers", SMALL).status == 201
    assert drop.chain.balance_of(holder, token=token) - before == int(asked["amount"])


def test_a_split_for_somebody_else(drop: DropClient) -> None:
    """A part of the price that goes to a payee nobody approved."""
    before = drop.chain.balance_of(THIEF)
    drop.fault("challenge", CREATE, set={"splits": [{"recipient": THIEF, "amount": "0.0034"}]})
    assert drop.call("POST", "/v1/servers", SMALL).status == 201
    assert drop.chain.balance_of(THIEF) - before == 3_400


@pytest.mark.parametrize("catalogue", [False, True])
def test_a_free_route_that_asks_for_money(drop: DropClient, catalogue: bool) -> None:  # noqa: FBT001 -- a case
    """The list of servers, or the open catalogue, costs 0.05 for once; who pays gets it."""
    route, path = ("sizes", "/v1/catalog/sizes") if catalogue else ("servers.list", "/v1/servers")
    before = drop.income()
    drop.fault("challenge", route, set={"amount": "0.05"})
    assert drop.call("GET", path).status == 200
    assert drop.income() - before == 50_000


@pytest.mark.parametrize("terms", [{"expires_in_s": -5}, {"chain_id": 4217}])
def test_terms_that_cannot_be_met(drop: DropClient, terms: Any) -> None:
    """An expired challenge and another chain: nothing can be collected here, whatever is signed."""
    before = drop.income()
    drop.fault("challenge", CREATE, set=terms)
    try:
        answer = drop.call("POST", "/v1/servers", SMALL)
    except PayerError:
        answer = None
    assert answer is None or answer.status in {402, 500}
    assert drop.income() == before
    assert drop.state()["servers"] == {}


def test_another_realm(drop: DropClient) -> None:
    """A challenge in another site's name; mppx's own client signs a payment for it all the same."""
    drop.fault("challenge", CREATE, set={"realm": "bank.example"}, times=2)
    parameters, _ = drop.challenge("POST", "/v1/servers", SMALL)
    assert parameters["realm"] == "bank.example"
    assert drop.call("POST", "/v1/servers", SMALL).status == 201


def test_malformed_challenges(drop: DropClient) -> None:
    """Amounts that are no amounts, a missing chain, lines before and in front of ours, garbage, and Retry-After."""
    drop.fault("challenge", CREATE, request={"amount": "00", "methodDetails": None})
    _, asked = drop.challenge("POST", "/v1/servers", SMALL)
    assert asked["amount"] == "00"
    assert "methodDetails" not in asked
    other = 'Payment id="a", realm="b, Payment", method="tempo", intent="session", request="e30"'
    for join in (False, True):
        drop.fault("challenge", CREATE, also=[other], join=join, retry_after_s=3)
        answer = requests.post(drop.process.base_url + "/v1/servers", json=SMALL, timeout=TIMEOUT_S, stream=True)
        lines = answer.raw.headers.getlist("www-authenticate")
        assert len(lines) == (1 if join else 2)
        assert lines[0].startswith(other)
        assert answer.headers["retry-after"] == "3"
        answer.close()
    drop.fault("challenge", CREATE, headers=["Payment nonsense"], body="pay me", status=401)
    answer = drop.raw("POST", "/v1/servers", SMALL)
    assert (answer.status_code, answer.text) == (401, "pay me")
    assert answer.headers["www-authenticate"] == "Payment nonsense"


@pytest.mark.parametrize("mode", ["drop", "garble"])
def test_missing_or_broken_receipt(drop: DropClient, mode: str) -> None:
    """The server is there; the receipt is not, or cannot be read."""
    drop.fault("receipt", CREATE, mode=mode)
    answer = drop.call("POST", "/v1/servers", SMALL)
    assert answer.status == 201
    assert len(answer.headers.get("payment-receipt", "")) == (20 if mode == "garble" else 0)


def test_expiry_reached(drop: DropClient) -> None:
    """The server ends before an extension is looked at (404, unpaid), or just when it was charged (404, paid)."""
    server_id = drop.server()
    drop.fault("expire", "servers.extend", when="before")
    assert drop.raw("POST", f"/v1/servers/{server_id}/extend", {"minutes": 60}).status_code == 404
    server_id = drop.server()
    before = drop.income()
    drop.fault("expire", "servers.extend", when="charged")
    assert drop.call("POST", f"/v1/servers/{server_id}/extend", {"minutes": 60}).status == 404
    assert drop.income() - before == 13_400
    assert drop.payments()[-1]["outcome"] == "failed"
    server_id = drop.server()
    assert drop.admin("POST", f"/admin/servers/{server_id}", {"expire": True})["destroyed"] == "expired"


def test_raised_price(drop: DropClient) -> None:
    """Catalogue and challenge rise together, until the fault is lifted."""
    drop.fault("price", size="small", hourly="1.2", create_fee="0.5")
    sizes = drop.raw("GET", "/v1/catalog/sizes").json()["sizes"]
    assert (sizes[0]["hourly"], sizes[0]["create_fee"]) == ("1.2", "0.5")
    assert drop.price("POST", "/v1/servers", SMALL) == 1_700_000
    drop.admin("DELETE", "/admin/faults")
    assert drop.price("POST", "/v1/servers", SMALL) == SMALL_BASE


def test_price_rises_between_challenge_and_payment(drop: DropClient) -> None:
    """The old price is not taken any more: 402 with the new one, and nothing moves."""
    headers, _ = drop.signed("POST", "/v1/servers", SMALL)
    before = drop.income()
    drop.fault("price", size="small", hourly="1.2")
    answer = drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert answer.status_code == 402
    assert read_challenge(answer.headers["www-authenticate"])[1]["amount"] == "1210000"
    assert drop.income() == before


def test_collected_too_late(drop: DropClient) -> None:
    """A vendor that holds a payment past its end cannot collect it any more."""
    before = drop.income()
    drop.fault("challenge", CREATE, set={"expires_in_s": 4})
    drop.fault("collect", CREATE, delay_s=5)
    answer = drop.call("POST", "/v1/servers", SMALL)
    assert answer.status == 402
    assert answer.json()["type"].endswith("/payment-expired")
    assert drop.income() == before


def test_rpc_loses_the_answer_after_broadcast(drop: DropClient) -> None:
    """An mppx seller then says 500 with a fresh challenge, although the chain has moved the money."""
    before = drop.income()
    drop.chain.shim.faults.add({"method": "eth_sendRawTransactionSync", "mode": "drop_after"})
    headers, tx_hash = drop.signed("POST", "/v1/servers", SMALL)
    answer = drop.raw("POST", "/v1/servers", SMALL, headers=headers)
    assert answer.status_code == 500
    assert "www-authenticate" in answer.headers
    assert tx_hash is not None
    assert drop.chain.receipt(tx_hash)["status"] == "0x1"
    assert drop.income() - before == SMALL_BASE
    assert drop.payments() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "gremlin"},
        {"kind": "cut", "when": "never"},
        {"kind": "cut", "route": "servers.steal"},
        {"kind": "cut", "colour": "red"},
        {"kind": "challenge", "set": {"payTo": THIEF}},
        {"kind": "price", "size": "huge", "hourly": "1"},
    ],
)
def test_unknown_faults_are_refused(drop: DropClient, fault: Any) -> None:
    """A fault that does not exist is 400, so that no test waits for what never happens."""
    answer = requests.post(drop.process.admin_url + "/admin/faults", json=fault, timeout=TIMEOUT_S)
    assert answer.status_code == 400
    assert drop.admin("GET", "/admin/faults") == []


def test_faults_are_counted_and_lifted(drop: DropClient) -> None:
    """Skip spares, times wears out, an id lifts one, paid chooses."""
    drop.fault("status", "regions", status=500, skip=1, times=2)
    codes = [drop.raw("GET", "/v1/catalog/regions").status_code for _ in range(4)]
    assert codes == [200, 500, 500, 200]
    drop.fault("status", "regions", status=500, paid=True)
    assert drop.raw("GET", "/v1/catalog/regions").status_code == 200
    (fault,) = drop.admin("GET", "/admin/faults")
    drop.admin("DELETE", f"/admin/faults/{fault['id']}")
    assert drop.admin("GET", "/admin/faults") == []
