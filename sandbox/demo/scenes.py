"""What the agent does, one function a scene; each shows what happens and fails unless it is what must happen.

Must not know how anything was started. Theory: what a scene claims it reads from where it is true: the agent's balance
from the gateway, the money from the chain, the boxes from the vendor.
"""

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.demo.agent import Answer
from sandbox.demo.checks import DemoFailure, expect, wait_for
from sandbox.demo.screen import Screen
from sandbox.demo.units import units, usd
from sandbox.demo.world import PRICES_BASE, VENDOR, World

PROXY = f"/proxy/{VENDOR}"
PATIENCE_S = 60
SHORT_WINDOW_S = 14  # the reference SDK wants six seconds of it, and a slow machine some more
MS_PER_MONTH = 30 * 86_400_000
ANSWER_HELD_BACK_S = 20  # how long the vendor holds back an answer: until long after the gateway is dead


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


# ---- 1 ---------------------------------------------------------------------------------------------------------------


def catalogue(stage: Stage) -> None:
    """A paid catalogue: the vendor collects before it answers."""
    screen, price_base = stage.screen, PRICES_BASE["catalog"]
    before = stage.world.agent.balance()
    answer = stage.ask("GET", "/catalog")
    payment_id = answer.header("X-Payment-Id")
    screen.step(f"GET /catalog -> 200, X-Charge {answer.header('X-Charge')}, payment {payment_id}")
    expect("the catalogue's charge", usd(price_base), answer.header("X-Charge"))
    for entry in answer.json():
        if entry["sku"] in PRICES_BASE:
            screen.step(f"         {entry['sku']:<17} {entry['price_usdc']:>5.2f} USDC")
    _captured(stage, payment_id, price_base)
    _moved(stage, before, available=-price_base, spent=price_base)


# ---- 2 ---------------------------------------------------------------------------------------------------------------


def rental(stage: Stage) -> None:
    """A rental that comes up: the money waits until the vendor really collects it."""
    screen, sku = stage.screen, "server_small_1mo"
    price_base, before = PRICES_BASE[sku], stage.world.agent.balance()
    quote = stage.ask("POST", "/rent", {"sku": sku}, headers={"Prefer": "quote"}).json()
    screen.step(
        f"Prefer: quote -> {sku} costs {quote['price']}, held {quote['held_at_most_s']} s at most; nothing spent"
    )
    expect("the quote", usd(price_base), quote["price"])
    _moved(stage, before)
    answer = stage.ask("POST", "/rent", {"sku": sku})
    bought, payment_id = answer.json(), answer.header("X-Payment-Id")
    stage.rental_id, stage.root_token = bought["rental_id"], bought["root_token"]
    screen.step(f"POST /rent {sku} -> {bought['status']}, rental {stage.rental_id}, payment {payment_id}")
    _moved(stage, before, available=-price_base, held=price_base)
    stage.show_balance()
    _await_active(stage)
    payment = _captured(stage, payment_id, price_base)
    _moved(stage, before, available=-price_base, spent=price_base)
    expect("the root_token is the agent's own stand-in, not the vendor's", False, _is_vendors(stage, stage.root_token))
    traced = stage.world.gateway.run("trace", payment["tx_hash"])["payments"]
    expect("the payment that the transaction hash leads to", [payment_id], [each["id"] for each in traced])
    screen.good(f"gateway trace {_short(payment['tx_hash'])} leads back to payment {payment_id}")


# ---- 3 ---------------------------------------------------------------------------------------------------------------


def never(stage: Stage) -> None:
    """A rental whose box never comes up: the authorization dies on chain and the hold goes back."""
    world, screen, sku = stage.world, stage.screen, "sandbox_1h"
    price_base, before = PRICES_BASE[sku], world.agent.balance()
    received_base = world.chain.balance_of(world.payee)
    world.staff.fault("box", "rent", mode="never")
    world.staff.fault("challenge", "rent", set={"maxTimeoutSeconds": SHORT_WINDOW_S})
    answer = stage.ask("POST", "/rent", {"sku": sku})
    rental_id, payment_id = answer.json()["rental_id"], answer.header("X-Payment-Id")
    screen.step(f"POST /rent {sku} -> {answer.json()['status']}, rental {rental_id}, payment {payment_id}")
    _moved(stage, before, available=-price_base, held=price_base)
    stage.show_balance()
    authorization = world.agent.payment(payment_id)["authorization"]
    screen.step(f"the vendor may collect until {authorization['valid_before']}, a quarter of an hour at the real one")

    def waiting(payment: dict[str, Any]) -> str:
        return f"box down, delivery {payment['delivery']}, transfer {payment['transfer']}, {payment['hold']} still held"

    payment = _closed(stage, payment_id, waiting)
    evidence = payment["evidence"] or {}
    expect("delivery, transfer and charge", ("delivered", "dead", "voided"), _axes(payment))
    expect("the evidence", "unused", evidence.get("kind"))
    if not evidence["block_time"] >= authorization["valid_before"]:
        raise DemoFailure("the block's time", f"{authorization['valid_before']} or later", evidence["block_time"])
    number = evidence["block_number"]
    used = world.chain.authorization_state(world.wallet, authorization["nonce"], block=number)
    expect("the authorization's state on chain", False, used)
    screen.good(f"dead: unused at final block {number} of {evidence['block_time']}, after its last second")
    _moved(stage, before)
    expect("what the vendor received for it", usd(0), usd(world.chain.balance_of(world.payee) - received_base))
    screen.good("the whole hold is back, nothing was paid")
    stage.show_balance()


# ---- 4 ---------------------------------------------------------------------------------------------------------------


def renewal(stage: Stage) -> None:
    """A renewal: the vendor collects only after a manual step of its staff."""
    world, screen, price_base = stage.world, stage.screen, PRICES_BASE["server_small_1mo"]
    before, expires_at = world.agent.balance(), _rental(stage)["expires_at"]
    answer = stage.ask("POST", f"/rentals/{stage.rental_id}/renew?token={stage.root_token}", {"periods": 1})
    payment_id = answer.header("X-Payment-Id")
    screen.step(f"POST /rentals/{_short(stage.rental_id)}/renew -> {answer.json()['status']}, payment {payment_id}")
    _moved(stage, before, available=-price_base, held=price_base)
    stage.show_balance()
    time.sleep(1.5)
    expect("the renewal before the manual step", ("renewing", "held"), _renewal_state(stage, payment_id))
    screen.step("still renewing, still held: the vendor waits for its staff")
    world.staff.complete_renewal(stage.rental_id)
    screen.step("the vendor's staff has done the manual step")
    _await_active(stage)
    expect("the rental's new end", expires_at + MS_PER_MONTH, _rental(stage)["expires_at"])
    screen.good("the rental ends 30 days later than before")
    _captured(stage, payment_id, price_base)
    _moved(stage, before, available=-price_base, spent=price_base)


# ---- 5 ---------------------------------------------------------------------------------------------------------------


def crash(stage: Stage) -> None:
    """`kill -9` of the gateway while the vendor's answer is on its way, and what it finds again."""
    world, screen, sku = stage.world, stage.screen, "sandbox_6h"
    price_base, before = PRICES_BASE[sku], world.agent.balance()
    known = set(world.staff.state()["purchases"])
    world.staff.fault("slow", "rent", paid=True, after_s=ANSWER_HELD_BACK_S)
    request = _InFlight(lambda: stage.ask("POST", "/rent", {"sku": sku}))
    purchase = wait_for(
        "the vendor accepts the payment",
        lambda: next((p for key, p in world.staff.state()["purchases"].items() if key not in known), None),
        within_s=PATIENCE_S,
        found=request.outcome,
    )
    nonce, rental_id = purchase["nonce"], purchase["rental_id"]
    screen.step(f"POST /rent {sku}: the vendor has accepted the payment, its answer is on the way")
    pid = world.gateway.pid
    world.gateway.kill()
    screen.step(f"kill -9 {pid}")
    expect("the agent's request", "broken off", request.outcome())
    screen.step("the agent's connection breaks: it does not know whether it has bought anything")
    world.gateway.start()
    screen.step(f"the gateway is back as process {world.gateway.pid}")
    answer = _repeat(stage, {"sku": sku})
    payment_id = answer.header("X-Payment-Id")
    screen.step(f"the agent repeats its request -> 200, rental {answer.json()['rental_id']}, payment {payment_id}")
    expect("the rental that the agent gets", rental_id, answer.json()["rental_id"])
    payment = world.agent.payment(payment_id)
    expect("the payment's nonce", nonce, payment["authorization"]["nonce"])
    screen.good("the same purchase: found by presenting its stored credential again, never by paying again")
    _captured(stage, payment_id, price_base)
    _moved(stage, before, available=-price_base, spent=price_base)
    _once_only(stage, nonce, known)


class _InFlight:
    """A request whose answer somebody else waits for."""

    def __init__(self, send: Callable[[], Answer]) -> None:
        self._outcome = "no answer yet"
        self._thread = threading.Thread(target=self._run, args=(send,), daemon=True)
        self._thread.start()

    def outcome(self) -> str:
        """Return what became of it, waiting a little."""
        self._thread.join(5)
        return self._outcome

    def _run(self, send: Callable[[], Answer]) -> None:
        try:
            self._outcome = f"answered {send().status}"
        except (OSError, http.client.HTTPException):
            self._outcome = "broken off"
        except DemoFailure as failure:
            self._outcome = str(failure)


def _repeat(stage: Stage, body: dict[str, str]) -> Answer:
    """Ask for the same thing again until it is answered, as an agent must that got no answer."""
    last = ""

    def once() -> Answer | None:
        nonlocal last
        answer = stage.world.agent.ask("POST", f"{PROXY}/rent", body)
        if answer.status == 200:
            return answer
        code = str(answer.json().get("code"))
        if code != last:
            stage.screen.step(f"the agent repeats its request -> {answer.status} {code}: it asks again")
        last = code
        return None

    return wait_for("the answer to the repeated request", once, within_s=PATIENCE_S, found=lambda: last)


def _once_only(stage: Stage, nonce: str, known: set[str]) -> None:
    state, chain = stage.world.staff.state(), stage.world.chain
    purchases = [p for key, p in state["purchases"].items() if key not in known]
    expect("purchases at the vendor", [nonce], [p["nonce"] for p in purchases])
    expect("different credentials that the vendor saw", 1, len(state["seen"][nonce]["headers"]))
    logs = chain.rpc("eth_getLogs", {"fromBlock": "0x0", "address": chain.token_address, "topics": [None, None, nonce]})
    expect("uses of the authorization on chain", 1, len(logs))
    times = state["seen"][nonce]["count"]
    stage.screen.good(f"the vendor saw one credential {times} times and made one box; the chain saw one collection")


# ---- what scenes share -----------------------------------------------------------------------------------------------


def _captured(stage: Stage, payment_id: str, price_base: int) -> dict[str, Any]:
    """Wait until a payment is proven and charged, and show its evidence."""

    def waiting(payment: dict[str, Any]) -> str:
        seen = payment["sighting"]
        where = "" if seen is None else f", collected in block {seen['block_number']}, which is not final yet"
        return f"delivery {payment['delivery']}, transfer {payment['transfer']}, charge {payment['charge']}{where}"

    payment = _closed(stage, payment_id, waiting)
    expect("delivery, transfer and charge", ("delivered", "settled", "captured"), _axes(payment))
    expect("the charge", usd(price_base), payment["captured"])
    expect("what the vendor collected", usd(price_base), payment["authorization"]["settled"])
    expect("the evidence", "settled", (payment["evidence"] or {}).get("kind"))
    mined = stage.world.chain.receipt(payment["tx_hash"])
    expect("the block of the transaction", payment["evidence"]["block_number"], int(mined["blockNumber"], 16))
    block = payment["evidence"]["block_number"]
    stage.screen.good(f"charged {payment['captured']}, collected in final block {block}, tx {payment['tx_hash']}")
    return payment


def _closed(stage: Stage, payment_id: str, waiting: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    last: dict[str, Any] = {}

    def closed() -> dict[str, Any] | None:
        last.update(stage.world.agent.payment(payment_id))
        if last["charge"] != "held":
            return last
        stage.screen.progress(waiting(last))
        return None

    return wait_for(f"payment {payment_id} closes", closed, within_s=PATIENCE_S, found=lambda: _axes(last))


def _axes(payment: dict[str, Any]) -> tuple[str, str, str]:
    return payment["delivery"], payment["transfer"], payment["charge"]


def _moved(stage: Stage, before: dict[str, str], *, available: int = 0, held: int = 0, spent: int = 0) -> None:
    """Raise DemoFailure unless the balance has changed by exactly this since `before`."""
    after = stage.world.agent.balance()
    changes = {name: usd(units(after[name]) - units(before[name])) for name in ("available", "held", "spent")}
    expect("the balance's change", {"available": usd(available), "held": usd(held), "spent": usd(spent)}, changes)


def _await_active(stage: Stage) -> None:
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


def _rental(stage: Stage) -> dict[str, Any]:
    return dict(stage.ask("GET", f"/rentals/{stage.rental_id}").json())


def _renewal_state(stage: Stage, payment_id: str) -> tuple[str, str]:
    return _rental(stage)["status"], stage.world.agent.payment(payment_id)["charge"]


def _is_vendors(stage: Stage, token: str) -> bool:
    return any(each["root_token"] == token for each in stage.world.staff.state()["rentals"].values())


def _short(text: str) -> str:
    return f"{text[:10]}…"


SCENES: Sequence[tuple[str, str, Callable[[Stage], None]]] = (
    ("catalogue", "The catalogue, paid inline", catalogue),
    ("rental", "A rental that comes up", rental),
    ("never", "A rental whose box never comes up", never),
    ("renewal", "A renewal", renewal),
    ("crash", "kill -9 of the gateway in the middle of a purchase", crash),
)
