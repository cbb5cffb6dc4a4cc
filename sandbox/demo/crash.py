"""The scene in which the gateway dies: after the vendor has the payment, before the agent has the answer.

Must not know how the gateway recovers, only what must be true afterwards.
"""

import http.client
import threading
from collections.abc import Callable

from sandbox.demo.agent import Answer
from sandbox.demo.checks import DemoFailure, expect, wait_for
from sandbox.demo.stage import PATIENCE_S, PROXY, Stage, captured, moved
from sandbox.demo.world import PRICES_BASE

ANSWER_HELD_BACK_S = 20  # how long the vendor holds back an answer: until long after the gateway is dead


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
    captured(stage, payment_id, price_base)
    moved(stage, before, available=-price_base, spent=price_base)
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
    if times < 2:
        raise DemoFailure("how often the vendor saw the credential", "twice or more", times)
    stage.screen.good(f"the vendor saw one credential {times} times and made one box; the chain saw one collection")
