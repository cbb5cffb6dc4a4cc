"""Tills on a scripted chain and the real store, with the hands of a test on both: payers with keys, an engine, an operator."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import address_of, load_key, recover_address, sign_digest
from contracts.tokens import BASE_USDC, Token
from gateway.core import commands as c
from gateway.core.book import BookRules
from gateway.core.inventory import InventoryCap, TokenPlace
from gateway.core.paid import Incoming, Refund, Settlement, TopUp, TopUpState
from gateway.core.paid_commands import PutTopUp
from gateway.flow.heads import Heads
from gateway.flow.paid.crediting import Crediting
from gateway.flow.paid.deposits import Deposits
from gateway.flow.paid.inventory import Inventory
from gateway.flow.paid.lending import Lending
from gateway.flow.paid.receipts import Receipts
from gateway.flow.paid.refunds import RefundAsked, RefundParts, Refunds
from gateway.flow.paid.returning import Place, Returning
from gateway.flow.paid.tills import Till
from gateway.paid_ports import Exact, Settled
from gateway.ports import Broadcaster
from gateway.store.load import verify_book
from tests.factories import NOW_MS, make_account, make_key
from tests.fakes.chain import ScriptedChain
from tests.fakes.store import InlineStore, memory_database
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner

TILL_KEY, PAYER_KEY, OTHER_KEY = (sha256(name).digest() for name in (b"till", b"payer", b"other"))
TILL, PAYER, OTHER = (address_of(load_key(key)) for key in (TILL_KEY, PAYER_KEY, OTHER_KEY))
OWN = Address(b"\x0e" * 20)
STRANGER = Address(b"\x0f" * 20)
EURC = Token(8453, Address(b"\xec" * 20), "EURC", "EURC", "2", 6)
FUNDS = 1_000_000_000
USD = 1_000_000


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


class Marks:
    """A mark that remembers what it was told."""

    def __init__(self) -> None:
        self.recorded: list[int] = []

    def record(self, height: int, digest: bytes) -> None:
        assert len(digest) == 32
        self.recorded.append(height)

    def note_valid_before(self, valid_before: int) -> None:
        """The signer's horizon."""


class ChainEngine:
    """An engine that puts whatever it is given on the scripted chain, after it has checked the signature as a token would.

    `refuses` is a reason for which it submits nothing.
    """

    def __init__(self, chain: ScriptedChain) -> None:
        self.chain, self.settled, self.refuses = chain, list[Exact](), ""
        self.account_ids: set[str] = set()

    async def settle(self, exact: Exact, account_id: str, wait_s: float) -> Settled:
        assert recover_address(exact.authorization.digest, exact.signature) == exact.authorization.authorizer
        assert wait_s >= 0
        self.settled.append(exact)
        self.account_ids.add(account_id)
        if self.refuses:
            return Settled(False, self.refuses, "", None, None, exact.network)
        tx_hash = self.chain.settle(exact.authorization)
        return Settled(True, "", "", exact.authorization.authorizer, tx_hash, exact.network)

    def find(self, identity: tuple[int, bytes, bytes, bytes]) -> Settlement | None:
        """Nothing is remembered: the chain itself must refuse a second collection."""
        return None


async def at_once(_what: str) -> None:
    """Go on."""


@dataclass
class TillRig:
    """Everything that a till needs. `token` decides the chain."""

    token: Token = BASE_USDC
    foreign: tuple[Token, ...] = (EURC,)
    final_lag: int = 2
    rates_ppm: dict[str, int] = field(default_factory=dict)
    caps: dict[TokenPlace, InventoryCap] = field(default_factory=dict)
    lend: tuple[int, int] = (0, 0)
    broadcasters: Mapping[int, Broadcaster] = field(default_factory=dict)
    before_commit: Callable[[str], Any] = at_once
    after_commit: Callable[[str], Any] = at_once
    clock: Hands = field(default_factory=Hands)
    entropy: Counting = field(default_factory=Counting)
    heads: Heads = field(default_factory=Heads)
    mark: Marks = field(default_factory=Marks)
    tills: tuple[Till, ...] = ()
    ours: frozenset[Place] = frozenset()
    db: sqlite3.Connection = field(default_factory=memory_database)

    def __post_init__(self) -> None:
        balances = {(self.token, who): FUNDS for who in (PAYER, OTHER, OWN, STRANGER)}
        balances |= {(EURC, who): FUNDS for who in (PAYER, OTHER)}
        self.chain = ScriptedChain(
            self.clock, chain_id=self.token.chain_id, final_lag=self.final_lag, balances=balances
        )
        self.engine = ChainEngine(self.chain)
        self.restart()

    def restart(self) -> None:
        """Forget what only the process knew."""
        rules = BookRules(inventory_caps=self.caps)
        self.store = InlineStore.over(
            self.db, rules, before_commit=self.before_commit, after_commit=self.after_commit, before_read=at_once
        )
        parts = {"store": self.store, "clock": self.clock, "entropy": self.entropy}
        tills = self.tills or (Till(TILL, (self.token,), self.foreign),)
        self.inventory = Inventory(self.store, self.caps)
        self.deposits = Deposits(store=self.store, tills=tills, takes=self.inventory.takes)
        self.receipts = Receipts(
            **parts,
            chain=self.chain,
            tills=tills,
            crediting=Crediting(
                **parts,
                chain=self.chain,
                deposit_of=self.deposits.account_of,
                rates_ppm=self.rates_ppm,
                own=frozenset({OWN, TILL}),
            ),
            returning=Returning(**parts, chain=self.chain, ours=self.ours),
            balances_every_s=0.0,
        )
        self.lending = Lending(store=self.store, clock=self.clock, cap_base=self.lend[0], account_cap_base=self.lend[1])
        self.guard = Guard(self._policy(), self._is_frozen, lambda till, to: till == TILL and to in self.view.funders)
        signer = LocalSigner(TILL, Secret(TILL_KEY), self.guard, self.mark, lambda: self.clock.ms // 1000)
        self.refunds = Refunds(
            **parts,
            heads=self.heads,
            mark=self.mark,
            parts=RefundParts(
                tokens={self.token.key: self.token},
                signers={TILL: signer},
                engine=self.engine,
                broadcasters=self.broadcasters,
                tempo_fees={},
                valid_for_s=3600,
            ),
        )

    @property
    def view(self) -> Any:
        """The committed state."""
        return self.store.view

    async def open_accounts(self) -> None:
        """Open acc_1, with a key, and acc_2."""
        for command in (c.OpenAccount(make_account(1)), c.OpenAccount(make_account(2)), c.AddKey(make_key())):
            assert isinstance(await self.store.post(command), c.Done)

    async def open(self) -> "TillRig":
        """Open the accounts, and read the first blocks."""
        await self.open_accounts()
        self.chain.mine(5)
        await self.poll()
        return self

    async def poll(self, blocks: int = 3) -> None:
        """Let blocks pass until everything that is sent is final, and look."""
        self.chain.mine(blocks)
        final = await self.chain.final()
        self.heads.saw(self.chain.chain_id, self.chain.newest, final)
        await self.receipts.poll()

    def unread(self) -> None:
        """Forget how far the till was read."""
        self.view.till_cursors.update(dict.fromkeys(self.receipts.places, (0, bytes(32))))

    def pay(self, n: int = 1, value_base: int = 5 * USD, key: bytes = PAYER_KEY, **changes: Any) -> Authorization:
        """Return what a payer signs for order n."""
        signed: dict[str, Any] = {
            "token": self.token,
            "authorizer": address_of(load_key(key)),
            "pay_to": TILL,
            "value_base": value_base,
            "valid_after": 0,
            "valid_before": self.clock.ms // 1000 + 300,
            "nonce": sha256(b"order %d" % n).digest(),
        }
        made = Authorization(**(signed | changes))
        assert recover_address(made.digest, sign_digest(load_key(key), made.digest)) == made.authorizer
        return made

    async def order(self, payment: Authorization, n: int = 1, **changes: Any) -> TopUp:
        """Claim a payment for order n of acc_1, as whoever takes payments does before anything leaves."""
        order = TopUp(
            id=f"top_{n:04}",
            account_id="acc_1",
            amount_base=payment.value_base,
            pack="",
            client_token="",
            fingerprint=sha256(b"request %d" % n).digest(),
            created_at_ms=self.clock.ms,
            expires_at_ms=self.clock.ms + 300_000,
            state=TopUpState.PAYING,
            rail="x402",
            chain_id=payment.token.chain_id,
            token=payment.token.address,
            payer=payment.authorizer,
            nonce=payment.nonce,
            value_base=payment.value_base,
            valid_before_s=payment.valid_before,
        )
        order = replace(order, **changes)
        result = await self.store.post(PutTopUp(order, "paying", self.clock.ms))
        assert isinstance(result, c.Done), result
        return order

    async def order_of_transaction(self, tx_hash: bytes, value_base: int, n: int = 1) -> TopUp:
        """Claim a Tempo transaction for order n of acc_1."""
        order = TopUp(
            id=f"top_{n:04}",
            account_id="acc_1",
            amount_base=value_base,
            pack="",
            client_token="",
            fingerprint=sha256(b"request %d" % n).digest(),
            created_at_ms=self.clock.ms,
            expires_at_ms=self.clock.ms + 300_000,
            state=TopUpState.PAYING,
            rail="mpp_tempo",
            chain_id=self.token.chain_id,
            token=self.token.address,
            payer=PAYER,
            nonce=tx_hash,
            value_base=value_base,
            valid_before_s=self.clock.ms // 1000 + 25,
            raw=b"signed",
        )
        assert isinstance(await self.store.post(PutTopUp(order, "paying", self.clock.ms)), c.Done)
        return order

    async def paid(self, n: int = 1, value_base: int = 5 * USD, **changes: Any) -> Incoming:
        """Order, pay, wait for finality; return the receipt."""
        payment = self.pay(n, value_base)
        order = await self.order(payment, n, **changes)
        self.chain.settle(payment)
        await self.poll()
        return await self.receipt_of(order)

    async def receipt_of(self, order: TopUp) -> Incoming:
        """Return the receipt of a credited order."""
        now = await self.topup(order)
        assert now.state is TopUpState.CREDITED, now
        assert now.receipt_id is not None
        found = await self.store.incoming(now.receipt_id)
        assert found is not None
        return found

    async def topup(self, order: TopUp) -> TopUp:
        """Return an order as committed."""
        found = await self.store.topup(order.id)
        assert found is not None
        return found

    async def refund(self, receipt: Incoming, amount_base: int | None = None, token: str = "one") -> Refund:
        """Ask acc_1's money back."""
        fingerprint = sha256(repr((receipt.id, amount_base)).encode()).digest()
        asked = RefundAsked("acc_1", "key_1", receipt.id, None, amount_base, token, fingerprint)
        return (await self.refunds.open(asked)).refund

    async def unclaimed(self) -> list[Incoming]:
        """Return what is nobody's."""
        return list(await self.store.unclaimed("", 100))

    async def receipts_of(self, account_id: str = "acc_1") -> list[Incoming]:
        """Return what came in for an account."""
        return list(await self.store.receipts_of(account_id, "", 100))

    def available(self, account_id: str = "acc_1") -> int:
        """Return an account's available balance in USD base units."""
        balance = self.view.balances.get(account_id)
        return 0 if balance is None else int(balance.available_base)

    def booked(self, token: Token | None = None) -> int:
        """Return what the book says that the till holds, promises included."""
        known = self.view.wallets.get(("0x" + TILL.hex(), (token or self.token).asset_id))
        return 0 if known is None else int(known.available_base + known.held_base)

    async def held(self, token: Token | None = None) -> int:
        """Return what the till holds on chain."""
        return await self.chain.token_balance(token or self.token, TILL, self.chain.newest)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return rows of the database."""
        return [dict(row) for row in self.db.execute(sql)]

    def tasks(self) -> list[str]:
        """Return the kinds of all tasks."""
        return [row["kind"] for row in self.rows("SELECT kind FROM tasks ORDER BY id")]

    async def sound(self) -> None:
        """Check the whole book against its journal, and the till's balance against the chain."""
        verify_book(self.db)
        assert self.booked() == await self.held()

    async def close(self) -> None:
        """Close the store and the database."""
        await self.store.close()
        self.db.close()

    def _policy(self) -> Policy:
        ceilings = {self.token.key: FUNDS}
        policy = WalletPolicy(
            frozenset({self.token.chain_id}), ceilings, frozenset(), 3700, max_fee_base=100_000, refunds=True
        )
        return Policy({TILL: policy}, frozenset({TILL, OWN}))

    def _is_frozen(self, wallet: Address) -> bool:
        frozen = self.view.freezes.keys()
        return bool(frozen & {"all", "database", f"wallet:0x{wallet.hex()}"})


def name(text: str) -> bytes:
    """Return 32 bytes that stand for a text."""
    return keccak256(text.encode())


async def crash(task: "asyncio.Task[object]") -> None:
    """End a task as a kill would: nothing of it goes on."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
