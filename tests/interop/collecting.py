"""One gateway process that collects for stock sellers, and what the chain says of it. It has two relayers and no vendor."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from e2e_gateway import GatewayHome

from contracts.codec import checksum
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey, Done, OpenAccount
from gateway.core.paid import SellerTerms
from gateway.core.paid_commands import PutSeller
from gateway.core.records import AgentAccount
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from sandbox.chain import LocalBase
from wallets.keystore import Keystore
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e_gateway import Gateway

ETHER = 10**18
POCKET_BASE = 1_000_000_000
SELLER = "acc_seller"

CONFIG = """
data_dir = "{directory}"
[server]
port = 0
shutdown_timeout_s = 5
[keystore]
passphrase = "env:{passphrase}"
[chains.base]
chain_id = 8453
rpc = ["{base}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[tokens.base-usdc]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc"]
max_value = "1"
[catalogue]
paid_budget_per_day = "0"
[relayers.one]
address = "{relayers[0]}"
chains = ["base"]
[relayers.two]
address = "{relayers[1]}"
chains = ["base"]
[facilitator]
tokens = ["base-usdc"]
"""


@dataclass(frozen=True, slots=True)
class Collecting:
    """Everything. `key` is the seller's, with the scope `settle` and nothing else."""

    base: LocalBase
    home: GatewayHome
    gateway: Gateway
    relayers: tuple[str, ...]
    key: str

    @property
    def url(self) -> str:
        """What sellers are configured with."""
        return f"{self.gateway.base_url}/facilitator"

    def sent(self) -> int:
        """Return how many transactions our relayers have ever sent, those in no block yet included."""
        counts = (self.base.rpc("eth_getTransactionCount", each, "pending") for each in self.relayers)
        return sum(int(count, 16) for count in counts)


@contextlib.contextmanager
def open_collecting(directory: Path) -> Iterator[Collecting]:
    """Start the chain and the gateway; accounts 0 to 9 of the chain have money."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(LocalBase.start(block_time_s=1))
        base.fund({base.dev_account(index)[0]: POCKET_BASE for index in range(10)})
        home = GatewayHome(directory / "gateway")
        base.mint(home.wallet, POCKET_BASE)
        keys = Keystore(home.directory / "keystore")
        relayers = tuple(checksum(keys.new_wallet(Secret(PASSPHRASE))) for _ in range(2))
        for relayer in relayers:
            base.rpc("anvil_setBalance", relayer, hex(ETHER))
        home.config.write_text(
            CONFIG.format(
                directory=home.directory,
                passphrase=PASSPHRASE_VARIABLE,
                base=base.rpc_url,
                wallet=home.wallet,
                relayers=relayers,
            )
        )
        key = asyncio.run(_seller(home))
        gateway = stack.enter_context(home.start())
        yield Collecting(base, home, gateway, relayers, key)


async def _seller(home: GatewayHome) -> str:
    """Make the account of a seller, before the gateway starts on the book; return its key."""
    store, now_ms = await SqliteStore.open(home.database), SystemClock().now_ms()
    made = new_key(SELLER, "shop", ("settle",), (), now_ms, SystemEntropy().bytes)
    terms = SellerTerms(SELLER, 10**16, 86_400, 0.0, (), now_ms)
    account = AgentAccount(SELLER, "A seller", now_ms)
    for command in (OpenAccount(account), AddKey(made.key), PutSeller(terms, "test", now_ms)):
        assert isinstance(await store.post(command), Done)
    await store.close()
    return made.text.reveal()
