"""What a vendor may do to a payment that it was shown: every scripted fault, the answer, the three axes and the money.

All purchases are made one after another, each right after its fault was put in force; then all of them are waited for
together, for most of them end only when their authorization does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from e2e_agent import eventually, problem_of
from e2e_config import TOO_SLOW_S
from world import uses_of

if TYPE_CHECKING:
    import requests
    from e2e_agent import Agent
    from world import World

CREDIT = Decimal(5)
PRICE = Decimal("0.5")
PAID = ("delivered", "settled", "captured")
LAPSED = ("delivered", "dead", "voided")


@dataclass(frozen=True, slots=True)
class Case:
    """Faults, the first answer (a problem's code, or None for the vendor's own 200), the end, and the vendor's boxes."""

    faults: tuple[dict[str, Any], ...]
    first: str | None
    end: tuple[str, str, str]
    boxes: int = 1
    vendor_tries: int | None = None
    found: bool = field(default=False)
    """Whether the same request, asked again, gets the answer that was lost."""


def _fault(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"kind": kind, "route": "rent", "paid": True, **parameters}


CUT = _fault("cut", when="after")

CASES = {
    "up late": Case((_fault("box", mode="late", after_s=4),), None, PAID),
    "reply dropped, then the same rental": Case((CUT,), "outcome_unknown", PAID, found=True),
    # The first box is late, or its collection could come before the second presentation, which would then be refused.
    "reply dropped, then a second box": Case(
        (CUT, _fault("box", mode="late", after_s=6), _fault("represent", mode="second_box")),
        "outcome_unknown",
        PAID,
        boxes=2,
        found=True,
    ),
    "reply dropped, then refused": Case(
        (CUT, _fault("represent", mode="refuse")), "outcome_unknown", ("refused", "settled", "refunded")
    ),
    "cut before it was handled": Case((_fault("cut", when="before"),), "outcome_unknown", PAID, found=True),
    "cut within the body": Case((_fault("cut", when="body"),), "outcome_unknown", PAID, found=True),
    "500 after provisioning": Case((_fault("status", status=500, when="after"),), "outcome_unknown", PAID, found=True),
    "503 after provisioning": Case((_fault("status", status=503, when="after"),), "outcome_unknown", PAID, found=True),
    "200 that is no rental": Case(
        (_fault("status", status=200, body={"ok": True}, when="after"),), "outcome_unknown", PAID, found=True
    ),
    "redirect after payment": Case(
        (_fault("redirect", location="http://127.0.0.1:1/rent"),), "outcome_unknown", PAID, found=True
    ),
    "slow beyond the limit": Case((_fault("slow", before_s=TOO_SLOW_S),), "outcome_unknown", PAID, found=True),
    "slow within the body, beyond the limit": Case(
        (_fault("slow", body_s=TOO_SLOW_S),), "outcome_unknown", PAID, found=True
    ),
    "slow within the limits": Case((_fault("slow", before_s=0.5, after_s=0.5, body_s=0.5),), None, PAID),
    "402 again after payment": Case(
        (_fault("refuse"),), "vendor_refused_payment", ("refused", "dead", "voided"), boxes=0
    ),
    "402 again, and settles all the same": Case(
        (_fault("refuse", settle_after_s=1),), "vendor_refused_payment", ("refused", "settled", "refunded"), boxes=0
    ),
    "402 of another kind after payment": Case(
        (_fault("status", status=402, body={"error": "quota"}),),
        "vendor_refused_payment",
        ("refused", "dead", "voided"),
        boxes=0,
    ),
    "says that it failed, then takes the payment": Case((_fault("fail"),), "outcome_unknown", PAID, found=True),
    "says that it failed, and settles": Case(
        (_fault("fail", settle_after_s=1),), "outcome_unknown", ("refused", "settled", "refunded"), boxes=0
    ),
    "400 after payment": Case(
        (_fault("status", status=400, body={"detail": "no such region"}),),
        "400",
        ("refused", "dead", "voided"),
        boxes=0,
    ),
    "tries to settle twice": Case((_fault("settle", mode="twice"),), None, PAID, vendor_tries=2),
    "settles just before validBefore": Case((_fault("settle", mode="near_deadline", margin_s=3),), None, PAID),
    "never settles": Case((_fault("settle", mode="never"),), None, LAPSED),
    "settles and never says so": Case((_fault("settle", mode="hidden"),), None, PAID),
    "says settled and never does": Case((_fault("settle", mode="lie"),), None, LAPSED),
    "settles without a box": Case(
        (_fault("box", mode="never"), _fault("settle", mode="without_box", after_s=1)), None, PAID
    ),
}


@dataclass(slots=True)
class Played:
    """A case after its end."""

    agent: Agent
    answer: requests.Response
    payment: Any
    again: requests.Response | None


@pytest.fixture(scope="module")
def played(world: World) -> dict[str, Played]:
    """Every case, from its fault to its end."""
    begun: dict[str, tuple[Agent, requests.Response]] = {}
    for name, case in CASES.items():
        agent = world.agent(str(CREDIT))
        for fault in case.faults:
            world.vendor.admin("POST", "/admin/faults", fault)
        begun[name] = agent, agent.rent()
        if case.found or case.first == "outcome_unknown":  # whatever strikes the second presentation, it is this one
            payment_id = begun[name][1].headers["X-Payment-Id"]
            eventually(lambda: agent.payment(payment_id)["delivery"] not in ("none", "unknown"), what=name)  # noqa: B023
        world.vendor.clear()
    return {name: _finish(CASES[name], agent, answer) for name, (agent, answer) in begun.items()}


def _finish(case: Case, agent: Agent, answer: requests.Response) -> Played:
    again = agent.rent() if case.found else None
    return Played(agent, answer, agent.wait_closed(answer.headers["X-Payment-Id"]), again)


@pytest.mark.parametrize("name", CASES)
def test_fault_ends_as_the_table_says(world: World, played: dict[str, Played], name: str) -> None:
    """Answer, axes, balance, boxes and the chain agree: charged if and only if collected, and collected at most once."""
    case, seen = CASES[name], played[name]
    payment = seen.payment
    if case.first is None:
        assert seen.answer.status_code == 200, seen.answer.text
    elif case.first.isdigit():
        assert seen.answer.status_code == int(case.first)
    else:
        assert problem_of(seen.answer) == case.first
        assert seen.answer.json()["payment_id"] == payment["id"]
    assert (payment["delivery"], payment["transfer"], payment["charge"]) == case.end
    collected = case.end[1] == "settled"
    uses = uses_of(world.base, world.gateway.home.wallet, payment["authorization"]["nonce"])
    assert len(uses) == int(collected)
    assert payment["tx_hash"] == (uses[0]["transactionHash"] if collected else None)
    spent = PRICE if case.end[2] == "captured" else Decimal(0)
    balance = seen.agent.balance()
    assert (balance["available"], balance["held"], balance["spent"]) == (CREDIT - spent, Decimal(0), spent)
    assert [entry["id"] for entry in seen.agent.payments()] == [payment["id"]]
    _check_vendor(world, case, payment["authorization"]["nonce"])


def _check_vendor(world: World, case: Case, nonce: str) -> None:
    """The vendor's own books: how many boxes, how many tries, and that only one credential was ever shown (P4)."""
    state = world.vendor.state()
    purchases = [entry for entry in state["purchases"].values() if entry["nonce"] == nonce]
    assert len({entry["rental_id"] for entry in purchases if entry["rental_id"]}) == case.boxes
    if nonce in state["seen"]:
        assert len(state["seen"][nonce]["headers"]) == 1
    if case.vendor_tries is not None:
        tries = [entry for entry in state["settlements"] if entry["nonce"] == nonce]
        assert [entry["ok"] for entry in tries] == [True] + [False] * (case.vendor_tries - 1)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.found])
def test_lost_answer_is_found_again(world: World, played: dict[str, Played], name: str) -> None:
    """The same request, asked again, gets the rental of the first payment; nothing more is paid (P12)."""
    seen = played[name]
    assert seen.again is not None
    assert seen.again.status_code == 200, seen.again.text
    assert seen.again.headers["X-Payment-Id"] == seen.payment["id"]
    assert seen.again.headers["Idempotent-Replayed"] == "true"
    assert seen.again.json()["rental_id"] in world.vendor.state()["rentals"]


def test_unpaid_deliveries_and_refunds_are_the_house_s(world: World, played: dict[str, Played]) -> None:
    """What vendors collected without delivering is the house's loss, to the last unit."""
    refunded = [seen for seen in played.values() if seen.payment["charge"] == "refunded"]
    assert refunded
    for seen in refunded:
        entries = seen.agent.ask("GET", "/v1/statement").json()["entries"]
        assert [entry["kind"] for entry in entries] == ["credit", "hold", "refund"]
    accounts = {entry["code"]: entry for entry in world.gateway.operate("balances")["accounts"]}
    assert Decimal(accounts["house:loss"]["posted"]) == PRICE * len(refunded)


def test_beyond_the_dispute_cap_hold_stays_and_vendor_is_frozen(world: World) -> None:
    """A vendor that says no and collects: without a cap the hold stays, a task is open, nobody buys there; a human ends it."""
    agent = world.agent("5")
    world.vendor.admin("POST", "/admin/faults", _fault("refuse", settle_after_s=0))
    refused = agent.rent(vendor="strict")
    assert problem_of(refused) == "vendor_refused_payment"
    payment_id = refused.headers["X-Payment-Id"]
    disputed = eventually(lambda: (found := agent.payment(payment_id))["disputed"] and found, what="the dispute")
    assert (disputed["delivery"], disputed["transfer"], disputed["charge"]) == ("refused", "settled", "held")
    assert agent.balance()["held"] == PRICE
    assert agent.rent(vendor="strict", Idempotency_Key="new").headers["X-Payment-Id"] == payment_id  # it attaches
    other = agent.rent("sandbox_6h", vendor="strict")
    assert (other.status_code, problem_of(other)) == (503, "frozen")
    (task,) = [t for t in world.gateway.operate("tasks_list")["tasks"] if t["payment"] == payment_id]
    assert task["kind"] == "dispute"
    world.gateway.operate("payments_resolve", payment=payment_id, charge="refunded")
    assert agent.payment(payment_id)["charge"] == "refunded"
    assert agent.balance()["available"] == Decimal(5)
    world.gateway.operate("freeze_lift", scope="vendor:strict", reason="settled with the vendor")
    world.gateway.operate("tasks_close", task=task["id"], resolution="settled with the vendor")
