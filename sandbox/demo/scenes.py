"""What the agent does, one function a scene; each shows what happens and fails unless it is what must happen.

Must not know how anything was started.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.demo.account_scenes import cryptovps, litevps, vrtx
from sandbox.demo.checks import DemoFailure, expect
from sandbox.demo.crash import crash
from sandbox.demo.servers_scene import servers
from sandbox.demo.stage import Stage, await_active, axes, captured, closed, moved, rental_of, short
from sandbox.demo.tempo_scene import dropmpp
from sandbox.demo.topup_scene import top_up
from sandbox.demo.units import usd
from sandbox.demo.world import PRICES_BASE, VENDORS

SHORT_WINDOW_S = 14  # the reference SDK wants six seconds of it, and a slow machine some more
MS_PER_MONTH = 30 * 86_400_000
ANY = "any"  # a scene that takes whichever vendor wins
NONE = ""  # a scene that needs no vendor


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
    captured(stage, payment_id, price_base)
    moved(stage, before, available=-price_base, spent=price_base)


def rental(stage: Stage) -> None:
    """A rental that comes up: the money waits until the vendor really collects it."""
    screen, sku = stage.screen, "server_small_1mo"
    price_base, before = PRICES_BASE[sku], stage.world.agent.balance()
    quote = stage.ask("POST", "/rent", {"sku": sku}, headers={"Prefer": "quote"}).json()
    screen.step(
        f"Prefer: quote -> {sku} costs {quote['price']}, collectable for {quote['collectable_for_s']} s; nothing spent"
    )
    expect("the quote", usd(price_base), quote["price"])
    moved(stage, before)
    answer = stage.ask("POST", "/rent", {"sku": sku})
    bought, payment_id = answer.json(), answer.header("X-Payment-Id")
    stage.rental_id, stage.root_token = bought["rental_id"], bought["root_token"]
    screen.step(f"POST /rent {sku} -> {bought['status']}, rental {stage.rental_id}, payment {payment_id}")
    moved(stage, before, available=-price_base, held=price_base)
    stage.show_balance()
    await_active(stage)
    payment = captured(stage, payment_id, price_base)
    moved(stage, before, available=-price_base, spent=price_base)
    expect("the root_token is the agent's own stand-in, not the vendor's", False, _is_vendors(stage, stage.root_token))
    traced = stage.world.gateway.run("trace", payment["tx_hash"])["payments"]
    expect("the payment that the transaction hash leads to", [payment_id], [each["id"] for each in traced])
    screen.good(f"gateway trace {short(payment['tx_hash'])} leads back to payment {payment_id}")


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
    moved(stage, before, available=-price_base, held=price_base)
    stage.show_balance()
    authorization = world.agent.payment(payment_id)["authorization"]
    screen.step(f"the vendor may collect until {authorization['valid_before']}, a quarter of an hour at the real one")

    def waiting(payment: dict[str, Any]) -> str:
        return f"box down, delivery {payment['delivery']}, transfer {payment['transfer']}, {payment['hold']} still held"

    payment = closed(stage, payment_id, waiting)
    evidence = payment["evidence"] or {}
    expect("delivery, transfer and charge", ("delivered", "dead", "voided"), axes(payment))
    expect("the evidence", "unused", evidence.get("kind"))
    if not evidence["block_time"] >= authorization["valid_before"]:
        raise DemoFailure("the block's time", f"{authorization['valid_before']} or later", evidence["block_time"])
    number = evidence["block_number"]
    used = world.chain.authorization_state(world.wallet, authorization["nonce"], block=number)
    expect("the authorization's state on chain", False, used)
    screen.good(f"dead: unused at final block {number} of {evidence['block_time']}, after its last second")
    moved(stage, before)
    expect("what the vendor received for it", usd(0), usd(world.chain.balance_of(world.payee) - received_base))
    screen.good("the whole hold is back, nothing was paid")
    stage.show_balance()


def renewal(stage: Stage) -> None:
    """A renewal: the vendor collects only after a manual step of its staff."""
    world, screen, price_base = stage.world, stage.screen, PRICES_BASE["server_small_1mo"]
    before, expires_at = world.agent.balance(), rental_of(stage)["expires_at"]
    answer = stage.ask("POST", f"/rentals/{stage.rental_id}/renew?token={stage.root_token}", {"periods": 1})
    payment_id = answer.header("X-Payment-Id")
    screen.step(f"POST /rentals/{short(stage.rental_id)}/renew -> {answer.json()['status']}, payment {payment_id}")
    moved(stage, before, available=-price_base, held=price_base)
    stage.show_balance()
    time.sleep(1.5)
    expect("the renewal before the manual step", ("renewing", "held"), _renewal_state(stage, payment_id))
    screen.step("still renewing, still held: the vendor waits for its staff")
    world.staff.complete_renewal(stage.rental_id)
    screen.step("the vendor's staff has done the manual step")
    await_active(stage)
    expect("the rental's new end", expires_at + MS_PER_MONTH, rental_of(stage)["expires_at"])
    screen.good("the rental ends 30 days later than before")
    captured(stage, payment_id, price_base)
    moved(stage, before, available=-price_base, spent=price_base)


def _renewal_state(stage: Stage, payment_id: str) -> tuple[str, str]:
    return rental_of(stage)["status"], stage.world.agent.payment(payment_id)["charge"]


def _is_vendors(stage: Stage, token: str) -> bool:
    return any(each["root_token"] == token for each in stage.world.staff.state()["rentals"].values())


@dataclass(frozen=True)
class Scene:
    """One scene: its name, whose scene it is, its title, what happens, and the vendors that it needs besides."""

    name: str
    vendor: str
    title: str
    play: Callable[[Stage], None]
    besides: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """The vendors that must run for it."""
        return frozenset({self.vendor, *self.besides} - {ANY, NONE})


SCENES: Sequence[Scene] = (
    Scene("topup", NONE, "Paying in: a stock x402 client and a wallet of its own", top_up),
    Scene("catalogue", "vpsagent", "VpsAgent: the catalogue, paid inline with x402", catalogue),
    Scene("rental", "vpsagent", "VpsAgent: a rental that comes up", rental),
    Scene("never", "vpsagent", "VpsAgent: a rental whose box never comes up", never),
    Scene("renewal", "vpsagent", "VpsAgent: a renewal", renewal),
    Scene("crash", "vpsagent", "kill -9 of the gateway in the middle of a purchase", crash),
    Scene("dropmpp", "dropmpp", "The DigitalOcean reseller: MPP on Tempo", dropmpp),
    Scene("cryptovps", "cryptovps", "CryptoVPS: a shared account, by the hour", cryptovps),
    Scene("litevps", "litevps", "LiteVPS: a shared account, by the minute", litevps),
    Scene("vrtx", "vrtx", "VRTX Labs: a shared account, invoiced later", vrtx),
    Scene("servers", ANY, "One API: a server from a need, at whichever vendor wins", servers, VENDORS),
)
