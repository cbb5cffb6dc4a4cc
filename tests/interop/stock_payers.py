"""Clients whose payment code is not ours, and how each is run once. What they are asked to pay is their own affair."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.process import ROOT, sandbox_python

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT_S = 90
PAYERS_DIR = ROOT / "sandbox" / "payers"


@dataclass(frozen=True, slots=True)
class Paid:
    """What a client came back with: the answer, the headers that it paid with, and the receipt as its own library reads it."""

    status: int
    headers: Mapping[str, str]
    body: str
    sent: Sequence[Mapping[str, str]]
    receipt: Mapping[str, Any] | None

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return json.loads(self.body)

    @property
    def tx_hash(self) -> str:
        """Return the transaction that the receipt names."""
        assert self.receipt is not None, (self.status, self.body[:1000])
        return str(self.receipt["transaction"] if "transaction" in self.receipt else self.receipt["reference"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """A stock client. `python` is the environment that has it, "" where it runs in Node; `header` is what it pays with."""

    name: str
    rail: str
    chain: str
    script: str
    header: str
    python: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def pay(self, calls: Sequence[Mapping[str, Any]]) -> list[Paid]:
        """Run it once, for one call after the other: private_key, method, url, json, headers, rpc_url, max_base."""
        command = [*self._command(), "--config", json.dumps({**self.options, "calls": calls})]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"{self.name} threw:\n{done.stderr[-3000:]}"
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        return [Paid(**answer) for answer in answers]

    def _command(self) -> list[str]:
        if not self.python:
            node = os.environ.get("SANDBOX_NODE") or shutil.which("node") or "node"
            return [node, str(PAYERS_DIR / self.script)]
        return [self.python, "-m", f"sandbox.payers.{self.script}"]


def _environment(variable: str, name: str) -> str:
    return os.environ.get(variable, str(ROOT / name / "bin" / "python"))


X402_V1 = Payer(
    name="PyPI x402 0.3",
    rail="x402",
    chain="base",
    script="x402v1",
    header="x-payment",
    python=_environment("SANDBOX_X402V1", ".venv-x402v1"),
)
X402_FETCH = Payer(name="npm x402-fetch", rail="x402", chain="base", script="legacy_fetch.mjs", header="x-payment")
X402_V2 = Payer(
    name="PyPI x402",
    rail="x402",
    chain="base",
    script="x402v2",
    header="payment-signature",
    python=sandbox_python(),
)
FETCH = Payer(name="npm @x402/fetch", rail="x402", chain="base", script="fetch.mjs", header="payment-signature")
MPPX = Payer(
    name="npm mppx on Tempo",
    rail="mpp_tempo",
    chain="tempo",
    script="mppx.mjs",
    header="authorization",
    options={"methods": ["tempo"]},
)
MPPX_EVM = Payer(
    name="npm mppx on Base",
    rail="mpp_evm",
    chain="base",
    script="mppx.mjs",
    header="authorization",
    options={"methods": ["evm"]},
)
PYMPP = Payer(
    name="PyPI pympp",
    rail="mpp_tempo",
    chain="tempo",
    script="pympp",
    header="authorization",
    python=_environment("SANDBOX_PYMPP", ".venv-pympp"),
)
PAYERS = (X402_V1, X402_FETCH, X402_V2, FETCH, MPPX, MPPX_EVM, PYMPP)
