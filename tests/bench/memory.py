"""RSS: the running gateway's memory after 1,000 and after 10,000 calls, free and paid, collected and expired.

Theory: memory that grows with what was ever done is a leak; so each look is taken when nothing is open any more. Of the
paid calls nine in ten are collected on the local chain, by its own relayer, the tenth dies unused.
"""

import json
import time
import urllib.request
from typing import Any

from sandbox.devtoken import BASE_USDC, Contract, signed_call
from sandbox.devtoken import Authorization as Collectable
from tests.bench.figures import Ratio, Section
from tests.bench.load import drive
from tests.bench.rig import HOST, Rig, rig

FIRST, LAST = 1_000, 10_000
BATCH = 500
WINDOW_S = 20
PATIENCE_S = 120
SHARE_COLLECTED = 0.9
BLOCK_GAS = 10**9


def measure(_rounds: int, scale: float) -> Section:
    """Run the section; rounds mean nothing here."""
    section = Section("RSS", "memory of the running gateway after calls, half of them paid, all of them closed")
    with rig(poll_s=1, window_s=WINDOW_S, keep=True) as it:
        it.base.rpc("evm_setBlockGasLimit", hex(BLOCK_GAS))
        looks: dict[str, dict[str, float]] = {}
        looks["at start"] = {"RSS MiB": it.gateway.rss_kib() / 1024, "CPU s": it.gateway.cpu_s()}
        done = 0
        for mark in (int(FIRST * scale), int(LAST * scale) // 2, int(LAST * scale)):
            while done < mark:
                done = _calls(it, done, min(BATCH, mark - done))
            _settle_down(it)
            looks[f"after {mark} calls"] = {"RSS MiB": it.gateway.rss_kib() / 1024, "CPU s": it.gateway.cpu_s()}
        section.rows = looks
        first, _, last = [row["RSS MiB"] for name, row in looks.items() if name != "at start"]
        section.ratios = [Ratio("growth from the first to the last look, percent", 100 * (last / first - 1))]
        size = (it.directory / "gateway.db").stat().st_size / 2**20
        section.notes.append(f"the database is {size:.0f} MiB then; SQLite's page caches are part of RSS")
    return section


def _calls(it: Rig, done: int, count: int) -> int:
    def request(number: int) -> bytes:
        return (it.paid if number % 2 else it.free)(done + number)

    drive(HOST, it.gateway_port, request, count, 16)
    _collect(it)
    return done + count


def _collect(it: Rig) -> None:
    with urllib.request.urlopen(f"http://{HOST}:{it.seller.info['port']}/kept") as answer:
        kept: list[dict[str, Any]] = json.load(answer)
    token = Contract.load("DevUSDC")
    for payload in kept[: int(len(kept) * SHARE_COLLECTED)]:
        a = payload["authorization"]
        authorization = Collectable(
            sender=a["from"],
            to=a["to"],
            value=int(a["value"]),
            valid_after=int(a["validAfter"]),
            valid_before=int(a["validBefore"]),
            nonce=a["nonce"],
        )
        signature = bytes.fromhex(payload["signature"][2:])
        data = signed_call(token, "transferWithAuthorization", authorization.words(), signature, "auto")
        it.base.send(BASE_USDC, data)


def _settle_down(it: Rig) -> None:
    """Wait until nothing is held any more. Raises RuntimeError when that never comes."""
    give_up_at = time.monotonic() + PATIENCE_S
    ask = urllib.request.Request(f"http://{HOST}:{it.gateway_port}/v1/balance", headers={"X-Api-Key": it.api_key})
    while time.monotonic() < give_up_at:
        with urllib.request.urlopen(ask) as answer:
            if float(json.load(answer)["held"]) == 0:
                return
        time.sleep(0.5)
    raise RuntimeError("holds are still open")
