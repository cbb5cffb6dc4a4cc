"""One gateway process that sells credit on two chains, and what the chains and the book say of it."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e_agent import Agent
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from e2e_gateway import GatewayHome
from eth_account import Account

from contracts.codec import checksum
from gateway.store.load import verify_book
from sandbox.chain import LocalBase
from sandbox.tempo.chain import LocalTempo
from tests.ports import free_port
from wallets.keystore import Keystore
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e_gateway import Gateway

FLOAT_BASE = 1_000_000_000
POCKET_BASE = 5_000_000  # what a payer's wallet has
ETHER = 10**18
PACK_BASE = 500_000
CUSTOMER = "customer"  # accounts with keys are called that, and a number
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

CONFIG = """
data_dir = "{directory}"
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
shutdown_timeout_s = 5
[keystore]
passphrase = "env:{passphrase}"
[chains.base]
chain_id = 8453
rpc = ["{base}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[chains.tempo]
chain_id = 42431
rpc = ["{tempo}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[tokens.base-usdc]
[tokens.moderato-pathusd]
[wallets.main]
address = "{wallet}"
tokens = ["base-usdc", "moderato-pathusd"]
max_value = "1"
[tills.main]
address = "{till}"
tokens = ["base-usdc", "moderato-pathusd"]
[relayers.one]
address = "{relayer}"
chains = ["base"]
[facilitator]
tokens = ["base-usdc"]
[topups]
packs = {{ one = "0.5" }}
"""


@dataclass(frozen=True, slots=True)
class Purse:
    """A payer's wallet."""

    address: str
    key: str


@dataclass(frozen=True, slots=True)
class Counter:
    """Everything."""

    base: LocalBase
    tempo: LocalTempo
    home: GatewayHome
    gateway: Gateway
    till: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def purses(self, chain: str, count: int) -> list[Purse]:
        """Return new wallets with POCKET_BASE of the chain's token each, and no ether."""
        made = [Account.create() for _ in range(count)]
        money = {account.address: POCKET_BASE for account in made}
        (self.tempo if chain == "tempo" else self.base).fund(money)
        return [Purse(account.address, "0x" + bytes(account.key).hex()) for account in made]

    def customer(self) -> Agent:
        """Return a new account without credit, and its key."""
        name = f"{CUSTOMER}{next(self._numbers)}"
        self.gateway.operate("account_open", account=name, name="A customer")
        return Agent(self.gateway, name, self.gateway.operate("key_new", account=name)["secret"])

    def paid_from(self, chain: str, address: str) -> list[tuple[str, int]]:
        """Return (transaction, value in base units) of every transfer from an address to the till, as the chain has it."""
        topics = [TRANSFER, *("0x" + party[2:].lower().rjust(64, "0") for party in (address, self.till))]
        ask = self.tempo if chain == "tempo" else self.base
        wanted = {"address": ask.token_address, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}
        return [(log["transactionHash"], int(log["data"], 16)) for log in ask.rpc("eth_getLogs", wanted)]

    def till_base(self, chain: str) -> int:
        """Return what the till has on a chain."""
        return (self.tempo if chain == "tempo" else self.base).balance_of(self.till)

    def ledger_base(self, chain: str) -> int:
        """Return what the book says that the till has on a chain."""
        chain_id = self.tempo.chain_id if chain == "tempo" else self.base.chain_id
        found = self.rows(
            "SELECT debits_posted - credits_posted AS own FROM ledger_accounts WHERE code = ? AND asset LIKE ?",
            f"wallet:{self.till.lower()}",
            f"eip155:{chain_id}/%",
        )
        return sum(row["own"] for row in found)

    def posted_base(self, code: str) -> int:
        """Return what the book says that an agent's account has, in USD."""
        (found,) = self.rows("SELECT credits_posted - debits_posted AS own FROM ledger_accounts WHERE code = ?", code)
        return int(found["own"])

    def received(self, address: str) -> list[dict[str, Any]]:
        """Return the book's rows of what came in from an address."""
        return self.rows("SELECT * FROM incoming WHERE sender = ? ORDER BY id", bytes.fromhex(address[2:]))

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return rows of the book as it is on disk."""
        with contextlib.closing(self._book()) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(statement, values)]

    def verify_book(self) -> None:
        """Prove the book as it is on disk (P1, the journal included)."""
        with contextlib.closing(self._book()) as db:
            verify_book(db)

    def _book(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)


@contextlib.contextmanager
def open_counter(directory: Path) -> Iterator[Counter]:
    """Start the chains, and the gateway with a till, a relayer that has ether, and a pack of half a dollar."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(LocalBase.start(block_time_s=1))
        tempo = stack.enter_context(LocalTempo.start())
        home = GatewayHome(directory / "gateway")
        keys = Keystore(home.directory / "keystore")
        till, relayer = (checksum(keys.new_wallet(Secret(PASSPHRASE))) for _ in range(2))
        base.mint(home.wallet, FLOAT_BASE)
        base.rpc("anvil_setBalance", relayer, hex(ETHER))
        tempo.fund({home.wallet: FLOAT_BASE})
        home.config.write_text(
            CONFIG.format(
                directory=home.directory,
                passphrase=PASSPHRASE_VARIABLE,
                port=free_port(),  # it must know beforehand by what name it is called
                base=base.rpc_url,
                tempo=tempo.rpc_url,
                wallet=home.wallet,
                till=till,
                relayer=relayer,
            )
        )
        gateway = stack.enter_context(home.start())
        yield Counter(base, tempo, home, gateway, till)
