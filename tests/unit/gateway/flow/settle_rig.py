"""A tracker on the scripted chain and the real store, with the hands of a test on both."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.logs import Log
from contracts.tokens import BASE_USDC, Token
from gateway.core import commands as c
from gateway.core.payment import Transfer
from gateway.core.records import AuthorizationTerms, Evidence, Payment
from gateway.flow.collection import authorization_of
from gateway.flow.floats import Watched
from gateway.flow.heads import Heads
from gateway.flow.settle import Sightings, Tracker
from gateway.ports import Block, ChainUnavailable, Receipt
from tests.factories import (
    NOW_MS,
    WALLET,
    make_account,
    make_credit,
    make_float,
    make_key,
    make_payment,
    make_purchase,
    make_terms,
)
from tests.fakes.chain import ScriptedChain
from tests.fakes.store import InlineStore, memory_database

ADDRESS = Address(WALLET)
WALLET_HEX = "0x" + WALLET.hex()
ASSET = BASE_USDC.asset_id
FULL = 1_000_000_000
PRICE = 9_000_000


@dataclass
class Hands:
    """A clock that a test moves."""

    ms: int = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class Counting:
    """Entropy that never repeats."""

    def __init__(self) -> None:
        self.drawn = 0

    def bytes(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")


class Endpoint(ScriptedChain):
    """The scripted chain as seen through endpoints with limits and gaps; `ranges` are the questions for logs."""

    widest = 2_000
    hides_receipts = False
    hides_logs = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ranges: list[tuple[int, int]] = []
        self.receipts_asked = 0

    async def payment_logs(
        self, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int, nonce: bytes | None = None
    ) -> tuple[Log, ...]:
        self.ranges.append((from_block, to_block))
        if to_block - from_block >= self.widest:
            raise ChainUnavailable("more than 1000 requests for one question")
        found = await super().payment_logs(token, wallets, from_block, to_block, nonce)
        return () if self.hides_logs else found

    async def receipt(self, tx_hash: bytes, at: Block | None = None) -> Receipt | None:
        self.receipts_asked += 1
        return None if self.hides_receipts else await super().receipt(tx_hash, at)


def promised(payment: Payment) -> AuthorizationTerms:
    """Return what a payment promised on chain."""
    assert payment.authorization is not None
    return payment.authorization


async def at_once(_what: str) -> None:
    """Go on."""


@dataclass
class Rig:
    """Everything that a tracker needs, and the tracker."""

    clock: Hands = field(default_factory=Hands)
    entropy: Counting = field(default_factory=Counting)
    heads: Heads = field(default_factory=Heads)
    sightings: Sightings = field(default_factory=Sightings)
    db: sqlite3.Connection = field(default_factory=memory_database)
    token: Token = BASE_USDC
    watched: tuple[Watched, ...] = (Watched(ADDRESS, BASE_USDC),)
    float_every_s: float = 0.0

    def __post_init__(self) -> None:
        self.store = InlineStore.over(self.db, None, before_commit=at_once, after_commit=at_once, before_read=at_once)
        self.chain = Endpoint(self.clock, balances={(self.token, ADDRESS): FULL})
        self.restart()

    def restart(self) -> None:
        """Forget what only the process knew."""
        self.tracker = Tracker(
            store=self.store,
            chain=self.chain,
            watched=self.watched,
            heads=self.heads,
            sightings=self.sightings,
            clock=self.clock,
            entropy=self.entropy,
            float_every_s=self.float_every_s,
        )

    async def open(self) -> "Rig":
        """Give acc_1 money and a key, the wallet a booked float, and the chain some blocks that are read."""
        for command in (c.OpenAccount(make_account()), c.AddKey(make_key()), make_credit()):
            assert isinstance(await self.store.post(command), c.Done)
        await self.store.post(make_float(FULL, asset=self.token.asset_id))
        self.chain.mine(5)
        await self.tracker.poll()
        return self

    async def promise(self, n: int = 1, **changes: Any) -> Payment:
        """Hold, sign and present payment n."""
        terms = make_terms(
            n,
            token=self.token.address,
            asset=self.token.asset_id,
            signed_at_block=self.chain.newest.number,
            **changes,
        )
        result = await self.store.post(make_purchase(n, terms=terms))
        assert isinstance(result, c.Done), result
        return await self.payment(n)

    async def payment(self, n: int = 1) -> Payment:
        """Return payment n as committed."""
        found = await self.store.payment(make_payment(n).id)
        assert found is not None
        return found

    async def transfer(self, n: int = 1) -> Transfer:
        """Return how far payment n's transfer is."""
        return (await self.payment(n)).axes.transfer

    def authorization(self, payment: Payment) -> Authorization:
        """Return what was signed for a payment."""
        return authorization_of(self.token, promised(payment))

    async def collect(self, n: int = 1) -> bytes:
        """Let the vendor collect payment n in a block that is final at once; return the transaction."""
        tx_hash = self.chain.settle(self.authorization(await self.payment(n)))
        self.chain.mine(3)
        receipt = await ScriptedChain.receipt(self.chain, tx_hash)
        assert receipt is not None
        assert receipt.status == 1
        return tx_hash

    async def poll(self) -> None:
        """Let a block and a minute and more pass, and look."""
        self.clock.ms += 61_000
        self.chain.mine()
        await self.tracker.poll()

    def rewind(self, block: int = 0) -> None:
        """Let the next poll read again, as after a crash before the cursor's commit."""
        _, block_hash, time_s = self.store.view.cursors[8453]
        self.store.view.cursors[8453] = (block, block_hash, time_s)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return rows of the database."""
        return [dict(row) for row in self.db.execute(sql)]

    def tasks(self) -> list[str]:
        """Return the kinds of all tasks."""
        return [row["kind"] for row in self.rows("SELECT kind FROM tasks ORDER BY id")]

    def posted(self, code: str) -> int:
        """Return debits less credits of an account in the token."""
        rows = self.rows(f"SELECT debits_posted - credits_posted AS net FROM ledger_accounts WHERE code = '{code}'")
        return sum(row["net"] for row in rows)

    @property
    def booked(self) -> int:
        """What the book says that the wallet holds."""
        return self.posted(f"wallet:{WALLET_HEX}")

    @property
    def frozen(self) -> bool:
        """Whether the wallet is."""
        return f"wallet:{WALLET_HEX}" in self.store.view.freezes

    async def held(self) -> int:
        """Return what the chain says that the wallet holds."""
        return await self.chain.token_balance(self.token, ADDRESS, self.chain.newest)


def unused_evidence(n: int, block: int) -> Evidence:
    """Return what looks like proof that payment n is dead."""
    return replace(
        Evidence("unused", 8453, block, bytes(32), NOW_MS // 1000, ("a", "b")), payment_id=make_payment(n).id
    )
