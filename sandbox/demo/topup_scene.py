"""How an agent pays in: with a stock x402 client and a wallet of its own, like at any seller.

Must not know how anything was started. Theory: the answer comes when the payment is in a block, the credit when that block
is final; what the client was told in between never counts as money.
"""

import json
import subprocess
from typing import Any

from sandbox.demo.checks import DemoFailure, expect, wait_for
from sandbox.demo.stage import PATIENCE_S, Stage, moved, short
from sandbox.demo.units import usd
from sandbox.demo.world import TOPPED_UP_BASE
from sandbox.process import ROOT, sandbox_python

CLIENT_TIMEOUT_S = 60


def top_up(stage: Stage) -> None:
    """PyPI's own x402 client pays the 402; fifty repeats of its payment change nothing; the credit comes at finality."""
    world, screen, before = stage.world, stage.screen, stage.world.agent.balance()
    world.gateway.run("batches", "deploy", str(world.chain.chain_id))
    screen.step("gateway batches deploy: the contract that collects many authorizations in one transaction is up")
    paid = _pay(stage)
    expect("the answer to the stock client", 200, paid["status"])
    topup, receipt = json.loads(paid["body"]), paid["receipt"]
    screen.step(f"POST /v1/topups -> 402 -> PyPI x402 signs -> 200, top-up {topup['id']}, credit {topup['credit']}")
    screen.step(
        f"its receipt, as the client reads it: success {receipt['success']}, tx {short(receipt['transaction'])}"
    )
    header = {"PAYMENT-SIGNATURE": paid["sent"][0]["payment-signature"]}
    again = world.agent.must("POST", "/v1/topups", {"amount": usd(TOPPED_UP_BASE)}, headers=header).json()
    expect("the top-up of the same payment, sent again", topup["id"], again["id"])
    screen.step("the same payment again -> the same top-up: nothing is collected or credited twice")
    final = wait_for(
        "the top-up is credited", lambda: _credited(stage, topup["id"]), within_s=PATIENCE_S, found=lambda: "not yet"
    )
    expect("its transaction", receipt["transaction"], final["transaction"])
    moved(stage, before, available=TOPPED_UP_BASE)
    expect("what the till has on chain", usd(TOPPED_UP_BASE), usd(world.chain.balance_of(world.till)))
    screen.good(f"credited {usd(TOPPED_UP_BASE)}, proven by a final block; the till has as much on chain")


def _pay(stage: Stage) -> dict[str, Any]:
    world = stage.world
    config = {
        "private_key": world.purse_key,
        "url": f"{world.gateway.base_url}/v1/topups",
        "method": "POST",
        "json": {"amount": usd(TOPPED_UP_BASE)},
        "headers": {"Authorization": f"Bearer {world.key}"},
    }
    # The key is one of the local chain's, which everybody knows.
    command = [sandbox_python(), "-m", "sandbox.payers.x402v2", "--config", json.dumps(config)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailure("the stock client", "exit code 0", f"{done.returncode}: {done.stderr.strip()[-600:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _credited(stage: Stage, topup_id: str) -> dict[str, Any] | None:
    topup = dict(stage.world.agent.must("GET", f"/v1/topups/{topup_id}").json())
    stage.screen.progress(f"top-up {topup['state']}, credit {topup['credit']}")
    return topup if topup["credit"] == "available" else None
