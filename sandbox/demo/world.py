"""The demo's world: the chains, the chosen vendors, and a gateway with one funded wallet and one account with credit.

Must not know what the agent does in it. Everything that it starts ends with it, however it ends.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sandbox.chain import LocalBase
from sandbox.demo.agent import Agent, Staff
from sandbox.demo.installation import CONFIG, VPSAGENT, Installation
from sandbox.demo.interrupts import held_back
from sandbox.demo.screen import Screen
from sandbox.demo.units import usd
from sandbox.demo.vendors import (
    FurtherVendor,
    account_config,
    credentials_of,
    start_account_vendor,
    start_dropmpp,
    tempo_config,
)
from sandbox.process import SandboxProcess
from sandbox.tempo.chain import LocalTempo

VENDOR = "vpsagent"
ACCOUNT_VENDORS = ("cryptovps", "litevps", "vrtx")
VENDORS = (VENDOR, "dropmpp", *ACCOUNT_VENDORS)
PRICES_BASE = {"catalog": 10_000, "server_small_1mo": 9_990_000, "sandbox_1h": 500_000, "sandbox_6h": 2_000_000}
"""What the operator approved: nothing else is ever paid for."""
FUNDED_BASE = 100_000_000
TEMPO_FUNDED_BASE = 10_000_000
CREDIT_BASE = 50_000_000
TOPPED_UP_BASE = 1_000_000  # what stock clients pay at most unless they are told to pay more
ETHER_WEI = 10**18
WINDOW_S = 40  # of the vendor's challenges: ample for a slow machine, as it is only ever waited out where it is cut
_PURSE = 5  # the agent's own wallet
_RELAYER = 10  # whose gas the vendor uses; the chain's accounts are free to take

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """What runs, and who is who. `payee` is VpsAgent's, "" where it takes no part; `purse_key` is of the agent's own wallet."""

    chain: LocalBase
    tempo: LocalTempo | None
    further: Mapping[str, FurtherVendor]
    staff: Staff
    gateway: Installation
    agent: Agent
    key: str
    account: str
    wallet: str
    payee: str
    till: str
    purse_key: str

    def vendor(self, name: str) -> FurtherVendor:
        """Return one of the further vendors."""
        return self.further[name]

    def tempo_received(self, block: int | str = "latest") -> int:
        """Return what the reseller has received on Tempo, in base units; a new chain: it had nothing before."""
        if self.tempo is None:
            return 0
        return self.tempo.balance_of(self.further["dropmpp"].process.info["pay_to"], block=block)


@contextmanager
def open_world(screen: Screen, wanted: frozenset[str], *, keep: bool) -> Iterator[World]:
    """Start everything, yield it, stop everything and remove its files (unless `keep`)."""
    with ExitStack() as stack:
        with held_back():
            directory = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
            stack.callback(_leave, screen, directory, keep=keep)
        starting = _Starting(stack, screen)
        chain = starting.now(LocalBase.start, block_time_s=1)
        screen.step(f"chain    a local Base (chain id {chain.chain_id}, a block a second) at {chain.rpc_url}")
        tempo = starting.now(LocalTempo.start) if "dropmpp" in wanted else None
        if tempo is not None:
            screen.step(f"chain    a local Tempo (chain id {tempo.chain_id}) at {tempo.rpc_url}")
        vpsagent = starting.soon(_start_vpsagent, chain, directory) if VENDOR in wanted else None
        soon = {name: starting.soon(_start_further, name, tempo, directory) for name in VENDORS[1:] if name in wanted}
        gateway = Installation(directory, screen.progress)
        wallet, till, relayer = _install(gateway)
        _fund(screen, chain, tempo, wallet)
        purse_key = _fund_topups(chain, relayer)
        screen.progress("the vendors start")
        further = {name: future.result() for name, future in soon.items()}
        for name, vendor in further.items():
            screen.step(f"vendor   {name} at {vendor.process.base_url}")
        payee = "" if vpsagent is None else str(vpsagent.result().info["pay_to"])
        if vpsagent is not None:
            screen.step(f"vendor   vpsagent at {vpsagent.result().base_url}, is paid at {payee}")
        process = None if vpsagent is None else vpsagent.result()
        _configure(gateway, chain, tempo, process, further, (wallet, till, relayer))
        account, key = _open_account(gateway)
        stack.callback(gateway.stop)
        gateway.start()
        screen.step(f"gateway  {gateway.base_url}, process {gateway.pid}, SQLite in {directory}")
        screen.step(f"account  {account} with {usd(CREDIT_BASE)} credit; the agent has its API key and nothing else")
        yield World(
            chain=chain,
            tempo=tempo,
            further=further,
            staff=Staff(_admin_url(process, further) or gateway.base_url),
            gateway=gateway,
            agent=Agent(gateway.base_url, key),
            key=key,
            account=account,
            wallet=wallet,
            payee=payee,
            till=till,
            purse_key=purse_key,
        )


class _Starting:
    """Starts what must be stopped again, at once or beside the rest."""

    def __init__(self, stack: ExitStack, screen: Screen) -> None:
        self._stack, self._screen = stack, screen
        self._pool = stack.enter_context(ThreadPoolExecutor(4))

    def now(self, start: Callable[..., T], **options: object) -> T:
        """Start a chain."""
        with held_back():
            running = start(**options)
            self._stack.callback(running.stop)  # type: ignore[attr-defined]
        return running

    def soon(self, start: Callable[..., T], *arguments: object) -> "Future[T]":
        """Start a vendor beside the rest."""
        with held_back():
            future = self._pool.submit(start, *arguments)
            self._stack.callback(_stop, future)
        return future


def _admin_url(vpsagent: SandboxProcess | None, further: Mapping[str, FurtherVendor]) -> str | None:
    """Return where some vendor's staff is, None where no vendor takes part."""
    if vpsagent is not None:
        return vpsagent.admin_url
    return next((vendor.process.admin_url for vendor in further.values()), None)


def _install(gateway: Installation) -> tuple[str, str, str]:
    """Make the gateway's files and keys: the wallet that spends, the till that receives, the relayer that pays gas."""
    gateway.run("init")
    wallet, till, relayer = (str(gateway.run("wallet", "new")["address"]) for _ in range(3))
    return wallet, till, relayer


def _fund_topups(chain: LocalBase, relayer: str) -> str:
    """Give the relayer ether and the agent's own wallet what it will pay in; return that wallet's key."""
    chain.rpc("anvil_setBalance", relayer, hex(ETHER_WEI))
    purse, key = chain.dev_account(_PURSE)
    chain.mint(purse, TOPPED_UP_BASE)
    return key


def _fund(screen: Screen, chain: LocalBase, tempo: LocalTempo | None, wallet: str) -> None:
    chain.mint(wallet, FUNDED_BASE)
    held = f"{usd(chain.balance_of(wallet))} USDC on Base"
    if tempo is not None:
        tempo.fund({wallet: TEMPO_FUNDED_BASE})
        held += f", {usd(tempo.balance_of(wallet))} pathUSD on Tempo"
    screen.step(f"wallet   {wallet}, {held}")


def _configure(
    gateway: Installation,
    chain: LocalBase,
    tempo: LocalTempo | None,
    vpsagent: SandboxProcess | None,
    further: Mapping[str, FurtherVendor],
    keys: tuple[str, str, str],
) -> None:
    wallet, till, relayer = keys
    tokens = '"base-usdc"' + (', "moderato-pathusd"' if tempo is not None else "")
    parts = [
        CONFIG.format(
            port=gateway.port,
            chain_id=chain.chain_id,
            rpc_url=chain.rpc_url,
            wallet=wallet,
            tokens=tokens,
            till=till,
            relayer=relayer,
        )
    ]
    if vpsagent is not None:
        prices = "\n".join(f'{item} = "{usd(price_base)}"' for item, price_base in PRICES_BASE.items())
        parts.append(VPSAGENT.format(vendor_url=vpsagent.base_url, payee=vpsagent.info["pay_to"], prices=prices))
    if tempo is not None:
        parts.append(tempo_config(tempo, further["dropmpp"]))
    parts += [account_config(further[name]) for name in ACCOUNT_VENDORS if name in further]
    gateway.configure(*parts)
    for name in ACCOUNT_VENDORS:
        if name in further:
            login, secret = credentials_of(name)
            words = ("--login", login) if login else ()
            gateway.run("vendor", "credentials", name, *words, secret=secret)


def _open_account(gateway: Installation) -> tuple[str, str]:
    account = str(gateway.run("account", "open", "demo agent")["account"]["id"])
    gateway.run("account", "credit", account, usd(CREDIT_BASE), "--reference", "demo-1")
    return account, str(gateway.run("key", "new", account, "--name", "demo")["secret"])


def _start_vpsagent(chain: LocalBase, directory: Path) -> SandboxProcess:
    config = {
        "rpc_url": chain.rpc_url,
        "relayer_key": chain.dev_account(_RELAYER)[1],
        "max_timeout_s": WINDOW_S,
        "provision_s": 2.0,
        "worker_interval_s": 0.1,
    }
    return SandboxProcess.start("sandbox.vpsagent", config, log_path=directory / "vendor.log")


def _start_further(name: str, tempo: LocalTempo | None, directory: Path) -> FurtherVendor:
    if tempo is not None and name == "dropmpp":
        return start_dropmpp(tempo, directory)
    return start_account_vendor(name, directory)


def _stop(starting: "Future[SandboxProcess] | Future[FurtherVendor]") -> None:
    if starting.exception() is None:
        running = starting.result()
        (running.process if isinstance(running, FurtherVendor) else running).stop()


def _leave(screen: Screen, directory: Path, *, keep: bool) -> None:
    if keep:
        screen.plain(f"Kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
