"""The two beds on which the Chain port's suite runs: the scripted chain, and a quorum over a real anvil behind faulty nodes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from contracts.codec import Address, parse_address, to_hex
from contracts.eip3009 import Authorization
from contracts.signature import load_key, sign_digest
from contracts.tokens import BASE_USDC
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.rpc import Limits, RpcEndpoint
from gateway.ports import Chain
from sandbox.chain import Authorization as SandboxAuthorization
from sandbox.chain import LocalBase, Reverted
from tests.fakes.chain import ScriptedChain
from tests.fakes.rpc_server import FaultyNode
from tests.sandbox.token_payer import sign_message

PAYEE = parse_address("0x8ecbd65228930060363c70854da7d37d57ffc358")
FUNDS_BASE = 50_000_000
FAST = Limits(connect_s=5.0, attempt_s=10.0, call_s=25.0, attempts=2, backoff_s=0.01)


class Bed(Protocol):
    """A chain under control, with two funded wallets, seen through the port."""

    chain: Chain
    wallets: tuple[Address, Address]

    def settle(self, auth: Authorization) -> bytes:
        """Collect in a new block; return the transaction's hash, also of one that failed."""

    def cancel(self, wallet: Address, nonce: bytes) -> bytes:
        """Cancel in a new block; return the transaction's hash."""

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks."""

    def reorg(self, depth: int) -> None:
        """Replace the newest blocks by empty ones, final or not."""

    def break_down(self) -> None:
        """Let every endpoint stop answering."""

    def contradict(self) -> None:
        """Let the endpoints contradict each other on everything."""


class WallClock:
    """The wall clock."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


class ScriptedBed:
    """In memory."""

    def __init__(self) -> None:
        self.wallets = (Address(b"\x01" * 20), Address(b"\x02" * 20))
        funds = {(BASE_USDC, wallet): FUNDS_BASE for wallet in self.wallets}
        self.chain = ScriptedChain(WallClock(), balances=funds)
        self.chain.mine(8)

    def settle(self, auth: Authorization) -> bytes:
        return self._mined(self.chain.settle(auth))

    def cancel(self, wallet: Address, nonce: bytes) -> bytes:
        return self._mined(self.chain.cancel(BASE_USDC, wallet, nonce))

    def mine(self, blocks: int = 1) -> None:
        self.chain.mine(blocks)

    def reorg(self, depth: int) -> None:
        self.chain.reorg(depth, break_finality=True)

    def break_down(self) -> None:
        self.chain.fail("unavailable")

    def contradict(self) -> None:
        self.chain.fail("disagreement")

    def _mined(self, tx_hash: bytes) -> bytes:
        self.chain.mine()
        return tx_hash


class AnvilBed:
    """Anvil behind faulty nodes, one an endpoint."""

    def __init__(self, base: LocalBase, nodes: list[FaultyNode], endpoints: list[RpcEndpoint]) -> None:
        self.base, self.nodes, self.endpoints = base, nodes, endpoints
        self.chain = QuorumChain(endpoints, chain_id=8453, finality=Finality.parse("finalized"))
        accounts = [base.dev_account(index) for index in range(2)]
        self.wallets = (parse_address(accounts[0][0]), parse_address(accounts[1][0]))
        self._keys = {parse_address(address): load_key(bytes.fromhex(key[2:])) for address, key in accounts}
        base.fund({address: FUNDS_BASE for address, _ in accounts})
        base.mine(3)

    def settle(self, auth: Authorization) -> bytes:
        signature = sign_digest(self._keys[auth.authorizer], auth.digest)
        terms = SandboxAuthorization(
            sender=to_hex(auth.authorizer),
            to=to_hex(auth.pay_to),
            value=auth.value_base,
            valid_after=auth.valid_after,
            valid_before=auth.valid_before,
            nonce=to_hex(auth.nonce),
        )
        try:
            receipt = self.base.transfer_with_authorization(terms, signature)
        except Reverted as failure:
            receipt = failure.receipt
        return bytes.fromhex(receipt["transactionHash"][2:])

    def cancel(self, wallet: Address, nonce: bytes) -> bytes:
        signature = sign_message("CancelAuthorization", self._keys[wallet].to_hex(), to_hex(wallet), nonce)
        receipt = self.base.cancel_authorization(to_hex(wallet), to_hex(nonce), signature)
        return bytes.fromhex(receipt["transactionHash"][2:])

    def mine(self, blocks: int = 1) -> None:
        self.base.mine(blocks)

    def reorg(self, depth: int) -> None:
        self.base.reorg(depth)

    def break_down(self) -> None:
        for node in self.nodes:
            node.down = True

    def contradict(self) -> None:
        self.nodes[1].rewrite = lie


def lie(method: str, _params: list[object], result: object) -> object:
    """Answer with other blocks, other state and no logs."""
    if method == "eth_getBlockByNumber" and isinstance(result, dict):
        return result | {"hash": "0x" + "66" * 32, "timestamp": hex(int(result["timestamp"], 16) + 1)}
    if method == "eth_call" and isinstance(result, str):
        return "0x" + (int(result, 16) ^ 1).to_bytes(32, "big").hex()
    if method == "eth_getTransactionReceipt" and isinstance(result, dict):
        return result | {"blockHash": "0x" + "66" * 32, "logs": []}
    return [] if method == "eth_getLogs" else result


@asynccontextmanager
async def anvil_bed(base: LocalBase, *, endpoints: int = 2) -> AsyncIterator[AnvilBed]:
    """Run so many faulty nodes before one anvil, with a quorum of two over them."""
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(base.rpc, "eth_chainId")  # it may still be busy going back to where a test began
        nodes = [await stack.enter_async_context(FaultyNode(base.rpc_url)) for _ in range(endpoints)]
        bed = AnvilBed(base, nodes, [RpcEndpoint(node.url, FAST) for node in nodes])
        await stack.enter_async_context(bed.chain)
        yield bed


def authorization(
    bed: Bed, nonce: bytes, *, wallet: int = 0, value_base: int = 9_990_000, window_s: int = 900
) -> Authorization:
    """Return terms that a test's wallet would sign; a negative window is one that has passed."""
    return Authorization(
        token=BASE_USDC,
        authorizer=bed.wallets[wallet],
        pay_to=PAYEE,
        value_base=value_base,
        valid_after=0,
        valid_before=int(time.time()) + window_s,
        nonce=nonce,
    )
