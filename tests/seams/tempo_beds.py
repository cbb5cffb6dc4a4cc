"""The two beds on which the Chain port's TIP-20 suite runs: the scripted chain, and a quorum over a real local Tempo."""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from chain_beds import FAST, WallClock, lie

from contracts.attribution import attribution_memo
from contracts.codec import Address, parse_address, parse_bytes32, to_hex
from contracts.keccak import keccak256
from contracts.signature import address_of, load_key, sign_digest
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import MODERATO_PATHUSD
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.rpc import RpcEndpoint
from gateway.ports import Block, Chain
from sandbox.tempo.chain import LocalTempo
from sandbox.tempo.tip20 import word
from tests.fakes.chain import ScriptedChain
from tests.fakes.rpc_server import FaultyNode
from tests.tempo_sponsor import complete

TOKEN = MODERATO_PATHUSD
PAYEE = parse_address("0x8ecbd65228930060363c70854da7d37d57ffc358")
FUNDS_BASE = 5_000_000
SPONSOR, STRANGER = 1, 2
SCRIPTED_FEE = 1_250
_CHALLENGES = itertools.count(1)
_TRANSFER_FROM_WITH_MEMO = keccak256(b"transferFromWithMemo(address,address,uint256,bytes32)")[:4]


class Bed(Protocol):
    """A Tempo under control, with a funded wallet, seen through the port."""

    chain: Chain
    wallet: Address

    def take(self, charge: TempoCharge) -> bytes:
        """Let the payee take a charge, or its sponsor complete it, in a new block; return the transaction's hash."""

    def known_hash(self, charge: TempoCharge) -> bytes:
        """Return the hash that an unsponsored charge will have on chain."""

    def note(self, sender: Address, memo: bytes) -> None:
        """Let a stranger move nothing out of `sender`'s account, with this memo."""

    async def settled(self, tx_hash: bytes) -> Block:
        """Return a final block that is not before the transaction's."""

    def break_down(self) -> None:
        """Let every endpoint stop answering."""

    def contradict(self) -> None:
        """Let the endpoints contradict each other on everything."""


def charge(
    bed: Bed, *splits: TempoTransfer, value_base: int = 9_990, sponsored: bool = False, memo: bytes | None = None
) -> TempoCharge:
    """Return a charge that the bed's wallet would sign, with a memo of its own."""
    memo = memo or attribution_memo("api.example.com", f"seam-{time.time_ns()}-{next(_CHALLENGES)}")
    return TempoCharge(
        token=TOKEN,
        wallet=bed.wallet,
        transfers=(TempoTransfer(PAYEE, value_base, memo), *splits),
        valid_before=int(time.time()) + 25,
        gas=1_000_000,
        max_fee_per_gas=40 * 10**9,
        max_priority_fee_per_gas=10**9,
        sponsored=sponsored,
    )


class ScriptedTempo:
    """In memory; a block is final at once."""

    def __init__(self) -> None:
        self.wallet = Address(b"\x01" * 20)
        self.sponsor, self.stranger = Address(b"\x02" * 20), Address(b"\x03" * 20)
        funds = {(TOKEN, owner): FUNDS_BASE for owner in (self.wallet, self.sponsor)}
        self.chain = ScriptedChain(WallClock(), chain_id=TOKEN.chain_id, final_lag=0, balances=funds)
        self.chain.mine(2)

    def take(self, charge: TempoCharge) -> bytes:
        sponsor = self.sponsor if charge.sponsored else None
        tx_hash = None if charge.sponsored else self.known_hash(charge)
        sent = self.chain.charge(charge, fee_base=SCRIPTED_FEE, tx_hash=tx_hash, sponsor=sponsor)
        self.chain.mine()
        return sent

    def known_hash(self, charge: TempoCharge) -> bytes:
        return keccak256(b"scripted" + charge.signing_hash)

    def note(self, sender: Address, memo: bytes) -> None:
        self.chain.note(TOKEN, sender, PAYEE, memo)
        self.chain.mine()

    async def settled(self, tx_hash: bytes) -> Block:
        return await self.chain.final()

    def break_down(self) -> None:
        self.chain.fail("unavailable")

    def contradict(self) -> None:
        self.chain.fail("disagreement")


class RealTempo:
    """Anvil's Tempo behind its shim and faulty nodes, one an endpoint."""

    def __init__(self, tempo: LocalTempo, nodes: Sequence[FaultyNode], endpoints: Sequence[RpcEndpoint]) -> None:
        self.tempo, self.nodes = tempo, nodes
        self.chain = QuorumChain(endpoints, chain_id=TOKEN.chain_id, finality=Finality.parse("finalized"))
        self._key = load_key(keccak256(time.time_ns().to_bytes(8, "big")))
        self.wallet = address_of(self._key)
        tempo.fund({to_hex(self.wallet): FUNDS_BASE})

    def take(self, charge: TempoCharge) -> bytes:
        raw = self._signed(charge)
        if charge.sponsored:
            sponsor = load_key(parse_bytes32(self.tempo.dev_account(SPONSOR)[1]))
            raw = complete(raw, sponsor, TOKEN.address)
        sent = self.tempo.rpc("eth_sendRawTransaction", to_hex(raw))
        self.tempo.receipt(sent)
        return parse_bytes32(sent)

    def known_hash(self, charge: TempoCharge) -> bytes:
        found = charge.tx_hash(self._signed(charge))
        assert found is not None
        return found

    def note(self, sender: Address, memo: bytes) -> None:
        data = to_hex(_TRANSFER_FROM_WITH_MEMO) + "".join(map(word, (to_hex(sender), to_hex(PAYEE), 0, to_hex(memo))))
        call = {"from": self.tempo.dev_account(STRANGER)[0], "to": to_hex(TOKEN.address), "data": data}
        assert self.tempo.receipt(self.tempo.rpc("eth_sendTransaction", call))["status"] == "0x1"

    async def settled(self, tx_hash: bytes) -> Block:
        mined = int(self.tempo.receipt(to_hex(tx_hash))["blockNumber"], 16)
        final = await self.chain.final()
        assert final.number >= mined  # a block of Tempo is final at once
        return final

    def break_down(self) -> None:
        for node in self.nodes:
            node.down = True

    def contradict(self) -> None:
        self.nodes[1].rewrite = lie

    def _signed(self, charge: TempoCharge) -> bytes:
        return charge.encode(sign_digest(self._key, charge.signing_hash))


@asynccontextmanager
async def tempo_bed(tempo: LocalTempo) -> AsyncIterator[RealTempo]:
    """Run two faulty nodes before one Tempo, with a quorum of both over them."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(FaultyNode(tempo.rpc_url)) for _ in range(2)]
        bed = RealTempo(tempo, nodes, [RpcEndpoint(node.url, FAST) for node in nodes])
        await stack.enter_async_context(bed.chain)
        yield bed
