"""The demo's world: a local Base, VpsAgent, and a gateway with one funded wallet and one account with credit.

Must not know what the agent does in it. Everything that it starts ends with it, however it ends.
"""

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.chain import LocalBase
from sandbox.demo.agent import Agent, Staff
from sandbox.demo.installation import Installation
from sandbox.demo.interrupts import held_back
from sandbox.demo.screen import Screen
from sandbox.demo.units import usd
from sandbox.process import SandboxProcess

VENDOR = "vpsagent"
PRICES_BASE = {"catalog": 10_000, "server_small_1mo": 9_990_000, "sandbox_1h": 500_000, "sandbox_6h": 2_000_000}
"""What the operator approved: nothing else is ever paid for."""
FUNDED_BASE = 100_000_000
CREDIT_BASE = 40_000_000
WINDOW_S = 40  # of the vendor's challenges: ample for a slow machine, as it is only ever waited out where it is cut
_RELAYER = 10  # whose gas the vendor uses; the chain's accounts are free to take


@dataclass(frozen=True)
class World:
    """What runs, and who is who."""

    chain: LocalBase
    vendor: SandboxProcess
    staff: Staff
    gateway: Installation
    agent: Agent
    account: str
    wallet: str
    payee: str


@contextmanager
def open_world(screen: Screen, *, keep: bool) -> Iterator[World]:
    """Start everything, yield it, stop everything and remove its files (unless `keep`)."""
    with ExitStack() as stack:
        with held_back():
            directory = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
            stack.callback(_leave, screen, directory, keep=keep)
        with held_back():
            chain = stack.enter_context(LocalBase.start(block_time_s=1))
        screen.step(f"chain    a local Base (chain id {chain.chain_id}, a block a second) at {chain.rpc_url}")
        with held_back():
            starting = stack.enter_context(ThreadPoolExecutor(1)).submit(_start_vendor, chain, directory)
            stack.callback(_stop_vendor, starting)
        gateway = Installation(directory, screen.progress)
        wallet = _install(gateway)
        chain.mint(wallet, FUNDED_BASE)
        screen.step(f"wallet   {wallet}, {usd(chain.balance_of(wallet))} USDC on chain")
        screen.progress("VpsAgent starts")
        vendor = starting.result()
        payee = str(vendor.info["pay_to"])
        screen.step(f"vendor   VpsAgent at {vendor.base_url}, is paid at {payee}")
        account, key = _open_account(gateway, chain, vendor, wallet)
        stack.callback(gateway.stop)
        gateway.start()
        screen.step(f"gateway  {gateway.base_url}, process {gateway.pid}, SQLite in {directory}")
        screen.step(f"account  {account} with {usd(CREDIT_BASE)} credit; the agent has its API key and nothing else")
        yield World(
            chain=chain,
            vendor=vendor,
            staff=Staff(vendor.admin_url),
            gateway=gateway,
            agent=Agent(gateway.base_url, key),
            account=account,
            wallet=wallet,
            payee=payee,
        )


def _install(gateway: Installation) -> str:
    gateway.run("init")
    return str(gateway.run("wallet", "new")["address"])


def _open_account(gateway: Installation, chain: LocalBase, vendor: SandboxProcess, wallet: str) -> tuple[str, str]:
    gateway.configure(
        chain_id=chain.chain_id,
        rpc_url=chain.rpc_url,
        wallet=wallet,
        vendor_url=vendor.base_url,
        payee=vendor.info["pay_to"],
        prices="\n".join(f'{item} = "{usd(price_base)}"' for item, price_base in PRICES_BASE.items()),
    )
    account = str(gateway.run("account", "open", "demo agent")["account"]["id"])
    gateway.run("account", "credit", account, usd(CREDIT_BASE), "--reference", "demo-1")
    return account, str(gateway.run("key", "new", account, "--name", "demo")["secret"])


def _start_vendor(chain: LocalBase, directory: Path) -> SandboxProcess:
    config = {
        "rpc_url": chain.rpc_url,
        "relayer_key": chain.dev_account(_RELAYER)[1],
        "max_timeout_s": WINDOW_S,
        "provision_s": 2.0,
        "worker_interval_s": 0.1,
    }
    return SandboxProcess.start("sandbox.vpsagent", config, log_path=directory / "vendor.log")


def _stop_vendor(starting: Future[SandboxProcess]) -> None:
    if starting.exception() is None:
        starting.result().stop()


def _leave(screen: Screen, directory: Path, *, keep: bool) -> None:
    if keep:
        screen.plain(f"Kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
