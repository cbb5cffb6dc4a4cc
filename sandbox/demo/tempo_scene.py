"""What the agent does at the DigitalOcean reseller: free reads by proof of identity, paid calls by charges on Tempo.

Must not know how anything was started.
"""

from typing import Any

from sandbox.demo.checks import expect, wait_for
from sandbox.demo.stage import PATIENCE_S, Stage, axes, closed, moved
from sandbox.demo.units import usd

DROPMPP = "/proxy/dropmpp/v1"
MINUTES = 60
PRICE_BASE = 10_000 + 13_400  # the create fee and an hour of `small`, from the vendor's catalogue


def dropmpp(stage: Stage) -> None:
    """A catalogue behind a proof, a prepaid server, a look at it, and its end with an automatic snapshot."""
    agent, screen, before = stage.world.agent, stage.screen, stage.world.agent.balance()
    sizes = agent.must("GET", f"{DROPMPP}/catalog/sizes")
    screen.step("GET /v1/catalog/sizes -> 402 with price 0, answered with a proof of identity; nothing spent")
    expect("whether the catalogue names small", True, b"small" in sizes.body)
    moved(stage, before)
    order = {"size": "small", "region": "nyc1", "minutes": MINUTES}
    quote = agent.must("POST", f"{DROPMPP}/servers", order, headers={"Prefer": "quote"}).json()
    expect("the gateway's own quote", usd(PRICE_BASE), quote["price"])
    answer = agent.must("POST", f"{DROPMPP}/servers", order, status=201)
    server, payment_id = answer.json(), answer.header("X-Payment-Id")
    screen.step(f"POST /v1/servers {MINUTES} minutes -> {server['status']}, payment {payment_id}")

    def waiting(payment: dict[str, Any]) -> str:
        return f"delivery {payment['delivery']}, transfer {payment['transfer']}, charge {payment['charge']}"

    payment = closed(stage, payment_id, waiting)
    expect("delivery, transfer and charge", ("delivered", "settled", "captured"), axes(payment))
    screen.good(f"charged {payment['captured']}, tx {payment['tx_hash']} on Tempo; the network fee is the house's")
    moved(stage, before, available=-PRICE_BASE, spent=PRICE_BASE)
    place = f"{DROPMPP}/servers/{server['id']}"
    last: dict[str, Any] = {}

    def active() -> bool | None:
        last.update(agent.must("GET", place).json())
        screen.progress(f"GET /v1/servers/… by proof -> {last['status']}")
        return True if last["status"] == "active" else None

    wait_for("the server is active", active, within_s=PATIENCE_S, found=lambda: last.get("status"))
    expect("whether the root password is there", True, bool(last["root_password"]))
    screen.step(f"GET /v1/servers/… by proof -> active, {last['remaining_minutes']} minutes left, root password")
    gone = agent.must("DELETE", place).json()
    screen.step(
        f"DELETE /v1/servers/… -> snapshot {gone['snapshot']['id']}, kept {gone['snapshot']['expires_in_hours']} h"
    )
    moved(stage, before, available=-PRICE_BASE, spent=PRICE_BASE)
    expect("the vendor's receipts on Tempo", usd(PRICE_BASE), usd(stage.world.tempo_received()))
