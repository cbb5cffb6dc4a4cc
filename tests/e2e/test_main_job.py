"""The main job over real HTTP: a box that comes up is charged with evidence, one that never does costs nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from e2e_agent import eventually, problem_of
from e2e_books import check_against_chain, read_books
from world import VENDOR_PAYEE, payee_of, uses_of

if TYPE_CHECKING:
    from e2e_agent import Agent
    from world import World


NEW_PAYEE = 16


def axes(payment: Any) -> tuple[str, str, str]:
    """Return delivery, transfer and charge."""
    return payment["delivery"], payment["transfer"], payment["charge"]


def rented(agent: Agent, sku: str = "sandbox_1h") -> tuple[Any, str]:
    """Rent a box; return the vendor's reply and the payment's id."""
    answer = agent.rent(sku)
    assert answer.status_code == 200, answer.text
    return answer.json(), answer.headers["X-Payment-Id"]


def instance(agent: Agent, rental: Any) -> requests.Response:
    """Ask for a box's live status with the token that came with it."""
    return agent.ask("GET", f"/proxy/vpsagent/instance/{rental['rental_id']}?token={rental['root_token']}")


def renew(agent: Agent, rental: Any, periods: int = 1) -> requests.Response:
    """Ask for a renewal with the token that came with the box."""
    path = f"/proxy/vpsagent/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    return agent.ask("POST", path, json={"periods": periods})


def active(agent: Agent, sku: str) -> tuple[Any, str]:
    """Rent a box and wait until it is paid for and running."""
    rental, payment_id = rented(agent, sku)
    assert agent.wait_closed(payment_id)["charge"] == "captured"
    eventually(lambda: instance(agent, rental).json()["status"] == "active", what="the active box")
    return rental, payment_id


def test_catalogue_is_paid_inline(world: World) -> None:
    """The catalogue's cent is held, collected on chain, captured, and the answer is the vendor's own."""
    agent = world.agent("1")
    answer = agent.ask("GET", "/proxy/vpsagent/catalog")
    assert answer.status_code == 200, answer.text
    assert {entry["sku"] for entry in answer.json()} >= {"sandbox_1h", "server_small_1mo"}
    assert answer.headers["X-Charge"] == "0.010000"
    paid = agent.wait_closed(answer.headers["X-Payment-Id"])
    assert axes(paid) == ("delivered", "settled", "captured")
    assert agent.balance()["available"] == Decimal("0.99")


def test_a_quote_costs_nothing(world: World) -> None:
    """`Prefer: quote` answers with the price and how long money may be held; nothing is held and nobody is paid."""
    agent = world.agent("1")
    answer = agent.rent(Prefer="quote")
    assert (answer.status_code, answer.json()["price"]) == (200, "0.500000"), answer.text
    assert answer.json()["collectable_for_s"] == 14
    assert agent.payments() == []
    assert agent.balance()["available"] == Decimal(1)


def test_box_that_comes_up_is_charged_with_evidence(world: World) -> None:
    """The hold becomes a charge when the chain shows the collection; payment, statement and trace tell the same story."""
    agent = world.agent("20")
    before = world.base.balance_of(world.gateway.home.wallet)
    rental, payment_id = rented(agent)
    held = agent.balance()
    assert (held["available"], held["held"]) == (Decimal("19.5"), Decimal("0.5"))
    paid = agent.wait_closed(payment_id)
    assert axes(paid) == ("delivered", "settled", "captured")
    receipt = world.base.rpc("eth_getTransactionReceipt", paid["tx_hash"])
    evidence = paid["evidence"]
    assert (evidence["kind"], evidence["tx_hash"]) == ("settled", paid["tx_hash"])
    assert (evidence["block_hash"], evidence["block_number"]) == (
        receipt["blockHash"],
        int(receipt["blockNumber"], 16),
    )
    assert evidence["block_number"] <= world.base.final()["number"]
    nonce = paid["authorization"]["nonce"]
    assert [log["transactionHash"] for log in uses_of(world.base, world.gateway.home.wallet, nonce)] == [
        paid["tx_hash"]
    ]
    assert before - world.base.balance_of(world.gateway.home.wallet) == 500_000
    eventually(lambda: instance(agent, rental).json()["status"] == "active", what="the active box")
    spent = agent.balance()
    assert (spent["available"], spent["held"], spent["spent"]) == (Decimal("19.5"), Decimal(0), Decimal("0.5"))
    entries = agent.ask("GET", "/v1/statement").json()["entries"]
    assert [(entry["kind"], entry["amount"]) for entry in entries] == [
        ("credit", "20.000000"),
        ("hold", "0.500000"),
        ("capture", "0.500000"),
    ]
    for what in (paid["tx_hash"], rental["rental_id"], nonce, payment_id):
        assert [p["id"] for p in world.gateway.operate("trace", what=what)["payments"]] == [payment_id]


def test_box_that_never_comes_up_costs_nothing(world: World) -> None:
    """The hold outlives the authorization and goes back only when a final block is past its end (P6)."""
    agent = world.agent("1")
    world.vendor.fault("box", "rent", mode="never")
    _, payment_id = rented(agent)
    open_payment = agent.payment(payment_id)
    assert axes(open_payment) == ("delivered", "presented", "held")
    dead = agent.wait_closed(payment_id)
    assert axes(dead) == ("delivered", "dead", "voided")
    evidence = dead["evidence"]
    assert (evidence["kind"], evidence["tx_hash"]) == ("unused", None)
    assert evidence["block_time"] >= dead["authorization"]["valid_before"]
    assert evidence["block_hash"] == world.base.block(evidence["block_number"])["hash"]
    assert uses_of(world.base, world.gateway.home.wallet, dead["authorization"]["nonce"]) == []
    assert agent.balance() == {
        "available": Decimal(1),
        "held": Decimal(0),
        "spent": Decimal(0),
        "refunded": Decimal(0),
        "credited": Decimal(1),
    }


def test_surrogate_token_works_only_through_the_gateway(world: World) -> None:
    """The token that an agent gets is none of the vendor's: there it opens nothing, through the gateway it opens the box."""
    agent = world.agent("5")
    rental, _ = active(agent, "sandbox_1h")
    token = rental["root_token"]
    known = world.vendor.state()["rentals"][rental["rental_id"]]
    assert token != known["root_token"]
    assert len(token) == len(known["root_token"])
    direct = requests.get(
        f"{world.vendor.process.base_url}/instance/{rental['rental_id']}", params={"token": token}, timeout=10
    )
    assert direct.status_code == 401
    through = instance(agent, rental)
    assert (through.status_code, through.json()["running"]) == (200, True)
    assert through.headers["Cache-Control"] == "no-store"
    real = agent.ask("GET", f"/proxy/vpsagent/instance/{rental['rental_id']}?token={known['root_token']}")
    assert (real.status_code, problem_of(real)) == (404, "not_found")


def test_rental_belongs_to_whoever_paid_for_it(world: World) -> None:
    """For any other account rental, box, renewal and payment do not exist, also with the right token (P9)."""
    owner, stranger = world.agent("5"), world.agent("5")
    rental, payment_id = active(owner, "sandbox_1h")
    answers = [
        instance(stranger, rental),
        renew(stranger, rental),
        stranger.ask("GET", f"/proxy/vpsagent/rentals/{rental['rental_id']}"),
        stranger.ask("GET", f"/v1/payments/{payment_id}"),
    ]
    assert [(answer.status_code, problem_of(answer)) for answer in answers] == [(404, "not_found")] * 4
    assert stranger.payments() == []
    assert stranger.balance()["available"] == Decimal(5)
    assert owner.ask("GET", f"/proxy/vpsagent/rentals/{rental['rental_id']}").status_code == 200


def test_renewal_that_completes_is_charged_once_it_is_collected(world: World) -> None:
    """A renewal holds its price until the manual step is done and collected; a second one meanwhile costs nothing."""
    agent = world.agent("40")
    rental, _ = active(agent, "server_small_1mo")
    answer = renew(agent, rental)
    assert (answer.status_code, answer.json()["status"]) == (200, "renewing"), answer.text
    payment_id = answer.headers["X-Payment-Id"]
    again = renew(agent, rental, periods=2)  # the vendor itself refuses it, before any price
    assert (again.status_code, again.json()["detail"]) == (409, "Rental is renewing, not active.")
    assert len(agent.payments()) == 2
    assert axes(agent.payment(payment_id)) == ("delivered", "presented", "held")
    world.vendor.admin("POST", f"/admin/renewals/{rental['rental_id']}/complete")
    assert axes(agent.wait_closed(payment_id)) == ("delivered", "settled", "captured")
    renewed = eventually(
        lambda: (found := world.vendor.state()["rentals"][rental["rental_id"]])["renewal_count"] == 1 and found,
        what="the renewal",
    )
    assert renewed["expires_at"] > rental["expires_at"]
    assert agent.balance()["spent"] == Decimal("19.98")


def test_renewal_that_never_completes_costs_nothing(world: World) -> None:
    """Its authorization dies, the price goes back, and the box may be renewed again."""
    agent = world.agent("40")
    rental, _ = active(agent, "server_small_1mo")
    answer = renew(agent, rental)
    assert answer.status_code == 200, answer.text
    dead = agent.wait_closed(answer.headers["X-Payment-Id"])
    assert axes(dead) == ("delivered", "dead", "voided")
    assert agent.balance()["spent"] == Decimal("9.99")
    assert world.vendor.state()["rentals"][rental["rental_id"]]["expires_at"] == rental["expires_at"]
    second = renew(agent, rental)
    assert second.status_code == 200, second.text
    world.vendor.admin("POST", f"/admin/renewals/{rental['rental_id']}/complete")
    assert axes(agent.wait_closed(second.headers["X-Payment-Id"])) == ("delivered", "settled", "captured")
    assert agent.balance()["spent"] == Decimal("19.98")


def test_box_is_shown_as_last_known_while_the_provider_is_away(world: World) -> None:
    """The vendor's own 502 passes with its fields, its token replaced; nothing is charged for looking."""
    agent = world.agent("5")
    rental, _ = active(agent, "sandbox_1h")
    world.vendor.fault("upstream_down", "instance")
    away = instance(agent, rental)
    assert (away.status_code, away.json()["status"]) == (502, "active"), away.text
    assert agent.balance()["spent"] == Decimal("0.5")


def test_rental_is_found_after_the_agent_hung_up(world: World) -> None:
    """An agent that breaks off in the middle of a purchase gets the same box when it asks again, and pays once (P12)."""
    agent = world.agent("5")
    world.vendor.fault("slow", "rent", paid=True, before_s=1.5)
    with pytest.raises(requests.ReadTimeout):
        agent.ask("POST", "/proxy/vpsagent/rent", json={"sku": "sandbox_1h"}, timeout=0.7)
    (payment,) = eventually(agent.payments, what="the hold")
    rental, payment_id = rented(agent)
    assert payment_id == payment["id"]
    assert agent.wait_closed(payment_id)["charge"] == "captured"
    assert instance(agent, rental).status_code == 200
    assert agent.balance()["spent"] == Decimal("0.5")


def test_payee_seen_for_the_first_time_is_paid_once_a_human_has_approved_it(world: World) -> None:
    """A new payee is a task; approved, it may be paid at once, signer included, without a restart (P8)."""
    agent = world.agent("5")
    payee = payee_of(world.base, NEW_PAYEE)
    world.vendor.fault("challenge", "rent", paid=False, set={"payTo": payee}, times=2)
    assert problem_of(agent.rent()) == "payee_not_allowed"
    task = next(t for t in world.gateway.operate("tasks_list")["tasks"] if t["subject"].endswith(payee))
    world.gateway.operate("tasks_approve", task=task["id"])
    before = world.base.balance_of(payee)
    _, payment_id = rented(agent)
    assert agent.wait_closed(payment_id)["charge"] == "captured"
    assert world.base.balance_of(payee) - before == 500_000


def test_shared_books_agree_with_the_chain(world: World) -> None:
    """Once every hold has ended, journal, store and chain tell the same story to the last unit (P1, P4, P7, P11, P13)."""
    world.wait_all_closed()
    assert world.gateway.operate("journal_verify")["verified"] is True
    home, payees = world.gateway.home, [payee_of(world.base, index) for index in (VENDOR_PAYEE, NEW_PAYEE)]
    check_against_chain(read_books(home.database), world.base, home.wallet, payees)
