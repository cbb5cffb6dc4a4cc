"""Sellers of the market: whose SDK each is, how it is started, and what an operator writes to have it paid. No more than that."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.codec import checksum, parse_address
from sandbox.process import ROOT, SandboxProcess
from sandbox.tempo.node import TempoNode
from sandbox.tempo.shim import Shim

if TYPE_CHECKING:
    from contextlib import ExitStack

    from sandbox.chain import LocalBase
    from sandbox.tempo.chain import LocalTempo

VALID_S = 25  # how long a payment on Tempo may be collected: as long as the chain takes, for a crowd keeps sellers busy
CALM_S, SHORT_S = 60, 12  # the same on Base, for /weather and for /echo; what is never collected is waited for

SHOP = "sandbox.sellers.express"

BLOCK = """
[vendors.{name}]
kind = "{kind}"
base_url = "{base_url}"
wallet = "main"
tokens = ["{token}"]
payees = ["{payee}"]
ceiling = "0.05"
dispute_loss_cap = "1000"
allow_private = true
allow_plain_http = true
max_connections = 256

[vendors.{name}.routes."/weather"]
window_min_s = 5
window_max_s = {calm_s}

[vendors.{name}.routes."/echo"]
window_min_s = 5
window_max_s = {short_s}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A stock seller: where it is paid, and with what, in the operator's words. `till` is of the shop in Node."""

    name: str
    kind: str
    chain: str
    token: str
    till: str | None = None


KINDS = (
    Kind(name="pympp", kind="mpp", chain="tempo", token="moderato-pathusd"),
    Kind(name="mppx", kind="mpp", chain="tempo", token="moderato-pathusd", till="tempo"),
    Kind(name="mppx-evm", kind="mpp", chain="base", token="base-usdc", till="evm"),
    Kind(name="express", kind="x402", chain="base", token="base-usdc", till="x402"),
)
NAMES = tuple(each.name for each in KINDS)
RELAYER = 5  # of the local Base's accounts: pays the gas


@dataclass(frozen=True, slots=True)
class Stall:
    """A seller that is open. Nobody else is paid at `payee`; `rpc` is where it, or who settles for it, reaches the chain."""

    of: Kind
    process: SandboxProcess
    payee: str
    rpc: Shim

    def block(self) -> str:
        """Return the configuration that has it paid."""
        return BLOCK.format(
            name=self.of.name,
            kind=self.of.kind,
            base_url=self.process.base_url,
            token=self.of.token,
            payee=self.payee,
            calm_s=CALM_S,
            short_s=SHORT_S,
        )


class Openings:
    """Opens stalls, each on its own thread where asked to; those on Base share a facilitator, PyPI x402's, over HTTP."""

    def __init__(self, base: LocalBase, tempo: LocalTempo, stack: ExitStack) -> None:
        self._tempo, self._stack = tempo, stack
        self._base_rpc = stack.enter_context(base_endpoint(base))
        settling = {"rpc_url": self._base_rpc.url, "relayer_key": base.dev_account(RELAYER)[1]}
        self._facilitator = stack.enter_context(SandboxProcess.start("sandbox.sellers.facilitator", settling))

    def all(self) -> dict[str, Stall]:
        """Open every kind at the same time."""
        with ThreadPoolExecutor(len(KINDS)) as pool:
            opened = list(pool.map(self._open, range(len(KINDS)), KINDS))
        for stall in opened:
            self._stack.enter_context(stall.process)
        return {stall.of.name: stall for stall in opened}

    def _open(self, number: int, kind: Kind) -> Stall:
        payee = checksum(parse_address(f"0x{0xA11CE000 + number:040x}"))
        if kind.chain == "base":
            config = {"pay_to": payee, "till": kind.till, "facilitator_url": self._facilitator.base_url}
            return Stall(kind, SandboxProcess.start(SHOP, config), payee, self._base_rpc)
        rpc = self._tempo.another_endpoint()
        self._tempo.fund({payee: 1})  # a transfer to whoever never held the token costs ten times the gas
        config = {"pay_to": payee, "rpc_url": rpc.url}
        if kind.till is not None:
            return Stall(kind, SandboxProcess.start(SHOP, {**config, "till": kind.till}), payee, rpc)
        python = os.environ.get("SANDBOX_PYMPP", str(ROOT / ".venv-pympp" / "bin" / "python"))
        return Stall(kind, SandboxProcess.start("sandbox.sellers.pympp_seller", config, python=python), payee, rpc)


def base_endpoint(base: LocalBase) -> Shim:
    """Return one more endpoint of the local Base, which breaks as it is told; whoever asked for it stops it."""
    host, _, port = base.rpc_url.removeprefix("http://").partition(":")
    return Shim(TempoNode(host, int(port), base.relayer))
