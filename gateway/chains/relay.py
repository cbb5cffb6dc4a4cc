"""One chain as relayers see it: its newest state, and a place to hand signed transactions to. Implements `RelayChain`.

Must not know why anything is sent. Theory: nothing here is evidence (P14), so one endpoint's answer is enough and another
one stands in for it; what costs is the number of calls, so questions of a moment share one, and what cannot have changed
meanwhile is kept. A transaction goes to every endpoint: one of them may be cut off from the chain and not know it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog
from web3.types import RPCEndpoint

from contracts.batch import (
    BatchError,
    Outcome,
    batch_address,
    decode_outcomes,
    encode_simulation,
    fits,
    runtime_code,
)
from contracts.calls import (
    decode_bool,
    encode_authorization_state,
    encode_transfer_bytes,
    encode_transfer_vrs,
)
from contracts.codec import WORD_BYTES, Address, ContractError, parse_hex, parse_quantity, to_hex
from contracts.eip3009 import Authorization
from contracts.logs import Log
from contracts.reverts import revert_text
from contracts.signature import SIGNATURE_BYTES
from contracts.tokens import Token
from gateway.chains.logs import LOG_RANGE_MAX, payment_logs_of
from gateway.chains.relay_kept import KeptReceipts
from gateway.chains.relay_moment import CODE_SIZES, Moment
from gateway.chains.relay_pool import RelayPool
from gateway.chains.relay_reading import Head, Mined, parse_head, parse_mined, refusal_of
from gateway.chains.rpc import CallReverted, EndpointUnavailable, RpcEndpoint
from gateway.paid_ports import Simulated
from gateway.ports import Block, ChainUnavailable, Receipt

__all__ = ["RpcRelayChain"]

WINDOW_S = 0.002
HEAD_KEPT_S = 0.1
NO_CODE_KEPT_S = 6.0
TIP_KEPT_S = 5.0
ALONE_S = 60.0
CODES_KEPT_MAX = 50_000
SIMULATIONS_PER_CALL = 200
CODES_PER_CALL = 200
RECEIPTS_ONE_BY_ONE = 24
BLOCKS_MAX = 16
_CALL_MAX_BYTES = 128 * 1024
_LOGS_BACK_MAX = 20 * LOG_RANGE_MAX

log = structlog.get_logger()

T = TypeVar("T")
Simulation = tuple[Address, Authorization, bytes, int]
"""(relayer, authorization, signature, gas)."""


class RpcRelayChain:
    """One chain's endpoints. It does not close them. Every method raises ChainUnavailable."""

    def __init__(
        self,
        endpoints: Sequence[RpcEndpoint],
        chain_id: int,
        *,
        batch: Address | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        window_s: float = WINDOW_S,
    ) -> None:
        """`batch` is where the batch contract stands or would stand; None: its own CREATE2 address."""
        self.chain_id = chain_id
        self._pool = RelayPool(endpoints, chain_id)
        self._batch = batch_address() if batch is None else batch
        self._now_s = monotonic_s
        self._head: tuple[float, Head] | None = None
        self._asking_head: asyncio.Future[Head] | None = None
        self._tip: tuple[float, int] | None = None
        self._codes: dict[Address, float | None] = {}  # None: there is code; else until when there is none
        self._simulations: Moment[Simulation, Simulated] = Moment(self._simulate, window_s, SIMULATIONS_PER_CALL)
        self._code_questions: Moment[Address, bool] = Moment(self._ask_codes, window_s, CODES_PER_CALL)
        self._alone_until_s = 0.0  # till then the endpoints are not asked anything together again
        self._background: set[asyncio.Task[str | None]] = set()
        self._receipts = KeptReceipts()

    # the newest block

    async def head(self) -> Block:
        """Return the newest block; kept for a tenth of a second."""
        return (await self._newest()).block

    async def fees(self) -> tuple[int, int]:
        """Return (base fee, usual priority fee) in wei."""
        base_wei = (await self._newest()).base_fee_wei
        if self._tip is None or self._now_s() - self._tip[0] > TIP_KEPT_S:
            tip_wei = await self._pool.ask(_quantity, "eth_maxPriorityFeePerGas")
            self._tip = (self._now_s(), tip_wei)
        return base_wei, self._tip[1]

    async def _newest(self) -> Head:
        if self._head is not None and self._now_s() - self._head[0] <= HEAD_KEPT_S:
            return self._head[1]
        if self._asking_head is None:
            self._asking_head = asyncio.ensure_future(self._ask_head())
            self._asking_head.add_done_callback(self._head_asked)
        return await asyncio.shield(self._asking_head)

    async def _ask_head(self) -> Head:
        found = await self._pool.ask(parse_head, "eth_getBlockByNumber", "latest", False)
        self._head = (self._now_s(), found)
        return found

    def _head_asked(self, asked: "asyncio.Future[Head]") -> None:
        self._asking_head = None
        if not asked.cancelled():
            asked.exception()  # whoever waits for it gets it; nobody may

    # what is at an address

    async def has_code(self, address: Address) -> bool:
        """Say whether there is code at an address; what has code is kept, what has none is kept for a few blocks."""
        if address in self._codes:
            until_s = self._codes[address]
            if until_s is None:
                return True
            if self._now_s() < until_s:
                return False
        found = await self._code_questions.ask(address)
        if len(self._codes) >= CODES_KEPT_MAX:
            self._codes.clear()
        self._codes[address] = None if found else self._now_s() + NO_CODE_KEPT_S
        return found

    async def _ask_codes(self, addresses: Sequence[Address]) -> Sequence[bool]:
        if len(addresses) > 1 and self._now_s() >= self._alone_until_s:
            words = b"".join(address.rjust(WORD_BYTES, b"\0") for address in addresses)
            try:
                sizes = await self._pool.ask(_bytes, "eth_call", {"data": to_hex(CODE_SIZES + words)}, "latest")
            except (ChainUnavailable, CallReverted):
                sizes = b""
            if len(sizes) == len(words):
                return [any(sizes[place : place + WORD_BYTES]) for place in range(0, len(sizes), WORD_BYTES)]
            self._alone_until_s = self._now_s() + ALONE_S
        return await asyncio.gather(*(self._has_code_now(address) for address in addresses))

    async def _has_code_now(self, address: Address) -> bool:
        return bool(await self._pool.ask(_bytes, "eth_getCode", to_hex(address), "latest"))

    async def account_nonce(self, address: Address) -> int:
        """Return how many transactions of an address are in blocks."""
        return await self._pool.ask(_quantity, "eth_getTransactionCount", to_hex(address), "latest")

    async def ether_wei(self, address: Address) -> int:
        """Return an address's balance of the chain's coin in wei."""
        return await self._pool.ask(_quantity, "eth_getBalance", to_hex(address), "latest")

    # calls

    async def simulate(self, relayer: Address, authorization: Authorization, signature: bytes, gas: int) -> Simulated:
        """Say what transferWithAuthorization would do alone in the newest state; `gas` bounds it.

        Questions of a moment go together where the signature has 65 bytes; others are called as they would be sent.
        """
        question = (relayer, authorization, signature, gas)
        if not fits(authorization, signature):
            return await self._simulate_alone(question)
        return await self._simulations.ask(question)

    async def _simulate(self, questions: Sequence[Simulation]) -> Sequence[Simulated]:
        if len(questions) == 1 or self._now_s() < self._alone_until_s:
            return await asyncio.gather(*map(self._simulate_alone, questions))
        groups: dict[tuple[Address, Address, int], list[int]] = {}
        for place, (relayer, authorization, _, gas) in enumerate(questions):
            groups.setdefault((relayer, authorization.token.address, gas), []).append(place)
        answers: dict[int, Simulated] = {}
        for places, found in await asyncio.gather(
            *(self._simulate_group(key, questions, places) for key, places in groups.items())
        ):
            answers.update(zip(places, found, strict=True))
        return [answers[place] for place in range(len(questions))]

    async def _simulate_group(
        self, key: tuple[Address, Address, int], questions: Sequence[Simulation], places: Sequence[int]
    ) -> tuple[Sequence[int], Sequence[Simulated]]:
        relayer, token, gas = key
        data = encode_simulation(token, [(questions[place][1], questions[place][2]) for place in places], gas)
        try:
            outcomes: Sequence[Outcome | None] = await self._call_batch(relayer, data, len(places))
        except (ChainUnavailable, CallReverted, BatchError) as problem:
            log.info("relay.simulated_one_by_one", chain_id=self.chain_id, why=str(problem))
            outcomes, self._alone_until_s = [None] * len(places), self._now_s() + ALONE_S
        return places, await asyncio.gather(
            *(
                self._simulate_alone(questions[place])
                if outcome is None or not outcome.tried
                else _known(Simulated(not outcome.ok, outcome.reason_text))
                for place, outcome in zip(places, outcomes, strict=True)
            )
        )

    async def _call_batch(self, relayer: Address, data: bytes, count: int) -> Sequence[Outcome]:
        request = {"from": to_hex(relayer), "to": to_hex(self._batch), "data": to_hex(data)}
        if await self.has_code(self._batch):
            answer = await self._pool.ask(_bytes, "eth_call", request, "latest")
        else:
            override = {to_hex(self._batch): {"code": to_hex(runtime_code())}}
            answer = await self._pool.ask(_bytes, "eth_call", request, "latest", override)
        return decode_outcomes(answer, count)

    async def _simulate_alone(self, question: Simulation) -> Simulated:
        relayer, authorization, signature, gas = question
        vrs = len(signature) == SIGNATURE_BYTES
        data = (encode_transfer_vrs if vrs else encode_transfer_bytes)(authorization, signature)
        try:
            await self.call(relayer, authorization.token.address, data, gas)
        except CallReverted as problem:
            return Simulated(reverted=True, text=revert_text(problem.data))
        return Simulated(reverted=False)

    async def call(
        self, sender: Address, to: Address, data: bytes, gas: int | None = None, fees: tuple[int, int] | None = None
    ) -> bytes:
        """Return what a call answers in the newest state. Raises CallReverted with the revert's data.

        `fees` are (the most for a gas, the tip) in wei: without them a contract sees a price of 0, and knows that it is asked.
        The sender must be able to pay them.
        """
        request = {"from": to_hex(sender), "to": to_hex(to), "data": to_hex(data)}
        if gas is not None:
            request["gas"] = hex(gas)
        if fees is not None:
            request |= {"maxFeePerGas": hex(fees[0]), "maxPriorityFeePerGas": hex(fees[1])}
        return await self._pool.ask(_bytes, "eth_call", request, "latest")

    async def estimate(self, sender: Address, to: Address, data: bytes) -> int:
        """Return the gas that a transaction would need. Raises CallReverted where it would fail."""
        request = {"from": to_hex(sender), "to": to_hex(to), "data": to_hex(data)}
        return await self._pool.ask(_quantity, "eth_estimateGas", request)

    # transactions

    async def send(self, raw: bytes) -> str:
        """Hand a signed transaction to every endpoint: "" as soon as one took it, else what the last one said.

        Raises ChainUnavailable where none answered: it may be on its way all the same.
        """
        waiting = {asyncio.create_task(self._send(endpoint, raw)) for endpoint, _ in self._pool.members}
        self._background |= waiting
        for task in waiting:
            task.add_done_callback(self._background.discard)
        refusal: str | None = None
        for done in asyncio.as_completed(waiting):
            said = await done
            if said == "":
                return ""
            refusal = said or refusal
        if refusal is None:
            raise ChainUnavailable("no endpoint answered to a transaction")
        return refusal

    async def _send(self, endpoint: RpcEndpoint, raw: bytes) -> str | None:
        try:
            answer = await endpoint.make_request(RPCEndpoint("eth_sendRawTransaction"), [to_hex(raw)])
        except EndpointUnavailable as problem:
            log.info("relay.not_sent", chain_id=self.chain_id, endpoint=problem.name, why=problem.reason)
            return None
        return refusal_of(answer)

    async def mined(self, tx_hashes: Sequence[bytes], since_block: int) -> Mapping[bytes, tuple[Receipt, int]]:
        """Return receipts, with the fee in wei, of those of the transactions that are in a block of the newest chain.

        One that was read before is not read again while its block is still there under the same hash.
        """
        known = await self._on_chain(self._receipts.of(tx_hashes), self._block_if_there)
        rest = [tx_hash for tx_hash in tx_hashes if tx_hash not in known]
        if len(rest) > RECEIPTS_ONE_BY_ONE:
            found = await self._mined_in_blocks(frozenset(rest), since_block)
        else:
            receipts = await asyncio.gather(*(self._receipt(tx_hash) for tx_hash in rest))
            found = [receipt for receipt in receipts if receipt is not None]
        self._receipts.keep(found)
        # A node may hold a receipt of a block that is on its chain no more.
        return known | await self._on_chain(found, self._block)

    async def _on_chain(
        self, receipts: Sequence[Mined], read_block: Callable[[int], Awaitable[Block | None]]
    ) -> dict[bytes, tuple[Receipt, int]]:
        """Return those whose block is on the newest chain."""
        numbers = sorted({receipt.block_number for receipt in receipts})
        blocks = dict(zip(numbers, await asyncio.gather(*map(read_block, numbers)), strict=True))
        return {
            receipt.tx_hash: (Receipt(receipt.tx_hash, receipt.status, block, receipt.logs), receipt.fee_wei)
            for receipt in receipts
            if (block := blocks[receipt.block_number]) is not None and block.hash == receipt.block_hash
        }

    async def _mined_in_blocks(self, tx_hashes: frozenset[bytes], since_block: int) -> list[Mined]:
        wanted, newest = frozenset(map(to_hex, tx_hashes)), (await self._newest()).block.number
        numbers = range(max(since_block, newest - BLOCKS_MAX + 1), newest + 1)
        read = _receipts_of(wanted)
        try:
            answers = await asyncio.gather(*(self._pool.ask(read, "eth_getBlockReceipts", hex(n)) for n in numbers))
        except (ChainUnavailable, CallReverted) as problem:
            log.debug("relay.receipts_one_by_one", chain_id=self.chain_id, why=str(problem))
            answers = []
        found = [receipt for answer in answers for receipt in answer]
        rest = tx_hashes - {receipt.tx_hash for receipt in found}
        if not answers or since_block < numbers.start:
            asked = await asyncio.gather(*(self._receipt(tx_hash) for tx_hash in rest))
            found += [receipt for receipt in asked if receipt is not None]
        return found

    async def _receipt(self, tx_hash: bytes) -> Mined | None:
        found = await self._pool.ask(_optional(parse_mined), "eth_getTransactionReceipt", to_hex(tx_hash))
        if found is not None and found.tx_hash != tx_hash:
            raise ChainUnavailable("answered with the receipt of another transaction")
        return found

    async def _block(self, number: int) -> Block:
        head = await self._pool.ask(parse_head, "eth_getBlockByNumber", hex(number), False)
        return head.block

    async def _block_if_there(self, number: int) -> Block | None:
        """Return a block, None where the newest chain is not that long any more."""
        head = await self._pool.ask(_optional(parse_head), "eth_getBlockByNumber", hex(number), False)
        return None if head is None else head.block

    # authorizations

    async def authorization_used(self, token: Address, authorizer: Address, nonce: bytes) -> bool:
        """Return the token's authorizationState in the newest block."""
        data = encode_authorization_state(authorizer, nonce)
        return await self._pool.ask(
            lambda raw: decode_bool(_bytes(raw)), "eth_call", {"to": to_hex(token), "data": to_hex(data)}, "latest"
        )

    async def used_logs(self, token: Address, authorizer: Address, nonce: bytes, since_block: int) -> tuple[Log, ...]:
        """Return the AuthorizationUsed and AuthorizationCanceled logs of one nonce up to the newest block.

        Looks back some days at most.
        """
        newest = (await self._newest()).block.number
        first = max(0, since_block, newest - _LOGS_BACK_MAX)
        described = Token(self.chain_id, token, "?", "?", "?", 0)  # of a token only its address is asked for
        _, logs = await self._pool.ask_node(
            lambda node: payment_logs_of(node, described, [authorizer], min(first, newest), newest, nonce)
        )
        found: tuple[Log, ...] = logs
        return found


async def _known(answer: T) -> T:
    return answer


def _bytes(raw: object) -> bytes:
    return parse_hex(raw, _CALL_MAX_BYTES, "answer")


def _quantity(raw: object) -> int:
    return parse_quantity(raw, 256, "answer")


def _receipts_of(wanted: frozenset[str]) -> Callable[[object], list[Mined]]:
    def read(raw: object) -> list[Mined]:
        if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
            raise ContractError("receipts: expected a list")
        return [parse_mined(entry) for entry in raw if entry.get("transactionHash") in wanted]

    return read


def _optional(read: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda raw: None if raw is None else read(raw)
