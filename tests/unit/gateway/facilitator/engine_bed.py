"""The engine over a real chain and a real store: funded payers, relayers with the policy that they need, and restarts."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contracts import batch
from contracts.calls import TRANSFER_BYTES, TRANSFER_VRS
from contracts.codec import Address, checksum, parse_address, parse_bytes32, to_hex
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_USDC, Token
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.relay import RpcRelayChain
from gateway.chains.rpc import RpcEndpoint
from gateway.core.paid import Relay
from gateway.core.records import HOUSE
from gateway.facilitator.desk import DeskParts, Relayer, Rules
from gateway.facilitator.engine import SettlementEngine
from gateway.paid_ports import Exact, Settled
from gateway.ports import ChainUnavailable, Store
from gateway.store.sqlite import SqliteStore
from sandbox.chain import Authorization as SandboxAuthorization
from sandbox.chain import LocalBase
from tests.factories import never_frozen
from wallets.guard import CallKey, Guard, Policy, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner

CHAIN = BASE_USDC.chain_id
PAYEE = Address(b"\x0e" * 20)
GWEI = 10**9
ETHER = 10**18
RULES = Rules(poll_s=0.02, retry_s=0.1, balance_every_s=0.0)


class WallClock:
    """The wall clock, ahead by as much as a test says."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Randomness:
    """The kernel's."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)


class Horizon:
    """A watermark that is not looked at."""

    def note_valid_before(self, valid_before: int) -> None:
        """Do nothing."""


@dataclass
class Payer:
    """A key that signs authorizations."""

    secret: bytes
    signed: int = 0
    address: Address = field(init=False)

    def __post_init__(self) -> None:
        self._key = load_key(self.secret)
        self.address = address_of(self._key)

    def pays(self, value_base: int = 1_000, pay_to: Address = PAYEE, window_s: int = 600, **terms: Any) -> Exact:
        """Sign a payment with a nonce of its own, unless told."""
        self.signed += 1
        fields = {
            "nonce": keccak256(b"%s %d" % (self.address, self.signed)),
            "valid_after": 0,
            "valid_before": int(time.time()) + window_s,
        } | terms
        auth = Authorization(token=BASE_USDC, authorizer=self.address, pay_to=pay_to, value_base=value_base, **fields)
        return Exact(2, f"eip155:{CHAIN}", auth, sign_digest(self._key, auth.digest))


def many(count: int, tag: bytes = b"payer") -> list[Payer]:
    """Return that many distinct payers."""
    return [Payer(keccak256(b"%s %d" % (tag, number))) for number in range(count)]


class Bed:
    """One chain, one database, and an engine that can be ended and built again over both."""

    def __init__(self, base: LocalBase, folder: Path, rules: Rules, relayers: int) -> None:
        self.base, self.rules = base, rules
        self.path = folder / "gateway.db"
        self.clock = WallClock()
        self.endpoint = RpcEndpoint(base.rpc_url)
        self.keys = [parse_bytes32(base.dev_account(index)[1]) for index in range(relayers)]
        self.relay = RpcRelayChain([self.endpoint], CHAIN)
        self.proof = QuorumChain([self.endpoint], chain_id=CHAIN, finality=Finality(), quorum=1)
        self.tokens: tuple[Token, ...] = (BASE_USDC,)
        self.low_wei, self.floor_wei = ETHER // 100, ETHER // 1000
        self.store: SqliteStore
        self.engine: SettlementEngine
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self, wrap: Callable[[Store], Store] | None = None, relay: Any = None) -> None:
        """Start an engine over the database."""
        self.store = await SqliteStore.open(self.path)
        store: Store = self.store if wrap is None else wrap(self.store)
        parts = DeskParts(relay or self.relay, self.proof, self.tokens, [self.relayer(key) for key in self.keys])
        self.engine = SettlementEngine(
            store=store, desks=(parts,), rules=self.rules, clock=self.clock, entropy=Randomness()
        )
        self.engine.start()
        for works in self.engine._works.values():
            await works.resume()  # what the first sweep begins with

    def relayer(self, key: bytes) -> Relayer:
        """Return a relayer whose guard has the policy of one."""
        address = address_of(load_key(key))
        policy = relayer_policy(address, self.rules)
        guard = Guard(Policy({address: policy}, frozenset({address})), never_frozen)
        signer = LocalSigner(address, Secret(key), guard, Horizon(), lambda: int(time.time()))
        return Relayer(signer, self.low_wei, self.floor_wei)

    def addresses(self) -> list[Address]:
        """Return the relayers."""
        return [address_of(load_key(key)) for key in self.keys]

    async def close(self) -> None:
        """End like a process that was asked to."""
        await self.stop_sweeping()
        await self.engine.drain(2.0)
        await self.store.close()

    async def kill(self) -> None:
        """End like a process that was killed: nothing more is sent or written than what was."""
        await self.stop_sweeping()
        for works in self.engine._works.values():
            running = [*works.tasks.values(), *works.submitter._carrying]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        await self.store.close()

    def sweep_always(self) -> None:
        """Sweep in the background, as the jobs do."""

        async def sweep() -> None:
            while True:
                try:
                    await self.engine.sweep()
                except ChainUnavailable:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.05)

        self._sweeping = asyncio.create_task(sweep())

    async def stop_sweeping(self) -> None:
        """Sweep no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None

    async def settle(self, exact: Exact, wait_s: float = 40.0, account_id: str = HOUSE) -> Settled:
        """Settle one payment."""
        return await self.engine.settle(exact, account_id, wait_s)

    async def settle_all(self, payments: Sequence[Exact], wait_s: float = 40.0) -> list[Settled]:
        """Settle many at once."""
        return await asyncio.gather(*(self.settle(exact, wait_s) for exact in payments))

    def fund(self, payers: Sequence[Payer], amount_base: int = 1_000_000) -> None:
        """Give tokens."""
        for start in range(0, len(payers), 100):
            self.base.fund({checksum(payer.address): amount_base for payer in payers[start : start + 100]})

    def received(self, payee: Address = PAYEE) -> int:
        """Return what somebody has."""
        return self.base.balance_of(checksum(payee))

    def used(self, exact: Exact) -> bool:
        """Return what the token says of a payment's nonce."""
        auth = exact.authorization
        return self.base.authorization_state(checksum(auth.authorizer), to_hex(auth.nonce))

    def count(self, address: Address) -> int:
        """Return how many transactions of an address are in blocks."""
        return int(self.base.rpc("eth_getTransactionCount", checksum(address), "latest"), 16)

    def deploy(self) -> None:
        """Put the batch contract in place, as somebody else."""
        to, data = batch.deployment()
        self.base.rpc(
            "eth_sendTransaction",
            {"from": self.base.admin, "to": to_hex(to), "data": to_hex(data), "gas": hex(3_000_000)},
        )
        self.base.mine()

    async def in_pool(self) -> Relay:
        """Wait for the only transaction to be written down and with the chain, in no block; return it."""
        await self.until(lambda: self.store.view.relays)
        (relay,) = self.store.view.relays.values()
        await self.until(lambda: self.base.rpc("eth_getTransactionByHash", to_hex(relay.attempts[0].tx_hash)))
        return relay

    async def until(self, true: Callable[[], Any], within_s: float = 40.0) -> None:
        """Wait for something to be so."""
        give_up_s = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < give_up_s, "it did not happen in time"
            await asyncio.sleep(0.03)


@asynccontextmanager
async def bed(
    base: LocalBase, folder: Path, *, batched: bool = True, relayers: int = 1, rules: Rules = RULES, **change: Any
) -> AsyncIterator[Bed]:
    """Open a bed; `change` replaces rules."""
    made = Bed(base, folder, replace(rules, **change), relayers)
    if batched:
        made.deploy()
    await made.open()
    try:
        yield made
    finally:
        await made.close()
        await made.endpoint.close()


def relayer_policy(address: Address, rules: Rules) -> WalletPolicy:
    """Return all that a relayer's key must be allowed, and nothing more."""
    deployer, creation = batch.deployment()
    allowed = (
        *((BASE_USDC.address, selector) for selector in (TRANSFER_VRS, TRANSFER_BYTES)),
        (batch.batch_address(), batch.SETTLE),
        (deployer, creation[:4]),
        (address, b""),
    )
    return WalletPolicy(
        chain_ids=frozenset({CHAIN}),
        max_value_base={},
        payees=frozenset(),
        max_window_s=0,
        calls={CallKey(CHAIN, to, selector): 0 for to, selector in allowed},
        max_fee_wei=batch.gas_limit(rules.batch_size, rules.item_gas) * rules.fee_cap_wei,
    )


def random_payee() -> Address:
    """Return an address that nobody has seen."""
    return Address(os.urandom(20))


def account(base: LocalBase, index: int) -> Address:
    """Return the address of one of the chain's free accounts."""
    return parse_address(base.dev_account(index)[0])


def collect(base: LocalBase, exact: Exact) -> bytes:
    """Submit a payment as somebody else, wait for its block, and return the transaction's hash."""
    auth = exact.authorization
    terms = SandboxAuthorization(
        sender=checksum(auth.authorizer),
        to=checksum(auth.pay_to),
        value=auth.value_base,
        valid_after=auth.valid_after,
        valid_before=auth.valid_before,
        nonce=to_hex(auth.nonce),
    )
    return parse_bytes32(base.transfer_with_authorization(terms, exact.signature)["transactionHash"])
