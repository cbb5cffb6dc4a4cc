"""What the agent does at the vendors that know the gateway by an account: their own documents' steps, through the gateway.

Must not know how anything was started. The agent logs in as each document says, with its API key as the password.
"""

import time
from collections.abc import Callable
from typing import Any

from sandbox.demo.agent import Client
from sandbox.demo.checks import expect, wait_for
from sandbox.demo.stage import PATIENCE_S, Stage, moved
from sandbox.demo.units import units, usd

CRYPTOVPS, LITEVPS, VRTX = "/proxy/cryptovps", "/proxy/litevps/api", "/proxy/vrtx/api/v2"
LONG_ENOUGH_S = 1.5


def cryptovps(stage: Stage) -> None:
    """Log in with the API key as password, deploy, wait, destroy: one started hour is charged."""
    screen, before = stage.screen, stage.world.agent.balance()
    body = {"email": "agent@example.com", "password": stage.world.key}
    entered = Client(stage.world.gateway.base_url).must("POST", f"{CRYPTOVPS}/auth/login", body)
    token = entered.json()["accessToken"]
    agent = Client(stage.world.gateway.base_url, {"Authorization": f"Bearer {token}"})
    screen.step("POST /auth/login with the API key as password -> a token for this vendor alone")
    billing = agent.must("GET", f"{CRYPTOVPS}/billing").json()
    expect("the balance that the vendor's own route shows", units(before["available"]), _cents(billing["balance"]))
    order = {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}
    answer = agent.must("POST", f"{CRYPTOVPS}/servers", order, status=202)
    server, payment_id = answer.json()["server"], answer.header("X-Payment-Id")
    screen.step(f"POST /servers -> 202 {server['status']}, held {answer.header('X-Charge')}, payment {payment_id}")
    expect("the label that the agent sees", "my-bot", server["label"])
    (at_vendor,) = stage.world.vendor("cryptovps").staff.state()["servers"].values()
    screen.step(f"at the vendor it is called {at_vendor['label']}: found again by that, should an answer be lost")
    _until(
        stage, "the server is ACTIVE", lambda: _field(agent, f"{CRYPTOVPS}/servers/{server['id']}", "server", "status")
    )
    agent.must("DELETE", f"{CRYPTOVPS}/servers/{server['id']}", status=202)
    screen.step("DELETE /servers/… -> 202; billing stops the same hour")
    _charged(stage, "cryptovps", payment_id, before)


def litevps(stage: Stage) -> None:
    """Two machines in one batch, a command in each, and what ran is charged by started minutes."""
    agent, screen, before = stage.world.agent, stage.screen, stage.world.agent.balance()
    plan = agent.must("GET", f"{LITEVPS}/pricing").json()[0]
    screen.step(f"GET /pricing -> {plan['name']}, {plan['price_hourly']} an hour")
    batch = {"vms": [{"name": "w1", "plan_id": plan["id"]}, {"name": "w2", "plan_id": plan["id"]}]}
    made = agent.must("POST", f"{LITEVPS}/vps/batch", batch, status=207).json()["results"]
    ids = [each["vps"]["id"] for each in made]
    screen.step(f"POST /vps/batch -> 207, {len(ids)} machines, each with its own hold")
    for each in ids:
        _until(stage, "the machine is running", lambda each=each: _field(agent, f"{LITEVPS}/vps/{each}", None, "state"))
    body = {"ids": ids, "command": "uname -a", "timeout_seconds": 10}
    results = agent.must("POST", f"{LITEVPS}/vps/batch/exec", body, status=207).json()["results"]
    expect("the commands' exit codes", [0, 0], [each["exit_code"] for each in results])
    screen.step("POST /vps/batch/exec -> 207, both ended with 0")
    _seen_running(stage, 2)
    agent.must("DELETE", f"{LITEVPS}/vps/batch", {"ids": ids}, status=207)
    screen.step("DELETE /vps/batch -> 207")
    _closed(stage, "litevps", before)


def vrtx(stage: Stage) -> None:
    """A server by the operator's billing rule, its root password, and its end."""
    agent, screen, before = stage.world.agent, stage.screen, stage.world.agent.balance()
    order = {"plan_id": 1, "location_id": 6, "template_slug": "ubuntu-24.04", "hostname": "app-01.example.com"}
    answer = agent.must("POST", f"{VRTX}/servers", order, status=201)
    server, payment_id = answer.json()["data"], answer.header("X-Payment-Id")
    screen.step(f"POST /servers -> 201 {server['status']}, held {answer.header('X-Charge')}, payment {payment_id}")
    expect("the name that the agent sees", "app-01.example.com", server["name"])
    place = f"{VRTX}/servers/{server['uuid']}"
    _until(stage, "the server is ready", lambda: _ready(agent, place))
    password = agent.must("GET", f"{place}/credentials").json()["data"]["root_password"]
    expect("whether there is a root password", True, bool(password))
    screen.step("GET /servers/…/credentials -> the root password, for its owner alone")
    agent.must("DELETE", place, status=204)
    screen.step("DELETE /servers/…")
    _charged(stage, "vrtx", payment_id, before)


def _ready(agent: Client, place: str) -> str:
    told = agent.must("GET", f"{place}/status").json()["data"]
    return "running" if told["state"] == "running" and told["status"] is None else str(told["status"])


def _field(agent: Client, path: str, member: str | None, name: str) -> str:
    document = agent.must("GET", path).json()
    return str((document if member is None else document[member])[name])


def _until(stage: Stage, what: str, state: Callable[[], str]) -> None:
    last = ""

    def ready() -> bool | None:
        nonlocal last
        last = state()
        stage.screen.progress(f"{what}: {last}")
        return True if last.lower() in {"active", "running"} else None

    wait_for(what, ready, within_s=PATIENCE_S, found=lambda: last)
    stage.screen.step(f"{what}: {last}")


def _seen_running(stage: Stage, count: int) -> None:
    """Wait until the gateway, too, has seen them run: what it has not seen it does not charge."""

    def seen() -> bool | None:
        things = stage.world.gateway.run("meters", "--vendor", "litevps")["meters"]
        return True if sum(1 for each in things if each["charged"]) == count else None

    wait_for("the gateway has seen them run", seen, within_s=PATIENCE_S, found=lambda: "not yet")
    time.sleep(LONG_ENOUGH_S)


def _charged(stage: Stage, vendor: str, payment_id: str, before: dict[str, str]) -> None:
    """The payment is captured at what the vendor charged, to the unit."""
    last: dict[str, Any] = {}

    def ended() -> bool | None:
        last.update(stage.world.agent.payment(payment_id))
        stage.screen.progress(f"charge {last['charge']}, until the destruction is confirmed")
        return True if last["charge"] != "held" else None

    wait_for(f"payment {payment_id} closes", ended, within_s=PATIENCE_S, found=lambda: last.get("charge"))
    expect("the charge", "captured", last["charge"])
    _closed(stage, vendor, before)


def _closed(stage: Stage, vendor: str, before: dict[str, str]) -> None:
    def settled() -> bool | None:
        return True if stage.world.agent.balance()["held"] == before["held"] else None

    wait_for("every hold at the vendor has ended", settled, within_s=PATIENCE_S, found=stage.world.agent.balance)
    bill_base = stage.world.vendor(vendor).bill()
    moved(stage, before, available=-bill_base, spent=bill_base)
    stage.screen.good(f"charged {usd(bill_base)}, which is what {vendor} has charged the operator, to the last unit")


def _cents(text: str) -> int:
    whole, _, part = text.partition(".")
    return int(whole) * 1_000_000 + int((part + "000000")[:6])
