"""What scenes share: who plays, and the checks that every purchase must pass.

Must not know any scene. Theory: what a scene claims it reads from where it is true: the agent's balance from the
gateway, the money from the chain, the boxes from the vendor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.demo.agent import Answer
from sandbox.demo.checks import expect, wait_for
from sandbox.demo.screen import Screen
from sandbox.demo.units import units, usd
from sandbox.demo.world import VENDOR, World

PROXY = f"/proxy/{VENDOR}"
PATIENCE_S = 60


@dataclass
class Stage:
    """A scene's surroundings, and what earlier scenes leave to later ones."""

    world: World
    screen: Screen
    rental_id: str = ""
    root_token: str = ""

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Send the vendor's own request through the gateway; raise DemoFailure unless it is answered 200."""
        return self.world.agent.must(method, PROXY + path, body, **options)

    def show_balance(self) -> None:
        """Tell what the agent has."""
        balance = self.world.agent.balance()
        self.screen.step(f"balance  available {balance['available']}   held {balance['held']}")


def captured(stage: Stage, payment_id: str, price_base: int) -> dict[str, Any]:
    """Wait until a payment is proven and charged, and show its evidence."""

    def waiting(payment: dict[str, Any]) -> str:
        seen = payment["sighting"]
        where = "" if seen is None else f", collected in block {seen['block_number']}, which is not final yet"
        return f"delivery {payment['delivery']}, transfer {payment['transfer']}, charge {payment['charge']}{where}"

    payment = closed(stage, payment_id, waiting)
    expect("delivery, transfer and charge", ("delivered", "settled", "captured"), axes(payment))
    expect("the charge", usd(price_base), payment["captured"])
    expect("what the vendor collected", usd(price_base), payment["authorization"]["settled"])
    expect("the evidence", "settled", (payment["evidence"] or {}).get("kind"))
    mined = stage.world.chain.receipt(payment["tx_hash"])
    expect("the block of the transaction", payment["evidence"]["block_number"], int(mined["blockNumber"], 16))
    block = payment["evidence"]["block_number"]
    stage.screen.good(f"charged {payment['captured']}, collected in final block {block}, tx {payment['tx_hash']}")
    return payment


def closed(stage: Stage, payment_id: str, waiting: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Wait until a payment's hold has ended and return the payment; `waiting` says how it goes on."""
    last: dict[str, Any] = {}

    def ended() -> dict[str, Any] | None:
        last.update(stage.world.agent.payment(payment_id))
        if last["charge"] != "held":
            return last
        stage.screen.progress(waiting(last))
        return None

    return wait_for(f"payment {payment_id} closes", ended, within_s=PATIENCE_S, found=lambda: axes(last))


def axes(payment: dict[str, Any]) -> tuple[str, str, str]:
    """Return a payment's delivery, transfer and charge."""
    return payment["delivery"], payment["transfer"], payment["charge"]


def moved(stage: Stage, before: dict[str, str], *, available: int = 0, held: int = 0, spent: int = 0) -> None:
    """Raise DemoFailure unless the balance has changed by exactly this since `before`."""
    after = stage.world.agent.balance()
    changes = {name: usd(units(after[name]) - units(before[name])) for name in ("available", "held", "spent")}
    expect("the balance's change", {"available": usd(available), "held": usd(held), "spent": usd(spent)}, changes)


def await_active(stage: Stage) -> None:
    """Ask for the box's state until it is active."""
    last: dict[str, Any] = {}

    def active() -> bool | None:
        last.update(stage.ask("GET", f"/instance/{stage.rental_id}?token={stage.root_token}").json())
        if last["status"] == "active" and last["running"]:
            return True
        stage.screen.progress(f"GET /instance -> {last['status']}, running {last['running']}")
        return None

    wait_for("the box comes up", active, within_s=PATIENCE_S, found=lambda: last.get("status"))
    stage.screen.step(f"GET /instance -> {last['status']}, running, {last['ipv4']}")


def rental_of(stage: Stage) -> dict[str, Any]:
    """Return the rental of an earlier scene as the vendor describes it."""
    return dict(stage.ask("GET", f"/rentals/{stage.rental_id}").json())


def short(text: str) -> str:
    """Return the beginning of an id or a hash."""
    return f"{text[:10]}…"
